"""The end of a run: verdict, export, gallery, report, and what to do next."""

from __future__ import annotations

import torch

from coview.core.files import write_json
from coview.core.images import ImageStore
from coview.core.progress import say
from coview.diagnosis.gallery import write_gallery
from coview.diagnosis.run_checks import (
    first_and_last_accuracy,
    health_history,
    supervised_classes,
)
from coview.diagnosis.rules import Diagnosis, diagnose
from coview.encoders import export_encoder
from coview.encoders.exchange.export import example_images
from coview.methods import Learner
from coview.reports import write_report
from coview.runs.run import Run

UNSOUND = "none is written, its features are not finite numbers; the checkpoints are kept."


def finish(run: Run, learner: Learner, store: ImageStore, found: Diagnosis) -> None:
    """Write encoder/, report/, verdict.json and report.html, and say how it went.

    verdict.json says that the run has ended, so it comes after what a resumed run would redo.
    """
    recipe = run.recipe
    sound = answers(run, learner)
    if sound:
        export(run, learner)
        write_gallery(
            run.path, learner.embed, store,
            plan=recipe.method.views, plain=recipe.eval_view, seed=recipe.seed,
        )  # fmt: skip
    write_json(run.verdict_path, found.to_json())
    say()
    say(found.sentence)
    for cause in found.causes:
        say(f"  Likely cause: {cause}")
    if found.remedy:
        say(f"  What to do: {found.remedy}")
    if learner.temperature is not None:
        say(f"Temperature: {learner.temperature.value:.3f} has been learned.")
    say()
    say(f"Report:   {write_report(run.path)}")
    if not sound:
        say(f"Encoder:  {UNSOUND}")
        return
    say(f"Encoder:  {run.encoder_path} (encoder/README.md says how to load it anywhere)")
    say(f"Judge it: coview evaluate {run.path} --data LABELED")


def leave(run: Run, learner: Learner, reason: str) -> None:
    """Export and report what there is and say how to go on; the checkpoint is written already."""
    if answers(run, learner):
        export(run, learner)
    else:
        say(f"Encoder:  {UNSOUND}")
    say()
    say(f"{reason[:1].upper()}{reason[1:]}. Everything is saved.")
    say(f"Report so far: {write_report(run.path)}")
    say(f"Go on exactly with: coview resume {run.path}")


def judge(run: Run) -> Diagnosis:
    """The verdict on the whole run, from its record."""
    total = run.description["total_steps"]
    metrics = run.metrics()
    changes = [row["parameter_change"] for row in metrics if row["kind"] == "health"]
    return diagnose(
        health_history(metrics),
        steps_done=total,
        steps_planned=total,
        parameter_change=changes[-1],
        classes=supervised_classes(run.description),
        accuracies=first_and_last_accuracy(metrics),
    )


def answers(run: Run, learner: Learner) -> bool:
    """Whether the encoder gives finite features."""
    h, _ = learner.embed(example_images(run.recipe.image_size))
    return bool(torch.isfinite(h).all())


def export(run: Run, learner: Learner) -> None:
    """Write encoder/, checked against the encoder's own output."""
    recipe = run.recipe
    first = recipe.method.views.views[0]
    about = {
        "method": recipe.method.name,
        "recipe": recipe.name,
        "recipe_hash": run.description["hash"],
        "data_fingerprint": run.description["data"]["fingerprint"],
    }
    export_encoder(
        learner.encoder, run.encoder_path, image_size=recipe.image_size,
        mean=first.mean, std=first.std, metadata=about,
    )  # fmt: skip
