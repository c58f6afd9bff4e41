"""A paper's experiment by its name: what ``coview study`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coview.core.errors import UnknownName
from coview.core.options import takes
from coview.core.progress import say
from coview.core.run_folder import RunFolder
from coview.data.spec import name_of
from coview.options import StudyOptions
from coview.studies.execution import Study, run_study
from coview.studies.simclrv2 import chain

STUDIES: Mapping[str, Callable[[StudyOptions], Study]] = {"simclrv2/chain": chain}
"""Every study by its name: its options -> the study."""


@takes(StudyOptions)
def study(options: StudyOptions) -> dict[str, Any]:
    """Run the study ``name`` on ``data``; returns the content of its study.json.

    The runs lie in ``out``, each in a folder that is named by what it contains. The same call goes
    on where it was stopped or killed, and draws a finished study again in seconds. "ended" of the
    result says whether every run has ended. Raises UnknownName for an unknown study, and the
    errors of the runs.

    >>> import coview
    >>> result = coview.study("simclrv2/chain", "scenes", limit=200, dry_run=True)
    >>> result["ended"]
    False
    """
    if options.name not in STUDIES:
        raise UnknownName("study", options.name, STUDIES)
    value = STUDIES[options.name](options)
    root = options.out or Path("runs") / f"{name_of(options.data)}-{options.name.replace('/', '-')}"
    machine = {"device": options.device, "workers": options.workers}
    result = run_study(value, root, machine, dry_run=options.dry_run)
    if not options.dry_run:
        say()
        for claim in result["claims"]:
            say(f"{claim['text']}: {WORDS[claim['holds']]}. {claim['because']}")
        say(f"Report: {RunFolder(root).report_path}")
    return {**result, "path": str(root)}


WORDS: Mapping[bool | None, str] = {True: "yes", False: "no", None: "not decided"}
