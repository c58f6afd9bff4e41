"""One learner for every method: images -> features -> embeddings -> loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from coview.core.batches import Batch
from coview.core.errors import InvalidValue
from coview.encoders import Encoder
from coview.methods.method import Method


class Learner(nn.Module):
    """The task of learning ``encoder`` by ``method``.

    ``loss`` changes nothing: parameters and buffers (BatchNorm's running statistics) are the same
    bits after it as before, whether it returns or raises. ``after_step`` takes over what the last
    ``loss`` saw of the statistics. So a step that is refused in between has never been.
    """

    def __init__(self, method: Method, encoder: Encoder, *, head_seed: int = 0) -> None:
        super().__init__()
        self.method = method
        self.encoder = encoder
        self.head = method.head.build(encoder.features, head_seed)
        self._staged: list[Tensor] = []

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms of the loss by name, scalars; their sum is what is minimised.

        Raises InvalidValue where the batch has another number of views than the method.
        """
        if len(batch.views) != len(self.method.views.views):
            raise InvalidValue(
                f"The batch of step {step} has {len(batch.views)} views of each image; "
                f"{self.method.name} was told to expect {len(self.method.views.views)}."
            )
        with self._staging():
            embeddings = self._embeddings(batch.views)
        return {
            type(self.method.objective).__name__: self.method.objective(embeddings, batch.labels)
        }

    def after_step(self, step: int) -> None:
        """Take over the statistics that the last ``loss`` has seen."""
        if self._staged:
            write(self._staged, self.buffers())
        self._staged = []

    def _embeddings(self, views: tuple[Tensor, ...]) -> list[Tensor]:
        """z of every view, V x [B, D]: each through its own pass, or those of one size together."""
        if self.method.batch_norm == "per view":
            return [self._project(view) for view in views]
        embeddings: dict[int, Tensor] = {}
        for size in dict.fromkeys(view.shape[-2:] for view in views):
            slots = [slot for slot, view in enumerate(views) if view.shape[-2:] == size]
            together = self._project(torch.cat([views[slot] for slot in slots]))
            embeddings |= zip(slots, together.chunk(len(slots)), strict=True)
        return [embeddings[slot] for slot in range(len(views))]

    def _project(self, images: Tensor) -> Tensor:
        z: Tensor = self.head(self.encoder(images))
        return z

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Buffers move inside the block, for each pass to see; then they are put back."""
        before = copies(self.buffers())
        try:
            yield
            self._staged = copies(self.buffers())
        finally:
            write(before, self.buffers())

    @torch.no_grad()
    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, features] and z [B, D] of images [B, 3, H, W], in evaluation mode, no gradients.

        The images may be on any device; h and z are on the network's. Leaves the mode as it was.
        """
        with evaluating(self):
            h: Tensor = self.encoder(images.to(next(self.parameters()).device))
            z: Tensor = self.head(h)
            return h, z

    def chance(self, batch_size: int) -> float:
        """The loss at which nothing has been learned, for batches of so many images."""
        return self.method.objective.chance(batch_size, views=len(self.method.views.views))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Every part of ``module`` in evaluation mode; afterwards each in the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """A copy of each tensor."""
    originals = list(tensors)
    found = [torch.empty_like(tensor) for tensor in originals]
    write(originals, found)
    return found


def write(values: Sequence[Tensor], tensors: Iterable[Tensor]) -> None:
    """Give each of ``tensors`` its value, in one launch for each kind of number."""
    # Through .data: what backward has saved must not count as modified.
    targets = [tensor.data for tensor in tensors]
    for dtype in {value.dtype for value in values}:
        pairs = [(t, v) for t, v in zip(targets, values, strict=True) if v.dtype == dtype]
        torch._foreach_copy_([t for t, _ in pairs], [v for _, v in pairs])
