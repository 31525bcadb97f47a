"""tfpipe report and tfpipe show: what they write and print, and what they refuse."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conversions import converted
from foreign import embeddings, write
from PIL import Image

from tfpipe.cli.show import in_half_blocks
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest
from tfpipe.policy import Policy, Schedule, Segment, Step
from tfpipe.search.result import Costs, Rescore, SearchResult, Trial

Run = Callable[..., tuple[int, str, str]]


def test_report_writes_one_page_and_prints_its_findings(tfpipe: Run, raw_dataset: Manifest, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    code, out, err = tfpipe("report", raw_dataset.directory, "-o", page)
    assert (code, err) == (0, "")
    assert out.startswith(f"{page}: 42 records, ")
    assert "Shards are not of 10 to 100 MB" in out
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_report_s_json_names_every_finding_and_the_policy_s_sheet_is_in_the_page(
    tfpipe: Run, raw_dataset: Manifest, tmp_path: Path
) -> None:
    page, bench = tmp_path / "report.html", tmp_path / "bench.json"
    bench.write_text(json.dumps({"rows": [{"variant": "plain", "images_per_second": 777.0, "speedup": 1.0}]}))
    found_result().save(tmp_path / "found")
    (tmp_path / "found" / "policy.json").unlink()
    arguments = ["--policy", "svhn", "--image_size", "32", "--bench", bench, "--search", tmp_path / "found", "--json"]
    code, out, err = tfpipe("report", raw_dataset.directory, "-o", page, *arguments)
    assert (code, err, len(out.splitlines())) == (0, "", 1)
    document = json.loads(out)
    assert (document["records"], document["output"]) == (42, str(page))
    assert {"kind", "severity", "title", "advice", "keys", "groups", "details", "whole_dataset"} == set(
        document["findings"][0]
    )
    html = page.read_text(encoding="utf-8")
    assert "as they are on the left, then 6 draws of svhn" in html
    assert "data:image/png;base64," in html
    assert ">777<" in html
    assert "It ran out of time." in html
    assert "rotate, epoch 1: 0.25" in html
    assert "trial 1 (sampled): 0.7500" in html


def found_result() -> SearchResult:
    """What a search that ran out of time wrote."""
    policies = [Policy(f"p{n}", ((Step("rotate", 0.5, strength),),)) for n, strength in enumerate((0.1, 0.5))]
    schedule = Schedule("s", tuple(Segment(1, policy) for policy in policies))
    return SearchResult(
        method="population",
        policy=policies[1],
        schedule=schedule,
        score=0.7,
        trials=(Trial(0, "none", policies[0], 0.5), Trial(1, "sampled", policies[1], 0.75)),
        rescores=(Rescore(1, 0.75, (0.69, 0.71)),),
        stopped="budget",
        left_out=("invert",),
        costs=Costs(2, 40, 1.0, 0.9, 0.01, 0.0, 120.0),
        settings={"training": {"fill": 0}},
        provenance={"tfpipe": "0"},
    )


def test_a_result_survives_the_way_through_its_document() -> None:
    found = found_result()
    assert SearchResult.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(UsageError, match="of kind 'x', not 'tfpipe search result 1'"):
        SearchResult.from_json({"kind": "x"})


def test_report_refuses_what_bench_and_search_did_not_write(tfpipe: Run, raw_dataset: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for option, text, words in (
        ("--bench", '{"rows": [1]}', "is not what tfpipe bench --json prints"),
        ("--search", "{", "is not JSON"),
        ("--search", '{"kind": "tfpipe policy 1"}', "is not what tfpipe search wrote: its kind is 'tfpipe policy 1'."),
        ("--search", '{"kind": "tfpipe search result 1"}', "is damaged: KeyError: 'trials'."),
        ("--search", '{"kind": "tfpipe search comparison 1", "rows": [{}]}', "is damaged: KeyError: "),
    ):
        file.write_text(text)
        code, out, err = tfpipe("report", raw_dataset.directory, "-o", tmp_path / "r.html", option, file)
        assert (code, out) == (2, "")
        assert words in err
    code, _, err = tfpipe("report", raw_dataset.directory, "-o", tmp_path / "r.html", "--search", tmp_path)
    assert code == 2
    assert "holds no result.json, which a search writes when it ends." in err
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "nowhere/x.html"], "but there is no folder"),
        (["-o", "."], "which is a folder; name a file"),
        (["--threads", "0"], "--threads is 0; it must be at least 1."),
        (["--bench", "nowhere.json"], "--bench 'nowhere.json' can't be read: No such file or directory."),
        (["--group", "patient"], "No feature 'patient' with one value per record"),
        (["--policy", "mine"], "--policy 'mine': No policy 'mine'"),
    ],
)
def test_report_says_what_is_wrong_before_it_reads(
    tfpipe: Run,
    raw_dataset: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = tfpipe("report", raw_dataset.directory, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["jinja2", "PIL"])
def test_report_names_the_extra_that_is_missing(
    tfpipe: Run, raw_dataset: Manifest, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("tfpipe.report")]:
        monkeypatch.delitem(sys.modules, name)
    for name in (module, "PIL.Image") if module == "PIL" else (module,):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = tfpipe("report", raw_dataset.directory)
    assert code == 3
    assert err.endswith("pip install 'tfpipe[report]'\n")


def test_show_prints_records_as_text(tfpipe: Run, raw_dataset: Manifest) -> None:
    code, out, err = tfpipe("show", raw_dataset.directory, "cat/003.jpg")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("cat/003.jpg  ")
    assert "  label: cat" in lines
    assert any(line.startswith("  image: uint8 30 x 40 x 3, ") for line in lines)


def test_show_finds_records_by_number_and_by_class(tfpipe: Run, raw_dataset: Manifest) -> None:
    code, out, _ = tfpipe("show", raw_dataset.directory, "--class", "dog", "--count", "3", "--json")
    shown = json.loads(out)["records"]
    assert (code, [one["features"]["label"] for one in shown]) == (0, ["dog"] * 3)
    code, out, _ = tfpipe("show", raw_dataset.directory, "--index", "0", "--split", "test", "--json")
    (record,) = json.loads(out)["records"]
    assert (code, record["split"], record["record"]) == (0, "test", 0)


def test_show_draws_a_sheet_of_what_the_model_sees(tfpipe: Run, raw_dataset: Manifest, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["--count", "2", "--image_size", "32", "--policy", "svhn", "--draws", "3", "-o", sheet]
    code, out, err = tfpipe("show", raw_dataset.directory, *arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"{sheet}: 2 images, as prepared and in 3 draws of svhn"
    pixels = np.asarray(Image.open(sheet))
    # Two rows of four images of 128 pixels, with captions and gaps.
    assert pixels.shape == (6 + 2 * 146, 6 + 4 * 134, 3)
    code, out, _ = tfpipe("show", raw_dataset.directory, "--index", "0", "--image_size", "32")
    first = pixels[18:146, 6:134]
    from tfpipe.serving.lookup import get

    expected = get(raw_dataset, out.split("  ")[0], image_size=32)["image"]
    np.testing.assert_array_equal(first[::4, ::4], expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cat/003.jpg", "--index", "0"], "exclude each other"),
        (["--index", "42"], "No record 42: the dataset has 42, from 0 on."),
        (["--class", "yak"], "No class 'yak'; the classes are ['cat', 'dog', 'emu']."),
        (["--split", "dev"], "No split 'dev'"),
        (["--count", "0"], "--count is 0; it must be at least 1."),
        (["--image_size", "x"], "--image_size is 'x'"),
        (["-o", "sheet.jpg"], "its name must end in .png"),
        (["yak/1.jpg"], "has the key 'yak/1.jpg'"),
        (["--policy", "svhn"], "--policy draws images: give -o FILE.png"),
    ],
)
def test_show_refuses_with_a_sentence(tfpipe: Run, raw_dataset: Manifest, arguments: list[str], words: str) -> None:
    code, out, err = tfpipe("show", raw_dataset.directory, *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_what_holds_nothing_to_show_or_draw_is_refused_by_name(tfpipe: Run, photos: Path, tmp_path: Path) -> None:
    dataset, vectors = tmp_path / "out", tmp_path / "vectors"
    converted(photos, dataset, split={"train": 1.0, "test": 0.0})
    write(vectors / "train.tfrecord-00000-of-00001", [embeddings(number) for number in range(30)])
    assert tfpipe("index", vectors)[0] == 0
    for arguments, words in (
        ((dataset, "--split", "test"), "There is nothing to show: split 'test' has no records."),
        ((dataset, "--split", "test", "--class", "cat"), "There is nothing to show: split 'test' has no records."),
        ((vectors, "-o", tmp_path / "x.png"), "--output draws images; the records hold embeddings."),
        ((vectors, "--policy", "svhn"), "--policy draws images; the records hold embeddings."),
    ):
        code, out, err = tfpipe("show", *arguments)
        assert (code, out) == (2, "")
        assert words in err
    page = tmp_path / "report.html"
    assert tfpipe("report", vectors, "-o", page)[1].startswith(f"{page}: 30 records, 0 findings, 0.01")
    assert "Only duplicates, labels and shards: there are no images." in page.read_text()
    assert "no odd images" not in page.read_text()


def test_images_in_a_terminal_are_two_pixels_a_character() -> None:
    image = Image.fromarray(np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3))
    assert in_half_blocks(image, 80) == ("\x1b[38;2;0;1;2;48;2;6;7;8m\u2580\x1b[38;2;3;4;5;48;2;9;10;11m\u2580\x1b[0m")
