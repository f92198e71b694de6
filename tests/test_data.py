"""Data that are always there: what is served, and every way in which getting MNIST can fail, made to happen.

The downloads are real ones, by torchvision over HTTP, from servers on loopback. They serve a tiny MNIST made
here: four files with their checksums, but 200 and 40 images.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torchvision.datasets import MNIST

from course_utils import data
from course_utils.data.images import ImageData, Split
from course_utils.data.load import current_dataset, default_root, load_images
from tests._servers import altered, cut_short, dripping, serve, silent, whole

ROOT = Path(__file__).resolve().parent.parent
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


# --- a tiny MNIST, and a place for it -------------------------------------------------------------


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """`raw`, `gz`: name -> bytes; `expected`: name -> (size, MD5); `resources` as torchvision has them."""
    rng = np.random.default_rng(0)
    raw = {}
    for part, n in (("train", 200), ("t10k", 40)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        raw[f"{part}-images-idx3-ubyte"] = struct.pack(">iiii", 2051, n, 28, 28) + pixels.tobytes()
        raw[f"{part}-labels-idx1-ubyte"] = struct.pack(">ii", 2049, n) + bytes(i % 10 for i in range(n))
    gz = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in raw.items()}
    return SimpleNamespace(
        raw=raw,
        gz=gz,
        expected={name: (len(content), md5(content)) for name, content in raw.items()},
        resources=[(name, md5(content)) for name, content in gz.items()],
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The tensors are tiny: on a busy machine several threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tiny):
    """No setting from outside, the tiny MNIST instead of the real one, a mirror that refuses."""
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.delenv("COURSE_DATASET", raising=False)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(data, "_MNIST_FILES", tiny.expected)
    monkeypatch.setattr(data, "_TOTAL_LIMIT", 30.0)
    monkeypatch.setattr(data, "last_loaded", None)
    monkeypatch.setattr(MNIST, "resources", tiny.resources)
    with socket.socket() as unused:  # a port on which nobody listens
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{unused.getsockname()[1]}/"])
        yield


@pytest.fixture
def mirrors(monkeypatch):
    """Call it with servers to make them torchvision's mirrors."""
    return lambda *servers: monkeypatch.setattr(MNIST, "mirrors", [server.url for server in servers])


def put(root: Path, files: dict[str, bytes]) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def contents(root: Path) -> dict[str, bytes]:
    """All files below `root`, and all folders that are no part of torchvision's layout."""
    found = {str(path.relative_to(root)): path for path in root.rglob("*")}
    layout = ("MNIST", os.path.join("MNIST", "raw"))
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in found.items() if name not in layout}


def as_published(tiny) -> dict[str, bytes]:
    return {os.path.join("MNIST", "raw", name): content for name, content in tiny.raw.items()}


def one_line(capsys) -> str:
    """The line that load_images has printed, which is all there is to see."""
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1 and out.startswith("Data: ") and out.endswith(".\n")
    return out.strip()


# --- which data, and why --------------------------------------------------------------------------


def test_mnist_is_found_in_root(tmp_path, tiny, capsys):
    put(tmp_path, tiny.raw)
    loaded = load_images(root=tmp_path)
    assert loaded.name == "mnist" and loaded.shape == (1, 28, 28) and loaded.num_classes == 10
    assert (len(loaded.train), len(loaded.test)) == (200, 40)
    assert loaded.train.pixels.dtype == torch.uint8 and loaded.train.labels.dtype == torch.int64
    assert loaded.train.pixels.numpy().tobytes() == tiny.raw[IMAGES][16:]
    assert loaded.test.labels.tolist() == [i % 10 for i in range(40)]
    line = one_line(capsys)
    assert line == f"Data: {loaded.source}"
    assert "MNIST, 200 training and 40 test images, found in the folder given as root" in line
    assert str(tmp_path) not in line  # a notebook may keep this line


def test_reads_what_torchvision_reads(tmp_path, tiny):
    put(tmp_path, tiny.raw)
    loaded, reference = load_images("mnist", root=str(tmp_path)), MNIST(tmp_path, train=True)
    assert torch.equal(loaded.train.pixels[:, 0], reference.data)
    assert torch.equal(loaded.train.labels, reference.targets)
    to_tensor = torchvision.transforms.ToTensor()
    assert torch.equal(loaded.train[7], to_tensor(reference[7][0]))


def test_an_old_processed_file_that_nobody_verified_is_not_read(tmp_path, tiny):
    put(tmp_path, tiny.raw)
    (tmp_path / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        other = (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
        torch.save(other, tmp_path / "MNIST" / "processed" / name)
    assert len(load_images("mnist", root=tmp_path).train) == 200


def test_course_data_names_the_folder_and_root_wins(tmp_path, tiny, monkeypatch, capsys):
    put(tmp_path / "here", tiny.raw)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "here"))
    assert default_root() == tmp_path / "here"
    assert load_images().name == "mnist"
    assert "found in $COURSE_DATA" in one_line(capsys)
    assert load_images(root=tmp_path / "elsewhere").name == "digits"


def test_default_root_is_the_repositorys_data_folder(monkeypatch):
    assert default_root() == ROOT / "data"
    monkeypatch.setenv("COURSE_DATA", "")
    assert default_root() == ROOT / "data"
    monkeypatch.setenv("COURSE_DATA", "~/somewhere")
    assert default_root() == Path.home() / "somewhere"


def test_course_dataset_sets_the_default_and_an_argument_wins(tmp_path, tiny, monkeypatch, capsys):
    put(tmp_path, tiny.raw)
    monkeypatch.setenv("COURSE_DATASET", "digits")
    assert load_images(root=tmp_path).name == "digits"
    assert "as asked for by $COURSE_DATASET=digits" in one_line(capsys)
    assert load_images("mnist", root=tmp_path).name == "mnist"
    monkeypatch.setenv("COURSE_DATASET", "mnist")
    assert load_images("digits").name == "digits"
    with pytest.raises(RuntimeError, match=r"\$COURSE_DATASET=mnist"):
        load_images(root=tmp_path / "empty")
    monkeypatch.setenv("COURSE_DATASET", "auto")
    assert load_images(root=tmp_path).name == "mnist"


def test_the_data_loaded_last_are_known(tmp_path, tiny):
    put(tmp_path, tiny.raw)
    assert current_dataset() is None
    load_images(root=tmp_path)
    assert current_dataset() == "mnist"
    load_images("digits")
    assert current_dataset() == data.last_loaded == "digits"
    with pytest.raises(RuntimeError):
        load_images("mnist", root=tmp_path / "empty")
    assert current_dataset() == "digits"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"dataset": "mnsit"}, ValueError, 'unknown data set "mnsit".*auto, mnist, digits.*mean "mnist"'),
        ({"dataset": "MNIST"}, ValueError, 'Did you mean "mnist"'),
        ({"dataset": "cifar"}, ValueError, "auto, mnist, digits"),
        ({"dataset": None}, TypeError, "dataset must be one of"),
        ({"device": "gpu"}, ValueError, "device='gpu' cannot be used.*\"cpu\" always works"),
        ({"device": 1.5}, ValueError, "cannot be used"),
        ({"dataset": "mnist", "root": 3}, TypeError, "int"),
    ],
)
def test_bad_arguments(arguments, error, says):
    with pytest.raises(error, match=says):
        load_images(**arguments)


def test_a_bad_environment_variable_is_named(monkeypatch):
    monkeypatch.setenv("COURSE_DATASET", "digit")
    with pytest.raises(ValueError, match=r'"digit" \(from \$COURSE_DATASET\).*mean "digits"'):
        load_images()


# --- the offline digits ---------------------------------------------------------------------------


def test_digits_touch_neither_network_nor_folder(tmp_path, monkeypatch, capsys):
    def forbidden(*arguments, **keywords):
        raise AssertionError("the offline digits need neither network nor folder")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(data, "_mnist", forbidden)
    monkeypatch.setattr(data, "_root", forbidden)
    loaded = load_images("digits", root=tmp_path / "never")
    assert loaded.name == "digits" and not (tmp_path / "never").exists()
    line = one_line(capsys)
    assert "digits, 1,437 training and 360 test images" in line and "not MNIST" in line


def test_digits_are_all_of_scikit_learns_in_a_fixed_balanced_split():
    first, again = load_images("digits"), load_images("digits")
    assert torch.equal(first.train.pixels, again.train.pixels) and torch.equal(first.test.labels, again.test.labels)
    assert (len(first.train), len(first.test)) == (1437, 360)
    counts = first.test.labels.bincount(minlength=10)
    assert counts.min() >= 35 and counts.max() <= 37
    pixels = torch.cat([first.train.pixels, first.test.pixels]).flatten(1)
    images = {bytes(row) for row in pixels.numpy()}
    from sklearn.datasets import load_digits

    assert len(images) == len({bytes(image) for image in load_digits().data})


def test_digits_look_like_mnist():
    """In the middle, with an empty margin of 4, from black to white, about as much ink as MNIST (0.13)."""
    loaded = load_images("digits")
    pixels = loaded.train.pixels
    inner = pixels[:, :, 4:24, 4:24]
    assert loaded.shape == (1, 28, 28) and pixels.sum() == inner.sum()
    assert inner.amin() == 0 and inner.amax() == 255
    assert 0.10 < loaded.mean.mean() < 0.20
    grey = ((inner > 50) & (inner < 205)).float().mean()
    assert grey < 0.3  # a soft threshold has made the strokes clear-cut


def test_digits_keep_their_labels_and_their_shapes():
    """The nearest neighbour in the training part tells the class: images and labels still belong together."""
    loaded = load_images("digits")
    distances = torch.cdist(loaded.test[:].flatten(1), loaded.train[:].flatten(1))
    guessed = loaded.train.labels[distances.argmin(1)]
    assert (guessed == loaded.test.labels).float().mean() > 0.95


# --- damaged and missing files --------------------------------------------------------------------


def damage(tiny, how: str) -> dict[str, bytes]:
    files = dict(tiny.raw)
    if how == "missing":
        del files[IMAGES]
    elif how == "truncated":
        files[IMAGES] = files[IMAGES][:1000]
    elif how == "empty":
        files[IMAGES] = b""
    elif how == "altered":
        files[IMAGES] = files[IMAGES][:-1] + bytes([files[IMAGES][-1] ^ 1])
    return files


DAMAGES = {
    "missing": f"{IMAGES} is missing",
    "truncated": f"{IMAGES} has 1,000 bytes instead of 156,816",
    "empty": f"{IMAGES} has 0 bytes instead of 156,816",
    "altered": f"{IMAGES} has the MD5 sum [0-9a-f]{{32}} instead of [0-9a-f]{{32}}",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_replaced_and_the_others_stay(how, tmp_path, tiny, mirrors, capsys):
    raw = put(tmp_path, damage(tiny, how))
    before = {name: (raw / name).stat().st_ino for name in tiny.raw if name != IMAGES}
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        assert len(load_images(root=tmp_path).train) == 200
    assert set(server.asked) == {f"{IMAGES}.gz"}
    assert contents(tmp_path) == as_published(tiny)
    assert {name: (raw / name).stat().st_ino for name in before} == before
    assert "completed by a download" in one_line(capsys)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_that_cannot_be_replaced_is_named(how, tmp_path, tiny, capsys):
    put(tmp_path, damage(tiny, how))
    before = contents(tmp_path)
    says = DAMAGES[how] if how != "missing" else f"{IMAGES} is missing"
    with pytest.raises(RuntimeError, match=says) as caught:
        load_images("mnist", root=tmp_path)
    assert "Connection refused" in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "COURSE_DATA" in str(caught.value) and 'dataset="digits"' in str(caught.value)  # the cures
    assert load_images(root=tmp_path).name == "digits"
    assert IMAGES in one_line(capsys)
    assert contents(tmp_path) == before


def test_several_damaged_files_are_all_named(tmp_path, tiny):
    put(tmp_path, {**tiny.raw, LABELS: b"12", IMAGES: b"123"})
    with pytest.raises(RuntimeError, match=f"{IMAGES} has 3 bytes.* and {LABELS} has 2 bytes"):
        load_images("mnist", root=tmp_path)


def test_a_folder_in_the_place_of_a_file_is_an_error_not_a_loss(tmp_path, tiny, mirrors):
    raw = put(tmp_path, {name: content for name, content in tiny.raw.items() if name != LABELS})
    (raw / LABELS).mkdir()
    (raw / LABELS / "precious").write_bytes(b"1")
    before = contents(tmp_path)
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        with pytest.raises(RuntimeError, match=LABELS):
            load_images("mnist", root=tmp_path)
    assert contents(tmp_path) == before


# --- downloads that go well -----------------------------------------------------------------------


def test_download_into_an_empty_place(tmp_path, tiny, mirrors, capsys):
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        loaded = load_images(root=tmp_path / "new" / "data")
    assert "downloaded to the folder given as root" in one_line(capsys)
    assert contents(tmp_path / "new" / "data") == as_published(tiny)
    again = load_images("mnist", root=tmp_path / "new" / "data")  # the server is gone: nothing is fetched twice
    assert torch.equal(loaded.train.pixels, again.train.pixels)


@pytest.mark.parametrize("first", [silent, cut_short, altered, "404", "dead"])
def test_the_second_mirror_helps_when_the_first_does_not(first, tmp_path, tiny, mirrors, monkeypatch):
    if first is silent:
        monkeypatch.setattr(data, "_STALL_LIMIT", 1.0)
    answer = whole({}) if first in ("404", "dead") else first(tiny.gz) if first is not silent else silent()
    with serve(answer) as bad, serve(whole(tiny.gz)) as good:
        if first == "dead":
            bad.url = MNIST.mirrors[0]
        mirrors(bad, good)
        assert load_images("mnist", root=tmp_path).name == "mnist"
    assert contents(tmp_path) == as_published(tiny)
    assert len(set(bad.asked)) <= 1  # not asked again after its failure


def test_nothing_of_the_process_is_left_changed(tmp_path, tiny, mirrors):
    """Time limits hold for the download alone: other threads connect as ever, later so does this one."""
    seen = []
    connect, default, threads = socket.create_connection, socket.getdefaulttimeout(), threading.active_count()

    def answer(handler, name):
        with socket.create_connection(("127.0.0.1", handler.server.server_port)) as other:
            seen.append(other.gettimeout())
        whole(tiny.gz)(handler, name)

    with serve(answer) as server:
        mirrors(server)
        load_images("mnist", root=tmp_path)
        assert seen and set(seen) == {None}
    assert socket.create_connection is connect and socket.getdefaulttimeout() == default
    deadline = time.monotonic() + 5
    while threading.active_count() > threads + 1 and time.monotonic() < deadline:  # + 1: tqdm's monitor
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar_goes_to_a_terminal(tmp_path, tiny, mirrors, monkeypatch, capsys):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        load_images("mnist", root=tmp_path)
    assert "Downloading MNIST" in terminal.getvalue() and "100%" in terminal.getvalue()
    assert capsys.readouterr().out.count("\n") == 1


def test_the_progress_bar_goes_to_a_notebooks_standard_output(tmp_path, tiny, mirrors, monkeypatch):
    notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    out, err = notebook(), notebook()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        load_images("mnist", root=tmp_path)
    assert err.getvalue() == "" and "100%" in out.getvalue()


# --- downloads that fail --------------------------------------------------------------------------

BAD_SERVERS = {
    "silent": (lambda gz: silent(), "no answer in time"),
    "cut short": (cut_short, "not the published file"),
    "altered": (altered, "not the published file"),
    "without the files": (lambda gz: whole({}), "HTTP status 404"),
    "dripping": (dripping, "not finished within 1 s"),
    "dripping its header": (lambda gz: dripping(gz, from_the_start=True), "not finished within 1 s"),
}


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
@pytest.mark.parametrize("kind", BAD_SERVERS)
def test_a_bad_server(kind, dataset, tmp_path, tiny, mirrors, monkeypatch, capsys):
    """The announced fallback or a clear error, soon; nothing is left behind, and the next run succeeds."""
    make, says = BAD_SERVERS[kind]
    monkeypatch.setattr(data, "_STALL_LIMIT", 0.5)
    if "dripping" in kind:
        monkeypatch.setattr(data, "_TOTAL_LIMIT", 1.0)
    put(tmp_path, {LABELS: tiny.raw[LABELS]})
    before = contents(tmp_path)
    with serve(make(tiny.gz)) as server:
        mirrors(server)
        start = time.monotonic()
        if dataset == "auto":
            loaded = load_images(root=tmp_path)
            assert loaded.name == "digits" and says in one_line(capsys) and "not MNIST" in loaded.source
        else:
            with pytest.raises(RuntimeError, match=f"MNIST cannot be loaded(.|\n)*{says}"):
                load_images("mnist", root=tmp_path)
            assert capsys.readouterr() == ("", "")
        assert time.monotonic() - start < 15
    assert server.asked
    assert contents(tmp_path) == before
    monkeypatch.setattr(data, "_STALL_LIMIT", 10.0)
    monkeypatch.setattr(data, "_TOTAL_LIMIT", 30.0)
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        assert load_images(root=tmp_path).name == "mnist"


def test_a_server_that_never_accepts(tmp_path, mirrors, monkeypatch):
    """The queue of a listening socket is filled, so that a connection hangs already while it is made."""
    monkeypatch.setattr(data, "_CONNECT_LIMIT", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        mirrors(SimpleNamespace(url=f"http://127.0.0.1:{full.getsockname()[1]}/"))
        start = time.monotonic()
        try:
            with pytest.raises(RuntimeError, match="no answer in time"):
                load_images("mnist", root=tmp_path)
        finally:
            for filler in fillers:
                filler.close()
        assert time.monotonic() - start < 10


def test_all_mirrors_are_named_when_none_works(tmp_path, tiny, mirrors):
    with serve(cut_short(tiny.gz)) as cut, serve(whole({})) as empty:
        mirrors(cut, empty)
        with pytest.raises(RuntimeError, match="127.0.0.1: what arrived is not .*; 127.0.0.1: HTTP status 404"):
            load_images("mnist", root=tmp_path)


def test_no_network_at_all(tmp_path, monkeypatch, capsys):
    """A name that cannot be looked up, as on a train."""

    def nobody_knows(*arguments, **keywords):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    monkeypatch.setattr(MNIST, "mirrors", ["https://mnist.example/", "http://mnist.example/"])
    assert load_images(root=tmp_path).name == "digits"
    assert "mnist.example: Temporary failure in name resolution" in one_line(capsys)


def test_an_interrupted_download_leaves_nothing(tmp_path, tiny, mirrors, monkeypatch):
    """Ctrl-C, or "interrupt kernel", half way through a file."""
    bar = torchvision.datasets.utils.tqdm

    class Interrupted(bar):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(torchvision.datasets.utils, "tqdm", Interrupted)
    connect = socket.create_connection
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        with pytest.raises(KeyboardInterrupt):
            load_images(root=tmp_path)
    assert contents(tmp_path) == {} and socket.create_connection is connect


def test_an_extracted_file_is_checked_as_well(tmp_path, tiny, mirrors, monkeypatch):
    """The archive is as announced, but what it holds is not MNIST: it never gets its final name."""
    wrong = gzip.compress(b"something else", mtime=0)
    monkeypatch.setattr(MNIST, "resources", [(name, md5(wrong)) for name in tiny.gz])
    with serve(whole(dict.fromkeys(tiny.gz, wrong))) as server:
        mirrors(server)
        with pytest.raises(RuntimeError, match="not the published file"):
            load_images("mnist", root=tmp_path)
    assert contents(tmp_path) == {}


def test_a_torchvision_that_does_not_import(tmp_path, tiny, monkeypatch, capsys):
    """As with a torchvision built for another torch."""
    put(tmp_path, tiny.raw)
    monkeypatch.setitem(sys.modules, "torchvision.datasets.mnist", None)
    with pytest.raises(RuntimeError, match="torchvision cannot be imported"):
        load_images("mnist", root=tmp_path)
    assert load_images(root=tmp_path).name == "digits"
    assert "torchvision cannot be imported" in one_line(capsys)


# --- folders that cannot be written ---------------------------------------------------------------


def expect_no_folder(root: Path, says: str, capsys) -> None:
    """ "mnist" raises, "auto" falls back, both say why."""
    with pytest.raises(RuntimeError, match=says):
        load_images("mnist", root=root)
    assert load_images(root=root).name == "digits"
    assert says in one_line(capsys)


def test_a_root_below_a_file(tmp_path, tiny, mirrors, capsys):
    (tmp_path / "file").write_bytes(b"x")
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        expect_no_folder(tmp_path / "file" / "data", "Not a directory", capsys)
        expect_no_folder(tmp_path / "file", "Not a directory", capsys)
    assert server.asked == []  # no time is spent on the network for what cannot be stored
    assert contents(tmp_path) == {"file": b"x"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(tmp_path, tiny, mirrors, capsys):
    raw = put(tmp_path, damage(tiny, "truncated"))
    before = contents(tmp_path)
    raw.chmod(0o500)
    try:
        with serve(whole(tiny.gz)) as server:
            mirrors(server)
            expect_no_folder(tmp_path, "Permission denied", capsys)
    finally:
        raw.chmod(0o700)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("where", ["mkdtemp", "replace"])
def test_a_folder_that_refuses(where, code, tmp_path, tiny, mirrors, monkeypatch, capsys):
    """Read-only or full, at the first step or at the last: the damaged file stays as it was."""
    put(tmp_path, damage(tiny, "truncated"))
    before = contents(tmp_path)

    def refuse(*arguments, **keywords):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((tempfile, "mkdtemp") if where == "mkdtemp" else (os, "replace")), refuse)
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        expect_no_folder(tmp_path, os.strerror(code), capsys)
    assert contents(tmp_path) == before


def test_sound_files_in_a_read_only_folder_are_all_that_is_needed(tmp_path, tiny, monkeypatch):
    def refuse(*arguments, **keywords):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    put(tmp_path, tiny.raw)
    for module, name in (
        (tempfile, "mkdtemp"),
        (os, "replace"),
        (os, "mkdir"),
        (os, "unlink"),
        (shutil, "rmtree"),
    ):
        monkeypatch.setattr(module, name, refuse)
    assert load_images("mnist", root=tmp_path).name == "mnist"


@pytest.fixture
def file_system(tmp_path):
    """Mount a small file system of the given kind; skips where this is not allowed."""
    mounted = []

    def mount(options: str) -> Path:
        folder = tmp_path / "mounted"
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting a file system is not allowed here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", ["64k", "220k"])  # too small for the archive; for the archive and its content
def test_a_full_disk(size, file_system, tiny, mirrors, capsys):
    folder = file_system(f"size={size}")
    put(folder, {LABELS: tiny.raw[LABELS]})
    before = contents(folder)
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        expect_no_folder(folder, "No space left on device", capsys)
    assert contents(folder) == before


def test_a_read_only_disk(file_system, tiny, mirrors, capsys):
    folder = file_system("size=1m")
    put(folder, damage(tiny, "altered"))
    before = contents(folder)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, capture_output=True)
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        expect_no_folder(folder, "Read-only file system", capsys)
    assert server.asked == [] and contents(folder) == before


# --- killed, and twice at the same time -----------------------------------------------------------

_LOADER = """
import json, sys
from torchvision.datasets import MNIST
from course_utils import data
task = json.loads(sys.argv[1])
data._MNIST_FILES = {name: tuple(values) for name, values in task["expected"].items()}
MNIST.resources, MNIST.mirrors = [tuple(pair) for pair in task["resources"]], [task["url"]]
data.load_images("mnist", root=task["root"])
"""


def start_loader(root: Path, tiny, server) -> subprocess.Popen:
    """A process of its own that loads the tiny MNIST into `root`."""
    task = {"expected": tiny.expected, "resources": tiny.resources, "url": server.url, "root": str(root)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _LOADER, json.dumps(task)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_download_does_no_harm(tmp_path, tiny, mirrors):
    raw = put(tmp_path, damage(tiny, "truncated"))
    before = {name: (raw / name).read_bytes() for name in tiny.raw}
    with serve(dripping(tiny.gz)) as server, start_loader(tmp_path, tiny, server) as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in raw.glob(f"{data._PARTIAL}*/*.gz")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.kill()
    assert {name: (raw / name).read_bytes() for name in tiny.raw} == before
    (left,) = raw.glob(f"{data._PARTIAL}*")
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        assert load_images("mnist", root=tmp_path).name == "mnist"
    assert {name: (raw / name).read_bytes() for name in tiny.raw} == tiny.raw
    assert left.exists()  # so young that it might belong to a living download; an old one goes
    an_hour_ago = time.time() - data._PARTIAL_IS_DEAD_AFTER - 1
    os.utime(left, (an_hour_ago, an_hour_ago))
    load_images("mnist", root=tmp_path)
    assert contents(tmp_path) == as_published(tiny)


def test_two_processes_download_at_the_same_time(tmp_path, tiny):
    both = threading.Barrier(2)

    def answer(handler, name):
        if name == f"{IMAGES}.gz" and server.asked.count(name) <= 2:
            try:
                both.wait(60)  # nobody is served before both have asked
            except threading.BrokenBarrierError:
                return
        whole(tiny.gz)(handler, name)

    with serve(answer) as server:
        processes = [start_loader(tmp_path, tiny, server) for _ in range(2)]
        results = [(process.communicate(timeout=90), process.returncode) for process in processes]
    for (out, err), code in results:
        assert (code, err) == (0, "") and "MNIST, 200 training and 40 test images, downloaded" in out
    assert server.asked.count(f"{IMAGES}.gz") == 4  # torchvision asks twice for a file: where it is, and then for it
    assert contents(tmp_path) == as_published(tiny)


def test_two_threads_load_at_the_same_time(tmp_path, tiny, mirrors):
    results = []
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        threads = [
            threading.Thread(target=lambda: results.append(load_images("mnist", root=tmp_path))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert [len(loaded.train) for loaded in results] == [200] * 4
    assert len(server.asked) == 8  # one download: two requests a file
    assert contents(tmp_path) == as_published(tiny)


def test_another_process_that_finishes_first_is_good_enough(tmp_path, tiny, mirrors):
    """The own download fails, but in the meantime the files have come by another way."""

    def answer(handler, name):
        put(tmp_path, tiny.raw)
        handler.send_error(503)

    with serve(answer) as server:
        mirrors(server)
        assert load_images("mnist", root=tmp_path).name == "mnist"
    assert contents(tmp_path) == as_published(tiny)


# --- batches and images ---------------------------------------------------------------------------


@pytest.fixture
def split() -> Split:
    pixels = torch.randint(0, 256, (103, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Split(pixels, torch.arange(103))  # labels that name their image


def order(batches) -> list[int]:
    return [i for _, y in batches for i in y.tolist()]


def test_batches_hold_every_image_once_scaled_to_unit_range(split):
    batches = list(split.batches(25, seed=3))
    assert [len(x) for x, _ in batches] == [25, 25, 25, 25, 3]
    for x, y in batches:
        assert x.dtype == torch.float32 and x.shape[1:] == (1, 28, 28) and y.dtype == torch.int64
        assert torch.equal(x, split.pixels[y].to(torch.float32) / 255)
    assert sorted(order(batches)) == list(range(103))
    assert min(x.min() for x, _ in batches) == 0 and max(x.max() for x, _ in batches) == 1


def test_stored_order_without_a_seed_and_drop_last(split):
    assert order(split.batches(25)) == list(range(103))
    assert order(split.batches(25, drop_last=True)) == list(range(100))
    shuffled = order(split.batches(25, seed=0, drop_last=True))
    assert len(set(shuffled)) == 100
    assert order(split.batches(103, drop_last=True)) == list(range(103))
    assert [len(x) for x, _ in split.batches(1000)] == [103]


def test_same_seed_same_order(split):
    first = order(split.batches(10, seed=7))
    assert first == order(split.batches(10, seed=7)) == order(split.batches(50, seed=np.int64(7)))
    assert first != list(range(103)) and first != order(split.batches(10, seed=8))
    torch.manual_seed(123)
    assert first == order(split.batches(10, seed=torch.Generator().manual_seed(7)))


def test_float32_whatever_torchs_default_is(split):
    expected = split[:]
    torch.set_default_dtype(torch.float64)
    try:
        assert split[:].dtype == torch.float32 and torch.equal(split[:], expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_global_random_state_is_left_alone(split):
    before = torch.get_rng_state()
    order(split.batches(10, seed=7))
    split.subset(5)
    assert torch.equal(before, torch.get_rng_state())


def test_a_generator_gives_every_epoch_its_own_order(split):
    generator = torch.Generator().manual_seed(7)
    first, second = order(split.batches(10, seed=generator)), order(split.batches(10, seed=generator))
    assert first != second
    generator.manual_seed(7)
    one, two = split.batches(10, seed=generator), split.batches(10, seed=generator)
    assert order(two) == second and order(one) == first  # drawn at the call, not at the first batch


def test_no_python_work_per_image(split, monkeypatch):
    calls = []
    gather = torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", lambda *a: calls.append(1) or gather(*a))
    list(split.batches(50, seed=0))
    assert len(calls) == 6  # images and labels of three batches


def test_what_is_handed_out_can_be_changed_without_changing_the_data(split):
    pixels, labels = split.pixels.clone(), split.labels.clone()
    for seed in (None, 0):
        for x, y in split.batches(103, seed=seed):
            x.zero_(), y.zero_()
    split[0].zero_(), split[:].zero_(), split.subset(103).pixels.zero_()
    assert torch.equal(split.pixels, pixels) and torch.equal(split.labels, labels)


def test_indexing(split):
    image = split.pixels.to(torch.float32) / 255
    assert split[0].shape == (1, 28, 28) and split[0].dtype == torch.float32
    for i in (0, 102, -1, -103, np.int64(5), torch.tensor(5)):
        assert torch.equal(split[i], image[int(i)])
    for several in (
        slice(3, 9),
        slice(None, None, 20),
        [4, 2, -1],
        torch.tensor([4, 2, 2, -103]),
        np.array([1, 0]),
    ):
        assert torch.equal(split[several], image[several])
    mask = split.labels % 10 == 3
    assert torch.equal(split[mask], image[mask])
    assert split[[]].shape == (0, 1, 28, 28) and split[torch.tensor([5], dtype=torch.uint8)].shape == (
        1,
        1,
        28,
        28,
    )
    assert len(list(split)) == len(split) == 103


@pytest.mark.parametrize(
    ("index", "error", "says"),
    [
        (103, IndexError, "image 103 does not exist: there are 103, numbered 0 to 102"),
        (-104, IndexError, "image -104 does not exist"),
        ([0, 103], IndexError, "image 103 does not exist"),
        (torch.tensor([-104]), IndexError, "image -104"),
        (torch.tensor([0.5]), TypeError, "indices must be integers, got torch.float32"),
        (1.5, TypeError, "integers"),
        ("first", TypeError, "got str"),
        (None, TypeError, "NoneType"),
        (True, TypeError, "got True"),
        ((0, 0), TypeError, r"split\[i\]"),
        (torch.zeros(2, 2, dtype=torch.int64), IndexError, "one dimension"),
        (torch.ones(5, dtype=torch.bool), IndexError, "one bool per image, 103"),
        (torch.tensor(True), IndexError, "one bool per image"),
    ],
)
def test_bad_indices(split, index, error, says):
    with pytest.raises(error, match=says):
        split[index]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": -3}, ValueError, "at least 1"),
        ({"batch_size": 12.0}, TypeError, r"whole number, got 12\.0 \(float\)"),
        ({"batch_size": True}, TypeError, "whole number"),
        ({"batch_size": 104, "drop_last": True}, ValueError, "no batch at all of 103 images"),
        ({"batch_size": 10, "seed": 1.0}, TypeError, "seed must be an int or a torch.Generator"),
        ({"batch_size": 10, "seed": True}, TypeError, "seed must be"),
        ({"batch_size": 10, "seed": "0"}, TypeError, "seed must be"),
        ({"batch_size": 10, "seed": -1}, ValueError, "between 0 and"),
        ({"batch_size": 10, "seed": 2**64}, ValueError, "between 0 and"),
    ],
)
def test_bad_batches_are_refused_at_the_call(split, arguments, error, says):
    with pytest.raises(error, match=says):
        split.batches(**arguments)


def test_subset(split):
    some = split.subset(20, seed=4)
    assert len(some) == 20 == len(set(some.labels.tolist()))
    assert torch.equal(some.pixels, split.pixels[some.labels])
    assert torch.equal(some.labels, split.subset(20, seed=4).labels)
    assert not torch.equal(some.labels, split.subset(20, seed=5).labels)
    assert sorted(split.subset(103).labels.tolist()) == list(range(103))
    for n, error, says in (
        (0, ValueError, "at least 1"),
        (104, ValueError, "holds 103"),
        (2.5, TypeError, "whole"),
    ):
        with pytest.raises(error, match=says):
            split.subset(n)


@pytest.mark.parametrize(
    ("pixels", "labels", "error", "says"),
    [
        (
            torch.rand(3, 1, 28, 28),
            torch.arange(3),
            TypeError,
            "torch.uint8, got torch.float32.*kept as bytes",
        ),
        (np.zeros((3, 1, 28, 28), np.uint8), torch.arange(3), TypeError, "got ndarray"),
        (torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.zeros(3), TypeError, "labels must be"),
        (
            torch.zeros(3, 28, 28, dtype=torch.uint8),
            torch.arange(3),
            ValueError,
            r"\(N, C, H, W\), got \(3, 28, 28\)",
        ),
        (torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.arange(2), ValueError, "one label per image"),
        (torch.zeros(0, 1, 28, 28, dtype=torch.uint8), torch.arange(0), ValueError, "at least one image"),
        (
            torch.zeros(3, 1, 4, 4, dtype=torch.uint8, device="meta"),
            torch.arange(3),
            ValueError,
            "use one device",
        ),
    ],
)
def test_a_split_of_the_wrong_things(pixels, labels, error, says):
    with pytest.raises(error, match=says):
        Split(pixels, labels)


def test_the_mean_is_exact_and_the_objects_are_small_to_print(split):
    both = ImageData(split, split.subset(10), "digits", "made up")
    assert both.mean.shape == (1, 28, 28) and both.mean.dtype == torch.float32
    exact = split.pixels.numpy().astype(np.float64).mean(0) / 255
    assert np.allclose(both.mean.numpy(), exact, rtol=1e-6, atol=0)
    assert repr(both) == "ImageData('digits', 103 training and 10 test images)"
    assert repr(split) == "Split(103 images of (1, 28, 28) on cpu)"
    with pytest.raises(AttributeError):
        both.name = "mnist"


def other_devices() -> list[str]:
    return ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()


@pytest.mark.skipif(not other_devices(), reason="no accelerator on this machine")
def test_on_an_accelerator_the_same_images_in_the_same_order(split):
    for device in other_devices():
        there = split.to(device)
        assert there.pixels.device.type == there.labels.device.type == device
        for (x, y), (x_there, y_there) in zip(split.batches(25, seed=3), there.batches(25, seed=3), strict=True):
            assert x_there.device.type == y_there.device.type == device
            assert torch.equal(y, y_there.cpu()) and torch.allclose(x, x_there.cpu(), rtol=1e-6, atol=0)
        assert torch.equal(split.subset(9).labels, there.subset(9).labels.cpu())
        assert there[[1, -1]].device.type == device
        with pytest.raises(IndexError):
            there[torch.tensor([103], device=device)]
        with pytest.raises(ValueError, match="drawn on the CPU"):
            there.batches(10, seed=torch.Generator(device))
        loaded = load_images("digits", device=device)
        here = load_images("digits")
        assert loaded.test.pixels.device.type == loaded.mean.device.type == device
        assert torch.allclose(loaded.mean.cpu(), here.mean, rtol=1e-6) and loaded.to("cpu").mean.device.type == "cpu"


# --- importing, and the real thing ----------------------------------------------------------------


def test_importing_does_no_work():
    """Neither torchvision nor scikit-learn is imported before it is needed."""
    code = "import sys, course_utils.data; print({'torchvision', 'sklearn'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Asked before the tests hide the variable.
_REAL = os.environ.get("COURSE_DATA")
_REAL_FILES = data._MNIST_FILES


@pytest.mark.skipif(
    not _REAL or not (Path(_REAL) / "MNIST" / "raw" / IMAGES).is_file(),
    reason="needs MNIST in the folder that COURSE_DATA names",
)
def test_the_real_mnist(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", _REAL)
    monkeypatch.setattr(data, "_MNIST_FILES", _REAL_FILES)
    loaded = load_images()
    assert one_line(capsys).startswith("Data: MNIST, 60,000 training and 10,000 test images, found in $COURSE_DATA")
    assert loaded.train.labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert loaded.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(loaded.mean.mean().item() - 0.1307) < 1e-4  # the constant that everybody normalises MNIST with
