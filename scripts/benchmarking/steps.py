"""Whole training steps: forward, loss, backward, the optimizer's step, gradients cleared.

A network is written once: our layers bear the names and arguments of torch.nn's, so `net(xpl)` is ours and
`net(torch.nn)` torch's, with the same state dictionary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Step(NamedTuple):
    """A network on one batch; `inputs` is a shape, `targets` one too, of integers below `classes` where that is set."""

    net: Callable[[Any], Any]
    loss: str
    optimizer: str
    options: dict
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    classes: int | None = None

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        x = rng.standard_normal(self.inputs, dtype=np.float32)
        if self.classes is None:
            return x, rng.standard_normal(self.targets, dtype=np.float32)
        return x, rng.integers(0, self.classes, self.targets)


def digits(nn: Any) -> Any:
    """(N, 1, 8, 8) -> (N, 10): the network of scripts/digits.py."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def residual(nn: Any) -> Any:
    """Ours is a layer; torch has none and is given one with the same names."""
    if hasattr(nn, "Residual"):
        return nn.Residual

    class Residual(nn.Module):
        def __init__(self, body: Any, shortcut: Any = None) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: Any) -> Any:
            return (x if self.shortcut is None else self.shortcut(x)) + self.body(x)

    return Residual


def resnet18(nn: Any) -> Any:
    """(N, 3, H, W) -> (N, 200): He et al., Deep residual learning for image recognition (2015)."""

    def block(c_in: int, c: int, stride: int) -> list[Any]:
        body = nn.Sequential(
            nn.Conv2d(c_in, c, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c),
        )
        plain = stride == 1 and c_in == c
        shortcut = None if plain else nn.Sequential(nn.Conv2d(c_in, c, 1, stride, bias=False), nn.BatchNorm2d(c))
        return [residual(nn)(body, shortcut), nn.ReLU()]

    widths = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2))
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *(layer for sizes in (*widths, (512, 512, 1)) for layer in block(*sizes)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 200),
    )


def transformer_block(nn: Any) -> Any:
    """(N, L, 512) -> (N, L, 512); without dropout, as the two sides would draw different masks."""
    return nn.Sequential(nn.TransformerEncoderLayer(512, 8, 2048, 0.0, batch_first=True))


STEPS: dict[str, Step] = {
    "step of the digits network, batch 64": Step(
        digits, "CrossEntropyLoss", "Adam", {"lr": 1e-3}, (64, 1, 8, 8), (64,), 10
    ),
    "step of ResNet-18 @64, batch 16": Step(
        resnet18, "CrossEntropyLoss", "SGD", {"lr": 1e-3, "momentum": 0.9}, (16, 3, 64, 64), (16,), 200
    ),
    "step of a transformer block 512, 128 tokens": Step(
        transformer_block, "MSELoss", "AdamW", {"lr": 1e-4}, (8, 128, 512), (8, 128, 512)
    ),
}
