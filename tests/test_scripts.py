"""What people run: the demo's training and its gradients, the comparison, the benchmark, and the environment's bash."""

import itertools
import json
import math
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import xplayers as xpl
from scripts import backends, benchmark, compare, digits, gpu_check, needs
from scripts.benchmarking import conditions, growth, measure, memory, overhead, peers, report, rows, sides, steps
from scripts.benchmarking.on_card import report as card_report
from scripts.benchmarking.on_card.rows import ROWS, STEP_ROWS, CardRow
from tests.cases import Case
from tests.oracle import share_of_tolerance

ROOT = Path(__file__).resolve().parent.parent


# -- the demo --


def test_the_demo_learns_the_digits():
    history = digits.train(digits.network(), digits.digits(), np.asarray, np.asarray)
    assert history[-1].test_accuracy >= digits.GOAL
    assert history[-1].loss < 0.05 < history[0].loss


def test_the_split_is_fixed_and_apart():
    data = digits.digits()
    assert (len(data.labels), len(data.test_labels)) == (1437, 360)
    assert data.test_labels[:8].tolist() == digits.digits().test_labels[:8].tolist()
    assert set(data.test_labels.tolist()) == set(range(10))
    held_out = {image.tobytes() for image in data.test_images}
    assert not held_out & {image.tobytes() for image in data.images}


def few(n):
    data = digits.digits()
    return digits.Digits(data.images[:n], data.labels[:n], data.test_images[:50], data.test_labels[:50])


def test_the_training_is_the_same_on_every_backend(backend):
    ours = digits.train(digits.network(), few(128), backend.asarray, backend.numpy, epochs=2)
    numpys = digits.train(digits.network(), few(128), np.asarray, np.asarray, epochs=2)
    np.testing.assert_allclose([e.loss for e in ours], [e.loss for e in numpys], rtol=1e-3)


def away_from_ties():
    """Digits in float64 with noise: background pixels are equal, and tie in the pools."""
    data = digits.digits("float64")
    rng = np.random.default_rng(0)
    x = data.images[:16] + 0.1 * rng.standard_normal((16, 1, 8, 8))
    return x, data.labels[:16]


def test_gradients_of_the_demos_network_are_torchs(backend, score):
    x, labels = away_from_ties()
    net, loss = digits.network(), xpl.CrossEntropyLoss()
    loss(net(backend.asarray(x)), backend.asarray(labels))
    dx = net.backward(loss.backward())

    twin = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 10),
    ).double()
    assert twin.state_dict().keys() == net.state_dict().keys()
    twin.load_state_dict({k: torch.tensor(backend.numpy(v)) for k, v in digits.network().state_dict().items()})
    leaf = torch.tensor(x, requires_grad=True)
    torch.nn.functional.cross_entropy(twin(leaf), torch.tensor(labels)).backward()

    expected = {"x": leaf.grad, **{k: p.grad for k, p in twin.named_parameters()}}
    ours = {"x": dx, **net.grads}
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        share = share_of_tolerance(backend.numpy(ours[name]), gradient.numpy(), "float64")
        score(share, 1)
        assert share <= 1, name


def test_gradients_of_the_demos_network_along_a_direction(backend):
    x, labels = away_from_ties()
    net, loss = digits.network(), xpl.CrossEntropyLoss()
    target = backend.asarray(labels)
    loss(net(backend.asarray(x)), target)
    dx = backend.numpy(net.backward(loss.backward()))
    start = {k: backend.numpy(v).astype(np.float64) for k, v in net.params.items()}
    rng = np.random.default_rng(1)
    along = {k: rng.standard_normal(v.shape) for k, v in start.items()}
    along_x = rng.standard_normal(x.shape)

    def value(h):
        for k, v in start.items():
            net.params[k] = backend.asarray(v + h * along[k])
        return float(backend.numpy(loss(net.forward(backend.asarray(x + h * along_x)), target)))

    h = 1e-6
    numeric = (value(h) - value(-h)) / (2 * h)
    ours = np.sum(dx * along_x) + sum(np.sum(backend.numpy(g) * along[k]) for k, g in net.grads.items())
    assert abs(numeric) > 0.1
    assert ours == pytest.approx(numeric, rel=1e-6)


def test_the_demo_writes_weights_and_a_picture(tmp_path, capsys):
    digits.main(["--epochs", "1", "--out", str(tmp_path / "new" / "folder"), "--picture", str(tmp_path / "curve.png")])
    said = capsys.readouterr().out
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    saved = xpl.load(tmp_path / "new" / "folder" / "digits.npz")
    assert saved.keys() == digits.network().state_dict().keys()
    assert "loaded back: the same predictions" in said
    assert re.search(r"epoch  1  loss \d\.\d+  accuracy", said)
    assert re.search(r"held-out accuracy \d+\.\d+% after \d", said)


@pytest.mark.parametrize("script", [digits, compare])
def test_an_unusable_backend_is_told_in_one_line(script):
    if backends.usable("cupy").reason is None:
        pytest.skip("CuPy computes here")
    with pytest.raises(SystemExit) as caught:
        script.main(["--backend", "cupy"])
    text = str(caught.value)
    assert text.startswith("--backend cupy cannot be used: ")
    assert len(text.splitlines()) == 1


def test_usable_gives_arrays_in_and_out():
    _, asarray, to_numpy, reason = backends.usable("torch")
    assert reason is None
    assert isinstance(asarray(np.ones(2)), torch.Tensor)
    assert isinstance(to_numpy(asarray(np.ones(2))), np.ndarray)


# -- the comparison --


def test_the_comparison_prints_both_sides(capsys):
    compare.main([])
    said = capsys.readouterr().out
    for title in compare.SEEDS:
        assert f"=== {title}" in said
    assert re.search(r"\[1\.2505557 +1\.0847762\d? .*\|.*\[1\.2505557", said)
    assert said.strip().endswith("all equal to rounding (float64, numpy)")


def test_the_comparison_of_the_table_of_cases(capsys):
    compare.main(["--all", "Linear("])
    said = capsys.readouterr().out
    assert "=== Linear(" in said
    assert "--- d weight" in said


def test_a_difference_ends_the_comparison(monkeypatch, capsys):
    good = compare.affine(np.asarray)
    bad = [good[0]._replace(ours=good[0].ours * (1 + 1e-9)), *good[1:]]
    monkeypatch.setattr(compare, "SEEDS", {"affine map": lambda asarray: bad})
    with pytest.raises(SystemExit, match="1 of 1 differ by more than rounding: affine map"):
        compare.main([])
    assert "NOT ROUNDING" in capsys.readouterr().out


# -- the benchmark --


@pytest.fixture
def quick_benchmark(monkeypatch, tmp_path):
    """The benchmark on four tiny rows, in a moment, beside a README of its own."""
    monkeypatch.setattr(growth, "SERIES", {"over batch": {n: Case("ReLU", (), {}, ((n, 8),)) for n in (1, 2)}})
    monkeypatch.setenv(conditions.RUN, "as it was")
    monkeypatch.setattr(measure, "SLOT", 0.001)
    monkeypatch.setattr(measure, "PAUSE", 0.0)
    monkeypatch.setattr(conditions, "best_time", lambda f, seconds=1.0: 1.0)
    monkeypatch.setattr(overhead, "RUNS", 1)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    some = {
        "linear": {"affine": Case("Linear", (8, 4), {}, ((2, 8),))},
        "convolution": {"conv": Case("Conv2d", (2, 3, 3), {}, ((2, 2, 5, 5),))},
        "optimizer": {"adam": rows.OptimizerStep("Adam", {"lr": 0.1}, ((3, 2), (4,)))},
        "steps": {"a step": steps.Step(steps.digits, "CrossEntropyLoss", "SGD", {}, (2, 1, 8, 8), (2,), 10)},
    }
    monkeypatch.setattr(benchmark, "ALL", some)
    monkeypatch.setattr(benchmark, "STEPS", some["steps"])
    monkeypatch.setattr(memory, "peaks", lambda name, fast: {"numpy": 1.0, "torch": 2.0})
    monkeypatch.setattr(benchmark, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    return tmp_path


def test_the_benchmark_measures_and_reports(quick_benchmark, capsys):
    benchmark.main(["--rounds", "1", "--readme"])
    figures = quick_benchmark / "scripts" / "figures"
    result = json.loads((figures / "benchmark.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["affine", "conv", "adam", "a step"]
    assert all(row["ratio"] > 0 and row["ratio_fast"] > 0 for row in result["rows"])
    assert [len(row["parts"]) for row in result["rows"]] == [2, 2, 1, 3]
    assert (figures / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    readme = (quick_benchmark / "README.md").read_text()
    assert readme.startswith("before\n<!-- benchmark -->\n")
    assert "| affine |" in readme
    assert "| a step | 1 (0.50) |" in readme
    assert re.search(r"\| over batch \| 1: [\d.]+, 2: [\d.]+ \|", readme)
    assert re.search(r"batch 48, forward \+ backward: layer with a tape \| [\d.]+ \|", readme)
    assert f"rows {rows.fingerprint()}" in readme
    assert "old" not in readme
    assert readme.endswith("<!-- /benchmark -->\nafter\n")

    run = str(figures / "benchmark.json")
    benchmark.main(["--readme", "--from", run, "--before", run, run])
    mean = " and ".join(f"{v:.2f}" for v in report.means(result["rows"]).values())
    said = f"All runs in a row, the last of them below: {mean}; {mean}; {mean}."
    assert said in (quick_benchmark / "README.md").read_text()

    benchmark.main(["--rounds", "1", "--only", "aff", "--compare", str(figures / "benchmark.json")])
    said = capsys.readouterr().out
    assert re.search(r"affine, NumPy alone +[\d.]+ -> [\d.]+", said)
    assert "slower than before: " in said
    assert (quick_benchmark / ".out" / "benchmark.json").exists()


def test_the_benchmark_joins_runs(quick_benchmark, capsys):
    for family in ("linear", "steps"):
        benchmark.main(["--rounds", "1", "--only", family, "--json", str(quick_benchmark / f"{family}.json")])
    files = [str(quick_benchmark / f"{family}.json") for family in ("steps", "linear")]
    benchmark.main(["--from", *files])
    joined = json.loads((quick_benchmark / ".out" / "benchmark.json").read_text())
    assert [row["name"] for row in joined["rows"]] == ["affine", "a step"]
    with pytest.raises(SystemExit):
        benchmark.main(["--readme", "--from", *files])
    assert "these runs lack ['adam', 'conv']" in capsys.readouterr().err


def test_the_benchmark_shows_overhead_and_growth(quick_benchmark, capsys):
    benchmark.main(["--rounds", "1", "--overhead", "--growth"])
    said = capsys.readouterr().out
    assert re.search(r"layer with a tape +[\d.]+ +[\d.]+ of torch's", said)
    assert re.search(r"namespace of three +[\d.]+", said)
    assert re.search(r"over batch\n.*\n +1 .*\n +2 .*x [\d.]+, torch x", said)


def test_sides_that_differ_end_the_benchmark(quick_benchmark, monkeypatch):
    monkeypatch.setattr(xpl.ReLU, "forward", lambda self, x, tape=None: x)
    monkeypatch.setattr(xpl.ReLU, "backward", lambda self, dy, tape=None: dy)
    monkeypatch.setattr(benchmark, "ALL", {"activation": {"relu": Case("ReLU", (), {}, ((2, 8),))}})
    with pytest.raises(SystemExit, match="relu: the output with NumPy alone differs from torch's"):
        benchmark.main(["--rounds", "1"])


class Slots:
    """A side whose slots take 1, 2, 3 ... seconds, by its own account."""

    def __init__(self):
        self.run = 0

    def slot(self):
        self.run += 1
        return (float(self.run),)


def test_the_table_beside_other_libraries():
    assert peers.CHAINER.keys() <= rows.ROWS.keys()
    name = "conv 3x3 64-64 @56"
    held = [{"name": name, "ratio": 1.2, "ratio_fast": 0.9}, {"name": "relu", "ratio": 1.0, "ratio_jax": 1.5}]
    said = report.beside_peers([*held, {"name": "elsewhere", "ratio": 1.0}])
    assert f"| {name} | 1.20 | 0.90 |  |  | {peers.CHAINER[name]:.2f} |" in said
    assert "| relu | 1.00 |  | 1.50 |  |  |" in said
    assert not any("elsewhere |" in line and "1.00" in line for line in said)


def test_rounds_in_which_others_were_busy_are_run_again(monkeypatch):
    monkeypatch.setattr(measure, "PAUSE", 0.0)
    taken = iter([0, 1e6, 0, 0, 0, 1e6, 0, 0, 0, 0, 0, 0])  # before and after a round: the first and the third are busy
    monkeypatch.setattr(measure, "others_seconds", lambda: next(taken))
    times, others = measure.interleaved({"numpy": Slots(), "torch": Slots()}, 2)
    assert times == {"numpy": [(2.0,), (4.0,)], "torch": [(2.0,), (4.0,)]}
    assert others == 0

    endless = itertools.count(0, 10**6)
    monkeypatch.setattr(measure, "others_seconds", lambda: next(endless))
    times, others = measure.interleaved({"torch": Slots()}, 2)
    assert len(times["torch"]) == 2
    assert others > measure.QUIET


def test_what_became_slower_is_named():
    machine = {"date": "2026-01-01", "cpu": "a", "threads": 2, "blas": "b", "torch": "c"}
    old = {"machine": machine, "rows": [{"name": n, "ratio": 1.0, "ratio_fast": 1.0} for n in "ab"]}
    new = {"machine": machine, "rows": [{"name": "a", "ratio": 1.05, "ratio_fast": 0.5}, {"name": "b", "ratio": 1.3}]}
    assert report.compared(new, old)[-1] == "slower than before: b, NumPy alone +30%"
    assert report.compared(old, old)[-1] == "slower than before: nothing"


def test_misses_are_told_with_what_bounds_them(monkeypatch):
    held = [{"name": "a", "ratio": 2.6, "ratio_fast": 1.0}, {"name": "b", "ratio": 1.0, "ratio_fast": 1.1}]
    monkeypatch.setattr(report, "WHY", {"a": "its traffic"})
    assert report.misses(held) == [("a (NumPy alone 2.60)", "its traffic")]


def test_memory_is_a_process_of_its_own(tmp_path):
    """Ours runs without torch, and holds at least what it was given."""
    name = "relu 64 @56"  # 6.4 MB
    code = "import sys\nfrom scripts.benchmarking import memory\n"
    code += f"print(memory.peak_here('numpy', {name!r}))\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 3 * 6.4e6 < int(done.stdout) < 100e6


@pytest.mark.parametrize("name", [n for n, c in rows.ROWS.items() if "256 of 64" in n or "1-16 @8" in n])
def test_jax_computes_what_its_rows_do(name):
    once = peers.jaxs(rows.ROWS[name])
    if once is None:
        return
    y, (dx, *_) = once()
    side = sides.torchs(rows.ROWS[name])
    side.once()
    outcome = side.outcome()
    assert y.shape == outcome["output"].shape
    if rows.ROWS[name].layer not in ("Conv2d", "BatchNorm1d"):  # no parameters to differ in
        np.testing.assert_allclose(y, outcome["output"], atol=1e-5)
        np.testing.assert_allclose(dx, outcome["input gradient"], atol=1e-5)


def test_the_benchmarks_rows_are_layers():
    for name, case in rows.ROWS.items():
        assert hasattr(torch.nn, case.layer), name
    assert sum(bool(re.search(rows.QUICK, name)) for name in rows.ROWS) >= 10
    assert sum(map(len, benchmark.ALL.values())) == len({name for held in benchmark.ALL.values() for name in held})
    assert set(rows.WHY) <= {name for held in benchmark.ALL.values() for name in held}


@pytest.mark.parametrize("name", ["step of ResNet-18 @64, batch 16", "step of the digits network, batch 64"])
def test_steps_are_of_one_network(name):
    step = steps.STEPS[name]
    ours, torchs = step.net(xpl), step.net(torch.nn)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    if step.net is steps.digits:
        assert ours.state_dict().keys() == digits.network().state_dict().keys()


def test_the_benchmarks_optimizers_step_25_million():
    for name, row in rows.OPTIMIZER_ROWS.items():
        assert hasattr(torch.optim, row.name), name
        assert hasattr(xpl.optim, row.name), name
    assert len(rows.resnet50()) == 161
    assert sum(math.prod(shape) for shape in rows.resnet50()) == 25_557_032
    assert tuple(p.shape for p in digits.network().params.values()) == rows.DIGITS


# -- the check on a card --


def test_the_check_on_a_card_runs_dry(tmp_path):
    """Every section and row, on NumPy and torch's CPU; the minutes are more than it takes on a busy machine."""
    target = tmp_path / "gpu_check.json"
    command = [sys.executable, "scripts/gpu_check.py", "--dry-run", "--minutes", "5", "--json", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sections = json.loads(target.read_text())["sections"]
    assert {name: s["status"] for name, s in sections.items()} == dict.fromkeys(gpu_check.SECTIONS, "ok")
    assert {mode: run["code"] for mode, run in sections["matrix"]["found"].items()} == {"require": 0, "off": 0}
    assert all(b["passed"] for run in sections["matrix"]["found"].values() for b in run["backends"])
    found = sections["rows"]["found"] + sections["steps"]["found"]
    assert [row["name"] for row in found] == [entry.name for entry in (*ROWS, *STEP_ROWS)]
    for row in found:
        if row["why"] == "a graph is recorded on a card only":
            continue
        assert row["status"] == "ok", row
        assert row["agree"]
        assert min(row["ratio"], row["ours_ms"], row["torch_ms"]) > 0
        assert len(row["parts"]) == len(row["ours_parts_ms"])
    assert set(benchmark.FAMILIES) | {"optimizer", "steps"} == {row["family"] for row in found}


def tiny_check(monkeypatch, tmp_path, *arguments):
    """A dry run in this process of one good row and one that fails."""
    good = CardRow("activation", "relu", lambda *shape: Case("ReLU", (), {}, (shape,)), (2, 3), (2, 3))
    bad = good._replace(name="unknown", build=lambda *shape: Case("Unknown", (), {}, (shape,)))
    how = gpu_check.benched([bad, good])
    monkeypatch.setattr(gpu_check, "benched", lambda rows: how)
    target = tmp_path / "found.json"
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--dry-run", "--sections", "rows,steps", "--json", str(target), *arguments])
    return str(ended.value), json.loads(target.read_text())


def test_a_row_that_fails_leaves_the_rest_of_the_check(monkeypatch, tmp_path, capsys):
    said, result = tiny_check(monkeypatch, tmp_path)
    assert said == "failed: unknown; unknown"
    bad, good = result["sections"]["rows"]["found"]
    assert (bad["status"], good["status"]) == ("failed", "ok")
    assert "has no attribute 'Unknown'" in bad["why"]
    assert "Unknown" in bad["traceback"]
    assert "| activation | unknown |  |  |  |  |  | failed: AttributeError" in capsys.readouterr().out
    block = card_report.markdown(result)
    assert "| activation | 1 of 2 |" not in block  # rows and steps stand in one table
    assert "| activation | 2 of 4 |" in block


def test_a_difference_from_torch_fails_a_row_of_the_check(monkeypatch, tmp_path):
    monkeypatch.setattr(xpl.ReLU, "forward", lambda self, x, tape=None: x)
    monkeypatch.setattr(xpl.ReLU, "backward", lambda self, dy, tape=None: dy)
    said, result = tiny_check(monkeypatch, tmp_path, "--only", "relu", "--sections", "rows")
    assert said == "failed: relu"
    assert "the error of the " in result["sections"]["rows"]["found"][0]["why"]


def test_a_check_without_a_card_or_time_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu_check, "lacking", lambda: "no CUDA device")
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--json", str(tmp_path / "none.json")])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "gpu_check.py: cannot run here: no CUDA device\n"
    gpu_check.main(["--dry-run", "--sections", "rows", "--minutes", "-1", "--json", str(tmp_path / "late.json")])
    late = json.loads((tmp_path / "late.json").read_text())["sections"]["rows"]["found"]
    assert {(row["status"], row["why"]) for row in late} == {("not run", "the time was over")}


# -- the environment --


def test_scripts_have_their_run_bit_and_parse():
    for name in ("scripts/demo", "scripts/test", ".ci/run"):
        path = ROOT / name
        assert path.stat().st_mode & stat.S_IXUSR, name
        subprocess.run(["bash", "-n", path], check=True)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the scripts with a `python` that writes down what pip is asked for, and installs nothing."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__", "figures"))
    shutil.copy(ROOT / "pyproject.toml", root)
    python = tmp_path / "active" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\nif [ "$2" = pip ]; then echo "$@" >>"{tmp_path}/pip"; exit 0; fi\n'
        f'case "$1" in *.py) echo "ran ${{1##*/}}"; exit 0 ;; esac\nexec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return root


def run(script, *arguments, **env):
    return subprocess.run(
        ["bash", script, *arguments], cwd="/", env={**os.environ, **env}, text=True, capture_output=True, check=False
    )


def test_the_second_run_installs_nothing(checkout):
    active, asked = str(checkout.parent / "active"), checkout.parent / "pip"
    first = run(checkout / "scripts" / "demo", VIRTUAL_ENV=active)
    assert first.returncode == 0, first.stderr
    assert "Installing xplayers and what it takes to run the demo" in first.stdout
    assert first.stdout.endswith("ran digits.py\n")
    assert "scikit-learn" in asked.read_text()
    assert "torch" not in asked.read_text()
    assert run(checkout / "scripts" / "demo", VIRTUAL_ENV=active).stdout == "ran digits.py\n"

    test = f'. "{checkout}/scripts/environment.sh"; environment test "run the tests"; echo $python'
    installed = subprocess.run(
        ["bash", "-euc", test], env={**os.environ, "VIRTUAL_ENV": active}, text=True, capture_output=True, check=True
    ).stdout
    assert "the installed torch" in installed  # and so it is kept
    lines = asked.read_text().splitlines()
    assert len(lines) == 2
    assert "pytest" in lines[1]
    assert "torch" not in lines[1].replace(str(checkout), "")

    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert "Installing" in run(checkout / "scripts" / "demo", VIRTUAL_ENV=active).stdout


def test_a_failed_installation_is_not_marked_as_done(checkout):
    python = checkout.parent / "active" / "bin" / "python"
    python.write_text(python.read_text().replace("exit 0; fi", "exit 1; fi"))
    for _ in range(2):
        failed = run(checkout / "scripts" / "demo", VIRTUAL_ENV=str(checkout.parent / "active"))
        assert failed.returncode != 0
        assert "pip could not install this" in failed.stderr
        assert "ran digits.py" not in failed.stdout


def test_an_old_python_is_told_in_words(checkout):
    tools = checkout.parent / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "head", "cksum", "grep", "cat", "rm"):
        (tools / name).symlink_to(shutil.which(name))
    old = tools / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    refused = run(checkout / "scripts" / "demo", PATH=str(tools), VIRTUAL_ENV="", PYTHON="")
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "python3 is Python 3.9.2" in refused.stderr


def test_a_missing_module_is_told_in_words():
    with pytest.raises(SystemExit, match="no_such_module is not installed") as caught:
        needs.needs("numpy", "no_such_module")
    assert "./scripts/test" in str(caught.value)
