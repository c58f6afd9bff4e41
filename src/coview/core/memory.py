"""What does not fit into memory: its errors in one sentence, and smaller parts of the same work."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from coview.core.errors import InvalidValue

Output = TypeVar("Output")

# Of torch's allocator for the CPU and for a Mac, of CUDA, cuBLAS and cuDNN beside torch's
# allocator. The last is torch's where no algorithm of cuDNN has found room for its workspace
# (pytorch issue 108645).
MEMORY_MESSAGES = (
    "not enough memory", "can't allocate memory", "error: out of memory",
    "backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine",
)  # fmt: skip
LESS = "use smaller images, a smaller encoder, or `device` cpu."


class DoesNotFit(InvalidValue):
    """What is to be computed is too large for the memory of its device."""


def memory_cause(error: Exception) -> str | None:
    """None where ``error`` has nothing to do with memory, else what to add to its sentence.

    "" where its class is one of memory; else its first line, as the words may mean something else.

    >>> memory_cause(MemoryError()), memory_cause(RuntimeError("shapes differ"))
    ('', None)
    >>> memory_cause(RuntimeError("CUDA error: out of memory\\nCompile with ..."))
    ' (CUDA error: out of memory)'
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return ""
    if any(words in str(error) for words in MEMORY_MESSAGES):
        return f" ({str(error).strip().splitlines()[0]})"
    return None


@contextmanager
def fitting(what: str, device: torch.device | None, remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error of the body into DoesNotFit, in one sentence.

    ``what`` ends in "do" or "does", ``remedy`` in a full stop; ``device`` None is not named.

    >>> with fitting("One image does", torch.device("cpu"), "use a smaller one."):
    ...     raise MemoryError
    Traceback (most recent call last):
    coview.core.memory.DoesNotFit: One image does not fit into the memory of cpu; use a smaller one.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        cause = memory_cause(error)
        if cause is None:
            raise
        memory = "memory" if device is None else f"the memory of {device}"
        raise DoesNotFit(f"{what} not fit into {memory}{cause}; {remedy}") from error


class PartSize:
    """How many images are computed at a time: ``most``, and fewer once these did not fit.

    For a network in evaluation mode, which computes each image by itself, the outputs do not depend
    on it. They have the same bits where each number is computed alone; convolutions and matrix
    products may add in another order for other numbers of images, which changes the last digits
    of float32. ``device`` is named in the error; ``least``: never fewer than so many.

    >>> size = PartSize(4)
    >>> size.map(lambda part: list(range(10))[part], 10)
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(self, most: int, *, device: torch.device | None = None, least: int = 1) -> None:
        self.images, self.device, self.least = most, device, least

    def map(self, compute: Callable[[slice], Output], count: int) -> list[Output]:
        """The outputs of ``compute`` for consecutive slices of ``count`` images.

        A slice that does not fit into memory is halved and computed again, and those after it have
        that size. Raises DoesNotFit where one image does not fit.
        """
        outputs, start = [], 0
        while start < count:

            def part(images: int, first: int = start) -> Output:
                return compute(slice(first, first + images))

            outputs.append(self.fit(part, count - start))
            start += min(self.images, count - start)
        return outputs

    def fit(self, attempt: Callable[[int], Output], count: int) -> Output:
        """``attempt`` of the largest number of images, up to ``count``, that fits into memory.

        Raises DoesNotFit where ``least`` do not fit.
        """
        while True:
            images = min(self.images, count)
            is_last = images // 2 < self.least
            words = "One image does" if images == 1 else f"{images} images do"
            try:
                with fitting(words, self.device, LESS):
                    return attempt(images)
            except DoesNotFit:
                if is_last:
                    raise
            # Behind the handler: the error holds the tensors of its attempt.
            self.images = images // 2
            free_memory()


def free_memory() -> None:
    """Give memory back that torch keeps for later: cuBLAS and cuDNN take theirs beside it."""
    gc.collect()  # a network with recomputed blocks refers to itself
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
