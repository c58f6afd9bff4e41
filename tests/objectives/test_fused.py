"""The Triton kernels equal the tiles, in Triton's interpreter, and compile for a GPU without one."""

import math
import os
import re
import subprocess
import sys

import pytest
import torch
from every_objective import AT_TEMPERATURE

from coview.objectives import nt_xent
from coview.objectives.log_partition import FUSED_LOSS, fused_kernels, log_partition

triton = pytest.importorskip("triton")
TEMPERATURES = [0.005, 0.1, 1.0]
BACKEND = "coview.objectives.log_partition.has_triton_backend"


interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1",
    reason="run by test_fused_kernels_in_the_interpreter in a process of its own",
)


@pytest.mark.skipif(
    tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7),
    reason="the interpreter of this Triton turns arrays into numbers, which NumPy refuses",
)
def test_fused_kernels_in_the_interpreter():
    """Triton reads TRITON_INTERPRET when it is imported, which torch may have done long ago."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "not interpreter and not compile", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= 40


@pytest.fixture
def fused(monkeypatch):
    """Every loss goes through the kernels; how often they were launched."""
    from coview.objectives import fused

    launches = []
    launch = fused._launch

    def counted(kernel, *arguments, **flags):
        launches.append(kernel)
        launch(kernel, *arguments, **flags)

    monkeypatch.setattr(fused, "_launch", counted)
    monkeypatch.setattr(BACKEND, lambda device: True)
    monkeypatch.setenv(FUSED_LOSS, "1")
    return launches


def unit(rows, width, seed):
    draws = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(draws, dim=1)


def compared(function, rows, launches):
    """(value, gradients) with the kernels in float32 and with the tiles in float64."""
    found = []
    for dtype in (torch.float32, torch.float64):
        given = [r.to(dtype).requires_grad_() for r in rows]
        value = function(*given)
        weights = torch.arange(1, value.numel() + 1, dtype=dtype).cos().view(value.shape)
        gradients = torch.autograd.grad((value * weights).sum(), given)
        found.append([value.detach(), *gradients])
    for ours, exact in zip(*found, strict=True):
        size = exact.nan_to_num(neginf=0).abs().max().clamp_min(1)
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=float(3e-5 * size))
    assert launches


@interpreted
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("rows", "width"), [(1, 3), (2, 16), (64, 20), (131, 5)])
def test_fused_log_partition_equals_the_tiles(rows, width, temperature, fused):
    compared(lambda z: log_partition(z, temperature), [unit(rows, width, 0)], fused)
    assert len(fused) == 2


@interpreted
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize(("anchors", "candidates"), [(1, 1), (70, 33), (5, 130)])
def test_fused_log_partition_of_two_sets_equals_the_tiles(
    anchors, candidates, excluded, temperature, fused
):
    own = torch.arange(anchors) % candidates if excluded else None
    rows = [unit(anchors, 12, 0), unit(candidates, 12, 1)]
    compared(lambda a, c: log_partition(a, temperature, candidates=c, own=own), rows, fused)
    assert len(fused) == 3


@interpreted
def test_fused_empty_sides_are_tiles(fused):
    none, some = torch.zeros(0, 4), unit(3, 4, 0)
    assert log_partition(none, 0.1, candidates=some).shape == (0,)
    assert log_partition(some, 0.1, candidates=none).tolist() == [-math.inf] * 3


# Launches of one loss and its gradient: the rest goes through the tiles.
LAUNCHES = {
    "nt_xent": 2, "sup_con out": 2, "sup_con in": 2, "sup_con marks": 2, "info_nce": 3,
}  # fmt: skip


@interpreted
@pytest.mark.parametrize("name", sorted(AT_TEMPERATURE))
def test_fused_objectives_equal_the_tiles(name, fused):
    rows = [unit(9, 6, seed) for seed in (0, 1)]
    found = []
    for dtype in (torch.float32, torch.float64):
        views = [view.detach().to(dtype).requires_grad_() for view in rows]
        loss = AT_TEMPERATURE[name](views, 0.1)
        loss.backward()
        found.append([loss.detach(), *(view.grad for view in views)])
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5)
    assert len(fused) == LAUNCHES.get(name, 0)


@interpreted
def test_fused_kernels_read_what_is_not_contiguous(fused):
    rows = unit(24, 20, 0)[::2, ::2].div(0.7)
    own = torch.arange(24)[::2] // 2
    exact = log_partition(rows.double(), 0.1, candidates=rows.double(), own=own)
    found = log_partition(rows, 0.1, candidates=rows, own=own)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    assert len(fused) == 1


@interpreted
def test_fused_learned_temperature(fused):
    views = [unit(9, 6, seed) for seed in (0, 1)]
    found = []
    for dtype in (torch.float32, torch.float64):
        tau = torch.tensor(0.1, dtype=dtype, requires_grad=True)
        nt_xent([view.to(dtype) for view in views], temperature=tau).backward()
        found.append(tau.grad.item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert len(fused) == 2


def test_fused_kernels_are_chosen_where_they_suit_alone(monkeypatch):
    rows = unit(4, 8, 0)
    monkeypatch.setenv(FUSED_LOSS, "1")
    assert fused_kernels(rows, None) is None  # on a CPU
    monkeypatch.setattr(BACKEND, lambda device: True)
    assert fused_kernels(rows, None) is not None
    assert fused_kernels(rows.double(), None) is None
    assert fused_kernels(rows, lambda a, c: rows) is None
    assert fused_kernels(unit(4, 257, 0), None) is None
    monkeypatch.delenv(FUSED_LOSS)
    assert fused_kernels(rows, None) is None


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from coview.objectives import fused
from coview.objectives.log_partition import MAX_FUSED_WIDTH

COMMON = dict(rows="*fp32", keys="*fp32", own="*i64", scale="fp32", num_rows="i32", num_keys="i32")
for name, more, own, flags in (
    ("_partition_kernel", dict(lse="*fp32"), True, dict()),
    ("_gradient_kernel", dict(gradient="*fp32", lse="*fp32", g="*fp32"), True, dict(BY_ROW=True, BY_KEY=True)),
    ("_gradient_kernel", dict(gradient="*fp32", lse="*fp32", g="*fp32"), False, dict(BY_ROW=False, BY_KEY=True)),
):
    kernel = getattr(fused, name)
    constants = dict(WIDTH=MAX_FUSED_WIDTH, PADDED=MAX_FUSED_WIDTH, HAS_OWN=own, BLOCK=fused.BLOCK, **flags)
    types = COMMON | more | dict.fromkeys(constants, "constexpr")
    signature = {argument: types[argument] for argument in kernel.arg_names}
    built = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32))
    assert len(built.asm["cubin"]) > 1000
    print(name, built.metadata.shared)
"""


def test_fused_kernels_compile_for_a_gpu_that_is_not_here():
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # At the widest rows, below the 227 KiB of shared memory that a block may have.
    sizes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(sizes) == 3
    assert max(sizes) < 227 * 1024


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_fused_loss_on_the_device_equals_the_tiles(temperature, monkeypatch):
    views = [unit(1000, 128, seed) for seed in (0, 1)]
    found = []
    for fused_loss, dtype in (("1", torch.float32), ("0", torch.float64)):
        monkeypatch.setenv(FUSED_LOSS, fused_loss)
        given = [view.to("cuda", dtype).requires_grad_() for view in views]
        nt_xent(given, temperature=temperature).backward()
        found.append([view.grad.double() for view in given])
    for ours, exact in zip(*found, strict=True):
        # The rounding of a logit is that of 1 / temperature.
        share = 3e-5 * max(1, 0.01 / temperature)
        torch.testing.assert_close(ours, exact, rtol=0, atol=float(share * exact.abs().max()))
