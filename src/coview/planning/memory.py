"""How a batch fits into memory: measured on a few images, planned before the first step."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch

from coview.core.errors import InvalidValue
from coview.core.machine import memory_bytes, processes_here
from coview.core.text import byte_size
from coview.methods import Learner, Passes
from coview.methods.learner import NetworkTask
from coview.recipes import DenseRecipe, Recipe

# Of what is free: the allocator's gaps, gradients and moments, and views rendered ahead take the
# rest.
SHARE = 0.7


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that the backward pass keeps of each image, all its views together.

    whole: without activation checkpointing. blocks: with it, None for an encoder without residual
    blocks.
    """

    whole: float
    blocks: float | None


def plan_passes(
    recipe: Recipe, learner: NetworkTask, estimate: MemoryEstimate, free: float, *, images: int
) -> tuple[Passes, str]:
    """How a process's ``images`` of each batch go through the network, and a sentence about it.

    ``free`` bytes may be used (see :func:`usable_bytes`). Whole passes where they fit; else
    activation checkpointing, which is exact; else the largest micro-batch that fits. ``learner``:
    the recipe's. The sentence is "" where nothing had to be changed. Raises InvalidValue where not
    even two images fit.
    """
    if recipe.passes != Passes() or images * estimate.whole <= free:
        return recipe.passes, ""
    why = (
        f"A batch of {images:,} images needs about {byte_size(images * estimate.whole)} and "
        f"{byte_size(free)} can be used"
    )
    if estimate.blocks is not None and images * estimate.blocks <= free:
        return Passes(activation_checkpointing=True), (
            f"{why}: the activations of each residual block are recomputed in the backward pass "
            "(`activation_checkpointing`), which gives the same gradient for about a third more "
            "time."
        )
    if isinstance(recipe, DenseRecipe):
        raise InvalidValue(
            f"{why}; give `batch_size` {max(2, int(free // estimate.whole))}, a smaller `size`, or "
            "several processes."
        )
    part = int(free // estimate.whole)
    if part < 2:
        raise InvalidValue(
            f"{why}, which is not enough for two; give a smaller `encoder` or `size`."
        )
    part = 2 ** (part.bit_length() - 1)
    ghost = recipe.method.ghost_batch_size
    if ghost is not None and part > ghost:
        part -= part % ghost  # whole groups, so that they are those of the whole batch
    return Passes(micro_batch=part), f"{why}: {exactness(learner, images, part)}"


def exactness(learner: NetworkTask, images: int, micro_batch: int) -> str:
    """What is exact about micro-batches of ``images`` of the learner, and what is not."""
    text = (
        f"micro-batches of {micro_batch} (`micro_batch`), recomputed in the backward pass for "
        "about a third more time. The gradient is that of the whole batch's loss"
    )
    unlike = unlike_in_parts(learner, images, micro_batch)
    return f"{text}; {unlike}." if unlike else f"{text}, exactly."


def unlike_in_parts(learner: NetworkTask, images: int, micro_batch: int | None) -> str:
    """See :meth:`~coview.methods.Learner.unlike_in_parts`; a detector has no micro-batches."""
    return learner.unlike_in_parts(images, micro_batch) if isinstance(learner, Learner) else ""


def usable_bytes(device: torch.device) -> float:
    """Memory of ``device`` that a plan may fill."""
    return SHARE * free_bytes(device)


def free_bytes(device: torch.device) -> float:
    """Memory that this process may still take on ``device``."""
    if device.type == "cuda":
        # What torch keeps of blocks that were freed, as of a run before in this process, is free.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    processes = processes_here()
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return float(min(int(line.split()[1]) * 1024, memory_bytes())) / processes
    return memory_bytes() / 2 / processes
