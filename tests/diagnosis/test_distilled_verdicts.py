"""The words on a distilled run, on cases of known truth."""

import numpy as np
import pytest

from coview.core.figures import DIAGNOSES
from coview.diagnosis.distillation import diagnose_distillation
from coview.diagnosis.finetuning import Contender

LABELS = np.arange(1000) % 10


def classes(accuracy, seed, truth=LABELS):
    """Classes that are those of ``truth`` for about this share of the images."""
    generator = np.random.default_rng(seed)
    wrong = (truth + generator.integers(1, 10, 1000)) % 10
    return np.where(generator.random(1000) < accuracy, truth, wrong)


@pytest.mark.parametrize(("step", "label"), [(4, "too early"), (400, "at chance")])
def test_a_teacher_of_one_class_teaches_nothing(step, label):
    ones = np.ones(100, np.int64)
    diagnosis = diagnose_distillation(
        ones, ones, np.full(100, -1), labels_alone=None, baseline="labels alone", step=step
    )
    assert diagnosis.label == label
    assert "most frequent class alone gives 100.0 %" in diagnosis.sentence


def diagnosed(agreement, alone=None, labels=LABELS, step=400):
    teacher = classes(0.8, 1)
    student = classes(agreement, 2, teacher)
    baseline = None
    if alone is not None:
        baseline = Contender(name="labels alone", correct=classes(alone, 3) == LABELS)
    return diagnose_distillation(
        student, teacher, labels, labels_alone=baseline, baseline="labels alone", step=step
    )


@pytest.mark.parametrize(
    ("label", "agreement", "alone", "step"),
    [
        ("learned", 0.9, 0.5, 400),
        ("learned", 0.9, None, 400),
        ("at chance", 0.1, 0.5, 400),
        ("too early", 0.1, None, 20),
        ("no better than from scratch", 0.6, 0.7, 400),
    ],
)
def test_every_label_is_given_where_it_is_true(label, agreement, alone, step):
    found = diagnosed(agreement, alone, step=step)
    assert found.label == label
    assert found.label in DIAGNOSES
    assert f"{100 * agreement:.0f}"[0] in found.sentence
    assert "teacher 7" in found.sentence or "teacher 8" in found.sentence
    assert ("labels alone" in found.sentence) == (alone is not None)
    assert bool(found.remedy) == (label != "learned")


@pytest.mark.parametrize(("alone", "is_open"), [(0.54, True), (0.8, False)])
def test_no_better_is_said_where_the_test_images_show_it(alone, is_open):
    found = diagnosed(0.7, alone)
    assert found.label == "no better than from scratch"
    assert ("1,000 test images are too few to" in found.sentence) == is_open == found.undecided
    assert ("`test`" in found.remedy) == is_open


def test_without_labels_the_teacher_is_all_there_is_to_compare_with():
    found = diagnosed(0.9, labels=np.full(1000, -1))
    assert found.label == "learned"
    assert "classified correctly" not in found.sentence
    assert "the student gives the teacher's class" in found.sentence


def test_figures_are_counts_of_the_images():
    teacher, student = np.array([0, 1, 1, 2] * 50), np.array([0, 1, 2, 2] * 50)
    labels = np.array([0, -1, 2, -1] * 50)
    found = diagnose_distillation(
        student, teacher, labels, labels_alone=None, baseline="labels alone", step=500
    )
    assert found.sentence == (
        "Learned: on 75.0 % of 200 test images the student gives the teacher's class; 100.0 % are "
        "classified correctly (teacher 50.0 %)."
    )


@pytest.mark.parametrize(("right", "label"), [((0.92, 0.92), "learned"), ((1.0, 0.0), "at chance")])
def test_a_student_that_knows_a_rare_class_of_the_teacher_is_not_at_chance(right, label):
    teacher = (np.arange(1000) % 20 == 0).astype(np.int64)
    agrees = np.random.default_rng(0).random(1000) < np.array(right)[teacher]
    found = diagnose_distillation(
        np.where(agrees, teacher, 1 - teacher), teacher, np.full(1000, -1), labels_alone=None,
        baseline="labels alone", step=400,
    )  # fmt: skip
    assert found.label == label
    assert ("of each class on average, by chance 50.0 %" in found.sentence) == (label == "learned")
