"""Part 4: whole runs, from the plan to the verdict: of views, of outlines and of label maps.

Images of the built-in scenes are learned from, then boxes and classes of pixels in drawn images.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import coview
from coview.core.figures import DIAGNOSES
from coview.encoders import export_encoder, parse_encoder
from coview.encoders.exchange.export import compute_features
from on_gpu.networks import SEED, rounded
from on_gpu.objects import write_boxes, write_maps
from on_gpu.part import Part

NEEDS, OF_OBJECTS = 25.0, 15.0  # seconds
# After 72 steps on a CPU: AP50 0.70, mean IoU 0.91.
ENOUGH = {"AP50": 0.3, "mIoU": 0.6}
SMALL_DETECTOR = (
    "method.channels=16", "method.hidden=32", "method.anchors=12,24,48,96",
    "method.proposals=100,50", "method.test_proposals=100,50", "method.sampled=32,16",
)  # fmt: skip


def run(part: Part) -> None:
    name = "pretraining on the scenes"
    # 250 steps: a verdict needs 200.
    sizes: dict[str, Any] = {"limit": 4000, "batch_size": 128, "epochs": 8}
    if part.tiny:
        sizes = {
            "limit": 80,
            "size": 8,
            "batch_size": 32,
            "encoder": "resnet10/8-small",
            "epochs": 1,
        }
    with part.case(name, needs=0 if part.tiny else NEEDS) as go:
        if go:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "run"
                pretrained(part, name, "scenes", out, **sizes)
                export(part, f"{name}: the export on the device and on a CPU", out)
    for task in ("masks", "semantic"):
        name = f"coview detect --task {task}"
        with part.case(name, needs=0 if part.tiny else OF_OBJECTS) as go:
            if go:
                with tempfile.TemporaryDirectory() as folder:
                    found(part, name, task, Path(folder))


def pretrained(part: Part, name: str, data: str, out: Path, **options: Any) -> None:
    """A run with all that a run has; ok where it has trained, and was exported and judged."""
    begun = time.perf_counter()
    coview.pretrain(data, out=out, device=str(part.device), **options)
    seconds = time.perf_counter() - begun
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last: dict[str, Any] = {}
    knn: list[tuple[float, float]] = []  # seconds of training, accuracy
    for line in lines:
        if line.get("kind") == "step":
            last = line
        elif line.get("kind") == "knn":
            knn.append((round(last.get("seconds", 0.0), 1), round(line["accuracy"], 4)))
    verdict = json.loads((out / "verdict.json").read_text())
    ended = (out / "encoder" / "model.safetensors").exists() and any(out.glob("checkpoints/step-*"))
    # In tiny there is nothing to learn. A GPU trains in bf16, which no other check sees learning.
    learns = part.tiny or DIAGNOSES[verdict["label"]].kind != "bad"
    part.write(
        name, ok=bool(last) and ended and learns, verdict=verdict["label"],
        whole_run=f"{seconds:.1f} s",
        **rounded({
            key: last.get(key) for key in ("step", "loss", "images_per_second", "wait_share")
        }),
        knn_by_seconds=knn, events=[line["text"] for line in lines if line.get("kind") == "event"],
    )  # fmt: skip


def found(part: Part, name: str, task: str, folder: Path) -> None:
    """A detector or a segmenter from random weights; ok where it has learned its images."""
    side, train, test, epochs = (48, 8, 4, 1) if part.tiny else (96, 64, 16, 9)
    write = write_maps if task == "semantic" else write_boxes
    data = write(folder / "data", side, train=train, test=test)
    encoder = parse_encoder("resnet10/8-medium" if part.tiny else "resnet10/4-medium")
    export_encoder(encoder.build(SEED), folder / "encoder", image_size=64)
    begun = time.perf_counter()
    run = coview.detect(
        folder / "encoder", data, task=task, out=folder / "run", device=str(part.device), size=side,
        batch_size=8, epochs=epochs, learning_rate=5e-3, seed=SEED, no_baselines=True,
        set=SMALL_DETECTOR if part.tiny and task == "masks" else (),
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    content = json.loads((run.path / "evaluation" / "detect.json").read_text())
    ((metric, value),) = content["training"].items()
    part.write(
        name, ok=run.is_ended and (part.tiny or value >= ENOUGH[metric]),
        verdict=run.verdict["label"], whole_run=f"{seconds:.1f} s", steps=run.total_steps,
        on_training_images={metric: round(value, 3)},
        on_test_images={
            f"{result['metric']} of {result['layer']}": round(result["value"], 3)
            for result in content["results"] if result["metric"] in ("AP", "AP50", "mIoU")
        },
    )  # fmt: skip


def export(part: Part, name: str, out: Path) -> None:
    """Features of the exported encoder on the device beside those on the CPU, in float32."""
    images = torch.from_numpy(np.random.default_rng(0).random((8, 3, 32, 32), np.float32))
    encoder = coview.load(out).eval()
    with torch.no_grad():
        here = encoder(images)
    found = compute_features(encoder.to(part.device), images.to(part.device))
    far = float((found.cpu() - here).abs().max() / here.abs().max())
    part.write(name, ok=far < 1e-4, features_off=float(f"{far:.2g}"))
