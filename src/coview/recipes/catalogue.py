"""All recipes by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from coview.core.errors import InvalidValue, RunError, UnknownName
from coview.core.places import Kind, place_of
from coview.core.run_folder import RunFolder, read_object
from coview.core.user_code import import_again
from coview.core.values import decode
from coview.methods import METHODS
from coview.methods.registry import register
from coview.recipes import cpu, dense, distill, finetune, papers
from coview.recipes.recipe import DenseRecipe, Recipe, known_values

RECIPES: dict[str, Callable[[], Recipe]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        papers.simclr_imagenet, papers.simclr_cifar, papers.simclr_photos, cpu.simclr_cpu,
        cpu.simclr_photos_cpu, cpu.simclr_demo, papers.simclr_v2_imagenet, papers.simclr_v2_cifar,
        cpu.simclr_v2_cpu, papers.supcon_imagenet, papers.supcon_cifar, cpu.supcon_cpu,
        papers.moco_imagenet, papers.moco_v1_imagenet, papers.moco_cifar, cpu.moco_cpu,
        papers.byol_imagenet, papers.byol_cifar, cpu.byol_cpu, papers.simsiam_imagenet,
        papers.simsiam_cifar, cpu.simsiam_cpu, papers.logo_moco_imagenet, papers.logo_moco_code,
        papers.logo_simsiam_imagenet, papers.logo_byol_imagenet, papers.logo_simclr_imagenet,
        papers.logo_moco_cifar, papers.logo_simsiam_cifar, cpu.logo_moco_cpu, cpu.logo_simsiam_cpu,
        cpu.logo_byol_cpu, cpu.logo_simclr_cpu, cpu.multi_crop_simclr_cpu,
        papers.supervised_imagenet, papers.supervised_cifar, cpu.supervised_cpu,
        finetune.finetune_v1_imagenet, finetune.finetune_v2_imagenet, finetune.finetune_cpu,
        dense.coco_1x, dense.coco_2x, dense.coco_1x_c4, dense.coco_2x_c4, dense.voc_24k,
        dense.voc_fcn_30k, dense.detect_cpu, dense.segment_cpu,
        distill.distill_imagenet, distill.distill_cpu,
    )
}  # fmt: skip
"""Each function under its name with hyphens, in the order of the list of recipes."""


def register_recipe(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """A decorator: ``function() -> Recipe`` is a recipe under its name with hyphens from here on.

    ``coview pretrain DATA --import FILE.py --recipe NAME`` trains it; of "NAME-cpu" and the like
    the method NAME takes its numbers. Raises InvalidValue where Coview has a recipe of this name.

    >>> from dataclasses import replace
    >>> @register_recipe
    ... def simclr_short():
    ...     return replace(recipe("simclr-cpu"), name="simclr-short", epochs=1)
    >>> recipe("simclr-short").epochs, RECIPES.pop("simclr-short") is simclr_short
    (1, True)
    """
    return register(function, RECIPES, "recipe")


def recipe(name: str) -> Recipe:
    """The recipe ``name``. Raises UnknownName with the nearest known one.

    >>> recipe("simclr-imagenet").batch_size
    4096
    """
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]()


def finetune_recipes() -> tuple[str, ...]:
    """The recipes of `coview finetune`, which start from a pretrained network.

    >>> finetune_recipes()
    ('finetune-v1-imagenet', 'finetune-v2-imagenet', 'finetune-cpu')
    """
    return tuple(name for name in RECIPES if name.startswith("finetune-"))


def detection_recipes() -> tuple[str, ...]:
    """The recipes of `coview detect`, which learn boxes, outlines or label maps.

    >>> detection_recipes()[-2:]
    ('detect-cpu', 'segment-cpu')
    """
    return tuple(name for name, make in RECIPES.items() if make.__module__ == dense.__name__)


def is_tuned_here(name: str) -> bool:
    """Whether some numbers of the recipe were chosen in this project, on test images of CIFAR-10.

    >>> is_tuned_here("simclr-cpu"), is_tuned_here("simclr-imagenet"), is_tuned_here("my-own")
    (True, False, False)
    """
    return name in RECIPES and RECIPES[name].__module__ == cpu.__name__


def refuse_dense(recipe: Recipe | str) -> None:
    """Raise InvalidValue for a recipe of `coview detect`, by name or as a value.

    >>> refuse_dense("coco-1x")
    Traceback (most recent call last):
    ...
    coview.core.errors.InvalidValue: The recipe coco-1x learns boxes or label maps: take it with ...
    """
    if isinstance(recipe, DenseRecipe) or recipe in detection_recipes():
        name = recipe if isinstance(recipe, str) else recipe.name
        raise InvalidValue(
            f"The recipe {name} learns boxes or label maps: take it with coview detect RUN DATA."
        )


def distill_recipes() -> tuple[str, ...]:
    """The recipes of `coview distill`, which learn from a teacher.

    >>> distill_recipes()
    ('distill-imagenet', 'distill-cpu')
    """
    return tuple(name for name in RECIPES if name.startswith("distill-"))


def find_recipe(recipe: Any) -> Recipe | str:
    """What ``recipe`` means: a Recipe, or the name of one or of a method, as it is.

    Any other text or path is a file that holds one (`coview recipes NAME --json` writes it) or the
    folder of a run, whose recipe it is. Raises UnknownName, UnknownValue or InvalidValue for a
    wrong name, class or field, DamagedFile or RunError for a file that cannot be read.

    >>> find_recipe("simclr-cpu"), find_recipe(recipe("simclr-cpu")).batch_size
    ('simclr-cpu', 128)
    """
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str | Path):
        raise InvalidValue(f"`recipe` is {recipe!r}; expected a name, a file, a run or a Recipe.")
    name, place = str(recipe), place_of(str(recipe), (*RECIPES, *METHODS))
    if place.kind is Kind.NAME:
        return name
    if place.kind is Kind.RUN:
        return recipe_of(RunFolder(place.path))
    if place.kind is Kind.FILE:
        return _decode_recipe(read_object(place.path), place.path, known_values())
    if place.kind is Kind.UNREADABLE:
        raise RunError(f"{place.path} cannot be read: {place.reason}.")
    if place.suffix == ".json" or len(Path(name).parts) > 1:
        raise InvalidValue(
            f"`recipe` is {name!r}, and there is no such file or run. `coview recipes NAME --json` "
            "writes the file of a recipe."
        )
    raise UnknownName("recipe", name, [*RECIPES, *METHODS])


def method_of(name: str) -> str:
    """The method of the recipe ``name``.

    >>> method_of("logo-moco-cpu"), method_of("simclr-v2-cifar"), method_of("finetune-cpu")
    ('moco', 'simclr-v2', 'finetune')
    """
    if name in detection_recipes():
        return "detect"
    word = name.removeprefix("logo-").removeprefix("multi-crop-")
    methods = [each for each in (*METHODS, "finetune", "distill") if word.startswith(each)]
    return max(methods, key=len) if methods else recipe(name).method.name.replace("_", "-")


def list_recipes(method: str | None = None) -> dict[str, list[str]]:
    """The recipes of each method, or of one: for a CPU first, a paper's numbers last.

    >>> list_recipes("byol")
    {'byol': ['byol-cpu', 'logo-byol-cpu', 'byol-cifar', 'byol-imagenet', 'logo-byol-imagenet']}
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(RECIPES, key=_machine):
        groups.setdefault(method_of(name), []).append(name)
    order = dict.fromkeys(map(method_of, RECIPES))
    return {each: groups[each] for each in order if method in (None, each)}


def _machine(recipe: str) -> int:
    """0 for a recipe of a CPU, 1 for one of a GPU, 2 for a paper's."""
    on_cpu = recipe.endswith(("-cpu", "-demo"))
    return 0 if on_cpu else 1 if recipe.endswith(("-cifar", "-photos")) else 2


def recipe_of(run: RunFolder) -> Recipe:
    """The recipe that made ``run``, read once the files of the user that it names are executed.

    Raises UnknownValue, UnknownName or InvalidValue for a class or a field, or where such a file
    has changed or is gone; DamagedFile.

    >>> import tempfile
    >>> from coview.core.values import encode
    >>> run = RunFolder(Path(tempfile.mkdtemp()))
    >>> run.write_description({"recipe": encode(recipe("simclr-cpu"))})
    >>> recipe_of(run) == recipe("simclr-cpu")
    True
    """
    modules = import_again(run.description.get("imports", ()))
    # The classes of these files come last and count: another file may have a class of that name.
    known = sorted(known_values(), key=lambda kind: kind.__module__ in modules)
    return _decode_recipe(run.description.get("recipe"), run.description_path, known)


def _decode_recipe(content: Any, path: Path, known: Iterable[type]) -> Recipe:
    try:
        value = decode(content, known)
    except (InvalidValue, UnknownName) as error:
        error.args = (f"{path}: {error}",)
        raise
    if not isinstance(value, Recipe):
        raise InvalidValue(f"{path} holds no recipe, as `coview recipes NAME --json` writes it.")
    return value
