"""MNIST from its four published files: found, verified, and where it must be, downloaded with pooch."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from course_utils.data.images import ImageData, Split

# The four files as published: bytes and MD5 of the content, MD5 of the archive NAME.gz that a mirror serves.
FILES = {
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SILENCE = (3.0, 10.0)  # seconds until a mirror must have accepted the connection, and without a single byte
TOTAL = 180.0  # seconds for the whole download, 11.6 MB: at least 65 kB/s
PARTIAL = ".download-"  # prefix of the folder in which a download is collected and verified
DEAD_AFTER = 3600.0  # seconds; no living download is that old

_lock = threading.Lock()  # two threads take turns; two processes are kept apart by the folders of their downloads


class Unavailable(Exception):
    """MNIST cannot be had; the text says why in one line, without the path of a machine."""


def load_mnist(root: Path, where: str) -> ImageData:
    """MNIST from `root`/MNIST/raw, with what is missing or damaged there downloaded; `where` is what to call `root`.

    A file counts when its content has the published MD5 sum, whether it lies there unpacked or as NAME.gz.
    Raises Unavailable.
    """
    raw, how = root / "MNIST" / "raw", "found in"
    with _lock:
        _remove_dead_downloads(raw)
        content, problems = _read(raw)
        if problems:
            how = "downloaded to" if not content else "completed by a download to"
            content |= _download(raw, problems, where)
    train, test = (
        Split(_bytes(content[f"{part}-images-idx3-ubyte"], 16).reshape(-1, 1, 28, 28),
              _bytes(content[f"{part}-labels-idx1-ubyte"], 8).to(torch.int64)) for part in ("train", "t10k")
    )  # fmt: skip
    source = f"MNIST, {len(train):,} training and {len(test):,} test images, {how} {where}, checksums verified."
    return ImageData(train, test, "mnist", source)


def _bytes(content: bytes, header: int) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:]


def _read(raw: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """The verified content of each file; and of each that is not there as published, what is wrong with it."""
    content, problems = {}, {}
    for name in FILES:
        for path, unpack in ((raw / name, bytes), (raw / f"{name}.gz", gzip.decompress)):
            try:
                came = unpack(path.read_bytes())
                wrong = _wrong(name, came)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, EOFError, zlib.error) as error:
                wrong = f"cannot be read ({_reason(error)})"
            if not wrong:
                content[name] = came
                break
            problems.setdefault(name, f"{path.name} {wrong}")
        problems.setdefault(name, f"{name} is missing")
    return content, {name: problem for name, problem in problems.items() if name not in content}


def _wrong(name: str, came: bytes) -> str:
    size, md5, _ = FILES[name]
    digest = hashlib.md5(came, usedforsecurity=False).hexdigest()
    if len(came) != size:
        return f"has {len(came):,} bytes instead of {size:,}"
    return "" if digest == md5 else f"has the MD5 sum {digest} instead of {md5}"


def _download(raw: Path, problems: dict[str, str], where: str) -> dict[str, bytes]:
    """Fetch the files named in `problems`; each moves into `raw` once it has been verified. Return their content.

    A mirror that fails is not asked again: the next one is the retry. Nothing is ever written under a final name, so
    a download that fails, is interrupted or killed, or runs twice at the same time leaves nothing half-written.
    """
    state = f"in {where} {' and '.join(', '.join(problems.values()).rsplit(', ', 1))}"
    if list(problems.values()) == [f"{name} is missing" for name in FILES]:
        state = f"MNIST is not in {where}"
    if link := next((path for path in (raw, *raw.parents) if path.is_symlink() and not path.exists()), None):
        raise Unavailable(f"{state}: {link.name} is a link to a place that does not exist")
    try:  # first of all, so that a folder that cannot be written costs no time on the network
        raw.mkdir(parents=True, exist_ok=True)
        partial = tempfile.TemporaryDirectory(prefix=PARTIAL, dir=raw, ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(f"{state}, and nothing can be written there ({_reason(error)})") from error
    mirrors, failures, fetched, stored = list(MIRRORS), [], {}, True
    ends = time.monotonic() + TOTAL
    with partial as folder:
        for name in problems:
            while mirrors and name not in fetched:
                try:
                    came = _fetch(name, mirrors[0], Path(folder), ends)
                    os.replace(Path(folder, name), raw / name)
                    fetched[name] = came
                except ImportError as error:
                    raise Unavailable(f"{state}, and the package pooch, which downloads it, is missing") from error
                except (OSError, ValueError, EOFError, zlib.error) as error:
                    stored = not getattr(error, "errno", None)  # the errors of the network have no errno
                    failures.append(f"{urlparse(mirrors[0]).hostname}: {_reason(error)}" if stored else _reason(error))
                    mirrors = mirrors[1:] if stored and time.monotonic() < ends else []
    if mirrors:
        return fetched
    content, left = _read(raw)  # another process may have brought them in the meantime
    if left:
        how = "failed" if stored else "cannot be stored"
        raise Unavailable(f"{state}, and the download {how} ({'; '.join(failures)})")
    return content


def _fetch(name: str, mirror: str, folder: Path, ends: float) -> bytes:
    """One file from one mirror, unpacked into `folder` and verified; its content.

    The work is done in a thread, for which nobody waits once the time is over or Ctrl-C came: a server that sends a
    byte now and then, or a name that is never looked up, holds no one.
    """
    import pooch
    import requests
    from tqdm import tqdm

    pooch.get_logger().setLevel("WARNING")
    ended: list[bytes | BaseException] = []  # what came, or what went wrong
    stopped = threading.Event()
    # A bar helps in a terminal, and in a notebook on standard output, as stderr looks there like an error.
    terminal = sys.stderr is not None and sys.stderr.isatty()
    notebook = type(sys.stdout).__module__.startswith("ipykernel")
    stream = sys.stderr if terminal else sys.stdout if notebook else None

    def get(url: str, output_file: str, _: object) -> None:
        with requests.get(url, stream=True, timeout=SILENCE) as response, open(output_file, "wb") as file:
            response.raise_for_status()
            size = int(response.headers.get("content-length", 0)) or None
            look = {"unit": "B", "unit_scale": True, "ncols": 88, "disable": not stream}
            with tqdm(desc=name, total=size, file=stream, **look) as bar:
                for chunk in response.iter_content(2**15):
                    if stopped.is_set():
                        raise TimeoutError
                    file.write(chunk)
                    bar.update(len(chunk))

    def work() -> None:
        try:
            known = f"md5:{FILES[name][2]}"
            archive = pooch.retrieve(f"{mirror}{name}.gz", known, f"{name}.gz", folder, downloader=get)
            content = gzip.decompress(Path(archive).read_bytes())
            if wrong := _wrong(name, content):
                raise ValueError(f"{name} {wrong}")
            Path(folder, name).write_bytes(content)
            ended.append(content)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not ended and time.monotonic() < ends:
            thread.join(0.1)  # in short waits, as Windows notices Ctrl-C only between them
    finally:
        stopped.set()
        thread.join(1)
    if not ended:
        raise TimeoutError(f"not finished within {TOTAL:g} s")
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _remove_dead_downloads(raw: Path) -> None:
    """Remove what a killed download has left, once it is too old to belong to one that still runs."""
    with suppress(OSError):
        for folder in list(raw.glob(f"{PARTIAL}*")):
            if time.time() - folder.stat().st_mtime > DEAD_AFTER:
                shutil.rmtree(folder, ignore_errors=True)


def _reason(error: BaseException) -> str:
    """The first cause of an error, in a few words: requests wraps what the system said in several layers."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, TimeoutError):
        return str(error) if "within" in str(error) else "no answer in time"
    if (response := getattr(error, "response", None)) is not None:
        return f"HTTP status {response.status_code}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "what arrived is not the published file, cut short or altered"


def cures(root: Path, problem: Unavailable, asked: str) -> str:
    """What to tell somebody who wants MNIST and nothing else."""
    return (
        f"MNIST cannot be loaded, {asked}: {problem}.\n"
        f"Expected: the files {', '.join(FILES)}, as they are or as .gz, in {(root / 'MNIST' / 'raw').absolute()}\n"
        "What helps, one of:\n"
        "  - connect to the network (and have pooch: python -m pip install pooch), and run this again;\n"
        "  - point COURSE_DATA (or root=) to a folder that can be written, or that holds MNIST/raw already;\n"
        '  - use dataset="digits" (or COURSE_DATASET=digits): other, fewer images, no network and no files.'
    )
