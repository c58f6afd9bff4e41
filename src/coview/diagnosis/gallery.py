"""The images and arrays of a report: neighbors, map, hardest pairs, contact sheet."""

from __future__ import annotations

import io
import math
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

MAX_SEARCHED = 10_000
"""Training images among which the nearest are looked for; a sample of more than these."""
MAP_IMAGES, PAIR_IMAGES = 800, 800
QUERIES, NEIGHBORS, PAIRS = 8, 7, 12
PICTURE, MAP_PICTURE = 112, 96
"""Largest side of a picture in pixels; an image that is smaller is kept as it is."""
MAP_QUALITY = 70

Embed = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def write_gallery(
    folder: Path, embed: Embed, training: ImageStore, held_out: ImageStore, *, plan: ViewPlan,
    plain: ViewSpec, seed: int, device: torch.device | str = "cpu",
) -> None:  # fmt: skip
    """Write report/gallery.npz: held-out images with the nearest training images, a map of a sample
    of these, and the training images whose two views are the least alike.

    ``embed`` maps images [B, 3, H, W] on ``device`` to (h, z) in evaluation mode. ``plan`` has the
    training views, ``plain`` is the view without augmentation.
    """
    searched = training.subset(_chosen(training, seed, MAX_SEARCHED))
    queries = held_out.subset(_chosen(held_out, seed, QUERIES))
    views = ViewPlan(views=(plain,))
    ((h, _),) = embed_views(embed, searched, views, device=device, label="Gallery")
    ((query_h, _),) = embed_views(embed, queries, views, device=device, label="Gallery")
    content = {
        **_nearest(h, searched, query_h, queries),
        "searched": np.array([len(searched), len(training)]),
        **_map(h[:MAP_IMAGES], searched.subset(np.arange(min(MAP_IMAGES, len(searched))))),
        **_hardest_pairs(embed, searched, ViewPlan(views=plan.views[:2]), seed, device),
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


def _chosen(store: ImageStore, seed: int, count: int) -> np.ndarray[Any, Any]:
    """At most ``count`` rows, by seed and image id."""
    return permutation(seed, Stream.HEALTH, store.ids, draw_index=GALLERY_IMAGES)[:count]


def _nearest(
    h: torch.Tensor, searched: ImageStore, query_h: torch.Tensor, queries: ImageStore
) -> dict[str, np.ndarray[Any, Any]]:
    """Each query and, in the same row, the images nearest to it: pictures, names, labels."""
    cosines, rows = neighbors(h, query_h, NEIGHBORS)
    near, count = rows.numpy(), len(queries)

    def joined(own: Any, others: Any) -> np.ndarray[Any, Any]:
        return np.concatenate([np.asarray(own)[:, None], np.asarray(others)[near]], axis=1)

    found = searched.subset(near.reshape(-1))
    side = _side(searched, PICTURE)
    pictures = _pictures(found, side).reshape(*near.shape, side, side, 3)
    own = _pictures(queries, side)
    return {
        "near_pictures": np.concatenate([own[:count, None], pictures], axis=1),
        "near_names": joined(_names(queries), _names(searched)),
        "near_labels": joined(_labels(queries), _labels(searched)),
        "near_cosines": cosines.numpy(),
    }


def _map(h: torch.Tensor, sample: ImageStore) -> dict[str, np.ndarray[Any, Any]]:
    """Places in the plane, and all pictures on one JPEG."""
    side = _side(sample, MAP_PICTURE)
    sheet, columns = _sheet(_pictures(sample, side))
    return {
        "map": (tsne(h) if len(h) >= 4 else torch.zeros(len(h), 2)).numpy(),
        "names": _names(sample), "labels": _labels(sample),
        "sheet": np.frombuffer(sheet, dtype=np.uint8), "sheet_layout": np.array([columns, side]),
    }  # fmt: skip


def _hardest_pairs(
    embed: Embed, searched: ImageStore, pair: ViewPlan, seed: int, device: torch.device | str
) -> dict[str, np.ndarray[Any, Any]]:
    """The images of a sample whose two views have the least similar z."""
    sample = searched.subset(np.arange(min(PAIR_IMAGES, len(searched))))
    (_, first), (_, second) = embed_views(
        embed, sample, pair, seed=seed, device=device, label="Hardest pairs"
    )
    cosines = (normalize(first, dim=1) * normalize(second, dim=1)).sum(1)
    hardest = cosines.argsort()[:PAIRS].numpy()
    rendered = views_of(sample, hardest, pair, seed=seed, epoch=0)
    views = [_small(images, spec) for images, spec in zip(rendered, pair.views, strict=True)]
    side = max(view.shape[1] for view in views)
    return {
        "pair_views": np.stack([_enlarged(view, side) for view in views], axis=1),
        "pair_cosines": cosines.numpy()[hardest],
        "pair_names": _names(sample)[hardest], "pair_sample": np.array([len(sample)]),
    }  # fmt: skip


def _names(store: ImageStore) -> np.ndarray[Any, Any]:
    return np.array(store.names, dtype=np.str_)


def _labels(store: ImageStore) -> np.ndarray[Any, Any]:
    return np.full(len(store), -1) if store.labels is None else store.labels


def _side(store: ImageStore, most: int) -> int:
    """``most``, or less where all images are smaller, which a browser enlarges as well."""
    return min(most, int(np.minimum(store.heights, store.widths).max()))


def _pictures(store: ImageStore, side: int) -> np.ndarray[Any, Any]:
    """The central square of every image, uint8 [N, side, side, 3]."""
    plan = ViewPlan(views=(eval_view(side),))
    return _pixels(views_of(store, np.arange(len(store)), plan, seed=0, epoch=0)[0])


def _sheet(pictures: np.ndarray[Any, Any]) -> tuple[bytes, int]:
    """Pictures [N, S, S, 3] side by side as one JPEG, and the number of columns."""
    from PIL import Image

    number, side = pictures.shape[:2]
    columns = math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    cells = np.zeros((rows * columns, side, side, 3), dtype=np.uint8)
    cells[:number] = pictures
    grid = cells.reshape(rows, columns, side, side, 3).swapaxes(1, 2)
    stream = io.BytesIO()
    sheet = Image.fromarray(grid.reshape(rows * side, columns * side, 3))
    sheet.save(stream, "JPEG", quality=MAP_QUALITY, optimize=True)
    return stream.getvalue(), columns


def _pixels(images: torch.Tensor) -> np.ndarray[Any, Any]:
    """float [..., 3, H, W] in [0, 1] -> uint8 [..., H, W, 3]."""
    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().numpy()


def _small(images: torch.Tensor, spec: ViewSpec) -> np.ndarray[Any, Any]:
    """Views at most as large as a picture, without the normalization of their specification."""
    images = spec.unnormalize(images)
    size = [min(PICTURE, images.shape[-1])] * 2
    return _pixels(torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True))


def _enlarged(pixels: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """A smaller view (of local crops) in the size of the others: [N, S, S, 3] -> [N, side, ...]."""
    if pixels.shape[1] == side:
        return pixels
    rows = np.arange(side) * pixels.shape[1] // side
    return pixels[:, rows][:, :, rows]
