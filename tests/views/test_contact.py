"""The contact sheet: right views in the right places, right words about them."""

import numpy as np
import pytest
from photographs import LARGE, SMALL, all_rows, photographs
from PIL import Image

from coview.core.errors import InvalidValue
from coview.views import (
    RandAugment,
    ViewPlan,
    ViewSpec,
    auto_augmented,
    composition,
    contact_sheet,
    eval_view,
    multi_crop_preset,
    sample_params,
    simclr_views,
    views_of,
)
from coview.views.contact import (
    CAPTION,
    CELL,
    FRAME,
    GAP,
    HEADING,
    LEGEND,
    LINE,
    MARGIN,
    TEXT,
    box_iou,
    column_headings,
    describe_operations,
    load_font,
    mark_crops,
    shown_sizes,
    to_uint8,
    view_color,
    wrap_caption,
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
    assert box_iou(first, second) == pytest.approx(share)
    assert box_iou(second, first) == pytest.approx(share)


@pytest.mark.parametrize(("size", "shapes"), [(32, SMALL[:3]), (224, LARGE)], ids=["32", "224"])
def test_sheet_has_a_line_for_each_image_and_a_column_for_each_view(tmp_path, size, shapes):
    store = photographs(shapes)
    contact_sheet(store, all_rows(store), simclr_views(size), tmp_path / "views.png", seed=0)
    with Image.open(tmp_path / "views.png") as sheet:
        assert sheet.width == 2 * MARGIN + 3 * (CELL + GAP) - GAP
        lines = len(shapes) * (CELL + GAP + CAPTION) - GAP
        assert sheet.height == 2 * MARGIN + HEADING + lines + LEGEND


def test_sheet_shows_the_views_that_training_would_see(tmp_path):
    size = CELL - 2 * FRAME
    store, plan = photographs([(300, 260)]), simclr_views(size)
    contact_sheet(store, np.array([0]), plan, tmp_path / "views.png", seed=4)
    with Image.open(tmp_path / "views.png") as image:
        sheet = np.asarray(image)
    views = views_of(store, np.array([0]), plan, seed=4, epoch=0)
    for index, view in enumerate(views):
        top, left = MARGIN + HEADING + FRAME, MARGIN + (1 + index) * (CELL + GAP) + FRAME
        shown = sheet[top : top + size, left : left + size]
        assert np.array_equal(shown, to_uint8(view.numpy(), plan.views[index])[0])


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


def test_to_uint8_undoes_the_normalization():
    store = photographs([(16, 16)])
    spec = eval_view(16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    (view,) = views_of(store, np.array([0]), ViewPlan(views=(spec,)), seed=0, epoch=0)
    assert np.array_equal(to_uint8(view.numpy(), spec)[0], store.image(0))


def test_caption_names_the_operations_that_were_drawn():
    ids, side = np.array([3]), np.array([32], np.int32)
    table = sample_params(ViewSpec(size=32), ids, side, side, seed=0, epoch=0, view=0)
    assert describe_operations(table[0]) == "crop only"
    table["flip"], table["grayscale"], table["sigma"], table["solarize"] = 1, 1, 1.25, 1
    table["order"] = (2, 1, 0, 3)
    assert describe_operations(table[0]) == "flip, color, grayscale, blur 1.2, solarize"


def test_caption_names_the_further_operations_in_their_order():
    plan, side = composition(32, "noise", "cutout", "rotate", "sobel"), np.array([32], np.int32)
    table = sample_params(plan.views[0], np.array([3]), side, side, seed=0, epoch=0, view=0)
    table["rotate90"], table["noise"] = 3, 0.125
    assert describe_operations(table[0]) == "rotate 270, Sobel, noise 0.12, cutout"
    (table["rotate90"], table["sobel"], table["noise"], table["cut_height"]) = (0, 0, 0, 0)
    assert describe_operations(table[0]) == "crop only"


def test_caption_names_drawn_augmentations_with_their_strength():
    plan, side = auto_augmented(32, RandAugment()), np.array([32], np.int32)
    table = sample_params(plan.views[0], np.array([3]), side, side, seed=0, epoch=0, view=0)
    table["flip"], table["operation"][0, :3] = 1, (5, 0, 13)
    table["magnitude"][0, :3] = (-9.0, 0.0, 0.0)
    assert describe_operations(table[0]) == "flip, Rotate -9, Equalize"


def test_long_captions_are_broken_to_fit_their_cell():
    text = "flip, TranslateX -0.13, AutoContrast, color, grayscale, blur 1.2, rotate 270, cutout"
    lines = wrap_caption(text).splitlines()
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert all(load_font(TEXT).getlength(line) <= CELL for line in lines)
    assert wrap_caption("crop only") == "crop only"


def test_sheet_leaves_room_for_broken_captions(tmp_path):
    store = photographs(SMALL[:2])
    plan = composition(32, "crop", "noise", "cutout", "rotate", "sobel", "color")
    contact_sheet(store, all_rows(store), plan, tmp_path / "views.png", seed=0)
    with Image.open(tmp_path / "views.png") as sheet:
        one_line = 2 * MARGIN + HEADING + 2 * (CELL + GAP + CAPTION) - GAP + LEGEND
        assert sheet.height == one_line + 2 * LINE


def test_smaller_views_are_shown_smaller_in_the_middle_of_their_cells(tmp_path):
    store, plan = photographs([(300, 260)]), multi_crop_preset("logo", locals=3)
    assert shown_sizes(plan) == [208, 208, 89, 89, 89]
    assert column_headings(plan)[2:4] == ["view 2, 224 px", "view 3, 96 px"]
    contact_sheet(store, np.array([0]), plan, tmp_path / "views.png", seed=4)
    with Image.open(tmp_path / "views.png") as image:
        sheet = np.asarray(image)
    middle = MARGIN + HEADING + CELL // 2
    line = sheet[middle, MARGIN + 3 * (CELL + GAP) :][:CELL]
    own = (line == view_color(2)).all(axis=1)
    assert np.flatnonzero(own).min() == (CELL - 89 - 2 * FRAME) // 2
    assert (line[: np.flatnonzero(own).min()] == 255).all()


def test_every_view_of_ten_has_its_own_color():
    assert len({view_color(view) for view in range(10)}) == 10


def test_equal_sizes_are_not_told():
    assert column_headings(simclr_views(32)) == ["image and its crops", "view 1", "view 2"]


def test_sheet_refuses_no_images(tmp_path):
    store = photographs(SMALL)
    with pytest.raises(InvalidValue, match="at least one image"):
        contact_sheet(
            store, np.array([], np.int64), simclr_views(32), tmp_path / "views.png", seed=0
        )
