"""Images for the course, always there: MNIST when it can be had, the offline digits of scikit-learn when not.

    data = load_images()                           # prints one line: which data, and why
    for x, y in data.train.batches(128, seed=0):   # x: (128, 1, 28, 28) float32 in [0, 1], y: (128,)
        ...

Both data sets live in memory as bytes (47 MB for MNIST's training part) and are turned into floats one batch
at a time, on the device.  Two environment variables change the defaults: `COURSE_DATASET` ("auto", "mnist" or
"digits") and `COURSE_DATA` (the folder that holds `MNIST/raw`).
"""

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

__all__ = ["DATASETS", "ImageData", "Split", "current_dataset", "default_root", "load_images"]

DATASETS = ("auto", "mnist", "digits")

last_loaded: str | None = None  # "mnist" or "digits": what the last load_images call returned

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


# --- what a notebook gets -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set, held in memory as bytes and handed out as float32 in [0, 1].

    `pixels`: uint8 (N, C, H, W), here (N, 1, 28, 28).  `labels`: int64 (N,), on the same device.
    Raises TypeError for other types, ValueError for other shapes and for no images at all.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, tensor, dtype in (
            ("pixels", self.pixels, torch.uint8),
            ("labels", self.labels, torch.int64),
        ):
            if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
                came = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                hint = " Pixels are kept as bytes, 0 to 255; a Split scales them." if name == "pixels" else ""
                raise TypeError(f"{name} must be a tensor of {dtype}, got {came}.{hint}")
        if self.pixels.ndim != 4:
            raise ValueError(f"pixels must have shape (N, C, H, W), got {tuple(self.pixels.shape)}")
        if self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(
                f"one label per image expected, got pixels {tuple(self.pixels.shape)} "
                f"and labels {tuple(self.labels.shape)}"
            )
        if self.pixels.numel() == 0:
            raise ValueError(f"a Split needs at least one image, got pixels {tuple(self.pixels.shape)}")
        if self.pixels.device != self.labels.device:
            raise ValueError(f"pixels are on {self.pixels.device}, labels on {self.labels.device}: use one device")

    def __len__(self) -> int:
        """The number of images, N."""
        return len(self.pixels)

    def __repr__(self) -> str:
        return f"Split({len(self):,} images of {tuple(self.pixels.shape[1:])} on {self.pixels.device})"

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> Tensor:
        """Images as float32 in [0, 1]: (1, 28, 28) for an int, (n, 1, 28, 28) for a slice, indices or a mask.

        Raises TypeError for an index that is none of these, IndexError for one outside the data.
        """
        if isinstance(index, slice):
            return _as_float(self.pixels[index])
        if isinstance(index, bool | tuple):
            raise TypeError(f"an index is an int, a slice or a tensor of ints, got {index!r}; pixels: split[i][…]")
        if not isinstance(index, Tensor) or (index.ndim == 0 and index.dtype != torch.bool):
            with contextlib.suppress(TypeError):
                return self._image(operator.index(index))
        return _as_float(self.pixels.index_select(0, self._positions(index)))

    def batches(
        self, batch_size: int, *, seed: int | torch.Generator | None = None, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate once over all images: pairs (x, y), x float32 (B, 1, 28, 28) in [0, 1], y int64 (B,).

        `seed=None` keeps the stored order.  An int or a CPU `torch.Generator` shuffles: the permutation is
        drawn on the CPU when `batches` is called, so the same seed gives the same order on any device, and
        a generator that is used again gives every epoch an order of its own.  The last batch may be
        smaller; `drop_last=True` leaves such a batch out.  Raises ValueError or TypeError at the call, not
        at the first batch.
        """
        batch_size = check_positive_int("batch_size", batch_size)
        if drop_last and batch_size > len(self):
            raise ValueError(
                f"batch_size={batch_size} with drop_last=True leaves no batch at all of {len(self)} images: "
                f"use drop_last=False or a batch_size of at most {len(self)}"
            )
        order = None
        if seed is not None:
            order = torch.randperm(len(self), generator=_generator(seed)).to(self.pixels.device)
        stop = len(self) // batch_size * batch_size if drop_last else len(self)
        return self._batches(order, batch_size, stop)

    def subset(self, n: int, *, seed: int | torch.Generator = 0) -> Split:
        """Return `n` random images without replacement, as a Split; the same seed gives the same images.

        Raises ValueError when `n` is not between 1 and the number of images.
        """
        n = check_positive_int("n", n)
        if n > len(self):
            raise ValueError(f"n={n} images asked for, but this part of the data holds {len(self)}")
        chosen = torch.randperm(len(self), generator=_generator(seed))[:n].to(self.pixels.device)
        return Split(self.pixels.index_select(0, chosen), self.labels.index_select(0, chosen))

    def to(self, device: torch.device | str) -> Split:
        """Return the same images on `device`."""
        return Split(self.pixels.to(device), self.labels.to(device))

    def _image(self, i: int) -> Tensor:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} does not exist: there are {len(self)}, numbered 0 to {len(self) - 1}")
        return _as_float(self.pixels[i])

    def _positions(self, index) -> Tensor:
        """Indices or a mask as int64 positions on the device; checked, as an accelerator would only crash."""
        try:
            positions = torch.as_tensor(index)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"an index is an int, a slice or a tensor of ints, got {type(index).__name__}") from None
        if positions.dtype == torch.bool:
            if positions.shape != (len(self),):
                raise IndexError(f"a mask needs one bool per image, {len(self)}, got shape {tuple(positions.shape)}")
            return positions.nonzero().flatten().to(self.pixels.device)
        if positions.numel() == 0:
            positions = positions.to(torch.int64)  # torch makes [] a float tensor
        if positions.is_floating_point() or positions.is_complex():
            raise TypeError(f"indices must be integers, got {positions.dtype}")
        if positions.ndim != 1:
            raise IndexError(f"indices must have one dimension, got shape {tuple(positions.shape)}")
        positions = positions.to(torch.int64)
        outside = (positions < -len(self)) | (positions >= len(self))
        if outside.any():
            first = positions[outside][0].item()
            raise IndexError(f"image {first} does not exist: there are {len(self)}, numbered 0 to {len(self) - 1}")
        return positions.remainder(len(self)).to(self.pixels.device)

    def _batches(self, order: Tensor | None, batch_size: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, stop, batch_size):
            end = min(start + batch_size, stop)
            if order is None:
                yield _as_float(self.pixels[start:end]), self.labels[start:end].clone()
            else:
                chosen = order[start:end]
                yield _as_float(self.pixels.index_select(0, chosen)), self.labels.index_select(0, chosen)


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """A data set of images: `train`, `test`, `name` ("mnist" or "digits") and `source`, one sentence."""

    train: Split
    test: Split
    name: str
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (1, 28, 28)."""
        return tuple(self.train.pixels.shape[1:])

    @property
    def mean(self) -> Tensor:
        """The mean training image, float32 (1, 28, 28) in [0, 1], the same on every device."""
        pixels = self.train.pixels
        total = torch.zeros(pixels.shape[1:], dtype=torch.int64, device=pixels.device)
        for some in pixels.split(4096):  # float32 adds 4096 bytes exactly, and faster than int64 does
            total += some.to(torch.float32).sum(0).to(torch.int64)
        return total.to(torch.float32) / (255 * len(pixels))

    @property
    def num_classes(self) -> int:
        """The number of classes: the ten digits."""
        return 10

    def to(self, device: torch.device | str) -> ImageData:
        """Return the same data on `device`."""
        return ImageData(self.train.to(device), self.test.to(device), self.name, self.source)

    def __repr__(self) -> str:
        return f"ImageData({self.name!r}, {len(self.train):,} training and {len(self.test):,} test images)"


def load_images(
    dataset: str = "auto", *, root: str | os.PathLike | None = None, device: torch.device | str | None = None
) -> ImageData:
    """Load the course's images into memory and print one line that says which data these are, and why.

    `dataset` is one of
      * "auto": what `$COURSE_DATASET` says if it is set.  Otherwise MNIST, from `root` or downloaded to it,
        and when neither works, the offline digits;
      * "mnist": MNIST, from `root` or downloaded to it; never anything else;
      * "digits": the 1,797 handwritten digits that come with scikit-learn (1,437 for training, 360 for
        testing), redrawn at 28×28.  Needs no network and no folder.  They resemble MNIST drawn with a felt
        pen, but they are other digits by other writers: never present their numbers as MNIST's.

    `root` (default: `default_root()`) is the folder in which torchvision keeps `MNIST/raw/…-ubyte`.  The
    files are verified against the published MD5 sums at every call (about 0.1 s).  A file that is missing
    or damaged is downloaded with time limits, verified in a folder of its own and only then moved into
    place; sound files are left alone.  The pixels are uint8 on `device` (default: the CPU); images come out
    as float32 in [0, 1], see `Split`.

    Raises ValueError for an unknown data set or a device that cannot be used, and RuntimeError, with causes
    and cures, when "mnist" is not to be had.  MNIST: LeCun, Bottou, Bengio & Haffner 1998.  The digits:
    Alpaydin & Kaynak 1998, the test part of the UCI set "Optical Recognition of Handwritten Digits".
    """
    global last_loaded
    name, asked = _choose(dataset)
    device = _device(device)
    if name == "digits":
        data = _digits(asked)
    else:
        folder, where = _root(root)
        try:
            data = _mnist(folder, where)
        except _Unavailable as problem:
            if name == "mnist":
                raise RuntimeError(_cures(folder, problem, asked)) from problem.__cause__
            data = _digits(f"because {problem}; set COURSE_DATASET=digits to ask for them at once")
    data = data.to(device)
    last_loaded = data.name
    print(f"Data: {data.source}")
    return data


def default_root() -> Path:
    """Return the data folder: `$COURSE_DATA` if it is set, else `data/` in the repository (git-ignored)."""
    return _root(None)[0]


def current_dataset() -> str | None:
    """Return the name of the data that this process loaded last, "mnist" or "digits"; None before that."""
    return last_loaded


# --- small checks ---------------------------------------------------------------------------------


def _as_float(pixels: Tensor) -> Tensor:
    return (pixels / 255).to(torch.float32)  # one pass: true division of bytes gives torch's default float


def _generator(seed) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        if seed.device.type != "cpu":
            raise ValueError(
                f"the generator lives on {seed.device}, but the order is drawn on the CPU so that it is "
                "the same on every device: pass torch.Generator() or an int"
            )
        return seed
    try:
        if isinstance(seed, bool):
            raise TypeError
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an int or a torch.Generator, got {seed!r} ({type(seed).__name__})") from None
    if not 0 <= number < 2**64:
        raise ValueError(f"seed must lie between 0 and 2**64 - 1, got {number}")
    return torch.Generator().manual_seed(number)


def _choose(dataset) -> tuple[str, str]:
    """The data set that is meant, and how it came to be asked for."""
    if not isinstance(dataset, str):
        raise TypeError(f"dataset must be one of {', '.join(DATASETS)}, got {dataset!r} ({type(dataset).__name__})")
    asked = f'as asked for by dataset="{dataset}"'
    if dataset == "auto" and (default := os.environ.get("COURSE_DATASET")):
        dataset, asked = default, f"as asked for by $COURSE_DATASET={default}"
    if dataset not in DATASETS:
        close = difflib.get_close_matches(dataset.strip().lower(), DATASETS, n=1)
        meant = f' Did you mean "{close[0]}"?' if close else ""
        source = " (from $COURSE_DATASET)" if asked.endswith(f"$COURSE_DATASET={dataset}") else ""
        raise ValueError(f'unknown data set "{dataset}"{source}; the choices are {", ".join(DATASETS)}.{meant}')
    return dataset, asked


def _device(device) -> torch.device:
    """`device` checked by using it, before anything slow happens."""
    try:
        return torch.empty(0, device="cpu" if device is None else device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: a torch built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(f'device={device!r} cannot be used ({reason}); "cpu" always works') from error


def _root(root) -> tuple[Path, str]:
    """The data folder, and what to call it in a line that a notebook may keep (so no path of one machine)."""
    if root is not None:
        return Path(os.fspath(root)).expanduser(), "the folder given as root"
    if folder := os.environ.get("COURSE_DATA"):
        return Path(folder).expanduser(), "$COURSE_DATA"
    return Path(__file__).resolve().parents[1] / "data", "data/"


# --- the offline digits ---------------------------------------------------------------------------


def _digits(why: str) -> ImageData:
    """scikit-learn's 8×8 digits at 28×28: bicubic to 20×20, a soft threshold for the edges, a margin of 4.

    The split is fixed and stratified by class, not by writer: some writers occur in both parts.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    ink = torch.from_numpy(bunch.images)[:, None] / 16  # (1797, 1, 8, 8) float64 in [0, 1]
    ink = torch.nn.functional.interpolate(ink, size=(20, 20), mode="bicubic", align_corners=False)
    low, high = torch.sigmoid(torch.tensor([-5.0, 5.0], dtype=ink.dtype))
    ink = ((torch.sigmoid(10 * (ink - 0.5)) - low) / (high - low)).clamp(0, 1)  # bicubic overshoots a little
    pixels = torch.nn.functional.pad(ink * 255, (4, 4, 4, 4)).round().to(torch.uint8)  # (1797, 1, 28, 28)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = train_test_split(range(len(labels)), test_size=360, stratify=labels.numpy(), random_state=0)
    count = f"{len(train):,} training and {len(test):,} test images"
    source = f"digits, {count} from scikit-learn at 28×28, not MNIST, {why}."
    return ImageData(Split(pixels[train], labels[train]), Split(pixels[test], labels[test]), "digits", source)


# --- MNIST: found, verified, or downloaded --------------------------------------------------------


class _Unavailable(Exception):
    """MNIST cannot be had; the text says why in one line, without the path of a machine."""


def _mnist(root: Path, where: str) -> ImageData:
    try:
        from torchvision.datasets.mnist import read_image_file, read_label_file
    except Exception as error:  # one that does not fit torch fails with RuntimeError, not ImportError
        raise _Unavailable(f"torchvision cannot be imported ({_first_line(error)})") from error

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
    twice at the same time can leave nothing half-written there.  Raises _Unavailable.
    """
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_and_extract_archive

    state = _describe(problems, where)
    try:  # first of all, so that a folder that cannot be written costs no time on the network
        raw.mkdir(parents=True, exist_ok=True)
        partial = tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=raw, ignore_cleanup_errors=True)
    except OSError as error:
        raise _Unavailable(f"{state}, and nothing can be written there ({_first_line(error)})") from error
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
                        raise _Unavailable(f"{state}, {cannot_store} ({_first_line(error)})") from error
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
                raise _Unavailable(f"{state}, and the download failed ({reason})") from cause
            try:
                os.replace(Path(folder, name), raw / name)
            except OSError as error:  # Windows: another process may have the file open, which then is sound
                if _problem(raw / name, *_MNIST_FILES[name]):
                    raise _Unavailable(f"{state}, {cannot_store} ({_first_line(error)})") from error
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


def _cures(root: Path, problem: _Unavailable, asked: str) -> str:
    raw = root / "MNIST" / "raw"
    return (
        f"MNIST cannot be loaded, {asked}: {problem}.\n"
        f"Expected: the files {', '.join(_MNIST_FILES)} in {raw.absolute()}\n"
        "What helps, one of:\n"
        "  - connect to the network and run this again: a missing or damaged file is downloaded;\n"
        "  - point COURSE_DATA (or root=) to a folder that can be written, or that holds MNIST/raw already;\n"
        '  - use dataset="digits" (or COURSE_DATASET=digits): other, fewer images, no network and no files.'
    )
