"""The job of fine-tuning: classes are learned from a pretrained network and labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from coview import evaluation
from coview.core.errors import DataError
from coview.core.files import write_json
from coview.core.images import ImageStore
from coview.core.progress import say
from coview.data.labels import label_subset, names_a_file
from coview.diagnosis.finetuning import AccuracyMonitor, Contender, diagnose_finetuning, logits_of
from coview.diagnosis.rules import diverged
from coview.diagnosis.state import Diagnosis
from coview.methods import Learner
from coview.recipes import Recipe, build
from coview.runs.data import Images, RunData
from coview.runs.finish import export_learner, say_classifier, say_diagnosis, write_end
from coview.runs.job import Job, Monitor, Parts, Session
from coview.runs.predictions import confusions, predictions_json
from coview.runs.run import Run
from coview.runs.scratch import baseline_of, train_from_scratch
from coview.training import MetricsLog

FINE_TUNED, PROBE, SCRATCH = "fine-tuned", "linear probe", "from scratch"
PROTOCOL = "finetune"
DESCRIPTION: dict[str, Any] = {
    "title": "Fine-tuning", "question": "How many test images get their class?",
    "headline": {"metric": "accuracy", "layer": "logits"}, "axis": "",
}  # fmt: skip
"""What evaluation/finetune.json says of itself."""


class FineTuning(Job):
    """Learning classes from a pretrained network: judged by accuracy, left as a classifier."""

    kind = "finetune"

    def split(self, data: RunData, images: Images, seed: int) -> Parts:
        store, test = evaluation.labeled(images.images, "Fine-tuning"), images.test
        if test is not None:
            test = evaluation.labeled(test, "The test")
        else:
            test = test_part(store, data.labels, seed)
            # What a file names is looked up among all images: a test image stays one of them.
            store = store if names_a_file(data.labels) else without(store, test)
        rows = label_subset(store, data.labels, draw=data.label_draw)
        training = store.subset(rows)
        classes = len(np.unique(np.asarray(training.labels)))
        if classes < 2:
            raise DataError(f"{store.source} has images of one class only; expected two or more.")
        return Parts(
            training=training, held_out=test, labeled_images=len(store),
            note=f"{len(training):,} of {len(store):,} labels are used ({data.labels}), "
            f"{classes} classes; {len(test):,} images are tested on.",
        )  # fmt: skip

    def monitor(
        self, learner: Learner, initial: Learner | None, recipe: Recipe, parts: Parts,
        metrics_log: MetricsLog,
    ) -> Monitor:  # fmt: skip
        return AccuracyMonitor(learner, recipe, parts.training, parts.held_out, metrics_log)

    def trainings(self, run: Run) -> float:
        return 2 if run.description["baselines"] else 1

    def rehearse(self, run: Run, learner: Learner, parts: Parts) -> None:
        logits_of(learner, parts.held_out, run.recipe)

    def failed(self, run: Run, monitor: Monitor, reason: str, step: int) -> Diagnosis:
        return diverged(reason, step)

    def prepare(self, run: Run, parts: Parts, session: Session) -> None:
        """Train the linear probe now: the pretrained weights may be gone at the end."""
        if run.description["baselines"]:
            write_json(run.probe_path, {"predicted": self.probe(run, parts, session).tolist()})

    def complete(self, run: Run, learner: Learner, parts: Parts, session: Session) -> bool:
        """Train the same network from scratch, as a run of its own inside this one."""
        return train_from_scratch(self, run, parts, session, "labels")

    def finish(
        self, run: Run, learner: Learner, parts: Parts, session: Session,
        diagnosis: Diagnosis | None = None,
    ) -> None:  # fmt: skip
        recipe = run.recipe
        labels = np.asarray(parts.held_out.labels)
        logits = logits_of(learner, parts.held_out, recipe)
        predicted = logits.argmax(1).numpy()
        finetuned = Contender(name=FINE_TUNED, correct=predicted == labels)
        write_json(run.predictions_path, predictions_json(parts, logits))
        contenders = [finetuned]
        finite = bool(torch.isfinite(logits).all())
        probe = scratch = None
        if run.description["baselines"] and diagnosis is None:
            probe = Contender(name=PROBE, correct=np.array(run.probe["predicted"]) == labels)
            contenders.append(probe)
            baseline = baseline_of(run)
            if baseline is not None:
                saved = np.array(baseline.predictions["predicted"])
                scratch = Contender(name=SCRATCH, correct=saved == labels)
                contenders.append(scratch)
        diagnosis = diagnosis or diagnose_finetuning(
            finetuned, probe, scratch, labels=labels, validation=run.metrics("validation"),
            step=run.total_steps,
        )  # fmt: skip
        write_evaluation(run, parts, contenders, predicted)
        if finite:
            export_learner(run, learner, run.encoder_path, diagnosis=diagnosis)
        report = write_end(run, diagnosis, session.clock)
        if run.is_nested:
            name = run.description.get("baseline", "From scratch")
            say(f"{name}: {100 * finetuned.accuracy:.1f} %.", detail=True)
            return
        say_diagnosis(diagnosis)
        say_classifier(run, report, finite=finite)

    def probe(self, run: Run, parts: Parts, session: Session) -> np.ndarray[Any, Any]:
        """The classes that a linear probe on the frozen encoder gives the test images, int64 [N].

        Its settings are chosen on a split of the training labels.
        """
        recipe = replace(run.recipe, kept_head=None)
        encoder = build(recipe, run.start).encoder.to(session.device)
        subject = evaluation.Subject(name=PROBE, encoder=encoder, view=recipe.eval_view)
        train, test = (
            evaluation.extract(subject, store, device=session.device, label="Linear probe")
            for store in (parts.training, parts.held_out)
        )
        assert train.labels is not None
        spec = evaluation.ProbeSpec(seed=recipe.seed)
        probe = evaluation.linear_probe(train.layers["h"], train.labels, train.ids, spec)
        return np.asarray(probe.predict(test.layers["h"]).numpy())


FINE_TUNING = FineTuning()


def test_part(store: ImageStore, labels: str, seed: int) -> ImageStore:
    """A fifth of ``store`` to test on; where ``labels`` is a file, of the images it does not name.

    Every image of ``store`` has a label. Raises DataError.
    """
    if names_a_file(labels):
        store = store.subset(np.setdiff1d(np.arange(len(store)), label_subset(store, labels)))
    return evaluation.split_test(store, seed=seed)[1]


def without(store: ImageStore, others: ImageStore) -> ImageStore:
    """The images of ``store`` that are not among ``others``."""
    return store.subset(np.flatnonzero(~np.isin(store.ids, others.ids)))


def write_evaluation(
    run: Run, parts: Parts, contenders: list[Contender], predicted: np.ndarray[Any, Any]
) -> None:
    """evaluation/finetune.json: accuracies with intervals, per class, and the confusion matrix."""
    names, labels = parts.training.class_names, np.asarray(parts.held_out.labels)
    card = {
        "labels": run.data.labels,
        "label_draw": run.data.label_draw,
        "seed": run.recipe.seed,
        "training_images": len(parts.training),
        "selection": "none: the last epoch counts; the probe's settings are chosen on a split of "
        "the training labels",
        "view": "center crop and resize",
        FINE_TUNED: "the whole network, from the pretrained weights",
        PROBE: "a linear classifier on h of the pretrained encoder, which is frozen",
        SCRATCH: "the same network, recipe and labels, from random weights",
        "recipe_hash": run.description["hash"],
    }
    results = [
        evaluation.Result(
            protocol=PROTOCOL, subject=each.name, layer="logits", metric="accuracy",
            value=each.accuracy, interval=evaluation.wilson_interval(each.accuracy, len(labels)),
            test_images=len(labels), setting={}, card=card,
        )
        for each in contenders
    ]  # fmt: skip
    evaluation.write_results(
        run.evaluation_path, results, data=run.tested_data,
        more=confusions(names, labels, predicted), descriptions={PROTOCOL: DESCRIPTION},
    )  # fmt: skip
