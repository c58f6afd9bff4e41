"""From a pretrained encoder and labels to a classifier, beside what the labels give otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from coview.core.errors import InvalidValue, UnknownName
from coview.core.options import takes
from coview.core.paths import absolute_path
from coview.core.places import Kind, place_of
from coview.core.user_code import import_files
from coview.data.labels import check_labels, names_a_file
from coview.data.spec import DataSpec, name_of
from coview.encoders import EncoderSpec
from coview.encoders.exchange.head import read_head
from coview.encoders.exchange.normalization import Normalization, normalization_of
from coview.encoders.exchange.weights import find_export, read_config
from coview.heads import HeadSpec
from coview.methods import CrossEntropy
from coview.options import FinetuneOptions
from coview.planning.defaults import default_finetuning
from coview.planning.plan import make_finetuning_plan
from coview.planning.planner import Plan
from coview.recipes import (
    DenseRecipe,
    KeptHead,
    Recipe,
    Start,
    find_recipe,
    finetune_recipes,
    refuse_dense,
)
from coview.recipes import recipe as recipe_named
from coview.recipes.finetune import for_label_share
from coview.runs.data import Images, RunData
from coview.runs.finetuning import FINE_TUNING
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
    if recipe is not None:
        refuse_dense(recipe)
    if isinstance(recipe, Recipe) and options.from_layer is not None:
        raise InvalidValue(
            "A recipe given as a value is trained as it is: set its kept_head in place of "
            "`from_layer`."
        )
    if isinstance(recipe, Recipe) and type(recipe.method.objective) is not CrossEntropy:
        raise InvalidValue(
            f"The recipe's objective is {type(recipe.method.objective).__name__}; fine-tuning "
            "learns classes and expects CrossEntropy."
        )
    if isinstance(recipe, str) and recipe not in finetune_recipes():
        raise UnknownName("fine-tuning recipe", recipe, finetune_recipes())
    spec = DataSpec.of(
        options.data, options, size=options.size or source.image_size, needs_labels=True
    )
    test = None
    if options.test is not None:
        test = DataSpec.of(options.test, options, needs_labels=True).tests()
        test = replace(test, short_side=spec.short_side)
    data = RunData(
        images=spec,
        test=test,
        own_test=True,
        labels=_absolute(options.labels),
        label_draw=options.label_draw,
    )

    def plan(parts: Parts, session: Session) -> Plan:
        share = len(parts.training) / max(1, parts.labeled_images)
        base = recipe if isinstance(recipe, Recipe) else adapted(
            recipe_named(recipe) if recipe else default_finetuning(session.device.type),
            source, options, share=share,
        )  # fmt: skip
        plan = make_finetuning_plan(
            parts.training, base, options, device=session.device, clock=session.clock,
            workers=session.workers, world=session.ranks.world,
            trainings=1 if options.no_baselines else 2, exact=isinstance(recipe, Recipe),
        )  # fmt: skip
        if not isinstance(recipe, Recipe):
            return plan
        notes = about_normalization(plan.recipe, source.normalization)
        return plan.with_notes(*notes)

    def caveats(images: Images, parts: Parts) -> list[str]:
        before = about_start(source.start, parts.held_out, images.stores, spec)
        return [*about_copies(parts), *before]

    beginning = Beginning(
        job=FINE_TUNING, data=data, source=options.data, test=options.test,
        seed=seed_of(recipe, options), make_plan=plan, start=source.start,
        extra={"baselines": not options.no_baselines}, caveats=caveats,
    )  # fmt: skip
    return start_run(beginning, options, f"{name_of(options.data)}-finetune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A pretrained network: its encoder, its projection head where it has one, its images."""

    start: Start
    encoder: EncoderSpec
    head: HeadSpec | None
    image_size: int
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @property
    def normalization(self) -> Normalization | None:
        """(mean, std) of the images that the network expects; None for [0, 1]."""
        return None if self.mean is None or self.std is None else (self.mean, self.std)


def read_source(path: str | Path, checkpoint: int | None = None) -> Source:
    """The network of a run or of an exported folder. Raises RunError, DamagedFile."""
    start = Start.at(path, checkpoint)
    place = place_of(path)
    if place.kind in (Kind.RUN, Kind.MISSING):  # where it is missing this names a run that is near
        run = Run.open(path)
        method = run.recipe.method
        view = method.views.views[0]
        if isinstance(run.recipe, DenseRecipe):
            return Source(
                start=start, encoder=run.recipe.encoder, head=None,
                image_size=run.recipe.image_size, mean=view.mean, std=view.std,
            )  # fmt: skip
        # Logits are no projection head; plain layers cannot scale h to unit length.
        head = None if isinstance(method.objective, CrossEntropy) else _kept(method.head)
        return Source(
            start=start, encoder=run.recipe.encoder, head=head,
            image_size=run.recipe.image_size, mean=view.mean, std=view.std,
        )  # fmt: skip
    folder = find_export(path)
    config, exported = read_config(folder), read_head(folder)
    spec = EncoderSpec.from_json(config["spec"])
    mean, std = normalization_of(path, spec) or (None, None)
    head = None if exported is None else _kept(HeadSpec.from_json(exported[0]))
    return Source(
        start=start, encoder=spec, head=head, image_size=int(config["image_size"]), mean=mean,
        std=std,
    )  # fmt: skip


def about_normalization(
    recipe: Recipe | DenseRecipe, expected: Normalization | None
) -> tuple[str, ...]:
    """A note where a recipe given as a value, which nothing changes, normalizes images otherwise
    than its first weights expect; ``expected`` None is no normalization.

    >>> about_normalization(recipe_named("simclr-cpu"), None)
    ()
    """
    view = recipe.method.views.views[0]
    has = None if view.mean is None or view.std is None else (view.mean, view.std)
    if has == expected:
        return ()
    return (
        f"The first weights expect images {_normalized(expected)}, and the recipe has them "
        f"{_normalized(has)}: given as a value it is trained as it is; set `mean` and `std` of its "
        "views, or give a recipe by name.",
    )


def _normalized(by: Normalization | None) -> str:
    if by is None:
        return "in [0, 1]"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in by)
    return f"normalized with mean {mean} and std {std}"


def _kept(head: HeadSpec) -> HeadSpec | None:
    """``head``, if a classifier can keep layers of it: plain layers cannot scale h."""
    return head if head.layers > 1 and not head.normalize_input else None


def adapted(recipe: Recipe, source: Source, options: FinetuneOptions, *, share: float) -> Recipe:
    """A fine-tuning recipe for the network of ``source`` and this share of the labels.

    Raises InvalidValue where ``from_layer`` is a layer that the head does not have.
    """
    recipe = for_label_share(recipe, share)
    views = tuple(
        replace(view, size=source.image_size, mean=source.mean, std=source.std)
        for view in recipe.method.views.views
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
    method = replace(recipe.method, views=replace(recipe.method.views, views=views))
    return replace(recipe, method=method, encoder=source.encoder, kept_head=kept)


def _absolute(labels: str) -> str:
    """A file of names from any working folder; other words as they are."""
    return str(absolute_path(labels)) if names_a_file(labels) else labels
