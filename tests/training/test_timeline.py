"""The schedule of a run whose length is planned again."""

import numpy as np
import pytest

from coview.core.values import decode_one, encode
from coview.methods import EMA
from coview.training import Schedule, ScheduleSpec, Timeline

SPEC = ScheduleSpec(warmup_epochs=1, final=0.1)


def along(timeline):
    return SPEC.rates_along(timeline, 1.0, steps_per_epoch=10)


def test_timeline_that_is_never_planned_again_gives_the_rates_bit_for_bit():
    straight = SPEC.rates(1.0, total_steps=1000, steps_per_epoch=10)
    assert along(Timeline.of(1000)).tobytes() == straight.tobytes()
    assert Timeline.of(1000).positions().tolist() == list(range(1000))


def test_timeline_planned_again_to_the_same_length_stays():
    assert along(Timeline.of(50).replan(20, total=50)).tobytes() == along(Timeline.of(50)).tobytes()


@pytest.mark.parametrize("totals", [(60, 45), (200, 300), (30, 500), (400, 40)])
def test_timeline_has_no_jump_and_ends_with_the_schedule(totals):
    """Against a sum of single paces: each step takes an equal share of what is left."""
    timeline, position, at, positions = Timeline.of(100), 0.0, {10: totals[0], 25: totals[1]}, []
    for step in range(totals[1]):
        if step in at:
            timeline = timeline.replan(step, total=at[step])
        assert timeline.position_of(step) == pytest.approx(position)
        positions.append(position)
        position += (100 - position) / (timeline.total - step)
    assert position == pytest.approx(100)
    assert timeline.position_of(timeline.total) == pytest.approx(100)
    assert (np.diff(positions) > 0).all()
    assert along(timeline)[-1] == pytest.approx(0.1, abs=0.02)


def test_timeline_survives_json_exactly():
    timeline = Timeline.of(97).replan(13, total=41).replan(29, total=77)
    assert decode_one(encode(timeline), Timeline) == timeline


def test_timeline_restarts_with_a_warm_up_of_a_tenth_at_most():
    rates = along(Timeline.of(100).restart(100, total=150))
    assert len(rates) == 150
    assert rates[100] == 0
    assert rates[105] == pytest.approx(1)  # of ten steps in the recipe
    assert (np.diff(rates[105:]) < 0).all()


def test_timeline_that_ends_now_needs_no_more_steps():
    ended = Timeline.of(100).replan(40, total=40)
    assert ended.position_of(40) == 40
    assert len(along(ended)) == 40


def test_schedule_scales_the_momentum_of_the_average_as_well():
    schedule = Schedule(along, Timeline.of(100))
    schedule.replan(50, total=75)
    target = EMA(start=0.9, end=1.0)
    momenta = [target.momentum(schedule.position(step), 100) for step in range(50, 76)]
    assert momenta[0] == target.momentum(50, 100)
    assert momenta[-1] == pytest.approx(1.0)
    assert (np.diff(momenta) > 0).all()
