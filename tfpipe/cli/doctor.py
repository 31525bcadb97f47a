"""Says what this machine offers tfpipe: versions, devices, memory and cores, and the extras that are missing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from tfpipe import __version__
from tfpipe.cli.progress import status
from tfpipe.cli.tables import print_table
from tfpipe.quiet import load_tensorflow

EXAMPLES = """examples:
  tfpipe doctor
      exit 0 if all is well, else 3 with what to do, a line each
  tfpipe doctor --json
      for a bug report
"""
_CORE = ("tensorflow", "keras", "numpy", "protobuf", "absl-py", "google-crc32c", "xxhash", "rich")
# What each extra is for; its packages are those of setup.cfg.
_EXTRAS = {
    "beam": "converting",
    "hub": "embeddings by a TF-Hub handle",
    "report": "report, show -o, gallery, bench --plot",
    "search": "searching policies",
    "dask": "converting on Dask",
    "gpu": "how busy a GPU is, in bench --fit",
    "gcp": "gs:// paths",
    "aws": "s3:// paths",
}
# Packages that are installed over each other: their modules have one name.
_RIVALS = (("keras", "keras-nightly"), ("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-intel"))
_CGROUP = Path("/sys/fs/cgroup")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no options of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints what was found; returns 3 if something is wrong."""
    with status("starting TensorFlow", quiet=arguments.json):
        document = examine()
    if arguments.json:
        print(json.dumps(document))
    else:
        _print(document)
    return 3 if document["problems"] else 0


def examine() -> dict[str, Any]:
    """The facts and problems of this machine, as plain JSON values."""
    installed = {name: _version(name) for name in _CORE}
    installed["keras"] = installed["keras"] or _version("keras-nightly")  # what a TensorFlow pre-release brings
    missing = {extra: packages for extra in _EXTRAS if (packages := missing_packages(extra))}
    devices, failure = _devices()
    problems = [f"{name} is not installed: pip install --upgrade tfpipe." for name in _CORE if installed[name] is None]
    if _version("tfpipe") is None:
        problems.append("tfpipe is read from a folder and is not installed: pip install --editable that folder.")
    problems += [
        f"{' and '.join(found)} lie over each other: pip uninstall {' '.join(found)}, then pip install one of them."
        for rivals in _RIVALS
        if len(found := [name for name in rivals if _version(name)]) > 1
    ]
    if failure:
        problems.append(f"TensorFlow does not start: {failure}")
    return {
        "tfpipe": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": installed,
        "devices": devices,
        "cores": {"usable": len(os.sched_getaffinity(0)), "machine": os.cpu_count(), "container": _container_cores()},
        "memory_bytes": {"machine": _machine_memory(), "container": _container_memory()},
        "shared_memory_bytes": _free_bytes("/dev/shm"),
        "temporary_folder": {"path": _temporary(), "free_bytes": _free_bytes(_temporary())},
        "missing_extras": missing,
        "problems": problems,
    }


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra of tfpipe that are not installed."""
    found = []
    for line in (_version("tfpipe") and requires("tfpipe")) or ():
        requirement, _, marker = line.partition(";")
        if f'extra == "{extra}"' in marker.replace("'", '"'):
            name = requirement.strip()
            for separator in "[<>=!~ (":
                name = name.partition(separator)[0]
            if name != "tfpipe" and _version(name) is None:
                found.append(name)
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> tuple[list[dict[str, str]], str]:
    """The devices that TensorFlow sees, and the reason where it can't be loaded."""
    try:
        load_tensorflow()
        import tensorflow as tf

        return [
            {"name": device.name, "kind": device.device_type, "model": _device_model(tf, device)}
            for device in tf.config.list_physical_devices()
        ], ""
    except Exception as error:  # A broken installation raises anything.
        return [], f"{type(error).__name__}: {error}".splitlines()[0]


def _device_model(tf: Any, device: Any) -> str:
    if device.device_type != "GPU":
        return platform.processor() or platform.machine()
    return str(tf.config.experimental.get_device_details(device).get("device_name", "unknown"))


# ---- limits


def _container_memory() -> int | None:
    """The memory that the control group allows, in bytes; None where it sets no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(_CGROUP / name)
        # Version 1 writes a number of pages close to 2**63 for no limit.
        if text.isdecimal() and int(text) < 1 << 60:
            return int(text)
    return None


def _container_cores() -> float | None:
    """The CPU time that the control group allows, in cores; None where it sets no limit."""
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(_CGROUP / "cpu/cpu.cfs_quota_us"), _read(_CGROUP / "cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _temporary() -> str:
    return os.environ.get("TMPDIR", "/tmp")


def _free_bytes(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


# ---- printing


def _print(document: dict[str, Any]) -> None:
    rows = [["tfpipe", document["tfpipe"]], ["python", f"{document['python']} ({sys.executable})"]]
    rows += [[name, number or "not installed"] for name, number in document["packages"].items()]
    print_table(["package", "version"], rows)
    cores, memory = document["cores"], document["memory_bytes"]
    limit = f", {cores['container']:g} by the container" if cores["container"] else ""
    print(f"Cores: {cores['usable']} of {cores['machine']}{limit}")
    limit = f", {memory['container'] / 1e9:.1f} GB by the container" if memory["container"] else ""
    print(f"Memory: {memory['machine'] / 1e9:.1f} GB{limit}")
    for device in document["devices"]:
        print(f"Device: {device['name']} {device['model']}".rstrip())
    for extra, packages in document["missing_extras"].items():
        print(f"For {_EXTRAS[extra]}: pip install 'tfpipe[{extra}]' (missing: {', '.join(packages)})")
    for problem in document["problems"]:
        print(f"Problem: {problem}")
    if not document["problems"]:
        print("No problems.")
