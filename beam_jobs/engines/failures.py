"""What goes wrong in a worker: its error on the way to the process that raises it, and the pieces that it left out.

    answer = tuple(Failure.of(error))       # there
    raise Failure(*answer).to_error()       # here

An error of a class of its own may pickle there and not unpickle here; only strings and numbers are sent.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfpipe.errors import DataError, SetupError, UsageError

# An error is raised as the first of these that it is one of.
_RAISED: dict[str, type[BaseException]] = {
    kind.__name__: kind for kind in (UsageError, DataError, SetupError, ModuleNotFoundError, OSError, KeyboardInterrupt)
}


class WorkerError(RuntimeError):
    """An error in a helper process of a class that nobody expects; its traceback is a note."""


class Failure(NamedTuple):
    """An error of a helper process, in strings and numbers.

    Attributes:
      kind: the class of ours or of the system that the error is raised as; "" for any other.
      arguments: of that class.
      trace: the traceback.
    """

    kind: str
    arguments: tuple[str | int | None, ...]
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure of an error, of any class."""
        trace = "".join(traceback.format_exception(error))
        try:
            text = "".join([str(error)])  # a plain str, whatever __str__ returns
        except Exception:
            text = "an error that can't be shown"
        kind = next((kind for kind in _RAISED if isinstance(error, _RAISED[kind])), "")
        if kind == "OSError" and isinstance(error, OSError) and isinstance(error.errno, int):
            filename = None if error.filename is None else str(error.filename)
            return cls(kind, (int(error.errno), str(error.strerror), filename), trace)
        if kind == "ModuleNotFoundError" and isinstance(error, ImportError):
            return cls(kind, (text, error.name), trace)
        return cls(kind, (text if kind else f"{type(error).__qualname__}: {text}",), trace)

    def to_error(self) -> BaseException:
        """The error to raise in this process: it has the exit code that the first one would have had here."""
        if self.kind == "ModuleNotFoundError":
            error: BaseException = ModuleNotFoundError(self.arguments[0], name=self.arguments[1])  # type: ignore[arg-type]
        else:
            error = _RAISED.get(self.kind, WorkerError)(*self.arguments)
        error.add_note(f"In a worker process:\n{self.trace}")
        return error


def check_pieces(runs: Mapping[str, Mapping[str, Any]], count: int) -> None:
    """Checks that the sorted runs of a listing are those of all its pieces: inputs would be lost without a word.

    Args:
      runs: the facts of each run by its name, PIECE-NUMBER; "last" says that it is the last of its piece.
      count: of the pieces.

    Raises:
      SetupError: a run is missing, or is none of this listing.
    """
    numbers: dict[int, list[int]] = {piece: [] for piece in range(count)}
    lasts: dict[int, int] = {}
    for stem, facts in runs.items():
        piece, number = map(int, stem.split("-"))
        numbers.setdefault(piece, []).append(number)
        if facts["last"]:
            lasts[piece] = number
    whole = {piece for piece, last in lasts.items() if sorted(numbers[piece]) == list(range(last + 1))}
    wrong = sorted(set(numbers) ^ (whole & set(range(count))))
    if wrong:
        raise SetupError(
            f"The listing is not whole: {len(wrong)} of its {count} pieces, the first is number {wrong[0]}, are not "
            "there as a worker leaves them, and their inputs would be lost; --resume lists them again; nothing else "
            "may write to the output meanwhile."
        )
