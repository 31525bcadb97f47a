"""How far the pixels of a decoder may be from Pillow's."""

from __future__ import annotations

# Largest difference to Pillow's levels. JPEG: other roundings of the inverse DCT; CMYK: another product of ink and key.
TOLERANCES = {".jpg": 2, "_progressive.jpg": 2, "_gray.jpg": 2, "_turned.jpg": 2, "_cmyk.jpg": 4}
