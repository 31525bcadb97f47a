"""The memory that is free here: that of the machine, and of every control group that limits this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Below the root of control groups: the folder of a version's memory groups, the files with limit and use, and the entry
# of memory.stat that counts page cache.
_VERSIONS = (
    (".", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(*, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The bytes that this process can still take without swapping: the least of what machine and container have free.

    Args:
      proc: where the kernel tells of memory and of this process.
      groups: where control groups are.
    """
    return min([_machine_free(proc), *_groups_free(proc, groups)])


def _machine_free(proc: Path) -> int:
    """The bytes that the machine has free; only unused pages count where the system says no more."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups_free(proc: Path, groups: Path) -> Iterator[int]:
    """Yields what each control group of this process has free, its page cache counted as free.

    In a container the root of the groups is its own group; elsewhere the limits of all groups above hold too.
    """
    for (folder, limit, usage, cache), path in zip(_VERSIONS, _own_groups(proc), strict=True):
        root = groups / folder
        for group in {root, root / path, *(root / path).parents}:
            if not group.is_relative_to(root):
                continue
            try:
                most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
                pairs = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            if most != "max":
                yield max(0, int(most) - used + int(pairs.get(cache, 0)))


def _own_groups(proc: Path) -> list[str]:
    """The paths of this process's groups below the roots of versions 2 and 1; "" where it has none."""
    found = ["", ""]
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            found[bool(controllers)] = path.strip("/")
    return found
