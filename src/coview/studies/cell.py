"""A cell of a study: an ordinary run, in a folder that is named by what the run contains."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import get_num_threads

from coview.core.errors import InvalidValue, RunError, UnknownName
from coview.core.files import digest, exists, write_json
from coview.core.paths import absolute_path
from coview.core.run_folder import is_run, read_object
from coview.core.user_code import files_of
from coview.core.values import encode, fingerprint
from coview.encoders import EncoderSpec
from coview.encoders.exchange.weights import find_export, read_config
from coview.evaluation import PROTOCOLS
from coview.recipes import Recipe, recipe
from coview.runs.detect import detect
from coview.runs.distill import distill
from coview.runs.evaluate import evaluate
from coview.runs.finetune import finetune
from coview.runs.pretrain import pretrain
from coview.runs.protocols import needed
from coview.runs.resume import resume
from coview.runs.run import Run
from coview.studies.tuning import on_training_part, pretrain_best
from coview.training import choose_device

KEY_LETTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """A run that is there already, in place of a cell: its folder, and the hash of its weights."""

    path: str
    hash: str

    @classmethod
    def at(cls, path: str | Path) -> Existing:
        """Raises RunError where there is no run, or one that has not ended."""
        run = Run.open(path)
        if not run.is_ended:
            raise RunError(
                f"{run.path} has not ended; go on with {run.command('resume')} first, or give "
                "another run."
            )
        weights = str(read_config(find_export(run.path))["weights_hash"])
        return cls(path=str(absolute_path(run.path)), hash=weights)

    @property
    def key(self) -> str:
        return self.hash

    def folder(self, root: Path) -> Path:
        return Path(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much a cell trains: ``passes`` of ``recipe`` over ``share`` of the images.

    ``teacher``: the encoder of the network whose classes a student learns.
    """

    recipe: Recipe
    passes: float
    share: float = 1.0
    teacher: EncoderSpec | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: the ``verb`` that makes it and the ``settings`` of that verb.

    A setting may be another cell, which stands for the folder of its run. ``name`` is for people.
    Equal verbs and settings are the same run, so that studies in one folder share it. ``work`` is
    what the estimate of time is made of.

    ``protocols`` judge the run when it has ended, with the settings ``judged`` of `evaluate`; their
    names are not in the key, as studies that ask different questions share the training. ``more``
    names further images that some protocols need, as outliers; they are not in the key either, and
    with others those protocols judge the run again.
    ``follow`` are those of the protocols that judge every kept checkpoint as well (`keep_every`).
    ``validates``: it is judged on a fifth of the training images, for a choice between runs.
    Raises UnknownName for a protocol, InvalidValue for one whose further images are not in
    ``more``: before anything is trained.

    >>> first = Cell(name="pretraining", verb="pretrain", settings=(("data", "scenes"),))
    >>> tuned = Cell(name="1 %", verb="finetune", settings=(("start", first), ("data", "scenes")))
    >>> other = Cell(name="one in a hundred", verb="finetune", settings=tuned.settings)
    >>> tuned.key == other.key, tuned.key == first.key, len(tuned.key)
    (True, False, 12)
    """

    name: str
    verb: str
    settings: tuple[tuple[str, Any], ...]
    work: tuple[Work, ...] = ()
    protocols: tuple[str, ...] = ()
    judged: tuple[tuple[str, Any], ...] = ()
    more: tuple[tuple[str, Any], ...] = ()
    follow: tuple[str, ...] = ()
    validates: bool = False

    def __post_init__(self) -> None:
        given = dict(self.more)
        for name in (*self.protocols, *self.follow):
            if name not in PROTOCOLS:
                raise UnknownName("protocol", name, PROTOCOLS)
            for option in needed(PROTOCOLS[name]):
                if not given.get(option):
                    raise InvalidValue(
                        f"The protocol {name!r} needs further images, `{option}`, which the runs "
                        "are not judged with; leave it out, or evaluate the runs by it afterwards."
                    )

    @cached_property
    def key(self) -> str:
        """The hash of verb and settings, with those of the cells among them.

        The name of a recipe counts as all its numbers, which another version may have changed, and
        a class of a file of the user as the hash of the file, whose code it is.
        """
        settings = {
            name: value.key if isinstance(value, Cell | Existing) else encode(value)
            for name, value in self.settings
        }
        name, files = settings.get("recipe"), files_of(self.settings)
        if isinstance(name, str):
            named = recipe(name)
            settings["recipe"] = [name, fingerprint(named)]
            files += files_of(named)
        hashes = sorted({file["hash"] for file in files})
        content = json.dumps(
            [
                self.verb, settings, *([encode(self.judged)] if self.judged else []),
                *(["validates"] if self.validates else []),
                *([{"files": hashes}] if hashes else []),
            ],
            sort_keys=True, allow_nan=False,
        )  # fmt: skip
        return digest(content.encode())[:KEY_LETTERS]

    def folder(self, root: Path) -> Path:
        """The folder of the run, below that of the study."""
        return root / f"{self.verb}-{self.key}"

    def run(self, root: Path) -> Run:
        """The run of this cell, which may not exist yet."""
        return Run(self.folder(root))

    @property
    def needs(self) -> tuple[Cell, ...]:
        """The cells that must have ended before this one begins."""
        return tuple(value for _, value in self.settings if isinstance(value, Cell))

    def is_ended(self, root: Path) -> bool:
        """Whether the run has ended and every protocol has judged it."""
        return self.is_trained(root) and not self.missing(root) and not self.unfollowed(root)

    def is_trained(self, root: Path) -> bool:
        folder = self.folder(root)
        return is_run(folder) and Run(folder).is_ended

    def missing(self, root: Path) -> tuple[str, ...]:
        """The protocols that have not judged the run yet; none where it has left no encoder, as its
        features are not finite. Such a run has no figures, and its study goes on without them."""
        run = self.run(root)
        if run.is_ended and not exists(run.encoder_path):
            return ()
        judged_with = self.took(root).get("more", {}) if self.more else {}
        return tuple(
            name
            for name in self.protocols
            if not exists(run.evaluation_path / f"{name}.json")
            or judged_with.get(name) != self._more_of(name)
        )

    def unfollowed(self, root: Path) -> tuple[int, ...]:
        """The steps of the kept checkpoints of an ended run that ``follow`` has not judged yet."""
        run = self.run(root)
        if not self.follow or not exists(run.encoder_path):
            return ()
        every = dict(self.settings)["keep_every"] * run.description["steps_per_epoch"]
        return tuple(
            step
            for step in range(every, run.last_step, every)
            if not all(exists(run.evaluation_of(step) / f"{name}.json") for name in self.follow)
        )

    def _more_of(self, protocol: str) -> Any:
        """``more`` as JSON has it; None where ``protocol`` needs none."""
        return encode(self.more) if self.more and PROTOCOLS[protocol].needs else None

    def train(self, root: Path, machine: Mapping[str, Any]) -> Run:
        """The run, begun or gone on with, and judged; it may have been stopped again.

        ``machine``: device, workers and loggers, which do not change what is computed.
        """
        # Of a run that was begun in another way it is not known how long it took.
        before = self.took(root).get("seconds") if is_run(self.folder(root)) else 0.0
        began = time.monotonic()
        try:
            return self._train_and_judge(root, machine)
        finally:
            if before is not None and is_run(self.folder(root)):
                passed = time.monotonic() - began
                device = choose_device(machine.get("device", "auto")).type
                self._keep(root, seconds=before + passed, device=device, threads=get_num_threads())

    def took(self, root: Path) -> dict[str, Any]:
        """The "seconds" of the run so far, with opening images and evaluation, and the "device" and
        number of "threads" that it had; "more": the further images by the protocol that judged
        with them. {} where this is not known."""
        return read_object(self.run(root).cell_path) or {}

    def _keep(self, root: Path, **facts: Any) -> None:
        write_json(self.run(root).cell_path, {**self.took(root), **facts})

    def _train_and_judge(self, root: Path, machine: Mapping[str, Any]) -> Run:
        run = self._trained(root, machine)
        if not run.is_ended:
            return run
        settings: dict[str, Any] = {"no_baselines": True, "device": machine.get("device", "auto")}
        settings |= on_training_part(dict(self.judged)) if self.validates else dict(self.judged)
        for step in self.unfollowed(root):
            evaluate(run.path, **settings, protocols=self.follow, checkpoint=step)
        missing = self.missing(root)
        if missing:
            evaluate(run.path, **settings, **dict(self.more), protocols=missing)
            if self.more:
                judged_with = {name: self._more_of(name) for name in missing}
                self._keep(root, more={**self.took(root).get("more", {}), **judged_with})
        return run

    def _trained(self, root: Path, machine: Mapping[str, Any]) -> Run:
        folder = self.folder(root)
        if is_run(folder):
            run = Run(folder)
            return run if run.is_ended else resume(folder, **machine)
        settings = {
            name: value.folder(root) if isinstance(value, Cell | Existing) else value
            for name, value in self.settings
        }
        begun = VERBS[self.verb](**settings, **machine, out=folder)
        assert isinstance(begun, Run)
        return begun


VERBS: Mapping[str, Any] = {
    "pretrain": pretrain, "pretrain_best": pretrain_best, "finetune": finetune, "distill": distill,
    "detect": detect,
}  # fmt: skip
"""What a cell can be. Their runs have the same folder, are resumed by one function, and end."""
