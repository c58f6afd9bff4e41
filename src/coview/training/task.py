"""What the training loop needs to know of whatever is being learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from coview.core.batches import Batch


class Task(Protocol):
    """Something that turns batches into a loss. ``coview.methods.Learner`` is one.

    The contract: ``loss`` changes no state that a refused step would have to undo; whatever moves
    with training but the parameters (running statistics, averages, queues, counters) moves in
    ``after_step``, which runs once after each accepted optimizer step. All state is in the
    parameters and persistent buffers of the module.
    """

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss by name, scalars; their sum is minimized."""
        ...

    def after_step(self, step: int) -> None:
        """Move all other state; called after the optimizer has moved the parameters."""
        ...

    def reduce_memory(self, images: int) -> str:
        """Keep less for the backward pass of batches of ``images``, if there is a way to do so
        whose gradient is still that of the whole batch: what has changed, or "" where nothing can.
        """
        ...

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """h and z of images [B, 3, H, W], in evaluation mode, without gradients."""
        ...

    def train(self, mode: bool = True) -> nn.Module: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...
