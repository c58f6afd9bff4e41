from dataclasses import replace

import pytest
import torch

from coview.core.errors import InvalidValue
from coview.encoders import parse_encoder
from coview.methods import Passes
from coview.planning import memory
from coview.planning.memory import estimate_memory, exactness, free_bytes, plan_passes
from coview.recipes import recipe

CPU = torch.device("cpu")


def small(name="simclr-cpu", **changes):
    return replace(
        recipe(name), encoder=parse_encoder("resnet10/8-medium"), precision="fp32", **changes
    )


def with_free(monkeypatch, count):
    monkeypatch.setattr(memory, "free_bytes", lambda device: count / memory.SHARE)


def test_need_grows_with_the_batch_as_it_says():
    need = estimate_memory(small(), CPU)
    few, many = (memory._kept(small(), CPU, images)[0] for images in (8, 32))
    assert (many - few) / 24 == pytest.approx(need.whole, rel=0.02)


def test_need_is_at_least_what_convolutions_keep():
    """Two views; the stem alone keeps its input and its output, in float32."""
    stem = 4 * (3 * 32 * 32 + 8 * 16 * 16)
    need = estimate_memory(small(), CPU)
    assert need.whole > 2 * stem
    assert need.blocks is not None
    assert need.blocks < need.whole


def test_need_of_four_views_is_about_twice_that_of_two():
    two, four = (
        estimate_memory(small(), CPU).whole,
        estimate_memory(small("multi-crop-simclr-cpu"), CPU).whole,
    )
    assert four == pytest.approx(2 * two, rel=0.05)


def test_batch_that_fits_goes_whole(monkeypatch):
    with_free(monkeypatch, 1e12)
    assert plan_passes(small(), CPU, images=256) == (Passes(), "")


def test_batch_that_fits_with_blocks_run_again_is_exact(monkeypatch):
    need = estimate_memory(small(), CPU)
    with_free(monkeypatch, 256 * (need.whole + need.blocks) / 2)
    passes, sentence = plan_passes(small(), CPU, images=256)
    assert passes == Passes(activation_checkpointing=True)
    assert "same gradient" in sentence


def test_batch_that_is_too_large_gets_the_largest_micro_batch(monkeypatch):
    need = estimate_memory(small(), CPU)
    with_free(monkeypatch, 40 * need.whole)
    passes, sentence = plan_passes(small(), CPU, images=4096)
    assert passes == Passes(micro_batch=32)
    assert "BatchNorm sees 32 images" in sentence


def test_memory_for_not_even_two_images_is_refused(monkeypatch):
    with_free(monkeypatch, 1000)
    with pytest.raises(InvalidValue, match="smaller --encoder"):
        plan_passes(small(), CPU, images=256)


def test_passes_that_were_asked_for_stay(monkeypatch):
    with_free(monkeypatch, 1000)
    asked = small(passes=Passes(micro_batch=7))
    assert plan_passes(asked, CPU, images=256) == (asked.passes, "")


def test_exactness_says_where_batch_norm_sees_a_part():
    assert "BatchNorm sees 8 images" in exactness(small(), 256, 8)
    assert "BatchNorm sees 8 images" in exactness(small("moco-cpu"), 256, 8)
    for micro_batch, images in ((64, 256), (128, 256)):  # whole groups of 64
        assert exactness(small("moco-cpu"), images, micro_batch).endswith("exactly.")
    assert "BatchNorm sees 64 images" in exactness(small("moco-cpu"), 200, 64)
    group = replace(small(), encoder=parse_encoder("resnet10/8-medium+gn"))
    assert exactness(group, 256, 8).endswith("exactly.")


def test_micro_batches_of_groups_are_whole_groups(monkeypatch):
    need = estimate_memory(small("moco-cpu"), CPU)
    with_free(monkeypatch, 300 * need.whole)
    passes, _ = plan_passes(small("moco-cpu"), CPU, images=4096)
    assert passes == Passes(micro_batch=256)


def test_free_memory_is_some():
    assert 1e6 < free_bytes(CPU) < 1e14
