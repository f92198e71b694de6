"""The course's diagrams, drawn by its own code.

    python -m course_utils.diagrams

writes every diagram to images/, as SVG and PNG on opaque white. The same commands give the same files: no
dates, fixed identifiers. Each file carries a fingerprint of the commands that drew it, by which a test knows
that it is up to date.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patches
from matplotlib.figure import Figure

IMAGES = Path(__file__).resolve().parent.parent / "images"

INK = "#222222"
ENCODER = "#0072B2"  # φ is blue and θ is orange in every diagram
DECODER = "#D55E00"
CODE = "#009E73"
LOSS = "#5c0080"

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

# What each diagram shows, for readers who cannot see it; notebooks and the README take their alternative text
# from here.
ALT = {
    "autoencoder": (
        "An autoencoder, from left to right: an image x of 784 pixels enters the encoder f with weights φ, "
        "which narrows to the code z of L numbers; the decoder g with weights θ widens it again to the "
        "reconstruction x̂ of 784 pixels. The loss compares x̂ with x."
    ),
    "reparameterization": (
        "Two computation graphs. Left: μ and log σ² feed a round node, z drawn from q, and z feeds f. Gradient "
        "arrows run back from f to z and end there, below a cross: no way back. Right: z is a box, z = μ + σ·ε, "
        "computed from μ, log σ² and the noise ε, which enters from the side; the gradient arrows run back from f "
        "through z to both μ and log σ², and none to ε."
    ),
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

    def _note(self, *command: Any) -> None:
        self.commands.append(list(command))

    def fingerprint(self) -> str:
        """A hash of the drawing commands and the style: equal for equal diagrams, whatever matplotlib's
        version."""
        return hashlib.sha256(json.dumps([STYLE, self.commands]).encode()).hexdigest()[:16]

    def text(self, x: float, y: float, words: str, *, size: float = 22, colour: str = INK, bold: bool = False) -> None:
        self._note("text", x, y, words, size, colour, bold)
        weight = "bold" if bold else "normal"
        self.axes.text(x, y, words, size=size, color=colour, weight=weight, ha="center", va="center", zorder=3)

    def shape(self, corners: list[tuple[float, float]], *, colour: str) -> None:
        """A filled block with an outline in its colour."""
        self._note("shape", corners, colour)
        face = mpl.colors.to_rgba(colour, 0.16)
        self.axes.add_patch(
            patches.Polygon(corners, facecolor=face, edgecolor=colour, linewidth=3, joinstyle="round", zorder=2)
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float], *, colour: str = INK) -> None:
        self._note("arrow", start, end, colour)
        self.axes.add_patch(
            patches.FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>,head_length=0.5,head_width=0.28",
                mutation_scale=26,
                linewidth=3,
                color=colour,
                shrinkA=0,
                shrinkB=0,
                zorder=2,
            )
        )

    def line(self, points: list[tuple[float, float]], *, colour: str = INK) -> None:
        self._note("line", points, colour)
        self.axes.plot(*zip(*points, strict=True), color=colour, linewidth=3, solid_joinstyle="round", zorder=2)

    def picture(self, pixels: np.ndarray, x: float, y: float, size: float) -> None:
        """A grey picture (H, W) in [0, 1], its lower left corner at (x, y)."""
        self._note("picture", np.round(pixels, 3).tolist(), x, y, size)
        extent = (x, x + size, y, y + size)
        self.axes.imshow(
            pixels,
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=extent,
            aspect="auto",
            interpolation="nearest",
            zorder=2,
        )
        self.axes.set(**self._limits)


def digit(softness: float) -> np.ndarray:
    """A handwritten-looking 2 of 28×28 pixels in [0, 1]; the softness is the width of its edges in pixels."""
    angle = np.linspace(np.pi, -0.25 * np.pi, 40)
    bow = np.stack([14 + 5.5 * np.cos(angle), 10.2 - 4.7 * np.sin(angle)], axis=1)  # (x, y), y downwards
    foot = np.stack([np.linspace(8, 20.5, 30), np.full(30, 22.3)], axis=1)
    back = np.linspace(bow[-1], foot[0], 40)
    stroke = np.concatenate([bow, back, foot])
    rows, columns = np.mgrid[0:28, 0:28]
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
    distance = np.linalg.norm(pixels - stroke, axis=-1).min(axis=1).reshape(28, 28)
    return 1 / (1 + np.exp((distance - 1.5) / softness))


def autoencoder() -> Canvas:
    """x → encoder → z → decoder → x̂, with the loss between both ends."""
    c = Canvas(140, 50)
    middle, low = 24, 3.5

    c.picture(digit(0.25), 4, middle - 8, 16)
    c.text(12, middle + 11.5, "$x$", size=32)
    c.text(12, low + 4.8, "image", size=22)
    c.text(12, low, "28×28 = 784", size=20)

    c.arrow((21, middle), (29, middle))
    c.shape([(30, middle - 12), (54, middle - 5.5), (54, middle + 5.5), (30, middle + 12)], colour=ENCODER)
    c.text(42, middle + 2.6, "encoder", size=24, colour=ENCODER, bold=True)
    c.text(42, middle - 3.0, r"$f_\phi$", size=32, colour=ENCODER)
    c.text(42, low + 4.8, r"weights $\phi$", size=22, colour=ENCODER)
    c.text(42, low, r"784 → … → $L$", size=20)

    c.arrow((55, middle), (65, middle))
    c.shape([(66, middle - 5.5), (74, middle - 5.5), (74, middle + 5.5), (66, middle + 5.5)], colour=CODE)
    c.text(70, middle - 0.3, "$z$", size=34, colour=CODE)
    c.text(70, low + 4.8, "code", size=22, colour=CODE)
    c.text(70, low, "$L$ numbers", size=20)

    c.arrow((75, middle), (85, middle))
    c.shape([(86, middle - 5.5), (110, middle - 12), (110, middle + 12), (86, middle + 5.5)], colour=DECODER)
    c.text(98, middle + 2.6, "decoder", size=24, colour=DECODER, bold=True)
    c.text(98, middle - 3.0, r"$g_\theta$", size=32, colour=DECODER)
    c.text(98, low + 4.8, r"weights $\theta$", size=22, colour=DECODER)
    c.text(98, low, r"$L$ → … → 784", size=20)

    c.arrow((111, middle), (119, middle))
    c.picture(digit(0.8), 120, middle - 8, 16)
    c.text(128, middle + 11.5, r"$\hat{x}$", size=32)
    c.text(128, low + 4.8, "reconstruction", size=22)
    c.text(128, low, "28×28 = 784", size=20)

    top = 47
    c.line([(12, middle + 15.5), (12, top), (46, top)], colour=LOSS)
    c.line([(94, top), (128, top), (128, middle + 15.5)], colour=LOSS)
    c.text(70, top, r"loss: how far is $\hat{x}$ from $x$?", size=24, colour=LOSS)
    return c


def _box(c: Canvas, x: float, y: float, width: float, height: float, *, colour: str) -> None:
    """A rectangle around its middle (x, y)."""
    w, h = width / 2, height / 2
    c.shape([(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)], colour=colour)


def _circle(c: Canvas, x: float, y: float, radius: float, *, colour: str) -> None:
    """A round node, as a polygon of 60 corners."""
    turns = [2 * math.pi * i / 60 for i in range(60)]
    c.shape([(round(x + radius * math.cos(t), 3), round(y + radius * math.sin(t), 3)) for t in turns], colour=colour)


def reparameterization() -> Canvas:
    """Left: a sampled z stops the gradient. Right: z = μ + σ·ε lets it through to μ and log σ²."""
    c = Canvas(150, 74)
    for left, title in [(0, "z is sampled"), (80, "z is computed")]:
        mu, log_var, code, value = left + 14, left + 45, left + 29.5, left + 29.5
        c.text(code, 71, title, size=26, bold=True)
        for x, name in [(mu, r"$\mu$"), (log_var, r"$\log\,\sigma^2$")]:
            _box(c, x, 58, 16, 10, colour=ENCODER)
            c.text(x, 57.8, name, size=27, colour=ENCODER)
        _box(c, value, 8, 16, 10, colour=DECODER)
        c.text(value, 7.8, "$f(z)$", size=27, colour=DECODER)

    # Left: the arrows down are the forward pass, the purple ones upwards the gradient.
    c.arrow((16, 52.5), (24.5, 42.5))
    c.arrow((43, 52.5), (34.5, 42.5))
    _circle(c, 29.5, 34, 9.5, colour=CODE)
    c.text(29.5, 34, r"$z \sim q_\phi$", size=25, colour=CODE)
    c.arrow((27.5, 24), (27.5, 14))
    c.arrow((32.5, 14), (32.5, 23.5), colour=LOSS)
    c.line([(27.1, 45.6), (31.9, 50.4)], colour=LOSS)
    c.line([(27.1, 50.4), (31.9, 45.6)], colour=LOSS)
    c.text(55, 36.3, "no way back", size=22, colour=LOSS)
    c.text(55, 31.9, "to μ and log σ²", size=22, colour=LOSS)
    c.text(43.5, 18.8, "gradient", size=22, colour=LOSS)

    # Right: ε comes in from the side, and every arrow into z has a derivative.
    c.arrow((95, 52.5), (102.5, 41.5))
    c.arrow((123, 52.5), (115.5, 41.5))
    _box(c, 109.5, 35, 30, 11, colour=CODE)
    c.text(109.5, 34.8, r"$z = \mu + \sigma \cdot \varepsilon$", size=26, colour=CODE)
    c.arrow((107.5, 28.5), (107.5, 14))
    c.arrow((112.5, 14), (112.5, 28.5), colour=LOSS)
    c.arrow((106.5, 41.5), (99, 52.5), colour=LOSS)
    c.arrow((119.5, 41.5), (127, 52.5), colour=LOSS)
    c.text(123.5, 18.8, "gradient", size=22, colour=LOSS)
    _circle(c, 143, 35, 5.5, colour=INK)
    c.text(143, 34.8, r"$\varepsilon$", size=30)
    c.arrow((137, 35), (125.5, 35))
    c.text(137, 26, r"$\varepsilon \sim \mathcal{N}(0, I)$", size=21)
    return c


DIAGRAMS: dict[str, Callable[[], Canvas]] = {
    "autoencoder": autoencoder,
    "reparameterization": reparameterization,
}


@contextmanager
def _style() -> Iterator[None]:
    """The diagrams' own style, whatever the notebook has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def draw(name: str) -> Canvas:
    """Draw one diagram.  Raises ValueError for an unknown name."""
    if name not in DIAGRAMS:
        raise ValueError(f"There is no diagram {name!r}; there are {sorted(DIAGRAMS)}.")
    with _style():
        return DIAGRAMS[name]()


def write(folder: Path = IMAGES) -> list[Path]:
    """Write every diagram as SVG and PNG into `folder` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in DIAGRAMS:
        canvas = draw(name)
        about = {"Title": name, "Description": f"{ALT[name]} [{canvas.fingerprint()}]"}
        with _style():
            canvas.figure.savefig(folder / f"{name}.svg", metadata={**about, "Date": None, "Creator": None})
            canvas.figure.savefig(folder / f"{name}.png", metadata=about)
        paths += [folder / f"{name}.svg", folder / f"{name}.png"]
    return paths


if __name__ == "__main__":
    for path in write():
        print(path)
