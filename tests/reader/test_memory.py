"""The free memory: the least that the machine and any control group above this process leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfpipe.reader.memory import free_memory

MACHINE = 9_000 * 1024


def machine(root: Path, own: str) -> dict[str, Path]:
    """A machine with 9,000 kB free, and a process in the groups of these lines."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 99000 kB\nMemFree: 10 kB\nMemAvailable: 9000 kB\n")
    (root / "proc/self/cgroup").write_text(own)
    (root / "groups").mkdir()
    return {"proc": root / "proc", "groups": root / "groups"}


def group(folder: Path, limit: object, used: int, cached: int, *, version: int = 2) -> None:
    """Writes the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    entry = "inactive_file" if version == 2 else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 100\n{entry} {cached}\nactive_file 7\n")


def test_without_groups_it_is_the_machine_s(tmp_path: Path) -> None:
    assert free_memory(**machine(tmp_path, "0::/\n")) == MACHINE
    assert free_memory(proc=tmp_path / "proc", groups=Path("/nowhere")) == MACHINE


def test_without_a_word_of_the_kernel_it_is_the_unused_pages() -> None:
    assert free_memory(proc=Path("/nowhere"), groups=Path("/nowhere")) > 0


@pytest.mark.parametrize(
    ("limit", "free"),
    [(1000, 800), ("max", MACHINE), (10**12, MACHINE), (100, 0)],
    ids=["limit", "max", "more", "full"],
)
def test_a_container_s_limit_counts_its_page_cache_as_free(tmp_path: Path, limit: object, free: int) -> None:
    places = machine(tmp_path, "0::/\n")
    group(tmp_path / "groups", limit, 700, 500)
    assert free_memory(**places) == free


@pytest.mark.parametrize(("limit", "free"), [(1000, 800), (9223372036854771712, MACHINE)], ids=["limit", "none"])
def test_version_1_s_limit_too(tmp_path: Path, limit: int, free: int) -> None:
    places = machine(tmp_path, "12:memory:/docker/abc\n3:cpu,cpuacct:/\n0::/\n")
    group(tmp_path / "groups/memory", limit, 700, 500, version=1)  # in a container: its own group, as the root
    assert free_memory(**places) == free


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("limited", ["jobs.slice", "jobs.slice/train.scope"])
def test_any_group_above_the_process_limits_it(tmp_path: Path, version: int, limited: str) -> None:
    path = "jobs.slice/train.scope"
    places = machine(tmp_path, f"0::/{path}\n" if version == 2 else f"4:memory:/{path}\n0::/other\n")
    root = tmp_path / "groups" if version == 2 else tmp_path / "groups/memory"
    group(root / path, "max" if version == 2 else 10**15, 0, 0, version=version)
    group(root / "elsewhere", 1, 0, 0, version=version)
    group(root / limited, 5_000, 2_000, 30, version=version)
    assert free_memory(**places) == 3_030
