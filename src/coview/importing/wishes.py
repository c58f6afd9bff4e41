"""What the user says of a checkpoint beside its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from coview.core.errors import InvalidValue
from coview.encoders import EncoderSpec
from coview.encoders.exchange.normalization import Normalization


class TimmConfig(TypedDict):
    """The field of a config.json beside weights of timm that names their network.

    ``pretrained_cfg`` has mean, std, input_size and tag; older files have them beside the name.
    """

    architecture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A normalization that the user has said; ``value`` None is images in [0, 1] as they are."""

    value: Normalization | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Everything that the file itself need not say. None leaves it to the file.

    kind: a name of ``KINDS``. encoder: the network. size: side of the training images in pixels.
    normalization: of the training images. sha256: the beginning of the file's hash.
    """

    kind: str | None = None
    encoder: EncoderSpec | None = None
    size: int | None = None
    normalization: Told | None = None
    sha256: str | None = None


def read_normalization(mean: str | None, std: str | None) -> Told | None:
    """(mean, std) of three numbers each, "none" for images as they are; None where nothing is said.

    Raises InvalidValue.

    >>> read_normalization("0.5,0.5,0.5", "0.25,0.25,0.25").value[1]
    (0.25, 0.25, 0.25)
    >>> read_normalization("none", None).value is None
    True
    """
    if mean is None and std is None:
        return None
    if mean == "none" and std in (None, "none"):
        return Told(value=None)
    values = []
    for name, text in (("mean", mean), ("std", std)):
        try:
            numbers = tuple(float(part) for part in (text or "").split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != 3 or (name == "std" and min(numbers) <= 0):
            raise InvalidValue(
                f"`{name}` is {text!r}; expected three numbers as 0.485,0.456,0.406 for both "
                "`mean` and `std`, or `mean` none for images that stay in [0, 1]."
            )
        values.append((numbers[0], numbers[1], numbers[2]))
    return Told(value=(values[0], values[1]))
