"""The explorer of a conditional model: choose the digit, move the style; and the still picture before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from course_utils.teaching.plotting import INK, LINE_COLOURS, decode_codes, image_rows
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, blank_image, number_text, panel, positions

Write = Callable[[Tensor, Tensor], Tensor]  # labels (n,) int64, style (n, 2) -> (n, 1, H, W) pixels in [0, 1]

CLASSES = 10
REACH = 3.0  # of the style sliders, in standard deviations of the prior
MARK = LINE_COLOURS[1]
SLIDERS = {
    "digit": Slider(0, CLASSES - 1, 7, 1), "style 1": Slider(-REACH, REACH, 0, 0.1),
    "style 2": Slider(-REACH, REACH, 0, 0.1),
}  # fmt: skip


class DigitStyle(Stage):
    """The picture of the explorer: one large digit, its style on a map, and the same style in all ten classes.

    write: (labels (n,) int64, style (n, 2) float32, both on the CPU) -> (n, 1, H, W) pixels in [0, 1]. style is in
    standard deviations of the prior, 0 its middle. Raises ValueError when `write` gives no such images.
    """

    sliders = SLIDERS

    def __init__(self, write: Write) -> None:
        self._write = write
        super().__init__(4.9)
        self.image_axes = self.figure.add_axes((0.10, 0.30, 0.34, 0.62))
        self.map_axes = self.figure.add_axes((0.60, 0.38, 0.29, 0.53))
        self.row_axes = [self.figure.add_axes((0.02 + 0.097 * i, 0.03, 0.088, 0.162)) for i in range(CLASSES)]
        self.images = [blank_image(ax) for ax in (self.image_axes, *self.row_axes)]
        for digit, ax in enumerate(self.row_axes):
            ax.set_title(str(digit), fontsize=12, pad=3)
        self._draw_map()
        self.caption = self.image_axes.set_title("", fontsize=13, animated=True)
        (self.mark,) = self.map_axes.plot([0], [0], "o", color=MARK, markersize=11, animated=True, clip_on=False)
        for ax in (self.image_axes, *self.row_axes):
            ax.spines[:].set_visible(False)
        frame = Rectangle((0, 0), 0, 0, fill=False, edgecolor=MARK, linewidth=3.5, animated=True, zorder=9)
        self.frame = self.figure.add_artist(frame)  # around the chosen digit in the row of ten

    def _draw_map(self) -> None:
        ax = self.map_axes
        ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xlabel="style 1", ylabel="style 2")
        ax.set_title("where the style lies\nin the prior (rings: 1 σ, 2 σ)", fontsize=12)
        for radius in (1, 2):
            ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=1.2))
        ax.plot([0], [0], "+", color=INK, markersize=9)

    def write(self, style_1: float, style_2: float) -> np.ndarray:
        """Return all ten classes in this style, (10, H, W) pixels in [0, 1]."""
        style = torch.tensor([[style_1, style_2]], dtype=torch.float32).expand(CLASSES, 2)
        return decode_codes(lambda s: self._write(torch.arange(CLASSES), s), style)[:, 0].numpy()

    def render(self, digit: float, style_1: float, style_2: float) -> bytes:
        """Return the picture for this digit and style; errors in `write` are passed on."""
        pixels, chosen = self.write(style_1, style_2), round(digit)
        self.mark.set_data([style_1], [style_2])
        self.frame.set_bounds(self.row_axes[chosen].get_position().bounds)
        self.caption.set_text(f"{chosen} in this style")
        for image, shown in zip(self.images, (pixels[chosen], *pixels), strict=True):
            image.set_data(shown)
        return self.png()

    def describe(self, digit: float, style_1: float, style_2: float) -> str:
        """Say how rare this style is."""
        distance = float(np.hypot(style_1, style_2))
        rarer = float(np.exp(-0.5 * distance**2))  # of a 2-D standard normal
        return (
            f"A {round(digit)} in the style ({number_text(style_1)}, {number_text(style_2)}), {distance:.2f} from the "
            f"middle of the prior; {rarer:.0%} of all styles lie further out in these two dimensions."
        )


def explore_style(write: Write) -> Widget:
    """Return a widget with sliders for the digit and for two dimensions of its style.

    write: as for `DigitStyle`. A first picture that fails raises; a later failure of `write` is told below.
    """
    return panel(DigitStyle(write))


def still_style(write: Write, styles: Sequence[tuple[float, float]]) -> Figure:
    """Show several positions of the explorer as rows: each row one style, each column one digit.

    write: as for `DigitStyle`. styles: 1 to 8 pairs, each value from -3 to 3. Raises ValueError for other styles.
    """
    picture = DigitStyle(write)
    styles = positions(styles, 8, {name: SLIDERS[name] for name in ("style 1", "style 2")})
    rows = {
        f"({number_text(a, 1)}, {number_text(b, 1)})": torch.from_numpy(picture.write(a, b)).unsqueeze(1)
        for a, b in styles
    }
    if len(rows) < len(styles):
        raise ValueError(f"styles must differ from one another; got {styles!r}.")
    return image_rows(rows, titles=[str(digit) for digit in range(CLASSES)])
