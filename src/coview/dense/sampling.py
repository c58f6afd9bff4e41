"""Which anchors and proposals the losses see, drawn by the step and the number of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from coview.core.rng import Stream, stream_seed


class KeyedSampler:
    """Takes the place of torchvision's BalancedPositiveNegativeSampler.

    An image gives the same sample in any batch, on any process, and again when it is recomputed.
    count: of each image; share: of positives at most. ``begin`` names the images of a step; the
    numbers of what was sampled of them are then in ``sampled`` and ``positive``.
    """

    def __init__(self, count: int, share: float, *, seed: int, part: str) -> None:
        self.count, self.share, self.seed, self.part = count, share, seed, part
        self.begin(0, [])

    def begin(self, step: int, ids: list[int]) -> None:
        self.step, self.ids = step, ids
        self.sampled = self.positive = 0

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Masks uint8 [A] of the chosen positives (label >= 1) and negatives (0) of each image."""
        chosen = [self._of_image(*item) for item in zip(labels, self.ids, strict=True)]
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]

    def _of_image(self, labels: Tensor, number: int) -> tuple[Tensor, Tensor]:
        seed = stream_seed(self.seed, Stream.STEP, f"{self.part} {self.step} {number}")
        generator = torch.Generator().manual_seed(seed)
        positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
        most = min(len(positive), int(self.count * self.share))
        rest = min(len(negative), self.count - most)
        masks = []
        for places, count in ((positive, most), (negative, rest)):
            order = torch.randperm(len(places), generator=generator)[:count]
            mask = torch.zeros_like(labels, dtype=torch.uint8)
            mask[places[order.to(places.device)]] = 1
            masks.append(mask)
        self.sampled += most + rest
        self.positive += most
        return masks[0], masks[1]
