"""Recurrent networks and their cells. `device`, `dtype` and `xp` say where the parameters live from the start."""

import warnings
from typing import Any, ClassVar

from xplayers import functional as F
from xplayers.arrays import Array, fan_in_bound, host_uniform, is_array, is_integer

from .layer import Layer, is_whole, record
from .tape import Tape

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Sizes(Layer):
    """What networks and cells share: the sizes, their refusals, and the names of the states in messages."""

    gates: ClassVar[int] = 1
    input_size: int
    hidden_size: int
    function: str  # the name of the pair

    def describe(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"

    def _expect_count(self, name: str, value: Any, least: int = 1) -> None:
        if not is_whole(value):
            mend = f"pass {name} as an int, as in {type(self).__name__}(10, 20)"
            raise self.refusal(name, repr(value), "an int", mend, TypeError)
        if value < least:
            raise self.refusal(name, repr(value), f"at least {least}", f"pass {name}={max(least, 1)} or more")

    def _expect_nonlinearity(self, nonlinearity: str) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise self.refusal("nonlinearity", repr(nonlinearity), "'tanh' or 'relu'", 'pass nonlinearity="tanh"')

    def _expect_input(self, x: Array) -> None:
        self.expect_floating(x)
        mend = f"pass x with {self.input_size} features, or build {type(self).__name__}({x.shape[-1]}, ...)"
        self.expect_size(x, -1, self.input_size, "features", mend)

    def _expect_states(self, x: Array, hx: Any, shapes: dict[str, tuple[int, ...]]) -> None:
        """Refuses states that are not of these shapes; one state comes alone, two in a tuple."""
        if len(shapes) > 1 and not (isinstance(hx, tuple) and len(hx) == len(shapes) and all(map(is_array, hx))):
            got = f"a tuple of {len(hx)}" if isinstance(hx, tuple) else f"a {type(hx).__name__}"
            raise self.refusal("hx", got, "a tuple (h, c) of two arrays", "pass hx=(h, c)", TypeError)
        self.door(x, hx)
        for (name, shape), state in zip(shapes.items(), hx if len(shapes) > 1 else (hx,), strict=True):
            if tuple(state.shape) != shape:
                mend = f"pass {name} of shape {shape}, or no hx for zeros"
                raise self.refusal("hx", f"{name} of shape {state.shape}", f"shape {shape}", mend)


_DEFAULTS = {
    "num_layers": 1,
    "nonlinearity": "tanh",
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
}


class _Recurrent(_Sizes):
    """The networks: their parameters under torch's names, and what comes through the door."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: Any,
        xp: Any,
        rng: Any,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        for name, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                mend = f"pass {name}=True or {name}=False"
                raise self.refusal(name, repr(flag), "a bool", mend, TypeError)
        self._expect_count("input_size", input_size)
        self._expect_count("hidden_size", hidden_size)
        self._expect_count("num_layers", num_layers)
        self._expect_count("proj_size", proj_size, 0)
        if proj_size >= hidden_size:
            mend = f"pass a proj_size below {hidden_size}, or 0 for no projection"
            raise self.refusal("proj_size", repr(proj_size), f"less than hidden_size {hidden_size}", mend)
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            mend = "pass the share to be dropped, as in dropout=0.5"
            raise self.refusal("dropout", repr(dropout), "a probability, 0 <= dropout <= 1", mend)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"{self.title}: dropout={dropout} has no effect with one layer, it stands between layers", stacklevel=3
            )
        width, bound = proj_size or hidden_size, fan_in_bound(hidden_size)
        self.names: tuple[str, ...] = ()  # of the parameters, in the order of the functions' params
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[: self.directions]:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (self.gates * hidden_size, width * self.directions if layer else input_size),
                    "weight_hh": (self.gates * hidden_size, width),
                }
                if bias:
                    shapes["bias_ih"] = shapes["bias_hh"] = (self.gates * hidden_size,)
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    self.names += (f"{name}_l{layer}{suffix}",)
                    self.parameter(self.names[-1], host_uniform(rng, shape, bound))

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def describe(self) -> str:
        options = [f"{k}={v!r}" for k, d in _DEFAULTS.items() if (v := getattr(self, k, d)) != d]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *options])

    def _check(self, x: Array, hx: Any, lengths: Any) -> None:
        time_first = f"(T, N, {self.input_size})" if not self.batch_first else f"(N, T, {self.input_size})"
        self.expect_rank(x, (2, 3), f"{time_first} or (T, {self.input_size})")
        self._expect_input(x)
        n = () if x.ndim == 2 else (x.shape[0 if self.batch_first else 1],)
        if x.shape[1 if x.ndim == 3 and self.batch_first else 0] == 0:
            raise self.refusal(
                "x", f"shape {x.shape}, no steps", "at least one step", "leave the call out for no steps"
            )
        if hx is not None:
            lead = (self.num_layers * self.directions, *n)
            shapes = {"h": (*lead, self.proj_size or self.hidden_size), "c": (*lead, self.hidden_size)}
            self._expect_states(x, hx, shapes if self.gates == 4 else {"h": shapes["h"]})
        if lengths is not None:
            if not n:
                mend = "cut x at its end, or add the axis of the batch"
                raise self.refusal("lengths", "lengths of one sample without a batch", "None", mend)
            if is_array(lengths):
                if not is_integer(lengths):
                    mend = "cast lengths to an integer dtype"
                    raise self.refusal("lengths", f"dtype {lengths.dtype}", "an integer dtype", mend, TypeError)
            elif not isinstance(lengths, tuple | list) or not all(isinstance(i, int) for i in lengths):
                mend = "pass an array of integers, or a tuple of ints"
                raise self.refusal("lengths", f"a {type(lengths).__name__}", "an array or ints", mend, TypeError)
            shape = tuple(lengths.shape) if is_array(lengths) else (len(lengths),)
            if shape != n:
                raise self.refusal("lengths", f"shape {shape}", f"shape {n}, one a sample", "pass one length a sample")
            steps = x.shape[1 if self.batch_first else 0]
            if not is_array(lengths) and not all(1 <= i <= steps for i in lengths):  # an array's values stay unseen
                raise self.refusal("lengths", f"{lengths}", f"lengths from 1 to {steps}", "leave empty sequences out")

    def forward(
        self, x: Array, hx: Any = None, lengths: Any = None, *, mask: Array | None = None, tape: Tape | None = None
    ) -> Any:
        self._check(x, hx, lengths)
        y, cache = getattr(F, f"{self.function}_forward")(
            x,
            hx,
            tuple(getattr(self, name) for name in self.names),
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            self.batch_first,
            lengths=lengths,
            mask=mask,
            rng=self.rng,
        )
        record(tape, self, cache)
        return y

    def backward(self, dy: Any, *, tape: Tape) -> Any:
        cache = tape.pop(self)
        dx, *wanted = self.wanted(tape, *self.names)
        backward = getattr(F, f"{self.function}_backward")
        dx, dhx, dparams = backward(dy, cache, wanted=(dx, True, tuple(wanted)))
        self.accumulate(**dict(zip(self.names, dparams, strict=True)))
        return dx, dhx


class RNN(_Recurrent):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), or relu of it. See `functional.rnn_tanh_forward`.

    `layer(x, hx, lengths)` -> (y, h); `backward((dy, dh))` -> (dx, dhx), dhx None where no hx was given.
    lengths: one int a sample, for sequences that end before T; torch's packed sequences do the same.
    mask: what the dropout between the layers keeps, where it is not to be drawn from `rng`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        rest = (num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, xp, rng)
        super().__init__(input_size, hidden_size, *rest)
        self._expect_nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        self.function = f"rnn_{nonlinearity}"


class LSTM(_Recurrent):
    """Long short-term memory. See `functional.lstm_forward`; lengths and mask as in `RNN`.

    `layer(x, (h, c), lengths)` -> (y, (h, c)); `backward((dy, (dh, dc)))` -> (dx, (dh, dc)), or (dx, None) where no
    states were given.
    """

    gates = 4
    function = "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        rest = (num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, xp, rng)
        super().__init__(input_size, hidden_size, *rest)


class GRU(_Recurrent):
    """Gated recurrent units. See `functional.gru_forward`; calls, lengths and mask as in `RNN`."""

    gates = 3
    function = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        rest = (num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, xp, rng)
        super().__init__(input_size, hidden_size, *rest)


_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _RecurrentCell(_Sizes):
    """The cells: one step of a network with one layer."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self._expect_count("input_size", input_size, 0)
        self._expect_count("hidden_size", hidden_size)
        n, bound = self.gates * hidden_size, fan_in_bound(hidden_size)
        for name, shape in zip(_CELL, ((n, input_size), (n, hidden_size), (n,), (n,)), strict=True):
            self.parameter(name, host_uniform(rng, shape, bound) if bias or name.startswith("weight") else None)

    def describe(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ", bias=False" * (self.bias_ih is None)

    def forward(self, x: Array, hx: Any = None, *, tape: Tape | None = None) -> Any:
        self.expect_rank(x, (1, 2), f"(N, {self.input_size}) or ({self.input_size},)")
        self._expect_input(x)
        if hx is not None:
            shape = (*x.shape[:-1], self.hidden_size)
            self._expect_states(x, hx, {"h": shape, "c": shape} if self.gates == 4 else {"h": shape})
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        y, cache = getattr(F, f"{self.function}_forward")(x, hx, *weights)
        record(tape, self, cache)
        return y

    def backward(self, dy: Any, *, tape: Tape) -> Any:
        cache = tape.pop(self)
        dx, *wanted = self.wanted(tape, *_CELL)
        dx, dhx, *dweights = getattr(F, f"{self.function}_backward")(dy, cache, wanted=(dx, True, *wanted))
        self.accumulate(**dict(zip(_CELL, dweights, strict=True)))
        return dx, dhx


class RNNCell(_RecurrentCell):
    """One step of `RNN`. See `functional.rnn_tanh_cell_forward`.

    `cell(x, h)` -> h; `backward(dh)` -> (dx, dhx), dhx None where no h was given.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, xp=xp, rng=rng)
        self._expect_nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        self.function = f"rnn_{nonlinearity}_cell"


class LSTMCell(_RecurrentCell):
    """One step of `LSTM`. See `functional.lstm_cell_forward`.

    `cell(x, (h, c))` -> (h, c); `backward((dh, dc))` -> (dx, (dh, dc)), or (dx, None) where no states were given.
    """

    gates = 4
    function = "lstm_cell"


class GRUCell(_RecurrentCell):
    """One step of `GRU`. See `functional.gru_cell_forward`; calls as in `RNNCell`."""

    gates = 3
    function = "gru_cell"
