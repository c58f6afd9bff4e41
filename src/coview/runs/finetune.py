"""From a pretrained encoder and labels to a classifier, beside what the labels give otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coview.core.errors import InvalidValue, UnknownName
from coview.core.options import takes
from coview.core.user_code import import_files
from coview.data.labels import absolute_labels, check_labels
from coview.data.spec import DataSpec, name_of, tests_like
from coview.methods import CrossEntropy
from coview.options import FinetuneOptions
from coview.planning.defaults import default_finetuning
from coview.planning.plan import make_finetuning_plan
from coview.planning.planner import Plan
from coview.recipes import (
    KeptHead,
    Recipe,
    find_recipe,
    finetune_recipes,
    refuse_dense,
)
from coview.recipes import recipe as recipe_named
from coview.recipes.changes import with_input
from coview.recipes.finetune import for_label_share
from coview.runs.data import Images, RunData
from coview.runs.finetuning import FINE_TUNING
from coview.runs.first_weights import Source, about_normalization, read_source
from coview.runs.job import Parts, Session
from coview.runs.load import say_verdict
from coview.runs.run import Run
from coview.runs.start import Beginning, seed_of, start_run
from coview.runs.trained_on import about_copies, about_start


@takes(FinetuneOptions)
def finetune(options: FinetuneOptions) -> Run | None:
    """Fine-tune the network of ``start`` on labeled ``data``; the run, or None for a ``dry_run``.

    ``start``: a run, or an exported encoder. ``labels``: "1%", "25-per-class", or a file of names;
    the subsets are class-balanced, and of one ``label_draw`` a smaller one lies within every larger
    one. ``test``: labeled images to test on, by default the test or val part of ``data``, else a
    fifth of it. ``from_layer``: the layer of the projection head that the classifier stands on; 0
    is the encoder's output h.
    Nothing is chosen by the test images: the last epoch counts. The run leaves a classifier for
    :func:`coview.load` and :func:`coview.predict`, and the accuracy of a linear probe on the same
    labels and of the same network from scratch. Raises the errors of coview.core.errors.

    >>> import coview
    >>> run = coview.finetune(
    ...     "runs/scenes", "scenes", limit=200, labels="5-per-class", epochs=1, out="runs/few"
    ... )
    >>> run.kind, run.is_ended
    ('finetune', True)
    """
    import_files(options.import_)
    say_verdict(options.start)
    source = read_source(options.start, options.checkpoint)
    check_labels(options.labels)
    recipe = None if options.recipe is None else find_recipe(options.recipe)
    check_recipe(recipe, options)
    spec = DataSpec.of(
        options.data, options, size=options.size or source.image_size, needs_labels=True
    )
    data = RunData(
        images=spec,
        test=tests_like(spec, options.test, options),
        own_test=True,
        labels=absolute_labels(options.labels),
        label_draw=options.label_draw,
    )

    def plan(parts: Parts, session: Session) -> tuple[Plan, dict[str, Any]]:
        if isinstance(recipe, Recipe):
            base, exact = recipe, True
        else:
            named = recipe_named(recipe) if recipe else default_finetuning(session.device.type)
            share = len(parts.training) / max(1, parts.labeled_images)
            base, exact = adapted(named, source, options, share=share), False
        planner = session.planner(parts.training, trainings=1 if options.no_baselines else 2)
        plan = make_finetuning_plan(planner, base, options, exact=exact)
        if exact:
            plan = plan.with_notes(*about_normalization(plan.recipe, source.normalization))
        return plan, {"baselines": not options.no_baselines}

    def caveats(images: Images, parts: Parts) -> list[str]:
        before = about_start(source.start, parts.held_out, images.stores, spec)
        return [*about_copies(parts), *before]

    beginning = Beginning(
        job=FINE_TUNING, data=data, source=options.data, test=options.test,
        seed=seed_of(recipe, options), make_plan=plan, start=source.start, caveats=caveats,
    )  # fmt: skip
    return start_run(beginning, options, f"{name_of(options.data)}-finetune")


def check_recipe(recipe: Recipe | str | None, options: FinetuneOptions) -> None:
    """Raise InvalidValue or UnknownName for a recipe that does not fine-tune."""
    if recipe is None:
        return
    refuse_dense(recipe)
    if isinstance(recipe, str):
        if recipe not in finetune_recipes():
            raise UnknownName("fine-tuning recipe", recipe, finetune_recipes())
        return
    if options.from_layer is not None:
        raise InvalidValue(
            "A recipe given as a value is trained as it is: set its kept_head in place of "
            "`from_layer`."
        )
    if type(recipe.method.objective) is not CrossEntropy:
        raise InvalidValue(
            f"The recipe's objective is {type(recipe.method.objective).__name__}; fine-tuning "
            "learns classes and expects CrossEntropy."
        )


def adapted(recipe: Recipe, source: Source, options: FinetuneOptions, *, share: float) -> Recipe:
    """A fine-tuning recipe for the network of ``source`` and this share of the labels.

    Raises InvalidValue where ``from_layer`` is a layer that the head does not have.
    """
    recipe = with_input(
        for_label_share(recipe, share), size=source.image_size, mean=source.mean, std=source.std
    )
    layer = options.from_layer
    if layer is None:
        layer = recipe.kept_head.layers if recipe.kept_head and source.head else 0
    if layer < 0 or (layer > 0 and source.head is None):
        raise InvalidValue(
            f"`from_layer` is {layer}, but {source.start.path} has no projection head to keep "
            "layers of; give 0, or the folder of a run that has one."
        )
    kept = KeptHead(head=source.head, layers=layer) if layer and source.head else None
    return replace(recipe, encoder=source.encoder, kept_head=kept)
