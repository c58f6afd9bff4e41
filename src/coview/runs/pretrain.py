"""From images to a trained, judged and usable encoder: the main job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from coview.core.errors import InvalidValue
from coview.core.options import takes
from coview.core.progress import say
from coview.core.user_code import import_files
from coview.data.held_out import hold_out
from coview.data.spec import DataSpec, name_of
from coview.diagnosis.gallery import write_gallery
from coview.diagnosis.monitor import Monitor as HealthMonitor
from coview.diagnosis.rules import diverged
from coview.diagnosis.run_checks import diagnose_run
from coview.diagnosis.state import Diagnosis
from coview.encoders.exchange.normalization import normalization_of
from coview.methods import Learner, Teacher, get_method
from coview.options import PretrainOptions
from coview.planning.classes import about_classes
from coview.planning.plan import check_settings, make_plan
from coview.planning.planner import Plan
from coview.planning.text import about_scratch
from coview.recipes import (
    METHODS,
    Recipe,
    Start,
    distill_recipes,
    find_recipe,
    finetune_recipes,
    refuse_dense,
)
from coview.recipes import recipe as recipe_named
from coview.recipes.changes import with_normalization
from coview.runs.data import Images, RunData
from coview.runs.finish import export_learner, features_are_finite, say_diagnosis, write_end
from coview.runs.job import Job, Monitor, Parts, Session
from coview.runs.run import Run
from coview.runs.start import Beginning, seed_of, start_run
from coview.training import MetricsLog
from coview.training.distribution import local_device


@takes(PretrainOptions)
def pretrain(options: PretrainOptions) -> Run | None:
    """Learn a representation of ``data`` and return the run; None for a ``dry_run``.

    ``data``: a folder, Parquet file(s), a data set's name, "scenes", images in memory
    (see :func:`coview.data.open_images`), (images, labels), or an ImageStore. ``recipe``: a Recipe,
    or a file or a run that holds one, which is trained exactly as it is or refused; a recipe by
    name; or a method's name ("simclr", "byol"), for which everything else is chosen to
    suit data and device.
    The other arguments are the options of ``coview pretrain``; None keeps what the recipe says.
    Raises the errors of coview.core.errors for whatever a caller can mend.

    >>> import coview
    >>> run = coview.pretrain("scenes", limit=100, size=8, epochs=1, out="runs/first")
    >>> run.kind, run.is_ended
    ('pretrain', True)
    """
    import_files(options.import_)
    recipe = find_recipe(options.recipe)
    check_views(recipe)
    check_settings(recipe, options, local_device(options.device).type)
    data = RunData(
        images=DataSpec.of(
            options.data, options, size=options.size, needs_labels=needs_labels(recipe)
        )
    )

    def plan(parts: Parts, session: Session) -> Plan:
        plan = make_plan(
            parts.training, recipe, options, device=session.device, clock=session.clock,
            workers=session.workers, world=session.ranks.world,
        )  # fmt: skip
        notes = about_classes(plan.recipe, parts.training)
        named = not isinstance(recipe, Recipe)
        if options.weights is not None and options.checkpoint is None and named:
            plan = normalized_for(plan, options.weights)
        if options.weights is None:
            notes += tuple(about_scratch(plan.recipe, len(parts.training)))
        return replace(plan, notes=(*plan.notes, *notes))

    beginning = Beginning(
        job=PRETRAINING, data=data, source=options.data,
        seed=seed_of(recipe, options), make_plan=plan,
        start=None if options.weights is None else Start.at(options.weights, options.checkpoint),
    )  # fmt: skip
    return start_run(beginning, options, name_of(options.data))


def normalized_for(plan: Plan, weights: str | Path) -> Plan:
    """``plan`` with the images normalized as the first weights expect, and a note of it."""
    recipe = plan.recipe
    expected = normalization_of(weights, recipe.encoder)
    view = recipe.method.views.views[0]
    if expected is None or (view.mean, view.std) == expected:
        return plan
    mean, std = (", ".join(f"{value:g}" for value in values) for values in expected)
    note = f"Images are normalized as the weights expect: mean {mean}, std {std}."
    return replace(plan, recipe=with_normalization(recipe, *expected), notes=(*plan.notes, note))


class Pretraining(Job):
    """Learning from views: judged by health figures, left as an encoder."""

    kind = "pretrain"

    def split(self, data: RunData, images: Images, seed: int) -> Parts:
        store = images.images
        rows, held_out = hold_out(store, seed)
        return Parts(
            training=store.subset(rows),
            held_out=store.subset(held_out),
            note=f"{len(held_out):,} images are held out to judge the run; {len(rows):,} are "
            "trained on.",
        )

    def monitor(
        self, learner: Learner, initial: Learner | None, recipe: Recipe, parts: Parts,
        metrics_log: MetricsLog,
    ) -> Monitor:  # fmt: skip
        return HealthMonitor(learner, initial, recipe, parts.training, parts.held_out, metrics_log)

    def rehearse(self, run: Run, learner: Learner, parts: Parts) -> None:
        with TemporaryDirectory() as folder:
            gallery_of(run, learner, parts, Path(folder))

    def failed(self, run: Run, monitor: Monitor, reason: str, step: int) -> Diagnosis:
        assert isinstance(monitor, HealthMonitor)
        monitor.health(step)
        return diverged(reason, step)

    def finish(
        self, run: Run, learner: Learner, parts: Parts, session: Session,
        diagnosis: Diagnosis | None = None,
    ) -> None:  # fmt: skip
        recipe = run.recipe
        diagnosis = diagnosis or diagnose_run(run)
        finite = features_are_finite(recipe, learner)
        if finite:
            export_learner(run, learner, run.encoder_path, diagnosis=diagnosis)
            gallery_of(run, learner, parts, run.path)
        report = write_end(run, diagnosis, session.clock)
        say_diagnosis(diagnosis)
        if learner.temperature is not None:
            say(f"Temperature: {learner.temperature.value:.3f} has been learned.")
        say()
        say(f"Report:   {report}")
        for line in encoder_lines(run, finite):
            say(line, advice=line.startswith("Evaluate"))


def gallery_of(run: Run, learner: Learner, parts: Parts, folder: Path) -> None:
    """Write the pictures of the report below ``folder``."""
    recipe = run.recipe
    write_gallery(
        folder, learner.embed, parts.training, parts.held_out, plan=recipe.method.views,
        plain=recipe.eval_view, seed=recipe.seed,
    )  # fmt: skip


def encoder_lines(run: Run, finite: bool) -> Iterator[str]:
    """Where the encoder is and what to do with it."""
    if not finite:
        yield (
            "Encoder:  none is written, its features are not finite numbers; the checkpoints are "
            "kept."
        )
        return
    yield f"Encoder:  {run.encoder_path} (encoder/README.md says how to load it anywhere)"
    yield f"Evaluate: {run.command('evaluate')} LABELED"


PRETRAINING = Pretraining()


def check_views(recipe: Recipe | str) -> None:
    """Raise InvalidValue for a recipe of fine-tuning, distillation or detection, which has one
    view of each image."""
    refuse_dense(recipe)
    if recipe in distill_recipes() or (
        isinstance(recipe, Recipe) and isinstance(recipe.method.target, Teacher)
    ):
        raise InvalidValue(
            "Distillation learns from a teacher: coview distill TEACHER DATA takes this recipe."
        )
    one = isinstance(recipe, Recipe) and len(recipe.method.views.views) < 2
    if one or (isinstance(recipe, str) and recipe in finetune_recipes()):
        raise InvalidValue(
            "Pretraining compares views and this recipe has one view of each image; fine-tune with "
            "it by coview finetune RUN DATA."
        )


def needs_labels(recipe: Recipe | str) -> bool:
    """Whether the method learns from labels."""
    if isinstance(recipe, Recipe):
        return recipe.method.needs_labels
    if recipe in METHODS:
        return get_method(recipe)(32).needs_labels
    return recipe_named(recipe).method.needs_labels
