"""The usual names of a listing's columns, by what they mean."""

from __future__ import annotations

import re

# The usual names, without what stands between their words. Where several of the files' names occur, files that are
# there decide; ids come last, since many a listing has ids beside its files.
FILE_NAMES = (
    *("image", "file", "path", "filename", "filepath", "imagepath", "imagefile", "imagefilename", "imagename"),
    *("img", "imgpath", "imgfile", "imgname", "imagefilepath", "filenames", "fname", "photo", "picture", "uri", "url"),
    *("imageuri", "imageurl", "imgurl", "gcsuri"),
)
FILE_ID_NAMES = ("imageid", "imgid", "idcode", "photoid", "fileid", "id", "name")
LABEL_NAMES = (
    *("label", "labels", "class", "classes", "classname", "classid", "classlabel", "classindex", "labelname"),
    *("labelid", "labeltext", "target", "targets", "category", "categories", "categoryname", "categoryid", "y"),
)
SPLIT_NAMES = ("split", "datasplit", "datasetsplit")
# These name a split where their cells do.
WEAK_SPLIT_NAMES = ("subset", "partition", "set", "usage", "phase", "fold", "dataset", "mode", "type", "stage")
# Columns of 0 and 1 that say half of a split.
HALF_SPLIT_NAMES = (
    "istrain",
    "istraining",
    "istrainingimage",
    "train",
    "training",
    "istest",
    "test",
    "isval",
    "isvalid",
)
KEY_NAMES = ("key",)
MASK_NAMES = ("mask", "maskpath", "maskfile", "maskfilename", "maskname")
BOX_LABEL_NAMES = ("boxlabel", "boxlabels", "bboxlabel", "bboxlabels", "boxclass", "boxclasses")
# Texts that describe an image, and its size: never its label.
NO_LABELS = ("caption", "captions", "text", "description", "prompt", "title", "comment", "width", "height", "depth")
BOX_FEATURES = ("boxes", "box_labels")
SIZE_NAMES = (("width", "imagewidth", "imgwidth"), ("height", "imageheight", "imgheight"))
# Four columns of one box: their names, and whether the last two are its sides.
FOUR_CORNERS = (
    (("xmin", "ymin", "xmax", "ymax"), "xyxy"),
    (("x1", "y1", "x2", "y2"), "xyxy"),
    (("x0", "y0", "x1", "y1"), "xyxy"),
    (("left", "top", "right", "bottom"), "xyxy"),
    (("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"), "xyxy"),
    (("bboxx1", "bboxy1", "bboxx2", "bboxy2"), "xyxy"),
    (("x", "y", "w", "h"), "xywh"),
    (("bboxx", "bboxy", "bboxw", "bboxh"), "xywh"),
    (("bboxx", "bboxy", "bboxwidth", "bboxheight"), "xywh"),
    (("xmin", "ymin", "w", "h"), "xywh"),
    (("left", "top", "w", "h"), "xywh"),
)
# One column of a whole box or of several, and the order of its numbers that the name stands for.
WHOLE_BOXES = {"bbox": "xywh", "bboxes": "xywh", "boundingbox": "xywh", "box": "xyxy", "boxes": "xyxy"}


def plain_name(name: str) -> str:
    """A column's name as the tables above have it."""
    return re.sub(r"[\s_.-]", "", name.lower())


def known_names() -> frozenset[str]:
    """The names by which a first row of cells is known to be a header."""
    corners = [name for names, _ in FOUR_CORNERS for name in names]
    known = (*FILE_NAMES, *FILE_ID_NAMES, *LABEL_NAMES, *SPLIT_NAMES, *MASK_NAMES, *corners)
    return frozenset(name for name in known if len(name) > 1)  # A single letter may be a class.
