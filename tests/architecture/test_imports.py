"""The shape of the house: which room may import which, no cycles, no banned modules."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "coview"

LEAVES = {"data", "views", "encoders", "heads", "objectives"}
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    **{leaf: {"core"} for leaf in LEAVES},
    "methods": {"core", "views", "encoders", "heads", "objectives"},
    "training": {"core"},
    "evaluation": {"core", "encoders", "views"},
    "reports": {"core"},
    "recipes": {"core", "views", "encoders", "heads", "methods", "training"},
    "runs": {"core", *LEAVES, "methods", "training", "evaluation", "reports", "recipes"},
    "testing": {"core", "data", "views", "encoders", "heads", "methods", "recipes"},
    "studies": {"core", *LEAVES, "methods", "training", "evaluation", "recipes", "runs"},
    "cli": {"core", *LEAVES, "methods", "training", "evaluation", "reports", "recipes", "runs"},
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module named by an import statement anywhere in the file, lazy ones included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


def test_every_room_imports_only_what_it_may_know():
    wrong = []
    for path in modules():
        here = room(path)
        if here.endswith(".py"):  # the front door, src/coview/__init__.py
            continue
        for name in imported(path):
            parts = name.split(".")
            inside = (
                parts[0] == "coview" and len(parts) > 1 and parts[1] not in {here, "__version__"}
            )
            if inside and parts[1] not in ALLOWED[here]:
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert wrong == []


def test_no_two_rooms_import_each_other():
    for here, there in ALLOWED.items():
        for other in there:
            assert here not in ALLOWED[other], f"{here} and {other} import each other"


@pytest.mark.parametrize("name", ["pickle", "marshal", "shelve", "yaml", "subprocess.call"])
def test_no_module_that_can_run_foreign_content_is_imported(name):
    assert [str(path) for path in modules() if name in imported(path)] == []


def test_torch_load_appears_only_in_the_named_converter():
    users = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            found = isinstance(node, ast.Attribute) and node.attr in {"load", "save"}
            if found and isinstance(node.value, ast.Name) and node.value.id == "torch":
                users.append(path.name)
    assert set(users) <= {"weights.py"}


def test_there_is_no_room_or_file_without_a_meaning():
    banned = {"utils", "common", "misc", "helpers", "base"}
    assert [str(p) for p in SOURCE.rglob("*") if p.stem in banned] == []
