"""Whether a log partition goes through the fused kernels, and the kernels."""

from __future__ import annotations

import os
from types import ModuleType

import torch
from torch import Tensor

from coview.core.errors import MissingExtra
from coview.objectives.tiles import PairLogWeights

VARIABLE = "COVIEW_FUSED_LOSS"
# Two blocks of rows and a gradient lie in registers; wider rows would spill.
WIDEST = 256


def fused_kernels(rows: Tensor, log_weights: PairLogWeights | None) -> ModuleType | None:
    """``coview.objectives.fused`` where COVIEW_FUSED_LOSS=1 asks for it and ``rows`` suit it.

    They suit it on a GPU, in float32, at most 256 wide, where all pairs weigh the same: NT-Xent,
    SupCon but for its capped form and the numerator of "in", InfoNCE without ids. Everything else
    goes through the tiles whatever is asked. Raises MissingExtra without Triton.
    """
    if log_weights is not None or rows.dtype != torch.float32 or rows.shape[1] > WIDEST:
        return None
    if os.environ.get(VARIABLE) != "1" or not runs_on(rows.device):
        return None
    try:
        from coview.objectives import fused
    except ImportError as error:
        raise MissingExtra("triton", "triton", f"{VARIABLE}=1") from error
    return fused


def runs_on(device: torch.device) -> bool:
    """Whether Triton compiles for the device."""
    return device.type == "cuda"
