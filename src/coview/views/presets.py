"""View policies of published methods: the numbers as data, and plans made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coview.core.errors import UnknownName
from coview.views.operations import Blur, Crop, Jitter
from coview.views.plan import Triple, ViewPlan, ViewSpec

MAX_CIFAR_SIZE = 32
"""Views up to this many pixels take the settings that papers publish for CIFAR: SimCLR's half
jitter strength without blur, and local crops as large as the global ones."""


def jitter_of_strength(strength: float) -> Jitter:
    """SimCLR's color jitter of strength s: factors 0.8 s, 0.8 s, 0.8 s and hue 0.2 s (appendix A).

    Hue is limited to half a turn, the full circle. Raises InvalidValue for a negative strength.

    >>> jitter_of_strength(0.5)
    Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    """
    factor, hue = 0.8 * strength, min(0.5, 0.2 * strength)
    return Jitter(brightness=factor, contrast=factor, saturation=factor, hue=hue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The numbers of one published policy; ``blur`` and ``solarize`` have one number per view."""

    area: tuple[float, float]
    jitter: Jitter
    blur: tuple[float, ...]
    solarize: tuple[float, ...]
    source: str
    grayscale: float = 0.2
    flip: float = 0.5


_STRONG, _HALF = jitter_of_strength(1.0), jitter_of_strength(0.5)


POLICIES: dict[str, Policy] = {
    "simclr": Policy(
        area=(0.08, 1.0), jitter=_STRONG,
        blur=(0.5, 0.5), solarize=(0.0, 0.0),
        source="Chen et al. 2020, SimCLR, appendix A; strength 1.0 at 224 px; its code is bicubic",
    ),
    "simclr_small": Policy(
        area=(0.08, 1.0), jitter=_HALF,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source=(
            "Chen et al. 2020, SimCLR, appendix B.9; strength 0.5 and no blur for CIFAR-10; its "
            "code is bicubic"
        ),
    ),
    "moco_v1": Policy(
        area=(0.2, 1.0), jitter=replace(_HALF, probability=1.0, hue=0.4),
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="He et al. 2020, MoCo, published training script; its gray comes before the jitter",
    ),
    "moco_v2": Policy(
        area=(0.2, 1.0), jitter=_HALF,
        blur=(0.5, 0.5), solarize=(0.0, 0.0),
        source="Chen et al. 2020, MoCo v2, published training script; SimSiam uses the same",
    ),
    "moco_small": Policy(
        area=(0.08, 1.0), jitter=_HALF,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="MoCo's published CIFAR-10 notebook; no blur",
    ),
    "simsiam_small": Policy(
        area=(0.2, 1.0), jitter=_HALF,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="Chen and He 2021, SimSiam, section 3, without blur for CIFAR-10 (appendix D)",
    ),
    "byol": Policy(
        area=(0.08, 1.0), jitter=replace(_HALF, saturation=0.2),
        blur=(1.0, 0.1), solarize=(0.0, 0.2),
        source=(
            "Grill et al. 2020, BYOL, table 6; brightness multiplies here, adds in BYOL's code, "
            "which is bicubic"
        ),
    ),
    "supcon_small": Policy(
        area=(0.2, 1.0), jitter=_HALF,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="Khosla et al. 2020, SupCon, CIFAR recipe of the PyTorch re-implementation",
    ),
}  # fmt: skip


def simclr_views(
    size: int,
    *,
    jitter_strength: float | None = None,
    blur: float | None = None,
    area: tuple[float, float] | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> ViewPlan:
    """SimCLR's two equal views of ``size`` pixels (SimCLR, appendix A and B.9).

    ``jitter_strength`` scales the color jitter (1.0 above 32 px, else 0.5), ``blur`` is its
    probability (0.5 above 32 px, else 0), ``area`` the crop's share of the image. Values are in
    [0, 1] unless ``mean`` and ``std`` are given. Raises InvalidValue for numbers out of range.

    The paper's blur kernel is a tenth of the side long, which cuts off the Gaussian of sigma 2
    below 120 px; ours is never shorter than three sigma on either side. So a view of 64 or 96 px
    is blurred a little more than by the paper's rule; ``Blur(kernel_size=7)`` and 9 follow it.

    >>> simclr_views(224).views[0].blur
    Blur(probability=0.5, sigma=(0.1, 2.0), kernel_size=None)
    >>> simclr_views(32).views[0].blur is None
    True
    """
    policy = POLICIES["simclr_small" if size <= MAX_CIFAR_SIZE else "simclr"]
    if jitter_strength is not None:
        policy = replace(policy, jitter=jitter_of_strength(jitter_strength))
    if blur is not None:
        policy = replace(policy, blur=(blur, blur))
    if area is not None:
        policy = replace(policy, area=area)
    return plan_from_policy(policy, size, mean=mean, std=std)


def preset(
    name: str, size: int, *, mean: Triple | None = None, std: Triple | None = None
) -> ViewPlan:
    """The plan of a published policy by its name in POLICIES. Raises UnknownName.

    >>> [view.solarize for view in preset("byol", 224).views]
    [0.0, 0.2]
    """
    if name not in POLICIES:
        raise UnknownName("view policy", name, POLICIES)
    return plan_from_policy(POLICIES[name], size, mean=mean, std=std)


def plan_from_policy(
    policy: Policy, size: int, *, mean: Triple | None = None, std: Triple | None = None
) -> ViewPlan:
    """A policy's numbers as a plan of views of ``size`` pixels.

    >>> plan_from_policy(POLICIES["moco_v2"], 224) == preset("moco_v2", 224)
    True
    """
    first = ViewSpec(
        size=size, crop=Crop(area=policy.area), flip=policy.flip, jitter=policy.jitter,
        grayscale=policy.grayscale, mean=mean, std=std,
    )  # fmt: skip
    return ViewPlan(
        views=tuple(
            replace(first, blur=Blur(probability=blur) if blur != 0 else None, solarize=solarize)
            for blur, solarize in zip(policy.blur, policy.solarize, strict=True)
        )
    )


def eval_view(size: int, *, mean: Triple | None = None, std: Triple | None = None) -> ViewSpec:
    """The deterministic view for evaluation: the central square, resized to ``size``.

    An image of ``size`` x ``size`` pixels stays as it is.

    >>> eval_view(224).crop is None
    True
    """
    return ViewSpec(size=size, mean=mean, std=std)
