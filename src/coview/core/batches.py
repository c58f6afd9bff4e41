"""The noun that travels from the views to the learner: one training batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """B images of one step, already rendered as V views.

    Shapes: views V x float32 [B, 3, H, W] (slots may differ in size); ids int64 [B];
    labels int64 [B] with -1 where unknown, or None.
    sizes: the B of every process where several share the images of a step, in the order of ranks;
    empty where this is all of them.
    """

    step: int
    epoch: int
    views: tuple[torch.Tensor, ...]
    ids: torch.Tensor
    labels: torch.Tensor | None = None
    sizes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def whole(self) -> int:
        """The images of all processes together."""
        return sum(self.sizes) or len(self)

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; the copy does not make the host wait."""
        if device.type == "cpu":
            return self
        return Batch(
            step=self.step,
            epoch=self.epoch,
            views=tuple(view.to(device, non_blocking=True) for view in self.views),
            ids=self.ids.to(device, non_blocking=True),
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
            sizes=self.sizes,
        )
