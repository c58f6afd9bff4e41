"""Features h -> embeddings z: projection heads whose every layer can be taken."""

from coview.heads.head import Head
from coview.heads.spec import HeadSpec

__all__ = ["Head", "HeadSpec"]
