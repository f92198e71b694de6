"""The explorer of the KL divergence from a one-dimensional Gaussian to N(0, 1), and its still pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor

from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Bars, Slider, Stage, Widget, number_text, panel, positions

Q_COLOUR, P_COLOUR = LINE_COLOURS[0], "#555555"
GAIN, LOSS = LINE_COLOURS[1], LINE_COLOURS[2]  # where q log(q/p) is above and below 0
MU_RANGE, LOG_VAR_RANGE = (-3.0, 3.0), (-4.0, 2.0)
FIELD_LOG_VAR = (-6.0, 3.0)
Z_RANGE = (-7.0, 7.0)
PART_NAMES = ("½ μ²", "½ (σ² − 1)", "−½ log σ²", "sum: KL")
BAR_STEPS = (1.0, 2.5, 5.0, 8.5)  # the last holds every bar that the sliders can make
DENSITY_STEPS = (0.5, 1.0, 2.0, 4.0)  # upper ends of the vertical axes, so that they rarely change
INTEGRAND_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SLIDERS = {"μ": Slider(*MU_RANGE, 1.0, 0.1), "log σ²": Slider(*LOG_VAR_RANGE, -1.0, 0.1)}


class KLParts(NamedTuple):
    """KL(N(μ, σ²) ‖ N(0, 1)) in nats, as the sum of its three parts and as the difference of two areas.

    `bars` = ½ μ², ½ (σ² − 1), −½ log σ², and their sum, the closed form; `above` and `below` are the areas between
    q log(q/p) and 0 where it is positive and where it is negative (both ≥ 0), by quadrature.
    """

    bars: tuple[float, float, float, float]
    above: float
    below: float


def kl_parts(mu: float, log_var: float) -> KLParts:
    """Return the parts of KL(N(μ, σ²) ‖ N(0, 1)), all in nats. `log_var` is log σ².

    Raises ValueError for values that are not finite or too large for a picture (|μ| or |log σ²| above 20).
    """
    if not (abs(mu) <= 20 and abs(log_var) <= 20):
        raise ValueError(f"mu and log_var must lie in [-20, 20] for a picture, got {mu:g} and {log_var:g}.")
    sigma = math.exp(log_var / 2)
    z = mu + sigma * np.linspace(-12, 12, 8001)  # q is below 1e-31 of its peak outside
    integrand = _integrand(z, mu, log_var)
    step = z[1] - z[0]
    above, below = (float(np.clip(sign * integrand, 0, None).sum() * step) for sign in (1, -1))
    parts = 0.5 * mu**2, 0.5 * math.expm1(log_var), -0.5 * log_var
    return KLParts((*parts, sum(parts)), above, below)


class KLPicture(Stage):
    """The picture of the explorer: both densities, the integrand q log(q/p) with its areas, and the three parts."""

    sliders = SLIDERS

    def __init__(self) -> None:
        super().__init__(4.8, 9.2)
        self.densities = _Densities(self.figure.add_axes((0.085, 0.575, 0.49, 0.385)), animated=True)
        self.integrand = _Integrand(self.figure.add_axes((0.085, 0.125, 0.49, 0.385)), animated=True)
        self.parts = _Parts(self.figure.add_axes((0.70, 0.125, 0.285, 0.835)), animated=True)
        self._panels = (self.densities, self.integrand, self.parts)
        self.densities.ax.tick_params(labelbottom=False)
        self.integrand.ax.set_xlabel("z")
        self.parts.ax.set_xlabel("nats")
        for ax in (self.densities.ax, self.integrand.ax):
            ax.yaxis.set_label_coords(-0.115, 0.5)

    def render(self, mu: float, log_var: float) -> bytes:
        """Return the picture for q = N(μ, σ²)."""
        return self.png(scale=tuple(limit for part in self._panels for limit in part.move(mu, log_var)))

    def describe(self, mu: float, log_var: float) -> str:
        """Name the KL and its parts."""
        parts = kl_parts(mu, log_var)
        mean, variance, log_variance, nats = map(number_text, parts.bars)
        return (
            f"μ = {number_text(mu)}, log σ² = {number_text(log_var)}, so σ = {math.exp(log_var / 2):.2f}. "
            f"KL(q ‖ p) = {nats} nats = {number_text(parts.bars[-1] / math.log(2))} bits: "
            f"½ μ² = {mean}, ½ (σ² − 1) = {variance}, −½ log σ² = {log_variance}. "
            f"Areas: {parts.above:.2f} above zero, {parts.below:.2f} below."
        )


def explore_kl() -> Widget:
    """Return a widget with two sliders, μ and log σ², that shows KL(N(μ, σ²) ‖ N(0, 1)) and where it comes from."""
    return panel(KLPicture())


def still_kl(points: Sequence[tuple[float, float]]) -> Figure:
    """Show several positions of the explorer in one still figure, a row for each.

    points: 1 to 4 pairs (μ, log σ²). Raises ValueError for another number of them, or outside the sliders' ranges.
    """
    points = positions(points, 4, SLIDERS)
    fig = Figure(figsize=(9.2, 0.7 + 1.75 * len(points)), layout="constrained")
    axes = fig.subplots(len(points), 3, squeeze=False, width_ratios=(1, 1, 0.8))
    bars = [bar for mu, log_var in points for bar in kl_parts(mu, log_var).bars]
    low, high = min(*bars, 0.0), max(*bars, 0.5)
    for i, (row, (mu, log_var)) in enumerate(zip(axes, points, strict=True)):
        for kind, ax in zip((_Densities, _Integrand, _Parts), row, strict=True):
            kind(ax, legend=i == 0).move(mu, log_var)
            ax.tick_params(labelbottom=i == len(points) - 1)
        row[0].set_title(f"μ = {number_text(mu, 1)}, log σ² = {number_text(log_var, 1)}", fontsize=12)
        row[2].set_title(f"KL = {number_text(kl_parts(mu, log_var).bars[-1])} nats", fontsize=12)
        row[2].set_xlim(1.1 * low - 0.01, 1.5 * high)  # one scale, so that the rows can be compared
    for column in (0, 1):
        fig.align_ylabels(axes[:, column])
    for ax, label in zip(axes[-1], ("z", "z", "nats"), strict=True):
        ax.set_xlabel(label)
    fig.alt = " ".join(KLPicture().describe(*point) for point in points)
    return fig


def push_field(paths: Sequence[np.ndarray | Tensor] = (), *, every: int = 0) -> Figure:
    """Show where the KL alone pushes (μ, log σ²): its contour lines, arrows downhill, and paths.

    paths: each (N, 2), pairs (μ, log σ²) in the order in which they were visited; their starts are marked.
    every: a dot after every so many steps of each path, to show its speed; 0 for none.
    The arrows show the direction of −(μ, ½ (σ² − 1)), not its length.
    Raises ValueError for paths of another shape.
    """
    places = [np.asarray(path, dtype=float) for path in paths]
    for path in places:
        if path.ndim != 2 or path.shape[1] != 2 or len(path) < 2:
            raise ValueError(f"a path has shape {path.shape}, expected (N, 2) with at least two places.")
    low, high = FIELD_LOG_VAR
    fig = Figure(figsize=(7.5, 5.4), layout="constrained")
    ax = fig.add_subplot()
    mu, log_var = np.meshgrid(np.linspace(*MU_RANGE, 241), np.linspace(low, high, 241))
    levels = [0, 0.05, 0.25, 0.5, 1, 2, 4, 8, 16]
    shades = [str(grey) for grey in np.linspace(1.0, 0.55, len(levels) - 1)]
    areas = ax.contourf(mu, log_var, _kl(mu, log_var), levels=levels, colors=shades)
    bar = fig.colorbar(areas, ax=ax, spacing="uniform", label="KL in nats")
    bar.set_ticks(levels, labels=[f"{level:g}" for level in levels])

    mu, log_var = np.meshgrid(np.linspace(-2.8, 2.8, 15), np.linspace(low + 0.3, high - 0.3, 15))
    push = np.stack([-mu, -0.5 * np.expm1(log_var)])
    push /= np.maximum(np.hypot(*push), 1e-9)
    ax.quiver(mu, log_var, *push, color=Q_COLOUR, angles="xy", scale_units="inches", scale=4.2, width=0.0042, zorder=2)
    dots = f"; a dot every {every} steps" if every else ""
    ax.set_title(f"arrows: direction of the push, not its strength{dots}", fontsize=12)
    for path in places:
        ax.plot(path[:, 0], path[:, 1], color=GAIN, linewidth=2, zorder=3)
        ax.plot(*path[0], marker="o", color=GAIN, markersize=9, zorder=3)
        if every:
            ax.plot(*path[every::every].T, "o", color=INK, markersize=3.5, zorder=3)
    ax.plot(0, 0, marker="*", color=INK, markersize=15, zorder=4)
    ax.annotate("q = p", (0, 0), xytext=(12, -20), textcoords="offset points", fontweight="bold", zorder=4)
    ax.set(xlim=MU_RANGE, ylim=(low, high), xlabel="μ", ylabel="log σ²")
    return fig


def _kl(mu: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    return 0.5 * (mu**2 + np.expm1(log_var) - log_var)


def _log_density(z: np.ndarray, mu: float, log_var: float) -> np.ndarray:
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mu) ** 2 * math.exp(-log_var))


def _integrand(z: np.ndarray, mu: float, log_var: float) -> np.ndarray:
    log_q, log_p = _log_density(z, mu, log_var), _log_density(z, 0.0, 0.0)
    return np.exp(log_q) * (log_q - log_p)


def _grid(mu: float, log_var: float) -> np.ndarray:
    """Points for the curves: the whole axis, and q's own region more finely."""
    fine = mu + math.exp(log_var / 2) * np.linspace(-5, 5, 201)
    z = np.union1d(np.linspace(*Z_RANGE, 281), fine)
    return z[(z >= Z_RANGE[0]) & (z <= Z_RANGE[1])]


def _step_above(value: float, steps: tuple[float, ...]) -> float:
    return next((step for step in steps if value <= step), value)


class _Densities:
    """q and p over z."""

    def __init__(self, ax: Axes, *, animated: bool = False, legend: bool = True) -> None:
        self.ax = ax
        z = np.linspace(*Z_RANGE, 281)
        p = np.exp(_log_density(z, 0.0, 0.0))
        ax.fill_between(z, p, color=P_COLOUR, alpha=0.18, linewidth=0)
        ax.plot(z, p, color=P_COLOUR, linestyle="--", linewidth=1.8, label="p = N(0, 1)")
        (self.q,) = ax.plot([0], [0], color=Q_COLOUR, linewidth=2.2, label="q = N(μ, σ²)", animated=animated)
        ax.set(xlim=Z_RANGE, ylabel="density")
        if legend:
            ax.legend(loc="upper left", fontsize=10, handlelength=1.4, borderpad=0)

    def move(self, mu: float, log_var: float) -> tuple[float, ...]:
        z = _grid(mu, log_var)
        q = np.exp(_log_density(z, mu, log_var))
        self.q.set_data(z, q)
        top = 1.15 * _step_above(float(q.max()), DENSITY_STEPS)
        self.ax.set_ylim(0, top)
        return (top,)


class _Integrand:
    """q log(q/p) over z, its areas above and below zero shaded, with their sizes."""

    def __init__(self, ax: Axes, *, animated: bool = False, legend: bool = True) -> None:
        self.ax = ax
        corner = [(0, 0), (0, 1), (1, 0)]
        self.above, self.below = (
            ax.add_patch(Polygon(corner, facecolor=colour, alpha=0.5, linewidth=0, animated=animated))
            for colour in (GAIN, LOSS)
        )
        (self.curve,) = ax.plot([0], [0], color=INK, linewidth=1.4, animated=animated)
        words = {"transform": ax.transAxes, "va": "top", "fontsize": 11, "fontweight": "bold", "animated": animated}
        self.gain, self.loss = (
            ax.text(0, 0.99, "", color="#a04400", **words),
            ax.text(0, 0.8, "", color="#00694c", **words),
        )
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.set(xlim=Z_RANGE, ylabel="q log(q/p)")

    def move(self, mu: float, log_var: float) -> tuple[float, ...]:
        z = _grid(mu, log_var)
        y = _integrand(z, mu, log_var)
        ends = [(z[-1], 0.0), (z[0], 0.0)]
        self.above.set_xy([*zip(z, np.clip(y, 0, None), strict=True), *ends])
        self.below.set_xy([*zip(z, np.clip(y, None, 0), strict=True), *ends])
        self.curve.set_data(z, y)
        parts = kl_parts(mu, log_var)
        left = mu > 0  # the free side
        for text, words in ((self.gain, f"+{parts.above:.2f}"), (self.loss, f"−{parts.below:.2f}")):
            text.set(text=words, x=0.02 if left else 0.98, ha="left" if left else "right")
        top = _step_above(float(y.max()), INTEGRAND_STEPS)
        bottom = -max(0.15 * top, 0.16)  # q log(q/p) is never below -p/e, which is -0.147
        self.ax.set_ylim(bottom, 1.45 * top)
        return bottom, top


class _Parts(Bars):
    """The three parts of the KL as signed bars, and their sum."""

    def __init__(self, ax: Axes, *, animated: bool = False, legend: bool = True) -> None:
        super().__init__(ax, PART_NAMES, [Q_COLOUR] * 3 + [INK], animated=animated)

    def move(self, mu: float, log_var: float) -> tuple[float, ...]:
        values = kl_parts(mu, log_var).bars
        right = _step_above(max(values), BAR_STEPS)
        left = min(-0.12 * right, -0.5 if min(values) > -0.5 else -1.0)
        self.ax.set_xlim(1.08 * left, 1.4 * right)
        super().move(values)
        return left, right
