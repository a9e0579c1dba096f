"""Prints the layers' numbers beside torch's, as the posts that this library grew from do, with the largest difference.

    python scripts/compare.py                   the posts' own examples
    python scripts/compare.py --backend cupy    the same on another library's arrays
    python scripts/compare.py --all conv        every row of the table of cases (whose text holds "conv")

Ends with an error where a difference is larger than rounding.
"""

# ruff: noqa: E402
import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.needs import needs

needs("numpy", "torch", "array_api_compat", "array_api_extra")

import numpy as np
import torch

import xplayers as xpl
from scripts.backends import CHOICES, use

AsArray = Callable[[Any], Any]
ROUNDING = 64 * 2.0**-52  # of the larger of 1 and the largest magnitude, in float64


class Pair(NamedTuple):
    """One array of ours and torch's for it."""

    name: str
    ours: Any
    torchs: np.ndarray


def affine(asarray: AsArray) -> list[Pair]:
    """Affine(): out, dx, dw, db of the post on affine maps."""
    np.random.seed(123)
    x, weight, bias = (np.random.random(shape) for shape in ((3, 4), (5, 4), (5,)))
    d_loss = np.random.random((3, 5))

    layer = xpl.Affine()
    layer.weight = asarray(weight)
    layer.bias = asarray(bias)
    out = layer(asarray(x))
    dx = layer.backward(asarray(d_loss))

    twin = torch.nn.Linear(4, 5).double()
    return _beside_torch(twin, (weight, bias), x, d_loss, (out, dx, layer.dw, layer.db))


def convolution(asarray: AsArray) -> list[Pair]:
    """Conv2d(stride=2): out, dx, dw, db of the post on convolution, (1, 3, 5, 5) at once."""
    x, twin, d_loss = _convolution_of_the_post()
    weight, bias = (p.detach().numpy() for p in twin.parameters())

    layer = xpl.Conv2d(stride=2)
    layer.weight = asarray(weight)
    layer.bias = asarray(bias)
    out = layer(asarray(x))
    dx = layer.backward(asarray(d_loss))
    return _beside_torch(twin, (weight, bias), x, d_loss, (out, dx, layer.dw, layer.db))


def convolution_by_channels(asarray: AsArray) -> list[Pair]:
    """The same by three layers, one a channel, as the post does it: the outputs add up, the bias taken once."""
    x, twin, d_loss = _convolution_of_the_post()
    weight, bias = (p.detach().numpy() for p in twin.parameters())

    layers, outs, dxs = [], [], []
    for channel in range(3):
        layer = xpl.Conv2d(stride=2)
        layer.weight = asarray(weight[:, channel : channel + 1])
        layer.bias = asarray(bias)
        outs.append(layer(asarray(x[:, channel : channel + 1])))
        dxs.append(layer.backward(asarray(d_loss)))
        layers.append(layer)
    out = outs[0] + outs[1] + outs[2] - 2.0 * layers[0].bias[0]

    whole = _beside_torch(twin, (weight, bias), x, d_loss, (out, None, None, layers[0].db))
    _, dx, dw, _ = (pair.torchs for pair in whole)
    channels = [
        Pair(f"{name} of channel {c}", array, torchs[:, c : c + 1])
        for name, arrays, torchs in (("dx", dxs, dx), ("dw", [layer.dw for layer in layers], dw))
        for c, array in enumerate(arrays)
    ]
    return [whole[0], *channels, whole[3]]


def dense(asarray: AsArray) -> list[Pair]:
    """Dense(W, b): the book's layer, W (in, out), on images that it flattens; the book prints no numbers."""
    rng = np.random.default_rng(123)
    x, W, b, d_out = (rng.standard_normal(shape) for shape in ((2, 3, 4, 4), (48, 5), (5,), (2, 5)))

    layer = xpl.Dense(asarray(W), asarray(b))
    out = layer(asarray(x))
    dx = layer.backward(asarray(d_out))

    leaves = [torch.tensor(a, requires_grad=True) for a in (x, W, b)]
    result = leaves[0].flatten(1) @ leaves[1] + leaves[2]
    gradients = torch.autograd.grad(result, leaves, torch.tensor(d_out))
    theirs = [t.detach().numpy() for t in (result, *gradients)]
    return [Pair(*p) for p in zip(("out", "dx", "dW", "db"), (out, dx, layer.dW, layer.db), theirs, strict=True)]


def batch_norm(asarray: AsArray) -> list[Pair]:
    """BatchNorm1d(): out, dx, dw, db of the post on batch normalisation."""
    np.random.seed(123)
    x, weight, bias, d_loss = (np.random.random(shape) for shape in ((3, 5), (5,), (5,), (3, 5)))

    layer = xpl.BatchNorm1d()
    layer.weight = asarray(weight)
    layer.bias = asarray(bias)
    out = layer(asarray(x))
    dx = layer.backward(asarray(d_loss))

    twin = torch.nn.BatchNorm1d(5).double()
    return _beside_torch(twin, (weight, bias), x, d_loss, (out, dx, layer.dw, layer.db))


class Network(xpl.Layer):
    """The network of the question on imitating nn.Linear: 784 inputs, 256 hidden units, 10 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = xpl.Linear(784, 256)
        self.sigmoid = xpl.Sigmoid()
        self.output = xpl.Linear(256, 10)
        self.softmax = xpl.Softmax(dim=1)

    def forward(self, x: Any, *, tape: xpl.Tape | None = None) -> Any:
        x = self.hidden.forward(x, tape=tape)
        x = self.sigmoid.forward(x, tape=tape)
        x = self.output.forward(x, tape=tape)
        return self.softmax.forward(x, tape=tape)

    def backward(self, dy: Any, *, tape: xpl.Tape) -> Any:
        dy = self.softmax.backward(dy, tape=tape)
        dy = self.output.backward(dy, tape=tape)
        dy = self.sigmoid.backward(dy, tape=tape)
        return self.hidden.backward(dy, tape=tape)


def question_network(asarray: AsArray) -> list[Pair]:
    """Network(): 784-256-10 with Sigmoid and Softmax(dim=1), the weights torch's."""
    torch.manual_seed(0)
    twin = torch.nn.Sequential(
        torch.nn.Linear(784, 256), torch.nn.Sigmoid(), torch.nn.Linear(256, 10), torch.nn.Softmax(dim=1)
    ).double()
    rng = np.random.default_rng(0)
    x, dy = rng.random((4, 784)), rng.standard_normal((4, 10))

    model = Network().to(like=asarray(x))
    model.load_state_dict(
        {key.replace("0.", "hidden.").replace("2.", "output."): value for key, value in twin.state_dict().items()}
    )
    out = model(asarray(x))
    dx = model.backward(asarray(dy))

    leaf = torch.tensor(x, requires_grad=True)
    result = twin(leaf)
    result.backward(torch.tensor(dy))
    pairs = [Pair("out", out, result.detach().numpy()), Pair("dx", dx, leaf.grad.numpy())]
    grads = [(key, model.grads[key]) for key in model.params]
    return pairs + [Pair(f"d {key}", g, p.grad.numpy()) for (key, g), p in zip(grads, twin.parameters(), strict=True)]


def matmul(asarray: AsArray) -> list[Pair]:
    """The question's product, y = weight @ x: an affine map of the columns of x, without a bias."""
    np.random.seed(0)
    x, weight = np.random.rand(2, 2), np.random.rand(2, 2)

    layer = xpl.Affine()
    layer.weight = asarray(weight)
    layer.bias = None
    y = layer(asarray(x.T)).T
    return [Pair("y", y, torch.matmul(torch.tensor(weight), torch.tensor(x)).numpy())]


SEEDS: dict[str, Callable[[AsArray], list[Pair]]] = {
    "affine map": affine,
    "convolution with stride 2": convolution,
    "convolution with stride 2, channel by channel": convolution_by_channels,
    "the book's affine layer": dense,
    "batch normalisation": batch_norm,
    "network of the question": question_network,
    "product of the question": matmul,
}


def _convolution_of_the_post() -> tuple[np.ndarray, torch.nn.Conv2d, np.ndarray]:
    np.random.seed(123)
    torch.random.manual_seed(123)
    x = np.random.random((1, 3, 5, 5))
    twin = torch.nn.Conv2d(3, 1, (3, 3), stride=2).double()
    return x, twin, np.random.random((1, 1, 2, 2))


def _beside_torch(twin: torch.nn.Module, parameters: tuple, x: np.ndarray, dy: np.ndarray, ours: tuple) -> list[Pair]:
    """Pairs of our out, dx, dw, db with those of a torch module with these parameters."""
    for parameter, value in zip(twin.parameters(), parameters, strict=True):
        parameter.data = torch.tensor(value)
    leaf = torch.tensor(x, requires_grad=True)
    out = twin(leaf)
    gradients = torch.autograd.grad(out, [leaf, *twin.parameters()], torch.tensor(dy))
    theirs = [t.detach().numpy() for t in (out, *gradients)]
    return [Pair(*p) for p in zip(("out", "dx", "dw", "db"), ours, theirs, strict=True)]


def table_of_cases(backend: str, text: str) -> Iterator[tuple[str, list[Pair], float]]:
    """Every row of the tests' table of layers: its text, its pairs, and the rounding that it is allowed."""
    from tests.backends import load
    from tests.cases import rows
    from tests.laws import Bench
    from tests.oracle import TOLERANCE, flat

    home, _ = load(backend)
    assert home is not None
    for case in rows("LAYERS"):
        if text.lower() not in str(case).lower() or case.skip.get("agrees_in_float64") or case.skip.get(backend):
            continue
        bench = Bench(case, home)
        answer, layer = bench.judged(True), bench.layer()
        y = layer(*bench.inputs(), **bench.arrays())
        found = list(zip(flat(y), flat(answer.y), strict=True))
        pairs = [Pair(f"out{i or ''}", *p) for i, p in enumerate(found) if p[1] is not None]
        if any(d is not None for d in flat(answer.dy)):
            gradients = [g for g in flat(layer.backward(bench.upstream(answer))) if g is not None]
            found = list(zip(gradients, bench.expected_inputs(layer, answer), strict=True))
            pairs += [Pair(f"dx{i or ''}", *p) for i, p in enumerate(found)]
            pairs += [Pair(f"d {k}", g, answer.parameters[k]) for k, g in layer.grads.items()]
        yield str(case), pairs, TOLERANCE["float64"] * case.tolerance


def show(pairs: list[Pair], to_numpy: Callable[[Any], np.ndarray], ours: str, rounding: float = ROUNDING) -> bool:
    """Prints the pairs side by side; whether all differences are rounding."""
    good = True
    for name, mine, torchs in pairs:
        mine, torchs = np.asarray(to_numpy(mine)), np.asarray(torchs)
        if mine.shape != torchs.shape:
            print(f"--- {name}: shape {mine.shape}, torch's {torchs.shape}")
            good = False
            continue
        both = np.isfinite(mine) & np.isfinite(torchs)
        same = np.array_equal(mine[~both], torchs[~both], equal_nan=mine.dtype.kind == "f")
        difference = float(np.abs(mine[both].astype(float) - torchs[both].astype(float)).max(initial=0.0))
        allowed = rounding * max(1.0, float(np.abs(torchs[both]).max(initial=0.0)))
        fits = same and difference <= allowed
        good &= fits
        print(f"--- {name} {mine.shape}: largest difference {difference:.1e}{'' if fits else '  NOT ROUNDING'}")
        left, right = ([ours, *_lines(mine)], [f"torch {torch.__version__}", *_lines(torchs)])
        width = max(map(len, left))
        for i in range(max(len(left), len(right))):
            print(f"{left[i] if i < len(left) else '':{width}}   |   {right[i] if i < len(right) else ''}".rstrip())
    print()
    return good


def _lines(array: np.ndarray) -> list[str]:
    text = np.array2string(array, precision=8, suppress_small=True, max_line_width=72, threshold=100, edgeitems=2)
    return [line for line in text.splitlines() if line.strip()]


def main(arguments: list[str] | None = None) -> None:
    summary, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=CHOICES, default="numpy", help="whose arrays (default: numpy)")
    parser.add_argument(
        "--all", nargs="?", const="", metavar="TEXT", help="every row of the table of cases, or those that hold TEXT"
    )
    asked = parser.parse_args(arguments)
    _, asarray, to_numpy, _ = use(asked.backend)
    assert asarray is not None and to_numpy is not None
    ours, failed, count = f"xplayers on {asked.backend}", [], 0

    if asked.all is None:
        for title, seed in SEEDS.items():
            print(f"=== {title}: {(seed.__doc__ or '').strip()}\n")
            count += 1
            if not show(seed(asarray), to_numpy, ours):
                failed.append(title)
    else:
        needs("pytest")
        for title, pairs, rounding in table_of_cases(asked.backend, asked.all):
            print(f"=== {title}\n")
            count += 1
            if not show(pairs, to_numpy, ours, rounding):
                failed.append(title)
    if failed or not count:
        raise SystemExit(
            f"{len(failed)} of {count} differ by more than rounding: {'; '.join(failed)}"
            if failed
            else f"no row of the table holds {asked.all!r}"
        )
    print(f"{count} compared, all equal to rounding (float64, {asked.backend})")


if __name__ == "__main__":
    main()
