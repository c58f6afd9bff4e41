"""What an experiment is run on: the data, the scale, the seeds; and the cells that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue, UnknownName
from coview.core.paths import absolute_path
from coview.core.places import split_pattern
from coview.data.parts import part_of_file
from coview.data.sources import is_path
from coview.data.spec import DataSpec, name_of
from coview.encoders import parse_encoder
from coview.methods import CrossEntropy
from coview.options import DataOptions, StudyOptions
from coview.recipes import RECIPES, Recipe, for_classes, recipe
from coview.studies.arms import Arm
from coview.studies.cell import Cell, Work

SCALES = ("tiny", "cpu", "gpu", "paper")
KINDS: Mapping[str, str] = {"tiny": "cpu", "cpu": "cpu", "gpu": "cifar", "paper": "imagenet"}
"""The scale -> the last part of the names of its recipes."""
OWN = "own"
"""What stands for a scale where the recipe is the user's, as in a sweep."""
QUARTERS = (0.25, 0.5, 0.75)
"""The shares of its training after which a run that is followed is judged."""
DATA_FIELDS = (
    "labels_from", "split", "limit", "short_side", "image_column", "label_column", "white",
    "max_pixels", "allow_broken", "download", "root",
)  # fmt: skip
"""The settings of data that decide which images are opened. Where caches lie and how much memory
they take is not among them: it changes no run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much a scale trains: ``images`` (None: all), ``epochs`` (None: the recipe's) over them,
    with each of ``seeds`` seeds; ``encoder`` None is the recipe's."""

    images: int | None
    epochs: float | None
    seeds: int
    encoder: str | None = None
    batch_size: int | None = None


AMOUNTS: Mapping[str, Amount] = {
    "tiny": Amount(images=96, epochs=1, seeds=2, encoder="resnet10/8-small", batch_size=24),
    "cpu": Amount(images=5_000, epochs=40, seeds=3, encoder="resnet10/4-medium"),
    "gpu": Amount(images=None, epochs=100, seeds=3, encoder="resnet18-small"),
    "paper": Amount(images=None, epochs=None, seeds=3),
}
"""Of an experiment that names no others; what costs more changes them, so that a study on two cores
takes about 90 minutes of CIFAR-10 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The options of a study with what its scale gives; makes recipes and cells of them.

    ``changes``: in words, what the options give in place of the scale's. Raises UnknownName for a
    scale, InvalidValue for a number of seeds below 1.

    >>> setting = Setting.of(StudyOptions(name="mine", scale="tiny"))
    >>> setting.recipe("simclr").encoder.label(), setting.seeds
    ('ResNet-10 width 1/8, small stem', (0, 1))
    """

    options: StudyOptions
    amount: Amount
    changes: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: StudyOptions, amounts: Mapping[str, Amount] | None = None) -> Setting:
        """``amounts``: those of the experiment, by scale, in place of AMOUNTS."""
        if options.scale not in SCALES:
            raise UnknownName("scale", options.scale, SCALES)
        usual = {**AMOUNTS, **(amounts or {})}[options.scale]
        given: dict[str, Any] = {
            "images": options.limit, "epochs": options.epochs, "seeds": options.seeds,
            "encoder": options.encoder,
        }  # fmt: skip
        amount = replace(usual, **{name: to for name, to in given.items() if to is not None})
        if amount.seeds < 1:
            raise InvalidValue(f"`seeds` is {amount.seeds}; expected 1 or more.")
        changes = tuple(
            f"{to if isinstance(to, str) else f'{to:,g}'} {name}"
            for name, to in given.items()
            if to is not None and to != getattr(usual, name)
        )
        return cls(options=options, amount=amount, changes=changes)

    @property
    def scale(self) -> str:
        return self.options.scale

    @property
    def seeds(self) -> tuple[int, ...]:
        first = self.options.seed
        return tuple(range(first, first + self.amount.seeds))

    def recipe(self, method: str, *, epochs: float = 1.0) -> Recipe:
        """The recipe of this scale for ``method``, a word such as "simclr" or "logo-moco".

        ``epochs``: a factor of those of the scale. One with logits gets as many as the images have
        classes. Raises UnknownName where the scale has none, and the errors of opening the images.
        """
        name = f"{method}-{KINDS[self.scale]}"
        if name not in RECIPES:
            raise UnknownName("recipe", name, RECIPES)
        made, amount = recipe(name), self.amount
        if amount.encoder is not None:
            made = replace(made, encoder=parse_encoder(amount.encoder))
        if amount.batch_size is not None:
            made = replace(made, batch_size=amount.batch_size)
        passes = epochs * (amount.epochs or made.epochs)
        # A short run warms up for a tenth of it at most.
        warmup = min(made.schedule.warmup_epochs, passes / 10)
        made = replace(made, epochs=passes, schedule=replace(made.schedule, warmup_epochs=warmup))
        has_logits = isinstance(made.method.objective, CrossEntropy)
        return for_classes(made, len(self.images(labels=True).class_names)) if has_logits else made

    def data(self, *, labels: bool = True, test: bool = True) -> dict[str, Any]:
        """The settings of a verb that open the images, from any working folder.

        ``labels`` False: without labels. ``test``: with the test images, where there are any.
        """
        settings = data_settings(self.options, data=self.source, images=self.amount.images)
        if not labels:
            settings["labels_from"] = "none"
        if test and self.test is not None:
            settings["test"] = self.test
        return settings

    @property
    def source(self) -> str | tuple[str, ...]:
        """The images, by default the built-in scenes."""
        data = self.options.data
        return place_of_data("scenes" if data is None else data, "data")

    @property
    def test(self) -> str | tuple[str, ...] | None:
        """The test images; those of the scenes for the scenes, except at the scale tiny."""
        if self.options.test is not None:
            return place_of_data(self.options.test, "test")
        whole = self.options.split is None and self.scale != "tiny"
        return "scenes:test" if self.source == "scenes" and whole else None

    def pretrain(
        self, name: str, recipe: Recipe, seed: int, *, protocols: Sequence[str] = ("linear",),
        more: Mapping[str, Any] | None = None, follow: Sequence[str] = (),
    ) -> Cell:  # fmt: skip
        """A cell that trains exactly ``recipe`` with ``seed``, judged by ``protocols``.

        It has labels where the method needs them. ``more``: further images that ``protocols`` need,
        as outliers, by the setting of `evaluate`. ``follow``: protocols that judge the run after
        each of QUARTERS as well. Raises InvalidValue where the labels of all images are learned, so
        that there is nothing to test on.
        """
        self._check_test(recipe)
        trained = replace(recipe, seed=seed)
        settings = {
            **self.data(labels=recipe.method.needs_labels, test=False), "recipe": trained,
            **({"keep_every": max(1, round(recipe.epochs * QUARTERS[0]))} if follow else {}),
        }  # fmt: skip
        return Cell(
            name=f"{name}, seed {seed}", verb="pretrain", settings=ordered(settings),
            work=(Work(recipe=recipe, passes=recipe.epochs),),
            protocols=tuple(protocols), judged=ordered(self.data()), more=ordered(more or {}),
            follow=tuple(follow),
        )  # fmt: skip

    def _check_test(self, recipe: Recipe) -> None:
        if not recipe.method.needs_labels or self.test is not None or self.scale == "tiny":
            return
        parts = self.images(labels=True).parts
        if self.options.split is not None or "train" not in parts or len(parts) < 2:
            raise InvalidValue(
                f"{recipe.name} learns the labels of all images of {self.options.data}, so that "
                "none are left to test on; give `test`."
            )

    def arm(
        self, name: str, recipe: Recipe, *, runs: str = "", row: str = "", column: str = "",
        x: float | None = None, axis: str = "", values: Mapping[str, Any] | None = None,
        published: float | Mapping[str, float] | None = None, **how: Any,
    ) -> Arm:  # fmt: skip
        """An arm that trains exactly ``recipe`` with every seed.

        ``runs`` names its runs where the arm's name says too little. ``how``: as for
        :meth:`pretrain`.
        """
        return Arm(
            name=name, row=row, column=column, x=x, axis=axis, published=published,
            values=values or {},
            cell=lambda seed: self.pretrain(runs or name, recipe, seed, **how),
        )  # fmt: skip

    def count_images(self) -> int:
        """The number of training images."""
        return len(self.images(labels=False))

    def images(self, *, labels: bool) -> Any:
        """The training images, opened."""
        return self.spec(labels=labels).open()

    def spec(self, *, labels: bool | None) -> DataSpec:
        """What opens the training images. ``labels`` None: with those that are clearly there."""
        options = replace(self.options, limit=self.amount.images)
        return DataSpec.of(self.source, options, needs_labels=labels)


def data_settings(
    options: DataOptions, *, data: Any, images: int | None = None, test: Any = None
) -> dict[str, Any]:
    """The settings of the data that are not the defaults, as JSON can hold them.

    ``images`` takes the place of the option `limit`. Raises InvalidValue for images in memory.
    """
    usual = DataOptions()
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name in DATA_FIELDS
        if (value := getattr(options, name)) != getattr(usual, name)
    }
    if images is not None:
        settings["limit"] = images
    settings["data"] = place_of_data(data, "data")
    if test is not None:
        settings["test"] = place_of_data(test, "test")
    return settings


def place_of_data(data: Any, field: str) -> str | tuple[str, ...]:
    """Where the images are, from any working folder. Raises InvalidValue for images in memory."""
    source = DataSpec.of(data).source
    if source is None:
        raise InvalidValue(
            f"`{field}` is in memory; a study goes on in other processes, so give a path or a name."
        )
    return source


def folder_of(data: Any) -> str:
    """The name of the folder of the runs on ``data``; that of a part has the name of the whole.

    >>> folder_of("cifar10/train.parquet"), folder_of("photos/"), folder_of("scenes")
    ('cifar10-train', 'photos', 'scenes')
    """
    name, first = name_of(data), data[0] if isinstance(data, (list, tuple)) and data else data
    if not is_path(first) or part_of_file(name) is None:
        return name
    # Of a pattern the folder below which it matches, as in its name.
    parent = split_pattern(absolute_path(first))[0].parent.name
    return f"{parent}-{name}" if parent else name


def ordered(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The settings by their names, so that equal ones are equal values."""
    return tuple(sorted(settings.items()))
