"""Subjects, which are frozen networks, and the one loop that turns images into their vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from coview.core.ahead import map_ahead
from coview.core.errors import DataError, InvalidValue, UnknownName
from coview.core.eval_mode import eval_mode
from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.core.memory import PartSize
from coview.core.progress import progress
from coview.core.repeatable import repeatable
from coview.core.tensors import pinned, to_device, weights_fingerprint
from coview.heads.head import Head
from coview.views import ViewPlan, ViewSpec, eval_view, render_device, views_of

UNLABELED = -1
MAX_WORKERS = 8
ALL = 1 << 30
"""More images than any part has."""

Embed = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """An encoder with the view that it takes, and with its head if it has one.

    ``encoder`` maps images [B, 3, H, W] to vectors [B, D], the layer ``encoder_layer``; ``head``
    maps these to embeddings [B, D'], the layer "z". ``name`` identifies the subject in results;
    ``note`` says there what a reader must know of it. ``is_code``: the encoder is code of the
    caller, so that equal weights do not mean equal features; these are not kept on disk.
    ``views``: the first two views of each image that it was trained with, where they are known.
    ``logits``: the layer whose outputs are the logits of a classifier, "" where there is none;
    ``class_names``: the names of its classes, in the order of the logits.

    >>> pixels = Subject(name="pixels", encoder=nn.Flatten(), view=eval_view(8))
    >>> pixels.layers
    ('h',)
    """

    name: str
    encoder: nn.Module
    view: ViewSpec
    head: nn.Module | None = None
    encoder_layer: str = "h"
    note: str = ""
    is_code: bool = False
    views: ViewPlan | None = None
    logits: str = ""
    class_names: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are judged unless others are named."""
        return (self.encoder_layer,) if self.head is None else (self.encoder_layer, "z")

    @property
    def all_layers(self) -> tuple[str, ...]:
        """Every layer whose output can be judged; "z1" is that of the head's first layer.

        >>> from coview.heads import HeadSpec
        >>> head = HeadSpec(layers=3, hidden=8, output=4).build(192)
        >>> Subject(name="a", encoder=nn.Flatten(), head=head, view=eval_view(8)).all_layers
        ('h', 'z1', 'z2', 'z')
        """
        if not isinstance(self.head, Head):
            return self.layers
        middle = [f"z{number}" for number in range(1, len(self.head.layers))]
        return (self.encoder_layer, *middle, "z")

    def require_layers(self, layers: Sequence[str]) -> None:
        """Raise InvalidValue or UnknownName where one of ``layers`` is no layer of this subject."""
        _checked_layers(self, layers)

    def outputs(self, images: Tensor, layers: Sequence[str]) -> tuple[Tensor, ...]:
        """The outputs of ``layers`` for images [B, 3, S, S], each [B, D]."""
        h = self.encoder(images)
        values = [h]
        if self.head is not None and set(layers) - {self.encoder_layer}:
            head = self.head
            # Without layers the embedding z is h.
            values += (head.layer_outputs(h)[1:] or [h]) if isinstance(head, Head) else [head(h)]
        by_name = dict(zip(self.all_layers, values, strict=False))
        return tuple(by_name[layer] for layer in layers)

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """Vectors of N images at one or more layers, on the CPU.

    Shapes: layers, each float32 [N, D] by name ("h" = encoder output, "z" = head output,
    "pixels"); ids int64 [N]; labels int64 [N] with -1 where unknown, or None.
    """

    layers: Mapping[str, Tensor]
    ids: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.ids)


def has_labels(labels: npt.NDArray[np.int64] | None) -> bool:
    """Whether an image has a label, by those of all, int64 [N]; None: there are none."""
    return labels is not None and bool((labels != UNLABELED).any())


def labeled(store: ImageStore, purpose: str) -> ImageStore:
    """The images of ``store`` that have a label. Raises DataError if there are none.

    >>> from coview.core.images import store_from_arrays
    >>> pixels = np.zeros((3, 8, 8, 3), np.uint8)
    >>> len(labeled(store_from_arrays(pixels, labels=np.array([0, -1, 1])), "An evaluation"))
    2
    """
    if store.labels is None or not has_labels(store.labels):
        raise DataError(
            f"{purpose} needs labels and {store.source or 'the data set'} has none; "
            "put each class into a folder of its own, or name the label column."
        )
    return store.subset((store.labels != UNLABELED).nonzero()[0])


def extract(
    subject: Subject, store: ImageStore, *, layers: Sequence[str] | None = None,
    device: torch.device | str = "cpu", batch_size: int = 256, workers: int | None = None,
    label: str | None = None,
) -> Features:  # fmt: skip
    """Features of every image of ``store``, in the order of the store.

    ``layers`` are some of ``subject.all_layers``, by default ``subject.layers``. The network,
    already on ``device``, runs in evaluation mode without gradient; every training flag is restored
    afterwards. The result does not depend on ``workers``.
    Raises InvalidValue, UnknownName, DataError.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import pixel_subject
    >>> store = store_from_arrays(np.zeros((5, 12, 12, 3), np.uint8))
    >>> extract(pixel_subject(8), store).layers["pixels"].shape
    torch.Size([5, 192])
    """
    vectors = layer_vectors(
        subject, store, subject.view, _checked_layers(subject, layers), device=device,
        batch_size=batch_size, workers=workers, label=label or f"{subject.name} features",
    )  # fmt: skip
    return features_of_layers(store, vectors)


def layer_vectors(
    subject: Subject, store: ImageStore, view: ViewSpec, layers: Sequence[str], *, seed: int = 0,
    epoch: int = 0, device: torch.device | str = "cpu", batch_size: int = 256,
    workers: int | None = None, label: str = "features",
) -> dict[str, Tensor]:  # fmt: skip
    """The outputs of ``layers``, each float32 [N, D], for one view of every image of ``store``.

    In evaluation mode; the other arguments are those of :func:`embed_views`. Raises InvalidValue
    where they are not finite.
    """

    def embed(images: Tensor) -> tuple[Tensor, ...]:
        return subject.outputs(images, layers)

    modules = [subject.encoder] if subject.head is None else [subject.encoder, subject.head]
    with eval_mode(*modules):
        (outputs,) = embed_views(
            embed, store, ViewPlan(views=(view,)), seed=seed, epoch=epoch, device=device,
            batch_size=batch_size, workers=workers, label=label,
        )  # fmt: skip
    return _finite(dict(zip(layers, outputs, strict=True)), subject)


def _finite(vectors: dict[str, Tensor], subject: Subject) -> dict[str, Tensor]:
    for layer, values in vectors.items():
        if not bool(values.isfinite().all()):
            raise InvalidValue(
                f"The features at layer {layer!r} of {subject.name} hold NaN or infinity, so they "
                "cannot be evaluated; the training diverged, take an earlier checkpoint."
            )
    return vectors


@torch.no_grad()
def vectors_of_parts(
    subject: Subject, parts: Iterable[ImageStore], layers: Sequence[str] | None = None, *,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[ImageStore, dict[str, Tensor]]]:  # fmt: skip
    """Each part of some images with the outputs of ``layers``, float32 [n, D] on the CPU.

    A part is one batch, or several where it does not fit into memory; threads render the next ones
    meanwhile, one on a CPU. A part without images has no vectors: {}. The network, on ``device``,
    is in evaluation mode until the end. Raises InvalidValue, UnknownName.

    >>> from coview.core.images import store_from_arrays
    >>> store = store_from_arrays(np.zeros((3, 12, 12, 3), np.uint8))
    >>> [h["pixels"].shape for _, h in vectors_of_parts(pixel_subject(8), [store, store])]
    [torch.Size([3, 192]), torch.Size([3, 192])]
    """
    layers = _checked_layers(subject, layers)
    plan = ViewPlan(views=(subject.view,))
    device, place = torch.device(device), render_device(device)
    workers = 1 if device.type == "cpu" else render_workers()

    def render(part: ImageStore) -> tuple[ImageStore, Tensor | None]:
        if len(part) == 0:
            return part, None
        rows = np.arange(len(part), dtype=np.int64)
        (images,) = views_of(part, rows, plan, seed=0, epoch=0, device=place)
        return part, pinned(images, device)

    modules = [subject.encoder] if subject.head is None else [subject.encoder, subject.head]
    size = PartSize(ALL, device=device)
    with eval_mode(*modules), contextlib.closing(map_ahead(render, parts, workers)) as rendered:
        for part, images in rendered:
            if images is None:
                yield part, {}
                continue
            pieces = outputs_in_parts(lambda x: subject.outputs(x, layers), images, size)
            outputs = [torch.cat(each) for each in zip(*pieces, strict=True)]
            yield part, _finite(dict(zip(layers, outputs, strict=True)), subject)


def features_of_layers(store: ImageStore, layers: Mapping[str, Tensor]) -> Features:
    """Vectors of the images of ``store``, each float32 [N, D] by the name of its layer."""
    return Features(
        layers=layers,
        ids=torch.from_numpy(store.ids.copy()),
        labels=None if store.labels is None else torch.from_numpy(store.labels.copy()),
    )


@torch.no_grad()
def embed_views(
    embed: Embed, store: ImageStore, plan: ViewPlan, *, seed: int = 0, epoch: int = 0,
    device: torch.device | str = "cpu", batch_size: int = 256, workers: int | None = None,
    label: str = "features",
) -> list[tuple[Tensor, ...]]:  # fmt: skip
    """The outputs of ``embed`` for every view of every image of ``store``, without gradient.

    ``embed`` maps views [B, 3, S, S] on ``device`` to a tuple of tensors [B, ...]. Each view of
    ``plan`` gives one such tuple of float32 [N, ...] on the CPU. B is ``batch_size``, and smaller
    where that does not fit into memory (see :class:`~coview.core.memory.PartSize`). Threads render
    up to ``workers`` + 1 batches ahead of the network, where ``coview.views.render_device`` says;
    None takes the machine's cores less one, at most 8. The result does not depend on their number.
    Raises InvalidValue, DataError.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.views import eval_view
    >>> store = store_from_arrays(np.zeros((5, 12, 12, 3), np.uint8))
    >>> plan = ViewPlan(views=(eval_view(8), eval_view(12)))
    >>> [colors.shape for (colors,) in embed_views(lambda x: (x.mean((2, 3)),), store, plan)]
    [torch.Size([5, 3]), torch.Size([5, 3])]
    """
    device, place = torch.device(device), render_device(device)
    workers = render_workers() if workers is None else workers
    if batch_size < 1 or workers < 0:
        raise InvalidValue(
            f"`batch_size` is {batch_size} and `workers` is {workers}; expected at least 1 and 0."
        )
    if len(store) == 0:
        raise DataError(f"{store.source or 'The data set'} holds no images to compute features of.")

    def render(start: int) -> tuple[Tensor, ...]:
        rows = np.arange(start, min(start + batch_size, len(store)), dtype=np.int64)
        views = views_of(store, rows, plan, seed=seed, epoch=epoch, device=place)
        return tuple(pinned(view, device) for view in views)

    size = PartSize(batch_size, device=device)
    batches: list[list[tuple[Tensor, ...]]] = [[] for _ in plan.views]
    with progress(label, len(store)) as advance, repeatable(device):
        for views in map_ahead(render, range(0, len(store), batch_size), workers):
            for outputs, images in zip(batches, views, strict=True):
                outputs += outputs_in_parts(embed, images, size)
            advance(len(views[0]))
    return [tuple(torch.cat(parts) for parts in zip(*outputs, strict=True)) for outputs in batches]


def outputs_in_parts(embed: Embed, images: Tensor, size: PartSize) -> list[tuple[Tensor, ...]]:
    """What ``embed`` gives for the parts of ``images`` [B, 3, S, S], float32 on the CPU.

    Each part is sent to the device of ``size``, or stays where that is None. Raises DoesNotFit.
    """

    def compute(part: slice) -> tuple[Tensor, ...]:
        own = images[part] if size.device is None else to_device(images[part], size.device)
        return tuple(output.float().cpu() for output in embed(own))

    return size.map(compute, len(images))


def render_workers() -> int:
    """The threads that render ahead of a network: the machine's cores less one, at most 8."""
    return min(MAX_WORKERS, cores() - 1)


def _checked_layers(subject: Subject, layers: Sequence[str] | None) -> tuple[str, ...]:
    for layer in layers or ():
        if layer == "z" and subject.head is None:
            raise InvalidValue(
                f"The layer 'z' is the output of a head and {subject.name} has none (an exported "
                f"encoder has none); give the run, or take the layer {subject.encoder_layer!r}."
            )
        if layer not in subject.all_layers:
            raise UnknownName("layer", layer, subject.all_layers)
    return subject.layers if layers is None else tuple(layers)
