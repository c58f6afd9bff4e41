"""Multi-crop: small local views that are compared with the global ones."""

from __future__ import annotations

from dataclasses import replace

from coview.core.errors import InvalidValue
from coview.methods.method import Method
from coview.methods.pair_objectives import InfoNCE
from coview.methods.pairing import Pair, Pairing
from coview.methods.set_objectives import NTXent
from coview.views import MAX_CIFAR_SIZE, ViewPlan, multi_crop_views

GLOBALS = (0, 1)
SMALLEST_AREA = 0.05


def multi_crop(
    method: Method,
    *,
    locals: int = 2,
    local_size: int | None = None,
    r_g: float = 0.4,
    r_l: float = 0.4,
    views: ViewPlan | None = None,
) -> Method:
    """``method`` with ``locals`` small crops beside its two global ones.

    For NT-Xent and SupCon every other crop of an image is a positive and all crops of others are
    negatives (Caron et al., SwAV, 2020, appendix A.8, of SimCLR). For pair objectives every local
    crop asks the key of each global one, of which no gradient flows back; local crops are never
    keys. See ``with_local_views`` for the crops; ``views`` replaces them all by a plan of two
    global views and any number of local ones, such as ``coview.views.multi_crop_preset("swav")``.
    Raises InvalidValue.
    """
    plan = views or with_local_views(method.views, locals, local_size, r_g, r_l)
    if len(plan.views) <= len(GLOBALS):
        raise InvalidValue(f"Multi-crop needs local views; this plan has {len(plan.views)} views.")
    name = f"multi_crop-{method.name}"
    if not method.pairs_views:
        return replace(method, name=name, views=plan)
    pairing = method.pairing + local_to_global(len(plan.views) - len(GLOBALS))
    return replace(method, name=name, views=plan, pairing=pairing)


def with_local_views(
    plan: ViewPlan, count: int, size: int | None, r_g: float, r_l: float
) -> ViewPlan:
    """The two views of ``plan`` with crops of area r_g to 1, and ``count`` local ones.

    A local view is the first global one with a crop of area 0.05 to r_l at ``size`` pixels (None:
    3/7 of the global size, 96 of 224; up to 32 px the global size). Source of the areas: Zhang et
    al., LoGo, 2022, the released commands. Raises InvalidValue.
    """
    if len(plan.views) != len(GLOBALS):
        raise InvalidValue(
            f"Local views are added to two global ones; this plan has {len(plan.views)} views."
        )
    if count < 1:
        raise InvalidValue(f"There are {count} local views; expected at least 1.")
    side = plan.views[0].size
    return multi_crop_views(
        plan,
        global_size=side,
        local_size=size or (side if side <= MAX_CIFAR_SIZE else max(1, round(side * 3 / 7))),
        locals=count,
        global_area=(r_g, 1.0),
        local_area=(SMALLEST_AREA, r_l),
    )


def local_to_global(count: int) -> Pairing:
    """Every local view asks every global one: equation 4 of LoGo, a sum of 2 ``count`` terms."""
    return tuple(
        Pair(len(GLOBALS) + k, key, stop_gradient=True) for k in range(count) for key in GLOBALS
    )


def in_pairs(method: Method) -> Method:
    """The same method with a pair objective: NT-Xent of two views is InfoNCE in both directions,
    with the keys of all other images of the batch as negatives and gradients through everything.

    Raises InvalidValue for an objective that has no such form.
    """
    if method.pairs_views:
        return method
    objective = method.objective
    if not isinstance(objective, NTXent) or objective.decoupled:
        raise InvalidValue(
            f"{type(objective).__name__} compares sets and has no form in pairs of views; "
            "take simclr, moco, byol or simsiam."
        )
    return replace(
        method, objective=InfoNCE(temperature=objective.temperature, batch_negatives=True)
    )
