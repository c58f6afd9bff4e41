"""The sizes with which the commands of the documentation are tested.

A page shows what a person types: ``coview pretrain photos/ --budget 30m``. A test has two seconds.
Everything that it does otherwise than the page says stands here.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

ALWAYS: dict[str, Any] = {
    "epochs": 1, "budget": None, "warmup_epochs": 0, "draws": 1,
    "finetune_epochs": 1, "distill_epochs": 1, "device": "cpu", "workers": 1,
}  # fmt: skip
"""Replaced, also where the page says something else."""

UNLESS_SAID: dict[str, Any] = {"limit": 48, "size": 16, "batch_size": 8}
"""Added where the page says nothing."""

JUDGED = 100
"""Images that are evaluated, at most."""

DETECTION: dict[str, Any] = {"size": 48, "batch_size": 4, "no_baselines": True}
DETECTOR = (
    "method.channels=16", "method.hidden=32", "method.anchors=12,24,48,96",
    "method.proposals=100,50", "method.test_proposals=100,50", "method.sampled=32,16",
)  # fmt: skip
"""`coview detect`: for boxes also a narrow detector."""

NETWORKS = {
    None: "resnet10/8-small", "resnet10/4": "resnet10/8-small", "resnet50": "resnet18",
}  # fmt: skip
"""Small networks in place of the default and of others; resnet18 in place of resnet50."""

LABELS = {"1%": "4-per-class", "10%": "8-per-class", "1%,10%": "20%,50%"}
"""The shares of labels, of 48 images."""


def small(options: Any) -> Any:
    """The options of a verb with sizes for a test."""
    has = {field.name: getattr(options, field.name) for field in fields(options)}
    kind = type(options).__name__
    is_study, trains = kind == "StudyOptions", "keep_every" in has
    changed: dict[str, Any] = {name: value for name, value in ALWAYS.items() if name in has}
    if kind == "ResumeOptions":  # its number of epochs is that of the run in all
        changed["epochs"] = 2 if has["epochs"] or has["budget"] else None
    if trains:
        sizes = DETECTION if kind == "DetectOptions" else UNLESS_SAID
        changed |= {
            name: value for name, value in sizes.items() if has.get(name, 0) in (None, False)
        }
        if kind == "DetectOptions" and has["task"] is None:
            changed["set"] = DETECTOR
    if kind == "SelectOptions":
        changed["number"] = 5
    if kind == "EvaluateOptions":
        changed["limit"] = min(has["limit"] or JUDGED, JUDGED)
    if kind == "SweepOptions":
        changed |= {"limit": 60, "set": (*has["set"], "epochs=1", "encoder=resnet10/8-small")}
    if is_study and has["name"] != "simclrv2/chain":
        return replace(options, scale="tiny", limit=48, seeds=1)
    if is_study:
        changed |= {"limit": 60, "layers": "1,last"}
    for name in ("encoder", "student"):
        if name in has and (is_study or (trains and has[name] in NETWORKS)):
            changed[name] = NETWORKS.get(has[name], NETWORKS[None])
    if has.get("labels") in LABELS:
        changed["labels"] = LABELS[has["labels"]]
    return replace(options, **changed)
