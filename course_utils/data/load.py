"""``load_images``: MNIST where it can be had, the offline digits elsewhere, and one line that says which and why."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import torch

from course_utils._checks import check_device
from course_utils._files import ROOT
from course_utils.data.digits import load_digits_28
from course_utils.data.images import ImageData
from course_utils.data.mnist import Unavailable, cures, load_mnist

DATASETS = ("auto", "mnist", "digits")

last_loaded: str | None = None  # "mnist" or "digits": what the last load_images call returned


def load_images(
    dataset: str = "auto", *, root: str | os.PathLike | None = None, device: torch.device | str | None = None
) -> ImageData:
    """Load the course's images into memory and print one line that says which data these are, and why.

    `dataset`: "auto" is what `$COURSE_DATASET` says if it is set, otherwise MNIST, and when that is not to be had, the
    offline digits.  "mnist" is never anything else.  "digits" are the 1,797 that come with scikit-learn (1,437 for
    training, 360 for testing), redrawn at 28×28, without network and folder: they resemble MNIST drawn with a felt
    pen, but are other digits by other writers, so never present their numbers as MNIST's.

    `root` (default: `default_root()`) is the folder in which torchvision, too, keeps `MNIST/raw/…-ubyte`.  Files are
    verified against the published MD5 sums at every call (about 0.1 s).  What is missing or damaged is downloaded with
    time limits, verified in a folder of its own and only then moved into place; sound files are left alone, packed
    ones (`.gz`) are read as they are.  Pixels are uint8 on `device` (default: the CPU); images come out as float32 in
    [0, 1], see `Split`.

    Raises ValueError for an unknown data set or a device that cannot be used, and RuntimeError, with causes
    and cures, when "mnist" is not to be had.  MNIST: LeCun, Bottou, Bengio & Haffner 1998.  The digits:
    Alpaydin & Kaynak 1998, the test part of the UCI set "Optical Recognition of Handwritten Digits".
    """
    global last_loaded
    name, asked = _choose(dataset)
    device = check_device(device)  # before anything slow happens
    if name == "digits":
        data = load_digits_28(asked)
    else:
        folder, where = _root(root)
        try:
            data = load_mnist(folder, where)
        except Unavailable as problem:
            if name == "mnist":
                raise RuntimeError(cures(folder, problem, asked)) from problem.__cause__
            data = load_digits_28(f"because {problem}; set COURSE_DATASET=digits to ask for them at once")
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


def _choose(dataset: str) -> tuple[str, str]:
    """The data set that is meant, and how it came to be asked for."""
    if not isinstance(dataset, str):
        raise TypeError(f"dataset must be one of {', '.join(DATASETS)}, got {dataset!r} ({type(dataset).__name__})")
    asked = f'dataset="{dataset}"'
    if dataset == "auto" and (default := os.environ.get("COURSE_DATASET")):
        dataset, asked = default, f"$COURSE_DATASET={default}"
    if dataset not in DATASETS:
        close = difflib.get_close_matches(dataset.strip().lower(), DATASETS, n=1)
        meant = f' Did you mean "{close[0]}"?' if close else ""
        raise ValueError(f'unknown data set "{dataset}" ({asked}); the choices are {", ".join(DATASETS)}.{meant}')
    return dataset, f"as asked for by {asked}"


def _root(root: str | os.PathLike | None) -> tuple[Path, str]:
    """The data folder, and what to call it in a line that a notebook may keep (so no path of one machine)."""
    if root is not None:
        return Path(root).expanduser(), "the folder given as root"
    if folder := os.environ.get("COURSE_DATA"):
        return Path(folder).expanduser(), "$COURSE_DATA"
    return ROOT / "data", "data/"
