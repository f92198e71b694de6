"""The explorer of a rotated code: the pictures along its two axes change, MIG with them, and p(x) does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from course_utils.teaching.plotting import INK, LINE_COLOURS, Decode, decode_codes
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, letter, number_text, panel, positions

WALK = torch.linspace(-1.5, 1.5, 7)  # along either axis
Curve = Mapping[float, tuple[float, float, float]]  # degrees -> MIG, ELBO, log p(x)


class Rotation(Stage):
    """The picture of the explorer: decoded walks along both axes of the turned code, and MIG over the angle.

    decode: (n, 2) codes of the model as it is -> (n, 1, H, W) pixels in [0, 1]. curve: angle in degrees -> (MIG, ELBO,
    log p(x)), the latter in nats, at three or more evenly spaced angles. Raises ValueError for others.
    """

    def __init__(self, decode: Decode, curve: Curve) -> None:
        self._decode = decode
        self.curve = {float(angle): tuple(map(float, values)) for angle, values in sorted(curve.items())}
        self.angles = list(self.curve)
        steps = np.diff(self.angles)
        if len(steps) < 2 or not np.allclose(steps, steps[0]) or any(len(v) != 3 for v in self.curve.values()):
            raise ValueError(f"curve has three numbers for each of three or more even angles, got {dict(curve)!r}.")
        self.sliders = {"angle": Slider(self.angles[0], self.angles[-1], self.angles[0], float(steps[0]))}
        super().__init__(3.4)
        self.walk_axes = self.figure.add_axes((0.06, 0.1, 0.55, 0.65))
        self.curve_axes = self.figure.add_axes((0.72, 0.19, 0.26, 0.72))
        self.image = _show_walks(self.walk_axes, self.walks(self.angles[0]), animated=True)
        _draw_curve(self.curve_axes, self)
        (self.dot,) = self.curve_axes.plot([0.0], [0.0], "o", markersize=10, color=INK, animated=True, zorder=6)
        look = {"ha": "center", "fontsize": 13, "animated": True}
        self.caption = self.figure.text(0.335, 0.8, "", **look)

    def at(self, angle: float) -> float:
        """The measured angle nearest to this one."""
        return min(self.angles, key=lambda known: abs(known - angle))

    def walks(self, angle: float) -> np.ndarray:
        """Framed pictures, (2 (H + 2), 7 (W + 2)): a row along each axis of the turned code."""
        turned = torch.zeros(2, len(WALK), 2)
        turned[0, :, 0] = turned[1, :, 1] = WALK
        images = decode_codes(self._decode, (turned @ rotation(angle)).flatten(0, 1))[:, 0]  # z = Rᵀ z'
        images = torch.nn.functional.pad(images, (1, 1, 1, 1), value=0.5)
        rows = images.unflatten(0, (2, len(WALK))).transpose(1, 2).flatten(2)  # (2, H, 7 W)
        return rows.flatten(0, 1).numpy()

    def render(self, angle: float) -> bytes:
        """Return the picture at this angle, in degrees."""
        angle = self.at(angle)
        self.image.set_data(self.walks(angle))
        self.dot.set_data([angle], [self.curve[angle][0]])
        self.caption.set_text(_words(angle, self.curve[angle]))
        return self.png()

    def describe(self, angle: float) -> str:
        """The three numbers at this angle."""
        angle = self.at(angle)
        start = self.curve[self.angles[0]]
        change = self.curve[angle][1] - start[1]
        words = _words(angle, self.curve[angle])
        return f"{words}. Since {self.angles[0]:g}° the ELBO has changed by {number_text(change, 3)} nats."


def rotation(angle: float) -> Tensor:
    """The matrix R (2, 2) that turns codes by an angle in degrees: z' = R z, for rows ``z @ R.T``."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return torch.tensor([[c, -s], [s, c]])


def explore_rotation(decode: Decode, curve: Curve) -> Widget:
    """Return a widget with one slider, the angle by which a code of two numbers is turned. Arguments: `Rotation`."""
    return panel(Rotation(decode, curve))


def still_rotation(decode: Decode, curve: Curve, *, angles: Sequence[float]) -> Figure:
    """Show one to four angles of the explorer in a still figure: the walks above, lettered on the curve below.

    Raises ValueError for angles outside the curve.
    """
    picture = Rotation(decode, curve)
    ends = (picture.angles[0], picture.angles[-1])
    chosen = [picture.at(angle) for (angle,) in positions(angles, 4, {"angle": ends})]
    fig = Figure(figsize=(9.0, 4.2), layout="constrained")
    above, below = fig.subfigures(2, 1, height_ratios=(1, 1.6))
    ax = below.add_subplot()
    _draw_curve(ax, picture)
    for name, angle, cell in zip("ABCD", chosen, above.subplots(1, len(chosen), squeeze=False)[0], strict=False):
        _show_walks(cell, picture.walks(angle))
        cell.set_title(f"{name}: {angle:g}°", fontsize=12)
        letter(ax, name, (angle, picture.curve[angle][0]))
    fig.alt = " ".join(
        f"{name}: {_words(angle, picture.curve[angle])}." for name, angle in zip("ABCD", chosen, strict=False)
    )
    return fig


def _show_walks(ax: Axes, walks: np.ndarray, **options: bool) -> AxesImage:
    height = walks.shape[0]
    ax.set(xticks=[], yticks=[height / 4, 3 * height / 4], yticklabels=["$z_1$", "$z_2$"])
    ax.tick_params(length=0)
    return ax.imshow(walks, cmap="gray", vmin=0, vmax=1, **options)


def _draw_curve(ax: Axes, picture: Rotation) -> None:
    gaps = [picture.curve[angle][0] for angle in picture.angles]
    ax.plot(picture.angles, gaps, color=LINE_COLOURS[0], linewidth=2.5)
    ax.set(xlabel="angle in degrees", ylabel="MIG", ylim=(0, 1.15 * max(gaps)))
    ax.set_xlim(picture.angles[0] - 3, picture.angles[-1] + 3)


def _words(angle: float, values: tuple[float, float, float]) -> str:
    gap, elbo, log_p = values
    return f"{angle:g}°: MIG {gap:.2f}, ELBO {number_text(elbo, 2)}, log p(x) {number_text(log_p, 2)}"
