"""An extension of mkdocstrings: docstrings as Markdown, with their examples as blocks of code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))

from markdown_text import as_markdown


class Examples(griffe.Extension):
    """Rewrites the docstring of every object that is read."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
