"""Raw records re-encoded while converting."""

import io

import numpy as np
import pytest
from pictures import KINDS, file_bytes, photo, turned
from PIL import Image

from beam_jobs.convert import convert
from beam_jobs.encode.pixels import encode_smaller
from beam_jobs.encode.shrink import measure_gain
from beam_jobs.job import Job, Shrink
from tfpipe.errors import UsageError
from tfpipe.format.framing import scan
from tfpipe.format.wire import parse_example
from tfpipe.images.probe import ImageHeader, probe


def header(height, width, orientation=1):
    return ImageHeader("jpeg", height, width, orientation)


@pytest.mark.parametrize(
    ("shrink", "stored", "size"),
    [
        (Shrink(100), header(300, 200), (100, 67)),
        (Shrink(100), header(200, 300), (67, 100)),
        (Shrink(100), header(200, 300, 6), (100, 67)),
        (Shrink(100), header(100, 80), None),
        (Shrink(100), header(5000, 1), (100, 1)),
        (Shrink(None, 80), header(50, 80), (50, 80)),
    ],
)
def test_the_longer_side_decides_the_size(shrink, stored, size):
    assert shrink.size(stored) == size


def test_a_shrunk_image_is_close_to_pillow_s():
    data = file_bytes(photo(1, 300, 400), "JPEG", quality=95)
    small = encode_smaller(data, probe(data), (75, 100), 95)
    expected = Image.open(io.BytesIO(data)).resize((100, 75), Image.Resampling.BILINEAR)
    difference = np.asarray(Image.open(io.BytesIO(small)), np.float32) - np.asarray(expected, np.float32)
    assert np.sqrt((difference**2).mean()) < 4


def test_a_turned_image_is_stored_upright():
    data = turned(3, 6)
    small = encode_smaller(data, probe(data), Shrink(20).size(probe(data)), 90)
    assert probe(small)[1:] == (20, 15, 1)


def test_the_ratio_of_bytes_is_exact_and_that_of_times_is_measured():
    files = [file_bytes(photo(n, 300, 400), "JPEG", quality=95) for n in range(4)]
    gain = measure_gain(Shrink(64), files)
    assert gain.bytes_ratio == measure_gain(Shrink(64), files).bytes_ratio < 0.2
    assert gain.decode_ratio > 0
    assert measure_gain(Shrink(64), [KINDS[".png"](1)]).bytes_ratio == 1


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Photographs of 120 x 160, small ones, and one that can't be decoded."""
    root = tmp_path_factory.mktemp("large")
    (root / "cat").mkdir()
    for number in range(20):
        (root / f"cat/{number}.jpg").write_bytes(file_bytes(photo(number, 120, 160), "JPEG", quality=95))
    (root / "cat/turned.jpg").write_bytes(turned(30, 6))
    (root / "cat/small.png").write_bytes(KINDS[".png"](31))
    data = bytearray(file_bytes(photo(40, 120, 160), "PNG"))
    data[200:260] = b"\0" * 60  # valid at both ends, broken between
    (root / "cat/broken.png").write_bytes(data)
    return root


def test_a_conversion_shrinks_what_is_large_and_keeps_the_rest(large, tmp_path):
    settings = {"input": str(large), "split": {"train": 1}, "max_side": 64, "max_rejected": "1"}
    outcome = convert(Job(output=str(tmp_path / "a"), **settings))
    manifest = outcome.manifest
    assert manifest.rejected == {"undecodable": 1}
    assert outcome.gain.bytes_ratio < 1
    assert manifest.made_by["options"]["max_side"] == 64
    for record in scan(manifest.shard_path(manifest.split("train").shards[0])):
        example = parse_example(record.data)
        (key,), (data,) = example["key"], example["image"]
        found = probe(data)
        assert tuple(example["shape"]) == (found.height, found.width, 3)
        if b"small" in key or b"turned" in key:
            assert data == (large / key.decode()).read_bytes()
        else:
            assert (found.format, found.height, found.width) == ("jpeg", 48, 64)
    convert(Job(output=str(tmp_path / "b"), threads=3, **settings))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_shards_of_shrunk_images_have_the_size_aimed_at(tmp_path):
    (tmp_path / "in/cat").mkdir(parents=True)
    for number in range(40):
        (tmp_path / f"in/cat/{number}.jpg").write_bytes(file_bytes(photo(number, 120, 160), "JPEG", quality=95))
    settings = {"split": {"train": 1}, "max_side": 64, "target_bytes": 8000}
    job = Job(input=str(tmp_path / "in"), output=str(tmp_path / "out"), **settings)
    sizes = [shard.num_bytes for shard in convert(job).manifest.split("train").shards]
    assert len(sizes) > 3
    assert all(8000 * 2 / 3 < size < 8000 * 3 / 2 for size in sizes)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_side": 0}, "--max_side is 0; it must be at least 1"),
        ({"quality": 101}, r"--quality is 101; it must be in \[1, 100\]"),
        ({"max_side": 5, "payload": "decoded"}, "--max_side and --quality go with --payload raw"),
    ],
)
def test_settings_out_of_place_are_refused(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        Job(input="in", output="out", **settings)
