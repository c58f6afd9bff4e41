"""A method is a value: what is compared with what, and how."""

from __future__ import annotations

from dataclasses import dataclass

from coview.core.errors import InvalidValue, UnknownName
from coview.heads import HeadSpec
from coview.methods.affinity import Repulsion
from coview.methods.memory import Queue
from coview.methods.pair_objectives import InfoNCE, PairObjective
from coview.methods.pairing import BOTH_WAYS, Pairing, keys, queries
from coview.methods.set_objectives import CrossEntropy, NTXent, SetObjective, SupCon
from coview.methods.target import EMA, SAME_NETWORK, Target
from coview.views import ViewPlan

BATCH_NORM = ("joint", "per view", "groups", "frozen")
HEALTH_TEMPERATURE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Everything that tells one method from another, as one value of plain values.

    ``views`` says which views of an image there are, ``head`` what the objective sees of the
    features. A set objective compares all embeddings of a batch, with gradients through every one
    of them. A pair objective compares queries with keys: ``pairing`` says which view asks which,
    ``target`` where keys come from, ``predictor`` what stands between the head and a query,
    ``memory`` which earlier keys are negatives. ``repulsion`` is LoGo's second game, between local
    views.

    ``batch_norm`` says which images share statistics: all views of one size ("joint", one forward
    pass, as in official SimCLR), each view's alone ("per view", one pass each, which also moves the
    running statistics once for each), ``ghost_batch_size`` images of each view, drawn anew at each step
    ("groups", what several devices do without synchronization), or none: the running statistics
    are used and stay as they are ("frozen"). With several processes "joint" and "per view" span
    them all unless ``synchronized`` is off.

    ``dataclasses.replace`` makes an ablation; equality, hash and printing are those of the value.
    A method that does not fit implements the training room's ``Task`` itself.

    Raises InvalidValue or UnknownName.
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
        if self.batch_norm not in BATCH_NORM:
            raise UnknownName("BatchNorm grouping", str(self.batch_norm), BATCH_NORM)
        if (self.batch_norm == "groups") != (self.ghost_batch_size is not None):
            raise InvalidValue("norm_group is the number of images that batch_norm='groups' takes.")
        if self.ghost_batch_size is not None and self.ghost_batch_size < 2:
            raise InvalidValue(
                f"norm_group is {self.ghost_batch_size}; BatchNorm needs at least 2."
            )
        if len(self.views.views) < 2:
            raise InvalidValue(
                f"The method {self.name!r} compares views of one image; give it at least two."
            )
        self._check_objective()
        self._check_slots()

    def _check_objective(self) -> None:
        if isinstance(self.objective, PairObjective):
            if self.memory is not None and not self.objective.takes_negatives:
                raise InvalidValue(
                    f"{type(self.objective).__name__} has no negatives, so a queue of keys "
                    "means nothing to it."
                )
            if self.objective.takes_negatives and not (self.memory or self.objective.uses_batch):
                raise InvalidValue(
                    f"{type(self.objective).__name__} has nothing to tell its key from: give the "
                    "method a memory, or the objective batch_negatives=True."
                )
            return
        used = {
            "predictor": self.predictor is not None,
            "target": self.target != SAME_NETWORK,
            "memory": self.memory is not None,
            "pairing": self.pairing != BOTH_WAYS,
            "repulsion": self.repulsion is not None,
        }
        for field, given in used.items():
            if given:
                raise InvalidValue(
                    f"{type(self.objective).__name__} compares all embeddings of a batch, so that "
                    f"{field} means nothing to it; leave it out or take a pair objective."
                )

    def _check_slots(self) -> None:
        slots = {slot for pair in self.pairing for slot in (pair.query, pair.key)}
        if self.repulsion is not None:
            slots |= set(self.repulsion.views)
        if self.pairs_views and (not self.pairing or max(slots) >= len(self.views.views)):
            raise InvalidValue(
                f"The method {self.name!r} pairs the views {sorted(slots)}, but its plan has "
                f"{len(self.views.views)} of them, counted from 0."
            )

    @property
    def pairs_views(self) -> bool:
        """Whether the objective is one of pairs."""
        return isinstance(self.objective, PairObjective)

    @property
    def needs_labels(self) -> bool:
        """Whether a batch without labels cannot be learned from."""
        return isinstance(self.objective, SetObjective) and self.objective.needs_labels

    @property
    def queries(self) -> tuple[int, ...]:
        """The slots whose embeddings ask; of a set objective all."""
        return queries(self.pairing) if self.pairs_views else tuple(range(len(self.views.views)))

    @property
    def keys(self) -> tuple[int, ...]:
        """The slots whose embeddings answer; of a set objective none."""
        return keys(self.pairing) if self.pairs_views else ()

    @property
    def online(self) -> tuple[int, ...]:
        """The slots that go through the network that is trained."""
        slots = set(self.queries) | (set() if isinstance(self.target, EMA) else set(self.keys))
        return tuple(sorted(slots | set(self.repulsion.views if self.repulsion else ())))

    def negatives(self, batch_size: int) -> int:
        """How many negatives each query of a pair objective has; 0 for a set objective."""
        if not isinstance(self.objective, PairObjective):
            return 0
        batch = len(self.keys) * (batch_size - 1) if self.objective.uses_batch else 0
        return batch + (self.memory.length if self.memory else 0)

    def chance_level(self, batch_size: int) -> float:
        """The loss at which nothing has been learned, for batches of so many images.

        The affinity of local views is left out: its weight is small.
        """
        if isinstance(self.objective, SetObjective):
            return self.objective.chance_level(batch_size, views=len(self.views.views))
        return self._weights * self.objective.chance_level(self.negatives(batch_size))

    def lower_bound(self, batch_size: int, width: int, *, classes: int | None = None) -> float:
        """About the lowest loss in practice, for embeddings of ``width`` numbers."""
        if isinstance(self.objective, SetObjective):
            views = len(self.views.views)
            return self.objective.lower_bound(batch_size, width, views=views, classes=classes)
        return self._weights * self.objective.lower_bound(self.negatives(batch_size), width)

    @property
    def _weights(self) -> float:
        return sum(pair.weight for pair in self.pairing)

    @property
    def health_objective(self) -> SetObjective:
        """The set objective by which health figures of two views are measured.

        The method's own where it is one; SupCon for cross-entropy. A pair objective without
        negatives cannot tell learning from collapse, so that NT-Xent judges instead, at the
        method's temperature or at 0.2.
        """
        if isinstance(self.objective, CrossEntropy):
            return SupCon(temperature=HEALTH_TEMPERATURE)
        if isinstance(self.objective, SetObjective):
            return self.objective
        if isinstance(self.objective, InfoNCE):
            return NTXent(temperature=self.objective.temperature)
        return NTXent(temperature=HEALTH_TEMPERATURE)
