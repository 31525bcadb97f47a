"""Folders and listings that a test writes, and the entries that a source lists."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.sources import Entry, LeftOut, Listed, open_source


def entries_of(location: Path, limit: int | None = None) -> list[Entry]:
    """The entries of all pieces, as a worker gets them: through pickle."""
    source = pickle.loads(pickle.dumps(open_source(str(location))))
    return [entry for piece in source.pieces(limit) for entry in source.entries(pickle.loads(pickle.dumps(piece)))]


def listed(location: Path, limit: int | None = None) -> dict[str, Any]:
    """Key to label for what can be read, to reason for what is refused."""
    found = [entry for entry in entries_of(location, limit) if not isinstance(entry, LeftOut)]
    outcome = {entry.key: entry.label if isinstance(entry, Listed) else entry.reason for entry in found}
    assert len(outcome) == len(found)
    return outcome


def touch(root: Path, *names: str, content: bytes = b"x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def csv_file(root: Path, content: str | bytes) -> Path:
    touch(root, "a.jpg", "b.jpg", "c,d.jpg", "größe.jpg", "sub/e.jpg")
    path = root / "list.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def row_file(root: Path, rows: list[Any], kind: str = "jsonl") -> Path:
    """A listing of rows; in JSON lines a row may be a text, which is written as it is."""
    touch(root, "a.jpg", "b.jpg", "größe.jpg", "sub/e.jpg")
    path = root / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
        return path
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    return path
