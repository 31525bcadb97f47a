"""How fast are suppression, RoIAlign and warps? Beside torchvision, OpenCV and kornia in the same process.

    python benchmarks/bench_regions.py [--only nms] [--repeats 7] [--json FILE]    # where there are the peers, too

Medians over the repeats, in another order each round, CPU and wall ms a call; `ratio` is the fastest peer's CPU time
over tfpipe's, above 1 where tfpipe is faster. Where TensorFlow and torch both see a GPU, both run there, and wall times
count. A peer that is not installed is named, and its rows are left out. triton, which torch brings along, crashes
beside TensorFlow on some machines: uninstall it there.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rounds import add_json_argument, median, recorded, turns

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Boxes around so many objects: few, as a detector finds; many; and none that overlaps much.
OBJECTS = {"50 objects": 50, "500 objects": 500, "spread": None}


def main() -> None:
    """Prints a line for each op and library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="what the question contains: nms, roi_align, warp, warp_affine, ...")
    parser.add_argument("--repeats", type=int, default=7)
    add_json_argument(parser)
    arguments = parser.parse_args()
    peers = {name: found for name in ("torchvision", "cv2", "kornia") if (found := _module(name))}
    with recorded(arguments.json) as results:
        for question, rows in (*suppression(peers), *pooling(peers), *warps(peers)):
            if arguments.only not in question:
                continue
            for row in measured(question, rows, arguments.repeats):
                results.add(row)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is left out: {error}", flush=True)
        return None


def measured(question: str, rows: dict[str, Callable[[], Any]], repeats: int) -> list[dict[str, Any]]:
    """A row for each library: ms a call, and how many times as fast as the fastest peer tfpipe is."""
    for call in rows.values():
        call()  # compiles
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _, name in turns(rows, repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        rows[name]()
        taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu_ms, wall_ms = (
        {name: 1e3 * statistics.median(times[i] for times in pairs) for name, pairs in taken.items()} for i in (0, 1)
    )
    peers = [cpu_ms[name] for name in rows if name != "tfpipe"]
    return [
        {
            "question": question,
            "library": name,
            "cpu_ms": round(cpu_ms[name], 3),
            "wall_ms": round(wall_ms[name], 3),
            "wall_spread": round(median(wall for _, wall in taken[name]).spread, 2),
            **({"ratio": round(min(peers) / cpu_ms[name], 2)} if name == "tfpipe" and peers else {}),
        }
        for name in rows
    ]


def suppression(peers: dict[str, Any]) -> Any:
    """Nms of 1,000 and 10,000 boxes, and 10,000 of 80 classes."""
    import numpy as np
    import tensorflow as tf

    from tfpipe import regions

    rng = np.random.default_rng(0)
    for number in (1000, 10_000):
        for name, objects in OBJECTS.items():
            boxes, scores = _boxes(rng, number, objects), rng.random(number).astype(np.float32)
            classes = rng.integers(0, 80, number).astype(np.int32)
            ours, ids = [tf.constant(part) for part in (boxes, scores)], tf.constant(classes)
            rows = {"tfpipe": partial(_first, regions.nms, *ours, iou_threshold=0.5)}
            by_class = {"tfpipe": partial(_first, regions.batched_nms, *ours, ids, iou_threshold=0.5)}
            if "torchvision" in peers:
                ops, (theirs, labels) = peers["torchvision"].ops, (_torch(boxes, scores), _torch(classes))
                rows["torchvision"] = partial(_from_torch, ops.nms, *theirs, 0.5)
                by_class["torchvision"] = partial(_from_torch, ops.batched_nms, *theirs, *labels, 0.5)
            yield f"nms, {number} boxes, {name}", rows
            if number == 10_000:
                yield f"batched_nms, {number} boxes, 80 classes, {name}", by_class


def pooling(peers: dict[str, Any]) -> Any:
    """RoIAlign of 512 boxes to 7 x 7, on 256 channels of 50 x 50."""
    import numpy as np
    import tensorflow as tf

    from tfpipe import regions

    rng = np.random.default_rng(1)
    features = rng.random((2, 50, 50, 256), np.float32)
    boxes, indices = _boxes(rng, 512, None, extent=800), rng.integers(0, 2, 512).astype(np.int32)
    ours = [tf.constant(part) for part in (features, boxes, indices)]
    for ratio in (0, 2):
        options = {"spatial_scale": 1 / 16, "sampling_ratio": ratio}
        rows = {"tfpipe": partial(_numpy, regions.roi_align, *ours, output_size=7, **options)}
        if "torchvision" in peers:
            planes = _torch(np.ascontiguousarray(features.transpose(0, 3, 1, 2)), np.c_[indices, boxes])
            pool = peers["torchvision"].ops.roi_align
            rows["torchvision"] = partial(_from_torch, pool, *planes, 7, 1 / 16, ratio, True)
        yield f"roi_align, 512 boxes, sampling_ratio {ratio}", rows


def warps(peers: dict[str, Any]) -> Any:
    """32 images of 224 x 224 x 3, a matrix for each."""
    import numpy as np
    import tensorflow as tf

    from tfpipe import regions

    rng = np.random.default_rng(2)
    angle = rng.uniform(-0.5, 0.5, 32)
    rows_of = np.array([[np.cos(angle), -np.sin(angle), 40 * angle], [np.sin(angle), np.cos(angle), -30 * angle]])
    affine = np.ascontiguousarray(rows_of.transpose(2, 0, 1))
    last = np.stack([angle / 1000, -angle / 1500, np.ones(32)], axis=-1)
    perspective = np.concatenate([affine, last[:, None]], axis=1)
    cases = itertools.product(("affine", "perspective"), (np.uint8, np.float32), ("bilinear", "nearest"))
    for name, dtype, interpolation in cases:
        matrices = affine if name == "affine" else perspective
        images = rng.integers(0, 256, (32, 224, 224, 3)).astype(dtype)
        ours = tf.constant(images), tf.constant(matrices)
        rows = {"tfpipe": partial(_numpy, getattr(regions, f"warp_{name}"), *ours, interpolation=interpolation)}
        if "cv2" in peers:
            rows["opencv"] = partial(_opencv, peers["cv2"], name, images, matrices, interpolation)
        if "kornia" in peers and dtype is np.float32:
            # kornia takes the map from input to output.
            whole = np.concatenate([affine, np.tile([[[0.0, 0, 1]]], (32, 1, 1))], axis=1)
            inverse = np.linalg.inv(whole)[:, :2] if name == "affine" else np.linalg.inv(perspective)
            given = _torch(images.transpose(0, 3, 1, 2).copy(), inverse.astype(np.float32))
            warp = getattr(importlib.import_module("kornia.geometry.transform"), f"warp_{name}")
            rows["kornia"] = partial(_from_torch, warp, *given, (224, 224), mode=interpolation, align_corners=True)
        yield f"warp_{name}, 32 images, {interpolation}, {np.dtype(dtype).name}", rows


def _boxes(rng: Any, number: int, objects: int | None, extent: float = 1000.0) -> Any:
    """Boxes float32 [number, 4] around some objects, or anywhere."""
    import numpy as np

    middle, side = rng.uniform(0, extent, (objects or number, 2)), rng.uniform(20, extent / 5, (objects or number, 2))
    if objects:
        chosen = rng.integers(0, objects, number)
        middle = middle[chosen] + rng.normal(0, 8, (number, 2))
        side = side[chosen] * np.exp(rng.normal(0, 0.1, (number, 2)))
    return np.concatenate([middle - side / 2, middle + side / 2], axis=1).astype(np.float32)


def _first(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)[0].numpy()


def _numpy(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs).numpy()


def _from_torch(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs).cpu()


def _opencv(cv2: Any, name: str, images: Any, matrices: Any, interpolation: str) -> Any:
    """Image by image, as it is used."""
    warp = cv2.warpAffine if name == "affine" else cv2.warpPerspective
    flags = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}[interpolation] | cv2.WARP_INVERSE_MAP
    size = images.shape[2:0:-1]
    return [warp(image, matrix, size, flags=flags) for image, matrix in zip(images, matrices, strict=True)]


def _torch(*parts: Any) -> list[Any]:
    """Tensors of torch, where it has a GPU on that."""
    import numpy as np

    torch = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return [
        torch.tensor(part.astype(np.float32) if part.dtype == np.float64 else part, device=device) for part in parts
    ]


if __name__ == "__main__":
    main()
