"""The beginning of a run of any kind: open the images, plan, write run.json, train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coview.core.clock import Clock
from coview.core.errors import InvalidValue, RunError
from coview.core.files import entries, wait_for
from coview.core.line_log import keep_lines
from coview.core.paths import local_path
from coview.core.places import Kind, place_of
from coview.core.progress import say
from coview.core.run_folder import ImportedFile, RunFolder
from coview.core.run_lock import run_lock
from coview.core.temporary import is_temporary, sweep
from coview.core.text import parse_duration
from coview.core.user_code import files_of, import_files
from coview.core.values import parse_setting
from coview.options import RunOptions
from coview.planning.planner import Plan
from coview.planning.text import about_checkpoints
from coview.recipes import RECIPES, Recipe, Start, build_task, precision_of
from coview.recipes.batches import make_loader
from coview.runs.data import Images, RunData, about_left_out
from coview.runs.describe import command, describe
from coview.runs.job import Job, Parts, Session
from coview.runs.run import Run
from coview.runs.session import train_run
from coview.training.distribution import init_distributed, local_device
from coview.training.loggers import logger_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A run before its first step.

    source: what the caller gave as data, which may be arrays; test the same for test images.
    seed: of the split, before there is a plan. make_plan: from the parts and the session to a plan,
    and the fields of run.json that only this kind of run has.
    caveats: sentences on why the figures will say less than they seem to, for run.json; None where
    nothing is known of that.
    """

    job: Job
    data: RunData
    source: Any
    seed: int
    make_plan: Callable[[Parts, Session], tuple[Plan, dict[str, Any]]]
    start: Start | None = None
    test: Any = None
    caveats: Callable[[Images, Parts], Sequence[str]] | None = None


def start_run(beginning: Beginning, options: RunOptions, name: str) -> Run | None:
    """Train a new run and return it; None for a dry run.

    ``name`` is that of the folder below runs/ where ``options.out`` is None. Raises the errors of
    coview.core.errors for whatever the caller can mend, before there is a folder.
    """
    clock = Clock(None if options.budget is None else parse_duration(options.budget))
    if options.keep_every is not None and options.keep_every < 1:
        raise InvalidValue(f"`keep_every` is {options.keep_every}; expected 1 epoch or more.")
    log_to = logger_names(options.log_to)
    device = local_device(options.device)
    place = options.out or Path("runs") / name
    folder = None if options.dry_run else new_folder(place)
    with (
        init_distributed(device) as ranks,
        keep_lines(command()) as log,
        nullcontext() if folder is None or not ranks.is_main else new_run_lock(folder),
    ):
        session = Session(
            device=device, workers=options.workers, ranks=ranks, log_to=log_to, clock=clock
        )
        if ranks.is_main:
            say(f"Run: {place}", detail=True, advice=True)
        images = ranks.main_first(
            lambda: beginning.data.open(beginning.source, beginning.test, options.workers)
        )
        if ranks.is_main:  # the others read the plan from the run's folder
            for note in images.notes:
                say(note, detail=True)
            parts = beginning.job.split(beginning.data, images, beginning.seed)
            plan, extra = beginning.make_plan(parts, session)
            say_parts(images, parts)
            description = describe_beginning(
                beginning, plan, images, parts, session, extra=extra, keep_every=options.keep_every,
                imports=import_files(options.import_),
            )  # fmt: skip
            for note in description["plan"]:
                say(note, detail=True, advice=True)
            for sentence in description.get("caveats", ()):
                say(sentence)
            if folder is not None:
                Run(folder).write_description(description)
                log.open(Run(folder).log_path)
        ranks.barrier()
        if folder is None:
            return None
        if not ranks.is_main:
            wait_for(Run(folder).description_path)  # this process has looked for it before
        return train_run(beginning.job, Run(folder), images, session)


def describe_beginning(
    beginning: Beginning, plan: Plan, images: Images, parts: Parts, session: Session, *,
    extra: dict[str, Any], keep_every: int | None = None, imports: Sequence[ImportedFile] = (),
) -> dict[str, Any]:  # fmt: skip
    """The content of run.json. Raises InvalidValue and DataError for what cannot be trained."""
    learner = build_task(plan.recipe, beginning.start)
    precision = precision_of(plan.recipe, learner, session.device)
    make_loader(plan.recipe, parts.training, session.device, ranks=session.ranks)  # checks it
    plan.recipe.rates(len(parts.training))
    note = about_checkpoints(learner, plan.recipe, keep_every)
    caveats = None if beginning.caveats is None else list(beginning.caveats(images, parts))
    plan = plan.with_notes(note)
    return describe(
        beginning.job.kind, plan, images, parts, learner, data=beginning.data,
        start=beginning.start, precision=precision, processes=session.ranks.world,
        budget=session.clock.budget,
        extra={
            "keep_every": keep_every, "log_to": session.log_to, **extra,
            **({} if caveats is None else {"caveats": caveats}),
            "imports": [*imports, *(f for f in files_of(plan.recipe) if f not in imports)],
        },
    )  # fmt: skip


def say_parts(images: Images, parts: Parts) -> None:
    """Broken files, and how many images are for what."""
    for store in (images.images, images.test):
        if store is not None and store.quarantine:
            say(about_left_out(store))
    for store in filter(None, (images.images, images.test)):
        say(f"Pixels of {store.source}: {store.storage}.", detail=True)
    say(parts.note, detail=True)


@contextmanager
def new_run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a new run. Raises RunError where another process was faster."""
    with run_lock(folder):
        new_folder(folder)
        for path in first_files(folder):
            sweep(path)
        yield


def first_files(folder: Path) -> tuple[Path, Path]:
    """What a run writes before anything else; a process killed there leaves temporary files."""
    run = RunFolder(folder)
    return run.description_path, run.lock_path


def new_folder(path: str | Path) -> Path:
    """The folder of a new run, which is absent or empty. Raises RunError."""
    folder = local_path(path)
    place, lock = place_of(folder), RunFolder(folder).lock_path.name
    if place.kind is Kind.UNREADABLE:
        raise RunError(f"{folder} cannot be read: {place.reason}. Choose another folder by `out`.")
    is_free = place.is_folder and all(
        name == lock
        # Of a process that was killed before the run began.
        or any(is_temporary(name, path) for path in first_files(folder))
        for name in entries(folder)
    )
    if place.kind not in (Kind.MISSING, Kind.PATTERN) and not is_free:
        choice = "Choose"
        if place.kind is Kind.RUN:
            there = Run(folder)
            longer = f"Train it longer by {there.command('resume')} --epochs N, or choose"
            goes_on = f"Go on with it by {there.command('resume')}, or choose"
            choice = longer if there.is_ended else goes_on
        raise RunError(f"{folder} exists already. {choice} another folder with `out`.")
    return folder


def seed_of(recipe: object, options: RunOptions) -> int:
    """The seed of the recipe that will be trained, which also splits the images."""
    settings = [setting for setting in options.set if setting.startswith("seed=")]
    if settings:
        _, seed = parse_setting(RECIPES["simclr-cpu"](), settings[-1], ())
        return int(seed)
    if options.seed is not None:
        return options.seed
    return recipe.seed if isinstance(recipe, Recipe) else 0
