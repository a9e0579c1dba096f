"""Every row of the table of layers under every law on every backend."""

import pytest

from tests.cases import rows
from tests.laws import LAWS, Bench, laws_for

CASES = rows("LAYERS")


def test_rows_have_names_of_their_own():
    names = [str(c) for c in CASES]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_laws(case, backend, score, request):
    failed, skipped = [], 0
    for name in laws_for(backend, request.config.getoption("--all"), case):
        said = "passed"
        if case.skip.get(name) or case.skip.get(backend.name):
            skipped, said = skipped + 1, "left out"
        else:
            bench = Bench(case, backend)
            try:
                LAWS[name](bench)
            except Exception as e:
                failed.append(f"{name}: {type(e).__name__}: {e}")
                said = "failed"
            score(min(bench.worst, 1e9), bench.checks)
        if name.startswith("agrees_in_"):
            request.node.user_properties.append(("support", (case.layer, name.removeprefix("agrees_in_"), said)))
    score(0.0, 0, skipped)
    assert not failed, "\n".join(failed)
