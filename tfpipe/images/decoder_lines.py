"""What image libraries print while they decode: kept from stderr, and told to who decodes.

libjpeg has no way to ask: it prints its first complaint of a file to stderr, fills what is missing with gray, and goes
on. So stderr is held back while images are decoded, and other lines are passed on.

    with listening() as heard:
        pixels = decode(data)
    lines = heard()
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

# The beginnings of all that its decoder prints: complaints, and the errors that TensorFlow raises too.
_LIBJPEG = re.compile(
    rb"Corrupt |Premature end of|Invalid (SOS|JPEG|progressive|scan|memory|component|color|crop)|Warning: unknown"
    rb"|Unknown Adobe|Inconsistent prog|Application transferred|Improper call to JPEG|Input file read error"
    rb"|Empty (JPEG|in)|Not a JPEG|Unsupported (JPEG|marker|color)|Bogus |Missing Huffman|Huffman table|Quantization"
    rb"|Arithmetic table|Sampling factors|Image too|Insufficient memory|Maximum supported|Cannot |CCIR601|DCT |IDCT "
    rb"|Define |JPEG (data|param)|Component index|Requested feature|Didn't expect|Unexpected |Suspension not|Too many"
    rb"|Wrong JPEG|Data precision|Unrecognized comp|Backing store|Sorry, |.*jpeg_mem\.cc:\d+\]"
)
# TIFF files come to Pillow only, whose errors become refusals.
_LIBTIFF = re.compile(rb"_?TIFF\w+: |_tiff\w+: |tempfile\.tif: |.* samples per pixel than can be decoded")


class _Stderr:
    """The process's stderr, held back while somebody listens; one who listens alone has it to himself."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._listeners = 0
        self._is_alone = False
        self._held = self._real = -1
        self._passed = 0

    def enter(self, *, alone: bool) -> int:
        """Begins to listen; returns the position from which on lines are new."""
        with self._turn:
            self._turn.wait_for(lambda: not self._is_alone and not (alone and self._listeners))
            if not self._listeners:
                self._hold()
            self._listeners += 1
            self._is_alone = alone
            return os.fstat(self._held).st_size

    def lines(self, since: int) -> list[bytes]:
        """Libjpeg's lines since a position."""
        size = os.fstat(self._held).st_size - since
        found = os.pread(self._held, size, since).splitlines() if size else []
        return [line for line in found if _LIBJPEG.match(line)]

    def leave(self) -> None:
        """Ends to listen, and passes on what is no library's."""
        with self._turn:
            self._pass_on()
            self._listeners -= 1
            self._is_alone = False
            if not self._listeners:
                os.dup2(self._real, 2)
                os.close(self._real)
                os.close(self._held)
            self._turn.notify_all()

    def _hold(self) -> None:
        self._passed = 0
        self._held, self._real = os.memfd_create("stderr"), os.dup(2)
        os.dup2(self._held, 2)

    def _pass_on(self) -> None:
        if sys.stderr is not None:
            with contextlib.suppress(ValueError, OSError):
                sys.stderr.flush()
        size = os.fstat(self._held).st_size - self._passed
        if size:
            lines = os.pread(self._held, size, self._passed).splitlines(keepends=True)
            self._passed += size
            os.write(self._real, b"".join(line for line in lines if not (_LIBJPEG.match(line) or _LIBTIFF.match(line))))


_STDERR = _Stderr()


@contextlib.contextmanager
def listening(*, alone: bool = False) -> Iterator[Callable[[], list[bytes]]]:
    """Holds stderr back during the block; yields a function that gives libjpeg's lines so far, of whatever file."""
    since = _STDERR.enter(alone=alone)
    try:
        yield lambda: _STDERR.lines(since)
    finally:
        _STDERR.leave()
