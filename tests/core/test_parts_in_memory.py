"""Smaller parts where memory is short, and one sentence where one image does not fit."""

import gc
import weakref

import pytest
import torch

from coview.core.memory import DoesNotFit, PartSize, fitting, free_memory, memory_cause

CUDA = torch.device("cuda", 1)


def within(limit, seen, error=torch.OutOfMemoryError):
    """The numbers of a slice, of which no more than ``limit`` fit."""

    def compute(part):
        seen.append((part.start, part.stop))
        if part.stop - part.start > limit:
            raise error("CUDA error: out of memory")
        return list(range(100))[part]

    return compute


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 64])
def test_every_image_is_computed_once_in_its_place(limit, error):
    outputs = PartSize(8).map(within(limit, [], error), 21)
    assert [number for part in outputs for number in part] == list(range(21))


def test_a_part_is_halved_and_computed_again_and_later_ones_have_that_size():
    seen, size = [], PartSize(8)
    size.map(within(3, seen), 11)
    assert seen == [(0, 8), (0, 4), (0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 11)]
    seen.clear()
    size.map(within(3, seen), 3)
    assert seen == [(0, 2), (2, 3)]


def test_one_image_that_does_not_fit_is_one_sentence():
    with pytest.raises(DoesNotFit) as error:
        PartSize(4, device=CUDA).map(within(0, []), 5)
    assert str(error.value) == (
        "One image does not fit into the memory of cuda:1; use smaller images, a smaller encoder, "
        "or `device` cpu."
    )
    with pytest.raises(DoesNotFit, match=r"^4 images do not fit into memory \(CUDA error: out of"):
        PartSize(9, least=4).map(within(0, [], RuntimeError), 9)


def test_an_attempt_leaves_no_tensor_behind():
    """In the handler of its error, the next would have less memory than the first."""
    left = []

    def compute(part):
        assert not [gone for gone in left if gone() is not None]
        tensor = torch.ones(part.stop - part.start)
        left.append(weakref.ref(tensor))
        if len(tensor) > 1:
            raise torch.OutOfMemoryError
        return float(tensor)

    gc.disable()
    try:
        assert PartSize(8).map(compute, 8) == [1.0] * 8
    finally:
        gc.enable()
    assert len(left) == 11


def test_another_error_is_passed_on():
    calls = []

    def compute(part):
        calls.append(part)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        PartSize(8).map(compute, 8)
    assert len(calls) == 1
    with pytest.raises(RuntimeError, match="shapes"), fitting("One image does", None, "stop."):
        raise RuntimeError("shapes differ")


def test_what_is_an_error_of_memory():
    for words in (
        "CUDA error: out of memory", "CUDA driver error: out of memory",
        "MPS backend out of memory (MPS allocated: 8 GB)", "CUBLAS_STATUS_ALLOC_FAILED when",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: not enough memory: you",
        "GET was unable to find an engine to execute this computation",
    ):  # fmt: skip
        assert memory_cause(RuntimeError(f"{words}\nCompile with")) == f" ({words})"
    assert memory_cause(torch.OutOfMemoryError("CUDA out of memory. Tried")) == ""
    assert memory_cause(RuntimeError("workers are out of shared memory")) is None
    free_memory()
