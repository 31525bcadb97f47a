"""One meaning for pixels: raw records, decoded records and a single file give the same, in every way of reading."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import conversions
import numpy as np
import pytest
import tensorflow as tf
from pictures import EXIF_ORIENTATION, KINDS, file_bytes, photo, upright_pixels
from PIL import Image

import tfpipe
from tfpipe.format.manifest import Manifest
from tfpipe.images.decode import as_channels
from tfpipe.images.fit import Resize
from tfpipe.reader import images
from tfpipe.reader.crops import PaddedCrop, RandomResizedCrop
from tfpipe.reader.options import ReadOptions

SIZES = [(24, 24), (9, 14), (50, 37)]  # The pictures are larger, much larger, and smaller than these.
CASES = [("pad", 0), ("pad", 2), ("stretch", 0), ("stretch", 1), ("crop", 0), ("crop", 2)]


def converted(source: Path, output: Path, **options: Any) -> Manifest:
    return conversions.converted(source, output, **{"split": {"train": 1.0}, **options})


def oriented(number: int, orientation: int, kind: str = "JPEG", height: int = 30, width: int = 41) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return file_bytes(photo(number, height, width), kind, exif=exif.tobytes())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of file, odd sizes, all EXIF orientations, and a large photo."""
    folder = tmp_path_factory.mktemp("pictures") / "all"
    folder.mkdir()
    files = {f"kind{ending}": make(number) for number, (ending, make) in enumerate(KINDS.items())}
    files |= {f"turn_{turn}.jpg": oriented(20 + turn, turn) for turn in range(1, 9)}
    files |= {f"turn_{turn}.png": oriented(30 + turn, turn, "PNG") for turn in (3, 6)}
    sides = [(1, 1), (1, 60), (61, 3), (33, 47), (47, 33), (97, 131), (300, 211)]
    files |= {f"{h}x{w}.jpg": file_bytes(photo(h, h, w), "JPEG", quality=92) for h, w in sides}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder.parent


@pytest.fixture(scope="module")
def raw(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return converted(pictures, tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def native(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return converted(pictures, tmp_path_factory.mktemp("native"), payload="decoded", dtype="uint8")


def images_of(source: Any, **settings: Any) -> dict[str, np.ndarray]:
    """The images of all splits in evaluation, by key."""
    manifest = source if isinstance(source, Manifest) else tfpipe.load_manifest(source)
    found = {}
    for split in manifest.splits:
        if manifest.num_records(split):
            arguments = {"batch_size": 4, "labels": None, "training": False, **settings}
            for batch in tfpipe.make_dataset(source, split, **arguments):
                found |= {k.decode(): v for k, v in zip(batch["key"].numpy(), batch["image"].numpy(), strict=True)}
    return found


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    assert len(found) > 20
    for key, image in found.items():
        np.testing.assert_array_equal(image, expected[key], err_msg=key)


@pytest.mark.parametrize(("resize", "size"), [(resize, SIZES[number]) for resize, number in CASES], ids=str)
def test_raw_and_decoded_records_give_the_same_pixels(
    pictures: Path, raw: Manifest, native: Manifest, tmp_path: Path, resize: str, size: tuple[int, int]
) -> None:
    written = converted(pictures, tmp_path / "a", payload="decoded", dtype="uint8", image_size=size, resize=resize)
    expected = images_of(raw, image_size=size, resize=resize)
    assert_equal(images_of(written), expected)
    assert_equal(images_of(native, image_size=size, resize=resize), expected)


def test_a_large_photo_is_the_same_from_its_file_and_as_converted_and_near_to_that_of_its_stored_pixels(
    tmp_path: Path,
) -> None:
    """Decoders reduce it, which nobody can do to stored pixels."""
    folder = tmp_path / "photos" / "a"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(oriented(1, 6, height=1831, width=2301))
    options = {"payload": "decoded", "dtype": "uint8"}
    settings = {"image_size": SIZES[0], "batch_size": 1}
    found = images_of(converted(folder.parent, tmp_path / "raw"), **settings)["a/1.jpg"]
    written = images_of(converted(folder.parent, tmp_path / "written", image_size=SIZES[0], **options), batch_size=1)
    np.testing.assert_array_equal(written["a/1.jpg"], found)
    np.testing.assert_array_equal(tfpipe.load_image(folder / "1.jpg", image_size=SIZES[0]), found)
    stored = images_of(converted(folder.parent, tmp_path / "native", **options), **settings)["a/1.jpg"]
    assert (stored != found).any()
    assert psnr(stored, found) > 50


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decoded_floats_are_those_pixels_by_255(pictures: Path, raw: Manifest, tmp_path: Path, dtype: str) -> None:
    written = converted(pictures, tmp_path / "a", payload="decoded", dtype=dtype, image_size=SIZES[0])
    levels = images_of(raw, image_size=SIZES[0])
    assert_equal(
        images_of(written), {k: (v.astype(np.float32) / np.float32(255)).astype(dtype) for k, v in levels.items()}
    )


@pytest.mark.parametrize("crop", [RandomResizedCrop(), PaddedCrop(0.6)], ids=lambda crop: type(crop).__name__)
def test_drawn_crops_of_raw_and_decoded_records_are_the_same(raw: Manifest, native: Manifest, crop: Any) -> None:
    def drawn(manifest: Manifest) -> list[dict[str, np.ndarray]]:
        train = tfpipe.make_dataset(
            manifest, batch_size=4, image_size=SIZES[0], resize=crop, labels=None,
            options=ReadOptions(block_records=1),
        )  # fmt: skip
        return [{k.decode(): v for b in train for k, v in zip(b["key"].numpy(), b["image"].numpy(), strict=True)}
                for _ in range(4)]  # fmt: skip

    for one, other in zip(drawn(raw), drawn(native), strict=True):
        assert len(one) > 10
        for key, image in one.items():
            np.testing.assert_array_equal(image, other[key], err_msg=key)


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
def test_a_single_file_is_prepared_as_the_dataset_is(pictures: Path, raw: Manifest, resize: str) -> None:
    for key, image in images_of(raw, image_size=SIZES[0], resize=resize).items():
        found = tfpipe.load_image(pictures / key, like=raw, image_size=SIZES[0], resize=resize)
        assert found.dtype == tf.uint8
        np.testing.assert_array_equal(found, image, err_msg=key)


def test_a_single_file_takes_its_size_and_resizing_from_the_dataset(
    pictures: Path, native: Manifest, tmp_path: Path
) -> None:
    options = {"payload": "decoded", "dtype": "uint8", "image_size": SIZES[0], "resize": "crop"}
    written = converted(pictures, tmp_path / "a", **options)
    for key, image in images_of(written).items():
        np.testing.assert_array_equal(tfpipe.load_image(pictures / key, like=written.directory), image, err_msg=key)
        whole = tfpipe.load_image(str(pictures / key), like=native)
        assert tuple(whole.shape[:2]) == upright_pixels((pictures / key).read_bytes()).shape[:2]


def test_a_single_file_that_is_none_is_refused(tmp_path: Path, raw: Manifest) -> None:
    with pytest.raises(FileNotFoundError):
        tfpipe.load_image(tmp_path / "none.jpg", like=raw)
    (tmp_path / "text.jpg").write_text("404 Not Found")
    with pytest.raises(ValueError, match=r"text\.jpg: "):
        tfpipe.load_image(tmp_path / "text.jpg")
    (tmp_path / "a.jpg").write_bytes(oriented(1, 1))
    for argument, value, sentence in (
        ("resize", "squash", "Unknown resize 'squash'"),
        ("dct", "slow", "Unknown dct 'slow'"),
        ("channels", 2, "channels is 2; it takes one of"),
        ("image_size", (0, 3), r"image_size is \(0, 3\); it takes \(height, width\), or one number"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tfpipe.load_image(tmp_path / "a.jpg", **{argument: value})


# ---- what antialias and dct do


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(found.astype(float) - expected).mean(), 1e-9)))


def test_the_default_is_pillow_s_meaning(pictures: Path, raw: Manifest) -> None:
    found = images_of(raw, image_size=SIZES[0], resize="stretch")
    near = []
    for key, image in found.items():
        if key.endswith(".jpg") and not key.endswith(("_cmyk.jpg", "_gray.jpg")):
            pillow = Image.fromarray(upright_pixels((pictures / key).read_bytes()))
            near.append(psnr(image, np.asarray(pillow.resize(SIZES[0][::-1], Image.Resampling.BILINEAR))))
    assert len(near) > 15
    assert min(near) > 50


def test_each_of_antialias_and_dct_acts(raw: Manifest) -> None:
    ways = {
        (antialias, dct): images_of(raw, image_size=SIZES[0], antialias=antialias, options=ReadOptions(dct=dct))
        for antialias in (False, True)
        for dct in ("exact", "fast")
    }
    for key in ("all/97x131.jpg", "all/33x47.jpg", "all/300x211.jpg"):
        assert len({way[key].tobytes() for way in ways.values()}) == 4, key
    whole = images_of(raw, image_size=(30, 40), resize="crop", options=ReadOptions(dct="fast"))["all/kind.jpg"]
    stock = tf.io.decode_jpeg(KINDS[".jpg"](0), channels=3, dct_method="INTEGER_FAST", fancy_upscaling=True)
    np.testing.assert_array_equal(whole, stock)


def test_the_dct_of_images_that_keep_their_size_is_the_one_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "a"
    folder.mkdir(parents=True)
    data = file_bytes(photo(5), "JPEG", quality=60)
    (folder / "1.jpg").write_bytes(data)
    manifest = converted(folder.parent, tmp_path / "out", split={"train": 1.0})
    for dct, method in (("exact", "INTEGER_ACCURATE"), ("fast", "INTEGER_FAST")):
        stock = tf.io.decode_jpeg(data, channels=3, dct_method=method, fancy_upscaling=True)
        found = images_of(manifest, options=ReadOptions(dct=dct), batch_size=1)["a/1.jpg"]
        np.testing.assert_array_equal(found, stock)


def test_dct_is_kept_in_a_file_of_options_and_an_older_file_has_none(tmp_path: Path) -> None:
    ReadOptions(dct="fast").save(tmp_path / "a.json")
    assert ReadOptions.load(tmp_path / "a.json").dct == "fast"
    (tmp_path / "b.json").write_text('{"options": {"prefetch": 1}}')
    assert ReadOptions.load(tmp_path / "b.json").dct == "exact"
    with pytest.raises(ValueError, match=r"dct is 'slow'; it takes one of \['exact', 'fast'\]"):
        ReadOptions(dct="slow")


# ---- sizes


@pytest.mark.parametrize("size", [24, np.int64(24), [24, 24], np.array([24, 24])], ids=repr)
def test_one_number_is_a_square(raw: Manifest, size: Any) -> None:
    assert tfpipe.make_dataset(raw, batch_size=2, image_size=size).element_spec[0].shape == (2, 24, 24, 3)


@pytest.mark.parametrize("size", [0, -3, 2.5, (24,), (24, 24, 3), "24", (24, "24"), True, (5, 0)], ids=repr)
def test_what_is_no_size_is_refused(raw: Manifest, size: Any) -> None:
    with pytest.raises(ValueError, match=r"image_size is .*; it takes \(height, width\), or one number for a square"):
        tfpipe.make_dataset(raw, batch_size=2, image_size=size)


# ---- channels


def gray_file(number: int) -> bytes:
    return file_bytes(Image.fromarray(photo(number)).convert("L"), "JPEG" if number % 2 else "PNG")


@pytest.fixture(scope="module")
def gray_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gray") / "g"
    folder.mkdir()
    for number in range(24):
        (folder / f"{number:02d}.{'jpg' if number % 2 else 'png'}").write_bytes(gray_file(number))
    return folder.parent


@pytest.mark.parametrize("dtype", ["raw", "uint8", "float32", "float16"])
def test_one_channel_of_gray_files_is_their_gray(gray_pictures: Path, tmp_path: Path, dtype: str) -> None:
    options = {} if dtype == "raw" else {"payload": "decoded", "dtype": dtype, "image_size": (30, 40)}
    manifest = converted(gray_pictures, tmp_path / "out", **options)
    dataset = tfpipe.make_dataset(manifest, batch_size=4, image_size=(30, 40), channels=1)
    assert dataset.element_spec[0].shape == (4, 30, 40, 1)
    for key, image in images_of(manifest, image_size=(30, 40), channels=1).items():
        expected = np.asarray(Image.open(io.BytesIO((gray_pictures / key).read_bytes())))[..., None]
        expected = expected if dtype in ("raw", "uint8") else (expected / np.float32(255)).astype(dtype)
        np.testing.assert_array_equal(image, expected, err_msg=key)


def test_one_channel_of_colours_is_pillow_s_l_for_raw_and_decoded_alike(
    pictures: Path, raw: Manifest, native: Manifest
) -> None:
    found = images_of(raw, image_size=SIZES[0], channels=1)
    assert_equal(images_of(native, image_size=SIZES[0], channels=1), found)
    colours = images_of(raw, image_size=SIZES[0])
    assert_equal(found, {k: np.asarray(Image.fromarray(v).convert("L"))[..., None] for k, v in colours.items()})
    np.testing.assert_array_equal(
        tfpipe.load_image(pictures / "all/33x47.jpg", image_size=SIZES[0], channels=1), found["all/33x47.jpg"]
    )


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("stored", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_become_others(dtype: str, stored: int, channels: int) -> None:
    levels = photo(3)[..., :stored]
    image = levels if dtype == "uint8" else (levels / np.float32(255)).astype(dtype)
    found = as_channels(tf.constant(image), channels).numpy()
    assert (found.shape, found.dtype) == ((30, 40, channels), image.dtype)
    if stored == channels:
        np.testing.assert_array_equal(found, image)
    elif channels == 3:
        np.testing.assert_array_equal(found, np.repeat(image, 3, -1))
    else:
        luma = np.asarray(Image.fromarray(levels).convert("L"))[..., None]
        assert np.abs(found * (1 if dtype == "uint8" else 255.0) - luma).max() <= (0 if dtype == "uint8" else 0.6)


@pytest.mark.parametrize("channels", [0, 2, 4, "1", None, True])
def test_another_number_of_channels_is_refused(raw: Manifest, channels: Any) -> None:
    with pytest.raises(ValueError, match=r"channels is .*; it takes one of \[1, 3\]"):
        tfpipe.make_dataset(raw, batch_size=2, image_size=8, channels=channels)


def test_resizers_know_the_longest_sides_of_all_sources(
    raw: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the image with the least longest side a bound is known: each side has a least one."""
    for number, sides in enumerate([(20, 300), (310, 20)]):
        path = tmp_path / f"wide/{raw.class_names[0]}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file_bytes(photo(number, *sides), "JPEG"))
    wide = converted(tmp_path / "wide", tmp_path / "out")
    unknown = replace(wide, statistics={})
    least = min(max(one.statistics[name]["smallest"] for name in ("height", "width")) for one in (raw, wide))
    seen: list[tuple[int, int] | None] = []

    def noting(*arguments: Any) -> Resize:
        seen.append(arguments[-1])
        return Resize(*arguments)

    monkeypatch.setattr(images, "Resize", noting)
    for sources, expected in [
        ([wide], (20, 310)),
        ([raw, wide], (least, 310)),
        ([raw, unknown], None),
    ]:
        tfpipe.make_dataset(dict.fromkeys(sources, 1.0), batch_size=2, image_size=8)
        assert set(seen) == {expected}
        seen.clear()
