"""Backends x devices x dtypes: the options of the matrix, its fixture, and the table that closes a run."""

import collections
import json
import os
import sys
import zlib
from pathlib import Path

import pytest

from tests import backends, cases
from xplayers.kernels import set_threads, threads

_ROWS = pytest.StashKey[dict]()
_SUPPORT = pytest.StashKey[dict]()  # layer: backend: dtype: "passed", "left out" or "failed"


def worse(a, b):
    order = ("passed", "left out", "failed")
    return max(a, b, key=order.index)


def pytest_addoption(parser):
    group = parser.getgroup("xplayers")
    group.addoption(
        "--backends", default=",".join(backends.NAMES), help="comma-separated: " + ", ".join(backends.NAMES)
    )
    group.addoption("--require", default="", help="backends that must run: one that cannot is an error, not NOT RUN")
    group.addoption("--report-json", default=None, metavar="FILE", help="write the matrix to FILE")
    group.addoption("--all", action="store_true", help="every row on every backend, not the spread that CI runs")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: runs with --all only")
    chosen = [n for n in config.getoption("--backends").split(",") if n]
    required = [n for n in config.getoption("--require").split(",") if n]
    for name in (*chosen, *required):
        if name not in backends.NAMES:
            raise pytest.UsageError(f"unknown backend {name!r}; known: {', '.join(backends.NAMES)}")
    chosen += [n for n in required if n not in chosen]
    absent = {n: why for n in chosen for found, why in [backends.load(n)] if found is None}
    lacking = [f"{n}: {absent[n]}" for n in required if n in absent]
    if lacking:
        raise pytest.UsageError("required backends cannot run: " + "; ".join(lacking))
    config.stash[_SUPPORT] = {}
    config.stash[_ROWS] = {n: collections.Counter() for n in chosen}
    config.xpl_chosen, config.xpl_absent = chosen, absent


def usable(config):
    return [n for n in config.xpl_chosen if n not in config.xpl_absent]


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", usable(metafunc.config), indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request):
    return backends.load(request.param)[0]


@pytest.fixture
def use_threads():
    """`set_threads`, taken back after the test."""
    held = threads()
    yield set_threads
    set_threads(held)


@pytest.fixture(autouse=True)
def _forget_compiled(request):
    """jax keeps what it compiled: gigabytes after a thousand rows."""
    yield
    spec = getattr(request.node, "callspec", None)
    if spec is not None and spec.params.get("backend") == "jax" and zlib.crc32(request.node.name.encode()) % 40 == 0:
        sys.modules["jax"].clear_caches()


@pytest.fixture
def score(request):
    """`score(share)`: notes an error as a share of its tolerance for the closing table."""

    def note(share, checks=1, skipped=0):
        request.node.user_properties.append(("score", (float(share), checks, skipped)))

    return note


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        left = [i for i in items if i.get_closest_marker("slow") or _beyond_the_spread(i)]
        config.hook.pytest_deselected(items=left)
        chosen = set(items) - set(left)
        items[:] = [i for i in items if i in chosen]


def _beyond_the_spread(item):
    """What CI leaves to --all: half of a kernel's layouts; on jax, which compiles for seconds a row, all but an eighth
    of the rows and the first of each layer."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    if "layout" in params and "bench" in params:
        return not cases.in_half(item.name)
    row = next((params[k] for k in ("case", "row", "name") if k in params), None)
    if row is None or params.get("backend") != "jax":
        return False
    return not cases.in_spread(row) and not cases.is_first(row)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    spec = getattr(item, "callspec", None)
    if spec is not None and "backend" in spec.params:
        report.user_properties.append(("backend", spec.params["backend"]))


def pytest_runtest_logreport(report):
    # with pytest-xdist this runs in the controller, with the properties that the workers sent
    properties = dict(report.user_properties)
    name = properties.get("backend")
    if name not in _config.stash[_ROWS] or (report.when != "call" and report.passed):
        return  # no backend's, or that of none that can run
    row = _config.stash[_ROWS][name]
    row[report.outcome] += 1
    for key, value in report.user_properties:
        if key == "score":
            share, checks, skipped = value
            row["worst"] = max(row["worst"], share)
            row["checks"] += checks
            row["left out"] += skipped
        elif key == "samples":
            row["matched"] += value[0]
            row["samples"] += value[1]
        elif key == "support":
            layer, dtype, said = value
            held = _config.stash[_SUPPORT].setdefault(layer, {}).setdefault(name, {})
            held[dtype] = worse(held.get(dtype, "passed"), said)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    global _config
    _config = session.config


def pytest_terminal_summary(terminalreporter, config):
    write = terminalreporter.write_line
    terminalreporter.section("backend matrix")
    write(
        f"{'backend':16}{'version':16}{'passed':>8}{'failed':>8}{'skipped':>8}{'checks':>9}{'left out':>9}  worst error"
    )
    table = []
    for name in config.xpl_chosen:
        found, why = backends.load(name)
        row = config.stash[_ROWS][name]
        entry = {"backend": name, "version": found.version if found else None, "not_run": why or None, **row}
        table.append(entry)
        if found is None:
            write(f"{name:16}NOT RUN: {why}")
            continue
        counts = "".join(f"{row[k]:>{w}}" for k, w in (("passed", 8), ("failed", 8), ("skipped", 8)))
        counts += f"{row['checks']:>9}{row['left out']:>9}"
        write(f"{name:16}{found.version:16}{counts}  {row['worst']:.3f} of its tolerance")
    for name in config.xpl_chosen:
        row = config.stash[_ROWS][name]
        if row["samples"]:
            write(f"torch's own samples on {name}: {row['matched']} of {row['samples']}")
    target = config.getoption("--report-json")
    if target and not hasattr(config, "workerinput"):
        result = {"backends": table, "support": config.stash[_SUPPORT]}
        Path(target).write_text(json.dumps(result, indent=1, sort_keys=True) + os.linesep)
