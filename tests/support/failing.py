"""Tasks for helper processes that fail in every way, in the helper alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfpipe.errors import DataError, SetupError, UsageError

_DEADLINE_SECONDS = 60


class TwoArgumentsError(Exception):
    """Pickles as its class and its args, which are not what its __init__ takes."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} has {number}")


class OddUsageError(UsageError):
    """As TwoArgumentsError, but of a class of ours."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} has {number}")


class UnpicklableError(Exception):
    """Does not pickle at all."""

    def __reduce__(self) -> Any:
        raise TypeError("never")


class SilentError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")


class EndlessText(str):
    """A text of a class that other processes do not know."""

    def __reduce__(self) -> Any:
        raise TypeError("never")


class TextClassError(Exception):
    """Its text is of a class of its own."""

    def __str__(self) -> str:
        return EndlessText("its own text")


def _local_class() -> Exception:
    class LocalError(ValueError):
        pass

    return LocalError("of a function")


def _leave(status: int) -> BaseException:
    os._exit(status)


def _print(text: str) -> BaseException:
    print(text, flush=True)
    os.write(1, text.encode())
    return DataError("printed")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "two arguments": lambda: TwoArgumentsError("a", 2),
    "odd usage": lambda: OddUsageError("a", 2),
    "unpicklable": lambda: UnpicklableError("text"),
    "silent": SilentError,
    "text class": TextClassError,
    "local class": _local_class,
    "usage": lambda: UsageError("usage"),
    "data": lambda: DataError("data"),
    "setup": lambda: SetupError("setup"),
    "number": lambda: ValueError("not ours"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "full disk": lambda: OSError(28, "No space left on device", "a.draft"),
    "folder": lambda: IsADirectoryError(21, "Is a directory", Path("a.index")),
    "no number": lambda: OSError("no number"),
    "module": lambda: ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow"),
    "exit": lambda: SystemExit(4),
    "interrupt": KeyboardInterrupt,
    "leaves": lambda: _leave(9),
    "prints": lambda: _print("between the answers"),
}


@dataclass
class FailingTask:
    """Raises in a helper process; in this one it waits until that has happened.

    Attributes:
      error: a name in ERRORS.
      marker: the file that the helper makes before it raises.
      home: the process that does not fail.
    """

    error: str
    marker: str
    home: int = field(default_factory=os.getpid)

    def run(self, item: int) -> None:
        if os.getpid() != self.home:
            Path(self.marker).touch()
            raise ERRORS[self.error]()
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not Path(self.marker).exists() and time.monotonic() < deadline:
            time.sleep(0.01)


@dataclass
class UnknownTask(FailingTask):
    """Does not unpickle in another process."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(state["marker"]).touch()
        raise TwoArgumentsError("state", 1)


@dataclass
class UnpicklableItem:
    """An item that can't be sent."""

    marker: str

    def __reduce__(self) -> Any:
        Path(self.marker).touch()
        raise TypeError("this item can't be sent")
