"""Whole runs: begin, train, resume, judge, use. Knows all other packages."""

from coview.runs.browse import browse
from coview.runs.compare import compare
from coview.runs.demo import demo
from coview.runs.detect import detect
from coview.runs.distill import distill
from coview.runs.doctor import doctor
from coview.runs.duplicates import Duplicates, duplicates
from coview.runs.embed import embed, table_file
from coview.runs.evaluate import evaluate
from coview.runs.export import export
from coview.runs.find import find
from coview.runs.finetune import finetune
from coview.runs.import_checkpoint import import_checkpoint
from coview.runs.load import load
from coview.runs.map import clusters_in, map, numbers_of_clusters
from coview.runs.predict import predict
from coview.runs.pretrain import pretrain
from coview.runs.push import push
from coview.runs.resume import resume
from coview.runs.run import Run
from coview.runs.search import search
from coview.runs.select import select
from coview.runs.views import draw_views

__all__ = [
    "Duplicates", "Run", "browse", "clusters_in", "compare", "demo", "detect", "distill", "doctor",
    "draw_views", "duplicates", "embed", "evaluate", "export", "find", "finetune",
    "import_checkpoint", "load", "map", "numbers_of_clusters", "predict", "pretrain", "push",
    "resume", "search", "select", "table_file",
]  # fmt: skip
