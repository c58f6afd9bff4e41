"""Global and local crops of one image: the numbers of published methods, and plans made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coview.core.errors import InvalidValue, UnknownName
from coview.views.operations import Blur, Crop, Interpolation
from coview.views.plan import Triple, ViewPlan, ViewSpec
from coview.views.presets import POLICIES, plan_from_policy

Area = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiCrop:
    """The crops of one published method: sizes in pixels, areas as shares of the image.

    ``policy`` names its color in POLICIES; ``local_blur`` and ``local_solarize`` are
    probabilities of the local views; None takes that of the first global view.
    """

    global_size: int
    local_size: int
    locals: int
    global_area: Area
    local_area: Area
    policy: str
    source: str
    local_blur: float | None = None
    local_solarize: float | None = None
    interpolation: Interpolation = "bilinear"


MULTI_CROPS: dict[str, MultiCrop] = {
    "swav": MultiCrop(
        global_size=224, global_area=(0.14, 1.0), locals=6, local_size=96, local_area=(0.05, 0.14),
        policy="simclr",
        source="Caron et al. 2020, SwAV, published script; six local crops; SimCLR's color",
    ),
    "dino": MultiCrop(
        global_size=224, global_area=(0.4, 1.0), locals=8, local_size=96, local_area=(0.05, 0.4),
        policy="byol", local_blur=0.5, local_solarize=0.0, interpolation="bicubic",
        source="Caron et al. 2021, DINO; eight local crops; BYOL's color, blur 1 / 0.1 / 0.5",
    ),
    "logo": MultiCrop(
        global_size=224, global_area=(0.4, 1.0), locals=2, local_size=96, local_area=(0.05, 0.4),
        policy="moco_v2",
        source="Zhang et al. 2022, LoGo, published code; r_g = r_l = 0.4; MoCo v2's color",
    ),
    "logo_small": MultiCrop(
        global_size=32, global_area=(0.4, 1.0), locals=2, local_size=32, local_area=(0.05, 0.4),
        policy="moco_small",
        source="Zhang et al. 2022, LoGo, published code for CIFAR; equal sizes, no blur",
    ),
    "swav_small": MultiCrop(
        global_size=32, global_area=(0.2, 1.0), locals=6, local_size=18, local_area=(0.08, 0.5),
        policy="simclr_small",
        source="SwAV for CIFAR in the solo-learn library; sizes and areas only, color is SimCLR's",
    ),
}  # fmt: skip


def multi_crop_views(
    plan: ViewPlan,
    *,
    global_size: int,
    local_size: int,
    locals: int = 2,
    global_area: Area,
    local_area: Area,
    local: ViewSpec | None = None,
) -> ViewPlan:
    """Two global views, then ``locals`` local ones, with the operations of ``plan`` (SwAV, 3.2).

    The first two views of ``plan`` become the global ones, at ``global_size`` pixels and crops of
    ``global_area``; a plan of one view gives both. Local views are ``local``, or else the first
    view, at ``local_size`` pixels and ``local_area``. Raises InvalidValue for views without a
    random crop and for numbers out of range.

    >>> plan = multi_crop_views(
    ...     plan_from_policy(POLICIES["simclr"], 224), global_size=224, global_area=(0.14, 1.0),
    ...     local_size=96, local_area=(0.05, 0.14), locals=6)
    >>> [view.size for view in plan.views]
    [224, 224, 96, 96, 96, 96, 96, 96]
    """
    if locals < 0:
        raise InvalidValue(f"`locals` is {locals}; expected the number of local views, at least 0.")
    first, second = plan.views[0], plan.views[min(1, len(plan.views) - 1)]
    small = _cropped(first if local is None else local, local_size, local_area)
    large = tuple(_cropped(view, global_size, global_area) for view in (first, second))
    return ViewPlan(views=(*large, *[small] * locals))


def _cropped(view: ViewSpec, size: int, area: Area) -> ViewSpec:
    if view.crop is None:
        raise InvalidValue("A view of the plan has no random crop; give its ViewSpec a `crop`.")
    return replace(view, size=size, crop=replace(view.crop, area=area))


def multi_crop_preset(
    name: str, *, locals: int | None = None, mean: Triple | None = None, std: Triple | None = None
) -> ViewPlan:
    """The plan of a published method by its name in MULTI_CROPS. Raises UnknownName.

    ``locals`` is the number of local views; None takes the method's own.

    >>> [view.size for view in multi_crop_preset("dino", locals=1).views]
    [224, 224, 96]
    """
    if name not in MULTI_CROPS:
        raise UnknownName("multi-crop", name, MULTI_CROPS)
    crops = MULTI_CROPS[name]
    plan = plan_from_policy(POLICIES[crops.policy], crops.global_size, mean=mean, std=std)
    crop = Crop(interpolation=crops.interpolation)
    plan = ViewPlan(views=tuple(replace(view, crop=crop) for view in plan.views))
    local = plan.views[0]
    if crops.local_blur is not None:
        local = replace(local, blur=Blur(probability=crops.local_blur))
    if crops.local_solarize is not None:
        local = replace(local, solarize=crops.local_solarize)
    return multi_crop_views(
        plan, global_size=crops.global_size, local_size=crops.local_size,
        locals=crops.locals if locals is None else locals, global_area=crops.global_area,
        local_area=crops.local_area, local=local,
    )  # fmt: skip
