"""The explorer of a flow of codes: points go from noise to the codes of a class, and are decoded on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from course_utils.teaching._arrays import Array
from course_utils.teaching.plotting import INK, Decode, decode_codes, draw_code_map, extent_of
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, blank_image, number_text, panel, positions

Path = Callable[[int, float], Tensor]  # class, guidance -> (T + 1, P, L), the codes at T + 1 even times from 0 to 1
COLUMNS = 4  # of decoded images
MOST_GUIDANCE = 3.0
AXES = ("direction 1", "direction 2")


class FlowPath(Stage):
    """The picture of the explorer: a map of codes with the paths of P points upon it, and the P decodings beside it.

    path: (class 0 to 9, guidance) -> (T + 1, P, L), P codes at T + 1 even times from noise, t = 0, to data, t = 1,
        T from 9 to 100, from the same noise at every call. decode: (n, L) codes -> (n, 1, H, W) pixels in [0, 1].
    codes: (N, L), of images, for the map; labels: (N,), 0 to 9, three classes or more. The map shows the two
        directions in which the classes' means differ most. Raises ValueError for shapes that do not go together.
    """

    def __init__(self, path: Path, decode: Decode, codes: Array, labels: Array) -> None:
        self._decode = decode
        known, self.classes = np.asarray(codes, dtype=float), np.asarray(labels)
        self.path = lru_cache(maxsize=64)(lambda digit, guidance: path(digit, guidance).detach())
        shape = self.path(0, 0.0).shape
        if (
            known.ndim != 2
            or len(self.classes) != len(known)
            or shape[2:] != known.shape[1:]
            or not 10 <= shape[0] <= 101
        ):
            raise ValueError(
                f"path must give (T + 1, P, L) with T from 9 to 100, codes be (N, L) and labels (N,); got "
                f"{tuple(shape)}, {known.shape} and {self.classes.shape}"
            )
        self.steps = shape[0] - 1
        self.means = {int(k): known[self.classes == k].mean(0) for k in np.unique(self.classes)}
        self.centre = np.mean([*self.means.values()], axis=0)
        self.directions = np.linalg.svd(np.stack([*self.means.values()]) - self.centre)[2][:2].T  # (L, 2)
        self.points = self.on_map(known)
        ends = [self.on_map(self.path(digit, w)[-1].cpu().numpy()) for digit in range(10) for w in (0.0, MOST_GUIDANCE)]
        shown = [
            np.quantile(self.points, [0.002, 0.998], axis=0),
            np.quantile(np.concatenate(ends), [0.02, 0.98], axis=0),
        ]
        self.extent = extent_of(np.concatenate(shown))  # without the few that go far
        self.sliders = {
            "digit": Slider(0, 9, 3, 1), "time": Slider(0, 1, 0.5, 1 / self.steps),
            "guidance": Slider(0, MOST_GUIDANCE, 0, 0.25),
        }  # fmt: skip
        super().__init__(4.7)
        self.map_axes = self.figure.add_axes((0.075, 0.13, 0.5, 0.83))
        self.image_axes = self.figure.add_axes((0.6, 0.2, 0.39, 0.6))
        self.draw_map(self.map_axes)
        self.map_axes.set_anchor("E")
        self.lines = [self._line(self.map_axes, width=w, animated=True) for w in (0.7, 2.0)]
        (self.dots,) = self.map_axes.plot([], [], **_DOT, animated=True)
        self.image = blank_image(self.image_axes)
        self.image_axes.set_anchor("N")
        self.image_axes.spines[:].set_visible(False)
        self.caption = self.figure.text(0.795, 0.83, "", ha="center", fontsize=13, animated=True)

    def on_map(self, codes: np.ndarray) -> np.ndarray:
        """Codes (…, L) in the two directions of the map, (…, 2)."""
        return (codes - self.centre) @ self.directions

    def draw_map(self, ax: Axes) -> None:
        """The codes of images, coloured by class, in the frame of the explorer."""
        draw_code_map(ax, self.points, self.classes, self.extent)
        for text in ax.texts:
            if "outside the picture" in text.get_text():
                text.remove()
        ax.set(xlabel=AXES[0], ylabel=AXES[1])

    @staticmethod
    def _line(ax: Axes, width: float, **options: object) -> Line2D:
        return ax.plot([], [], color=INK, linewidth=width, zorder=3, **options)[0]

    def step(self, time: float) -> int:
        """The number of the state at this time."""
        return round(time * self.steps)

    def place(self, lines: Sequence[Line2D], dots: Line2D, digit: float, time: float, guidance: float) -> None:
        """Give the whole paths, the paths up to now, and the points their places on the map."""
        paths = self.on_map(self.path(round(digit), float(guidance)).cpu().numpy())  # (T + 1, P, 2)
        k, gap = self.step(time), np.full((1, paths.shape[1], 2), np.nan)
        for line, part in zip(lines, (paths, paths[: k + 1]), strict=True):
            line.set_data(*np.concatenate([part, gap]).transpose(1, 0, 2).reshape(-1, 2).T)
        dots.set_data(*paths[k].T)

    def images(self, digit: float, time: float, guidance: float) -> np.ndarray:
        """The points at this time, decoded and framed: rows of four images."""
        pixels = decode_codes(self._decode, self.path(round(digit), float(guidance))[self.step(time)])[:, 0]
        pixels = torch.nn.functional.pad(pixels, (1, 1, 1, 1), value=0.5)
        missing = -len(pixels) % COLUMNS
        pixels = torch.cat([pixels, torch.ones(missing, *pixels.shape[1:])]).unflatten(0, (-1, COLUMNS))
        return pixels.transpose(1, 2).flatten(2).flatten(0, 1).numpy()

    def render(self, digit: float, time: float, guidance: float) -> bytes:
        """Return the picture of the points on their way to this digit."""
        self.place(self.lines, self.dots, digit, time, guidance)
        pixels = self.images(digit, time, guidance)
        self.image.set_data(pixels)
        self.image.set_extent((0, pixels.shape[1], 0, pixels.shape[0]))
        self.image_axes.set(xlim=(0, pixels.shape[1]), ylim=(0, pixels.shape[0]), aspect="equal")
        self.caption.set_text(f"decoded at t = {time:.2f}")
        return self.png()

    def describe(self, digit: float, time: float, guidance: float) -> str:
        """Say how far the points are from the mean code of the class, and how far from each other."""
        digit = round(digit)
        codes = self.path(digit, float(guidance))[self.step(time)].cpu().numpy()
        words = f"On the way to a {digit} with guidance {number_text(guidance, 1)}, at t = {time:.2f}: the points lie "
        if digit in self.means:
            words += (
                f"{np.linalg.norm(codes - self.means[digit], axis=1).mean():.2f} from the mean code of that class, "
            )
        return f"{words}{np.linalg.norm(codes - codes.mean(0), axis=1).mean():.2f} from their own mean."


_DOT = {"marker": "o", "linestyle": "", "color": "#E69F00", "markersize": 8, "markeredgecolor": "black", "zorder": 7}


def explore_flow_path(path: Path, decode: Decode, codes: Array, labels: Array) -> Widget:
    """Return a widget with three sliders: the digit, the time from noise to data, and the guidance.

    Arguments as for `FlowPath`. A first picture that fails raises; a later failure is told below.
    """
    return panel(FlowPath(path, decode, codes, labels))


def still_flow_path(
    path: Path, decode: Decode, codes: Array, labels: Array, points: Sequence[tuple[float, float, float]]
) -> Figure:
    """Show several positions of the explorer in one still figure: maps above, what the points decode to below.

    Arguments as for `FlowPath`. points: 1 to 4 triples (digit, time, guidance). Raises ValueError for others.
    """
    stage = FlowPath(path, decode, codes, labels)
    points = positions(points, 4, stage.sliders)
    fig = Figure(figsize=(max(4.2, 3.0 * len(points)), 4.9), layout="constrained")
    cells = fig.subplots(2, len(points), squeeze=False, height_ratios=(1.9, 1))
    for point, above, below in zip(points, *cells, strict=True):
        digit, time, guidance = point
        stage.draw_map(above)
        lines = [stage._line(above, width=w) for w in (0.7, 2.0)]
        stage.place(lines, above.plot([], [], **_DOT)[0], *point)
        above.set_title(f"to a {round(digit)}, t = {time:.2f}\nguidance {number_text(guidance, 1)}", fontsize=12)
        below.imshow(stage.images(*point), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        below.set_axis_off()
        if above is not cells[0][0]:
            above.set_ylabel("")
    fig.alt = " ".join(stage.describe(*point) for point in points)
    return fig
