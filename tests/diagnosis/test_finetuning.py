"""The words on a fine-tuned run, on cases of known truth."""

import numpy as np
import pytest
from scipy.stats import binom

from coview.core.figures import DIAGNOSES
from coview.diagnosis.finetuning import (
    Contender,
    better_by_test,
    compared,
    diagnose_finetuning,
    p_value,
)

LABELS = np.arange(1000) % 10


def contender(accuracy, name="fine-tuned", seed=0):
    correct = np.random.default_rng(seed).random(1000) < accuracy
    return Contender(name=name, correct=correct)


def lines(*accuracies, train=0.9):
    return [
        {"accuracy": a, "train_accuracy": train, "images": 1000, "step": i}
        for i, a in enumerate(accuracies)
    ]


CASES = {
    "learned": (0.8, 0.7, 0.5, lines(0.1, 0.7, 0.8)),
    "at chance": (0.1, 0.6, 0.1, lines(0.1, 0.1, 0.1)),
    "overfitted": (0.6, 0.7, 0.5, lines(0.1, 0.75, 0.6, train=1.0)),
    "no better than from scratch": (0.7, 0.5, 0.7, lines(0.1, 0.7)),
    "no better than the linear probe": (0.7, 0.71, 0.4, lines(0.1, 0.7)),
}


@pytest.mark.parametrize("label", CASES)
def test_every_label_is_given_where_it_is_true(label):
    accuracy, probe, scratch, validation = CASES[label]
    found = diagnose_finetuning(
        contender(accuracy, seed=1), contender(probe, "linear probe", 2),
        contender(scratch, "from scratch", 3), labels=LABELS, validation=validation, step=400,
    )  # fmt: skip
    assert found.label == label
    assert found.label in DIAGNOSES
    assert found.exit_code == DIAGNOSES[label].exit_code
    assert found.step == 400
    assert "linear probe" in found.sentence
    assert bool(found.remedy) == (label != "learned")


def test_a_baseline_that_is_higher_has_no_p_value_of_a_lead():
    right = np.arange(1000)
    found = diagnose_finetuning(
        Contender(name="fine-tuned", correct=right < 500),
        Contender(name="linear probe", correct=right < 400),
        Contender(name="from scratch", correct=right < 520),
        labels=LABELS, validation=lines(0.1, 0.5), step=400,
    )  # fmt: skip
    assert (
        "(linear probe 40.0 %, p < 0.001; from scratch 52.0 %, which is higher)" in found.sentence
    )


def on_images(images, right, name, shift=0):
    return Contender(name=name, correct=(np.arange(images) + shift) % images < right)


@pytest.mark.parametrize("baseline", ["from scratch", "linear probe"])
@pytest.mark.parametrize(
    ("images", "ours", "theirs", "shift", "sentence"),
    [
        # As 27.5 % against 18.8 % of 80 images: won 12, lost 5.
        (80, 22, 15, 5, "Better than {} by 8.8 points, but 80 test images are too few to be sure (95 "
                        "% interval -1.4 to 18.5 points): 27.5 % of 80 test images"),
        (80, 22, 22, 5, "No better than {}, but 80 test images are too few to exclude a gain of 7.9 "
                        "points: 27.5 % of 80 test images"),
        (10_000, 2760, 2750, 500, "No better than {}: 27.6 % of 10,000 test images"),
        (80, 15, 40, 0, "No better than {}: 18.8 % of 80 test images"),
    ],
)  # fmt: skip
def test_no_better_is_said_where_the_test_images_show_it(
    images, ours, theirs, shift, sentence, baseline
):
    other = on_images(images, theirs, baseline, shift)
    probe, scratch = (other, None) if baseline == "linear probe" else (None, other)
    found = diagnose_finetuning(
        on_images(images, ours, "fine-tuned"), probe, scratch, labels=np.arange(images) % 10,
        validation=(), step=400,
    )  # fmt: skip
    words = f"the {baseline}" if baseline == "linear probe" else baseline
    assert found.label == f"no better than {words}"
    assert found.sentence.startswith(sentence.format(words))
    is_open = "too few" in sentence
    assert found.undecided == is_open == ("undecided" in found.to_json())
    assert ("`test`" in found.remedy) == is_open
    assert bool(found.causes) != is_open


def test_a_difference_within_chance_is_not_better():
    """Two classifiers that differ on a few images, evenly."""
    one, other = np.ones(1000, bool), np.ones(1000, bool)
    one[:11], other[11:25] = False, False
    assert not better_by_test(Contender(name="a", correct=one), Contender(name="b", correct=other))


@pytest.mark.parametrize(
    ("wins", "losses"), [(15, 4), (9, 1), (30, 20), (8, 2), (60, 40), (61, 39)]
)
def test_the_test_is_mcnemars(wins, losses):
    one, other = np.ones(500, bool), np.ones(500, bool)
    other[:wins], one[wins : wins + losses] = False, False
    # P(at least so many wins, or so many losses) where both are equally good
    p = 2 * binom.sf(wins - 1, wins + losses, 0.5)
    a, b = Contender(name="a", correct=one), Contender(name="b", correct=other)
    assert p_value(a, b) == p_value(b, a) == pytest.approx(p)
    assert better_by_test(a, b) == (p < 0.05)
    assert not better_by_test(b, a)


def test_a_p_value_beside_a_verdict_is_not_rounded_to_its_limit():
    one, other = np.ones(500, bool), np.ones(500, bool)
    other[:42], one[42:67] = False, False
    a, b = Contender(name="a", correct=one), Contender(name="b", correct=other)
    assert better_by_test(a, b)
    assert compared(a, b) == "91.6 %, p = 0.0498"


def test_without_baselines_only_chance_and_overfitting_are_judged():
    found = diagnose_finetuning(
        contender(0.5), None, None, labels=LABELS, validation=lines(0.1, 0.5), step=1
    )
    assert found.label == "learned"
    assert "linear probe" not in found.sentence


def test_a_run_at_chance_of_a_few_steps_is_called_too_early():
    found = diagnose_finetuning(
        contender(0.1), None, None, labels=LABELS, validation=lines(0.1, 0.1), step=199
    )
    assert found.label == "too early"


def test_test_images_of_one_class_cannot_judge():
    """All are classified correctly, and no learning rate would change what that says."""
    found = diagnose_finetuning(
        contender(1.0), contender(0.9, "linear probe"), None, labels=np.full(1000, 3),
        validation=lines(0.5, 1.0), step=400,
    )  # fmt: skip
    assert found.label == "unusable data"
    assert "all test images are of one class" in found.sentence
    assert "100.0 % of 1,000 test images" in found.sentence
    assert "learning_rate" not in found.remedy


RARE = (np.arange(1000) % 20 == 0).astype(np.int64)
"""95 % of one class and 5 % of the other."""


@pytest.mark.parametrize("of_each", [(0.92, 0.92), (0.96, 0.5)])
def test_a_network_that_tells_a_rare_class_is_not_at_chance(of_each):
    correct = np.random.default_rng(0).random(1000) < np.array(of_each)[RARE]
    found = diagnose_finetuning(
        Contender(name="fine-tuned", correct=correct), None, None, labels=RARE, validation=(),
        step=400,
    )  # fmt: skip
    assert correct.mean() < 0.96
    assert found.label == "learned"
    assert "of each class on average, by chance 50.0 %" in found.sentence
    assert "the most frequent class alone gives 95.0 %" in found.sentence


@pytest.mark.parametrize("common", [1.0, 0.95, 0.5])
def test_a_network_that_names_the_frequent_class_by_any_share_is_at_chance(common):
    named_common = np.random.default_rng(1).random(1000) < common
    found = diagnose_finetuning(
        Contender(name="fine-tuned", correct=named_common == (RARE == 0)),
        Contender(name="linear probe", correct=RARE == 0), None, labels=RARE, validation=(),
        step=400,
    )  # fmt: skip
    assert found.label == "at chance"
    assert any("nothing to do with what the images show" in cause for cause in found.causes)
