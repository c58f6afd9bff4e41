"""coview resume RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from coview.cli.options import argument, option, parse


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a run where it stopped: the result is the one it would have had."""

    run: str = argument("the run's folder")
    data: str | None = option("where the images are now, if they have moved")
    device: str = option("auto, cpu or cuda", "auto")
    workers: int | None = option("threads that render views ahead")


def main(words: Sequence[str]) -> int:
    options = parse(Resume, "resume", words)
    from coview.cli.exit_codes import exit_code
    from coview.runs import resume

    return exit_code(resume(**asdict(options)))
