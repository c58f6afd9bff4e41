"""Go on with a run of any kind where it stopped."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

from coview.core.errors import DataError, InvalidValue, MissingExtra, RunError, UnknownName
from coview.core.figures import DIAGNOSES
from coview.core.files import exists
from coview.core.line_log import keep_lines
from coview.core.machine import is_main_process
from coview.core.options import takes
from coview.core.progress import say
from coview.core.run_lock import run_lock
from coview.core.text import parse_duration, plural
from coview.core.user_code import import_files
from coview.data.decode import decoders
from coview.dense import Detector
from coview.methods.passes import drops
from coview.options import ResumeOptions
from coview.recipes import DenseRecipe, build_task
from coview.reports import write_report
from coview.runs.data import Images
from coview.runs.describe import command, environment, other_environment
from coview.runs.extend import extend, longer_command
from coview.runs.job import Session
from coview.runs.kinds import JOBS
from coview.runs.run import Run
from coview.runs.session import train_run
from coview.training.distribution import init_distributed, local_device
from coview.training.loggers import logger_names


@takes(ResumeOptions)
def resume(options: ResumeOptions) -> Run:
    """Go on with a run where it stopped; the result is the one that it would have had.

    ``data``, ``test``: where the images are now; by default where they were. ``epochs`` or
    ``budget`` extend the run, also one that has ended: to so many epochs in all, or for so much
    time from now. The rest of its schedule is stretched over them; a schedule that has ended begins
    again. Raises RunError where the run has ended or the images are not the same, InvalidValue for
    epochs that it has made.

    >>> import coview
    >>> from pathlib import Path
    >>> Path("runs/scenes/verdict.json").unlink()  # as if it had been killed before its end
    >>> coview.resume("runs/scenes").is_ended
    True
    """
    import_files(options.import_)
    run = Run.open(Run.open(options.run).outer_path)
    longer = options.epochs is not None or options.budget is not None
    budget = None if options.budget is None else parse_duration(options.budget)
    if options.epochs is not None and options.budget is not None:
        raise InvalidValue("`epochs` and `budget` both say how long the run goes on; give one.")
    if run.verdict is not None and not longer:
        if not exists(run.report_path):
            if is_main_process():
                report = write_report(run.path, running=False)
                say(f"{run.path} has ended; its report is written again: {report}")
            return run
        raise RunError(
            f"{run.path} has ended ({run.verdict['sentence'].rstrip('.')}).{_onward(run)}"
        )
    log_to = _loggers(run, options.log_to)
    device = local_device(options.device)
    with (
        init_distributed(device) as ranks,
        keep_lines(command()) as log,
        run_lock(run.path) if ranks.is_main else nullcontext(),
    ):
        if ranks.is_main:
            if run.is_ended and not longer:
                raise RunError(f"{run.path} has ended meanwhile, in another process.")
            log.open(run.log_path)
        session = Session(device=device, workers=options.workers, ranks=ranks, log_to=log_to)
        images = ranks.main_first(lambda: _open_again(run, options))
        if images.fingerprint != run.description["data"]["fingerprint"]:
            raise RunError(
                f"The images of {images.images.source} have changed since the run began (names, "
                "sizes, pixels or labels), so it cannot go on exactly."
                f"{_left_out(images)}{_other_decoders(run)} Bring them back, or start a new run "
                "from this encoder with `weights`."
            )
        job = JOBS[run.kind]
        if longer:
            if ranks.is_main:
                extend(job, run, epochs=options.epochs, budget=budget)
            ranks.barrier()
            run = Run(run.path)
        before = run.description["environment"]
        now = environment(device, before["precision"])
        for note in (other_processes(run, ranks.world), other_environment(before, now)):
            if note:
                say(note)
        return train_run(job, run, images, session)


def _loggers(run: Run, log_to: tuple[str, ...]) -> tuple[str, ...]:
    """The loggers that the user names now, or those of the run's beginning that are installed."""
    if log_to:
        return logger_names(log_to)
    names: list[str] = []
    for name in run.description.get("log_to", ()):
        try:
            names += logger_names([name])
        except MissingExtra as error:
            say(f"{error} The run goes on without it.")
    return tuple(names)


def _left_out(images: Images) -> str:
    """The first of the images that cannot be used now; "" where all can."""
    quarantine = images.images.quarantine
    if not quarantine:
        return ""
    name, reason = quarantine[0]
    return f" {plural(len(quarantine), 'file')} cannot be used now, such as {name} ({reason})."


def _other_decoders(run: Run) -> str:
    """Whether the images were decoded by other libraries, which may give other pixels."""
    before, now = run.description["environment"].get("decoders"), decoders()
    return "" if before == now else f" The run began with {before}, and this is {now}."


def _onward(run: Run) -> str:
    """How to train on a run that has learned something."""
    assert run.verdict is not None
    diagnosis = DIAGNOSES.get(run.verdict["label"])
    if diagnosis is None or diagnosis.exit_code != 0:
        return ""
    longer = f" To train it longer: {longer_command(run)}."
    if run.kind != "pretrain":
        return longer
    return f"{longer} To train on from its encoder, start a new run with `weights` {run.path}."


def other_processes(run: Run, world: int) -> str:
    """What differs where a run goes on with another number of processes; "" where nothing does."""
    before, recipe = run.description.get("processes", 1), run.recipe
    if before == world:
        return ""
    method, unlike = recipe.method, list[str]()
    if method.batch_norm == "ghost" or not method.synchronized or recipe.passes.micro_batch:
        unlike.append("BatchNorm takes its statistics of other groups of images")
    if drops(build_task(recipe)):
        unlike.append("dropout and stochastic depth draw other masks")
    if isinstance(recipe, DenseRecipe) and isinstance(recipe.method, Detector):
        unlike.append("each process pads its images to the largest of another part of the batch")
    if not unlike:
        return ""
    return (
        f"The run began with {plural(before, 'process', 'processes')} and goes on with {world}: "
        f"{' and '.join(unlike)} from here on, so that it is not the same run bit for bit. Images, "
        "order and views are."
    )


def _open_again(run: Run, options: ResumeOptions) -> Images:
    # That images are broken now and were not says the fingerprint.
    images = replace(run.data.images, allow_broken=True)
    # A source may have got parts since: the run has test images of its own or had none then.
    own_test = run.data.own_test and "+" in run.description["data"]["fingerprint"]
    try:
        data = replace(run.data, images=images, own_test=own_test)
        return data.open(options.data, options.test, options.workers)
    except RunError as error:
        raise RunError(
            f"{run.path}: {error} In Python: coview.resume({str(run.path)!r}, data=...)."
        ) from error
    except (DataError, UnknownName) as error:
        raise RunError(
            f"{error} If the images have moved, say where they are by `data`."
        ) from error
