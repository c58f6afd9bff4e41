"""Images and keys to views: a table of drawn numbers, and a pure rendering of it."""

from coview.views.contact import contact_sheet
from coview.views.draw import Table, draw
from coview.views.plan import Blur, Crop, Jitter, ViewPlan, ViewSpec
from coview.views.presets import POLICIES, Policy, identity, plan_of, preset, simclr
from coview.views.reference import render_reference
from coview.views.render import render, views_of

__all__ = [
    "POLICIES",
    "Blur",
    "Crop",
    "Jitter",
    "Policy",
    "Table",
    "ViewPlan",
    "ViewSpec",
    "contact_sheet",
    "draw",
    "identity",
    "plan_of",
    "preset",
    "render",
    "render_reference",
    "simclr",
    "views_of",
]
