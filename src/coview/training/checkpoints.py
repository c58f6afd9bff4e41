"""Atomic checkpoints with a hash per tensor.

A checkpoint of step 40 is a folder:

    step-00000040/
      state.safetensors    every tensor
      manifest.json        schema, step, meta; shape, type and hash of each tensor; length and hash
                           of each file
      END                  the hash of manifest.json, written last

It is written under a temporary name, synced, and renamed. An old checkpoint is renamed, and the
rename synced, before its files are deleted. After a crash or power failure at any moment every
folder called step-* is therefore complete, and the previous checkpoint still exists.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from coview.core.errors import CoviewError, DamagedFile
from coview.core.files import (
    digest,
    entries,
    exists,
    read_errors,
    storage_errors,
    sync_folder,
)
from coview.core.paths import open_regular
from coview.core.run_folder import CHECKPOINT_END as END
from coview.core.run_folder import STEP, step_name, steps_named
from coview.core.tensors import tensor_hash

SCHEMA = 1
KEEP = 2  # checkpoints
STATE, MANIFEST = "state.safetensors", "manifest.json"
# Errors of a file that is lost. Any other error may pass: a checkpoint that one may not read today
# is not damaged, and must not be replaced by an older one.
LOST = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """The state after ``step`` steps, and a sentence for each later checkpoint that is damaged."""

    step: int
    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]
    damaged: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints in one folder; kept are the last two, and of every ``keep_every``-th step.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     _ = checkpoints.save(40, {"weight": torch.ones(2)}, {"note": "example"})
    ...     checkpoints.load_latest().tensors
    {'weight': tensor([1., 1.])}
    """

    def __init__(self, folder: str | Path, keep_every: int | None = None) -> None:
        self.folder, self.keep_every = Path(folder), keep_every

    def steps(self) -> list[int]:
        """The steps of all checkpoints in the folder, damaged ones included, in order."""
        return steps_named(entries(self.folder))

    def path(self, step: int) -> Path:
        return self.folder / step_name(step)

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> Path:
        """Write the state after ``step`` steps and delete the checkpoints that are not kept.

        ``meta`` is a JSON object. An intact checkpoint of that step is not rewritten. Checkpoints
        of later steps are deleted: a run that resumed from here could not read them. Raises
        StorageError, which leaves the previous checkpoints intact.
        """
        path = self.path(step)
        with storage_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.sweep()
        with storage_errors(path):
            if not self._is_intact(step):
                self._discard([path] if exists(path) else [])
                self._write(path, step, tensors, meta)
            steps = self.steps()
            past = [s for s in steps if s <= step]
            keep = {
                *past[-KEEP:],
                *(s for s in past if self.keep_every and not s % self.keep_every),
            }
            self._discard([self.path(s) for s in steps if s not in keep])
        return path

    def load_latest(self) -> Checkpoint | None:
        """The newest checkpoint with correct hashes; None where there is no checkpoint.

        ``Checkpoint.damaged`` describes the newer ones. Raises DamagedFile where all are damaged,
        UnreadableFile where one may not be read.
        """
        damaged: list[str] = []
        for step in reversed(self.steps()):
            try:
                tensors, meta = read(self.path(step), step)
            except DamagedFile as error:
                if not exists(self.path(step)):  # deleted meanwhile, by the process that trains
                    return self.load_latest()
                damaged.append(str(error))
            else:
                return Checkpoint(step=step, tensors=tensors, meta=meta, damaged=tuple(damaged))
        if damaged:
            raise DamagedFile(
                f"No checkpoint in {self.folder} can be used: {' '.join(damaged)} "
                "Restore one from a copy, or start a new run."
            )
        return None

    def load(self, step: int) -> Checkpoint:
        """The checkpoint of ``step``. Raises DamagedFile where it is not there or not intact."""
        tensors, meta = read(self.path(step), step)
        return Checkpoint(step=step, tensors=tensors, meta=meta)

    def _is_intact(self, step: int) -> bool:
        try:
            read(self.path(step), step)
        except DamagedFile:
            return False
        return True

    def _write(
        self, path: Path, step: int, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]
    ) -> None:
        from safetensors.torch import save

        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        state = save(flat)
        manifest = {
            "schema": SCHEMA,
            "step": step,
            "meta": dict(meta),
            "tensors": {name: describe(tensor) for name, tensor in flat.items()},
            "files": {STATE: {"bytes": len(state), "hash": digest(state)}},
        }
        content = json.dumps(manifest, indent=1, allow_nan=False).encode()
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.mkdir()
            write_durably(temporary / STATE, state)
            write_durably(temporary / MANIFEST, content)
            write_durably(temporary / END, digest(content).encode())
            sync_folder(temporary)
            temporary.rename(path)
            sync_folder(self.folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _discard(self, paths: list[Path]) -> None:
        """Delete folders; after a crash none is half deleted under its own name."""
        trash = [path.rename(path.with_name(f".trash-{path.name}")) for path in paths]
        if trash:
            sync_folder(self.folder)
        for path in trash:
            shutil.rmtree(path)

    def sweep(self) -> None:
        """Delete the temporary folders of an interrupted write or deletion. Raises StorageError."""
        for name in entries(self.folder):
            if fnmatch(name, f".{STEP}*.tmp") or name.startswith(".trash-"):
                with storage_errors(self.folder / name):
                    shutil.rmtree(self.folder / name)


def read(path: Path, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and meta of one checkpoint.

    Raises DamagedFile for any defect, UnreadableFile where it may not be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = _read(path / MANIFEST)
        if _read(path / END) != digest(content).encode():
            raise DamagedFile(f"{path / MANIFEST} does not match the hash in {path / END}.")
        manifest = json.loads(content)
        if manifest["schema"] != SCHEMA or manifest["step"] != step:
            raise DamagedFile(
                f"{path / MANIFEST} is of schema {manifest['schema']}, step {manifest['step']}; "
                f"expected schema {SCHEMA}, step {step}."
            )
        state = _read(path / STATE)
        if manifest["files"][STATE] != {"bytes": len(state), "hash": digest(state)}:
            raise DamagedFile(f"{path / STATE} does not match its length and hash.")
        tensors = load(state)
        if manifest["tensors"] != {name: describe(tensor) for name, tensor in tensors.items()}:
            raise DamagedFile(f"{path / STATE} holds other tensors than its manifest lists.")
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, CoviewError):
            raise
        raise DamagedFile(f"{path} cannot be read as a checkpoint ({error}).") from error
    return tensors, manifest["meta"]


def _read(path: Path) -> bytes:
    with read_errors(path):
        try:
            with open_regular(path) as stream:
                return stream.read()
        except OSError as error:
            if error.errno in LOST:
                raise DamagedFile(f"{path} cannot be read ({error.strerror}).") from error
            raise


def describe(tensor: torch.Tensor) -> dict[str, Any]:
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"shape": list(tensor.shape), "dtype": kind, "hash": tensor_hash(tensor)}


def write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
