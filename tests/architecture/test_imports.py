"""Which package may import which; no cycles of packages and none of files; no banned modules."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "coview"

LEAVES = {"data", "views", "encoders", "heads", "objectives", "embeddings"}
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "options": {"core"},
    **{leaf: {"core"} for leaf in LEAVES},
    "data": {"core", "options"},
    "methods": {"core", "views", "encoders", "heads", "objectives"},
    "dense": {"core", "data", "views", "encoders", "methods"},
    "training": {"core"},
    "evaluation": {"core", "views", "encoders", "heads", "embeddings", "data"},
    "importing": {"core", "encoders", "heads"},
    "recipes": {
        "core", "options", "data", "views", "encoders", "heads", "objectives", "methods", "dense",
        "training",
    },
    "planning": {"core", "options", *LEAVES, "methods", "dense", "training", "recipes"},
    "diagnosis": {
        "core", "options", *LEAVES, "methods", "dense", "training", "recipes", "evaluation", "planning",
    },
    "reports": {"core", "options"},
    "browsing": {"core", "embeddings", "reports"},
    "runs": {
        "core", "options", *LEAVES, "methods", "dense", "training", "recipes", "evaluation", "planning",
        "diagnosis", "reports", "browsing", "importing",
    },
    "studies": {
        "core", "options", *LEAVES, "methods", "dense", "training", "recipes", "evaluation", "planning",
        "diagnosis", "reports", "runs",
    },
    "testing": {"core", *LEAVES, "methods", "recipes", "evaluation"},
    "cli": {
        "core", "options", *LEAVES, "methods", "dense", "training", "recipes", "evaluation", "planning",
        "diagnosis", "reports", "runs", "studies",
    },
}  # fmt: skip
TORCH_FREE = {"reports", "browsing", "options", "cli"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module; that of a package for its __init__."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in modules()}


def imported(path: Path) -> set[str]:
    """Every name of an import statement anywhere in the file, lazy and TYPE_CHECKING ones too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_files(path: Path) -> set[str]:
    """The modules of the package that the file imports; an imported name counts for its module."""
    found = set()
    for name in imported(path):
        if name.split(".")[0] == "coview":
            found.add(name if name in FILES else name.rpartition(".")[0])
    return found & FILES.keys()


def package(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_package_imports_only_what_it_may_know():
    wrong = []
    for path in modules():
        here = package(path)
        if here in {"__init__", "__main__"}:
            continue
        for name in imported_files(path):
            if here == "cli" and name == "coview":  # its public functions, each loaded when called
                continue
            there = name.split(".")[1] if "." in name else ""
            if there != here and there not in ALLOWED[here]:
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert wrong == []


def test_the_decision_on_packages_has_the_same_table():
    text = (SOURCE.parents[1] / "docs" / "decisions" / "0001-packages.md").read_text()
    said: dict[str, set[str]] = {}
    for packages, cell in re.findall(r"^\| (`.+?) \| (.+) \|$", text, re.MULTILINE):
        allowed: set[str] = set()
        if match := re.search("those of `([a-z]+)`;", cell):
            allowed |= said[match[1]]
            cell = cell[match.end() :]
        allowed |= LEAVES if "the leaves" in cell else set()
        allowed |= set(re.findall("`([a-z]+)`", cell))
        said |= {name: allowed for name in re.findall("`([a-z]+)`", packages)}
    assert said == ALLOWED


def test_the_table_of_imports_has_no_cycle():
    order: list[str] = []
    rest = dict(ALLOWED)
    while rest:
        ready = sorted(name for name, known in rest.items() if known <= set(order))
        assert ready, f"these import each other: {sorted(rest)}"
        order += ready
        rest = {name: known for name, known in rest.items() if name not in ready}


def test_no_files_import_each_other_in_a_ring():
    """Type-checking imports included. The __init__ of a package only collects names, so that what
    it imports counts for those who import the package, not for the package's own files."""
    graph = {name: imported_files(path) - {name} for name, path in FILES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*path, name))
        done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_no_file_imports_from_its_own_package():
    wrong = [
        f"{name} imports {other}"
        for name, path in FILES.items()
        for other in imported_files(path)
        if other != "coview"
        and name.startswith(f"{other}.")
        and path.name != "__init__.py"
        and FILES[other].name == "__init__.py"
        and not _is_submodule_import(path, other)
    ]
    assert wrong == []


def _is_submodule_import(path: Path, other: str) -> bool:
    """Whether everything that the file takes from a package are modules of it."""
    names = [name for name in imported(path) if name.rpartition(".")[0] == other]
    return all(name in FILES for name in names)


@pytest.mark.parametrize("name", sorted(TORCH_FREE))
def test_what_must_be_quick_or_offline_imports_no_torch(name):
    users = [
        str(path)
        for path in modules()
        if package(path) == name
        and any(each.split(".")[0] in {"torch", "torchvision"} for each in imported(path))
    ]
    assert users == []


@pytest.mark.parametrize("name", ["pickle", "marshal", "shelve", "yaml", "subprocess.call"])
def test_no_module_that_can_run_foreign_content_is_imported(name):
    assert [str(path) for path in modules() if names_in(imported(path), name)] == []


def names_in(names: Iterable[str], name: str) -> set[str]:
    """Those of the dotted ``names`` that are ``name`` or lie within it."""
    return {each for each in names if f"{each}.".startswith(f"{name}.")}


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("import pickle", True), ("import pickle as p", True), ("from pickle import loads", True),
        ("def f():\n    from pickle import loads as f", True), ("import pickletools", False),
        ("from pickletools import genops", False),
    ],
)  # fmt: skip
def test_every_form_of_an_import_is_found(tmp_path, line, is_found):
    (tmp_path / "a.py").write_text(line)
    assert bool(names_in(imported(tmp_path / "a.py"), "pickle")) == is_found


def test_torch_load_appears_only_in_the_named_converters():
    users = {path.relative_to(SOURCE).as_posix() for path in modules() if reads_by_torch(path)}
    assert users == {
        "encoders/exchange/detectron2.py", "encoders/exchange/weights.py",
        "importing/torch_files.py",
    }  # fmt: skip


IO = {"load", "save"}


def reads_by_torch(path: Path) -> bool:
    """Whether the code of ``path`` names torch.load or torch.save, or modules that hold them."""
    if names_in(imported(path), "torch.serialization"):
        return True
    if imported(path) & {f"torch.{name}" for name in IO}:
        return True
    tree = ast.parse(path.read_text())
    torch = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "torch"
    }
    return any(
        isinstance(node, ast.Attribute)
        and (node.attr == "serialization" or node.attr in IO)
        and isinstance(node.value, ast.Name)
        and node.value.id in torch
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("import torch\ntorch.load(x)", True), ("import torch as t\nt.load(x)", True),
        ("from torch import load", True), ("from torch import save as keep", True),
        ("from torch.serialization import load", True), ("import torch.serialization", True),
        ("import torch\ntorch.serialization.load(x)", True),
        ("import safetensors.torch\nsafetensors.torch.load(x)", False),
    ],
)  # fmt: skip
def test_every_form_of_torch_load_is_found(tmp_path, text, is_found):
    (tmp_path / "a.py").write_text(text)
    assert reads_by_torch(tmp_path / "a.py") == is_found


def test_there_is_no_package_or_file_without_a_meaning():
    banned = {"utils", "common", "misc", "helpers", "base"}
    assert [str(p) for p in SOURCE.rglob("*") if p.stem in banned] == []
