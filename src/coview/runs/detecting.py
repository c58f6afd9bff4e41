"""The job of detection and segmentation: objects are learned on a pretrained encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from coview.core.errors import DataError
from coview.core.progress import say
from coview.core.text import plural
from coview.data.annotations import UNKNOWN, AnnotatedStore, LabelMaps
from coview.data.held_out import split_held_out
from coview.dense.learner import DenseLearner, DetectionLearner
from coview.diagnosis.detecting import DetectionMonitor, detect_images, segment_images
from coview.diagnosis.object_pictures import write_inputs
from coview.diagnosis.rules import diverged
from coview.diagnosis.state import Diagnosis
from coview.encoders.exchange.export import example_images, export_encoder
from coview.encoders.exchange.whole import replacing_export
from coview.recipes import DenseRecipe, Recipe
from coview.runs.card import card_of
from coview.runs.data import Images, RunData
from coview.runs.finish import say_diagnosis, write_end
from coview.runs.job import Job, Monitor, Parts, Session
from coview.runs.judge_detection import judge
from coview.runs.run import Run
from coview.runs.scratch import baseline_of, train_from_scratch
from coview.training import MetricsLog

TEST_SHARE, MIN_IMAGES = 0.2, 4


class DetectionJob(Job):
    """Learning boxes, outlines or label maps: judged by average precision or mean IoU."""

    kind = "detect"

    def split(self, data: RunData, images: Images, seed: int) -> Parts:
        store, test = images.images, images.test
        assert isinstance(store, AnnotatedStore)
        if test is None:
            rows, held_out = split_held_out(store, TEST_SHARE, seed)
            store, test = store.subset(rows), store.subset(held_out)
        assert isinstance(test, AnnotatedStore)
        note, what = "", "with label maps"
        if not isinstance(store.annotations, LabelMaps):
            objects = store.objects
            known = np.array([bool((~objects.crowd[objects.of(row)]).any())
                              for row in range(len(store))], bool)  # fmt: skip
            empty = int((~known).sum())
            store = store.subset(np.flatnonzero(known))
            what = f"with {store.objects.total:,} objects"
            note = f" ({empty:,} without objects are left out)" if empty else ""
        if len(store) < MIN_IMAGES or not len(test):
            raise DataError(
                f"{store.source} has {len(store)} images to train on and {len(test)} to test on; "
                f"expected at least {MIN_IMAGES} and 1."
            )
        if not can_be_judged(test):
            raise DataError(
                f"Nothing that counts is annotated in the {plural(len(test), 'test image')} of "
                f"{test.source}: every object is a crowd or difficult, or every pixel is of no "
                "class. Give other images as `test`."
            )
        return Parts(
            training=store, held_out=test,
            note=f"{len(store):,} images {what} of {len(store.class_names)} classes are trained "
            f"on{note}; {len(test):,} images are tested on.",
        )  # fmt: skip

    def draw_inputs(self, run: Run, parts: Parts) -> None:
        recipe, store = run.recipe, parts.training
        assert isinstance(recipe, DenseRecipe)
        assert isinstance(store, AnnotatedStore)
        write_inputs(run.views_path, store, recipe)

    def monitor(
        self, learner: Any, initial: Any, recipe: Recipe, parts: Parts, metrics_log: MetricsLog
    ) -> Monitor:
        assert isinstance(recipe, DenseRecipe)
        assert isinstance(parts.training, AnnotatedStore)
        assert isinstance(parts.held_out, AnnotatedStore)
        return DetectionMonitor(learner, recipe, parts.training, parts.held_out, metrics_log)

    def trainings(self, run: Run) -> int:
        return 2 if run.description["baselines"] else 1

    def rehearse(self, run: Run, learner: Any, parts: Parts) -> None:
        store, recipe = parts.held_out, run.recipe
        assert isinstance(store, AnnotatedStore)
        assert isinstance(recipe, DenseRecipe)
        if isinstance(learner, DetectionLearner):
            detect_images(learner, store, recipe)
        else:
            segment_images(learner, store)

    def failed(self, run: Run, monitor: Monitor, reason: str, step: int) -> Diagnosis:
        return diverged(reason, step)

    def complete(self, run: Run, learner: Any, parts: Parts, session: Session) -> bool:
        return train_from_scratch(self, run, parts, session, "images")

    def finish(
        self, run: Run, learner: Any, parts: Parts, session: Session,
        diagnosis: Diagnosis | None = None,
    ) -> None:  # fmt: skip
        assert isinstance(learner, DenseLearner)
        finite = encoder_is_finite(run, learner)
        failed = diagnosis is not None
        if diagnosis is None or finite:
            # A run that has diverged has trained no baseline.
            judged = judge(run, learner, parts, None if failed else baseline_of(run))
            diagnosis = diagnosis or judged
        if finite:
            export_dense(run, learner, diagnosis)
        report = write_end(run, diagnosis, session.clock)
        if run.is_nested:
            say(f"From scratch: {diagnosis.sentence}", detail=True)
            return
        say_diagnosis(diagnosis)
        say()
        say(f"Report:     {report}")
        if finite:
            say(f"Encoder:    {run.encoder_path} (as it is after this training)")
        if not failed and isinstance(learner, DetectionLearner):
            say(f"Detections: {run.detected_path} (COCO's format of results)")


DETECTION = DetectionJob()


def can_be_judged(test: AnnotatedStore) -> bool:
    """Whether some object, or the class of some pixel, counts in a test."""
    if isinstance(test.annotations, LabelMaps):
        maps = test.annotations
        return any(bool((maps.read(row) != UNKNOWN).any()) for row in range(len(maps)))
    objects = test.objects
    return not bool((objects.crowd | objects.difficult)[objects.places()].all())


def encoder_is_finite(run: Run, learner: DenseLearner) -> bool:
    """Whether all weights are finite numbers."""
    return all(bool(torch.isfinite(p).all()) for p in learner.parameters())


def export_dense(run: Run, learner: DenseLearner, diagnosis: Diagnosis) -> None:
    """Write the encoder as the training has left it, without what stands on its maps."""
    recipe = run.recipe
    encoder = recipe.encoder.build(seed=recipe.seed)  # a segmenter's own is dilated
    encoder.load_state_dict(learner.encoder.state_dict())
    view = recipe.first_view
    with replacing_export(run.encoder_path) as new:
        export_encoder(
            encoder, new, image_size=recipe.image_size, mean=view.mean, std=view.std,
            metadata=card_of(run, diagnosis), example=example_images(recipe.image_size),
        )  # fmt: skip
