"""Plans of SimCLR's studies: one branch augmented, or a learned policy in place of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType

from coview.core.errors import InvalidValue, UnknownName
from coview.views.operations import AutoAugment, Blur, Crop, Cutout, Noise, RandAugment, Rotate90
from coview.views.plan import OrderedViewSpec, Triple, ViewPlan, ViewSpec
from coview.views.presets import MAX_CIFAR_SIZE, jitter_of_strength, simclr_views

Operation = Callable[[ViewSpec], ViewSpec]


def _color(view: ViewSpec) -> ViewSpec:
    jitter = jitter_of_strength(0.5 if view.size <= MAX_CIFAR_SIZE else 1.0)
    return replace(view, jitter=replace(jitter, probability=1.0), grayscale=0.2)


STUDIED: Mapping[str, Operation] = MappingProxyType(
    {
        "crop": lambda view: replace(view, second_crop=Crop(), flip=0.5),
        "cutout": lambda view: replace(view, cutout=Cutout()),
        "color": _color,
        "sobel": lambda view: replace(view, sobel=1.0),
        "noise": lambda view: replace(view, noise=Noise()),
        "blur": lambda view: replace(view, blur=Blur(probability=1.0)),
        "rotate": lambda view: replace(view, rotate90=Rotate90(turns=(1, 2, 3))),
    }
)
"""The operations of SimCLR's figure 5. The paper gives rotate's angles and, by its policy, the
numbers of crop, color and blur; the other numbers are choices of this project."""


FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "crop": ("second_crop",), "cutout": ("cutout",), "color": ("jitter", "grayscale"),
        "sobel": ("sobel",), "noise": ("noise",), "blur": ("blur",), "rotate": ("rotate90",),
    }
)  # fmt: skip
"""The fields of a view that each operation of STUDIED sets, as they run."""


def composition(
    size: int, *names: str, in_order: bool = False, mean: Triple | None = None,
    std: Triple | None = None,
) -> ViewPlan:  # fmt: skip
    """One or two operations on one branch only (SimCLR, section 3.1 and figure 5).

    Both branches take the same random crop of the image, resized to ``size``; the first then
    applies the named operations of STUDIED, the second nothing. "crop" is a further random crop
    within the first, and a flip. Operations run in the fixed order of a view; with ``in_order``
    they run in the order of ``names``, each on the resized view that the one before it has left,
    as in the paper, whose matrix has both orders. Raises UnknownName, and InvalidValue for a
    repeated name.

    >>> first, second = composition(32, "crop", "blur").views
    >>> first.blur, second.blur, second.share_crop_with
    (Blur(probability=1.0, sigma=(0.1, 2.0), kernel_size=None), None, 0)
    >>> composition(32, "blur", "crop", in_order=True).views[0].order
    ('blur', 'second_crop')
    """
    for name in names:
        if name not in STUDIED:
            raise UnknownName("operation of SimCLR's figure 5", name, STUDIED)
    if len(set(names)) < len(names):
        raise InvalidValue(f"`names` is {names}, which repeats an operation; give each once.")
    branch = plain = ViewSpec(size=size, crop=Crop(), mean=mean, std=std)
    for name in names:
        branch = STUDIED[name](branch)
    if in_order:
        order = tuple(field for name in names for field in FIELDS[name])
        own = {each.name: getattr(branch, each.name) for each in fields(branch)}
        branch = OrderedViewSpec(**own, order=order)
    return ViewPlan(views=(branch, replace(plain, share_crop_with=0)))


def asymmetric(
    size: int,
    *,
    jitter_strength: float | None = None,
    blur: float | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> ViewPlan:
    """SimCLR's policy with one augmented branch: the second view is only cropped and flipped.

    Unlike ``composition``, each view draws its own crop. Arguments as of ``simclr_views``.

    >>> [view.grayscale for view in asymmetric(32).views]
    [0.2, 0.0]
    """
    plan = simclr_views(size, jitter_strength=jitter_strength, blur=blur, mean=mean, std=std)
    first = plan.views[0]
    return ViewPlan(views=(first, replace(first, jitter=None, grayscale=0.0, blur=None)))


def auto_augmented(
    size: int,
    augment: AutoAugment | RandAugment,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    mean: Triple | None = None,
    std: Triple | None = None,
) -> ViewPlan:
    """Two equal views of crop, flip and a learned policy, without jitter, grayscale or blur.

    The last column of SimCLR's table 1, and SupCon's AutoAugment and RandAugment.

    >>> auto_augmented(32, AutoAugment(policy="cifar10")).views[0].multi_pass
    True
    """
    view = ViewSpec(size=size, crop=Crop(area=area), flip=0.5, augment=augment, mean=mean, std=std)
    return ViewPlan(views=(view, view))
