"""What a plan says before the first step."""

from dataclasses import dataclass, replace
from importlib import import_module

import pytest
import torch

import coview
from coview.core.errors import CoviewError, InvalidValue, UnknownName
from coview.core.machine import RUNS_HERE
from coview.methods import (
    CrossEntropy,
    MarginTriplet,
    NTLogistic,
    NTXent,
    Passes,
    SupCon,
    logo,
)
from coview.options import RecipeOptions
from coview.planning.defaults import default_recipe, unfitted_recipe
from coview.planning.plan import fit_to_batch
from coview.planning.planner import fit_memory
from coview.planning.text import (
    about_defaults,
    about_groups,
    about_method,
    about_options,
    about_precision,
    about_scratch,
    about_the_run,
)
from coview.planning.trial import Speed, Trial
from coview.recipes import apply_options, change, recipe
from coview.training.precision import Precision
from small_run import SMALL, pictures

CPU = torch.device("cpu")


def test_plan_names_method_recipe_views_objective_and_temperature():
    said = about_method(recipe("simclr-cpu"))
    assert said == ("simclr (recipe simclr-cpu): views 2 of 32 px, NTXent at temperature 0.1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Softened(NTXent):
    """A user's objective, which says itself what a plan tells of it."""

    factor: float = 2.0

    def in_words(self):
        return f"{NTXent.in_words(self)}, times {self.factor:g}"


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (NTXent(temperature=0.5, normalize=False, negatives="other views"),
         "NTXent at temperature 0.5, rows not normalized, negatives of the other view"),
        (SupCon(temperature=0.1, form="in", positives_cap=3, scale_by_temperature=True),
         "SupCon at temperature 0.1, form in, at most 3 positives of a row, times the temperature"),
        (NTLogistic(temperature=0.5, learn_temperature=True, semi_hard=True),
         "NTLogistic at temperature 0.5, which is learned, semi-hard negatives"),
        (MarginTriplet(margin=0.8), "MarginTriplet with margin 0.8"),
        (CrossEntropy(classes=10), "CrossEntropy"),
        (Softened(temperature=0.5), "Softened at temperature 0.5, times 2"),
    ],
)  # fmt: skip
def test_an_objective_is_said_in_its_own_words(objective, words):
    base = recipe("simclr-cpu")
    said = about_method(replace(base, method=replace(base.method, objective=objective)))
    assert said == f"simclr (recipe simclr-cpu): views 2 of 32 px, {words}."


def test_plan_says_what_repels_and_what_is_learned():
    base = change(recipe("moco-cpu"), learn_temperature=True)
    method = logo(base.method, local_size=16, affinity="cosine", gradient_ratio=0.5)
    said = about_method(replace(base, method=method))
    assert "2 of 32 px and 2 of 16 px" in said
    assert "temperature 0.2, which is learned" in said
    assert said.endswith(
        "local views repel each other by their cosine affinity (gradient ratio 0.5)."
    )


def test_plan_says_that_keys_share_statistics_with_their_queries():
    one = change(recipe("moco-cpu"), batch_size=32)
    (said,) = about_groups(one, 1)
    assert "The batch of 32 is one group of BatchNorm" in said
    assert said.endswith("`set` method.ghost_batch_size=8 makes several.")
    several = change(one, set=("method.ghost_batch_size=8",))
    for recipe_, world in ((several, 1), (recipe("moco-cpu"), 1), (one, 2)):
        assert not list(about_groups(recipe_, world))
    assert not list(about_groups(change(recipe("simclr-cpu"), batch_size=32), 1))
    assert not list(about_groups(change(one, micro_batch=16), 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 50}, ["`epochs` 50 shortens the warm-up of 10 epochs to 5, a tenth of the run; "
                          "`warmup_epochs` sets it."]),
        ({"optimizer": "sgd", "learning_rate": 0.1},
         ["`optimizer` sgd begins without weight decay, as the 0.001 of adamw does not carry over; "
          "`weight_decay` sets it."]),
        ({"epochs": 50, "warmup_epochs": 2}, []), ({"epochs": 100}, []), ({"learning_rate": 1}, []),
        ({"epochs": 50, "set": ("schedule.warmup_epochs=3",)}, []),
        ({"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0}, []),
        ({"optimizer": "sgd", "learning_rate": 0.1, "set": ("optimizer.weight_decay=1e-4",)}, []),
    ],
)  # fmt: skip
def test_plan_says_what_an_option_changes_besides_its_own_field(options, words):
    base = change(recipe("simclr-cpu"), epochs=100, warmup_epochs=10, weight_decay=0.001)
    given = RecipeOptions(**options)
    assert list(about_options(base, apply_options(base, given), given)) == words


@pytest.mark.parametrize("given", ["simclr-cpu", recipe("simclr-cpu")])
def test_a_run_is_told_so_of_a_recipe_by_name_and_as_a_value(given, said):
    coview.pretrain(
        pictures(), recipe=given, optimizer="sgd", learning_rate=0.1, epochs=1, dry_run=True,
        **SMALL,
    )  # fmt: skip
    assert any("shortens the warm-up of" in line for line in said)
    assert any("begins without weight decay" in line for line in said)


def test_plan_says_which_queue_and_groups_were_chosen():
    small = default_recipe("moco", side=32, images=200, device="cpu")
    queue, groups = about_defaults(small, 200)
    assert queue.startswith("The queue has 64 keys, two batches")
    assert groups.startswith("BatchNorm takes its statistics of groups of 8 images")
    middle = default_recipe("moco", side=32, images=5000, device="cpu")
    (queue,) = about_defaults(middle, 5000)
    assert queue.startswith("The queue has 500 keys, about a tenth of the images")
    assert not list(
        about_defaults(default_recipe("moco", side=32, images=50_000, device="cpu"), 50_000)
    )
    assert not list(about_defaults(recipe("simclr-cpu"), 200))


def chosen(name, images, *, named, **options):
    """A recipe with options, as make_plan fits it, and what it says."""
    given = RecipeOptions(**options)
    base = recipe(name) if named else unfitted_recipe(name, side=32, images=images, device="cpu")
    return fit_to_batch(apply_options(base, given), given, images, named=named)


def test_a_queue_of_a_recipe_by_name_is_shortened_and_said():
    found, (note,) = chosen("moco-imagenet", 10_000, named=True)
    assert found.method.memory.length == 1000
    assert note.startswith("The queue has 1,000 keys in place of the recipe's 65,536, about a")
    assert chosen("moco-imagenet", 1_281_167, named=True) == (recipe("moco-imagenet"), ())
    assert chosen("simclr-cpu", 100, named=True) == (recipe("simclr-cpu"), ())


def test_a_queue_fits_the_batch_that_is_asked_for():
    found, notes = chosen("moco", 5000, named=False, batch_size=512)
    assert found.method.memory.length == 1024
    assert notes[0].startswith("The queue has 1,024 keys, two batches")
    plain, _ = chosen("moco", 5000, named=False)
    assert plain == default_recipe("moco", side=32, images=5000, device="cpu")


@pytest.mark.parametrize(("name", "named"), [("moco-imagenet", True), ("moco", False)])
def test_a_queue_and_groups_that_the_user_sets_stay(name, named):
    words = ("method.memory.length=4000", "method.ghost_batch_size=32")
    found, _ = chosen(name, 200, named=named, batch_size=32, set=words)
    assert (found.method.memory.length, found.method.ghost_batch_size) == (4000, 32)


def test_micro_batch_of_the_whole_batch_is_said_to_have_no_effect():
    wanted = change(recipe("simclr-cpu"), micro_batch=512, encoder="resnet18/8-small", size=8)
    fitted, notes = fit_memory(Trial(wanted, CPU), 1)
    assert fitted.passes.micro_batch is None
    assert notes == ("`micro_batch` 512 has no effect: the batch is of 128 images.",)


@pytest.mark.parametrize(("size", "sentences"), [(8, 1), (32, 0)])
def test_float32_where_the_hardware_has_bf16_is_explained(monkeypatch, size, sentences):
    for module in ("training.precision", "planning.text"):
        monkeypatch.setattr(f"coview.{module}.computes_in_bf16", lambda device: True)
    wanted = change(recipe("simclr-cpu"), encoder="resnet18/8-medium", size=size)
    notes = list(about_precision(wanted, Trial(wanted, CPU).precision))
    assert len(notes) == sentences
    assert all("float32" in note for note in notes)


@pytest.mark.parametrize(("has_bf16", "precision"), [(False, "auto"), (True, "fp32")])
def test_float32_is_not_explained_where_it_was_asked_for_or_there_is_no_bf16(
    monkeypatch, has_bf16, precision
):
    small = change(recipe("simclr-cpu"), size=8, precision=precision)
    monkeypatch.setattr("coview.planning.text.computes_in_bf16", lambda device: has_bf16)
    assert not list(about_precision(small, Precision(CPU, "fp32")))


def test_a_recipe_as_a_value_is_trained_exactly_or_refused(said):
    images = pictures()
    mine = change(recipe("simclr-cpu"), size=8, encoder="resnet18/8-small", epochs=1)
    with pytest.raises(InvalidValue, match=r"`batch_size` 256 does not fit: .* images are left"):
        coview.pretrain(images, recipe=replace(mine, batch_size=256), dry_run=True, device="cpu")
    with pytest.raises(InvalidValue, match="`budget` does not go with it"):
        coview.pretrain(images, recipe=mine, budget="5m", dry_run=True, device="cpu")
    coview.pretrain(images, recipe=replace(mine, batch_size=64), dry_run=True, device="cpu")
    assert any(line.startswith("Batch 64, 1 epoch ") for line in said)
    ten = replace(recipe("supervised-cpu"), epochs=1, batch_size=64)
    with pytest.raises(InvalidValue, match="has 10 classes and the images have 3"):
        coview.pretrain(images, recipe=ten, size=8, dry_run=True, device="cpu")


def test_a_recipe_as_a_value_that_does_not_fit_into_memory_is_refused(monkeypatch):
    mine = change(recipe("simclr-cpu"), size=8, encoder="resnet18/8-small")
    free = 1e6 + Trial(mine, CPU).optimizer_bytes
    monkeypatch.setattr("coview.planning.planner.usable_bytes", lambda device: free)
    with pytest.raises(InvalidValue, match=r"is not changed: set its passes to Passes\("):
        fit_memory(Trial(mine, CPU), 1, exact=True)
    monkeypatch.setenv(RUNS_HERE, "2")
    with pytest.raises(InvalidValue, match=r"each of 2 runs.*start fewer runs side by side, or"):
        fit_memory(Trial(mine, CPU), 1, exact=True)
    fitted, notes = fit_memory(Trial(mine, CPU), 1)
    assert fitted.passes != mine.passes
    assert len(notes) == 1


def test_a_recipe_as_a_value_takes_what_gives_the_same_gradient(monkeypatch):
    mine = change(recipe("simclr-cpu"), size=8, encoder="resnet18/8-small")
    trial = Trial(mine, CPU)
    free = mine.batch_size * (trial.memory.whole + trial.memory.blocks) / 2
    free += trial.optimizer_bytes
    monkeypatch.setattr("coview.planning.planner.usable_bytes", lambda device: free)
    fitted, (note,) = fit_memory(trial, 1, exact=True)
    assert fitted == replace(mine, passes=Passes(activation_checkpointing=True))
    assert "which gives the same gradient" in note


def test_a_smaller_batch_than_that_of_a_named_recipe_is_said(said):
    coview.pretrain(
        pictures(), recipe="simclr-cpu", size=8, encoder="resnet18/8-small", epochs=1,
        dry_run=True, device="cpu",
    )  # fmt: skip
    assert any("in place of the recipe's 128" in line for line in said)


def test_little_data_or_few_steps_are_said_but_not_to_a_run_that_has_weights(tmp_path, said):
    assert not list(about_scratch(recipe("simclr-cpu"), 50_000))
    assert list(about_scratch(recipe("simclr-cpu"), 1_900))
    assert list(about_scratch(replace(recipe("simclr-cpu"), epochs=1), 50_000))
    run = coview.pretrain(pictures(), out=tmp_path / "run", epochs=1, **SMALL)
    assert any("`weights`" in line for line in said)
    said.clear()
    coview.pretrain(pictures(), weights=run.path, epochs=1, dry_run=True, **SMALL)
    assert not any("`weights`" in line for line in said)


@pytest.fixture
def said(monkeypatch):
    lines = []
    for module in ("start", "finish", "pretraining"):
        monkeypatch.setattr(
            import_module(f"coview.runs.{module}"),
            "say",
            lambda *line, **_: lines.append(" ".join(line)),
        )
    return lines


def test_dry_run_makes_no_folder_and_minds_none(tmp_path, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert coview.pretrain(pictures(), out=tmp_path / "full", dry_run=True, **SMALL) is None
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    assert any(line.startswith("simclr (recipe ") for line in said)


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "nofile"}, {"classes_per_batch": 4}, {"epochs": 1, "warmup_epochs": 5},
        {"recipe": "simcrl"},
    ],
    ids=str,
)  # fmt: skip
def test_dry_run_refuses_what_a_run_would_refuse(tmp_path, options):
    images = pictures()[0]
    for dry_run in (False, True):
        with pytest.raises(CoviewError):
            coview.pretrain(images, out=tmp_path / "run", dry_run=dry_run, **{**SMALL, **options})
        assert not (tmp_path / "run").exists()


def test_budget_that_leaves_no_time_for_training_says_where_it_goes():
    with pytest.raises(InvalidValue, match="went to opening the images and planning"):
        coview.pretrain(pictures(), budget="3s", dry_run=True, **SMALL)


def test_budget_with_epochs_keeps_them_and_says_so(said):
    coview.pretrain(pictures(), budget="5m", epochs=3, dry_run=True, **SMALL)
    text = " ".join(said)
    assert "`epochs` 3 is kept" in text
    assert "fastest" not in text
    assert ", 3 epochs of " in text


def test_encoder_that_was_asked_for_is_not_explained_by_the_images(said):
    coview.pretrain(pictures(), epochs=1, dry_run=True, **SMALL)
    text = " ".join(said)
    assert "as asked" in text
    assert ", 1 epoch of " in text


def test_a_learned_temperature_is_said_at_the_end_and_recorded(tmp_path, said):
    run = coview.pretrain(
        pictures(), out=tmp_path / "run", epochs=2, learn_temperature=True, **SMALL
    )
    health = [row for row in run.metrics() if row["kind"] == "health"]
    assert health[0]["temperature"] == pytest.approx(0.1)
    assert health[-1]["temperature"] != health[0]["temperature"]
    assert any(line.startswith("Temperature: 0.") for line in said)


def test_temperature_cannot_be_learned_where_there_is_none():
    with pytest.raises(InvalidValue, match="`learn_temperature` has no effect on byol"):
        change(recipe("byol-cpu"), learn_temperature=True)


def test_recipe_value_of_the_users_own_is_asked_for_in_a_sentence():
    from coview.core.values import decode

    with pytest.raises(UnknownName, match=r"'Twice'.*name the file that defines it"):
        decode({"type": "Twice"}, [])


@pytest.mark.parametrize(
    ("low", "high", "busy", "says"),
    [(90.0, 110.0, False, False), (90.0, 110.0, True, True), (24.0, 648.0, False, True)],
)
def test_a_plan_says_where_other_programs_slow_it(low, high, busy, says, monkeypatch):
    monkeypatch.setattr("coview.planning.text.is_busy", lambda: busy)
    lines = about_the_run(
        recipe("simclr-cpu"), 1000, 100_000, Speed(median=99.0, low=low, high=high)
    )
    assert ("Other programs use the cores" in " ".join(lines)) == says


def test_a_range_of_one_duration_is_left_out(monkeypatch):
    speeds = Speed(median=100.0, low=99.0, high=101.0)
    _, short, *_ = about_the_run(recipe("simclr-cpu"), 1000, 100, speeds)
    assert short == "About 1 s of training at the 100 views/s measured here."
    _, long, *_ = about_the_run(recipe("simclr-cpu"), 1000, 6000, speeds)
    assert "(59 s to 61 s)" in long
