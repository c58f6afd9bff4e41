import threading
import time

import numpy as np
import pytest
import torch

from coview.core.errors import DataError, InvalidValue
from coview.core.ranks import Ranks
from coview.core.rng import Stream, permutation
from coview.training import BatchLoader
from coview.training.loader import shares

IDS = np.arange(100, 123, dtype=np.int64) * 7919


def render(rows, ids, epoch):
    """One pixel a view: which row, which epoch."""
    rows = torch.from_numpy(rows).float()
    return rows[:, None, None, None], torch.full((len(rows), 1, 1, 1), float(epoch))


def loader(**changes):
    settings = {"batch_size": 4, "seed": 3, "total_steps": 13, **changes}
    labels = settings.pop("labels", None)
    return BatchLoader(IDS, labels, settings.pop("render", render), **settings)


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
def test_loader_is_the_same_with_any_number_of_workers(workers, start):
    assert seen(loader(workers=workers, start_step=start)) == seen(loader(start_step=start))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_started_later_goes_on_as_if_never_stopped(workers):
    whole = seen(loader())
    assert whole == seen(loader(total_steps=7)) + seen(loader(start_step=7, workers=workers))


def test_loader_epoch_is_the_keyed_permutation_without_its_rest():
    batches = list(loader(total_steps=10))
    for epoch in (0, 1):
        rows = [int(r) for b in batches if b.epoch == epoch for r in b.views[0].flatten()]
        expected = permutation(3, Stream.ORDER, IDS, draw_index=epoch)
        assert rows == expected[:20].tolist()
    assert [b.epoch for b in batches] == [0] * 5 + [1] * 5


def test_loader_ids_and_labels_are_those_of_the_rows():
    labels = np.arange(23, dtype=np.int64) * 2
    for batch in loader(labels=labels, workers=2):
        rows = batch.views[0].flatten().long()
        assert batch.ids.tolist() == IDS[rows].tolist()
        assert batch.labels.tolist() == labels[rows].tolist()


def test_loader_without_labels_has_none():
    assert next(iter(loader())).labels is None


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loader_error_names_the_rows_at_its_own_step(workers):
    whole = list(loader())
    bad = int(whole[8].views[0][0])

    def failing(rows, ids, epoch):
        if bad in rows and epoch == 1:
            raise DataError("half a picture")
        return render(rows, ids, epoch)

    got = []
    with pytest.raises(DataError, match="half a picture") as caught:
        got.extend(loader(render=failing, workers=workers))
        got.extend(batch.step for batch in loader(render=failing, workers=workers))
    (note,) = caught.value.__notes__
    assert "step 8 of epoch 1" in note
    assert str(bad) in note


@pytest.mark.usefixtures("no_threads_left")
def test_loader_error_comes_after_the_batches_before_it():
    def failing(rows, ids, epoch):
        if epoch == 1:
            raise ValueError("late")
        return render(rows, ids, epoch)

    got = []
    with pytest.raises(ValueError, match="late"):
        for batch in loader(render=failing, workers=2):
            got.append(batch.step)
    assert got == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("no_threads_left")
def test_loader_closed_early_stops_its_threads():
    batches = iter(loader(workers=3, total_steps=10_000))
    next(batches)
    assert any(t.name.startswith("coview-loader") for t in threading.enumerate())
    batches.close()


def test_loader_renders_ahead_but_no_more_than_its_bound():
    started = []

    def counting(rows, ids, epoch):
        started.append(time.perf_counter())
        return render(rows, ids, epoch)

    batches = iter(loader(render=counting, workers=2, total_steps=100))
    next(batches)
    time.sleep(0.1)
    assert len(started) == 4  # the one taken, and workers + 1 that wait
    batches.close()


def test_loader_without_workers_renders_in_the_callers_thread():
    threads = []

    def noting(rows, ids, epoch):
        threads.append(threading.current_thread())
        return render(rows, ids, epoch)

    list(loader(render=noting, total_steps=3))
    assert threads == [threading.current_thread()] * 3


def test_loader_measures_the_time_it_kept_the_caller_waiting():
    def slow(rows, ids, epoch):
        time.sleep(0.02)
        return render(rows, ids, epoch)

    inline = loader(render=slow, total_steps=5)
    list(inline)
    assert inline.seconds_waited >= 0.1
    ahead = loader(render=slow, total_steps=5, workers=1)
    for _ in ahead:
        time.sleep(0.04)
    assert ahead.seconds_waited < inline.seconds_waited


@pytest.mark.parametrize("wrong", [{"batch_size": 24}, {"batch_size": 0}, {"workers": -1}])
def test_loader_that_cannot_be_is_refused(wrong):
    with pytest.raises(InvalidValue):
        loader(**wrong)


def test_loader_labels_of_another_length_are_refused():
    with pytest.raises(InvalidValue, match="2 labels for 23 images"):
        loader(labels=np.zeros(2, dtype=np.int64))


def of_world(world, **changes):
    return [list(loader(ranks=Ranks(rank=rank, world=world), **changes)) for rank in range(world)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_loader_of_several_ranks_gives_the_batch_of_one_in_parts(world, workers):
    labels = np.arange(23, dtype=np.int64) * 2
    whole = list(loader(labels=labels, workers=workers))
    parts = of_world(world, labels=labels, workers=workers)
    for step, batch in enumerate(whole):
        shared = [rank[step] for rank in parts]
        for slot, view in enumerate(batch.views):
            assert torch.equal(torch.cat([part.views[slot] for part in shared]), view)
        assert torch.equal(torch.cat([part.ids for part in shared]), batch.ids)
        assert torch.equal(torch.cat([part.labels for part in shared]), batch.labels)
        assert {part.sizes for part in shared} == {tuple(map(len, shared))}
        assert {(part.step, part.epoch) for part in shared} == {(batch.step, batch.epoch)}
    assert {batch.sizes for batch in whole} == {()}


def test_loader_goes_on_with_another_number_of_ranks_as_if_never_stopped():
    def init_distributed(parts):
        return [
            (step[0].step, torch.cat([part.views[0].flatten() for part in step]).tolist())
            for step in zip(*parts, strict=True)
        ]

    whole = init_distributed([list(loader())])
    assert whole == [
        *init_distributed(of_world(4, total_steps=5)),
        *init_distributed(of_world(3, start_step=5, total_steps=9)),
        *init_distributed(of_world(1, start_step=9)),
    ]


def test_loader_rank_renders_its_own_images_only():
    seen_rows = []

    def noting(rows, ids, epoch):
        seen_rows.append(len(rows))
        return render(rows, ids, epoch)

    list(loader(render=noting, ranks=Ranks(rank=2, world=3), total_steps=2))
    assert seen_rows == [1, 1]


def test_shares_differ_by_at_most_one_and_the_first_are_larger():
    assert shares(10, 4) == (3, 3, 2, 2)
    assert shares(8, 4) == (2, 2, 2, 2)
    assert shares(4, 4) == (1, 1, 1, 1)


def test_loader_batch_smaller_than_the_world_is_refused():
    with pytest.raises(InvalidValue, match="`batch_size` is 4; 5 processes need at least 5"):
        loader(ranks=Ranks(rank=0, world=5))


def test_batch_keeps_its_sizes_on_a_device():
    (batch,) = loader(ranks=Ranks(rank=0, world=3), total_steps=1)
    assert batch.to(torch.device("meta")).sizes == (2, 1, 1)
