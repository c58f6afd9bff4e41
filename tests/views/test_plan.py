"""Plans: what they refuse, and the numbers of the presets against the papers'."""

import pytest

from coview.core.errors import InvalidValue, UnknownName
from coview.core.values import decode, encode
from coview.recipes.recipe import VALUES
from coview.views import (
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Jitter,
    Noise,
    RandAugment,
    Rotate90,
    ViewPlan,
    ViewSpec,
    eval_view,
    jitter_of_strength,
    preset,
    simclr_views,
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
        (lambda: Blur(kernel_size=4), "odd"),
        (lambda: ViewSpec(size=0), "ViewSpec.size"),
        (lambda: ViewSpec(size=32.0), "ViewSpec.size"),
        (lambda: ViewSpec(size=32, flip=2), "ViewSpec.flip"),
        (lambda: ViewSpec(size=32, mean=(0, 0, 0)), "both"),
        (lambda: ViewSpec(size=32, mean=(0, 0, 0), std=(1, 0, 1)), "numbers above 0"),
        (lambda: ViewSpec(size=32, mean=(0, 0), std=(1, 1, 1)), "three numbers"),
        (lambda: ViewSpec(size=8, blur=Blur(kernel_size=17)), "at most 15"),
        (lambda: ViewPlan(views=()), "at least one"),
        (lambda: ViewSpec(size=32, sobel=1.1), "ViewSpec.sobel"),
        (lambda: Cutout(probability=-1), "Cutout.probability"),
        (lambda: Cutout(height=(0.0, 0.5)), "Cutout.height"),
        (lambda: Cutout(width=(0.5, 1.5)), "Cutout.width"),
        (lambda: Cutout(fill=2), "Cutout.fill"),
        (lambda: Noise(probability=2), "Noise.probability"),
        (lambda: Noise(sigma=(0.0, 0.1)), "Noise.sigma"),
        (lambda: Rotate90(probability=2), "Rotate90.probability"),
        (lambda: Rotate90(turns=()), "Rotate90.turns"),
        (lambda: Rotate90(turns=(1, 4)), "0, 1, 2 and 3"),
        (lambda: Rotate90(turns=(1, 1)), "each once"),
        (lambda: AutoAugment(policy="svhn"), "'imagenet' or 'cifar10'"),
        (lambda: RandAugment(operations=0), "RandAugment.operations"),
        (lambda: RandAugment(operations=9), "expected 1 to 8"),
        (lambda: RandAugment(bins=1), "RandAugment.bins"),
        (lambda: RandAugment(magnitude=31), "0 to 30"),
        (lambda: ViewSpec(size=32, share_crop_with=0), "without a `crop`"),
        (
            lambda: ViewSpec(size=32, crop=Crop(), second_crop=Crop(interpolation="bicubic")),
            "resized once",
        ),
        (
            lambda: ViewPlan(views=(ViewSpec(size=32, crop=Crop(), share_crop_with=0),)),
            "another view",
        ),
        (
            lambda: ViewPlan(
                views=(
                    ViewSpec(size=32, crop=Crop()),
                    ViewSpec(size=32, crop=Crop(), share_crop_with=2),
                )
            ),
            "another view, 0 to 1",
        ),
        (
            lambda: ViewPlan(
                views=(
                    ViewSpec(size=32, crop=Crop(area=(0.5, 1.0))),
                    ViewSpec(size=32, crop=Crop(), share_crop_with=0),
                )
            ),
            "draws another",
        ),
        (
            lambda: ViewPlan(
                views=tuple(ViewSpec(size=32, crop=Crop(), share_crop_with=1 - k) for k in range(2))
            ),
            "draws another",
        ),
    ],
)
def test_plan_refuses_what_cannot_be_drawn(make, sentence):
    with pytest.raises(InvalidValue, match=sentence):
        make()


def test_plan_survives_json():
    plan = simclr_views(64, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    assert decode(encode(plan), [ViewPlan, ViewSpec, Crop, Jitter, Blur]) == plan


@pytest.mark.parametrize("augment", [AutoAugment(policy="cifar10"), RandAugment(operations=3)])
def test_plan_with_every_operation_survives_json(augment):
    view = ViewSpec(
        size=32, crop=Crop(), second_crop=Crop(), augment=augment, sobel=0.5, noise=Noise(),
        rotate90=Rotate90(turns=(1, 2)), cutout=Cutout(width=(0.1, 0.2)),
    )  # fmt: skip
    plan = ViewPlan(views=(view, ViewSpec(size=8, crop=Crop(), share_crop_with=0)))
    assert decode(encode(plan), VALUES) == plan  # as run.json reads it
    assert hash(plan) == hash(decode(encode(plan), VALUES))


@pytest.mark.parametrize(
    ("changes", "multi_pass"),
    [
        ({}, False),
        ({"second_crop": Crop()}, False),
        ({"sobel": 0.1}, True),
        ({"augment": RandAugment()}, True),
        ({"rotate90": Rotate90()}, True),
        ({"noise": Noise()}, True),
        ({"cutout": Cutout()}, True),
    ],
)
def test_view_is_multi_pass_only_for_what_the_kernel_lacks(changes, multi_pass):
    assert ViewSpec(size=32, crop=Crop(), **changes).multi_pass is multi_pass
    assert not any(view.multi_pass for view in simclr_views(224).views)


@pytest.mark.parametrize("size", [16, 32])
def test_simclr_of_small_images_is_the_cifar_policy(size):
    for view in simclr_views(size).views:
        assert view == ViewSpec(
            size=size,
            crop=Crop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
            flip=0.5,
            jitter=Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            grayscale=0.2,
        )


@pytest.mark.parametrize("size", [33, 224])
def test_simclr_of_large_images_is_the_imagenet_policy(size):
    for view in simclr_views(size).views:
        assert view == ViewSpec(
            size=size,
            crop=Crop(area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
            flip=0.5,
            jitter=Jitter(probability=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
            grayscale=0.2,
            blur=Blur(probability=0.5, sigma=(0.1, 2.0)),
        )


def test_simclr_has_two_equal_views():
    first, second = simclr_views(32).views
    assert first == second


def test_simclr_takes_other_numbers():
    (view, _) = simclr_views(32, jitter_strength=1.0, blur=0.5, area=(0.2, 1.0)).views
    assert view.jitter == Jitter()
    assert view.blur == Blur(probability=0.5)
    assert view.crop == Crop(area=(0.2, 1.0))


@pytest.mark.parametrize(("strength", "hue"), [(0.0, 0.0), (0.25, 0.05), (1.0, 0.2), (4.0, 0.5)])
def test_jitter_of_strength_is_simclrs_with_at_most_half_a_turn_of_hue(strength, hue):
    jitter = jitter_of_strength(strength)
    assert jitter.probability == 0.8
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == (0.8 * strength,) * 3
    assert jitter.hue == pytest.approx(hue)


def test_jitter_of_a_negative_strength_is_refused():
    with pytest.raises(InvalidValue, match=r"Jitter\.brightness"):
        jitter_of_strength(-1.0)


def test_byol_treats_its_two_views_differently():
    first, second = preset("byol", 224).views
    assert first.blur.probability == 1.0
    assert second.blur.probability == 0.1
    assert (first.solarize, second.solarize) == (0.0, 0.2)
    assert first.jitter == Jitter(
        probability=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
    )


def test_moco_v1_always_jitters_all_four_by_two_fifths_and_never_blurs():
    jitter = Jitter(probability=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4)
    view = ViewSpec(size=224, crop=Crop(area=(0.2, 1.0)), flip=0.5, jitter=jitter, grayscale=0.2)
    assert preset("moco_v1", 224).views == (view, view)


def test_moco_of_small_images_is_its_cifar_policy():
    jitter = Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    view = ViewSpec(size=32, crop=Crop(area=(0.08, 1.0)), flip=0.5, jitter=jitter, grayscale=0.2)
    assert preset("moco_small", 32).views == (view, view)


@pytest.mark.parametrize("name", ["moco_v2", "supcon_small"])
def test_moco_and_supcon_crop_from_a_fifth_with_weaker_color(name):
    for view in preset(name, 32).views:
        assert view.crop.area == (0.2, 1.0)
        assert view.jitter == Jitter(
            probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
        )


def test_preset_offers_the_nearest_name():
    with pytest.raises(UnknownName, match="moco_v2"):
        preset("mocov2", 32)


def test_identity_changes_nothing_but_the_size():
    assert eval_view(48) == ViewSpec(size=48)
