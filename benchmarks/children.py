"""Cases in forked processes with limits: a case that kills its process is a result like others."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PATIENCE = 30


def run_cases(
    case: Callable[[int], Any], count: int, *, seconds: float, megabytes: int, chunk: int = 250
) -> Iterator[tuple[int, Any, str]]:
    """(number, result, fault) of ``case(number)`` of every number below ``count``.

    fault is "" unless the case raised an error, its process died, or it took more than ``seconds``
    of processor time (30 times as long by the clock, on a busy machine), or ``megabytes`` beyond
    what the process has.
    """
    start = 0
    while start < count:
        done = start
        for number, outcome in _child(
            case, range(start, min(start + chunk, count)), seconds, megabytes
        ):
            yield number, outcome.get("result"), outcome.get("fault", "")
            done = number + 1
        start = done


def _child(
    case: Callable[[int], Any], numbers: range, seconds: float, megabytes: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    reading, writing = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _limit(megabytes)
        with os.fdopen(writing, "w", buffering=1) as lines:
            for number in numbers:
                lines.write(json.dumps([number, _outcome(case, number, seconds)]) + "\n")
        os._exit(0)
    os.close(writing)
    number = numbers.start - 1
    with os.fdopen(reading) as lines:
        for line in lines:
            number, outcome = json.loads(line)
            yield number, outcome
    _, status = os.waitpid(process, 0)
    if status:
        late = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
        end = "took too long" if late else f"died ({status})"
        yield number + 1, {"fault": f"the process {end}"}


def _limit(megabytes: int) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)  # libraries print what they find in damaged files
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _outcome(case: Callable[[int], Any], number: int, seconds: float) -> dict[str, Any]:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE * seconds)
    try:
        return {"result": case(number)}
    except Exception:
        return {"fault": traceback.format_exc(limit=-1).strip().replace("\n", " / ")}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
