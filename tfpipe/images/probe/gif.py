"""GIF: every block is visited, to find the frames, what is said of their colours, and the trailer."""

from __future__ import annotations

import struct
from typing import NamedTuple

from tfpipe.images.probe.header import ImageHeader, check_size, refuse, refuse_format

_FRAME, _EXTENSION, _TRAILER, _CONTROL = 0x2C, 0x21, 0x3B, 0xF9
_MOST_BITS = 8


class _Frame(NamedTuple):
    top: int
    left: int
    height: int
    width: int
    num_colours: int  # 0: there is no table, neither its own nor the file's
    transparent: bool
    code_bits: int


def read_gif(data: bytes) -> ImageHeader:
    """The header of a GIF whose first frame fills its canvas, with opaque colours."""
    canvas_width, canvas_height, flags = struct.unpack_from("<HHB", data, 6)
    try:
        frames, has_empty_extension = _read_blocks(data, flags)
    except (IndexError, struct.error):
        refuse("truncated", f"The GIF is cut: there is no trailer 3B where its blocks end; {len(data)} bytes came.")
    height, width = (max((frame[axis] for frame in frames), default=0) for axis in (2, 3))
    check_size("GIF", height, width, 0xFFFF)
    first = frames[0]
    if not first.num_colours:
        refuse("bad_header", "The GIF has no colour table: nothing says what its pixels look like.")
    # decode_image takes the largest frame for the canvas, and paints transparent pixels black.
    if first[:4] != (0, 0, canvas_height, canvas_width) or (height, width) != (canvas_height, canvas_width):
        refuse_format("GIF with frames off their canvas", pillow="GIF")
    if first.transparent:
        refuse_format("GIF with transparent pixels", pillow="GIF")
    # Of these it says that they are broken.
    if max(frame.code_bits for frame in frames) > _MOST_BITS:
        refuse_format(f"GIF with codes of more than {_MOST_BITS} bits", pillow="GIF")
    if has_empty_extension:
        refuse_format("GIF with an empty extension", pillow="GIF")
    return ImageHeader("gif", canvas_height, canvas_width, 1)


def _read_blocks(data: bytes, screen_flags: int) -> tuple[list[_Frame], bool]:
    """The frames, and whether there is an extension without content; raises an IndexError where the end is missing."""
    frames: list[_Frame] = []
    has_empty_extension = transparent = False
    at = 13 + 3 * _num_colours(screen_flags)
    while data[at] != _TRAILER:
        if data[at] == _FRAME:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            colours = _num_colours(flags)
            at += 11 + 3 * colours
            frames.append(
                _Frame(top, left, height, width, colours or _num_colours(screen_flags), transparent, data[at - 1])
            )
            transparent = False
        elif data[at] == _EXTENSION:
            if data[at + 1] == _CONTROL:
                transparent = bool(data[at + 3] & 1)
            at += 2
            has_empty_extension |= not data[at]
        else:
            raise IndexError
        while block_bytes := data[at]:
            at += block_bytes + 1
        at += 1
    return frames, has_empty_extension


def _num_colours(flags: int) -> int:
    return 2 << (flags & 7) if flags & 0x80 else 0
