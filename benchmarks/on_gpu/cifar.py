"""Part 9: CIFAR-10 for what is left of the time: the accuracy of neighbors over the minutes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import coview
from on_gpu.part import Part

RESERVE = 25.0  # seconds for the start of the process, the last evaluation and the report


def run(part: Part) -> None:
    name = "SimCLR on CIFAR-10, ResNet-18"
    if part.tiny:
        with part.case("SimCLR on the scenes") as go:
            if go:
                train(part, "SimCLR on the scenes", "scenes", limit=80, size=8, batch_size=32,
                      encoder="resnet10/8-small", epochs=1)  # fmt: skip
        return
    train_file, *_ = part.data or (Path("shared/data/cifar10/train.parquet"),)
    if not train_file.exists():
        part.write(name, note=f"left out: no {train_file}; give --data TRAIN.parquet")
        return
    with part.case(name, needs=RESERVE + 20) as go:
        if go:
            train(part, name, str(train_file), recipe="simclr-cifar",
                  budget=f"{int(part.left - RESERVE)}s", labels_from="column")  # fmt: skip


def train(part: Part, name: str, data: str, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        coview.pretrain(data, out=out, device=str(part.device), **options)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last: dict[str, Any] = {}
    knn: list[tuple[float, float]] = []  # seconds of training, accuracy
    for line in lines:
        if line.get("kind") == "step":
            last = line
        elif line.get("kind") == "knn":
            knn.append((round(last.get("seconds", 0.0), 1), round(line["accuracy"], 4)))
    kept = ("step", "loss", "images_per_second", "wait_share")
    part.write(name, ok=bool(last), **{key: last.get(key) for key in kept}, knn_by_seconds=knn)
