"""Data that are always there: what is served, and every way in which getting MNIST can fail, made to happen.

The downloads are real ones, by pooch over HTTP, from servers on loopback. They serve a tiny MNIST made here: four
files with their checksums, but 200 and 40 images.
"""

from __future__ import annotations

import _thread
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

from course_utils.data import ImageData, Split, current_dataset, default_root, load_images
from course_utils.data import load as loading
from course_utils.data import mnist as data
from tests._servers import altered, cut_short, dripping, serve, silent, whole
from tests.conftest import ROOT, python

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


# --- a tiny MNIST, and a place for it -------------------------------------------------------------


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _tiny() -> SimpleNamespace:
    """`raw`, `gz`: name -> bytes; `files`: name -> (size, MD5, MD5 of the archive)."""
    rng, raw = np.random.default_rng(0), {}
    for part, n in (("train", 200), ("t10k", 40)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        raw[f"{part}-images-idx3-ubyte"] = struct.pack(">iiii", 2051, n, 28, 28) + pixels.tobytes()
        raw[f"{part}-labels-idx1-ubyte"] = struct.pack(">ii", 2049, n) + bytes(i % 10 for i in range(n))
    gz = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in raw.items()}
    files = {name: (len(content), md5(content), md5(gz[f"{name}.gz"])) for name, content in raw.items()}
    return SimpleNamespace(raw=raw, gz=gz, files=files)


tiny = _tiny()
WITHOUT_IMAGES = {name: content for name, content in tiny.raw.items() if name != IMAGES}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """No setting from outside, the tiny MNIST instead of the real one, a mirror on whose port nobody listens."""
    for name in ("COURSE_DATA", "COURSE_DATASET", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(data, "FILES", tiny.files)
    monkeypatch.setattr(data, "TOTAL", 30.0)
    monkeypatch.setattr(loading, "last_loaded", None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(data, "MIRRORS", [f"http://127.0.0.1:{unused.getsockname()[1]}/"])
        yield


@pytest.fixture
def mirrors(monkeypatch):
    """Call it with servers to download from them."""
    return lambda *servers: monkeypatch.setattr(data, "MIRRORS", [server.url for server in servers])


@pytest.fixture
def good(mirrors):
    """A mirror that serves everything well."""
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        yield server


def put(root: Path, files: dict[str, bytes]) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def contents(root: Path) -> dict[str, bytes]:
    """All files below `root`, and all folders but those of MNIST's layout."""
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    layout = ("MNIST", "MNIST/raw")
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in found.items() if name not in layout}


PUBLISHED = {f"MNIST/raw/{name}": content for name, content in tiny.raw.items()}


def one_line(capsys) -> str:
    """The line that load_images has printed, which is all there is to see."""
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1 and out.startswith("Data: ") and out.endswith(".\n")
    return out.strip()


def expect_none(root: Path, says: str, capsys) -> None:
    """ "mnist" raises, "auto" falls back, both say why, and nothing is changed."""
    before = contents(root) if root.is_dir() else None
    with pytest.raises(RuntimeError, match=rf"(?s)MNIST cannot be loaded.*{says}") as caught:
        load_images("mnist", root=root)
    assert "COURSE_DATA" in str(caught.value) and 'dataset="digits"' in str(caught.value)  # the cures
    assert capsys.readouterr().out == ""
    assert load_images(root=root).name == "digits"
    assert says in (line := one_line(capsys)) and "not MNIST" in line
    assert before is None or contents(root) == before


# --- which data, and why --------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_found_in_root_unpacked_or_not(tmp_path, capsys, packed):
    put(tmp_path, tiny.gz if packed else tiny.raw)
    loaded = load_images(root=tmp_path)
    assert loaded.name == "mnist" and loaded.shape == (1, 28, 28) and loaded.num_classes == 10
    assert (len(loaded.train), len(loaded.test)) == (200, 40)
    assert loaded.train.pixels.dtype == torch.uint8 and loaded.train.labels.dtype == torch.int64
    assert loaded.test.labels.tolist() == [i % 10 for i in range(40)]
    line = one_line(capsys)
    assert line == f"Data: {loaded.source}" and str(tmp_path) not in line  # a notebook may keep this line
    assert "MNIST, 200 training and 40 test images, found in the folder given as root" in line


def test_reads_what_torchvision_reads(tmp_path):
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    put(tmp_path, tiny.raw)
    loaded, reference = load_images("mnist", root=str(tmp_path)), MNIST(tmp_path, train=True)
    assert torch.equal(loaded.train.pixels[:, 0], reference.data)
    assert torch.equal(loaded.train.labels, reference.targets)
    assert torch.equal(loaded.train[7], ToTensor()(reference[7][0]))


def test_course_data_names_the_folder_and_root_wins(tmp_path, monkeypatch, capsys):
    assert default_root() == ROOT / "data"
    monkeypatch.setenv("COURSE_DATA", "")
    assert default_root() == ROOT / "data"
    monkeypatch.setenv("COURSE_DATA", "~/somewhere")
    assert default_root() == Path.home() / "somewhere"
    put(tmp_path / "here", tiny.raw)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "here"))
    assert default_root() == tmp_path / "here" and load_images().name == "mnist"
    assert "found in $COURSE_DATA" in one_line(capsys)
    assert load_images(root=tmp_path / "elsewhere").name == "digits"


def test_course_dataset_sets_the_default_an_argument_wins_and_the_last_is_known(tmp_path, monkeypatch, capsys):
    put(tmp_path, tiny.raw)
    assert current_dataset() is None
    monkeypatch.setenv("COURSE_DATASET", "digits")
    assert load_images(root=tmp_path).name == "digits" == current_dataset()
    assert "as asked for by $COURSE_DATASET=digits" in one_line(capsys)
    assert load_images("mnist", root=tmp_path).name == "mnist" == current_dataset()
    monkeypatch.setenv("COURSE_DATASET", "mnist")
    assert load_images("digits").name == "digits"
    with pytest.raises(RuntimeError, match=r"\$COURSE_DATASET=mnist"):
        load_images(root=tmp_path / "empty")
    assert current_dataset() == "digits"
    monkeypatch.setenv("COURSE_DATASET", "digit")
    with pytest.raises(ValueError, match=r'"digit" \(\$COURSE_DATASET=digit\).*mean "digits"'):
        load_images()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"dataset": "mnsit"}, ValueError, 'unknown data set "mnsit".*auto, mnist, digits.*mean "mnist"'),
        ({"dataset": "MNIST"}, ValueError, 'Did you mean "mnist"'),
        ({"dataset": None}, TypeError, "dataset must be one of"),
        ({"device": "gpu"}, ValueError, "device='gpu' cannot be used.*\"cpu\" always works"),
        ({"device": 1.5}, ValueError, "cannot be used"),
        ({"dataset": "mnist", "root": 3}, TypeError, "int"),
    ],
)
def test_bad_arguments(arguments, error, says):
    with pytest.raises(error, match=says):
        load_images(**arguments)


# --- the offline digits ---------------------------------------------------------------------------


def test_digits_touch_neither_network_nor_folder(tmp_path, monkeypatch, capsys):
    def forbidden(*arguments, **keywords):
        raise AssertionError("the offline digits need neither network nor folder")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(loading, "load_mnist", forbidden)
    loaded = load_images("digits", root=tmp_path / "never")
    assert loaded.name == "digits" and not (tmp_path / "never").exists()
    assert "digits, 1,437 training and 360 test images" in (line := one_line(capsys)) and "not MNIST" in line


def test_digits_are_all_of_scikit_learns_in_a_fixed_balanced_split_and_look_like_mnist():
    from sklearn.datasets import load_digits

    first, again = load_images("digits"), load_images("digits")
    assert torch.equal(first.train.pixels, again.train.pixels) and torch.equal(first.test.labels, again.test.labels)
    assert (len(first.train), len(first.test)) == (1437, 360)
    assert set(first.test.labels.bincount(minlength=10).tolist()) <= {35, 36, 37}
    pixels = torch.cat([first.train.pixels, first.test.pixels]).flatten(1)
    assert len({bytes(row) for row in pixels.numpy()}) == len({bytes(image) for image in load_digits().data})
    inner = first.train.pixels[:, :, 4:24, 4:24]  # in the middle, from black to white, about as much ink as MNIST
    assert first.shape == (1, 28, 28) and first.train.pixels.sum() == inner.sum()
    assert inner.amin() == 0 and inner.amax() == 255 and 0.10 < first.mean.mean() < 0.20
    assert ((inner > 50) & (inner < 205)).float().mean() < 0.3  # a soft threshold has made the strokes clear-cut


def test_digits_keep_their_labels_and_their_shapes():
    """The nearest neighbour in the training part tells the class: images and labels still belong together."""
    loaded = load_images("digits")
    distances = torch.cdist(loaded.test[:].flatten(1), loaded.train[:].flatten(1))
    assert (loaded.train.labels[distances.argmin(1)] == loaded.test.labels).float().mean() > 0.95


# --- damaged and missing files --------------------------------------------------------------------

WHOLE = tiny.raw[IMAGES]
DAMAGES = {
    "missing": ({}, f"{IMAGES} is missing"),
    "truncated": ({IMAGES: WHOLE[:1000]}, f"{IMAGES} has 1,000 bytes instead of 156,816"),
    "empty": ({IMAGES: b""}, f"{IMAGES} has 0 bytes instead of 156,816"),
    "altered": ({IMAGES: WHOLE[:-1] + bytes([WHOLE[-1] ^ 1])}, f"{IMAGES} has the MD5 sum "),
    "truncated archive": ({f"{IMAGES}.gz": tiny.gz[f"{IMAGES}.gz"][:1000]}, f"{IMAGES}.gz cannot be read"),
    "no archive": ({f"{IMAGES}.gz": b"html"}, f"{IMAGES}.gz cannot be read"),
}
EMPTY = DAMAGES["empty"][0]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_named_replaced_and_the_others_stay(how, tmp_path, mirrors, capsys):
    damaged, says = DAMAGES[how]
    raw = put(tmp_path, {**WITHOUT_IMAGES, **damaged})
    expect_none(tmp_path, says, capsys)
    before = {name: (raw / name).stat().st_ino for name in WITHOUT_IMAGES}
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        assert len(load_images(root=tmp_path).train) == 200
    assert server.asked == [f"{IMAGES}.gz"] and (raw / IMAGES).read_bytes() == WHOLE
    assert {name: (raw / name).stat().st_ino for name in before} == before
    assert "completed by a download" in one_line(capsys)


def test_several_damaged_files_are_all_named(tmp_path, capsys):
    put(tmp_path, {**tiny.raw, LABELS: b"12", IMAGES: b"123"})
    expect_none(tmp_path, f"{IMAGES} has 3 bytes instead of 156,816 and {LABELS} has 2 bytes", capsys)


def test_a_folder_in_the_place_of_a_file_is_an_error_not_a_loss(tmp_path, good, capsys):
    raw = put(tmp_path, WITHOUT_IMAGES)
    (raw / IMAGES).mkdir()
    (raw / IMAGES / "precious").write_bytes(b"1")
    expect_none(tmp_path, IMAGES, capsys)


# --- downloads that go well -----------------------------------------------------------------------


def test_download_into_an_empty_place(tmp_path, mirrors, capsys):
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        loaded = load_images(root=tmp_path / "new" / "data")
    assert "downloaded to the folder given as root" in one_line(capsys)
    assert contents(tmp_path / "new" / "data") == PUBLISHED
    again = load_images("mnist", root=tmp_path / "new" / "data")  # the server is gone: nothing is fetched twice
    assert torch.equal(loaded.train.pixels, again.train.pixels)


@pytest.mark.parametrize("first", [silent, cut_short, altered, "404", "dead"])
def test_the_second_mirror_helps_when_the_first_does_not(first, tmp_path, mirrors, monkeypatch):
    monkeypatch.setattr(data, "SILENCE", (3.0, 0.5))
    answer = whole({}) if first in ("404", "dead") else first(tiny.gz) if first is not silent else silent()
    with serve(answer) as bad, serve(whole(tiny.gz)) as sound:
        if first == "dead":
            bad.url = data.MIRRORS[0]
        mirrors(bad, sound)
        assert load_images("mnist", root=tmp_path).name == "mnist"
    assert contents(tmp_path) == PUBLISHED and len(bad.asked) <= 1  # not asked again after its failure


@pytest.mark.parametrize("place", ["terminal", "notebook"])
def test_the_progress_bar_goes_to_a_terminal_or_a_notebooks_standard_output(tmp_path, good, monkeypatch, place):
    stream = {"isatty": lambda self: place == "terminal"}
    if place == "notebook":
        stream["__module__"] = "ipykernel.iostream"
    out, err = type("Stream", (io.StringIO,), stream)(), type("Stream", (io.StringIO,), stream)()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    load_images("mnist", root=tmp_path)
    shown, other = (err, out) if place == "terminal" else (out, err)
    assert f"{IMAGES}: 100%" in shown.getvalue() and "100%" not in other.getvalue()
    assert place == "terminal" or err.getvalue() == ""


# --- downloads that fail --------------------------------------------------------------------------

BAD_SERVERS = {
    "silent": (lambda gz: silent(), "no answer in time"),
    "cut short": (cut_short, "not the published file"),
    "altered": (altered, "not the published file"),
    "without the files": (lambda gz: whole({}), "HTTP status 404"),
    "dripping": (dripping, "not finished within 1 s"),
    "dripping its header": (lambda gz: dripping(gz, from_the_start=True), "not finished within 1 s"),
}


@pytest.mark.parametrize("kind", BAD_SERVERS)
def test_a_bad_server(kind, tmp_path, mirrors, monkeypatch, capsys):
    """The announced fallback or a clear error, soon; nothing is left behind, and the next run succeeds."""
    make, says = BAD_SERVERS[kind]
    put(tmp_path, {LABELS: tiny.raw[LABELS]})
    with serve(make(tiny.gz)) as server, monkeypatch.context() as patch:
        patch.setattr(data, "SILENCE", (3.0, 0.5))
        if "dripping" in kind:
            patch.setattr(data, "TOTAL", 1.0)
        mirrors(server)
        start = time.monotonic()
        expect_none(tmp_path, says, capsys)
        assert time.monotonic() - start < 30 and server.asked
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        assert load_images(root=tmp_path).name == "mnist"


def test_a_server_that_never_accepts(tmp_path, mirrors, monkeypatch, capsys):
    """The queue of a listening socket is filled, so that a connection hangs already while it is made."""
    monkeypatch.setattr(data, "SILENCE", (0.3, 10.0))
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        mirrors(SimpleNamespace(url=f"http://127.0.0.1:{full.getsockname()[1]}/"))
        start = time.monotonic()
        try:
            expect_none(tmp_path, "no answer in time", capsys)
        finally:
            for filler in fillers:
                filler.close()
        assert time.monotonic() - start < 20


def test_all_mirrors_are_named_when_none_works(tmp_path, mirrors, capsys):
    with serve(cut_short(tiny.gz)) as cut, serve(whole({})) as empty:
        mirrors(cut, empty)
        with pytest.raises(RuntimeError, match=r"127.0.0.1: what arrived is not .*; 127.0.0.1: HTTP status 404"):
            load_images("mnist", root=tmp_path)


def test_no_network_at_all(tmp_path, monkeypatch, capsys):
    """A name that cannot be looked up, as on a train; and one whose look-up never ends."""

    def nobody_knows(*arguments, **keywords):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(data, "MIRRORS", ["https://mnist.example/", "http://mnist.example/"])
    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    expect_none(tmp_path, "mnist.example: Temporary failure in name resolution", capsys)
    monkeypatch.setattr(data, "TOTAL", 0.3)
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait() and nobody_knows())
    expect_none(tmp_path, "not finished within 0.3 s", capsys)
    over.set()


def test_without_pooch_the_package_is_named_and_sound_files_are_enough(tmp_path, good, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pooch", None)
    expect_none(tmp_path, "the package pooch, which downloads it, is missing", capsys)
    assert good.asked == []
    put(tmp_path, tiny.raw)
    assert load_images(root=tmp_path).name == "mnist"


def test_an_interrupted_download_leaves_nothing(tmp_path, mirrors):
    """Ctrl-C, or "interrupt kernel", half way through a file."""

    def answer(handler, name):
        _thread.interrupt_main()
        dripping(tiny.gz)(handler, name)

    with serve(answer) as server:
        mirrors(server)
        with pytest.raises(KeyboardInterrupt):
            load_images(root=tmp_path)
    assert contents(tmp_path) == {}


def test_an_extracted_file_is_checked_as_well(tmp_path, mirrors, monkeypatch, capsys):
    """The archive is as announced, but what it holds is not MNIST: it never gets its final name."""
    wrong = gzip.compress(b"something else", mtime=0)
    monkeypatch.setattr(data, "FILES", {name: (*known[:2], md5(wrong)) for name, known in tiny.files.items()})
    with serve(whole(dict.fromkeys(tiny.gz, wrong))) as server:
        mirrors(server)
        expect_none(tmp_path, "not the published file", capsys)


# --- folders that cannot be written ---------------------------------------------------------------


@pytest.mark.parametrize("below", ["file/data", "file", "link", "link/data"])
def test_a_root_below_a_file_or_a_link_to_nowhere(below, tmp_path, good, capsys):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    says = "link is a link to a place that does not exist" if "link" in below else "Not a directory"
    expect_none(tmp_path / below, says, capsys)
    assert good.asked == []  # no time is spent on the network for what cannot be stored
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("where", [(tempfile, "mkdtemp"), (Path, "write_bytes"), (os, "replace")], ids=[1, 2, 3])
def test_a_folder_that_refuses(where, code, tmp_path, good, monkeypatch, capsys):
    """Read-only or full, at the first step, in between or at the last: the damaged file stays as it was."""
    put(tmp_path, {**tiny.raw, **EMPTY})

    def refuse(*arguments, **keywords):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*where, refuse)
    expect_none(tmp_path, os.strerror(code), capsys)


def test_sound_files_in_a_read_only_folder_are_all_that_is_needed(tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    put(tmp_path, {**WITHOUT_IMAGES, f"{IMAGES}.gz": tiny.gz[f"{IMAGES}.gz"]})
    for module, name in ((tempfile, "mkdtemp"), (os, "replace"), (os, "mkdir"), (os, "unlink"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, refuse)
    assert load_images("mnist", root=tmp_path).name == "mnist"


# --- killed, and twice at the same time -----------------------------------------------------------

_LOADER = """
import json, sys
from course_utils.data import load_images, mnist
mnist.FILES, mnist.MIRRORS, root = json.loads(sys.argv[1])
load_images("mnist", root=root)
"""


def start_loader(root: Path, server) -> subprocess.Popen:
    """A process of its own that loads the tiny MNIST into `root`."""
    command = python("-c", _LOADER, json.dumps([tiny.files, [server.url], str(root)]))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_download_does_no_harm(tmp_path, mirrors):
    raw = put(tmp_path, {**tiny.raw, **EMPTY})
    before = {name: (raw / name).read_bytes() for name in tiny.raw}
    with serve(dripping(tiny.gz)) as server, start_loader(tmp_path, server) as process:
        deadline = time.monotonic() + 90
        while not any(path.is_file() for path in raw.glob(f"{data.PARTIAL}*/*")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.kill()
    assert {name: (raw / name).read_bytes() for name in tiny.raw} == before
    (left,) = raw.glob(f"{data.PARTIAL}*")
    with serve(whole(tiny.gz)) as server:
        mirrors(server)
        assert load_images("mnist", root=tmp_path).name == "mnist"
    assert left.exists()  # so young that it might belong to a living download; an old one goes
    an_hour_ago = time.time() - data.DEAD_AFTER - 1
    os.utime(left, (an_hour_ago, an_hour_ago))
    load_images("mnist", root=tmp_path)
    assert contents(tmp_path) == PUBLISHED


def test_two_processes_download_at_the_same_time(tmp_path):
    both = threading.Barrier(2)

    def answer(handler, name):
        if name == f"{IMAGES}.gz":
            try:
                both.wait(90)  # nobody is served before both have asked
            except threading.BrokenBarrierError:
                return
        whole(tiny.gz)(handler, name)

    with serve(answer) as server:
        processes = [start_loader(tmp_path, server) for _ in range(2)]
        results = [(process.communicate(timeout=120), process.returncode) for process in processes]
    for (out, err), code in results:
        assert (code, err) == (0, "") and "MNIST, 200 training and 40 test images, downloaded" in out
    assert server.asked.count(f"{IMAGES}.gz") == 2 and contents(tmp_path) == PUBLISHED


def test_two_threads_load_at_the_same_time(tmp_path, good):
    results = []
    threads = [threading.Thread(target=lambda: results.append(load_images("mnist", root=tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [len(loaded.train) for loaded in results] == [200] * 4
    assert len(good.asked) == 4 and contents(tmp_path) == PUBLISHED  # one download


def test_another_process_that_finishes_first_is_good_enough(tmp_path, mirrors):
    """The own download fails, but in the meantime the files have come by another way."""

    def answer(handler, name):
        put(tmp_path, tiny.raw)
        handler.send_error(503)

    with serve(answer) as server:
        mirrors(server)
        assert load_images("mnist", root=tmp_path).name == "mnist"
    assert contents(tmp_path) == PUBLISHED


# --- batches and images ---------------------------------------------------------------------------


@pytest.fixture
def split() -> Split:
    pixels = torch.randint(0, 256, (103, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Split(pixels, torch.arange(103))  # labels that name their image


def order(batches) -> list[int]:
    return [i for _, y in batches for i in y.tolist()]


def test_batches_hold_every_image_once_scaled_to_unit_range(split):
    batches = list(split.batches(25, seed=3))
    assert [len(x) for x, _ in batches] == [25, 25, 25, 25, 3] and sorted(order(batches)) == list(range(103))
    for x, y in batches:
        assert x.dtype == torch.float32 and x.shape[1:] == (1, 28, 28) and y.dtype == torch.int64
        assert torch.equal(x, split.pixels[y].to(torch.float32) / 255)
    assert min(x.min() for x, _ in batches) == 0 and max(x.max() for x, _ in batches) == 1


def test_stored_order_without_a_seed_and_drop_last(split):
    assert order(split.batches(25)) == order(split.batches(103, drop_last=True)) == list(range(103))
    assert order(split.batches(25, drop_last=True)) == list(range(100))
    assert len(set(order(split.batches(25, seed=0, drop_last=True)))) == 100
    assert [len(x) for x, _ in split.batches(1000)] == [103]


def test_same_seed_same_order_whatever_the_global_state_which_is_left_alone(split):
    before = torch.get_rng_state()
    first = order(split.batches(10, seed=7))
    assert first == order(split.batches(50, seed=np.int64(7))) and len(split.subset(5)) == 5
    assert torch.equal(before, torch.get_rng_state())
    assert first != list(range(103)) and first != order(split.batches(10, seed=8))
    torch.manual_seed(123)
    assert first == order(split.batches(10, seed=torch.Generator().manual_seed(7)))


def test_a_generator_gives_every_epoch_its_own_order(split):
    generator = torch.Generator().manual_seed(7)
    first, second = order(split.batches(10, seed=generator)), order(split.batches(10, seed=generator))
    assert first != second
    generator.manual_seed(7)
    one, two = split.batches(10, seed=generator), split.batches(10, seed=generator)
    assert order(two) == second and order(one) == first  # drawn at the call, not at the first batch


def test_float32_whatever_torchs_default_is(split):
    expected = split[:]
    torch.set_default_dtype(torch.float64)
    try:
        assert split[:].dtype == torch.float32 and torch.equal(split[:], expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_no_python_work_per_image(split, monkeypatch):
    calls, gather = [], torch.Tensor.index_select
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
    for i in (0, 102, -1, -103, np.int64(5), torch.tensor(5)):
        assert split[i].dtype == torch.float32 and torch.equal(split[i], image[int(i)])
    several = [slice(3, 9), slice(None, None, 20), [4, 2, -1], torch.tensor([4, 2, 2, -103]), np.array([1, 0])]
    for index in (*several, split.labels % 10 == 3):
        assert torch.equal(split[index], image[index])
    assert split[[]].shape == (0, 1, 28, 28) and split[torch.tensor([5], dtype=torch.uint8)].shape == (1, 1, 28, 28)
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
        ("first", TypeError, "got 'first'"),
        (None, TypeError, "got None"),
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
    for n, error, says in ((0, ValueError, "at least 1"), (104, ValueError, "holds 103"), (2.5, TypeError, "whole")):
        with pytest.raises(error, match=says):
            split.subset(n)


BYTES = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("pixels", "labels", "error", "says"),
    [
        (torch.rand(3, 1, 28, 28), torch.arange(3), TypeError, "torch.uint8, got torch.float32.*kept as bytes"),
        (BYTES.numpy(), torch.arange(3), TypeError, "got ndarray"),
        (BYTES, torch.zeros(3), TypeError, "labels must be"),
        (BYTES[:, 0], torch.arange(3), ValueError, r"\(N, C, H, W\).*got \(3, 28, 28\)"),
        (BYTES, torch.arange(2), ValueError, "one label per image"),
        (BYTES[:0], torch.arange(0), ValueError, "at least one image"),
        (BYTES.to("meta"), torch.arange(3), ValueError, "use one device"),
    ],
)
def test_a_split_of_the_wrong_things(pixels, labels, error, says):
    with pytest.raises(error, match=says):
        Split(pixels, labels)


def test_the_mean_is_exact_and_the_objects_are_small_to_print(split):
    both = ImageData(split, split.subset(10), "digits", "made up")
    exact = split.pixels.numpy().astype(np.float64).mean(0) / 255
    assert both.mean.dtype == torch.float32 and np.allclose(both.mean.numpy(), exact, rtol=1e-6, atol=0)
    assert repr(both) == "ImageData('digits', 103 training and 10 test images)"
    assert repr(split) == "Split(103 images of (1, 28, 28) on cpu)"
    with pytest.raises(AttributeError):
        both.name = "mnist"


OTHER_DEVICES = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()


@pytest.mark.skipif(not OTHER_DEVICES, reason="no accelerator on this machine")
def test_on_an_accelerator_the_same_images_in_the_same_order(split):
    for device in OTHER_DEVICES:
        there = split.to(device)
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
        assert loaded.mean.device.type == device and loaded.to("cpu").mean.device.type == "cpu"
        assert torch.allclose(loaded.mean.cpu(), load_images("digits").mean, rtol=1e-6)


# --- importing, and the real thing ----------------------------------------------------------------


def test_importing_does_no_work():
    code = "import sys, course_utils.data; print({'torchvision', 'sklearn', 'pooch', 'requests'} & set(sys.modules))"
    done = subprocess.run(python("-c", code), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


_REAL, _REAL_FILES = os.environ.get("COURSE_DATA"), data.FILES  # asked before the tests hide them


@pytest.mark.skipif(not _REAL or not Path(_REAL, "MNIST").is_dir(), reason="needs MNIST where COURSE_DATA names it")
def test_the_real_mnist(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", _REAL)
    monkeypatch.setattr(data, "FILES", _REAL_FILES)
    loaded = load_images()
    assert one_line(capsys).startswith("Data: MNIST, 60,000 training and 10,000 test images, found in $COURSE_DATA")
    assert loaded.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert loaded.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(loaded.mean.mean().item() - 0.1307) < 1e-4  # the constant that everybody normalises MNIST with
