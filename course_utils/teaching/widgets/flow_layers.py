"""The explorer of a flow: its layers bend the rings of a Gaussian, one after the other, towards the true posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_utils.teaching._arrays import Array
from course_utils.teaching.plotting import LINE_COLOURS
from course_utils.teaching.widgets._panel import Slider, Stage, Widget, blank_image, panel, positions

RINGS, TRUTH = LINE_COLOURS[1], "Blues"
LEVELS = (0.005, 0.02, 0.1, 0.3, 0.6, 1.0)  # of the posterior's highest density
MARGIN = 0.12  # around what is shown, as a share of it


class FlowLayers(Stage):
    """The picture of the explorer: the true posterior as areas, the rings of q upon it, and the image beside them.

    paths: (n, K + 1, R, P, 2): for n images R closed rings of P codes, before the flow and after each of its K layers.
    densities: (n, G, G), the posterior on a grid of [-reach, reach]², the first latent dimension along the rows.
    images: (n, 28, 28) or (n, 1, 28, 28), pixels in [0, 1]. Raises ValueError for shapes that do not go together.
    """

    def __init__(self, paths: Array, densities: Array, images: Array, *, reach: float = 6.0) -> None:
        self.paths, self.densities = (np.asarray(value, dtype=float) for value in (paths, densities))
        self.images, self.reach = np.asarray(images, dtype=float).reshape(len(images), 28, 28), reach
        n = len(self.images)
        if self.paths.ndim != 5 or self.paths.shape[-1] != 2 or not len(self.paths) == len(self.densities) == n > 1:
            raise ValueError(
                f"paths must be (n, layers + 1, rings, points, 2), densities (n, G, G) and images n, at least 2; got "
                f"{self.paths.shape}, {self.densities.shape} and {self.images.shape}"
            )
        self.layers = self.paths.shape[1] - 1
        self.sliders = {"layers": Slider(0, self.layers, 0, 1), "image": Slider(1, n, 1, 1)}
        super().__init__(4.6)
        self.axes = self.figure.add_axes((0.08, 0.14, 0.52, 0.78))
        self.image_axes = self.figure.add_axes((0.68, 0.2, 0.3, 0.6))
        self.picture = blank_image(self.image_axes)
        self.shown = -1
        self.lines = [self.axes.plot([], [], color=RINGS, linewidth=1.6, animated=True)[0] for _ in range(self._rings)]

    @property
    def _rings(self) -> int:
        return self.paths.shape[2]

    def draw_posterior(self, ax: Axes, i: int) -> None:
        """The posterior of image i as filled contours, in a frame that holds it and every stage of the flow."""
        grid = np.linspace(-self.reach, self.reach, self.densities.shape[-1])
        density = self.densities[i] / self.densities[i].max()
        inside = np.argwhere(density > LEVELS[0])
        corners = np.concatenate([grid[inside], self.paths[i].reshape(-1, 2)])
        low, high = corners.min(0), corners.max(0)
        middle, half = (low + high) / 2, (0.5 + MARGIN) * (high - low).max()
        ax.contourf(grid, grid, density.T, levels=LEVELS, cmap=TRUTH)
        ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
        ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")

    def rings(self, layers: int, i: int) -> np.ndarray:
        """The rings after so many layers, closed: (R, P + 1, 2)."""
        rings = self.paths[i, layers]
        return np.concatenate([rings, rings[:, :1]], axis=1)

    def render(self, layers: float, image: float) -> bytes:
        """Return the picture after so many layers, for the image of that number, from 1 on."""
        k, i = round(layers), round(image) - 1
        if i != self.shown:
            for artist in [*self.axes.collections]:
                artist.remove()
            self.draw_posterior(self.axes, i)
            self.shown = i
        for line, ring in zip(self.lines, self.rings(k, i), strict=True):
            line.set_data(*ring.T)
        self.picture.set_data(self.images[i])
        return self.png(scale=i)

    def describe(self, layers: float, image: float) -> str:
        """Say how much of the posterior's mass lies within the outermost ring."""
        k, i = round(layers), round(image) - 1
        share = f"{self.held(k, i):.0%}"
        return f"Image {i + 1}, after {k} of {self.layers} layers: the outermost ring holds {share} of the posterior."

    def held(self, layers: int, i: int) -> float:
        """The share of the posterior's mass inside the outermost ring."""
        from matplotlib.path import Path

        grid = np.linspace(-self.reach, self.reach, self.densities.shape[-1])
        codes = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
        mass = self.densities[i].ravel() / self.densities[i].sum()
        return float(mass[Path(self.rings(layers, i)[-1]).contains_points(codes)].sum())


def explore_flow(paths: Array, densities: Array, images: Array, *, reach: float = 6.0) -> Widget:
    """Return a widget with two sliders, the number of layers and the image. Arguments as for `FlowLayers`."""
    return panel(FlowLayers(paths, densities, images, reach=reach))


def still_flow(
    paths: Array, densities: Array, images: Array, points: Sequence[tuple[float, float]], *, reach: float = 6.0
) -> Figure:
    """Show several positions of the explorer in one still figure.

    Arguments as for `FlowLayers`. points: 1 to 6 pairs (layers, image). Raises ValueError for others.
    """
    stage = FlowLayers(paths, densities, images, reach=reach)
    points = positions(points, 6, stage.sliders)
    columns = min(len(points), 3)
    rows = -(-len(points) // columns)
    fig = Figure(figsize=(9.0, 3.5 * rows), layout="constrained")
    for ax, (layers, image) in zip(fig.subplots(rows, columns, squeeze=False).flat, points, strict=False):
        k, i = round(layers), round(image) - 1
        stage.draw_posterior(ax, i)
        for ring in stage.rings(k, i):
            ax.plot(*ring.T, color=RINGS, linewidth=1.6)
        ax.set_title(f"image {i + 1}, {k} layer{'' if k == 1 else 's'}")
    fig.alt = " ".join(stage.describe(*point) for point in points)
    return fig
