"""An encoder as a value, in recipes and in files, and its short names."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from coview.core.errors import InvalidValue, UnknownName
from coview.core.values import decode_one, encode
from coview.encoders.adapters import build_timm, build_torchvision
from coview.encoders.initialize import initialize
from coview.encoders.own import FILE, build_own, file_and_hash
from coview.encoders.residual import BASIC, BOTTLENECK, Encoder, ResNet, base_channels

DEPTHS = (*BASIC, *BOTTLENECK)
CHOICES = {
    "kind": ("resnet", "torchvision", "timm", "module"),
    "depth": DEPTHS,
    "stem": ("large", "medium", "small", "padded"),
    "init": ("fan-out", "fan-in"),
    "norm": ("batch", "group"),
}

SHORT = re.compile(
    r"resnet(?P<depth>\d+)(?:x(?P<times>\d+(?:\.\d+)?)|/(?P<part>\d+))?"
    r"(?P<marks>(?:-small|-medium|-padded|\+sk|\+projection|\+tf|\+same|\+gn)*)"
)
MARKS: dict[str, dict[str, Any]] = {
    "-small": {"stem": "small"},
    "-medium": {"stem": "medium"},
    "-padded": {"stem": "padded"},
    "+sk": {"selective_kernels": True},
    "+projection": {"projection_in_first_group": True},
    "+tf": {"same_padding": True},
    "+same": {"same_padding": True, "same_convolutions": True},
    "+gn": {"norm": "group"},
}

MIN_GROUP_CHANNELS = 4  # a standardized 1x1 filter over fewer is little more than a sign


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Which network turns images into features.

    kind "resnet": our own, described by the fields from ``depth`` on (see ``ResNet`` and
    ``initialize``). kind "torchvision" or "timm": the library's model ``name``, randomly
    initialized and without its classifier. kind "module": the user's own, FILE.py:NAME with the
    hash of the file, or one of Python (see ``remember_module``). Of these kinds ``image_size`` is
    the side of the images, where the network has one size; the other fields keep their defaults.
    Raises InvalidValue for a value outside its range or for fields that contradict each other.

    >>> EncoderSpec(depth=18, width=0.25, stem="small").label()
    'ResNet-18 width 1/4, small stem'
    """

    kind: str = "resnet"
    name: str | None = None
    depth: int = 50
    width: float = 1.0
    stem: str = "large"
    selective_kernels: bool = False
    projection_in_first_group: bool = False
    same_padding: bool = False
    zero_init_residual: bool = True
    init: str = "fan-out"
    norm: str = "batch"
    image_size: int | None = None
    file_hash: str | None = None
    same_convolutions: bool = False

    def __post_init__(self) -> None:
        for field, allowed in CHOICES.items():
            value = getattr(self, field)
            if value not in allowed:
                raise InvalidValue(
                    f"EncoderSpec has {field}={value!r}; expected one of "
                    f"{', '.join(map(repr, allowed))}."
                )
        if self.kind == "resnet":
            self._check_resnet()
        else:
            self._check_library()

    def _check_resnet(self) -> None:
        if self.name is not None:
            raise InvalidValue(
                f"EncoderSpec(kind='resnet') has name={self.name!r}; leave `name` out or set "
                "`kind` to 'torchvision' or 'timm'."
            )
        if not (isinstance(self.width, (int, float)) and 0 < self.width <= 64):
            raise InvalidValue(
                f"EncoderSpec has width={self.width!r}; expected a number above 0, at most 64."
            )
        if self.selective_kernels and self.depth in BASIC:
            raise InvalidValue(
                f"ResNet-{self.depth} has no bottleneck blocks, which `selective_kernels` needs: "
                "use `depth` 50, 101, 152 or 200."
            )
        if self.projection_in_first_group and self.depth in BOTTLENECK:
            raise InvalidValue(
                f"ResNet-{self.depth} always has a projection in its first group; "
                "`projection_in_first_group` is an option at depths 10, 18 and 34 only."
            )
        if self.norm == "group" and base_channels(self.width) < MIN_GROUP_CHANNELS:
            raise InvalidValue(
                f"EncoderSpec has norm='group' and width={self.width!r}, which leaves "
                f"{base_channels(self.width)} channels after the stem: too few to standardize "
                f"weights over; give a width of at least 1/{64 // MIN_GROUP_CHANNELS}."
            )
        if self.same_convolutions and self.norm == "group":
            raise InvalidValue(
                "`same_convolutions` is for weights of TensorFlow or JAX, which have BatchNorm; "
                "leave `norm` at 'batch'."
            )
        if self.same_padding and self.stem != "large":
            raise InvalidValue(
                f"`same_padding` pads the max-pool of the large stem; `stem` is {self.stem!r}."
            )

    def _check_library(self) -> None:
        if not self.name:
            raise InvalidValue(f"EncoderSpec(kind={self.kind!r}) needs the name of a model.")
        for field in dataclasses.fields(self)[2:]:
            if field.name in ("image_size", "file_hash"):
                continue
            if getattr(self, field.name) != field.default:
                raise InvalidValue(
                    f"EncoderSpec(kind={self.kind!r}) takes {self.name!r} as the library builds "
                    f"it; {field.name}={getattr(self, field.name)!r} has no effect: leave it out."
                )

    def build(self, seed: int = 0) -> Encoder:
        """The initialized encoder; the same seed gives the same bytes.

        Raises UnknownName for a model that is not in the library, MissingExtra without timm.
        """
        encoder: Encoder
        if self.kind == "resnet":
            encoder = self.build_on_meta().to_empty(device="cpu")
            assert isinstance(encoder, ResNet)
            initialize(
                encoder, seed=seed, init=self.init, zero_init_residual=self.zero_init_residual
            )
            return encoder
        return self._library_model(seed)

    def build_on_meta(self) -> Encoder:
        """The encoder without values, on the meta device: to count parameters, or to load into."""
        with torch.device("meta"):
            if self.kind in ("torchvision", "timm"):
                return self._library_model(0)
            if self.kind == "module":
                with torch.device("cpu"):
                    return self._library_model(0).to("meta")
            encoder = ResNet(**self.architecture())
        encoder.spec = self
        return encoder

    def _library_model(self, seed: int) -> Encoder:
        name, size = str(self.name), self.image_size
        encoder: Encoder
        if self.kind == "module":
            encoder = build_own(name, seed, self.file_hash, size)
        else:
            builder = build_timm if self.kind == "timm" else build_torchvision
            encoder = builder(name, seed, size)
        encoder.spec = self
        return encoder

    def architecture(self) -> dict[str, Any]:
        """The arguments of ``ResNet``, or the library's model name."""
        if self.kind != "resnet":
            return {"name": self.name, "image_size": self.image_size}
        names = ("depth", "width", "stem", "selective_kernels")
        more = ("projection_in_first_group", "same_padding", "norm")
        # The newest only where it is set, so that older exports still say the same.
        late = {"same_convolutions": True} if self.same_convolutions else {}
        return {name: getattr(self, name) for name in (*names, *more)} | late

    def label(self) -> str:
        """A name in words, such as "ResNet-18 width 1/4, small stem"."""
        if self.kind != "resnet":
            return f"{self.name} ({self.kind})"
        details = {
            f"{self.stem} stem": self.stem != "large",
            "selective kernels": self.selective_kernels,
            "projection in group 1": self.projection_in_first_group,
            "TensorFlow padding": self.same_padding and not self.same_convolutions,
            "TensorFlow padding everywhere": self.same_convolutions,
            "GroupNorm with standardized weights": self.norm == "group",
            "no zero initialization": not self.zero_init_residual,
            "fan-in initialization": self.init == "fan-in",
        }
        head = f"ResNet-{self.depth}"
        head += "" if self.width == 1 else f" width {format_width(self.width)}"
        return ", ".join([head, *(text for text, holds in details.items() if holds)])

    def to_json(self) -> dict[str, Any]:
        """The JSON form; :meth:`from_json` gives an equal value back."""
        data: dict[str, Any] = encode(self)
        return data

    @staticmethod
    def from_json(data: Any) -> EncoderSpec:
        """The specification that ``to_json`` wrote. An unknown key raises UnknownName."""
        return decode_one(data, EncoderSpec)


def resnet(
    depth: int,
    *,
    width: float = 1.0,
    selective_kernels: bool = False,
    stem: str = "large",
    projection_in_first_group: bool = False,
    same_padding: bool = False,
    zero_init_residual: bool = True,
    init: str = "fan-out",
    norm: str = "batch",
    seed: int = 0,
) -> Encoder:
    """A residual network, images [B, 3, H, W] -> h [B, features]; see ``ResNet``, ``initialize``.

    The defaults are torchvision's network (its state dict loads strictly, but for ``fc``) with
    zero-initialized residual branches. Raises InvalidValue as :class:`EncoderSpec` does.

    >>> resnet(18, width=0.25, stem="small").features
    128
    """
    spec = EncoderSpec(
        depth=depth, width=width, stem=stem, selective_kernels=selective_kernels,
        projection_in_first_group=projection_in_first_group, same_padding=same_padding,
        zero_init_residual=zero_init_residual, init=init, norm=norm,
    )  # fmt: skip
    return spec.build(seed)


def format_width(width: float) -> str:
    """0.25 -> "1/4", 2.0 -> "2", 0.3 -> "0.3"."""
    ratio = Fraction(width).limit_denominator(64)
    if ratio.numerator == 1 and ratio.denominator > 1 and math.isclose(float(ratio), width):
        return str(ratio)
    return f"{width:g}"


def parse_encoder(text: str) -> EncoderSpec:
    """The specification with the short name ``text``, for a command line.

    ``resnet<depth>[x<width> | /<divisor>]`` followed by any of ``-small`` (3x3 stem for 32-pixel
    images), ``-medium`` (3x3 stem of stride 2), ``-padded`` (solo-learn's for CIFAR), ``+sk``
    (selective kernels, SimCLRv2), ``+projection`` (projection shortcut in group 1 of basic blocks,
    official SimCLR), ``+tf`` (TensorFlow's pooling padding), ``+same`` (and that of its strided
    convolutions, official BYOL) and ``+gn`` (GroupNorm with standardized weights); or
    ``torchvision:<model>`` and ``timm:<model>``; or ``FILE.py:NAME``, a class or function of yours
    that gives a module. Examples: ``resnet18``, ``resnet18/4-small``,
    ``resnet50x2``, ``resnet152x3+sk``, ``timm:vit_small_patch16_224``.
    Raises UnknownName with the nearest names, InvalidValue if the parts contradict each other.

    >>> parse_encoder("resnet18/4-small").width
    0.25
    """
    if FILE in text:
        name, file_hash = file_and_hash(text)
        return EncoderSpec(kind="module", name=name, file_hash=file_hash)
    kind, colon, name = text.partition(":")
    if colon and kind in ("torchvision", "timm"):
        return EncoderSpec(kind=kind, name=name)
    match = SHORT.fullmatch(text)
    depth = int(match["depth"]) if match else 0
    divisor = int(match["part"] or 1) if match else 0
    if match is None or depth not in DEPTHS or divisor == 0:
        raise UnknownName("encoder", text, example_names())
    options: dict[str, Any] = {}
    for mark, fields in MARKS.items():
        if mark in match["marks"]:
            options |= fields
    return EncoderSpec(depth=depth, width=float(match["times"] or 1) / divisor, **options)


def example_names() -> list[str]:
    """Short names that an error message suggests from."""
    plain = [f"resnet{depth}{width}" for depth in DEPTHS for width in ("", "x2", "/4")]
    wide = [f"resnet{depth}{width}+sk" for depth in BOTTLENECK for width in ("", "x2", "x3")]
    small = [f"resnet{depth}{width}-small" for depth in BASIC for width in ("", "/2", "/4")]
    return [*plain, *wide, *small, "torchvision:resnet50", "timm:vit_small_patch16_224"]
