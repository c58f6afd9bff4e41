"""An exported folder on the Hugging Face Hub, with its model card; only when told to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coview.core.errors import InvalidValue, MissingExtra, RunError, nearest
from coview.core.files import exists, write_text
from coview.core.options import takes
from coview.core.places import Kind, place_of
from coview.core.progress import say
from coview.core.run_folder import RunFolder
from coview.core.text import byte_size
from coview.core.user_code import import_files
from coview.encoders.exchange.classifier import TENSORS as CLASSIFIER
from coview.encoders.exchange.head import TENSORS as HEAD
from coview.options import PushOptions
from coview.runs.card import is_of, results_lines, results_of
from coview.runs.load import exported, load_subject

FILES = ("config.json", "model.safetensors", "README.md", "encoder.py", HEAD, CLASSIFIER)
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
LICENSES = (
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0",
    "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0",
    "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0",
    "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl",
    "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "h-research", "intel-research",
    "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0", "odc-by", "odbl",
    "openmdw-1.0", "openmdw-1.1", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa",
    "unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license",
    "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1", "llama3.2",
    "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other",
)  # fmt: skip
"""The names that the Hub takes; it refuses a card with another one. They are SPDX identifiers in
lower case, but not all of these. Source: huggingface.co/docs/hub/repositories-licenses, and the
Hub's answer in huggingface_hub's issue 4218 (2026)."""
BEFORE = "## Limits\n"
"""The heading of the card before which the results stand."""


@takes(PushOptions)
def push(options: PushOptions) -> str:
    """Put the exported network on the Hugging Face Hub; returns its address.

    The repository is made where there is none, private unless ``public``. The model card gets the
    results of `coview evaluate`: those in the run's folder evaluation/, or in ``results``. With
    ``dry_run`` nothing is sent, and what would be is said. Raises MissingExtra without
    huggingface_hub, InvalidValue, and RunError where the Hub refuses.

    >>> import coview
    >>> coview.push("runs/scenes", "me/scenes", dry_run=True)
    'me/scenes'
    """
    import_files(options.import_)
    if not REPOSITORY.fullmatch(options.repository):
        raise InvalidValue(
            f"`repository` is {options.repository!r}; expected an owner and a name, as me/photos."
        )
    license = None if options.license is None else license_name(options.license)
    api = None if options.dry_run else _api()
    with prepared(options, license) as folder:
        files = sorted(folder.iterdir())
        what = ", ".join(f"{path.name} ({byte_size(path.stat().st_size)})" for path in files)
        kind = "public" if options.public else "private"
        if api is None:
            say(f"Nothing is sent. {options.repository} ({kind}) would get: {what}.")
            return str(options.repository)
        address = _send(api, folder, options)
        say(f"Sent to {options.repository} (made {kind} if it is new): {what}.")
        return address


def license_name(words: str) -> str:
    """The Hub's name of a license, in any case. Raises InvalidValue for a name that is none.

    >>> license_name("Apache-2.0")
    'apache-2.0'
    """
    name = words.lower()
    if name not in LICENSES:
        near = nearest(name, LICENSES)
        raise InvalidValue(
            f"`license` is {words!r}, which is no license to the Hub."
            + (f" Did you mean {near!r}?" if near else "")
            + " Expected its name, as apache-2.0 or cc-by-4.0; of a license of your own: other."
        )
    return name


@contextmanager
def prepared(options: PushOptions, license: str | None) -> Iterator[Path]:
    """A folder, in the body only, with what is sent: the export, and the card with its results."""
    with exported(options.run, options.checkpoint) as source, TemporaryDirectory() as name:
        folder = Path(name)
        for file in FILES:
            if exists(source / file):
                shutil.copyfile(source / file, folder / file)
        lines = _results(options, source)
        readme = (folder / "README.md").read_text()
        write_text(folder / "README.md", card_with(readme, lines, license))
        yield folder


def _results(options: PushOptions, source: Path) -> list[str]:
    """The results for the card, of these very weights. ``source``: the exported folder."""
    folder = options.results
    if folder is None:
        if place_of(options.run).kind is not Kind.RUN or options.checkpoint:
            return []
        folder = RunFolder(options.run).evaluation_path
    own = results_of(folder, options.subject)
    if options.results is not None and not own:
        raise InvalidValue(
            f"`results` is {folder}, which holds no results of "
            f"{options.subject or 'one subject beside the baselines; name it by `subject`'}."
        )
    if not own:
        return []
    # A run and its export name their tensors differently, and so have two hashes.
    networks = load_subject(options.run, options.checkpoint), load_subject(source)
    weights = {network.weights_hash for network in networks}
    foreign = sorted({each.protocol for each in own if not is_of(each, weights)})
    if foreign:
        raise InvalidValue(
            f"{folder} holds results of another network than {options.run} ({', '.join(foreign)}): "
            "other weights, or an earlier step of the run. Evaluate it again with `coview evaluate`"
            + (", or name its own results by `results`." if options.results is None else ".")
        )
    return results_lines(folder, own)


def card_with(readme: str, lines: list[str], license: str | None) -> str:
    """The model card with the Hub's header and the results before the limits.

    >>> print(card_with("# X\\n\\n## Limits\\n", ["- knn: 50 %"], "mit").splitlines()[1])
    license: mit
    """
    header = ["---", *([] if license is None else [f"license: {license}"]),
              "pipeline_tag: image-feature-extraction", "tags:", "- coview", "---", ""]  # fmt: skip
    if lines:
        readme = readme.replace(BEFORE, "\n".join([*lines, "", BEFORE]), 1)
    return "\n".join(header) + readme


def _api() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("huggingface_hub", "hub", "Sending to the Hub") from error
    return huggingface_hub.HfApi()


def _send(api: Any, folder: Path, options: PushOptions) -> str:
    """Make the repository and upload. Raises RunError with the Hub's first sentence."""
    try:
        made = api.create_repo(options.repository, private=not options.public, exist_ok=True)
        api.upload_folder(
            repo_id=options.repository, folder_path=folder, commit_message="An encoder of Coview"
        )
    except Exception as error:  # of huggingface_hub and of its HTTP library, which it changes
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise RunError(
            f"The Hub did not take {options.repository}: {reason} Log in with `hf auth login`, or "
            "set $HF_TOKEN to a token that may write."
        ) from error
    return str(made)
