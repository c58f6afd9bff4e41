"""The folder of a fine-tuning run: small, seeded, with believable curves and confusions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
    "truck", "tram", "bicycle",
)  # fmt: skip
ACCURACIES = {"fine-tuned": 0.874, "linear probe": 0.791, "from scratch": 0.638}


def make_finetune_run(
    folder: Path, *, classes: int = 12, per_class: int = 100, finished: bool = True, seed: int = 0
) -> Path:
    """Write the files of a run of 600 steps; an unfinished one has done half of them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = [CLASSES[i] if i < len(CLASSES) else f"class {i}" for i in range(classes)]
    _write(folder / "run.json", _description(names))
    _write_metrics(folder / "metrics.jsonl", 600 if finished else 300, classes, rng)
    if not finished:
        return folder
    confusion = _confusion(classes, per_class, rng)
    accuracy = float(np.trace(confusion) / confusion.sum())
    _write(folder / "evaluation" / "finetune.json", _evaluation(names, confusion))
    _write(folder / "verdict.json", {
        "label": "learned", "step": 600, "causes": [], "remedy": "",
        "sentence": f"Learned: {accuracy:.1%} of 1,200 test images are classified correctly "
                    "(linear probe 79.1 %, from scratch 63.8 %). Raise `epochs` for more.",
    })  # fmt: skip
    return folder


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def _description(names: list[str]) -> dict[str, Any]:
    return {
        "kind": "finetune", "coview": "0.1.0", "created": "2026-11-23T20:11:05+00:00",
        "name": "finetune-cpu", "command": "coview finetune runs/photos labeled/ --labels 10%",
        "recipe": {"type": "Recipe", "epochs": 30, "batch_size": 64, "layers": 1,
                   "optimizer": {"type": "OptimizerSpec", "name": "sgd", "learning_rate": 0.05}},
        "hash": "0a6a84d0c1f4e5b2", "encoder": "resnet18", "start": {"type": "Start", "path": "runs/photos"},
        "baselines": True,
        "data": {"source": "labeled/", "images": 1200, "held_out": 1200,
                 "fingerprint": "c8e1a5d09b7f42f6", "class_names": names},
        "environment": {"python": "3.11.9", "torch": "2.11.0", "device": "cpu"},
        "plan": ["One layer of the projection head is kept (SimCLRv2, section 3.2)."],
        "chance_level": math.log(len(names)), "total_steps": 600, "epochs": 30,
        "parameters": {"encoder": 11_176_512, "head": 6_156},
    }  # fmt: skip


def _write_metrics(path: Path, last: int, classes: int, rng: np.random.Generator) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "validation", "step": 0, "epoch": 0, "accuracy": 0.09, "train_accuracy": 0.1,
         "loss": math.log(classes), "images": 1200},
    ]  # fmt: skip
    for step in range(4, last + 1, 4):
        progress = 1 - math.exp(-5 * step / 600)
        rows.append({
            "kind": "step", "step": step, "epoch": step / 20,
            "loss": math.log(classes) * (1 - 0.92 * progress) + abs(float(rng.normal(0, 0.05))),
            "learning_rate": 0.025 * (1 + math.cos(math.pi * step / 600)), "seconds": step * 0.4,
            "images_per_second": 160 + float(rng.normal(0, 5)), "wait_share": 0.01,
        })  # fmt: skip
        if step % 40 == 0:
            rows.append({
                "kind": "validation", "step": step, "epoch": step / 20,
                "accuracy": 0.09 + 0.79 * progress + float(rng.normal(0, 0.008)),
                "train_accuracy": 0.1 + 0.88 * progress,
                "loss": math.log(classes) * (1 - 0.8 * progress), "images": 1200,
            })  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _confusion(classes: int, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Counts [true, predicted]: most are right, and each class has one that it is taken for."""
    shares = np.full((classes, classes), 0.03 / classes) + np.diag(rng.uniform(0.75, 0.97, classes))
    shares[np.arange(classes), rng.permutation(classes)] += 0.08
    return np.stack([rng.multinomial(per_class, row / row.sum()) for row in shares])


def _evaluation(names: list[str], confusion: np.ndarray) -> dict[str, Any]:
    images = confusion.sum(1)
    return {
        "protocol": "finetune", "card": {"selection": "none: the last epoch counts", "label_draw": 0},
        "data": {"source": "labeled/", "train": 1200, "test": 1200},
        "created": "2026-11-23T20:31:40+00:00",
        "results": [
            {"subject": subject, "metric": "accuracy", "value": value, "layer": "logits",
             "interval": [value - 0.021, value + 0.019], "test_images": int(images.sum()),
             "setting": {}}
            for subject, value in ACCURACIES.items()
        ],
        "classes": names, "confusion": confusion.tolist(),
        "per_class": [
            {"name": name, "images": int(number), "accuracy": float(right / number)}
            for name, number, right in zip(names, images, np.diag(confusion), strict=True)
        ],
    }  # fmt: skip
