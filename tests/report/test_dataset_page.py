"""The report of a dataset: what the page says, that names are text, and that nothing is loaded from elsewhere."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from coco_files import coco
from conversions import converted, run
from pictures import fill_folder, write_listing

from tfpipe.format.lookup import list_shards, scan_records
from tfpipe.format.manifest import Manifest
from tfpipe.format.wire import parse_example
from tfpipe.maintenance.health.findings import find_problems
from tfpipe.maintenance.health.survey import survey_dataset
from tfpipe.report.charts import log_histogram
from tfpipe.report.dataset import dataset_page, report_document
from tfpipe.report.thumbnails import blend_mask, thumbnail

HOSTILE = ("</script><script>window.hit=1</script>", '"><img src=x onerror=window.hit=1>', "' onload='window.hit=1")


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(manifest: Manifest, **options: object) -> Page:
    survey = survey_dataset(manifest)
    return Page(dataset_page(survey, find_problems(survey), **options))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Names of files and classes that would run, if they were taken for HTML."""
    root = fill_folder(tmp_path_factory.mktemp("hostile") / "in", ("cat",), 12)
    rows = []
    for number, path in enumerate(sorted((root / "cat").iterdir())):
        name = f"{HOSTILE[number % 3].replace('/', '')}{number}.jpg"
        path.rename(root / name)
        rows.append([name, HOSTILE[number % 3]])
    rows.append([f"{HOSTILE[1]}missing.jpg", "cat"])
    listing = write_listing(root / "list.csv", [["file", "label"], *rows])
    manifest = run(listing, root.parent / "out").manifest
    assert manifest is not None
    return manifest


def test_names_of_files_and_classes_are_text(hostile: Manifest) -> None:
    page = page_of(hostile)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in page.tags if tag == "img")
    for name in HOSTILE:
        assert name in page.text


def test_nothing_is_loaded_and_no_other_script_may_run(hostile: Manifest) -> None:
    page = page_of(hostile)
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", policy)
    assert not [tag for tag, attributes in page.tags if "style" in attributes]


def test_the_page_says_what_the_manifest_and_the_findings_say(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "in", ("cat", "dog"), 14)
    (root / "dog/twin.jpg").write_bytes((root / "cat/003.jpg").read_bytes())
    (root / "dog/empty.jpg").touch()
    manifest = run(root, tmp_path / "out").manifest
    assert manifest is not None
    page = page_of(manifest, timing={"rows": [{"variant": "plain", "images_per_second": 23456.7}], "batch_size": 32})
    words = " ".join(page.text.split())
    for sentence in (
        "29 raw records were looked at",
        "1 image occurs under several labels",
        "dog/twin.jpg",
        "Rejected: 1 empty.",
        "dog/empty.jpg",
        "23,457",
    ):
        assert sentence in words
    images = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert any(alt.startswith("dog/twin.jpg (") for alt in images)


def test_the_document_names_the_keys_of_every_finding(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "in", ("cat", "dog"), 12)
    (root / "dog/twin.jpg").write_bytes((root / "cat/003.jpg").read_bytes())
    survey = survey_dataset(converted(root, tmp_path / "out"))
    document = json.loads(json.dumps(report_document(survey, find_problems(survey))))
    found = {finding["kind"]: finding for finding in document["findings"]}
    assert sorted(found["label_conflicts"]["keys"]) == ["cat/003.jpg", "dog/twin.jpg"]
    assert [sorted(group) for group in found["label_conflicts"]["groups"]] == [["cat/003.jpg", "dog/twin.jpg"]]
    assert document["records"] == document["measured"] == 25


def test_thumbnails_show_boxes_and_masks_where_they_are(tmp_path: Path) -> None:
    import io

    from PIL import Image

    manifest = converted(coco(tmp_path / "in"), tmp_path / "out", label_kind="multi")
    changed = 0
    for *_, shard in list_shards(manifest):
        for data in scan_records(manifest, shard):
            values = parse_example(data)
            drawn = np.asarray(Image.open(io.BytesIO(thumbnail(manifest.schema, values)))).astype(int)
            without = {name: value for name, value in values.items() if name != "boxes"}
            plain = np.asarray(Image.open(io.BytesIO(thumbnail(manifest.schema, without)))).astype(int)
            assert drawn.shape == plain.shape
            changed += bool((drawn != plain).any()) == bool(len(values.get("boxes", ())))
    assert changed == manifest.num_records()


def test_a_mask_colours_the_pixels_that_it_names_only() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2], mask[3, 5] = 1, 2
    blended = blend_mask(image, mask)
    different = (blended != image).any(-1)
    np.testing.assert_array_equal(different, mask > 0)
    assert tuple(blended[1, 2]) != tuple(blended[3, 5])


@pytest.mark.parametrize("values", [[5.0], [1, 2, 4, 8, 1000], np.full(50, 3)])
def test_a_histogram_counts_every_value(values: list[float]) -> None:
    chart = log_histogram(values, "Sizes", "images", marked=(10, 100))
    assert sum(int(bar.text.rpartition(": ")[2].replace(",", "")) for bar in chart.bars) == len(values)
    assert all(bar.x >= 0 and bar.x + bar.width <= chart.width and bar.y >= 0 for bar in chart.bars)
    assert chart.most == f"{max(int(bar.text.rpartition(': ')[2]) for bar in chart.bars)} images"
    assert chart.marked is not None
    assert 0 <= chart.marked[0] <= chart.marked[0] + chart.marked[1] <= chart.width + 0.01
