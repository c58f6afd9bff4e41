"""Facts about the machine."""

from pathlib import Path

import pytest

from coview.core import machine
from coview.core.errors import InvalidValue


@pytest.mark.parametrize(("limit", "expected"), [("1048576\n", 1 << 20), ("max\n", None)])
def test_memory_is_the_containers_where_it_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None
) -> None:
    monkeypatch.setattr(machine, "_CONTAINER_LIMIT", tmp_path / "absent")
    physical = machine.memory_bytes()
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(machine, "_CONTAINER_LIMIT", tmp_path / "memory.max")
    assert machine.memory_bytes() == (expected or physical)


@pytest.mark.parametrize("words", ["two", "-1", "0"])
def test_a_world_that_is_no_number_is_one_sentence(monkeypatch, words):
    monkeypatch.setenv("WORLD_SIZE", words)
    with pytest.raises(InvalidValue, match="WORLD_SIZE is"):
        machine.world_of_torchrun()


def test_runs_side_by_side_share_the_machine(monkeypatch):
    monkeypatch.delenv(machine.RUNS_HERE, raising=False)
    assert (machine.runs_here(), machine.sharing()) == (1, 1)
    monkeypatch.setenv(
        machine.RUNS_HERE, "0"
    )  # so that the end of the test takes back what follows
    machine.share_machine(3)
    assert (machine.runs_here(), machine.sharing()) == (3, 3)
    for words in ("two", "0"):
        monkeypatch.setenv(machine.RUNS_HERE, words)
        with pytest.raises(InvalidValue, match="COVIEW_RUNS_HERE is"):
            machine.runs_here()
