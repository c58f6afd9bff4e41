"""The contact sheet: right views in the right places, right words about them."""

import numpy as np
import pytest
from photographs import LARGE, SMALL, all_rows, photographs
from PIL import Image

from coview.core.errors import InvalidValue
from coview.views import ViewPlan, ViewSpec, contact_sheet, draw, identity, simclr, views_of
from coview.views.contact import (
    CAPTION,
    CELL,
    FRAME,
    GAP,
    HEADING,
    LEGEND,
    MARGIN,
    describe,
    levels,
    mark_crops,
    overlap,
)


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (0, 5, 10, 10), 1 / 3),
        ((0, 0, 10, 10), (0, 10, 10, 10), 0.0),
        ((0, 0, 10, 10), (20, 20, 5, 5), 0.0),
        ((0, 0, 10, 10), (2, 2, 5, 5), 0.25),
    ],
)
def test_overlap_is_intersection_over_union(first, second, share):
    assert overlap(first, second) == pytest.approx(share)
    assert overlap(second, first) == pytest.approx(share)


@pytest.mark.parametrize(("size", "shapes"), [(32, SMALL[:3]), (224, LARGE)], ids=["32", "224"])
def test_sheet_has_a_line_for_each_image_and_a_column_for_each_view(tmp_path, size, shapes):
    store = photographs(shapes)
    contact_sheet(store, all_rows(store), simclr(size), tmp_path / "views.png", seed=0)
    with Image.open(tmp_path / "views.png") as sheet:
        assert sheet.width == 2 * MARGIN + 3 * (CELL + GAP) - GAP
        lines = len(shapes) * (CELL + GAP + CAPTION) - GAP
        assert sheet.height == 2 * MARGIN + HEADING + lines + LEGEND


def test_sheet_shows_the_views_that_training_would_see(tmp_path):
    size = CELL - 2 * FRAME
    store, plan = photographs([(300, 260)]), simclr(size)
    contact_sheet(store, np.array([0]), plan, tmp_path / "views.png", seed=4)
    with Image.open(tmp_path / "views.png") as image:
        sheet = np.asarray(image)
    views = views_of(store, np.array([0]), plan, seed=4, epoch=0)
    for slot, view in enumerate(views):
        top, left = MARGIN + HEADING + FRAME, MARGIN + (1 + slot) * (CELL + GAP) + FRAME
        shown = sheet[top : top + size, left : left + size]
        assert np.array_equal(shown, levels(view.numpy(), plan.views[slot])[0])


def test_original_is_whole_in_both_crops_pale_in_one_and_paler_outside():
    image = np.zeros((CELL, CELL, 3), np.uint8)
    marked = np.asarray(mark_crops(image, [(0, 0, 120, 120), (60, 60, 120, 120)]))[..., 0]
    both, first, second, none = marked[90, 90], marked[30, 30], marked[150, 150], marked[200, 20]
    assert both == 0
    assert 0 < first == second < none


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (32, 32), (400, 300)])
def test_original_of_any_shape_fits_its_cell(shape):
    height, width = shape
    picture = mark_crops(np.zeros((*shape, 3), np.uint8), [(0, 0, height, width)])
    assert max(picture.size) == CELL


def test_levels_undo_the_normalisation():
    store = photographs([(16, 16)])
    spec = identity(16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    (view,) = views_of(store, np.array([0]), ViewPlan(views=(spec,)), seed=0, epoch=0)
    assert np.array_equal(levels(view.numpy(), spec)[0], store.image(0))


def test_caption_names_the_operations_that_were_drawn():
    ids, side = np.array([3]), np.array([32], np.int32)
    table = draw(ViewSpec(size=32), ids, side, side, seed=0, epoch=0, slot=0)
    assert describe(table, 0) == "crop only"
    table["flip"], table["grey"], table["sigma"], table["solarise"] = 1, 1, 1.25, 1
    table["order"] = (2, 1, 0, 3)
    assert describe(table, 0) == "flip, colour, grey, blur 1.2, solarise"


def test_sheet_refuses_no_images(tmp_path):
    store = photographs(SMALL)
    with pytest.raises(InvalidValue, match="at least one image"):
        contact_sheet(store, np.array([], np.int64), simclr(32), tmp_path / "views.png", seed=0)
