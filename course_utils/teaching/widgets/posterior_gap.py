"""The explorer of the gap: a true posterior, the q that should be it, and where the bound is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from torch import Tensor

from course_utils.teaching.plotting import INK, LINE_COLOURS
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, number_text, panel, positions

BOUND, ENCODER, FAMILY = LINE_COLOURS[0], LINE_COLOURS[1], LINE_COLOURS[2]
SIDE = 81  # codes along one side of the window
LogJoint = Callable[[Tensor, Tensor], Tensor]  # images (B, …) and codes (G, 1, 2) -> (G, B)
Gaussians = tuple[Tensor, Tensor]  # mu and log_var, (N, 2) each


class PosteriorGap(Stage):
    """The picture: the posterior and q on the plane, what each place costs, and log p(x) as ELBO plus two losses.

    log_joint, x (N, …), log_evidence (N,): of a model with two latent dimensions. encoder, best: two Gaussians for each
    image, the encoder's and the closest one. Sliders: the image; from the encoder's q (0) to the closest (1); and a
    factor for q's width. Raises ValueError unless all are of N images.
    """

    def __init__(
        self, log_joint: LogJoint, x: Tensor, log_evidence: Tensor, encoder: Gaussians, best: Gaussians
    ) -> None:
        shapes = {tuple(t.shape) for t in (*encoder, *best)}
        if shapes != {(len(x), 2)} or len(log_evidence) != len(x):
            raise ValueError(f"mu and log_var must be ({len(x)}, 2) for {len(x)} images, got {sorted(shapes)}.")
        self.log_joint, self.x, self.log_evidence = log_joint, x, log_evidence.double().cpu()
        self.encoder, self.best = (tuple(t.double().cpu() for t in pair) for pair in (encoder, best))
        self.sliders = {
            "image": Slider(0, len(x) - 1, 0, 1),
            "to the best": Slider(0.0, 1.0, 0.0, 0.05),
            "width of q": Slider(0.3, 3.0, 1.0, 0.05),
        }
        nodes, weights = np.polynomial.hermite_e.hermegauss(24)
        self.nodes = torch.cartesian_prod(*[torch.tensor(nodes)] * 2)  # (576, 2), for E_q in units of q
        self.weights = torch.tensor(np.outer(weights, weights).ravel() / weights.sum() ** 2)
        self.family = [self.gap(i, mu, log_var) for i, (mu, log_var) in enumerate(zip(*self.best, strict=True))]

        super().__init__(4.3, 10.0)
        places = ((0.06, 0.14, 0.32, 0.74), (0.44, 0.14, 0.32, 0.74), (0.835, 0.14, 0.155, 0.74))
        self.scene = _Scene(self, *(self.figure.add_axes(place) for place in places), animated=True)

    @torch.no_grad()
    def joint(self, image: int, codes: Tensor) -> Tensor:
        """log p(x, z) of one image at codes (G, 2): (G,), float64."""
        some = self.x[image : image + 1]
        return self.log_joint(some, codes[:, None].to(some)).double().cpu()[:, 0]

    def gap(self, image: int, mu: Tensor, log_var: Tensor) -> float:
        """KL(q ‖ p(z|x)) of N(mu, diag exp(log_var)), by 24 × 24 Gauss-Hermite points."""
        joint = self.joint(image, mu + (0.5 * log_var).exp() * self.nodes)
        log_q = -0.5 * (self.nodes.square() + log_var + math.log(2 * math.pi)).sum(1)
        return (self.log_evidence[image] + (self.weights * (log_q - joint)).sum()).item()

    def q(self, image: float, share: float, width: float) -> tuple[int, Tensor, Tensor]:
        """The image's number, and mu and log_var of the q that the sliders stand for."""
        i = round(image)
        mu, log_var = (a[i] + share * (b[i] - a[i]) for a, b in zip(self.encoder, self.best, strict=True))
        return i, mu, log_var + 2 * math.log(width)

    def window(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """The two axes of a square that holds the encoder's q and the best one to four of their widths."""
        low, high = [], []
        for mu, log_var in (self.encoder, self.best):
            low.append(mu[image] - 4 * (0.5 * log_var[image]).exp())
            high.append(mu[image] + 4 * (0.5 * log_var[image]).exp())
        low, high = torch.stack(low).amin(0), torch.stack(high).amax(0)
        middle, half = (low + high) / 2, (high - low).max() / 2
        return tuple(np.linspace((m - half).item(), (m + half).item(), SIDE) for m in middle)

    def render(self, image: float, share: float, width: float) -> bytes:
        """Return the picture for one q of one image."""
        self.scene.move(*self.q(image, share, width))
        return self.png(scale=round(image))

    def describe(self, image: float, share: float, width: float) -> str:
        """Say how ELBO and the two losses add up."""
        i, mu, log_var = self.q(image, share, width)
        gap, level, family = self.gap(i, mu, log_var), self.log_evidence[i].item(), self.family[i]
        elbo, gap_text, excess, least, total = map(number_text, (level - gap, gap, gap - family, family, level))
        return (
            f"Image {i}: ELBO {elbo} + gap {gap_text} = {total} = log p(x), in nats. Of the gap, {least} is what the "
            f"best diagonal Gaussian loses too, and {excess} is this q's own."
        )


def explore_posterior_gap(
    log_joint: LogJoint, x: Tensor, log_evidence: Tensor, encoder: Gaussians, best: Gaussians
) -> Widget:
    """Return a widget that shows where the bound is lost, for one q of one image; arguments as `PosteriorGap`'s."""
    return panel(PosteriorGap(log_joint, x, log_evidence, encoder, best))


def still_posterior_gap(picture: PosteriorGap, points: Sequence[tuple[float, float, float]]) -> Figure:
    """Show several positions (image, share of the way to the best, width) under one another.

    Raises ValueError for others.
    """
    points = positions(points, 3, picture.sliders)
    fig = Figure(figsize=(9.0, 3.5 * len(points)), layout="constrained")
    rows = fig.subplots(len(points), 3, squeeze=False, width_ratios=(1, 1, 0.55))
    for axes, point in zip(rows, points, strict=True):
        _Scene(picture, *axes).move(*picture.q(*point))
    fig.alt = " ".join(picture.describe(*point) for point in points)
    return fig


class _Scene:
    """Three axes: the posterior with q's ellipses, the cost of each place, and the bar below log p(x)."""

    def __init__(self, picture: PosteriorGap, plane: Axes, cost: Axes, scale: Axes, *, animated: bool = False) -> None:
        self.picture, self.axes, self.image = picture, (plane, cost, scale), None
        pen = {"animated": animated}
        blank, look = np.zeros((SIDE, SIDE)), {"origin": "lower", "interpolation": "bilinear", "aspect": "equal"}
        self.pictures = [
            plane.imshow(blank, cmap="Greys", **look, **pen),
            cost.imshow(blank, cmap="RdBu_r", **look, **pen),
        ]
        self.rings = [
            ax.add_patch(Ellipse((0, 0), 1, 1, fill=False, color=colour, linewidth=2, **pen))
            for ax, colour in ((plane, BOUND), (plane, BOUND), (cost, INK), (cost, INK))
        ]
        plane.set(title="posterior (grey), q (blue)", xlabel="$z_1$", ylabel="$z_2$")
        cost.set(title="cost of each place", xlabel="$z_1$")
        scale.set(xlim=(0, 1), xticks=[], ylabel="nats")
        scale.set_title("log p(x)")
        self.bars = [scale.add_patch(Rectangle((0.05, 0), 0.3, 1.0, fc=c, **pen)) for c in (BOUND, ENCODER, FAMILY)]
        dark = ("#005280", "#9a4400", "#00614a")
        self.words = [scale.text(0.4, 0, "", va="center", color=c, fontsize=10, **pen) for c in dark]

    def move(self, image: int, mu: Tensor, log_var: Tensor) -> None:
        """Show this q of this image."""
        picture, scale = self.picture, self.axes[-1]
        level, family = picture.log_evidence[image].item(), picture.family[image]
        if image != self.image:
            self.image, (first, second) = image, picture.window(image)
            self.codes = torch.cartesian_prod(torch.tensor(first), torch.tensor(second))
            self.log_p = picture.joint(image, self.codes) - level
            extent = (first[0], first[-1], second[0], second[-1])
            for shown in self.pictures:
                shown.set_extent(extent)
            density = self.log_p.exp().view(SIDE, SIDE).T.numpy()
            self.pictures[0].set(data=density, clim=(0, density.max()))
            largest = picture.gap(image, picture.encoder[0][image], picture.encoder[1][image])
            self.low = level - max(1.5 * largest, 2.0)
            scale.set_ylim(self.low, level)
        log_q = -0.5 * ((self.codes - mu).square() / log_var.exp() + log_var + math.log(2 * math.pi)).sum(1)
        lost = (log_q.exp() * (log_q - self.log_p)).view(SIDE, SIDE).T.numpy()
        self.pictures[1].set(data=lost, clim=(-np.abs(lost).max(), np.abs(lost).max()))
        for ring, times in zip(self.rings, (2, 4, 2, 4), strict=True):
            across, up = (times * (0.5 * log_var).exp()).tolist()
            ring.set(center=mu.tolist(), width=across, height=up)
        gap = picture.gap(image, mu, log_var)
        own = max(gap - family, 0.0)
        tops = [level - gap, level - family, level]
        bottoms = [self.low, *tops[:2]]
        for bar, low, high in zip(self.bars, bottoms, tops, strict=True):
            low, high = max(low, self.low), max(high, self.low)
            bar.set(y=low, height=high - low)
        texts = (f"ELBO\n{number_text(level - gap)}", f"this q\n{number_text(own)}", f"family\n{number_text(family)}")
        step = 0.13 * (level - self.low)
        places = [max((max(a, self.low) + max(b, self.low)) / 2, self.low + step * (0.6 + k))
                  for k, (a, b) in enumerate(zip(bottoms, tops, strict=True))]  # fmt: skip
        for k in (1, 0):  # no label on another's, and none above the axes
            places[2] = min(places[2], level - 0.6 * step)
            places[k] = min(places[k], places[k + 1] - 1.2 * step)
        for word, text, place in zip(self.words, texts, places, strict=True):
            word.set(text=text, y=place)
