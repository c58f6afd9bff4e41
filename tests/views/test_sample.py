"""Drawn numbers: the places of the uniforms, and distributions against torchvision's own."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import ColorJitter, RandomResizedCrop

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, key_words, uniforms
from coview.views import Blur, Crop, Jitter, ViewSpec, eval_view, sample_params, simclr_views
from coview.views.fused.sample import draw_block
from coview.views.presets import POLICIES

FULL = ViewSpec(
    size=64, crop=Crop(), flip=0.5, jitter=Jitter(), grayscale=0.2, blur=Blur(), solarize=0.3
)
MANY = 20_000


def table_of(spec, count=MANY, height=60, width=80, *, seed=0, epoch=0, view=0, first=0):
    ids = np.arange(first, first + count)
    sizes = np.full(count, height, np.int32), np.full(count, width, np.int32)
    return sample_params(spec, ids, *sizes, seed=seed, epoch=epoch, view=view)


def slow_row(spec, u, height, width):
    """One row from its uniforms, in plain Python as sample.py and torchvision describe it."""
    jitter, blur, crop = spec.jitter, spec.blur, spec.crop
    reach = [max(0, 1 - jitter.brightness), max(0, 1 - jitter.contrast)]
    reach += [max(0, 1 - jitter.saturation), -jitter.hue]
    span = [1 + jitter.brightness, 1 + jitter.contrast, 1 + jitter.saturation, jitter.hue]
    factor = [low + (high - low) * v for low, high, v in zip(reach, span, u[4:8], strict=True)]
    orders = list(itertools.permutations(range(4)))
    order = orders[int(u[8] * 24)] if u[1] < jitter.probability else (-1,) * 4
    sigma = blur.sigma[0] + (blur.sigma[1] - blur.sigma[0]) * u[9]
    rest = {
        "flip": u[0] < spec.flip, "grayscale": u[2] < spec.grayscale, "solarize": u[10] < spec.solarize,
        "sigma": sigma if u[3] < blur.probability else 0.0, "order": order, "factor": factor,
    }  # fmt: skip
    low, high = map(math.log, crop.ratio)
    for attempt in range(10):
        a, r, t, s = u[12 + 4 * attempt : 16 + 4 * attempt]
        area = height * width * (crop.area[0] + (crop.area[1] - crop.area[0]) * a)
        ratio = math.exp(low + (high - low) * r)
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            top, left = int(t * (height - h + 1)), int(s * (width - w + 1))
            return rest | {"top": top, "left": left, "height": h, "width": w}
    return rest | {"fallback": True}


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 17, 2**63 - 1])
def test_kernel_philox_equals_core_rng_bit_for_bit(seed):
    ids, epoch, view = np.array([0, 1, -1, -(2**63), 2**62 + 12345]), 7, 3
    expected = uniforms(seed, Stream.VIEWS, ids, epoch=epoch, view=view, count=52)
    low, high = key_words(seed, Stream.VIEWS)
    for row, word in enumerate(ids.view(np.uint64).tolist()):
        words = word & 0xFFFFFFFF, word >> 32, epoch, low, high
        for block in range(13):
            counter = (view << 16) + block
            drawn = draw_block(*(np.uint32(w) for w in (counter, *words)))
            assert np.array_equal(np.float32(drawn), expected[row, 4 * block : 4 * block + 4])


def test_draw_puts_every_uniform_in_its_place():
    ids = np.arange(-100, 100)
    sizes = np.full(200, 60, np.int32), np.full(200, 300, np.int32)
    table = sample_params(FULL, ids, *sizes, seed=5, epoch=2, view=1)
    numbers = uniforms(5, Stream.VIEWS, ids, epoch=2, view=1, count=52).astype(np.float64)
    fallbacks = 0
    for row, u in zip(table, numbers, strict=True):
        slow = slow_row(FULL, u, 60, 300)
        fallbacks += slow.pop("fallback", False)
        for name, value in slow.items():
            assert np.allclose(row[name], value, rtol=1e-6), name
    assert fallbacks < 200


@pytest.mark.parametrize(("height", "width"), [(32, 32), (400, 534), (30, 200), (200, 30)])
@pytest.mark.parametrize("field", ["top", "left", "height", "width"])
def test_crop_is_distributed_as_torchvisions(height, width, field):
    torch.manual_seed(height)
    image, crop = torch.empty(3, height, width), RandomResizedCrop(32)
    theirs = [crop.make_params([image])[field] for _ in range(2000)]
    ours = table_of(FULL, height=height, width=width)[field]
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 100), (100, 1), (2, 900), (5, 3)])
def test_crop_of_an_extreme_image_lies_within_it(height, width):
    table = table_of(FULL, 2000, height, width)
    assert table["height"].min() >= 1
    assert table["width"].min() >= 1
    assert (table["top"] >= 0).all()
    assert (table["left"] >= 0).all()
    assert (table["top"] + table["height"] <= height).all()
    assert (table["left"] + table["width"] <= width).all()


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10)])
def test_crop_falls_back_to_torchvisions_central_crop(height, width):
    spec = ViewSpec(size=8, crop=Crop(area=(0.9, 1.0)))
    crop = RandomResizedCrop(8, scale=(0.9, 1.0)).make_params([torch.empty(3, height, width)])
    row = table_of(spec, 1, height, width)[0]
    assert all(row[name] == crop[name] for name in ("top", "left", "height", "width"))


@pytest.mark.parametrize("operation", range(4))
def test_jitter_factors_are_distributed_as_torchvisions(operation):
    torch.manual_seed(operation)
    strengths = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
    name = list(strengths)[operation]
    theirs_of = ColorJitter(**strengths)
    theirs = [theirs_of.make_params([])[f"{name}_factor"] for _ in range(2000)]
    ours = table_of(FULL)["factor"][:, operation]
    assert stats.ks_2samp(ours, np.float64(theirs)).pvalue > 1e-3


def test_brightness_stronger_than_one_never_turns_negative():
    spec = ViewSpec(size=32, jitter=Jitter(brightness=1.5))
    factors = table_of(spec)["factor"][:, 0]
    assert factors.min() >= 0
    assert factors.max() > 2.4


def test_all_orders_are_equally_frequent():
    table = table_of(ViewSpec(size=32, jitter=Jitter(probability=1.0)), 24_000)
    _, counts = np.unique(table["order"], axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_every_order_is_a_permutation_or_absent():
    ordered = np.sort(table_of(FULL)["order"], axis=1)
    absent, whole = (ordered == -1).all(axis=1), (ordered == np.arange(4)).all(axis=1)
    assert (absent ^ whole).all()


@pytest.mark.parametrize(
    ("field", "probability"),
    [("flip", 0.5), ("grayscale", 0.2), ("solarize", 0.3), ("sigma", 0.5), ("order", 0.8)],
)
def test_operation_is_applied_at_its_rate(field, probability):
    values = table_of(FULL)[field]
    applied = (values[:, 0] >= 0) if field == "order" else values > 0
    assert stats.binomtest(int(applied.sum()), MANY, probability).pvalue > 1e-3


def test_decisions_are_independent_of_each_other():
    table = table_of(FULL)
    columns = [table["flip"], table["grayscale"], table["solarize"], table["sigma"] > 0]
    columns += [table["order"][:, 0] >= 0, table["factor"][:, 0], table["top"]]
    correlation = np.corrcoef(np.float64(columns)) - np.eye(len(columns))
    assert np.abs(correlation).max() < 5 / math.sqrt(MANY)


def test_sigma_differs_from_view_to_view_over_the_whole_range():
    sigma = table_of(FULL)["sigma"]
    drawn = sigma[sigma > 0].astype(np.float64)
    assert stats.kstest(drawn, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3


def test_row_does_not_depend_on_the_other_rows():
    whole, part = table_of(FULL, 100), table_of(FULL, 10, first=40)
    assert np.array_equal(whole[40:50], part)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"epoch": 1}, {"view": 1}, {"first": MANY}])
def test_tables_of_other_keys_share_nothing(changed):
    one, other = table_of(FULL), table_of(FULL, **changed)
    assert (one["factor"] != other["factor"]).all(axis=1).mean() > 0.999
    correlation = np.corrcoef(one["factor"][:, 0], other["factor"][:, 0])[0, 1]
    assert abs(correlation) < 5 / math.sqrt(MANY)


def test_draws_do_not_depend_on_which_operations_a_view_has():
    plain = ViewSpec(size=64, crop=Crop(), flip=0.5)
    full, few = table_of(FULL), table_of(plain)
    for name in ("top", "left", "height", "width", "flip"):
        assert np.array_equal(full[name], few[name])


def test_identity_draws_the_same_for_every_key():
    one = table_of(eval_view(32))
    other = table_of(eval_view(32), seed=9, epoch=9, view=9)
    for name in (
        "top",
        "left",
        "height",
        "width",
        "flip",
        "order",
        "sigma",
        "grayscale",
        "solarize",
    ):
        assert np.array_equal(one[name], other[name])


@pytest.mark.parametrize("key", [{"seed": -1}, {"seed": 2**63}, {"epoch": -1}, {"view": 2**16}])
def test_draw_refuses_a_key_out_of_range(key):
    with pytest.raises(InvalidValue, match=next(iter(key))):
        table_of(FULL, 1, **key)


def test_small_preset_never_blurs():
    assert (table_of(simclr_views(32).views[0])["sigma"] == 0).all()


def test_policies_name_their_source():
    assert all(len(policy.source) > 20 for policy in POLICIES.values())
