import math
from dataclasses import replace

import pytest
import torch

from coview.core.errors import InvalidValue, UnknownName
from coview.core.values import decode, encode, fingerprint
from coview.methods import NTXent, SupCon, get_method, list_methods, simclr, supcon
from coview.objectives import nt_xent, sup_con
from coview.recipes import known_values
from coview.views import ViewPlan, eval_view


@pytest.mark.parametrize("name", list_methods())
def test_method_value_survives_json(name):
    method = get_method(name)(32)
    again = decode(encode(method), known_values())
    assert again == method
    assert fingerprint(again) == fingerprint(method)


def test_method_value_is_hashable_and_compares_by_content():
    assert {simclr(32), simclr(32)} == {simclr(32)}
    assert simclr(32) != simclr(32, temperature=0.2)


def test_method_value_replaced_field_changes_its_fingerprint():
    method = simclr(32)
    changed = replace(method, batch_norm="per view")
    assert fingerprint(changed) != fingerprint(method)


def test_method_names_are_the_files_that_define_one():
    assert {"byol", "moco", "simclr", "simclr_v2", "simsiam", "supcon"} <= set(list_methods())
    assert "learner" not in list_methods()
    assert get_method("supcon") is supcon


def test_method_name_unknown_offers_the_nearest():
    with pytest.raises(UnknownName, match="'simclr'"):
        get_method("simclear")


def test_method_name_of_another_file_is_no_method():
    with pytest.raises(UnknownName):
        get_method("learner")


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "simsiam", "simclr_v2"])
def test_method_that_compares_views_refuses_one_view(name):
    with pytest.raises(InvalidValue, match="at least two"):
        replace(get_method(name)(32), views=ViewPlan(views=(eval_view(32),)))


@pytest.mark.parametrize("name", ["supcon", "supervised"])
def test_method_with_labels_accepts_one_view(name):
    method = get_method(name)(32, views=ViewPlan(views=(eval_view(32),)))
    assert method.queries == method.online == (0,)
    assert method.lower_bound(64, 128) <= method.chance_level(64)
    assert decode(encode(method), known_values()) == method


def test_method_with_unknown_batch_norm_is_refused():
    with pytest.raises(UnknownName, match="per view"):
        replace(simclr(32), batch_norm="per views")


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("objective", [NTXent, SupCon])
def test_objective_temperature_out_of_range_is_refused(objective, temperature):
    with pytest.raises(InvalidValue, match="temperature"):
        objective(temperature=temperature)


def test_objective_value_gives_what_its_function_gives():
    views = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)).unbind()
    labels = torch.tensor([0, 1, 0, 2, -1, 1])
    assert NTXent(temperature=0.3)(views, labels) == nt_xent(views, temperature=0.3)
    for form in ("out", "in"):
        value = SupCon(temperature=0.3, form=form)(views, labels)
        assert value == sup_con(views, labels, temperature=0.3, form=form)


def test_objective_supcon_without_labels_says_what_to_do():
    with pytest.raises(InvalidValue, match="simclr"):
        SupCon(temperature=0.1)([torch.randn(4, 3)] * 2, None)


def test_objective_form_unknown_is_refused():
    with pytest.raises(UnknownName):
        SupCon(temperature=0.1, form="inside")


def test_objective_supcon_times_the_temperature_and_its_hash_without_it():
    views = [torch.randn(6, 3, generator=torch.Generator().manual_seed(0))] * 2
    labels = torch.arange(6) % 2
    plain, scaled = SupCon(temperature=0.1), SupCon(temperature=0.1, scale_by_temperature=True)
    torch.testing.assert_close(scaled(views, labels), 0.1 * plain(views, labels))
    assert "scale_by_temperature" not in encode(plain)
    assert encode(scaled)["scale_by_temperature"] is True


@pytest.mark.parametrize(
    "objective",
    [
        NTXent(temperature=0.2), SupCon(temperature=0.2),
        SupCon(temperature=0.2, scale_by_temperature=True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("views", [2, 3])
def test_objective_chance_is_the_loss_of_equal_embeddings(objective, views):
    same = [torch.ones(8, 5)] * views
    loss = objective(same, torch.arange(8) % 3)
    assert float(loss) == pytest.approx(objective.chance_level(8, views=views), abs=1e-5)


@pytest.mark.parametrize(
    ("objective", "classes"),
    [
        (NTXent(temperature=0.5), None),
        (NTXent(temperature=0.2), None),
        (SupCon(temperature=0.2), 8),
        (SupCon(temperature=0.2, scale_by_temperature=True), 8),
        (SupCon(temperature=0.5, form="in"), 4),
    ],
)
@pytest.mark.parametrize("views", [2, 3])
def test_objective_floor_is_near_the_loss_of_aligned_random_embeddings(objective, classes, views):
    generator = torch.Generator().manual_seed(0)
    batch, width = 64, 128
    labels = torch.arange(batch) % (classes or batch)
    centers = torch.randn(batch, width, generator=generator)
    loss = float(objective([centers[labels]] * views, labels))
    lower_bound = objective.lower_bound(batch, width, views=views, classes=classes)
    # Few classes leave few random cosines to average over.
    assert lower_bound == pytest.approx(loss, abs=0.1)
    assert lower_bound < objective.chance_level(batch, views=views)


def test_info_nce_without_any_negatives_is_refused():
    with pytest.raises(InvalidValue, match="memory"):
        replace(get_method("moco")(32), memory=None)
