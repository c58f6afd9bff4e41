"""What is compared with what: a method is a value, and one learner runs any such value."""

from coview.methods.learner import Learner
from coview.methods.method import Method
from coview.methods.objectives import NTXent, Objective, SupCon
from coview.methods.registry import named, names
from coview.methods.simclr import simclr
from coview.methods.supcon import supcon

__all__ = [
    "Learner",
    "Method",
    "NTXent",
    "Objective",
    "SupCon",
    "named",
    "names",
    "simclr",
    "supcon",
]
