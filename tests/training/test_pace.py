"""Budgets on a clock that the test turns: the loop, machines that get busy and free, resuming."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from coview.core.clock import Clock, command_since
from coview.core.files import read_lines
from coview.core.ranks import Ranks
from coview.training import (
    BatchLoader,
    MetricsLog,
    Pace,
    Schedule,
    ScheduleSpec,
    Timeline,
    choose_precision,
    train,
)

CPU = torch.device("cpu")


class Ticking(nn.Module):
    """A task whose step takes ``seconds(now)`` on the clock; notes the positions of its steps."""

    def __init__(self, now, seconds):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.now, self.seconds, self.positions = now, seconds, []

    def loss(self, batch, step):
        self.now[0] += self.seconds(self.now[0])
        return {"size": self.weight.square()}

    def after_step(self, step):
        self.positions.append(step)


def run(
    folder, seconds, *, budget=100.0, planned=100, closing=2.0, timeline=None, start=0, used=0.0,
    epoch_seconds=0.0, stop_after=None, every=1, estimate=None, **pace,
):  # fmt: skip
    """Train on a fake clock; (steps, seconds used with the closing, rows, the task, rates)."""
    now = [0.0]
    clock = Clock(budget, now=lambda: now[0])
    clock.go_on_from(used)
    task = Ticking(now, seconds)
    ids = np.arange(40)
    loader = BatchLoader(
        ids, None, lambda rows, ids, epoch: (torch.zeros(len(rows), 1, 1, 1),), batch_size=2,
        seed=0, total_steps=None, start_step=start, workers=0,
    )  # fmt: skip
    spec = ScheduleSpec(warmup_epochs=0)
    schedule = Schedule(
        lambda line: spec.rates_along(line, 1.0, steps_per_epoch=20),
        timeline or Timeline.of(planned),
    )
    log = MetricsLog(folder / "metrics.jsonl", chance_level=1.0, every=every, step=start)

    def on_epoch(step, last):
        now[0] += epoch_seconds
        return epoch_seconds > 0

    taken = itertools.count(1)
    outcome = train(
        task, loader, optimizer=torch.optim.SGD(task.parameters()), schedule=schedule,
        precision=choose_precision("fp32", CPU), metrics_log=log, save=lambda step: None,
        on_epoch=on_epoch, pace=Pace(clock, closing=estimate or closing, **pace),
        stop=lambda: "stopped" if next(taken) == stop_after else "",
    )  # fmt: skip
    slower = seconds(now[0]) / seconds(0.0)
    now[0] += closing * slower**0.7
    return outcome, clock.used, read_lines(folder / "metrics.jsonl"), task, schedule


def busy_between(first, last, factor):
    return lambda now: 0.5 * (factor if first <= now < last else 1)


@pytest.mark.parametrize(
    "seconds",
    [
        lambda now: 0.5, lambda now: 0.1, lambda now: 2.5, busy_between(40, 70, 4),
        busy_between(0, 50, 5), busy_between(50, 1000, 5), busy_between(90, 1000, 5),
        lambda now: 0.5 * (1 + (int(now) // 7) % 2 * 3),
    ],
    ids=["as planned", "fast", "slow", "busy between", "free later", "busy later", "busy at the end",
         "on and off"],
)  # fmt: skip
@pytest.mark.parametrize("planned", [100, 7, 4000])
def test_budget_is_met_at_any_load_and_by_any_plan(tmp_path, seconds, planned):
    outcome, used, rows, task, schedule = run(tmp_path, seconds, planned=planned, epoch_seconds=0.2)
    assert used == pytest.approx(100, rel=0.05)
    assert outcome.step == len(task.positions) == schedule.total_steps
    assert (np.diff(task.positions) > 0).all()
    plans = [row for row in rows if row["kind"] == "plan"]
    assert all(later["step"] > row["step"] for row, later in itertools.pairwise(plans))
    assert (plans[-1]["total_steps"] if plans else planned) == outcome.step


def test_budget_learns_from_later_reports_what_the_last_one_takes(tmp_path):
    # The first report took 19 s, because libraries were loaded in it; the others take 1 s.
    _, used, *_ = run(tmp_path, lambda now: 0.5, estimate=21.0, report=19.0, epoch_seconds=1.0)
    assert used == pytest.approx(100, rel=0.05)


def test_budget_ends_the_decay_with_the_time(tmp_path):
    *_, task, schedule = run(tmp_path, busy_between(30, 60, 6), planned=190)
    assert task.positions[-1] == pytest.approx(190, rel=0.03)
    assert schedule.rates[-1] < 0.01


def test_budget_whose_time_is_over_ends_at_the_next_report(tmp_path):
    outcome, *_ = run(tmp_path, lambda now: 0.5 if now < 20 else 500.0, every=2, planned=600)
    assert not outcome.stopped
    assert outcome.step == 42


def test_budget_makes_no_more_than_the_most_steps(tmp_path):
    outcome, used, *_ = run(tmp_path, lambda now: 0.1, planned=100, most_steps=150)
    assert outcome.step == 150
    assert used == pytest.approx(17)


def test_budget_of_two_trainings_is_shared(tmp_path):
    _, used, *_ = run(tmp_path, lambda now: 0.1, trainings=2)
    assert used == pytest.approx(51, abs=1.5)  # 49 s for each, and the closing


def test_budget_without_an_end_plans_nothing(tmp_path):
    outcome, _, rows, *_ = run(tmp_path, lambda now: 3.0, budget=None, planned=30)
    assert outcome.step == 30
    assert {row["kind"] for row in rows} == {"step"}


def test_budget_goes_on_under_resume_from_the_time_and_the_timeline_of_the_checkpoint(tmp_path):
    first, used, _, before, schedule = run(tmp_path, lambda now: 0.5, planned=60, stop_after=50)
    used -= 2  # the closing, which a stopped run has not
    assert first.step == 50
    second, used, _, after, ended = run(
        tmp_path, lambda now: 1.0, start=50, used=used, timeline=schedule.timeline
    )
    assert used == pytest.approx(100, rel=0.05)
    assert after.positions[0] == schedule.position(50)
    assert (np.diff([*before.positions, *after.positions]) > 0).all()
    assert second.step == ended.total_steps


def test_budget_says_when_the_speed_is_another_than_planned(tmp_path):
    _, _, rows, *_ = run(tmp_path, lambda now: 2.0, planned=190)
    texts = [row["text"] for row in rows if row["kind"] == "event"]
    assert len(texts) == 1
    assert texts[0].startswith("The steps are slower than planned: ")


def test_budget_of_a_resumed_run_is_met_although_most_of_it_is_done(tmp_path):
    """It reports by its whole length, and goes on at another speed than it was planned by."""
    done, planned = 50_000, 52_400
    _, used, rows, *_ = run(
        tmp_path, lambda now: 2.5, start=done, timeline=Timeline.of(planned), every=planned // 300
    )
    assert used == pytest.approx(100, rel=0.25)
    assert any(row["kind"] == "plan" for row in rows)


def test_budget_replans_only_what_matters(tmp_path):
    """Steps whose time varies by 1 % leave the plan as it is."""
    noise = np.random.default_rng(0)
    _, _, rows, *_ = run(tmp_path, lambda now: 0.5 * noise.normal(1, 0.01), planned=190)
    assert len([row for row in rows if row["kind"] == "plan"]) < 15


def test_budget_is_decided_by_the_first_rank(tmp_path, monkeypatch):
    """The second rank's clock says otherwise; it takes the total that rank 0 has sent."""
    from coview.training.loop import _replan

    monkeypatch.setattr(Ranks, "sizes", lambda self, count: (70, count))
    schedule = Schedule.fixed([0.1] * 100)
    now = [0.0]
    pace = Pace(Clock(100.0, now=lambda: now[0]))
    pace.begin(0)
    now[0] = 50.0
    _replan(schedule, pace, 10, MetricsLog(None, chance_level=1.0), Ranks(rank=1, world=2))
    assert schedule.total_steps == 70


def test_clock_of_a_command_begins_with_the_command(monkeypatch):
    monkeypatch.setattr("coview.core.clock.time.monotonic", lambda: 50.0)
    with command_since(20.0):
        assert Clock(60.0).left == 30.0
    assert Clock(60.0).left == 60.0


def test_clock_counts_the_seconds_of_before_once():
    clock = Clock(60.0, now=lambda: 0.0)
    clock.go_on_from(10.0)
    clock.go_on_from(25.0)  # the training from scratch of the same run
    assert clock.used == 25.0
