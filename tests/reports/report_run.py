"""A run folder as a training would leave it: small, seeded, with believable curves and pictures."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np

CLASSES = ("disc", "square", "cross", "ring", "stripes", "dots")
NASTY = '<script>alert("x")</script>.jpg'


def make_run(
    folder: Path, *, epochs: int = 40, verdict: str = "learning", images: int = 300,
    finished: float = 1.0, labels: bool = True, seed: int = 0, name: str = "photos",
) -> Path:  # fmt: skip
    """Write the files of a run; ``finished`` is the share of its steps that were taken."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    steps = epochs * 25
    _json(folder / "run.json", _description(name, epochs, steps, labels))
    _metrics(folder / "metrics.jsonl", epochs, int(steps * finished), labels, rng)
    _json(folder / "verdict.json", _diagnosis(verdict, int(steps * finished)))
    (folder / "quarantine.jsonl").write_text(
        "".join(
            json.dumps({"file": file, "reason": reason}) + "\n"
            for file, reason in [
                (NASTY, "not an image: the file holds HTML"),
                ("holiday/IMG_0042.jpg", "truncated: 18,432 of 90,112 bytes"),
                ("scan<b>.png", "8000 x 8000 pixels is above the limit"),
            ]
        )
    )
    _evaluations(folder / "evaluation", labels)
    _pictures(folder / "report", images, labels, rng)
    return folder


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def _description(name: str, epochs: int, steps: int, labels: bool) -> dict[str, object]:
    crop = {"type": "Crop", "smallest_area": 0.2, "largest_area": 1.0, "aspect": [0.75, 1.3333]}
    slot = {"type": "ViewSpec", "size": 64, "crop": crop, "flip": 0.5, "jitter": {"type": "Jitter",
            "jitter_strength": 0.5, "probability": 0.8}, "grayscale": 0.2, "blur": None}  # fmt: skip
    recipe = {
        "type": "Recipe",
        "method": {"type": "Method", "name": "simclr", "temperature": 0.5, "views": [slot, slot],
                   "head": {"type": "HeadSpec", "layers": 2, "hidden": 512, "output": 128}},
        "encoder": {"type": "EncoderSpec", "kind": "resnet", "depth": 18, "width": 0.5,
                    "stem": "small"},
        "optimizer": {"type": "OptimizerSpec", "name": "lars", "learning_rate": 0.6,
                      "momentum": 0.9, "weight_decay": 1e-06},
        "schedule": {"type": "ScheduleSpec", "kind": "cosine", "warmup_epochs": 4},
        "batch_size": 512, "epochs": epochs, "seed": 0,
    }  # fmt: skip
    return {
        "coview": "0.1.0", "created": "2026-11-23T18:04:11+00:00", "name": name,
        "command": f"coview pretrain {name}/ --epochs {epochs} --seed 0",
        "recipe": recipe, "hash": "7d1f04c2b95e6a33c0d84a1be2f79a50",
        "data": {"source": f"{name}/", "images": 12800, "held_out": 1280,
                 "fingerprint": "c8e1a5d09b7f42f6a1d37c55e0b3924f",
                 "class_names": list(CLASSES) if labels else [], "quarantined": 3},
        "environment": {"python": "3.11.9", "torch": "2.11.0", "coview": "0.1.0",
                        "cpu": "AMD EPYC", "cores": 8, "memory_gb": 31.2, "device": "cpu",
                        "precision": "float32"},
        "plan": ["Views are 64 pixels: the median image is 72 pixels on its short side.",
                 "Small stem: views are smaller than 96 pixels, so early pooling loses detail.",
                 "Learning rate 0.6 = 0.3 x 512 / 256 (SimCLR B.6) with LARS.",
                 "Batch 512 fits into 8.0 GB of the 31.2 GB of memory."],
        "chance_level": math.log(1023), "lower_bound": 4.95, "total_steps": steps, "epochs": epochs,
        "parameters": {"encoder": 2_797_610, "head": 197_248},
    }  # fmt: skip


def _metrics(path: Path, epochs: int, last: int, labels: bool, rng: np.random.Generator) -> None:
    lines: list[dict[str, object]] = [_health(0, 0.0, 0.0, rng)]
    per_epoch, total = 25, epochs * 25
    if labels:
        lines.append({"kind": "knn", "step": 0, "epoch": 0, "k": 10, "accuracy": 0.412,
                      "layer": "h"})  # fmt: skip
    for step in range(5, last + 1, 5):
        share = step / total
        progress = 1 - math.exp(-5 * share)
        warm = min(1, step / (4 * per_epoch))
        lines.append({
            "kind": "step", "step": step, "epoch": round(step / per_epoch, 3),
            "loss": 6.93 - 1.62 * progress + float(rng.normal(0, 0.035)),
            "learning_rate": 0.6 * warm * 0.5 * (1 + math.cos(math.pi * share)),
            "images_per_second": 812 + float(rng.normal(0, 25)) - (200 if step % 250 == 0 else 0),
            "wait_share": abs(float(rng.normal(0.02, 0.008))), "seconds": step * 512 / 800,
            "gradient_norm": 1.1 + 0.8 * math.exp(-8 * share) + abs(float(rng.normal(0, 0.07))),
        })  # fmt: skip
        if step % (2 * per_epoch) == 0:
            epoch = step / per_epoch
            lines.append(_health(step, epoch, progress, rng))
            if labels:
                accuracy = 0.41 + 0.4 * progress + float(rng.normal(0, 0.006))
                lines.append({"kind": "knn", "step": step, "epoch": epoch, "k": 10,
                              "accuracy": accuracy, "layer": "h"})  # fmt: skip
    if last >= 400:
        lines.append({"kind": "event", "step": 300, "text": "Resumed from step 300."})
        lines.append({"kind": "skipped", "step": 388, "ids": [17, 204, -9113],
                      "reason": "the gradient is not finite"})  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _health(
    step: int, epoch: float, progress: float, rng: np.random.Generator
) -> dict[str, object]:
    def noisy(value: float, size: float) -> float:
        return value + float(rng.normal(0, size))

    return {"kind": "health", "step": step, "epoch": epoch, "figures": {
        "loss": noisy(6.81 - 1.5 * progress, 0.02), "feature_std_z": noisy(0.31 + 0.62 * progress, 0.01),
        "feature_std_h": noisy(0.22 + 0.33 * progress, 0.01),
        "rank_h": noisy(14.2 + 70 * progress, 1.1), "rank_z": noisy(9.7 + 62 * progress, 1.0),
        "alignment": noisy(0.21 + 0.3 * progress * (1.4 - progress), 0.01),
        "uniformity": noisy(-0.6 - 2.7 * progress, 0.03),
        "instance_accuracy_z": min(1.0, noisy(0.132 + 0.61 * progress, 0.012)),
        "mean_positive_similarity": noisy(0.9 - 0.12 * progress, 0.006),
        "mean_negative_similarity": noisy(0.83 - 0.8 * progress, 0.008), "images": 1280,
        "instance_accuracy_h": min(1.0, noisy(0.121 + 0.5 * progress, 0.012)),
        "width_h": 256, "width_z": 128, "chance_level": 7.847, "random_loss": 7.863, "lower_bound": 5.881,
        "identical_views": 0.0, "color_instance_accuracy": 0.102, "thumbnail_instance_accuracy": 0.161,
        "piece_accuracy_h": min(1.0, 0.03 + 0.4 * progress), "piece_accuracy_pixels": 0.18,
        "piece_accuracy_levels": 0.02, "copied_images": 0.0,
    }}  # fmt: skip


def _diagnosis(label: str, step: int) -> dict[str, object]:
    sentences = {
        "learning": ("Learning: shown a gray piece of an image that it has never seen, the encoder "
                     "finds another piece of the same image among 1,280 in 43 of 100 cases; raw "
                     "pixels do in 18, brightness alone in 2, the untrained network in 3."),
        "at chance": "At chance: every image gets the same embedding (loss 6.93 = ln 1023).",
        "collapsed": "Collapsed: all views agree because all images agree (feature std 0.01).",
        "dimensional collapse": "Dimensional collapse: about 6 of 256 directions are used.",
        "unchanged": "Nothing has changed since initialization: the encoder is still random.",
        "shortcut": "Shortcut suspected: the color histogram alone matches 97 % of the views.",
        "too early": "Too early to judge: 120 steps taken, 200 are needed.",
    }  # fmt: skip
    well = label in ("learning", "too early")
    return {
        "label": label, "sentence": sentences[label], "step": step,
        "details": "Instance accuracy 74.0% (untrained 13.2%, chance 0.1%); rank of h 84 of 256.",
        "causes": [] if well else ["The learning rate rises without a warm-up.",
                                   "The head ends in a layer that gives a constant."],
        "remedy": "" if well else "Start again with a longer `warmup_epochs` (10) and `learning_rate` 0.3.",
    }  # fmt: skip


def _evaluations(folder: Path, labels: bool) -> None:
    if not labels:
        return
    data = {"source": "photos/", "train": 11520, "test": 1280, "classes": 6}

    def result(protocol: str, subject: str, layer: str, setting: dict[str, object], value: float):
        return {"protocol": protocol, "subject": subject, "layer": layer, "metric": "accuracy",
                "value": value, "interval": [value - 0.02, value + 0.02], "test_images": 1280,
                "setting": setting}  # fmt: skip

    settings = [(1, 0.07), (20, 0.07), (200, 0.1)]
    knn = [
        result("knn", subject, layer, {"k": k, "temperature": t}, value)
        for subject, layer, values in (
            ("trained", "h", (0.774, 0.812, 0.783)), ("trained", "z", (0.731, 0.769, 0.740)),
            ("untrained", "h", (0.391, 0.418, 0.402)), ("untrained", "z", (0.391, 0.418, 0.402)),
            ("pixels", "pixels", (0.318, 0.333, 0.301)))
        for (k, t), value in zip(settings, values, strict=True)
    ]  # fmt: skip
    linear = [
        result("linear", subject, layer, {"optimizer": "lbfgs", "l2": 0.0003}, value)
        for subject, layer, value in (
            ("trained", "h", 0.868), ("trained", "z", 0.794), ("untrained", "h", 0.521),
            ("untrained", "z", 0.433), ("pixels", "pixels", 0.387))
    ]  # fmt: skip
    card = {"features": "eval-mode BatchNorm, no augmentation", "similarity": "cosine",
            "checkpoint": "last", "seeds": [0]}  # fmt: skip
    headlines = {"knn": {"k": 20}, "linear": {}}
    for protocol, results in (("knn", knn), ("linear", linear)):
        _json(folder / f"{protocol}.json", {
            "protocol": protocol, "headline": headlines[protocol], "card": card, "data": data, "results": results,
            "created": "2026-11-23T19:12:40+00:00",
        })  # fmt: skip


def _pictures(folder: Path, images: int, labels: bool, rng: np.random.Generator) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    size, queries, near = 48, 8, 7
    classes = rng.integers(0, len(CLASSES), images)
    thumbnails = np.stack([draw_image(int(label), size, rng) for label in classes])
    angles = classes * (2 * math.pi / len(CLASSES))
    centers = np.stack([0.5 + 0.33 * np.cos(angles), 0.5 + 0.33 * np.sin(angles)], 1)
    places = np.clip(centers + rng.normal(0, 0.1, (images, 2)), 0, 1).astype(np.float32)
    distance = ((places[:, None] - places[None]) ** 2).sum(-1)
    rows = np.argsort(distance[rng.choice(images, queries, replace=False)], axis=1)[:, : near + 1]
    cosines = np.sort(rng.uniform(0.55, 0.99, (queries, near)).astype(np.float32), 1)[:, ::-1]
    shown = [f"{CLASSES[label]}/IMG_{i:04d}.jpg" for i, label in enumerate(classes)]
    names = np.array([NASTY, *shown[1:]])
    labels = (classes if labels else np.full(images, -1)).astype(np.int64)
    pairs = rng.choice(images, min(8, images), replace=False)
    views = np.stack([[_crop(thumbnails[i], rng) for _ in range(2)] for i in pairs])
    sheet, columns = _sheet(thumbnails)
    np.savez_compressed(
        folder / "gallery.npz", near_pictures=thumbnails[rows], near_names=names[rows],
        near_labels=labels[rows], near_cosines=cosines, searched=np.array([images, 11520]),
        map=places, names=names, labels=labels, sheet=np.frombuffer(sheet, np.uint8),
        sheet_layout=np.array([columns, size]), pair_views=views,
        pair_cosines=np.sort(rng.uniform(0.05, 0.5, len(pairs))).astype(np.float32),
        pair_names=names[pairs], pair_sample=np.array([images]),
    )  # fmt: skip
    cells = np.stack([[_crop(thumbnails[i], rng) for i in range(12)] for _ in range(4)])
    cells[0] = thumbnails[:12]
    padded = np.pad(cells, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
    grid = padded.swapaxes(1, 2).reshape(4 * (size + 4), 12 * (size + 4), 3)
    Image.fromarray(grid.repeat(2, 0).repeat(2, 1)).save(folder / "views.png")


def _sheet(thumbnails: np.ndarray) -> tuple[bytes, int]:
    """All thumbnails on one JPEG, in rows, and the number of columns."""
    from PIL import Image

    columns, size = math.ceil(math.sqrt(len(thumbnails))), thumbnails.shape[1]
    sheet = Image.new("RGB", (columns * size, math.ceil(len(thumbnails) / columns) * size))
    for i, pixels in enumerate(thumbnails):
        sheet.paste(Image.fromarray(pixels), (i % columns * size, i // columns * size))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=75)
    return stream.getvalue(), columns


def draw_image(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """One picture of a class: a shape on a gradient, in random colors; uint8 [size, size, 3]."""
    y, x = np.mgrid[0:size, 0:size] / size
    ground, ink = rng.uniform(40, 150, 3), rng.uniform(130, 255, 3)
    tilt = rng.uniform(-60, 60, 2)
    picture = ground + (x[..., None] - 0.5) * tilt[0] + (y[..., None] - 0.5) * tilt[1]
    center, radius = rng.uniform(0.38, 0.62, 2), rng.uniform(0.2, 0.34)
    u, v = (x - center[0]) / radius, (y - center[1]) / radius
    far = np.hypot(u, v)
    square = np.maximum(abs(u), abs(v)) < 1
    shape = [
        far < 1,
        square,
        (np.minimum(abs(u), abs(v)) < 0.33) & square,
        (far < 1.1) & (far > 0.6),
        (np.sin(u * 7) > 0.1) & square,
        (np.sin(u * 7) > 0.2) & (np.sin(v * 7) > 0.2),
    ][label]
    picture = np.where(shape[..., None], ink, picture) + rng.normal(0, 5, (size, size, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def _crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = len(image)
    width = int(rng.integers(size // 2, size))
    top, left = rng.integers(0, size - width + 1, 2)
    rows = top + np.arange(size) * width // size
    columns = left + np.arange(size) * width // size
    picture = image[rows][:, columns] * rng.uniform(0.6, 1.3, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)
