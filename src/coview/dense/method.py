"""What stands on the maps of an encoder, as a value: a detector, or a segmenter."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from coview.core.errors import InvalidValue, UnknownName
from coview.views import ViewPlan, ViewSpec

BATCH_NORM = ("synchronized", "frozen")
FORMS = ("fpn", "c4")
BOX_HEADS = ("2fc", "4conv1fc")
VIEW_FIELDS = ("size", "flip", "mean", "std")
"""What of a view applies to a whole image with objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseMethod:
    """What detectors and segmenters share.

    views: one view. Its ``size`` is the short side of an image in testing (the side of the square
    in training a segmenter), ``flip`` the probability of a flip, ``mean`` and ``std`` those of the
    encoder; nothing else of a view applies. classes: of objects (of pixels for a segmenter).
    scale: the range of random sizes in training, as factors of ``size``. batch_norm:
    "synchronized" (trained, with the statistics of all processes) or "frozen" (the encoder's
    running statistics; scale and shift are trained). Raises InvalidValue.
    """

    name: str
    views: ViewPlan
    classes: int
    scale: tuple[float, float] = (1.0, 1.0)
    batch_norm: Literal["synchronized", "frozen"] = "synchronized"

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise InvalidValue or UnknownName for values that do not fit together."""
        if self.batch_norm not in BATCH_NORM:
            raise UnknownName("BatchNorm mode", str(self.batch_norm), BATCH_NORM)
        if len(self.views.views) != 1:
            raise InvalidValue(f"{self.name} has {len(self.views.views)} views; expected one.")
        plain = ViewSpec(size=self.view.size)
        extra = [f.name for f in fields(ViewSpec) if f.name not in VIEW_FIELDS
                 and getattr(self.view, f.name) != getattr(plain, f.name)]  # fmt: skip
        if extra:
            raise InvalidValue(
                f"{self.name} sets `{extra[0]}` of its view; images with objects are resized and "
                f"flipped alone ({', '.join(VIEW_FIELDS)})."
            )
        if not 1 <= self.classes <= 20_000:
            raise InvalidValue(f"`method.classes` is {self.classes}; expected 1 to 20,000.")
        if not 0 < self.scale[0] <= self.scale[1] <= 8:
            raise InvalidValue(
                f"`method.scale` is {self.scale}; expected a smaller and a larger factor, above "
                "0 and at most 8."
            )

    @property
    def view(self) -> ViewSpec:
        """The only view."""
        return self.views.views[0]

    @property
    def needs_labels(self) -> bool:
        return True

    @property
    def synchronized(self) -> bool:
        """BatchNorm never has the statistics of one process of several."""
        return True

    @property
    def ghost_batch_size(self) -> None:
        return None

    @property
    def largest_size(self) -> int:
        """The longest short side in training or testing, in pixels."""
        return round(self.view.size * max(1.0, self.scale[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector(DenseMethod):
    """Faster R-CNN, or Mask R-CNN with ``masks``, of torchvision's parts.

    form: "fpn" (a feature pyramid of ``channels``; Lin et al. 2017) or "c4" (proposals on the third
    group's map, whose crops go through the fourth group; Ren et al. 2015). box_head (FPN): two
    linear layers of ``hidden``, or four convolutions with BatchNorm and one linear layer.
    extra_norm (C4): BatchNorm after the fourth group, as in MoCo's configurations. norm_in_heads
    (FPN): BatchNorm in the pyramid and the heads. anchors: the sides of the anchors in pixels, the
    smallest first; at ratios 1:2, 1:1 and 2:1. max_ratio: the
    longest side of an image as a multiple of its wanted short side. scales: the number of sizes
    within ``scale``. proposals: kept before and after suppression in training, and in testing.
    sampled: anchors and proposals of each image that the losses see.
    Raises InvalidValue or UnknownName.

    Sources: Ren et al., "Faster R-CNN", 2015; He et al., "Mask R-CNN", 2017; losses, matching and
    suppression are torchvision's.
    """

    form: Literal["fpn", "c4"] = "fpn"
    masks: bool = False
    channels: int = 256
    hidden: int = 1024
    box_head: Literal["2fc", "4conv1fc"] = "2fc"
    norm_in_heads: bool = False
    extra_norm: bool = False
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512)
    max_ratio: float = 1333 / 800
    scales: int = 1
    proposals: tuple[int, int] = (2000, 1000)
    test_proposals: tuple[int, int] = (1000, 1000)
    sampled: tuple[int, int] = (256, 512)

    def __post_init__(self) -> None:
        self.check()
        if self.form not in FORMS:
            raise UnknownName("form", str(self.form), FORMS)
        if self.box_head not in BOX_HEADS:
            raise UnknownName("box head", str(self.box_head), BOX_HEADS)
        if (
            not self.anchors
            or list(self.anchors) != sorted(set(self.anchors))
            or self.anchors[0] < 1
        ):
            raise InvalidValue(
                f"`method.anchors` is {self.anchors}; expected growing sides in pixels."
            )
        numbers = {"channels": self.channels, "hidden": self.hidden, "scales": self.scales}
        numbers |= {"proposals": min(*self.proposals, *self.test_proposals)}
        for field, value in (numbers | {"sampled": min(self.sampled)}).items():
            if value < 1:
                raise InvalidValue(f"`method.{field}` is {value}; expected 1 or more.")
        if self.max_ratio < 1:
            raise InvalidValue(f"`method.max_ratio` is {self.max_ratio:g}; expected 1 or more.")
        if self.form == "fpn" and self.extra_norm:
            raise InvalidValue("`method.extra_norm` is of the form c4; this detector is fpn.")
        if self.form == "c4" and (self.box_head != "2fc" or self.norm_in_heads):
            raise InvalidValue(
                "`method.box_head` and `method.norm_in_heads` are of the form fpn; this is c4."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter(DenseMethod):
    """A fully convolutional network: the class of every pixel.

    The encoder's fourth group keeps the resolution of the third (stride 1, dilation 2). The head is
    two 3x3 convolutions of ``channels`` with ``dilation``, BatchNorm and ReLU, then a 1x1
    convolution to the classes, enlarged bilinearly. Source: He et al., "Momentum contrast", 2020,
    appendix A.5. Raises InvalidValue.
    """

    channels: int = 256
    dilation: int = 6

    def __post_init__(self) -> None:
        self.check()
        if self.channels < 1 or self.dilation < 1:
            raise InvalidValue(
                "`method.channels` and `method.dilation` of a Segmenter are 1 or more."
            )
        if self.classes < 2:
            raise InvalidValue(
                f"`method.classes` is {self.classes}; pixels have two classes or more."
            )
