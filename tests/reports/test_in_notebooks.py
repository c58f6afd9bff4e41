"""Runs, results and tables show themselves in a notebook, and completion lists the verbs."""

import json
from html.parser import HTMLParser

import numpy as np
from report_run import make_run

import coview
from coview.cli.verbs import VERBS
from coview.embeddings import table_of
from coview.evaluation import Result
from coview.reports.records import read_record
from coview.reports.scores import headline_scores
from coview.runs.results import Results
from coview.runs.run import Run

OTHER_NAMES = {"views": "draw_views", "import": "import_checkpoint"}
COMMANDS_ONLY = {"report", "cache", "recipes"}


class Balance(HTMLParser):
    """Raises where an element is closed that is not the open one."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_run_shows_its_verdict_its_figures_and_its_report(tmp_path):
    folder = make_run(tmp_path / "photos <b>")
    (folder / "report.html").write_text("")
    html = Run.open(folder)._repr_html_()
    Balance(html)
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["label"] in html
    assert "photos &lt;b&gt;" in html
    assert "<b>/" not in html
    assert "report.html" in html
    scores = headline_scores(read_record(folder))
    assert scores
    for score in scores:
        assert score.title in html


def test_a_run_that_is_going_says_so(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert "not ended" in Run.open(tmp_path)._repr_html_()


def test_results_show_the_figure_of_each_protocol(tmp_path):
    folder = make_run(tmp_path / "run")
    results = Results()
    results.contents = [
        json.loads(p.read_text()) for p in sorted((folder / "evaluation").iterdir())
    ]
    html = results._repr_html_()
    Balance(html)
    for content in results.contents:
        assert f"<td>{content['protocol']}</td>" in html
    assert Results()._repr_html_() == "No results."


def test_results_are_printed_a_line_for_each():
    result = Result(
        protocol="knn", subject="trained", layer="h", metric="accuracy", value=0.5,
        interval=(0.4, 0.6), test_images=100, setting={"k": 20}, card={},
    )  # fmt: skip
    line = "knn, trained, h, accuracy: 0.5 (0.4 to 0.6), k 20"
    assert str(Results([result, result])) == f"{line}\n{line}"


def test_a_table_shows_its_first_rows_only():
    names = [f"{number}.jpg" for number in range(9)]
    table = table_of({"h": np.eye(9, dtype=np.float32)}, names=names)
    html = table.with_columns({"cluster": np.arange(9)})._repr_html_()
    Balance(html)
    assert "9 images" in html
    assert "4.jpg" in html
    assert "5.jpg" not in html
    assert "cluster" in html


def test_completion_lists_every_verb():
    verbs = {OTHER_NAMES.get(name, name) for name in set(VERBS) - COMMANDS_ONLY}
    assert verbs <= set(dir(coview))
    for name in verbs:
        assert callable(getattr(coview, name))
