"""Python files of the user: executed when a command names them, or a run that was made with them.

A file that a run names is executed only where its content is that of the run's beginning and this
user has named a file of that content before: a run may come from anybody. ``agreed/`` in the cache
folder has an empty file for each content, by its hash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from coview.core.errors import InvalidValue
from coview.core.files import digest
from coview.core.images import cache_folder
from coview.core.paths import absolute_path, file_mode, open_regular
from coview.core.run_folder import DESCRIPTION, ImportedFile

PREFIX = "coview_user_"
IMPORTED: dict[str, Path] = {}
"""The files that were named to be imported in this process, by the hash of their content."""
AGREED: set[str] = set()
"""The hashes of the files that were named in this process."""


def import_files(names: Iterable[str]) -> list[ImportedFile]:
    """Execute files that register methods and recipes or define objectives; once in a process.

    Returns what a run records of them. Raises InvalidValue as :func:`run_file`.
    """
    files: list[ImportedFile] = []
    for path in map(absolute_path, names):
        file_hash = hash_file(path)
        IMPORTED[file_hash] = path
        agree_to(file_hash)
        run_file(path, file_hash)
        files.append({"file": str(path), "hash": file_hash})
    return files


def named_files() -> list[ImportedFile]:
    """The files that were named to be imported in this process, as a run records them."""
    return [{"file": str(path), "hash": file_hash} for file_hash, path in IMPORTED.items()]


def import_again(files: Iterable[ImportedFile]) -> set[str]:
    """Execute the files that a run was made with; returns the names of their modules.

    A file that was imported in this process from another place stands for that of the same content.
    Raises InvalidValue where one has changed or is gone.
    """
    for file in files:
        path = IMPORTED.get(file["hash"], Path(file["file"]))
        try:
            run_file(path, file["hash"])
        except InvalidValue as error:
            raise InvalidValue(
                f"The run was made with a file of yours. {error} Where it has moved, name it by "
                "`import_`."
            ) from error
    return {PREFIX + file["hash"] for file in files}


def files_of(value: Any) -> list[ImportedFile]:
    """The imported files whose classes the frozen ``value`` is built of, as a run records them."""
    inner: Iterable[Any] = value if isinstance(value, tuple) else ()
    files: list[ImportedFile] = []
    if dataclasses.is_dataclass(value):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
        module = type(value).__module__
        if module.startswith(PREFIX):
            file_hash = module.removeprefix(PREFIX)
            files.append({"file": str(sys.modules[module].__file__), "hash": file_hash})
    return [*files, *(file for item in inner for file in files_of(item))]


def agree_to(file_hash: str) -> None:
    """Remember, for this process and later ones, that the user has named a file of this content."""
    AGREED.add(file_hash)
    with contextlib.suppress(OSError):  # without a place to write, for this process alone
        folder = cache_folder() / "agreed"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file_hash).touch()


def is_agreed(file_hash: str) -> bool:
    """Whether this user has named a file of this content."""
    if file_hash in AGREED:
        return True
    with contextlib.suppress(OSError):
        return file_hash.isalnum() and file_mode(cache_folder() / "agreed" / file_hash) is not None
    return False


def hash_file(path: Path) -> str:
    """32 hexadecimal digits of a file's content. Raises InvalidValue where it cannot be read."""
    try:
        with open_regular(path) as stream:
            return digest(stream.read())
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror or error}.") from error


def run_file(path: Path, file_hash: str) -> ModuleType:
    """The module that executing ``path`` gives, once in a process.

    A file in the folder of a run is not executed, nor one that this user has never named: a run may
    come from anybody. For the same reason the place must not depend on the working folder. Raises
    InvalidValue for these, for a file whose content has another hash, and for one that raises.
    """
    if not path.is_absolute() or path.parts[1:2] in (("proc",), ("dev",)):
        raise InvalidValue(f"{path} is not executed: expected the absolute place of a file.")
    if hash_file(path) != file_hash:
        raise InvalidValue(f"{path} has changed since the run began; bring the old file back.")
    if any(file_mode(parent / DESCRIPTION) is not None for parent in path.resolve().parents):
        raise InvalidValue(f"{path} lies in the folder of a run, whose files are not executed.")
    if not is_agreed(file_hash):
        raise InvalidValue(
            f"{path} is not executed, because you have not named it on this machine yet; read it, "
            "then give it by `import_`."
        )
    name = f"{PREFIX}{file_hash}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidValue(f"{path} is no Python file; expected a name that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InvalidValue(f"{path} raises {type(error).__name__}: {error}.") from error
    return module
