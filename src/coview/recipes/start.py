"""Where the first weights of a network come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from coview.core.errors import InvalidValue, RunError
from coview.core.run_folder import RunFolder
from coview.encoders.exchange.weights import load_weights
from coview.encoders.residual import Encoder
from coview.heads.head import Head
from coview.recipes.recipe import KeptHead
from coview.training.checkpoints import Checkpoints
from coview.training.state import TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The weights that a network starts with: a run, an exported encoder, or a safetensors file.

    The encoder takes them; a head that is kept takes those of the run's projection head.
    """

    path: str

    @classmethod
    def at(cls, path: str | Path) -> Start:
        """The same place from any working folder."""
        return cls(path=str(Path(path).expanduser().absolute()))


class HeadedEncoder(nn.Module):
    """An encoder followed by the first layers of a projection head: images -> their last layer.

    ``features`` is the width of that layer; ``encoder`` and ``kept`` are the parts.
    """

    def __init__(self, encoder: Encoder, kept: Head) -> None:
        super().__init__()
        self.encoder, self.kept = encoder, kept
        self.features = kept.features

    def forward(self, images: Tensor) -> Tensor:
        h: Tensor = self.kept(self.encoder(images))
        return h


def with_kept_head(encoder: Encoder, kept: KeptHead, seed: int) -> HeadedEncoder:
    """``encoder`` with the layers of a new head; the same seed gives the same bytes."""
    return HeadedEncoder(encoder, kept.head.build(encoder.features, seed).truncated(kept.layers))


def load_start(encoder: Encoder | HeadedEncoder, start: Start) -> None:
    """Give ``encoder``, and the head layers that it keeps, the weights of ``start``.

    Raises InvalidValue, RunError or DamagedFile; nothing has changed then.
    """
    if not isinstance(encoder, HeadedEncoder):
        load_weights(encoder, start.path)
        return
    tensors = head_tensors(Path(start.path))
    state = encoder.kept.state_dict()
    missing = [
        name for name in state if name not in tensors or tensors[name].shape != state[name].shape
    ]
    if missing:
        raise InvalidValue(
            f"The projection head of {start.path} does not fit: {', '.join(missing[:4])}."
        )
    load_weights(encoder.encoder, start.path)
    encoder.kept.load_state_dict({name: tensors[name] for name in state})


def head_tensors(run: Path) -> dict[str, Tensor]:
    """The state of the projection head after the last verified checkpoint of a run.

    Raises RunError where there is none: an exported encoder has no head.
    """
    checkpoint = Checkpoints(RunFolder(run).checkpoints_path).load_latest()
    if checkpoint is None:
        raise RunError(
            f"{run} has no projection head: an exported encoder ends with h. Give the folder of "
            "the run, or `from_layer` 0."
        )
    prefix = f"{TASK}head."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix)
    }
