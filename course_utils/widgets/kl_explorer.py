"""The explorer of the KL divergence from a one-dimensional Gaussian to N(0, 1), and its still picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from course_utils.plotting import INK, LINE_COLOURS
from course_utils.widgets._panel import Slider, number_text, panel

if TYPE_CHECKING:
    import ipywidgets

Q_COLOUR, P_COLOUR = LINE_COLOURS[0], "#555555"
GAIN, LOSS = LINE_COLOURS[1], LINE_COLOURS[2]  # where q log(q/p) is above and below 0
MU_RANGE, LOG_VAR_RANGE = (-3.0, 3.0), (-4.0, 2.0)
Z_RANGE = (-7.0, 7.0)
PART_NAMES = ("½ μ²", "½ (σ² − 1)", "−½ log σ²", "sum: KL")


class KLParts(NamedTuple):
    """KL(N(μ, σ²) ‖ N(0, 1)) in nats, as the sum of its three parts and as the difference of two areas.

    `mean` = ½ μ², `variance` = ½ (σ² − 1), `log_variance` = −½ log σ²; `above` and `below` are the areas between
    q log(q/p) and 0 where it is positive and where it is negative (both ≥ 0), by quadrature.
    """

    mean: float
    variance: float
    log_variance: float
    above: float
    below: float

    @property
    def nats(self) -> float:
        """The closed form: the sum of the three parts."""
        return self.mean + self.variance + self.log_variance

    @property
    def bits(self) -> float:
        """The same in bits: nats / log 2."""
        return self.nats / math.log(2)


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
    return KLParts(0.5 * mu**2, 0.5 * math.expm1(log_var), -0.5 * log_var, above, below)


class KLPicture:
    """The picture of the explorer: both densities, the integrand q log(q/p) with its areas, and the three parts.

    `render` draws it for one (μ, log σ²) and returns PNG bytes.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.2, 4.8), dpi=90, layout="none", facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)
        self.densities = self.figure.add_axes((0.075, 0.575, 0.50, 0.345))
        self.integrand = self.figure.add_axes((0.075, 0.125, 0.50, 0.345))
        self.parts = self.figure.add_axes((0.725, 0.125, 0.255, 0.795))

    def render(self, mu: float, log_var: float) -> bytes:
        """Return the picture for q = N(μ, σ²) as an opaque PNG. `log_var` is log σ²."""
        from PIL import Image

        for ax in (self.densities, self.integrand, self.parts):
            ax.clear()
        _draw_densities(self.densities, mu, log_var)
        _draw_integrand(self.integrand, mu, log_var)
        _draw_parts(self.parts, mu, log_var)
        self.densities.legend(loc="upper left", fontsize=11, handlelength=1.4, borderpad=0)
        self.densities.tick_params(labelbottom=False)
        self.integrand.set_xlabel("z")
        self._canvas.draw()
        picture = Image.fromarray(np.asarray(self._canvas.buffer_rgba())[..., :3])
        out = io.BytesIO()
        picture.save(out, format="png", compress_level=1)  # speed matters more than size: it is sent and forgotten
        return out.getvalue()


def explore_kl(*, start: tuple[float, float] = (1.0, -1.0)) -> ipywidgets.VBox:
    """Return a widget with two sliders, μ and log σ², that shows KL(N(μ, σ²) ‖ N(0, 1)) and where it comes from.

    start: the first (μ, log σ²). Raises ValueError when it lies outside the sliders' ranges.
    """
    for name, value, (low, high) in zip(("mu", "log_var"), start, (MU_RANGE, LOG_VAR_RANGE), strict=True):
        if not low <= value <= high:
            raise ValueError(f"start has {name} = {value:g}, outside the slider from {low:g} to {high:g}.")
    return panel(
        {"μ": Slider(*MU_RANGE, start[0], 0.1), "log σ²": Slider(*LOG_VAR_RANGE, start[1], 0.1)},
        render=KLPicture().render,
        describe=_describe,
    )


def still_kl(points: Sequence[tuple[float, float]]) -> Figure:
    """Show several positions of the explorer in one still figure, a row for each.

    points: 1 to 4 pairs (μ, log σ²). Raises ValueError for another number of them, or outside the sliders' ranges.
    """
    if not 1 <= len(points) <= 4:
        raise ValueError(f"still_kl() shows 1 to 4 points, got {len(points)}.")
    for mu, log_var in points:
        if not (MU_RANGE[0] <= mu <= MU_RANGE[1] and LOG_VAR_RANGE[0] <= log_var <= LOG_VAR_RANGE[1]):
            raise ValueError(f"(μ, log σ²) = ({mu:g}, {log_var:g}) lies outside {MU_RANGE} and {LOG_VAR_RANGE}.")
    fig = Figure(figsize=(9.2, 0.8 + 1.9 * len(points)), layout="constrained", facecolor="white")
    axes = fig.subplots(len(points), 3, squeeze=False, width_ratios=(1, 1, 0.85))
    for i, (row, (mu, log_var)) in enumerate(zip(axes, points, strict=True)):
        _draw_densities(row[0], mu, log_var)
        _draw_integrand(row[1], mu, log_var)
        _draw_parts(row[2], mu, log_var)
        row[0].set_title(f"μ = {number_text(mu, 1)}, log σ² = {number_text(log_var, 1)}", fontsize=12)
        row[2].set_title(f"KL = {kl_parts(mu, log_var).nats:.2f} nats", fontsize=12)
        if i < len(points) - 1:
            for ax in row[:2]:
                ax.tick_params(labelbottom=False)
        else:
            for ax in row[:2]:
                ax.set_xlabel("z")
            row[2].set_xlabel("nats")
    axes[0, 0].legend(loc="upper left", fontsize=10, handlelength=1.2, borderpad=0)
    return fig


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


def _draw_densities(ax: Axes, mu: float, log_var: float) -> None:
    z = _grid(mu, log_var)
    q, p = np.exp(_log_density(z, mu, log_var)), np.exp(_log_density(z, 0.0, 0.0))
    ax.fill_between(z, p, color=P_COLOUR, alpha=0.18, linewidth=0)
    ax.plot(z, p, color=P_COLOUR, linestyle="--", linewidth=1.8, label="p = N(0, 1)")
    ax.plot(z, q, color=Q_COLOUR, linewidth=2.2, label="q = N(μ, σ²)")
    ax.set(xlim=Z_RANGE, ylim=(0, 1.25 * max(0.5, float(q.max()))), ylabel="density")


def _draw_integrand(ax: Axes, mu: float, log_var: float) -> None:
    z = _grid(mu, log_var)
    y = _integrand(z, mu, log_var)
    parts = kl_parts(mu, log_var)
    ax.fill_between(z, np.clip(y, 0, None), color=GAIN, alpha=0.45, linewidth=0)
    ax.fill_between(z, np.clip(y, None, 0), color=LOSS, alpha=0.55, linewidth=0)
    ax.plot(z, y, color=INK, linewidth=1.4)
    ax.axhline(0, color=INK, linewidth=0.8)
    top, bottom = max(float(y.max()), 0.15), min(float(y.min()), -0.05)
    ax.set(xlim=Z_RANGE, ylim=(bottom - 0.12 * top, 1.3 * top), ylabel="q log(q/p)")
    side, anchor = (0.98, "right") if mu <= 0 else (0.02, "left")  # the free side
    text = {"transform": ax.transAxes, "ha": anchor, "va": "top", "fontsize": 11, "fontweight": "bold"}
    ax.text(side, 0.99, f"+{parts.above:.2f}", color="#a04400", **text)
    ax.text(side, 0.80, f"−{parts.below:.2f}", color="#00694c", **text)


def _draw_parts(ax: Axes, mu: float, log_var: float) -> None:
    parts = kl_parts(mu, log_var)
    values = [parts.mean, parts.variance, parts.log_variance, parts.nats]
    colours = [Q_COLOUR, Q_COLOUR, Q_COLOUR, INK]
    ax.barh(range(4), values, height=0.6, color=colours)
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_yticks(range(4), PART_NAMES, fontsize=11)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    low, high = min(*values, 0), max(*values, 0.5)
    span = high - low
    ax.set_xlim(low - (0.3 * span if low < 0 else 0), high + 0.3 * span)
    for i, value in enumerate(values):
        side = -1 if value < -0.005 else 1
        ax.annotate(
            number_text(value),
            (value, i),
            xytext=(4 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
            fontsize=11,
            fontweight="bold",
        )


def _describe(mu: float, log_var: float) -> str:
    """The picture in words: also what a screen reader says."""
    parts = kl_parts(mu, log_var)
    mean, variance, log_variance = (number_text(part) for part in parts[:3])
    return (
        f"μ = {number_text(mu)}, log σ² = {number_text(log_var)}, so σ = {math.exp(log_var / 2):.2f}. "
        f"KL(q ‖ p) = {number_text(parts.nats)} nats = {number_text(parts.bits)} bits: "
        f"½ μ² = {mean}, ½ (σ² − 1) = {variance}, −½ log σ² = {log_variance}. "
        f"Areas: {parts.above:.2f} above zero, {parts.below:.2f} below."
    )
