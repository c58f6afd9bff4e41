"""The interface between the training loop and everything that is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from coview.core.batches import Batch


class Task(Protocol):
    """A module that computes a loss from batches, for example ``coview.methods.Learner``.

    ``loss`` changes no state that a skipped step would have to undo. All other state than the
    parameters (running statistics, averages, queues, counters) changes in ``after_step``, which
    runs once after each optimizer step. All state is in the parameters and persistent buffers.
    """

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss by name, scalars. Their sum is minimized."""
        ...

    def after_step(self, step: float) -> None:
        """Update all other state; called after the optimizer has updated the parameters.

        ``step``: the step's position on the schedule, which is its number unless the length of the
        run has been planned again.
        """
        ...

    def reduce_memory(self, images: int, *, exact: bool = False) -> str:
        """Store less for the backward pass of batches of ``images``.

        The gradient stays that of the whole batch's loss, but BatchNorm may see fewer images at a
        time; with ``exact`` it sees the same ones. Returns what has changed in words, or "" where
        no reduction is left.
        """
        ...

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """h and z of images [B, 3, H, W], in evaluation mode, without gradients."""
        ...

    def train(self, mode: bool = True) -> nn.Module: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...
