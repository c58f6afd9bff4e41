"""Pages of several subjects and of several runs: complete, offline, silent in a browser."""

import json
import re

import pytest
from finetune_run import make_finetune_run
from report_run import make_run

from coview.reports import read_record, write_comparison, write_run_comparison
from coview.reports.curves import draw_chart
from coview.reports.run_comparison import run_charts
from headless_browser import find_browser, started


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        name: make_run(tmp_path_factory.mktemp("runs") / name, images=20) for name in ("a", "<b>")
    }


def result(subject, value, k, **fields):
    return {
        "protocol": "few-labels", "subject": subject, "layer": "h", "metric": "accuracy",
        "value": value, "interval": [value - 0.1, value + 0.1], "test_images": 50,
        "setting": {"labels": k}, "per_class": {"cat": value, "<dog>": 0.1}, **fields,
    }  # fmt: skip


@pytest.fixture(scope="module")
def pages(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    results = [
        result(name, value + k / 1000, k)
        for name, value in (("<script>ours</script>", 0.6), ("theirs", 0.4))
        for k in (1, 10, 100)
    ]
    content = {
        "protocol": "few-labels", "title": "Few labels", "question": "How few are enough?",
        "headline": {"metric": "accuracy", "layer": "h", "labels": 10}, "axis": "labels",
        "results": results, "card": {"how": "so"},
        "data": {"test": {"source": "held out", "images": 50}, "caveats": ["Known images."]},
        "paired": [{"first": "ours", "second": "theirs", "metric": "accuracy", "difference": 0.2,
                    "p": 0.01, "images": 50}],
    }  # fmt: skip
    (out / "few-labels.json").write_text(json.dumps(content))
    differences = {"recipe.batch_size": {"a": 256, "<b>": None}}
    return {
        "subjects": write_comparison(out),
        "runs": write_run_comparison(
            out / "runs.html", folders, differences=differences, sentences=["a is above b."]
        ),
    }


def test_the_page_of_subjects_has_curve_table_test_and_caveat(pages):
    page = pages["subjects"].read_text()
    for text in ("How few are enough?", "Known images.", "paired permutation test on 50 images",
                 "Judged on 50 images of held out", "<svg", "Accuracy of each class"):  # fmt: skip
        assert text in page
    assert "<script>ours" not in page


def test_the_page_of_runs_has_a_row_and_a_curve_for_each(pages):
    page = pages["runs"].read_text()
    assert "a is above b." in page
    assert "<td>256</td>" in page
    assert "<b>" not in re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    loss = next(figure for figure in page.split("<figure")[1:] if ">Loss<" in figure)
    assert loss.count("swatch") == 2
    assert re.search(r"\. a has gone [^,]*%, &lt;b&gt; [^,]*% of the way\.", loss)
    assert "This one" not in page


@pytest.mark.browser
@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["subjects", "runs"])
def test_the_pages_load_nothing_and_are_silent(pages, name, dark):
    with started() as browser:
        for width in (1280, 400):
            with browser.opened(pages[name], width=width, dark=dark) as page:
                assert page.errors == []
                assert page.requests == [pages[name].resolve().as_uri()]
                assert page.run("document.documentElement.scrollWidth") <= width


def test_a_run_has_one_color_in_all_charts(tmp_path):
    runs = {
        name: read_record(make_run(tmp_path / name, images=20, labels=name != "a", seed=place))
        for place, name in enumerate(("a", "b", "c"))
    }
    charts = {chart.title: chart for chart in run_charts(runs)}
    titles = list(charts)
    assert titles[:3] == ["Loss", "kNN while training", "Images found"]
    assert [line.place for line in charts["Loss"].lines] == [0, 1, 2]
    assert [(line.name, line.place) for line in charts["kNN while training"].lines] == [
        ("b", 1), ("c", 2)]  # fmt: skip
    drawn = draw_chart(charts["kNN while training"], 330, 200)
    assert "curve third" in drawn
    assert "curve first" not in drawn


def test_accuracies_are_those_of_held_out_images(tmp_path):
    runs = {name: read_record(make_finetune_run(tmp_path / name)) for name in ("a", "b")}
    chart = next(c for c in run_charts(runs) if c.title == "Accuracy while training")
    assert [line.name for line in chart.lines] == ["a", "b"]
    assert chart.note == "on test images"


def test_what_readers_look_for_comes_first(tmp_path, folders):
    for name in ("retrieval", "knn", "linear", "mine"):
        content = {"protocol": name, "results": [result("a", 0.5, 1)], "headline": {}}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    page = write_comparison(tmp_path).read_text()
    assert re.findall(r'<section id="([^"]+)"', page) == ["linear", "knn", "retrieval", "mine"]
    page = write_run_comparison(
        tmp_path / "runs.html", folders, differences={}, sentences=[]
    ).read_text()
    assert re.findall(r'<section id="([^"]+)"', page) == ["runs", "curves", "differences"]
    assert page.index("Images found") < page.index("for specialists") < page.index("Alignment")
