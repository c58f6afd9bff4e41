"""What `make site` does besides mkdocs: pages from elsewhere in the repository, and links to them.

mkdocs calls these functions (mkdocs.yml, ``hooks``). A page of docs/ is written for the repository:
it may link to source files and to files beside docs/. In the site such a link becomes its text,
or leads to the repository where mkdocs.yml has a `repo_url`.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

OTHERS = {
    "README.ko.md": "ko.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files beside docs/ that are pages of the site: name in the repository -> name in the site."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """A folder in the navigation, as `decisions/`, stands for its pages and those below it."""
    for entry in config.nav:
        for title, value in entry.items() if isinstance(entry, dict) else ():
            if isinstance(value, str) and value.endswith("/"):
                found = sorted(DOCS.joinpath(value).rglob("*.md"), key=_place)
                entry[title] = [page.relative_to(DOCS).as_posix() for page in found]
    return config


def _place(page: Path) -> tuple[int, bool, str]:
    return len(page.parts), page.stem != "README", page.name


def on_files(files: Any, *, config: Any) -> Any:
    """Add the files beside docs/ and the notebooks, as pages."""
    from mkdocs.structure.files import File

    for name, page in OTHERS.items():
        if (ROOT / name).is_file():
            text = move_links((ROOT / name).read_text(encoding="utf-8"), name)
            files.append(File.generated(config, page, content=text))
    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=notebook_page(notebook)))
    return files


def on_page_markdown(text: str, *, page: Any, config: Any, files: Any) -> str:
    """Links out of docs/ become text, or links to the repository; `::: package.*` its names."""
    return outside_links(expand_packages(text), page.file.src_uri, config.repo_url)


def expand_packages(text: str) -> str:
    """``::: coview.heads.*`` as one line for each public name of the package.

    >>> expand_packages("::: coview.heads.*")
    '::: coview.heads.Head\\n\\n::: coview.heads.HeadSpec'
    """

    def expand(match: re.Match[str]) -> str:
        return "\n\n".join(f"::: {match[1]}.{name}" for name in public_names(match[1]))

    return re.sub(r"^::: ([\w.]+)\.\*$", expand, text, flags=re.MULTILINE)


def public_names(package: str) -> list[str]:
    """``__all__`` of a package, without importing it; constants and dunder names are left out."""
    source = ROOT.joinpath("src", *package.split("."), "__init__.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            return [name for name in names if not name.isupper() and not name.startswith("_")]
    return []


def outside_links(text: str, page: str, repository: str | None) -> str:
    """``text`` of ``page`` with its links to files outside of docs/ replaced.

    >>> outside_links("see [`a.py`](../src/a.py) and [b](b.md)", "page.md", None)
    'see `a.py` and [b](b.md)'
    >>> outside_links("[all](results/)", "benchmarks/README.md", None)
    'all'
    """

    def replace(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        if re.match(r"[a-z]+:|#|<", target):
            return match[0]
        path = posixpath.normpath(
            posixpath.join("docs", posixpath.dirname(page), target.partition("#")[0])
        )
        if posixpath.dirname(path) == "" and path in OTHERS:
            depth = page.count("/") * "../"
            return f"{mark}[{words}]({depth}{OTHERS[path]})"
        if path.endswith(".ipynb"):
            return f"{mark}[{words}]({target.replace('.ipynb', '.md')})"
        if path.startswith("docs/") and not target.endswith("/"):
            return match[0]
        return f"[{words}]({repository}/blob/main/{path})" if repository else words

    return _with_links(text, replace)


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Remove what a browser would fetch from a server; the build fails where anything is left."""
    output = without_shim(output)
    left = remote_addresses(output)
    if left:
        from mkdocs.exceptions import PluginError

        raise PluginError(f"{page.file.src_uri} would load {', '.join(left)}.")
    return output


def without_shim(html: str) -> str:
    """A page without the script that Material's offline plugin fetches from a server.

    It makes the search work in a folder that is opened without a server; the rest does without.

    >>> without_shim('<p></p><script src="https://unpkg.com/iframe-worker/shim"></script>')
    '<p></p>'
    """
    return re.sub(r'<script src="https://unpkg\.com/iframe-worker/shim[^"]*"></script>', "", html)


def remote_addresses(html: str) -> list[str]:
    """The addresses that a page loads by itself, in order. Links to click are none.

    >>> remote_addresses('<a href="https://a.b/"></a><img alt="x" src="//c.d/e.png">')
    ['//c.d/e.png']
    """
    tags = r'<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)="((?:https?:)?//[^"]+)"'
    return re.findall(tags, html)


def _with_links(text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """``text`` with its links replaced, those in blocks of code left alone."""
    return "".join(
        part if number % 2 else _LINK.sub(replace, part)
        for number, part in enumerate(_CODE_FENCE.split(text))
    )


_CODE_FENCE = re.compile(r"(^ *```.*?^ *```[ ]*$)", re.MULTILINE | re.DOTALL)


def move_links(text: str, name: str) -> str:
    """The text of a file beside docs/ with links as from a page in docs/."""

    def replace(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        if re.match(r"[a-z]+:|#|<", target):
            return match[0]
        moved = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        return f"{mark}[{words}]({moved})"

    return _with_links(text, replace)


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its texts, and its code in fences. Outputs are not in the file."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
    return "\n\n".join(parts) + "\n"
