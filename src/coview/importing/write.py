"""From a checkpoint of another program to an exported folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coview.core.errors import InvalidValue
from coview.core.paths import local_path, open_regular
from coview.core.text import plural
from coview.encoders.exchange.classifier import export_classifier
from coview.encoders.exchange.export import export_encoder
from coview.encoders.exchange.head import export_head
from coview.encoders.exchange.loading import empty_encoder
from coview.encoders.exchange.weights import join_names, load_state
from coview.importing.bundle import data_files
from coview.importing.found import Found, find
from coview.importing.simclr import find_simclr, prefix_of
from coview.importing.torch_files import read_torch_file
from coview.importing.wishes import Wishes

HASHED_AT_ONCE = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The folder that was written, and in words what was found."""

    folder: Path
    kind: str
    sentences: tuple[str, ...]


def import_network(path: str | Path, folder: str | Path, wishes: Wishes | None = None) -> Imported:
    """Write the network of the checkpoint ``path`` into ``folder`` as an exported encoder.

    Its projection head and its classifier come along where it has them. No code of the file is
    executed. Raises InvalidValue for a file that is not understood to its last tensor, and
    UnknownName; nothing is written then.

    >>> import tempfile
    >>> import torch
    >>> from torchvision.models import resnet18
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(resnet18(num_classes=3).state_dict(), f"{folder}/resnet18.pth")
    ...     imported = import_network(f"{folder}/resnet18.pth", f"{folder}/encoder")
    ...     print(imported.sentences[0])
    resnet18.pth is a checkpoint of torchvision: ResNet-18, h of 512 values, a classifier of 3 classes.
    """  # noqa: E501
    path, folder, wishes = local_path(path), local_path(folder), wishes or Wishes()
    prefix = prefix_of(path)
    if prefix is not None:
        _refuse_wishes_for_tensorflow(wishes)
        parts = [prefix.with_name(f"{prefix.name}.index"), *data_files(prefix)]
        files = {part.name: hash_file(part) for part in parts}
        check_hash(files, wishes.sha256)
        return write_found(find_simclr(prefix, wishes), prefix, folder, files)
    if wishes.kind == "simclr":
        raise InvalidValue(f"{path} is no checkpoint of TensorFlow; expected its .index file.")
    content = read_torch_file(path)
    files = {path.name: hash_file(path)}
    check_hash(files, wishes.sha256)
    return write_found(find(content, path, wishes), path, folder, files)


def _refuse_wishes_for_tensorflow(wishes: Wishes) -> None:
    if wishes.kind not in (None, "simclr") or wishes.encoder is not None:
        raise InvalidValue(
            "A checkpoint of TensorFlow is read as one of the official SimCLR, and its variables "
            "say the network: leave out `kind` and `encoder`."
        )


def write_found(found: Found, path: Path, folder: Path, files: dict[str, str]) -> Imported:
    """Write what was found; ``files``: name -> SHA-256 of what was read."""
    head = {} if found.head is None else found.head[1]
    classifier = {} if found.classifier is None else found.classifier.state_dict()
    parts = {"head": head, "classifier": classifier}
    named = {f"{part}.{name}": t for part, state in parts.items() for name, t in state.items()}
    check_finite({**found.encoder, **named}, path)
    encoder = empty_encoder(found.spec)
    load_state(encoder, found.encoder, path)
    mean, std = found.normalization or (None, None)
    export_encoder(
        encoder.eval(), folder, image_size=found.image_size, mean=mean, std=std,
        metadata=metadata_of(found, path, files),
    )  # fmt: skip
    if found.head is not None:
        spec, tensors = found.head
        export_head(folder, spec.to_json(), tensors)
    if found.classifier is not None:
        last = found.classifier[-1]
        assert isinstance(last, nn.Linear)
        names = [str(number) for number in range(last.out_features)]
        export_classifier(folder, found.classifier, names)
    return Imported(
        folder=folder, kind=found.kind, sentences=tuple(sentences_of(found, path, encoder.features))
    )


def metadata_of(found: Found, path: Path, files: dict[str, str]) -> dict[str, Any]:
    """What config.json and the model card say of where the weights come from."""
    return {
        "imported": {
            "from": found.title,
            "kind": found.kind,
            "file": path.name,
            "sha256": files,
            "tensors": found.tensors,
            "left_out": found.left_out,
            "notes": found.notes,
        },
        "license": found.license or "not known",
    }


def sentences_of(found: Found, path: Path, features: int) -> list[str]:
    """What is said to the user: the kind and its parts, what was left out, what to check."""
    parts = [found.spec.label(), f"h of {features} values"]
    if found.head is not None:
        parts.append(f"a projection head ({found.head[0].label()})")
    if found.classifier is not None:
        last = found.classifier[-1]
        assert isinstance(last, nn.Linear)
        parts.append(f"a classifier of {last.out_features} classes")
    sentences = [f"{path.name} is a checkpoint of {found.title}: {', '.join(parts)}."]
    sentences += [
        f"Left out: {what} ({plural(count, 'tensor')})." for what, count in found.left_out.items()
    ]
    mean = None if found.normalization is None else list(found.normalization[0])
    normalized = "no mean or std" if mean is None else f"mean {mean}, std {list(_std(found))}"
    sentences.append(
        f"It takes images in [0, 1] of {found.image_size} pixels, normalized with {normalized}."
    )
    if found.license is not None:
        sentences.append(f"License of the original: {found.license}.")
    return [*sentences, *found.notes]


def _std(found: Found) -> tuple[float, float, float]:
    assert found.normalization is not None
    return found.normalization[1]


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise InvalidValue for a tensor that holds NaN or infinity."""
    wrong = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if wrong:
        raise InvalidValue(
            f"{path} holds NaN or infinity in {join_names(wrong)}: the training diverged, or the "
            "file is damaged. Nothing was imported."
        )


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while part := stream.read(HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


def check_hash(files: dict[str, str], expected: str | None) -> None:
    """Raise InvalidValue unless the hash of one of the files begins with ``expected``."""
    if expected is None:
        return
    if not any(value.startswith(expected.lower()) for value in files.values()):
        found = ", ".join(f"that of {name} is {value}" for name, value in files.items())
        raise InvalidValue(
            f"`sha256` is {expected}, but {found}: this is another file, or it was cut short. "
            " Nothing was imported."
        )
