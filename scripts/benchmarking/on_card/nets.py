"""The networks of whole steps on a card, written once: `net(xpl)` is ours and `net(torch.nn)` torch's."""

from typing import Any

import torch

import xplayers as xpl
from scripts.benchmarking.steps import residual
from xplayers import functional as F
from xplayers.arrays import array_namespace

__all__ = ["causal_attention", "gpt2_block", "resnet50"]


def resnet50(nn: Any, width: int = 64, blocks: tuple[int, ...] = (3, 4, 6, 3), classes: int = 1000) -> Any:
    """(N, 3, H, W) -> (N, classes): He et al., Deep residual learning for image recognition (2015).

    The stride is that of the 3x3 convolution, as in torchvision's.
    """
    layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    c_in = width
    for stage, count in enumerate(blocks):
        c = width * 2**stage
        for i in range(count):
            stride = 2 if i == 0 and stage > 0 else 1
            body = nn.Sequential(
                nn.Conv2d(c_in, c, 1, bias=False),
                nn.BatchNorm2d(c),
                nn.ReLU(),
                nn.Conv2d(c, c, 3, stride, 1, bias=False),
                nn.BatchNorm2d(c),
                nn.ReLU(),
                nn.Conv2d(c, 4 * c, 1, bias=False),
                nn.BatchNorm2d(4 * c),
            )
            shortcut = None
            if i == 0:
                shortcut = nn.Sequential(nn.Conv2d(c_in, 4 * c, 1, stride, bias=False), nn.BatchNorm2d(4 * c))
            layers += [residual(nn)(body, shortcut), nn.ReLU()]
            c_in = 4 * c
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, classes))


class _OurAttention(xpl.Layer):
    """(N, L, E) -> (N, L, E): each token attends to those before it and itself, by many heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.into, self.out, self.heads = xpl.Linear(width, 3 * width), xpl.Linear(width, width), heads

    def forward(self, x: Any, *, tape: Any = None) -> Any:
        xp = array_namespace(x)
        n, tokens, width = x.shape
        y = xp.reshape(self.into.forward(x, tape=tape), (n, tokens, 3, self.heads, width // self.heads))
        y = xp.permute_dims(y, (2, 0, 3, 1, 4))
        y, cache = F.scaled_dot_product_attention_forward(y[0, ...], y[1, ...], y[2, ...], is_causal=True)
        xpl.record(tape, self, cache)
        return self.out.forward(xp.reshape(xp.permute_dims(y, (0, 2, 1, 3)), x.shape), tape=tape)

    def backward(self, dy: Any, *, tape: Any) -> Any:
        dy = self.out.backward(dy, tape=tape)
        xp = array_namespace(dy)
        n, tokens, width = dy.shape
        dy = xp.permute_dims(xp.reshape(dy, (n, tokens, self.heads, width // self.heads)), (0, 2, 1, 3))
        gradients = F.scaled_dot_product_attention_backward(dy, tape.pop(self))[:3]
        d = xp.permute_dims(xp.stack(gradients), (1, 3, 0, 2, 4))
        return self.into.backward(xp.reshape(d, (n, tokens, 3 * width)), tape=tape)


class _TorchsAttention(torch.nn.Module):
    """The same by torch.nn.functional."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.into, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        y = self.into(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(*y.unbind(0), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(x.shape))


def causal_attention(nn: Any, width: int, heads: int) -> Any:
    return (_OurAttention if nn is xpl else _TorchsAttention)(width, heads)


def gpt2_block(nn: Any, width: int = 768, heads: int = 12) -> Any:
    """(N, L, width) -> (N, L, width): Radford et al., Language models are unsupervised multitask learners (2019).

    Without dropout, as the two sides would draw different masks.
    """
    attention = nn.Sequential(nn.LayerNorm(width), causal_attention(nn, width, heads))
    wide = (nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
    return nn.Sequential(residual(nn)(attention), residual(nn)(nn.Sequential(nn.LayerNorm(width), *wide)))
