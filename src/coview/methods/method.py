"""A method as a value: views, head, target, memory, pairing and objective."""

from __future__ import annotations

from dataclasses import dataclass

from coview.core.errors import InvalidValue, UnknownName
from coview.heads import HeadSpec
from coview.methods.affinity import Repulsion
from coview.methods.memory import Queue
from coview.methods.pair_objectives import PairObjective
from coview.methods.set_objectives import SetObjective
from coview.methods.target import EMA, SAME_NETWORK, Target, Teacher
from coview.views import ViewPlan

BATCH_NORM_MODES = ("joint", "per view", "ghost", "frozen")


@dataclass(frozen=True, slots=True)
class Pair:
    """The query of view ``query`` is compared with the key of view ``key``; views count from 0.

    The loss is the sum over pairs of ``weight`` times the objective. ``stop_gradient``: the key and
    the negatives are constants here even if the target is the same network. Raises InvalidValue.

    >>> Pair(0, 1, weight=0.5)
    Pair(query=0, key=1, weight=0.5, stop_gradient=False)
    """

    query: int
    key: int
    weight: float = 1.0
    stop_gradient: bool = False

    def __post_init__(self) -> None:
        if self.query == self.key or min(self.query, self.key) < 0:
            raise InvalidValue(
                f"A pair compares the views {self.query} and {self.key}; "
                "expected two different views, counted from 0."
            )


Pairing = tuple[Pair, ...]

ONE_WAY: Pairing = (Pair(0, 1),)
"""View 0 is the query, view 1 the key (MoCo)."""

BOTH_WAYS: Pairing = (Pair(0, 1, 0.5), Pair(1, 0, 0.5))
"""The mean of both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method as one value of plain values: everything that distinguishes it from another.

    ``views`` says which views of an image exist, ``head`` maps features to embeddings. A set
    objective compares all embeddings of a batch, with gradients through all of them. A pair
    objective compares queries with keys: ``pairing`` says which view is a query for which key,
    ``target`` where keys come from, ``predictor`` maps embeddings to queries, and ``memory`` keeps
    earlier keys as negatives. ``repulsion`` is LoGo's affinity of local views. Distillation
    compares logits with those of its target, a ``Teacher``. It accepts one view, as do objectives
    that need labels; all others need two.

    ``batch_norm`` says which images share statistics: all views of one size ("joint", one forward
    pass, as in official SimCLR); the images of one view ("per view", one pass for each, which also
    moves the running statistics once for each); about ``ghost_batch_size`` images of one view,
    drawn for each step from those of the process, or from all where each process is one such group
    ("ghost", which several devices do without synchronization); or none ("frozen": the running
    statistics are used and do not change). With several processes, "joint" and "per view" span all
    of them unless ``synchronized`` is False.

    ``dataclasses.replace`` makes an ablation; equality, hash and repr are those of the value.
    A method that does not fit implements ``coview.training.Task``: ``coview.training.train`` trains
    it, while plans, verdicts and reports (``coview.pretrain``) are of a ``Method`` alone.

    Raises InvalidValue or UnknownName.

    >>> from dataclasses import replace
    >>> from coview.methods import simclr
    >>> replace(simclr(32), batch_norm="per view").queries
    (0, 1)
    """

    name: str
    views: ViewPlan
    head: HeadSpec
    objective: SetObjective | PairObjective
    predictor: HeadSpec | None = None
    target: Target = SAME_NETWORK
    memory: Queue | None = None
    pairing: Pairing = BOTH_WAYS
    repulsion: Repulsion | None = None
    batch_norm: str = "joint"
    ghost_batch_size: int | None = None
    synchronized: bool = True

    def __post_init__(self) -> None:
        if self.batch_norm not in BATCH_NORM_MODES:
            raise UnknownName("BatchNorm mode", str(self.batch_norm), BATCH_NORM_MODES)
        if (self.batch_norm == "ghost") != (self.ghost_batch_size is not None):
            raise InvalidValue(
                f"`batch_norm` is {self.batch_norm!r} and `ghost_batch_size` is "
                f"{self.ghost_batch_size}; set `ghost_batch_size` with batch_norm='ghost' only."
            )
        if self.ghost_batch_size is not None and self.ghost_batch_size < 2:
            raise InvalidValue(
                f"`ghost_batch_size` is {self.ghost_batch_size}; BatchNorm needs at least 2 images."
            )
        needs_one = self.needs_labels or self.objective.needs_teacher
        if len(self.views.views) < (1 if needs_one else 2):
            raise InvalidValue(
                f"The method {self.name!r} compares views of one image; `views` needs at least two."
            )
        self._check_objective()
        self._check_views()

    def _check_objective(self) -> None:
        if self.objective.needs_teacher != isinstance(self.target, Teacher):
            raise InvalidValue(
                f"The objective is {type(self.objective).__name__} and the target "
                f"{type(self.target).__name__}; Distillation and Teacher go together only."
            )
        if isinstance(self.objective, PairObjective):
            if self.memory is not None and not self.objective.takes_negatives:
                raise InvalidValue(
                    f"{type(self.objective).__name__} uses no negatives; set `memory` to None."
                )
            has_negatives = self.memory is not None or self.objective.uses_batch_negatives
            if self.objective.takes_negatives and not has_negatives:
                raise InvalidValue(
                    f"{type(self.objective).__name__} has no negatives: give the method a "
                    "`memory`, or set `batch_negatives` of the objective to True."
                )
            return
        pair_fields = {
            "predictor": self.predictor is not None,
            "target": self.target != SAME_NETWORK and not self.objective.needs_teacher,
            "memory": self.memory is not None,
            "pairing": self.pairing != BOTH_WAYS,
            "repulsion": self.repulsion is not None,
        }
        for field, is_set in pair_fields.items():
            if is_set:
                raise InvalidValue(
                    f"{type(self.objective).__name__} compares all embeddings of a batch and does "
                    f"not use `{field}`; leave it out or choose a pair objective."
                )

    def _check_views(self) -> None:
        indices = {index for pair in self.pairing for index in (pair.query, pair.key)}
        if self.repulsion is not None:
            indices |= set(self.repulsion.views)
        if self.pairs_views and (not self.pairing or max(indices) >= len(self.views.views)):
            raise InvalidValue(
                f"The method {self.name!r} pairs the views {sorted(indices)}, but `views` has "
                f"{len(self.views.views)} of them, counted from 0."
            )

    @property
    def pairs_views(self) -> bool:
        return isinstance(self.objective, PairObjective)

    @property
    def needs_labels(self) -> bool:
        return isinstance(self.objective, SetObjective) and self.objective.needs_labels

    @property
    def queries(self) -> tuple[int, ...]:
        """The views whose embeddings are queries; all views for a set objective."""
        if not self.pairs_views:
            return tuple(range(len(self.views.views)))
        return tuple(sorted({pair.query for pair in self.pairing}))

    @property
    def keys(self) -> tuple[int, ...]:
        """The views whose embeddings are keys; none for a set objective."""
        return tuple(sorted({pair.key for pair in self.pairing})) if self.pairs_views else ()

    @property
    def online(self) -> tuple[int, ...]:
        """The views that go through the trained network."""
        indices = set(self.queries) | (set() if isinstance(self.target, EMA) else set(self.keys))
        return tuple(sorted(indices | set(self.repulsion.views if self.repulsion else ())))

    def negatives(self, batch_size: int) -> int:
        """The number of negatives of each query of a pair objective; 0 for a set objective."""
        if not isinstance(self.objective, PairObjective):
            return 0
        batch = len(self.keys) * (batch_size - 1) if self.objective.uses_batch_negatives else 0
        return batch + (self.memory.length if self.memory else 0)

    def chance_level(self, batch_size: int) -> float:
        """The loss of a network that has learned nothing, for batches of ``batch_size`` images.

        Leaves out the affinity of local views, whose weight is small.
        """
        if isinstance(self.objective, SetObjective):
            return self.objective.chance_level(batch_size, views=len(self.views.views))
        return self._total_weight * self.objective.chance_level(self.negatives(batch_size))

    def lower_bound(self, batch_size: int, width: int, *, classes: int | None = None) -> float:
        """Estimated lowest loss in practice, for embeddings of width ``width``."""
        if isinstance(self.objective, SetObjective):
            views = len(self.views.views)
            return self.objective.lower_bound(batch_size, width, views=views, classes=classes)
        return self._total_weight * self.objective.lower_bound(self.negatives(batch_size), width)

    @property
    def _total_weight(self) -> float:
        return sum(pair.weight for pair in self.pairing)

    @property
    def health_objective(self) -> SetObjective:
        """The set objective that health figures of two views are measured with.

        That of its objective: the objective itself if it can distinguish learning from collapse.
        """
        return self.objective.health_objective
