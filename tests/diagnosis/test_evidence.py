"""How often chance alone looks like a gain."""

import numpy as np
import pytest

from coview.diagnosis.evidence import has_risen


@pytest.mark.parametrize("images", [36, 128, 1000])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_chance_alone_rises_in_less_than_one_of_a_hundred_runs(images, share):
    """As for shuffled labels: two networks with the same true accuracy, tested on new draws."""
    before, now = np.random.default_rng(images).binomial(images, share, (2, 20_000)) / images
    rises = [has_risen(one, two, images) for one, two in zip(before, now, strict=True)]
    assert np.mean(rises) < 0.01


def test_the_error_of_one_share_alone_would_be_wrong_far_more_often():
    """Two standard errors of the first share, as it once was: one run of ten."""
    images, share = 128, 0.1
    before, now = np.random.default_rng(0).binomial(images, share, (2, 20_000)) / images
    assert np.mean(now - before > 2 * np.sqrt(share * (1 - share) / images)) > 0.06


def test_a_real_gain_is_seen():
    assert has_risen(0.15, 0.43, 128)
    assert has_risen(0.0, 0.1, 128)
    assert not has_risen(0.43, 0.15, 128)
    assert not has_risen(float("nan"), 0.9, 128)
    assert has_risen(0.2, 0.4, 1000)
