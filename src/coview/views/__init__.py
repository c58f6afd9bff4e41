"""Images and keys to views: a table of drawn numbers, and a pure rendering of it."""

from coview.views.contact import contact_sheet
from coview.views.multi_crop import MULTI_CROPS, MultiCrop, multi_crop, multi_crop_preset
from coview.views.multi_pass.compositions import STUDIED, asymmetric, auto_augmented, composition
from coview.views.operations import AutoAugment, Cutout, Noise, RandAugment, Rotate90
from coview.views.parameters import Table
from coview.views.plan import Blur, Crop, Jitter, ViewPlan, ViewSpec
from coview.views.presets import POLICIES, Policy, eval_view, plan_of, preset, simclr
from coview.views.reference import render_reference
from coview.views.render import render, views_of
from coview.views.sample import sample_params

__all__ = [
    "MULTI_CROPS",
    "POLICIES",
    "STUDIED",
    "AutoAugment",
    "Blur",
    "Crop",
    "Cutout",
    "Jitter",
    "MultiCrop",
    "Noise",
    "Policy",
    "RandAugment",
    "Rotate90",
    "Table",
    "ViewPlan",
    "ViewSpec",
    "asymmetric",
    "auto_augmented",
    "composition",
    "contact_sheet",
    "eval_view",
    "multi_crop",
    "multi_crop_preset",
    "plan_of",
    "preset",
    "render",
    "render_reference",
    "sample_params",
    "simclr",
    "views_of",
]
