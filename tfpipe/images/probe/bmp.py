"""BMP: only the kinds whose pixels tf.io.decode_image returns correctly."""

from __future__ import annotations

import struct

from tfpipe.images.probe.header import ImageHeader, check_size, refuse, refuse_format

_OS2_HEADER_BYTES, _HEADER_BYTES = 12, (40, 52, 56, 64, 108, 124)
_BITFIELDS, _BGR_MASKS = 3, struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)


def read_bmp(data: bytes) -> ImageHeader:
    """The header of a BMP whose length is exactly what its header says."""
    start, header_bytes, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if header_bytes == _OS2_HEADER_BYTES:
        refuse_format("BMP with an OS/2 header", pillow="BMP")
    if header_bytes not in _HEADER_BYTES:
        said = f"The BMP header gives {header_bytes} as its length; known are {_HEADER_BYTES}."
        refuse("bad_header", said, pillow="BMP")
    if start > len(data):
        refuse("truncated", f"The BMP is cut: its pixels begin at byte {start}; {len(data)} came.")
    _check_pixels(data, start, header_bytes, bits, compression)
    size = check_size("BMP", abs(height), width, 2**31 - 1)
    surplus = len(data) - start - abs(height) * ((width * bits + 31) // 32 * 4)
    if surplus < 0:
        refuse("truncated", f"The BMP is cut: {-surplus} bytes are missing; {len(data)} came.")
    if surplus > 0:
        # decode_image rejects even the two zero bytes that some programs append.
        said = f"The BMP is {surplus} bytes longer than its header says; {len(data)} came."
        refuse("bad_header", said, pillow="BMP")
    return ImageHeader("bmp", *size, 1)


def _check_pixels(data: bytes, start: int, header_bytes: int, bits: int, compression: int) -> None:
    # decode_image reads neither the compression nor the palette: it returns wrong pixels for these, without an error.
    bgr = bits == 32 and compression == _BITFIELDS and data.startswith(_BGR_MASKS, 54)
    if bits not in (8, 24, 32) or (compression and not bgr):
        refuse_format(f"BMP of {bits} bits a pixel with compression {compression}", pillow="BMP")
    if bits == 8:
        palette = data[14 + header_bytes : min(start, 14 + header_bytes + 1024)]
        ramp = bytes(range(len(palette) // 4))
        if not palette[0::4] == palette[1::4] == palette[2::4] == ramp:
            refuse_format("BMP with a palette of colours", pillow="BMP")
