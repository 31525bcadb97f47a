"""How a source is to be read: the options of a conversion that concern the listing of its inputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceOptions:
    """The options of open_source.

    Attributes:
      label_kind: "class", "multi" or "number": which of the classes of an image's boxes a COCO file gives as its label.
      split_folders: "auto", "yes" or "no": whether folders and files named by split words say the split.
      masks: a folder that mirrors the source's, with a mask file for each image.
      spool: a folder that a source may fill while it is listed, with images that it can't read in place later.
    """

    label_kind: str = "class"
    masks: str | None = None
    spool: str | None = None
    split_folders: str = "auto"
