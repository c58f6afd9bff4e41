"""The network that a run begins with: what it is, and the normalization of images it expects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from coview.core.paths import local_path
from coview.core.places import Kind, place_of
from coview.encoders import EncoderSpec
from coview.encoders.exchange.head import read_head
from coview.encoders.exchange.normalization import Normalization, normalization_of
from coview.encoders.exchange.weights import find_export, read_config, require_file
from coview.heads import HeadSpec
from coview.methods import CrossEntropy
from coview.options import PretrainOptions
from coview.planning.planner import Plan
from coview.recipes import DenseRecipe, Recipe, Start
from coview.recipes.changes import with_normalization
from coview.runs.run import Run


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
        view = run.recipe.first_view
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


def network_of(options: PretrainOptions) -> Source | None:
    """The network of the first weights; None without any, and for a file, which does not say it.

    Raises RunError, InvalidValue, DamagedFile.
    """
    if options.weights is None:
        return None
    if not place_of(options.weights).is_folder:
        require_file(local_path(options.weights))
        return None
    return read_source(options.weights, options.checkpoint)


def expected_normalization(
    weights: str | Path, network: Source | None, encoder: EncoderSpec
) -> Normalization | None:
    """(mean, std) of the images that the first weights expect; None for [0, 1], or not known.

    ``network``: that of ``weights``; None for a file, which is one of ``encoder``.
    """
    return normalization_of(weights, encoder) if network is None else network.normalization


def normalized_for(plan: Plan, expected: Normalization | None) -> Plan:
    """``plan`` with the images normalized as the first weights expect, and a note of it."""
    recipe = plan.recipe
    view = recipe.first_view
    if expected is None or (view.mean, view.std) == expected:
        return plan
    mean, std = _texts(expected)
    note = f"Images are normalized as the weights expect: mean {mean}, std {std}."
    return replace(plan, recipe=with_normalization(recipe, *expected), notes=(*plan.notes, note))


def about_normalization(
    recipe: Recipe | DenseRecipe, expected: Normalization | None
) -> tuple[str, ...]:
    """A note where a recipe given as a value, which nothing changes, normalizes images otherwise
    than its first weights expect; ``expected`` None is no normalization.

    >>> from coview.recipes import recipe
    >>> about_normalization(recipe("simclr-cpu"), None)
    ()
    """
    view = recipe.first_view
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
    mean, std = _texts(by)
    return f"normalized with mean {mean} and std {std}"


def _texts(by: Normalization) -> tuple[str, str]:
    """The three numbers of the mean, and those of the standard deviation."""
    mean, std = (", ".join(f"{value:g}" for value in values) for values in by)
    return mean, std


def _kept(head: HeadSpec) -> HeadSpec | None:
    """``head``, if a classifier can keep layers of it: plain layers cannot scale h."""
    return head if head.layers > 1 and not head.normalize_input else None
