"""A paper's experiment by its name: what ``coview study`` does."""

from __future__ import annotations

import os
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import OutOfMemoryError

from coview.core.errors import CoviewError, InvalidValue, UnknownName
from coview.core.machine import cores
from coview.core.options import takes
from coview.core.paths import absolute_path
from coview.core.places import Kind, place_of
from coview.core.progress import progress, say
from coview.core.run_folder import RunFolder, read_object
from coview.core.user_code import agree_to, hash_file, run_file
from coview.data.sources import NAMES
from coview.data.spec import opened_once
from coview.options import StudyOptions
from coview.studies.catalogue import STUDIES, Named
from coview.studies.claims import WORDS
from coview.studies.execution import CONTENT, Study, run_study
from coview.studies.experiment import Experiment, without_others
from coview.studies.failures import about_error
from coview.studies.ledger import write_ledger
from coview.studies.page import LOST, MEANINGLESS, is_tiny
from coview.studies.result import StudyResult
from coview.studies.setting import folder_of
from coview.studies.speed import BESIDES, FEW_STEPS, Speeds

ALL = "all"
PLACEHOLDER = ("scenes:test",)
"""Stands for images that a study needs, where it is only listed."""


@takes(StudyOptions)
def study(options: StudyOptions) -> StudyResult:
    """Run the study ``name`` on ``data``; returns the content of its study.json, and "path".

    ``name``: one of STUDIES, "all", "FILE.py:NAME", or an :class:`Experiment` of your own. Without
    a name the list of all studies is returned as "studies", each with its question, state and the
    seconds that it would take on this machine. Of "all" those that fail are in "failed", each with
    its error, and the others go on.

    The runs lie in ``out``, each in a folder that is named by what it contains, so that studies of
    the same data share them. The same call goes on where it was stopped or killed, and draws a
    finished study again in seconds. "ended" of the result says whether every run has ended. Where a
    run fails, those that do not need it go on. Raises UnknownName for an unknown study, and
    RunError with what went wrong in each run that failed, when the others have ended.

    >>> import coview
    >>> result = coview.study("simclrv2/chain", "scenes", limit=200, dry_run=True)
    >>> result["ended"]
    False
    """
    options = with_data(options)
    root = options.out or Path("studies") / folder_of(options.data)
    if options.jobs < 1:
        raise InvalidValue(f"`jobs` is {options.jobs}; expected 1 or more.")
    if options.name == ALL:
        return run_all(options, root)
    with opened_once():
        if options.name is None:
            return list_studies(options, root)
        return run_one(named(options.name), options, root)


def with_data(options: StudyOptions) -> StudyOptions:
    """``options`` with images, the built-in ones where none are given. A name that is no study
    and a place of images stands for these images. Raises InvalidValue for a study of the scale
    paper without images, which would be drawn ones."""
    name = options.name
    if options.data is not None:
        return options
    if isinstance(name, str) and name not in (*STUDIES, ALL) and not name.endswith(".py"):
        kind = place_of(name, NAMES).kind
        if kind in (Kind.NAME, Kind.FOLDER, Kind.FILE, Kind.PATTERN):
            return replace(options, name=None, data=name)
    is_paper = options.scale == "paper" and name is not None
    if is_paper and (name == ALL or "data" in named(name).takes):
        raise InvalidValue(
            "The scale paper trains ImageNet's recipes as long as published; give the images as "
            "`data`, such as imagenet/train, and those to test on as `test`."
        )
    return replace(options, data="scenes")


def run_all(options: StudyOptions, root: Path) -> StudyResult:
    """Every study that has what it needs, and the ledger of their claims.

    Where one fails its error is said, and the others go on: "failed" has its name and sentence.
    """
    results: list[StudyResult] = []
    failed: dict[str, str] = {}
    for experiment in STUDIES.values():
        if needs := missing_needs(experiment, options):
            say(f"{experiment.name} is left out: it needs {' and '.join(needs)}.")
            continue
        try:
            with opened_once():
                own = without_others(options, experiment.takes)
                results.append(run_one(experiment, own, root))
        except CoviewError as error:
            failed[experiment.name] = str(error)
            say(f"{experiment.name} has failed: {error}")
            continue
        if not (results[-1]["ended"] or options.dry_run):
            break
    ended = [result for result in results if result["ended"]]
    say(f"Studies that have ended: {len(ended)} of {len(results) + len(failed)}.")
    for name, sentence in failed.items():
        say(f"{name} has failed: {sentence}")
    if not options.dry_run:
        say(f"Ledger of claims: {write_ledger(root)}")
    return StudyResult(
        study=ALL, ended=len(ended) == len(results) > 0 and not failed, studies=results,
        failed=failed, path=str(root),
    )  # fmt: skip


def run_one(experiment: Named, options: StudyOptions, root: Path) -> StudyResult:
    """One study; what its claims came to is said."""
    machine = {"device": options.device, "workers": options.workers}
    result = run_study(
        study_of(experiment, options), root, machine, jobs=options.jobs, dry_run=options.dry_run
    )
    if not options.dry_run:
        say()
        if result["claims"] and is_tiny(result["card"]):
            say(MEANINGLESS)
        for claim in result["claims"] if result["ended"] else ():
            say(f"{claim['text']}: {WORDS[claim['holds']]}. {claim['because']}")
        if LOST in result["card"]:
            say(f"{LOST.capitalize()}: {result['card'][LOST]}.")
        say(f"Report: {RunFolder(Path(result['path'])).report_path}")
        write_ledger(root)
    return StudyResult(result)


def study_of(experiment: Named, options: StudyOptions) -> Study:
    """The study. An error in the file of a user is said with its place."""
    try:
        return experiment.study(options)
    except Exception as error:
        frames, file = traceback.extract_tb(error.__traceback__), own_file(experiment)
        own = [frame for frame in frames if frame.filename == file]
        if not own:
            raise
        kind = "" if isinstance(error, CoviewError) else f"{type(error).__name__}: "
        raise InvalidValue(
            f"{Path(own[-1].filename).name}, line {own[-1].lineno}: {kind}{error}"
        ) from error


def own_file(experiment: Named) -> str | None:
    """The file of the user that makes the grid of ``experiment``; None for a study of Coview's."""
    if experiment in STUDIES.values():
        return None
    code = getattr(getattr(experiment, "grid", None), "__code__", None)
    return None if code is None else str(code.co_filename)


def missing_needs(experiment: Named, options: StudyOptions) -> tuple[str, ...]:
    """The options that it needs and that are not given."""
    return tuple(need for need in experiment.needs if not getattr(options, need))


def named(name: Any) -> Named:
    """The study of a name, of "FILE.py:NAME", or the value itself."""
    if not isinstance(name, str):
        return name  # type: ignore[no-any-return]
    if name in STUDIES:
        return STUDIES[name]
    file, colon, attribute = name.rpartition(":")
    if not (colon and file.endswith(".py")):
        raise UnknownName("study", name, (*STUDIES, ALL))
    path = absolute_path(file)
    file_hash = hash_file(path)
    agree_to(file_hash)
    module = run_file(path, file_hash)
    value = getattr(module, attribute, None)
    if value is None or not hasattr(value, "study"):
        known = [each for each, it in vars(module).items() if isinstance(it, Experiment)]
        raise InvalidValue(
            f"{file} has no study {attribute!r}; expected an Experiment"
            + (f" such as {', '.join(known)}." if known else ".")
        )
    return value  # type: ignore[no-any-return]


def list_studies(options: StudyOptions, root: Path) -> StudyResult:
    """Each study with its question, state, and the seconds of its missing runs on this machine;
    "claims" of each with "text", "holds", and whether all its runs have "tested" it; "needs": the
    options that it takes and that are not given."""
    speeds = Speeds(options.device, options.jobs, steps=FEW_STEPS, kept=True)
    rows = []
    with progress("Measuring", len(STUDIES), "studies") as advance:
        for experiment in STUDIES.values():
            rows.append(_row(experiment, options, root, speeds))
            advance(1)
    return StudyResult(
        study=None, ended=True, studies=rows, path=str(root), basis=_basis(options, speeds)
    )


def _row(experiment: Named, options: StudyOptions, root: Path, speeds: Speeds) -> dict[str, Any]:
    needs = missing_needs(experiment, options)
    row: dict[str, Any] = {
        "name": experiment.name, "question": experiment.question, "needs": needs,
        "runs": None, "ended": None, "seconds": None, "lacking": "", "claims": [],
    }  # fmt: skip
    # With others in their place it has the same claims, and runs that take as long.
    given: dict[str, Any] = dict.fromkeys(needs, PLACEHOLDER)
    try:
        value = experiment.study(without_others(replace(options, **given), experiment.takes))
        cells = {cell.key: cell for cell in value.cells}
        estimate = speeds.estimate(tuple(cells.values()), root, value.images)
    except (CoviewError, MemoryError, OutOfMemoryError) as error:
        return {**row, "error": about_error(error)}
    content = read_object(value.folder(root) / CONTENT) or {}
    tested = bool(content.get("ended")) and value.is_in(content, root)
    ended = len(cells) if needs and tested else len(cells) - len(estimate.seconds)
    if tested and ended == len(cells):
        claims = [{**claim, "tested": True} for claim in content["claims"]]
    else:
        claims = [{"text": text, "holds": None, "tested": False} for text in value.claims]
    return {
        **row, "runs": len(cells), "ended": ended, "seconds": estimate.whole, "claims": claims,
        "lacking": estimate.lacking,
    }  # fmt: skip


def _basis(options: StudyOptions, speeds: Speeds) -> str:
    """What the times of the list are of."""
    sentence = (
        f"Studies of {options.data} at the scale {options.scale}. Times are those of training on "
        f"{speeds.machine} and {BESIDES:g} s a run besides; opening images, and judging more than "
        "some hundred, take longer."
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if speeds.device.type == "cpu" and load > cores():
        sentence += f" Other work runs here now (load {load:.1f}), which prolongs them."
    return sentence
