"""Checkpoints that are whole or absent, and that say so when a bit of them has changed.

A checkpoint of step 40 is a folder:

    step-00000040/
      state.safetensors    every tensor
      manifest.json        schema, step, meta; shape, type and hash of each tensor; length and hash
                           of each file
      END                  the hash of manifest.json, written last

It is written under a temporary name, made durable, and renamed into place; old ones are renamed
away, durably, before anything in them is deleted. So whatever instant the process, or the power,
ends at, every folder that is called step-* is complete, and the last one before is still there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coview.core.errors import CoviewError, DamagedFile
from coview.core.files import digest, storage_errors, sync_folder

SCHEMA = 1
KEPT = 2
STATE, MANIFEST, END = "state.safetensors", "manifest.json", "END"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """The state after ``step`` steps, and a sentence for each later one that was damaged."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    damaged: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints in one folder, of which the last two are kept."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def steps(self) -> list[int]:
        """The steps of all checkpoints in the folder, damaged ones included, in order."""
        found = [path.name.removeprefix("step-") for path in self.folder.glob("step-*")]
        return sorted(int(step) for step in found if step.isdecimal())

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Path:
        """Write the state after ``step`` steps and let go of all but the last two.

        ``meta`` is a JSON object. A sound checkpoint of that step is left as it is. Those of
        later steps, which a run that came back to here could not read, are let go of. Raises
        StorageError, after which the checkpoints from before are still there.
        """
        path = self.path(step)
        with storage_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            if not self._is_sound(step):
                self._discard([path] if path.exists() else [])
                self._write(path, step, tensors, meta)
            steps = self.steps()
            kept = [s for s in steps if s <= step][-KEPT:]
            self._discard([self.path(s) for s in steps if s not in kept])
        return path

    def load_latest(self) -> Checkpoint | None:
        """The newest checkpoint all of whose hashes are right; None where there is none at all.

        ``Checkpoint.damaged`` names the newer ones that were passed over. Raises DamagedFile where
        there are checkpoints and all are damaged.
        """
        damaged: list[str] = []
        for step in reversed(self.steps()):
            try:
                tensors, meta = read(self.path(step), step)
            except DamagedFile as error:
                damaged.append(str(error))
            else:
                return Checkpoint(step=step, tensors=tensors, meta=meta, damaged=tuple(damaged))
        if damaged:
            raise DamagedFile(
                f"No checkpoint in {self.folder} can be used: {' '.join(damaged)} "
                "Restore one from a copy, or start the run anew."
            )
        return None

    def _is_sound(self, step: int) -> bool:
        try:
            read(self.path(step), step)
        except DamagedFile:
            return False
        return True

    def _write(
        self, path: Path, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
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
        """Delete folders so that no crash leaves one half deleted under its own name."""
        trash = [path.rename(path.with_name(f".trash-{path.name}")) for path in paths]
        if trash:
            sync_folder(self.folder)
        for path in trash:
            shutil.rmtree(path)

    def _sweep(self) -> None:
        """Delete what a crash has left of unfinished writes and deletions."""
        for pattern in (".step-*.tmp", ".trash-*"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path)


def read(path: Path, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and meta of one checkpoint. Raises DamagedFile for whatever is wrong with it."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = (path / MANIFEST).read_bytes()
        if (path / END).read_bytes() != digest(content).encode():
            raise DamagedFile(f"{path / MANIFEST} does not match the hash in {path / END}.")
        manifest = json.loads(content)
        if manifest["schema"] != SCHEMA or manifest["step"] != step:
            raise DamagedFile(
                f"{path / MANIFEST} is of schema {manifest['schema']}, step {manifest['step']}; "
                f"expected schema {SCHEMA}, step {step}."
            )
        state = (path / STATE).read_bytes()
        if manifest["files"][STATE] != {"bytes": len(state), "hash": digest(state)}:
            raise DamagedFile(f"{path / STATE} does not match its length and hash.")
        tensors = load(state)
        if manifest["tensors"] != {name: describe(tensor) for name, tensor in tensors.items()}:
            raise DamagedFile(f"{path / STATE} holds other tensors than its manifest lists.")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, CoviewError):
            raise
        raise DamagedFile(f"{path} cannot be read as a checkpoint ({error}).") from error
    return tensors, manifest["meta"]


def describe(tensor: Tensor) -> dict[str, Any]:
    """Shape, type and hash of a tensor's bytes."""
    content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"shape": list(tensor.shape), "dtype": kind, "hash": digest(content)}


def write_durably(path: Path, content: bytes) -> None:
    """A new file whose content is on the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
