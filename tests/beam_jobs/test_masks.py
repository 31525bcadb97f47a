"""A mask rides along with its image: no value of it changes, and it is turned and fitted as the image is."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from conversions import assert_accounted, reasons_in, run
from pictures import EXIF_ORIENTATION, KINDS, file_bytes, files_of, photo, stock_read, write_listing
from PIL import Image, ImageOps
from stores import store as store
from stores import upload

import tfpipe
from beam_jobs.encode.masks import stored_mask
from beam_jobs.job import Job
from beam_jobs.sources import Refusal
from tfpipe.errors import UsageError
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.images.decode import resize_image, resize_mask
from tfpipe.images.probe import probe
from tfpipe.maintenance.check import check_dataset

HEIGHT, WIDTH = 30, 40
IMAGE = tf.io.FixedLenFeature([], tf.string)
LIMIT = 2**20


def values(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A mask of eight classes: uint8 [height, width], bands of brightness of a photo."""
    return photo(number, height, width).mean(2).astype(np.uint8) // 32


def palette_png(mask: np.ndarray, **options: Any) -> bytes:
    image = Image.fromarray(mask, "P")
    image.putpalette([channel for i in range(256) for channel in (255 - i, i * 7 % 256, i * 13 % 256)])
    return file_bytes(image, "PNG", **options)


# The kinds of mask files; all hold the same values.
KINDS_OF_MASKS = {
    "gray.png": lambda mask: file_bytes(mask, "PNG"),
    "palette.png": palette_png,
    "palette of 4 bits.png": lambda mask: palette_png(mask, bits=4),
    "palette, transparent.png": lambda mask: palette_png(mask, transparency=3),
    "gray.bmp": lambda mask: file_bytes(mask, "BMP"),
    "palette.bmp": lambda mask: file_bytes(Image.open(io.BytesIO(palette_png(mask))), "BMP"),
}


def decoded(data: bytes) -> np.ndarray:
    return tf.io.decode_png(data, channels=1).numpy()[..., 0]


# ---- one mask


@pytest.mark.parametrize("kind", KINDS_OF_MASKS)
@pytest.mark.parametrize("width", [37, 40])
def test_every_kind_of_file_becomes_a_png_of_the_same_values(kind: str, width: int) -> None:
    mask = values(3, HEIGHT, width)
    data = stored_mask(KINDS_OF_MASKS[kind](mask), probe(file_bytes(photo(3, HEIGHT, width), "JPEG")), max_pixels=LIMIT)
    np.testing.assert_array_equal(decoded(data), mask)
    # Whatever reads a palette as indices or as colours agrees.
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), mask)


def test_a_gray_png_stays_as_it_is_and_few_bits_are_spread_as_by_any_decoder() -> None:
    header = probe(file_bytes(photo(1), "JPEG"))
    gray = file_bytes(values(1), "PNG")
    assert stored_mask(gray, header, max_pixels=LIMIT) is gray
    two = file_bytes(Image.fromarray(values(1) > np.median(values(1))), "PNG")
    assert sorted(np.unique(decoded(stored_mask(two, header, max_pixels=LIMIT)))) == [0, 255]


def damaged(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 20
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def turned_png() -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 3
    return file_bytes(Image.fromarray(values(1)), "PNG", exif=exif.tobytes())


# Name -> a mask file for a photo of 30 x 40, and why it is refused.
BAD = {
    "colours": (KINDS[".png"](1), "bad_mask", "The mask has colours; it takes gray of up to 8 bits, or a palette."),
    "16 bits": (KINDS["_16bit.png"](1), "bad_mask", "The mask has 16 bits a pixel; it takes gray"),
    "colour BMP": (KINDS[".bmp"](1), "bad_mask", "The mask has 24 bits a pixel; it takes 8, gray or with a palette."),
    "JPEG": (KINDS["_gray.jpg"](1), "bad_mask", "The mask is a jpeg file with the EXIF turn 1; it takes a PNG or BMP"),
    "turned": (turned_png(), "bad_mask", "The mask is a png file with the EXIF turn 3; it takes"),
    "text": (b"404 Not Found", "bad_mask", "The mask: "),
    "empty": (b"", "bad_mask", "The mask: "),
    "cut": (file_bytes(values(1), "PNG")[:-9], "bad_mask", "The mask: The PNG is cut"),
    "CRC": (damaged(file_bytes(values(1), "PNG")), "bad_mask", "The mask is damaged: the CRC of a b'IDAT' chunk"),
    "size": (
        file_bytes(values(1, 40, 30), "PNG"),
        "mask_size",
        "The mask has 40 x 30 pixels (rows x columns), its image",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mask_that_would_not_keep_its_values_is_refused(name: str) -> None:
    data, reason, sentence = BAD[name]
    with pytest.raises(Refusal) as caught:
        stored_mask(data, probe(file_bytes(photo(1), "JPEG")), max_pixels=LIMIT)
    assert (caught.value.reason, caught.value.detail[: len(sentence)]) == (reason, sentence)


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("size", [(17, 11), (60, 80), (30, 40), (50, 30)])
def test_a_mask_is_fitted_where_its_image_is(resize: str, size: tuple[int, int]) -> None:
    # A white rectangle is its own mask: where the fitted image is clearly white or black, so is the mask.
    mask = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    mask[6:20, 10:34] = 255
    image = resize_image(tf.constant(np.repeat(mask, 3, 2)), size, resize=resize).numpy()[..., 0].astype(int)
    fitted = resize_mask(tf.constant(mask), size, resize=resize).numpy()
    assert fitted.shape == (*size, 1)
    assert set(np.unique(fitted)) <= {0, 255}
    clear = (image < 50) | (image > 205)
    np.testing.assert_array_equal(fitted[..., 0][clear] > 127, image[clear] > 127)
    assert clear.mean() > 0.8


# ---- conversion


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """in/LABEL/N.jpg, some turned by EXIF, and masks/LABEL/N.png or .bmp."""
    kinds = list(KINDS_OF_MASKS.values())
    endings = [Path(name).suffix for name in KINDS_OF_MASKS]
    for label in ("cat", "dog"):
        for part in ("in", "masks"):
            (tmp_path / part / label).mkdir(parents=True)
        for i in range(12):
            number = i + 100 * (label == "dog")
            exif = Image.Exif()
            exif[EXIF_ORIENTATION] = 1 + i % 8
            data = file_bytes(photo(number), "JPEG", quality=95, exif=exif.tobytes())
            (tmp_path / f"in/{label}/{i}.jpg").write_bytes(data)
            (tmp_path / f"masks/{label}/{i}{endings[i % 6]}").write_bytes(kinds[i % 6](values(number)))
    return tmp_path


def upright(key: str) -> np.ndarray:
    """The mask of a key of the tree, as its image is meant to be seen."""
    label, i = Path(key).parent.name, int(Path(key).stem)
    image = Image.fromarray(values(i + 100 * (label == "dog")))
    image.getexif()[EXIF_ORIENTATION] = 1 + i % 8
    return np.asarray(ImageOps.exif_transpose(image))


def masks_of(source: Path | Manifest, **options: Any) -> dict[str, np.ndarray]:
    """The mask of every key, as make_dataset gives it."""
    manifest = source if isinstance(source, Manifest) else load_manifest(source)
    found = {}
    for split in manifest.splits:
        if manifest.num_records(split):
            batches = tfpipe.make_dataset(manifest, split, batch_size=1, labels=None, training=False, **options)
            for batch in batches:
                assert batch["mask"].shape[:3] == batch["image"].shape[:3]
                found[batch["key"].numpy()[0].decode()] = batch["mask"].numpy()[0, ..., 0]
    return found


def test_masks_of_a_folder_ride_along_as_png_and_are_turned_with_their_images(tree: Path) -> None:
    outcome = run(tree / "in", tree / "out", masks=str(tree / "masks"))
    manifest = outcome.manifest
    assert manifest is not None
    assert (manifest.rejected, manifest.num_records()) == ({}, 24)
    feature = manifest.schema["mask"]
    assert (feature.dtype, feature.shape, feature.codec) == ("uint8", (None, None, 1), "image")
    for record in stock_read(manifest, mask=IMAGE):
        i = int(Path(record["key"].decode()).stem)
        stored = (tree / "masks" / record["key"].decode()).with_suffix(".png")
        if i % 6 == 0:
            assert record["mask"] == stored.read_bytes()
    # The test fits each itself: sizes differ, since an EXIF orientation can exchange the sides.
    for key, mask in masks_of(manifest, image_size=(64, 64), resize="pad").items():
        expected = resize_mask(tf.constant(upright(key)[..., None]), (64, 64), resize="pad")
        np.testing.assert_array_equal(mask, expected.numpy()[..., 0])
    assert check_dataset(manifest) == []


@pytest.mark.parametrize("size", [None, (20, 16)])
@pytest.mark.parametrize("resize", ["pad", "crop"])
def test_decoded_masks_are_pixels_of_the_image_s_size(tree: Path, size: tuple[int, int] | None, resize: str) -> None:
    options = {"payload": "decoded", "dtype": "uint8", "image_size": size, "resize": resize}
    manifest = run(tree / "in", tree / "out", masks=str(tree / "masks"), **options).manifest
    assert manifest is not None
    feature = manifest.schema["mask"]
    assert (feature.shape, feature.codec) == ((*(size or (None, None)), 1), "pixels")
    shape = tf.io.FixedLenFeature([3], tf.int64)
    found = {}
    for record in stock_read(manifest, mask=IMAGE, shape=shape):
        found[record["key"].decode()] = np.frombuffer(record["mask"], np.uint8).reshape(record["shape"][:2])
    for key, mask in found.items():
        expected = upright(key)
        if size:
            expected = resize_mask(tf.constant(expected[..., None]), size, resize=resize).numpy()[..., 0]
        np.testing.assert_array_equal(mask, expected)
    assert len(found) == 24
    if size:
        read = masks_of(manifest)
        assert all(np.array_equal(read[key], mask) for key, mask in found.items())
    else:
        assert len(masks_of(manifest, image_size=(64, 64))) == 24


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_column_of_a_listing_names_masks(tree: Path, kind: str) -> None:
    rows = []
    for key in sorted(files_of(tree / "in")):
        mask = next((tree / "masks").glob(f"{key.removesuffix('.jpg')}.*"))
        rows.append({"file": f"in/{key}", "label": key[:3], "mask": str(mask.relative_to(tree)), "n": 7})
    rows[0]["mask"], rows[1]["mask"], rows[2]["mask"] = "", "masks/gone.png", str(tree / rows[2]["mask"])
    path = tree / f"list.{kind}"
    if kind == "csv":
        write_listing(path, [rows[0].keys(), *([str(cell) for cell in row.values()] for row in rows)])
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    outcome = run(path, tree / "out")
    assert_accounted(outcome, tree / "out")
    assert reasons_in(tree / "out") == {rows[0]["file"]: "missing_mask", rows[1]["file"]: "missing_mask"}
    found = masks_of(tree / "out", image_size=(64, 64))
    assert len(found) == 22
    for key, mask in found.items():
        expected = resize_mask(tf.constant(upright(key)[..., None]), (64, 64)).numpy()[..., 0]
        np.testing.assert_array_equal(mask, expected)
    with pytest.raises(UsageError, match="has masks of its own in the column 'mask'; leave out --masks"):
        run(path, tree / "other", masks=str(tree / "masks"))


@pytest.mark.parametrize(
    "options", [{}, {"verify": "decode"}, {"payload": "decoded"}], ids=["raw", "verify", "decoded"]
)
def test_every_bad_mask_of_a_folder_is_refused_with_its_reason(tree: Path, options: dict[str, Any]) -> None:
    for name, (data, _, _) in BAD.items():
        (tree / f"in/cat/{name}.jpg").write_bytes(file_bytes(photo(1), "JPEG"))
        (tree / f"masks/cat/{name}.png").write_bytes(data)
    (tree / "in/cat/none.jpg").write_bytes(file_bytes(photo(1), "JPEG"))
    (tree / "in/cat/junk.jpg").write_bytes(file_bytes(photo(1), "JPEG"))
    (tree / "masks/cat/junk.png").write_bytes(junk_png())
    outcome = run(tree / "in", tree / "out", masks=str(tree / "masks"), **options)
    assert_accounted(outcome, tree / "out")
    expected = {f"cat/{name}.jpg": reason for name, (_, reason, _) in BAD.items()} | {"cat/none.jpg": "missing_mask"}
    # As with images, only decoding finds that the compressed pixels are none.
    expected |= {"cat/junk.jpg": "undecodable_mask"} if options else {}
    assert reasons_in(tree / "out") == expected


def junk_png() -> bytes:
    """A gray PNG of 30 x 40 whose chunks are valid and whose pixels are not."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">II5B", WIDTH, HEIGHT, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(90)) + chunk(b"IEND", b"")


def test_the_digest_of_the_source_holds_the_masks_and_threads_change_no_byte(tree: Path) -> None:
    masks = str(tree / "masks")
    one = run(tree / "in", tree / "one", masks=masks).manifest
    run(tree / "in", tree / "two", masks=masks, threads=3)
    assert files_of(tree / "one") == files_of(tree / "two")
    (tree / "masks/cat/0.png").write_bytes(file_bytes(values(50), "PNG"))
    other = run(tree / "in", tree / "other", masks=masks).manifest
    assert one is not None
    assert other is not None
    assert one.made_by["source_digest"] != other.made_by["source_digest"]


def test_smaller_images_get_smaller_masks(tree: Path) -> None:
    manifest = run(tree / "in", tree / "out", masks=str(tree / "masks"), max_side=20).manifest
    assert manifest is not None
    for record in stock_read(manifest, image=IMAGE, mask=IMAGE):
        image, mask = tf.io.decode_jpeg(record["image"]), decoded(record["mask"])
        assert image.shape[:2] == mask.shape == ((15, 20) if image.shape[0] == 15 else (20, 15))
        expected = resize_mask(tf.constant(upright(record["key"].decode())[..., None]), mask.shape, resize="stretch")
        np.testing.assert_array_equal(mask, expected.numpy()[..., 0])


def test_a_dataset_with_masks_is_sharded_anew_with_them(tree: Path) -> None:
    one = run(tree / "in", tree / "one", masks=str(tree / "masks")).manifest
    two = run(tree / "one", tree / "two", target_bytes=64_000_000).manifest
    assert one is not None
    assert two is not None
    assert two.schema == one.schema
    spec = {"image": IMAGE, "mask": IMAGE}
    assert stock_read(two, "train", **spec) == stock_read(one, "train", **spec)


def test_masks_in_a_store_give_the_same_bytes(tree: Path, store: str) -> None:
    run(tree / "in", tree / "here", masks=str(tree / "masks"))
    upload(tree / "in", f"{store}/in")
    upload(tree / "masks", f"{store}/masks")
    run(f"{store}/in", tree / "there", masks=f"{store}/masks")  # type: ignore[arg-type]
    assert files_of(tree / "here") == files_of(tree / "there")


def test_masks_that_cannot_be_are_refused_at_the_start(tree: Path) -> None:
    with pytest.raises(UsageError, match="--masks '.*nowhere': there is no such folder"):
        run(tree / "in", tree / "out", masks=str(tree / "nowhere"))
    with pytest.raises(UsageError, match="--masks goes with --payload raw or decoded; an embedding has no pixels"):
        Job(input="in", output="out", payload="embedding", model="x", masks="masks")
    write_listing(tree / "list.csv", [("file", "label", "mask"), ("in/cat/0.jpg", "cat", "masks/cat/0.png")])
    with pytest.raises(UsageError, match="an embedding has no pixels"):
        run(tree / "list.csv", tree / "out", payload="embedding", model="MobileNetV2")


# ---- what comes in from outside


def padded(key: str, size: tuple[int, int], fill: int) -> np.ndarray:
    """The mask of a key of the tree, padded to a size."""
    covered = resize_mask(tf.constant(np.ones_like(upright(key))[..., None]), size).numpy()[..., 0]
    return np.where(covered == 1, resize_mask(tf.constant(upright(key)[..., None]), size).numpy()[..., 0], fill)


def assert_masks(found: dict[str, np.ndarray], size: tuple[int, int], fill: int) -> None:
    assert len(found) == 24
    for key, mask in found.items():
        np.testing.assert_array_equal(mask, padded(key, size, fill), err_msg=key)


def test_the_reader_surrounds_a_padded_mask_with_its_mask_fill(tree: Path) -> None:
    manifest = run(tree / "in", tree / "out", masks=str(tree / "masks")).manifest
    for fill in (0, 9, 255):
        assert_masks(masks_of(manifest, image_size=(50, 41), mask_fill=fill), (50, 41), fill)
    assert_masks(masks_of(manifest, image_size=(50, 41)), (50, 41), 0)
    for mask in masks_of(manifest, image_size=(50, 41), resize="crop", mask_fill=255).values():
        assert mask.max() <= 7


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_mask_fill_of_a_conversion_is_in_the_pixels_and_is_the_reader_s_default(tree: Path, dtype: str) -> None:
    options = {"masks": str(tree / "masks"), "payload": "decoded", "dtype": dtype, "image_size": 40}
    manifest = run(tree / "in", tree / "out", mask_fill=255, **options).manifest
    assert manifest is not None
    assert manifest.made_by["options"]["mask_fill"] == 255
    assert_masks(masks_of(manifest), (40, 40), 255)
    wide = masks_of(manifest, image_size=(40, 70))
    assert all((mask[:, :15] == 255).all() and (mask[:, 55:] == 255).all() for mask in wide.values())
    other = masks_of(manifest, image_size=(40, 70), mask_fill=17)
    assert all((mask[:, :15] == 17).all() and (mask[:, 55:] == 17).all() for mask in other.values())
    plain = run(tree / "in", tree / "plain", **options).manifest
    assert plain is not None
    assert "mask_fill" not in plain.made_by["options"]
    assert_masks(masks_of(plain), (40, 40), 0)
    arguments = {"batch_size": 2, "labels": None, "image_size": (40, 70)}
    with pytest.raises(ValueError, match=r"different values of mask_fill: 255 \(.*out\) and 0 \(.*plain\); give one"):
        tfpipe.make_dataset({manifest.directory: 1, plain.directory: 1}, **arguments)
    tfpipe.make_dataset({manifest.directory: 1, plain.directory: 1}, mask_fill=0, **arguments)


@pytest.mark.parametrize("crop", [tfpipe.RandomResizedCrop(area=(0.2, 0.6)), tfpipe.PaddedCrop(0.6)], ids=str)
def test_a_drawn_crop_moves_the_mask_with_its_image(tmp_path: Path, crop: Any) -> None:
    for part in ("in/a", "masks/a"):
        (tmp_path / part).mkdir(parents=True)
    for i in range(16):
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 1 + i % 8
        mask = np.full((60, 80), 200, np.uint8)
        mask[4 * i // 3 : 40, 10 + i : 60] = 60
        data = file_bytes(np.repeat(mask[..., None], 3, 2), "JPEG", quality=95, exif=exif.tobytes())
        (tmp_path / f"in/a/{i}.jpg").write_bytes(data)
        (tmp_path / f"masks/a/{i}.png").write_bytes(file_bytes(mask, "PNG"))
    manifest = run(tmp_path / "in", tmp_path / "out", masks=str(tmp_path / "masks"), split={"train": 1.0}).manifest
    train = tfpipe.make_dataset(
        manifest, batch_size=8, image_size=(40, 48), resize=crop, labels=None, mask_fill=0, seed=5
    )
    values_seen, batches = set(), list(train)
    for batch in batches:
        image, mask = batch["image"].numpy()[..., 0].astype(int), batch["mask"].numpy()[..., 0].astype(int)
        # Where nothing is near that has another value, the image shows that of its mask.
        clear = np.abs(image[..., None] - [0, 60, 200]).min(-1) < 12
        agree = np.abs(image - mask)[clear] < 12
        assert clear.mean() > 0.7
        assert agree.mean() > 0.97
        values_seen |= set(np.unique(mask))
    assert values_seen == ({0, 60, 200} if isinstance(crop, tfpipe.PaddedCrop) else {60, 200})
    filled = tfpipe.make_dataset(
        manifest, batch_size=8, image_size=(40, 48), resize=crop, labels=None, mask_fill=255, seed=5
    )
    for one, other in zip(batches, filled, strict=True):
        np.testing.assert_array_equal(np.where(one["mask"] == 0, 255, one["mask"]), other["mask"])


def test_a_mask_fill_that_nothing_takes_is_refused(tree: Path) -> None:
    manifest = run(tree / "in", tree / "out", masks=str(tree / "masks")).manifest
    plain = run(tree / "in", tree / "plain").manifest
    for given, labels, source, sentence in (
        (256, None, manifest, "mask_fill is 256; it takes an integer from 0 to 255"),
        (-1, None, manifest, "mask_fill is -1; it takes"),
        (2.5, None, manifest, "mask_fill is 2.5; it takes"),
        (True, None, manifest, "mask_fill is True; it takes"),
        (255, "one_hot", manifest, "mask_fill is 255, but the batches have no mask; labels=None"),
        (255, None, plain, "mask_fill is 255, but the batches have no mask"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tfpipe.make_dataset(source, batch_size=2, image_size=8, labels=labels, mask_fill=given)
    with pytest.raises(UsageError, match="--mask_fill is 256; a mask holds 0 to 255"):
        Job(input="in", output="out", payload="decoded", masks="masks", mask_fill=256)
    with pytest.raises(UsageError, match=r"--mask_fill goes with --payload decoded, .*, not raw"):
        Job(input="in", output="out", masks="masks", mask_fill=255)
    with pytest.raises(UsageError, match=r"--mask_fill is 255, but '.*in' has no masks; --masks names their folder"):
        run(tree / "in", tree / "new", payload="decoded", image_size=(8, 8), mask_fill=255)


# ---- training


def test_a_segmentation_model_learns_from_photographs_and_their_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("in/all", "masks/all"):
        (tmp_path / name).mkdir(parents=True)
    # Crops of photographs; the mask says where it is brighter than the middle of the photograph.
    for name in ("chelsea", "coffee", "astronaut", "rocket"):
        picture = getattr(skimage.data, name)()
        bright = picture.mean(2) > np.median(picture.mean(2))
        for i in range(16):
            y, x = (int(rng.integers(side - 96)) for side in picture.shape[:2])
            window = slice(y, y + 96), slice(x, x + 96)
            (tmp_path / f"in/all/{name}{i}.jpg").write_bytes(file_bytes(picture[window], "JPEG", quality=95))
            (tmp_path / f"masks/all/{name}{i}.png").write_bytes(file_bytes(bright[window].astype(np.uint8), "PNG"))
    run(tmp_path / "in", tmp_path / "out", masks=str(tmp_path / "masks"), split={"train": 1.0}, target_bytes=10**6)
    batches = tfpipe.make_dataset(tmp_path / "out", batch_size=8, image_size=(48, 48), labels=None)
    pairs = batches.map(lambda batch: (batch["image"], batch["mask"]))
    assert pairs.element_spec[1] == tf.TensorSpec((8, 48, 48, 1), tf.uint8)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((48, 48, 3)),
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(1, 1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(pairs, epochs=6, verbose=0).history
    # Half of all pixels are bright; a model that sees its masks elsewhere learns little more than that.
    assert history["accuracy"][-1] > 0.85
