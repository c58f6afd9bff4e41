"""From a pretrained encoder and annotated images to a detector or a segmenter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.core.images import ImageStore
from coview.core.options import takes
from coview.core.paths import absolute_path
from coview.core.text import plural
from coview.core.user_code import import_files
from coview.core.values import set_fields
from coview.data.annotated import AnnotatedSpec
from coview.data.annotations import AnnotatedStore
from coview.data.spec import SHORT_SIDE, name_of
from coview.dense import Detector, Segmenter
from coview.evaluation.detections import coco_classes
from coview.options import DetectOptions
from coview.planning.plan import make_detection_plan
from coview.planning.planner import Plan
from coview.recipes import DenseRecipe, Recipe, detection_recipes, find_recipe
from coview.recipes import recipe as recipe_named
from coview.recipes.changes import with_normalization
from coview.runs.data import Images, RunData
from coview.runs.detecting import DETECTION
from coview.runs.first_weights import Source, about_normalization, read_source
from coview.runs.job import Parts, Session
from coview.runs.load import say_verdict
from coview.runs.run import Run
from coview.runs.start import Beginning, seed_of, start_run
from coview.runs.trained_on import about_copies, about_start

TASKS = {"boxes": "detect-cpu", "masks": "detect-cpu", "semantic": "segment-cpu"}
"""Each task with the recipe that is taken where none is named."""


@takes(DetectOptions)
def detect(options: DetectOptions) -> Run | None:
    """Train a detector on the encoder of ``start``; the run, or None for a ``dry_run``.

    ``data``: a folder in COCO's or VOC's layout, a JSON file in COCO's format with ``images``, or
    images/ beside masks/ for ``task`` "semantic". ``test``: other annotated images, by default the
    val or test part of ``data``, else a fifth of it. ``task``: "boxes" (Faster R-CNN), "masks"
    (Mask R-CNN) or "semantic" (a fully convolutional network). The last epoch counts; nothing is
    chosen by the test images. The run leaves COCO's and VOC's average precision (or the mean IoU)
    with the same network trained from scratch beside it, the detections in COCO's format, the
    trained encoder and a report. Raises the errors of coview.core.errors; MissingExtra without
    faster-coco-eval and pycocotools.

    >>> import coview
    >>> coview.detect("runs/scenes", "no such folder", dry_run=True)
    Traceback (most recent call last):
    ...
    coview.core.errors.DataError: ... holds no annotations of boxes: expected ...
    """
    import_files(options.import_)
    if not options.from_scratch:
        say_verdict(options.start)
    source = read_source(options.start, options.checkpoint)
    base, exact = find_dense_recipe(options)
    semantic = isinstance(base.method, Segmenter)
    if not semantic:
        coco_classes()  # says now, not after the training, that the package is missing
    if options.frozen_batch_norm and options.from_scratch:
        raise InvalidValue(
            "`frozen_batch_norm` keeps the statistics of a pretrained encoder, and with "
            "`from_scratch` there are none."
        )
    if not exact:
        base = adapted(base, source)
    size = round(base.method.largest_size * (options.size or base.image_size) / base.image_size)
    spec = _spec(options.data, options.images, options, semantic, size)
    test = None
    if options.test is not None:
        images = options.test_images or (options.images if _is_file(options.test) else None)
        test = _spec(options.test, images, options, semantic, size).tests()
        test = replace(test, short_side=spec.short_side)
    baselines = not (options.no_baselines or options.from_scratch)

    def plan(parts: Parts, session: Session) -> tuple[Plan, dict[str, Any]]:
        recipe = for_objects(base, parts.training, exact=exact)
        check_outlines(recipe, parts)
        planner = session.planner(parts.training, trainings=2 if baselines else 1)
        plan = make_detection_plan(planner, recipe, options, exact=exact)
        if exact and not options.from_scratch:
            plan = plan.with_notes(*about_normalization(recipe, source.normalization))
        return plan, {"baselines": baselines}

    def caveats(images: Images, parts: Parts) -> list[str]:
        if options.from_scratch:
            return about_copies(parts)
        tests = spec if images.test is None else test or spec.tests()
        held_out: ImageStore = parts.held_out
        # The images of the runs before are not opened at the size of a detector's.
        if tests.short_side is None or tests.short_side > SHORT_SIDE:
            tests = replace(tests, short_side=SHORT_SIDE)
            small = tests.open()
            held_out = small.subset(np.flatnonzero(np.isin(small.ids, held_out.ids)))
        return [*about_copies(parts), *about_start(source.start, held_out, (), tests)]

    beginning = Beginning(
        job=DETECTION, data=RunData(images=spec, test=test, own_test=True), source=None, test=None,
        seed=seed_of(options.recipe, options), make_plan=plan,
        start=None if options.from_scratch else source.start, caveats=caveats,
    )  # fmt: skip
    return start_run(beginning, options, f"{name_of(options.data)}-detect")


def find_dense_recipe(options: DetectOptions) -> tuple[DenseRecipe, bool]:
    """(the recipe, whether it is trained exactly as it is). Raises InvalidValue or UnknownName."""
    task = options.task
    if task is not None and task not in TASKS:
        raise UnknownName("task", task, TASKS)
    recipe: Any = TASKS[task or "boxes"] if options.recipe is None else find_recipe(options.recipe)
    exact = isinstance(recipe, Recipe)
    if isinstance(recipe, str):
        if recipe not in detection_recipes():
            raise UnknownName("recipe of detection", recipe, detection_recipes())
        recipe = recipe_named(recipe)
    if not isinstance(recipe, DenseRecipe):
        raise InvalidValue(
            f"{recipe.name} learns no boxes and no label maps; take one of "
            f"{', '.join(detection_recipes())}."
        )
    if task is None:
        return recipe, exact
    method = recipe.method
    if (task == "semantic") != isinstance(method, Segmenter):
        raise InvalidValue(f"`task` is {task}, which {recipe.name} does not learn.")
    if isinstance(method, Detector) and method.masks != (task == "masks"):
        if exact:
            raise InvalidValue(
                f"`task` is {task}, and a recipe given as a value is trained as it is: set its "
                "method.masks."
            )
        recipe = set_fields(recipe, {"method.masks": task == "masks"})
    return recipe, exact


def adapted(recipe: DenseRecipe, source: Source) -> DenseRecipe:
    """A recipe for the encoder of ``source`` and its normalization of images."""
    return replace(with_normalization(recipe, source.mean, source.std), encoder=source.encoder)


def for_objects(recipe: DenseRecipe, store: Any, *, exact: bool) -> DenseRecipe:
    """``recipe`` for the classes of ``store``. Raises InvalidValue for an exact one."""
    classes = len(store.class_names)
    if exact and recipe.method.classes != classes:
        raise InvalidValue(
            f"The recipe has {recipe.method.classes} classes and {store.source} has {classes}: set "
            "its method.classes."
        )
    return replace(recipe, method=replace(recipe.method, classes=classes))


def check_outlines(recipe: DenseRecipe, parts: Parts) -> None:
    """Raise DataError for an object without an outline, where ``recipe`` learns outlines.

    In the test images too: their outlines are compared after the training, which would be lost.
    """
    if not (isinstance(recipe.method, Detector) and recipe.method.masks):
        return
    for what, store in (("trained on", parts.training), ("tested on", parts.held_out)):
        assert isinstance(store, AnnotatedStore)
        outlines, places = store.objects.outlines, store.objects.places()
        missing = int(sum(not outlines or outlines[int(place)] is None for place in places))
        if missing:
            raise DataError(
                f"{missing:,} of {plural(len(places), 'object')} in the images of {store.source} "
                f"that are {what} have no outline (segmentation); learn `task` boxes."
            )


def _spec(
    data: Any, images: Path | None, options: DetectOptions, semantic: bool, size: int
) -> AnnotatedSpec:
    folder = None if images is None else str(absolute_path(images))
    spec = AnnotatedSpec.of(data, options, size=size, semantic=semantic, image_folder=folder)
    return cast(AnnotatedSpec, spec)


def _is_file(data: Any) -> bool:
    return str(data).endswith(".json")
