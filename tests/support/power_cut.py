"""Power cuts at every moment of a command: what was not synced is lost, garbled or kept, as the disk likes.

A command runs in a process of its own. Before each of its changes of a folder, and around each fsync, the process
notes the names and bytes that programs see, and those that the disk is sure to have: the bytes of a file as of its last
fsync, the names in a folder as of the folder's last. After a cut the disk has those, and of the rest anything.

    moments = record(["convert", "--input", photos, "--output", root / "out"], root)
    for tree in trees_after_cut(moments[17], draws=2):
        plant(tree, elsewhere)

A double of a disk, harsher than most: real ones keep more, and in better order. tests/faults has cuts of a real one.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kill_points import TARGET_BYTES, Killer
from pictures import files_of

from beam_jobs.job import Job
from tfpipe.format.manifest import INDEX_NAME, STATE_NAME, load_manifest
from tfpipe.maintenance.check import check_dataset

Names = dict[int, dict[str, int]]
Bytes = dict[int, bytes]
# For every path below the root its bytes, or None for a folder.
Tree = dict[str, bytes | None]

_ROOT = 0
_CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"})
_DEADLINE_SECONDS = 300


@dataclass(frozen=True)
class Moment:
    """Files and folders have numbers, as inodes have; a folder's names lead to them, and the root is number 0.

    Attributes:
      names: of each folder, as programs see them.
      contents: the bytes of each file, as programs see them.
      synced_names: of each folder that was synced, as of then.
      synced_contents: of each file that was synced, as of then.
      folders: the numbers that are folders, those that were removed too.
    """

    names: Names
    contents: Bytes
    synced_names: Names
    synced_contents: Bytes
    folders: frozenset[int]


def record(command: Sequence[Any], root: Path, *, is_synced: bool = True, exit_code: int = 0) -> list[Moment]:
    """Runs a command of tfpipe, and returns every moment of its work below a folder; the last is that of its end.

    Args:
      command: the verb and its arguments.
      root: the folder; it is there before.
      is_synced: whether what is in it before is on the disk.
      exit_code: that the command has to end with.
    """
    result = root.with_name(f"{root.name}.moments")
    arguments = [str(root), str(result), str(int(is_synced)), *map(str, command)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE_SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == exit_code, done.stderr
    moments: list[Moment] = pickle.loads(result.read_bytes())
    result.unlink()
    return moments


# ---- after the cut


def trees_after_cut(moment: Moment, *, draws: int, seed: int = 0) -> Iterator[Tree]:
    """Yields what a disk may have after a power cut: three extremes, and `draws` random ones."""
    yield _tree(moment, lambda synced, seen: synced, lambda synced, seen: bytes(len(seen)))
    yield _tree(moment, lambda synced, seen: seen, lambda synced, seen: bytes(len(seen)))
    yield _tree(moment, lambda synced, seen: seen, lambda synced, seen: synced or b"")
    draw = random.Random(seed)
    for _ in range(draws):
        yield _tree(
            moment,
            lambda synced, seen: draw.choice((synced, seen)),
            lambda synced, seen: draw.choice((synced or b"", bytes(len(seen)), seen[: len(seen) // 2], seen)),
        )


def _tree(
    moment: Moment,
    choose_name: Callable[[int | None, int | None], int | None],
    choose_bytes: Callable[[bytes | None, bytes], bytes],
) -> Tree:
    """What is left, by a choice for each name and content that the disk is not sure to have."""
    tree: Tree = {}
    chosen: Bytes = {}  # A file with several names has one content.

    def content_of(number: int) -> bytes:
        synced, seen = moment.synced_contents.get(number), moment.contents.get(number)
        if number not in chosen:
            # A file that was removed keeps what was synced, until its name is gone too.
            content = (synced or b"") if seen is None or synced == seen else choose_bytes(synced, seen)
            chosen[number] = content
        return chosen[number]

    def fill(folder: int, prefix: str) -> None:
        synced, seen = moment.synced_names.get(folder, {}), moment.names.get(folder, {})
        for name in sorted({*synced, *seen}):
            old, new = synced.get(name), seen.get(name)
            number = old if old == new else choose_name(old, new)
            if number is None:
                continue
            is_folder = number in moment.folders
            tree[prefix + name] = None if is_folder else content_of(number)
            if is_folder:
                fill(number, f"{prefix}{name}/")

    fill(_ROOT, "")
    return tree


def plant(tree: Tree, root: Path) -> None:
    """Writes a tree below a folder."""
    for name, content in tree.items():
        path = root / name
        if content is None:
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@dataclass
class Aftermath:
    """What cuts left behind: how often each thing that is sound, and a line for each that is not."""

    left: Counter[str]
    unsound: list[str]


def survey_moments(
    moments: Sequence[Moment], root: Path, check: Callable[[bool], str], *, step: int = 1, draws: int = 2
) -> Aftermath:
    """Cuts the power at every `step`-th moment and at the last, and has each different result checked.

    Args:
      moments: of a command.
      root: the folder to plant results in, one after the other.
      check: looks at the folder; takes whether the command had ended, and returns a name of what is left. An
        AssertionError says that it is not sound.
      step: of the moments.
      draws: how many random results of each cut are checked, besides the extremes.
    """
    survey, seen = Aftermath(Counter(), []), set[str]()
    for number in sorted({*range(0, len(moments), step), len(moments) - 1}):
        is_last = number == len(moments) - 1
        for tree in trees_after_cut(moments[number], draws=draws, seed=number):
            identity = repr((is_last, sorted(tree.items())))
            if identity in seen:
                continue
            seen.add(identity)
            plant(tree, root)
            try:
                survey.left[check(is_last)] += 1
            except AssertionError as error:
                survey.unsound.append(f"moment {number}: {str(error)[:300]}")
            shutil.rmtree(root, ignore_errors=True)
    return survey


def check_left(output: Path, names: Mapping[str, str], *, offsets: bool = True) -> str:
    """The name of the dataset that is left, by its fingerprint; "none" where there is no manifest.

    With `offsets`, an old dataset may be beside the offsets of the new one: readers notice, and read the shards.
    """
    try:
        manifest = load_manifest(output)
    except FileNotFoundError:
        return "none"
    except ValueError as error:
        raise AssertionError(f"the manifest is damaged: {error}") from error
    assert manifest.fingerprint() in names, "neither the old nor the new"
    name = names[manifest.fingerprint()]
    problems = check_dataset(manifest)
    assert {problem.file for problem in problems} <= ({INDEX_NAME} if name == "old" and offsets else set()), problems
    return name


def cut_conversion(
    killer: Killer, photos: Path, new: Path, root: Path, *flags: str, step: int, every: int, old: Path | None = None
) -> Aftermath:
    """Cuts the power in a conversion, and has the next run finish some of what is left.

    Args:
      killer: runs the next conversions.
      photos: the images.
      new: the dataset that an undisturbed conversion of them gives.
      root: a folder that does not exist yet.
      flags: of the conversion.
      step: of the moments.
      every: finish one in so many of what is left.
      old: the dataset that it overwrites.
    """
    output = root / "out"
    root.mkdir()
    if old is not None:
        shutil.copytree(old, output)
    verb = ["convert", "--input", photos, "--output", output, "--target_bytes", TARGET_BYTES, "--threads", 1]
    moments = record([*verb, *flags, *([] if old is None else ["--overwrite"])], root)
    shutil.rmtree(root)
    names = {load_manifest(folder).fingerprint(): name for folder, name in ((old, "old"), (new, "new")) if folder}
    job = Job(input=str(photos), output=str(output), target_bytes=TARGET_BYTES, resume=True)

    checks = itertools.count()

    def check(ended: bool) -> str:
        left = check_left(output, names)
        assert left == "new" or not ended, "the command had ended, and its dataset is not there"
        assert left != "none" or old is None, "the old dataset is gone"
        if next(checks) % every:
            return left
        # An unfinished rewrite can be resumed, too.
        resumable = left == "new" or (output / STATE_NAME / "plan.json").exists() or old is None
        killer.convert(job if resumable else dataclasses.replace(job, resume=False, overwrite=True))
        assert files_of(output) == files_of(new), "the next run ends with other bytes"
        return left

    return survey_moments(moments, root, check, step=step)


# ---- the process that is watched


class _Recorder:
    """Notes the moments of this process's work below a folder."""

    def __init__(self, root: Path, *, is_synced: bool) -> None:
        self._root = str(root)
        self.moments: list[Moment] = []
        self._numbers: dict[tuple[int, int], int] = {}  # of each inode; a freed one gets a new number when it is reused
        self._next = _ROOT
        self._pool: dict[bytes, bytes] = {}
        self._synced_names: Names = {}
        self._synced_contents: Bytes = {}
        self._folders = frozenset[int]()
        self._lock, self._busy = threading.RLock(), False
        names, contents = self._look()
        if is_synced:
            self._synced_names, self._synced_contents = names, contents
        self._sync = os.fsync
        os.fsync = self._fsync
        sys.addaudithook(self._watch)

    def note(self) -> None:
        """Notes this moment, if it differs from the last."""
        with self._lock:
            names, contents = self._look()
            self._folders |= frozenset(names)
            moment = Moment(names, contents, dict(self._synced_names), dict(self._synced_contents), self._folders)
            if not self.moments or self.moments[-1] != moment:
                self.moments.append(moment)

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if (writes or event in _CHANGES) and str(arguments[0]).startswith(self._root):
            with self._lock:
                if not self._busy:
                    self._busy = True
                    self.note()
                    self._busy = False

    def _fsync(self, handle: int) -> None:
        with self._lock:
            path = os.readlink(f"/proc/self/fd/{handle}")
            if path.startswith(self._root):
                self.note()
                status = os.fstat(handle)
                number = self._numbers[status.st_dev, status.st_ino]
                names, contents = self._look()
                if number in names:
                    self._synced_names[number] = names[number]
                else:
                    self._synced_contents[number] = contents[number]
                self.note()
        self._sync(handle)

    def _look(self) -> tuple[Names, Bytes]:
        """The names and contents of this moment."""
        names: Names = {}
        contents: Bytes = {}
        seen: dict[tuple[int, int], int] = {}

        def number_of(entry: os.DirEntry[str] | Path) -> int:
            status = entry.stat()
            key = status.st_dev, status.st_ino
            if key not in seen:
                if key in self._numbers:
                    seen[key] = self._numbers[key]
                else:
                    seen[key], self._next = self._next, self._next + 1
            return seen[key]

        def walk(path: str, number: int) -> None:
            here = names[number] = {}
            with os.scandir(path) as found:
                for entry in sorted(found, key=lambda entry: entry.name):
                    here[entry.name] = child = number_of(entry)
                    if entry.is_dir():
                        walk(entry.path, child)
                    else:
                        data = Path(entry.path).read_bytes()
                        contents[child] = self._pool.setdefault(data, data)

        walk(self._root, number_of(Path(self._root)))
        self._numbers = seen
        return names, contents


def _main(root: str, result: str, is_synced: str, *command: str) -> None:
    from tfpipe.cli import main

    recorder = _Recorder(Path(root), is_synced=bool(int(is_synced)))
    sys.argv = ["tfpipe", *command]
    try:
        main()
    finally:
        recorder.note()
        Path(result).write_bytes(pickle.dumps(recorder.moments))


if __name__ == "__main__":
    # Under its own name, so that the moments are of the class that the test knows.
    import power_cut

    power_cut._main(*sys.argv[1:])
