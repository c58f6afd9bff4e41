"""Images to features by a frozen encoder, and the raw pixels beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.core.eval_mode import eval_mode
from coview.core.images import ImageStore
from coview.core.progress import progress
from coview.views import ViewPlan, ViewSpec, eval_view, views_of

TAPS = ("h", "z")
UNLABELED = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """Features of N images at one or more taps, on the CPU.

    Shapes: taps, each float32 [N, D] by name ("h" = encoder output, "z" = head output, "pixels");
    ids int64 [N]; labels int64 [N] with -1 where unknown, or None.
    """

    taps: Mapping[str, Tensor]
    ids: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.ids)


def labeled(store: ImageStore, purpose: str) -> ImageStore:
    """The images of ``store`` that have a label. Raises DataError where there are none."""
    if store.labels is None or not (store.labels != UNLABELED).any():
        raise DataError(
            f"{purpose} needs labels and {store.source or 'the data set'} has none; "
            "put each class into a folder of its own, or name the label column."
        )
    return store.subset((store.labels != UNLABELED).nonzero()[0])


def extract(
    encoder: nn.Module,
    head: nn.Module | None,
    store: ImageStore,
    view: ViewSpec,
    *,
    device: torch.device | str = "cpu",
    batch: int = 256,
    taps: Sequence[str] | None = None,
    threads: int = 1,
    label: str = "features",
) -> Features:
    """Features of every image of ``store`` in the given view, drawn with seed 0 and epoch 0.

    ``taps`` are "h" (encoder output) and "z" (``head`` of h); by default all that there are. Both
    modules, already on ``device``, run in evaluation mode without gradient, and every training
    flag is as before afterwards. Raises InvalidValue, UnknownName.
    """
    taps = _checked_taps(taps, head)
    if batch < 1:
        raise InvalidValue(f"The batch of an extraction is {batch}; give 1 image or more.")
    parts: dict[str, list[Tensor]] = {tap: [] for tap in taps}
    modules = [encoder] if head is None else [encoder, head]
    with frozen(*modules), progress(label, len(store)) as advance:
        for images in _images(store, view, batch, threads, device):
            h = encoder(images.to(device))
            values = {"h": h, "z": head(h) if head is not None and "z" in taps else h}
            for tap in taps:
                parts[tap].append(values[tap].float().cpu())
            advance(len(images))
    joined = {tap: torch.cat(parts[tap]) for tap in taps}
    for tap in taps:
        if not bool(joined[tap].isfinite().all()):
            raise InvalidValue(
                f"The features at tap {tap!r} hold NaN or infinity, so nothing can be judged by "
                "them; the training diverged, take an earlier checkpoint."
            )
    return _features(store, joined)


def pixel_features(
    store: ImageStore, size: int = 32, *, batch: int = 1024, threads: int = 1
) -> Features:
    """The central square of every image, resized to ``size`` and flattened: tap "pixels".

    Shapes: float32 [N, 3 * size * size] in [0, 1]. What any trained encoder must beat.
    """
    parts = [part.flatten(1) for part in _images(store, eval_view(size), batch, threads, "cpu")]
    return _features(store, {"pixels": torch.cat(parts)})


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradient; afterwards every submodule has its own flag again."""
    with eval_mode(*modules), torch.no_grad():
        yield


def weights_fingerprint(module: nn.Module) -> str:
    """32 hexadecimal digits of all parameters and buffers: which network a figure belongs to."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hasher.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _checked_taps(taps: Sequence[str] | None, head: nn.Module | None) -> tuple[str, ...]:
    if taps is None:
        return TAPS if head is not None else TAPS[:1]
    for tap in taps:
        if tap not in TAPS:
            raise UnknownName("feature tap", tap, TAPS)
    if "z" in taps and head is None:
        raise InvalidValue(
            "The tap 'z' is the output of a head and there is none here (an exported encoder has "
            "none); give the run that has one, or ask for 'h'."
        )
    return tuple(taps)


def _images(
    store: ImageStore, view: ViewSpec, batch: int, threads: int, device: torch.device | str
) -> Iterator[Tensor]:
    if len(store) == 0:
        raise DataError(f"{store.source or 'The data set'} holds no images to compute features of.")
    plan = ViewPlan(views=(view,))
    for start in range(0, len(store), batch):
        rows = np.arange(start, min(start + batch, len(store)), dtype=np.int64)
        yield views_of(store, rows, plan, seed=0, epoch=0, threads=threads, device=device)[0]


def _features(store: ImageStore, taps: dict[str, Tensor]) -> Features:
    labels = None if store.labels is None else torch.from_numpy(store.labels.copy())
    return Features(taps=taps, ids=torch.from_numpy(store.ids.copy()), labels=labels)
