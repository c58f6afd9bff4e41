"""How many batches are rendered ahead: bounded by the cores and by the memory of the machine."""

import numpy as np
import pytest
import torch

from coview.core.images import store_from_arrays
from coview.core.machine import RUNS_HERE
from coview.data.spec import DataSpec
from coview.options import RecipeOptions
from coview.planning.plan import make_plan
from coview.recipes import batches, change, recipe
from coview.recipes.batches import bytes_of_views, make_loader, render_ahead
from coview.runs.job import Session

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 1 << 30
LARGE = change(recipe("simclr-imagenet"), batch_size=4096)


@pytest.fixture
def machine(monkeypatch):
    """Give this machine so many cores, and so much memory in GiB."""

    def make(cores, memory):
        monkeypatch.setattr(batches, "cores", lambda: cores)
        monkeypatch.setattr(batches, "memory_bytes", lambda: memory * GIB)

    return make


def test_usual_batches_have_a_thread_on_a_cpu_and_up_to_eight_beside_a_gpu(machine):
    for cores, threads in ((1, 1), (4, 3), (9, 8), (64, 8)):
        machine(cores, 16)
        assert render_ahead(recipe("simclr-cpu"), CPU).workers == 1
        found = render_ahead(recipe("simclr-cpu"), CUDA)
        assert (found.workers, found.ahead, found.note) == (threads, threads + 1, "")


def test_large_batches_have_fewer_threads_and_the_plan_says_so(machine):
    """4,096 images of 224 px: a view takes 2.3 GiB, page-locked 4; three threads hold five batches
    of two views, and three more while they are copied."""
    machine(16, 128)
    view = 4096 * 3 * 224 * 224 * 4
    assert bytes_of_views(LARGE, 4096) == [view, view]
    found = render_ahead(LARGE, CUDA)
    assert (found.workers, found.ahead) == (3, 4)
    assert 5 * 8 * GIB + 3 * 2 * view < 64 * GIB < 6 * 8 * GIB + 4 * 2 * view
    assert found.note.startswith("3 threads in place of 8 and 4 batches ahead in place of 9:")
    assert "would take 116.8 GiB of this machine's memory, and 64.0 GiB can be used" in found.note
    machine(16, 40)
    assert (render_ahead(LARGE, CUDA).workers, render_ahead(LARGE, CUDA).ahead) == (1, 1)
    machine(16, 8)  # one thread at least
    assert (render_ahead(LARGE, CPU).workers, render_ahead(LARGE, CPU).ahead) == (1, 1)


def test_threads_that_are_given_stay(machine):
    machine(16, 8)
    found = render_ahead(LARGE, CUDA, workers=5)
    assert (found.workers, found.ahead, found.note) == (5, 6, "")


def test_processes_and_runs_side_by_side_share_cores_and_memory(machine, monkeypatch):
    machine(16, 128)
    assert render_ahead(LARGE, CUDA, world=8).workers == 8  # 512 images each
    monkeypatch.setenv(RUNS_HERE, "2")
    assert render_ahead(recipe("simclr-cpu"), CUDA).workers == 7
    assert render_ahead(LARGE, CUDA).workers == 1
    monkeypatch.setenv(RUNS_HERE, "8")
    assert render_ahead(recipe("simclr-cpu"), CUDA).workers == 1
    assert render_ahead(recipe("simclr-cpu"), CPU).workers == 1


def test_views_of_the_device_take_none_of_this_memory(machine, monkeypatch):
    machine(16, 8)
    monkeypatch.setenv("COVIEW_RENDER_ON", "device")
    assert render_ahead(LARGE, CUDA).workers == 8


def test_the_loader_renders_no_more_than_that(machine):
    store = store_from_arrays(np.zeros((8, 8, 8, 3), np.uint8))
    small = change(recipe("simclr-cpu"), batch_size=4, size=8)
    machine(16, 8)
    loader = make_loader(small, store, CUDA)
    assert (loader.workers, loader.ahead) == (8, 9)
    machine(16, 1e-6)
    loader = make_loader(small, store, CUDA)
    assert (loader.workers, loader.ahead) == (1, 1)
    loader.pin, loader.total_steps, started, seen = False, 6, [], []
    render = loader.render

    def counted(*args):
        started.append(len(seen))
        return render(*args)

    loader.render = counted
    for batch in loader:
        seen.append(batch.step)
        assert len(started) <= len(seen) + 1  # one ahead of that of the step
    assert seen == list(range(6))


def test_a_plan_says_that_fewer_batches_are_ahead(machine):
    machine(16, 1e-6)
    store = store_from_arrays(np.zeros((64, 8, 8, 3), np.uint8))
    options = RecipeOptions(encoder="resnet18/8-small", size=8, batch_size=16, epochs=1)
    chosen = make_plan(Session(device=CPU).planner(store), "simclr", options)
    assert any(note.startswith("1 batch ahead in place of 2") for note in chosen.notes)


def test_images_of_runs_side_by_side_share_the_memory(monkeypatch):
    shares = []
    monkeypatch.setattr(
        "coview.data.spec.open_images", lambda *_, memory_share, **__: shares.append(memory_share)
    )
    spec = DataSpec.of("scenes")
    spec.open()
    monkeypatch.setenv(RUNS_HERE, "4")
    spec.open()
    assert shares == [0.25, 0.25 / 4]
