"""What only a CUDA device can show; `make gpu` runs these first. Skipped without one."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from coview.core.images import store_from_arrays
from coview.core.repeatable import repeatable
from coview.core.tensors import to_device
from coview.evaluation import extract
from coview.evaluation.features import Subject
from coview.methods import get_method
from coview.methods.view_pair_objectives import NTLogistic
from coview.recipes import recipe
from coview.recipes.batches import make_loader
from coview.testing.methods import Colors, make_batch, make_learner
from coview.training import OptimizerSpec, collect, restore
from coview.training.precision import Precision
from coview.training.step import seed_torch, train_step
from coview.views import eval_view

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda", 0)
WAIT = "called a synchronizing"  # torch also warns, once, that this mode is a prototype
SPEC = OptimizerSpec(name="adamw", learning_rate=0.01, scaling="none")


def begun(method, format="fp32"):
    learner, precision = make_learner(method), Precision(CUDA, format)
    precision.prepare(learner)
    return learner, SPEC.build(learner), precision


METHODS = {name: get_method(name)(8) for name in ("simclr", "supcon", "moco", "byol", "simsiam")}
METHODS["nt-logistic"] = replace(METHODS["simclr"], objective=NTLogistic(temperature=0.2))


@pytest.mark.parametrize("name", METHODS)
def test_the_host_waits_once_in_a_step(name):
    method = METHODS[name]
    learner, optimizer, precision = begun(method)
    with repeatable(CUDA):  # as training does
        train_step(learner, make_batch(method), optimizer, 0.01, precision)
    batch = precision.place(make_batch(method))
    torch.cuda.synchronize()
    with repeatable(CUDA), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train_step(learner, batch, optimizer, 0.01, precision)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [f"{w.filename}:{w.lineno}" for w in caught if WAIT in str(w.message)]
    assert len(places) == 1, places


@pytest.mark.parametrize("format", ["fp32", "bf16"])
def test_a_resumed_run_has_the_same_bits(format):
    method = get_method("moco")(8)

    def steps(learner, optimizer, precision, numbers):
        for step in numbers:
            seed_torch(0, step, CUDA)
            train_step(learner, make_batch(method, step=step), optimizer, 0.01, precision)
        return learner.state_dict()

    with repeatable(CUDA):
        whole = steps(*begun(method, format), range(6))
        first = begun(method, format)
        steps(*first, range(3))
        state = {name: tensor.cpu() for name, tensor in collect(*first[:2]).items()}
        second = begun(method, format)
        restore(*second[:2], state)
        resumed = steps(*second, range(3, 6))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_batches_come_in_page_locked_memory():
    store = store_from_arrays(np.zeros((8, 8, 8, 3), np.uint8))
    small = make_loader(replace(recipe("simclr-cpu"), batch_size=4), store, CUDA, total_steps=1)
    (batch,) = small
    assert all(view.is_pinned() for view in batch.views)
    assert batch.to(CUDA).views[0].device == CUDA


def test_a_copy_may_be_dropped_before_it_has_ended():
    """The memory of one is not handed out again for the next while the copy is under way."""
    copies = [to_device(torch.full((1 << 20,), float(k)), CUDA) for k in range(50)]
    assert [float(copy.sum() / (1 << 20)) for copy in copies] == list(range(50))


def test_features_are_those_of_the_cpu():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    store, encoder = store_from_arrays(pixels), Colors().eval()
    subject = Subject(name="colors", encoder=encoder, view=eval_view(8))
    here = extract(subject, store).layers["h"]
    encoder.to(CUDA)
    there = extract(subject, store, device=CUDA, batch_size=6).layers["h"]
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def test_a_gpu_other_than_the_current_one_is_seeded():
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    draws = []
    for _ in range(2):
        seed_torch(3, 1, device)
        draws.append(torch.rand(4, device=device))
    assert torch.equal(*draws)
