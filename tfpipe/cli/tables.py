"""Plain tables on stdout: the first column to the left, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of text under a header, in columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        first, *rest = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  " + "  ".join([first.strip().ljust(widths[0]), *rest]))
