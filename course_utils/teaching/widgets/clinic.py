"""The explorer of the sampling slip: σ = exp(k · log σ²) with k on a slider, and what the reported loss hides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from course_utils._checks import check_batch
from course_utils._random import seeded
from course_utils.teaching.clinic import SmallVAE
from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, letter, number_text, panel, positions

RANGE = (0.0, 1.5)  # of k, where only 0.5 is right
COUNT = 61  # values of k at which the losses are worked out
PICTURES = (3, 6)  # rows and columns of samples
SLIDERS = {"k": Slider(*RANGE, 0.5, 0.025)}


class Losses(NamedTuple):
    """Mean losses in nats per image at each k, (COUNT,): as the owner reports it, and as it is."""

    reported: np.ndarray
    true: np.ndarray


class SigmaKnob(Stage):
    """The picture of the explorer: both losses over k with a cursor, and decoded samples of a few test images.

    model: a trained `SmallVAE`. x: test images (N, 1, 28, 28) in [0, 1]; the losses are means over all of them, the
    samples show the first six. Four samples of z for each image, the same noise at every k.
    """

    sliders = SLIDERS

    def __init__(self, model: SmallVAE, x: Tensor) -> None:
        check_batch("x", x)
        if len(x) < PICTURES[1]:
            raise ValueError(f"x must hold at least {PICTURES[1]} images, got {len(x)}.")
        self.ks = np.linspace(*RANGE, COUNT)
        device = next(model.parameters()).device
        self.x, self._model = x.to(device), model
        with torch.no_grad(), seeded(0, device):
            self.mu, self.log_var = model.encode(self.x)
            self.noise = torch.randn(4, *self.mu.shape, device=device)
            self.losses = self._losses()
            self._shown = torch.randn(*PICTURES, self.mu.shape[1], device=device)

        super().__init__(4.2)
        self.curve_axes = self.figure.add_axes((0.085, 0.15, 0.46, 0.74))
        self.image_axes = self.figure.add_axes((0.60, 0.08, 0.385, 0.74))
        draw_losses(self.curve_axes, self.ks, self.losses)
        pen = {"color": "black", "animated": True, "zorder": 6}
        self.cursor = self.curve_axes.axvline(0.5, linewidth=1.4, **pen)
        self.dots = self.curve_axes.plot([0, 0], [0, 0], marker="o", markersize=8, linestyle="", **pen)[0]
        self.picture = self.image_axes.imshow(self.pictures(0.5), cmap="gray", vmin=0, vmax=1, animated=True)
        self.image_axes.set_axis_off()
        self.caption = self.image_axes.set_title("", fontsize=12, animated=True)

    def _losses(self) -> Losses:
        reported, true = [], []
        kl = _kl(self.mu, self.log_var)
        for k in self.ks.tolist():
            z = self.mu + (k * self.log_var).exp() * self.noise  # (draws, N, L)
            logits = self._model.decode(z.flatten(0, 1))
            target = self.x.flatten(1).repeat(len(self.noise), 1)
            recon = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
            reported.append((recon + kl.mean()).item())
            true.append((recon + _kl(self.mu, 2 * k * self.log_var).mean()).item())
        return Losses(np.array(reported), np.array(true))

    def at(self, k: float) -> tuple[float, float]:
        """The reported and the true loss at k, between the computed points by straight lines."""
        reported, true = (float(np.interp(k, self.ks, loss)) for loss in self.losses)
        return reported, true

    @torch.no_grad()
    def pictures(self, k: float) -> np.ndarray:
        """One image with rows of decoded samples under the test images they belong to, pixels in [0, 1]."""
        rows, columns = PICTURES
        mu, log_var = self.mu[:columns], self.log_var[:columns]
        z = mu + (k * log_var).exp() * self._shown
        decoded = self._model.decode(z.flatten(0, 1)).sigmoid().view(rows, columns, 28, 28)
        tiles = torch.cat([self.x[:columns].view(1, columns, 28, 28), decoded]).cpu()
        tiles = F.pad(tiles, (1, 1, 1, 1), value=1.0)
        return tiles.permute(0, 2, 1, 3).reshape((rows + 1) * 30, columns * 30).numpy()

    def render(self, k: float) -> bytes:
        """Return the picture at k."""
        self.cursor.set_xdata([k, k])
        self.dots.set_data([k, k], np.clip(self.at(k), *self.curve_axes.get_ylim()))
        self.picture.set_data(self.pictures(k))
        self.caption.set_text(f"test images; below, samples at k = {k:.2f}")
        return self.png()

    def describe(self, k: float) -> str:
        """Say what the reported loss hides."""
        reported, true = self.at(k)
        gap = true - reported
        words = f"it hides {number_text(gap, 1)} nats" if gap > 0 else f"it is {number_text(-gap, 1)} nats too high"
        words = "they agree, as they must at k = ½" if abs(k - 0.5) < 1e-6 else words
        return (
            f"σ = exp({number_text(k)} · log_var): the reported loss is {number_text(reported, 1)}, "
            f"the true one {number_text(true, 1)} nats; {words}."
        )


def explore_sigma_knob(model: SmallVAE, x: Tensor) -> Widget:
    """Return a widget with one slider, k in σ = exp(k · log_var).  Arguments as for `SigmaKnob`."""
    return panel(SigmaKnob(model, x))


def still_sigma_knob(model: SmallVAE, x: Tensor, *, ks: Sequence[float] = (0.25, 0.5, 1.0)) -> Figure:
    """Show one to three positions of the explorer in a still figure: lettered on the curves, samples beside them.

    Arguments as for `SigmaKnob`. ks: values of k from 0 to 1.5. Raises ValueError for others.
    """
    chosen = [k for (k,) in positions(ks, 3, SLIDERS)]
    knob = SigmaKnob(model, x)
    fig = Figure(figsize=(8.8, 6.0), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.9, 1))
    right.suptitle("test images, reconstructions", fontsize=11)
    ax = left.add_subplot()
    draw_losses(ax, knob.ks, knob.losses)
    cells = right.subplots(len(chosen), 1, squeeze=False)[:, 0]
    for name, k, cell in zip("ABC", chosen, cells, strict=False):
        for loss in knob.at(k):
            letter(ax, name, (k, float(np.clip(loss, *ax.get_ylim()))))
        cell.imshow(knob.pictures(k), cmap="gray", vmin=0, vmax=1)
        cell.set_axis_off()
        cell.set_title(f"{name}: k = {k:g}", fontsize=12)
    fig.alt = " ".join(f"{name}: {knob.describe(k)}" for name, k in zip("ABC", chosen, strict=False))
    return fig


def draw_losses(ax: Axes, ks: np.ndarray, losses: Losses) -> None:
    """Draw the reported and the true loss over k, and mark the right k."""
    best = losses.true.min()
    for name, values, colour in zip(("true", "reported"), (losses.true, losses.reported), LINE_COLOURS, strict=False):
        ax.plot(ks, values, color=colour, label=name, linewidth=2.6)
    ax.axvline(0.5, color=INK, linewidth=0.9, linestyle=":")
    low = min(losses.reported.min(), best)
    span = max(best - low, 1.0)
    top = best + 3.5 * span
    ax.set(xlim=RANGE, ylim=(low - 0.4 * span, top), xlabel="k in σ = exp(k · log_var)", ylabel="nats per image")
    ax.annotate("k = ½", (0.5, top), xytext=(4, -12), textcoords="offset points", fontsize=11, color=INK)
    ax.legend(loc="upper center", fontsize=11, title="loss", bbox_to_anchor=(0.6, 0.97))


def _kl(mu: Tensor, log_var: Tensor) -> Tensor:
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(-1)
