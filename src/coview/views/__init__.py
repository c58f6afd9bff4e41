"""Images and keys to views: sample augmentation parameters, then render them.

Sampling is keyed by (seed, epoch, view, image id), so it gives the same parameters on any number
of workers, processes or restarts. Rendering is a pure function of images and parameters.
"""

from coview.views.contact import contact_sheet
from coview.views.multi_crop import MULTI_CROPS, MultiCrop, multi_crop_preset, multi_crop_views
from coview.views.multi_pass.compositions import STUDIED, asymmetric, auto_augmented, composition
from coview.views.operations import (
    AutoAugment,
    Blur,
    Crop,
    Cutout,
    Jitter,
    Noise,
    RandAugment,
    Rotate90,
)
from coview.views.parameters import ViewParams
from coview.views.placement import RENDER_ON, render_device
from coview.views.plan import OrderedViewSpec, ViewPlan, ViewSpec
from coview.views.presets import (
    MAX_CIFAR_SIZE,
    POLICIES,
    Policy,
    eval_view,
    jitter_of_strength,
    plan_from_policy,
    preset,
    simclr_views,
)
from coview.views.reference import render_reference
from coview.views.render import render, views_of
from coview.views.sample import sample_params

__all__ = [
    "MAX_CIFAR_SIZE", "MULTI_CROPS", "POLICIES", "RENDER_ON", "STUDIED", "AutoAugment", "Blur",
    "Crop", "Cutout", "Jitter", "MultiCrop", "Noise", "OrderedViewSpec", "Policy", "RandAugment",
    "Rotate90", "ViewParams", "ViewPlan", "ViewSpec", "asymmetric", "auto_augmented", "composition",
    "contact_sheet", "eval_view", "jitter_of_strength", "multi_crop_preset", "multi_crop_views",
    "plan_from_policy", "preset", "render", "render_device", "render_reference", "sample_params",
    "simclr_views", "views_of",
]  # fmt: skip
