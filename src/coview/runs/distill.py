"""From a trained classifier and unlabeled images to another classifier, perhaps a small one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coview.core.errors import InvalidValue, UnknownName
from coview.core.options import takes
from coview.core.user_code import import_files
from coview.core.values import encode
from coview.data.labels import absolute_labels, check_labels
from coview.data.spec import DataSpec, name_of, tests_like
from coview.encoders import EncoderSpec
from coview.methods import Distillation
from coview.options import DistillOptions
from coview.planning.defaults import default_distillation
from coview.planning.plan import make_distillation_plan
from coview.planning.planner import Plan
from coview.recipes import KeptHead, Recipe, distill_recipes, find_recipe
from coview.recipes import recipe as recipe_named
from coview.recipes.changes import with_encoder, with_input
from coview.recipes.distill import SELF_TEMPERATURE, SMALLER_TEMPERATURE, WITH_LABELS
from coview.runs.data import Images, RunData
from coview.runs.distilling import DISTILLING, NO_LABELS
from coview.runs.first_weights import Source, about_normalization, read_source
from coview.runs.job import Parts, Session
from coview.runs.labels_alone import LabelsAlone
from coview.runs.load import say_verdict
from coview.runs.run import Run
from coview.runs.start import Beginning, seed_of, start_run
from coview.runs.teacher import TeacherFile
from coview.runs.trained_on import about_copies, about_start, about_teacher


@takes(DistillOptions)
def distill(options: DistillOptions) -> Run | None:
    """Train a student to classify ``data`` as ``teacher`` does; the run, or None for a ``dry_run``.

    ``teacher``: a fine-tuned run, or an exported classifier, which is frozen and classifies the
    same views as the student. ``student``: a network as for pretrain, by default the teacher's
    (self-distillation); ``start``: a pretrained run that it starts from. The images need no labels.
    With ``labels`` those count beside the teacher by 1 - ``teacher_weight``, the other images count
    as unlabeled, and the same student is trained on the labels alone for comparison. The run leaves
    a classifier for :func:`coview.load` and :func:`coview.predict`. Raises the errors of
    coview.core.errors.

    >>> import coview
    >>> run = coview.distill(
    ...     "runs/scenes-finetune", "scenes", student="resnet10/8-medium", limit=200, epochs=1,
    ...     out="runs/student"
    ... )
    >>> run.kind, run.is_ended
    ('distill', True)
    """
    import_files(options.import_)
    for path in filter(None, (options.teacher, options.start)):
        say_verdict(path)
    teacher = TeacherFile.at(options.teacher)
    source = None if options.start is None else read_source(options.start, options.checkpoint)
    check_weights(options, source)
    recipe = None if options.recipe is None else find_recipe(options.recipe)
    check_recipe(recipe, options)
    spec = DataSpec.of(
        options.data, options, size=options.size or teacher.image_size,
        needs_labels=options.labels is not None,
    )  # fmt: skip
    data = RunData(
        images=spec, test=tests_like(spec, options.test, options),
        own_test=options.labels_from != "none",
        labels=absolute_labels(options.labels or NO_LABELS),
        label_draw=options.label_draw, class_names=teacher.class_names,
    )  # fmt: skip
    has_baseline = options.labels is not None and not options.no_baselines

    def plan(parts: Parts, session: Session) -> tuple[Plan, dict[str, Any]]:
        extra: dict[str, Any] = {"baselines": has_baseline, "teacher": encode(teacher)}
        notes: tuple[str, ...] = ()
        if isinstance(recipe, Recipe):
            base, exact = recipe, True
        else:
            named = recipe_named(recipe) if recipe else default_distillation(session.device.type)
            exact = False
            base, notes = adapted(named, teacher, source, options)
        view = base.first_view
        network = teacher.load(view.mean, view.std).to(session.device)

        def alone(recipe: Recipe) -> LabelsAlone:
            return LabelsAlone.beside(recipe, parts, session.device.type, session.ranks.world)

        planner = session.planner(
            parts.training,
            trainings=alone(base).trainings(base, len(parts.training)) if has_baseline else 1.0,
            equip=lambda learner: learner.set_teacher(network),
        )
        plan = make_distillation_plan(planner, base, options, exact=exact, notes=notes)
        if source is not None and exact:
            plan = plan.with_notes(*about_normalization(plan.recipe, source.normalization))
        if has_baseline:
            baseline = alone(plan.recipe)
            extra["labels_alone"] = encode(baseline)
            plan = plan.with_notes(baseline.note)
        return plan, extra

    def caveats(images: Images, parts: Parts) -> list[str]:
        asked = (parts.held_out, images.stores, spec)
        before = [] if source is None else about_start(source.start, *asked)
        return [*about_copies(parts), *about_teacher(teacher.path, *asked), *before]

    beginning = Beginning(
        job=DISTILLING, data=data, source=options.data, test=options.test,
        seed=seed_of(recipe, options), make_plan=plan,
        start=None if source is None else source.start, caveats=caveats,
    )  # fmt: skip
    return start_run(beginning, options, f"{name_of(options.data)}-distill")


def check_weights(options: DistillOptions, source: Source | None) -> None:
    """Raise InvalidValue for options that do not go together."""
    if options.labels is not None:
        check_labels(options.labels)
    elif options.teacher_weight not in (None, 1):
        raise InvalidValue(
            f"`teacher_weight` is {options.teacher_weight:g}, which leaves a part of the loss to "
            "labels; give `labels` too."
        )
    if source is not None and options.student is not None:
        student = with_encoder(recipe_named("distill-cpu"), options.student, options).encoder
        if student.label() != source.encoder.label():
            raise InvalidValue(
                f"`student` is {student.label()}, and `start` holds {source.encoder.label()}; "
                "leave one of them out."
            )
    if source is None and options.checkpoint is not None:
        raise InvalidValue("`checkpoint` is a step of the run that `start` names; give `start`.")
    if options.from_layer and (source is None or source.head is None):
        raise InvalidValue(
            f"`from_layer` is {options.from_layer}, and there is no projection head to keep layers "
            "of; give the run that has one by `start`, or leave it out."
        )


def check_recipe(recipe: Recipe | str | None, options: DistillOptions) -> None:
    """Raise InvalidValue or UnknownName for a recipe that does not distill."""
    if isinstance(recipe, str) and recipe not in distill_recipes():
        raise UnknownName("recipe of distillation", recipe, distill_recipes())
    if not isinstance(recipe, Recipe):
        return
    objective = recipe.method.objective
    if not isinstance(objective, Distillation):
        raise InvalidValue(
            f"The recipe's objective is {type(objective).__name__}; distillation expects "
            "Distillation."
        )
    if options.from_layer is not None:
        raise InvalidValue(
            "A recipe given as a value is trained as it is: set its kept_head in place of "
            "`from_layer`."
        )
    weight = objective.teacher_weight if options.teacher_weight is None else options.teacher_weight
    if weight < 1 and options.labels is None:
        raise InvalidValue(
            f"The recipe leaves {1 - weight:g} of the loss to labels; give `labels`, or set its "
            "teacher_weight to 1."
        )


def adapted(
    recipe: Recipe, teacher: TeacherFile, source: Source | None, options: DistillOptions
) -> tuple[Recipe, tuple[str, ...]]:
    """A recipe of distillation for this teacher and student, and what was chosen, in words."""
    encoder = teacher.encoder if source is None else source.encoder
    if options.student is not None:
        encoder = with_encoder(recipe, options.student, options).encoder
    size, mean, std = (
        (teacher.image_size, teacher.mean, teacher.std)
        if source is None
        else (source.image_size, source.mean, source.std)
    )
    recipe = with_input(recipe, size=size, mean=mean, std=std)
    alike = same_architecture(encoder, teacher.encoder)
    weight = 1.0 if options.labels is None else WITH_LABELS
    objective = recipe.method.objective
    assert isinstance(objective, Distillation)
    objective = replace(
        objective, temperature=SELF_TEMPERATURE if alike else SMALLER_TEMPERATURE,
        teacher_weight=weight,
    )  # fmt: skip
    layer = options.from_layer or 0
    kept = KeptHead(head=source.head, layers=layer) if source and source.head and layer else None
    method = replace(recipe.method, objective=objective)
    kind = "The student has the teacher's architecture" if alike else (
        f"The teacher is {teacher.encoder.label()} with {teacher.parameters:,} parameters"
    )  # fmt: skip
    begins = "from scratch" if source is None else (
        f"from layer {layer} of the projection head" if layer else "from a pretrained encoder"
    )  # fmt: skip
    notes = [f"{kind}. The student starts {begins}."]
    if options.temperature is None:
        notes.append(
            f"Temperature {objective.temperature:g}, as SimCLRv2 has it for a student "
            f"{'like its teacher' if alike else 'unlike its teacher'}; `temperature` sets it."
        )
    if options.labels is not None and options.teacher_weight is None:
        notes.append(
            f"The labels count {1 - weight:g} of the loss and the teacher {weight:g}, which is "
            "Coview's choice; `teacher_weight` sets it."
        )
    return replace(recipe, method=method, encoder=encoder, kept_head=kept), tuple(notes)


def same_architecture(one: EncoderSpec, other: EncoderSpec) -> bool:
    return one.kind == other.kind and one.architecture() == other.architecture()
