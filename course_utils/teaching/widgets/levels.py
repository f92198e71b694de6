"""The explorer of a hierarchy: the upper levels of a code stay, the lower ones are drawn anew, and drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from course_utils._checks import check_positive_int
from course_utils.teaching.plotting import decode_codes
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, number_text, panel, positions

DRAWS = 8  # pictures in a row
Redraw = Callable[[int, int, float], Tensor]  # which code, levels kept, temperature -> (8, 1, H, W) pixels in [0, 1]

SLIDERS = {"code": Slider(0, 9, 0, 1), "temp.": Slider(0, 1.5, 1, 0.1)}


class Levels(Stage):
    """The picture of the explorer: a row for each number of levels that are kept, from all of them to none.

    redraw: (code from 0 to 9, how many levels from the top are kept as they are, temperature of the ones that are drawn
    anew) -> (8, 1, H, W) pixels in [0, 1], the same for the same arguments. levels: how many there are. Raises
    ValueError for other pictures.
    """

    sliders = SLIDERS

    def __init__(self, redraw: Redraw, levels: int) -> None:
        self._redraw, self.levels = redraw, check_positive_int("levels", levels)
        super().__init__(0.75 + 0.85 * (levels + 1))
        self.axes = self.figure.add_axes((0.2, 0.02, 0.78, 0.86))
        self.image = _show_rows(self.axes, self.rows(0, 1.0), self.levels, animated=True)
        self.caption = self.figure.text(0.59, 0.93, "", ha="center", fontsize=13, animated=True)

    def rows(self, code: float, temperature: float) -> np.ndarray:
        """Framed pictures, ((K + 1) (H + 2), 8 (W + 2)): all levels kept above, none below."""
        every = []
        for kept in range(self.levels, -1, -1):
            images = decode_codes(
                lambda z, kept=kept: self._redraw(round(code), kept, temperature), torch.empty(DRAWS, 1)
            )
            every.append(torch.nn.functional.pad(images[:, 0], (1, 1, 1, 1), value=0.5))
        return torch.stack(every).transpose(1, 2).flatten(2).flatten(0, 1).numpy()  # (K + 1, 8, H, W), row by row

    def render(self, code: float, temperature: float) -> bytes:
        """Return the picture for this code and temperature; errors in `redraw` are passed on."""
        self.image.set_data(self.rows(code, temperature))
        self.caption.set_text(
            f"code {round(code)}, what is not kept drawn at temperature {number_text(temperature, 1)}"
        )
        return self.png()

    def describe(self, code: float, temperature: float) -> str:
        """How far the eight pictures of each row are apart, in pixels' standard deviations."""
        rows = torch.as_tensor(self.rows(code, temperature)).unflatten(0, (self.levels + 1, -1))
        spread = rows.unflatten(2, (DRAWS, -1)).std(2).square().mean((1, 2)).sqrt().tolist()
        words = "; ".join(
            f"{name.replace('$', '')}: {value:.2f}" for name, value in zip(_names(self.levels), spread, strict=True)
        )
        return (
            f"Code {round(code)}, temperature {number_text(temperature, 1)}. How far a row's pictures differ: {words}."
        )


def explore_levels(redraw: Redraw, levels: int) -> Widget:
    """Return a widget with two sliders: which code, and the temperature of what is drawn anew. Arguments: `Levels`."""
    return panel(Levels(redraw, levels))


def still_levels(redraw: Redraw, levels: int, points: Sequence[tuple[float, float]]) -> Figure:
    """Show one to three positions of the explorer, pairs of code and temperature, beside each other.

    Raises ValueError for other positions.
    """
    picture = Levels(redraw, levels)
    points = positions(points, 3, SLIDERS)
    width = 1.3 + 3.6 * len(points) if len(points) > 1 else 7.0
    fig = Figure(figsize=(width, 0.55 + (width - 1.5) / (len(points) * DRAWS) * (levels + 1)), layout="constrained")
    for i, (ax, point) in enumerate(zip(fig.subplots(1, len(points), squeeze=False)[0], points, strict=True)):
        _show_rows(ax, picture.rows(*point), levels)
        ax.set_title(f"code {round(point[0])}, temperature {number_text(point[1], 1)}", fontsize=12)
        if i:
            ax.set_yticklabels([])
    fig.alt = " ".join(picture.describe(*point) for point in points)
    return fig


def _names(levels: int) -> list[str]:
    kept = [", ".join(f"$z_{k}$" for k in range(levels, levels - n, -1)) for n in range(levels, 0, -1)]
    return [f"{names} kept" for names in kept] + ["none kept"]


def _show_rows(ax: Axes, rows: np.ndarray, levels: int, **options: bool) -> AxesImage:
    height = rows.shape[0] / (levels + 1)
    ax.set(xticks=[], yticks=[height * (i + 0.5) - 0.5 for i in range(levels + 1)])
    ax.set_yticklabels(_names(levels), fontsize=12)
    ax.tick_params(length=0)
    return ax.imshow(rows, cmap="gray", vmin=0, vmax=1, **options)
