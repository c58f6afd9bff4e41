"""Faster and Mask R-CNN on the maps of an encoder, of torchvision's parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from coview.core.repeatable import any_algorithm
from coview.dense.maps import forward_groups, map_shapes, residual_network
from coview.dense.method import Detector
from coview.dense.sampling import KeyedSampler
from coview.encoders import Encoder
from coview.methods.batch_norm import RunningStatsGuard, batch_norms

RATIOS = (0.5, 1.0, 2.0)
MIN_STRIDE = 4
"""Finer maps than this are no level of the pyramid."""
FIRST_ANCHOR, FIRST_CROP = 32, 224
"""Lin et al. 2017, equation 1: a box of 224 px is of the fourth level where anchors begin at 32."""
SCORE, OVERLAP, DETECTIONS = 0.05, 0.5, 100
"""Of what is detected: the lowest score, the overlap of suppression, the most in an image."""

Features = dict[str, Tensor]
Targets = list[dict[str, Tensor]]


class Detection(nn.Module):
    """All of a detector but the encoder: its maps -> proposals -> boxes, and outlines.

    The encoder is no part of this module: it belongs to the learner, with its weights and names.
    """

    def __init__(self, method: Detector, encoder: Encoder, seed: int) -> None:
        super().__init__()
        network = residual_network(encoder)
        # Not registered: a module belongs to one parent, and a state holds it once.
        object.__setattr__(self, "encoder", encoder)
        self.form = method.form
        channels, strides = map_shapes(network)
        if method.form == "fpn":
            self._build_pyramid(method, channels, strides)
        else:
            self._build_c4(method, network, channels, strides)
        self.samplers = (
            KeyedSampler(method.sampled[0], 0.5, seed=seed, part="anchors"),
            KeyedSampler(method.sampled[1], 0.25, seed=seed, part="proposals"),
        )
        self.rpn.fg_bg_sampler, self.roi_heads.fg_bg_sampler = self.samplers

    def _build_pyramid(self, method: Detector, channels: list[int], strides: list[int]) -> None:
        self.levels = [level for level, stride in enumerate(strides) if stride >= MIN_STRIDE]
        norm = nn.BatchNorm2d if method.norm_in_heads else None
        width = method.channels
        self.fpn = FeaturePyramidNetwork(
            [channels[level] for level in self.levels], width, LastLevelMaxPool(), norm_layer=norm
        )
        names = [str(level) for level in self.levels]
        levels = len(names) + 1
        sides = [*method.anchors, *(method.anchors[-1] << n for n in range(1, levels))][:levels]
        anchors = ExactAnchors(tuple((side,) for side in sides), (RATIOS,) * levels)
        self.rpn = _proposals(method, width, anchors)
        scales = [1 / strides[level] for level in self.levels]
        canonical = FIRST_CROP * method.anchors[0] // FIRST_ANCHOR
        if method.box_head == "2fc":
            head: nn.Module = TwoMLPHead(width * 49, method.hidden)
        else:
            head = FastRCNNConvFCHead((width, 7, 7), [width] * 4, [method.hidden], norm_layer=norm)
        masks = {}
        if method.masks:
            masks = {
                "mask_roi_pool": _crops(names, 14, scales, canonical),
                "mask_head": MaskRCNNHeads(width, [width] * 4, 1, norm_layer=norm),
                "mask_predictor": FullPrecision(
                    MaskRCNNPredictor(width, width, method.classes + 1)
                ),
            }
        self.roi_heads = _heads(
            method, _crops(names, 7, scales, canonical), head, method.hidden, masks
        )

    def _build_c4(
        self, method: Detector, network: Any, channels: list[int], strides: list[int]
    ) -> None:
        self.levels = [2]
        anchors = ExactAnchors((tuple(method.anchors),), (RATIOS,))
        self.rpn = _proposals(method, channels[2], anchors)
        norm = nn.BatchNorm2d(channels[3]) if method.extra_norm else None
        crops = _crops(["2"], 14, [1 / strides[2]], FIRST_CROP)
        masks = {}
        if method.masks:
            masks = {
                "mask_roi_pool": crops,
                "mask_head": GroupHead(network, None, pooled=False),
                "mask_predictor": FullPrecision(
                    MaskRCNNPredictor(channels[3], method.channels, method.classes + 1)
                ),
            }
        head = GroupHead(network, norm, pooled=True)
        self.roi_heads = _heads(method, crops, head, channels[3], masks)

    def forward(
        self, images: Tensor, sizes: list[tuple[int, int]], targets: Targets | None = None
    ) -> tuple[Targets, dict[str, Tensor]]:
        """(what is detected in each image, {}), or in training mode ([], the losses).

        images [B, 3, H, W], padded; sizes: the (height, width) of each without padding. Detected:
        boxes [D, 4] in pixels of the image, labels [D] from 1, scores [D], masks [D, 1, 28, 28].
        """
        network = residual_network(self.encoder)  # type: ignore[arg-type]
        if self.form == "fpn":
            maps = forward_groups(network, images)
            features: Features = self.fpn({str(level): maps[level] for level in self.levels})
        else:
            features = {"2": forward_groups(network, images, 3)[2]}
        proposals, losses = self.rpn(ImageList(images, sizes), features, targets)
        # Where a GPU is to be repeatable, torchvision crops maps and true outlines by Python code
        # under torch.compile, which needs a C compiler and, where it fails, much memory.
        with any_algorithm(images.device):
            detected, more = self.roi_heads(features, proposals, sizes, targets)
        return detected, {**losses, **more}


class GroupHead(nn.Module):
    """The encoder's fourth group on crops of the third's map: [R, C, 14, 14] -> [R, C'], or maps.

    For outlines the statistics do not move: the same crops have moved them as boxes already.
    """

    def __init__(self, network: Any, norm: nn.Module | None, *, pooled: bool) -> None:
        super().__init__()
        object.__setattr__(self, "network", network)
        self.norm, self.pooled = norm, pooled

    def forward(self, crops: Tensor) -> Tensor:
        group: nn.Module = self.network.layer4  # type: ignore[union-attr, assignment]
        if not self.pooled:
            with RunningStatsGuard(batch_norms(group)):
                maps: Tensor = group(crops)
            return maps
        maps = group(crops)
        if self.norm is not None:
            maps = self.norm(maps)
        return maps.mean((2, 3))


class FullPrecision(nn.Module):
    """A layer whose outputs are float32 under autocast: bf16 has too few digits for coordinates."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return _to_float(self.layer(x))


class ExactAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors in float32 beside maps of any dtype.

    torchvision's have the dtype of the maps. In bf16 they would lie on every second pixel above
    256, and all targets of the proposals with them.
    """

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


def _to_float(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float()
    return type(value)(_to_float(item) for item in value)


def _proposals(method: Detector, channels: int, anchors: AnchorGenerator) -> RegionProposalNetwork:
    head = FullPrecision(RPNHead(channels, anchors.num_anchors_per_location()[0]))
    before, after = zip(method.proposals, method.test_proposals, strict=True)
    return RegionProposalNetwork(
        anchors, head, fg_iou_thresh=0.7, bg_iou_thresh=0.3, batch_size_per_image=method.sampled[0],
        positive_fraction=0.5, pre_nms_top_n={"training": before[0], "testing": before[1]},
        post_nms_top_n={"training": after[0], "testing": after[1]}, nms_thresh=0.7,
    )  # fmt: skip


def _heads(
    method: Detector, crops: MultiScaleRoIAlign, head: nn.Module, width: int, masks: dict[str, Any]
) -> RoIHeads:
    return RoIHeads(
        crops, head, FullPrecision(FastRCNNPredictor(width, method.classes + 1)),
        fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=method.sampled[1],
        positive_fraction=0.25, bbox_reg_weights=None, score_thresh=SCORE, nms_thresh=OVERLAP,
        detections_per_img=DETECTIONS, **masks,
    )  # fmt: skip


def _crops(names: list[str], size: int, scales: list[float], canonical: int) -> MultiScaleRoIAlign:
    """Crops of the maps. Their scales are given: torchvision would take them of its first batch,
    which is a state that no checkpoint has."""
    crops = MultiScaleRoIAlign(names, size, 2, canonical_scale=canonical)
    crops.scales = scales
    levels = [round(-torch.log2(torch.tensor(scale)).item()) for scale in (scales[0], scales[-1])]
    crops.map_levels = initLevelMapper(
        levels[0], levels[-1], canonical_scale=canonical, canonical_level=4
    )
    return crops
