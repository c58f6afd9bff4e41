"""The end of a run: verdict, export, gallery, report, and what to do next."""

from __future__ import annotations

import torch

from coview.core.files import write_json
from coview.core.images import ImageStore
from coview.core.progress import say
from coview.encoders import export_encoder
from coview.methods import Learner
from coview.reports import write_report
from coview.runs.doctor_run import health_history, supervised_classes
from coview.runs.gallery import write_gallery
from coview.runs.network import build
from coview.runs.run import Run
from coview.runs.watch import plain_view
from coview.training.verdict import Verdict, verdict


def finish(run: Run, learner: Learner, store: ImageStore) -> None:
    """Write verdict.json, encoder/, report/ and report.html, and say how it went."""
    recipe = run.recipe
    found = judge(run, learner)
    write_json(run.path / "verdict.json", found.to_json())
    export(run, learner)
    write_gallery(
        run.path, learner.embed, store,
        plan=recipe.method.views, plain=plain_view(recipe), seed=recipe.seed,
    )  # fmt: skip
    say()
    say(found.sentence)
    for cause in found.causes:
        say(f"  Likely cause: {cause}")
    if found.remedy:
        say(f"  What to do: {found.remedy}")
    say()
    say(f"Report:   {write_report(run.path)}")
    say(f"Encoder:  {run.path / 'encoder'} (encoder/README.md says how to load it anywhere)")
    say(f"Judge it: coview evaluate {run.path} --data LABELLED")


def leave(run: Run, learner: Learner, reason: str) -> None:
    """Export what there is and say how to go on; the checkpoint is written already."""
    export(run, learner)
    say()
    say(f"{reason[:1].upper()}{reason[1:]}. Everything is saved.")
    say(f"Go on exactly with: coview resume {run.path}")


def judge(run: Run, learner: Learner) -> Verdict:
    """The verdict on the whole run, from its record and its parameters."""
    total = run.description["total_steps"]
    return verdict(
        health_history(run.metrics),
        steps_done=total,
        steps_planned=total,
        parameter_change=parameter_change(run, learner),
        classes=supervised_classes(run.description),
    )


@torch.no_grad()
def parameter_change(run: Run, learner: Learner) -> float:
    """|now - start| / |start| over all trained parameters."""
    start = dict(build(run.recipe, run.description["weights"]).named_parameters())
    moved = length = 0.0
    for name, parameter in learner.named_parameters():
        before = start[name].double()
        moved += float((parameter.detach().cpu().double() - before).square().sum())
        length += float(before.square().sum())
    return float((moved / max(length, 1e-300)) ** 0.5)


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
        learner.encoder, run.path / "encoder", image_size=recipe.image_size,
        mean=first.mean, std=first.std, metadata=about,
    )  # fmt: skip
