"""From images to a trained, judged and usable encoder: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coview.core.errors import DataError, InvalidValue, RunError, UnknownName
from coview.core.images import ImageStore
from coview.core.machine import parse_duration
from coview.core.progress import say
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.run_folder import DESCRIPTION
from coview.data.held_out import check_same, hold_out
from coview.data.sources import SCENES
from coview.data.spec import open_for, short_side_for
from coview.data.torchvision_sets import KNOWN_SETS
from coview.diagnosis.verdict import EXIT_CODES
from coview.methods import get_method
from coview.planning.plan import Plan, make_plan
from coview.planning.text import about_scratch
from coview.recipes import METHODS, RECIPES, Recipe
from coview.recipes import recipe as recipe_named
from coview.recipes.build import build, precision_of
from coview.runs.describe import describe, write_description
from coview.runs.run import Run
from coview.runs.session import go, make_loader
from coview.training.distribution import init_distributed, local_device

Data = str | Path | ImageStore | npt.NDArray[np.uint8] | Sequence[npt.NDArray[np.uint8]]


def pretrain(
    data: Any,
    *,
    recipe: str | Recipe = "simclr",
    out: str | Path | None = None,
    budget: str | None = None,
    dry_run: bool = False,
    size: int | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    temperature: float | None = None,
    learn_temperature: bool = False,
    jitter_strength: float | None = None,
    local_crops: int | None = None,
    affinity: str | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    classes_per_batch: int | None = None,
    micro_batch: int | None = None,
    activation_checkpointing: bool = False,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    warmup_epochs: float | None = None,
    weight_decay: float | None = None,
    seed: int | None = None,
    labels: str = "auto",
    short_side: int | None = None,
    limit: int | None = None,
    download: bool = False,
    allow_broken: bool = False,
    memory_share: float = 0.25,
    device: str = "auto",
    precision: str | None = None,
    workers: int | None = None,
) -> Run | None:
    """Learn a representation of ``data`` and return the run; None for a ``dry_run``.

    ``data``: a folder, Parquet file(s), a data set's name, "scenes", uint8 arrays [N, H, W, 3], a
    list of such arrays of any sizes, (images, labels), or an ImageStore. ``recipe``: a Recipe, one
    by name, or a method's name ("simclr", "byol"), for which everything else is chosen to suit data
    and device. The other arguments are the options of ``coview pretrain``; None keeps what the
    recipe says. Raises the errors of coview.core.errors for whatever a caller can mend.
    """
    changes: dict[str, object] = {
        "size": size, "encoder": encoder, "temperature": temperature, "jitter_strength": jitter_strength,
        "epochs": epochs, "batch": batch, "optimizer": optimizer, "learning_rate": learning_rate,
        "warmup_epochs": warmup_epochs, "weight_decay": weight_decay, "seed": seed,
        "precision": precision, "local_crops": local_crops, "affinity": affinity,
        "micro_batch": micro_batch, "classes_per_batch": classes_per_batch,
        "activation_checkpointing": activation_checkpointing or None,
        "learn_temperature": learn_temperature or None,
    }  # fmt: skip
    seconds = None if budget is None else parse_duration(budget)
    on = local_device(device)
    opened: dict[str, Any] = {
        "source": place_of(data), "labels": labels, "needs_labels": _needs_labels(recipe),
        "limit": limit, "short_side": short_side_for(data, size, short_side),
        "allow_broken": allow_broken, "memory_share": memory_share,
    }  # fmt: skip
    folder = None if dry_run else new_folder(out, data)
    begun_from = None if weights is None else str(Path(weights).expanduser().absolute())
    with init_distributed(on) as ranks:
        here = {**opened, "source": data}
        store = ranks.main_first(lambda: open_for(**here, download=download))
        if ranks.is_main:  # the others find its plan in the run's folder
            plan, training = plan_for(store, recipe, on, seconds, changes, ranks)
            for sentence in plan.reasons:
                say(sentence)
            for sentence in about_scratch(plan.recipe, len(training)) if weights is None else ():
                say(sentence)
            content = description_of(plan, store, training, on, opened, begun_from, workers, ranks)
            if folder is not None:
                write_description(folder, content)
        ranks.barrier()
        if folder is None:
            return None
        return go(Run(folder), store, device=on, workers=workers, ranks=ranks)


def description_of(
    plan: Plan,
    store: ImageStore,
    training: ImageStore,
    device: torch.device,
    opened: dict[str, Any],
    weights: str | None,
    workers: int | None,
    ranks: Ranks,
) -> dict[str, Any]:
    """What is to be trained, as a run's folder says it.

    Raises the errors of coview.core.errors for what cannot be trained, before there is a folder.
    """
    learner = build(plan.recipe, weights)
    written = precision_of(plan.recipe, learner, device)
    make_loader(plan.recipe, training, written, workers=workers, ranks=ranks)
    plan.recipe.rates(len(training))
    return describe(
        plan, store, learner, opened=opened, training_images=len(training),
        device=device, precision=written.format, weights=weights, processes=ranks.world,
    )  # fmt: skip


def resume(
    run: str | Path,
    *,
    data: Any = None,
    device: str = "auto",
    workers: int | None = None,
) -> Run:
    """Go on with a run where it stopped; the result is the one that it would have had.

    ``data``: where the images are now; by default where they were. Raises RunError where the run
    has ended or the images are not the same.
    """
    found = Run.open(run)
    if found.verdict is not None:
        onward = f" To train on from its encoder, start a new run with --weights {found.path}."
        good = EXIT_CODES[found.verdict["verdict"]] == 0
        raise RunError(
            f"{found.path} has ended: {found.verdict['sentence']}{onward if good else ''}"
        )
    on = local_device(device)
    about = found.description["data"]
    with init_distributed(on) as ranks:
        store = ranks.main_first(lambda: _opened_again(found, about["opened"], data))
        check_same(store, about["fingerprint"], store.source)
        said = other_statistics(found, ranks.world)
        if said:
            say(said)
        return go(found, store, device=on, workers=workers, ranks=ranks)


def other_statistics(run: Run, world: int) -> str:
    """What differs where a run goes on with another number of processes; "" where nothing does."""
    before, recipe = run.description.get("processes", 1), run.recipe
    method = recipe.method
    own = method.batch_norm == "ghost" or not method.synchronized or recipe.passes.micro_batch
    if before == world or not own:
        return ""
    return (
        f"The run began with {before} processes and goes on with {world}: BatchNorm takes its "
        "statistics of other groups of images from here on, so that it is not the same run bit for "
        "bit. Images, order and views are."
    )


def place_of(data: Any) -> str | list[str] | None:
    """What opens ``data`` from any working folder; None for arrays, which only the caller has."""
    if isinstance(data, str) and (data in SCENES or data in KNOWN_SETS):
        return data
    if isinstance(data, (str, Path)):
        return str(Path(data).expanduser().absolute())
    if isinstance(data, (list, tuple)) and all(isinstance(item, (str, Path)) for item in data):
        return [str(Path(item).expanduser().absolute()) for item in data]
    return None


def _opened_again(run: Run, opened: dict[str, Any], data: Any) -> ImageStore:
    if data is not None:
        return open_for(**{**opened, "source": data})
    if opened["source"] is None:
        raise RunError(
            f"The images of {run.path} were arrays in memory; give the same ones again: "
            f"coview.resume({str(run.path)!r}, data=...)."
        )
    try:
        return open_for(**opened)
    except (DataError, UnknownName) as error:
        raise RunError(
            f"{error} If the images have moved, say where they are by --data."
        ) from error


def plan_for(
    store: ImageStore,
    recipe: str | Recipe,
    device: Any,
    budget: float | None,
    changes: dict[str, object],
    ranks: Ranks = SINGLE_PROCESS,
) -> tuple[Plan, ImageStore]:
    """The plan for ``ranks`` together, and the images that it trains on."""
    own = recipe.seed if isinstance(recipe, Recipe) else 0
    seed = changes["seed"] if isinstance(changes["seed"], int) else own
    rows, held_out = hold_out(store, seed)
    training = store.subset(rows)
    plan = make_plan(
        training, recipe, device=device, budget=budget, changes=changes, world=ranks.world
    )
    if broken := len(store.quarantine):
        files = "1 file" if broken == 1 else f"{broken:,} files"
        say(f"{files} could not be used and {'is' if broken == 1 else 'are'} left out; "
            "quarantine.jsonl of the run, or `coview doctor`, says why.")  # fmt: skip
    say(f"{len(held_out):,} images are held out to judge the run; {len(rows):,} are trained on.")
    return plan, training


def new_folder(out: str | Path | None, data: Any) -> Path:
    """Where the run will be: a folder that is absent or empty. Raises RunError."""
    folder = Path(out) if out is not None else Path("runs") / _name_of(data)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        is_run = (folder / DESCRIPTION).exists()
        raise RunError(
            f"{folder} exists already. "
            + (f"Go on with it by coview resume {folder}, or choose" if is_run else "Choose")
            + " another folder with --out."
        )
    return folder


def _name_of(data: Any) -> str:
    if isinstance(data, (str, Path)):
        return Path(str(data).replace(":", "-").replace("*", "")).resolve().stem or "images"
    return "arrays"


def _needs_labels(recipe: str | Recipe) -> bool:
    """Whether the method learns from labels; an unknown name is refused before data is opened."""
    if isinstance(recipe, Recipe):
        return recipe.method.needs_labels
    if not isinstance(recipe, str):
        raise InvalidValue(f"recipe is {recipe!r}; expected a name or a Recipe.")
    if recipe in METHODS:
        return get_method(recipe)(32).needs_labels
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, [*RECIPES, *METHODS])
    return recipe_named(recipe).method.needs_labels
