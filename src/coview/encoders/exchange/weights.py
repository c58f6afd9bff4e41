"""Strict loading of weights; the error lists missing, unexpected and differently shaped tensors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from coview.core.errors import DamagedFile, InvalidValue, RunError
from coview.core.files import digest, read_content, write_bytes
from coview.core.option_checks import require_network_at
from coview.core.paths import local_path, open_regular
from coview.core.places import Kind, place_of
from coview.core.run_folder import RunFolder, read_object
from coview.encoders.exchange.whole import whole_export
from coview.encoders.residual import Encoder
from coview.encoders.spec import EncoderSpec

MAX_SIDE = 16_384  # pixels of an image that an encoder takes
SHOWN_KEYS = 8  # in a message
CLASSIFIERS = ("fc", "classifier", "head", "heads", "head_dist")
PICKLED = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl", ".torch")


def load_weights(encoder: Encoder, source: str | Path) -> tuple[str, ...]:
    """Copy the weights in ``source`` into ``encoder``; returns the classifier's keys, not loaded.

    source: the folder of an export or a run, or a safetensors file with the keys of the network's
    own library, such as a torchvision state dict.
    Raises InvalidValue with the names of all missing, unexpected or differently shaped tensors (the
    encoder is then unchanged), DamagedFile if a hash does not match, RunError for a folder without
    an encoder.

    >>> import tempfile
    >>> from coview.encoders import export_encoder, resnet
    >>> one, other = (resnet(10, width=0.125, stem="small", seed=seed) for seed in (0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_weights(other, export_encoder(one, folder, image_size=8))
    ()
    >>> torch.equal(one.state_dict()["conv1.weight"], other.state_dict()["conv1.weight"])
    True
    """
    place = place_of(source)
    if place.is_folder:
        folder = find_export(place.path)
        require_same(EncoderSpec.from_json(read_config(folder)["spec"]), encoder.spec, folder)
        return load_state(encoder, read_export(folder), folder)
    return load_state(encoder, read_tensors(place.path), place.path)


def require_same(held: EncoderSpec, wanted: EncoderSpec, source: str | Path) -> None:
    """Raise InvalidValue where ``source`` holds weights of another network than ``wanted``."""
    if held.kind == wanted.kind and held.architecture() == wanted.architecture():
        return
    one, other = held.label(), wanted.label()
    if one == other and held.image_size != wanted.image_size:
        one, other = (f"{each.label()} at {each.image_size} px" for each in (held, wanted))
    raise InvalidValue(
        f"{source} holds {one}, which does not fit {other}; set `encoder` to that of the weights."
    )


def load_state(encoder: Encoder, tensors: Mapping[str, Tensor], source: Path) -> tuple[str, ...]:
    """Copy ``tensors`` into the encoder, strictly; returns the classifier's keys, not loaded."""
    shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
    classifier_keys = require_fitting(encoder, shapes, source)
    encoder.network.load_state_dict({key: tensors[key] for key in encoder.network.state_dict()})
    return classifier_keys


def require_fitting(
    encoder: Encoder, shapes: Mapping[str, list[int]], source: Path
) -> tuple[str, ...]:
    """The classifier's keys of weights of these ``shapes``. Raises InvalidValue where the others
    are not those of ``encoder``, which may be on the meta device."""
    state = {key: list(tensor.shape) for key, tensor in encoder.network.state_dict().items()}
    classifier_keys = [
        key for key in shapes if key not in state and key.split(".")[0] in CLASSIFIERS
    ]
    faults = {
        "missing": [key for key in state if key not in shapes],
        "unexpected": [key for key in shapes if key not in state and key not in classifier_keys],
        "differently shaped": [
            f"{key} {shapes[key]} instead of {state[key]}"
            for key in state
            if key in shapes and shapes[key] != state[key]
        ],
    }
    if any(faults.values()):
        details = "; ".join(f"{kind}: {join_names(keys)}" for kind, keys in faults.items() if keys)
        raise InvalidValue(
            f"The weights in {source} do not fit {encoder.spec.label()}; {details}. "
            "Nothing was loaded; set `encoder` to that of the weights."
        )
    return tuple(classifier_keys)


def join_names(keys: list[str]) -> str:
    """The first keys, and the number of the others."""
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return f"{', '.join(keys[:SHOWN_KEYS])}{more}"


def find_export(path: str | Path) -> Path:
    """``path`` or its encoder/, the one with an export. Raises RunError if neither has one."""
    place = place_of(path)
    require_network_at(place)
    for folder in map(whole_export, (place.path, RunFolder(place.path).encoder_path)):
        found = place_of(folder)
        if found.kind is Kind.UNREADABLE:
            raise RunError(f"{folder} cannot be read: {found.reason}.")
        if found.kind is Kind.EXPORT:
            return folder
    raise RunError(
        f"{path} holds no exported encoder: expected config.json and model.safetensors in it or "
        "in its folder encoder/; a run writes them when it ends or is stopped."
    )


class ClassifierConfig(TypedDict):
    layers: list[list[Any]]
    class_names: list[str]
    weights_hash: str


class _Config(TypedDict):
    spec: dict[str, Any]
    weights_hash: str
    features: int
    image_size: int
    mean: list[float] | None
    std: list[float] | None


class Config(_Config, total=False):
    """The fields of the config.json of an export by which it is loaded."""

    classifier: ClassifierConfig


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of an export. Raises DamagedFile for any other content."""
    path = folder / "config.json"
    config = read_object(path, Config)
    if config is None:
        raise DamagedFile(f"{path} is missing.")
    lengths = {len(config[name] or (0, 0, 0)) for name in ("mean", "std")}
    if lengths != {3} or not 1 <= config["image_size"] <= MAX_SIDE:
        raise DamagedFile(f"{path} is not the description of an encoder.")
    return config


def read_export(folder: Path) -> dict[str, Tensor]:
    """The tensors of an export. Raises DamagedFile if their hash is not the recorded one."""
    path = folder / "model.safetensors"
    content = read_content(path)
    if content is None:
        raise RunError(f"{folder} has no {path.name}.")
    actual, recorded = digest(content), read_config(folder)["weights_hash"]
    if actual != recorded:
        raise DamagedFile(
            f"{path} has hash {actual}, but {folder / 'config.json'} records {recorded}: "
            "the file was changed or cut short; export the encoder again."
        )
    return safetensors.torch.load(content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises as :func:`read_shapes`."""
    require_file(path)
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def read_shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of the tensors of a safetensors file, of its header alone.

    Raises InvalidValue for what is no such file, RunError where there is nothing, with a run that
    is near, or where it cannot be read, DamagedFile where the content is no such header.
    """
    require_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def require_file(path: Path) -> None:
    """Raise where ``path`` is no file of plain tensors, as :func:`read_shapes` does."""
    place = place_of(path)
    if place.kind is Kind.UNREADABLE:
        raise RunError(f"{path} cannot be read: {place.reason}.")
    if place.kind is Kind.MISSING and place.suffix not in (".safetensors", *PICKLED):
        require_network_at(place)
    if place.kind is not Kind.FILE:
        raise InvalidValue(f"There is no file {path} to load weights from.")
    if place.suffix in PICKLED:
        raise InvalidValue(
            f"{path} is a pickled checkpoint, which can run foreign code when it is read. "
            f"`coview import {path}` makes an encoder of its tensors alone; give that folder."
        )


def _unreadable(path: Path, error: Exception) -> DamagedFile:
    return DamagedFile(f"{path} is not a readable safetensors file ({error}).")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> str:
    """Write a safetensors file atomically; returns its hash. ``metadata`` are JSON values."""
    # One entry only: safetensors writes several in a random order, and equal weights must give
    # equal bytes.
    header = {"format": "pt"} if metadata is None else {"coview": json.dumps(metadata)}
    content = safetensors.torch.save(
        {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()},
        metadata=header,
    )
    write_bytes(path, content)
    return digest(content)


def convert_checkpoint(
    pickled: str | Path, to: str | Path, *, within: str | None = None, prefix: str = ""
) -> tuple[str, ...]:
    """Write the tensors of a torch checkpoint as a safetensors file; returns their names.

    within: the entry with the tensors ("state_dict", "model"). prefix: only the keys with this
    prefix, which is removed ("module.encoder_q."). Builds only tensors from the file; any other
    content raises InvalidValue.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"model": {"module.fc.bias": torch.zeros(3)}}, f"{folder}/old.pth")
    ...     convert_checkpoint(f"{folder}/old.pth", f"{folder}/new.safetensors", within="model",
    ...                        prefix="module.")
    ('fc.bias',)
    """
    try:
        with open_regular(local_path(pickled)) as stream:
            checkpoint = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InvalidValue(f"There is no checkpoint {pickled}.") from None
    except OSError as error:
        reason = error.strerror or error
        raise InvalidValue(f"The checkpoint {pickled} cannot be read: {reason}.") from None
    except Exception as error:
        raise InvalidValue(
            f"{pickled} holds more than plain tensors, so it is not read; save its state dict "
            "alone with the program that made it."
        ) from error
    source = f"{pickled}" if within is None else f"entry {within!r} of {pickled}"
    tensors = checkpoint if within is None else get_entry(checkpoint, within, pickled)
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        keys = list(tensors) if isinstance(tensors, Mapping) else []
        raise InvalidValue(
            f"The {source} is not a mapping from names to tensors; it has {join_names(keys)}. "
            "Set `within` to the entry with the tensors."
        )
    selected = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    if not selected:
        raise InvalidValue(
            f"No tensor in {source} has a name that begins with {prefix!r}; the names are "
            f"{join_names(list(tensors))}."
        )
    write_tensors(local_path(to), selected)
    return tuple(selected)


def get_entry(checkpoint: Any, name: str, pickled: str | Path) -> Any:
    """``checkpoint[name]``. Raises InvalidValue with the existing names."""
    keys: Iterable[Any] = checkpoint if isinstance(checkpoint, Mapping) else ()
    if name not in keys:
        raise InvalidValue(f"{pickled} has no entry {name!r}; it has {join_names(list(keys))}.")
    return checkpoint[name]
