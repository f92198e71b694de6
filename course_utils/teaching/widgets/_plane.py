"""What the explorers of codes share: a map of codes with a cross-hair, and the decoding of the code under it."""

from __future__ import annotations

import numpy as np

from course_utils.teaching._arrays import Extent
from course_utils.teaching.plotting import draw_code_map
from course_utils.teaching.widgets._panel import Stage, blank_image


class PlaneStage(Stage):
    """A map of codes on the left, an image on the right; the cross-hair and the image move.

    points: (N, 2) and classes: (N,), checked. extent: (x from, x to, y from, y to).
    """

    def __init__(self, points: np.ndarray, classes: np.ndarray, extent: Extent, axis_names: tuple[str, str]) -> None:
        super().__init__(4.6)
        self.map_axes = self.figure.add_axes((0.085, 0.14, 0.49, 0.76))
        self.image_axes = self.figure.add_axes((0.64, 0.14, 0.34, 0.665))
        draw_code_map(self.map_axes, points, classes, extent)
        self.map_axes.set(xlabel=axis_names[0], ylabel=axis_names[1], anchor="E")
        self.image = blank_image(self.image_axes)
        self.image_axes.spines[:].set_visible(True)
        self.caption = self.image_axes.set_title("", fontsize=13, animated=True)

        x, y = extent[0], extent[2]
        pen = {"color": "black", "linewidth": 1.4, "animated": True, "zorder": 6}
        self.vertical, self.horizontal = self.map_axes.axvline(x, **pen), self.map_axes.axhline(y, **pen)
        ring = {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 2.4, "clip_on": False}
        (self.ring,) = self.map_axes.plot([x], [y], marker="o", **ring, **pen)

    def move(self, x: float, y: float, pixels: np.ndarray, caption: str) -> bytes:
        """Return the picture for this place, with the image (H, W) beside it, as an opaque PNG."""
        self.vertical.set_xdata([x, x])
        self.horizontal.set_ydata([y, y])
        self.ring.set_data([x], [y])
        self.image.set_data(pixels)
        self.caption.set_text(caption)
        return self.png()
