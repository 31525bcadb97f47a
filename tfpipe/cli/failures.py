"""From an error to an exit code and one line: what happened, by whose doing.

Errors of tfpipe's own carry their exit code. Of the others the environment's are known by their class: a disk without
room, a file that may not be read, a missing package. Whatever remains was expected by nobody, and exits with 70.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import traceback
from collections.abc import Callable, Collection
from typing import TextIO

from tfpipe.errors import DataError, SetupError, UsageError

UNEXPECTED, INTERRUPTED = 70, 130
# What a shell reports of a program that SIGPIPE ended.
CLOSED_PIPE = 141
TRACEBACK = "TFPIPE_TRACEBACK"
_HINT = f"{TRACEBACK}=1 shows where"

# Errors of the system that only a wrong call gives: not the environment's.
_OWN_FAULTS = {errno.EBADF, errno.EINVAL, errno.EFAULT, errno.ESPIPE, errno.ENOTTY, errno.ENOSYS}
# Errors of TensorFlow by name, since nothing here may load it.
_SETUP_ERRORS = {"ResourceExhaustedError", "PermissionDeniedError", "UnavailableError", "DeadlineExceededError"}
_DATA_ERRORS = {"DataLossError"}
_EXTRAS = {
    "apache_beam": "beam",
    "tensorflow_hub": "hub",
    **dict.fromkeys(("matplotlib", "jinja2", "markupsafe"), "report"),
    "distributed": "dask",
    "fsspec": "gcp",
    "gcsfs": "gcp",
    "s3fs": "aws",
    **dict.fromkeys(("mlxtend", "skimage"), "demo"),
    "PIL": "report",
    "pynvml": "gpu",
}


def describe_failure(error: BaseException, named: Collection[str]) -> tuple[int, str]:
    """The exit code of an error, and its sentence.

    Args:
      error: whatever a verb raised.
      named: the values on the command line: a missing file is the user's mistake where it is one of them.
    """
    if isinstance(error, DataError | UsageError | SetupError):
        return error.exit_code, " ".join(str(error).splitlines())
    if isinstance(error, MemoryError):
        text = f": {first_line(error)}" if str(error) else ""
        return SetupError.exit_code, f"There is not enough memory{text}; {_HINT}."
    if isinstance(error, ImportError) and not (error.name or "").startswith(("tfpipe", "beam_jobs")):
        return SetupError.exit_code, _missing_module(error)
    if isinstance(error, OSError) and _is_environment_s(error):
        text = first_line(error) if error.strerror is None else f"{_path_of(error)}{error.strerror}"
        is_mistake = isinstance(error, FileNotFoundError | IsADirectoryError) and _is_named(error.filename, named)
        return UsageError.exit_code if is_mistake else SetupError.exit_code, text
    kind = type(error).__name__
    if type(error).__module__.startswith("tensorflow.") and kind in _SETUP_ERRORS:
        return SetupError.exit_code, f"{first_line(error)}; {_HINT}."
    if type(error).__module__.startswith("tensorflow.") and kind in _DATA_ERRORS:
        return DataError.exit_code, f"{first_line(error)}; tfpipe check names the damaged record."
    return UNEXPECTED, f"unexpected {kind}: {first_line(error)}; {_HINT}."


def exit_code(function: Callable[[], object], named: Collection[str]) -> int:
    """The exit code of a function that prints and exits; its errors become a line on stderr.

    Args:
      function: ends by SystemExit.
      named: see describe_failure.
    """
    code = 0
    try:
        try:
            function()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else UNEXPECTED * bool(stop.code)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        # Whoever reads our output may have had enough of it, as head has. A pipe to a helper process is another matter.
        gone = [_is_gone(stream) for stream in (sys.stdout, sys.stderr) if stream is not None]
        code = CLOSED_PIPE if any(gone) and isinstance(error, BrokenPipeError) else _report(error, named)
    return code


def _report(error: BaseException, named: Collection[str]) -> int:
    """Says on stderr what happened, with the traceback where TFPIPE_TRACEBACK=1 asks for it; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("\ntfpipe: interrupted.", file=sys.stderr, flush=True)
        return INTERRUPTED
    code, text = describe_failure(error, named)
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        traceback.print_exception(error, file=sys.stderr)
    print(f"tfpipe: error: {text}", file=sys.stderr)
    return code


def _is_gone(stream: TextIO) -> bool:
    """Whether a stream has no reader or no room for what was printed; it then leads nowhere from here on.

    The interpreter would otherwise try again at its end, complain, and exit with 120.
    """
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:  # a stream of a test or a notebook
        return False
    poll = select.poll()
    poll.register(number, 0)
    try:
        stream.flush()
        if not any(events & select.POLLERR for _, events in poll.poll(0)):
            return False
    except OSError:
        pass
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), number)
    return True


def _is_environment_s(error: OSError) -> bool:
    """Whether the machine or the network is at fault; libraries raise OSErrors without a number for anything."""
    if error.errno is None:
        return isinstance(error, ConnectionError | TimeoutError | ChildProcessError | FileNotFoundError)
    return error.errno not in _OWN_FAULTS


def _is_named(path: object, named: Collection[str]) -> bool:
    values = [*named, *(value.partition("=")[2] for value in named)]
    return isinstance(path, str | os.PathLike) and os.path.abspath(path) in map(os.path.abspath, filter(None, values))


def _path_of(error: OSError) -> str:
    return "" if error.filename is None else f"{error.filename}: "


def _missing_module(error: ImportError) -> str:
    extra = _EXTRAS.get((error.name or "").partition(".")[0])
    return f"{first_line(error)}; pip install 'tfpipe[{extra}]'" if extra else first_line(error)


def first_line(error: BaseException) -> str:
    """An error's own words in one line; of a traceback that came as text, as Beam's do, the last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    nested = len(lines) > 1 and any(line.startswith("Traceback (most recent call last)") for line in lines)
    return lines[-1] if nested else lines[0]
