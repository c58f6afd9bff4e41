"""Checkpoints of other programs as exported folders: read, recognized, renamed, compared."""

from coview.importing.kinds import KINDS
from coview.importing.write import Imported, import_network

__all__ = ["KINDS", "Imported", "import_network"]
