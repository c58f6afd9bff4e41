"""The job of pretraining: judged by health figures, left as an encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from coview.core.progress import say
from coview.data.held_out import hold_out
from coview.diagnosis.gallery import write_gallery
from coview.diagnosis.monitor import HealthMonitor
from coview.diagnosis.rules import diverged
from coview.diagnosis.run_checks import diagnose_run
from coview.diagnosis.state import Diagnosis
from coview.methods import Learner
from coview.recipes import Recipe
from coview.runs.data import Images, RunData
from coview.runs.finish import export_learner, features_are_finite, say_diagnosis, write_end
from coview.runs.job import Job, Monitor, Parts, Session
from coview.runs.run import Run
from coview.training import MetricsLog


class Pretraining(Job):
    """Learning from views: judged by health figures, left as an encoder."""

    kind = "pretrain"
    gives_up_collapsed = True

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
        for line, is_advice in encoder_lines(run, finite):
            say(line, advice=is_advice)


def gallery_of(run: Run, learner: Learner, parts: Parts, folder: Path) -> None:
    """Write the pictures of the report below ``folder``."""
    recipe = run.recipe
    write_gallery(
        folder, learner.embed, parts.training, parts.held_out, plan=recipe.method.views,
        plain=recipe.eval_view, seed=recipe.seed, device=next(learner.parameters()).device,
    )  # fmt: skip


def encoder_lines(run: Run, finite: bool) -> Iterator[tuple[str, bool]]:
    """Where the encoder is and what to do with it; each line with whether it is advice."""
    if not finite:
        none = (
            "Encoder:  none is written, its features are not finite numbers; the checkpoints are "
            "kept."
        )
        yield none, False
        return
    yield f"Encoder:  {run.encoder_path} (encoder/README.md says how to load it anywhere)", False
    yield f"Evaluate: {run.command('evaluate')} LABELED", True


PRETRAINING = Pretraining()
