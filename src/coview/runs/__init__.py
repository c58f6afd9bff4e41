"""Whole runs: assemble, train, judge, use. The one room that knows all the others."""

from coview.runs.demo import demo
from coview.runs.find import find
from coview.runs.pretrain import pretrain, resume
from coview.runs.run import Run
from coview.runs.use import (
    doctor,
    draw_views,
    embed,
    embedding_file,
    evaluate,
    export,
    load,
)  # fmt: skip

__all__ = [
    "Run", "demo", "doctor", "draw_views", "embed", "embedding_file", "evaluate", "export", "find",
    "load", "pretrain", "resume",
]  # fmt: skip
