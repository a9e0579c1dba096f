"""The rows of a card: every family at sizes that fill one, and whole steps; each at a tiny size for a dry run."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from scripts.benchmarking.rows import OptimizerStep, attention, conv, depthwise, transposed
from scripts.benchmarking.rows import resnet50 as resnet50_shapes
from scripts.benchmarking.sides import Row
from scripts.benchmarking.steps import STEPS, Step
from tests.cases import Case, integers, probabilities

from .nets import gpt2_block, resnet50

__all__ = ["ROWS", "STEP_ROWS", "CardRow"]


class CardRow(NamedTuple):
    """`build(*sizes)` is the row on a card, `build(*tiny)` in a dry run; float32 unless it says so.

    `launches`: bound by the host, and so timed by its clock, as one part. `captured`: ours as one graph.
    """

    family: str
    name: str
    build: Callable[..., Row]
    sizes: tuple
    tiny: tuple
    dtype: str = "float32"
    precision: str = "exact"
    launches: bool = False
    captured: bool = False

    def row(self, tiny: bool) -> Row:
        return self.build(*(self.tiny if tiny else self.sizes))

    @property
    def ceiling(self) -> str:
        """The product that bounds it."""
        return self.dtype if self.dtype != "float32" or self.precision == "exact" else "tf32"


def layer(name: str, *args: Any, **kwargs: Any) -> Callable[..., Case]:
    """`build(*shape)`: the layer on one input of that shape."""
    return lambda *shape: Case(name, args, kwargs, (shape,))


def affine(out: int, *shape: int) -> Case:
    return Case("Linear", (shape[-1], out), {}, (shape,))


def _each(row: CardRow, *ways: tuple[str, str]) -> list[CardRow]:
    """The row in each (dtype, precision)."""
    words = {"exact": "", "torch": ", TF32", "fast": ", TF32"}
    return [
        row._replace(name=f"{row.name}, {dtype}{words[p] if dtype == 'float32' else ''}", dtype=dtype, precision=p)
        for dtype, p in ways
    ]


# A half precision takes torch's leave: cuDNN's engines for it are what torch runs too.
IEEE, TF32, ALL_TF32, BF16 = ("float32", "exact"), ("float32", "torch"), ("float32", "fast"), ("bfloat16", "torch")


def _resnet50_convolutions() -> list[CardRow]:
    """Each of ResNet-50's shapes once, at batch 32: (in, out, kernel, stride, size)."""
    shapes = [(3, 64, 7, 2, 224)]
    c_in = 64
    for stage, size in enumerate((56, 28, 14, 7)):
        c, stride = 64 * 2**stage, 1 if stage == 0 else 2
        shapes += [(c_in, c, 1, 1, size * stride), (c, c, 3, stride, size * stride), (c, 4 * c, 1, 1, size)]
        shapes += [(c_in, 4 * c, 1, stride, size * stride), (4 * c, c, 1, 1, size)]
        shapes += [(c, c, 3, 1, size)] if stride > 1 else []
        c_in = 4 * c
    out = []
    for a, b, k, s, size in dict.fromkeys(shapes):

        def build(n: int, size: int, cut: int, a: int = a, b: int = b, k: int = k, s: int = s) -> Case:
            return conv(max(3, a // cut), b // cut, k, n, size, padding=k // 2, stride=s, bias=False)

        name = f"conv {k}x{k} {a}-{b} @{size}{f' stride {s}' if s > 1 else ''}"
        row = CardRow("convolution", name, build, (32, size, 1), (2, 8, 8))
        exact = (IEEE,) if k != 1 and s == 1 else ()
        out += _each(row, BF16, TF32, *exact)
    return out


def _conv(name: str, build: Callable[..., Case], n: int, size: int, *ways: tuple[str, str]) -> list[CardRow]:
    return _each(CardRow("convolution", name, build, (n, size), (1, 8)), *(ways or (BF16, TF32)))


def _cross_entropy(rows: int, classes: int) -> Case:
    return Case("CrossEntropyLoss", (), {}, ((rows, classes), integers((rows,), classes)))


def _adamw(numbers: int, arrays: int) -> OptimizerStep:
    shapes = resnet50_shapes() if arrays > 1 else ((numbers,),)
    return OptimizerStep("AdamW", {"lr": 1e-3}, shapes if numbers > 1e6 else shapes[:1] * min(arrays, 3), fused=True)


_LINEAR = (
    ("affine 768-3072, 8192 tokens", affine, (3072, 8, 1024, 768), (32, 1, 2, 8)),
    ("affine 4096-4096, batch 8192", affine, (4096, 8192, 4096), (16, 2, 16)),
)
_NORMS = (
    ("batch norm 64 @56, batch 64", layer("BatchNorm2d", 64), (64, 64, 56, 56), (2, 64, 4, 4)),
    ("batch norm 1024 @14, batch 64", layer("BatchNorm2d", 1024), (64, 1024, 14, 14), (2, 1024, 2, 2)),
    ("layer norm 768, 16384 rows", layer("LayerNorm", 768), (16384, 768), (4, 768)),
    ("layer norm 4096, 8192 rows", layer("LayerNorm", 4096), (8192, 4096), (2, 4096)),
    ("rms norm 4096, 8192 rows", layer("RMSNorm", 4096), (8192, 4096), (2, 4096)),
    ("group norm 32 of 256 @56, batch 32", layer("GroupNorm", 32, 256), (32, 256, 56, 56), (1, 256, 4, 4)),
    ("instance norm 64 @128, batch 32", layer("InstanceNorm2d", 64, affine=True), (32, 64, 128, 128), (1, 64, 4, 4)),
)
_BIG, _SMALL = (8192, 4096), (4, 8)
_ACTIVATIONS = (
    ("relu 33 million", layer("ReLU"), _BIG, _SMALL),
    ("gelu 33 million", layer("GELU"), _BIG, _SMALL),
    ("silu 33 million", layer("SiLU"), _BIG, _SMALL),
    ("tanh 33 million", layer("Tanh"), _BIG, _SMALL),
)
_POOLS = (
    ("max pool 3x3 stride 2 64 @112", layer("MaxPool2d", 3, 2, 1), (64, 64, 112, 112), (1, 2, 8, 8)),
    ("average pool 2x2 64 @112", layer("AvgPool2d", 2), (64, 64, 112, 112), (1, 2, 8, 8)),
    ("adaptive average pool 2048 @7", layer("AdaptiveAvgPool2d", 1), (128, 2048, 7, 7), (1, 8, 7, 7)),
)


def _rows() -> list[CardRow]:
    made: list[CardRow] = []

    def add(family: str, entries: tuple, *ways: tuple[str, str]) -> None:
        for name, build, sizes, tiny in entries:
            made.extend(_each(CardRow(family, name, build, sizes, tiny), *ways))

    add("linear", _LINEAR, BF16, ALL_TF32, IEEE)
    made.extend(_resnet50_convolutions())
    made.extend(_conv("conv depthwise 3x3 512 @28, batch 64", lambda n, s: depthwise(512, 3, n, s), 64, 28))
    made.extend(
        _conv("conv 3x3 in 32 groups 512 @14", lambda n, s: conv(512, 512, 3, n, s, padding=1, groups=32), 64, 14)
    )
    made.extend(
        _conv("transposed conv 4x4 stride 2 128-64 @32", lambda n, s: transposed(128, 64, 4, n, s, stride=2), 64, 32)
    )
    add("normalization", _NORMS, IEEE, BF16)
    add("activation", _ACTIVATIONS, IEEE, BF16)
    add("pooling", _POOLS, IEEE)
    softmax = ("softmax 16384 rows of 1024", layer("Softmax", 1), (16384, 1024), (4, 8))
    entropies = (("cross entropy 4096 of 50257", _cross_entropy, (4096, 50257), (4, 50)),)
    add("loss", (softmax, *entropies), IEEE, BF16)
    squares = lambda *shape: Case("MSELoss", (), {}, (shape, shape))  # noqa: E731
    binary = lambda *shape: Case("BCEWithLogitsLoss", (), {}, (shape, probabilities(*shape)))  # noqa: E731
    add("loss", (("mean squared error 33 million", squares, _BIG, _SMALL),), IEEE)
    add("loss", (("binary cross entropy with logits 4 million", binary, (4096, 1024), _SMALL),), IEEE)
    words = lambda n, size: Case("Embedding", (size, 768), {}, (integers((n, 1024), size),))  # noqa: E731
    bags = lambda n, size: Case("EmbeddingBag", (size, 64), {}, (integers((n, 32), size),))  # noqa: E731
    add("embedding", (("embedding 50257 of 768, 8192 tokens", words, (8, 50257), (1, 50)),), IEEE)
    add("embedding", (("embedding bag 100000 of 64", bags, (8192, 100000), (2, 50)),), IEEE)
    for kind in ("LSTM", "GRU", "RNN"):
        recurrent = lambda steps, n, width, kind=kind: Case(kind, (width, width), {}, ((steps, n, width),))  # noqa: E731
        name = f"{kind.lower()} 512, 64 steps, batch 64"
        add("recurrent", ((name, recurrent, (64, 64, 512), (3, 2, 8)),), IEEE)
    heads = ("attention 12 heads of 64, 1024 tokens, batch 8", lambda n, t: attention(12, 64, n, t), (8, 1024), (1, 8))
    add("attention", (heads,), BF16, IEEE)
    pixels = layer("Upsample", scale_factor=2, mode="bilinear")
    add("other", (("upsample bilinear x2 64 @56", pixels, (32, 64, 56, 56), (1, 2, 4, 4)),), IEEE)
    add("other", (("reflection pad 3 64 @128", layer("ReflectionPad2d", 3), (16, 64, 128, 128), (1, 2, 8, 8)),), IEEE)
    add("other", (("dropout 33 million", layer("Dropout", 0.1), _BIG, _SMALL),), IEEE)
    for arrays, what in ((1, "one array"), (161, "161 arrays")):
        name = f"adamw, 25 million in {what}, torch fused"
        made.append(CardRow("optimizer", name, _adamw, (25_000_000, arrays), (100, arrays)))
    return made


def _resnet_step(n: int, size: int, width: int, blocks: tuple[int, ...]) -> Step:
    net = functools.partial(resnet50, width=width, blocks=blocks)
    return Step(net, "CrossEntropyLoss", "SGD", {"lr": 1e-3, "momentum": 0.9}, (n, 3, size, size), (n,), 1000)


def _gpt2_step(n: int, tokens: int, width: int) -> Step:
    net = functools.partial(gpt2_block, width=width, heads=width // 64)
    return Step(net, "MSELoss", "AdamW", {"lr": 1e-4}, (n, tokens, width), (n, tokens, width))


def _digits_step(n: int) -> Step:
    return STEPS["step of the digits network, batch 64"]._replace(inputs=(n, 1, 8, 8), targets=(n,))


_RESNET = CardRow(
    "steps", "ResNet-50 @224, batch 128", _resnet_step, (128, 224, 64, (3, 4, 6, 3)), (4, 32, 8, (1, 1, 1, 1))
)
_GPT2 = CardRow("steps", "GPT-2-small block, 8 x 1024 tokens", _gpt2_step, (8, 1024, 768), (2, 8, 128))
_DIGITS = CardRow("steps", "the digits network, batch 64", _digits_step, (64,), (8,), launches=True)

ROWS = _rows()
STEP_ROWS = [
    *_each(_RESNET, BF16, TF32),
    *_each(_GPT2, BF16, ALL_TF32),
    *_each(_DIGITS, IEEE),
    _DIGITS._replace(name="the digits network, batch 64, float32, ours captured", captured=True),
]
