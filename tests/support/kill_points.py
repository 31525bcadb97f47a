"""Conversions that are killed just before their n-th change of the output folder, for every n.

Random kills seldom meet the microseconds between two renames; these do. A server process has Beam loaded and forks for
each conversion, so that one takes a tenth of a second.

    with Killer() as killer:
        killer.convert(Job(...), kill_at=17)      # True: it was killed before its 17th change
        killer.convert(Job(...))                  # False: it ran to its end
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pictures import files_of

from beam_jobs.job import Job
from tfpipe.format.manifest import INDEX_NAME, load_manifest
from tfpipe.maintenance.check import check_dataset

TARGET_BYTES = 8_000
_CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"})


class Killer:
    """Runs conversions one by one in processes of their own."""

    def __enter__(self) -> Killer:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=60)

    def convert(self, job: Job, *, kill_at: int | None = None) -> bool:
        """Converts; True where the conversion was killed, False where it went well."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"job": dataclasses.asdict(job), "kill_at": kill_at}) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        assert code in (0, -signal.SIGKILL), code
        return code != 0


def resume_under_fire(killer: Killer, source: Path, output: Path, *, step: int) -> int:
    """Resumes a conversion until it ends, killed each time, but `step` changes later than the time before.

    Returns:
      How often it was killed.
    """
    job = Job(input=str(source), output=str(output), target_bytes=TARGET_BYTES, resume=True)
    kills = 0
    while killer.convert(job, kill_at=1 + step * kills):
        kills += 1
    return kills


def rewrite_under_fire(killer: Killer, source: Path, old: Path, new: Path, *, step: int) -> Counter[str]:
    """Rewrites a dataset by another, killed before each `step`-th change; what is left has to be valid.

    Args:
      killer: runs the conversions.
      source: the images.
      old: a dataset of them.
      new: the dataset that a conversion of them with default options gives.
      step: of the changes.

    Returns:
      How often the old or the new dataset was left, and how often the old with the offsets of the new: in the moment
      between two renames. The digest in the manifest tells, and readers find the offsets by themselves.
    """
    left, output, kill_at = Counter[str](), old.parent / "rewritten", 1
    names = {load_manifest(old).fingerprint(): "old", load_manifest(new).fingerprint(): "new"}
    job = Job(input=str(source), output=str(output), target_bytes=TARGET_BYTES, overwrite=True)
    killed = True
    while killed:
        shutil.copytree(old, output)
        killed = killer.convert(job, kill_at=kill_at)
        name = names[load_manifest(output).fingerprint()]
        problems = check_dataset(load_manifest(output))
        assert {problem.file for problem in problems} <= {INDEX_NAME}, problems
        left[f"{name}, other offsets" if problems else name] += 1
        killer.convert(job)
        assert files_of(output) == files_of(new)
        shutil.rmtree(output)
        kill_at += step
    return left


def _kill_before_change(number: int, output: str) -> None:
    """Has this process kill itself before it opens for writing, renames or removes something for the n-th time."""
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[1], str) and "r" not in arguments[1]
        if (writes or event in _CHANGES) and str(arguments[0]).startswith(output):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _serve() -> None:
    from beam_jobs.convert import convert

    for line in sys.stdin:
        request = json.loads(line)
        request["job"]["beam_args"] = tuple(request["job"]["beam_args"])
        job = Job(**request["job"])
        child = os.fork()
        if child == 0:
            if request["kill_at"] is not None:
                _kill_before_change(request["kill_at"], job.output)
            convert(job)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    import beam_jobs.engines.graphs  # noqa: F401 (loads Beam before the first fork)

    _serve()
