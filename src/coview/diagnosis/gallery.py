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
from coview.views import ViewPlan, ViewSpec, contact_sheet, eval_view, views_of

SAMPLE, QUERIES, NEIGHBORS, PAIRS = 800, 8, 8, 12
THUMBNAIL = 48
CHUNK = 256

Embed = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def write_gallery(
    folder: Path, embed: Embed, store: ImageStore, *, plan: ViewPlan, plain: ViewSpec, seed: int
) -> None:
    """Write report/gallery.npz of a random sample of ``store``.

    ``embed`` maps images [B, 3, H, W] to (h, z) in evaluation mode. ``plan`` has the training
    views, ``plain`` is the view without augmentation.
    """
    rows = permutation(seed, Stream.HEALTH, store.ids, draw_index=GALLERY_IMAGES)[:SAMPLE]
    h, _ = _embedded(embed, lambda part: _plain_view(store, part, plain), rows)
    content = {
        "thumbnails": _thumbnails(store, rows),
        "names": np.array([store.names[int(row)] for row in rows], dtype=np.str_),
        "labels": np.full(len(rows), -1) if store.labels is None else store.labels[rows],
        "map": (tsne(h) if len(h) >= 4 else torch.zeros(len(h), 2)).numpy(),
        **_neighbors(h),
        **_hardest_pairs(embed, store, rows, plan, seed),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **content)
    write_bytes(RunFolder(folder).gallery_path, stream.getvalue())


def write_contact_sheet(folder: Path, store: ImageStore, plan: ViewPlan, *, seed: int) -> None:
    """Write report/views.png: six images beside their training views."""
    rows = permutation(seed, Stream.HEALTH, store.ids, draw_index=CONTACT_SHEET_IMAGES)[:6]
    path = RunFolder(folder).views_path
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(store, rows, plan, path, seed=seed)


def _plain_view(store: ImageStore, rows: np.ndarray[Any, Any], plain: ViewSpec) -> torch.Tensor:
    return views_of(store, rows, ViewPlan(views=(plain,)), seed=0, epoch=0)[0]


def _embedded(
    embed: Embed, render: Callable[[np.ndarray[Any, Any]], torch.Tensor], rows: np.ndarray[Any, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [embed(render(rows[i : i + CHUNK])) for i in range(0, len(rows), CHUNK)]
    h, z = (torch.cat([part[i].detach().float().cpu() for part in parts]) for i in (0, 1))
    return h, z


def _thumbnails(store: ImageStore, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return _pixels(_plain_view(store, rows, eval_view(THUMBNAIL)))


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
    embed: Embed, store: ImageStore, rows: np.ndarray[Any, Any], plan: ViewPlan, seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """The sampled images whose two views have the least similar z."""
    pair = ViewPlan(views=plan.views[:2])

    def view(i: int) -> Callable[[np.ndarray[Any, Any]], torch.Tensor]:
        return lambda part: views_of(store, part, pair, seed=seed, epoch=0)[i]

    (_, first), (_, second) = (_embedded(embed, view(i), rows) for i in (0, 1))
    cosines = (normalize(first, dim=1) * normalize(second, dim=1)).sum(1)
    hardest = cosines.argsort()[:PAIRS].numpy()
    views = [_small(view(i)(rows[hardest]), plan.views[i]) for i in (0, 1)]
    return {
        "pair_views": np.stack(views, axis=1),
        "pair_cosines": cosines.numpy()[hardest],
        "pair_names": np.array([store.names[int(r)] for r in rows[hardest]], dtype=np.str_),
    }


def _small(images: torch.Tensor, spec: ViewSpec) -> np.ndarray[Any, Any]:
    """Views as thumbnails, without the normalization of their specification."""
    images = spec.unnormalize(images)
    size = [THUMBNAIL, THUMBNAIL]
    return _pixels(torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True))
