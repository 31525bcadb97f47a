"""The later ops against Pillow, NumPy and SciPy; facts of OpenCV where it alone has the op. Forms: test_ops.py."""

import io

import numpy as np
import pytest
import tensorflow as tf
from cases import LATER, MAGNITUDES, case, eagerly, hard_images
from pictures import photo
from PIL import Image
from scipy import ndimage, stats

from tfpipe import augment
from tfpipe.augment import OPS
from tfpipe.augment.forms.apply import apply_to_batch
from tfpipe.augment.ops import field
from tfpipe.augment.ops.op import NUM_VALUES, Choices

PHOTO = photo(7, 48, 64)
SQUARE = photo(3, 40, 40)
SEED = tf.constant([5, -9])


def built(name, image, *values, seed=None):
    """What the builder makes of one image, eagerly."""
    padded = tf.constant([*values, 0, 0, 0, 0][:4], tf.float32)
    more = () if seed is None else (seed,)
    return OPS[name].build(tf.constant(image), padded, *more).numpy()


def test_turns_and_the_transpose_are_numpys_of_a_square():
    images = np.stack([SQUARE] * 5)
    turned = augment.apply_op("rotate90", images, [0.0, 1.0, 2.5, 3.999, 4.0]).numpy()
    for image, turns in zip(turned, (0, 1, 2, 3, 0), strict=True):
        np.testing.assert_array_equal(image, np.rot90(SQUARE, turns))
    np.testing.assert_array_equal(augment.apply_op("transpose", images, [0.0] * 5)[0], SQUARE.transpose(1, 0, 2))


def test_an_image_that_is_not_square_is_turned_about_its_centre():
    turned = augment.apply_op("rotate90", PHOTO[None], [1.0], fill=9).numpy()[0]
    expected = np.full_like(PHOTO, 9)
    expected[:, 8:56] = np.rot90(PHOTO)[8:56]
    np.testing.assert_array_equal(turned, expected)


def test_turns_move_boxes_and_masks():
    mask = np.zeros([1, 40, 40], np.uint8)
    mask[0, 4:10, 20:33] = 1
    batch = {"image": SQUARE[None], "mask": mask, "boxes": np.array([[[20, 4, 33, 10]]], np.float32)}
    for name, expected in (("rotate90", [4, 7, 10, 20]), ("transpose", [4, 20, 10, 33])):
        done = augment.op(name, *([1.0] if name == "rotate90" else []))(batch, (0, 0))
        assert done["boxes"].numpy()[0, 0].tolist() == expected
        y, x = np.nonzero(done["mask"].numpy()[0])
        assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == expected


def corners_of(values, seed, size):
    """Where the corners of an image go, by torchvision's law of RandomPerspective: from the upper left clockwise."""
    inward = field._uniforms(tf.constant(seed), 8, symmetric=False).numpy() * values / 2
    down, across = inward[:4], inward[4:]
    x = np.array([0, 1, 1, 0]) + np.array([1, -1, -1, 1]) * across
    y = np.array([0, 0, 1, 1]) + np.array([1, 1, -1, -1]) * down
    return np.stack([x * size[1], y * size[0]], axis=-1)


def coefficients(start, end):
    """Pillow's eight of the map that takes the points `start` to the points `end`: a linear system."""
    rows, right = [], []
    for (x, y), (u, v) in zip(start, end, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.linalg.solve(rows, right)


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.9])
def test_perspective_equals_pillows(strength):
    height, width = PHOTO.shape[:2]
    whole = [(0, 0), (width, 0), (width, height), (0, height)]
    eight = coefficients(corners_of(strength, [5, -9], (height, width)), whole)
    expected = np.asarray(
        Image.fromarray(PHOTO).transform((width, height), Image.Transform.PERSPECTIVE, eight, fillcolor=(7, 7, 7))
    )
    point = field.perspective(tf.constant([strength, 0, 0, 0]), SEED, height, width)
    found = field.sample(tf.constant(PHOTO), point, (7.0,) * 3, "nearest").numpy()
    assert (found != expected).any(axis=-1).mean() < 0.002  # Pixels that a place falls between.


def test_perspectives_corners_move_inwards_by_up_to_half_of_the_strength():
    moved = np.concatenate([corners_of(0.4, [3, step], (1, 1)) for step in range(200)])
    ends = np.tile([[0, 0], [1, 0], [1, 1], [0, 1]], (200, 1))
    away = np.abs(moved - ends)
    assert away.max() <= 0.2
    assert stats.kstest(away.ravel() / 0.2, "uniform").pvalue > 1e-4


def test_elastic_is_smoothed_noise():
    x, y = field.elastic(tf.constant([40.0, 5.0, 0, 0]), SEED, 48, 64)
    noise = field._noise(SEED, 48, 64).numpy() / 255
    assert stats.kstest((noise.ravel() + 1) / 2, "uniform").pvalue > 1e-4
    weight = ndimage.gaussian_filter(np.ones([48, 64]), 5.0, mode="constant", truncate=12)
    for place, part, centres in ((0, x, np.arange(64) + 0.5), (1, y, np.arange(48)[:, None] + 0.5)):
        smooth = ndimage.gaussian_filter(noise[place], 5.0, mode="constant", truncate=12) / weight
        np.testing.assert_allclose(part / 65536 - centres, 40 * smooth, atol=0.03)  # Weights in 8192ths.


def test_grid_distortion_stretches_five_steps_to_the_whole_side():
    x, y = (part.numpy() / 65536 for part in field.grid_distortion(tf.constant([0.5, 0, 0, 0]), SEED, 50, 100))
    assert np.ptp(x, axis=0).max() == 0
    assert np.ptp(y, axis=1).max() == 0
    for line, size in ((x[0], 100), (y[:, 0], 50)):
        steps = np.diff(line).reshape(-1)
        assert np.all(steps > 0)
        assert len(np.unique(steps.round(3))) <= 9  # Five lengths, and four places where two meet.
        assert line[0] > 0
        assert line[-1] < size


@pytest.mark.parametrize("name", ["perspective", "elastic", "grid_distortion"])
def test_a_field_at_nothing_changes_nothing_and_moves_masks_and_boxes_with_the_pixels(name):
    count = 3
    mask = np.zeros([count, 40, 40], np.uint8)
    mask[:, 8:30, 5:25] = 1
    images = np.repeat(mask[..., None] * 200, 3, axis=-1).astype(np.uint8)
    boxes = np.tile(np.array([[5, 8, 25, 30], [0, 0, 0, 0]], np.float32), (count, 1, 1))
    batch = {"image": images, "mask": mask, "boxes": boxes}
    ops = (OPS["identity"], OPS[name])
    strong = [OPS[name].high, *(high for _, high in OPS[name].further), 0, 0, 0][:4]
    values = tf.constant([[strong], [[0.0] * 4], [strong]], tf.float32)
    seeds = tf.constant([[[1, 2]], [[3, 4]], [[5, 6]]])
    choices = Choices(tf.constant([[1], [1], [0]]), values, seeds)
    done = apply_to_batch(batch, choices, ops, fill=0)
    np.testing.assert_array_equal(done["mask"].numpy() * 200, done["image"].numpy()[..., 0])
    for number in range(count):
        y, x = np.nonzero(done["mask"].numpy()[number])
        assert done["boxes"].numpy()[number, 0].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert np.all(done["boxes"].numpy()[:, 1] == 0)
    np.testing.assert_array_equal(done["image"].numpy()[1:], images[1:])
    assert not np.array_equal(done["image"].numpy()[0], images[0])
    ragged = tf.RaggedTensor.from_row_lengths(boxes.reshape(-1, 4)[:4], [2, 0, 2])
    again = apply_to_batch({**batch, "boxes": ragged}, choices, ops, fill=0)["boxes"]
    assert again.row_lengths().numpy().tolist() == [2, 0, 2]
    np.testing.assert_array_equal(again[0].numpy(), done["boxes"].numpy()[0])


def test_channels_are_shuffled_by_one_of_six_orders():
    orders = {tuple(built("channel_shuffle", np.array([[[1, 2, 3]]], np.uint8), v)[0, 0]) for v in np.arange(6.0)}
    assert len(orders) == 6
    assert tuple(built("channel_shuffle", np.array([[[1, 2, 3]]], np.uint8), 0.0)[0, 0]) == (1, 2, 3)


def test_channel_dropout_turns_that_many_channels_black():
    image = np.full([2, 2, 3], 9, np.uint8)
    for count in (0, 1, 2, 3):
        for start in (0.0, 0.4, 0.9):
            black = (built("channel_dropout", image, count, start) == 0).all(axis=(0, 1))
            assert black.sum() == count
            assert count in (0, 3) or black[int(start * 3)]


def test_gray_world_makes_the_means_even():
    image = PHOTO // 2
    means = image.reshape(-1, 3).mean(axis=0)
    expected = np.clip(image * (means.mean() / means), 0, 255)
    found = built("gray_world", image, 1.0)
    assert np.abs(found - expected).max() <= 1
    assert np.ptp(found.reshape(-1, 3).mean(axis=0)) < 0.5
    half = built("gray_world", image, 0.5)
    assert np.abs(half - (image + expected) / 2).max() <= 1
    assert np.all(built("gray_world", np.zeros_like(image), 1.0) == 0)


def test_grid_mask_covers_its_share_of_each_cell():
    image = np.full([40, 60, 3], 9, np.uint8)
    black = (built("grid_mask", image, 0.5, 0.25, 0.3, 0.0) == 0).all(axis=-1)
    y, x = np.mgrid[:40, :60]
    np.testing.assert_array_equal(black, ((y - 3) % 10 < 5) & (x % 10 < 5))
    assert np.array_equal(built("grid_mask", image, 0.0, 0.25, 0.3, 0.0), image)


def test_random_erasing_puts_uniform_noise_into_a_box_of_its_area():
    image = np.full([60, 80, 3], 100, np.uint8)
    for area, aspect, tall, wide in ((0.25, 0.5, 35, 35), (0.1, 1.0, 12, 40), (0.1, 0.0, 40, 12)):
        done = built("random_erasing", image, area, aspect, 0.5, 0.2, seed=SEED)
        changed = (done != 100).any(axis=-1)
        rows, columns = np.nonzero(changed.any(axis=1))[0], np.nonzero(changed.any(axis=0))[0]
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (tall, wide)
        assert rows[0] == int(0.5 * (60 - tall + 1))
        levels = done[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].ravel()
        assert stats.kstest((levels + 0.5) / 256, "uniform").pvalue > 1e-4
    np.testing.assert_array_equal(built("random_erasing", image, 0.0, 0.5, 0.5, 0.5, seed=SEED), image)


@pytest.mark.parametrize(("length", "degrees"), [(1, 0), (5, 0), (8, 90), (9, 45), (15, 200), (99, 30)])
def test_motion_blur_is_the_mean_along_a_line(length, degrees):
    reach = min(length // 2, 7)
    angle = np.radians(degrees)
    taps = [(np.floor(k * np.cos(angle) + 0.5 + 1e-9), np.floor(-k * np.sin(angle) + 0.5 + 1e-9))
            for k in range(-reach, reach + 1)]  # fmt: skip
    kernel = np.zeros([17, 17])
    for x, y in taps:
        kernel[8 + int(y), 8 + int(x)] += 1
    sums = np.stack([ndimage.correlate(PHOTO[..., c].astype(float), kernel, mode="nearest") for c in range(3)], -1)
    expected = np.floor(sums / len(taps) + 0.5)
    np.testing.assert_array_equal(built("motion_blur", PHOTO, length, degrees), expected)


@pytest.mark.parametrize("image", [PHOTO, np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)])
def test_median_blur_equals_scipys(image):
    for value, size in ((0, 1), (1, 3), (2, 5)):
        expected = np.stack([ndimage.median_filter(image[..., c], size=size, mode="nearest") for c in range(3)], -1)
        np.testing.assert_array_equal(built("median_blur", image, value), expected)


@pytest.mark.parametrize("quality", [5, 20, 50, 75, 90, 100])
@pytest.mark.parametrize("shape", [(48, 64), (61, 83), (33, 34)])
def test_jpeg_equals_libjpeg(quality, shape):
    image = np.concatenate([photo(7, *shape)[:-9], np.random.default_rng(0).integers(0, 256, (9, shape[1], 3))])
    for levels in (image.astype(np.uint8), image[..., :1].astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(levels.squeeze(-1) if levels.shape[-1] == 1 else levels).save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(
            built("jpeg", levels, quality), np.asarray(Image.open(file)).reshape(levels.shape)
        )


# Of OpenCV 5.0.0: createCLAHE(limit, (8, 8)) of the picture below, every fifth column of three rows.
CLAHE = {
    1.5: [
        [17, 48, 51, 51, 59, 59, 64, 65, 75, 76],
        [29, 84, 85, 99, 99, 99, 109, 112, 126, 133],
        [51, 116, 127, 128, 127, 136, 149, 164, 170, 178],
    ],
    40.0: [
        [17, 131, 120, 85, 91, 96, 93, 91, 85, 68],
        [51, 166, 169, 163, 159, 141, 162, 164, 179, 178],
        [60, 176, 200, 204, 177, 170, 178, 187, 203, 230],
    ],
}


def test_clahe_equals_opencv():
    y, x = np.mgrid[:40, :48]
    image = ((5 * x + 3 * y + (x * y) // 9) // 4 % 256).astype(np.uint8)[..., None]
    for limit, rows in CLAHE.items():
        found = built("clahe", image, limit)[[0, 17, 39], ::5, 0].astype(int)
        assert np.abs(found - np.array(rows)).max() <= 1
        assert (found != np.array(rows)).mean() < 0.1  # Halves: OpenCV's floats fall to either side.
    np.testing.assert_array_equal(built("clahe", np.full([3, 7, 3], 5, np.uint8), 2.0), np.full([3, 7, 3], 5))


# ---- the laws of test_ops.py, each op in a program of its own


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", LATER)
def test_both_forms_and_the_eager_kernels_agree(name, channels):
    op, images = OPS[name], hard_images(29, 37, channels)
    values = np.array([case(op, m, 1, 29, 37).values for m in MAGNITUDES], np.float32)
    read = values[:, 0] if op.num_values == 1 else values[:, : op.num_values]
    loop, dense = (augment.apply_op(name, images, read, form=form).numpy() for form in ("loop", "dense"))
    np.testing.assert_array_equal(loop, dense)
    seeds = tf.constant([[0, number] for number in range(len(images))])
    assert values.shape == (len(images), NUM_VALUES)
    np.testing.assert_array_equal(eagerly(op, images, tf.constant(values), seeds), loop)
    if name not in ("jpeg", "clahe"):
        np.testing.assert_array_equal(loop[0], images[0])
    fractions = augment.apply_op(name, (images / np.float32(255)).astype(np.float32), read, form="loop").numpy()
    np.testing.assert_array_equal(np.rint(fractions * 255), loop)
