"""A trained network, from its run or from an exported folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from coview.core.errors import CoviewError, RunError
from coview.core.figures import DIAGNOSES
from coview.core.places import Kind, place_of
from coview.core.progress import say
from coview.core.run_folder import RunFolder, is_run
from coview.core.text import plural
from coview.encoders import load_encoder
from coview.encoders.exchange.convert import encoder_of, load_network
from coview.encoders.exchange.weights import find_export, read_config
from coview.evaluation import Subject
from coview.methods import CrossEntropy, Learner
from coview.recipes import build
from coview.recipes.build import HeadedEncoder, exported_head
from coview.runs.finish import export_learner
from coview.runs.run import Run
from coview.runs.transform import EvalTransform
from coview.training import Checkpoints
from coview.training.state import TASK, below
from coview.views import ViewPlan, eval_view


def load(path: str | Path, *, checkpoint: int | None = None) -> torch.nn.Module:
    """The trained network of a run or of an exported folder, in evaluation mode.

    An encoder maps images [B, 3, H, W] in [0, 1] to h [B, D]; ``.features`` is D. The classifier of
    a fine-tuned run maps them to logits [B, classes]; ``.class_names`` names these. Bytes, one
    image, and lists of arrays, of paths or of Pillow's images do as well. ``.transform`` makes one
    image of a batch of such a picture, as `coview embed` does, for a data loader; ``.image_size``
    is its side. ``checkpoint``: the step of a kept checkpoint. The hash of the weights is verified.
    Raises RunError where there is no export, DamagedFile where its weights are not those recorded.

    >>> import coview
    >>> encoder = coview.load("runs/scenes")
    >>> encoder(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 64])
    >>> from PIL import Image
    >>> encoder([Image.new("RGB", (90, 60)), Image.new("L", (32, 32))]).shape
    torch.Size([2, 64])
    >>> encoder.transform(Image.new("RGB", (90, 60))).shape, encoder.image_size
    (torch.Size([3, 8, 8]), 8)
    """
    with exported(path, checkpoint) as folder:
        network = load_network(folder)
        encoder_of(network).transform = EvalTransform(int(read_config(folder)["image_size"]))
        return network


@contextmanager
def exported(path: str | Path, checkpoint: int | None = None) -> Iterator[Path]:
    """The folder of a run's exported network; that of a kept checkpoint is there in the body only.

    Raises RunError where there is no export, or no such checkpoint.
    """
    if checkpoint is None:
        yield find_export(path)
        return
    run = Run.open(path)
    learner = trained_learner(run, checkpoint)
    with TemporaryDirectory() as folder:
        export_learner(run, learner, Path(folder), step=checkpoint)
        yield Path(folder)


def at_step(name: str, checkpoint: int | None) -> str:
    """``name`` of a file, with the step of the checkpoint that it was made of.

    >>> at_step("photos", None), at_step("photos", 400)
    ('photos', 'photos-step-400')
    """
    return name if checkpoint is None else f"{name}-step-{checkpoint}"


def trained_learner(run: Run, step: int | None = None) -> Learner:
    """The learner of ``run`` after ``step`` steps, or after its last verified checkpoint.

    Raises RunError where there is no checkpoint, DamagedFile.
    """
    checkpoints = Checkpoints(run.checkpoints_path)
    if step is not None:
        run.require_checkpoint(step)
    checkpoint = checkpoints.load_latest() if step is None else checkpoints.load(step)
    if checkpoint is None:
        raise RunError(f"{run.path} has no checkpoint yet; go on with: {run.command('resume')}")
    for sentence in checkpoint.damaged:
        say(f"Skipped a damaged checkpoint: {sentence}")
    learner = build(run.recipe)
    learner.load_state_dict(below(TASK, checkpoint.tensors))
    return learner


def subject_of(name: str, learner: Learner, run: Run) -> Subject:
    """The learner's networks: h is the encoder's output, z the embeddings, or the logits.

    Layers of a projection head that fine-tuning has kept count for the head.
    """
    encoder, head = learner.encoder, learner.head
    own: dict[str, Any] = {"view": run.recipe.eval_view}
    if len(views := run.recipe.method.views.views) > 1:
        own["views"] = ViewPlan(views=views[:2])
    if isinstance(run.recipe.method.objective, CrossEntropy):
        own |= {"logits": "z", "class_names": tuple(run.description["data"]["class_names"])}
    if isinstance(encoder, HeadedEncoder):
        layers = torch.nn.Sequential(encoder.kept, head)
        return Subject(name=name, encoder=encoder.encoder, head=layers, **own)
    return Subject(name=name, encoder=encoder, head=head, **own)


def say_verdict(path: str | Path) -> None:
    """One line where the run whose network is used did not end as one that has learned.

    ``path``: of the run, or of the encoder/ in it. Nothing is known of other networks, nor of a run
    without a verdict.
    """
    place = place_of(path)
    run = RunFolder(place.path if place.kind is Kind.RUN else place.path.parent)
    with suppress(CoviewError):  # what cannot be read is no reason not to use the network
        if not is_run(run.path) or place.path not in (run.path, run.encoder_path):
            return
        verdict = run.verdict or {}
        label = DIAGNOSES.get(verdict.get("label", ""))
        if label is None or label.kind == "good":
            return
        than = "; raw pixels may find better neighbors" if run.kind == "pretrain" else ""
        steps = plural(verdict["step"], "step")
        note = f'Note: {place.words} was judged "{verdict["label"]}" after {steps}{than}.'
        say(note, advice=True)  # of the runs inside a study the ends were said


def load_subject(path: str | Path, step: int | None = None) -> Subject:
    """The network of a run, or of an exported folder, with its head. Raises RunError."""
    place = place_of(path)
    if step is not None or place.kind is Kind.RUN:
        run = Run.open(path)
        if run.kind == "detect" and step is None:
            return load_subject(run.encoder_path)
        learner = trained_learner(run, step)
        return subject_of(place.path.name, learner, run)
    folder = find_export(path)
    config = read_config(folder)
    # The loaded encoder normalizes by itself, so the view stays in [0, 1].
    encoder = load_encoder(folder)
    return Subject(
        name=place.path.name,
        encoder=encoder,
        head=exported_head(folder, encoder.features),
        view=eval_view(int(config["image_size"])),
    )
