"""What regions should give, in float64 and box by box: the published rules, written down as they are told."""

from __future__ import annotations

import math

import numpy as np


def random_boxes(rng: np.random.Generator, count: int, *, extent: float = 100.0) -> np.ndarray:
    """Boxes float32 [count, 4] that overlap often: a few places, each with several boxes around it."""
    places = rng.uniform(0, extent, (max(count // 4, 1), 2))
    middle = places[rng.integers(0, len(places), count)] + rng.normal(0, extent / 20, (count, 2))
    half = rng.uniform(extent / 50, extent / 6, (count, 2))
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """The overlap of two boxes (x0, y0, x1, y1); 0 where neither has an area."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    union = sum(float(np.prod(box[2:] - box[:2])) for box in (first, second)) - shared
    return shared / union if union else 0.0


def greedy(boxes: np.ndarray, scores: np.ndarray, threshold: float, classes: np.ndarray | None = None) -> list[int]:
    """The indices that greedy suppression keeps, by falling score."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if classes is None or classes[other] == classes[index]]
        if all(iou(boxes[other], boxes[index]) <= threshold for other in rivals):
            kept.append(int(index))
    return kept


def soft(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, method: str, sigma: float, min_score: float
) -> list[tuple[int, float]]:
    """Soft-NMS as Bodla et al. print it: (index, lowered score) in the order of taking."""
    left = {index: float(score) for index, score in enumerate(scores)}
    taken = []
    while left:
        best = max(left, key=lambda index: (left[index], -index))
        score = left.pop(best)
        if score < min_score:
            break
        taken.append((best, score))
        for index in left:
            overlap = iou(boxes[best], boxes[index])
            if method == "gaussian":
                left[index] *= math.exp(-(overlap**2) / sigma)
            elif overlap > threshold:
                left[index] *= 1 - overlap
    return taken


def corners(box: np.ndarray) -> np.ndarray:
    """The corners [4, 2] of an oriented box (cx, cy, width, height, degrees counter-clockwise, y pointing down)."""
    cx, cy, width, height, degrees = map(float, box)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = [(-width / 2, -height / 2), (width / 2, -height / 2), (width / 2, height / 2), (-width / 2, height / 2)]
    return np.array([(cx + x * cos + y * sin, cy - x * sin + y * cos) for x, y in offsets])


def polygon_area(polygon: np.ndarray) -> float:
    """The shoelace formula."""
    x, y = np.asarray(polygon, np.float64).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def clip_polygon(polygon: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """The part of a polygon inside of a convex one, [K, 2]: Sutherland and Hodgman, 1974."""
    clip = np.asarray(clip, np.float64)
    middle = clip.mean(axis=0)
    result = [np.asarray(point, np.float64) for point in polygon]
    for start, end in zip(clip, np.roll(clip, -1, axis=0), strict=True):
        normal = np.array([start[1] - end[1], end[0] - start[0]])
        normal = normal if normal @ (middle - start) > 0 else -normal
        points, result = result, []
        for here, there in zip(points, points[1:] + points[:1], strict=True):
            depth, next_depth = normal @ (here - start), normal @ (there - start)
            if depth >= 0:
                result.append(here)
            if depth * next_depth < 0:
                result.append(here + (there - here) * depth / (depth - next_depth))
    return np.array(result).reshape(-1, 2)


def oriented_iou(first: np.ndarray, second: np.ndarray) -> float:
    """The overlap of two oriented boxes."""
    shared = polygon_area(clip_polygon(corners(first), corners(second)))
    return shared / (float(first[2] * first[3]) + float(second[2] * second[3]) - shared)


# ---- sampling


def bilinear_or_zero(features: np.ndarray, y: float, x: float) -> np.ndarray:
    """RoIAlign's sample of [H, W, C]: up to one pixel outside the border's value, farther out 0."""
    height, width = features.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(features.shape[2])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = features[top, left] * (1 - u) + features[top, right] * u
    return upper * (1 - v) + (features[bottom, left] * (1 - u) + features[bottom, right] * u) * v


def roi_align(
    features: np.ndarray, box: np.ndarray, size: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> np.ndarray:
    """RoIAlign of one box on one image's features [H, W, C], sample by sample."""
    x0, y0, x1, y1 = np.asarray(box, np.float64) * scale - (0.5 if aligned else 0)
    extents = [max(extent, 0.0 if aligned else 1.0) if not aligned else extent for extent in (y1 - y0, x1 - x0)]
    bins = [extent / count for extent, count in zip(extents, size, strict=True)]
    counts = [ratio or max(math.ceil(length), 0) for length in bins]
    result = np.zeros((*size, features.shape[2]))
    for row in range(size[0]):
        for column in range(size[1]):
            for i in range(counts[0]):
                for j in range(counts[1]):
                    y = y0 + (row + (i + 0.5) / counts[0]) * bins[0]
                    x = x0 + (column + (j + 0.5) / counts[1]) * bins[1]
                    result[row, column] += bilinear_or_zero(features, y, x)
    return result / max(counts[0] * counts[1], 1)


def _cubic(distance: float, a: float = -0.75) -> float:
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a if distance < 2 else 0.0


_TAPS = {
    "nearest": lambda p: [(math.floor(p + 0.5), 1.0)],
    "bilinear": lambda p: [(math.floor(p) + step, 1 - abs(p - math.floor(p) - step)) for step in (0, 1)],
    "bicubic": lambda p: [(math.floor(p) + step, _cubic(abs(p - math.floor(p) - step))) for step in (-1, 0, 1, 2)],
}


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    fill: float,
    interpolation: str,
    border: str,
    center: float = 0.0,
) -> np.ndarray:
    """One image [H, W, C] under a map from output to input points, [2, 3] or [3, 3], pixel by pixel in float64."""
    height, width = image.shape[:2]
    # NumPy's own padding says what reflect and edge mean; far enough for the cases.
    room = 4 * max(height, width)
    modes = {"constant": {"constant_values": fill}, "reflect": {}, "edge": {}}
    wide = np.pad(np.asarray(image, np.float64), [(room, room), (room, room), (0, 0)], mode=border, **modes[border])
    result = np.zeros((*size, image.shape[2]))
    for i in range(size[0]):
        for j in range(size[1]):
            point = np.asarray(matrix, np.float64) @ [j + center, i + center, 1.0]
            x, y = (point[:2] / point[2] if len(point) == 3 else point) - center
            if abs(x) > room - 4 or abs(y) > room - 4:
                result[i, j] = fill
                continue
            for row, down in _TAPS[interpolation](y):
                for column, across in _TAPS[interpolation](x):
                    result[i, j] += wide[row + room, column + room] * (down * across)
    return result
