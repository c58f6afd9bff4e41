"""View policies of published methods: the numbers as data, and plans made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coview.core.errors import UnknownName
from coview.views.plan import Blur, Crop, Jitter, Triple, ViewPlan, ViewSpec

SMALL = 32
"""Up to this many pixels a policy is CIFAR's: half the color strength and no blur."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The numbers of one published policy; per-slot numbers are given once per slot."""

    area: tuple[float, float]
    color: tuple[float, float, float, float]
    gray: float
    blur: tuple[float, ...]
    solarize: tuple[float, ...]
    source: str
    jitter: float = 0.8
    flip: float = 0.5


POLICIES: dict[str, Policy] = {
    "simclr": Policy(
        area=(0.08, 1.0), color=(0.8, 0.8, 0.8, 0.2), gray=0.2,
        blur=(0.5, 0.5), solarize=(0.0, 0.0),
        source="Chen et al. 2020, SimCLR, appendix A; strength 1.0 at 224 px",
    ),
    "simclr_small": Policy(
        area=(0.08, 1.0), color=(0.4, 0.4, 0.4, 0.1), gray=0.2,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="Chen et al. 2020, SimCLR, appendix B.9; strength 0.5 and no blur for CIFAR-10",
    ),
    "moco_v1": Policy(
        area=(0.2, 1.0), color=(0.4, 0.4, 0.4, 0.4), gray=0.2, jitter=1.0,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="He et al. 2020, MoCo, published training script; its gray comes before the jitter",
    ),
    "moco_v2": Policy(
        area=(0.2, 1.0), color=(0.4, 0.4, 0.4, 0.1), gray=0.2,
        blur=(0.5, 0.5), solarize=(0.0, 0.0),
        source="Chen et al. 2020, MoCo v2, published training script; SimSiam uses the same",
    ),
    "moco_small": Policy(
        area=(0.08, 1.0), color=(0.4, 0.4, 0.4, 0.1), gray=0.2,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="MoCo's published CIFAR-10 notebook; no blur",
    ),
    "byol": Policy(
        area=(0.08, 1.0), color=(0.4, 0.4, 0.2, 0.1), gray=0.2,
        blur=(1.0, 0.1), solarize=(0.0, 0.2),
        source="Grill et al. 2020, BYOL, table 6; brightness multiplies here, adds in BYOL's code",
    ),
    "supcon_small": Policy(
        area=(0.2, 1.0), color=(0.4, 0.4, 0.4, 0.1), gray=0.2,
        blur=(0.0, 0.0), solarize=(0.0, 0.0),
        source="Khosla et al. 2020, SupCon, CIFAR recipe of the PyTorch re-implementation",
    ),
}  # fmt: skip


def simclr(
    size: int,
    *,
    jitter_strength: float | None = None,
    blur: float | None = None,
    area: tuple[float, float] | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> ViewPlan:
    """SimCLR's two equal views of ``size`` pixels (SimCLR, appendix A and B.9).

    ``jitter_strength`` scales the color jitter (1.0 above 32 px, else 0.5), ``blur`` is its probability
    (0.5 above 32 px, else 0), ``area`` the crop's share of the image. Values are in [0, 1] unless
    ``mean`` and ``std`` are given. Raises InvalidValue for numbers out of range.
    """
    small = size <= SMALL
    policy = POLICIES["simclr_small" if small else "simclr"]
    if jitter_strength is not None:
        brightness, contrast, saturation, hue = POLICIES["simclr"].color
        color = (
            brightness * jitter_strength,
            contrast * jitter_strength,
            saturation * jitter_strength,
            hue * jitter_strength,
        )
        policy = replace(policy, color=color)
    if blur is not None:
        policy = replace(policy, blur=(blur, blur))
    if area is not None:
        policy = replace(policy, area=area)
    return plan_of(policy, size, mean=mean, std=std)


def preset(
    name: str, size: int, *, mean: Triple | None = None, std: Triple | None = None
) -> ViewPlan:
    """The plan of a published policy by its name in POLICIES. Raises UnknownName."""
    if name not in POLICIES:
        raise UnknownName("view policy", name, POLICIES)
    return plan_of(POLICIES[name], size, mean=mean, std=std)


def plan_of(
    policy: Policy, size: int, *, mean: Triple | None = None, std: Triple | None = None
) -> ViewPlan:
    """A policy's numbers as a plan of views of ``size`` pixels."""
    brightness, contrast, saturation, hue = policy.color
    first = ViewSpec(
        size=size,
        crop=Crop(area=policy.area),
        flip=policy.flip,
        jitter=Jitter(
            probability=policy.jitter,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
        ),
        gray=policy.gray,
        mean=mean,
        std=std,
    )
    return ViewPlan(
        views=tuple(
            replace(first, blur=Blur(probability=blur) if blur != 0 else None, solarize=solarize)
            for blur, solarize in zip(policy.blur, policy.solarize, strict=True)
        )
    )


def eval_view(size: int, *, mean: Triple | None = None, std: Triple | None = None) -> ViewSpec:
    """The deterministic view for evaluation: the central square, resized to ``size``.

    An image that is ``size`` x ``size`` already comes back as it is.
    """
    return ViewSpec(size=size, mean=mean, std=std)
