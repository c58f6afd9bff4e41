"""Objectives: embeddings of several views -> one number to minimize. Pure functions, no state.

They normalize their rows, compute in float32 (float64 for float64 input) even under autocast, and
return the unscaled mean of the paper. For a batch that is spread over processes pass ``ranks``:
each rank returns its share of the loss, and the mean of the shares is the loss of the whole batch.
"""

from coview.objectives.classify import cross_entropy, distillation
from coview.objectives.info_nce import info_nce
from coview.objectives.negative_cosine import negative_cosine
from coview.objectives.nt_xent import (
    chance_level,
    decoupled_nt_xent,
    estimated_lower_bound,
    nt_xent,
)
from coview.objectives.positives import positive_counts
from coview.objectives.sup_con import sup_con
from coview.objectives.view_pairs import margin_triplet, nt_logistic

__all__ = [
    "chance_level", "cross_entropy", "decoupled_nt_xent", "distillation", "estimated_lower_bound",
    "info_nce", "margin_triplet", "negative_cosine", "nt_logistic", "nt_xent", "positive_counts",
    "sup_con",
]  # fmt: skip
