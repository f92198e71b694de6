"""The explorer of a Gaussian decoder's σ: what each part of the loss is, and where σ is best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_utils._checks import check_positive_int
from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Bars, Slider, Stage, Widget, letter, number_text, panel, positions

PARTS = ("D/2 log 2π", "D log σ", "‖x − x̂‖²/2σ²", "all together")
COLOURS = (LINE_COLOURS[3], LINE_COLOURS[0], LINE_COLOURS[1], INK)
RANGE = (-1.5, 1.0)  # of log₁₀ σ
SLIDERS = {"log₁₀ σ": Slider(*RANGE, 0.0, 0.025)}


class LossScale(Stage):
    """The picture of the explorer: the parts of −log N(x; x̂, σ² I) over σ, and as bars at the chosen σ.

    squared_error: the mean of ‖x − x̂‖² over images, a positive number. dims: pixels of an image.
    """

    sliders = SLIDERS

    def __init__(self, squared_error: float, dims: int = 784) -> None:
        self.dims = check_positive_int("dims", dims)
        self.squared_error = float(squared_error)
        if not 0 < self.squared_error < math.inf:
            raise ValueError(f"squared_error must be a positive number, got {squared_error!r}: ‖x − x̂‖² of an image.")
        self.best_sigma = math.sqrt(self.squared_error / self.dims)

        super().__init__(4.4)
        self.curve_axes = self.figure.add_axes((0.115, 0.15, 0.44, 0.72))
        self.bar_axes = self.figure.add_axes((0.715, 0.15, 0.265, 0.72))
        self.limits = _draw_curves(self.curve_axes, self)
        pen = {"color": "black", "animated": True, "zorder": 6}
        self.cursor = self.curve_axes.axvline(1.0, linewidth=1.4, **pen)
        (self.dot,) = self.curve_axes.plot([1.0], [0.0], marker="o", markersize=9, linestyle="", **pen)
        self.bars = _bars(self.bar_axes, self.limits, animated=True)
        self.caption = self.bar_axes.set_title("", fontsize=12, animated=True)

    def parts(self, sigma: float | np.ndarray) -> tuple:
        """Return the constant, D log σ, the scaled squared error, and their sum, in nats per image."""
        constant = self.dims / 2 * math.log(2 * math.pi) * np.ones_like(sigma)
        spread = self.dims * np.log(sigma)
        fit = self.squared_error / (2 * np.square(sigma))
        return constant, spread, fit, constant + spread + fit

    def render(self, log10_sigma: float) -> bytes:
        """Return the picture at σ = 10 to this power."""
        sigma = 10.0**log10_sigma
        values = self.parts(sigma)
        self.cursor.set_xdata([sigma, sigma])
        self.dot.set_data([sigma], [np.clip(values[-1], *self.limits)])
        self.bars.move(values, 0)
        self.caption.set_text(f"σ = {_short(sigma)}")
        return self.png()

    def describe(self, log10_sigma: float) -> str:
        """Name the parts of the loss, and the best σ."""
        sigma = 10.0**log10_sigma
        constant, spread, fit, total = (number_text(float(part), 0) for part in self.parts(sigma))
        best = number_text(float(self.parts(self.best_sigma)[-1]), 0)
        return (
            f"σ = {_short(sigma)}: constant {constant}, D log σ {spread}, squared error {fit}; {total} nats in all. "
            f"Best at σ = {_short(self.best_sigma)}, with {best} nats."
        )


def explore_loss_scale(squared_error: float, dims: int = 784) -> Widget:
    """Return a widget with one slider, log₁₀ σ, for a Gaussian decoder that makes this squared error.

    Arguments as for `LossScale`.
    """
    return panel(LossScale(squared_error, dims))


def still_loss_scale(squared_error: float, dims: int = 784, *, sigmas: Sequence[float]) -> Figure:
    """Show one to four positions of the explorer in a still figure: lettered on the curves, as bars beside them.

    Arguments as for `LossScale`. sigmas: values of σ from 0.04 to 10. Raises ValueError for others.
    """
    scale = LossScale(squared_error, dims)
    chosen = [sigma for (sigma,) in positions(sigmas, 4, {"σ": (10.0 ** RANGE[0], 10.0 ** RANGE[1])})]
    fig = Figure(figsize=(8.4, 4.6), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.35, 1))
    ax = left.add_subplot()
    limits = _draw_curves(ax, scale)
    cells = right.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for name, sigma, cell in zip("ABCD", chosen, cells, strict=False):
        values = scale.parts(sigma)
        letter(ax, name, (sigma, float(np.clip(values[-1], *limits))))
        _bars(cell, limits).move(values, 0)
        cell.set_title(f"{name}: σ = {_short(sigma)}", fontsize=11, loc="right")
        cell.tick_params(labelsize=10)
        if cell is not cells[-1]:
            cell.set(xlabel="", xticks=[])
    fig.alt = " ".join(f"{name}: {scale.describe(math.log10(s))}" for name, s in zip("ABCD", chosen, strict=False))
    return fig


def _draw_curves(ax: Axes, scale: LossScale) -> tuple[float, float]:
    """Draw all parts over σ, mark the best σ, and return the limits of the axis of nats."""
    sigmas = np.logspace(*RANGE, 400)
    at_best = scale.parts(scale.best_sigma)[-1]
    parts = scale.parts(sigmas)
    low = 1.1 * min(float(parts[1][0]), float(at_best))
    high = 1.25 * float(parts[3][-1])
    for name, values, colour in zip(PARTS, parts, COLOURS, strict=True):
        ax.plot(sigmas, values, color=colour, label=name, linewidth=3 if name == PARTS[3] else 2)
    if 10.0 ** RANGE[0] <= scale.best_sigma <= 10.0 ** RANGE[1]:
        ax.plot([scale.best_sigma], [at_best], marker="D", markersize=9, color=LINE_COLOURS[2], zorder=5, linestyle="",
                label=f"best σ = {_short(scale.best_sigma)}")  # fmt: skip
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set(xscale="log", xlim=(sigmas[0], sigmas[-1]), ylim=(low, high), xlabel="σ", ylabel="nats per image")
    ax.set_xticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"])
    ax.minorticks_off()
    ax.legend(loc="lower right", fontsize=10, frameon=True, framealpha=0.9, edgecolor="none")
    return low, high


def _bars(ax: Axes, limits: tuple[float, float], *, animated: bool = False) -> Bars:
    ax.set(xlim=limits, xlabel="nats per image")
    return Bars(ax, PARTS, COLOURS, animated=animated)


def _short(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:#.3g}".rstrip("0").rstrip(".") if value < 100 else f"{value:.0f}"
