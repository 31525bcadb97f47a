"""The gallery: every op and policy, from the code; boxes and masks move with the pixels."""

import numpy as np
import pytest
from PIL import Image

from tfpipe import augment
from tfpipe.augment import OPS
from tfpipe.report.gallery import MAGNITUDES, gallery_page, make_sheet, sample_record, sheet_names, sheet_png
from tfpipe.report.preview import load_transform, policy_names
from tfpipe.report.sheet import Cell, draw_sheet


def test_every_op_and_every_policy_has_a_sheet() -> None:
    names = sheet_names()
    assert set(names) == (set(OPS) - {"identity"}) | set(policy_names())
    assert {"rand_augment", "trivial_augment_wide", "image_net", "svhn", "rcifar10"} <= set(names)


@pytest.mark.parametrize("name", [name for name in OPS if name != "identity"])
def test_an_op_is_drawn_at_each_magnitude_as_apply_op_gives_it(name: str) -> None:
    op, record = OPS[name], sample_record(side=48)
    record = {"image": record["image"]}
    sheet = make_sheet(name, record=record)
    np.testing.assert_array_equal(sheet.cells[0].image, record["image"])
    assert len(sheet.cells) == (2 if op.num_values == 0 else 1 + len(MAGNITUDES))
    if op.num_values == 1 and op.family not in ("noise", "field") and not op.unit:
        values = [op.neutral + op.low + magnitude * (op.high - op.low) for magnitude in MAGNITUDES]
        images = np.repeat(record["image"][None], len(values), axis=0)
        expected = augment.apply_op(name, images, values, form="dense").numpy()
        for cell, image in zip(sheet.cells[1:], expected, strict=True):
            np.testing.assert_array_equal(cell.image, image)
    # The strongest magnitude shows something.
    assert (sheet.cells[-1].image != sheet.cells[0].image).any()


def test_the_box_and_the_mask_of_the_picture_are_those_of_its_disc_and_move() -> None:
    record = sample_record(side=64)
    rows, columns = np.nonzero(record["mask"][..., 0])
    assert record["boxes"].tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    plain = make_sheet("rotate", record={"image": record["image"]})
    marked = make_sheet("rotate", record=record)
    changed = [(a.image != b.image).any() for a, b in zip(plain.cells, marked.cells, strict=True)]
    assert all(changed)
    drawn = [(a.image != b.image).any(-1) for a, b in zip(plain.cells, marked.cells, strict=True)]
    assert (drawn[1] != drawn[-1]).any()


def test_a_policy_is_drawn_five_times() -> None:
    sheet = make_sheet("svhn", record={"image": sample_record(side=32)["image"]})
    assert len(sheet.cells) == 6
    assert len({cell.image.tobytes() for cell in sheet.cells}) > 2


def test_the_page_has_a_picture_of_each() -> None:
    sheets = {name: make_sheet(name) for name in ("rotate", "invert")}
    html = gallery_page(sheets)
    assert html.count("data:image/png;base64,") == 2
    assert all(f'id="{family}-{name}"' in html for name, family in (("rotate", "warp"), ("invert", "lookup")))
    assert sheet_png(sheets["rotate"]).startswith(b"\x89PNG")


def test_a_sheet_keeps_captions_inside_and_enlarges_by_whole_pixels() -> None:
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3) * 5
    sheet = draw_sheet([[Cell(image, "a name that is far too long for the width of one image"), Cell(image)]], side=64)
    assert isinstance(sheet, Image.Image)
    pixels = np.asarray(sheet)
    np.testing.assert_array_equal(pixels[18:82:16, 6:70:16], image)
    np.testing.assert_array_equal(pixels[6:18, 71:76], 255)


def test_a_transform_is_found_by_name_and_by_file(tmp_path) -> None:
    import json

    path = tmp_path / "mine.json"
    path.write_text(json.dumps(augment.to_json(augment.cutout(8))))
    assert load_transform(str(path)) == augment.cutout(8)
    augment_policy = load_transform("svhn")
    assert augment_policy.factory == "policy"
    (tmp_path / "bad.json").write_text("{")
    for text in ("nothing", str(tmp_path / "bad.json")):
        with pytest.raises(ValueError, match="--policy "):
            load_transform(text)
