"""One recipe on one device, built once: what precision it takes, how many bytes, how fast it is."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from coview.core.batches import Batch
from coview.methods import Learner, Passes
from coview.methods.passes import find_blocks
from coview.planning.memory import MemoryEstimate
from coview.recipes import Recipe, build, precision_of
from coview.training.precision import Precision
from coview.training.step import memory_errors

FEW, MORE = 4, 8
SMALLEST, ENOUGH_SECONDS, STEPS = 8, 0.4, 2


class Trial:
    """Measurements of ``recipe`` on ``device`` with noise in place of images.

    >>> from coview.recipes import change, recipe
    >>> small = change(recipe("simclr-cpu"), encoder="resnet10/8-medium", batch_size=8, size=16)
    >>> trial = Trial(small, torch.device("cpu"))
    >>> trial.memory.whole > 0, trial.views_per_second(most_images=8) > 0
    (True, True)
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device

    @cached_property
    def learner(self) -> Learner:
        """The network with its first weights, on the device."""
        learner = build(replace(self.recipe, passes=Passes()))
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
        """Counted from the tensors that autograd saves for a batch of 4 images and one of 8."""
        few, more = (self._saved_bytes(images) for images in (FEW, MORE))
        whole, blocks = ((b - a) / (MORE - FEW) for a, b in zip(few, more, strict=True))
        return MemoryEstimate(whole, blocks if few != (few[0], few[0]) else None)

    def views_per_second(self, *, most_images: int, passes: Passes | None = None) -> float:
        """Views that forward and backward pass through the network in a second.

        Tries batches of 8, 32, 128 ... images until a step takes long enough to be trusted or the
        recipe's batch is reached, so that a network far too large for this machine costs one small
        step. Raises InvalidValue where a batch does not fit into memory.
        Rendering is not counted: it runs beside the step and takes a few per cent of it.
        """
        if self.learner.encoder is not None and passes is not None:
            self.memory  # noqa: B018  (counted before passes change the blocks)
            self.learner.set_passes(passes)
        images = SMALLEST
        while True:
            images = max(2, min(images, self.recipe.batch_size, most_images))
            batch = self.precision.place(example_batch(self.recipe, images))
            with memory_errors(images, self.device):
                seconds = min(self._step_seconds(batch) for _ in range(STEPS))
            if seconds > ENOUGH_SECONDS or images in (self.recipe.batch_size, most_images):
                return images * len(batch.views) / seconds
            images *= 4

    def _step_seconds(self, batch: Batch) -> float:
        start = time.perf_counter()
        with self.precision.autocast():
            loss = torch.stack(list(self.learner.loss(batch, 0).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

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
        batch = self.precision.place(example_batch(self.recipe, images))
        saved = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        try:
            with saved, self.precision.autocast():
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
    generator = torch.Generator().manual_seed(0)
    views = tuple(
        torch.rand(images, 3, spec.size, spec.size, generator=generator)
        for spec in recipe.method.views.views
    )
    ids = torch.arange(images)
    return Batch(step=0, epoch=0, views=views, ids=ids, labels=ids % 2)
