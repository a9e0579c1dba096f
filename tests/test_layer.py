"""What the base class promises: tapes, gradients, settling, state, modes, copies, threads, purity."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch

import xplayers as xpl
from tests.cases import Bad, f32, f64
from tests.test_bad_calls import assert_refused
from xplayers import functional as F
from xplayers.layers.layer import Layer, record

RNG = np.random.default_rng(0)


def net():
    return xpl.Sequential(
        xpl.Affine(4, 6), xpl.Residual(xpl.Sequential(xpl.Affine(6, 6))), xpl.Concat(xpl.Affine(6, 2), xpl.Affine(6, 3))
    )


def grads(layer):
    return {k: np.array(v) for k, v in layer.grads.items()}


def equal(a, b):
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k])


X, DY = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 5))


class TestTapes:
    def test_a_layer_used_twice_in_one_pass(self):
        """Tied weights: y = A(A(x)), against the same weight in torch."""
        shared = xpl.Affine(4, 4)
        twice = xpl.Sequential(shared, shared)
        y = twice(X)
        dx = twice.backward(DY[:, :4])
        weight, bias = (torch.tensor(np.array(p), requires_grad=True) for p in (shared.weight, shared.bias))
        x = torch.tensor(X, requires_grad=True)
        expected = torch.nn.functional.linear(torch.nn.functional.linear(x, weight, bias), weight, bias)
        expected.backward(torch.tensor(DY[:, :4]))
        np.testing.assert_allclose(y, expected.detach(), rtol=1e-13)
        np.testing.assert_allclose(dx, x.grad, rtol=1e-12)
        np.testing.assert_allclose(shared.grads["weight"], weight.grad, rtol=1e-12)
        np.testing.assert_allclose(shared.grads["bias"], bias.grad, rtol=1e-12)

    def test_own_tape_and_given_tape_agree(self):
        layer = net()
        layer(X)
        dx = layer.backward(DY)
        own = grads(layer)
        layer.zero_grad()
        tape = xpl.Tape()
        layer(X, tape=tape)
        np.testing.assert_array_equal(layer.backward(DY, tape=tape), dx)
        equal(own, grads(layer))

    def test_the_last_call_wins(self):
        layer = xpl.Affine(4, 5)
        layer(X)
        layer(2 * X)
        layer.backward(DY)
        np.testing.assert_allclose(layer.dw, DY.T @ (2 * X))

    def test_a_refused_dy_consumes_nothing(self):
        layer = net()
        layer(X)
        with pytest.raises(ValueError, match=r"got shape \(3, 4\); expected shape \(3, 5\)"):
            layer.backward(DY[:, :4])
        assert not layer.grads
        assert layer.backward(DY).shape == X.shape
        tape = xpl.Tape()
        layer(X, tape=tape)
        size = len(tape)
        with pytest.raises(TypeError, match="float32"):
            layer.backward(DY.astype(np.float32), tape=tape)
        assert len(tape) == size

    def test_a_second_backward_says_how_to_pass_a_tape(self):
        layer = net()
        layer(X)
        layer.backward(DY)
        with pytest.raises(ValueError, match=r"nothing recorded.*Tape\(\)"):
            layer.backward(DY)

    def test_out_of_order_names_both_layers(self):
        layer = net()
        tape = xpl.Tape()
        layer(X, tape=tape)
        with pytest.raises(ValueError, match=r"Affine\(4, 6\) '0'.*record of Concat\(.*'2' on top.*mirrors"):
            layer[0].backward(f64(3, 6), tape=tape)
        assert len(tape) == 5

    def test_a_tape_is_true_counted_copied_and_printed(self):
        tape = xpl.Tape()
        assert tape
        assert len(tape) == 0
        layer = xpl.Affine(4, 5)
        layer(X, tape=tape)
        assert tape.nbytes == X.nbytes + 5 * 4 * 8
        assert "Affine(4, 5)" in repr(tape)
        again = tape.copy()
        np.testing.assert_array_equal(layer.backward(DY, tape=tape), layer.backward(DY, tape=again))
        assert list(xpl.Tape()) == []

    def test_a_call_inside_a_forward_needs_the_tape(self):
        class Forgetful(Layer):
            def __init__(self):
                super().__init__()
                self.inner = xpl.Affine(4, 5)

            def forward(self, x, *, tape=None):
                return self.inner(x)

            def backward(self, dy, *, tape):
                return self.inner.backward(dy)

        layer = Forgetful()
        with pytest.raises(ValueError, match=r"no tape= inside another layer's forward.*self\.inner\.forward"):
            layer(X)
        with pytest.raises(ValueError, match="no tape="):
            layer.eval()(X)
        with pytest.raises(ValueError, match=r"no tape= inside another layer's backward"):
            layer.backward(DY, tape=xpl.Tape())

    def test_the_tape_goes_by_its_name(self):
        with pytest.raises(TypeError, match=r"'argument 2': got a Tape.*tape=tape"):
            xpl.Affine(4, 5)(X, xpl.Tape())

    def test_records_left_over_are_an_error(self):
        class Sloppy(xpl.Affine):
            def forward(self, x, *, tape=None):
                record(tape, self, ())
                return super().forward(x, tape=tape)

        layer = Sloppy(4, 5)
        layer(X)
        with pytest.raises(ValueError, match="1 records left"):
            layer.backward(DY)

    def test_one_tape_carries_net_and_loss(self):
        layer, tape = net(), xpl.Tape()
        loss = xpl.MSELoss()
        value = loss(layer(X, tape=tape), DY, tape=tape)
        dx = layer.backward(loss.backward(tape=tape), tape=tape)
        assert value.shape == ()
        assert dx.shape == X.shape
        assert len(tape) == 0


class TestGradients:
    def test_they_add_up_until_cleared(self):
        layer = net()
        for _ in range(2):
            layer(X)
            layer.backward(DY)
        twice = grads(layer)
        layer.zero_grad()
        assert dict(layer.grads) == {}
        layer(X)
        layer.backward(DY)
        for k, g in layer.grads.items():
            np.testing.assert_allclose(2 * g, twice[k], rtol=1e-13)

    def test_frozen_parameters_get_none_and_cost_none(self):
        layer = net()
        layer.freeze("0.weight", "1.body.0.bias")
        layer(X)
        layer.backward(DY)
        assert "0.weight" not in layer.grads
        assert "1.body.0.bias" not in layer.grads
        assert "0.bias" in layer.grads
        layer.freeze()
        layer.zero_grad()
        layer(X)
        assert layer.backward(DY).shape == X.shape
        assert not layer.grads
        layer.unfreeze("0.weight")
        layer(X)
        layer.backward(DY)
        assert list(layer.grads) == ["0.weight"]

    def test_input_grad_spares_the_first_layer(self, monkeypatch):
        layer, wanted = net(), []
        backward = F.linear_backward

        def spy(dy, cache, *, wanted=None):
            seen.append(wanted)
            return backward(dy, cache, wanted=wanted)

        seen = wanted
        monkeypatch.setattr(F, "linear_backward", spy)
        layer(X)
        layer.backward(DY)
        full = grads(layer)
        assert all(w[0] for w in wanted)
        wanted.clear()
        layer.zero_grad()
        layer(X)
        assert layer.backward(DY, input_grad=False) is None
        equal(full, grads(layer))
        assert [w[0] for w in wanted] == [True] * 3 + [False]

    @pytest.mark.parametrize("first", [xpl.Residual(xpl.Affine(4, 4)), xpl.Concat(xpl.Affine(4, 2), xpl.Affine(4, 3))])
    def test_input_grad_with_branches_first(self, first):
        x, layer = X, xpl.Sequential(first)
        y = layer(x)
        layer.backward(np.ones_like(y))
        full = grads(layer)
        layer.zero_grad()
        layer(x)
        assert layer.backward(np.ones_like(y), input_grad=False) is None
        equal(full, grads(layer))

    def test_a_missing_gradient_is_an_authors_mistake(self):
        class Lossy(xpl.Affine):
            def backward(self, dy, *, tape):
                dx, dweight, _ = F.linear_backward(dy, tape.pop(self))
                self.accumulate(weight=dweight, bias=None)
                return dx

        layer = Lossy(4, 5)
        layer(X)
        with pytest.raises(ValueError, match=r"'bias': got no gradient"):
            layer.backward(DY)

    def test_a_misshapen_gradient_is_an_authors_mistake(self):
        layer = xpl.Affine(4, 5)
        with pytest.raises(ValueError, match=r"'weight': got a gradient of shape \(4, 5\)"):
            layer.accumulate(weight=f64(4, 5))

    def test_live_mappings(self):
        layer = net()
        layer.params["0.weight"] = f64(6, 4)
        assert layer[0].weight[0, 0] == 1.0
        layer.grads["0.weight"] = f64(6, 4)
        assert layer[0].dw is layer.grads["0.weight"]
        del layer.grads["0.weight"]
        assert "0.weight" not in layer.grads
        assert len(layer.params) == 8
        assert "1.body.0.weight (6, 6)" in repr(layer.params)
        for bad in ("0.w", "7.weight", "weight"):
            with pytest.raises(KeyError):
                layer.params[bad]
            with pytest.raises(ValueError, match=r"1\.body\.0\.weight"):
                layer.params[bad] = f64(1)
        with pytest.raises(TypeError, match="cannot be deleted"):
            del layer.params["0.weight"]

    def test_a_shared_layer_has_both_names_and_one_slot(self):
        shared = xpl.Affine(4, 4)
        layer = xpl.Sequential(shared, shared)
        assert list(layer.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
        assert [k for k, _, _ in layer.parameter_slots()] == ["0.weight", "0.bias"]
        layer(X)
        layer.backward(DY[:, :4])
        assert layer.grads["0.weight"] is layer.grads["1.weight"]


class TestSettling:
    def test_parameters_are_born_as_numpy_float32(self):
        layer = xpl.Affine(4, 5)
        assert isinstance(layer.weight, np.ndarray)
        assert layer.weight.dtype == np.float32

    def test_the_first_array_settles_them(self, backend):
        for dtype in ("float32", "float64"):
            layer = xpl.Affine(4, 5)
            y = layer(backend.asarray(X, dtype))
            assert backend.at_home(layer.weight) is None
            assert str(backend.numpy(layer.weight).dtype) == dtype
            assert backend.at_home(y) is None

    def test_then_another_place_is_refused(self, backend):
        layer = xpl.Affine(4, 5)
        layer(backend.asarray(X, "float64"))
        with pytest.raises(TypeError, match=r"float32.*expected .*float64.*to\(like=x\)"):
            layer(backend.asarray(X, "float32"))
        if not backend.name.startswith("numpy"):
            with pytest.raises(TypeError, match=r"numpy float64.*layer.to\(like=x\)"):
                layer(X)
        layer.to(like=backend.asarray(X, "float32"))
        layer(backend.asarray(X, "float32"))
        layer.backward(backend.asarray(DY, "float32"))
        layer.to(xp=np)
        assert isinstance(layer.weight, np.ndarray)
        assert isinstance(layer.dw, np.ndarray)

    def test_later_calls_look_at_every_array(self, backend):
        x, y = (backend.asarray(X, "float32") for _ in range(2))
        loss = xpl.MSELoss()
        for _ in range(2):
            loss(x, y)
        with pytest.raises(TypeError, match="an array"):
            loss(x, [1.0])
        if not backend.name.startswith("numpy"):
            with pytest.raises(TypeError, match="library"):
                loss(x, X)

    def test_devices_do_not_mix(self):
        import array_api_strict as strict

        devices = strict.Device("CPU_DEVICE"), strict.Device("device1")
        here, there = (strict.asarray(X, device=d) for d in devices)
        layer = xpl.Affine(4, 5)
        layer(here)
        with pytest.raises(TypeError, match=r"device1.*to\(like=x\)"):
            layer(there)
        layer.to(device=devices[1])
        layer(there)
        with pytest.raises(TypeError, match="dy"):
            layer.backward(strict.asarray(DY, device=devices[0]))

    def test_construction_in_a_place(self):
        layer = xpl.Affine(4, 5, xp=torch, dtype=torch.float64)
        assert layer.weight.dtype == torch.float64
        with pytest.raises(TypeError, match="torch float64"):
            layer(X)
        with pytest.raises(TypeError, match="array library"):
            xpl.Affine(4, 5, xp=3)

    def test_arrays_given_by_name_pass_the_same_door(self):
        layer, attention = xpl.Affine(4, 5), xpl.MultiheadAttention(4, 2)
        np.testing.assert_array_equal(layer(x=X), layer(X))
        np.testing.assert_array_equal(attention(query=X, key=X, value=X)[0], attention(X, X, X)[0])
        assert layer.weight.dtype == attention.in_proj_weight.dtype == np.float64
        with pytest.raises(TypeError, match=r"'x': got an array in numpy float32.*to\(like=x\)"):
            layer(x=X.astype(np.float32))
        with pytest.raises(TypeError, match=r"'x': got a list"):
            layer(x=X.tolist())
        with pytest.raises(TypeError, match=r"'attn_mask': got an array in torch float64"):
            attention(X, X, X, attn_mask=torch.zeros(3, 3, dtype=torch.float64))

    def test_sizes_may_be_numpys_integers(self):
        layer, table = xpl.Affine(np.prod((2, 2)), np.int32(5)), xpl.Embedding(np.arange(3).max() + 1, 4)
        assert (repr(layer), repr(table)) == ("Affine(4, 5)", "Embedding(3, 4)")
        assert layer(X).shape == (3, 5)

    def test_a_dtype_is_named_in_any_library(self):
        assert xpl.Affine(4, 5, xp=torch, dtype="float64").weight.dtype == torch.float64
        assert xpl.Affine(4, 5).to(torch, dtype="float16").weight.dtype == torch.float16
        assert xpl.Affine(4, 5).to(dtype="f8").weight.dtype == np.float64

    def test_an_assigned_torch_parameter_leaves_autograd_behind(self):
        layer = xpl.Affine()
        layer.weight, layer.bias = torch.nn.Parameter(torch.ones(5, 4)), torch.nn.Parameter(torch.ones(5))
        assert not layer(torch.ones(3, 4)).requires_grad

    def test_integers_decide_library_and_device_alone(self):
        class Lookup(Layer):
            def __init__(self):
                super().__init__()
                self.parameter("table", f32(3, 2))

            def forward(self, x, *, tape=None):
                return F.embedding(x, self.table)

        layer = Lookup()
        y = layer.forward(torch.tensor([0, 2]))
        assert y.dtype == torch.float32

    def test_initial_values_are_the_same_everywhere(self):
        xpl.manual_seed(3)
        first = xpl.Affine(4, 5).weight
        xpl.manual_seed(3)
        np.testing.assert_array_equal(xpl.Affine(4, 5).weight, first)
        a = xpl.Affine(4, 5, rng=np.random.default_rng(1), xp=torch).weight
        np.testing.assert_array_equal(a, xpl.Affine(4, 5, rng=np.random.default_rng(1)).weight)
        b, c = (xpl.Affine(4, 5, rng=xpl.random.Key(1)).weight for _ in range(2))
        np.testing.assert_array_equal(b, c)

    def test_initial_values_have_torchs_bounds(self):
        layer = xpl.Affine(100, 300, rng=np.random.default_rng(0))
        assert abs(np.abs(layer.weight).max() - 0.1) < 1e-3
        assert abs(layer.weight.std() - 0.1 / 3**0.5) < 1e-3


class TestState:
    def test_torchs_state_both_ways(self):
        ours, theirs = xpl.Affine(4, 5), torch.nn.Linear(4, 5)
        ours.load_state_dict(theirs.state_dict())
        x = X.astype(np.float32)
        np.testing.assert_allclose(ours(x), theirs(torch.tensor(x)).detach(), rtol=1e-5, atol=1e-6)
        theirs.weight.data[...] = 0.0  # the values were copied
        assert np.abs(ours.weight).max() > 0
        ours.weight = ours.weight * 2
        theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})

    def test_settled_parameters_keep_their_place(self):
        layer = xpl.Affine(4, 5)
        layer(torch.tensor(X))
        layer.load_state_dict({"weight": f32(5, 4), "bias": f32(5)})
        assert layer.weight.dtype == torch.float64

    def test_a_refused_state_changes_nothing(self):
        layer = net()
        before = {k: v.copy() for k, v in layer.state_dict().items()}
        state = {k: v + 1 for k, v in before.items()}
        del state["0.weight"]
        state |= {"9.weight": f32(1), "0.bias": f32(7), "2.0.bias": "zero", "2.1.bias": np.ones(3, int)}
        with pytest.raises(ValueError, match="state") as caught:
            layer.load_state_dict(state)
        for part in ("0.weight", "9.weight", "(7,), not (6,)", "2.0.bias is a str", "2.1.bias has dtype int64"):
            assert part in str(caught.value)
        equal(before, layer.state_dict())

    def test_not_strict_returns_the_names(self):
        layer = xpl.Affine(4, 5)
        assert layer.load_state_dict({"weight": f32(5, 4), "u": f32(1)}, strict=False) == (["bias"], ["u"])
        assert layer.weight[0, 0] == 1

    def test_unsized_layers_take_any_state(self):
        layer = xpl.Affine()
        layer.load_state_dict({"weight": f32(5, 4), "bias": f32(5)})
        assert layer(f32(3, 4)).shape == (3, 5)

    def test_state_dict_is_live(self):
        layer = xpl.Affine(4, 5)
        assert layer.state_dict()["weight"] is layer.weight

    def test_torch_parameters_are_loaded_without_their_history(self):
        layer, module = xpl.Affine(4, 5), torch.nn.Linear(4, 5)
        layer.load_state_dict(dict(module.named_parameters()))
        assert not layer.weight.requires_grad
        assert not layer(torch.tensor(X)).requires_grad

    def test_what_is_no_mapping_is_refused(self):
        for state in (torch.nn.Linear(4, 5), "net.npz"):
            with pytest.raises(TypeError, match=r"'state': got a \w+; expected a mapping .* Mend: .*load\(path\)"):
                xpl.Affine(4, 5).load_state_dict(state)


class TestCopies:
    def test_copies_leave_the_tape_behind(self):
        layer = net()
        layer(X)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            with pytest.raises(ValueError, match="nothing recorded"):
                other.backward(DY)
            other[0].weight = other[0].weight + 1
            assert other[1].body[0].path == "1.body.0"
        layer.backward(DY)

    def test_eval_drops_what_was_kept(self):
        layer = net()
        layer(X)
        layer.eval()
        assert not layer[0].training
        layer.train()
        with pytest.raises(ValueError, match="nothing recorded"):
            layer.backward(DY)

    def test_inputs_are_let_go(self):
        layer = xpl.Affine(4, 5)
        x = X.copy()
        gone = weakref.ref(x)
        layer.eval()(x)
        del x
        gc.collect()
        assert gone() is None


class TestThreads:
    def test_eight_threads_use_one_layer(self):
        layer = net()
        layer(X)
        layer.backward(DY)
        one = grads(layer)
        layer.zero_grad()
        errors = []

        def work(k):
            try:
                for _ in range(20):
                    layer(X * k)
                    layer.backward(DY)
                    tape = xpl.Tape()
                    layer(X * k, tape=tape)
                    layer.backward(DY, tape=tape)
            except Exception as e:
                errors.append(e)

        threads = [threading.Thread(target=work, args=(1.0,)) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors
        for k, g in layer.grads.items():
            np.testing.assert_allclose(g, 320 * one[k], rtol=1e-9)

    def test_a_call_in_another_thread_does_not_count_as_inside(self):
        class Spawns(Layer):
            def forward(self, x, *, tape=None):
                out = []
                t = threading.Thread(target=lambda: out.append(xpl.Affine(4, 5)(x)))
                t.start()
                t.join()
                return out[0]

        assert Spawns()(X).shape == (3, 5)


class TestPure:
    def test_it_equals_the_layer_and_leaves_it_alone(self):
        layer = net()
        y = layer(X)
        dx = layer.backward(DY)
        expected = grads(layer)
        layer.zero_grad()
        forward, backward = xpl.pure(layer)
        params = dict(layer.params)
        np.testing.assert_array_equal(forward(params, X), y)
        got, gradients = backward(params, X, DY)
        np.testing.assert_array_equal(got, dx)
        equal(gradients, expected)
        assert not layer.grads
        doubled = {k: 2 * v for k, v in params.items()}
        assert np.abs(forward(doubled, X) - y).max() > 0.01
        np.testing.assert_array_equal(layer(X), y)
        with pytest.raises(ValueError, match="unknown names"):
            forward({"w": X}, X)

    def test_jit_leaves_no_tracer(self):
        jax = pytest.importorskip("jax")
        layer = xpl.Sequential(xpl.Affine(4, 6), xpl.Affine(6, 5))
        x = jax.numpy.asarray(X)
        jax.jit(lambda x: layer.forward(x))(x)  # settles under jit with values, not tracers
        y = layer(x)
        forward, backward = xpl.pure(layer)
        np.testing.assert_allclose(jax.jit(forward)(dict(layer.params), x), y, rtol=1e-12)
        jax.jit(backward)(dict(layer.params), x, jax.numpy.asarray(DY))
        assert not any(isinstance(v, jax.core.Tracer) for v in layer.state_dict().values())


SIZES = {  # what numpy.prod and friends give, for the size of each family
    "Affine": (4, 5),
    "Conv2d": (3, 4, 3),
    "BatchNorm1d": (3,),
    "LayerNorm": (4,),
    "GroupNorm": (2, 4),
    "Bilinear": (2, 3, 4),
    "Embedding": (4, 3),
    "LSTM": (3, 4),
    "GRUCell": (3, 4),
    "MultiheadAttention": (8, 2),
    "TransformerEncoderLayer": (8, 2, 16),
    "PReLU": (3,),
    "ZeroPad2d": (1,),
    "PixelShuffle": (2,),
    "MaxPool2d": (2,),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_may_be_numpy_integers(name):
    plain = getattr(xpl, name)(*SIZES[name])
    given = getattr(xpl, name)(*(np.int64(n) for n in SIZES[name]))
    assert {k: v.shape for k, v in given.params.items()} == {k: v.shape for k, v in plain.params.items()}


class TestContainers:
    def test_sequential_from_names_slices_and_indices(self):
        layer = xpl.Sequential({"one": xpl.Affine(4, 6), "two": xpl.Affine(6, 5)})
        assert next(iter(layer.state_dict())) == "one.weight"
        assert layer["two"] is layer[1] is layer[-1] is layer.two
        part = layer[:1]
        assert isinstance(part, xpl.Sequential)
        assert part[0] is layer[0]
        assert layer[0].path == "one"
        assert len(layer) == 2
        with pytest.raises(IndexError, match="has 2 layers"):
            layer[2]
        layer[1] = xpl.Affine(6, 7)
        assert layer(X).shape == (3, 7)
        layer.append(xpl.Affine(7, 1))
        assert layer(X).shape == (3, 1)

    def test_empty(self):
        layer = xpl.Sequential()
        assert layer(X) is X
        assert layer
        assert xpl.Residual(xpl.Identity())(X)[0, 0] == 2 * X[0, 0]

    def test_lists_and_dictionaries_of_layers(self):
        class Net(Layer):
            def __init__(self):
                super().__init__()
                self.steps = xpl.ModuleList([xpl.Affine(4, 4) for _ in range(2)])
                self.heads = xpl.ModuleDict({"a": xpl.Affine(4, 5)})

            def forward(self, x, *, tape=None):
                for step in self.steps:
                    x = step.forward(x, tape=tape)
                return self.heads["a"].forward(x, tape=tape)

            def backward(self, dy, *, tape):
                dy = self.heads["a"].backward(dy, tape=tape)
                for step in reversed(self.steps):
                    dy = step.backward(dy, tape=tape)
                return dy

        layer = Net()
        assert [*layer.state_dict()][-1] == "heads.a.bias"
        layer(X)
        assert layer.backward(DY).shape == X.shape
        assert len(layer.grads) == 6
        layer.steps.insert(0, xpl.Affine(4, 4))
        assert "steps.2.weight" in layer.params

    @pytest.mark.parametrize(
        "bad",
        [
            Bad(
                lambda: xpl.Residual(xpl.Affine(4, 5))(X),
                "Residual(Affine)",
                "body",
                "(3, 5)",
                "(3, 4)",
                "shortcut=Conv2d",
            ),
            Bad(
                lambda: xpl.Concat(xpl.Affine(4, 5), xpl.Flatten(0))(X),
                "Concat(",
                "branch 1",
                "(12,)",
                "axis 1",
                "all other",
            ),
            Bad(lambda: xpl.Concat()(X), "Concat(", "branches", "none", "at least one", "Concat(branch"),
            Bad(lambda: xpl.Concat(xpl.Affine(4, 5), dim=3)(X), "Concat(", "dim", "3", "an axis", "another dim"),
            Bad(lambda: xpl.Sequential(abs), "Sequential", "0", "builtin", "a Layer", "wrap", TypeError),
            Bad(lambda: xpl.Sequential([xpl.ReLU()]), "Sequential", "0", "list", "a Layer", "(*layers)", TypeError),
            Bad(lambda: xpl.Sequential(xpl.ReLU), "Sequential", "0", "type", "a Layer", "build it: ReLU()", TypeError),
            Bad(lambda: xpl.Sequential({"a.b": xpl.Identity()}), "Sequential", "name", "a.b", "without dots", "dots"),
            Bad(lambda: net().to(like=[1.0]), "Sequential(3 layers)", "like", "a list", "an array", "pass", TypeError),
            Bad(lambda: net().backward(DY), "Sequential(3 layers)", "tape", "nothing recorded", "training", "Tape()"),
        ],
        ids=lambda b: f"{b.layer}-{b.argument}",
    )
    def test_bad_calls(self, bad):
        assert_refused(bad)

    def test_what_an_author_forgets_is_named(self):
        class Bare(Layer):
            def __init__(self):
                self.parameter("w", f64(3))

        class Holder(Layer):
            def __init__(self):
                self.inner = xpl.Affine(4, 5)

        class Oneway(Layer):
            def forward(self, x, *, tape=None):
                return x

        for made in (Bare, Holder):
            with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) first"):
                made()
        layer = Oneway()
        layer(X)
        with pytest.raises(NotImplementedError, match="Oneway has no backward"):
            layer.backward(X)
