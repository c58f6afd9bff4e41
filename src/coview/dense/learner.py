"""The tasks of training a detector and a segmenter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from coview.core.batches import Batch
from coview.core.eval_mode import eval_mode
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.rng import Stream, stream_seed
from coview.dense.detector import Detection, Targets
from coview.dense.method import DenseMethod, Detector, Segmenter
from coview.dense.segmenter import Segmentation, pixel_loss
from coview.encoders import Encoder
from coview.methods.batch_norm import set_batch_norm
from coview.methods.learner import NetworkTask
from coview.methods.passes import FULL_BATCH, Passes, find_blocks

LOSSES = {
    "loss_objectness": "objectness", "loss_rpn_box_reg": "proposal_boxes",
    "loss_classifier": "classes", "loss_box_reg": "boxes", "loss_mask": "outlines",
}  # fmt: skip
"""torchvision's names of the terms, and ours."""


class DenseLearner(NetworkTask):
    """What training a detector and a segmenter share; a :class:`~coview.training.Task`.

    ``loss`` moves no running statistics: ``after_step`` commits them.
    """

    method: DenseMethod
    takes_micro_batches: ClassVar[bool] = False

    def __init__(
        self, method: DenseMethod, encoder: Encoder, *, passes: Passes, ranks: Ranks,
        total_steps: int | None,
    ) -> None:  # fmt: skip
        super().__init__(encoder, ranks=ranks, total_steps=total_steps)
        self.method = method

    def lower_bound(self, batch_size: int, classes: int | None) -> float:
        """0, where every box and class is right and sure."""
        return 0.0

    def after_step(self, step: float) -> None:
        """Commit the running statistics of the last ``loss``."""
        self.commit_statistics()

    def reduce_memory(self, images: int, *, exact: bool = False) -> str:
        """Switch on activation checkpointing, which is exact; "" where it is on already."""
        if self.passes.activation_checkpointing or not find_blocks(self.encoder):
            return ""
        self.set_passes(replace(self.passes, activation_checkpointing=True))
        return (
            "The batch did not fit into memory: each residual block is recomputed in the backward "
            "pass from here on, which gives the same gradient."
        )

    @torch.no_grad()
    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, features] of the encoder, twice; in evaluation mode, without gradients."""
        with eval_mode(self):
            h: Tensor = self.encoder(images.to(next(self.parameters()).device))
            return h, h

    def _choose_statistics(self, passes: Passes) -> None:
        """Frozen statistics are the encoder's; layers beside it have none to freeze."""
        set_batch_norm(self, ranks=self.ranks)
        if self.method.batch_norm == "frozen":
            set_batch_norm(self.encoder, frozen=True)
        self.set_passes(passes)


class DetectionLearner(DenseLearner):
    """Faster or Mask R-CNN on ``encoder``.

    A batch's ``views`` are those of :func:`coview.dense.inputs.render_objects`. The terms of a
    process are weighted by what it has sampled of the whole batch, so that their mean over the
    processes is the loss of the whole batch; it is exact where all images are padded alike.
    """

    method: Detector
    head: Detection

    def __init__(
        self, method: Detector, encoder: Encoder, *, seed: int = 0, passes: Passes = FULL_BATCH,
        ranks: Ranks = SINGLE_PROCESS, total_steps: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(method, encoder, passes=passes, ranks=ranks, total_steps=total_steps)
        with seeded(seed):
            self.head = Detection(method, encoder, seed)
        self._choose_statistics(passes)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The terms "objectness", "proposal_boxes", "classes", "boxes" (, "outlines"), scalars."""
        images, sizes, targets = split_targets(batch)
        for sampler in self.head.samplers:
            sampler.begin(step, batch.ids.tolist())
        with self.staged_statistics():
            _, losses = self.head(images, sizes, targets)
        shares = self._shares(images)
        return {LOSSES[name]: shares[name] * loss for name, loss in losses.items()}

    def _shares(self, like: Tensor) -> dict[str, Tensor]:
        """This process's part of what the whole batch has sampled, times the processes."""
        anchors, proposals = self.head.samplers
        counts = like.new_tensor(
            [anchors.sampled, proposals.sampled, proposals.positive], dtype=torch.float32
        )
        whole = self.ranks.all_reduce_sum(counts)
        share = counts * self.ranks.world / whole.clamp_min(1)
        places = {"loss_objectness": 0, "loss_rpn_box_reg": 0, "loss_classifier": 1,
                  "loss_box_reg": 1, "loss_mask": 2}  # fmt: skip
        return {name: share[place] for name, place in places.items()}

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: list[tuple[int, int]]) -> Targets:
        """What is detected; see :meth:`Detection.forward`. In evaluation mode."""
        with eval_mode(self):
            detected, _ = self.head(images.to(next(self.parameters()).device), sizes)
            found: Targets = detected
            return found

    def chance_level(self, batch_size: int) -> float:
        """The loss of equal probabilities, without that of the boxes."""
        masks = math.log(2) if self.method.masks else 0.0
        return math.log(2) + math.log(self.method.classes + 1) + masks


class SegmentationLearner(DenseLearner):
    """A fully convolutional network on ``encoder``; ``views`` are images [B, 3, S, S] and uint8
    label maps [B, S, S]. The loss is the mean cross-entropy of the pixels with a class."""

    method: Segmenter
    head: Segmentation

    def __init__(
        self, method: Segmenter, encoder: Encoder, *, seed: int = 0, passes: Passes = FULL_BATCH,
        ranks: Ranks = SINGLE_PROCESS, total_steps: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(method, encoder, passes=passes, ranks=ranks, total_steps=total_steps)
        with seeded(seed):
            self.head = Segmentation(method, encoder)
        self._choose_statistics(passes)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """{"pixels": the loss}."""
        images, maps = batch.views
        with self.staged_statistics():
            total, count = pixel_loss(self.head(images), maps)
        whole = self.ranks.all_reduce_sum(count).clamp_min(1)
        return {"pixels": total * self.ranks.world / whole}

    @torch.no_grad()
    def segment(self, images: Tensor) -> Tensor:
        """The logits of each pixel, float32 [B, classes, H, W], in evaluation mode."""
        with eval_mode(self):
            logits: Tensor = self.head(images.to(next(self.parameters()).device))
            return logits

    def chance_level(self, batch_size: int) -> float:
        """The loss of equal probabilities."""
        return math.log(self.method.classes)


def dense_learner(
    method: DenseMethod, encoder: Encoder, *, seed: int, passes: Passes = FULL_BATCH,
    ranks: Ranks = SINGLE_PROCESS, total_steps: int | None = None,
) -> DenseLearner:  # fmt: skip
    """The task of ``method`` before the first step; the same seed gives the same bytes."""
    if isinstance(method, Detector):
        return DetectionLearner(method, encoder, seed=seed, passes=passes, ranks=ranks,
                                total_steps=total_steps)  # fmt: skip
    assert isinstance(method, Segmenter)
    return SegmentationLearner(method, encoder, seed=seed, passes=passes, ranks=ranks,
                               total_steps=total_steps)  # fmt: skip


def split_targets(batch: Batch) -> tuple[Tensor, list[tuple[int, int]], Targets]:
    """The images, their sizes, and the objects of each, of a batch of rendered objects."""
    images, sizes, boxes, owners, classes, *masks = batch.views
    targets: Targets = []
    for place in range(len(images)):
        mine = owners == place
        target = {"boxes": boxes[mine], "labels": classes[mine]}
        if masks:
            target["masks"] = masks[0][mine]
        targets.append(target)
    return images, [(int(h), int(w)) for h, w in sizes.tolist()], targets


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the first values of the layers beside the encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, Stream.INIT, "dense head"))
        yield
