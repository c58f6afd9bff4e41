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
    """Every check of ENCODER_CHECKS, on a module or a specification; names those that fail."""
    run_checks(ENCODER_CHECKS, encoder)


def module_of(subject: Subject) -> nn.Module:
    """A network of its own for each check."""
    return subject.build() if isinstance(subject, EncoderSpec) else copy.deepcopy(subject)


def images(count: int = 4, side: int = SIDE, *, seed: int = 0) -> Tensor:
    """Random images in [0, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def gives_one_row_an_image(subject: Subject) -> None:
    """[B, features], finite, for several B and sides."""
    encoder = module_of(subject).eval()
    for count, side in ((1, SIDE), (3, SIDE), (2, 2 * SIDE)):
        with torch.no_grad():
            h = encoder(images(count, side))
        assert h.shape == (count, encoder.features), f"{tuple(h.shape)} for {count} images"
        assert torch.isfinite(h).all()


def is_the_same_twice(subject: Subject) -> None:
    """In evaluation mode."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        assert torch.equal(encoder(images()), encoder(images()))


def sees_one_image_at_a_time(subject: Subject) -> None:
    """In evaluation mode the features of an image do not depend on the others."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        alone = torch.cat([encoder(image[None]) for image in images()])
        torch.testing.assert_close(encoder(images()), alone, rtol=1e-3, atol=1e-4)


def tells_images_apart(subject: Subject) -> None:
    """Other images, other features, beyond rounding."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        dark, bright = encoder(0.1 * images(seed=0)), encoder(images(seed=1))
    assert (dark - bright).norm() > 1e-5 * bright.norm()


def reaches_every_parameter(subject: Subject) -> None:
    """Each has a finite gradient."""
    encoder = module_of(subject).train()
    encoder(images()).square().mean().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"no gradient: {name}"
            assert torch.isfinite(parameter.grad).all(), f"not finite: {name}"


def goes_on_from_its_state(subject: Subject) -> None:
    """A copy with other values that loads the state computes the same."""
    encoder = module_of(subject)
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(encoder.state_dict())
    with eval_mode(encoder), eval_mode(other), torch.no_grad():
        assert torch.equal(encoder(images()), other(images()))


def has_one_result_in_either_layout(subject: Subject) -> None:
    """Channels last changes nothing but the speed."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        plain = encoder(images())
        last = encoder.to(memory_format=torch.channels_last)(images())
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-4)


def bf16_is_near(subject: Subject) -> None:
    """Features under autocast lie within a tenth of their size of those of float32."""
    encoder = module_of(subject).eval()
    with torch.no_grad():
        exact = encoder(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = encoder(images()).float()
    assert (rounded - exact).norm() < 0.1 * exact.norm()


ENCODER_CHECKS: tuple[Callable[[Subject], None], ...] = (
    gives_one_row_an_image,
    is_the_same_twice,
    sees_one_image_at_a_time,
    tells_images_apart,
    reaches_every_parameter,
    goes_on_from_its_state,
    has_one_result_in_either_layout,
    bf16_is_near,
)
