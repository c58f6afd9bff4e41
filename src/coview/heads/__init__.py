"""Projection heads: features h -> embeddings z. The output of every layer can be used."""

from coview.heads.head import Head
from coview.heads.spec import HeadSpec

__all__ = ["Head", "HeadSpec"]
