"""Short names of encoders, for a command line.

``resnet<depth>[x<width> | /<divisor>]`` followed by any of ``-small`` (3x3 stem for
32-pixel images), ``-medium`` (3x3 stem of stride 2), ``+sk`` (selective kernels, SimCLRv2),
``+projection`` (projection shortcut in group 1 of basic blocks, official SimCLR), ``+tf``
(TensorFlow's pooling padding) and ``+gn`` (GroupNorm with standardized weights); or
``torchvision:<model>`` and ``timm:<model>``. Examples: ``resnet18``, ``resnet18/4-small``,
``resnet50x2``, ``resnet152x3+sk``, ``timm:vit_small_patch16_224``.
"""

from __future__ import annotations

import re
from typing import Any

from coview.core.errors import UnknownName
from coview.encoders.residual import BASIC, BOTTLENECK
from coview.encoders.spec import EncoderSpec

DEPTHS = (*BASIC, *BOTTLENECK)
SHORT = re.compile(
    r"resnet(?P<depth>\d+)(?:x(?P<times>\d+(?:\.\d+)?)|/(?P<part>\d+))?"
    r"(?P<marks>(?:-small|-medium|\+sk|\+projection|\+tf|\+gn)*)"
)
MARKS: dict[str, dict[str, Any]] = {
    "-small": {"stem": "small"},
    "-medium": {"stem": "medium"},
    "+sk": {"selective_kernels": True},
    "+projection": {"projection_in_first_group": True},
    "+tf": {"same_padding": True},
    "+gn": {"norm": "group"},
}


def parse_encoder(text: str) -> EncoderSpec:
    """The specification with the short name ``text`` (grammar at the top of this file).

    Raises UnknownName with the nearest names, InvalidValue if the parts contradict each other.

    >>> parse_encoder("resnet18/4-small").width
    0.25
    """
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
