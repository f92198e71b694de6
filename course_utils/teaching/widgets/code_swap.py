"""The explorer of a grid of discrete codes: exchange the code of one place, and see what that place decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

from course_utils.teaching.plotting import LINE_COLOURS, decode_codes
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, number_text, panel, positions

DecodeIndex = Callable[[Tensor], Tensor]  # codes (n, T), int64 -> (n, 1, H, W) pixels in [0, 1]
TITLES = ("as it was", "with another code", "the difference")


class CodeSwap(Stage):
    """The picture of the explorer: an image from its own codes, from those with one exchanged, and the difference.

    decode: codes (n, T), whole numbers -> (n, 1, H, W) pixels in [0, 1]. index: (N, T), the codes of N images. grid:
    rows and columns, T together. codes: K, so that a code is a number from 0 to K - 1. Raises ValueError where these
    do not fit together.
    """

    def __init__(self, decode: DecodeIndex, index: Tensor, *, grid: tuple[int, int], codes: int) -> None:
        if index.dim() != 2 or index.dtype != torch.int64 or len(grid) != 2 or grid[0] * grid[1] != index.shape[1]:
            raise ValueError(f"index must be (N, rows · columns), int64, got {tuple(index.shape)} for a grid {grid}.")
        if not (index.min() >= 0 and index.max() < codes):
            raise ValueError(f"codes must lie from 0 to {codes - 1}, got {int(index.min())} to {int(index.max())}.")
        self._decode, self.index, self.grid, self.codes = decode, index, grid, codes
        self.sliders = {
            "image": Slider(1, len(index), 1, 1),
            "place": Slider(1, index.shape[1], (index.shape[1] + 1) // 2, 1),
            "code": Slider(0, codes - 1, 0, 1),
        }
        super().__init__(3.5)
        self.images, self.frames, self.captions = [], [], []
        for k, title in enumerate(TITLES):
            ax = self.figure.add_axes((0.03 + 0.33 * k, 0.03, 0.28, 0.82))
            self.captions.append(
                self.figure.text(0.17 + 0.33 * k, 0.88, title, ha="center", fontsize=13, animated=True)
            )
            self.images.append(_show(ax, np.zeros((1, 1)), difference=k == 2, animated=True))
            self.frames.append(_frame(ax, (0, 0, 1, 1), animated=True))

    def at(self, image: float, place: float, code: float) -> tuple[int, int, int]:
        """The whole numbers nearest to the sliders: image and place from 0, and code."""
        return round(image) - 1, round(place) - 1, round(code)

    def pair(self, image: int, place: int, code: int) -> np.ndarray:
        """The image from its own codes and from those with one exchanged, (2, H, W)."""
        both = self.index[[image, image]].clone()
        both[1, place] = code
        return decode_codes(self._decode, both)[:, 0].numpy()

    def box(self, place: int, size: tuple[int, ...]) -> tuple[float, float, float, float]:
        """Where the place lies in an image of this height and width: left, top, width, height, in pixels."""
        row, column = divmod(place, self.grid[1])
        height, width = size[0] / self.grid[0], size[1] / self.grid[1]
        return column * width - 0.5, row * height - 0.5, width, height

    def render(self, image: float, place: float, code: float) -> bytes:
        """Return the picture with this code at this place of this image."""
        chosen = self.at(image, place, code)
        before, after = self.pair(*chosen)
        self.captions[0].set_text(f"image {chosen[0] + 1}, as it was")
        self.captions[1].set_text(f"with code {chosen[2]} there")
        left, top, width, height = self.box(chosen[1], before.shape)
        for shown, frame, values in zip(self.images, self.frames, (before, after, after - before), strict=True):
            shown.set_data(values)
            shown.set_extent((-0.5, before.shape[1] - 0.5, before.shape[0] - 0.5, -0.5))
            frame.set(xy=(left, top), width=width, height=height)
        return self.png()

    def describe(self, image: float, place: float, code: float) -> str:
        """Which code stands where, in place of which, and how much of the image changes."""
        image, place, code = self.at(image, place, code)
        row, column = divmod(place, self.grid[1])
        where = f"Image {image + 1}, row {row + 1}, column {column + 1}"
        own = int(self.index[image, place])
        if own == code:
            return f"{where}: {code} is the code that stands there."
        before, after = self.pair(image, place, code)
        change = np.abs(after - before)
        words = f"{int((change > 0.1).sum())} of {change.size} pixels change by more than 0.1"
        return f"{where}: code {code} in place of {own}; {words}, the largest by {number_text(float(change.max()))}."


def explore_code_swap(decode: DecodeIndex, index: Tensor, *, grid: tuple[int, int], codes: int) -> Widget:
    """Return a widget with three sliders: the image, the place in its grid, and the code there. See `CodeSwap`."""
    return panel(CodeSwap(decode, index, grid=grid, codes=codes))


def still_code_swap(
    decode: DecodeIndex, index: Tensor, swaps: Sequence[tuple[int, int, int]], *, grid: tuple[int, int], codes: int
) -> Figure:
    """Show one to four swaps, (image, place, code) as on the sliders, in a still figure: before, after, difference.

    Raises ValueError for swaps outside the sliders.
    """
    picture = CodeSwap(decode, index, grid=grid, codes=codes)
    chosen = positions(swaps, 4, {name: tuple(slider) for name, slider in picture.sliders.items()})
    fig = Figure(figsize=(1.9 * len(chosen), 5.4), layout="constrained")
    cells = fig.subplots(3, len(chosen), squeeze=False)
    for column, swap in enumerate(chosen):
        before, after = picture.pair(*picture.at(*swap))
        box = picture.box(picture.at(*swap)[1], before.shape)
        for row, values in enumerate((before, after, after - before)):
            _show(cells[row, column], values, difference=row == 2)
            _frame(cells[row, column], box)
            if column == 0:
                cells[row, 0].set_ylabel(TITLES[row], fontsize=12)
    fig.alt = " ".join(picture.describe(*swap) for swap in chosen)
    return fig


def _show(ax: Axes, values: np.ndarray, *, difference: bool, **options: bool) -> AxesImage:
    ax.set(xticks=[], yticks=[])
    look = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1} if difference else {"cmap": "gray", "vmin": 0, "vmax": 1}
    return ax.imshow(values, interpolation="nearest", **look, **options)


def _frame(ax: Axes, box: tuple[float, float, float, float], **options: bool) -> Rectangle:
    left, top, width, height = box
    frame = Rectangle((left, top), width, height, fill=False, edgecolor=LINE_COLOURS[1], linewidth=2, **options)
    return ax.add_patch(frame)
