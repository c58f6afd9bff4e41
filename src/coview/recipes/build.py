"""The network of a recipe before the first step, its first weights, and its precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from coview.core.errors import CoviewError, DamagedFile, InvalidValue, RunError
from coview.core.paths import absolute_path
from coview.core.places import Kind, place_of
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.core.run_folder import RunFolder
from coview.encoders import Encoder
from coview.encoders.exchange.head import read_head
from coview.encoders.exchange.weights import find_export, load_weights
from coview.encoders.own import trial_forward
from coview.heads import HeadSpec
from coview.heads.head import Head
from coview.methods import Learner
from coview.methods.learner import NetworkTask
from coview.recipes.recipe import DenseRecipe, KeptHead, Recipe
from coview.training import Checkpoints, Precision, choose_precision
from coview.training.state import TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The weights that a network starts with: a run, an exported encoder, or a safetensors file.

    The encoder takes them; a head that is kept takes those of the run's projection head.
    ``checkpoint``: the step of a kept checkpoint of a run; None is its end.
    """

    path: str
    checkpoint: int | None = None

    @classmethod
    def at(cls, path: str | Path, checkpoint: int | None = None) -> Start:
        """The same place from any working folder. Raises RunError without such a checkpoint."""
        if checkpoint is not None:
            RunFolder.open(path).require_checkpoint(checkpoint)
        return cls(path=str(absolute_path(path)), checkpoint=checkpoint)


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


def build_task(
    recipe: Recipe, start: Start | None = None, *, total_steps: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> NetworkTask:  # fmt: skip
    """What a run of ``recipe`` trains, before the first step: see :func:`build`.

    Of a :class:`DenseRecipe` a detector or a segmenter on the encoder's maps, else a Learner.

    >>> from coview.recipes import recipe
    >>> type(build_task(recipe("detect-cpu"))).__name__
    'DetectionLearner'
    """
    if not isinstance(recipe, DenseRecipe):
        return build(recipe, start, total_steps=total_steps, ranks=ranks)
    from coview.dense.learner import dense_learner  # slow to import

    encoder = recipe.encoder.build(seed=recipe.seed)
    if start is not None:
        load_start(encoder, start)
    return dense_learner(
        recipe.method, encoder, seed=recipe.seed, passes=recipe.passes, ranks=ranks,
        total_steps=total_steps,
    )  # fmt: skip


def build(
    recipe: Recipe, start: Start | None = None, *, total_steps: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Learner:  # fmt: skip
    """The learner of ``recipe`` before the first step; the same seed gives the same bytes.

    ``start`` replaces the encoder's first values. Raises InvalidValue, RunError or DamagedFile
    where its weights do not fit or cannot be read, and for a :class:`DenseRecipe`, which compares
    no views.

    >>> from coview.recipes import change, recipe
    >>> build(change(recipe("simclr-cpu"), encoder="resnet10/8-medium")).head.widths
    (64, 256, 64)
    """
    if isinstance(recipe, DenseRecipe):
        raise InvalidValue(
            f"{recipe.name} learns boxes or label maps (`coview detect`); of such a run take the "
            "exported encoder, its folder encoder/."
        )
    encoder: Encoder | HeadedEncoder = recipe.encoder.build(seed=recipe.seed)
    if recipe.encoder.kind != "resnet":  # ours take any size
        for size in {view.size for view in recipe.method.views.views}:
            trial_forward(encoder, recipe.encoder.label(), size)
    if recipe.kept_head is not None:
        encoder = with_kept_head(cast(Encoder, encoder), recipe.kept_head, recipe.seed)
    if start is not None:
        load_start(encoder, start)
    return Learner(
        recipe.method, cast(Encoder, encoder), head_seed=recipe.seed, total_steps=total_steps,
        passes=recipe.passes, ranks=ranks,
    )  # fmt: skip


def precision_of(recipe: Recipe, learner: NetworkTask, device: torch.device) -> Precision:
    """What the recipe's precision means on ``device``, for its network and the sizes of its views.

    ``learner`` is the recipe's, still on the CPU. Raises UnknownName, InvalidValue.

    >>> from coview.recipes import change, recipe
    >>> exact = change(recipe("simclr-cpu"), precision="fp32")
    >>> precision_of(exact, build(exact), torch.device("cpu")).format
    'fp32'
    """
    sizes = [view.size for view in recipe.method.views.views]
    return choose_precision(recipe.precision, device, network=learner.encoder, sizes=sizes)


def with_kept_head(encoder: Encoder, kept: KeptHead, seed: int) -> HeadedEncoder:
    """``encoder`` with the layers of a new head; the same seed gives the same bytes."""
    return HeadedEncoder(encoder, kept.head.build(encoder.features, seed).truncated(kept.layers))


def load_start(encoder: Encoder | HeadedEncoder, start: Start) -> None:
    """Give ``encoder``, and the head layers that it keeps, the weights of ``start``.

    Raises InvalidValue, RunError or DamagedFile; nothing has changed then.
    """
    headed = isinstance(encoder, HeadedEncoder)
    if start.checkpoint is None and not headed:
        load_weights(cast(Encoder, encoder), start.path)
        return
    if start.checkpoint is None and place_of(start.path).kind is not Kind.RUN:
        load_exported_start(cast(HeadedEncoder, encoder), start.path)
        return
    checkpoints = Checkpoints(RunFolder(Path(start.path)).checkpoints_path)
    step = start.checkpoint
    checkpoint = checkpoints.load_latest() if step is None else checkpoints.load(step)
    if checkpoint is None:
        raise RunError(
            f"{start.path} has no projection head: an exported encoder ends with h. Give the "
            "folder of the run, or `from_layer` 0."
        )
    parts: dict[str, nn.Module] = {"encoder": encoder}
    if isinstance(encoder, HeadedEncoder):
        parts = {"encoder": encoder.encoder, "head": encoder.kept}
    # The encoder of a fine-tuned run may lie beside head layers that it has kept.
    inner = any(key.startswith(f"{TASK}encoder.encoder.") for key in checkpoint.tensors)
    places = {"encoder": "encoder.encoder" if inner else "encoder", "head": "head"}
    states = {
        name: {
            key: checkpoint.tensors.get(f"{TASK}{places[name]}.{key}") for key in part.state_dict()
        }
        for name, part in parts.items()
    }
    missing = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, tensor in part.state_dict().items()
        if states[name][key] is None or states[name][key].shape != tensor.shape  # type: ignore[union-attr]
    ]
    if missing:
        raise InvalidValue(
            f"The network of {start.path} does not fit this recipe: {', '.join(missing[:4])}."
        )
    for name, part in parts.items():
        part.load_state_dict(cast(dict[str, Tensor], states[name]))


def exported_head(folder: Path, in_features: int) -> Head | None:
    """The projection head in an export folder, in evaluation mode; None where it has none.

    Raises DamagedFile.
    """
    content = read_head(folder)
    if content is None:
        return None
    spec, tensors = content
    try:
        head = HeadSpec.from_json(spec).outline(in_features).to_empty(device="cpu")
        head.load_state_dict(tensors)
    except (CoviewError, RuntimeError) as error:
        raise DamagedFile(f"The projection head in {folder} cannot be built: {error}") from error
    return head.eval()


def load_exported_start(encoder: HeadedEncoder, path: str) -> None:
    """As :func:`load_start`, from an export that has a projection head beside its encoder."""
    folder = find_export(path)
    head = exported_head(folder, encoder.encoder.features)
    kept = len(encoder.kept.layers)
    if head is None:
        raise RunError(
            f"{path} has no projection head: this exported encoder ends with h. Give the folder "
            "of the run, or `from_layer` 0."
        )
    if head.widths[: kept + 1] != encoder.kept.widths or len(head.layers) < kept:
        raise InvalidValue(
            f"The head in {path} has the widths {head.widths}, which does not fit this recipe's "
            f"{encoder.kept.widths}."
        )
    state = head.truncated(kept).state_dict()
    if state.keys() != encoder.kept.state_dict().keys():
        raise InvalidValue(f"The head in {path} has other layers than this recipe's.")
    load_weights(encoder.encoder, folder)
    encoder.kept.load_state_dict(state)
