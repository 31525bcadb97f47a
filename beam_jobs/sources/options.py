"""How a source is to be read: the options of a conversion that concern the listing of its inputs."""

from __future__ import annotations

from dataclasses import dataclass

# Those that only a listing takes.
LISTING_OPTIONS = (
    *("file_column", "label_column", "split_column", "group_column", "label_separator", "box_order", "image_root"),
)


@dataclass(frozen=True)
class SourceOptions:
    """The options of open_source.

    Attributes:
      label_kind: "class", "multi", "number" or "none". It decides which of the classes of an image's boxes is its
        label, and whether columns of 0 and 1 are classes.
      split_folders: "auto", "yes" or "no": whether folders and files named by split words say the split.
      masks: a folder that mirrors the source's, with a mask file for each image.
      schema: a JSON file with the schema of TFRecords that others wrote; None infers it.
      spool: a folder that a source may fill while it is listed, with images that it can't read in place later.
      class_names: the classes in the order of their ids, of a labels file; None where there is none.
      file_column, label_column, split_column, group_column: the columns of a listing; None goes by their names.
      label_separator: what stands between several labels of one cell; " " is any white space.
      box_order: "xyxy", two corners, or "xywh", a corner and the sides: the numbers of a listing's boxes; None goes by
        the columns' names.
      image_root: the folder that a listing's relative paths start from; None is its own folder.
    """

    label_kind: str = "class"
    masks: str | None = None
    spool: str | None = None
    class_names: tuple[str, ...] | None = None
    file_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    label_separator: str | None = None
    box_order: str | None = None
    image_root: str | None = None
    split_folders: str = "auto"
    schema: str | None = None
