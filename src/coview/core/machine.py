"""Facts about this machine: cores, memory, processor, processes and those of torchrun."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from coview.core.errors import InvalidValue

TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
RUNS_HERE = "COVIEW_RUNS_HERE"
"""The environment variable with the number of runs that share this machine. A study with `jobs`
sets it in the processes of its runs; whoever starts runs side by side by hand may set it, too."""
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_busy() -> bool:
    """Whether processes wait for the cores of this machine: half as many again as there are cores,
    over the last minute. False where the system does not say."""
    try:
        return os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return False


def memory_bytes() -> int:
    """RAM of the machine, or the limit of the container; 8 GiB where neither is known."""
    physical = 8 << 30
    with contextlib.suppress(AttributeError, ValueError, OSError):
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(ValueError, OSError):
        return min(physical, int(_CONTAINER_LIMIT.read_text()))
    return physical


def cpu_name() -> str:
    """The processor's name, from the operating system."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def boot_id() -> str:
    """Names this machine from one start to the next, the same in all its containers."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node()


def process_namespace() -> str:
    """Names the numbering of processes: two containers have two. "" where there is one only."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def process_started(process: int) -> str:
    """When a process started, as the system counts; "" where it is gone or this is not known."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def exit_now(reason: str) -> None:
    """Write ``reason`` to the standard error and end this process at once."""
    # Not print, not sys.exit: the main thread may wait inside a library forever.
    if reason:
        with contextlib.suppress(OSError):
            os.write(2, f"{reason}\n".encode())
    os._exit(1)


def world_of_torchrun() -> int:
    """The number of processes that torchrun has started; 1 without torchrun.

    Raises InvalidValue where only some of its variables are set, or to something else.
    """
    words = os.environ.get("WORLD_SIZE") or "1"
    if not words.isdecimal() or int(words) < 1:
        raise InvalidValue(
            f"WORLD_SIZE is {words!r}; expected a number of processes, as torchrun sets it."
        )
    if int(words) == 1:
        return 1
    missing = [name for name in TORCHRUN_VARIABLES if not os.environ.get(name)]
    if missing:
        raise InvalidValue(
            f"WORLD_SIZE is {words} but {', '.join(missing)} is not set; start "
            "several processes with torchrun, which sets them all, or unset WORLD_SIZE."
        )
    return int(words)


def is_main_process() -> bool:
    """Whether this is rank 0 of torchrun's processes, or the only process."""
    return world_of_torchrun() == 1 or os.environ["RANK"] == "0"


def processes_here() -> int:
    """The number of processes of this run on this machine."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) if world_of_torchrun() > 1 else 1


def runs_here() -> int:
    """The number of runs that share this machine and its GPU: this one and those beside it.

    Raises InvalidValue where COVIEW_RUNS_HERE is no number.
    """
    words = os.environ.get(RUNS_HERE) or "1"
    if not words.isdecimal() or int(words) < 1:
        raise InvalidValue(
            f"{RUNS_HERE} is {words!r}; expected the number of runs that share this machine."
        )
    return int(words)


def share_machine(runs: int) -> None:
    """From here on this process, with those that it starts, is one of ``runs`` side by side."""
    os.environ[RUNS_HERE] = str(runs)


def sharing() -> int:
    """The number of processes that share this machine's memory and cores."""
    return processes_here() * runs_here()
