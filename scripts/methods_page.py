"""All methods and recipes as one page of Markdown, and a drawing of each method.

python scripts/methods_page.py docs      writes methods.md and drawings/*.svg (``make docs``)
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from markdown_text import as_markdown
from method_drawing import draw_method

from coview.methods import (
    EMA,
    Distillation,
    Method,
    SameNetwork,
    StopGradient,
    Teacher,
    get_method,
    list_methods,
    logo,
    multi_crop,
)
from coview.methods.temperature import WithTemperature
from coview.recipes import RECIPES, DenseRecipe, Recipe, recipe
from coview.recipes.distill import distillation_method
from coview.recipes.finetune import classifier_method

INTRODUCTION = """\
# Methods and recipes

Made by `make docs` from the methods and recipes themselves; a test compares. Change those, not
this page.

Under each method stand its drawing, its equation and source, the words that make it the value it
is, and its recipes. [Concepts](concepts.md) explains the words. Where recipes differ in a word,
their names stand behind it.

- Pairing: the loss is the sum of the pairs' losses. In `0 → 1` view 0 gives the queries and view
  1 the keys; views 0 and 1 are the global ones, those from 2 on local crops. Stopped keys are
  constants. An objective of all embeddings of a batch has no pairs and no target.
- Momentum: of the momentum encoder. Rate: the peak of the optimizer's schedule.

`coview recipes NAME` prints a recipe to its last number; where the numbers come from is written
behind each of them in [`src/coview/recipes/`](../src/coview/recipes)."""

OVER: Mapping[str, Callable[..., Method]] = {
    "logo": logo,
    "multi_crop": multi_crop,
    "finetune": classifier_method,
    "distill": distillation_method,
}
"""Methods made of methods, which name what they make "logo-moco"."""

NONE = "none"
TEMPERATURE = {field.name for field in fields(WithTemperature)}


def page() -> str:
    """Every method that is registered and every recipe of the catalogue, each once.

    Raises UnknownName where a recipe's method is neither registered nor made of one in OVER.
    """
    sections = [section(name, recipes) for name, recipes in by_method().items()]
    return "\n\n".join([INTRODUCTION, *sections]) + "\n"


def by_method() -> dict[str, list[Recipe]]:
    """The recipes of every method, in the catalogue's order; a method may have none."""
    found: dict[str, list[Recipe]] = {}
    for chosen in map(recipe, RECIPES):
        if isinstance(chosen, DenseRecipe):  # docs/detection.md
            continue
        found.setdefault(chosen.method.name.split("-")[0], []).append(chosen)
    return found | {name: [] for name in list_methods() if name not in found}


def section(name: str, recipes: Sequence[Recipe]) -> str:
    """What there is to say of one method: its own words, its vocabulary, its recipes."""
    make = OVER.get(name) or get_method(name)
    file = f"{make.__module__.replace('.', '/')}.py"
    first_line, _, _ = (inspect.getdoc(inspect.getmodule(make)) or name).partition("\n")
    methods = {each.name: each.method for each in recipes} or {name: make(224)}
    told = [
        f"## {name}",
        f"{first_line} [`{file}`](../src/{file})",
        f"![{name} as a drawing](drawings/{name}.svg)",
        as_markdown(inspect.getdoc(make) or ""),
        table(["word", "value"], ([word, _told(say, methods)] for word, say in WORDS.items())),
    ]
    return "\n\n".join([*told, numbers(recipes)] if recipes else told)


def drawings() -> dict[str, str]:
    """The drawing of every method by the name of its file, of its first recipe where it has one."""
    found = {}
    for name, recipes in by_method().items():
        make = OVER.get(name) or get_method(name)
        found[f"{name}.svg"] = draw_method(recipes[0].method if recipes else make(224))
    return found


def numbers(recipes: Sequence[Recipe]) -> str:
    """A table of recipes, with the columns in which at least one of them has something."""
    columns = {head: [say(each) for each in recipes] for head, say in COLUMNS.items()}
    columns = {head: cells for head, cells in columns.items() if set(cells) != {NONE}}
    return table(list(columns), zip(*columns.values(), strict=True))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _told(say: Callable[[Method], str], methods: Mapping[str, Method]) -> str:
    """What ``say`` says of the methods, once where it says the same of all."""
    owners: dict[str, list[str]] = {}
    for name, method in methods.items():
        owners.setdefault(say(method), []).append(f"`{name}`")
    if len(owners) == 1:
        return next(iter(owners))
    return "<br>".join(f"{text}: {', '.join(recipes)}" for text, recipes in owners.items())


def _value(value: Any) -> str:
    """A value as code, without its temperature, which is a column of the recipes."""
    said = [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in fields(value)
        if field.name not in TEMPERATURE
    ]
    return f"`{type(value).__name__}({', '.join(said)})`"


def _pairing(method: Method) -> str:
    if not method.pairs_views:
        return NONE
    arrows: dict[tuple[float, bool], list[str]] = {}
    for pair in method.pairing:
        arrows.setdefault((pair.weight, pair.stop_gradient), []).append(
            f"{pair.query} → {pair.key}"
        )
    return " + ".join(
        f"{_number(weight)} × ({', '.join(shared)}{'; stop-gradient' if stop_gradient else ''})"
        for (weight, stop_gradient), shared in arrows.items()
    )


def _target(method: Method) -> str:
    if not method.pairs_views and not isinstance(method.target, Teacher):
        return NONE
    return {
        SameNetwork: "the same network, with gradient",
        StopGradient: "the same network, with stop-gradient",
        EMA: "momentum encoder",
        Teacher: "a trained classifier that does not change",
    }[type(method.target)]


def _batch_norm(method: Method) -> str:
    grouped = method.batch_norm == "ghost"
    text = f"ghost BatchNorm, groups of {method.ghost_batch_size}" if grouped else method.batch_norm
    return text if grouped or method.synchronized else f"{text}, of each process alone"


def _repulsion(method: Method) -> str:
    if method.repulsion is None:
        return NONE
    views = ", ".join(map(str, method.repulsion.views))
    return f"of views {views} by {_value(method.repulsion.affinity)}"


WORDS: Mapping[str, Callable[[Method], str]] = {
    "objective": lambda method: _value(method.objective),
    "pairing": _pairing,
    "target": _target,
    "predictor": lambda method: method.predictor.label() if method.predictor else NONE,
    "memory": lambda method: "a queue of keys" if method.memory else NONE,
    "BatchNorm": _batch_norm,
    "repulsion": _repulsion,
    "its weight": lambda method: _value(method.repulsion.balance) if method.repulsion else NONE,
    "head": lambda method: method.head.label(),
}


def _views(recipe: Recipe) -> str:
    sizes = Counter(view.size for view in recipe.method.views.views)
    return ", ".join(f"{count} × {size}" for size, count in sizes.items())


def _optimizer(recipe: Recipe) -> str:
    spec = recipe.optimizer
    scaling = {"linear": " × batch / 256", "sqrt": " × √batch", "none": ""}[spec.scaling]
    peak = f" = {_number(spec.peak(recipe.batch_size))}" if scaling else ""
    rule = f"{spec.name} with Nesterov" if spec.nesterov else spec.name
    spared = "" if spec.exclude else " of all parameters"
    rate, decay = _number(spec.learning_rate), _number(spec.weight_decay)
    return f"{rule}, rate {rate}{scaling}{peak}, decay {decay}{spared}"


def _temperature(recipe: Recipe) -> str:
    objective = recipe.method.objective
    if isinstance(objective, Distillation):
        return _number(objective.temperature)
    if not isinstance(objective, WithTemperature):
        return NONE
    start = _number(float(objective.temperature))
    return f"{start} at first, learned" if objective.learn_temperature else start


def _momentum(recipe: Recipe) -> str:
    target = recipe.method.target
    if not isinstance(target, EMA):
        return NONE
    steady = target.start == target.end
    return _number(target.start) if steady else f"{_number(target.start)} to {_number(target.end)}"


def _queue(recipe: Recipe) -> str:
    return f"{recipe.method.memory.length:,}" if recipe.method.memory else NONE


def _number(value: float) -> str:
    """Four digits at most: 4.8, 1e-6."""
    return f"{value:.4g}".replace("e-0", "e-")


COLUMNS: Mapping[str, Callable[[Recipe], str]] = {
    "recipe": lambda recipe: f"`{recipe.name}`",
    "encoder": lambda recipe: recipe.encoder.label(),
    "views, px": _views,
    "batch": lambda recipe: f"{recipe.batch_size:,}",
    "epochs": lambda recipe: f"{recipe.epochs:,g}",
    "optimizer": _optimizer,
    "temperature": _temperature,
    "momentum": _momentum,
    "queue": _queue,
}


def write(folder: Path) -> None:
    """methods.md and drawings/ in ``folder``; a drawing of a method that is gone is deleted."""
    (folder / "methods.md").write_text(page(), encoding="utf-8")
    (folder / "drawings").mkdir(exist_ok=True)
    made = drawings()
    for name, text in made.items():
        (folder / "drawings" / name).write_text(text, encoding="utf-8")
    for file in (folder / "drawings").glob("*.svg"):
        if file.name not in made:
            file.unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
