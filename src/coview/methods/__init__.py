"""Methods as values, and the learner that trains an encoder by any such value."""

from coview.methods.affinity import CosineAffinity, Critic, FixedWeight, GradientRatio, Repulsion
from coview.methods.byol import byol
from coview.methods.crops import logo, multi_crop
from coview.methods.learner import Learner
from coview.methods.memory import Queue
from coview.methods.method import Method, Pair
from coview.methods.moco import moco
from coview.methods.pair_objectives import (
    InfoNCE,
    NegativeCosine,
    Negatives,
    PairObjective,
    SquaredDistance,
)
from coview.methods.passes import Passes
from coview.methods.registry import METHODS, get_method, list_methods, register_method
from coview.methods.set_objectives import (
    CrossEntropy,
    Distillation,
    NTXent,
    SetObjective,
    SupCon,
)
from coview.methods.simclr import simclr
from coview.methods.simclr_v2 import simclr_v2
from coview.methods.simsiam import simsiam
from coview.methods.supcon import supcon
from coview.methods.supervised import supervised
from coview.methods.target import EMA, SameNetwork, StopGradient, Teacher
from coview.methods.view_pair_objectives import MarginTriplet, NTLogistic

__all__ = [
    "EMA", "METHODS", "CosineAffinity", "Critic", "CrossEntropy", "Distillation", "FixedWeight",
    "GradientRatio", "InfoNCE", "Learner", "MarginTriplet", "Method", "NTLogistic", "NTXent",
    "NegativeCosine", "Negatives", "Pair", "PairObjective", "Passes", "Queue", "Repulsion",
    "SameNetwork", "SetObjective", "SquaredDistance", "StopGradient", "SupCon", "Teacher", "byol",
    "get_method", "list_methods", "logo", "moco", "multi_crop", "register_method", "simclr",
    "simclr_v2", "simsiam", "supcon", "supervised",
]  # fmt: skip
