"""The contract of encoders: images [B, 3, H, W] -> h [B, features]."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from coview.core.eval_mode import eval_mode
from coview.encoders import EncoderSpec
from coview.testing.contract import run_checks

SIDE = 32
Subject = nn.Module | EncoderSpec


def check_encoder(encoder: Subject) -> None:
    """Run ENCODER_CHECKS on a module or a specification.

    Raises AssertionError with the names of the failed checks.

    >>> check_encoder(EncoderSpec(depth=10, width=1 / 8, stem="small"))
    """
    run_checks(ENCODER_CHECKS, encoder)


def module_of(subject: Subject) -> nn.Module:
    """A new network for each check."""
    return subject.build() if isinstance(subject, EncoderSpec) else copy.deepcopy(subject)


def images(count: int = 4, side: int = SIDE, *, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def features_have_shape(subject: Subject) -> None:
    """[B, features], finite, for several B and sides."""
    encoder = module_of(subject).eval()
    for count, side in ((1, SIDE), (3, SIDE), (2, 2 * SIDE)):
        with torch.no_grad():
            h = encoder(images(count, side))
        assert h.shape == (count, encoder.features), f"{tuple(h.shape)} for {count} images"
        assert torch.isfinite(h).all()


def features_are_deterministic(subject: Subject) -> None:
    """In evaluation mode."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        assert torch.equal(encoder(images()), encoder(images()))


def features_do_not_depend_on_the_batch(subject: Subject) -> None:
    """In evaluation mode the features of an image do not depend on the others."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        alone = torch.cat([encoder(image[None]) for image in images()])
        torch.testing.assert_close(encoder(images()), alone, rtol=1e-3, atol=1e-4)


def different_images_have_different_features(subject: Subject) -> None:
    """The difference is larger than rounding."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        dark, bright = encoder(0.1 * images(seed=0)), encoder(images(seed=1))
    assert (dark - bright).norm() > 1e-5 * bright.norm()


def every_parameter_has_a_gradient(subject: Subject) -> None:
    """The gradient is finite."""
    encoder = module_of(subject).train()
    encoder(images()).square().mean().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"no gradient: {name}"
            assert torch.isfinite(parameter.grad).all(), f"not finite: {name}"


def loaded_state_gives_the_same_features(subject: Subject) -> None:
    """A copy with other values gives the same features after loading the state."""
    encoder = module_of(subject)
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(encoder.state_dict())
    with eval_mode(encoder), eval_mode(other), torch.no_grad():
        assert torch.equal(encoder(images()), other(images()))


def channels_last_gives_the_same_features(subject: Subject) -> None:
    """Up to rounding."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        plain = encoder(images())
        last = encoder.to(memory_format=torch.channels_last)(images())
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4)


def bf16_is_close_to_float32(subject: Subject) -> None:
    """Features under autocast differ by less than a tenth of their norm."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        exact = encoder(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = encoder(images()).float()
    assert (rounded - exact).norm() < 0.1 * exact.norm()


ENCODER_CHECKS: tuple[Callable[[Subject], None], ...] = (
    features_have_shape, features_are_deterministic, features_do_not_depend_on_the_batch,
    different_images_have_different_features, every_parameter_has_a_gradient,
    loaded_state_gives_the_same_features, channels_last_gives_the_same_features,
    bf16_is_close_to_float32,
)  # fmt: skip
