"""Which folders are runs."""

from __future__ import annotations

from pathlib import Path

from coview.core.errors import RunError, nearest

DESCRIPTION = "run.json"


def run_folder(path: str | Path) -> Path:
    """``path`` where it is the folder of a run. Raises RunError, naming a run that is near."""
    folder = Path(path)
    if (folder / DESCRIPTION).is_file():
        return folder
    if not folder.exists():
        siblings = [p.parent.name for p in folder.parent.glob(f"*/{DESCRIPTION}")]
        near = nearest(folder.name, siblings)
        hint = f" Did you mean {folder.parent / near}?" if near else ""
        raise RunError(f"There is no run folder {folder}.{hint}")
    raise RunError(
        f"{folder} is not a run: it has no {DESCRIPTION}. Give a folder that coview pretrain wrote."
    )
