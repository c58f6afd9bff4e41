"""Files, Parquet, known data sets, arrays -> decoded images with a stable id (and a label)."""

from coview.data.decode_spec import MAX_PIXELS, DecodeSpec
from coview.data.held_out import relabel, require_images, split_held_out
from coview.data.options import LABELS
from coview.data.sources import open_images
from coview.data.store import MAX_UNUSABLE_SHARE
from coview.data.torchvision_sets import KNOWN_SETS

__all__ = [
    "KNOWN_SETS", "LABELS", "MAX_PIXELS", "MAX_UNUSABLE_SHARE", "DecodeSpec", "open_images",
    "relabel", "require_images", "split_held_out",
]  # fmt: skip
