"""What a study returns: the content of its study.json, a table in a notebook."""

from __future__ import annotations

from typing import Any

from coview.core.errors import MissingExtra
from coview.studies.page import claims_and_tables


class StudyResult(dict[str, Any]):
    """The content of study.json, with "path"; shows itself in a notebook.

    >>> result = StudyResult(study="mine", rows=[{"arm": "a", "seed": 0, "linear": 61.5}])
    >>> result.rows[0]["linear"]
    61.5
    """

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One object for each run: arm, seed, folder and its figures."""
        return list(self.get("rows", ()))

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame. Raises MissingExtra without pandas."""
        try:
            import pandas
        except ImportError:
            raise MissingExtra("pandas", "pandas", "A table for a notebook") from None
        return pandas.DataFrame(self.rows)

    def _repr_html_(self) -> str:
        return claims_and_tables(self)
