"""Operations in an order of their own: both renderings against one operation after the other."""

from dataclasses import fields, replace
from itertools import permutations

import numpy as np
import pytest
import torch
from photographs import MIXED, SMALL, all_rows, photographs
from torchvision_oracle import torchvision_views

from coview.core.errors import InvalidValue
from coview.core.values import decode, encode
from coview.recipes import known_values
from coview.views import (
    STUDIED,
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Jitter,
    Noise,
    OrderedViewSpec,
    Rotate90,
    ViewSpec,
    composition,
    contact_sheet,
    render,
    render_reference,
    sample_params,
    views_of,
)
from coview.views.contact import describe_operations

TOLERANCE = 0.05 / 255
EVERYTHING = {
    "size": 24, "crop": Crop(), "flip": 0.5, "second_crop": Crop(area=(0.2, 1.0)), "jitter": Jitter(),
    "grayscale": 0.3, "blur": Blur(), "solarize": 0.3, "rotate90": Rotate90(), "sobel": 0.4,
    "noise": Noise(probability=0.5), "cutout": Cutout(probability=0.5),
}  # fmt: skip
OPERATIONS = (
    "second_crop", "jitter", "grayscale", "blur", "solarize", "rotate90", "sobel", "noise", "cutout",
)  # fmt: skip


def drawn(store, spec, seed=0):
    return sample_params(spec, store.ids, store.heights, store.widths, seed=seed, epoch=0, view=0)


@pytest.mark.parametrize("renderer", [render, render_reference])
@pytest.mark.parametrize("seed", range(4))
def test_any_order_equals_one_operation_after_the_other(renderer, seed):
    store = photographs(SMALL[:4] + MIXED)
    order = tuple(np.random.default_rng(seed).permutation(OPERATIONS).tolist())
    spec = OrderedViewSpec(**EVERYTHING, order=order, mean=(0.4,) * 3, std=(0.25,) * 3)
    table, rows = drawn(store, spec, seed), all_rows(store)
    expected = torchvision_views(store, rows, table, spec)
    assert (renderer(store, rows, table, spec) - expected).abs().max() <= TOLERANCE / 0.25


@pytest.mark.parametrize("renderer", [render, render_reference])
def test_the_inner_crop_is_resized_by_its_own_interpolation(renderer):
    store = photographs(SMALL[:4] + MIXED)
    shapes = {"size": 24, "order": ("blur", "second_crop"), "blur": Blur()}
    cubic, linear = (
        OrderedViewSpec(
            **shapes, crop=Crop(interpolation=mode),
            second_crop=Crop(area=(0.2, 0.6), interpolation=mode),
        )
        for mode in ("bicubic", "bilinear")
    )  # fmt: skip
    table, rows = drawn(store, cubic), all_rows(store)
    views = renderer(store, rows, table, cubic)
    assert (views - torchvision_views(store, rows, table, cubic)).abs().max() <= TOLERANCE
    assert (views - renderer(store, rows, table, linear)).abs().max() > 100 * TOLERANCE


def test_both_orders_of_every_pair_differ_where_they_should():
    """Pairs of operations that do not commute give other views; single ones the same."""
    store = photographs(SMALL[:3])
    rows = all_rows(store)

    def first(*names):
        plan = composition(32, *names, in_order=True)
        return views_of(store, rows, plan, seed=1, epoch=0)

    same = []
    for one, other in permutations(STUDIED, 2):
        if one < other:
            (a, plain), (b, again) = first(one, other), first(other, one)
            assert torch.equal(plain, again)
            if torch.allclose(a, b, atol=1e-5):
                same.append((one, other))
    # What is the same for every pixel, and moves none, commutes with turning; blur is linear.
    assert set(same) <= {("blur", "rotate"), ("rotate", "sobel"), ("color", "rotate")}


def test_a_view_in_the_usual_order_is_that_of_a_plain_specification():
    usual = {name: value for name, value in EVERYTHING.items() if name != "second_crop"}
    store = photographs(SMALL[:4] + MIXED)
    ordered = OrderedViewSpec(**usual, order=OPERATIONS[1:])
    plain = ViewSpec(**usual)
    first, second = (render(store, all_rows(store), drawn(store, s), s) for s in (ordered, plain))
    assert (first - second).abs().max() <= TOLERANCE


def test_the_inner_crop_is_drawn_within_the_view():
    store = photographs(MIXED)
    spec = composition(32, "blur", "crop", in_order=True).views[0]
    top, left, height, width = np.concatenate([drawn(store, spec, s)["inner"] for s in range(40)]).T
    for start, length in ((top, height), (left, width)):
        assert (start >= 0).all()
        assert (start + length <= 32).all()
    shares = height * width / 32**2
    assert shares.min() < 0.3 < 0.7 < shares.max()


def test_autoaugment_takes_its_place_in_an_order():
    store = photographs(SMALL[:3])
    spec = OrderedViewSpec(
        size=32, crop=Crop(), augment=AutoAugment(), sobel=1.0, order=("sobel", "augment")
    )
    table, rows = drawn(store, spec), all_rows(store)
    one, other = render(store, rows, table, spec), render_reference(store, rows, table, spec)
    # 8-bit rounding after slightly different resizes may differ by a step here and there.
    assert ((one - other).abs() <= 1.5 / 255).float().mean() > 0.98


def test_an_order_names_each_operation_once():
    for order in ((), ("blur", "blur"), ("blur", "sobel", "noise"), ("sobel",)):
        with pytest.raises(InvalidValue, match="each operation of the view once: blur, sobel"):
            OrderedViewSpec(size=8, blur=Blur(), sobel=1.0, order=order)


def test_an_ordered_view_is_a_value_of_recipes_and_plain_ones_are_as_they_were():
    plan = composition(32, "noise", "color", in_order=True)
    assert decode(encode(plan), known_values()) == plan
    assert "order" not in {field.name for field in fields(ViewSpec)}
    assert plan.views[0].order == ("noise", "jitter", "grayscale")
    assert replace(plan.views[0], flip=0.5).order == plan.views[0].order


def test_captions_name_operations_in_their_order(tmp_path):
    store = photographs(SMALL[:1])
    plan = composition(32, "noise", "rotate", in_order=True)
    turned = drawn(store, plan.views[0])[0]
    words = describe_operations(turned, plan.views[0].order)
    assert words.startswith("noise")
    assert ", rotate" in words
    contact_sheet(store, np.array([0]), plan, tmp_path / "sheet.png", seed=0)
    assert (tmp_path / "sheet.png").exists()
