"""The settings under which a GPU repeats its results, which need no GPU to be set."""

from types import SimpleNamespace

import pytest
import torch

from coview.core.eval_mode import eval_mode
from coview.core.repeatable import any_algorithm, repeatable

CUDA = torch.device("cuda")


def settings():
    cudnn = torch.backends.cudnn
    return {
        "convolutions": cudnn.conv.fp32_precision,
        "products": torch.backends.cuda.matmul.fp32_precision,
        "benchmark": cudnn.benchmark,
        "cudnn": cudnn.deterministic,
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "lenient": torch.is_deterministic_algorithms_warn_only_enabled(),
        "filled": torch.utils.deterministic.fill_uninitialized_memory,
    }


def test_inside_float32_is_float32_and_algorithms_repeat():
    with repeatable(CUDA):
        assert settings() == {
            "convolutions": "ieee", "products": "ieee", "benchmark": False, "cudnn": True,
            "algorithms": True, "lenient": True, "filled": False,
        }  # fmt: skip


def test_settings_come_back_after_an_error_too():
    before = settings()
    with pytest.raises(ZeroDivisionError), repeatable(CUDA):
        raise ZeroDivisionError
    assert settings() == before


def test_a_strict_setting_of_the_caller_stays():
    torch.use_deterministic_algorithms(True)
    try:
        with repeatable(CUDA):
            assert not settings()["lenient"]
            assert settings()["filled"]
        assert settings()["algorithms"]
    finally:
        torch.use_deterministic_algorithms(False)


class OnGPU(torch.nn.Module):
    """Says that its parameter is on a GPU."""

    def parameters(self, recurse=True):
        return iter([SimpleNamespace(device=CUDA)])


def test_a_network_in_evaluation_mode_computes_as_in_training():
    """Else step 0 and the export would have TF32 where the run has float32."""
    before = settings()
    with eval_mode(torch.nn.Linear(1, 1)):
        assert settings() == before
    with eval_mode(torch.nn.Linear(1, 1), OnGPU()):
        evaluated = settings()
        with repeatable(CUDA):
            assert settings() == evaluated != before
    assert settings() == before


@pytest.mark.parametrize("name", ["cpu", "meta", "mps"])
def test_nothing_changes_for_another_device(name):
    before = settings()
    with repeatable(torch.device(name)):
        assert settings() == before


def test_a_part_may_take_any_algorithm():
    is_on = torch.are_deterministic_algorithms_enabled
    with repeatable(CUDA):
        with pytest.raises(ZeroDivisionError), any_algorithm(CUDA):
            assert not is_on()
            assert torch.backends.cudnn.deterministic
            raise ZeroDivisionError
        assert is_on()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        with any_algorithm(torch.device("cpu")):
            assert is_on()
    with any_algorithm(CUDA):
        assert not is_on()
    assert not is_on()


def test_an_own_strict_setting_holds_for_every_part():
    torch.use_deterministic_algorithms(True)
    try:
        with any_algorithm(CUDA):
            assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
