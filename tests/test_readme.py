"""The README is true: its code runs, its shown pair is the code's, its tables are of these tables of cases."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

import xplayers as xpl
import xplayers.functional as F
from scripts import support
from scripts.benchmarking.on_card.report import NOT_RUN
from scripts.benchmarking.rows import OPTIMIZER_ROWS, ROWS, fingerprint
from scripts.benchmarking.steps import STEPS
from tests import backends
from tests.cases import rows

TEXT = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
CUPY = backends.load("cupy")[0]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.strip().splitlines()[0])
def test_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "readme"}
    if "# from xplayers/" in block:  # shown from the code, which the next test compares
        return
    if "cupy" in block and CUPY is None:
        block = block.replace("import cupy as np", "import numpy as np")
        assert "cupy" not in re.sub(r"#.*", "", block)
    exec(compile(block, "README.md", "exec"), scope)


def test_the_pair_that_is_shown_is_the_real_one():
    shown = next(b for b in BLOCKS if "# from xplayers/functional/linear.py" in b)
    code = "\n".join(line for line in shown.splitlines() if not line.startswith("# from"))
    for part in (F.linear_forward.reference, F.linear_backward.reference, xpl.Affine.forward, xpl.Affine.backward):
        source = inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(part)))
        lines = [line.strip() for line in source.splitlines() if line.strip() and not line.strip().startswith("@")]
        for line in lines:
            assert line in code, f"the README does not show the line {line!r}"


def test_tables_are_of_this_table_of_cases():
    block = TEXT.split("<!-- support -->")[1].split("<!-- /support -->")[0]
    found = re.search(r"rows (\w+)\)", block)
    assert found, "no table: run python scripts/support.py"
    assert found[1] == support.fingerprint(), "the table is stale: run python scripts/support.py"
    assert re.search(r"on 20\d\d-\d\d-\d\d", block), "the table has no date"
    shown = set(re.findall(r"^\| (\w+) \|", block, flags=re.M)) - {"backend", "layer"}
    assert {c.layer for c in rows("LAYERS")} <= shown
    assert "✗" not in block.split("</summary>")[1]
    for name in ("torch-cuda", "cupy"):
        row = next(line for line in block.splitlines() if line.startswith(f"| {name} |"))
        assert "not run on this machine" in row or re.search(r"\d+ passed", row)


def test_the_benchmark_is_of_these_rows():
    block = TEXT.split("<!-- benchmark -->")[1].split("<!-- /benchmark -->")[0]
    found = re.search(r"rows (\w+)\)", block)
    assert found, "no table: run python scripts/benchmark.py --readme"
    assert found[1] == fingerprint(), "the table is stale: run python scripts/benchmark.py --readme"
    shown = re.findall(r"^\| ([^|]+) \|", block.split("<details>")[1], flags=re.M)
    assert {*ROWS, *OPTIMIZER_ROWS, *STEPS} <= set(shown)
    held = json.loads((Path(__file__).parent.parent / "scripts/figures/benchmark.json").read_text())
    assert [row["name"] for row in held["rows"]] == [*ROWS, *OPTIMIZER_ROWS, *STEPS]


def test_the_card_is_reported_with_its_date_or_as_not_run():
    block = TEXT.split("<!-- gpu -->")[1].split("<!-- /gpu -->")[0].strip()
    assert block == NOT_RUN or re.search(r"card .* GiB.*--readme` on 20\d\d-\d\d-\d\d", block, flags=re.S)


def test_pictures_are_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", TEXT):
        assert (Path(__file__).parent.parent / path).is_file(), path


def test_named_commands_are_there():
    for path in set(re.findall(r"(?:python |\./)(scripts/\w+(?:\.py)?)", TEXT)):
        assert (Path(__file__).parent.parent / path).is_file(), path


def test_numpy_is_what_the_learner_has():
    assert isinstance(xpl.Affine(2, 2).weight, np.ndarray)


def test_reports_of_several_runs_are_one_table():
    def report(said="passed", **ran):
        rows = [{"backend": b, "version": "1", "not_run": None, "checks": n, "passed": n} for b, n in ran.items()]
        rows.append({"backend": "cupy", "version": None, "not_run": "no device"})
        return {"backends": rows, "support": {"Affine": {b: {"float64": said} for b in ran}}}

    result = support.merged([report(numpy=5, jax=2), report(jax=7, torch=3, said="left out")])
    assert [(r["backend"], r["checks"], r["not_run"]) for r in result["backends"]] == [
        ("numpy", 5, None),
        ("torch", 3, None),
        ("jax", 9, None),
        ("cupy", 0, "no device"),
    ]
    assert {b: v["float64"] for b, v in result["support"]["Affine"].items()} == {
        "numpy": "passed",
        "torch": "left out",
        "jax": "left out",
    }
