"""The explorer of perception against distortion: the weight of a term moves, and with it one point of a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import (
    Slider,
    Stage,
    Widget,
    blank_image,
    letter,
    number_text,
    panel,
    positions,
)

Path = Mapping[float, tuple[float, float, Tensor]]  # weight -> distortion, perception, some decoded images


class Perception(Stage):
    """The picture of the explorer: the path of a weight through the plane, and the images decoded at that weight.

    path: weight of the term -> (distortion, perception, images (n, 1, H, W) or (n, H, W) in [0, 1]), for ten weights or
    more, always of the same n images. originals: these n images. axes: what is measured, (distortion, perception); of
    both less is better. Raises ValueError for other shapes or fewer weights.
    """

    def __init__(self, path: Path, originals: Tensor, *, axes: tuple[str, str] = ("distortion", "perception")) -> None:
        self.weights = sorted(map(float, path))
        known = {float(weight): values for weight, values in path.items()}
        self.points = np.array([[float(v) for v in known[w][:2]] for w in self.weights])
        images = [_strip(known[w][2]) for w in self.weights]
        self.originals, self.names = _strip(originals), axes
        if len(self.weights) < 10 or any(strip.shape != self.originals.shape for strip in images):
            raise ValueError(
                f"path needs ten or more weights, with as many images as there are originals, got {len(self.weights)} "
                f"weights and strips {[strip.shape for strip in images]} for originals {self.originals.shape}"
            )
        self.strips = images
        self.sliders = {"weight": Slider(0, len(self.weights) - 1, 0, 1)}
        super().__init__(3.8)
        self.plane = self.figure.add_axes((0.09, 0.17, 0.42, 0.74))
        self.above, self.below = (self.figure.add_axes((0.56, y, 0.42, 0.26)) for y in (0.57, 0.17))
        draw_path(self.plane, self)
        for ax, title in ((self.above, "the images"), (self.below, "decoded")):
            ax.set_title(title, fontsize=12)
        show_strip(self.above, self.originals)
        self.image = blank_image(self.below)
        self.image.set(extent=(0, self.originals.shape[1], 0, self.originals.shape[0]))
        self.below.set_aspect("equal")
        (self.dot,) = self.plane.plot([], [], "o", markersize=12, color=INK, animated=True, zorder=6)
        self.caption = self.figure.text(0.77, 0.05, "", ha="center", fontsize=13, animated=True)

    def place(self, weight: float) -> int:
        """The number of a position of the slider: the weights stand on it at equal distances."""
        return round(weight)

    def render(self, weight: float) -> bytes:
        """Return the picture at this position of the slider, from 0 on."""
        k = self.place(weight)
        self.image.set_data(self.strips[k])
        self.dot.set_data([self.points[k, 0]], [self.points[k, 1]])
        self.caption.set_text(f"weight {self.weights[k]:g}")
        return self.png()

    def describe(self, weight: float) -> str:
        """Both numbers at this weight."""
        return words(self, self.place(weight))


def explore_perception(path: Path, originals: Tensor, **options: tuple[str, str]) -> Widget:
    """Return a widget with one slider, which goes through the weights of the path. Arguments: `Perception`."""
    return panel(Perception(path, originals, **options))


def still_perception(path: Path, originals: Tensor, *, places: Sequence[float], **options: tuple[str, str]) -> Figure:
    """Show one to four positions of the explorer's slider in a still figure: lettered in the plane, images beside it.

    Raises ValueError for positions that the slider does not reach.
    """
    picture = Perception(path, originals, **options)
    chosen = [picture.place(k) for (k,) in positions(places, 4, {"weight": (0, len(picture.weights) - 1)})]
    fig = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = fig.subfigures(1, 2)
    plane = left.add_subplot()
    draw_path(plane, picture)
    rows = right.subplots(len(chosen) + 1, 1)
    show_strip(rows[0], picture.originals)
    rows[0].set_title("the images", fontsize=11)
    for name, k, ax in zip("ABCD", chosen, rows[1:], strict=False):
        show_strip(ax, picture.strips[k])
        ax.set_title(f"{name}: weight {picture.weights[k]:g}", fontsize=11)
        letter(plane, name, tuple(picture.points[k]), (14.0, 12.0))
    fig.alt = " ".join(f"{name}: {words(picture, k)}" for name, k in zip("ABCD", chosen, strict=False))
    return fig


def draw_path(ax: Axes, picture: Perception) -> None:
    """The path through the plane, with some room around it."""
    x, y = picture.points.T
    ax.plot(x, y, "o-", color=LINE_COLOURS[0], linewidth=2, markersize=6)
    for low, high, set_limits in ((x.min(), x.max(), ax.set_xlim), (min(0.0, y.min()), y.max(), ax.set_ylim)):
        room = 0.12 * (high - low or 1.0)
        set_limits(low - room, high + room)
    ax.set_ylim(bottom=0)
    ax.set(xlabel=picture.names[0], ylabel=picture.names[1])


def show_strip(ax: Axes, strip: np.ndarray) -> None:
    """Framed images in a row."""
    ax.set(xticks=[], yticks=[])
    ax.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def words(picture: Perception, k: int) -> str:
    """The weight and both numbers."""
    x, y = picture.points[k]
    name_x, name_y = picture.names
    return f"Weight {picture.weights[k]:g}: {name_x} {number_text(x, 1)}, {name_y} {number_text(y, 1)}."


def _strip(images: Tensor) -> np.ndarray:
    """Images in a row with grey frames, (H + 2, n (W + 2))."""
    images = torch.as_tensor(images).detach().cpu().float()
    if images.dim() == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.dim() != 3 or 0 in images.shape:
        raise ValueError(f"images must be (n, 1, H, W) or (n, H, W), got {tuple(images.shape)}")
    return torch.nn.functional.pad(images, (1, 1, 1, 1), value=0.5).transpose(0, 1).flatten(1).numpy()
