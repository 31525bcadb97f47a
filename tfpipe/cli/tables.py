"""Plain tables on stdout: the first column aligned left, the others right."""

from __future__ import annotations

from collections.abc import Sequence

from tfpipe.format.manifest import Manifest
from tfpipe.format.sharding import megabytes


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of text under a header, in columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        first, *rest = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  " + "  ".join([first.strip().ljust(widths[0]), *rest]))


def print_split_table(manifest: Manifest) -> None:
    """Prints a line for each split: records, shards, size, and the range of shard sizes."""
    rows = []
    for name, split in manifest.splits.items():
        sizes = [shard.num_bytes for shard in split.shards]
        span = f"{megabytes(min(sizes))}-{megabytes(max(sizes))}" if sizes else "-"
        rows.append([name, f"{split.num_records:,}", f"{len(sizes):,}", megabytes(split.num_bytes), span])
    print_table(["split", "records", "shards", "MB", "MB per shard"], rows)


def print_notes(notes: Sequence[str]) -> None:
    """Prints what a user should know, a line each."""
    for line in notes:
        print(f"Note: {line}")
