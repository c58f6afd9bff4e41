"""Files, Parquet, known data sets, arrays -> decoded images with a stable id (and a label)."""

from coview.data.decode import MAX_PIXELS, DecodeSpec
from coview.data.held_out import relabel, require_images, split_held_out
from coview.data.sources import LABELS, open_images
from coview.data.store import CEILING
from coview.data.torchvision_sets import KNOWN_SETS

__all__ = [
    "CEILING",
    "KNOWN_SETS",
    "LABELS",
    "MAX_PIXELS",
    "DecodeSpec",
    "open_images",
    "relabel",
    "require_images",
    "split_held_out",
]
