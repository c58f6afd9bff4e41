"""Coview: learn image representations by comparing views.

    import coview

    run = coview.pretrain("photos/", epochs=100)
    encoder = coview.load("runs/photos")            # images [B, 3, H, W] in [0, 1] -> h [B, D]
    results = coview.evaluate("runs/photos", "labeled/")
    table = coview.embed("runs/photos", "photos/")
    classifier = coview.finetune("runs/photos", "labeled/", labels="10%")

Importing this package is cheap: torch is loaded by the first call, not by the import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coview.core.version import VERSION

if TYPE_CHECKING:
    from coview.runs.browse import browse
    from coview.runs.compare import compare
    from coview.runs.demo import demo
    from coview.runs.detect import detect
    from coview.runs.distill import distill
    from coview.runs.doctor import doctor
    from coview.runs.duplicates import Duplicates, duplicates
    from coview.runs.embed import embed
    from coview.runs.evaluate import evaluate
    from coview.runs.export import export
    from coview.runs.find import find
    from coview.runs.finetune import finetune
    from coview.runs.import_checkpoint import import_checkpoint
    from coview.runs.load import load
    from coview.runs.map import map as map
    from coview.runs.predict import predict
    from coview.runs.pretrain import pretrain
    from coview.runs.push import push
    from coview.runs.resume import resume
    from coview.runs.run import Run
    from coview.runs.search import search
    from coview.runs.select import select
    from coview.runs.views import draw_views
    from coview.studies import study, sweep

__version__ = VERSION
__all__ = [
    "Duplicates", "Run", "__version__", "browse", "compare", "demo", "detect", "distill", "doctor",
    "draw_views", "duplicates", "embed", "evaluate", "export", "find", "finetune",
    "import_checkpoint", "load", "predict", "pretrain", "push", "resume", "search", "select",
    "study", "sweep",
]  # fmt: skip
# Not in __all__: `from coview import *` must not replace Python's own map.
_NAMES = (*__all__, "map")
# The module of coview.runs that has a name, where it is not called as the name is.
_MODULES = {"Duplicates": "duplicates", "Run": "run", "draw_views": "views"}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'coview' has no attribute {name!r}")
    # One module, not all of them: a verb that needs no network waits for none.
    home = "studies" if name in {"study", "sweep"} else f"runs.{_MODULES.get(name, name)}"
    return getattr(import_module(f"coview.{home}"), name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
