"""The images and arrays of a report: neighbors, map, hardest pairs, contact sheet."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from coview.core.files import write_bytes
from coview.core.images import ImageStore
from coview.core.rng import CONTACT_SHEET_IMAGES, GALLERY_IMAGES, Stream, permutation
from coview.core.run_folder import RunFolder
from coview.embeddings.map import tsne
from coview.embeddings.neighbors import neighbors
from coview.evaluation import embed_views
from coview.views import ViewPlan, ViewSpec, contact_sheet, eval_view, views_of

SAMPLE, QUERIES, NEIGHBORS, PAIRS = 800, 8, 8, 12
THUMBNAIL = 48

Embed = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def write_gallery(
    folder: Path, embed: Embed, store: ImageStore, *, plan: ViewPlan, plain: ViewSpec, seed: int
) -> None:
    """Write report/gallery.npz of a random sample of ``store``.

    ``embed`` maps images [B, 3, H, W] to (h, z) in evaluation mode. ``plan`` has the training
    views, ``plain`` is the view without augmentation.
    """
    rows = permutation(seed, Stream.HEALTH, store.ids, draw_index=GALLERY_IMAGES)[:SAMPLE]
    sample = store.subset(rows)
    pair = ViewPlan(views=plan.views[:2])
    ((h, _),) = embed_views(embed, sample, ViewPlan(views=(plain,)), label="Gallery")
    (_, first), (_, second) = embed_views(embed, sample, pair, seed=seed, label="Hardest pairs")
    cosines = (normalize(first, dim=1) * normalize(second, dim=1)).sum(1)
    content = {
        "thumbnails": _thumbnails(sample), "names": np.array(sample.names, dtype=np.str_),
        "labels": np.full(len(rows), -1) if sample.labels is None else sample.labels,
        "map": (tsne(h) if len(h) >= 4 else torch.zeros(len(h), 2)).numpy(),
        **_neighbors(h), **_hardest_pairs(cosines, sample, pair, seed),
    }  # fmt: skip
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **content)
    write_bytes(RunFolder(folder).gallery_path, stream.getvalue())


def write_contact_sheet(folder: Path, store: ImageStore, plan: ViewPlan, *, seed: int) -> None:
    """Write report/views.png: six images beside their training views."""
    rows = permutation(seed, Stream.HEALTH, store.ids, draw_index=CONTACT_SHEET_IMAGES)[:6]
    path = RunFolder(folder).views_path
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(store, rows, plan, path, seed=seed)


def _thumbnails(store: ImageStore) -> np.ndarray[Any, Any]:
    plan = ViewPlan(views=(eval_view(THUMBNAIL),))
    return _pixels(views_of(store, np.arange(len(store)), plan, seed=0, epoch=0)[0])


def _pixels(images: torch.Tensor) -> np.ndarray[Any, Any]:
    """float [..., 3, H, W] in [0, 1] -> uint8 [..., H, W, 3]."""
    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().numpy()


def _neighbors(h: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    queries = torch.arange(min(QUERIES, len(h)))
    cosines, rows = neighbors(h, h[queries], NEIGHBORS, exclude=queries)
    return {
        "query_rows": queries.numpy(),
        "neighbor_rows": rows.numpy(),
        "neighbor_cosines": cosines.numpy(),
    }


def _hardest_pairs(
    cosines: torch.Tensor, store: ImageStore, pair: ViewPlan, seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """The images whose two views have the least similar z, of ``cosines`` [N]."""
    hardest = cosines.argsort()[:PAIRS].numpy()
    rendered = views_of(store, hardest, pair, seed=seed, epoch=0)
    views = [_small(images, spec) for images, spec in zip(rendered, pair.views, strict=True)]
    return {
        "pair_views": np.stack(views, axis=1), "pair_cosines": cosines.numpy()[hardest],
        "pair_names": np.array([store.names[int(row)] for row in hardest], dtype=np.str_),
    }  # fmt: skip


def _small(images: torch.Tensor, spec: ViewSpec) -> np.ndarray[Any, Any]:
    """Views as thumbnails, without the normalization of their specification."""
    images = spec.unnormalize(images)
    size = [THUMBNAIL, THUMBNAIL]
    return _pixels(torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True))
