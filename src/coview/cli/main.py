"""The command ``coview``: finds the verb, runs it, turns a user's mistake into one sentence.

Exit codes: 0 done; 1 the images are not fit for training (doctor); 2 a mistake in what was asked;
3 to 7 the run ended in a bad verdict, one code each; 75 stopped by a signal with everything saved
(start again with ``coview resume``); 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from coview import __version__
from coview.core.errors import CoviewError, UnknownName

VERBS = {
    "demo": "a complete first run without data, network or GPU",
    "pretrain": "learn a representation from a folder of images, without labels",
    "resume": "go on with a run where it stopped, exactly",
    "evaluate": "judge an encoder on labeled images: kNN and linear probe",
    "embed": "turn images into vectors, written to a Parquet file",
    "views": "draw a contact sheet of what the model will see",
    "doctor": "is this data usable, has this run learned anything, what to do",
    "report": "write a run's report.html again",
    "export": "write an encoder for torchvision, timm, ONNX or plain safetensors",
    "recipes": "list the recipes, or print one with the source of its numbers",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(help_text())
        return 0
    if words[0] in {"-V", "--version"}:
        print(f"coview {__version__}")
        return 0
    return _run(words[0], words[1:])


def help_text() -> str:
    """What ``coview --help`` prints. Made without importing anything heavy."""
    lines = [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            f"coview {__version__}: learn image representations by comparing views.",
            "",
            "usage: coview VERB ...        coview VERB --help explains a verb",
            "",
            *lines,
            "",
            "A first run:      coview demo",
            "Your own images:  coview pretrain photos/ --budget 30m",
        ]
    )


def share_cores() -> None:
    """Keep OpenMP's threads from spinning while they wait (docs/decisions/0005); before torch."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _run(verb: str, words: list[str]) -> int:
    share_cores()
    try:
        if verb not in VERBS:
            raise UnknownName("command", verb, VERBS)
        module = importlib.import_module(f"coview.cli.{verb}")
        return int(module.main(words))
    except CoviewError as error:
        print(f"coview {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"coview {verb}: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (for instance `| head`): nothing to say to nobody.
        sys.stderr.close()
        return 0
