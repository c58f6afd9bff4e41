"""Where views for a GPU are rendered: on the CPU, unless the one setting says otherwise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coview.core.errors import UnknownName
from coview.core.images import store_from_arrays
from coview.core.memory import DoesNotFit
from coview.evaluation import features, pixel_subject
from coview.recipes import batches, recipe
from coview.views import RENDER_ON, ViewPlan, eval_view, render_device, views_of

STORE = store_from_arrays(np.arange(4 * 192, dtype=np.uint32).astype(np.uint8).reshape(4, 8, 8, 3))
CUDA = torch.device("cuda", 1)


@pytest.fixture
def rendered_on(monkeypatch):
    """The devices that views_of is called with; it renders on the CPU for all of them."""
    devices = []
    for module in (features, batches):
        real = module.views_of

        def views_of(*args, device=None, real=real, **kwargs):
            devices.append(torch.device(device))
            return real(*args, **kwargs)

        monkeypatch.setattr(module, "views_of", views_of)
    # As if the transfer went to the device, which is not there.
    monkeypatch.setattr(features, "pinned", lambda tensor, device: tensor)
    monkeypatch.setattr(features, "to_device", lambda tensor, device: tensor)
    return devices


def test_the_cpu_renders_for_a_gpu_by_default(monkeypatch):
    monkeypatch.delenv(RENDER_ON, raising=False)
    assert render_device(CUDA) == render_device("cpu") == torch.device("cpu")


def test_the_setting_moves_rendering_to_the_device(monkeypatch):
    monkeypatch.setenv(RENDER_ON, "device")
    assert render_device(CUDA) == CUDA
    assert render_device("cpu") == torch.device("cpu")


def test_another_word_is_refused(monkeypatch):
    monkeypatch.setenv(RENDER_ON, "gpu")
    with pytest.raises(UnknownName, match=r"COVIEW_RENDER_ON.*'gpu'.*device"):
        render_device("cpu")


@pytest.mark.parametrize(("word", "expected"), [("cpu", torch.device("cpu")), ("device", CUDA)])
def test_evaluation_and_training_render_where_the_setting_says(
    word, expected, rendered_on, monkeypatch
):
    monkeypatch.setenv(RENDER_ON, word)
    plan = ViewPlan(views=(eval_view(8),))
    features.embed_views(lambda x: (x.mean(1),), STORE, plan, device=CUDA, workers=0)
    subject = pixel_subject(8)
    list(features.vectors_of_parts(subject, [STORE], device=CUDA))
    small = replace(recipe("simclr-cpu"), batch_size=2)
    loader = batches.make_loader(small, STORE, CUDA, workers=0, total_steps=1)
    loader.render(np.arange(2), STORE.ids[:2], 0)
    assert rendered_on == [expected] * 3


def test_views_that_do_not_fit_on_the_device_are_one_sentence(monkeypatch):
    """Also where a thread renders them."""

    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setenv(RENDER_ON, "device")
    monkeypatch.setitem(views_of.__globals__, "render_reference_window", full)
    small, plan = replace(recipe("simclr-cpu"), batch_size=2), ViewPlan(views=(eval_view(8),))
    loader = batches.make_loader(small, STORE, CUDA, workers=2, total_steps=1)
    loader.pin = False
    sentence = r"^The views of 2 images at a time do not fit into the memory of cuda:1; unset COVI"
    with pytest.raises(DoesNotFit, match=sentence):
        next(iter(loader))
    with pytest.raises(DoesNotFit, match=sentence):
        features.embed_views(None, STORE, plan, device=CUDA, batch_size=2, workers=2)
    with pytest.raises(DoesNotFit, match="The views of 4 images"):
        list(features.vectors_of_parts(pixel_subject(8), [STORE], device=CUDA))


def test_vectors_are_the_same_for_any_number_of_threads():
    plan = ViewPlan(views=(eval_view(8),))
    found = [
        features.embed_views(lambda x: (x.flatten(1),), STORE, plan, batch_size=1, workers=workers)
        for workers in (0, 3)
    ]
    assert torch.equal(found[0][0][0], found[1][0][0])
