"""From images to a trained, judged and usable encoder: the main job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from coview.core.errors import DataError, InvalidValue, NoLabels
from coview.core.images import ImageStore
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.places import place_of
from coview.core.user_code import import_files
from coview.data.folder import clear_classes, first_folders
from coview.data.held_out import usual_training
from coview.data.scan import SHARD_SUFFIX, TABLES
from coview.data.spec import DataSpec, name_of
from coview.encoders import EncoderSpec
from coview.encoders.exchange.weights import (
    read_shapes,
    require_fitting,
    require_same,
)
from coview.importing.network import outline
from coview.methods import Teacher, get_method
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
from coview.runs.data import Images, RunData
from coview.runs.first_weights import (
    Source,
    about_normalization,
    expected_normalization,
    network_of,
    normalized_for,
)
from coview.runs.job import Parts, Session
from coview.runs.load import say_verdict
from coview.runs.pretraining import PRETRAINING
from coview.runs.run import Run
from coview.runs.start import Beginning, seed_of, start_run
from coview.runs.trained_on import HELD_OUT, about_copies, about_held_out
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
    Without ``encoder`` the network of a recipe by name is that of ``weights``, where they are a run
    or an export, and so is the normalization of the images.
    Raises the errors of coview.core.errors for whatever a caller can mend.

    >>> import coview
    >>> run = coview.pretrain("scenes", limit=100, size=8, epochs=1, out="runs/first")
    >>> run.kind, run.is_ended
    ('pretrain', True)
    """
    import_files(options.import_)
    if options.weights is not None:
        say_verdict(options.weights)
    recipe = find_recipe(options.recipe)
    check_views(recipe)
    network = network_of(options)
    exact = isinstance(recipe, Recipe)
    is_taken = network is not None and options.encoder is None and not exact
    if network is not None and is_taken:
        options = with_network(options, network.encoder)
    checked = check_settings(recipe, options, local_device(options.device).type)
    if network is not None:
        check_network(checked.encoder, network)
    elif options.weights is not None and is_settled(recipe, options, checked.encoder):
        path = local_path(options.weights)
        require_fitting(outline(checked.encoder), read_shapes(path), path)
    data = RunData(
        images=DataSpec.of(
            options.data, options, size=options.size, needs_labels=needs_labels(recipe)
        )
    )

    def plan(parts: Parts, session: Session) -> tuple[Plan, dict[str, Any]]:
        plan = make_plan(
            session.planner(parts.training), recipe, options,
            encoder_is="that of the weights" if is_taken else "as asked",
            # Runs that differ by their seed alone shall have one recipe.
            images=usual_training(len(parts.training) + len(parts.held_out)),
        )  # fmt: skip
        notes = about_classes(plan.recipe, parts.training)
        notes += about_folders(parts.training, data.images)
        if options.weights is not None:
            expected = expected_normalization(options.weights, network, plan.recipe.encoder)
            if not exact:
                plan = normalized_for(plan, expected)
            elif expected is not None or network is not None:  # no file of weights says [0, 1]
                notes += about_normalization(plan.recipe, expected)
        if options.weights is None:
            notes += tuple(about_scratch(plan.recipe, len(parts.training)))
        return plan.with_notes(*notes), {}

    start = None if options.weights is None else Start.at(options.weights, options.checkpoint)

    def caveats(images: Images, parts: Parts) -> list[str]:
        copies = about_copies(parts, HELD_OUT)
        if start is None:
            return copies
        return [*copies, *about_held_out(start, parts.held_out, images.stores, data.images)]

    beginning = Beginning(
        job=PRETRAINING, data=data, source=options.data,
        seed=seed_of(recipe, options), make_plan=plan, start=start, caveats=caveats,
    )  # fmt: skip
    with saying_what_needs_labels(options):
        return start_run(beginning, options, name_of(options.data))


@contextmanager
def saying_what_needs_labels(options: PretrainOptions) -> Iterator[None]:
    """Of images without labels: what of ``options`` needs some, as pretraining itself does not."""
    try:
        yield
    except NoLabels as error:
        given = options.recipe
        name = given.name if isinstance(given, Recipe) else given
        cause = "`labels_from`" if options.labels_from == "folders" else f"`recipe` {name}"
        raise DataError(f"{error.what} To learn without labels leave out {cause}.") from None


def about_folders(store: ImageStore, spec: DataSpec) -> tuple[str, ...]:
    """A note where sub-folders that look like classes are no labels.

    Albums and dates look so as well, and a run is judged by its labels where it has any.
    """
    source = spec.source
    if store.labels is not None or spec.labels_from != "auto" or not isinstance(source, str):
        return ()
    file = store.names[0].partition("#")[0].lower()
    if file.endswith((*TABLES, SHARD_SUFFIX)) or not place_of(source).is_folder:
        return ()
    classes = clear_classes(first_folders(store.names, store.parts))
    if not classes:
        return ()
    return (
        f"The {len(classes)} sub-folders of {source}, such as {classes[0]}, look like classes: "
        "`labels_from` folders shows kNN accuracy.",
    )


def with_network(options: PretrainOptions, encoder: EncoderSpec) -> PretrainOptions:
    """``options`` with this network, and with its size where it has one."""
    size = encoder.image_size if options.size is None else options.size
    return replace(options, encoder=encoder, size=size)


def check_network(wanted: EncoderSpec, network: Source) -> None:
    """Raise InvalidValue, before images are opened, where the first weights fit no such network."""
    # A checkpoint is loaded by its shapes alone, and an own module may take images of any size.
    if network.start.checkpoint is None or network.encoder.kind != "module":
        require_same(network.encoder, wanted, network.start.path)


def is_settled(recipe: Recipe | str, options: PretrainOptions, encoder: EncoderSpec) -> bool:
    """Whether no image can change ``encoder``, of a recipe or of an option for a method."""
    of_method = isinstance(recipe, str) and recipe in METHODS
    return not of_method or (options.encoder is not None and encoder.image_size is None)


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
