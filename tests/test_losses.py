"""What the tables cannot say of the losses: warnings, a missing dy, broadcasting, extreme numbers, adaptive softmax."""

import numpy as np
import pytest
import torch

import xplayers as xpl
import xplayers.functional as F


def _numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
@pytest.mark.parametrize("shapes", [((2, 1), (2,)), ((3,), (4, 3)), ((2, 1, 3), (4, 1))])
def test_shapes_that_only_broadcast_warn_and_are_right(name, shapes):
    x, target = (_numbers(*s, seed=i) for i, s in enumerate(shapes))
    with pytest.warns(UserWarning, match="broadcast"):
        y, cache = getattr(F, f"{name}_forward")(x, target)
    dx, dtarget, *_ = getattr(F, f"{name}_backward")(None, cache)
    tx, tt = (torch.tensor(a, requires_grad=True) for a in (x, target))
    with pytest.warns(UserWarning):
        ty = getattr(torch.nn.functional, name)(tx, tt)
    ty.backward()
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-13)
    np.testing.assert_allclose(dtarget, tt.grad.numpy(), rtol=1e-13)


def test_the_weight_of_a_broadcast_mean_is_right():
    x, target, weight = _numbers(3), _numbers(4, 3, seed=1), np.abs(_numbers(3, seed=2))
    with pytest.warns(UserWarning, match="broadcast"):
        _, cache = F.mse_loss_forward(x, target, weight=weight)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, target, weight)]
    with pytest.warns(UserWarning):
        torch.nn.functional.mse_loss(tensors[0], tensors[1], weight=tensors[2]).backward()
    for got, t in zip(F.mse_loss_backward(None, cache), tensors, strict=True):
        np.testing.assert_allclose(got, t.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_missing_dy_is_one(reduction):
    loss = xpl.CrossEntropyLoss(reduction=reduction)
    x, labels = _numbers(5, 4), np.arange(5) % 4
    gradients = []
    for dy in (None, 1.0, np.asarray(1.0), loss(x, labels) * 0 + 1):
        loss(x, labels)
        gradients.append(loss.backward(dy))
    assert all(np.array_equal(g, gradients[0]) for g in gradients)


def test_values_are_arrays_without_axes():
    y = xpl.MSELoss()(_numbers(3).astype("float32"), np.zeros(3, "float32"))
    assert type(y) is np.ndarray and y.shape == () and y.dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores_neither_overflow_nor_warn(dtype):
    x = np.asarray([[1e4, -1e4, 9999.5], [-1e4, 1e4, 0.0]], dtype)
    labels, half = np.asarray([1, 1]), np.full(x.shape, 0.5, dtype)
    for loss, target in (
        (xpl.CrossEntropyLoss(), labels),
        (xpl.CrossEntropyLoss(label_smoothing=0.1), labels),
        (xpl.CrossEntropyLoss(), half),
        (xpl.BCEWithLogitsLoss(), half),
        (xpl.BCEWithLogitsLoss(pos_weight=np.full(3, 2.0)), half),
        (xpl.MultiLabelSoftMarginLoss(), half),
        (xpl.SoftMarginLoss(), np.sign(x) * -1),
    ):
        assert np.isfinite(loss(x, target))
        assert np.isfinite(loss.backward()).all()


def test_a_masked_class_costs_nothing():
    x = np.asarray([[0.5, -np.inf, 0.25]])
    loss = xpl.CrossEntropyLoss()
    np.testing.assert_allclose(loss(x, np.asarray([0])), np.log1p(np.exp(-0.25)))
    assert loss.backward()[0, 1] == 0


def test_ignored_rows_are_as_if_they_were_not_there():
    x, labels = _numbers(6, 4), np.asarray([1, -100, 0, -100, 3, 2])
    kept = labels >= 0
    for make in (xpl.NLLLoss, xpl.CrossEntropyLoss, lambda: xpl.CrossEntropyLoss(label_smoothing=0.3)):
        whole, part = make(), make()
        np.testing.assert_allclose(whole(x, labels), part(x[kept], labels[kept]), rtol=1e-14)
        dx = whole.backward()
        np.testing.assert_allclose(dx[kept], part.backward(), rtol=1e-14)
        assert not dx[~kept].any()


@pytest.mark.parametrize("label", [4, -1])
@pytest.mark.parametrize("make", [xpl.NLLLoss, xpl.CrossEntropyLoss, xpl.MultiMarginLoss])
def test_labels_out_of_range_are_refused(make, label):
    x, labels = _numbers(2, 4), np.asarray([1, label])
    with pytest.raises(IndexError):
        make()(x, labels)
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        make()(torch.tensor(x), torch.tensor(labels))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_labels_of_any_integer_kind(dtype):
    x, labels = _numbers(300, 200), (np.arange(300) % 100).astype(dtype)
    expected = torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(labels.astype("int64")))
    np.testing.assert_allclose(xpl.CrossEntropyLoss()(x, labels), expected.numpy(), rtol=1e-14)


def test_a_mean_over_many_halves_does_not_overflow():
    x = np.full((70_000, 2), 1.0, "float16")
    assert abs(float(xpl.CrossEntropyLoss()(x, np.zeros(70_000, int))) - np.log(2)) < 1e-3
    assert float(xpl.MSELoss()(x, x - 2)) == 4.0


def test_pieces_of_linear_cross_entropy_are_torchs():
    options = torch.nn.LinearCrossEntropyOptions
    for kwargs in ({"batch_chunk_size": 3}, {"chunking_method": "aspect_ratio:3"}, {"chunking_method": None}, {}):
        ours = xpl.LinearCrossEntropyOptions(**kwargs)
        for n, features, classes in ((64, 8, 100), (7, 16, 5), (1, 3, 3), (1000, 10, 25)):
            theirs = options(**kwargs)._adjust(n, features, classes, torch.float32)
            assert ours.rows(n, features, classes) == theirs.batch_chunk_size


def test_a_ctc_target_one_after_another_is_the_padded_one():
    x, lengths = _numbers(7, 3, 5), (2, 0, 3)
    padded = np.asarray([[1, 2, 9], [9, 9, 9], [3, 3, 4]])
    flat = np.asarray([1, 2, 3, 3, 4])
    expected, _ = F.ctc_loss_forward(x, padded, (7, 5, 7), lengths, reduction="none")
    for target_lengths in (lengths, np.asarray(lengths)):
        y = F.ctc_loss(x, flat, (7, 5, 7), target_lengths, reduction="none")
        np.testing.assert_allclose(y, expected, rtol=1e-14)


def test_ctc_behind_a_log_softmax_has_the_true_gradient():
    x, v = _numbers(6, 2, 4), _numbers(6, 2, 4, seed=1)
    targets, lengths = np.asarray([[1, 1], [2, 3]]), ((6, 5), (2, 2))

    def value(x):
        return F.ctc_loss(F.log_softmax(x, -1), targets, *lengths, reduction="sum")

    z, cache = F.log_softmax_forward(x, -1)
    _, ctc = F.ctc_loss_forward(z, targets, *lengths, reduction="sum")
    dx = F.log_softmax_backward(F.ctc_loss_backward(None, ctc)[0], cache)
    h = 1e-6
    np.testing.assert_allclose(np.sum(dx * v), (value(x + h * v) - value(x - h * v)) / (2 * h), rtol=1e-7)


def test_the_adaptive_softmax_is_torchs():
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(12, 20, [5, 12], div_value=2.0, head_bias=True).double()
    ours = xpl.AdaptiveLogSoftmaxWithLoss(12, 20, [5, 12], div_value=2.0, head_bias=True)
    ours.load_state_dict(theirs.state_dict())
    ours.to(np)
    x, labels = _numbers(8, 12), np.asarray([0, 19, 5, 4, 12, 11, 3, 7])
    with torch.no_grad():
        np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(torch.tensor(x)).numpy(), rtol=1e-12)
        assert np.array_equal(ours.predict(x), theirs.predict(torch.tensor(x)).numpy())
    t = torch.tensor(x, requires_grad=True)
    answer = theirs(t, torch.tensor(labels))
    answer.loss.backward()
    output, loss = ours(x, labels)
    np.testing.assert_allclose(output, answer.output.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(loss, answer.loss.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.backward(), t.grad.numpy(), rtol=1e-10, atol=1e-14)
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(ours.grads[name], p.grad.numpy(), rtol=1e-10, atol=1e-14)
    for bad in (-1, 20):
        with pytest.raises(IndexError):
            ours(x[:1], np.asarray([bad]))


@pytest.mark.filterwarnings("ignore:reduction")  # torch's, of its own KLDivLoss
@pytest.mark.parametrize(
    "name",
    ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss", "KLDivLoss", "CrossEntropyLoss"],
)
def test_a_float64_target_leaves_the_dtype_to_x(name, backend):
    """What NumPy makes of a list is float64; the value and the gradient are of x's dtype all the same."""
    rng = np.random.default_rng(0)
    x, target = (rng.dirichlet(np.ones(3), 4) for _ in range(2))
    loss = getattr(xpl, name)()
    value = loss(backend.asarray(x, "float32"), backend.asarray(target, "float64"))
    dx = loss.backward()
    assert {str(backend.numpy(a).dtype) for a in (value, dx)} == {"float32"}
    twin = torch.tensor(x, requires_grad=True)
    getattr(torch.nn, name)()(twin, torch.tensor(target)).backward()
    np.testing.assert_allclose(backend.numpy(dx), twin.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernels", [{"mode": "off"}, {"without": ("numba",)}, {}])
def test_a_certain_answer_costs_nothing_less_than_nothing(kernels):
    """Where one number stands out, the logarithm of its share is 0 but for rounding, and never above."""
    x = np.asarray(3.0 + 5.0 * np.eye(500, 40), np.float32) + np.linspace(0, 8, 500, dtype=np.float32)[:, None]
    x[:40] += 20 * np.eye(40, dtype=np.float32)
    with xpl.use_kernels(**kernels):
        y, loss = F.log_softmax(x, 1), F.cross_entropy(x[:40], np.arange(40), reduction="none")
    exact = torch.log_softmax(torch.tensor(x, dtype=torch.float64), 1).numpy()
    assert y.max() <= 0
    np.testing.assert_allclose(y, exact, rtol=0, atol=2e-6)
    assert loss.min() >= 0
    np.testing.assert_allclose(loss, -np.diagonal(exact[:40, :40]), rtol=0, atol=5e-7)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_one_row_that_overflows_leaves_its_block_right(name):
    x = np.random.default_rng(0).standard_normal((300, 30)).astype(np.float32)
    x[7] += 200
    x[8] -= 200
    with xpl.use_kernels(without=("numba",)):
        y = getattr(F, name)(x, 1)
    np.testing.assert_allclose(y, getattr(torch, name)(torch.tensor(x, dtype=torch.float64), 1), rtol=2e-6, atol=1e-7)
