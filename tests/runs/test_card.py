"""The model card of a run's export: from its description and log, without this machine's paths."""

import json

import pytest
from PIL import Image

import coview
from coview.runs.card import card_of
from small_run import SMALL, pictures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    images, labels = pictures(80)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "my photos" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    return coview.pretrain(
        folder / "my photos", labels_from="folders", out=folder / "run", epochs=2, **SMALL
    )


def test_card_says_how_the_weights_were_trained_and_how_good_they_are(run):
    card = (run.encoder_path / "README.md").read_text()
    knn = run.metrics("knn")
    assert f"(hash `{run.description['hash']}`)" in card
    assert "of `my photos` (fingerprint" in card
    assert "without their labels." in card
    assert "- Length: 2 epochs, 4 steps." in card
    assert run.verdict["sentence"] in card
    assert f"kNN with labels: {knn[-1]['accuracy']:.1%} (raw pixels {knn[0]['pixels']:.1%}" in card
    assert "Without labels: " in card


def test_card_names_no_place_of_this_machine(run):
    for name in ("README.md", "config.json"):
        assert str(run.path.parent) not in (run.encoder_path / name).read_text()


def test_card_of_a_kept_checkpoint_is_of_its_step(run):
    card = card_of(run, None, 2)
    assert (card["steps"], card["epochs"]) == (2, 1.0)
    assert card["verdict"] == "Not judged: the run was at step 2 of 4."


def test_card_of_unlabeled_images_in_memory_says_what_was_not_measured(run, tmp_path):
    unlabeled = coview.pretrain(pictures(64)[0], out=tmp_path / "run", epochs=1, **SMALL)
    card = (unlabeled.encoder_path / "README.md").read_text()
    assert "of `images in memory`" in card
    assert "kNN with labels: not measured." in card


def test_card_of_a_classifier_names_its_first_weights_and_its_accuracy(run, tmp_path):
    source = run.path.parent / "my photos"
    tuned = coview.finetune(
        run.path, source, labels_from="folders", labels="10-per-class", epochs=1,
        no_baselines=True, batch_size=16, device="cpu", out=tmp_path / "tuned",
    )  # fmt: skip
    card = (tuned.encoder_path / "README.md").read_text()
    assert "- First weights: those of `run`." in card
    assert "with their labels." in card
    assert json.loads(tuned.verdict_path.read_text())["sentence"] in card
    assert card.index("## The classifier") > card.index("## License")
