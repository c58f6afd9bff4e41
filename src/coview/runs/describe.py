"""What run.json says: enough to make the run again, and to know where it was made."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import coview
from coview.core.files import write_json, write_text
from coview.core.images import ImageStore
from coview.core.machine import cores, cpu_name, memory_bytes
from coview.core.run_folder import DESCRIPTION
from coview.core.values import encode, fingerprint
from coview.methods import Learner
from coview.objectives.log_partition import FUSED_LOSS
from coview.planning.plan import Plan


def describe(
    plan: Plan,
    store: ImageStore,
    learner: Learner,
    *,
    opened: dict[str, Any],
    training_images: int,
    device: torch.device,
    precision: str,
    weights: str | None,
    processes: int = 1,
) -> dict[str, Any]:
    """The content of run.json. ``opened`` are the arguments that open ``store`` again."""
    recipe = plan.recipe
    method = learner.method
    width = learner.head.widths[-1]
    return {
        "coview": coview.__version__,
        "created": now(),
        "command": command(),
        "name": recipe.name,
        "recipe": encode(recipe),
        "hash": fingerprint(recipe),
        "encoder": recipe.encoder.label(),
        "weights": weights,
        "processes": processes,
        "needs_labels": method.needs_labels,
        "data": {
            "source": store.source,
            "images": training_images,
            "held_out": len(store) - training_images,
            "fingerprint": store.fingerprint,
            "class_names": list(store.class_names),
            "quarantined": len(store.quarantine),
            "opened": opened,
        },
        "environment": environment(device, precision),
        "plan": list(plan.reasons),
        "chance_level": learner.chance_level(recipe.batch_size),
        "lower_bound": method.lower_bound(
            recipe.batch_size, width,
            classes=len(store.class_names) or None if method.needs_labels else None,
        ),
        "steps_per_epoch": training_images // recipe.batch_size,
        "total_steps": recipe.total_steps(training_images),
        "epochs": recipe.epochs,
        "estimate_seconds": plan.seconds,
        "parameters": {
            "encoder": _count(learner.encoder),
            "head": _count(learner.head),
        },
    }  # fmt: skip


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """The machine and the versions: what a figure has to stand beside."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "coview": coview.__version__,
        "cpu": cpu_name(),
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": precision,
        "fused_loss": os.environ.get(FUSED_LOSS) == "1",
    }


def write_quarantine(folder: Path, store: ImageStore) -> None:
    """One line of quarantine.jsonl for each image that could not be used."""
    if store.quarantine:
        lines = [json.dumps({"file": name, "reason": why}) for name, why in store.quarantine]
        write_text(folder / "quarantine.jsonl", "\n".join(lines) + "\n")


def write_description(folder: Path, content: dict[str, Any]) -> None:
    """run.json; the folder is a run from here on."""
    write_json(folder / DESCRIPTION, content)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """The words that started this process, as a person would type them."""
    program = Path(sys.argv[0]).name
    if program in {"coview", "__main__.py"}:
        return " ".join(["coview", *sys.argv[1:]])
    return f"python {program}" if program else "python"


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
