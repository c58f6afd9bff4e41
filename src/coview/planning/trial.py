"""One recipe on one device, built once: what precision it takes, how many bytes, how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coview.core.batches import Batch
from coview.core.clock import Clock
from coview.core.images import ImageStore
from coview.core.repeatable import repeatable
from coview.dense.inputs import example_objects
from coview.methods import Passes
from coview.methods.learner import NetworkTask
from coview.methods.passes import find_blocks
from coview.planning.memory import MemoryEstimate
from coview.recipes import DenseRecipe, Recipe, build_task, precision_of
from coview.recipes.batches import make_loader
from coview.training.precision import Precision
from coview.training.step import memory_errors, train_step

Equip = Callable[[Any], None]
"""Gives a learner what it learns from besides the images, such as a teacher."""

FEW, MORE = 4, 8
SMALLEST = 8
# Steps before the measured ones: kernels are compiled, threads started, memory reserved.
WARM_UP, FEWEST = 2, 3
# On a machine whose steps take very long, fewer of them, once this multiple of the time is over.
PATIENCE, LEAST_SECONDS = 4, 0.5
# Of the steps that were measured the middle ones, of which the bounds of an estimate are the ends.
LOW, HIGH = 0.1, 0.9
NARROWEST = 0.05  # the bounds are at least so far from the estimate, as a share of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Views in a second: by the median step, and by the slow and the fast ones of ten steps.

    >>> Speed.of(512, [1.0, 1.0, 2.0])
    Speed(median=512.0, low=284.4, high=537.6)
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, views: int, seconds: list[float]) -> Speed:
        """From the seconds of steps with ``views`` views each."""
        median = float(np.median(seconds))
        fast, slow = (float(np.quantile(seconds, share)) for share in (LOW, HIGH))
        fast, slow = min(fast, median / (1 + NARROWEST)), max(slow, median / (1 - NARROWEST))
        return cls(median=views / median, low=round(views / slow, 1), high=round(views / fast, 1))

    def times(self, count: int) -> Speed:
        """That of ``count`` processes."""
        return Speed(median=count * self.median, low=count * self.low, high=count * self.high)


class Trial:
    """Measurements of ``recipe`` on ``device``, with the images of ``store`` where it is given.

    >>> from coview.recipes import change, recipe
    >>> small = change(recipe("simclr-cpu"), encoder="resnet10/8-medium", batch_size=8, size=16)
    >>> trial = Trial(small, torch.device("cpu"))
    >>> trial.memory.whole > 0, trial.probe(most_images=8, enough=0.1)[1] > 0
    (True, True)
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, store: ImageStore | None = None,
        clock: Clock | None = None, equip: Equip | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.device, self.store, self._equip = recipe, device, store, equip
        self._now = (clock or Clock()).now

    @cached_property
    def learner(self) -> NetworkTask:
        """The network with its first weights, on the device."""
        learner = build_task(replace(self.recipe, passes=Passes()), total_steps=1)
        if self._equip is not None:
            self._equip(learner)
        self._precision = precision_of(self.recipe, learner, self.device)
        self._precision.prepare(learner)
        return learner

    @property
    def precision(self) -> Precision:
        """What the recipe's precision means here."""
        assert self.learner is not None
        return self._precision

    @cached_property
    def memory(self) -> MemoryEstimate:
        """Counted from the tensors that autograd saves for a batch of 4 images and one of 8; of
        whole images with objects 1 and 2."""
        counts = (1, 2) if isinstance(self.recipe, DenseRecipe) else (FEW, MORE)
        few, more = (self._saved_bytes(images) for images in counts)
        difference = counts[1] - counts[0]
        whole, blocks = ((b - a) / difference for a, b in zip(few, more, strict=True))
        return MemoryEstimate(whole, blocks if few != (few[0], few[0]) else None)

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the gradients and of the optimizer's moments, which a step needs beside the
        network and the activations."""
        trained = sum(p.nbytes for p in self.learner.parameters() if p.requires_grad)
        return (1 + self.recipe.optimizer.moments) * trained

    def use(self, passes: Passes) -> None:
        """Measure with these passes from here on."""
        self.memory  # noqa: B018  (counted before passes change the blocks)
        self.learner.set_passes(passes)

    def probe(self, *, most_images: int, enough: float, steps: int = 2) -> tuple[int, float]:
        """(images of a step, its seconds), forward and backward, with noise in place of images.

        Tries batches of 8, 32, 128 ... images until a step takes ``enough`` seconds or the whole
        batch is reached, so that a network far too large for this machine costs few small steps.
        The fastest step of a size counts: the first one warms up, and others are slowed down by
        what else runs on the machine. Of the whole batch there are ``steps``, else two. Raises
        DoesNotFit where a batch does not fit into memory.
        """
        whole, images = max(2, min(self.recipe.batch_size, most_images)), SMALLEST
        while True:
            images = min(images, whole)
            with memory_errors(images, self.device), repeatable(self.device):
                batch = self.precision.place(example_batch(self.recipe, images))
                seconds = [self._step_seconds(batch) for _ in range(2)]
                if images == whole and min(seconds) <= enough:
                    seconds += [self._step_seconds(batch) for _ in range(steps - 2)]
            if images == whole or min(seconds) > enough:
                return images, min(seconds)
            images *= 4

    def speed(self, images: int, *, seconds: float, workers: int | None = None) -> Speed:
        """Whole steps of ``images`` images, rendered beside them as in the run, for ``seconds``.

        The network's weights do not change the speed; their learning rate is 0. Raises DoesNotFit.
        """
        assert self.store is not None
        recipe = replace(self.recipe, batch_size=images, classes_per_batch=None)
        loader = make_loader(recipe, self.store, self.device, workers=workers)
        optimizer = recipe.optimizer.build(self.learner)
        passed: list[float] = []
        with repeatable(self.device), closing(iter(loader)) as batches:
            last = self._now()
            for batch in batches:
                train_step(self.learner, batch, optimizer, 0.0, self.precision)
                before, last = last, self._now()
                passed.append(last - before)
                measured = passed[WARM_UP:]
                long = bool(measured) and sum(passed) >= PATIENCE * max(seconds, LEAST_SECONDS)
                if long or (sum(measured) >= seconds and len(measured) >= FEWEST):
                    break
        return Speed.of(images * len(recipe.method.views.views), measured)

    def _step_seconds(self, batch: Batch) -> float:
        start = self._now()
        with self.precision.autocast():
            loss = torch.stack(list(self.learner.loss(batch, 0).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return self._now() - start

    def _saved_bytes(self, images: int) -> tuple[float, float]:
        """Bytes that autograd saves for a batch of ``images``: of whole passes, and of recomputed
        blocks, which save their inputs and, one at a time, what they save themselves."""
        storages: dict[int, int] = {}
        entered: list[int] = []
        inside: list[int] = []
        inputs: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        def enter(_: nn.Module, arguments: tuple[Tensor]) -> None:
            entered.append(sum(storages.values()))
            inputs.append(arguments[0].nbytes)

        def leave(_: nn.Module, arguments: object, output: object) -> None:
            inside.append(sum(storages.values()) - entered.pop())

        hooks = []
        for block in find_blocks(self.learner.encoder):
            hooks += [block.register_forward_pre_hook(enter), block.register_forward_hook(leave)]
        saved = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        try:
            with memory_errors(images, self.device), saved, self.precision.autocast():
                batch = self.precision.place(example_batch(self.recipe, images))
                terms = self.learner.loss(batch, 0)  # held until all is counted: freed memory is
                whole = sum(storages.values())  # used again, at the same address
        finally:
            for hook in hooks:
                hook.remove()
        whole += sum(view.nbytes for view in batch.views)
        assert terms
        return float(whole), float(whole - sum(inside) + sum(inputs) + max(inside, default=0))


def example_batch(recipe: Recipe, images: int) -> Batch:
    """Noise in place of the recipe's views of ``images`` images, with two labels; on the CPU."""
    if isinstance(recipe, DenseRecipe):
        return example_objects(recipe.method, images)
    generator = torch.Generator().manual_seed(0)
    views = tuple(
        torch.rand(images, 3, spec.size, spec.size, generator=generator)
        for spec in recipe.method.views.views
    )
    ids = torch.arange(images)
    return Batch(step=0, epoch=0, views=views, ids=ids, labels=ids % 2)
