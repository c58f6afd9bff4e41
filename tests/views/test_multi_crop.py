"""Plans with crops of several sizes, and SimCLR's studied plans, against the published numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import LARGE, all_rows, photographs

from coview.core.errors import InvalidValue, UnknownName
from coview.views import (
    MULTI_CROPS,
    POLICIES,
    STUDIED,
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Jitter,
    Noise,
    Rotate90,
    ViewPlan,
    asymmetric,
    auto_augmented,
    composition,
    eval_view,
    multi_crop_preset,
    multi_crop_views,
    preset,
    simclr_views,
    views_of,
)

SIZES = {"global_size": 64, "local_size": 32, "global_area": (0.3, 1.0), "local_area": (0.05, 0.3)}


def test_multi_crop_changes_sizes_and_areas_only():
    plan = preset("byol", 224)
    views = multi_crop_views(plan, **SIZES, locals=3).views
    first, second = plan.views
    assert views[0] == replace(first, size=64, crop=Crop(area=(0.3, 1.0)))
    assert views[1] == replace(second, size=64, crop=Crop(area=(0.3, 1.0)))
    assert views[2:] == (replace(first, size=32, crop=Crop(area=(0.05, 0.3))),) * 3


def test_multi_crop_takes_local_views_of_their_own():
    local = replace(simclr_views(64).views[0], grayscale=0.9)
    views = multi_crop_views(simclr_views(64), **SIZES, locals=2, local=local).views
    assert [view.grayscale for view in views] == [0.2, 0.2, 0.9, 0.9]


def test_multi_crop_of_one_view_makes_both_globals_of_it():
    views = multi_crop_views(ViewPlan(views=simclr_views(64).views[:1]), **SIZES, locals=0).views
    assert views[0] == views[1]
    assert len(views) == 2


def test_multi_crop_refuses_what_it_cannot_crop():
    with pytest.raises(InvalidValue, match="no random crop"):
        multi_crop_views(ViewPlan(views=(eval_view(32),)), **SIZES)
    with pytest.raises(InvalidValue, match="`locals` is -1"):
        multi_crop_views(simclr_views(32), **SIZES, locals=-1)


@pytest.mark.parametrize(
    ("name", "sizes", "global_area", "local_area"),
    [
        ("swav", [224] * 2 + [96] * 6, (0.14, 1.0), (0.05, 0.14)),
        ("dino", [224] * 2 + [96] * 8, (0.4, 1.0), (0.05, 0.4)),
        ("logo", [224] * 2 + [96] * 2, (0.4, 1.0), (0.05, 0.4)),
        ("logo_small", [32] * 4, (0.4, 1.0), (0.05, 0.4)),
        ("swav_small", [32] * 2 + [18] * 6, (0.2, 1.0), (0.08, 0.5)),
    ],
)
def test_published_crops(name, sizes, global_area, local_area):
    views = multi_crop_preset(name).views
    assert [view.size for view in views] == sizes
    assert [view.crop.area for view in views] == [global_area] * 2 + [local_area] * (len(views) - 2)
    assert len(MULTI_CROPS[name].source) > 20


def test_every_multi_crop_is_tested_and_its_policy_known():
    assert set(MULTI_CROPS) == {"swav", "dino", "logo", "logo_small", "swav_small"}
    assert all(crops.policy in POLICIES for crops in MULTI_CROPS.values())


def test_swav_has_simclrs_operations_everywhere():
    (expected, _) = simclr_views(224).views
    for view in multi_crop_preset("swav").views:
        assert replace(view, size=224, crop=Crop()) == expected


def test_dino_blurs_and_solarizes_each_kind_of_view_in_its_own_way():
    views = multi_crop_preset("dino", locals=3).views
    assert [view.blur.probability for view in views] == [1.0, 0.1, 0.5, 0.5, 0.5]
    assert [view.solarize for view in views] == [0.0, 0.2, 0.0, 0.0, 0.0]
    assert {view.interpolation for view in views} == {"bicubic"}
    jitter = Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    assert all(view.jitter == jitter for view in views)


def test_preset_offers_the_nearest_name():
    with pytest.raises(UnknownName, match="swav"):
        multi_crop_preset("swaw")


def test_views_of_different_sizes_are_rendered_side_by_side():
    store = photographs(LARGE)
    plan = multi_crop_views(
        preset("moco_v2", 64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
        global_size=64, local_size=24, global_area=(0.4, 1.0), local_area=(0.05, 0.4),
    )  # fmt: skip
    views = views_of(store, all_rows(store), plan, seed=0, epoch=0)
    assert [tuple(view.shape) for view in views] == [(6, 3, s, s) for s in (64, 64, 24, 24)]
    assert not torch.equal(views[2], views[3])
    shared = views_of(store, all_rows(store), plan, seed=0, epoch=0, threads=3)
    assert all(torch.equal(a, b) for a, b in zip(views, shared, strict=True))


def test_asymmetric_augments_one_branch_and_only_crops_and_flips_the_other():
    first, second = asymmetric(224, mean=(0.5,) * 3, std=(0.5,) * 3).views
    assert first == simclr_views(224, mean=(0.5,) * 3, std=(0.5,) * 3).views[0]
    assert (second.crop, second.flip) == (first.crop, 0.5)
    assert (second.jitter, second.grayscale, second.blur) == (None, 0.0, None)
    assert second.share_crop_with is None


@pytest.mark.parametrize("size", [32, 224])
def test_composition_applies_what_is_named_to_the_first_branch_only(size):
    jitter_strength = 0.5 if size == 32 else 1.0
    color = (
        0.8 * jitter_strength,
        0.8 * jitter_strength,
        0.8 * jitter_strength,
        0.2 * jitter_strength,
    )
    jitter = Jitter(
        probability=1.0,
        brightness=color[0],
        contrast=color[1],
        saturation=color[2],
        hue=color[3],
    )
    changes = {
        "crop": {"second_crop": Crop(area=(0.08, 1.0)), "flip": 0.5},
        "cutout": {"cutout": Cutout(probability=1.0, height=(0.5, 0.5), width=None, fill=0.5)},
        "color": {"jitter": jitter, "grayscale": 0.2},
        "sobel": {"sobel": 1.0},
        "noise": {"noise": Noise(probability=1.0, sigma=(0.05, 0.2))},
        "blur": {"blur": Blur(probability=1.0, sigma=(0.1, 2.0))},
        "rotate": {"rotate90": Rotate90(probability=1.0, turns=(1, 2, 3))},
    }
    assert set(changes) == set(STUDIED)
    for first in changes:
        for second in changes:
            names = (first,) if first == second else (first, second)
            branch, plain = composition(size, *names).views
            nothing = replace(plain, share_crop_with=None)
            assert branch == replace(nothing, **changes[first] | changes[second])
            assert plain.share_crop_with == 0
            assert (plain.flip, plain.jitter, plain.grayscale, plain.blur) == (0.0, None, 0.0, None)
            assert not plain.multi_pass


def test_composition_refuses_unknown_and_repeated_names():
    with pytest.raises(UnknownName, match="cutout"):
        composition(32, "cutuot")
    with pytest.raises(InvalidValue, match="repeats an operation"):
        composition(32, "crop", "crop")


def test_auto_augmented_views_are_crop_flip_and_the_policy():
    first, second = auto_augmented(32, AutoAugment(policy="cifar10"), area=(0.2, 1.0)).views
    assert first == second
    assert (first.crop, first.flip) == (Crop(area=(0.2, 1.0)), 0.5)
    assert first.augment == AutoAugment(policy="cifar10")
    assert (first.jitter, first.grayscale, first.blur) == (None, 0.0, None)


def test_local_crops_are_smaller_parts_of_the_image():
    store = photographs([(400, 400)] * 50)
    views = multi_crop_preset("logo_small").views
    from coview.views.sample import sample_params

    shares = []
    for view, spec in enumerate(views):
        table = sample_params(
            spec, store.ids, store.heights, store.widths, seed=0, epoch=0, view=view
        )
        shares.append(table["height"] * table["width"].astype(np.float64) / 400**2)
    assert all(share.min() > 0.39 for share in shares[:2])
    assert all(share.min() > 0.045 and share.max() < 0.41 for share in shares[2:])
