"""Embeddings of several views -> one number to minimize: pure functions, no state.

Each objective has a file of its own that reads like its equation. They normalize their rows
themselves, compute in float32 whatever comes in, and return the unscaled mean of the paper. Where
the batch is spread over processes, ``ranks`` says so: each rank's value is its part of the whole
batch's loss, such that their mean is that loss.
"""

from coview.objectives.classify import cross_entropy, distillation
from coview.objectives.decoupled_nt_xent import decoupled_nt_xent
from coview.objectives.info_nce import info_nce
from coview.objectives.log_partition_between import log_partition_between
from coview.objectives.loss_bounds import chance_level, estimated_lower_bound
from coview.objectives.margin_triplet import margin_triplet
from coview.objectives.negative_cosine import negative_cosine
from coview.objectives.nt_logistic import nt_logistic
from coview.objectives.nt_xent import nt_xent
from coview.objectives.positives import positive_counts
from coview.objectives.sup_con import sup_con

__all__ = [
    "chance_level",
    "cross_entropy",
    "decoupled_nt_xent",
    "distillation",
    "estimated_lower_bound",
    "info_nce",
    "log_partition_between",
    "margin_triplet",
    "negative_cosine",
    "nt_logistic",
    "nt_xent",
    "positive_counts",
    "sup_con",
]
