"""The explorer of a reparameterized sample: fixed noise, moving samples, and the gradient that they carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, number_text, panel, positions

Function = Callable[[Tensor], Tensor]  # (N,) -> (N,), each element on its own

UPHILL, DOWNHILL = LINE_COLOURS[1], LINE_COLOURS[0]
SAMPLES = LINE_COLOURS[2]
MU_RANGE, LOG_VAR_RANGE = (-2.5, 2.5), (-4.0, 1.0)
POINTS = 8
ARROW = 0.38  # inches
SLIDERS = {"μ": Slider(*MU_RANGE, 0.0), "log σ²": Slider(*LOG_VAR_RANGE, -1.0)}


class Gradient(NamedTuple):
    """A gradient with respect to the two parameters of q."""

    mu: float
    log_var: float


class ReparameterizedSamples(Stage):
    """The picture of the explorer: noise ε that never moves, z = μ + σ·ε that does, f(z) and its slope at each z.

    f: (N,) -> (N,), element by element, made of differentiable torch operations; another f raises ValueError.
    """

    sliders = SLIDERS

    def __init__(self, f: Function) -> None:
        seeded = torch.Generator().manual_seed(1632)  # whose points stand well apart
        self.f, self.eps = f, torch.randn(POINTS, generator=seeded, dtype=torch.float64)
        slope(f, self.eps)  # an f that does not fit is told here, not in the middle of a move
        super().__init__(4.8)
        top = self.figure.add_axes((0.07, 0.37, 0.56, 0.56))
        rows = self.figure.add_axes((0.07, 0.125, 0.56, 0.2))
        self.bars_axes = self.figure.add_axes((0.73, 0.37, 0.25, 0.50))
        self.scene = _Scene(top, rows, f, self.eps, animated=True)
        self._prepare_bars()

    def _prepare_bars(self) -> None:
        corners = [(m, v) for m in np.linspace(*MU_RANGE, 11) for v in np.linspace(*LOG_VAR_RANGE, 6)]
        found = [g for m, v in corners for g in (*self.estimate(m, v), *self.exact(m, v))]
        reach = 1.15 * max(map(abs, found)) or 1.0
        ax = self.bars_axes
        ax.set(ylim=(-reach, reach), xlim=(-0.6, 1.6), title="gradient of the mean of f")
        ax.set_xticks([0, 1], ["∂/∂μ", "∂/∂ log σ²"])
        ax.tick_params(axis="x", length=0)
        ax.axhline(0, color=INK, linewidth=1)
        self.bars = ax.bar([0, 1], [0, 0], width=0.62, color=SAMPLES, animated=True)
        self.marks = LineCollection([], colors="black", linewidths=3.5, animated=True)
        ax.add_collection(self.marks)
        self.figure.text(0.73, 0.2, "■", color=SAMPLES, fontsize=13)
        self.figure.text(0.762, 0.2, f"mean over the {len(self.eps)} points", fontsize=12)
        self.figure.text(0.727, 0.13, "▬", color="black", fontsize=13)
        self.figure.text(0.762, 0.13, "exact, by integration", fontsize=12)

    def samples(self, mu: float, log_var: float) -> Tensor:
        """z = μ + σ·ε, (n,), in float64."""
        return mu + math.exp(0.5 * log_var) * self.eps

    def estimate(self, mu: float, log_var: float) -> Gradient:
        """The pathwise estimate from the n points: the means of f'(z) and of f'(z)·½σε."""
        slopes = slope(self.f, self.samples(mu, log_var))
        half = 0.5 * math.exp(0.5 * log_var) * self.eps
        return Gradient(slopes.mean().item(), (slopes * half).mean().item())

    def exact(self, mu: float, log_var: float) -> Gradient:
        """The gradient of E[f(z)] by numerical integration, right for discontinuous f too."""
        return exact_gradient(self.f, mu, log_var)

    def render(self, mu: float, log_var: float) -> bytes:
        """Return the picture for these parameters."""
        estimate, exact = self.estimate(mu, log_var), self.exact(mu, log_var)
        self.scene.move(mu, log_var)
        for bar, height in zip(self.bars, estimate, strict=True):
            bar.set_height(height)
        self.marks.set_segments([[(i - 0.42, value), (i + 0.42, value)] for i, value in enumerate(exact)])
        return self.png()

    def describe(self, mu: float, log_var: float) -> str:
        """Say where the points stand, and what gradient they give beside the exact one."""
        estimate, exact = self.estimate(mu, log_var), self.exact(mu, log_var)
        uphill = int((slope(self.f, self.samples(mu, log_var)) > 0).sum())
        return (
            f"μ = {number_text(mu)}, log σ² = {number_text(log_var)}, so σ = {math.exp(0.5 * log_var):.2f}. "
            f"{uphill} of {len(self.eps)} points stand where f rises. Gradient with respect to μ: "
            f"{number_text(estimate.mu)} from the points, {number_text(exact.mu)} exact; with respect to log σ²: "
            f"{number_text(estimate.log_var)} from the points, {number_text(exact.log_var)} exact."
        )


def explore_samples(f: Function) -> Widget:
    """Return a widget with sliders for μ and log σ² that moves the samples over the curve of f.

    f: as for `ReparameterizedSamples`.
    """
    return panel(ReparameterizedSamples(f))


def still_samples(f: Function, settings: Sequence[tuple[float, float]]) -> Figure:
    """Show several positions of the explorer side by side: the same noise under other (μ, log σ²).

    f: as for `ReparameterizedSamples`. settings: 1 to 3 pairs. Raises ValueError for others.
    """
    settings = positions(settings, 3, SLIDERS)
    picture = ReparameterizedSamples(f)
    fig = Figure(figsize=(3.5 * len(settings), 4.3), layout="constrained")
    axes = fig.subplots(2, len(settings), height_ratios=(2.6, 1), squeeze=False, sharex=True)
    scenes = []
    for column, (mu, log_var) in enumerate(settings):
        scenes.append(_Scene(axes[0, column], axes[1, column], f, picture.eps, animated=False, first=column == 0))
        estimate, exact = picture.estimate(mu, log_var), picture.exact(mu, log_var)
        axes[0, column].set_title(
            f"μ = {number_text(mu)}, log σ² = {number_text(log_var)}\n"
            f"∂/∂μ: {number_text(estimate.mu)} (exact {number_text(exact.mu)})\n"
            f"∂/∂log σ²: {number_text(estimate.log_var)} (exact {number_text(exact.log_var)})",
            fontsize=11.5,
        )
    fig.draw_without_rendering()  # the arrows need to know where the axes end up
    for scene, (mu, log_var) in zip(scenes, settings, strict=True):
        scene.move(mu, log_var)
    fig.alt = " ".join(picture.describe(*pair) for pair in settings)
    return fig


def slope(f: Function, z: Tensor) -> Tensor:
    """f'(z) for each element of z, (N,), by automatic differentiation."""
    z = z.detach().clone().requires_grad_()
    with torch.enable_grad():
        values = f(z)
        if not isinstance(values, Tensor) or values.shape != z.shape:
            came = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"f must give one number for each sample, shape {tuple(z.shape)}; got {came}.")
        if not values.requires_grad:
            return torch.zeros_like(z)
        return torch.autograd.grad(values.sum(), z)[0]


def exact_gradient(f: Function, mu: float, log_var: float, *, points: int = 8001) -> Gradient:
    """The gradient of E[f(z)] under N(μ, σ²): ∫ f(z) q(z) ∇log q(z) dz by the trapezoidal rule over ±10 σ.

    No derivative of f is taken, so f may jump (the error is then of the order of one step). f: (N,) -> (N,).
    """
    eps = torch.linspace(-10, 10, points, dtype=torch.float64)
    sigma = math.exp(0.5 * log_var)
    with torch.no_grad():
        weights = torch.exp(-0.5 * eps.square()) / math.sqrt(2 * math.pi) * f(mu + sigma * eps)
    by_mu = torch.trapezoid(weights * eps / sigma, eps)
    by_log_var = torch.trapezoid(weights * 0.5 * (eps.square() - 1), eps)
    return Gradient(by_mu.item(), by_log_var.item())


class _Scene:
    """Two axes: f with the samples on it, and below them the rows of noise and samples, joined by lines."""

    def __init__(self, top: Axes, rows: Axes, f: Function, eps: Tensor, *, animated: bool, first: bool = True) -> None:
        self.top, self.rows, self.f, self.eps = top, rows, f, eps
        pen = {"animated": animated}
        reach = max(abs(m) for m in MU_RANGE) + math.exp(0.5 * LOG_VAR_RANGE[1]) * float(eps.abs().max()) + 0.2
        grid = torch.linspace(-reach, reach, 401, dtype=torch.float64)
        with torch.no_grad():
            values = f(grid)
        low, high = float(values.min()), float(values.max())
        margin = 0.22 * (high - low) or 1.0
        top.plot(grid.numpy(), values.numpy(), color=INK, linewidth=1.6)
        top.set(xlim=(-reach, reach), ylim=(low - margin, high + margin))
        top.tick_params(labelbottom=False)
        rows.set(xlim=(-reach, reach), ylim=(-0.45, 1.45), xlabel="ε stays, z = μ + σ·ε moves")
        rows.set_yticks([0, 1], ["ε", "z"])
        rows.tick_params(axis="y", length=0)
        rows.spines["left"].set_visible(False)
        rows.plot(eps.numpy(), np.zeros(len(eps)), "o", color=INK, markersize=6, zorder=3)
        if first:
            top.set_ylabel("f(z)")
        self.joins = LineCollection([], colors="#999999", linewidths=1.0, **pen)
        rows.add_collection(self.joins)
        (self.row,) = rows.plot([], [], "o", color=SAMPLES, markersize=7, zorder=3, **pen)
        (self.dots,) = top.plot([], [], "o", color=SAMPLES, markersize=7, zorder=4, **pen)
        nothing = np.zeros(len(eps))
        self.arrows = top.quiver(
            nothing, nothing, nothing, nothing, angles="uv", scale_units="inches", scale=1 / ARROW,
            units="inches", width=0.024, headwidth=4.2, headlength=4.6, headaxislength=4.2, zorder=3, **pen,
        )  # fmt: skip

    def move(self, mu: float, log_var: float) -> None:
        z = mu + math.exp(0.5 * log_var) * self.eps
        slopes = slope(self.f, z).numpy()
        with torch.no_grad():
            heights = self.f(z).numpy()
        places = z.numpy()
        self.joins.set_segments([[(e, 0.0), (x, 1.0)] for e, x in zip(self.eps.tolist(), places, strict=True)])
        self.row.set_data(places, np.ones(len(places)))
        self.dots.set_data(places, heights)
        # Arrows along the curve, as on the screen: one data unit is not as long upwards as sideways.
        box = self.top.get_window_extent()
        left, right = self.top.get_xlim()
        bottom, top = self.top.get_ylim()
        steep = slopes * (box.height / (top - bottom)) / (box.width / (right - left))
        length = np.hypot(1.0, steep)
        self.arrows.set_offsets(np.stack([places, heights], axis=1))
        self.arrows.set_UVC(1 / length, steep / length)
        self.arrows.set_color([UPHILL if s > 0 else DOWNHILL for s in slopes])
