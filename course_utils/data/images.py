"""Images in memory: ``Split`` hands bytes out as floats, ``ImageData`` holds two of them and their name."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from course_utils._checks import check_positive_int


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set, held in memory as bytes and handed out as float32 in [0, 1].

    `pixels`: uint8 (N, C, H, W), here (N, 1, 28, 28).  `labels`: int64 (N,), on the same device.
    Raises TypeError for other types, ValueError for other shapes and for no images at all.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name, dtype in (("pixels", torch.uint8), ("labels", torch.int64)):
            tensor = getattr(self, name)
            if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
                came = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                hint = " Pixels are kept as bytes, 0 to 255; a Split scales them." if name == "pixels" else ""
                raise TypeError(f"{name} must be a tensor of {dtype}, got {came}.{hint}")
        shape, labels = tuple(self.pixels.shape), tuple(self.labels.shape)
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"pixels must have shape (N, C, H, W), with at least one image, got {shape}")
        if labels != shape[:1]:
            raise ValueError(f"one label per image expected, got pixels {shape} and labels {labels}")
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
            return as_float(self.pixels[index])
        try:
            positions = torch.as_tensor([] if isinstance(index, bool | tuple) else index)
        except (TypeError, ValueError, RuntimeError):
            positions = None
        if positions is None or isinstance(index, bool | tuple):
            raise TypeError(f"an index is an int, a slice or a tensor of ints, got {index!r}; pixels: split[i][…]")
        images = as_float(self.pixels.index_select(0, self._positions(positions)))
        return images[0] if positions.ndim == 0 else images

    def batches(
        self, batch_size: int, *, seed: int | torch.Generator | None = None, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate once over all images: pairs (x, y), x float32 (B, 1, 28, 28) in [0, 1], y int64 (B,).

        `seed=None` keeps the stored order.  An int or a CPU `torch.Generator` shuffles: the order is drawn on the CPU
        when `batches` is called, the same for a seed on any device; a generator used again gives every epoch its own.
        The last batch may be smaller; `drop_last=True` leaves such a batch out.  Raises ValueError or TypeError at the
        call, not at the first batch.
        """
        batch_size = check_positive_int("batch_size", batch_size)
        if drop_last and batch_size > len(self):
            raise ValueError(
                f"batch_size={batch_size} with drop_last=True leaves no batch at all of {len(self)} images"
            )
        stop = len(self) // batch_size * batch_size if drop_last else len(self)
        if seed is None:
            parts = (slice(start, min(start + batch_size, stop)) for start in range(0, stop, batch_size))
            return ((as_float(self.pixels[part]), self.labels[part].clone()) for part in parts)
        order = torch.randperm(len(self), generator=_generator(seed))[:stop].to(self.pixels.device)
        return (
            (as_float(self.pixels.index_select(0, chosen)), self.labels.index_select(0, chosen))
            for chosen in order.split(batch_size)
        )

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

    def _positions(self, index: Tensor) -> Tensor:
        """Indices or a mask as int64 positions on the device; checked, as an accelerator would only crash."""
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise IndexError(f"a mask needs one bool per image, {len(self)}, got shape {tuple(index.shape)}")
            return index.nonzero().flatten().to(self.pixels.device)
        if index.numel() and (index.is_floating_point() or index.is_complex()):  # torch makes [] a float tensor
            raise TypeError(f"indices must be integers, got {index.dtype}")
        if index.ndim > 1:
            raise IndexError(f"indices must have one dimension, got shape {tuple(index.shape)}")
        positions = index.reshape(-1).to(torch.int64)
        if outside := positions[(positions < -len(self)) | (positions >= len(self))].tolist():
            raise IndexError(f"image {outside[0]} does not exist: there are {len(self)}, numbered 0 to {len(self) - 1}")
        return positions.remainder(len(self)).to(self.pixels.device)


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


def as_float(pixels: Tensor) -> Tensor:
    return (pixels / 255).to(torch.float32)  # one pass: true division of bytes gives torch's default float


def _generator(seed: int | torch.Generator) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        if seed.device.type != "cpu":
            raise ValueError(
                f"the order is drawn on the CPU, to be the same everywhere; the generator is on {seed.device}"
            )
        return seed
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed must be an int or a torch.Generator, got {seed!r} ({type(seed).__name__})")
    if not 0 <= operator.index(seed) < 2**64:
        raise ValueError(f"seed must lie between 0 and 2**64 - 1, got {seed}")
    return torch.Generator().manual_seed(operator.index(seed))
