import threading
import time

import numpy as np
import pytest
import torch

from coview.core.errors import DataError, InvalidValue
from coview.core.keys import Domain, permutation
from coview.training import Feed

IDS = np.arange(100, 123, dtype=np.int64) * 7919


def render(rows, ids, epoch):
    """One pixel a view: which row, which epoch."""
    rows = torch.from_numpy(rows).float()
    return rows[:, None, None, None], torch.full((len(rows), 1, 1, 1), float(epoch))


def feed(**changes):
    settings = {"batch_size": 4, "seed": 3, "total_steps": 13, **changes}
    labels = settings.pop("labels", None)
    return Feed(IDS, labels, settings.pop("render", render), **settings)


def seen(batches):
    return [(b.step, b.epoch, b.views[0].flatten().tolist(), b.ids.tolist()) for b in batches]


@pytest.fixture
def no_threads_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("start", [0, 6, 12, 13])
def test_feed_is_the_same_with_any_number_of_workers(workers, start):
    assert seen(feed(workers=workers, start_step=start)) == seen(feed(start_step=start))


@pytest.mark.parametrize("workers", [0, 2])
def test_feed_started_later_goes_on_as_if_never_stopped(workers):
    whole = seen(feed())
    assert whole == seen(feed(total_steps=7)) + seen(feed(start_step=7, workers=workers))


def test_feed_epoch_is_the_keyed_permutation_without_its_rest():
    batches = list(feed(total_steps=10))
    for epoch in (0, 1):
        rows = [int(r) for b in batches if b.epoch == epoch for r in b.views[0].flatten()]
        expected = permutation(3, Domain.ORDER, IDS, epoch=epoch)
        assert rows == expected[:20].tolist()
    assert [b.epoch for b in batches] == [0] * 5 + [1] * 5


def test_feed_ids_and_labels_are_those_of_the_rows():
    labels = np.arange(23, dtype=np.int64) * 2
    for batch in feed(labels=labels, workers=2):
        rows = batch.views[0].flatten().long()
        assert batch.ids.tolist() == IDS[rows].tolist()
        assert batch.labels.tolist() == labels[rows].tolist()


def test_feed_without_labels_has_none():
    assert next(iter(feed())).labels is None


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_feed_error_names_the_rows_at_its_own_step(workers):
    whole = list(feed())
    bad = int(whole[8].views[0][0])

    def failing(rows, ids, epoch):
        if bad in rows and epoch == 1:
            raise DataError("half a picture")
        return render(rows, ids, epoch)

    got = []
    with pytest.raises(DataError, match="half a picture") as caught:
        got.extend(feed(render=failing, workers=workers))
        got.extend(batch.step for batch in feed(render=failing, workers=workers))
    (note,) = caught.value.__notes__
    assert "step 8 of epoch 1" in note
    assert str(bad) in note


@pytest.mark.usefixtures("no_threads_left")
def test_feed_error_comes_after_the_batches_before_it():
    def failing(rows, ids, epoch):
        if epoch == 1:
            raise ValueError("late")
        return render(rows, ids, epoch)

    got = []
    with pytest.raises(ValueError, match="late"):
        for batch in feed(render=failing, workers=2):
            got.append(batch.step)
    assert got == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("no_threads_left")
def test_feed_closed_early_stops_its_threads():
    batches = iter(feed(workers=3, total_steps=10_000))
    next(batches)
    assert any(t.name.startswith("coview-feed") for t in threading.enumerate())
    batches.close()


def test_feed_renders_ahead_but_no_more_than_its_bound():
    started = []

    def counting(rows, ids, epoch):
        started.append(time.perf_counter())
        return render(rows, ids, epoch)

    batches = iter(feed(render=counting, workers=2, total_steps=100))
    next(batches)
    time.sleep(0.1)
    assert len(started) == 4  # the one taken, and workers + 1 that wait
    batches.close()


def test_feed_without_workers_renders_in_the_callers_thread():
    threads = []

    def noting(rows, ids, epoch):
        threads.append(threading.current_thread())
        return render(rows, ids, epoch)

    list(feed(render=noting, total_steps=3))
    assert threads == [threading.current_thread()] * 3


def test_feed_measures_the_time_it_kept_the_caller_waiting():
    def slow(rows, ids, epoch):
        time.sleep(0.02)
        return render(rows, ids, epoch)

    inline = feed(render=slow, total_steps=5)
    list(inline)
    assert inline.seconds_waited >= 0.1
    ahead = feed(render=slow, total_steps=5, workers=1)
    for _ in ahead:
        time.sleep(0.04)
    assert ahead.seconds_waited < inline.seconds_waited


@pytest.mark.parametrize("wrong", [{"batch_size": 24}, {"batch_size": 0}, {"workers": -1}])
def test_feed_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidValue):
        feed(**wrong)


def test_feed_labels_of_another_length_are_refused():
    with pytest.raises(InvalidValue, match="2 labels for 23 images"):
        feed(labels=np.zeros(2, dtype=np.int64))
