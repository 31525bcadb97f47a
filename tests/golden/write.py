"""Writes the golden data beside it. It was run once, at commit 8863dc1, and is kept to show how the data came about.

Never run it with newer code: data that the code under test has written says nothing about what older versions wrote.
What write_more writes was added later, by the same commit. Run a second time, that commit writes the same bytes, except
for the times in .keras files and for PBA and PolicyAugment, whose seeds it draws.

    git worktree add ../old 8863dc1 && cp tests/golden/write.py ../old/ && cd ../old && python write.py GOLDEN_FOLDER
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import tfpipe
from beam_jobs.convert import Job, convert
from tfpipe import augment, layers

PLAIN, SIZE = {"labels": None, "batch_size": 4}, [12, 16]
ORDERS = {
    "default": {},
    "seed 7": {"seed": 7},
    "single records": {"options": {"block_records": 1}},
    "blocks of 2 in windows of 6": {"options": {"block_records": 2, "window_records": 6}},
    "buffer": {"options": {"shuffle": "buffer", "shuffle_buffer": 5}},
    "not shuffled": {"options": {"shuffle": "none"}},
    "from step 2": {"options": {"start_step": 2}},
    "from step 9, in a later epoch": {"options": {"start_step": 9}},
    "host 1 of 2": {"options": {"host_index": 1, "host_count": 2}},
    "balanced classes": {"options": {"balance_classes": True}},
    "evaluation": {"split": "validation"},
    "mixture": {"source": {"raw": 0.75, "other": 0.25}},
}
PIXELS = {
    "raw, padded": ("raw", {}),
    "raw, stretched": ("raw", {"resize": "stretch"}),
    "raw, cropped": ("raw", {"resize": "crop"}),
    "raw, antialiased": ("raw", {"antialias": True}),
    "decoded uint8": ("decoded_uint8", {}),
    "decoded float16": ("decoded_float16", {}),
    "decoded float32": ("decoded_float32", {}),
    "embedding": ("embedding", {"image_size": None}),
    "adopted, compressed": ("adopted", {}),
    "boxes": ("boxes", {}),
}

MORE_PIXELS = {
    "masks": ("masks", {}),
    "masks, stretched": ("masks", {"resize": "stretch"}),
    "several labels, masks as pixels": ("several_labels", {}),
    "numbers": ("numbers", {}),
}


def photo(number: int, height: int = 20, width: int = 28) -> np.ndarray:
    """A few blobs over a slope: uint8 [height, width, 3]."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][:, :, :, None]
    scene = 90 + 60 * (x * rng.uniform(-1, 1, 3) + y * rng.uniform(-1, 1, 3))
    for _ in range(4):
        distance = (x - rng.uniform()) ** 2 + (y - rng.uniform()) ** 2
        scene = scene + rng.uniform(-120, 120, 3) * np.exp(-distance / rng.uniform(0.01, 0.1))
    return np.clip(scene, 0, 255).astype(np.uint8)


def encoded(number: int, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(number)).save(file, kind, **options)
    return file.getvalue()


def fill(root: Path, classes: dict[str, int], first: int) -> Path:
    """A folder for each class: JPEG, PNG, a JPEG with an EXIF orientation, again."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            first += 1
            if i % 3 == 1:
                (root / name / f"{i:02d}.png").write_bytes(encoded(first, "PNG"))
            else:
                turn = {"exif": exif.tobytes()} if i % 3 == 2 else {}
                (root / name / f"{i:02d}.jpg").write_bytes(encoded(first, "JPEG", quality=90, **turn))
    (root / next(iter(classes)) / "broken.jpg").write_bytes(b"not an image")
    return root


class Means(tf.Module):
    """Mean colours and their squares: an embedding of 6 numbers."""

    @tf.function(input_signature=[tf.TensorSpec([None, 12, 16, 3], tf.float32)])
    def __call__(self, images):
        means = tf.reduce_mean(images, [1, 2])
        return tf.concat([means, means * means], 1)


def coco(root: Path) -> Path:
    (root / "train").mkdir(parents=True)
    images, marks = [], []
    for i in range(8):
        (root / "train" / f"{i}.jpg").write_bytes(encoded(500 + i, "JPEG", quality=90))
        images.append({"id": i, "file_name": f"{i}.jpg"})
        for k in range(1 + i % 3):
            box = [2 + k, 3, 8.5, 6 + k]
            marks.append({"id": 10 * i + k, "image_id": i, "category_id": 3 + k, "bbox": box})
    categories = [{"id": 3, "name": "sea"}, {"id": 4, "name": "zebra"}, {"id": 5, "name": "cat"}]
    path = root / "instances_train.json"
    path.write_text(json.dumps({"images": images, "annotations": marks, "categories": categories}))
    return path


def write_datasets(work: Path, output: Path) -> None:
    photos = fill(work / "photos", {"cat": 16, "dog": 12, "emu": 8}, 0)
    other = fill(work / "other", {"cat": 8, "dog": 8, "emu": 8}, 100)
    tf.saved_model.save(Means(), str(work / "means"))

    def write(name: str, source: Path, **options) -> None:
        job = Job(input=str(source), output=str(output / name), target_bytes=8_000, max_rejected="50%", **options)
        convert(job)

    write("raw", photos)
    write("other", other, seed=3)
    for dtype in ("uint8", "float16", "float32"):
        write(f"decoded_{dtype}", photos, payload="decoded", image_size=(12, 16), dtype=dtype)
    write("embedding", photos, payload="embedding", model=str(work / "means"))
    write("boxes", coco(work / "coco"))
    adopted = output / "adopted"
    adopted.mkdir()
    for shard in sorted((output / "raw").glob("train-*.tfrecord")):
        with gzip.GzipFile(adopted / shard.name, "wb", mtime=0) as file:
            file.write(shard.read_bytes())
    tfpipe.index(str(adopted / "*.tfrecord"))


def make(root: Path, case: dict) -> tf.data.Dataset:
    """The dataset of a case; its sources are names of folders below root."""
    case = {"source": "raw", "image_size": SIZE, **PLAIN, **case}
    source, options = case.pop("source"), tfpipe.ReadOptions(**case.pop("options", {}))
    source = {root / n: w for n, w in source.items()} if isinstance(source, dict) else root / source
    size = case.pop("image_size")
    return tfpipe.make_dataset(source, image_size=size and tuple(size), options=options, **case)


def write_orders(root: Path) -> None:
    found = []
    for name, case in ORDERS.items():
        dataset = make(root, case)
        epochs = [[key.decode() for batch in dataset for key in batch["key"].numpy()] for _ in range(2)]
        found.append({"name": name, "arguments": case, "epochs": epochs})
    (root / "orders.json").write_text(json.dumps(found, indent=1) + "\n")


def write_pixels(root: Path, table: dict, stem: str) -> None:
    arrays, cases = {}, []
    for name, (source, further) in table.items():
        case = {"source": source, "training": False, **further}
        batch = next(iter(make(root, {**case, "split": "train"})))
        for feature, value in batch.items():
            if isinstance(value, tf.RaggedTensor):
                value = value.to_tensor("" if value.dtype == tf.string else -1)
            array = np.asarray(value.numpy())
            arrays[f"{name}/{feature}"] = array.astype("S") if value.dtype == tf.string else array
        cases.append({"name": name, "arguments": case})
    np.savez_compressed(root / f"{stem}.npz", **arrays)
    (root / f"{stem}.json").write_text(json.dumps(cases, indent=1) + "\n")


def transforms() -> dict:
    return {
        "rand_augment": augment.rand_augment(2, 9),
        "rand_augment torchvision": augment.rand_augment(3, 14, table="torchvision", fill=(1, 2, 3)),
        "auto_augment": augment.auto_augment("image_net"),
        "trivial_augment_wide": augment.trivial_augment_wide(),
        "pba": augment.pba("rcifar10"),
        "deep_augment": augment.deep_augment(
            [(("rotate", 0.3), ("gamma-contrast", 0.6)), (("crop", 0.2), ("add-to-hue-and-saturation", 0.5))]
        ),
        "policy": augment.policy("svhn"),
        "flips and crops": augment.compose([augment.pad_and_crop(3), augment.flip_left_right(), augment.cutout(6)]),
        "conditional": augment.compose(
            [
                augment.one_of([augment.op("invert"), augment.op("rotate", 10), augment.op("posterize", 3)]),
                augment.sometimes(augment.op("solarize", 100), 0.5),
                augment.choose_n([augment.op("equalize"), augment.flip_up_down(), augment.op("shear_x", 0.2)], 2),
            ]
        ),
        "noise": augment.compose([augment.gaussian_noise(), augment.coarse_dropout(), augment.salt_and_pepper()]),
        "color_jitter": augment.color_jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        "random_crop": augment.random_crop((12, 12)),
        "mixup": augment.mixup(0.2),
        "cutmix": augment.cutmix(1.0),
    }


def write_augmentation(root: Path) -> None:
    images = np.stack([photo(900 + i, 16, 18) for i in range(8)])
    labels = np.eye(8, dtype=np.float32)
    arrays = {"images": images, "labels": labels}
    documents = {}
    for name, transform in transforms().items():
        documents[name] = augment.to_json(transform)
        batch = {"image": tf.constant(images), "label": tf.constant(labels)}
        if name == "pba":
            batch["epoch"] = tf.constant(40, tf.int64)
        done = transform(batch, tf.constant([11, -12]))
        arrays[f"{name}/image"], arrays[f"{name}/label"] = done["image"].numpy(), done["label"].numpy()
        if hasattr(transform, "draw") and name != "pba":
            for part, value in transform.draw([11, -12], 8, 16, 18)._asdict().items():
                arrays[f"{name}/draw/{part}"] = value.numpy()
    np.savez_compressed(root / "augmentation.npz", **arrays)
    (root / "augmentation.json").write_text(json.dumps(documents, indent=1) + "\n")
    tfpipe.policy.load_policy("cifar10_95").save(root / "policy.json")


def write_layers(root: Path) -> None:
    images = np.stack([photo(900 + i, 16, 18) for i in range(8)])
    labels = np.eye(8, dtype=np.float32)
    made = {
        "Augment": layers.Augment([augment.pad_and_crop(3), augment.rand_augment(2, 9)], seed=5),
        "RandAugment": layers.RandAugment(2, 9, seed=-3),
        "TrivialAugmentWide": layers.TrivialAugmentWide(seed=1),
        "AutoAugment": layers.AutoAugment("svhn", seed=2),
        "PBA": layers.PBA("rcifar10", steps_per_epoch=10),
        "PolicyAugment": layers.PolicyAugment("svhn"),
    }
    arrays = {}
    for name, layer in made.items():
        model = keras.Sequential([keras.Input((16, 18, 3), dtype="uint8"), layer])
        layer(tf.constant(images), training=True)
        model.save(root / f"{name}.keras")
        arrays[name] = layer(tf.constant(images), training=True).numpy()
    mixing = layers.MixUp(0.2, seed=4)
    mixed = mixing((tf.constant(images), tf.constant(labels)), training=True)
    arrays["MixUp"], arrays["MixUp/label"] = mixed[0].numpy(), mixed[1].numpy()
    configs = {"MixUp": layers.MixUp(0.2, seed=4).get_config(), "CutMix": layers.CutMix(1.0, seed=4).get_config()}
    (root / "layers.json").write_text(json.dumps(configs, indent=1) + "\n")
    np.savez_compressed(root / "layers.npz", **arrays)


def list_photos(root: Path) -> list[dict]:
    """Nine photos with a mask and columns each: JPEG, PNG, a JPEG with an EXIF orientation, again; a row for each."""
    fill(root, {"cat": 9}, 200)
    rows = []
    for i, path in enumerate(sorted((root / "cat").glob("[0-9]*"))):
        mask = Image.fromarray((photo(300 + i).mean(2) // 32).astype(np.uint8))
        mask.save(root / f"{i}.png")
        labels = [name for k, name in enumerate(("sea", "sky", "\u00e9t\u00e9")) if (i % 7 + 1) >> k & 1]
        row = {"file": f"cat/{path.name}", "label": labels, "mask": f"{i}.png"}
        rows.append({**row, "weight": i / 3, "count": 10**9 * i - 5, "note": f"n\u00ba {i}" if i % 4 else ""})
    return rows


def write_more(work: Path, output: Path) -> None:
    """Datasets with masks, several labels, numbers as labels, columns, and images of several sizes; read options."""
    rows = list_photos(work / "listed")
    listing = work / "listed" / "rows.jsonl"
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, label, columns in (("masks", "first", ("mask", "weight", "count", "note")), ("numbers", "weight", ())):
        lines = [",".join(("file", "label", *columns))]
        for row in rows:
            row = {**row, "first": row["label"][0]}
            lines.append(",".join(str(row[column]) for column in ("file", label, *columns)))
        (work / "listed" / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def write(name: str, source: Path, **options) -> None:
        convert(Job(input=str(source), output=str(output / name), target_bytes=8_000, **options))

    write("masks", work / "listed" / "masks.csv")
    write("several_labels", listing, payload="decoded", dtype="uint8", label_kind="multi")
    write("numbers", work / "listed" / "numbers.csv", payload="decoded", dtype="float32", label_kind="number")
    write_pixels(output, MORE_PIXELS, "more_pixels")
    options = tfpipe.ReadOptions(block_records=2, window_records=6, prefetch=1, on_error="skip", start_step=1)
    options.save(output / "pipeline.json", measured={"gain": 1.5})


if __name__ == "__main__":
    golden = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as work:
        write_datasets(Path(work), golden)
    write_orders(golden)
    write_pixels(golden, PIXELS, "pixels")
    write_augmentation(golden)
    write_layers(golden)
    with tempfile.TemporaryDirectory() as work:
        write_more(Path(work), golden)
    for lock in golden.rglob("_lock*"):
        shutil.rmtree(lock, ignore_errors=True)
