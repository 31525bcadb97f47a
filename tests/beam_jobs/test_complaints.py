"""--verify decode refuses files whose pixels are missing, counts harmless complaints, and leaves stderr to others."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversions import reasons_in, run
from pictures import KINDS, file_bytes, photo
from PIL import Image

from beam_jobs.encode.complaints import find_complaint, listening, missing_scans
from beam_jobs.sources.listing import Refusal
from tfpipe.format.manifest import load_manifest
from tfpipe.quiet import load_tensorflow

PHOTO = photo(1, 120, 160)
JPEG = file_bytes(PHOTO, "JPEG", quality=90)
PROGRESSIVE = file_bytes(PHOTO, "JPEG", quality=90, progressive=True)
RESTARTS = file_bytes(PHOTO, "JPEG", quality=90, restart_marker_rows=1)
SCAN = JPEG.index(b"\xff\xda")
END = b"\xff\xd9"


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def cut(data: bytes, part: float) -> bytes:
    """A JPEG whose last part is missing, with an end marker."""
    return data[: int(part * len(data))].rstrip(b"\xff") + END


def scans_of(data: bytes) -> list[int]:
    at, found = 0, []
    while (at := data.find(b"\xff\xda", at + 1)) > 0:
        found.append(at)
    return found


WRONG_SCAN = changed(JPEG, SCAN + 11, b"\0\0\0")
# What libjpeg complains of, and all pixels are there: name -> (the complaint, its numbers as N, the file).
HARMLESS = {
    "junk before a table": (
        "Corrupt JPEG data: N extraneous bytes before marker N",
        JPEG[:SCAN] + b"junk" + JPEG[SCAN:],
    ),
    "a restart among junk before a table": (
        "Corrupt JPEG data: N extraneous bytes before marker N",
        JPEG[:SCAN] + b"junk\xff\xd0" + JPEG[SCAN:],
    ),
    "wrong numbers": ("Invalid SOS parameters for sequential JPEG", WRONG_SCAN),
    "revision": ("Warning: unknown JFIF revision number N", changed(JPEG, 11, b"\x09")),
    "adobe": (
        "Unknown Adobe color transform code N",
        JPEG[:2] + b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\x07" + JPEG[20:],
    ),
}
# Pixels are missing.
DAMAGED = {
    "cut": cut(JPEG, 0.6),
    "cut by little": JPEG[:-40] + END,
    "no pixels": JPEG[: SCAN + 14] + END,
    "cut progressive": cut(PROGRESSIVE, 0.9),
    "progressive without its last scans": PROGRESSIVE[: scans_of(PROGRESSIVE)[4]] + END,
    "progressive with its first scan": PROGRESSIVE[: scans_of(PROGRESSIVE)[1]] + END,
    "cut with restarts": cut(RESTARTS, 0.5),
    "a lost restart": RESTARTS.replace(b"\xff\xd2", b"\xff\xd4", 1),
    "overwritten": changed(JPEG, len(JPEG) // 2, b"\x12" * 60),
    "cut, and wrong numbers hide it": cut(WRONG_SCAN, 0.6),
    "cut, and a revision hides it": cut(changed(JPEG, 11, b"\x09"), 0.6),
    "cut, and junk hides it": cut(JPEG[:SCAN] + b"junk" + JPEG[SCAN:], 0.6),
}


def decode(data: bytes) -> None:
    load_tensorflow()
    import tensorflow as tf

    tf.io.decode_jpeg(data, channels=3)


def complaint_of(data: bytes) -> str | None:
    with listening() as heard:
        decode(data)
        has_complaint = bool(heard())
    return find_complaint(data, decode) if has_complaint else None


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_complaints_are_named(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    complaint, data = HARMLESS[name]
    assert complaint_of(data) == complaint
    assert missing_scans(data) is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", DAMAGED)
def test_missing_pixels_are_refused_also_behind_a_harmless_complaint(name: str) -> None:
    data = DAMAGED[name]
    assert np.asarray(Image.open(io.BytesIO(data))).shape == (120, 160, 3)  # Pillow takes it without a word.
    if missing_scans(data) is None:
        with pytest.raises(Refusal) as caught:
            complaint_of(data)
        assert caught.value.reason == "corrupt_pixels"
        assert caught.value.detail.startswith("Pixels are missing or wrong; libjpeg says: ")


def test_a_sound_file_has_no_complaint_and_all_scans() -> None:
    for data in (JPEG, PROGRESSIVE, RESTARTS, KINDS["_cmyk.jpg"](1), KINDS["_gray.jpg"](1), JPEG + b"behind"):
        assert complaint_of(data) is None
        assert missing_scans(data) is None


def test_scans_that_are_left_out_are_counted() -> None:
    first = PROGRESSIVE[: scans_of(PROGRESSIVE)[1]] + END
    # Of 64 frequencies of three components only the lowest came, without its last bit.
    assert missing_scans(first) == "its scans leave out bits of 192 of the 192 frequencies of its components"
    whole = scans_of(PROGRESSIVE)
    assert missing_scans(PROGRESSIVE[: whole[-1]] + END) == (
        "its scans leave out bits of 63 of the 192 frequencies of its components"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in/cat"
    root.mkdir(parents=True)
    for name, (_, data) in HARMLESS.items():
        (root / f"{name}.jpg").write_bytes(data)
    for name, data in DAMAGED.items():
        (root / f"{name}.jpg").write_bytes(data)
    (root / "good.jpg").write_bytes(JPEG)
    return tmp_path / "in"


@pytest.mark.parametrize(
    "options",
    [
        {"verify": "decode"},
        {"verify": "decode", "threads": 4},
        {"payload": "decoded", "dtype": "uint8", "threads": 4},
        {"payload": "decoded", "dtype": "uint8", "image_size": (32, 32)},
        {"quality": 80},
    ],
    ids=["verify", "four threads", "decoded", "resized", "shrunk"],
)
def test_wherever_images_are_decoded_missing_pixels_are_refused_and_complaints_are_counted(
    folder: Path, tmp_path: Path, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = run(folder, tmp_path / "out", **options).manifest
    assert manifest is not None
    assert reasons_in(tmp_path / "out") == {f"cat/{name}.jpg": "corrupt_pixels" for name in DAMAGED}
    assert manifest.made_by["complaints"] == Counter(complaint for complaint, _ in HARMLESS.values())
    named = {key for keys in manifest.made_by["complaints_keys"].values() for key in keys}
    assert named == {f"cat/{name}.jpg" for name in HARMLESS}
    assert not [line for line in capfd.readouterr().err.splitlines() if "JPEG" in line or "JFIF" in line]


def test_without_decoding_nothing_is_said_and_all_are_taken(folder: Path, tmp_path: Path) -> None:
    manifest = run(folder, tmp_path / "out").manifest
    assert manifest is not None
    assert manifest.num_records() == len(HARMLESS) + len(DAMAGED) + 1
    assert "complaints" not in manifest.made_by


def test_the_summary_names_complaints(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tfpipe", "convert", "--input", folder, "--output", tmp_path / "out"]
    done = subprocess.run([*command, "--verify", "decode", "--max_rejected", "90%"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = Counter(complaint for complaint, _ in HARMLESS.values())
    said = ", ".join(f"{count} {complaint}" for complaint, count in sorted(counts.items()))
    assert f"Complaints of libjpeg, harmless: {said}" in done.stdout
    assert "JPEG" not in done.stderr
    assert load_manifest(tmp_path / "out").made_by["complaints"]


# ---- other formats: their decoders say no
def test_other_files_that_lack_pixels_are_undecodable(tmp_path: Path) -> None:
    root = tmp_path / "in/cat"
    root.mkdir(parents=True)
    png, gif, webp = (file_bytes(Image.fromarray(PHOTO).convert(mode), format) for mode, format in
                      (("RGB", "PNG"), ("P", "GIF"), ("RGB", "WEBP")))  # fmt: skip
    at = png.index(b"IDAT")
    frame = gif.rindex(b"," + bytes(4)) + 11
    short_webp = webp[: len(webp) // 2 & ~1]
    (root / "flipped.png").write_bytes(changed(png, at + 200, bytes([png[at + 200] ^ 1])))
    (root / "cut.gif").write_bytes(gif[:frame] + gif[frame : frame + 256] + b"\0;")
    (root / "cut.webp").write_bytes(
        b"RIFF" + (len(short_webp) - 8).to_bytes(4, "little") + b"WEBPVP8 "
        + (len(short_webp) - 20).to_bytes(4, "little") + short_webp[20:]
    )  # fmt: skip
    (root / "good.png").write_bytes(png)
    run(tmp_path / "in", tmp_path / "out", verify="decode")
    assert reasons_in(tmp_path / "out") == {f"cat/{name}": "undecodable" for name in
                                            ("flipped.png", "cut.gif", "cut.webp")}  # fmt: skip


# ---- stderr
def test_lines_of_others_reach_stderr_in_order_while_libjpeg_s_do_not(capfd: pytest.CaptureFixture[str]) -> None:
    with listening() as heard:
        os.write(2, b"one\n")
        os.write(2, b"Corrupt JPEG data: premature end of data segment\n")
        with listening():
            os.write(2, b"two\nTIFFReadDirectory: Warning, junk.\n")
            assert capfd.readouterr().err == ""
        assert capfd.readouterr().err == "one\ntwo\n"
        assert heard() == [b"Corrupt JPEG data: premature end of data segment"]
        print("three", file=sys.stderr)
    os.write(2, b"Corrupt JPEG data: later\n")
    assert capfd.readouterr().err.endswith("Corrupt JPEG data: later\n")


def test_one_who_listens_alone_waits_for_the_others() -> None:
    order: list[str] = []
    began, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with listening():
            began.set()
            go_on.wait(10)
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    began.wait(10)
    threading.Timer(0.2, go_on.set).start()
    with listening(alone=True) as heard:
        order.append("alone")
        assert heard() == []
    thread.join()
    assert order == ["other", "alone"]
