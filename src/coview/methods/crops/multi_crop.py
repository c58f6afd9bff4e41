"""Multi-crop: small local views that are compared with the global ones."""

from __future__ import annotations

from dataclasses import replace

from coview.core.errors import InvalidValue
from coview.methods.method import Method, Pair
from coview.methods.pair_objectives import InfoNCE
from coview.methods.set_objectives import NTXent
from coview.views import MAX_CIFAR_SIZE, ViewPlan, multi_crop_views

GLOBAL_VIEWS = (0, 1)
MIN_LOCAL_AREA = 0.05


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

    For NT-Xent and SupCon every other crop of an image is a positive, and all crops of other
    images are negatives (Caron et al., SwAV, 2020, appendix A.8, for SimCLR). For pair objectives
    every local crop is a query for the key of each global crop, with a stop-gradient on the key;
    local crops are never keys. See ``add_local_views`` for the crops; ``views`` replaces the plan
    by another one of two global and at least one local view, such as
    ``coview.views.multi_crop_preset("swav")``. Raises InvalidValue.

    >>> from coview.methods import simclr
    >>> [view.size for view in multi_crop(simclr(64), locals=2).views.views]
    [64, 64, 27, 27]
    """
    plan = views or add_local_views(method.views, locals, local_size, r_g, r_l)
    if len(plan.views) <= len(GLOBAL_VIEWS):
        raise InvalidValue(f"Multi-crop needs local views; `views` has {len(plan.views)} views.")
    name = f"multi_crop-{method.name}"
    if not method.pairs_views:
        return replace(method, name=name, views=plan)
    # Every local view is compared with every global key (LoGo, equation 4).
    local_views = range(len(GLOBAL_VIEWS), len(plan.views))
    added = tuple(Pair(k, key, stop_gradient=True) for k in local_views for key in GLOBAL_VIEWS)
    return replace(method, name=name, views=plan, pairing=method.pairing + added)


def add_local_views(
    plan: ViewPlan, count: int, size: int | None, r_g: float, r_l: float
) -> ViewPlan:
    """The two views of ``plan`` with crops of area r_g to 1, and ``count`` local ones.

    A local view is the first global view with a crop of area 0.05 to r_l at ``size`` pixels (None:
    3/7 of the global size, 96 for 224; the global size up to 32 pixels). Source of the areas: the
    released commands of Zhang et al., LoGo, 2022. Raises InvalidValue.
    """
    if len(plan.views) != len(GLOBAL_VIEWS):
        raise InvalidValue(
            f"Local views are added to two global views; the plan has {len(plan.views)} views."
        )
    if count < 1:
        raise InvalidValue(f"`locals` is {count}; expected at least 1 local view.")
    side = plan.views[0].size
    return multi_crop_views(
        plan, global_size=side,
        local_size=size or (side if side <= MAX_CIFAR_SIZE else max(1, round(side * 3 / 7))),
        locals=count, global_area=(r_g, 1.0), local_area=(MIN_LOCAL_AREA, r_l),
    )  # fmt: skip


def to_pair_objective(method: Method) -> Method:
    """The same method with a pair objective: NT-Xent of two views is InfoNCE in both directions,
    with the keys of all other images of the batch as negatives and gradients through everything.

    Raises InvalidValue for any other set objective.
    """
    if method.pairs_views:
        return method
    objective = method.objective
    if not (
        isinstance(objective, NTXent)
        and objective.normalize
        and not objective.decoupled
        and objective.negatives == "all views"
    ):
        raise InvalidValue(
            f"{type(objective).__name__} has no form as a pair objective; "
            "choose simclr, moco, byol or simsiam."
        )
    pairs = InfoNCE(
        temperature=objective.temperature, learn_temperature=objective.learn_temperature,
        batch_negatives=True,
    )  # fmt: skip
    return replace(method, objective=pairs)
