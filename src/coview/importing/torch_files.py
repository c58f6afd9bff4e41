"""Torch files without foreign code: tensors are built, every other object is an inert placeholder.

A pickle names functions and calls them. torch's weights-only reader builds tensors and plain
containers and refuses every other name. Here each of these names leads to a :class:`Placeholder`,
which keeps what it is given and does nothing. So the argparse.Namespace in a SupContrast file or
the configuration in one of VISSL is in nobody's way, and nothing of the file is executed.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch

from coview.core.errors import InvalidValue
from coview.core.paths import open_regular
from coview.core.places import Kind, place_of

PICKLE = "data.pkl"
LARGEST_PICKLE = 1 << 28
LONGEST_REASON = 150
"""Bytes. The tensors of a torch file lie outside its pickle, which takes kilobytes to megabytes."""
LEGACY_PICKLES = 4
"""Before torch 1.6 a file begins with this number of pickles; the last one is the content."""


class Placeholder:
    """An object of another program: its class by name, and what the file says of its content.

    >>> placeholder("argparse.Namespace")().origin
    'argparse.Namespace'
    """

    origin = ""

    def __new__(cls, *content: Any) -> Any:
        made = super().__new__(cls)
        made.content = list(content)
        return made

    def __init__(self, *content: Any) -> None:
        self.content: list[Any] = list(content)

    def __setstate__(self, state: Any) -> None:
        self.content.append(state)

    def field(self, name: str) -> Any:
        """The value that the file gives the object under ``name``; None if there is none."""
        for part in self.content:
            if isinstance(part, Mapping) and name in part:
                return part[name]
        return None


class MappingPlaceholder(Placeholder):
    """For a kind of dict, whose entries the reader puts into an OrderedDict only."""

    def __new__(cls, *content: Any) -> Any:
        return OrderedDict()


def placeholder(name: str) -> type[Placeholder]:
    """The class that stands for the class or function ``name``, as "argparse.Namespace"."""
    base = MappingPlaceholder if name.lower().endswith("dict") else Placeholder
    return type("Placeholder", (base,), {"origin": name})


def read_torch_file(path: Path) -> Any:
    """The content of a torch or safetensors file: containers, numbers, texts, tensors on the CPU.

    Raises InvalidValue for a file that is neither, or that needs its code to be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"opt": Path("x"), "model": torch.ones(2)}, f"{folder}/a.pth")
    ...     read_torch_file(Path(folder) / "a.pth")["model"]
    tensor([1., 1.])
    """
    place = place_of(path)
    if place.kind is not Kind.FILE:
        what = {Kind.MISSING: "is missing", Kind.UNREADABLE: f"cannot be read: {place.reason}"}
        raise InvalidValue(
            f"{path} {what.get(place.kind, 'is not a file')}; expected a checkpoint."
        )
    try:
        if place.suffix == ".safetensors":
            return safetensors.torch.load_file(place.path)
        with open_regular(place.path) as stream:
            check_pickles(stream, path)
            names = global_names(stream)
            stream.seek(0)
            stand_ins: list[Any] = [(placeholder(name), name) for name in names]
            with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(stream, map_location="cpu", weights_only=True)
    except InvalidValue:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        raise InvalidValue(
            f"{path} is no torch or safetensors file that can be read without running its code "
            f"({type(error).__name__}: {reason}). Save its state dict alone, tensors only, with "
            "the program that made it."
        ) from error


def check_pickles(stream: BinaryIO, path: Path) -> None:
    """Raise InvalidValue for a torch file whose pickle unpacks to more than ``LARGEST_PICKLE``."""
    if not zipfile.is_zipfile(stream):
        return
    with zipfile.ZipFile(stream) as archive:
        sizes = [part.file_size for part in archive.infolist() if part.filename.endswith(PICKLE)]
    if sum(sizes) > LARGEST_PICKLE:
        raise InvalidValue(
            f"The objects around the tensors in {path} take {sum(sizes)} bytes; expected at most "
            f"{LARGEST_PICKLE}. Save its state dict alone, with the program that made it."
        )


def global_names(stream: BinaryIO) -> list[str]:
    """The classes and functions that the pickles of a torch file name; none is looked up."""
    names: set[str] = set()
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            for member in archive.namelist():
                if member.endswith(PICKLE):
                    names |= _names_in(archive.read(member))
    else:
        stream.seek(0)
        for _ in range(LEGACY_PICKLES):
            names |= _names_in(stream)
    return sorted(names)


def _names_in(pickled: bytes | BinaryIO) -> set[str]:
    try:
        operations = pickletools.genops(pickled)
        return {
            str(argument).replace(" ", ".", 1)
            for operation, argument, _ in operations
            if operation.name == "GLOBAL"
        }
    except ValueError:  # no pickle: the reader says so
        return set()


def origins(content: Any, depth: int = 0) -> set[str]:
    """The classes that placeholders stand for, in ``content``.

    >>> sorted(origins({"a": [placeholder("omegaconf.base.Node")()]}))
    ['omegaconf.base.Node']
    """
    if isinstance(content, Placeholder):
        return {content.origin}
    parts: list[Any] = []
    if isinstance(content, dict):
        parts = list(content.values())
    elif isinstance(content, list | tuple):
        parts = list(content)
    found: set[str] = set()
    for part in parts if depth < 20 else ():
        found |= origins(part, depth + 1)
    return found
