"""What no row of the table says of the look-ups: the weight that max_norm leaves, and pretrained tables."""

import numpy as np
import pytest
import torch

import xplayers as xpl
import xplayers.functional as F


def _table():
    return np.random.default_rng(0).standard_normal((6, 3))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("training", [True, False])
def test_max_norm_leaves_the_weight_that_torch_leaves(norm_type, training):
    index, table = np.array([[0, 2], [2, 5]]), _table()
    for name in ("Embedding", "EmbeddingBag"):
        ours = getattr(xpl, name)(6, 3, max_norm=0.7, norm_type=norm_type).train(training)
        theirs = getattr(torch.nn, name)(6, 3, max_norm=0.7, norm_type=norm_type).double().train(training)
        state = {"weight": torch.tensor(table)}
        theirs.load_state_dict(state)
        ours.load_state_dict({"weight": table})
        y = ours(index)
        np.testing.assert_allclose(y, theirs(torch.tensor(index)).detach().numpy(), rtol=1e-14)
        np.testing.assert_allclose(ours.weight, theirs.weight.detach().numpy(), rtol=1e-14)
        assert not np.array_equal(ours.weight, table)


def test_max_norm_writes_to_no_argument():
    table = _table()
    table.flags.writeable = False
    y, cache = F.embedding_forward(np.array([0, 2]), table, max_norm=0.1)
    np.testing.assert_array_equal(F.embedding_weight(cache)[[0, 2]], y)
    np.testing.assert_array_equal(F.embedding_weight(cache)[[1, 3, 4, 5]], table[[1, 3, 4, 5]])


def test_pretrained_tables_are_frozen_unless_told():
    table = _table()
    index = np.array([[1, 1], [0, 3]])
    for cls in (xpl.Embedding, xpl.EmbeddingBag):
        layer = cls.from_pretrained(table)
        layer.backward(np.ones_like(layer(index)))
        assert "weight" not in layer.grads
        layer = cls.from_pretrained(table, freeze=False)
        layer.backward(np.ones_like(layer(index)))
        assert layer.dw.shape == table.shape
        np.testing.assert_array_equal(layer.weight, table)


def test_the_row_of_padding_starts_at_zero():
    for cls in (xpl.Embedding, xpl.EmbeddingBag):
        layer = cls(5, 3, padding_idx=-2)
        assert not layer.weight[3].any()
        assert layer.weight[2].any()
