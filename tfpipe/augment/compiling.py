"""Keeping compiled programs between runs: a second start does not compile them again.

    tfpipe.compile_cache("~/.cache/tfpipe_xla")      # before anything of TensorFlow runs

XLA writes each program that it compiles into the folder, for the CPU as well as for a GPU, and reads it back where the
program, TensorFlow's version and the kind of device are the same.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tfpipe.errors import UsageError
from tfpipe.tf_internals import has_read_flags

_VARIABLE = "TF_XLA_FLAGS"
_FLAG = "--tf_xla_persistent_cache_directory="


def compile_cache(path: str | os.PathLike[str]) -> None:
    """Has XLA keep compiled programs in a folder, and take from there what an earlier process compiled.

    It sets the environment variable TF_XLA_FLAGS, which TensorFlow reads once, when it first looks for devices; so it
    comes before any tensor, dataset or layer, and before tf.config.list_physical_devices. Processes that this one
    starts inherit it.

    Args:
      path: of a local folder, which is made where it is missing. What is in it is run as code: keep it where only you
        can write.

    Raises:
      UsageError: TensorFlow has looked for devices already, another folder is set, others may write to the folder, or
        its name has a space, which the variable cannot hold.
    """
    folder = Path(os.path.abspath(Path(path).expanduser()))
    flags = os.environ.get(_VARIABLE, "").split()
    kept = [flag.removeprefix(_FLAG) for flag in flags if flag.startswith(_FLAG)]
    if kept == [str(folder)]:
        return
    _check(folder, kept)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & stat.S_IWOTH:
        raise UsageError(
            f"Everybody may write to {folder}, and what is in it is run as code: take a folder of your own."
        )
    os.environ[_VARIABLE] = " ".join([*flags, _FLAG + str(folder)])


def _check(folder: Path, kept: list[str]) -> None:
    if kept:
        raise UsageError(f"{_VARIABLE} already keeps compiled programs in {kept[0]}; {folder} was asked for.")
    if len(str(folder).split()) != 1:
        raise UsageError(f"The folder of compiled programs has no space in its name; got {str(folder)!r}.")
    if has_read_flags():
        raise UsageError(
            "TensorFlow has read its flags already: call compile_cache before anything else of TensorFlow, or start "
            f'Python with {_VARIABLE}="{_FLAG}{folder}".'
        )
