"""State files: what is written comes back bit by bit, a save that fails leaves the old file, bad files are refused."""

import copy
import io
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch

import xplayers as xpl
from tests import backends
from tests.cases import Bad, f32
from tests.test_bad_calls import assert_refused
from xplayers.arrays import to_numpy
from xplayers.interchange import npz

RNG = np.random.default_rng(0)
STATE = {
    "0.weight": RNG.standard_normal((5, 4)),
    "0.bias": RNG.standard_normal(5).astype(np.float32),
    "1.running_mean": RNG.standard_normal(3).astype(np.float16),
    "1.num_batches_tracked": np.array(7),
    "file": np.array([True, False]),  # the name of an argument of numpy.savez
    "2.empty": np.zeros((0, 3), np.float32),
    "2.bytes": np.arange(250, 256, dtype=np.uint8),
    "a/b c.ä": np.array([1 + 2j]),
}


def network():
    return xpl.Sequential(xpl.Linear(4, 5), xpl.Linear(5, 3, bias=False))


def same(got, wanted):
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert type(got[name]) is np.ndarray and got[name].dtype == array.dtype, name
        assert got[name].shape == array.shape and got[name].tobytes() == array.tobytes(), name


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "state.npz"
    assert xpl.save(path, STATE) is None
    same(xpl.load(path), STATE)
    same(xpl.load(str(path)), STATE)
    with np.load(path) as theirs:  # numpy reads the file as well
        same({name: theirs[name] for name in theirs.files}, STATE)
    first = path.read_bytes()
    xpl.save(path, STATE)
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["state.npz"]


def test_what_is_loaded_may_be_written_to(tmp_path):
    xpl.save(tmp_path / "s.npz", STATE)
    for array in xpl.load(tmp_path / "s.npz").values():
        assert array.flags.writeable and array.flags.c_contiguous
        array[...] = 0


def test_files_of_numpy_are_read(tmp_path):
    state = {"w": np.asfortranarray(RNG.standard_normal((3, 4))), "b": np.arange(3, dtype=">f4")}
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "s.npz", **state)
        got = xpl.load(tmp_path / "s.npz")
        assert got["b"].dtype == np.dtype("=f4") and got["b"].dtype.isnative
        for name, array in state.items():
            np.testing.assert_array_equal(got[name], array)


def test_arrays_of_every_library_and_layout(backend, tmp_path):
    state = {}
    for name in ("float64", "float32", "int64", "int32", "uint8", "bool"):
        state[name] = backend.asarray(RNG.standard_normal((3, 4, 2)).astype(name))
    whole = backend.asarray(np.arange(24.0).reshape(4, 6))
    state["transposed"] = backend.xp.matrix_transpose(whole)
    state["strided"] = whole[1::2, ::3]
    state["scalar"] = backend.asarray(np.array(2.5))
    xpl.save(tmp_path / "s.npz", state)
    got = xpl.load(tmp_path / "s.npz")
    for name, array in state.items():
        np.testing.assert_array_equal(got[name], to_numpy(array))
        assert got[name].dtype == to_numpy(array).dtype and got[name].shape == tuple(array.shape)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_that_numpy_lacks_are_kept_exactly(name, tmp_path):
    dtype = np.dtype(getattr(ml_dtypes, name))
    bits = np.arange(256 ** min(dtype.itemsize, 2), dtype=f"u{dtype.itemsize}")  # every value, NaNs with their payload
    state = {"all": bits.view(dtype), "2d": bits.view(dtype)[:6].reshape(2, 3).T, "0d": np.array(1.5, dtype)}
    xpl.save(tmp_path / "s.npz", state)
    got = xpl.load(tmp_path / "s.npz")
    for key, array in state.items():
        assert got[key].dtype == dtype and got[key].shape == array.shape
        np.testing.assert_array_equal(got[key].view(bits.dtype), np.ascontiguousarray(array).view(bits.dtype))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_bfloat16_of_other_libraries(library, tmp_path):
    xp = backends.load(library)[0].xp
    layer = xpl.Linear(3, 2, xp=xp, dtype=xp.bfloat16)
    xpl.save(tmp_path / "s.npz", layer)
    got = xpl.load(tmp_path / "s.npz")
    assert got["weight"].dtype == ml_dtypes.bfloat16
    other = xpl.Linear(3, 2, xp=xp, dtype=xp.bfloat16)
    other.load_state_dict(got)
    assert other.weight.dtype == xp.bfloat16
    np.testing.assert_array_equal(to_numpy(other.weight), to_numpy(layer.weight))


def test_bfloat16_without_ml_dtypes_is_refused_in_words(tmp_path, monkeypatch):
    xpl.save(tmp_path / "s.npz", {"w": np.ones(2, ml_dtypes.bfloat16)})
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match=r"'w.npy' has dtype bfloat16.*Mend: pip install ml_dtypes"):
        xpl.load(tmp_path / "s.npz")


def test_numbers_are_saved_as_0d_arrays(tmp_path):
    xpl.save(tmp_path / "s.npz", {"lr": 0.1, "step": 3, "flag": True, "n": np.float32(2)})
    got = xpl.load(tmp_path / "s.npz")
    assert {k: v.item() for k, v in got.items()} == {"lr": 0.1, "step": 3, "flag": True, "n": 2.0}
    assert all(v.shape == () for v in got.values())


def test_a_network_comes_back(backend, tmp_path):
    net = network().to(like=backend.asarray(np.ones(1)))
    xpl.save(tmp_path / "net.npz", net)
    state = xpl.load(tmp_path / "net.npz")
    assert list(state) == ["0.weight", "0.bias", "1.weight"]
    other = network().to(like=backend.asarray(np.ones(1)))
    other.load_state_dict(state)
    x = backend.asarray(RNG.standard_normal((2, 4)))
    np.testing.assert_array_equal(to_numpy(other(x)), to_numpy(net(x)))
    unsettled = network()  # takes the values as they are, and settles with the first array
    unsettled.load_state_dict(state)
    np.testing.assert_array_equal(to_numpy(unsettled(x)), to_numpy(net(x)))
    assert backend.at_home(unsettled[0].weight) is None


def test_torch_state_dicts_both_ways(backend, tmp_path):
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 3, bias=False)).double()
    net = network().to(like=backend.asarray(np.ones(1)))
    net.load_state_dict(theirs.state_dict())
    x = RNG.standard_normal((2, 4))
    wanted = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(to_numpy(net(backend.asarray(x))), wanted, 1e-12)
    xpl.save(tmp_path / "theirs.npz", theirs.state_dict())
    xpl.save(tmp_path / "module.npz", theirs)
    for path in ("theirs.npz", "module.npz"):
        again = network()
        again.load_state_dict(xpl.load(tmp_path / path))
        np.testing.assert_allclose(to_numpy(again(backend.asarray(x))), wanted, 1e-12)
    back = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 3, bias=False)).double()
    xpl.save(tmp_path / "ours.npz", net)
    back.load_state_dict({k: torch.from_numpy(v) for k, v in xpl.load(tmp_path / "ours.npz").items()})
    np.testing.assert_allclose(back(torch.tensor(x)).detach().numpy(), wanted, 1e-12)
    held = theirs[0].weight.detach().numpy().copy()
    net.params["0.weight"] = backend.asarray(np.zeros((5, 4)))
    np.testing.assert_array_equal(theirs[0].weight.detach().numpy(), held)  # what is loaded is a copy


def test_copies_and_pickles_of_a_network(backend):
    net = network().to(like=backend.asarray(np.ones(1)))
    x = backend.asarray(RNG.standard_normal((2, 4)))
    wanted = to_numpy(net(x))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(to_numpy(other(x)), wanted)
        assert other[0].path == "0" and list(other.params) == list(net.params)
        other.params["0.weight"] = other.params["0.weight"] * 0.0
        np.testing.assert_array_equal(to_numpy(net(x)), wanted)


# -- a save that fails --


@pytest.mark.parametrize("fails_in", ["write_array", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file(fails_in, tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    xpl.save(path, STATE)
    before = path.read_bytes()
    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        if fails_in != "write_array" or len(calls) == 3:  # the third array of the new file
            raise OSError(28, "No space left on device")
        return write(*args, **kwargs)

    write = np.lib.format.write_array
    target = np.lib.format if fails_in == "write_array" else os
    monkeypatch.setattr(target, fails_in, broken)
    with pytest.raises(OSError, match="No space left"):
        xpl.save(path, {k: np.zeros_like(v) for k, v in STATE.items()})
    monkeypatch.undo()
    assert calls and path.read_bytes() == before and os.listdir(tmp_path) == ["net.npz"]
    same(xpl.load(path), STATE)


def test_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    xpl.save(path, STATE)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(npz, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        xpl.save(path, {"a": f32(2)})
    assert os.listdir(tmp_path) == ["net.npz"]
    same(xpl.load(path), STATE)


def test_a_state_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    path = tmp_path / "net.npz"
    xpl.save(path, STATE)
    with pytest.raises(TypeError) as caught:
        xpl.save(path, {"a": f32(2), "b": "text", "c": [1.0], 3: f32(1), "d": np.array([None]), "e": {"f": f32(1)}})
    text = str(caught.value)
    for part in (
        "a str under 'b'",
        "a list under 'c'",
        "the name 3",
        "an array of object under 'd'",
        "a dict under 'e'",
    ):
        assert part in text
    assert os.listdir(tmp_path) == ["net.npz"]
    same(xpl.load(path), STATE)


def test_a_link_stays_a_link(tmp_path):
    xpl.save(tmp_path / "real.npz", STATE)
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    xpl.save(tmp_path / "link.npz", {"a": f32(2)})
    assert (tmp_path / "link.npz").is_symlink()
    same(xpl.load(tmp_path / "real.npz"), {"a": f32(2)})


# -- bad files --


def zipped(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def npy(array, allow_pickle=False):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=allow_pickle)
    return file.getvalue()


def good():
    file = io.BytesIO()
    npz.write(file, STATE)
    return file.getvalue()


def torch_file():
    file = io.BytesIO()
    torch.save({"w": torch.ones(2)}, file)
    return file.getvalue()


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def header(text):
    """A .npy file with a header of one's own."""
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


class _Evil:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/xplayers_was_here",))


with np.errstate(all="ignore"):
    BAD_FILES = {
        "empty": (b"", "no npz"),
        "text": (b"0.1 0.2 0.3\n", "no npz"),
        "html": (b"<!DOCTYPE html><html>404</html>", "no npz"),
        "pickle": (pickle.dumps(STATE), "no npz"),
        "npy": (npy(np.ones(3)), "no npz"),
        "gzip": (b"\x1f\x8b\x08\x00" + bytes(40), "no npz"),
        "torch": (torch_file(), "is no .npy file"),
        "zip of texts": (zipped(("readme.txt", b"hello")), "is no .npy file"),
        "no npy inside": (zipped(("w.npy", b"hello, I am no array")), "'w.npy'"),
        "empty member": (zipped(("w.npy", b"")), "'w.npy'"),
        "objects": (zipped(("w.npy", npy(np.array([None, 1]), True))), "pickled Python objects"),
        "code": (zipped(("w.npy", npy(np.array([_Evil()], object), True))), "pickled Python objects"),
        "objects in a field": (
            zipped(("w.npy", npy(np.zeros(1, [("bfloat16", "O")]), True))),
            "pickled Python objects",
        ),
        "strings": (zipped(("w.npy", npy(np.array(["a"])))), "no numbers"),
        "dates": (zipped(("w.npy", npy(np.array(["2020-01-01"], "M8[D]")))), "no numbers"),
        "records": (zipped(("w.npy", npy(np.zeros(2, [("a", "f4"), ("b", "i4")])))), "no numbers"),
        "unknown dtype": (zipped(("w.npy", npy(np.zeros(2, [("finfo", "<u2")])))), "unknown dtype 'finfo'"),
        "wrong width": (zipped(("w.npy", npy(np.zeros(2, [("bfloat16", "<u4")])))), "unknown dtype 'bfloat16'"),
        "twice": (None, "stands there twice"),
        "too short": (zipped(("w.npy", npy(np.ones(9))[:-8])), "do not fit its shape (9,)"),
        "too long": (zipped(("w.npy", npy(np.ones(9)) + b"x")), "do not fit its shape (9,)"),
        "huge": (
            zipped(("w.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**15,), }"))),
            "'w.npy'",
        ),
        "huge shape": (
            zipped(("w.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"))),
            "do not fit its shape",
        ),
        "negative shape": (
            zipped(("w.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }") + bytes(8))),
            "'w.npy'",
        ),
        "code in a header": (zipped(("w.npy", header("__import__('os').mkdir('/tmp/xplayers_was_here')"))), "'w.npy'"),
        "future version": (zipped(("w.npy", b"\x93NUMPY\x09\x00" + bytes(100))), "version (9, 0)"),
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_refused(kind, tmp_path):
    data, got = BAD_FILES[kind]
    if data is None:
        data = zipped(("w.npy", npy(np.ones(2))), ("w.npy", npy(np.ones(2))))
    path = tmp_path / "net.npz"
    path.write_bytes(data)
    assert_refused(Bad(lambda: xpl.load(path), "load", "path", got, "an .npz file", "xpl.save"))
    assert not os.path.exists("/tmp/xplayers_was_here")


def test_every_truncated_file_is_refused(tmp_path):
    whole = good()
    path = tmp_path / "net.npz"
    for length in sorted({*range(0, len(whole), 37), *range(len(whole) - 25, len(whole))}):
        path.write_bytes(whole[:length])
        assert_refused(Bad(lambda: xpl.load(path), "load", "path", "net.npz", "an .npz file", "copy the whole file"))


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    """Where a bit of the zip's bookkeeping is not read (a date, say), the arrays are the right ones."""
    whole = good()
    path = tmp_path / "net.npz"
    refused = 0
    for at in range(0, len(whole), 5):
        path.write_bytes(flipped(whole, at))
        try:
            state = xpl.load(path)
        except ValueError as e:
            assert "load: argument 'path': got" in str(e) and "Mend:" in str(e)
            refused += 1
        else:
            assert sorted(v.tobytes() for v in state.values()) == sorted(v.tobytes() for v in STATE.values())
    assert refused > 200


BAD = [
    Bad(lambda: xpl.load("no/such.npz"), "load", "path", "does not exist", "a file", "check", FileNotFoundError),
    Bad(lambda: xpl.load("net.zip"), "load", "path", "'net.zip'", "ends in .npz", ".npz"),
    Bad(lambda: xpl.load(3), "load", "path", "a int", "a path", 'xpl.load("net.npz"', TypeError),
    Bad(lambda: xpl.save("net.pth", {}), "save", "path", "'net.pth'", "ends in .npz", ".npz"),
    Bad(lambda: xpl.save(STATE, "net.npz"), "save", "path", "a dict", "a path", 'xpl.save("net.npz"', TypeError),
    Bad(
        lambda: xpl.save("no/such/net.npz", {}),
        "save",
        "path",
        "'no/such/net.npz'",
        "a folder that exists",
        "os.makedirs",
        FileNotFoundError,
    ),
    Bad(
        lambda: xpl.save("net.npz", [f32(2)]), "save", "net_or_state", "a list", "a network", "state_dict()", TypeError
    ),
    Bad(
        lambda: xpl.save("net.npz", f32(2)), "save", "net_or_state", "a ndarray", "a network", "state_dict()", TypeError
    ),
    Bad(
        lambda: xpl.save("net.npz", {"a": np.matrix([[1.0]])}),
        "save",
        "net_or_state",
        "a matrix under 'a'",
        "arrays of numbers",
        "leave",
        TypeError,
    ),
]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("bad", BAD, ids=lambda b: f"{b.layer}-{b.argument}-{b.got}".replace(" ", ""))
def test_is_refused(bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(bad)
    assert os.listdir(tmp_path) == []


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "net.npz").mkdir()
    for call in (lambda: xpl.load(tmp_path / "net.npz"), lambda: xpl.save(tmp_path / "net.npz", STATE)):
        with pytest.raises(IsADirectoryError, match="argument 'path': got the folder"):
            call()
    assert os.listdir(tmp_path) == ["net.npz"]


def test_an_array_inside_jit_is_refused(tmp_path):
    import jax

    def f(x):
        xpl.save(tmp_path / "net.npz", {"x": x})
        return x

    with pytest.raises(TypeError, match=r"inside jax.jit, which has no values, under 'x'"):
        jax.jit(f)(np.ones(2))
