"""The table of bad calls: each is refused in words that name layer, argument, got, expected and the mend."""

import pytest

from tests.cases import rows

BAD = rows("BAD_CALLS")


def assert_refused(bad):
    """The five parts of a refusal, in their places in the message."""
    with pytest.raises(bad.kind) as caught:
        bad.call()
    text = str(caught.value)
    assert "argument '" in text and "': got " in text and "; expected " in text and ". Mend: " in text, text
    where, rest = text.split(": argument '", 1)
    argument, rest = rest.split("': got ", 1)
    got, rest = rest.split("; expected ", 1)
    expected, mend = rest.split(". Mend: ", 1)
    assert bad.layer in where, f"layer: {where}"
    assert bad.argument == argument, f"argument: {argument}"
    assert bad.got in got, f"got: {got}"
    assert bad.expected in expected, f"expected: {expected}"
    assert bad.mend in mend, f"mend: {mend}"


@pytest.mark.parametrize("bad", BAD, ids=lambda b: f"{b.layer}-{b.argument}-{b.got}".replace(" ", ""))
def test_is_refused(bad):
    assert_refused(bad)
