"""Python files of the user: executed when a command names them, and by nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from coview.core.errors import InvalidValue
from coview.core.files import digest
from coview.core.paths import file_mode, open_regular
from coview.core.run_folder import DESCRIPTION


def hash_file(path: Path) -> str:
    """32 hexadecimal digits of a file's content. Raises InvalidValue where it cannot be read."""
    try:
        with open_regular(path) as stream:
            return digest(stream.read())
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror or error}.") from error


def run_file(path: Path, file_hash: str) -> ModuleType:
    """The module that executing ``path`` gives, once in a process.

    A file in the folder of a run is not executed: such a folder may come from anybody. Raises
    InvalidValue for that, for a file whose content has another hash, and for one that raises.
    """
    if hash_file(path) != file_hash:
        raise InvalidValue(f"{path} has changed since the run began; bring the old file back.")
    if any(file_mode(parent / DESCRIPTION) is not None for parent in path.parents):
        raise InvalidValue(f"{path} lies in the folder of a run, whose files are not executed.")
    name = f"coview_user_{file_hash}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InvalidValue(f"{path} raises {type(error).__name__}: {error}.") from error
    return module
