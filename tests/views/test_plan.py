"""Plans: what they refuse, and the numbers of the presets against the papers'."""

import pytest

from coview.core.errors import InvalidValue, UnknownName
from coview.core.values import decode, encode
from coview.views import (
    Blur,
    Crop,
    Jitter,
    ViewPlan,
    ViewSpec,
    identity,
    preset,
    simclr,
)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Crop(area=(0.0, 1.0)), "Crop.area"),
        (lambda: Crop(area=(0.5, 0.2)), "Crop.area"),
        (lambda: Crop(area=(0.5, 1.2)), "Crop.area"),
        (lambda: Crop(ratio=(-1.0, 1.0)), "Crop.ratio"),
        (lambda: Crop(interpolation="nearest"), "'bilinear' or 'bicubic'"),
        (lambda: Jitter(probability=1.5), "Jitter.probability"),
        (lambda: Jitter(contrast=-0.1), "Jitter.contrast"),
        (lambda: Jitter(brightness=float("nan")), "Jitter.brightness"),
        (lambda: Jitter(hue=0.6), "turns"),
        (lambda: Blur(sigma=(0.0, 2.0)), "Blur.sigma"),
        (lambda: Blur(taps=4), "odd"),
        (lambda: ViewSpec(size=0), "ViewSpec.size"),
        (lambda: ViewSpec(size=32.0), "ViewSpec.size"),
        (lambda: ViewSpec(size=32, flip=2), "ViewSpec.flip"),
        (lambda: ViewSpec(size=32, mean=(0, 0, 0)), "both"),
        (lambda: ViewSpec(size=32, mean=(0, 0, 0), std=(1, 0, 1)), "numbers > 0"),
        (lambda: ViewSpec(size=32, mean=(0, 0), std=(1, 1, 1)), "three numbers"),
        (lambda: ViewSpec(size=8, blur=Blur(taps=17)), "at most 15"),
        (lambda: ViewPlan(views=()), "at least one"),
    ],
)
def test_plan_refuses_what_cannot_be_drawn(make, sentence):
    with pytest.raises(InvalidValue, match=sentence):
        make()


def test_plan_survives_json():
    plan = simclr(64, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    assert decode(encode(plan), [ViewPlan, ViewSpec, Crop, Jitter, Blur]) == plan


@pytest.mark.parametrize("size", [16, 32])
def test_simclr_of_small_images_is_the_cifar_policy(size):
    for view in simclr(size).views:
        assert view == ViewSpec(
            size=size,
            crop=Crop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
            flip=0.5,
            jitter=Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            grey=0.2,
        )


@pytest.mark.parametrize("size", [33, 224])
def test_simclr_of_large_images_is_the_imagenet_policy(size):
    for view in simclr(size).views:
        assert view == ViewSpec(
            size=size,
            crop=Crop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
            flip=0.5,
            jitter=Jitter(probability=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
            grey=0.2,
            blur=Blur(probability=0.5, sigma=(0.1, 2.0)),
        )


def test_simclr_has_two_equal_slots():
    first, second = simclr(32).views
    assert first == second


def test_simclr_takes_other_numbers():
    (view, _) = simclr(32, strength=1.0, blur=0.5, area=(0.2, 1.0)).views
    assert view.jitter == Jitter()
    assert view.blur == Blur(probability=0.5)
    assert view.crop == Crop(area=(0.2, 1.0))


def test_byol_treats_its_two_views_differently():
    first, second = preset("byol", 224).views
    assert first.blur.probability == 1.0
    assert second.blur.probability == 0.1
    assert (first.solarise, second.solarise) == (0.0, 0.2)
    assert first.jitter == Jitter(
        probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
    )


@pytest.mark.parametrize("name", ["moco_v2", "supcon_small"])
def test_moco_and_supcon_crop_from_a_fifth_with_weaker_colour(name):
    for view in preset(name, 32).views:
        assert view.crop.area == (0.2, 1.0)
        assert view.jitter == Jitter(
            probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
        )


def test_preset_offers_the_nearest_name():
    with pytest.raises(UnknownName, match="moco_v2"):
        preset("mocov2", 32)


def test_identity_changes_nothing_but_the_size():
    assert identity(48) == ViewSpec(size=48)
