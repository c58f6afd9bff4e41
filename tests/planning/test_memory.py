from dataclasses import replace

import pytest
import torch

from coview.core.errors import InvalidValue
from coview.core.machine import RUNS_HERE
from coview.encoders import parse_encoder
from coview.methods import Passes
from coview.planning import memory, planner
from coview.planning.memory import (
    SHARE,
    MemoryEstimate,
    exactness,
    free_bytes,
    plan_passes,
    usable_bytes,
)
from coview.planning.trial import Trial
from coview.recipes import build, build_task, change, recipe

CPU = torch.device("cpu")


def small(name="simclr-cpu", **changes):
    return replace(
        recipe(name), encoder=parse_encoder("resnet10/8-medium"), precision="fp32", **changes
    )


def estimate(recipe):
    return Trial(recipe, CPU).memory


def planned(recipe, need, free, *, images):
    return plan_passes(recipe, build(recipe), need, free, images=images)


def exact(recipe, images, micro_batch):
    return exactness(build(recipe), images, micro_batch)


NEED = MemoryEstimate(1000.0, 300.0)


def test_need_grows_with_the_batch_as_it_says():
    need = estimate(small())
    few, many = (Trial(small(), CPU)._saved_bytes(images)[0] for images in (8, 32))
    assert (many - few) / 24 == pytest.approx(need.whole, rel=0.02)


def test_need_is_at_least_what_convolutions_keep():
    """Two views; the stem alone keeps its input and its output, in float32."""
    stem = 4 * (3 * 32 * 32 + 8 * 16 * 16)
    need = estimate(small())
    assert need.whole > 2 * stem
    assert need.blocks is not None
    assert need.blocks < need.whole


def test_need_of_four_views_is_about_twice_that_of_two():
    two, four = (
        estimate(small()).whole,
        estimate(small("multi-crop-simclr-cpu")).whole,
    )
    assert four == pytest.approx(2 * two, rel=0.05)


def test_batch_that_fits_goes_whole():
    assert planned(small(), NEED, 256_000, images=256) == (Passes(), "")


def test_batch_that_fits_with_activation_checkpointing_is_exact():
    need = estimate(small())
    free = 256 * (need.whole + need.blocks) / 2
    passes, sentence = planned(small(), need, free, images=256)
    assert passes == Passes(activation_checkpointing=True)
    assert "same gradient" in sentence


def test_batch_that_is_too_large_gets_the_largest_micro_batch():
    need = estimate(small())
    free = 40 * need.whole
    passes, sentence = planned(small(), need, free, images=4096)
    assert passes == Passes(micro_batch=32)
    assert "BatchNorm sees 32 images" in sentence


def test_memory_for_not_even_two_images_is_refused():
    free = 1000
    with pytest.raises(InvalidValue, match="smaller `encoder`"):
        planned(small(), NEED, free, images=256)


def test_passes_that_were_asked_for_stay():
    free = 1000
    asked = small(passes=Passes(micro_batch=7))
    assert planned(asked, NEED, free, images=256) == (asked.passes, "")


def test_a_detector_that_does_not_fit_is_refused_and_takes_no_micro_batch():
    detector = change(recipe("detect-cpu"), encoder="resnet10/8-medium")
    learner = build_task(detector)
    with pytest.raises(InvalidValue, match="give `batch_size` 5, a smaller `size`, or several"):
        plan_passes(detector, learner, NEED, 5000.0, images=32)
    assert learner.unlike_in_parts(32, 4) == ""


def test_exactness_says_where_batch_norm_sees_a_part():
    assert "BatchNorm sees 8 images" in exact(small(), 256, 8)
    assert "BatchNorm sees 8 images" in exact(small("moco-cpu"), 256, 8)
    for micro_batch, images in ((64, 256), (128, 256)):  # whole groups of 64
        assert exact(small("moco-cpu"), images, micro_batch).endswith("exactly.")
    assert "BatchNorm sees 64 images" in exact(small("moco-cpu"), 200, 64)


def test_exactness_is_that_of_the_heads_too():
    group = replace(small(), encoder=parse_encoder("resnet10/4-medium+gn"))
    assert "BatchNorm sees 8 images" in exact(group, 256, 8)
    plain = replace(group.method, head=replace(group.method.head, batch_norm="none"))
    assert exact(replace(group, method=plain), 256, 8).endswith("exactly.")


def test_micro_batches_of_groups_are_whole_groups():
    need = estimate(small("moco-cpu"))
    free = 300 * need.whole
    passes, _ = planned(small("moco-cpu"), need, free, images=4096)
    assert passes == Passes(micro_batch=256)


def test_free_memory_is_some():
    assert 1e6 < free_bytes(CPU) < 1e14
    assert usable_bytes(CPU) == pytest.approx(SHARE * free_bytes(CPU), rel=0.2)


def test_memory_that_torch_keeps_of_an_earlier_run_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (30, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 45)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5)
    assert free_bytes(torch.device("cuda")) == 70
    monkeypatch.setenv(RUNS_HERE, "2")  # 40 of the 80 are for this run, of which it has 5
    assert free_bytes(torch.device("cuda")) == 35


def test_runs_side_by_side_have_equal_parts_of_the_memory(monkeypatch):
    monkeypatch.setattr(memory, "memory_bytes", lambda: 4000)
    assert free_bytes(CPU) == 4000  # far less than this machine has
    monkeypatch.setenv(RUNS_HERE, "4")
    assert free_bytes(CPU) == 1000


def test_what_does_not_fit_beside_other_runs_names_them(monkeypatch):
    need = estimate(small())
    monkeypatch.setenv(RUNS_HERE, "2")
    _, sentence = planned(small(), need, 40 * need.whole, images=4096)
    assert "can be used by each of 2 runs side by side (`jobs`): micro-batches of 32" in sentence
    assert "BatchNorm sees 32 images" in sentence
    with pytest.raises(InvalidValue, match="start fewer runs side by side, or give a smaller"):
        planned(small(), NEED, 1000, images=256)


def test_a_gpu_gets_what_torch_keeps_of_freed_tensors_back(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    memory.release(CPU)
    assert not calls
    memory.release(torch.device("cuda"))
    assert calls == ["empty"]


def test_moments_of_adamw_and_gradients_are_counted():
    trial = Trial(small(), CPU)
    trained = sum(p.nbytes for p in trial.learner.parameters() if p.requires_grad)
    assert trial.recipe.optimizer.name == "adamw"
    assert trial.optimizer_bytes == 3 * trained
    byol = Trial(small("byol-cpu"), CPU)  # the momentum encoder is not trained
    others = sum(p.nbytes for p in byol.learner.parameters())
    assert byol.optimizer_bytes < 3 * others


def test_free_memory_is_read_with_the_network_on_the_device(monkeypatch):
    trial = Trial(small(), CPU)
    needed = trial.recipe.batch_size * estimate(small()).whole
    seen = []

    def usable(device):
        seen.append("learner" in vars(trial))
        return needed + trial.optimizer_bytes * 0.9

    monkeypatch.setattr(planner, "usable_bytes", usable)
    fitted, _ = planner.fit_memory(trial, 1)
    assert seen == [True]
    assert fitted.passes != Passes()  # gradients and moments take the rest
