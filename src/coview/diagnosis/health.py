"""Figures of the embeddings of held-out images that need no labels.

The sample is fixed: n images that are never trained on, without augmentation, and two views of
each, drawn once. Figures of different steps then differ by the network alone. Each is compared
with the same figure of the untrained network, which already matches many views and is far from
uniform.

All rows are normalized to unit length, because objectives and neighbors depend on directions only.
Every function returns NaN where its input is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch.nn.functional import normalize

from coview.core.errors import InvalidValue
from coview.core.memory import PartSize
from coview.diagnosis.shortcuts import (
    color_instance_accuracy,
    identical_share,
    thumbnail_instance_accuracy,
)
from coview.embeddings.geometry import (
    alignment,
    feature_std,
    instance_accuracy,
    rank_me,
    uniformity,
)
from coview.evaluation.features import outputs_in_parts
from coview.views import Crop, Jitter, ViewSpec

SAME_DIRECTION = 1e-6  # 1 - cosine of rows that differ by rounding
CHUNK = 256

Embed = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Objective = Callable[[torch.Tensor, torch.Tensor], float | torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFigures:
    """Figures of one network on the fixed sample; :mod:`coview.core.figures` explains each.

    images: n.  width_h, width_z: columns of h and z.
    loss: the objective on the two views of all n images at once. Its references:
        chance_level: for identical embeddings (ln(2n - 1) for NT-Xent and SupCon),
        random_loss: for random unrelated embeddings,
        lower_bound: for random embeddings whose positives are identical.
    feature_std_z, feature_std_h: of unit z and unit h of the images, in [0, 1].
    rank_h, rank_z: RankMe of unit rows, not centered, epsilon 1e-7; 1 .. min(n, width).
    alignment, uniformity: of unit z of the views, of unit z of the images.
    instance_accuracy_z, instance_accuracy_h: share of first views whose nearest second view (by z,
        by h) is of the same image; chance 1 / n.
    mean_positive_similarity, mean_negative_similarity: mean cosine of z between two views of one
        image, of two images.
    identical_views, color_instance_accuracy, thumbnail_instance_accuracy: cues in the sample's
        pixels (a network may use them as a shortcut), the same for every network.
    piece_accuracy_h: instance accuracy of h on two gray pieces of each image (:func:`piece_view`),
        which compares encoders that were trained on different views.
    piece_accuracy_pixels, piece_accuracy_levels: the same of 8 x 8 thumbnails, and of histograms of
        the gray levels; equal for every network.
    copied_images: share of the images that equal another one of the sample or a training image.
    """

    images: int
    width_h: int
    width_z: int
    loss: float
    chance_level: float
    random_loss: float
    lower_bound: float
    feature_std_z: float
    feature_std_h: float
    rank_h: float
    rank_z: float
    alignment: float
    uniformity: float
    instance_accuracy_z: float
    instance_accuracy_h: float
    mean_positive_similarity: float
    mean_negative_similarity: float
    identical_views: float
    color_instance_accuracy: float
    thumbnail_instance_accuracy: float
    piece_accuracy_h: float
    piece_accuracy_pixels: float
    piece_accuracy_levels: float
    copied_images: float

    @property
    def separation(self) -> float:
        """How much nearer two views of an image are than views of two: 0 at chance, at most 1.

        (positive - negative) / (1 - negative) of the mean similarities. Unlike the loss it does not
        depend on the objective, its temperature or how much the embeddings differ at all.
        """
        span = 1 - self.mean_negative_similarity
        gap = self.mean_positive_similarity - self.mean_negative_similarity
        return gap / span if span > SAME_DIRECTION else 0.0

    @property
    def cue(self) -> tuple[str, float]:
        """The cue in the pixels that finds the most pairs of views, and its instance accuracy."""
        cues = {
            "a color histogram": self.color_instance_accuracy,
            "an 8 x 8 thumbnail": self.thumbnail_instance_accuracy,
        }
        return max(cues.items(), key=lambda item: item[1])

    @property
    def position(self) -> float:
        """The loss, mapped to 0 at the chance level and 1 at the lower bound; may be negative.

        Not a number where the two are the same.
        """
        span = self.chance_level - self.lower_bound
        # Without two of one class all images are alike to the loss, up to its rounding.
        is_known = span > 1e-3 * abs(self.chance_level)
        return (self.chance_level - self.loss) / span if is_known else float("nan")

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.feature_std_z + self.feature_std_h)

    def to_json(self) -> dict[str, float | int | None]:
        """A JSON object; null for figures that are not finite."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HealthFigures:
        """The inverse of :meth:`to_json`. Raises InvalidValue where a figure is missing."""
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in values]
        if missing:
            raise InvalidValue(
                f"These health figures lack {', '.join(missing)}; another version of Coview wrote "
                "them. Read them with that version."
            )
        figures: dict[str, Any] = {n: math.nan if values[n] is None else values[n] for n in names}
        return cls(**figures)


@torch.no_grad()
def measure(
    embed: Embed, images: torch.Tensor, views: tuple[torch.Tensor, torch.Tensor],
    objective_value: Objective, *, pieces: tuple[torch.Tensor, torch.Tensor],
    copied_images: float = 0.0, groups: torch.Tensor | None = None, chunk: int = CHUNK,
) -> HealthFigures:  # fmt: skip
    """All figures of one network.

    ``embed`` maps images [B, 3, H, W], B at most ``chunk`` and fewer where these do not fit into
    memory, to (h [B, D], z [B, d]) in evaluation mode. ``images`` [n, 3, H, W] are the held-out
    images without augmentation, ``views`` their two fixed views, ``pieces`` two of
    :func:`piece_view`. ``objective_value(z1, z2)`` is the mean loss. ``copied_images`` is a share
    of the sample that the caller knows. Images with equal ``groups`` (int [n], class labels) are
    positives of each other; None: no two images are. Raises InvalidValue for n < 2.
    """
    first, second = views
    sizes = {len(each) for each in (first, second, *pieces)}
    if len(images) < 2 or sizes != {len(images)}:
        raise InvalidValue(
            f"The health sample has {len(images)} images and {len(first)} and {len(second)} views; "
            "expected the same number of each, at least 2. Hold out more images."
        )
    size = PartSize(chunk)
    h, z = embed_all(embed, images, size)
    (h1, z1), (h2, z2) = embed_all(embed, first, size), embed_all(embed, second, size)
    (piece1, _), (piece2, _) = (embed_all(embed, piece, size) for piece in pieces)
    chance, random_loss, lower_bound = reference_losses(
        objective_value, torch.arange(len(z)) if groups is None else groups.cpu(), z.shape[1]
    )
    return HealthFigures(
        images=len(images), width_h=h.shape[1], width_z=z.shape[1],
        loss=float(objective_value(z1, z2)), chance_level=chance, random_loss=random_loss,
        lower_bound=lower_bound, feature_std_z=feature_std(z), feature_std_h=feature_std(h),
        rank_h=rank_me(normalize(h, dim=1)), rank_z=rank_me(normalize(z, dim=1)),
        alignment=alignment(z1, z2), uniformity=uniformity(z),
        instance_accuracy_z=instance_accuracy(z1, z2),
        instance_accuracy_h=instance_accuracy(h1, h2),
        mean_positive_similarity=mean_positive_similarity(z1, z2),
        mean_negative_similarity=mean_negative_similarity(z1, z2),
        identical_views=identical_share(first, second),
        color_instance_accuracy=color_instance_accuracy(first, second),
        thumbnail_instance_accuracy=thumbnail_instance_accuracy(first, second),
        piece_accuracy_h=instance_accuracy(piece1, piece2),
        piece_accuracy_pixels=thumbnail_instance_accuracy(*pieces),
        piece_accuracy_levels=color_instance_accuracy(*pieces), copied_images=copied_images,
    )  # fmt: skip


def piece_view(plain: ViewSpec) -> ViewSpec:
    """The view by which every encoder is judged, whatever views it was trained on.

    A gray crop of half of the image or more, perhaps flipped, of other brightness and contrast, so
    that neither colors nor levels nor pixels at their places find another piece of it. ``plain``:
    the view without augmentation, for size, mean and std. Why this one: docs/lab/0005.
    """
    levels = Jitter(probability=1.0, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0)
    return replace(plain, crop=Crop(area=(0.5, 1.0)), flip=0.5, grayscale=1.0, jitter=levels)


def reference_losses(
    objective_value: Objective, groups: torch.Tensor, width: int
) -> tuple[float, float, float]:
    """The objective of three known embeddings: identical, random, and random but equal by group.

    A group of -1 is that of one image alone.

    Measured, not computed by a formula, so it holds for every temperature and set objective. For
    NT-Xent with temperature t and d columns the three are close to
    ln(2n - 1), ln(2n - 1) + 1 / (2 d t^2) and ln(1 + (2n - 2) exp(-1/t + 1 / (2 d t^2))).
    """
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, len(groups), width, generator=generator)
    own = -1 - torch.arange(len(groups))  # an image without a label is like no other
    _, members = torch.unique(torch.where(groups < 0, own, groups), return_inverse=True)
    same, aligned = torch.ones(len(groups), width), first[members]
    return (
        float(objective_value(same, same)),
        float(objective_value(first, second)),
        float(objective_value(aligned, aligned)),
    )


def mean_positive_similarity(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean cosine of row i of ``first`` and row i of ``second``: two views of one image."""
    return float(
        (normalize(first.double(), dim=1) * normalize(second.double(), dim=1)).sum(1).mean()
    )


def mean_negative_similarity(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean cosine of row i of ``first`` and row j of ``second``, i != j: views of two images."""
    one, two = normalize(first.double(), dim=1), normalize(second.double(), dim=1)
    n = len(one)
    return float((one.sum(dim=0) @ two.sum(dim=0) - (one * two).sum()) / (n * (n - 1)))


@torch.no_grad()
def embed_all(
    embed: Embed, images: torch.Tensor, size: PartSize | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """h and z of all images, float32 on the CPU, where every decomposition runs.

    At most 256 images at a time unless ``size`` says it, and fewer where they do not fit.
    """
    parts = outputs_in_parts(embed, images, size or PartSize(CHUNK))
    h, z = (torch.cat(column) for column in zip(*parts, strict=True))
    return h, z
