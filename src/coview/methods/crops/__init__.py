"""Methods made of methods: with local crops, and with local crops that repel each other."""

from coview.methods.crops.logo import logo
from coview.methods.crops.multi_crop import in_pairs, multi_crop, with_local_views

__all__ = ["in_pairs", "logo", "multi_crop", "with_local_views"]
