"""Speed is measured after warming up, on whole batches, in proportion; impossible numbers are not
taken. The clock is the test's."""

import itertools
from dataclasses import replace

import pytest
import torch

from coview.core.clock import Clock
from coview.core.images import store_from_arrays
from coview.core.memory import DoesNotFit
from coview.methods import Passes
from coview.options import RecipeOptions
from coview.planning import planner
from coview.planning.plan import make_plan
from coview.planning.trial import Speed, Trial
from coview.recipes import change, recipe
from coview.runs.job import Session
from small_run import pictures

CPU = torch.device("cpu")
STORE = store_from_arrays(pictures()[0])
TINY = change(recipe("byol-cpu"), encoder="resnet10/8-small", size=8, batch_size=16)


def trial(seconds):
    """A trial whose looks at the clock are so many ``seconds`` apart."""
    moments = itertools.accumulate(itertools.chain([0.0], seconds))
    return Trial(TINY, CPU, STORE, Clock(now=lambda: next(moments)))


def test_speed_leaves_out_the_first_steps_and_takes_the_median():
    steps = [0.0, 9.0, 5.0, 1.0, 1.0, 3.0, *[1.0] * 9]  # to the clock's start, warming up, measured
    speed = trial(steps).speed(16, seconds=4.5)
    assert speed.median == 32  # views of 16 images in a second
    assert speed.low < 32 < speed.high


def test_speed_of_very_long_steps_is_taken_from_fewer_of_them():
    speed = trial(itertools.repeat(7.0)).speed(16, seconds=0.1)
    assert speed.median == pytest.approx(32 / 7)


def test_a_probe_takes_the_fastest_step_of_the_whole_batch():
    """Steps of 8 images, of 16 (the batch): to warm up, and disturbed ones."""
    steps = [0.1, 0.1, 0.9, 0.4, 0.3, 0.5, 0.6]
    looks = itertools.chain.from_iterable((0.0, step) for step in steps)
    assert trial(looks).probe(most_images=16, enough=1.0, steps=5) == (16, pytest.approx(0.3))


def test_a_probe_ends_where_a_step_is_long():
    looks = itertools.chain.from_iterable((0.0, step) for step in (3.0, 2.0))
    assert trial(looks).probe(most_images=16, enough=1.0, steps=5) == (8, pytest.approx(2.0))


def test_speed_bounds_hold_eight_of_ten_steps_and_are_never_narrow():
    steady, noisy = Speed.of(100, [1.0] * 10), Speed.of(100, [1.0] * 8 + [2.0] * 2)
    assert (steady.low, steady.high) == (95.0, 105.0)
    assert noisy.median == 100
    assert noisy.low == pytest.approx(50)


class Measured:
    """In place of a trial's measurements: (probed seconds, speeds of whole batches) by encoder."""

    def __init__(self, monkeypatch, table):
        self.calls = []
        self.table = {name: (probe, iter(speeds)) for name, (probe, speeds) in table.items()}
        for name in ("probe", "speed"):
            monkeypatch.setattr(Trial, name, getattr(self, name))

    def probe(self, *, most_images, enough):
        self.calls.append("probe")
        return self.current[0]

    def speed(self, images, *, seconds, workers=None):
        self.calls.append((images, seconds))
        return Speed.of(1, [1 / next(self.current[1])])


def plan(monkeypatch, table, *, budget=None, **options):
    measured = Measured(monkeypatch, table)
    fit = planner.fit_memory

    def note(trial, world, *, exact=False):
        measured.current = measured.table[trial.recipe.encoder.label()]
        return fit(trial, world, exact=exact)

    monkeypatch.setattr(planner, "fit_memory", note)
    clock = Clock(budget, now=lambda: 0.0)
    chosen = make_plan(
        Session(device=CPU, clock=clock).planner(STORE), "simclr", RecipeOptions(**options)
    )
    return chosen, measured


LADDER = ("ResNet-18, small stem", "ResNet-18 width 1/2, medium stem",
          "ResNet-10 width 1/2, medium stem", "ResNet-18 width 1/4, medium stem",
          "ResNet-10 width 1/4, medium stem")  # fmt: skip


def ladder_table(*speeds):
    """Of the ladder on a CPU, the most demanding first; each measured the same at every time."""
    return {
        name: ((32, 64 / speed), itertools.repeat(speed))
        for name, speed in zip(LADDER, speeds, strict=True)
    }


def test_a_budget_chooses_the_largest_network_that_makes_enough_epochs(monkeypatch):
    """160 images, two views, 60 epochs: 19,200 views in 95 % of 94 s, so 215 a second."""
    chosen, measured = plan(monkeypatch, ladder_table(20, 50, 260, 400, 900), budget=100.0)
    assert chosen.recipe.encoder.label() == "ResNet-10 width 1/2, medium stem"
    assert any("ResNet-18 width 1/2" in note and "too slow" in note for note in chosen.notes)
    assert chosen.most_epochs == planner.MAX_EPOCHS
    assert measured.calls.count("probe") == 4  # the largest of all is not tried


def test_a_budget_that_fits_no_network_tries_the_fastest_alone(monkeypatch):
    chosen, measured = plan(monkeypatch, ladder_table(1, 2, 3, 4, 50), budget=100.0)
    assert chosen.recipe.encoder.label() == "ResNet-10 width 1/4, medium stem"
    assert measured.calls.count("probe") == 1


def test_a_whole_batch_much_slower_than_a_small_one_is_measured_again(monkeypatch):
    table = {"ResNet-18 width 1/8, small stem": ((8, 0.016), [10.0, 900.0])}
    chosen, measured = plan(
        monkeypatch, table, encoder="resnet18/8-small", size=8, batch_size=32, epochs=2
    )
    assert chosen.speed.median == pytest.approx(900)
    assert [call[0] for call in measured.calls if call != "probe"] == [32, 32]


def test_a_larger_network_that_is_faster_than_a_smaller_one_is_measured_again(monkeypatch):
    table = ladder_table(20, 50, 260, 400, 900)
    table["ResNet-18 width 1/4, medium stem"] = ((32, 0.16), [5000.0, 410.0])
    chosen, _ = plan(monkeypatch, table, budget=100.0)
    assert chosen.recipe.encoder.label() == "ResNet-10 width 1/2, medium stem"


@pytest.mark.parametrize(("budget", "most"), [(60.0, 0.6), (1800.0, 3.0)])
def test_measuring_takes_a_small_share_of_the_budget(monkeypatch, budget, most):
    _, measured = plan(monkeypatch, ladder_table(1, 2, 3, 4, 50), budget=budget)
    assert all(call[1] <= most for call in measured.calls if call != "probe")


def test_the_estimate_says_how_sure_it_is(monkeypatch):
    table = {"ResNet-18 width 1/8, small stem": ((32, 0.5), [100.0])}
    chosen, _ = plan(
        monkeypatch, table, encoder="resnet18/8-small", size=8, batch_size=32, epochs=60
    )
    views = chosen.recipe.total_steps(len(STORE)) * 64
    assert chosen.seconds == pytest.approx(views / 100)
    (line,) = (note for note in chosen.notes if note.startswith("About "))
    assert line.startswith("About 3 min of training at the 100 views/s")


def test_epochs_that_are_given_do_not_follow_the_clock(monkeypatch):
    chosen, _ = plan(monkeypatch, ladder_table(20, 50, 260, 400, 900), budget=100.0, epochs=3)
    assert chosen.recipe.epochs == 3
    assert chosen.most_epochs is None


NAMED = {"encoder": "resnet18/8-small", "size": 8, "batch_size": 32, "epochs": 2}


def test_a_plan_takes_smaller_passes_where_a_step_does_not_fit(monkeypatch):
    """The estimate says that the batch fits; the passes are those that a run would come to."""
    tried = []

    def probe(trial, *, most_images, enough):
        tried.append(trial.learner.passes)
        if (trial.learner.passes.micro_batch or 32) > 8:
            raise DoesNotFit("A batch of 32 images does not fit.")
        return most_images, 0.1

    monkeypatch.setattr(Trial, "probe", probe)
    monkeypatch.setattr(Trial, "speed", lambda *_, **__: Speed.of(64, [0.1]))
    chosen = make_plan(Session(device=CPU).planner(STORE), "simclr", RecipeOptions(**NAMED))
    blocks = Passes(activation_checkpointing=True)
    assert tried == [
        Passes(),
        blocks,
        replace(blocks, micro_batch=16),
        replace(blocks, micro_batch=8),
    ]
    assert chosen.recipe.passes == tried[-1]
    (note,) = (each for each in chosen.notes if each.startswith("A step that was tried"))
    assert "BatchNorm sees 8 images at a time" in note


def test_a_recipe_as_a_value_takes_only_what_gives_the_same_gradient(monkeypatch):
    fits = Passes(activation_checkpointing=True)

    def speed(trial, *_, **__):
        if trial.learner.passes != fits:
            raise DoesNotFit("A batch of 32 images does not fit.")
        return Speed.of(64, [0.1])

    monkeypatch.setattr(Trial, "speed", speed)
    mine = change(recipe("simclr-cpu"), **NAMED)
    chosen = make_plan(Session(device=CPU).planner(STORE), mine, RecipeOptions())
    assert chosen.recipe == replace(mine, passes=fits)
    fits = Passes(micro_batch=16)
    with pytest.raises(DoesNotFit, match="given as a value is not changed"):
        make_plan(Session(device=CPU).planner(STORE), mine, RecipeOptions())
