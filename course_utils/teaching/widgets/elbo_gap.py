"""The explorer of the bound: move q, and watch ELBO and gap add up to the constant log p(x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, number_text, panel, positions

BOUND, GAP, PRIOR = LINE_COLOURS[0], LINE_COLOURS[1], "#777777"
DEPTH = 10.0  # nats shown below log p(x)
SLIDERS = {"mean of q": Slider(-1.0, 3.0, 0.0, 0.02), "width of q": Slider(0.1, 2.0, 1.0, 0.02)}


class Terms(NamedTuple):
    """What one q gives, in nats: ``log_evidence = elbo + gap`` and ``elbo = -(distortion + rate)``."""

    log_evidence: float
    elbo: float
    gap: float
    distortion: float
    rate: float


class ElboGap(Stage):
    """The picture of the explorer: on the left q between prior and posterior, on the right ELBO and gap as a bar.

    The model is z ~ N(0, 1), x|z ~ N(z, 0.75²), and x = 1.5 was observed.
    """

    sliders = SLIDERS
    x = torch.tensor([[1.5]], dtype=torch.float64)

    def __init__(self) -> None:
        self.model = LinearGaussian(torch.ones(1, 1), torch.zeros(1), 0.75)
        mean, cov = self.model.posterior(self.x)
        self.posterior = mean.item(), cov.sqrt().item()
        self.grid = np.linspace(-3.0, 4.5, 400)
        self.top = 1.35 * normal(self.grid, *self.posterior).max()

        super().__init__(4.4)
        self.density_axes = self.figure.add_axes((0.075, 0.15, 0.53, 0.73))
        self.bar_axes = self.figure.add_axes((0.71, 0.15, 0.27, 0.73))
        self.scene = _Scene(self, self.density_axes, self.bar_axes, animated=True)
        self.density_axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.2)

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
        """Return the picture for q = N(mean, width²)."""
        self.scene.move(mean, width)
        return self.png()

    def describe(self, mean: float, width: float) -> str:
        """Say how ELBO and gap add up."""
        log_evidence, elbo, gap, distortion, rate = (number_text(value, 3) for value in self.terms(mean, width))
        return (
            f"q = N({number_text(mean)}, {number_text(width)}²): ELBO {elbo} + gap {gap} = {log_evidence} = log p(x), "
            f"in nats. The ELBO is −(distortion {distortion} + rate {rate})."
        )


def explore_elbo_gap() -> Widget:
    """Return a widget with two sliders, q's mean and width, that shows how ELBO and gap share the constant log p(x)."""
    return panel(ElboGap())


def still_elbo_gap(points: Sequence[tuple[float, float]]) -> Figure:
    """Show several positions of the explorer in one still figure: q above, ELBO and gap below.

    points: 1 to 4 pairs (mean, width) of q. Raises ValueError for others.
    """
    points = positions(points, 4, SLIDERS)
    picture = ElboGap()
    picture.top = max(picture.top, *(1.1 * normal(np.array(m), m, w) for m, w in points))  # no q is cut off
    floor = max(math.floor(min(picture.terms(*point).elbo for point in points) - 1), picture.scene.low)
    fig = Figure(figsize=(9.0, 6.0), layout="constrained")
    axes = fig.subplots(2, len(points), squeeze=False, height_ratios=(1, 1.25), sharey="row")
    for (above, below), (mean, width) in zip(axes.T, points, strict=True):
        scene = _Scene(picture, above, below)
        scene.low = floor
        below.set_ylim(bottom=floor)
        scene.move(mean, width)
        above.set_title(f"q = N({number_text(mean)}, {number_text(width)}²)")
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    fig.alt = " ".join(picture.describe(*point) for point in points)
    return fig


def normal(z: np.ndarray, mean: float, width: float) -> np.ndarray:
    """The density of N(mean, width²) at z."""
    return np.exp(-0.5 * ((z - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi))


class _Scene:
    """Two axes: q between prior and posterior over z, and the constant log p(x) with ELBO and gap as a bar below it."""

    def __init__(self, picture: ElboGap, densities: Axes, scale: Axes, *, animated: bool = False) -> None:
        self.picture, grid = picture, picture.grid
        pen = {"animated": animated}
        densities.plot(grid, normal(grid, 0.0, 1.0), color=PRIOR, linestyle=":", label="prior p(z)")
        densities.plot(grid, normal(grid, *picture.posterior), color=INK, linestyle="--", label="posterior p(z|x)")
        densities.set(xlim=(grid[0], grid[-1]), ylim=(0, picture.top), xlabel="z", ylabel="density")
        self.area = Polygon(np.zeros((3, 2)), color=BOUND, alpha=0.45, linewidth=2, label="q(z|x)", **pen)
        densities.add_patch(self.area)

        level = picture.terms(0.0, 1.0).log_evidence
        self.low = level - DEPTH
        scale.axhline(level, color=INK, linewidth=2)
        scale.text(0.02, level + 0.12, f"log p(x) = {number_text(level)}", va="bottom", ha="left")
        scale.set(xlim=(0, 1), ylim=(self.low, level + 1.2), xticks=[], ylabel="nats")
        self.bars = [scale.add_patch(Rectangle((0.1, self.low), 0.34, 1.0, fc=fc, **pen)) for fc in (BOUND, GAP)]
        dark = ("#005280", "#9a4400")  # the bars' colours, dark enough for text
        self.words = [scale.text(0.5, 0, "", va="center", color=c, fontweight="bold", **pen) for c in dark]

    def move(self, mean: float, width: float) -> None:
        """Put q, the two parts of the bar and their numbers where this q has them."""
        terms, low = self.picture.terms(mean, width), self.low
        near = np.linspace(mean - 4 * width, mean + 4 * width, 200)  # a narrow q stays smooth
        grid = np.union1d(self.picture.grid, near)
        height = np.minimum(normal(grid, mean, width), 2 * self.picture.top)
        self.area.set_xy(np.column_stack([[grid[0], *grid, grid[-1]], [0, *height, 0]]))
        shown = max(terms.elbo, low)  # below the picture's edge the bar ends at the edge
        self.bars[0].set(y=low, height=shown - low)
        self.bars[1].set(y=shown, height=terms.log_evidence - shown)
        self.words[0].set(text=f"ELBO\n{number_text(terms.elbo)}", y=max((low + shown) / 2, low + 0.75))
        # Kept between the line above and the other label below.
        middle = min((shown + terms.log_evidence) / 2, terms.log_evidence - 0.95)
        self.words[1].set(text=f"gap\n{number_text(terms.gap)}", y=middle)
