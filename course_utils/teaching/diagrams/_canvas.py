"""What every diagram is drawn with: the style, the colours, a canvas that remembers its commands."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patches
from matplotlib.figure import Figure

INK = "#222222"
ENCODER = "#0072B2"  # φ is blue and θ is orange in every diagram
DECODER = "#D55E00"
CODE = "#009E73"
LOSS = "#5c0080"
CONDITION = "#7a5c00"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 22,
    "mathtext.fontset": "dejavusans",
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "course_utils.diagrams",
}


class Canvas:
    """One diagram in the making: a figure in units of inches × 10, and the list of commands that drew it."""

    def __init__(self, width: float, height: float, *, margin: float = 2) -> None:
        self.commands: list[list[Any]] = [["canvas", width, height, margin]]
        self.figure = Figure(figsize=((width + 2 * margin) / 10, (height + 2 * margin) / 10))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self._limits = {"xlim": (-margin, width + margin), "ylim": (-margin, height + margin)}
        self.axes.set(**self._limits)
        self.axes.axis("off")

    def fingerprint(self) -> str:
        """A hash of the drawing commands and the style: equal for equal diagrams, whatever matplotlib's version."""
        return hashlib.sha256(json.dumps([STYLE, self.commands]).encode()).hexdigest()[:16]

    def text(
        self, x: float, y: float, words: str, *, size: float = 22, colour: str = INK, bold: bool = False,
        align: str = "center", code: bool = False,
    ) -> None:  # fmt: skip
        """Words around (x, y), or beginning or ending there; `code` sets them as in a program."""
        self.commands.append(["text", x, y, words, size, colour, bold, align, code])
        style = {"weight": "bold" if bold else "normal", **({"family": "DejaVu Sans Mono"} if code else {})}
        self.axes.text(x, y, words, size=size, color=colour, ha=align, va="center", zorder=3, **style)

    def shape(self, corners: list[tuple[float, float]], *, colour: str) -> None:
        """A filled block with an outline in its colour."""
        self.commands.append(["shape", corners, colour])
        look = {"edgecolor": colour, "linewidth": 3, "joinstyle": "round", "zorder": 2}
        self.axes.add_patch(patches.Polygon(corners, facecolor=mpl.colors.to_rgba(colour, 0.16), **look))

    def box(
        self, x: float, y: float, width: float, height: float, words: str = "", *, colour: str, oval: bool = False,
        **text: Any,
    ) -> None:  # fmt: skip
        """A rectangle around its middle (x, y), or an ellipse as a polygon of 60 corners, with words in it."""
        turns = [2 * math.pi * i / 60 for i in range(60)]
        places = [(math.cos(t) / 2, math.sin(t) / 2) for t in turns] if oval else _CORNERS
        self.shape([(round(x + width * a, 3), round(y + height * b, 3)) for a, b in places], colour=colour)
        if words:
            self.text(x, y - 0.2, words, **{"colour": colour, **text})

    def arrow(
        self, start: tuple[float, float], end: tuple[float, float], *, colour: str = INK, dashed: bool = False
    ) -> None:
        self.commands.append(["arrow", start, end, colour, dashed])
        look = {"linewidth": 3, "linestyle": "--" if dashed else "-", "shrinkA": 0, "shrinkB": 0, "zorder": 2}
        head = "-|>,head_length=0.5,head_width=0.28"
        self.axes.add_patch(
            patches.FancyArrowPatch(start, end, arrowstyle=head, mutation_scale=26, color=colour, **look)
        )

    def line(self, points: list[tuple[float, float]], *, colour: str = INK, dashed: bool = False) -> None:
        self.commands.append(["line", points, colour, dashed])
        style = {"linestyle": "--"} if dashed else {"solid_joinstyle": "round"}
        self.axes.plot(*zip(*points, strict=True), color=colour, linewidth=3, zorder=2, **style)

    def picture(self, pixels: np.ndarray, x: float, y: float, size: float) -> None:
        """A grey picture (H, W) in [0, 1], its lower left corner at (x, y)."""
        self.commands.append(["picture", np.round(pixels, 3).tolist(), x, y, size])
        look = {"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "auto", "interpolation": "nearest", "zorder": 2}
        self.axes.imshow(pixels, extent=(x, x + size, y, y + size), **look)
        self.axes.set(**self._limits)


_CORNERS = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]


def digit(softness: float, *, slant: float = 0.0) -> np.ndarray:
    """A handwritten-looking 2 of 28×28 pixels in [0, 1]; the softness is the width of its edges in pixels, the slant
    how far it leans to the right, in pixels per pixel of height."""
    angle = np.linspace(np.pi, -0.25 * np.pi, 40)
    bow = np.stack([14 + 5.5 * np.cos(angle), 10.2 - 4.7 * np.sin(angle)], axis=1)  # (x, y), y downwards
    foot = np.stack([np.linspace(8, 20.5, 30), np.full(30, 22.3)], axis=1)
    back = np.linspace(bow[-1], foot[0], 40)
    stroke = np.concatenate([bow, back, foot])
    stroke[:, 0] -= slant * (stroke[:, 1] - 14)
    rows, columns = np.mgrid[0:28, 0:28]
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
    distance = np.linalg.norm(pixels - stroke, axis=-1).min(axis=1).reshape(28, 28)
    return 1 / (1 + np.exp((distance - 1.5) / softness))
