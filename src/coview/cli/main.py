"""The command ``coview``: finds the verb, calls it, turns a user's mistake into one sentence.

Exit codes: 0 done; 1 the images are not fit for training (doctor); 2 a mistake in the command;
3 to 12 the run ended in a bad verdict, one code each (``coview.core.figures``); 75 stopped by a
signal with everything saved (start again with ``coview resume``); 130 interrupted.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from coview.cli.options import as_settings, parse_command
from coview.cli.processes import (
    end_with_parent,
    require_one_process,
    run_processes,
    starts_processes,
)
from coview.cli.sources import check_sources
from coview.cli.verbs import VERBS, Verb
from coview.core.clock import command_since
from coview.core.errors import CoviewError, SeveralErrors, UnknownName
from coview.core.machine import is_main_process
from coview.core.option_checks import check_options
from coview.core.options import as_options
from coview.core.plain import finite
from coview.core.progress import output
from coview.core.streams import safe_streams
from coview.core.text import printable
from coview.core.version import VERSION
from coview.options import PretrainOptions, SweepOptions

PROCESS_START = time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    began = PROCESS_START if arguments is None else time.monotonic()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with safe_streams() as (out, err), command_since(began):
        code, prints_result = _main(words)
        out.flush()
        if out.is_lost:
            print(f"coview: the output is not complete: {out.error}.", file=err, flush=True)
            return 2 if code == 0 and prints_result else code
    if arguments is None:
        gc.freeze()  # the interpreter's last collections walk over all of torch otherwise: 1 s
    return code


def _main(words: list[str]) -> tuple[int, bool]:
    """The exit code, and whether the result is what is printed: all else is in files."""
    if not words or words[0] in {"-h", "--help", "help"}:
        print(help_text())
        return 0, True
    if words[0] in {"-V", "--version"}:
        print(f"coview {VERSION}")
        return 0, True
    verb = VERBS.get(words[0])
    return _call(words[0], words[1:]), "--json" in words or (verb is not None and verb.prints)


def help_text() -> str:
    """What ``coview --help`` prints. Made without importing anything heavy."""
    width = max(map(len, VERBS)) + 2
    lines = [f"  {name:<{width}}{verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            f"coview {VERSION}: learn image representations by comparing views.", "",
            "usage: coview VERB ...        coview VERB --help explains a verb", "", *lines, "",
            "A first run:      coview demo",
            "Your own images:  coview pretrain photos/ --budget 30m", "",
            "Every verb takes --quiet (warnings, errors and the end) and --json (the result, for a",
            "program, on the standard output).",
        ]
    )  # fmt: skip


def share_cores() -> None:
    """Before torch: OpenMP's threads do not spin while they wait (docs/decisions/0005), and what a
    Mac's GPU cannot compute is computed on the CPU."""
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _call(name: str, words: list[str]) -> int:
    share_cores()
    end_with_parent()
    try:
        if name not in VERBS:
            raise UnknownName("command", name, VERBS)
        verb = VERBS[name]
        options: Any
        command: Any
        options, command = parse_command(verb.options, verb.command, name, words)
        # A verb that trains has the option, also where it is not given: torchrun has started it.
        trains = hasattr(command, "processes")
        if not trains:
            require_one_process(name)
        # The function does so too, but its module loads torch first, which takes seconds.
        check_options(options)
        check_sources(options)
        if trains and command.processes is not None and starts_processes(command.processes):
            return run_processes(command.processes, [name, *words], options.device)
        # Notes name fields, as errors do.
        with output(
            spelling=lambda text: _spell(text, verb), quiet=command.quiet, on_stderr=command.json,
            muted=command.json and verb.prints,  # the JSON says it all
        ):  # fmt: skip
            code, result = verb.main(options)
        if command.json and is_main_process():
            print(json.dumps(finite(result), indent=2, default=str, allow_nan=False), flush=True)
        return code
    except CoviewError as error:
        lines = error.lines if isinstance(error, SeveralErrors) else (str(error),)
        # A name of a file may hold a line break, which is spelled out.
        said = [printable(_spell(each, VERBS.get(name))).replace("\n", "\\n") for each in lines]
        print("\n".join([f"coview {printable(name)}: {said[0]}", *said[1:]]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"coview {name}: interrupted.", file=sys.stderr)
        return 130


def _spell(text: str, verb: Verb | None) -> str:
    """Fields in backticks as the user types them: those of the verb, else those of a run."""
    if verb is not None and verb.options is SweepOptions:
        text = as_settings(text, PretrainOptions, verb.options)
    return as_options(
        text, PretrainOptions, *([] if verb is None else [verb.options, verb.command])
    )
