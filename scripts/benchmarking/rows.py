"""The rows of the benchmark: every family at the small, middle and large sizes that people use.

The list only grows: a name is what --only searches and what --compare goes by.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from tests.cases import Case, integers, probabilities, values

from .steps import STEPS


def causal(tokens: int) -> dict:
    """The causal mask of attention as torch makes it: -inf above the diagonal."""
    return {"attn_mask": values(np.triu(np.full((tokens, tokens), -math.inf), 1))}


def conv(c_in: int, c_out: int, k: int, batch: int, size: int, **options: int) -> Case:
    return Case("Conv2d", (c_in, c_out, k), options, ((batch, c_in, size, size),))


def depthwise(c: int, k: int, batch: int, size: int, stride: int = 1) -> Case:
    options = {"padding": k // 2, "groups": c, "stride": stride}
    return Case("Conv2d", (c, c, k), options, ((batch, c, size, size),))


def transposed(c_in: int, c_out: int, k: int, batch: int, size: int, **options: int) -> Case:
    return Case("ConvTranspose2d", (c_in, c_out, k), options, ((batch, c_in, size, size),))


def attention(heads: int, width: int, batch: int, tokens: int, *, mask: bool = False) -> Case:
    call = {"need_weights": False, **({"is_causal": True} if mask else {})}
    arrays = causal(tokens) if mask else {}
    inputs = ((batch, tokens, heads * width),) * 3
    return Case("MultiheadAttention", (heads * width, heads), {"batch_first": True}, inputs, call, arrays)


def encoder(width: int, heads: int, hidden: int, batch: int, tokens: int) -> Case:
    """Without dropout: the two sides would draw different masks."""
    options = {"dropout": 0.0, "batch_first": True}
    return Case("TransformerEncoderLayer", (width, heads, hidden), options, ((batch, tokens, width),))


SMALL, LARGE = (64, 256), (512, 3072)  # activations of a small network's layer, and of a transformer's

LINEAR = {
    "affine 24-48, batch 48": Case("Linear", (24, 48), {}, ((48, 24),)),
    "affine 128-10, batch 64": Case("Linear", (128, 10), {}, ((64, 128),)),
    "affine 784-256, batch 64": Case("Linear", (784, 256), {}, ((64, 784),)),
    "affine 768-3072, 1024 tokens": Case("Linear", (768, 3072), {}, ((8, 128, 768),)),
    "affine 4096-1024, batch 512": Case("Linear", (4096, 1024), {}, ((512, 4096),)),
    "affine 4096-4096, batch 128": Case("Linear", (4096, 4096), {}, ((128, 4096),)),
    "bilinear 16, 16-8, batch 32": Case("Bilinear", (16, 16, 8), {}, ((32, 16), (32, 16))),
    "bilinear 128, 128-64, batch 64": Case("Bilinear", (128, 128, 64), {}, ((64, 128), (64, 128))),
}

CONVOLUTION = {
    # ResNet-18 and ResNet-50
    "conv 1x1 64-256 @56": conv(64, 256, 1, 8, 56),
    "conv 1x1 256-64 @56": conv(256, 64, 1, 8, 56),
    "conv 1x1 1024-256 @14": conv(1024, 256, 1, 8, 14),
    "conv 1x1 512-2048 @7": conv(512, 2048, 1, 8, 7),
    "conv 1x1 stride 2 64-128 @56": conv(64, 128, 1, 8, 56, stride=2),
    "conv 1x1 stride 2 256-512 @56": conv(256, 512, 1, 8, 56, stride=2),
    "conv 3x3 64-64 @56": conv(64, 64, 3, 8, 56, padding=1),
    "conv 3x3 128-128 @28": conv(128, 128, 3, 8, 28, padding=1),
    "conv 3x3 256-256 @14": conv(256, 256, 3, 8, 14, padding=1),
    "conv 3x3 512-512 @7": conv(512, 512, 3, 8, 7, padding=1),
    "conv 3x3 stride 2 64-128 @56": conv(64, 128, 3, 8, 56, padding=1, stride=2),
    "conv 3x3 stride 2 128-128 @56": conv(128, 128, 3, 8, 56, padding=1, stride=2),
    "conv 3x3 stride 2 256-512 @14": conv(256, 512, 3, 8, 14, padding=1, stride=2),
    "conv 7x7 stride 2 3-64 @224": conv(3, 64, 7, 8, 224, padding=3, stride=2),
    # VGG
    "conv 3x3 3-64 @224, batch 2": conv(3, 64, 3, 2, 224, padding=1),
    "conv 3x3 64-64 @224, batch 1": conv(64, 64, 3, 1, 224, padding=1),
    "conv 3x3 64-128 @112, batch 2": conv(64, 128, 3, 2, 112, padding=1),
    "conv 3x3 512-512 @14, batch 4": conv(512, 512, 3, 4, 14, padding=1),
    # Inception and DeepLab
    "conv 5x5 32-96 @28": conv(32, 96, 5, 8, 28, padding=2),
    "conv 3x3 dilation 2 256-256 @28, batch 2": conv(256, 256, 3, 2, 28, padding=2, dilation=2),
    # the sizes of MNIST, CIFAR and the digits
    "conv 3x3 1-32 @28, batch 64": conv(1, 32, 3, 64, 28),
    "conv 3x3 32-64 @26, batch 64": conv(32, 64, 3, 64, 26),
    "conv 5x5 6-16 @14, batch 64": conv(6, 16, 5, 64, 14),
    "conv 3x3 3-32 @32, batch 64": conv(3, 32, 3, 64, 32, padding=1),
    "conv 3x3 64-64 @32, batch 32": conv(64, 64, 3, 32, 32, padding=1),
    "conv 3x3 32-64 @16, batch 64": conv(32, 64, 3, 64, 16, padding=1),
    "conv 5x5 1-8 @28, batch 64": conv(1, 8, 5, 64, 28),
    "conv 3x3 1-16 @8, batch 64": conv(1, 16, 3, 64, 8, padding=1),
    "conv 3x3 16-32 @4, batch 64": conv(16, 32, 3, 64, 4, padding=1),
    # MobileNet, EfficientNet, ConvNeXt
    "conv depthwise 3x3 32 @112": depthwise(32, 3, 8, 112),
    "conv depthwise 3x3 128 @28": depthwise(128, 3, 8, 28),
    "conv depthwise 3x3 512 @14": depthwise(512, 3, 8, 14),
    "conv depthwise 3x3 1024 @7": depthwise(1024, 3, 8, 7),
    "conv depthwise 3x3 stride 2 64 @112": depthwise(64, 3, 8, 112, stride=2),
    "conv depthwise 3x3 stride 2 256 @28": depthwise(256, 3, 8, 28, stride=2),
    "conv depthwise 5x5 240 @28": depthwise(240, 5, 4, 28),
    "conv depthwise 7x7 96 @56": depthwise(96, 7, 2, 56),
    # ResNeXt
    "conv 3x3 in 32 groups 128 @56": conv(128, 128, 3, 4, 56, padding=1, groups=32),
    "conv 3x3 in 32 groups 512 @14": conv(512, 512, 3, 4, 14, padding=1, groups=32),
    # 1-d: text, audio (M5), Whisper
    "conv 1d 3 16-32 @100, batch 32": Case("Conv1d", (16, 32, 3), {"padding": 1}, ((32, 16, 100),)),
    "conv 1d 5 300-100 @64, batch 32": Case("Conv1d", (300, 100, 5), {}, ((32, 300, 64),)),
    "conv 1d 80 stride 16 1-32 @8000": Case("Conv1d", (1, 32, 80), {"stride": 16}, ((16, 1, 8000),)),
    "conv 1d 3 80-384 @3000, batch 1": Case("Conv1d", (80, 384, 3), {"padding": 1}, ((1, 80, 3000),)),
    # 3-d: voxels, video (C3D, R3D)
    "conv 3d 3 1-8 @16, batch 4": Case("Conv3d", (1, 8, 3), {}, ((4, 1, 16, 16, 16),)),
    "conv 3d 3 3-64 @16x56x56, batch 1": Case("Conv3d", (3, 64, 3), {"padding": 1}, ((1, 3, 16, 56, 56),)),
    "conv 3d 3 64-64 @8x28x28, batch 2": Case("Conv3d", (64, 64, 3), {"padding": 1}, ((2, 64, 8, 28, 28),)),
    # transposed: DCGAN, U-Net, HiFi-GAN
    "transposed conv 4x4 100-512 @1, batch 64": transposed(100, 512, 4, 64, 1),
    "transposed conv 4x4 stride 2 512-256 @4, batch 32": transposed(512, 256, 4, 32, 4, stride=2, padding=1),
    "transposed conv 4x4 stride 2 128-64 @16, batch 32": transposed(128, 64, 4, 32, 16, stride=2, padding=1),
    "transposed conv 4x4 stride 2 64-3 @32, batch 32": transposed(64, 3, 4, 32, 32, stride=2, padding=1),
    "transposed conv 2x2 stride 2 128-64 @56, batch 2": transposed(128, 64, 2, 2, 56, stride=2),
    "transposed conv 1d 16 stride 8 256-128 @64": Case(
        "ConvTranspose1d", (256, 128, 16), {"stride": 8, "padding": 4}, ((8, 256, 64),)
    ),
}

NORMALIZATION = {
    "batch norm 16 @8, batch 64": Case("BatchNorm2d", (16,), {}, ((64, 16, 8, 8),)),
    "batch norm 256 of 64": Case("BatchNorm1d", (256,), {}, ((64, 256),)),
    "batch norm 512 @7": Case("BatchNorm2d", (512,), {}, ((8, 512, 7, 7),)),
    "batch norm 64 @56": Case("BatchNorm2d", (64,), {}, ((8, 64, 56, 56),)),
    "batch norm 64 @112": Case("BatchNorm2d", (64,), {}, ((8, 64, 112, 112),)),
    "layer norm 64 of 256": Case("LayerNorm", (64,), {}, ((256, 64),)),
    "layer norm 768": Case("LayerNorm", (768,), {}, ((1024, 768),)),
    "layer norm 4096": Case("LayerNorm", (4096,), {}, ((1024, 4096),)),
    "rms norm 256 of 128": Case("RMSNorm", (256,), {}, ((128, 256),)),
    "rms norm 768": Case("RMSNorm", (768,), {}, ((1024, 768),)),
    "rms norm 4096": Case("RMSNorm", (4096,), {}, ((1024, 4096),)),
    "group norm 4 of 16 @16": Case("GroupNorm", (4, 16), {}, ((8, 16, 16, 16),)),
    "group norm 32 of 256 @28": Case("GroupNorm", (32, 256), {}, ((8, 256, 28, 28),)),
    "group norm 32 of 320 @64, batch 4": Case("GroupNorm", (32, 320), {}, ((4, 320, 64, 64),)),
    "instance norm 16 @16": Case("InstanceNorm2d", (16,), {}, ((8, 16, 16, 16),)),
    "instance norm 64 @128, batch 4": Case("InstanceNorm2d", (64,), {"affine": True}, ((4, 64, 128, 128),)),
}

_ACTIVATIONS: dict[str, tuple[str, dict]] = {
    "gelu": ("GELU", {}),
    "gelu tanh": ("GELU", {"approximate": "tanh"}),
    "silu": ("SiLU", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "elu": ("ELU", {}),
    "leaky relu": ("LeakyReLU", {}),
    "hardswish": ("Hardswish", {}),
    "softplus": ("Softplus", {}),
    "mish": ("Mish", {}),
}
ACTIVATION = {
    "relu 256 of 64": Case("ReLU", (), {}, (SMALL,)),
    "relu 64 @56": Case("ReLU", (), {}, ((8, 64, 56, 56),)),
    **{
        f"{name} {what}": Case(layer, (), options, (shape,))
        for name, (layer, options) in _ACTIVATIONS.items()
        for what, shape in (("256 of 64", SMALL), ("3072", LARGE))
    },
}

POOLING = {
    "max pool 2x2 16 @8, batch 64": Case("MaxPool2d", (2,), {}, ((64, 16, 8, 8),)),
    "max pool 2x2 64 @56": Case("MaxPool2d", (2,), {}, ((8, 64, 56, 56),)),
    "max pool 3x3 stride 2 64 @112": Case("MaxPool2d", (3,), {"stride": 2, "padding": 1}, ((4, 64, 112, 112),)),
    "max pool 1d 4 64 @2000": Case("MaxPool1d", (4,), {}, ((16, 64, 2000),)),
    "max pool 3d 2 64 @8x28x28, batch 2": Case("MaxPool3d", (2,), {}, ((2, 64, 8, 28, 28),)),
    "average pool 2x2 16 @8, batch 64": Case("AvgPool2d", (2,), {}, ((64, 16, 8, 8),)),
    "average pool 2x2 64 @56": Case("AvgPool2d", (2,), {}, ((8, 64, 56, 56),)),
    "average pool 3x3 stride 1 192 @28": Case("AvgPool2d", (3,), {"stride": 1, "padding": 1}, ((8, 192, 28, 28),)),
    "adaptive average pool 32 @4, batch 64": Case("AdaptiveAvgPool2d", (1,), {}, ((64, 32, 4, 4),)),
    "adaptive average pool 512 @7": Case("AdaptiveAvgPool2d", (1,), {}, ((32, 512, 7, 7),)),
    "adaptive average pool to 6x6 256 @28": Case("AdaptiveAvgPool2d", (6,), {}, ((8, 256, 28, 28),)),
    "adaptive max pool 512 @7": Case("AdaptiveMaxPool2d", (1,), {}, ((32, 512, 7, 7),)),
}

LOSS = {
    "softmax 64 rows of 10": Case("Softmax", (), {"dim": 1}, ((64, 10),)),
    "softmax 1024 rows of 1000": Case("Softmax", (), {"dim": 1}, ((1024, 1000),)),
    "softmax 48 heads of 256x256": Case("Softmax", (), {"dim": 3}, ((4, 12, 256, 256),)),
    "log softmax 64 rows of 10": Case("LogSoftmax", (), {"dim": 1}, ((64, 10),)),
    "log softmax 1024 rows of 1000": Case("LogSoftmax", (), {"dim": 1}, ((1024, 1000),)),
    "cross entropy 64 of 10": Case("CrossEntropyLoss", (), {}, ((64, 10), integers((64,), 10))),
    "cross entropy 256 of 1000": Case("CrossEntropyLoss", (), {}, ((256, 1000), integers((256,), 1000))),
    "cross entropy 128 of 50000": Case("CrossEntropyLoss", (), {}, ((128, 50000), integers((128,), 50000))),
    "cross entropy 21 classes @128, batch 4": Case(
        "CrossEntropyLoss", (), {}, ((4, 21, 128, 128), integers((4, 128, 128), 21))
    ),
    "mean squared error 64 of 10": Case("MSELoss", (), {}, ((64, 10), (64, 10))),
    "mean squared error 4 million": Case("MSELoss", (), {}, ((4096, 1024), (4096, 1024))),
    "binary cross entropy with logits 64 of 80": Case("BCEWithLogitsLoss", (), {}, ((64, 80), probabilities(64, 80))),
    "binary cross entropy with logits 1 million": Case(
        "BCEWithLogitsLoss", (), {}, ((1024, 1024), probabilities(1024, 1024))
    ),
    "kl divergence 64 of 10": Case(
        "KLDivLoss", (), {"reduction": "batchmean"}, ((64, 10), probabilities(64, 10, axis=1))
    ),
    "kl divergence 1024 of 1000": Case(
        "KLDivLoss", (), {"reduction": "batchmean"}, ((1024, 1000), probabilities(1024, 1000, axis=1))
    ),
}

EMBEDDING = {
    "embedding 1000 of 64": Case("Embedding", (1000, 64), {}, (integers((16, 32), 1000),)),
    "embedding 30522 of 384": Case("Embedding", (30522, 384), {}, (integers((32, 128), 30522),)),
    "embedding 50257 of 768": Case("Embedding", (50257, 768), {}, (integers((4, 512), 50257),)),
    "embedding bag 1000 of 64": Case("EmbeddingBag", (1000, 64), {}, (integers((64, 16), 1000),)),
    "embedding bag 100000 of 64": Case("EmbeddingBag", (100000, 64), {}, (integers((512, 32), 100000),)),
}

RECURRENT = {
    "rnn 64, 32 steps, batch 16": Case("RNN", (64, 64), {}, ((32, 16, 64),)),
    "rnn 256, 64 steps, batch 32": Case("RNN", (256, 256), {}, ((64, 32, 256),)),
    "gru 32, 16 steps, batch 8": Case("GRU", (32, 32), {}, ((16, 8, 32),)),
    "gru 256, 64 steps, batch 32": Case("GRU", (256, 256), {}, ((64, 32, 256),)),
    "lstm 32, 16 steps, batch 8": Case("LSTM", (32, 32), {}, ((16, 8, 32),)),
    "lstm 256, 64 steps, batch 32": Case("LSTM", (256, 256), {}, ((64, 32, 256),)),
    "lstm 2 layers of 650, 35 steps, batch 20": Case("LSTM", (650, 650, 2), {}, ((35, 20, 650),)),
    "lstm both ways 128, 50 steps, batch 32": Case("LSTM", (128, 128), {"bidirectional": True}, ((50, 32, 128),)),
}

ATTENTION = {
    "attention 2 heads of 16, 16 tokens": attention(2, 16, 8, 16),
    "attention 8 heads of 64, 128 tokens": attention(8, 64, 8, 128),
    "attention 12 heads of 64, 256 tokens": attention(12, 64, 4, 256),
    "attention 12 heads of 64, 256 tokens, causal": attention(12, 64, 4, 256, mask=True),
    "attention 12 heads of 64, 1024 tokens, causal": attention(12, 64, 1, 1024, mask=True),
    "transformer encoder layer 64, 16 tokens": encoder(64, 2, 256, 8, 16),
    "transformer encoder layer 512, 128 tokens": encoder(512, 8, 2048, 4, 128),
}

OTHER = {
    "dropout 256 of 64": Case("Dropout", (0.5,), {}, (SMALL,)),
    "dropout 3072": Case("Dropout", (0.1,), {}, (LARGE,)),
    "zero pad 1 16 @28, batch 16": Case("ZeroPad2d", (1,), {}, ((16, 16, 28, 28),)),
    "reflection pad 3 64 @128, batch 2": Case("ReflectionPad2d", (3,), {}, ((2, 64, 128, 128),)),
    "upsample nearest x2 16 @14, batch 16": Case("Upsample", (), {"scale_factor": 2}, ((16, 16, 14, 14),)),
    "upsample nearest x2 64 @56, batch 4": Case("Upsample", (), {"scale_factor": 2}, ((4, 64, 56, 56),)),
    "upsample bilinear x2 16 @14, batch 16": Case(
        "Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, ((16, 16, 14, 14),)
    ),
    "upsample bilinear x2 64 @56, batch 4": Case(
        "Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, ((4, 64, 56, 56),)
    ),
    "pixel shuffle 3 27 @32, batch 4": Case("PixelShuffle", (3,), {}, ((4, 27, 32, 32),)),
    "pixel shuffle 2 256 @64, batch 4": Case("PixelShuffle", (2,), {}, ((4, 256, 64, 64),)),
}

FAMILIES: dict[str, dict[str, Case]] = {
    "linear": LINEAR,
    "convolution": CONVOLUTION,
    "normalization": NORMALIZATION,
    "activation": ACTIVATION,
    "pooling": POOLING,
    "loss": LOSS,
    "embedding": EMBEDDING,
    "recurrent": RECURRENT,
    "attention": ATTENTION,
    "other": OTHER,
}
ROWS: dict[str, Case] = {name: case for rows in FAMILIES.values() for name, case in rows.items()}


class OptimizerStep(NamedTuple):
    """A step of torch.optim.<name> on parameters of these shapes; `fused` is torch's own quicker way."""

    name: str
    options: dict
    shapes: tuple[tuple[int, ...], ...]
    fused: bool = False


def resnet50() -> tuple[tuple[int, ...], ...]:
    """The shapes of the 161 parameters of ResNet-50, 25.6 million numbers."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    c_in = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(blocks):
            for shape in ((width, c_in, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)):
                shapes += [shape, shape[:1], shape[:1]]
            if i == 0:
                shapes += [(4 * width, c_in, 1, 1), (4 * width,), (4 * width,)]
            c_in = 4 * width
    return (*shapes, (1000, 2048), (1000,))


DIGITS = ((16, 1, 3, 3), (16,), (16,), (16,), (32, 16, 3, 3), (32,), (32,), (32,), (10, 128), (10,))
_PARAMETERS = {
    "the digits network": DIGITS,
    "25 million in one array": ((25_000_000,),),
    "25 million in 161 arrays": resnet50(),
}
_OPTIMIZERS: dict[str, tuple[str, dict]] = {
    "sgd with momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    "adam": ("Adam", {"lr": 1e-3}),
    "adamw": ("AdamW", {"lr": 1e-3}),
}
OPTIMIZER_ROWS = {
    f"{name}, {what}{', torch fused' if fused else ''}": OptimizerStep(optimizer, options, shapes, fused)
    for name, (optimizer, options) in _OPTIMIZERS.items()
    for what, shapes in _PARAMETERS.items()
    for fused in ((False, True) if "million" in what else (False,))
}

QUICK = (
    r"^affine 784|^conv 3x3 64-64 @56|^conv 3x3 1-16 @8|^conv 5x5 1-8|^batch norm (64 @56|256)|^layer norm 768"
    r"|^max pool 2x2 64|^relu|^gelu 3072|^softmax 1024|^cross entropy 256"
)

# What bounds a row that misses, and what was tried: printed beside it.
_STEPS = (
    "NumPy alone: Adam is 12 operations a number, 0.13 to 0.25 ns each in the cache, and the first to meet each of "
    "four arrays waits for memory, 0.5 ns: blocks of a quarter million 94 ms on one thread and 57 on two, of 32 "
    "thousand 107 and 80, as calls and waiting for the interpreter cost more than the nearer cache saves; with the "
    "square taken of what is in the cache 49"
)
_LINES = (
    "6 MB arrays in the last cache: compiled, 0.15 + 0.21 ms, the bare loops on two threads 0.08 + 0.12; handing half "
    "to a thread takes 15 to 30 us, on a core that has halted up to 300, and no less where it spins instead of "
    "sleeping: it waits for the interpreter. "
)
_GATES = (
    "products of 32 columns: 128 us a step on BLAS's two threads, 104 us as halves of the samples on a thread each, "
    "84 us at the ceiling, where torch's are; in halves 52 ms (NumPy alone 61), whole 63 (67), torch 38 in the same run"
)
_WIDE_GATES = (
    "7 MB of weights, read and packed anew each step for 20 columns: 990 us on one thread, 680 at its ceiling; "
    "compiled steps 225 ms (NumPy alone 250), halves of the samples on a thread each 264 (275), torch 175"
)
_ROWS = (
    "NumPy alone, softmax forward on one thread: exp by itself 0.47 ms where all of torch's takes 0.61; 0.79 ms "
    "without looking for the largest, 1.27 with it"
)
_PLANES = (
    "NumPy alone, on two threads: all taps of shifted copies in one einsum {} ms, an einsum for each column of taps of "
    "padded planes {}, products with matrices that repeat the kernel {}; nine weights times a row are 2 ns a number, "
    "which is half of it, and the rest is copies"
)
_REGISTERS = (
    "the 16 registers of AVX2 hold the sums of 6 outputs by 16 places, those of AVX-512 of 16: compiled direct sums {} "
    "ms in the same run, {} with all 16 at once, columns {}, torch {}"
)
_ROWS_OF_28 = "on one thread: rows of 28 leave 14 % of vectors of 32 empty; "
WHY: dict[str, str] = {
    "conv 3x3 stride 2 64-128 @56": _REGISTERS.format(70, 77, 45, 46),
    "conv 3x3 stride 2 128-128 @56": _REGISTERS.format(98, 149, 79, 74),
    "conv 3x3 3-64 @224, batch 2": _REGISTERS.format(45, 47, 32, 29),
    "conv 5x5 32-96 @28": _REGISTERS.format(38, 60, 46, 27),
    "conv 3x3 64-64 @32, batch 32": _REGISTERS.format(90, 158, 81, 72),
    "conv 1d 5 300-100 @64, batch 32": _REGISTERS.format(32, 40, 31, 22),
    "transposed conv 4x4 stride 2 128-64 @16, batch 32": _REGISTERS.format(85, 157, 99, 69),
    "transposed conv 2x2 stride 2 128-64 @56, batch 2": _REGISTERS.format(31, 42, 25, 23),
    "transposed conv 1d 16 stride 8 256-128 @64": _REGISTERS.format(28, 43, 34, 20),
    "conv 5x5 6-16 @14, batch 64": "NumPy alone: 25 taps of 10 thousand numbers are 25 calls of 15 us: forward, dx and "
    "dweight 1.4, 2.8 and 1.4 ms on one thread with runs of 16 images side by side, 1.3, 2.2 and 1.3 of 32; two "
    "threads wait for the interpreter",
    "sgd with momentum, 25 million in 161 arrays, torch fused": "memory: 22 ms compiled, where reading three arrays "
    "and writing two takes 16; NumPy alone 29, in blocks of a quarter million",
    "relu 64 @56": _LINES + "NumPy alone: 0.25 + 0.36 ms in blocks of half a million, 0.82 + 0.79 of 128 thousand",
    "leaky relu 3072": _LINES + "NumPy alone: 2 and 4 operations, 0.27 + 0.46 ms; by masks 3 and 6, 0.8 + 0.8",
    "hardswish 3072": _LINES + "NumPy alone: 4 and 7 operations, 0.46 + 0.73 ms; by masks 4 and 12, 0.6 + 1.3",
    "silu 3072": "NumPy alone: exp alone takes 0.28 ns a number on two threads, torch's whole forward 0.23; blocks of "
    "half a million 0.7 + 1.2 ms, of 128 thousand 0.9 + 1.6. A sigmoid by tanh has 0.7 ns of operations for 0.95, and "
    "loses the digits of small answers",
    "sigmoid 3072": "compiled, 0.8 to 1.2 of torch's over six runs: "
    + _LINES
    + "NumPy alone: 4 and 3 operations, 1.0 + 0.56 ms in blocks of a million, 1.07 + 0.66 of half a million",
    "gelu 3072": "NumPy alone: a polynomial of degree 6 is an operation a coefficient and one a product, 1.8 + 2.7 ms, "
    "in blocks of 128 thousand 2.2 + 3.2; by erf 0.75 + 0.84 ms on 65 thousand numbers, where this takes 0.12 + 0.18",
    "conv 3x3 512-512 @7": (
        "on one thread: compiled direct sums 34 ms, Winograd 44 (tiles of 2x2 cover 8x8 pixels for 7x7), columns 49, "
        "torch 28"
    ),
    "conv 3d 3 64-64 @8x28x28, batch 2": _ROWS_OF_28 + "compiled direct sums 43 to 48 ms, columns 63 to 82, torch 36",
    "conv 3x3 dilation 2 256-256 @28, batch 2": _ROWS_OF_28 + "compiled direct sums 31 ms, columns 32, torch 25",
    "conv 3x3 stride 2 256-512 @14": (
        "on one thread: rows of 7 in vectors of 8; compiled direct sums 19 ms, columns 22, torch 15 to 16"
    ),
    "conv depthwise 3x3 1024 @7": (
        "on one thread: compiled, vectors of channels 1.2 ms, plane by plane 2.9; what is left is laying out and four "
        "loads a multiplication. " + _PLANES.format(6.2, 10.9, 7.7)
    ),
    "conv 3x3 16-32 @4, batch 64": "NumPy alone: rows of 4 numbers; columns of one row's taps 1.4 ms on one thread, "
    "with the columns' gradients added up 1.7",
    "conv 3x3 in 32 groups 512 @14": "NumPy alone: products of 16 channels, one for each group and image; columns of "
    "one row's taps 9.7 ms on one thread, with the columns' gradients added up 13.4",
    "conv depthwise 3x3 128 @28": _PLANES.format(6.9, 8.8, 12.6),
    "conv depthwise 3x3 512 @14": _PLANES.format(8.7, 11.3, 9.9),
    "conv depthwise 3x3 stride 2 256 @28": _PLANES.format(9.8, 22.6, 12.2),
    "conv 1x1 512-2048 @7": (
        "products of 49 positions: an image at a time on a thread each 19.6 ms, on BLAS's threads 17.6"
    ),
    "conv depthwise 3x3 stride 2 64 @112": ("compiled, plane by plane 9 to 12 ms. " + _PLANES.format(28.9, 49.7, 45)),
    "batch norm 512 @7": "rows of 49 numbers: compiled, by rows 0.33 ms, by columns 0.31; NumPy alone 0.33 + 0.38",
    "transformer encoder layer 64, 16 tokens": (
        "1.2 ms, of which products are 0.3 and attention 0.22 (all of it with the agnostic attention 1.5); the rest is "
        "what calls cost"
    ),
    "step of ResNet-18 @64, batch 16": (
        "convolutions are 91 of 115 ms compiled, 137 of 160 with NumPy alone, of images of 16x16 down to 2x2: of 512 "
        "channels @2 the products alone take 2.1, 2.8 and 2.3 ms where the ceiling is 1.5; of 64 @32 columns 51 ms, "
        "Winograd 55; of 512 @7 columns 44, Winograd 51"
    ),
    "adam, 25 million in one array, torch fused": _STEPS,
    "adam, 25 million in 161 arrays, torch fused": _STEPS,
    "adamw, 25 million in one array, torch fused": _STEPS,
    "adamw, 25 million in 161 arrays, torch fused": _STEPS,
    "lstm 256, 64 steps, batch 32": _GATES,
    "lstm 2 layers of 650, 35 steps, batch 20": _WIDE_GATES,
    "lstm both ways 128, 50 steps, batch 32": _GATES,
    "max pool 2x2 16 @8, batch 64": (
        "0.19 ms either way. NumPy alone: many calls on 32 thousand numbers; a maximum and a comparison of taps that "
        "are read with a stride are 1.3 ns a number, copied first 0.7. Compiled: 4096 pairs of rows of 8 numbers"
    ),
    "adaptive max pool 512 @7": (
        "rows of 49 numbers: reduceat 0.31 ms, the equality 0.19, its places 0.27; argmax 1.03; without the places, "
        "halves of rows 0.54, doubled flat shifts 0.35"
    ),
    "softmax 1024 rows of 1000": _ROWS,
    "log softmax 1024 rows of 1000": _ROWS,
    "affine 784-256, batch 64": "x W^T takes 196 us, 128 at the ceiling; W x^T 169 us, but its answer is turned",
    "layer norm 4096": (
        "NumPy alone: a dozen passes over 16 MB: blocks of a million 5.7 + 12.5 ms, of 400 thousand 4.6 + 7.4; "
        "compiled, row by row in the cache, 1.0"
    ),
    "layer norm 768": (
        "NumPy alone: 6 and 11 passes, 0.93 + 1.49 ms on two threads; sums around 0, a pass less in the backward, "
        "1.80; blocks of 64 thousand 1.65 + 2.37"
    ),
    "group norm 32 of 256 @28": (
        "NumPy alone: memory, the forward 2.1 ms on one thread and on two, of which reading x and writing y once is "
        "0.8 to 1.0; statistics in blocks of 64 thousand and answers in others no faster"
    ),
    "group norm 4 of 16 @16": (
        "NumPy alone: a pass over 32 thousand numbers is 5 us, with a broadcast over rows of 256 10 us, also as a "
        "product or a repeated column, and as many calls on 32 numbers: 0.16 + 0.22 ms"
    ),
}


def fingerprint() -> str:
    """What the README's table depends on: the names and the cases. A test compares it with the README's."""
    steps = {name: (*step[1:], step.net.__name__) for name, step in STEPS.items()}
    text = "\n".join(f"{name}: {row}" for name, row in {**ROWS, **OPTIMIZER_ROWS, **steps}.items())
    return hashlib.sha256(text.encode()).hexdigest()[:12]
