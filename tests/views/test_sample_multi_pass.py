"""Drawn numbers of the operations beyond the fused kernel: places and distributions."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from coview.core.rng import Stream, key_words, philox, uniforms
from coview.views import (
    AutoAugment,
    Crop,
    Cutout,
    Noise,
    RandAugment,
    Rotate90,
    ViewSpec,
    sample_params,
    simclr_views,
)
from coview.views.multi_pass.auto_augment import OPERATIONS, PAIRS, SIGNED, signed_magnitudes
from coview.views.parameters import BOX, FUSED_ROW

MANY = 20_000
FULL = replace(
    simclr_views(64).views[0],
    rotate90=Rotate90(probability=0.7), sobel=0.3, noise=Noise(probability=0.4),
    cutout=Cutout(probability=0.6, height=(0.1, 0.5), width=(0.3, 0.8)),
)  # fmt: skip


def table_of(spec, count=MANY, height=60, width=80, *, seed=0, epoch=0, view=0):
    sizes = np.full(count, height, np.int32), np.full(count, width, np.int32)
    return sample_params(spec, np.arange(count), *sizes, seed=seed, epoch=epoch, view=view)


def test_further_operations_leave_every_other_number_as_it_is():
    plain, full = table_of(simclr_views(64).views[0]), table_of(FULL)
    assert plain.dtype == FUSED_ROW
    for name in FUSED_ROW.names:
        assert np.array_equal(plain[name], full[name])


def test_every_uniform_is_in_its_place():
    table = table_of(FULL, 300, seed=5, epoch=2, view=1)
    numbers = uniforms(5, Stream.VIEWS, np.arange(300), epoch=2, view=1, count=80)
    blocks = numbers.reshape(300, 20, 4)[:, 16:].astype(np.float64)
    for row, (decide, place, rest, _) in zip(table, blocks, strict=True):
        assert row["rotate90"] == (int(decide[1] * 4) if decide[0] < 0.7 else 0)
        height, width = round(64 * (0.1 + 0.4 * place[0])), round(64 * (0.3 + 0.5 * place[1]))
        top, left = int(place[2] * (65 - height)), int(place[3] * (65 - width))
        expected = (top, left, height, width) if decide[2] < 0.6 else (0,) * 4
        assert tuple(int(row[f"cut_{name}"]) for name in BOX) == expected
        sigma = 0.05 + 0.15 * rest[0] if decide[3] < 0.4 else 0
        assert row["noise"] == pytest.approx(sigma, rel=1e-6)
        assert row["sobel"] == (rest[1] < 0.3)


def test_noise_key_is_the_first_two_words_of_its_block():
    table = table_of(FULL, 3, seed=9, epoch=4, view=2)
    for image, row in enumerate(table):
        counter = np.array([(2 << 16) + 19, image, 0, 4], np.uint64)
        words = philox(counter, key_words(9, Stream.VIEWS))
        assert row["noise_key"].tolist() == words[:2].tolist()


def test_no_two_views_share_a_noise_key():
    keys = [
        table_of(FULL, view=view, epoch=epoch)["noise_key"]
        for view, epoch in ((0, 0), (1, 0), (0, 1))
    ]
    assert len(np.unique(np.concatenate(keys), axis=0)) == 3 * MANY


@pytest.mark.parametrize(
    ("field", "probability"),
    [("rotate90", 0.7 * 3 / 4), ("sobel", 0.3), ("noise", 0.4), ("cut_height", 0.6)],
)
def test_operation_is_applied_at_its_rate(field, probability):
    applied = int((table_of(FULL)[field] > 0).sum())
    assert stats.binomtest(applied, MANY, probability).pvalue > 1e-3


@pytest.mark.parametrize("turns", [(0, 1, 2, 3), (1, 2, 3), (2,)])
def test_turns_are_equally_frequent(turns):
    table = table_of(ViewSpec(size=32, rotate90=Rotate90(turns=turns)))
    found, counts = np.unique(table["rotate90"], return_counts=True)
    assert tuple(found) == turns
    assert len(turns) == 1 or stats.chisquare(counts).pvalue > 1e-3


def test_cutout_by_default_is_a_square_of_half_the_side_anywhere_within():
    table = table_of(ViewSpec(size=32, cutout=Cutout()))
    assert (table["cut_height"] == 16).all()
    assert (table["cut_width"] == 16).all()
    for name in ("cut_top", "cut_left"):
        found, counts = np.unique(table[name], return_counts=True)
        assert found.tolist() == list(range(17))
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [1, 3, 32])
def test_cutout_lies_within_the_view(size):
    cutout = Cutout(height=(0.01, 1.0), width=(0.01, 1.0))
    table = table_of(ViewSpec(size=size, cutout=cutout))
    for start, length in (("cut_top", "cut_height"), ("cut_left", "cut_width")):
        assert table[start].min() >= 0
        assert table[length].min() >= 1
        assert (table[start] + table[length]).max() <= size


def test_noise_sigma_is_uniform_over_its_range():
    sigma = table_of(ViewSpec(size=32, noise=Noise()))["noise"].astype(np.float64)
    assert stats.kstest(sigma, stats.uniform(0.05, 0.15).cdf).pvalue > 1e-3


@pytest.mark.parametrize("policy", ["imagenet", "cifar10"])
def test_learned_pairs_are_torchvisions(policy):
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy(policy))._policies
    assert [tuple(map(tuple, pair)) for pair in PAIRS[policy]] == theirs


@pytest.mark.parametrize("bins", [10, 31])
@pytest.mark.parametrize("size", [32, 224])
def test_magnitudes_are_torchvisions(bins, size):
    space = v2.AutoAugment._AUGMENTATION_SPACE
    assert set(space) == set(OPERATIONS[1:])
    for name, (scale, signed) in space.items():
        assert (name in SIGNED) == signed
        values = scale(bins, size, size)
        for level in range(bins):
            expected = 0.0 if values is None else float(values[level])
            assert signed_magnitudes(name, level, bins, size) == (
                -expected if signed else expected, expected
            )  # fmt: skip


def test_random_operations_are_torchvisions_in_their_order():
    names = list(v2.RandAugment._AUGMENTATION_SPACE)
    assert (*names, "Invert") == OPERATIONS


@pytest.mark.parametrize("policy", ["imagenet", "cifar10"])
def test_auto_augment_applies_each_operation_as_often_as_documented(policy):
    table = table_of(ViewSpec(size=32, augment=AutoAugment(policy=policy)), 50_000)
    for k in range(2):
        expected = dict.fromkeys(OPERATIONS, 0.0)
        for pair in PAIRS[policy]:
            expected[pair[k].name] += pair[k].probability / 25
        for number, name in enumerate(OPERATIONS[1:], start=1):
            count = int((table["operation"][:, k] == number).sum())
            assert stats.binomtest(count, 50_000, expected[name]).pvalue > 1e-4, name
    assert not table["operation"][:, 2:].any()


def test_signed_magnitudes_are_of_either_sign_and_others_of_one():
    table = table_of(ViewSpec(size=32, augment=RandAugment()), 50_000)
    for number, name in enumerate(OPERATIONS[:-1]):
        values = table["magnitude"][table["operation"] == number]
        values = values[values != 0] if number == 0 else values
        if name in SIGNED:
            assert stats.binomtest(int((values < 0).sum()), len(values), 0.5).pvalue > 1e-4
            assert len(np.unique(np.abs(values))) == 1
        elif len(values):
            assert len(np.unique(values)) == 1


@pytest.mark.parametrize("operations", [1, 2, 8])
def test_rand_augment_draws_its_operations_equally_and_independently(operations):
    table = table_of(ViewSpec(size=32, augment=RandAugment(operations=operations)))
    chosen = table["operation"][:, :operations]
    for k in range(operations):
        assert stats.chisquare(np.bincount(chosen[:, k], minlength=14)).pvalue > 1e-4
    if operations > 1:
        pairs = np.bincount(14 * chosen[:, 0] + chosen[:, 1], minlength=196)
        assert stats.chisquare(pairs).pvalue > 1e-4
    assert not table["operation"][:, operations:].any()


@pytest.mark.parametrize("first", [Crop(), None], ids=["crop", "center"])
def test_second_crop_lies_within_the_first(first):
    once = ViewSpec(size=32, crop=first)
    twice = replace(once, second_crop=Crop(area=(0.2, 0.8)))
    outer, inner = table_of(once), table_of(twice)
    assert (inner["top"] >= outer["top"]).all()
    assert (inner["left"] >= outer["left"]).all()
    for start, length in (("top", "height"), ("left", "width")):
        assert (inner[start] + inner[length] <= outer[start] + outer[length]).all()
    share = inner["height"] * inner["width"] / (outer["height"] * outer["width"])
    assert abs(share.mean() - 0.5) < 0.02
    assert twice.multi_pass is False


def test_second_crop_is_distributed_as_torchvisions_crop_of_the_first():
    torch.manual_seed(0)
    spec = ViewSpec(size=32, second_crop=Crop())
    table, theirs = table_of(spec, height=60, width=60), v2.RandomResizedCrop(32)
    drawn = [theirs.make_params([torch.empty(3, 60, 60)]) for _ in range(2000)]
    for name in BOX:
        assert stats.ks_2samp(table[name], [crop[name] for crop in drawn]).pvalue > 1e-3


def test_second_crop_is_independent_of_the_first():
    outer = table_of(ViewSpec(size=32, crop=Crop()), height=400, width=400)
    inner = table_of(ViewSpec(size=32, crop=Crop(), second_crop=Crop()), height=400, width=400)
    share = inner["height"] * inner["width"] / (outer["height"] * outer["width"])
    area = outer["height"].astype(np.float64) * outer["width"]
    assert abs(np.corrcoef(share, area)[0, 1]) < 5 / math.sqrt(MANY)


def test_shared_crop_is_that_of_the_other_view_and_nothing_else_is():
    view = simclr_views(64).views[0]
    mine, other = table_of(view, view=1), table_of(view, view=0)
    shared = table_of(replace(view, share_crop_with=0), view=1)
    for name in FUSED_ROW.names:
        assert np.array_equal(shared[name], (other if name in BOX else mine)[name])
