"""What the ends of all runs share: the export, the verdict, the report, and how to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from coview.core.clock import Clock
from coview.core.figures import DIAGNOSES
from coview.core.files import write_json
from coview.core.progress import say
from coview.core.text import duration
from coview.diagnosis.health import embed_all
from coview.diagnosis.state import Diagnosis
from coview.encoders.exchange.classifier import export_classifier, plain_layers
from coview.encoders.exchange.export import example_images, export_encoder
from coview.encoders.exchange.whole import replacing_export
from coview.methods import Learner
from coview.methods.learner import NetworkTask
from coview.recipes import Recipe
from coview.recipes.build import HeadedEncoder
from coview.reports import write_report
from coview.runs.card import card_of
from coview.runs.extend import longer_command
from coview.runs.run import Run


def features_are_finite(recipe: Recipe, learner: Learner) -> bool:
    """Whether the encoder gives finite features for images of noise."""
    h, _ = embed_all(learner.embed, example_images(recipe.image_size))
    return bool(torch.isfinite(h).all())


def export_learner(
    run: Run, learner: Learner, folder: Path, *, diagnosis: Diagnosis | None = None,
    step: int | None = None,
) -> None:  # fmt: skip
    """Write the encoder into ``folder``, checked against its own output; with a classifier where
    the run has learned one. A process that is killed leaves the export before or this one.
    ``diagnosis``, ``step``: as for :func:`coview.runs.card.card_of`."""
    recipe, encoder = run.recipe, learner.encoder
    modules = [*learner.head.layers]
    if isinstance(encoder, HeadedEncoder):
        modules = [*encoder.kept.layers, *modules]
        encoder = encoder.encoder
    first = recipe.first_view
    with replacing_export(folder) as new:
        export_encoder(
            encoder, new, image_size=recipe.image_size,
            mean=first.mean, std=first.std, metadata=card_of(run, diagnosis, step),
        )  # fmt: skip
        if run.kind in ("finetune", "distill"):
            class_names = tuple(run.description["data"]["class_names"])
            export_classifier(new, plain_layers(modules), class_names)


def write_end(run: Run, diagnosis: Diagnosis, clock: Clock) -> Path:
    """Write the report, and last verdict.json, which says that the run has ended.

    A run that is killed before the last file is there has not ended, and resume writes what lacks.
    """
    verdict: dict[str, Any] = dict(diagnosis.to_json())
    if clock.budget is not None:
        verdict["time"] = {"budget": clock.budget, "used": round(clock.used, 1)}
    report = write_report(run.path, verdict=verdict, running=False)
    write_json(run.verdict_path, verdict)
    return report


def say_diagnosis(diagnosis: Diagnosis) -> None:
    """The diagnosis in sentences, with causes and remedy."""
    say()
    say(diagnosis.sentence)
    if diagnosis.details:
        say(diagnosis.details)
    for cause in diagnosis.causes:
        say(f"  Likely cause: {cause}")
    if diagnosis.remedy:
        say(f"  What to do: {diagnosis.remedy}", advice=True)


def say_classifier(run: Run, report: Path, *, finite: bool) -> None:
    """Where the report and the classifier of an ended run are, and what to do with it.

    ``finite``: whether its logits are, so that there is a classifier.
    """
    say()
    say(f"Report:     {report}")
    if finite:
        say(f"Classifier: {run.encoder_path} (README.md there says how to load it anywhere)")
        say(f"Use it:     {run.command('predict')} IMAGES", advice=True)


def say_end(run: Run, clock: Clock) -> None:
    """How to train on a run that has learned, and what of the budget was used."""
    width = len("Evaluate: ") if run.kind == "pretrain" else len("Classifier: ")
    if DIAGNOSES[(run.verdict or {})["label"]].exit_code == 0:
        say(f"{'Longer:':<{width}}{longer_command(run)}", advice=True)
    if clock.budget is not None:
        asked, used = duration(clock.budget, 1), duration(clock.used, 1)
        say(f"{'Budget:':<{width}}{asked}, used {used}")


def leave(run: Run, learner: NetworkTask, reason: str) -> None:
    """Report a stopped run and say how to go on; the checkpoint is written already."""
    if (
        isinstance(learner, Learner)
        and run.kind == "pretrain"
        and features_are_finite(run.recipe, learner)
    ):
        export_learner(run, learner, run.encoder_path)
    say()
    say(f"{reason[:1].upper()}{reason[1:]}. Everything is saved.")
    say(f"Report so far: {write_report(run.path, running=False)}")
    say(f"Go on exactly with: {run.command('resume')}")
