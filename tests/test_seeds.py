"""The numbers that the posts print, from their own construction, hold to the digits printed."""

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.compare import SEEDS, affine, batch_norm, convolution, convolution_by_channels, matmul
from tests.oracle import share_of_tolerance

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text())
SERIES = [("affine", affine, 1e-6), ("conv2d", convolution, 1e-7), ("batch_norm1d", batch_norm, 1e-8)]
SERIES += [("matmul", matmul, 1e-8)]


def published(name):
    """{array: values} of one post."""
    (entry,) = (v for k, v in PUBLISHED.items() if k.startswith(name))
    return {k: np.reshape(v["values"], v["shape"]) for k, v in entry.items()}


@pytest.mark.parametrize(("name", "seed", "unit"), SERIES, ids=[s[0] for s in SERIES])
def test_published_numbers(name, seed, unit, backend):
    expected = published(name)
    ours = {pair.name: backend.numpy(pair.ours) for pair in seed(backend.asarray)}
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        # half a unit of the last digit printed; the convolution's weights were float32 first, so one unit there
        np.testing.assert_allclose(ours[key].reshape(value.shape), value, rtol=0, atol=unit * 0.5001, err_msg=key)


def test_published_numbers_channel_by_channel(backend):
    expected = published("conv2d")
    ours = {pair.name: backend.numpy(pair.ours) for pair in convolution_by_channels(backend.asarray)}
    for key in ("out", "db"):
        np.testing.assert_allclose(ours[key], expected[key], rtol=0, atol=1e-7)
    for key in ("dx", "dw"):
        whole = np.concatenate([ours[f"{key} of channel {c}"] for c in range(3)], axis=1)
        np.testing.assert_allclose(whole, expected[key], rtol=0, atol=1e-7)


@pytest.mark.parametrize("title", SEEDS)
def test_seeds_agree_with_torch(title, backend, score):
    for pair in SEEDS[title](backend.asarray):
        share = share_of_tolerance(backend.numpy(pair.ours), pair.torchs, "float64")
        score(share, 1)
        assert share <= 1, f"{pair.name}: {share:.3g} of its tolerance"
