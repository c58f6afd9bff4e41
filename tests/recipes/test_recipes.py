"""All recipes: whole, distinct, and with the numbers that the papers give."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from coview.cli.options import parse
from coview.core.errors import CoviewError, InvalidValue
from coview.core.options import option
from coview.core.values import decode, encode, fingerprint
from coview.methods import EMA, Queue, get_method
from coview.options import RecipeOptions
from coview.planning.defaults import default_recipe
from coview.recipes import (
    METHODS,
    RECIPES,
    apply_options,
    change,
    for_classes,
    known_values,
    recipe,
)
from coview.recipes.finetune import for_label_share
from coview.views import Jitter, asymmetric
from coview.views import simclr_views as simclr_plan


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_named_told_and_survives_json(name):
    found = recipe(name)
    assert found.name == name
    assert (RECIPES[name].__doc__ or "").endswith(".") or "\n" in (RECIPES[name].__doc__ or "")
    assert decode(encode(found), known_values()) == found


def test_no_two_recipes_are_the_same():
    assert len({fingerprint(recipe(name)) for name in RECIPES}) == len(RECIPES)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("side", [28, 32, 64, 96, 256])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_every_size_and_device(method, side, device):
    found = default_recipe(method, side=side, images=5000, device=device)
    assert found.name == f"{method}-auto"
    assert found.image_size <= (224 if device == "cuda" else 96)
    assert found.rates(5000).max() > 0
    if found.image_size > 32:
        views = found.method.views.views
        assert any(view.blur is not None or view.augment is not None for view in views)


PAPERS = {
    # recipe: (peak learning rate at the recipe's batch, weight decay, batch, epochs)
    "simclr-imagenet": (4.8, 1e-6, 4096, 100),
    "simclr-v2-imagenet": (6.4, 5e-5, 4096, 800),  # 1e-4 on a sum of two
    "moco-imagenet": (0.03, 1e-4, 256, 200),
    "byol-imagenet": (4.8, 1e-6, 4096, 300),
    "simsiam-imagenet": (0.1, 1e-4, 512, 100),
    "supcon-imagenet": (9.6, 1e-3, 6144, 350),
    "supcon-cifar": (0.71, 7e-5, 1024, 1000),  # the code's 0.5 and 1e-4, on 1.43 times the loss
    "simsiam-cifar": (0.06, 5e-4, 512, 800),
    "moco-cifar": (0.12, 2.5e-4, 512, 200),  # the notebook's 0.06 and 5e-4, on a sum of two
}


@pytest.mark.parametrize("name", PAPERS)
def test_recipe_has_the_numbers_of_its_paper(name):
    found = recipe(name)
    rate, decay, batch, epochs = PAPERS[name]
    assert found.optimizer.peak(found.batch_size) == pytest.approx(rate)
    assert found.optimizer.weight_decay == decay
    assert (found.batch_size, found.epochs) == (batch, epochs)


def test_supcon_for_imagenet_is_scaled_and_warmed_up_as_in_the_authors_code():
    found = recipe("supcon-imagenet")
    objective = found.method.objective
    assert (objective.temperature, objective.scale_by_temperature) == (0.1, True)
    assert found.schedule.warmup_epochs == 12


def test_views_that_the_papers_code_resizes_bicubically():
    names = [n for n in RECIPES if n.endswith("imagenet") and hasattr(recipe(n).method, "views")]
    bicubic = {
        name
        for name in names
        for view in recipe(name).method.views.views
        if view.crop is not None and view.crop.interpolation == "bicubic"
    }
    assert bicubic == {
        "simclr-imagenet", "simclr-v2-imagenet", "byol-imagenet", "logo-simclr-imagenet",
        "logo-byol-imagenet",
    }  # fmt: skip


def test_simsiam_for_cifar_has_the_crops_of_its_paper():
    for view in recipe("simsiam-cifar").method.views.views:
        assert (view.crop.area, view.blur) == ((0.2, 1.0), None)


def test_a_smaller_batch_of_supcon_for_cifar_has_a_smaller_rate():
    optimizer = recipe("supcon-cifar").optimizer
    assert optimizer.peak(1024) == 0.71
    assert optimizer.peak(256) == 0.71 / 4


def test_a_default_recipe_warms_up_for_a_tenth_of_its_epochs_at_most():
    found = default_recipe("simclr-v2", side=224, images=1_000_000, device="cuda")
    assert (found.epochs, found.schedule.warmup_epochs) == (200, 20)


@pytest.mark.parametrize(
    ("images", "length"), [(5000, 512), (50_000, 5000), (1_281_167, 65_536)]
)  # fmt: skip
def test_a_default_queue_is_a_tenth_of_the_images_and_two_batches_at_least(images, length):
    found = default_recipe("moco", side=224, images=images, device="cuda")
    assert found.method.memory == Queue(length=length)
    assert default_recipe("simclr", side=224, images=images, device="cuda").method.memory is None


@pytest.mark.parametrize(("images", "batch", "ghost"), [(50_000, 128, 64), (200, 32, 8)])
def test_a_default_batch_has_several_groups_of_batch_norm(images, batch, ghost):
    found = default_recipe("moco", side=32, images=images, device="cpu")
    assert (found.batch_size, found.method.ghost_batch_size) == (batch, ghost)


def test_moco_on_the_mean_of_both_directions_steps_like_the_notebook_on_their_sum():
    def trained(scale, rate, decay):
        weight = torch.nn.Parameter(torch.tensor([0.3, -1.0], dtype=torch.float64))
        optimizer = torch.optim.SGD([weight], lr=rate, momentum=0.9, weight_decay=decay)
        for step in range(5):
            optimizer.zero_grad()
            (scale * (weight * (step + 1)).sin().sum()).backward()
            optimizer.step()
        return weight.detach()

    found = recipe("moco-cifar")
    ours = trained(0.5, found.optimizer.peak(found.batch_size), found.optimizer.weight_decay)
    torch.testing.assert_close(ours, trained(1.0, 0.06, 5e-4))


def test_memories_and_averages_are_the_papers():
    moco, v1 = recipe("moco-imagenet").method, recipe("moco-v1-imagenet").method
    assert (moco.memory, moco.target) == (Queue(length=65_536), EMA(start=0.999, end=0.999))
    assert (moco.objective.temperature, v1.objective.temperature) == (0.2, 0.07)
    assert (moco.head.layers, v1.head.layers) == (2, 1)
    assert recipe("simclr-v2-imagenet").method.memory == Queue(length=65_536)
    assert recipe("byol-imagenet").method.target == EMA(start=0.99, end=1.0)


HEADS = {
    # parameters of head and predictor on a ResNet-50 (facts of the papers' code)
    "moco-imagenet": (4_458_624, None),
    "moco-v1-imagenet": (262_272, None),
    "simsiam-imagenet": (12_591_104, 2_100_224),
    "byol-imagenet": (9_449_472, 2_109_440),
    "simclr-v2-imagenet": (76_308_608, None),
    "supcon-imagenet": (262_144, None),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_have_the_size_of_the_papers(name):
    method, width = recipe(name).method, recipe(name).encoder.build_on_meta().features

    def count(spec, width):
        return sum(p.numel() for p in spec.outline(width).parameters())

    head, predictor = HEADS[name]
    assert count(method.head, width) == head
    if predictor is not None:
        assert count(method.predictor, method.head.output) == predictor


def test_logits_follow_the_classes_of_the_data():
    found = for_classes(recipe("supervised-cpu"), 37)
    assert (found.method.head.output, found.method.objective.classes) == (37, 37)
    assert for_classes(recipe("simclr-cpu"), 37) == recipe("simclr-cpu")


def test_temperature_of_a_method_without_one_is_refused():
    with pytest.raises(InvalidValue, match="has none"):
        change(recipe("byol-cpu"), temperature=0.1)


def test_strength_of_views_without_color_jitter_is_refused():
    with pytest.raises(InvalidValue, match="none of its views has a color jitter"):
        change(recipe("supcon-imagenet"), jitter_strength=0.5)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"jitter_strength": -1.0}, "`jitter_strength` is -1"), ({"size": 0}, "`size` is 0"),
        ({"epochs": "abc"}, "`epochs` is 'abc'; expected a number"),
        ({"learning_rate": "abc"}, "`learning_rate` is 'abc'; expected a number"),
        ({"batch_size": [8]}, r"`batch_size` is \[8\]; expected a whole number"),
        ({"batch_size": 8.5}, "`batch_size` is 8.5; expected a whole number"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_are_no_such_numbers_are_named(setting, said):
    with pytest.raises(InvalidValue, match=said):
        change(recipe("simclr-cpu"), **setting)


def test_strength_is_of_every_color_jitter_that_there_is():
    base = recipe("simclr-cpu")
    one_branch = replace(base, method=replace(base.method, views=asymmetric(32)))
    expected = Jitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)
    for start, jitters in ((base, [expected, expected]), (one_branch, [expected, None])):
        found = change(start, jitter_strength=0.25).method
        assert [view.jitter for view in found.views.views] == jitters


def test_crops_are_options_of_any_recipe():
    assert len(change(recipe("simclr-cpu"), local_crops=3).method.views.views) == 5
    with_logo = change(recipe("byol-cpu"), affinity="learned")
    assert with_logo == replace(recipe("logo-byol-cpu"), name="byol-cpu")


def test_classes_per_batch_divide_the_batch():
    assert change(recipe("supcon-cpu"), classes_per_batch=8).classes_per_batch == 8
    with pytest.raises(InvalidValue, match="divisor of the batch"):
        change(recipe("supcon-cpu"), classes_per_batch=7)


@pytest.mark.parametrize(("side", "name"), [(32, "simclr-cpu"), (240, "simclr-photos-cpu")])
def test_simclr_on_a_cpu_is_tuned_for_small_images_and_for_photographs_apart(side, name):
    found, expected = default_recipe("simclr", side=side, images=5000, device="cpu"), recipe(name)
    assert found.method == expected.method
    assert found.optimizer == expected.optimizer
    assert found.encoder == expected.encoder


def test_numbers_of_numpy_are_taken_as_pythons():
    changed = change(recipe("simclr-cpu"), epochs=np.float32(2), batch_size=np.int64(64))
    assert (changed.epochs, changed.batch_size) == (2.0, 64)
    assert (type(changed.epochs), type(changed.batch_size)) == (float, int)


def test_set_reaches_any_field_and_checks_its_type():
    base = recipe("moco-cpu")
    settings = (
        "method.memory.length=128", "method.views.views.1.blur=none", "optimizer.nesterov=false",
        "method.views.views.0.crop.area=0.3,0.9", "method.target.start=0.5",
    )  # fmt: skip
    changed = change(base, set=settings).method
    assert changed.memory == Queue(length=128)
    assert changed.target == EMA(start=0.5, end=0.99)
    assert changed.views.views[0].crop.area == (0.3, 0.9)
    assert changed.views.views[1].crop.area == base.method.views.views[1].crop.area


def test_settings_that_need_each_other_may_stand_in_any_order():
    settings = ("method.extra_norm=true", "method.form=c4")
    methods = [
        change(recipe("detect-cpu"), set=order).method for order in (settings, settings[::-1])
    ]
    assert methods[0] == methods[1]
    assert (methods[0].form, methods[0].extra_norm) == ("c4", True)
    with pytest.raises(CoviewError, match="extra_norm"):
        change(recipe("detect-cpu"), set=settings[:1])


def test_option_that_only_a_setting_makes_valid_comes_after_it():
    base = recipe("supcon-imagenet")
    with pytest.raises(CoviewError, match="leave one of them out") as e:
        change(base, learn_temperature=True)
    remedy = str(e.value).partition("`set` ")[2].partition(")")[0]
    changed = change(base, learn_temperature=True, set=(remedy,)).method.objective
    assert changed.learn_temperature
    assert not changed.scale_by_temperature


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("method.objective.temprature=1", "no field of InfoNCE 'temprature'.*'temperature'"),
        ("learning_rate=1", "Did you mean 'optimizer.learning_rate'?"),
        ("temperature=1", "Did you mean 'method.objective.temperature'?"),
        ("batch_size=many", "batch_size is 'many'; expected a whole number"),
        ("optimizer.name=sdg", "no value of optimizer.name 'sdg'.*'sgd'"),
        ("method.views.views.7.flip=1", "no field of tuple '7'"),
        ("epochs", "`set` is 'epochs'; expected FIELD=VALUE"),
        ("method.memory=5", "expected a Queue as JSON"),
        ("epochs=-1", "`epochs` is -1"),
    ],
)
def test_set_answers_a_mistake_with_a_sentence(setting, sentence):
    with pytest.raises(CoviewError, match=sentence):
        change(recipe("moco-cpu"), set=(setting,))


def test_an_optimizer_set_as_a_field_needs_its_learning_rate_as_the_option_does():
    base, name = recipe("simclr-cifar"), ("optimizer.name=adamw",)
    for settings in ({"set": name}, {"optimizer": "adamw"}):
        with pytest.raises(InvalidValue, match=r"adamw replaces lars.* give `learning_rate`"):
            change(base, **settings)
    by_field = change(base, set=(*name, "optimizer.learning_rate=0.001")).optimizer
    by_option = change(base, set=name, learning_rate=0.001).optimizer
    assert by_field.name == by_option.name == "adamw"
    assert by_field.learning_rate == by_option.learning_rate == 0.001
    same = f"optimizer.learning_rate={base.optimizer.learning_rate}"
    assert change(base, set=(*name, same)).optimizer.name == "adamw"


def test_set_takes_a_value_as_json():
    changed = change(recipe("moco-cpu"), set=('method.memory={"type": "Queue", "length": 7}',))
    assert changed.method.memory == Queue(length=7)


def test_options_of_one_recipe_are_applied_together():
    changed = change(recipe("supcon-cpu"), batch_size=96, classes_per_batch=32)
    assert (changed.batch_size, changed.classes_per_batch) == (96, 32)


def test_an_option_is_one_field():
    """Another option that changes a recipe is one more field of the options' class."""

    @dataclass(frozen=True, kw_only=True)
    class More(RecipeOptions):
        momentum: float | None = option("of the optimizer", changes="optimizer.momentum")

    words = ["--momentum", "0.5", "--epochs", "3"]
    changed = apply_options(recipe("simclr-cifar"), parse(More, "try", words))
    assert (changed.optimizer.momentum, changed.epochs) == (0.5, 3.0)


def test_a_registered_method_is_a_command_word(monkeypatch):
    """It is trained without a recipe of its own."""
    mine = replace(get_method("simclr")(32), name="mine")
    monkeypatch.setitem(METHODS, "mine", lambda size: replace(mine, views=simclr_plan(size)))
    for device, side in (("cpu", 32), ("cpu", 96), ("cuda", 224)):
        assert default_recipe("mine", side=side, images=5000, device=device).method.name == "mine"


def test_fine_tuning_has_the_numbers_of_the_papers():
    v1, v2 = recipe("finetune-v1-imagenet"), recipe("finetune-v2-imagenet")
    assert v1.optimizer.peak(4096) == pytest.approx(0.8)
    assert v2.optimizer.peak(1024) == pytest.approx(0.16)
    assert (v1.optimizer.name, v1.optimizer.nesterov, v2.optimizer.name) == ("sgd", True, "lars")
    assert {each.optimizer.weight_decay for each in (v1, v2)} == {0.0}
    assert {each.schedule.warmup_epochs for each in (v1, v2)} == {0}
    shares = [(0.01, 60), (0.1, 30), (1.0, 30)]
    for share, epochs in shares:
        assert for_label_share(v1, share).epochs == for_label_share(v2, share).epochs == epochs
    kept = [for_label_share(v2, share).kept_head for share, _ in shares]
    assert [each and each.layers for each in kept] == [1, 1, None]
    # The released files are of steps 751, 3,754 and 37,535, one step more than ours.
    images = {0.01: 12_811, 0.1: 128_116, 1.0: 1_281_167}
    steps = [images[share] * epochs // 1024 + 1 for share, epochs in shares]
    assert steps == [751, 3754, 37535]


@pytest.mark.parametrize("field", ["local_crops", "affinity"])
def test_local_crops_are_not_added_to_a_recipe_that_has_them(field):
    value = {"local_crops": 4, "affinity": "cosine"}[field]
    with pytest.raises(InvalidValue, match=f"`{field}` adds local crops .* has 4 views"):
        change(recipe("multi-crop-simclr-cpu"), **{field: value})
