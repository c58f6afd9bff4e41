"""The examples in docstrings run, and every function that a user calls has one."""

import doctest
import inspect
import pkgutil
import shutil
from importlib import import_module

import pytest

import coview
from coview.core import progress
from coview.core.errors import MissingExtra

PACKAGES = (
    "data", "embeddings", "encoders", "evaluation", "heads", "importing", "methods", "objectives",
    "recipes", "testing", "training", "views",
)  # fmt: skip


def modules():
    return [
        module.name
        for module in pkgutil.walk_packages(coview.__path__, "coview.")
        if not module.name.endswith("__main__") and ".fused" not in module.name
    ]


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with the runs that the examples of coview.runs use: scenes, scenes-finetune."""
    folder = tmp_path_factory.mktemp("runs")
    run = coview.pretrain(
        "scenes", limit=120, size=8, encoder="resnet10/8-small", batch_size=32, epochs=1,
        device="cpu", out=folder / "scenes",
    )  # fmt: skip
    coview.finetune(
        run.path, "scenes", labels_from="column", limit=200, labels="5-per-class", epochs=1,
        batch_size=16, no_baselines=True, device="cpu", out=folder / "scenes-finetune",
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("name", modules())
def test_examples_run(name, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if name.startswith("coview.runs."):
        shutil.copytree(request.getfixturevalue("runs"), "runs")
    # The lines of `say` and of slow work are no part of the examples.
    monkeypatch.setattr(progress, "print", lambda *args, **kwargs: None, raising=False)
    try:
        module = import_module(name)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} fail"


def public_functions():
    for package in ("coview", *(f"coview.{name}" for name in PACKAGES)):
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{package}.{name}", value


FUNCTIONS = dict(public_functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_have_an_example(name):
    text = inspect.getdoc(FUNCTIONS[name]) or ""
    assert ">>>" in text, f"{name} has no example"
