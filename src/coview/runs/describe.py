"""What run.json says of a run, and the machine that it was made on."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shlex import join
from typing import Any

import torch

from coview.core.files import write_text
from coview.core.images import ImageStore
from coview.core.machine import cores, cpu_name, memory_bytes
from coview.core.values import encode, fingerprint
from coview.core.version import VERSION
from coview.data.decode import decoders
from coview.methods.learner import NetworkTask
from coview.objectives.log_partition import FUSED_LOSS
from coview.planning.planner import Plan
from coview.recipes import Start
from coview.runs.data import Images, RunData, without_download
from coview.runs.duration import Duration
from coview.runs.job import Parts
from coview.runs.run import Run
from coview.training import Precision
from coview.views import render_device

LIBRARIES = ("torchvision", "numpy", "numba")
COMPUTED_WITH = {
    **{name: name for name in ("torch", *LIBRARIES)}, "coview": "Coview", "cpu": "the CPU",
    "device": "the device", "fused_loss": "the fused loss", "render_on": "views rendered on",
}  # fmt: skip
"""What of the environment may change the bits of a training, and what it is called."""


def describe(
    kind: str, plan: Plan, images: Images, parts: Parts, learner: NetworkTask, *, data: RunData,
    start: Start | None, precision: Precision, processes: int, budget: float | None,
    extra: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The content of run.json: enough to make the run again, and to know where it was made."""
    recipe, store = plan.recipe, images.images
    method = recipe.method
    training = len(parts.training)
    classes = len(store.class_names) or None if method.needs_labels else None
    most = None if plan.most_epochs is None else replace(recipe, epochs=plan.most_epochs)
    duration = Duration(
        epochs=recipe.epochs, total_steps=recipe.total_steps(training), budget=budget,
        follows_clock=most is not None, created=now(),
        most_steps=None if most is None else most.total_steps(training),
    )  # fmt: skip
    return {
        "coview": VERSION, "kind": kind, "created": now(), "command": command(),
        "name": recipe.name, "recipe": encode(recipe), "hash": fingerprint(recipe),
        "encoder": recipe.encoder.label(), "start": None if start is None else encode(start),
        "processes": processes, "needs_labels": method.needs_labels,
        "data": {
            "source": store.source,
            "images": training,
            "held_out": len(parts.held_out),
            "fingerprint": images.fingerprint, "parts": parts.fingerprint,
            "unlabeled_fingerprint": images.unlabeled_fingerprint,
            "class_names": list(store.class_names),
            "quarantined": len(store.quarantine),
            "opened": without_download(data).to_json(),
        },
        "environment": environment(precision.device, precision.format), "plan": list(plan.notes),
        "chance_level": learner.chance_level(recipe.batch_size),
        "lower_bound": learner.lower_bound(recipe.batch_size, classes),
        "steps_per_epoch": recipe.steps_per_epoch(training),
        "total_steps": duration.total_steps, "epochs": recipe.epochs,
        "exact": plan.exact, "durations": [encode(duration)], "estimate_seconds": plan.seconds,
        "parameters": {"encoder": _count(learner.encoder), "head": _count(learner.head)}, **extra,
    }  # fmt: skip


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """The machine and the versions: what a figure has to stand beside."""
    return {
        "python": platform.python_version(), "system": platform.platform(),
        "torch": torch.__version__, **{name: version(name) for name in LIBRARIES},
        "decoders": decoders(), "coview": VERSION,
        "cpu": cpu_name(), "cores": cores(),
        "memory_gb": round(memory_bytes() / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda"
        else device.type,
        "precision": precision, "fused_loss": os.environ.get(FUSED_LOSS) == "1",
        "render_on": render_device(device).type,
    }  # fmt: skip


def other_environment(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of the machine and the versions changes the bits of a run, as a sentence, or "".

    ``before`` is the environment in which the run began; what it does not record is not compared.

    >>> now = {"torch": "2.12", "numba": "0.63", "fused_loss": False}
    >>> other_environment({"torch": "2.11", "fused_loss": False}, now)
    'The run goes on with torch 2.12 in place of 2.11: the rest may not be the same to the bit.'
    """
    changed = [
        f"{words} {_shown(now[name])} in place of {_shown(before[name])}"
        for name, words in COMPUTED_WITH.items()
        if name in before and name in now and before[name] != now[name]
    ]
    if not changed:
        return ""
    return f"The run goes on with {', '.join(changed)}: the rest may not be the same to the bit."


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def write_quarantine(run: Run, store: ImageStore) -> None:
    """One line of quarantine.jsonl for each image that could not be used."""
    if store.quarantine:
        lines = [json.dumps({"file": name, "reason": why}) for name, why in store.quarantine]
        write_text(run.quarantine_path, "\n".join(lines) + "\n")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """The words that started this process, as a person would type them."""
    program = Path(sys.argv[0]).name
    if program in {"coview", "__main__.py"}:
        return join(["coview", *sys.argv[1:]])
    return join(["python", program]) if program else "python"


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
