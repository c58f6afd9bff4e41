"""Part 8: neighbors and the linear probe on 50,000 vectors of 2,048 numbers."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from coview.core.repeatable import repeatable
from coview.evaluation.knn import KNN_SETTINGS, knn_accuracies
from coview.evaluation.linear import ProbeSpec, linear_probe
from on_gpu.part import Part

Split = tuple[Tensor, Tensor, Tensor, Tensor]
"""Vectors and labels to learn from, and to be judged on."""


def run(part: Part) -> None:
    rows, queries, width, classes = (60, 20, 8, 3) if part.tiny else (50_000, 10_000, 2048, 100)
    here = drawn(rows, queries, width, classes)
    there: Split = tuple(tensor.to(part.device) for tensor in here)  # type: ignore[assignment]
    # The first call of each operation loads the library that has it.
    few: Split = tuple(tensor[:200] for tensor in there)  # type: ignore[assignment]
    neighbors(part, few)
    probe(part, few, epochs=1)

    spec = ProbeSpec()
    epochs = 1 if part.tiny else 5
    name = f"linear probe of {rows} x {width} on {part.device.type}"
    with part.case(name, needs=0 if part.tiny else 6) as go:
        if go:
            seconds, accuracy = probe(part, there, epochs=epochs)
            part.write(
                name, seconds=round(seconds, 2), epochs=epochs, settings=len(spec.settings),
                seconds_of_all_epochs_without_growth=round(seconds * spec.epochs / epochs, 1),
                accuracy=round(accuracy, 4),
            )  # fmt: skip
    before: list[float] = []
    # On the device, and as evaluation does it today.
    for where, split in {part.device.type: there, "cpu": here}.items():
        name = f"kNN of {rows} x {width} on {where}"
        with part.case(name, needs=0 if part.tiny else 4) as go:
            if go:
                seconds, found = neighbors(part, split)
                before = before or found
                off = max(abs(a - b) for a, b in zip(found, before, strict=True))
                part.write(name, ok=off < 2e-3, seconds=round(seconds, 2), accuracies_off=off,
                           accuracies=[round(a, 4) for a in found])  # fmt: skip


def drawn(rows: int, queries: int, width: int, classes: int) -> Split:
    """Vectors around a center for each class, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(classes, width, generator=generator)
    labels = torch.randint(classes, (rows + queries,), generator=generator)
    vectors = torch.randn(rows + queries, width, generator=generator)
    vectors.mul_(4.0).add_(centers[labels])
    return vectors[:rows], labels[:rows], vectors[rows:], labels[rows:]


def neighbors(part: Part, split: Split) -> tuple[float, list[float]]:
    """Seconds and accuracies of all settings."""
    part.wait()
    start = time.perf_counter()
    with repeatable(split[0].device):
        found = knn_accuracies(*split, settings=KNN_SETTINGS)
    part.wait()
    return time.perf_counter() - start, found


def probe(part: Part, split: Split, *, epochs: int) -> tuple[float, float]:
    """Seconds and accuracy of all settings for as many epochs; the sweep does not grow."""
    bank, known, query, truth = split
    part.wait()
    start = time.perf_counter()
    with repeatable(bank.device):
        trained = linear_probe(
            bank, known, torch.arange(len(bank)), ProbeSpec(epochs=epochs, growth=0)
        )
        accuracy = trained.accuracy(query, truth)
    part.wait()
    return time.perf_counter() - start, accuracy
