"""One training batch: the views of its images, their ids and labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """B images of one step, rendered as V views.

    Shapes: views V x float32 [B, 3, H, W] (views may differ in size); ids int64 [B];
    labels int64 [B] with -1 where unknown, or None.
    sizes: the B of every process, in the order of ranks; empty in a single process.
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
    def global_size(self) -> int:
        """The number of images on all processes together."""
        return sum(self.sizes) or len(self)

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; the host does not wait for the copy of page-locked memory.

        That memory may be dropped at once: torch's allocator keeps it until the copy has ended.
        """
        if device.type == "cpu":
            return self
        later = device.type != "mps"  # whose copies may read memory that has been dropped
        return Batch(
            step=self.step,
            epoch=self.epoch,
            views=tuple(view.to(device, non_blocking=later) for view in self.views),
            ids=self.ids.to(device, non_blocking=later),
            labels=None if self.labels is None else self.labels.to(device, non_blocking=later),
            sizes=self.sizes,
        )
