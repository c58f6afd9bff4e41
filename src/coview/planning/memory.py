"""How a batch fits into memory: measured on a few images, planned before the first step."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch

from coview.core.errors import InvalidValue
from coview.core.machine import memory_bytes, processes_here, runs_here, sharing
from coview.core.memory import free_memory
from coview.core.text import byte_size
from coview.methods import Passes
from coview.methods.learner import NetworkTask
from coview.recipes import Recipe

# Of what is free: the allocator's gaps, workspaces of convolutions and, where the device renders,
# views ahead of the step take the rest.
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
    runs = runs_here()
    beside = "" if runs == 1 else f" by each of {runs} runs side by side (`jobs`)"
    why = (
        f"A batch of {images:,} images needs about {byte_size(images * estimate.whole)} and "
        f"{byte_size(free)} can be used{beside}"
    )
    fewer = "" if runs == 1 else "start fewer runs side by side, or "
    if estimate.blocks is not None and images * estimate.blocks <= free:
        passes = Passes(activation_checkpointing=True)
        return passes, f"{why}: {about_passes(learner, images, passes)}"
    if not learner.takes_micro_batches:
        raise InvalidValue(
            f"{why}; {fewer}give `batch_size` {max(2, int(free // estimate.whole))}, a smaller "
            "`size`, or several processes."
        )
    part = int(free // estimate.whole)
    if part < 2:
        raise InvalidValue(
            f"{why}, which is not enough for two; {fewer}give a smaller `encoder` or `size`."
        )
    part = 2 ** (part.bit_length() - 1)
    ghost = recipe.method.ghost_batch_size
    if ghost is not None and part > ghost:
        part -= part % ghost  # whole groups, so that they are those of the whole batch
    passes = Passes(micro_batch=part)
    return passes, f"{why}: {about_passes(learner, images, passes)}"


def about_passes(learner: NetworkTask, images: int, passes: Passes) -> str:
    """What ``passes`` that save memory do to a batch of ``images`` of the learner, in words."""
    recomputed = (
        "the activations of each residual block are recomputed in the backward pass "
        "(`activation_checkpointing`)"
    )
    if passes.micro_batch is None:
        return f"{recomputed}, which gives the same gradient for about a third more time."
    parts = exactness(learner, images, passes.micro_batch)
    return f"{recomputed}, in {parts}" if passes.activation_checkpointing else parts


def exactness(learner: NetworkTask, images: int, micro_batch: int) -> str:
    """What is exact about micro-batches of ``images`` of the learner, and what is not."""
    text = (
        f"micro-batches of {micro_batch} (`micro_batch`), recomputed in the backward pass for "
        "about a third more time. The gradient is that of the whole batch's loss"
    )
    unlike = learner.unlike_in_parts(images, micro_batch)
    return f"{text}; {unlike}." if unlike else f"{text}, exactly."


def release(device: torch.device) -> None:
    """Give the memory of freed tensors, which torch keeps, back to a GPU that others use, too."""
    if device.type != "cpu":
        free_memory()


def usable_bytes(device: torch.device) -> float:
    """Memory of ``device`` that a plan may fill."""
    return SHARE * free_bytes(device)


def free_bytes(device: torch.device) -> float:
    """Memory that this process may still take on ``device``.

    Of several runs side by side each may have an equal part of all: what is free when one begins is
    also for those that begin after it.
    """
    if device.type == "cuda":
        allocated = torch.cuda.memory_allocated(device)
        # What torch keeps of blocks that were freed, as of a run before in this process, is free.
        kept = torch.cuda.memory_reserved(device) - allocated
        free, whole = torch.cuda.mem_get_info(device)
        return max(0.0, min(float(free + kept), whole / runs_here() - allocated))
    available = memory_bytes() / 2
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        available = float(int(line.split()[1]) * 1024)
    return min(available / processes_here(), memory_bytes() / sharing())
