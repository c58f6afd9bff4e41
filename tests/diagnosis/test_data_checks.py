"""Small stores with one thing wrong each: it is found, counted and told, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from coview.core.errors import DataError
from coview.core.images import ImageStore, store_from_arrays
from coview.data import open_images
from coview.data.held_out import hold_out, usual_training
from coview.diagnosis import data_checks
from coview.diagnosis.data_checks import (
    CHECKS,
    DataCheck,
    DataReport,
    Finding,
    check_data,
    is_gray,
)
from coview.embeddings.duplicates import exact_groups

Picture = npt.NDArray[np.uint8]


def picture(seed: int, height: int = 40, width: int = 40) -> Picture:
    """A smooth colored field that no other seed comes near to."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (5, 5, 3))
    rows, columns = np.linspace(0, 3.999, height), np.linspace(0, 3.999, width)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    return (upper * (1 - down) + lower * down).round().astype(np.uint8)


def data_of(store: ImageStore) -> DataCheck:
    return DataCheck(store=store, sample=np.arange(len(store)), seed=0, figures={})


def pictures(count: int, **options: object) -> ImageStore:
    return store_from_arrays([picture(i) for i in range(count)], **options)


def test_count_calls_few_images_a_problem() -> None:
    data = data_of(pictures(30))
    found = data_checks.check_count(data)
    assert found.level == "problem"
    assert found.sentence.startswith("30 images are too few")
    assert all(word in found.fix for word in ("pretrain --weights`", "`coview import`"))
    assert "pretrained" in found.fix
    assert data.figures == {"images": 30}


def test_count_of_enough_images_is_good() -> None:
    tiny = [np.full((1, 1, 3), i % 256, np.uint8) for i in range(2600)]
    data = data_of(store_from_arrays(tiny))
    found = data_checks.check_count(data)
    assert found.level == "good"
    assert found.sentence == "There are 2,600 images."


def test_broken_counts_the_files_left_out() -> None:
    store = pictures(300)
    assert data_checks.check_broken(data_of(store)) is None
    two = replace(store, quarantine=(("a.jpg", "truncated"), ("b.jpg", "not an image")))
    found = data_checks.check_broken(data_of(two))
    assert found is not None
    assert found.level == "note"
    assert "2 files (0.7%)" in found.sentence
    assert "  a.jpg: truncated\n  b.jpg: not an image" in check_data(two).render_text()
    many = replace(store, quarantine=tuple((f"{i}.jpg", "truncated") for i in range(4)))
    worse = data_checks.check_broken(data_of(many))
    assert worse is not None
    assert worse.level == "problem"


def test_sizes_counts_short_sides_and_long_shapes() -> None:
    shapes = [(20, 20)] * 3 + [(40, 50)] * 5 + [(300, 70)] * 2
    store = store_from_arrays([np.zeros((*shape, 3), np.uint8) for shape in shapes])
    data = data_of(store)
    found = data_checks.check_sizes(data)
    assert data.figures["short_sides"] == {"< 32": 3, "32 .. 63": 5, "64 .. 127": 2}
    assert data.figures["elongated"] == 0.2
    assert found.level == "note"
    assert "20 to 70 px, median 40" in found.sentence
    assert data_checks.check_sizes(data_of(store.subset(np.arange(8)))).level == "good"


def test_sizes_of_equal_images_and_of_those_that_were_made_smaller() -> None:
    store = store_from_arrays([np.zeros((40, side, 3), np.uint8) for side in (50, 60)])
    assert data_checks.check_sizes(data_of(store)).sentence == "All short sides are 40 px."
    shrunk = check_data(store, kept_at=40)
    assert "All short sides are 40 px or more." in shrunk.render_text()
    tiny = store_from_arrays([np.zeros((16, side, 3), np.uint8) for side in (16, 20)])
    assert "All short sides are 16 px or more." in check_data(tiny, kept_at=16).render_text()
    assert shrunk.figures["short_sides"] == {">= 32": 2}


def test_is_gray_allows_what_jpeg_leaves_of_gray() -> None:
    levels = picture(0)[..., :1].repeat(3, axis=2)
    noise = np.random.default_rng(0).integers(0, 7, levels.shape)
    assert is_gray((levels // 2 + noise).astype(np.uint8))
    assert not is_gray(picture(0))


@pytest.mark.parametrize(
    ("gray", "level", "words"),
    [(0, "good", ""), (10, "note", "cue"), (20, "note", "hue have no effect")],
)
def test_gray_tells_none_some_and_all_apart(gray: int, level: str, words: str) -> None:
    images = [picture(i) for i in range(20)]
    for i in range(gray):
        images[i] = images[i][..., :1].repeat(3, axis=2)
    found = data_checks.check_gray(data_of(store_from_arrays(images)))
    assert found.level == level
    assert f"{gray / 20:.0%} of all 20 images" in found.sentence
    assert words in found.fix


def test_copies_finds_equal_pixels_and_not_equal_bytes_of_other_shape() -> None:
    images = [picture(i) for i in range(8)]
    images += [images[2], images[2], images[5], images[7].reshape(20, 80, 3)]
    store = store_from_arrays(images, names=[f"{i}.png" for i in range(12)])
    assert exact_groups(store) == [[2, 8, 9], [5, 10]]
    data = data_of(store)
    found = data_checks.check_copies(data)
    assert data.figures["exact_copies"] == 3
    assert found.level == "problem"
    assert "3 surplus copies (25.0%) in 2 groups" in found.sentence
    assert "2.png = 8.png" in found.sentence
    assert data_checks.check_copies(data_of(pictures(8))).level == "good"


def test_copies_under_other_labels_are_a_problem_however_few() -> None:
    images = [picture(i) for i in range(200)] + [picture(3)]
    labels = np.zeros(201, np.int64)
    assert (
        data_checks.check_copies(data_of(store_from_arrays(images, labels=labels))).level == "note"
    )
    labels[-1] = 1
    found = data_checks.check_copies(data_of(store_from_arrays(images, labels=labels)))
    assert found.level == "problem"
    assert "1 of them under different labels" in found.sentence
    labels[-1] = -1  # no label contradicts none
    found = data_checks.check_copies(data_of(store_from_arrays(images, labels=labels)))
    assert found.level == "note"


def changed_copies() -> list[Image]:
    """Picture 3 at half the size, brighter, and with the noise of a coder."""
    image = picture(3)
    noise = np.random.default_rng(1).normal(0, 6, image.shape)
    half = image.reshape(20, 2, 20, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    brighter = np.clip(image * 1.15 + 8, 0, 255).astype(np.uint8)
    return [half, brighter, np.clip(image + noise, 0, 255).astype(np.uint8)]


def test_near_copies_leaves_exact_copies_to_their_own_finding() -> None:
    exact = store_from_arrays([picture(i) for i in range(9)] + [picture(3)])
    assert data_checks.check_near_copies(data_of(exact)).level == "good"
    data = data_of(store_from_arrays([picture(i) for i in range(9)] + changed_copies()))
    found = data_checks.check_near_copies(data)
    assert data.figures["near_pairs"] == 6
    assert found.level == "problem"
    assert "4 of all 12 images" in found.sentence


def test_near_copies_under_other_labels_come_first_and_are_a_problem() -> None:
    images = [picture(i) for i in range(400)]
    images += [np.clip(images[7] * 1.2 + 8, 0, 255).astype(np.uint8), images[9][:, ::-1]]
    labels = np.zeros(402, np.int64)
    same = data_checks.check_near_copies(data_of(store_from_arrays(images, labels=labels)))
    assert same.level == "note"
    labels[401] = 1
    found = data_checks.check_near_copies(data_of(store_from_arrays(images, labels=labels)))
    assert found.level == "problem"
    assert "1 pair under different labels (arrays#9 ~ arrays#401: flipped" in found.sentence


def test_classes_tells_the_balance() -> None:
    names = ("cat", "dog", "owl")
    labels = np.repeat([0, 1, 2, -1], [12, 5, 2, 1])
    store = replace(pictures(20), labels=labels, class_names=names)
    data = data_of(store)
    found = data_checks.check_classes(data)
    assert found is not None
    assert data.figures["classes"] == {"cat": 12, "dog": 5, "owl": 2}
    assert "from 2 (owl) to 12 images (cat). Without a label: 1 image." in found.sentence
    assert found.level == "good"
    even = data_checks.check_classes(data_of(replace(store, labels=np.repeat([0, 1], 10))))
    assert even is not None
    assert even.sentence == "2 classes, of 10 images each."
    lonely = replace(store, labels=np.repeat([0, 1, 2], [12, 7, 1]))
    alone = data_checks.check_classes(data_of(lonely))
    assert alone is not None
    assert alone.level == "problem"
    assert data_checks.check_classes(data_of(pictures(20))) is None


def test_classes_notes_more_than_ten_to_one() -> None:
    labels = np.repeat([0, 1], [28, 2])
    found = data_checks.check_classes(
        data_of(replace(pictures(30), labels=labels, class_names=("a", "b")))
    )
    assert found is not None
    assert found.level == "note"
    assert "per class" in found.fix


def test_color_shortcut_is_told_apart_from_shape() -> None:
    data = data_of(pictures(64))
    found = data_checks.check_color_shortcut(data)
    assert found.level == "good"
    assert data.figures["color_instance_accuracy"] < 0.5
    assert "chance 1.6%" in found.sentence


def test_color_shortcut_of_views_that_keep_their_colors_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from coview.views import ViewPlan, eval_view

    monkeypatch.setattr(
        "coview.views.simclr_views", lambda size: ViewPlan(views=(eval_view(size), eval_view(size)))
    )
    found = data_checks.check_color_shortcut(data_of(pictures(64)))
    assert found.level == "problem"
    assert "`jitter_strength`" in found.fix


@pytest.mark.parametrize("count", [400, 60_000])
def test_proposal_is_what_pretrain_would_choose_with_its_steps(count: int) -> None:
    from coview.planning.defaults import default_recipe

    tiny = np.zeros((1, 32, 32, 3), np.uint8)
    store = store_from_arrays(tiny).subset(np.zeros(count, np.int64))
    data = data_of(replace(store, ids=np.arange(count)))
    found = data_checks.check_recipe(data)
    device, trained = data.figures["recipe"]["device"], len(hold_out(data.store, data.seed)[0])
    assert trained < count
    chosen = default_recipe("simclr", side=32, images=usual_training(count), device=device)
    assert data.figures["recipe"]["steps"] == chosen.total_steps(trained)
    assert f"batch {chosen.batch_size}, {chosen.epochs:g} epochs" in found.sentence
    short = chosen.total_steps(trained) < data_checks.RECOMMENDED_STEPS
    assert (found.level == "note") == short == ("`epochs`" in found.fix)
    if short:
        advised = float(found.fix.split("set `epochs` to ")[1].rstrip("."))
        steps = [replace(chosen, epochs=n).total_steps(trained) for n in (advised - 1, advised)]
        assert steps[0] < data_checks.RECOMMENDED_STEPS <= steps[1]


def test_proposal_is_left_out_where_pretrain_would_refuse() -> None:
    assert data_checks.check_recipe(data_of(pictures(3))) is None


def test_check_data_runs_every_check_and_prints_each_finding_with_its_fix() -> None:
    store = store_from_arrays([picture(i) for i in range(40)] + [picture(3)], source="photos")
    report = check_data(store)
    read = json.loads(json.dumps(report.to_json(), allow_nan=False))
    names = {finding["name"] for finding in read["findings"]}
    absent = {"broken", "classes", "brightness"}
    assert len(names) == len(CHECKS) - len(absent)
    text = report.render_text()
    assert text.startswith("photos: 2 problems.")
    for finding in report.findings:
        assert finding.sentence in text
        assert finding.fix in text
        assert bool(finding.fix) == (finding.level != "good")
    assert report.exit_code == 1
    assert check_data(store).to_json() == report.to_json()


def test_nearly_black_images_whose_white_was_assumed_are_a_problem(tmp_path: Path) -> None:
    for i in range(30):
        Image.fromarray(picture(i)[..., 0].astype(np.uint16) * 16).save(tmp_path / f"{i}.png")

    def check(**options: float) -> Finding | None:
        data = data_of(open_images(tmp_path, cache=tmp_path / "cache", **options))
        return data_checks.check_brightness(data)

    found = check()
    assert found is not None
    assert found.level == "problem"
    assert found.sentence == (
        "The images of 16 bits are nearly black: 99% of them have no level above 16 of 255."
    )
    assert "set `white` to the value that means white, perhaps 4095" in found.fix
    for white in (4095, 50_000):  # it is as it was declared, dark images included
        assert check(white=white) is None


def test_dark_images_of_8_bits_are_as_they_are() -> None:
    dark = [(picture(i) // 16).astype(np.uint8) for i in range(30)]
    assert data_checks.check_brightness(data_of(store_from_arrays(dark))) is None


def test_each_image_of_the_sample_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    image = ImageStore.image
    monkeypatch.setattr(ImageStore, "image", lambda self, row: rows.append(row) or image(self, row))
    data = data_of(pictures(30))
    data_checks.check_gray(data)
    assert sorted(rows) == list(range(30))


def test_check_data_of_a_sample_does_not_judge_the_number_of_images() -> None:
    names = {finding.name for finding in check_data(pictures(40), sampled=True).findings}
    assert not names & {"count", "recipe"}
    assert "sizes" in names


def test_data_report_without_a_problem_exits_with_zero() -> None:
    finding = Finding(name="gray", level="note", sentence="Gray.", fix="Paint.")
    report = DataReport(source="photos", findings=(finding,), figures={})
    assert report.exit_code == 0
    assert report.render_text() == (
        "photos: No problem found.\n\nnote     Gray.\n         -> Paint."
    )


def test_check_data_refuses_a_source_without_images() -> None:
    empty = pictures(1).subset(np.zeros(0, np.int64))
    with pytest.raises(DataError, match="no image that can be read"):
        check_data(empty)
