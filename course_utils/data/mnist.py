"""MNIST: found in a folder or downloaded to it, and verified."""

from __future__ import annotations
import contextlib
import difflib
import errno
import hashlib
import io
import operator
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse
import torch
from torch import Tensor
from course_utils._checks import check_positive_int
from course_utils.data.images import Split
from course_utils.data.images import ImageData

# The four files as published, uncompressed: bytes and MD5.
_MNIST_FILES = {
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}

_CONNECT_LIMIT = 3.0  # seconds for each address of a mirror to accept a connection

_STALL_LIMIT = 10.0  # seconds without a single byte

_TOTAL_LIMIT = 180.0  # seconds for the whole download, 11.6 MB: at least 65 kB/s

_PARTIAL = ".download-"  # prefix of the folder in which a download is collected and verified

_PARTIAL_IS_DEAD_AFTER = 3600.0  # seconds; no living download is that old (see _TOTAL_LIMIT)

_FOLDER_ERRORS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE,
}  # fmt: skip

_DOWNLOAD_ERRORS = (OSError, RuntimeError, HTTPException, EOFError, ValueError, zlib.error)

_download_lock = threading.Lock()

class Unavailable(Exception):
    """MNIST cannot be had; the text says why in one line, without the path of a machine."""

def load_mnist(root: Path, where: str) -> ImageData:
    try:
        from torchvision.datasets.mnist import read_image_file, read_label_file
    except Exception as error:  # one that does not fit torch fails with RuntimeError, not ImportError
        raise Unavailable(f"torchvision cannot be imported ({_first_line(error)})") from error

    raw = root / "MNIST" / "raw"
    how = "found in"
    with _download_lock:  # two threads of one process take turns; two processes are kept apart by _download
        _remove_dead_downloads(raw)
        problems = _problems(raw)
        if problems:
            _download(raw, problems, where)
            how = "downloaded to" if len(problems) == len(_MNIST_FILES) else "completed by a download to"
    # Read file by file, not through torchvision's MNIST class: that prefers a `processed/training.pt` of old
    # torchvision versions, which nobody has verified.
    parts = []
    for part in ("train", "t10k"):
        pixels = read_image_file(os.fspath(raw / f"{part}-images-idx3-ubyte")).unsqueeze(1)
        parts.append(Split(pixels, read_label_file(os.fspath(raw / f"{part}-labels-idx1-ubyte"))))
    train, test = parts
    source = f"MNIST, {len(train):,} training and {len(test):,} test images, {how} {where}, checksums verified."
    return ImageData(train, test, "mnist", source)

def _problems(raw: Path) -> dict[str, str]:
    """What is wrong with each of the four files that is not as published: name -> expected against found."""
    found = {name: _problem(raw / name, *_MNIST_FILES[name]) for name in _MNIST_FILES}
    return {name: problem for name, problem in found.items() if problem}

def _problem(path: Path, size: int, md5: str) -> str | None:
    try:
        with path.open("rb") as file:
            came = os.fstat(file.fileno()).st_size
            if came != size:
                return f"has {came:,} bytes instead of {size:,}"
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read ({_first_line(error)})"
    return None if digest == md5 else f"has the MD5 sum {digest} instead of {md5}"

def _download(raw: Path, problems: dict[str, str], where: str) -> None:
    """Fetch the files named in `problems` with torchvision; each moves into `raw` once it has been verified.

    Nothing is ever written under a final name, so a download that fails, is interrupted or killed, or runs
    twice at the same time can leave nothing half-written there.  Raises Unavailable.
    """
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_and_extract_archive

    state = _describe(problems, where)
    try:  # first of all, so that a folder that cannot be written costs no time on the network
        raw.mkdir(parents=True, exist_ok=True)
        partial = tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=raw, ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(f"{state}, and nothing can be written there ({_first_line(error)})") from error
    checksums = {Path(gz).stem: (gz, md5) for gz, md5 in MNIST.resources}
    mirrors = list(MNIST.mirrors)
    cannot_store = "and the download cannot be stored"
    failures: list[str] = []
    cause: Exception | None = None
    with partial as folder, _time_limit() as limit, _progress_stream(list(problems)):
        for name in problems:
            gz, md5 = checksums[name]
            while mirrors:
                try:
                    download_and_extract_archive(mirrors[0] + gz, folder, filename=gz, md5=md5)
                    if wrong := _problem(Path(folder, name), *_MNIST_FILES[name]):
                        raise RuntimeError(f"{name} {wrong}")
                    break
                except _DOWNLOAD_ERRORS as error:
                    # The network's errors come as URLError, without errno: these are the folder's.
                    if isinstance(error, OSError) and error.errno in _FOLDER_ERRORS:
                        raise Unavailable(f"{state}, {cannot_store} ({_first_line(error)})") from error
                    if isinstance(error, HTTPError):
                        error.close()  # it holds the connection
                    cause = error
                    failures.append(f"{urlparse(mirrors[0]).hostname}: {limit.explain(error)}")
                    # A mirror that has failed once is not asked again.
                    mirrors = [] if limit.over else mirrors[1:]
            else:
                if not _problems(raw):
                    return  # another process has brought them in the meantime
                reason = "; ".join(failures) or "torchvision knows no mirror"
                raise Unavailable(f"{state}, and the download failed ({reason})") from cause
            try:
                os.replace(Path(folder, name), raw / name)
            except OSError as error:  # Windows: another process may have the file open, which then is sound
                if _problem(raw / name, *_MNIST_FILES[name]):
                    raise Unavailable(f"{state}, {cannot_store} ({_first_line(error)})") from error
            Path(folder, gz).unlink(missing_ok=True)

def _remove_dead_downloads(raw: Path) -> None:
    """Remove what a killed download has left, once it is too old to belong to one that still runs."""
    with contextlib.suppress(OSError):
        for folder in list(raw.glob(f"{_PARTIAL}*")):
            if time.time() - folder.stat().st_mtime > _PARTIAL_IS_DEAD_AFTER:
                shutil.rmtree(folder, ignore_errors=True)

class _TimeLimit:
    """Bounds what this thread waits for over the network; see `_time_limit`."""

    def __init__(self) -> None:
        self.ends = time.monotonic() + _TOTAL_LIMIT
        self.over = False
        self.current: socket.socket | None = None

    def stop(self) -> None:
        """Cut the connection in use, from the timer's thread: whoever waits for it wakes up."""
        self.over = True
        if (current := self.current) is not None:
            with contextlib.suppress(OSError):
                current.shutdown(socket.SHUT_RDWR)

    def hold(self, connection: socket.socket | None) -> None:
        """Remember the connection in use, by a handle of its own: TLS takes the first one over."""
        previous, self.current = self.current, connection and connection.dup()
        if previous is not None:
            previous.close()

    def explain(self, error: BaseException) -> str:
        if self.over:
            return f"not finished within {_TOTAL_LIMIT:g} s"
        reason = getattr(error, "reason", error)
        if isinstance(error, HTTPError):
            return f"HTTP status {error.code}"
        if isinstance(reason, TimeoutError):
            return "no answer in time"
        if type(error) is RuntimeError:
            return "what arrived is not the published file, cut short or altered"
        return _first_line(reason)

@contextlib.contextmanager
def _time_limit() -> Iterator[_TimeLimit]:
    """Give every connection that this thread opens in the block a time limit, and the whole block another.

    torchvision's download has neither: a silent server would hold it forever, and `socket.setdefaulttimeout`
    would not help against one that sends a byte now and then.  So connections are opened under watch: each
    gets a timeout, and a timer cuts the current one when the total is used up.  Other threads are not
    affected, and all is undone at the end.
    """
    limit = _TimeLimit()
    thread, connect = threading.get_ident(), socket.create_connection

    def watched(address, *args, **kwargs):  # address, timeout, source_address, …
        if threading.get_ident() != thread:
            return connect(address, *args, **kwargs)
        remaining = limit.ends - time.monotonic()
        if limit.over or remaining <= 0:
            raise TimeoutError("the time for the download is used up")
        kwargs.pop("timeout", None)
        connection = connect(address, min(_CONNECT_LIMIT, remaining), *args[1:], **kwargs)
        connection.settimeout(_STALL_LIMIT)
        limit.hold(connection)
        if limit.over:  # the timer may have struck in between
            limit.stop()
        return connection

    timer = threading.Timer(_TOTAL_LIMIT, limit.stop)
    timer.daemon = True
    timer.start()
    try:
        socket.create_connection = watched
        yield limit
    finally:
        socket.create_connection = connect
        timer.cancel()
        timer.join()
        limit.hold(None)

@contextlib.contextmanager
def _progress_stream(names: list[str]) -> Iterator[None]:
    """Send torchvision's progress bars where they help: to a terminal, or to a notebook's standard output.

    A notebook would show stderr as if something had gone wrong.  Elsewhere (a file, a pipe) there is no bar.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        stream = sys.stderr
    elif type(sys.stdout).__module__.startswith("ipykernel"):
        stream = sys.stdout
    else:
        stream = io.StringIO()
    what = "11.6 MB in four files" if len(names) == len(_MNIST_FILES) else _and(names)
    print(f"Downloading MNIST, {what}:", file=stream)
    with contextlib.redirect_stderr(stream):
        yield

def _describe(problems: dict[str, str], where: str) -> str:
    """The state of the folder as the first half of a sentence."""
    if set(problems.values()) != {"is missing"}:
        return f"in {where} {_and([f'{name} {problem}' for name, problem in problems.items()])}"
    if len(problems) == len(_MNIST_FILES):
        return f"MNIST is not in {where}"
    return f"in {where} {_and(list(problems))} {'is' if len(problems) == 1 else 'are'} missing"

def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

def _first_line(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]

def cures(root: Path, problem: Unavailable, asked: str) -> str:
    raw = root / "MNIST" / "raw"
    return (
        f"MNIST cannot be loaded, {asked}: {problem}.\n"
        f"Expected: the files {', '.join(_MNIST_FILES)} in {raw.absolute()}\n"
        "What helps, one of:\n"
        "  - connect to the network and run this again: a missing or damaged file is downloaded;\n"
        "  - point COURSE_DATA (or root=) to a folder that can be written, or that holds MNIST/raw already;\n"
        '  - use dataset="digits" (or COURSE_DATASET=digits): other, fewer images, no network and no files.'
    )
