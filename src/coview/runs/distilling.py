"""The job of distillation: a student learns the classes that a frozen teacher gives images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coview import evaluation
from coview.core.errors import DataError
from coview.core.files import write_json
from coview.core.images import ImageStore
from coview.data.held_out import hold_out
from coview.data.labels import label_subset
from coview.diagnosis.distillation import (
    AgreementMonitor,
    diagnose_distillation,
    teacher_logits_of,
)
from coview.diagnosis.finetuning import Contender, logits_of
from coview.diagnosis.rules import diverged
from coview.diagnosis.state import Diagnosis
from coview.evaluation.features import has_labels
from coview.methods import Learner
from coview.recipes import Recipe
from coview.runs.data import Images, RunData
from coview.runs.finetuning import FINE_TUNING, test_part, without
from coview.runs.finish import export_learner, say_classifier, say_diagnosis, write_end
from coview.runs.job import Job, Monitor, Parts, Session
from coview.runs.labels_alone import LabelsAlone, labeled_rows
from coview.runs.predictions import confusions, predictions_json
from coview.runs.run import Run
from coview.runs.scratch import baseline_of, train_baseline
from coview.runs.teacher import teacher_of
from coview.training import MetricsLog

STUDENT, TEACHER, LABELS_ALONE = "student", "teacher", "labels alone"
NO_LABELS = "none"
PROTOCOL = "distill"
DESCRIPTION: dict[str, Any] = {
    "title": "Distillation", "question": "How good is the student, and how near its teacher?",
    "headline": {"metric": "accuracy", "layer": "logits"}, "axis": "",
}  # fmt: skip
"""What evaluation/distill.json says of itself; without labels its one figure is the agreement."""
Rows = npt.NDArray[np.int64]


class Distilling(Job):
    """Learning classes from a teacher: judged beside it, left as a classifier."""

    kind = "distill"
    baseline_is_as_long = False  # it has a recipe of its own

    def split(self, data: RunData, images: Images, seed: int) -> Parts:
        store, test = images.images, images.test
        known = labeled_rows(store)
        is_unlabeled = data.test is None and data.labels == NO_LABELS
        if test is not None and (has_labels(test.labels) or not is_unlabeled):
            test = evaluation.labeled(test, "The test")
        elif test is not None:  # a part of the same images: judged by the agreement alone
            test = unlabeled(test)
        elif len(known):
            test = test_part(store.subset(known), data.labels, seed)
            store = without(store, test)
        else:
            rows, held_out = hold_out(store, seed)
            store, test = store.subset(rows), unlabeled(store.subset(held_out))
        total = len(labeled_rows(store))
        if data.labels == NO_LABELS:
            training, used = replace(store, labels=None), "none of their labels"
        else:
            training = with_labels_of(store, data)
            count = len(labeled_rows(training))
            used = f"{count:,} of {total:,} labels ({data.labels})"
        return Parts(
            training=training, held_out=test, labeled_images=total,
            note=f"{len(training):,} images are learned from, with {used}; {len(test):,} images "
            "are tested on.",
        )  # fmt: skip

    def monitor(
        self, learner: Learner, initial: Learner | None, recipe: Recipe, parts: Parts,
        metrics_log: MetricsLog,
    ) -> Monitor:  # fmt: skip
        return AgreementMonitor(learner, recipe, parts.training, parts.held_out, metrics_log)

    def equip(self, run: Run, learner: Learner) -> None:
        view = run.recipe.first_view
        learner.set_teacher(teacher_of(run).load(view.mean, view.std))
        # It may go on with more processes than it began with.
        if run.description["baselines"] and not Run(run.scratch_path).is_ended:
            LabelsAlone.of(run).check(learner.ranks.world)

    def trainings(self, run: Run) -> float:
        # The baseline of a run that was extended has ended before.
        if not run.description["baselines"] or Run(run.scratch_path).is_ended:
            return 1.0
        return LabelsAlone.of(run).trainings(run.recipe, run.description["data"]["images"])

    def rehearse(self, run: Run, learner: Learner, parts: Parts) -> None:
        logits_of(learner, parts.held_out, run.recipe)
        teacher_logits_of(learner, parts.held_out, run.recipe)

    def failed(self, run: Run, monitor: Monitor, reason: str, step: int) -> Diagnosis:
        return diverged(reason, step)

    def complete(self, run: Run, learner: Learner, parts: Parts, session: Session) -> bool:
        """Train the student on the labels alone, as a run of its own inside this one."""
        labeled = replace(parts, training=parts.training.subset(labeled_rows(parts.training)))
        return train_baseline(
            FINE_TUNING, run, labeled, session,
            describe=lambda: LabelsAlone.of(run).describe(run, labeled),
            sentence="The same student on the labels alone:",
        )  # fmt: skip

    def finish(
        self, run: Run, learner: Learner, parts: Parts, session: Session,
        diagnosis: Diagnosis | None = None,
    ) -> None:  # fmt: skip
        recipe, labels = run.recipe, np.asarray(parts.held_out.labels)
        logits = logits_of(learner, parts.held_out, recipe)
        predicted = logits.argmax(1).numpy()
        teacher = teacher_logits_of(learner, parts.held_out, recipe).argmax(1).numpy()
        write_json(run.predictions_path, {
            **predictions_json(parts, logits), "teacher": teacher.tolist(),
        })  # fmt: skip
        alone = None
        baseline = None if diagnosis is not None else baseline_of(run)
        if baseline is not None:
            saved = np.array(baseline.predictions["predicted"])
            alone = Contender(name=LABELS_ALONE, correct=(saved == labels)[labels >= 0])
        diagnosis = diagnosis or diagnose_distillation(
            predicted, teacher, labels, labels_alone=alone, baseline=LABELS_ALONE,
            step=run.total_steps,
        )  # fmt: skip
        write_evaluation(run, parts, predicted, teacher, alone)
        finite = bool(torch.isfinite(logits).all())
        if finite:
            export_learner(run, learner, run.encoder_path, diagnosis=diagnosis)
        report = write_end(run, diagnosis, session.clock)
        say_diagnosis(diagnosis)
        say_classifier(run, report, finite=finite)


DISTILLING = Distilling()


def unlabeled(store: ImageStore) -> ImageStore:
    """The images, each with the label -1, and the names of the teacher's classes."""
    return replace(store, labels=np.full(len(store), -1, dtype=np.int64))


def with_labels_of(store: ImageStore, data: RunData) -> ImageStore:
    """``store`` with the labels of the subset that ``data`` names, the others unknown."""
    rows = label_subset(store, data.labels, draw=data.label_draw)
    assert store.labels is not None
    labels = np.full(len(store), -1, dtype=np.int64)
    labels[rows] = store.labels[rows]
    if len(np.unique(labels[rows])) < 2:
        raise DataError(f"{store.source} has labels of one class only; expected two or more.")
    return replace(store, labels=labels)


def write_evaluation(
    run: Run, parts: Parts, predicted: Rows, teacher: Rows, labels_alone: Contender | None
) -> None:
    """evaluation/distill.json: agreement, and with labels the accuracies, per class, confusions."""
    labels = np.asarray(parts.held_out.labels)
    known, source = labels >= 0, teacher_of(run)
    card = {
        "labels": run.data.labels, "label_draw": run.data.label_draw, "seed": run.recipe.seed,
        "training_images": len(parts.training), "selection": "none: the last epoch counts",
        "view": "center crop and resize", STUDENT: "trained on the teacher's classes",
        TEACHER: f"{source.encoder.label()}, {source.hash}",
        LABELS_ALONE: "the same network, first weights and labels, without the teacher",
        "agreement": "the share of test images on which the student gives the teacher's class",
        "recipe_hash": run.description["hash"],
    }  # fmt: skip
    size = sum(run.description["parameters"].values())
    sizes = {STUDENT: size, TEACHER: source.parameters, LABELS_ALONE: size}

    def result(subject: str, metric: str, correct: npt.NDArray[np.bool_]) -> evaluation.Result:
        share = float(correct.mean())
        return evaluation.Result(
            protocol=PROTOCOL, subject=subject, layer="logits", metric=metric, value=share,
            interval=evaluation.wilson_interval(share, len(correct)), test_images=len(correct),
            setting={"parameters": sizes[subject]}, card=card,
        )  # fmt: skip

    results = [result(STUDENT, "agreement", predicted == teacher)]
    if known.any():
        results += [
            result(STUDENT, "accuracy", (predicted == labels)[known]),
            result(TEACHER, "accuracy", (teacher == labels)[known]),
        ]
    if labels_alone is not None:
        results.append(result(LABELS_ALONE, "accuracy", labels_alone.correct))
    more = confusions(parts.held_out.class_names, labels[known], predicted[known])
    evaluation.write_results(
        run.evaluation_path, results, data=run.tested_data,
        more=more if known.any() else None, descriptions={PROTOCOL: DESCRIPTION},
    )  # fmt: skip
