"""The report of whole, broken, killed and hostile runs, read back with an HTML parser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from report_run import CLASSES, NASTY, make_run

import coview
from coview.core.errors import RunError
from coview.core.run_lock import run_lock
from coview.reports import read_record, write_report
from coview.reports.key_numbers import encoder_name
from coview.reports.run_state import state_line

SOURCE = Path(coview.__file__).parents[1]
VOID = {"br", "hr", "img", "link", "meta"}


class Outline(HTMLParser):
    """Every element with its attributes, the visible text, and whether the tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outline]:
    folder = make_run(tmp_path_factory.mktemp("runs") / "good")
    path = write_report(folder)
    return path, Outline(path.read_text("utf-8"))


def report_of(folder: Path) -> Outline:
    return Outline(write_report(folder).read_text("utf-8"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_reports_import_without_torch() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import coview.reports.page; "
        "from coview.reports import write_report; print('torch' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "False"


def test_report_lies_in_the_run_folder_and_is_small(good: tuple[Path, Outline]) -> None:
    path, _ = good
    assert path.name == "report.html"
    assert path.stat().st_size < 5_000_000
    assert [p.name for p in path.parent.glob(".report*")] == []


def test_report_names_nothing_outside_itself(good: tuple[Path, Outline]) -> None:
    path, outline = good
    assert outline.named("link") == []
    for _, attributes in outline.elements:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            address = attributes.get(key) or "#"
            assert address.startswith(("data:image/", "#")), address
    style = path.read_text("utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_report_begins_with_the_diagnosis_and_the_scores(good: tuple[Path, Outline]) -> None:
    _, outline = good
    start = outline.text[: outline.text.index("Most similar images")]
    texts = ("It has learned", "images that it has never seen", "Shown a gray piece", "kNN accuracy", "81.2",
             "41.8", "33.3", "Linear accuracy", "86.8", "gray piece of it", "trained for 10 min 40 s")  # fmt: skip
    for words in texts:
        assert words in start.replace("\u202f", " "), words


def test_report_has_every_section_in_order(good: tuple[Path, Outline]) -> None:
    _, outline = good
    names = [attributes["id"] for attributes in outline.named("section")]
    assert names == ["evaluation", "neighbors", "map-of-images", "views", "curves", "pairs",
                     "numbers", "files", "events", "making"]  # fmt: skip
    assert {f"#{name}" for name in names} == {a["href"] for a in outline.named("a")}


def test_report_is_accessible(good: tuple[Path, Outline]) -> None:
    _, outline = good
    assert outline.named("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in outline.named("img"))
    assert len(outline.named("h1")) == 1
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    drawings = [a for a in outline.named("svg") if a.get("aria-hidden") != "true"]
    assert all(drawing.get("aria-label") for drawing in drawings)
    identifiers = [a["id"] for _, a in outline.elements if a.get("id")]
    assert all(a["aria-labelledby"] in identifiers for a in outline.named("section"))
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("label", ["at chance", "collapsed", "dimensional collapse", "unchanged",
                                   "shortcut"])  # fmt: skip
def test_report_of_a_failure_shows_causes_and_remedy(tmp_path: Path, label: str) -> None:
    outline = report_of(make_run(tmp_path, verdict=label, images=20))
    assert "Likely causes" in outline.text
    assert "The learning rate rises without a warm-up." in outline.text
    assert "Start again with a longer --warmup-epochs (10)" in outline.text
    assert len(outline.named("code")) == 1 + 2 + 2  # doctor; command and hash; two fields
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "command": "python my.py"}))
    assert "Start again with a longer warmup_epochs (10)" in report_of(tmp_path).text


def test_similarities_are_compared_within_a_row(good: tuple[Path, Outline]) -> None:
    text = good[1].text
    assert "compare those within a row" in text
    assert "0 unrelated" not in text


def test_report_of_learning_needs_no_remedy(good: tuple[Path, Outline]) -> None:
    assert "Likely causes" not in good[1].text


def test_report_escapes_whatever_a_user_can_name(tmp_path: Path) -> None:
    attack = NASTY + "\"'><img src=x onerror=alert(1)></style></title>"
    folder = make_run(tmp_path, name=attack, images=20)
    change(folder / "run.json", command=attack, plan=[attack], hash=attack,
           recipe={attack: {"type": attack, attack: [attack]}}, environment={attack: attack},
           data={"source": attack, "class_names": [attack] * 6})  # fmt: skip
    change(folder / "verdict.json", label="at chance", sentence=attack, causes=[attack],
           remedy=attack)  # fmt: skip
    lines = [{"kind": "event", "step": 9, "text": attack},
             {"kind": "skipped", "step": 9, "ids": [attack], "reason": attack},
             {"kind": "health", "step": 0, "epoch": 0, "figures": {attack: 1.0}}]  # fmt: skip
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    change(folder / "evaluation" / "knn.json", protocol=attack, card={attack: attack},
           results=[{"subject": attack, "layer": attack, "setting": {attack: attack},
                     "value": 0.5}])  # fmt: skip
    outline = report_of(folder)
    kinds = [attributes.get("type") for attributes in outline.named("script")]
    assert kinds == ["application/json", None]
    assert not any(key.startswith("on") for _, attributes in outline.elements for key in attributes)
    assert outline.text.count("<script>alert") >= 11


def test_report_survives_names_that_are_no_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    (folder / "quarantine.jsonl").write_text(json.dumps({"file": "a\udcff.jpg", "reason": "x"}))
    assert "a?.jpg" in report_of(folder).text


def test_report_cuts_long_lists_and_counts_the_rest(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    lines = [json.dumps({"file": f"file-{i}.jpg", "reason": "broken"}) for i in range(1234)]
    (folder / "quarantine.jsonl").write_text("\n".join(lines))
    text = report_of(folder).text
    assert "1,234 files could not be used." in text
    assert "1,034 more of 1,234 are not shown." in text
    assert "file-199.jpg" in text
    assert "file-200.jpg" not in text


def test_report_needs_only_the_description(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    outline = report_of(tmp_path)
    assert "There is no verdict yet" in outline.text
    assert "stopped: no step reported yet" in outline.text
    assert [a["id"] for a in outline.named("section")] == ["views", "curves", "numbers", "making"]


def test_report_of_a_killed_run_shows_how_far_it_came(tmp_path: Path) -> None:
    folder = make_run(tmp_path, finished=0.4, images=20)
    (folder / "verdict.json").unlink()
    shutil.rmtree(folder / "evaluation")
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "step", "step": 405, "lo')
    text = report_of(folder).text.replace("\u202f", " ")
    assert "stopped: step 400 of 1,000 (40 %)" in text
    assert "coview resume" in text
    assert "while training, 10 neighbors" in text


def test_report_says_the_budget_and_what_was_used_of_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "time used" not in report_of(folder).text
    change(folder / "verdict.json", time={"budget": 1800.0, "used": 1752.0})
    rows = read_record(folder).steps
    with (folder / "metrics.jsonl").open("a") as stream:  # planned again: the run ended earlier
        total = {"kind": "plan", "step": rows[-1]["step"], "total_steps": rows[-1]["step"]}
        stream.write(json.dumps(total) + "\n")
    text = report_of(folder).text
    assert "budget 30 min, used 29 min 12 s" in text[:900]
    assert "time used 29 min 12 s of the budget of 30 min" in text
    assert f"finished after {rows[-1]['step']:,} steps" in text.replace("\u202f", ",")


def test_report_of_a_run_whose_last_step_was_not_reported_is_finished(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    others = [line for line in lines if (line["kind"], line["step"]) != ("step", 1000)]
    path.write_text("".join(json.dumps(line) + "\n" for line in others))
    assert "finished after 1,000 steps" in report_of(folder).text


@pytest.mark.parametrize("name", ["verdict.json", "evaluation/knn.json", "report/gallery.npz",
                                  "report/views.png"])  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00{", b"[1, 2]", b"PK\x03\x04 not a zip"])
def test_report_of_a_damaged_file_is_still_written(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = make_run(tmp_path, images=20)
    (folder / name).write_bytes(content)
    assert "How it was made" in report_of(folder).text


def test_report_of_an_altered_gallery_is_still_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    path = folder / "report" / "gallery.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = 0
    for _ in range(60):
        altered = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            altered[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(altered[: rng.integers(len(whole) // 2, len(whole) + 1)]))
        damaged += bool(read_record(folder).damaged)
    assert damaged > 30
    path.write_bytes(whole[: len(whole) // 2])
    assert "report/gallery.npz is not a readable gallery" in report_of(folder).text


def test_report_says_which_file_is_damaged(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    (folder / "verdict.json").write_text('{"verdict": ')
    (folder / "report" / "views.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    text = report_of(folder).text
    assert "verdict.json is not readable JSON" in text
    assert "The contact sheet of this run is damaged." in text


def test_report_ignores_values_that_are_no_numbers(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    lines = [{"kind": "step", "step": 5, "epoch": "?", "loss": None},
             {"kind": "step", "step": "x"}, {"kind": "health", "step": 50, "figures": None},
             {"kind": "knn", "step": 0, "accuracy": True}, {"kind": "skipped", "step": None},
             ["not", "an", "object"]]  # fmt: skip
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
        stream.write('{"kind": "step", "step": 10, "epoch": 0.4, "loss": NaN}\n')
    change(folder / "run.json", chance_level="high", lower_bound=None, total_steps=None,
           epochs="many", created=3, plan="because", parameters=[], data=None)  # fmt: skip
    text = report_of(folder).text
    assert "Loss" in text
    assert "nan" not in text


@pytest.mark.parametrize("broken", ["absent", "file", "empty", "list", "cut"])
def test_report_refuses_what_is_not_a_run(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "run"
    if broken == "file":
        folder.write_text("")
    elif broken != "absent":
        folder.mkdir()
    if broken in ("list", "cut"):
        (folder / "run.json").write_text({"list": "[]", "cut": '{"name": '}[broken])
    with pytest.raises(RunError, match="is no"):
        write_report(folder)


def test_report_without_labels_shows_no_classes(tmp_path: Path) -> None:
    outline = report_of(make_run(tmp_path, labels=False, images=20))
    assert "kNN accuracy" not in outline.text
    assert "Effective rank of h" in outline.text
    assert not any(a.get("class") in ("same", "different") for a in outline.named("li"))


def test_neighbors_are_framed_by_class(good: tuple[Path, Outline]) -> None:
    path, outline = good
    labels = read_record(path.parent).gallery["near_labels"]
    same = int((labels[:, 1:] == labels[:, :1]).sum())
    frames = [a.get("class") for a in outline.named("li") if a.get("class")]
    assert 0 < same < labels[:, 1:].size
    assert frames.count("same") == same
    assert frames.count("different") == labels[:, 1:].size - same


def test_neighbors_have_their_file_names_and_say_among_how_many(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    names = read_record(folder).gallery["near_names"]
    outline = report_of(folder)
    assert all(str(name) in outline.text for name in names[:, 1])
    assert "a random sample of 20 of the 11,520 training images" in outline.text
    assert "A random sample of 20 of 11,520 training images" in outline.text
    path = folder / "report" / "gallery.npz"
    with np.load(path) as archive:
        np.savez(path.with_name("new.npz"), **{**archive, "searched": np.array([20, 20])})
    path.with_name("new.npz").rename(path)
    text = report_of(folder).text
    assert "among all 20 training images" in text
    assert "sample of 20 of 20" not in text


def test_report_of_a_gallery_of_other_shapes_leaves_it_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path, images=20)
    path = folder / "report" / "gallery.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays |= {"near_pictures": np.zeros((2, 3, 4, 4, 2), np.float32), "sheet_layout": np.zeros(1),
               "near_names": np.zeros((2, 3))}  # fmt: skip
    np.savez(path, **arrays)
    names = [attributes["id"] for attributes in report_of(folder).named("section")]
    assert "neighbors" not in names
    assert "map-of-images" not in names


def test_one_loss_has_one_chance_level_and_one_lower_bound(good: tuple[Path, Outline]) -> None:
    text = good[1].text.replace("\u202f", " ")
    assert text.count("(chance level)") == 1
    assert "a loss of 6.93 (chance level); about 4.95 is the lowest in practice" in text
    assert "7.85" not in text  # the levels of the held-out loss
    assert "5.88" not in text


def test_numbers_for_specialists_are_folded(good: tuple[Path, Outline]) -> None:
    page = good[0].read_text("utf-8")
    folded = page.split('<details id="specialists">')[1]
    before = page.split('<details id="specialists">')[0]
    for words in ("Effective rank of h", "Gradient norm", "ResNet-18, width 0.5"):
        assert words in folded
        assert words not in before.split("<body")[1]


def test_the_start_of_a_run_is_in_the_time_of_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = replace(
        read_record(make_run(tmp_path, images=20)),
        description={"created": "2026-03-05T22:30:00+00:00"},
    )
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        assert "6 March 2026, 07:30" in state_line(record)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_run_that_is_going_says_so_and_loads_its_page_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, finished=0.4, images=20)
    (folder / "verdict.json").unlink()
    page = write_report(folder, running=True).read_text("utf-8")
    assert "data-reload=" in page
    text = Outline(page).text.replace("\u202f", " ")
    assert "Training is going on" in text
    assert "running: step 400 of 1,000 (40 %)" in text
    assert "about 6 min 24 s left" in text  # 600 steps of 0.64 s
    assert "Finds an unseen image again" in text
    for page in (write_report(folder, running=False), write_report(folder)):
        assert "data-reload=" not in page.read_text("utf-8")


def test_whether_a_run_is_going_says_its_lock(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", finished=0.4, images=20)
    with run_lock(folder):
        assert read_record(folder).running
    assert not read_record(folder).running
    (folder / "lock.json").write_text("")
    assert not read_record(folder).running


def test_map_data_holds_every_point_and_name(good: tuple[Path, Outline]) -> None:
    path, _ = good
    text = path.read_text("utf-8")
    data = json.loads(text.split('id="map-data">')[1].split("</script>")[0])
    gallery = read_record(path.parent).gallery
    assert data["names"] == gallery["names"].tolist()
    assert data["titles"] == list(CLASSES)
    assert [data["titles"][g] for g in data["groups"]] == [CLASSES[k] for k in gallery["labels"]]
    points, places = np.array(data["points"]), gallery["map"]
    assert np.allclose(points - points[0], (places - places[0]) * 564, atol=0.11)
    assert points.min() >= 17.9
    assert points[:, 0].max() <= 582.1
    assert points[:, 1].max() <= data["height"] - 17.9


def test_report_is_replaced_as_a_whole(good: tuple[Path, Outline]) -> None:
    path, _ = good
    before = path.read_bytes()
    path.write_text("old")
    assert write_report(str(path.parent)).read_bytes() == before


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ({"encoder": {"kind": "resnet", "depth": 50, "width": 1.0}}, "ResNet-50"),
        ({"encoder": {"depth": 18, "width": 0.5, "selective_kernels": True}},
         "ResNet-18, width 0.5, selective kernels"),
        ({"encoder": {"kind": "timm", "name": "convnext_tiny"}}, "convnext_tiny"),
        ({"encoder": "resnet18"}, "resnet18"),
        ({}, None),
    ],
)  # fmt: skip
def test_encoder_name_is_short(recipe: dict[str, object], name: str | None) -> None:
    assert encoder_name(recipe) == name
