"""The public contracts over everything that is registered, and over what a user might bring."""

import importlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from coview.core.ranks import SINGLE_PROCESS
from coview.encoders import EncoderSpec
from coview.methods import (
    Critic,
    CrossEntropy,
    InfoNCE,
    MarginTriplet,
    NegativeCosine,
    NTLogistic,
    NTXent,
    SetObjective,
    SquaredDistance,
    SupCon,
    get_method,
    list_methods,
    logo,
    multi_crop,
    simclr,
)
from coview.recipes import RECIPES, recipe
from coview.testing import (
    ENCODER_CHECKS,
    METHOD_CHECKS,
    OBJECTIVE_CHECKS,
    VIEW_CHECKS,
    check_encoder,
    check_method,
    check_objective,
    check_views,
)
from coview.testing.methods import Colors, several_processes_give_the_gradient_of_one
from coview.views import ViewPlan, eval_view

ONE_VIEW = ViewPlan(views=(eval_view(8),))
LOGO_OVER = ("simclr", "moco", "byol", "simsiam")
# Of the CPU recipes, whose heads are narrow: the checks are of the method, not of its widths.
METHODS = {
    name: recipe(f"{name.replace('_', '-')}-cpu").method
    if f"{name.replace('_', '-')}-cpu" in RECIPES
    else get_method(name)(32)
    for name in list_methods()
}
METHODS |= {f"logo-{name}": logo(METHODS[name]) for name in LOGO_OVER}
METHODS |= {
    "logo-cosine": logo(METHODS["moco"], affinity="cosine"),
    "logo-ratio": logo(METHODS["simsiam"], gradient_ratio=0.015),
    "logo-literal": logo(METHODS["byol"], terms="mean", critic=Critic(loss="literal"), locals=3),
    "multi_crop-simclr": multi_crop(METHODS["simclr"]),
    "multi_crop-supcon": multi_crop(METHODS["supcon"]),
    "multi_crop-moco": multi_crop(METHODS["moco"]),
    "simclr-per-view": replace(METHODS["simclr"], batch_norm="per view"),
    "supervised-one-view": replace(METHODS["supervised"], views=ONE_VIEW),
    "supcon-one-view": replace(METHODS["supcon"], views=ONE_VIEW),
    "decoupled": replace(METHODS["simclr"], objective=NTXent(temperature=0.2, decoupled=True)),
    "triplet": replace(METHODS["simclr"], objective=MarginTriplet(margin=0.8)),
    "logistic-mined": replace(
        METHODS["simclr"], objective=NTLogistic(temperature=0.5, semi_hard=True)
    ),
    "not-normalized": replace(
        METHODS["simclr"], objective=NTXent(temperature=10.0, normalize=False)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Debiased(SetObjective):
    """A user's own objective: NT-Xent whose negatives are corrected for hidden positives.

    Chuang et al., "Debiased contrastive learning", NeurIPS 2020, equation 8, with the share
    ``prior`` of an image's negatives that are of its own class.
    """

    temperature: float
    prior: float

    def __call__(self, views, labels, ranks=SINGLE_PROCESS):
        # Every process computes the loss of the whole batch, so their mean is that loss.
        views = [ranks.gather(view) for view in views]
        z = torch.nn.functional.normalize(torch.cat(list(views)).float(), dim=1, eps=1e-6)
        if views[0].dtype == torch.float64:
            z = torch.nn.functional.normalize(torch.cat(list(views)), dim=1, eps=1e-12)
        with torch.autocast("cpu", enabled=False):
            count, images = len(z), len(views[0])
            same = torch.eye(images, dtype=torch.bool).repeat(2, 2)
            weights = (z @ z.T / self.temperature).exp()
            own = weights.masked_fill(torch.eye(count, dtype=torch.bool) | ~same, 0).sum(1)
            others = weights.masked_fill(same, 0).sum(1)
            negatives = count - 2
            estimate = (others / negatives - self.prior * own) / (1 - self.prior)
            least = torch.exp(torch.tensor(-1 / self.temperature, dtype=z.dtype))
            return (own + negatives * estimate.clamp_min(least)).log().sub(own.log()).mean()

    def chance_level(self, batch_size, *, views=2):
        return math.log(views * batch_size - 1)

    def lower_bound(self, batch_size, width, *, views=2, classes=None):
        return 0.0


METHODS["a user's own"] = replace(
    METHODS["simclr"], name="debiased", objective=Debiased(temperature=0.5, prior=0.1)
)

OBJECTIVES = {
    "NTXent": NTXent(temperature=0.3),
    "NTXent-decoupled": NTXent(temperature=0.3, decoupled=True),
    "NTXent-other-views": NTXent(temperature=0.3, negatives="other views"),
    "NTXent-not-normalized": NTXent(temperature=10.0, normalize=False),
    "NTLogistic": NTLogistic(temperature=0.5),
    "NTLogistic-semi-hard": NTLogistic(temperature=0.5, semi_hard=True),
    "MarginTriplet": MarginTriplet(margin=0.8),
    "MarginTriplet-semi-hard": MarginTriplet(margin=0.8, semi_hard=True),
    "SupCon-out": SupCon(temperature=0.3),
    "SupCon-in": SupCon(temperature=0.3, form="in"),
    "CrossEntropy": CrossEntropy(classes=6),
    "InfoNCE": InfoNCE(temperature=0.3),
    "NegativeCosine": NegativeCosine(),
    "SquaredDistance": SquaredDistance(),
    "a user's own": Debiased(temperature=0.5, prior=0.1),
}

ENCODERS = {
    "resnet10/8-small": EncoderSpec(depth=10, width=0.125, stem="small"),
    "resnet18/8-medium": EncoderSpec(depth=18, width=0.125, stem="medium"),
    "resnet50/8": EncoderSpec(depth=50, width=0.125),
    "resnet50/8-sk": EncoderSpec(depth=50, width=0.125, selective_kernels=True),
    "torchvision-mobilenet": EncoderSpec(kind="torchvision", name="mobilenet_v3_small"),
    "a user's own": Colors(),
}


def views():
    """Every different view of every recipe, at a size that is quick."""
    found = {}
    for name, make in RECIPES.items():
        for index, view in enumerate(make().method.views.views):
            found.setdefault(replace(view, size=min(view.size, 40)), f"{name} {index}")
    return {name: view for view, name in found.items()} | {"identity": eval_view(24)}


VIEWS = views()


def names_of(checks):
    return [check.__name__ for check in checks]


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=names_of(METHOD_CHECKS))
@pytest.mark.parametrize("name", sorted(METHODS))
def test_method_contract(name, check):
    check(METHODS[name])


@pytest.mark.parametrize("check", OBJECTIVE_CHECKS, ids=names_of(OBJECTIVE_CHECKS))
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objective_contract(name, check):
    check(OBJECTIVES[name])


@pytest.mark.parametrize("check", ENCODER_CHECKS, ids=names_of(ENCODER_CHECKS))
@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoder_contract(name, check):
    check(ENCODERS[name])


@pytest.mark.parametrize("check", VIEW_CHECKS, ids=names_of(VIEW_CHECKS))
@pytest.mark.parametrize("name", sorted(VIEWS))
def test_view_contract(name, check):
    check(VIEWS[name])


def test_contract_says_everything_that_fails():
    class Broken(Colors):
        def forward(self, images):
            return super().forward(images) * 0

    with pytest.raises(AssertionError, match="different_images_have_different_features") as error:
        check_encoder(Broken())
    assert "features_are_deterministic" not in str(error.value)
    assert "bf16_is_close_to_float32" in str(error.value)


def test_an_objective_that_sees_the_images_of_its_process_alone_is_named():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Alone(NTXent):
        def __call__(self, views, labels, ranks=SINGLE_PROCESS):
            return NTXent.__call__(self, views, labels)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Cut(NTXent):
        """All loss, and the gradient of the process's own rows alone."""

        def __call__(self, views, labels, ranks=SINGLE_PROCESS):
            first = sum(ranks.sizes(len(views[0]))[: ranks.rank])
            whole = [ranks.gather(view.detach()).clone() for view in views]
            for rows, view in zip(whole, views, strict=True):
                rows[first : first + len(view)] = view
            return NTXent.__call__(self, whole, labels)

    for objective, says in (
        (Alone(temperature=0.3), "the loss is"),
        (Cut(temperature=0.3), "the gradient differs"),
    ):
        with pytest.raises(AssertionError, match=f"loss_of_one: {says}"):
            check_objective(objective)
        method = replace(METHODS["simclr"], objective=objective)
        with pytest.raises(AssertionError, match=r"the gradient of .* differs"):
            several_processes_give_the_gradient_of_one(method)


def test_the_loss_of_the_page_on_own_parts_keeps_the_contract(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "own-parts.md").read_text()
    code = page.partition("# uniform.py\n")[2].partition("@register_method")[0]
    (tmp_path / "uniform_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    found = importlib.import_module("uniform_of_the_page")
    check_objective(found.UniformNTXent(temperature=0.5))


def test_contract_that_is_kept_is_silent():
    check_views(eval_view(16))
    check_objective(NegativeCosine())
    check_method(simclr(8))


def test_every_registered_method_has_a_contract():
    assert set(list_methods()) <= set(METHODS)
    assert all(callable(get_method(name)) for name in list_methods())
