"""Fixtures for every package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coview.cli.main import share_cores

# Before any test imports torch. Of several workers each has one core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
share_cores()
# A process that a test starts keeps what it has compiled for the next one.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


LONG = (
    "test_pages.py", "test_protocols.py", "test_processes.py", "test_many_processes.py",
    "test_distribution.py", "test_crash.py", "test_browse.py", "test_chain.py", "test_distill.py",
    "test_benchmark.py", "test_extend.py", "test_grid.py", "test_torch_layouts.py",
)  # fmt: skip
"""Files that take long: a worker that is given one last would work alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that other tests or commands have kept is used, and nothing is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVIEW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the measurement data sets; the test is skipped where it is absent.

    $COVIEW_TEST_DATA, or ``shared/data`` beside the checkout or any folder above it.
    """
    if asked := os.environ.get("COVIEW_TEST_DATA"):
        places = [Path(asked)]
    else:
        places = [parent / "shared" / "data" for parent in Path(__file__).resolve().parents]
    for place in places:
        if place.is_dir():
            return place
    pytest.skip("the measurement data sets are not beside the checkout (see COVIEW_TEST_DATA)")
