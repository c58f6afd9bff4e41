"""The examples in docstrings run, and every function that a user calls has one."""

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest

import coview
from coview.core.errors import MissingExtra

PACKAGES = (
    "data", "embeddings", "encoders", "evaluation", "heads", "methods", "objectives", "recipes",
    "runs", "testing", "training", "views",
)  # fmt: skip
# What needs a run or a device on the way has its example in a test, README or docs instead.
WITHOUT_EXAMPLE = frozenset()


def modules():
    return [
        module.name
        for module in pkgutil.walk_packages(coview.__path__, "coview.")
        if not module.name.endswith("__main__") and ".fused" not in module.name
    ]


@pytest.mark.parametrize("name", modules())
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        module = import_module(name)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} fail"


def public_functions():
    for package in PACKAGES:
        module = import_module(f"coview.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{package}.{name}", value


FUNCTIONS = dict(public_functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions_have_an_example(name):
    text = inspect.getdoc(FUNCTIONS[name]) or ""
    assert name in WITHOUT_EXAMPLE or ">>>" in text, f"{name} has no example"
