"""What the site needs and can be checked without mkdocs: links, navigation, generated pages."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from page_blocks import ROOT, pages

sys.path.insert(0, str(ROOT / "scripts"))

import claims_page
import commands_page
import methods_page
import site_hooks
import studies_page
from markdown_text import as_markdown

from coview.core.figures import DIAGNOSES
from coview.studies.ledger import summary

DOCS = ROOT / "docs"
ALL = [*pages(), *(ROOT / name for name in ("README.ko.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
ALL += sorted((DOCS / "benchmarks" / "results").glob("*.md"))
NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]


def prose(path):
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path):
    """The anchors of a page, as mkdocs and the usual viewers make them of its headings."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        word = re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower())
        found.add(re.sub(r"[ \-]+", "-", word))
        found.add(word.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {target} leads nowhere"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{page.name}: {target} has no such heading"


def test_every_page_is_in_the_navigation():
    for page in sorted(DOCS.rglob("*.md")):
        name = page.relative_to(DOCS).as_posix()
        folder = f" {name.partition('/')[0]}/"
        assert name in NAVIGATION or folder in NAVIGATION, f"{name} is not in mkdocs.yml"
    for notebook in (DOCS / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{notebook.stem}.md" in NAVIGATION


def test_the_commands_are_those_of_the_program():
    same = (DOCS / "commands.md").read_text(encoding="utf-8") == commands_page.page()
    assert same, "docs/commands.md is not what the options are now: run `make docs`."


def test_the_ledger_is_that_of_its_files():
    folder, first = DOCS / "claims", (DOCS.parent / "README.md").read_text(encoding="utf-8")
    made = claims_page.files(folder)
    there = {*folder.glob("*.md"), *folder.glob("figures/*")}
    assert there == {folder / name for name in made}
    for name, text in made.items():
        same = (folder / name).read_text(encoding="utf-8") == text
        assert same, f"{name}: run `python scripts/claims_page.py docs/claims`"
    counts = summary(claims_page.rows_of(folder)).rstrip(".")
    assert counts in " ".join(first.split()), "the first page counts other claims"
    assert not any(row["card"]["data"].startswith("/") for row in claims_page.rows_of(folder))


def test_the_studies_are_those_of_the_program():
    same = (DOCS / "studies.md").read_text(encoding="utf-8") == studies_page.page()
    assert same, "docs/studies.md is not what the studies are now: run `make docs`."


def test_the_drawings_are_those_of_the_methods():
    folder = DOCS / "drawings"
    made = methods_page.drawings()
    assert {file.name for file in folder.glob("*.svg")} == set(made)
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name}: run `make docs`"


def test_a_drawing_shows_what_the_method_has():
    drawings = methods_page.drawings()
    for name, words in {
        "simclr": ("NTXent", "all rows"), "moco": ("queue", "moving average", "InfoNCE"),
        "byol": ("predictor", "moving average"), "simsiam": ("predictor", "same weights"),
        "distill": ("teacher", "frozen"), "supcon": ("with labels",), "logo": ("repel", "Critic"),
    }.items():  # fmt: skip
        for word in words:
            assert word in drawings[f"{name}.svg"], f"{name} lacks {word}"
    assert "predictor" not in drawings["simclr.svg"] + drawings["moco.svg"]
    assert "queue" not in drawings["byol.svg"]


def test_every_verdict_has_its_row():
    text = (DOCS / "not-learning.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*(.*?)\*\* \|", text, re.MULTILINE)
    assert set(rows) == set(DIAGNOSES)


def test_every_variable_that_the_code_reads_has_its_row():
    read = set()
    for file in (ROOT / "src").rglob("*.py"):
        read |= set(re.findall(r'"(COVIEW_\w+)"', file.read_text(encoding="utf-8")))
    text = (DOCS / "shell.md").read_text(encoding="utf-8")
    read.remove("COVIEW_PARENT")  # from a process to those that it starts
    assert {name for name in read if f"`{name}`" not in text} == set()


def test_every_package_with_public_names_has_a_page():
    for file in sorted((DOCS / "api").glob("*.md")):
        if file.stem != "index":
            package = "coview" if file.stem == "runs" else f"coview.{file.stem}"  # the verbs
            assert site_hooks.public_names(package), file
            assert f"({file.name})" in (DOCS / "api" / "index.md").read_text(encoding="utf-8")


def test_links_out_of_the_site_become_text_or_lead_to_the_repository():
    text = "[`a`](../src/a.py), [b](b.md), [c](../CHANGELOG.md), `[d](../e)`\n```\n[f](../g)\n```\n"
    moved = site_hooks.outside_links(text, "page.md", None)
    assert moved.startswith("`a`, [b](b.md), [c](changelog.md)")
    assert "[f](../g)" in moved
    there = site_hooks.outside_links(text, "page.md", "https://x.org/c")
    assert "(https://x.org/c/blob/main/src/a.py)" in there
    assert (
        site_hooks.move_links("[a](docs/a.md) [b](src/b.py)", "X.md")
        == "[a](a.md) [b](../src/b.py)"
    )


def test_examples_of_docstrings_become_code():
    text = as_markdown("Adds ``a``.\n\n>>> add(1)\n2\n\nMore.")
    assert text == "Adds `a`.\n\n```pycon\n>>> add(1)\n2\n```\n\nMore."


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_stripped_and_valid(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            ast.parse("".join(cell["source"]))
    assert content["cells"][0]["source"][0].startswith("# "), "the first cell has the title"
    assert "```python" in site_hooks.notebook_page(Path(path))


def test_no_page_of_the_site_loads_an_address():
    shim = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
    page = f'<script src="assets/a.js"></script>{shim}<a href="https://x.org">x</a>'
    assert site_hooks.remote_addresses(page) == ["https://unpkg.com/iframe-worker/shim"]
    assert site_hooks.remote_addresses(site_hooks.without_shim(page)) == []
    assert site_hooks.on_post_page(page, page=None, config=None).count("<script") == 1


def test_a_study_that_is_written_again_keeps_what_it_said_before(tmp_path):
    def written(seeds, holds, note):
        claim = {"text": "it helps", "holds": holds}
        card = {"data": "scenes", "seeds": seeds, "note 1": note}
        folder = tmp_path / "studies" / "own"
        folder.mkdir(parents=True, exist_ok=True)
        content = {"study": "own", "card": card, "claims": [claim], "ended": True, "earlier": []}
        (folder / "study.json").write_text(json.dumps(content))
        claims_page.collect(tmp_path / "studies", tmp_path / "claims")
        return json.loads((tmp_path / "claims" / "own.json").read_text())["earlier"]

    assert written("0, 1", None, "first") == []
    assert written("0, 1", None, "other words") == []
    first = {
        "with": {"seeds": "0, 1"},
        "runs": None,
        "claims": [{"text": "it helps", "holds": None}],
    }
    assert written("0, 1, 2", None, "other words") == [first]
    second = {**first, "with": {"seeds": "0, 1, 2"}}
    assert written("0, 1, 2, 3", True, "other words") == [first, second]
    assert written("0, 1, 2, 3", True, "other words") == [first, second]


def test_claims_of_studies_that_go_on_or_are_tiny_are_not_written(tmp_path, capsys):
    claim = {"text": "it helps", "holds": None, "because": "-"}
    for name, ended, scale in (("a", True, "cpu"), ("b", False, "cpu"), ("c", True, "tiny")):
        folder = tmp_path / "studies" / name
        folder.mkdir(parents=True)
        content = {"study": f"own/{name}", "card": {"scale": scale}, "claims": [claim],
                   "ended": ended}  # fmt: skip
        (folder / "study.json").write_text(json.dumps(content))
    claims_page.collect(tmp_path / "studies", tmp_path / "claims")
    assert [row["study"] for row in claims_page.rows_of(tmp_path / "claims")] == ["own/a"]
    out = capsys.readouterr().out
    assert "own/b is left out:" in out
    assert "own/c is left out:" in out
