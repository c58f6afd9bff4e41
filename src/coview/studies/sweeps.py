"""A grid over fields of a recipe: the sweep that every researcher asks for."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue, UnknownName
from coview.core.metrics import metric_of
from coview.core.options import takes
from coview.core.progress import say
from coview.core.run_folder import RunFolder
from coview.core.user_code import import_files
from coview.core.values import field_of, fingerprint, parse_setting, set_fields
from coview.data.spec import opened_once
from coview.evaluation import PROTOCOLS
from coview.evaluation.features import has_labels
from coview.methods import CrossEntropy
from coview.options import StudyOptions, SweepOptions
from coview.recipes import (
    RECIPES,
    Recipe,
    change,
    find_recipe,
    for_classes,
    known_values,
    recipe,
)
from coview.runs.protocols import words
from coview.studies.check_cells import check_cells
from coview.studies.execution import run_study
from coview.studies.grid import Grid
from coview.studies.measure import PER_CENT, Measure
from coview.studies.result import StudyResult
from coview.studies.setting import DATA_FIELDS, OWN, Amount, Setting, folder_of


@takes(SweepOptions)
def sweep(options: SweepOptions) -> StudyResult:
    """Train a recipe with every combination of ``set`` and seed, and compare the runs.

    ``set``: texts "field=value,value", or in Python a mapping from fields to lists of values. Each
    run is an ordinary run folder in ``out``, named by what it contains; the same call goes on where
    it was stopped. ``rows`` of the result are a table: the values, the seed, the folder and the
    figure of each protocol. Images without labels are judged by the protocol "label-free" where
    ``protocols`` names none. Raises InvalidValue or UnknownName for a field or a value, and
    SeveralErrors, before the first run, where runs cannot be trained on these images.

    >>> import coview
    >>> result = coview.sweep("scenes", limit=100, dry_run=True,
    ...     set=["method.objective.temperature=0.1,0.5", "batch_size=32"], seeds=2)
    >>> result["ended"]
    False
    """
    import_files(options.import_)
    if options.seeds < 1 or options.jobs < 1:
        raise InvalidValue("`seeds` and `jobs` are expected to be 1 or more.")
    base = base_of(options)
    root = options.out or Path("sweeps") / folder_of(options.data)
    axes = axes_of(options.set)
    question = f"{base.name} with {', '.join(axes) or 'several seeds'}."
    # Sweeps of other fields have files of their own, and so have recipes of one name.
    name = "/".join(("sweep", name_of_recipe(base), *axes))
    setting = setting_of(options)
    base = with_classes(base, setting)
    study = sweep_grid(options, base, axes).study(name, question, setting)
    machine = {"device": options.device, "workers": options.workers, "log_to": options.log_to}
    say(f"{base.name}: {base.encoder.label()}, views of {base.image_size} px.")
    for sentence in long_warmups(base, axes):
        say(sentence)
    with opened_once():
        check_cells(study.cells, root)
        result = run_study(study, root, machine, jobs=options.jobs, dry_run=options.dry_run)
    if not options.dry_run:
        say(f"Report: {RunFolder(Path(result['path'])).report_path}")
    return StudyResult(result)


def base_of(options: SweepOptions) -> Recipe:
    """The recipe that is changed. Raises the errors of ``find_recipe``."""
    found = find_recipe(options.recipe)
    return recipe(found) if isinstance(found, str) else found


def name_of_recipe(base: Recipe) -> str:
    """The name of a recipe of the catalogue; of another one also a few letters of its hash.

    >>> name_of_recipe(recipe("simclr-cpu")), len(name_of_recipe(change(recipe("simclr-cpu"),
    ...     batch_size=8)))
    ('simclr-cpu', 17)
    """
    if base.name in RECIPES and recipe(base.name) == base:
        return base.name
    return f"{base.name}-{fingerprint(base)[:6]}"


def with_classes(base: Recipe, setting: Setting) -> Recipe:
    """``base`` with a logit for each class of the images, where its method has logits. The images
    are listed, and none is decoded."""
    if not isinstance(base.method.objective, CrossEntropy):
        return base
    return for_classes(base, len(setting.spec(labels=True).stream().class_names))


def long_warmups(base: Recipe, axes: Axes) -> list[str]:
    """A sentence where a number of epochs leaves more than a tenth of them to the warm-up, which a
    sweep changes no more than any other field that it does not name."""
    warmup = base.schedule.warmup_epochs
    if "schedule.warmup_epochs" in axes:
        return []
    epochs = [changed(base, {"epochs": value}).epochs for value in axes.get("epochs", ())]
    short = [f"{each:g}" for each in epochs if warmup > each / 10]
    if not short:
        return []
    return [
        f"Of {', '.join(short)} epochs {warmup:g} are a warm-up, as in the recipe; "
        "--set schedule.warmup_epochs= gives another."
    ]


def judges_of(options: SweepOptions, base: Recipe) -> tuple[str, ...]:
    """The protocols that are named; by default "linear", and "label-free" of unlabeled images.

    Raises the errors of listing the images.
    """
    if options.protocols is not None:
        return words(options.protocols)
    if base.method.needs_labels or are_labeled(setting_of(options)):
        return ("linear",)
    say("The images have no labels: the runs are judged by the protocol label-free (RankMe).")
    return ("label-free",)


def are_labeled(setting: Setting) -> bool:
    """Whether an image of ``setting`` has a label. The images are listed, and none is decoded."""
    return has_labels(setting.spec(labels=None).stream().labels)


Axes = Mapping[str, Sequence[Any]]
"""A field of a recipe -> its values: texts, or values of its type."""


def axes_of(given: Any) -> Axes:
    """The axes of texts "field=value,value" or of a mapping.

    Raises InvalidValue for what is none, and for the field seed.

    >>> axes_of(["method.objective.temperature=0.1,0.5"])
    {'method.objective.temperature': ['0.1', '0.5']}
    """
    if isinstance(given, Mapping):
        axes = {str(name): _values(values) for name, values in given.items()}
    else:
        axes = {}
        for text in [given] if isinstance(given, str) else given:
            name, equals, values = str(text).partition("=")
            listed = _values(values)
            if not (name and equals) or "" in listed or name in axes:
                raise InvalidValue(
                    f"`set` is {text!r}; expected FIELD=VALUE,VALUE, each field once, such as "
                    "method.objective.temperature=0.1,0.2. Where a value has commas, semicolons "
                    "separate them, and one stands behind a single value: 0.2,1;"
                )
            axes[name] = listed
    if "seed" in axes:
        raise InvalidValue(
            "`set` names the field seed, which every run has of its own; `seeds` is how many there "
            "are, and `seed` is the first."
        )
    return axes


def _values(given: Any) -> list[Any]:
    """The values of a field: a list, a value alone, or a text with several.

    >>> _values("0.2,1"), _values("0.2,1;"), _values(10), _values((1, 2))
    (['0.2', '1'], ['0.2,1'], [10], [1, 2])
    """
    if not isinstance(given, str):
        return list(given) if isinstance(given, Iterable) else [given]
    words = given.split(";" if ";" in given else ",")
    if ";" in given and not words[-1].strip():
        words = words[:-1]
    return [word.strip() for word in words]


def changed(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    """``base`` with these fields. Raises InvalidValue or UnknownName."""
    for name, value in values.items():
        if name == "encoder":
            base = change(base, encoder=value)
        elif isinstance(value, str):
            path, typed = parse_setting(base, f"{name}={value}", known_values())
            base = set_fields(base, {path: typed})
        else:
            base = set_fields(base, {name: value})
    return base


def values_of(made: Recipe, point: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``point`` as ``made`` has them; one that JSON has no word for as it was given.

    >>> point = {"epochs": "2", "encoder": "resnet18"}
    >>> values_of(changed(recipe("simclr-cpu"), point), point)
    {'epochs': 2.0, 'encoder': 'resnet18'}
    """
    values = {}
    for name, given in point.items():
        value = functools.reduce(field_of, name.split("."), made)
        plain = value is None or isinstance(value, bool | int | float | str)
        values[name] = value if plain else str(given)
    return values


def setting_of(options: SweepOptions) -> Setting:
    """The data and seeds of a sweep, as its cells take them."""
    data = {name: getattr(options, name) for name in DATA_FIELDS}
    given = StudyOptions(
        name="sweep", data=options.data, test=options.test, seed=options.seed, scale=OWN, **data
    )
    return Setting(
        options=given, amount=Amount(images=options.limit, epochs=None, seeds=options.seeds)
    )


def sweep_grid(options: SweepOptions, base: Recipe, axes: Axes) -> Grid:
    """An arm for every combination of the values of the axes; all runs judged alike."""
    setting, protocols = setting_of(options), judges_of(options, base)
    for name in protocols:
        if name not in PROTOCOLS:
            raise UnknownName("protocol", name, PROTOCOLS)
    arms = []
    for values in product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in point.items())
        made = changed(base, point)
        arms.append(
            setting.arm(name or base.name, made, protocols=protocols, values=values_of(made, point))
        )
    measures = tuple(measure_of(name) for name in protocols)
    return Grid(arms=tuple(arms), claims=(), measures=measures)


def measure_of(protocol: str) -> Measure:
    """The headline figure of a protocol, a share in per cent.

    >>> measure_of("retrieval").metric, measure_of("label-free").factor
    ('mean_average_precision', 1.0)
    """
    headline = PROTOCOLS[protocol].description["headline"]
    setting = tuple(
        (name, value) for name, value in headline.items() if name not in {"metric", "layer"}
    )
    return Measure(
        name=protocol, protocol=protocol, metric=headline["metric"], layer=headline["layer"],
        setting=setting,
        factor=PER_CENT if metric_of(headline["metric"]).format == "share" else 1.0,
    )  # fmt: skip
