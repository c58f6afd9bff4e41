"""Start from weights that exist: every tensor finds its place, or the error says which did not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from coview.core.errors import DamagedFile, InvalidValue, RunError
from coview.core.files import digest, read_json, write_bytes
from coview.core.run_folder import RunFolder
from coview.encoders.residual import Encoder
from coview.encoders.spec import EncoderSpec

CLASSIFIERS = ("fc", "classifier", "head", "heads", "head_dist")
PICKLED = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl")


def load_weights(encoder: Encoder, source: str | Path) -> tuple[str, ...]:
    """Copy the weights in ``source`` into ``encoder``; the classifier's keys, left out, come back.

    source: an exported encoder's folder, a run's folder (its encoder), or a safetensors file with
    the keys of the network's own library, such as a torchvision state dict.
    Raises InvalidValue naming every missing, unexpected or differently shaped tensor (the encoder
    is then unchanged), DamagedFile where a hash does not match, RunError for a folder without an
    encoder.
    """
    path = Path(source)
    if path.is_dir():
        folder = export_folder(path)
        spec = EncoderSpec.from_json(read_config(folder)["spec"])
        if spec.kind != encoder.spec.kind or spec.architecture() != encoder.spec.architecture():
            raise InvalidValue(
                f"{folder} holds {spec.label()}, which does not fit {encoder.spec.label()}: give "
                "the encoder that the weights are of (--encoder)."
            )
        return load_state(encoder, read_export(folder), folder)
    return load_state(encoder, read_tensors(path), path)


def load_state(encoder: Encoder, tensors: Mapping[str, Tensor], where: Path) -> tuple[str, ...]:
    """Copy ``tensors`` into the encoder, strictly but for a classifier's; the keys left out."""
    wanted = encoder.network.state_dict()
    left_out = [key for key in tensors if key not in wanted and key.split(".")[0] in CLASSIFIERS]
    faults = {
        "missing": [key for key in wanted if key not in tensors],
        "unexpected": [key for key in tensors if key not in wanted and key not in left_out],
        "differently shaped": [
            f"{key} {list(tensors[key].shape)} instead of {list(wanted[key].shape)}"
            for key in wanted
            if key in tensors and tensors[key].shape != wanted[key].shape
        ],
    }
    if any(faults.values()):
        said = "; ".join(f"{kind}: {listed(keys)}" for kind, keys in faults.items() if keys)
        raise InvalidValue(
            f"The weights in {where} do not fit {encoder.spec.label()}; {said}. "
            "Nothing was loaded; choose the encoder that these weights are of."
        )
    encoder.network.load_state_dict({key: tensors[key] for key in wanted})
    return tuple(left_out)


def listed(keys: list[str], most: int = 8) -> str:
    """The first keys, and how many more."""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{', '.join(keys[:most])}{more}"


def export_folder(path: Path) -> Path:
    """``path`` itself or its encoder/, whichever holds an export. Raises RunError for neither."""
    for folder in (path, RunFolder(path).encoder_path):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    raise RunError(
        f"{path} holds no exported encoder: expected config.json and model.safetensors in it or "
        "in its folder encoder/; a run writes them when it ends or is stopped."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of an export. Raises DamagedFile where it is not one."""
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or not {"spec", "weights_hash", "features"} <= set(config):
        raise DamagedFile(f"{folder / 'config.json'} is not the description of an encoder.")
    return config


def read_export(folder: Path) -> dict[str, Tensor]:
    """The tensors of an export whose hash is the recorded one; raises DamagedFile otherwise."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    found, recorded = digest(content), read_config(folder)["weights_hash"]
    if found != recorded:
        raise DamagedFile(
            f"{path} has hash {found}, but {folder / 'config.json'} records {recorded}: "
            "the file was changed or cut short; export the encoder again."
        )
    return safetensors.torch.load(content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    if not path.is_file():
        raise InvalidValue(f"There is no file {path} to load weights from.")
    if path.suffix in PICKLED:
        raise InvalidValue(
            f"{path} is a pickled checkpoint, which can run foreign code when it is read. Convert "
            "it once, tensors only: coview.encoders.convert_checkpoint"
            f"({path.name!r}, {path.with_suffix('.safetensors').name!r})."
        )
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise DamagedFile(f"{path} is not a readable safetensors file ({error}).") from error


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None
) -> str:
    """Write a safetensors file, whole or not at all; returns its hash. ``about`` is JSON."""
    # One entry only: safetensors writes several in a random order, and equal weights should
    # give equal bytes.
    metadata = {"format": "pt"} if about is None else {"coview": json.dumps(about)}
    content = safetensors.torch.save(
        {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()},
        metadata=metadata,
    )
    write_bytes(path, content)
    return digest(content)


def convert_checkpoint(
    pickled: str | Path, to: str | Path, *, within: str | None = None, prefix: str = ""
) -> tuple[str, ...]:
    """Write the tensors of a torch checkpoint as a safetensors file; returns their names.

    within: the entry that holds them ("state_dict", "model"). prefix: keep the keys that begin
    with it, without it ("module.encoder_q."). Nothing but tensors is ever built from the file:
    anything else in it raises InvalidValue.
    """
    try:
        found = torch.load(pickled, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InvalidValue(f"There is no checkpoint {pickled}.") from None
    except Exception as error:
        raise InvalidValue(
            f"{pickled} holds more than plain tensors, so it is not read; save its state dict "
            "alone with the program that made it."
        ) from error
    where = f"{pickled}" if within is None else f"entry {within!r} of {pickled}"
    tensors = found if within is None else entry(found, within, pickled)
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        keys = list(tensors) if isinstance(tensors, Mapping) else []
        raise InvalidValue(
            f"The {where} is not a mapping from names to tensors; it has {listed(keys)}. "
            "Name the entry that holds the tensors with within=."
        )
    kept = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    if not kept:
        raise InvalidValue(
            f"No tensor in {where} has a name that begins with {prefix!r}; they are "
            f"{listed(list(tensors))}."
        )
    write_tensors(Path(to), kept)
    return tuple(kept)


def entry(found: Any, name: str, pickled: str | Path) -> Any:
    """``found[name]``, or InvalidValue with the names that there are."""
    keys: Iterable[Any] = found if isinstance(found, Mapping) else ()
    if name not in keys:
        raise InvalidValue(f"{pickled} has no entry {name!r}; it has {listed(list(keys))}.")
    return found[name]
