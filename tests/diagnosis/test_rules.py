"""Real small runs, one for each state that a run can be in: each gets its diagnosis and no other."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, normalize

from coview.core.errors import InvalidValue
from coview.core.figures import DIAGNOSES
from coview.diagnosis.health import HealthFigures, measure
from coview.diagnosis.rules import diagnose, diverged
from coview.diagnosis.state import Diagnosis, NeighborAccuracy

SIDE, STEPS, HELD_OUT = 16, 210, 128
TEMPERATURE = 0.2


def nt_xent(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    rows = normalize(torch.cat([first, second]), dim=1)
    n = len(first)
    logits = (rows @ rows.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return cross_entropy(logits, (torch.arange(2 * n) + n) % (2 * n))


def pictures(count: int, generator: torch.Generator) -> torch.Tensor:
    """Smooth random fields of all colors, float [N, 3, 16, 16] in [0, 1]."""
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    return interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)


def augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random crop of 60 .. 100 % of each side, flipped, with other gains and offset."""
    n = len(images)
    scale = 0.6 + 0.4 * torch.rand(n, 1, generator=generator)
    shift = (1 - scale) * (2 * torch.rand(n, 2, generator=generator) - 1)
    flip = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 0] * flip, scale[:, 0], shift
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    views = nn.functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
    gain = 0.6 + 0.8 * torch.rand(n, 3, 1, 1, generator=generator)
    offset = 0.4 * torch.rand(n, 1, 1, 1, generator=generator) - 0.2
    return views * gain + offset


def dimmed(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each channel of an image times 0.9 .. 1.1: a weak view."""
    return images * (0.9 + 0.2 * torch.rand(len(images), 3, 1, 1, generator=generator))


def unaltered(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images


class Constant(nn.Module):
    """A dead last layer: zero inputs for every image, so that only the bias is left."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(32))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.bias.expand(len(h), 32)


class OneDirection(nn.Module):
    """A projector whose output has rank one."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(64, 1), nn.BatchNorm1d(1, affine=False))
        self.direction = nn.Linear(1, 32, bias=False)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.direction(self.score(h))


def projector() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))


def standardized_projector() -> nn.Module:
    """Ends in BatchNorm, which keeps embeddings spread whatever the objective wants."""
    return nn.Sequential(projector(), nn.BatchNorm1d(32, affine=False))


def encoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(),
    )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    history: dict[int, HealthFigures]
    parameter_change: float

    def diagnosis(self) -> Diagnosis:
        return diagnose(
            self.history,
            steps_done=STEPS,
            steps_planned=STEPS,
            parameter_change=self.parameter_change,
        )


def trained(
    head: Callable[[], nn.Module] = projector,
    view: Callable[[torch.Tensor, torch.Generator], torch.Tensor] = augmented,
    learning_rate: float = 2e-3,
    mis_ordered: bool = False,
    steps: int = STEPS,
) -> Outcome:
    torch.manual_seed(1)
    draws = torch.Generator().manual_seed(2)
    images, held_out = pictures(1024, draws), pictures(HELD_OUT, draws)
    views = (view(held_out, draws), view(held_out, draws))
    if mis_ordered:
        views = (views[0], views[1].roll(HELD_OUT // 2, 0))
    body, top = encoder(), head()
    network = nn.ModuleList([body, top])
    start = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)

    def embed(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = body(batch)
        return h, top(h)

    def report() -> HealthFigures:
        network.eval()
        figures = measure(embed, held_out, views, nt_xent, pieces=views)
        network.train()
        return figures

    history = {0: report()}
    for step in range(1, steps + 1):
        chosen = images[torch.randint(0, len(images), (48,), generator=draws)]
        first, second = view(chosen, draws), view(chosen, draws)
        loss = nt_xent(embed(first)[1], embed(second)[1].roll(int(mis_ordered), 0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 70 == 0:
            history[step] = report()
    end = torch.cat([p.detach().flatten() for p in network.parameters()])
    return Outcome(history, float((end - start).norm() / start.norm()))


def assert_says(found: Diagnosis, name: str, exit_code: int, words: str, field: str) -> None:
    assert found.label == name
    assert found.exit_code == exit_code
    assert words in found.sentence
    assert "untrained" in found.details
    assert len(found.causes) <= 2
    assert field in found.remedy


@pytest.fixture(scope="module")
def healthy() -> Outcome:
    return trained()


def test_diagnosis_of_a_healthy_run_is_learning(healthy: Outcome) -> None:
    found = healthy.diagnosis()
    assert_says(found, "learning", 0, "Learning: ", "")
    assert found.causes == ()
    assert f"chance {1 / HELD_OUT:.1%}" in found.details


def test_diagnosis_of_a_constant_output_is_collapsed() -> None:
    found = trained(head=Constant).diagnosis()
    assert_says(found, "collapsed", 4, "every image gets the same", "`warmup_epochs`")
    assert "dead" in found.causes[0]


def test_diagnosis_of_a_constant_output_without_gradient_is_still_collapsed() -> None:
    still = replace(trained(head=Constant, steps=0), parameter_change=0.0)
    later = {**still.history, STEPS: still.history[0]}
    found = replace(still, history=later).diagnosis()
    assert_says(found, "collapsed", 4, "every image gets the same", "`warmup_epochs`")


def test_diagnosis_of_unrelated_positives_is_collapsed_by_the_views() -> None:
    found = trained(mis_ordered=True).diagnosis()
    assert_says(found, "collapsed", 4, "nearly the same", "`jitter_strength`")
    assert "nothing in common" in found.causes[0]


def test_diagnosis_of_unrelated_positives_under_batch_norm_is_chance() -> None:
    found = trained(mis_ordered=True, head=standardized_projector).diagnosis()
    assert_says(found, "at chance", 3, "no more alike", "`jitter_strength`")


def test_diagnosis_of_a_rank_one_head_is_dimensional_collapse() -> None:
    # Under strong views rounding decides whether a single direction gets away from chance.
    found = trained(head=OneDirection, view=dimmed).diagnosis()
    assert_says(found, "dimensional collapse", 5, "about 1.0 of 32", "`learning_rate`")


def test_diagnosis_of_learning_rate_zero_is_unchanged() -> None:
    run = trained(learning_rate=0.0)
    words = "Nothing has changed since initialization"
    assert_says(run.diagnosis(), "unchanged", 6, words, "`learning_rate`")
    killed = diagnose(run.history, steps_done=STEPS, steps_planned=STEPS)
    assert_says(killed, "unchanged", 6, "Nothing was gained", "`learning_rate`")


def test_diagnosis_of_identical_views_is_shortcut() -> None:
    found = trained(view=unaltered).diagnosis()
    assert_says(found, "shortcut", 7, "identical for 100% of the images", "`jitter_strength`")


def figures(**changes: float) -> HealthFigures:
    """A network that has learned: NT-Xent of 128 images at temperature 0.2."""
    start = HealthFigures(
        images=128, width_h=64, width_z=32, loss=3.8, chance_level=5.54, random_loss=5.94, lower_bound=1.27,
        feature_std_z=0.9, feature_std_h=0.5, rank_h=20.0, rank_z=17.0, alignment=0.6, uniformity=-2.8,
        instance_accuracy_z=0.4, instance_accuracy_h=0.4, mean_positive_similarity=0.7, mean_negative_similarity=0.1,
        identical_views=0.0, color_instance_accuracy=0.07, thumbnail_instance_accuracy=0.3,
        piece_accuracy_h=0.45, piece_accuracy_pixels=0.24, piece_accuracy_levels=0.21, copied_images=0.0,
    )  # fmt: skip
    return replace(start, **changes)


# With settled BatchNorm statistics: as many directions as later, worse than chance, hardly matched.
UNTRAINED = figures(
    loss=5.9, feature_std_z=0.98, rank_h=18.0, rank_z=14.0, instance_accuracy_z=0.05,
    mean_positive_similarity=0.12, mean_negative_similarity=0.03, piece_accuracy_h=0.1,
)  # fmt: skip


def diagnosed(*reports: HealthFigures, planned: int = 1000, **options: int) -> Diagnosis:
    """The diagnosis after reports that are 250 steps apart."""
    history = {250 * i: report for i, report in enumerate(reports)}
    return diagnose(history, steps_done=max(history), steps_planned=planned, **options)


def test_diagnosis_needs_two_hundred_steps() -> None:
    history = {0: UNTRAINED, 100: figures(feature_std_z=0.0)}
    found = diagnose(history, steps_done=199, steps_planned=1000)
    assert (found.label, found.exit_code) == ("too early", 0)
    assert "199 of 1,000" in found.sentence
    assert "`epochs`" not in found.remedy
    assert "`epochs`" in diagnose(history, steps_done=100, steps_planned=100).remedy


def test_diagnosis_needs_a_report_after_training() -> None:
    assert diagnose({0: UNTRAINED}, steps_done=500, steps_planned=500).label == "too early"
    early = {0: UNTRAINED, 120: UNTRAINED}
    assert diagnose(early, steps_done=239, steps_planned=500).label == "too early"
    late = {**early, 240: UNTRAINED}
    assert diagnose(late, steps_done=240, steps_planned=500).label != "too early"


def test_labels_that_the_untrained_network_tells_apart_leave_no_room_to_rise() -> None:
    """Other figures then say whether it has learned, and the labels are not blamed."""
    history = {0: UNTRAINED, 500: figures()}
    easy = NeighborAccuracy(untrained=0.97, now=1.0, images=128)
    options = {"steps_done": 500, "steps_planned": 500, "classes": 10}
    assert diagnose(history, **options, neighbors=easy).label == "learning"
    still = diagnose({0: UNTRAINED, 500: UNTRAINED}, **options, parameter_change=1.0,
                     neighbors=easy)  # fmt: skip
    assert not any("labels have nothing" in cause for cause in still.causes)


def test_diagnosis_needs_the_untrained_network() -> None:
    with pytest.raises(InvalidValue, match="step 0"):
        diagnose({10: UNTRAINED}, steps_done=500, steps_planned=500)


def test_diagnosis_is_too_early_while_improving_long_before_the_end() -> None:
    found = diagnosed(UNTRAINED, figures(), planned=1000)
    assert found.label == "too early"
    assert found.sentence.startswith("Too early to stop: 250 of 1,000 steps")
    assert diagnosed(UNTRAINED, figures(), planned=500).label == "learning"
    assert diagnosed(UNTRAINED, figures(), figures(), planned=5000).label == "learning"


def test_diagnosis_of_few_images_says_so() -> None:
    for images in (15, 128):
        before, now = replace(UNTRAINED, images=images), figures(images=images)
        found = diagnosed(before, now, planned=500)
        assert found.label == "learning"
        assert ("This rests on 15 held-out images" in found.sentence) == (images == 15)


def test_diagnosis_names_copies_where_it_speaks_of_unseen_images() -> None:
    for share, words in ((0.4, "But 40% of the held-out images are copies"), (0.005, "")):
        found = diagnosed(UNTRAINED, figures(copied_images=share), planned=500)
        assert found.label == "learning"
        assert ("copies" in found.sentence) == bool(words)
        assert words in found.sentence
    found = diagnosed(UNTRAINED, figures(copied_images=0.6), planned=500)
    assert found.label == "unusable data"
    assert found.sentence.count("copies") == 1


def test_diagnosis_says_that_a_flat_loss_still_learns() -> None:
    flat = diagnosed(UNTRAINED, figures(), figures(loss=3.81, rank_h=21.0), planned=500)
    assert flat.label == "learning"
    assert "although the loss is flat" in flat.sentence
    done = diagnosed(UNTRAINED, figures(), figures(loss=3.81, rank_h=20.1), planned=500)
    assert "flat" not in done.sentence
    jitter = diagnosed(UNTRAINED, figures(), figures(instance_accuracy_z=0.42), planned=500)
    assert "flat" not in jitter.sentence


@pytest.mark.parametrize(
    ("cue", "words"),
    [("color_instance_accuracy", "color"), ("thumbnail_instance_accuracy", "8 x 8")],
)
def test_diagnosis_suspects_a_cue_that_solves_the_task(cue: str, words: str) -> None:
    solved = figures(loss=1.3, instance_accuracy_z=1.0)
    found = diagnosed(UNTRAINED, replace(solved, **{cue: 0.97}), planned=250)
    assert_says(found, "shortcut", 7, words, "`jitter_strength`")
    assert "97%" in found.sentence
    assert diagnosed(UNTRAINED, solved, planned=250).label == "learning"


RANKS = (20.0, 18.0, 14.0, 9.0)


def test_diagnosis_of_a_rank_that_halves_while_matching_no_better_is_dimensional_collapse() -> None:
    reports = [figures(rank_h=rank) for rank in RANKS]
    assert_says(diagnosed(UNTRAINED, *reports), "dimensional collapse", 5, "9.0 of 64", "")
    better = [
        replace(report, instance_accuracy_z=0.4 + 0.05 * i) for i, report in enumerate(reports)
    ]
    assert diagnosed(UNTRAINED, *better).label == "learning"
    # As of SimCLR with local crops in its last epochs: narrower, and matching no more often than
    # three reports before, but far more often than at its widest.
    annealed = [
        replace(report, instance_accuracy_z=0.2 if i == 0 else 0.4)
        for i, report in enumerate(reports)
    ]
    assert diagnosed(UNTRAINED, *annealed).label == "learning"
    recovered = [*reports, figures(rank_h=9.5)]
    assert diagnosed(UNTRAINED, *recovered).label == "learning"


def test_diagnosis_lets_labels_draw_the_rank_down_to_the_classes() -> None:
    reports = [figures(rank_z=rank) for rank in RANKS]
    assert diagnosed(UNTRAINED, *reports, classes=10).label == "learning"
    assert diagnosed(UNTRAINED, *reports, classes=30).label == "dimensional collapse"


def test_diagnosis_with_labels_counts_the_loss_where_views_match_no_more_often() -> None:
    nearer = figures(loss=5.0, instance_accuracy_z=0.05, piece_accuracy_h=0.1)
    assert diagnosed(UNTRAINED, nearer, planned=250, classes=10).label == "learning"
    assert diagnosed(UNTRAINED, nearer, planned=250).label == "unchanged"


def test_diagnosis_of_a_run_that_only_scatters_its_embeddings_is_unchanged() -> None:
    # As measured of the small network at a learning rate of 1.
    random_loss = figures(
        loss=4.99, feature_std_z=0.57, rank_h=6.2, rank_z=3.7, instance_accuracy_z=0.055,
        mean_positive_similarity=0.95, mean_negative_similarity=0.9, piece_accuracy_h=0.03,
    )  # fmt: skip
    found = diagnosed(UNTRAINED, random_loss, planned=250)
    assert_says(found, "unchanged", 6, "Nothing was gained", "`learning_rate`")


def test_diagnosis_of_a_supervised_run_sees_the_neighbors_accuracy() -> None:
    # As measured of cross-entropy on 3,000 photographs: the untrained network is nearer to the loss
    # of equal embeddings than one that has learned to tell classes apart.
    before = figures(
        loss=5.532, feature_std_z=0.071, instance_accuracy_z=0.016, piece_accuracy_h=0.1
    )
    now = figures(
        loss=6.07, feature_std_z=0.92, rank_h=40.0, instance_accuracy_z=0.03, piece_accuracy_h=0.1
    )
    options = {"steps_done": 308, "steps_planned": 308, "parameter_change": 1.0}
    history = {0: before, 308: now}
    for last, pixels, expected in (
        (0.441, 0.3, "learning"), (0.17, 0.3, "unchanged"), (0.441, 0.45, "no better than pixels"),
    ):  # fmt: skip
        neighbors = NeighborAccuracy(untrained=0.165, now=last, images=128, pixels=pixels, k=10)
        found = diagnose(history, **options, classes=10, neighbors=neighbors)
        assert found.label == expected
        assert re.search("by the 10 most .* right label .* [(]on 128 held-out images[)]",
                         found.sentence, re.IGNORECASE)  # fmt: skip
        assert f"pixels {pixels:.1%}" in found.details
    assert diagnose(history, **options, classes=10).label == "unchanged"


def test_diagnosis_of_a_narrow_network_whose_views_match_is_not_collapsed() -> None:
    narrow = figures(loss=5.53, feature_std_z=0.03, rank_z=1.6)
    start = replace(narrow, instance_accuracy_z=0.2)
    assert diagnosed(start, narrow, planned=250).label == "learning"


def test_diagnosis_of_embeddings_that_are_not_finite_is_collapsed() -> None:
    found = diagnosed(UNTRAINED, figures(loss=math.nan, feature_std_z=math.nan), planned=250)
    assert (found.label, found.exit_code) == ("collapsed", 4)
    assert "`learning_rate`" in found.remedy


def test_diagnosis_of_parameters_that_ran_away_for_nothing_is_diverged() -> None:
    # As measured at a learning rate of 1,000: more loss than unrelated embeddings have.
    far = figures(
        loss=6.1, feature_std_z=0.9, rank_h=3.5, instance_accuracy_z=0.015, piece_accuracy_h=0.02
    )
    for planned, history in ((250, {0: UNTRAINED, 250: far}), (40, {0: UNTRAINED, 40: far})):
        options = {"steps_done": planned, "steps_planned": planned, "parameter_change": 7000.0}
        found = diagnose(history, **options)
        assert_says(found, "collapsed", 4, "Diverged: ", "`learning_rate`")
        assert "7,000 times" in found.sentence
        assert not diagnose(history, **{**options, "parameter_change": 9.0}).sentence.startswith(
            "D"
        )
        # Weights that BatchNorm makes scale-free may grow far while the network learns.
        history = {**history, planned: figures()}
        assert diagnose(history, **options).label in {"learning", "too early"}


def test_diagnosis_of_a_run_that_was_given_up_says_why() -> None:
    found = diverged("10 steps in a row were skipped", 12)
    assert (found.label, found.exit_code, found.step) == ("collapsed", 4, 12)
    assert "10 steps in a row were skipped" in found.sentence


def test_diagnosis_ignores_reports_after_the_step_it_is_asked_for(healthy: Outcome) -> None:
    later = {
        **healthy.history,
        STEPS + 500: figures(feature_std_z=0.0, loss=5.54, instance_accuracy_z=0.0),
    }
    found = diagnose(later, steps_done=STEPS, steps_planned=STEPS)
    assert found.label == "learning"


def test_diagnosis_exit_codes_leave_the_shells_and_the_errors_codes_alone() -> None:
    codes = {label: entry.exit_code for label, entry in DIAGNOSES.items()}
    good = {"learning", "too early", "learned"}
    bad = [code for label, code in codes.items() if label not in good]
    assert sorted(bad) == list(range(3, 13))
    assert {codes[label] for label in good} == {0}


def test_diagnosis_becomes_the_json_of_a_run_folder() -> None:
    found = diagnosed(UNTRAINED, figures(), planned=250)
    assert found.to_json() == {
        "label": "learning", "sentence": found.sentence, "causes": [], "remedy": "", "step": 250,
        "details": found.details,
    }  # fmt: skip
