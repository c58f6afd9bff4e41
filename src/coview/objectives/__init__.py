"""Embeddings of several views -> one number to minimise: pure functions, no state.

Each objective has a file of its own that reads like its equation. They normalise their rows
themselves, compute in float32 whatever comes in, and return the unscaled mean of the paper.
"""

from coview.objectives.levels import chance, practical_floor
from coview.objectives.nt_xent import nt_xent
from coview.objectives.positives import positive_counts
from coview.objectives.sup_con import sup_con

__all__ = ["chance", "nt_xent", "positive_counts", "practical_floor", "sup_con"]
