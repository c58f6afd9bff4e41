"""Part 8: neighbors and the linear probe on 50,000 vectors of 2,048 numbers."""

from __future__ import annotations

import time

import torch

from coview.core.repeatable import repeatable
from coview.evaluation.knn import KNN_SETTINGS, knn_accuracies
from coview.evaluation.linear import ProbeSpec, linear_probe
from on_gpu.part import Part


def run(part: Part) -> None:
    rows, queries, width, classes = (60, 20, 8, 3) if part.tiny else (50_000, 10_000, 2048, 100)
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(classes, width, generator=generator)
    labels = torch.randint(classes, (rows + queries,), generator=generator)
    vectors = (
        torch.randn(rows + queries, width, generator=generator).mul_(4.0).add_(centers[labels])
    )
    bank, query, known, truth = vectors[:rows], vectors[rows:], labels[:rows], labels[rows:]
    before: list[float] = []
    for where in dict.fromkeys((part.device, torch.device("cpu"))):
        # As evaluation does it today, and on the device. On the CPU it may take long.
        name = f"kNN of {rows} x {width} on {where.type}"
        with part.case(name, needs=0 if part.tiny else 8) as go:
            if go:
                start = time.perf_counter()
                with repeatable(where):
                    found = knn_accuracies(
                        bank.to(where), known.to(where), query.to(where), truth.to(where),
                        settings=KNN_SETTINGS,
                    )  # fmt: skip
                part.wait()
                seconds = time.perf_counter() - start
                before = before or found
                off = max(abs(a - b) for a, b in zip(found, before, strict=True))
                part.write(name, ok=off < 2e-3, seconds=round(seconds, 2), accuracies_off=off,
                           accuracies=[round(a, 4) for a in found])  # fmt: skip
    name = f"linear probe of {rows} x {width} on {part.device.type}"
    with part.case(name, needs=0 if part.tiny else 10) as go:
        if go:
            # The sweep of 20 settings for as many epochs as the time allows, stated beside it.
            spec = ProbeSpec(epochs=1 if part.tiny else 5, growth=0)
            start = time.perf_counter()
            with repeatable(part.device):
                probe = linear_probe(
                    bank.to(part.device), known.to(part.device), torch.arange(rows), spec
                )
                accuracy = probe.accuracy(query.to(part.device), truth.to(part.device))
            part.wait()
            seconds = time.perf_counter() - start
            part.write(name, seconds=round(seconds, 2), epochs=spec.epochs,
                       full_sweep_estimate=round(seconds * ProbeSpec().epochs / spec.epochs, 1),
                       accuracy=round(accuracy, 4))  # fmt: skip
