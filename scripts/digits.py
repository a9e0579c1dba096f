"""Trains a small convolutional network on real handwritten digits, with every gradient written out.

The data are scikit-learn's `load_digits`: 1,797 images of 8x8 pixels (Alpaydin and Kaynak, Optical recognition of
handwritten digits, 1998). Split, initial values and order are fixed. Nothing in the training names an array library:
`--backend` chooses the arrays.
"""

# ruff: noqa: E402
import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.needs import needs

needs("numpy", "sklearn", "matplotlib", "tqdm", "array_api_compat", "array_api_extra")

import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import xplayers as xpl
from scripts.backends import CHOICES, use

EPOCHS = 15
BATCH = 64
RATE = 3e-3
HELD_OUT = 360
GOAL = 0.98


class Digits(NamedTuple):
    """Images (N, 1, 8, 8), scaled to mean 0 and deviation 1 of the training images, and labels (N,)."""

    images: Any
    labels: Any
    test_images: Any
    test_labels: Any


class Epoch(NamedTuple):
    loss: float
    accuracy: float
    test_loss: float
    test_accuracy: float


def digits(dtype: str = "float32") -> Digits:
    """The data in NumPy arrays; the split is the same every time."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images, labels = data.images[order, None], data.target[order].astype(np.int64)
    mean, deviation = images[HELD_OUT:].mean(), images[HELD_OUT:].std()
    images = ((images - mean) / deviation).astype(dtype)
    return Digits(images[HELD_OUT:], labels[HELD_OUT:], images[:HELD_OUT], labels[:HELD_OUT])


def network(seed: int = 0) -> xpl.Sequential:
    """(N, 1, 8, 8) -> (N, 10)."""
    rng = np.random.default_rng(seed)
    return xpl.Sequential(
        xpl.Conv2d(1, 16, 3, padding=1, rng=rng),
        xpl.BatchNorm2d(16),
        xpl.ReLU(),
        xpl.MaxPool2d(2),  # (N, 16, 4, 4)
        xpl.Conv2d(16, 32, 3, padding=1, rng=rng),
        xpl.BatchNorm2d(32),
        xpl.ReLU(),
        xpl.MaxPool2d(2),  # (N, 32, 2, 2)
        xpl.Flatten(),
        xpl.Affine(128, 10, rng=rng),
    )


def train(
    net: xpl.Layer,
    data: Digits,
    asarray: Callable[[Any], Any],
    to_numpy: Callable[[Any], np.ndarray],
    epochs: int = EPOCHS,
    seed: int = 0,
    report: Callable[[int, Epoch], None] = lambda epoch, result: None,
    step: Callable[[int], None] = lambda images: None,
) -> list[Epoch]:
    """Adam with a rate that falls to zero; `report` hears of every epoch and `step` of every batch."""
    rng = np.random.default_rng(seed)
    loss, optimizer = xpl.CrossEntropyLoss(), xpl.optim.Adam(net, lr=RATE)
    n = len(data.labels)
    test_images, test_labels = asarray(data.test_images), asarray(data.test_labels)
    history = []
    for epoch in range(epochs):
        order = rng.permutation(n)
        images, labels = asarray(data.images[order]), asarray(data.labels[order])  # one transfer an epoch
        values, hits = [], []
        net.train()
        for start in range(0, n, BATCH):
            x, target = images[start : start + BATCH, ...], labels[start : start + BATCH]
            optimizer.lr = RATE * (1 - (epoch + start / n) / epochs)
            scores = net(x)  # (B, 10)
            values.append(loss(scores, target) * x.shape[0])
            net.backward(loss.backward(), input_grad=False)
            optimizer.step()
            net.zero_grad()
            hits.append(scores)
            step(x.shape[0])
        mean = sum(float(to_numpy(value)) for value in values) / n  # read at the end: each read waits for the device
        guesses = np.concatenate([to_numpy(scores).argmax(1) for scores in hits])
        net.eval()
        scores = net(test_images)
        result = Epoch(
            mean,
            float((guesses == data.labels[order]).mean()),
            float(to_numpy(loss(scores, test_labels))),
            float((to_numpy(scores).argmax(1) == data.test_labels).mean()),
        )
        history.append(result)
        report(epoch, result)
    return history


def predict(net: xpl.Layer, images: Any, to_numpy: Callable[[Any], np.ndarray]) -> np.ndarray:
    """The digits that a network in `eval()` sees in the images."""
    return to_numpy(net(images)).argmax(1)


def picture(path: Path, history: list[Epoch], data: Digits, guesses: np.ndarray, title: str) -> None:
    """The learning curve, and below it the held-out digits that the network got wrong (the first twelve)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wrong = np.flatnonzero(guesses != data.test_labels)
    shown = wrong[:12]
    figure = plt.figure(figsize=(8, 5.2), layout="constrained")
    curve, below = figure.subfigures(2, 1, height_ratios=(3, 1.3))
    left, right = curve.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)
    left.semilogy(epochs, [e.loss for e in history], label="training")
    left.semilogy(epochs, [e.test_loss for e in history], label="held out")
    left.set(xlabel="epoch", ylabel="cross entropy")
    left.legend()
    right.plot(epochs, [100 * e.accuracy for e in history], label="training")
    right.plot(epochs, [100 * e.test_accuracy for e in history], label="held out")
    right.set(xlabel="epoch", ylabel="accuracy, %", ylim=(90, 100.3))
    right.axhline(100 * GOAL, color="grey", linewidth=0.8, linestyle=":")
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    below.suptitle(f"The {len(wrong)} of {len(guesses)} held-out digits that it got wrong", fontsize="medium")
    for axis, i in zip(np.atleast_1d(below.subplots(1, max(len(shown), 6))), [*shown, *[None] * 6], strict=False):
        axis.axis("off")
        if i is not None:
            axis.imshow(data.test_images[i, 0], cmap="gray_r")
            axis.set_title(f"{data.test_labels[i]}, read as {guesses[i]}", fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", choices=CHOICES, default="numpy", help="the arrays to train on (default: numpy)")
    parser.add_argument("--out", type=Path, default=ROOT / ".out", help="where weights and picture go (default: .out)")
    parser.add_argument("--picture", type=Path, help="the picture's file (default: digits.png in --out)")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args(arguments)
    if asked.epochs < 1:
        parser.error("--epochs: at least 1")
    _, asarray, to_numpy, _ = use(asked.backend)
    assert asarray is not None and to_numpy is not None

    data = digits()
    net = network()
    print(f"{net!r}\n{sum(xpl.arrays.size(p) for p in net.params.values())} parameters, {asked.backend} arrays")
    print(f"{len(data.labels)} digits to learn from, {len(data.test_labels)} held out")
    start = time.perf_counter()
    often = 0.2 if sys.stdout.isatty() else 5.0  # a log shall not hold a line for each step of the bar
    with tqdm(total=asked.epochs * len(data.labels), unit=" digits", mininterval=often, file=sys.stdout) as bar:

        def report(epoch: int, result: Epoch) -> None:
            bar.write(
                f"epoch {epoch + 1:2}  loss {result.loss:.4f}  accuracy {result.accuracy:7.2%}"
                f"   held out: loss {result.test_loss:.4f}  accuracy {result.test_accuracy:7.2%}",
                file=sys.stdout,
            )

        history = train(net, data, asarray, to_numpy, asked.epochs, report=report, step=bar.update)
    seconds = time.perf_counter() - start

    asked.out.mkdir(parents=True, exist_ok=True)
    weights, image = asked.out / "digits.npz", asked.picture or asked.out / "digits.png"
    xpl.save(weights, net)
    test_images = asarray(data.test_images)
    guesses = predict(net, test_images, to_numpy)
    again = network(seed=1)
    again.load_state_dict(xpl.load(weights))
    if not np.array_equal(predict(again.to(like=test_images).eval(), test_images, to_numpy), guesses):
        raise SystemExit(f"{weights}, loaded back, predicts other digits")
    print(f"weights: {weights} (loaded back: the same predictions)")
    accuracy = history[-1].test_accuracy
    picture(image, history, data, guesses, f"Digits on {asked.backend} arrays: {accuracy:.2%} of the held-out ones")
    print(f"picture: {image}")
    print(f"held-out accuracy {accuracy:.2%} after {seconds:.1f} s of training")
    if asked.epochs >= EPOCHS and accuracy < GOAL:
        raise SystemExit(f"expected at least {GOAL:.0%}")


if __name__ == "__main__":
    main()
