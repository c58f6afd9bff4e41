"""SupCon's networks on images of other kinds: corrupted ones, and ones from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from coview.studies.arms import Arm
from coview.studies.claims import Claim, greater
from coview.studies.experiment import Experiment
from coview.studies.grid import Grid
from coview.studies.measure import LINEAR, Measure
from coview.studies.setting import Setting, place_of_data
from coview.studies.supcon_objective import METHODS, RECIPES

CORRUPTED = Measure(name="corruption error", protocol="robustness", metric="mean_corruption_error")
GAP = Measure(
    name="calibration error", protocol="robustness", metric="ece", setting=(("severity", 0),)
)
WORST_GAP = Measure(
    name="calibration error, severity 5", protocol="robustness", metric="ece",
    setting=(("severity", 5),),
)  # fmt: skip
AUROC = Measure(name="AUROC", protocol="ood", metric="auroc", setting=(("score", "knn"),))
FALSE_POSITIVES = Measure(name="FPR95", protocol="ood", metric="fpr95", setting=(("score", "knn"),))
DISTANCE = Measure(
    name="AUROC, Mahalanobis", protocol="ood", metric="auroc",
    setting=(("score", "mahalanobis-classes"),),
)  # fmt: skip


def robustness(setting: Setting) -> Grid:
    """A linear probe on clean features, on fifteen corruptions of the test images."""
    return Grid(
        source="SupCon, section 4.3, table 3 and supplement",
        arms=_arms(
            setting, ("robustness", "linear"),
            {"SupCon": {GAP.name: 2.4}, "cross-entropy": {GAP.name: 3.9}},
        ),
        measures=(CORRUPTED, LINEAR, GAP, WORST_GAP),
        published="ResNet-50 on ImageNet, clean images",
        notes=(
            "Every arm is judged by the same linear probe on h, as SupCon's second stage is; the "
            "corruptions are drawn on 1,000 test images (protocol robustness).",
            "The paper's mCE divides by the errors of AlexNet on ImageNet-C, which hold there "
            "alone: 67.2 for SupCon and 68.6 for cross-entropy (ResNet-50). Of the calibration "
            "error under corruption its own table has SupCon's ResNet-200 above cross-entropy, so "
            "that no claim is made of that.",
        ),
        claims=(
            Claim(
                text="SupCon makes fewer errors on corrupted images than cross-entropy",
                source="SupCon, table 3",
                comparisons=(greater("cross-entropy", "SupCon", measure=CORRUPTED.name),),
            ),
            Claim(
                text="SupCon is better calibrated on clean images than cross-entropy",
                source="SupCon, supplement",
                comparisons=(greater("cross-entropy", "SupCon", measure=GAP.name),),
            ),
        ),
    )  # fmt: skip


def ood(setting: Setting) -> Grid:
    """Images from elsewhere, told by the distance to the nearest training images."""
    given = setting.options.outliers
    several = given if isinstance(given, tuple | list) else (given,)
    outliers = tuple(
        place if isinstance(place := place_of_data(each, "outliers"), str) else each
        for each in several
    )
    return Grid(
        source="asked in the reviews of SupCon; Sun et al. 2022 (kNN), Sehwag et al. 2021 (SSD)",
        arms=_arms(
            setting, ("ood", "linear"),
            {"SupCon": {AUROC.name: 97.9}, "cross-entropy": {AUROC.name: 94.2}}, outliers=outliers,
        ),
        measures=(AUROC, FALSE_POSITIVES, DISTANCE, LINEAR),
        published="kNN, ResNet-18 on CIFAR-10, mean of several sets of outliers (Sun et al. 2022)",
        notes=(
            f"Images from elsewhere: {', '.join(map(str, outliers))}; of several the first counts.",
            "The score is minus the distance on h to the 50th nearest training image, of rows of "
            "length 1; nothing is chosen on outliers.",
            "The published figures were not checked against the paper's table.",
        ),
        claims=(
            Claim(
                text="SupCon's features tell images from elsewhere better than those of "
                "cross-entropy",
                source="Sun et al. 2022, table 1: AUROC 97.9 and 94.2",
                comparisons=(greater("SupCon", "cross-entropy"),),
            ),
            Claim(
                text="Labels help to tell images from elsewhere: SupCon's features are better than "
                "SimCLR's",
                source="Sehwag et al. 2021: SSD+ above SSD",
                comparisons=(greater("SupCon", "SimCLR"),),
            ),
        ),
    )  # fmt: skip


def _arms(
    setting: Setting, protocols: tuple[str, ...], published: Mapping[str, Mapping[str, float]],
    **more: object,
) -> tuple[Arm, ...]:  # fmt: skip
    """One arm for each method; its runs are those of supcon/methods."""
    return tuple(
        setting.arm(
            name, setting.recipe(RECIPES[name]), published=published.get(name),
            protocols=protocols, more=more,
        )
        for name in METHODS
    )  # fmt: skip


ROBUSTNESS = Experiment(
    name="supcon/robustness",
    question="Do networks of SupCon keep more accuracy on corrupted images, and know better how "
    "sure they are?",
    grid=robustness,
)  # fmt: skip
OOD = Experiment(
    name="supcon/ood",
    question="Are images from elsewhere told from those of the data by SupCon's features?",
    grid=ood, needs=("outliers",),
)  # fmt: skip
EXPERIMENTS = (ROBUSTNESS, OOD)
