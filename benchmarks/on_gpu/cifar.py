"""Part 10: CIFAR-10 for what is left of the time: the accuracy of neighbors over the minutes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from on_gpu.part import Part
from on_gpu.whole import pretrained

RESERVE = 25.0  # seconds for the start of the process, the last evaluation and the report


def run(part: Part) -> None:
    name = "SimCLR on CIFAR-10, ResNet-18"
    train_file, *_ = part.data or (Path("shared/data/cifar10/train.parquet"),)
    if not train_file.exists():
        part.write(name, note=f"left out: no {train_file}; give --data TRAIN.parquet")
        return
    with part.case(name, needs=RESERVE + 20) as go:
        if go:
            with tempfile.TemporaryDirectory() as folder:
                pretrained(
                    part, name, str(train_file), Path(folder) / "run", recipe="simclr-cifar",
                    budget=f"{int(part.left - RESERVE)}s", labels_from="column",
                )  # fmt: skip
