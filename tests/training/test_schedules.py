import numpy as np
import pytest

from coview.core.errors import InvalidValue, UnknownName
from coview.training import ScheduleSpec, steps_per_epoch, warmup_cosine


def test_schedule_gives_the_published_cifar_rates():
    rates = warmup_cosine(2.0, 97_657, 976)
    assert rates[0] == 0.0
    assert rates[1] == pytest.approx(0.00204918, abs=5e-9)
    assert rates[488] == pytest.approx(1.0)
    assert rates[976] == pytest.approx(2.0)
    assert rates[49_316] == pytest.approx(1.0000162, abs=5e-8)
    assert rates[97_656] == pytest.approx(5.28e-10, rel=1e-3)


def test_schedule_gives_the_published_imagenet_rates():
    rates = warmup_cosine(4.8, 31_279, 3_127)
    assert rates[1] == pytest.approx(0.00153502, abs=5e-9)
    assert rates[3_126] == pytest.approx(4.79846, abs=5e-6)
    assert rates[3_127] == pytest.approx(4.8)
    assert rates[17_203] == pytest.approx(2.4, abs=2e-4)


def test_schedule_rises_then_falls():
    rates = ScheduleSpec(warmup_epochs=2).rates(1.0, total_steps=100, steps_per_epoch=10)
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert rates.argmax() == 20


def test_schedule_ends_near_its_final_share():
    spec = ScheduleSpec(warmup_epochs=0, final=0.1)
    rates = spec.rates(2.0, total_steps=1000, steps_per_epoch=10)
    assert rates[0] == 2.0
    assert rates[-1] == pytest.approx(0.2, abs=1e-4)


def test_schedule_constant_stays_at_the_peak_after_the_warm_up():
    rates = ScheduleSpec(kind="constant", warmup_epochs=1).rates(
        3.0, total_steps=50, steps_per_epoch=10
    )
    assert (rates[10:] == 3.0).all()
    assert rates[:10].tolist() == pytest.approx([0.3 * step for step in range(10)])


def test_schedule_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(InvalidValue, match=r"`warmup_epochs` is 10 \(50 steps\)"):
        ScheduleSpec().rates(1.0, total_steps=50, steps_per_epoch=5)


@pytest.mark.parametrize(
    "wrong",
    [{"warmup_epochs": -1}, {"warmup_epochs": float("inf")}, {"final": 1.5},
     {"kind": "constant", "final": 0.5}],
)  # fmt: skip
def test_schedule_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidValue):
        ScheduleSpec(**wrong)


def test_schedule_unknown_kind_is_refused():
    with pytest.raises(UnknownName, match="cosine"):
        ScheduleSpec(kind="cosin")


def test_steps_per_epoch_drops_the_last_short_batch():
    assert steps_per_epoch(50_000, 512) == 97


@pytest.mark.parametrize(("images", "batch"), [(3, 4), (0, 4), (10, 0)])
def test_steps_per_epoch_needs_one_whole_batch(images, batch):
    with pytest.raises(InvalidValue):
        steps_per_epoch(images, batch)
