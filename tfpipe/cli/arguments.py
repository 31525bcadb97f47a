"""What several verbs check of their options, before minutes of work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfpipe.errors import UsageError
from tfpipe.format.schema import parse_size


def output_file(text: str, *, option: str = "--output", endings: Sequence[str] = ()) -> Path:
    """The file that an option names.

    Args:
      text: as given.
      option: for the sentence.
      endings: of which its name must have one; none: any will do.

    Raises:
      UsageError: it could not be written: it is a folder, or there is none for it; or it has another ending.
    """
    path = Path(text)
    if endings and path.suffix.lower() not in endings:
        allowed = endings[0] if len(endings) == 1 else f"one of {list(endings)}"
        raise UsageError(f"{option} is {text!r}; its name must end in {allowed}.")
    if path.is_dir():
        raise UsageError(f"{option} is {text!r}, which is a folder; name a file.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} is {text!r}, but there is no folder {path.absolute().parent}.")
    return path


def image_size(text: str | None) -> tuple[int, int] | None:
    """The (height, width) that --image_size names, or None where it was not given.

    Raises:
      UsageError: it names none.
    """
    try:
        return None if text is None else parse_size(text)
    except ValueError:
        sentence = f"--image_size is {text!r}; it takes H,W, such as 224,224, or one number for a square."
        raise UsageError(sentence) from None
