"""Functions from a method to a method: multi-crop and LoGo."""

from coview.methods.crops.logo import logo
from coview.methods.crops.multi_crop import add_local_views, multi_crop, to_pair_objective

__all__ = ["add_local_views", "logo", "multi_crop", "to_pair_objective"]
