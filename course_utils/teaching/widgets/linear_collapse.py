"""The explorer of collapse in the linear VAE: β and a floor under the rate set a level; what lies below is silent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_utils.evaluation.linear_gaussian import optimal_rates
from course_utils.losses.terms import LOG_2PI
from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Bars, Slider, Stage, Widget, number_text, panel, positions

VALUES = (9.0, 5.0, 3.0, 1.6, 0.8, 0.4)  # eigenvalues of the data's covariance; the decoder's σ² is 1
SLIDERS = {"β": Slider(0.1, 4.0, 1.0, 0.05), "floor, nats": Slider(0.0, 6.0, 0.0, 0.1)}
PARTS = ("distortion", "rate", "−ELBO", "−log p(x)")
COLOURS = (LINE_COLOURS[1], LINE_COLOURS[0], LINE_COLOURS[3], INK)
LEFT, SAID = "#c9c9c9", LINE_COLOURS[0]
NATS = (0.0, 20.0)


class Optimum(NamedTuple):
    """The best linear VAE for one β and one floor: rates (6,), and averages over the data in nats."""

    rates: np.ndarray
    level: float  # the squared error that is left in each direction that speaks
    distortion: float
    rate: float
    minus_elbo: float
    minus_log_p: float


def optimum(beta: float, floor: float) -> Optimum:
    """What distortion + β·max(floor, rate) leads to, exactly: see `optimal_rates`; the floor is one for all together.

    −ELBO is distortion + rate, whatever was minimised, and −log p(x) that of the decoder which is best for these rates.
    """
    values = torch.tensor(VALUES, dtype=torch.float64)
    rates = optimal_rates(values, 1.0, beta=beta, floor=floor)
    left = values * (-2 * rates).exp()  # squared error in each direction
    level = min(left[0].item(), beta) if rates.sum() > 0 else beta
    distortion = 0.5 * (len(values) * LOG_2PI + left.sum()).item()
    variance = values - left + 1.0  # of the model, where the data have `values`
    minus_log_p = 0.5 * (LOG_2PI + variance.log() + values / variance).sum().item()
    rate = rates.sum().item()
    return Optimum(rates.numpy(), level, distortion, rate, distortion + rate, minus_log_p)


BEST = optimum(1.0, 0.0).minus_elbo  # −log p(x) of the maximum-likelihood model


class LinearCollapse(Stage):
    """The picture: variances of six directions above and below the level, and what the optimum costs."""

    sliders = SLIDERS

    def __init__(self) -> None:
        super().__init__(4.4)
        self.value_axes = self.figure.add_axes((0.115, 0.15, 0.42, 0.73))
        self.bar_axes = self.figure.add_axes((0.685, 0.15, 0.295, 0.73))
        self.scene = _Scene(self.value_axes, self.bar_axes, animated=True)
        self.value_axes.legend(loc="upper right", fontsize=10)

    def render(self, beta: float, floor: float) -> bytes:
        """Return the picture of the optimum for these two."""
        self.scene.move(beta, floor)
        return self.png()

    def describe(self, beta: float, floor: float) -> str:
        """Say who speaks, and what it costs."""
        found = optimum(beta, floor)
        speaking = int((found.rates > 0).sum())
        said = ", ".join(number_text(float(rate)) for rate in found.rates)
        binds = "does not bind" if found.level >= beta - 1e-9 else f"acts like β = {number_text(found.level)}"
        return (
            f"β = {number_text(beta)}, floor {number_text(floor, 1)} nats, which {binds}: {speaking} of 6 dimensions "
            f"speak (rates {said}). Distortion {number_text(found.distortion)} + rate {number_text(found.rate)} = "
            f"{number_text(found.minus_elbo)} = −ELBO, {number_text(found.minus_elbo - BEST)} above the best; "
            f"−log p(x) {number_text(found.minus_log_p)}."
        )


def explore_linear_collapse() -> Widget:
    """Return a widget with two sliders, β and a floor under the whole rate, for the best linear VAE."""
    return panel(LinearCollapse())


def still_linear_collapse(points: Sequence[tuple[float, float]]) -> Figure:
    """Show one to four positions of the explorer in a still figure: the directions above, the costs below.

    points: pairs (β, floor in nats). Raises ValueError for positions that the explorer cannot reach.
    """
    points = positions(points, 4, SLIDERS)
    fig = Figure(figsize=(9.0, 5.6), layout="constrained")
    axes = fig.subplots(2, len(points), squeeze=False, height_ratios=(1.5, 1))
    for i, ((above, below), (beta, floor)) in enumerate(zip(axes.T, points, strict=True)):
        _Scene(above, below).move(beta, floor)
        above.set_title(f"β = {number_text(beta)}, floor {number_text(floor, 1)}", fontsize=11)
        if i:
            above.set_ylabel("")
            below.set_yticks([])
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    picture = LinearCollapse()
    fig.alt = " ".join(picture.describe(*point) for point in points)
    return fig


class _Scene:
    """Two axes: bars of the six variances, said above the level and left below it; and the four costs."""

    def __init__(self, values: Axes, costs: Axes, *, animated: bool = False) -> None:
        pen = {"animated": animated}
        rows = np.arange(1, len(VALUES) + 1)
        self.said = values.bar(rows, VALUES, width=0.72, color=SAID, label="said: e^(2·rate)", **pen)
        self.left = values.bar(rows, VALUES, width=0.72, color=LEFT, label="error that is left", **pen)
        (self.level,) = values.plot([0.4, 6.6], [1, 1], color=INK, linestyle="--", linewidth=1.6, label="level", **pen)
        values.set(yscale="log", ylim=(0.05, 14), xlim=(0.4, 6.6), xticks=rows, xlabel="dimension", ylabel="variance")
        values.set_yticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1 = σ²", "3", "10"])
        values.minorticks_off()
        costs.set(xlim=NATS, xlabel="nats")
        self.bars = Bars(costs, PARTS, COLOURS, animated=animated)
        costs.plot([BEST, BEST], [1.55, 3.5], color=INK, linestyle=":", linewidth=1.4)  # across the last two
        (self.floor,) = costs.plot([0, 0], [0.55, 1.45], color=INK, linewidth=2.5, **pen)  # across the rate

    def move(self, beta: float, floor: float) -> None:
        """Put bars and level where this optimum has them."""
        found = optimum(beta, floor)
        for bar, value, rate in zip(self.left, VALUES, found.rates, strict=True):
            bar.set_height(value * math.exp(-2 * rate))
        self.level.set_ydata([found.level] * 2)
        self.floor.set_xdata([floor] * 2)
        self.bars.move((found.distortion, found.rate, found.minus_elbo, found.minus_log_p))
