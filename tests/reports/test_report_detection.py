"""The section of a detector: its figures beside training from scratch, classes, pictures."""

import io
import json

import pytest
from PIL import Image

from coview.reports.detection import detection_bars, detection_section
from coview.reports.html import join
from coview.reports.page import build_page
from coview.reports.records import read_record

RESULTS = [
    {"subject": subject, "layer": layer, "metric": metric, "value": value, "interval": [value - 0.1, value + 0.1],
     "test_images": 50, "setting": {}, "protocol": "detect"}
    for subject, bonus in (("fine-tuned", 0.1), ("from scratch", 0.0))
    for layer, metric, value in (("boxes", "AP", 0.2 + bonus), ("boxes", "AP50", 0.4 + bonus))
]  # fmt: skip


def detection_run(folder, **changes):
    (folder / "evaluation").mkdir(parents=True)
    (folder / "report").mkdir()
    content = {
        "protocol": "detect", "results": RESULTS, "classes": ["cat", "<dog>"], "training": {"AP50": 0.9},
        "boxes fine-tuned": {"by_size": {"APs": 0.1, "APm": None, "APl": 0.3}, "by_class": [0.25, None]},
        "boxes from scratch": {"by_size": {"APs": 0.05, "APm": None, "APl": 0.2}, "by_class": [0.15, 0.1]},
        **changes,
    }  # fmt: skip
    (folder / "evaluation" / "detect.json").write_text(json.dumps(content))
    (folder / "run.json").write_text(
        json.dumps({"kind": "detect", "name": "detect-cpu", "total_steps": 8})
    )
    rows = [{"kind": "step", "step": 8, "epoch": 2, "loss": 1.5},
            {"kind": "validation", "step": 8, "epoch": 2, "figure": "AP50", "value": 0.5, "train_value": 0.9}]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "PNG")
    (folder / "report" / "found.png").write_bytes(stream.getvalue())
    return read_record(folder)


def test_figures_classes_and_pictures(tmp_path):
    record = detection_run(tmp_path / "run")
    page = build_page(record)
    assert "Detection run of detect-cpu" in page
    assert "AP50 while training" in page
    section = join(detection_section(record))
    assert "(40.0 to 60.0)" in section
    assert "AP, small" in section
    assert "AP, medium" not in section
    assert "&lt;dog&gt;" in section
    assert section.count("<img") == 1
    assert "from scratch" in detection_bars(record)
    assert "AP50 of boxes" in detection_bars(record)
    assert "the chance level" not in page


@pytest.mark.parametrize(
    "changes",
    [
        {"results": None}, {"results": [{"layer": 1}]}, {"results": [{**RESULTS[0], "value": "a"}]},
    ],
)  # fmt: skip
def test_without_results_there_is_no_section(tmp_path, changes):
    record = detection_run(tmp_path / "run", **changes)
    assert detection_section(record) is None
    assert detection_bars(record) is None
    assert "Detection run" in build_page(record)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": "cat"}, {"boxes fine-tuned": []}, {"training": None}, {"boxes from scratch": {"by_class": [1]}},
        {"results": [{**each, "interval": None} for each in RESULTS]},
    ],
)  # fmt: skip
def test_other_content_leaves_out_its_part_only(tmp_path, changes):
    record = detection_run(tmp_path / "run", **changes)
    (tmp_path / "run" / "report" / "found.png").write_bytes(b"no picture")
    record = read_record(tmp_path / "run")
    assert "AP50" in join(detection_section(record))
    assert "<img" not in join(detection_section(record))
