"""How a batch fits into memory: measured on a few images, planned before the first step."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.core.machine import memory_bytes, processes_here
from coview.methods import Passes
from coview.methods.passes import find_blocks
from coview.planning.speed import example_batch
from coview.recipes import Recipe
from coview.recipes.build import build, precision_of

# Of what is free: the allocator's gaps, gradients and moments, and views rendered ahead want room.
SHARE = 0.7
FEW, MORE = 4, 8


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that the backward pass keeps of each image, all its views together: of ``whole``
    passes, and with ``blocks`` run again (None for an encoder without blocks)."""

    whole: float
    blocks: float | None


def plan_passes(recipe: Recipe, device: torch.device, *, images: int) -> tuple[Passes, str]:
    """How a process's ``images`` of each batch go through the recipe's network here, and a sentence
    that says so.

    Whole where that fits; else with each residual block run again in the backward pass, which is
    exact; else in the largest micro-batch that fits. The sentence is "" where nothing had to be
    changed. Raises InvalidValue where not even two images fit.
    """
    if recipe.passes != Passes():
        return recipe.passes, ""
    free, need = SHARE * free_bytes(device), estimate_memory(recipe, device)
    if images * need.whole <= free:
        return recipe.passes, ""
    why = (
        f"A batch of {images:,} images needs about {_size(images * need.whole)} and {_size(free)} "
        "can be used"
    )
    if need.blocks is not None and images * need.blocks <= free:
        return Passes(activation_checkpointing=True), (
            f"{why}: each residual block is recomputed in the backward pass "
            "(`activation_checkpointing`), "
            "which gives the same gradient for about a third more time."
        )
    part = int(free // need.whole)
    if part < 2:
        raise InvalidValue(
            f"{why}, which is not enough for two; give a smaller --encoder or --size."
        )
    part = 2 ** (part.bit_length() - 1)
    group = recipe.method.ghost_batch_size
    if group is not None and part > group:
        part -= part % group  # whole groups, so that they are those of the whole batch
    return Passes(micro_batch=part), f"{why}: {exactness(recipe, images, part)}"


def exactness(recipe: Recipe, images: int, micro_batch: int) -> str:
    """What is exact about micro-batches of ``images`` under the recipe, and what is not."""
    said = (
        f"micro-batches of {micro_batch} (--micro-batch), run again in the backward pass for about "
        "a third more time. The gradient is that of the whole batch's loss"
    )
    method, group = recipe.method, recipe.method.ghost_batch_size
    whole_groups = group is not None and images % micro_batch == 0 and micro_batch % group == 0
    if method.batch_norm == "frozen" or recipe.encoder.norm == "group" or whole_groups:
        return f"{said}, exactly."
    return f"{said}; BatchNorm sees {micro_batch} images at a time instead of the batch."


def estimate_memory(recipe: Recipe, device: torch.device) -> MemoryEstimate:
    """Counted from the tensors that autograd saves for a batch of 4 images and one of 8."""
    few, more = (_kept(recipe, device, images) for images in (FEW, MORE))
    whole, blocks = ((b - a) / (MORE - FEW) for a, b in zip(few, more, strict=True))
    return MemoryEstimate(whole, blocks if few != (few[0], few[0]) else None)


def free_bytes(device: torch.device) -> float:
    """Memory that this process may still take on ``device``."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    here = processes_here()
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return float(min(int(line.split()[1]) * 1024, memory_bytes())) / here
    return memory_bytes() / 2 / here


def _kept(recipe: Recipe, device: torch.device, images: int) -> tuple[float, float]:
    """Bytes kept for a batch of ``images``: of whole passes, and of blocks that are run again,
    which keep their inputs and, one at a time, what they keep themselves."""
    learner = build(replace(recipe, passes=Passes()))
    precision = precision_of(recipe, learner, device)
    precision.prepare(learner)
    storages: dict[int, int] = {}
    begun: list[int] = []
    inside: list[int] = []
    inputs: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    def enter(_: nn.Module, given: tuple[Tensor]) -> None:
        begun.append(sum(storages.values()))
        inputs.append(given[0].nbytes)

    def leave(_: nn.Module, given: object, made: object) -> None:
        inside.append(sum(storages.values()) - begun.pop())

    for block in find_blocks(learner.encoder):
        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)
    batch = precision.place(example_batch(recipe, images))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept), precision.autocast():
        terms = learner.loss(batch, 0)  # held until all is counted: freed memory is used again
    whole = sum(storages.values()) + sum(view.nbytes for view in batch.views)
    assert terms
    return float(whole), float(whole - sum(inside) + sum(inputs) + max(inside, default=0))


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
