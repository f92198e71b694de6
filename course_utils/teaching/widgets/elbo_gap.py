"""The explorer of the bound: move q, and watch ELBO and gap add up to the constant log p(x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Slider, Stage, number_text, panel, positions

if TYPE_CHECKING:
    import ipywidgets

BOUND, GAP = LINE_COLOURS[0], LINE_COLOURS[1]
PRIOR = "#777777"
MEANS, WIDTHS = (-1.0, 3.0), (0.1, 2.0)  # what the sliders cover
DEPTH = 10.0  # nats shown below log p(x)


class Terms(NamedTuple):
    """What one q gives, in nats: ``log_evidence = elbo + gap`` and ``elbo = -(distortion + rate)``."""

    log_evidence: float
    elbo: float
    gap: float
    distortion: float
    rate: float


class ElboGap(Stage):
    """The picture of the explorer: on the left q between prior and posterior, on the right ELBO and gap as a bar.

    The model is z ~ N(0, 1), x|z ~ N(weight · z, sigma²), one number x observed. Raises ValueError for a sigma or a
    width that is not positive.
    """

    def __init__(self, *, x: float = 1.5, weight: float = 1.0, sigma: float = 0.75) -> None:
        self.x = torch.tensor([[float(x)]], dtype=torch.float64)
        self.model = LinearGaussian(torch.tensor([[float(weight)]]), torch.zeros(1), sigma)
        mean, cov = self.model.posterior(self.x)
        self.posterior = mean.item(), cov.sqrt().item()
        self.grid = np.linspace(MEANS[0] - 2.0, MEANS[1] + 1.5, 400)
        self.top = 1.35 * normal(self.grid, *self.posterior).max()

        super().__init__(4.4)
        self.density_axes = self.figure.add_axes((0.075, 0.15, 0.53, 0.73))
        self.bar_axes = self.figure.add_axes((0.71, 0.15, 0.27, 0.73))
        _draw_densities(self.density_axes, self, legend=True)
        _draw_scale(self.bar_axes, self)
        self.q_area, self.bars, self.words = _moving_parts(self, self.density_axes, self.bar_axes, animated=True)

    def terms(self, mean: float, width: float) -> Terms:
        """Return log p(x), ELBO, gap, distortion and rate of q = N(mean, width²), each computed on its own."""
        if not 0 < width < math.inf:
            raise ValueError(f"width is q's standard deviation and must be positive, got {width!r}.")
        mu = torch.tensor([[float(mean)]], dtype=torch.float64)
        log_var = torch.full_like(mu, 2 * math.log(width))
        bound = self.model.elbo(self.x, mu, log_var=log_var)
        gap = self.model.gap(self.x, mu, log_var=log_var)
        numbers = (self.model.log_evidence(self.x), -bound.loss, gap, bound.recon, bound.kl)
        return Terms(*(number.item() for number in numbers))

    def render(self, mean: float, width: float) -> bytes:
        """Return the picture for q = N(mean, width²) as an opaque PNG."""
        _move(self, self.q_area, self.bars, self.words, mean, width)
        return self.png()


def explore_elbo_gap(*, x: float = 1.5, weight: float = 1.0, sigma: float = 0.75) -> ipywidgets.VBox:
    """Return a widget with two sliders, q's mean and width, that shows how ELBO and gap share the constant log p(x).

    Arguments as for `ElboGap`.
    """
    picture = ElboGap(x=x, weight=weight, sigma=sigma)
    return panel(
        {"mean of q": Slider(*MEANS, 0.0, 0.02), "width of q": Slider(*WIDTHS, 1.0, 0.02)},
        render=picture.render,
        describe=lambda mean, width: describe(picture.terms(mean, width), mean, width),
    )


def still_elbo_gap(
    points: Sequence[tuple[float, float]] | None = None, *, x: float = 1.5, weight: float = 1.0, sigma: float = 0.75
) -> Figure:
    """Show several positions of the explorer in one still figure: q above, ELBO and gap below.

    points: 1 to 4 pairs (mean, width) of q; by default the prior, a q in between, and the posterior. Other arguments
    as for `ElboGap`. Raises ValueError for other points.
    """
    picture = ElboGap(x=x, weight=weight, sigma=sigma)
    mean, width = picture.posterior
    points = [(0.0, 1.0), (mean + width, 0.5 * width), (mean, width)] if points is None else points
    points = positions(points, 4, {"mean of q": MEANS, "width of q": WIDTHS})

    picture.top = max(picture.top, *(1.1 * normal(np.array(m), m, w) for m, w in points))  # no q is cut off
    fig = Figure(figsize=(9.0, 6.0), layout="constrained", facecolor="white")
    axes = fig.subplots(2, len(points), squeeze=False, height_ratios=(1, 1.25), sharey="row")
    for column, (mean, width) in enumerate(points):
        above, below = axes[:, column]
        _draw_densities(above, picture, legend=False)
        _draw_scale(below, picture)
        _move(picture, *_moving_parts(picture, above, below, animated=False), mean, width)
        above.set_title(f"q = N({number_text(mean)}, {number_text(width)}²)")
        if column:
            above.set_ylabel("")
            below.set_ylabel("")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    fig.alt = " ".join(describe(picture.terms(*point), *point) for point in points)
    return fig


def describe(terms: Terms, mean: float, width: float) -> str:
    """The picture in words: also what a screen reader says."""
    log_evidence, elbo, gap, distortion, rate = (number_text(value, 3) for value in terms)
    return (
        f"q = N({number_text(mean)}, {number_text(width)}²): ELBO {elbo} + gap {gap} = {log_evidence} = log p(x), "
        f"in nats. The ELBO is −(distortion {distortion} + rate {rate})."
    )


def normal(z: np.ndarray, mean: float, width: float) -> np.ndarray:
    """The density of N(mean, width²) at z."""
    return np.exp(-0.5 * ((z - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi))


def _draw_densities(ax: Axes, picture: ElboGap, *, legend: bool) -> None:
    ax.plot(picture.grid, normal(picture.grid, 0.0, 1.0), color=PRIOR, linestyle=":", label="prior p(z)")
    posterior = normal(picture.grid, *picture.posterior)
    ax.plot(picture.grid, posterior, color=INK, linestyle="--", label="posterior p(z|x)")
    ax.fill_between([], [], color=BOUND, alpha=0.45, label="q(z|x)")
    ax.set(xlim=(picture.grid[0], picture.grid[-1]), ylim=(0, picture.top), xlabel="z", ylabel="density")
    if legend:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.2)


def _draw_scale(ax: Axes, picture: ElboGap) -> None:
    """The axis in nats, with the constant log p(x) as a line across."""
    level = picture.terms(0.0, 1.0).log_evidence
    ax.axhline(level, color=INK, linewidth=2)
    ax.text(0.02, level + 0.12, f"log p(x) = {number_text(level)}", va="bottom", ha="left")
    ax.set(xlim=(0, 1), ylim=(level - DEPTH, level + 1.2), xticks=[], ylabel="nats")


def _moving_parts(picture: ElboGap, densities: Axes, scale: Axes, *, animated: bool) -> tuple:
    area = Polygon(np.zeros((3, 2)), facecolor=BOUND, edgecolor=BOUND, alpha=0.45, linewidth=2, animated=animated)
    densities.add_patch(area)
    low = scale.get_ylim()[0]
    bars = tuple(
        scale.add_patch(Rectangle((0.1, low), 0.34, 1.0, facecolor=colour, animated=animated))
        for colour in (BOUND, GAP)
    )
    words = tuple(
        scale.text(0.5, low, "", va="center", color=colour, fontweight="bold", animated=animated)
        for colour in ("#005280", "#9a4400")  # the bars' colours, dark enough for text
    )
    return area, bars, words


def _move(picture: ElboGap, area: Polygon, bars: tuple, words: tuple, mean: float, width: float) -> None:
    """Put q, the two parts of the bar and their numbers where this q has them."""
    terms = picture.terms(mean, width)
    grid = np.union1d(picture.grid, np.linspace(mean - 4 * width, mean + 4 * width, 200))  # a narrow q stays smooth
    height = np.minimum(normal(grid, mean, width), 2 * picture.top)
    area.set_xy(np.column_stack([[grid[0], *grid, grid[-1]], [0, *height, 0]]))
    low = bars[0].axes.get_ylim()[0]
    shown = max(terms.elbo, low)  # below the picture's edge the bar ends at the edge
    bars[0].set(y=low, height=shown - low)
    bars[1].set(y=shown, height=terms.log_evidence - shown)
    words[0].set(text=f"ELBO\n{number_text(terms.elbo)}", y=max((low + shown) / 2, low + 0.75))
    # Kept between the line above and the other label below.
    height = (shown + terms.log_evidence) / 2
    words[1].set(text=f"gap\n{number_text(terms.gap)}", y=min(height, terms.log_evidence - 0.95))
