"""A subject: a frozen network that protocols evaluate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from coview.core.tensors import weights_fingerprint
from coview.views import ViewSpec, eval_view


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """An encoder with the view that it takes, and with its head if it has one.

    ``encoder`` maps images [B, 3, H, W] to vectors [B, D], the layer ``encoder_layer``; ``head``
    maps these to embeddings [B, D'], the layer "z". ``name`` identifies the subject in results.

    >>> pixels = Subject(name="pixels", encoder=nn.Flatten(), view=eval_view(8))
    >>> pixels.layers
    ('h',)
    """

    name: str
    encoder: nn.Module
    view: ViewSpec
    head: nn.Module | None = None
    encoder_layer: str = "h"

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose outputs can be evaluated."""
        return (self.encoder_layer,) if self.head is None else (self.encoder_layer, "z")

    @property
    def weights_hash(self) -> str:
        """32 hexadecimal digits of all weights of the encoder and the head."""
        parts = [self.encoder] if self.head is None else [self.encoder, self.head]
        return weights_fingerprint(nn.ModuleList(parts))


def pixel_subject(size: int = 32) -> Subject:
    """The baseline without a network: the central square resized to ``size`` pixels, flattened.

    Its layer is "pixels", float32 [B, 3 * size * size] in [0, 1].

    >>> pixel_subject(16).layers
    ('pixels',)
    """
    return Subject(
        name="pixels", encoder=nn.Flatten(), view=eval_view(size), encoder_layer="pixels"
    )
