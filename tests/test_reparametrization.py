"""weight_norm and spectral_norm as a layer wears them; the table of cases holds their values and gradients."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations

import xplayers as xpl
from tests import backends
from xplayers.arrays import to_numpy

RNG = np.random.default_rng(0)
X, DY = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 5))
WRAPS = ("weight_norm", "spectral_norm")
G, V = "parametrizations.weight.original0", "parametrizations.weight.original1"


def pair(wrap, backend, layer="Linear", sizes=(4, 5)):
    """Ours and torch's with the same state, both in training mode."""
    twin = getattr(parametrizations, wrap)(getattr(torch.nn, layer)(*sizes).double())
    ours = getattr(xpl.utils, wrap)(getattr(xpl, layer)(*sizes))
    ours.to(like=backend.asarray(0.0))
    ours.load_state_dict(twin.state_dict())
    return ours, twin


def close(ours, twin, rtol=1e-11):
    state = twin.state_dict()
    assert list(ours.state_dict()) == list(state)
    for name, value in ours.state_dict().items():
        np.testing.assert_allclose(to_numpy(value), state[name].numpy(), rtol, rtol, err_msg=name)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_layer_keeps_its_place_and_its_class(wrap):
    layer = xpl.Linear(4, 5)
    before = layer.weight.copy()
    net = xpl.Sequential(layer, xpl.Linear(5, 2))
    assert getattr(xpl.utils, wrap)(layer) is layer and net[0] is layer and isinstance(layer, xpl.Linear)
    assert type(layer).__name__ == "Linear" and layer.title == "Linear(4, 5) '0'"
    assert "weight" not in layer.params and "1.weight" in net.params
    named = {k for k in net.state_dict() if k.startswith("0.parametrizations.weight.")}
    assert {k.rsplit("weight.", 1)[1] for k in named} == (
        {"original0", "original1"} if wrap == "weight_norm" else {"original", "0._u", "0._v"}
    )
    top = np.linalg.norm(before, 2)
    wanted = before if wrap == "weight_norm" else before / top
    np.testing.assert_allclose(layer.weight, wanted, 2e-2 if wrap == "spectral_norm" else 1e-6)


@pytest.mark.parametrize("wrap", WRAPS)
def test_state_dicts_go_both_ways(wrap, backend):
    ours, twin = pair(wrap, backend)
    close(ours, twin, 0)
    other = getattr(parametrizations, wrap)(torch.nn.Linear(4, 5).double())
    other.load_state_dict({k: torch.tensor(to_numpy(v)) for k, v in ours.state_dict().items()})
    close(ours, other, 0)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_training_equals_torchs(wrap, name, backend):
    ours, twin = pair(wrap, backend)
    optimizer = getattr(xpl.optim, name)(ours, lr=0.05, weight_decay=0.1)
    judge = getattr(torch.optim, name)(twin.parameters(), lr=0.05, weight_decay=0.1)
    x, dy = backend.asarray(X), backend.asarray(DY)
    for _ in range(10):
        y = ours(x)
        z = twin(torch.tensor(X))
        np.testing.assert_allclose(to_numpy(y), z.detach().numpy(), 1e-11, 1e-11)
        dx = ours.backward(dy + y)
        z.backward(torch.tensor(DY) + z.detach())
        assert backend.at_home(dx) is None
        optimizer.step()
        judge.step()
        optimizer.zero_grad()
        judge.zero_grad()
    close(ours, twin)
    ours.eval()
    twin.eval()
    for _ in range(2):  # nothing moves in eval
        np.testing.assert_allclose(to_numpy(ours(x)), twin(torch.tensor(X)).detach().numpy(), 1e-11, 1e-11)
    close(ours, twin)


@pytest.mark.parametrize("wrap", WRAPS)
def test_two_passes_in_flight_equal_torchs(wrap, backend):
    """The common pattern of GANs, loss = d(real) - d(fake): each pass has vectors of its own."""
    ours, twin = pair(wrap, backend)
    tapes, leaves = [xpl.Tape(), xpl.Tape()], [torch.tensor(X, requires_grad=True), torch.tensor(2 * X + 1)]
    leaves[1].requires_grad_()
    inputs = [backend.asarray(t.detach().numpy()) for t in leaves]
    answers = [ours(x, tape=tape) for x, tape in zip(inputs, tapes, strict=True)]
    outs = [twin(t) for t in leaves]
    (outs[0] * torch.tensor(DY) - 3 * outs[1] * torch.tensor(DY)).sum().backward()
    for i, scale in ((0, 1.0), (1, -3.0)):  # in the order of the calls, as the tapes are apart
        np.testing.assert_allclose(to_numpy(answers[i]), outs[i].detach().numpy(), 1e-11, 1e-11)
        dx = ours.backward(backend.asarray(scale * DY), tape=tapes[i])
        np.testing.assert_allclose(to_numpy(dx), leaves[i].grad.numpy(), 1e-11, 1e-11)
    for name, p in twin.named_parameters():
        np.testing.assert_allclose(to_numpy(ours.grads[name]), p.grad.numpy(), 1e-11, 1e-11)
    close(ours, twin)


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(("layer", "sizes", "shape"), [("Linear", (4, 5), (3, 4)), ("Conv1d", (4, 5, 2), (2, 4, 6))])
def test_the_derivative_along_a_direction(wrap, layer, sizes, shape):
    """In eval the vectors stand, and the whole map from input and originals is smooth."""
    net, _ = pair(wrap, backends.load("numpy")[0], layer, sizes)
    net.eval()
    x = RNG.standard_normal(shape)
    tape = xpl.Tape()
    y = net(x, tape=tape)
    dy = RNG.standard_normal(y.shape)
    dx = net.backward(dy, tape=tape)
    start = {k: v.copy() for k, v in net.params.items()}
    along = {k: RNG.standard_normal(v.shape) for k, v in start.items()}
    along_x = RNG.standard_normal(shape)
    h = 1e-6
    ends = []
    for sign in (h, -h):
        for key, value in start.items():
            net.params[key] = value + sign * along[key]
        held = {k: v.copy() for k, v in net.state_dict().items()}
        ends.append((net(x + sign * along_x) * dy).sum())
        for key, value in net.state_dict().items():
            np.testing.assert_array_equal(value, held[key])
    slope = (dx * along_x).sum() + sum((net.grads[k] * d).sum() for k, d in along.items())
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), 1e-6)


def test_spectral_norm_finds_the_largest_singular_value():
    layer = xpl.utils.spectral_norm(xpl.Linear(20, 30), n_power_iterations=5, rng=np.random.default_rng(1))
    for _ in range(40):
        layer(np.ones((1, 20)))
    np.testing.assert_allclose(np.linalg.norm(layer.weight, 2), 1.0, 1e-6)


def test_looking_at_the_weight_moves_nothing():
    layer = xpl.utils.spectral_norm(xpl.Linear(4, 5))
    held = {k: v.copy() for k, v in layer.state_dict().items()}
    np.testing.assert_array_equal(layer.weight, layer.weight)
    repr(layer)
    assert layer.title
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, held[key])


def test_assigning_the_weight_sets_what_it_is_computed_from(backend):
    for wrap in WRAPS:
        ours, twin = pair(wrap, backend)
        value = RNG.standard_normal((5, 4))
        ours.weight = backend.asarray(value)
        twin.weight = torch.tensor(value)
        close(ours, twin)
    with pytest.raises(ValueError, match=r"got shape .*4, 5.*; expected shape \(5, 4\)"):
        ours.weight = backend.asarray(value.T)


def test_frozen_originals_get_no_gradient(backend):
    ours, twin = pair("weight_norm", backend)
    ours.freeze(G)
    twin.parametrizations.weight.original0.requires_grad_(False)
    ours(backend.asarray(X))
    ours.backward(backend.asarray(DY))
    twin(torch.tensor(X)).backward(torch.tensor(DY))
    assert set(ours.grads) == {"bias", V}
    np.testing.assert_allclose(to_numpy(ours.grads[V]), twin.parametrizations.weight.original1.grad.numpy(), 1e-11)
    for wrap in WRAPS:
        layer, _ = pair(wrap, backend)
        layer.freeze()
        layer(backend.asarray(X))
        assert layer.backward(backend.asarray(DY)).shape == (3, 4) and not len(layer.grads)
        layer.unfreeze("bias")
        layer(backend.asarray(X))
        layer.backward(backend.asarray(DY))
        assert set(layer.grads) == {"bias"}
    layer = xpl.Linear(4, 5).freeze("weight")  # frozen before: the originals are
    xpl.utils.weight_norm(layer)
    layer(X)
    layer.backward(DY)
    assert set(layer.grads) == {"bias"}
    xpl.utils.remove_weight_norm(layer)
    assert layer._frozen == {"weight"}


def test_the_first_layer_is_spared_its_dx(monkeypatch):
    from xplayers import functional as F

    for wrap in WRAPS:
        net = xpl.Sequential(getattr(xpl.utils, wrap)(xpl.Linear(4, 5)), xpl.Linear(5, 5))
        asked = []
        backward = F.linear_backward

        def spy(dy, cache, *, wanted=None, asked=asked, backward=backward):
            asked.append(wanted)
            return backward(dy, cache, wanted=wanted)

        monkeypatch.setattr(F, "linear_backward", spy)
        net(X)
        assert net.backward(DY, input_grad=False) is None
        monkeypatch.undo()
        assert asked == [(True, True, True), (False, True, True)]


def test_a_layer_in_two_places_and_optimizers_built_too_early(backend):
    layer, _ = pair("weight_norm", backend, sizes=(4, 4))
    net = xpl.Sequential(layer, layer)
    optimizer = xpl.optim.SGD(net, lr=0.1)
    assert [s.key for s in optimizer.param_groups[0]["params"]] == ["0.bias", "0." + G, "0." + V]
    net(backend.asarray(X))
    net.backward(backend.asarray(X))
    tape = xpl.Tape()
    with pytest.raises(ValueError, match="nothing recorded"):
        net.backward(backend.asarray(X))
    net(backend.asarray(X), tape=tape)
    assert len(tape) == 4
    plain = xpl.Linear(4, 5)
    early = xpl.optim.SGD(plain, lr=0.1)
    xpl.utils.weight_norm(plain)
    plain(X)
    plain.backward(DY)
    with pytest.raises(ValueError, match=r"no parameter of it any longer.*Mend: build the optimizer after"):
        early.step()  # rather than leave the weight as it is without a word


@pytest.mark.parametrize("wrap", WRAPS)
def test_removal_leaves_the_weight_as_it_is(wrap, backend):
    ours, twin = pair(wrap, backend)
    for _ in range(2):
        ours(backend.asarray(X))
        twin(torch.tensor(X))
    assert getattr(xpl.utils, f"remove_{wrap}")(ours) is ours and type(ours) is xpl.Linear
    twin.eval()
    torch.nn.utils.parametrize.remove_parametrizations(twin, "weight")
    close(ours, twin)
    assert "parametrizations" not in repr(ours) and list(ours.params) == ["bias", "weight"]
    ours(backend.asarray(X))
    ours.backward(backend.asarray(DY))
    assert set(ours.grads) == {"weight", "bias"}
    ours.weight = backend.asarray(RNG.standard_normal((5, 4)))
    getattr(xpl.utils, wrap)(ours)  # and again
    assert "weight" not in ours.params


def test_two_parameters_of_one_layer():
    layer = xpl.utils.spectral_norm(xpl.utils.weight_norm(xpl.LSTM(4, 5), "weight_ih_l0"), "weight_hh_l0")
    layer(np.ones((2, 3, 4)))
    xpl.utils.remove_weight_norm(layer, "weight_ih_l0")
    assert "weight_ih_l0" in layer.params and "weight_hh_l0" not in layer.params
    y, _ = layer(np.ones((2, 3, 4)))
    layer.backward((np.ones_like(y), None))
    assert "parametrizations.weight_hh_l0.original" in layer.grads and "weight_ih_l0" in layer.grads
    xpl.utils.remove_spectral_norm(layer, "weight_hh_l0")
    assert type(layer) is xpl.LSTM


@pytest.mark.parametrize("wrap", WRAPS)
def test_copies_and_pickles(wrap, backend):
    ours, _ = pair(wrap, backend)
    ours.eval()
    x = backend.asarray(X)
    wanted = to_numpy(ours(x))
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), copy.deepcopy(xpl.Sequential(ours))[0]):
        assert isinstance(other, xpl.Linear) and list(other.state_dict()) == list(ours.state_dict())
        np.testing.assert_array_equal(to_numpy(other(x)), wanted)
        other.params["bias"] = backend.asarray(np.zeros(5))
        other.train()(x)
        other.backward(backend.asarray(DY))
        assert not len(ours.grads)
        np.testing.assert_array_equal(to_numpy(ours(x)), wanted)


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_has_not_settled_settles_with_the_first_array(wrap, backend):
    layer = getattr(xpl.utils, wrap)(xpl.Linear(4, 5))
    y = layer(backend.asarray(X))
    assert backend.at_home(y) is None
    for value in layer.state_dict().values():
        assert backend.at_home(value) is None and "float64" in str(value.dtype)
    layer.to(np, dtype=np.float32)
    assert layer(X.astype(np.float32)).dtype == np.float32
    with pytest.raises(TypeError, match="where bias lives"):
        layer(X)


def test_integers_into_an_embedding(backend):
    layer = xpl.utils.weight_norm(xpl.Embedding(6, 3))
    index = np.array([[0, 5], [2, 2]])
    y = layer(backend.asarray(index))
    assert backend.at_home(y) is None
    np.testing.assert_allclose(to_numpy(y), to_numpy(layer.weight)[index], 1e-6)
    layer.backward(y)
    assert set(layer.grads) == {G, V}


def test_threads_do_not_meet():
    layer, _ = pair("spectral_norm", backends.load("numpy")[0])
    failures = []

    def work(seed):
        x = np.random.default_rng(seed).standard_normal((3, 4))
        for _ in range(50):
            tape = xpl.Tape()
            y = layer(x, tape=tape)
            (w, _cache), *_ = list(tape._records)[-1].cache
            if not np.allclose(y, x @ w.T + layer.bias):
                failures.append(seed)
            if not np.allclose(layer.backward(np.ones_like(y), tape=tape), np.ones_like(y) @ w):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


@pytest.mark.parametrize("wrap", WRAPS)
def test_as_pure_functions_under_jit(wrap):
    import jax

    backend = backends.load("jax")[0]
    ours, twin = pair(wrap, backend)
    held = {k: to_numpy(v) for k, v in ours.state_dict().items()}
    forward, backward = xpl.pure(ours)
    params = ours.state_dict()
    z = twin(torch.tensor(X))
    z.backward(torch.tensor(DY))
    np.testing.assert_allclose(jax.jit(forward)(params, backend.asarray(X)), z.detach().numpy(), 1e-11)
    _, grads = jax.jit(backward)(params, backend.asarray(X), backend.asarray(DY))
    for name, p in twin.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy(), 1e-11, 1e-13)
    for key, value in ours.state_dict().items():
        np.testing.assert_array_equal(to_numpy(value), held[key])


def test_inside_a_composite():
    """A transformer's layer with a reparametrized child, and attention's own weight and its child's."""
    layer = xpl.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    twin = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0).double()
    xpl.utils.weight_norm(layer.linear1)
    xpl.utils.weight_norm(layer.self_attn, "in_proj_weight")
    parametrizations.weight_norm(twin.linear1)
    parametrizations.weight_norm(twin.self_attn, "in_proj_weight")
    layer.load_state_dict(twin.state_dict())
    x = RNG.standard_normal((3, 2, 8))
    leaf = torch.tensor(x, requires_grad=True)
    z = twin(leaf)
    dy = RNG.standard_normal(x.shape)
    z.backward(torch.tensor(dy))
    np.testing.assert_allclose(layer(x), z.detach().numpy(), 1e-10, 1e-10)
    dx = layer.backward(dy)
    np.testing.assert_allclose(dx[0] if isinstance(dx, tuple) else dx, leaf.grad.numpy(), 1e-10, 1e-10)
    for name, p in twin.named_parameters():
        np.testing.assert_allclose(layer.grads[name], p.grad.numpy(), 1e-9, 1e-10, err_msg=name)
