"""Pages of several subjects and of several runs: complete, offline, silent in a browser."""

import json
import re

import pytest
from finetune_run import make_finetune_run
from report_run import make_run

from coview import compare
from coview.reports import read_record, write_comparison, write_run_comparison
from coview.reports.curves import draw_chart
from coview.reports.figures import loss_sentence
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


def test_held_out_images_of_other_data_are_marked(tmp_path):
    folders = [make_run(tmp_path / name, images=20, labels=False) for name in ("a", "b")]
    assert compare(folders).notes == []
    content = json.loads((folders[1] / "run.json").read_text())
    content["data"] |= {"source": "/x/others", "fingerprint": "other"}
    (folders[1] / "run.json").write_text(json.dumps(content))
    (note,) = compare(folders).notes
    assert note.sentence() == (
        "* Images found: each on images of its own data (a: photos; b: others): no comparison of the "
        "runs."
    )


def test_the_way_of_a_loss_goes_to_the_lower_bound_of_its_own_run(tmp_path):
    folders = {name: make_run(tmp_path / name, images=20) for name in ("a", "b")}
    content = json.loads((folders["b"] / "run.json").read_text())
    chance, bound = content["chance_level"], content["lower_bound"] + 1.0
    (folders["b"] / "run.json").write_text(json.dumps({**content, "lower_bound": bound}))
    records = {name: read_record(folder) for name, folder in folders.items()}
    a, b = (float(re.search(r"gone ([\d.]+)", loss_sentence(each))[1]) for each in records.values())
    assert b == pytest.approx(a * (chance - bound + 1) / (chance - bound), rel=0.01)
    (chart,) = (chart for chart in run_charts(records) if chart.title == "Loss")
    assert [level.name for level in chart.levels] == ["chance level"]
    assert chart.note.endswith(
        f"(chance level). a has gone {a}\u202f% (to 4.95), b {b}\u202f% (to 5.95) of the way to its own "
        "lowest in practice (lower bound)."
    )
    (folders["b"] / "run.json").write_text(json.dumps({**content, "chance_level": 5.0}))
    records["b"] = read_record(folders["b"])
    (chart,) = (chart for chart in run_charts(records) if chart.title == "Loss")
    assert chart.note == ""


def many_protocols(folder):
    for place in range(6):
        content = {"protocol": f"mine-{place}", "results": [result("trained", 0.5, 1)]}
        (folder / "evaluation" / f"mine-{place}.json").write_text(json.dumps(content))
    return folder


def test_many_protocols_stand_below_each_other(tmp_path, folders):
    few = write_run_comparison(
        tmp_path / "few.html", folders, differences={}, sentences=[]
    ).read_text()
    assert 'class="turned"' not in few
    runs = {name: many_protocols(make_run(tmp_path / name, images=20)) for name in ("a", "b")}
    page = write_run_comparison(
        tmp_path / "many.html", runs, differences={}, sentences=[]
    ).read_text()
    table = page.partition('<table class="turned">')[2].partition("</table>")[0]
    head, *rows = table.split("<tr>")[1:]
    assert re.findall("<bdi>(.*?)</bdi>", head) == ["a", "b"]
    assert len(rows) == 2 + 2 + 6
    assert all(row.count("<td") == 2 for row in rows)


@pytest.mark.browser
@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("many", [False, True])
def test_a_name_is_not_broken_and_a_wide_window_shows_the_whole_table(tmp_path, many):
    names = ["cifar-big", "another-run"]
    runs = {name: make_run(tmp_path / name, images=20) for name in names}
    for folder in runs.values() if many else ():
        many_protocols(folder)
    page = write_run_comparison(tmp_path / "runs.html", runs, differences={}, sentences=[])
    lines = (
        "[...document.querySelectorAll('#runs bdi')].map(each => "
        "Math.round(each.getBoundingClientRect().height / parseFloat(getComputedStyle(each).lineHeight)))"
    )
    cut = "(each => each.scrollWidth - each.clientWidth)(document.querySelector('#runs .scroll'))"
    with started() as browser:
        for width in (1200, 420):
            with browser.opened(page, width=width) as shown:
                assert shown.run(lines) == [1, 1]
                assert width < 1200 or shown.run(cut) == 0


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
