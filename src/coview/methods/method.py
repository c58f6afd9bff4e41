"""A method is a value: what is compared with what, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coview.core.errors import InvalidValue, UnknownName
from coview.heads import HeadSpec
from coview.methods.objectives import Objective
from coview.views import ViewPlan

BatchNormGroups = Literal["joint", "per view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Everything that tells one method from another, as one value of plain values.

    ``views`` says which views of an image there are, ``head`` what the objective sees of the
    features, ``objective`` how all embeddings of a batch are compared, set against set, with
    gradients through every one of them. ``batch_norm`` says which images share statistics: all
    views of one size ("joint", one forward pass, as in official SimCLR) or each view's alone
    ("per view", one pass each, which also moves the running statistics once for each).
    ``dataclasses.replace`` makes an ablation; equality, hash and printing are those of the value.

    How it grows: a method that needs a predictor, a target other than the shared network (a
    stopped or averaged copy), a memory of keys, a pairing other than set against set, or further
    players, brings that field with its default here, and its state into ``Learner.after_step``,
    which runs once for each accepted step and is where all state moves. A method that does not
    fit implements the training room's ``Task`` itself.

    Raises InvalidValue or UnknownName.
    """

    name: str
    views: ViewPlan
    head: HeadSpec
    objective: Objective
    batch_norm: BatchNormGroups = "joint"

    def __post_init__(self) -> None:
        if self.batch_norm not in ("joint", "per view"):
            raise UnknownName("BatchNorm grouping", str(self.batch_norm), ("joint", "per view"))
        if len(self.views.views) < 2:
            raise InvalidValue(
                f"The method {self.name!r} compares views of one image; give it at least two."
            )
