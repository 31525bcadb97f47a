"""How a source is to be read: the options of a conversion that concern the listing of its inputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceOptions:
    """The options of open_source.

    Attributes:
      label_kind: "class", "multi" or "number": which of the classes of an image's boxes a COCO file gives as its label.
      masks: a folder that mirrors the source's, with a mask file for each image.
      schema: a JSON file with the schema of TFRecords that others wrote; None infers it.
      spool: a folder that a source may fill while it is listed, with images that it can't read in place later.
    """

    label_kind: str = "class"
    masks: str | None = None
    spool: str | None = None
    schema: str | None = None
