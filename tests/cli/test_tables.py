"""Tables in a terminal of 80 columns: nothing is cut, no figure is broken, nothing said twice."""

from types import SimpleNamespace

import pytest

from coview.cli.clusters import clusters_table
from coview.cli.tables import comparison_table, evaluation_table, search_table
from coview.core.progress import output
from coview.embeddings.clusters import Cluster

NAMES = ["a-run-with-a-long-name", "photos", "scenes-finetune", "untrained", "pixels"]


def file_of(protocol, metric, settings, names, **more):
    results = [
        {"protocol": protocol, "subject": name, "layer": "pixels" if name == "pixels" else "h",
         "metric": metric, "value": 0.5 + place / 50, "interval": [0.4, 0.6], "test_images": 1000,
         "setting": setting}
        for place, name in enumerate(names) for setting in settings
    ]  # fmt: skip
    tests = [{"first": names[0], "second": name, "metric": metric, "difference": -0.01, "p": 0.25,
              "images": 1000} for name in names[1:]]  # fmt: skip
    return {"protocol": protocol, "results": results, "paired": tests,
            "headline": {"metric": metric, **settings[0]}, **more}  # fmt: skip


def contents(names):
    return [
        file_of("knn", "accuracy", [{"k": k, "temperature": t} for k in (20, 1, 200)
                                    for t in (0.07, None)], names),
        file_of("linear", "accuracy", [{"learning_rate": 10.0, "weight_decay": 0.001}], names),
        file_of("retrieval", "mean_average_precision", [{"gallery": "test"}], names),
    ]  # fmt: skip


@pytest.fixture
def printed(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def lines(print_table, *arguments):
        print_table(*arguments)
        text = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        in_table = [line.startswith((" ", "Figures on")) for line in text]
        table = [line for line, inside in zip(text, in_table, strict=True) if inside]
        return table, [
            line for line, inside in zip(text, in_table, strict=True) if line and not inside
        ]

    return lines


def test_names_in_brackets_are_printed_and_control_characters_are_not(capsys):
    names, shown = ["run [red]", "[cat]:dog:\x1b[2J"], ["run [red]", "[cat]:dog:\\x1b[2J"]
    clusters = [Cluster(number=0, size=2, central=(0, 1), classes=((1, 0.8), (0, 0.2)))]
    table = SimpleNamespace(names=names, class_names=["a", "[b]"])
    runs = [{"name": name, "verdict": "learning", "step": 1} for name in names]
    compared = {"runs": runs, "figures": [], "differences": {"data": dict.fromkeys(names, "[x]")}}
    prints = {
        "clusters": lambda: clusters_table(table, clusters),
        "runs": lambda: comparison_table(compared, []),
        "figures": lambda: evaluation_table(contents(names)),
    }
    for what, print_table in prints.items():
        print_table()
        out = capsys.readouterr().out
        assert "\x1b" not in out, what
        assert all(name in out for name in shown), what
        assert ("[b]" in out) == (what == "clusters")
        assert ("[x]" in out) == (what == "runs")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_figures_of_any_number_of_subjects_fit_80_columns(printed, count):
    names = NAMES[:count]
    table, sentences = printed(evaluation_table, contents(names))
    assert max(map(len, table)) <= 80
    text = "\n".join(table)
    for place in range(count):
        assert f"{50 + 2 * place:.1f}\u202f%" in text
    assert "(40.0\u201360.0)" in text
    assert "\u2026" not in text
    for name in names:
        assert name[:8] in text
    said = [line for line in sentences if line.strip()]
    assert len(set(said)) == len(said)


def test_what_the_figures_say_stands_above_them(capsys):
    evaluation_table(contents(NAMES[:2]))
    lines = capsys.readouterr().out.splitlines()
    table = next(place for place, line in enumerate(lines) if line.startswith("Figures on"))
    assert sum("On 1,000" in line or "points" in line for line in lines[:table]) >= 3
    assert not any("points" in line for line in lines[table:])


def test_what_each_subject_chose_stands_beside_its_own_figure(printed, monkeypatch):
    names = ["trained", "untrained"]
    file = file_of("logistic", "accuracy", [{"penalty": "l2", "strength": 0.5}], names)
    file["results"][1]["setting"] = {"penalty": "l2", "strength": 8.0}
    table, _ = printed(evaluation_table, [file])
    row = next(place for place, line in enumerate(table) if "logistic" in line)
    assert "strength" not in table[row]
    assert "penalty l2" in table[row]
    assert table[row + 1].split() == ["(40.0\u201360.0)"] * 2
    assert table[row + 2].split() == ["strength", "0.5", "strength", "8"]
    monkeypatch.setenv("COLUMNS", "10000")  # into a pipe: a row is one line
    table, _ = printed(evaluation_table, [file])
    row = next(line for line in table if "logistic" in line)
    assert "(40.0\u201360.0), strength 8" in row


def test_no_test_against_a_baseline_is_said_twice(printed):
    _, sentences = printed(evaluation_table, contents(["a", "b", "untrained", "pixels"]))
    text = " ".join(sentences)
    assert text.count("raw pixels") == 3  # once for each protocol
    assert "pixels, p = 0.25" not in text
    assert text.count("a is 1.0 points below b, p = 0.25") == 3


def test_runs_with_many_figures_fit_80_columns(printed):
    runs = [{"name": name, "verdict": "no better than the linear probe", "step": 12_000,
             "total_steps": 12_000} for name in NAMES]  # fmt: skip
    figures = [
        {"run": name, "title": title, "metric": "accuracy", "value": 0.5, "interval": [0.4, 0.6]}
        for name in NAMES for title in ("kNN accuracy", "Linear accuracy", "Few labels", "Retrieval")
    ]  # fmt: skip
    differences = {
        "recipe.method.objective.temperature": dict.fromkeys(NAMES, 0.1),
        "data.source": dict.fromkeys(NAMES, "/a/very/long/path/to/some/images/in/a/folder.parquet"),
    }
    compared = {"runs": runs, "figures": figures, "differences": differences}
    table, sentences = printed(comparison_table, compared, ["a is above b."])
    assert max(map(len, table)) <= 80
    text = "\n".join(table)
    assert text.count("50.0\u202f%") == 20
    assert text.count("(40.0\u201360.0)") == 20
    assert text.count("12,000 of 12,000") == 5
    assert "\u2026" not in text
    assert "a is above b." in sentences


def test_a_pipe_gets_whole_paths_in_one_line(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "/photos/" + "/".join(["a-folder-with-a-long-name"] * 8) + "/picture one.jpg"
    row = {"query": path, "rank": 1, "score": 0.5, "name": "x", "path": path, "class": "dress",
           "mark": ""}  # fmt: skip
    search_table([row])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Nearest to {path}"
    assert any(path in line and line.rstrip().endswith("dress") for line in lines)
    differences = {"data.source": {"one": path, "two": "scenes"}}
    runs = [{"name": "one", "piece_accuracy_h": 0.123}, {"name": "two"}]
    comparison_table({"runs": runs, "figures": [], "differences": differences}, [])
    printed = capsys.readouterr().out
    assert path in printed
    assert "Images found" in printed
    assert "12.3\u202f%" in printed


def test_a_search_has_a_table_for_each_query(capsys):
    """Each row is looked at once, however many queries there are."""

    class Row(dict):
        looked = 0

        def __getitem__(self, key):
            Row.looked += key == "query"
            return super().__getitem__(key)

    rows = [Row(query=f"q{number}", rank=1, score=0.5, name=f"n{number}", path=None, mark="",
                **{"class": None}) for number in range(30)]  # fmt: skip
    search_table(rows)
    lines = [line.split()[-1] for line in capsys.readouterr().out.splitlines()
             if "Nearest" in line or "0.5000" in line]  # fmt: skip
    assert lines == [name for number in range(30) for name in (f"q{number}", f"n{number}")]
    assert Row.looked == len(rows)


def test_a_redirected_table_of_figures_has_100_columns(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    files = contents(NAMES[:3])
    for place, result in enumerate(files[1]["results"]):
        result["setting"] = {"learning_rate": 333.3333 + place, "validation_accuracy": 0.87}
    evaluation_table(files)
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("Figures on"))
    assert max(map(len, lines[start:])) <= 100
    assert any("learning rate 333" in line for line in lines[start:])
    runs = [{"name": name, "verdict": "learning", "step": 9} for name in NAMES]
    figures = [
        {"run": name, "title": f"Figure {place}", "value": 0.5, "interval": [0.4, 0.6]}
        for name in NAMES for place in range(12)
    ]  # fmt: skip
    comparison_table({"runs": runs, "figures": figures, "differences": {}}, [])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "\n".join(lines).count("50.0\u202f%") == 60


def test_quiet_output_has_the_headline_figures_alone(capsys):
    files = contents(["trained", "untrained", "pixels"])
    files[0]["card"] = {"subjects": {"untrained": {"note": "It has random weights"}}}
    with output(quiet=True):
        evaluation_table(files)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" on h")[0] for line in lines] == ["Linear", "Knn", "Retrieval"]
    evaluation_table(files)
    assert "It has random weights" in capsys.readouterr().out
