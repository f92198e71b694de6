"""The course's figures, in one style.

Every function takes plain tensors, arrays and callables, checks them, and returns a matplotlib Figure; `show`
displays it with alternative text. Figures are made without pyplot, so that no backend can show one a second
time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.teaching._arrays import (
    Array,
    Extent,
    as_images,
    as_plane_points,
    as_vector,
    check_codes,
    check_count,
    check_extent,
)  # fmt: skip

Decode = Callable[[Tensor], Tensor]  # (n, L) codes -> (n, 1, H, W) pixels in [0, 1]

# Okabe and Ito's colours, which stay apart for colour-blind readers, in an order that puts the strong ones
# first; their yellow cannot be seen on white and is left out.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# Ten colours for ten digits: the smallest distance between any two (in OKLab) is 0.138 as seen with
# protanopia, deuteranopia or tritanopia, and 0.185 otherwise; tests/test_plotting.py measures it.
# matplotlib's tab10 has 0.007.
CLASS_COLOURS = (
    "#5c0080", "#8c6601", "#35eaf7", "#07b80d", "#ce1f8c", "#120cd9", "#966df7", "#e2d18b", "#d38cac", "#860000",
)  # fmt: skip

INK = "#222222"
WIDTH = 7.5  # inches; at DPI, 825 pixels: as wide as a notebook's output area
DPI = 110

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    **dict.fromkeys(("font.size", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 12),
    **dict.fromkeys(("axes.titlesize", "axes.labelsize"), 13),
    "figure.titlesize": 14,
    "axes.prop_cycle": mpl.cycler(color=LINE_COLOURS),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon", "savefig.transparent"), False),
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "image.cmap": "gray",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.dpi": DPI,
    "savefig.dpi": "figure",
    # Opaque, so that a dark notebook theme does not swallow the axes.
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "white"),
}


def use_style() -> None:
    """Set matplotlib's defaults to the course's style, for these figures and for a reader's own."""
    mpl.rcParams.update(STYLE)


def panels(
    rows: int = 1, columns: int = 1, *, height: float = 3.4, titles: Sequence[str] | None = None, **shared: Any
) -> tuple[Figure, Any]:
    """Return a figure as wide as the page and its empty axes: one, or an array of them as matplotlib's subplots gives.

    height: inches for each row. titles: one above each axes. Anything else, such as xlabel, ylabel or yscale, is set on
    all axes; sharex and sharey go to matplotlib's subplots.
    """
    sharing = {name: shared.pop(name) for name in ("sharex", "sharey") if name in shared}
    fig = Figure(figsize=(WIDTH if columns == 1 else 9.0, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, **sharing)
    every = np.atleast_1d(axes).ravel()
    check_count(titles, len(every), "titles", "panels")
    for i, ax in enumerate(every):
        ax.set(**shared, **({"title": titles[i]} if titles else {}))
    return fig, axes


# --- pictures of digits ---


def image_grid(
    images: Array, *, columns: int = 10, titles: Sequence[str] | None = None, row_labels: Sequence[str] | None = None
) -> Figure:
    """Show images row by row as one picture, black = 0 and white = 1.

    images: (N, 1, H, W) or (N, H, W), pixels in [0, 1]; values a little outside, as PCA gives them, are cut off.
    titles: one short text above each column. row_labels: one text at the left of each row.
    Raises TypeError or ValueError for anything that is not such images, or for labels of another number.
    """
    pixels = as_images(images, "images")
    if not isinstance(columns, int) or columns < 1:
        raise ValueError(f"columns must be a whole number of at least 1, not {columns!r}.")
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    check_count(titles, columns, "titles", "columns")
    check_count(row_labels, rows, "row_labels", "rows")
    fig = _compose(pixels, columns, list(map(str, titles or [])), list(map(str, row_labels or [])))
    named = f", rows: {', '.join(map(str, row_labels))}" if row_labels else ""
    above = f", above them: {', '.join(map(str, titles))}" if titles else ""
    fig.alt = f"{_several(len(pixels), 'image')} in {_several(rows, 'row')}{named}{above}."
    return fig


def image_rows(rows: Mapping[str, Array], *, titles: Sequence[str] | None = None) -> Figure:
    """Show labelled rows of images under each other, to be compared column by column.

    rows: label -> (N, 1, H, W) or (N, H, W) pixels in [0, 1], the same N, H and W in every row.
    titles: one short text above each column.
    Raises ValueError when the rows do not match.
    """
    if not isinstance(rows, Mapping) or not rows:
        raise TypeError('image_rows() takes a non-empty dict, {"test images": x, "autoencoder": x_hat}.')
    pixels = {label: as_images(images, f"images of row {label!r}") for label, images in rows.items()}
    shapes = {label: tuple(p.shape) for label, p in pixels.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"The rows must hold equally many images of one size, but their shapes are {shapes}.")
    columns = next(iter(shapes.values()))[0]
    return image_grid(torch.cat([*pixels.values()]), columns=columns, titles=titles, row_labels=list(rows))


def _several(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number > 1 else ''}"


def _compose(pixels: Tensor, columns: int, titles: list[str], row_labels: list[str]) -> Figure:
    """One imshow of all images: many times faster than an axes for each."""
    from torchvision.utils import make_grid

    gap = 2
    height, width = pixels.shape[-2:]
    grid = make_grid(pixels, nrow=columns, padding=gap, pad_value=1.0)[0].numpy()

    # Placed by hand, in inches: a layout engine leaves white margins around a picture of fixed shape.
    left = 0.15 + max(map(_text_width, row_labels)) if row_labels else 0.05
    top = 0.35 if titles else 0.05
    figure_width = min(WIDTH, max(left + 0.75 * columns, 2.5))
    scale = min((figure_width - left) / grid.shape[1], 0.75 / (width + gap))  # inches per pixel
    figure_height = grid.shape[0] * scale + top + 0.05
    fig = Figure(figsize=(figure_width, figure_height), layout="none")
    size = np.array([figure_width, figure_height, figure_width, figure_height])
    ax = fig.add_axes((left, 0.05, grid.shape[1] * scale, grid.shape[0] * scale) / size)
    ax.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    # Where a tile's row has its middle, in pixels of the composed picture (whose first pixel is at 0).
    down = [gap + row * (height + gap) + (height - 1) / 2 for row in range(len(row_labels))]
    ax.set_xticks([])
    ax.set_yticks(down, row_labels)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for column, text in enumerate(titles):
        ax.text(gap + column * (width + gap) + (width - 1) / 2, gap - 1.5, text, ha="center", va="bottom", fontsize=11)
    return fig


def _text_width(text: str) -> float:
    """The width of a tick label in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family=mpl.rcParams["font.family"], size=mpl.rcParams["ytick.labelsize"])
    return TextPath((0, 0), text, prop=font).get_extents().x1 / 72


# --- curves ---


def curves(
    x: Array, ys: Mapping[str, Array] | Mapping[str, Mapping[str, Array]], *, xlabel: str, ylabel: str, **options: Any
) -> Figure:
    """Draw one labelled line for each entry of `ys` over the common x; of mappings in it, one panel beside the other.

    x: (N,). ys: label -> (N,), or a panel's title -> {label: (N,)}. Up to five lines are labelled at their ends, more
    get a legend, and so do panels: one for all of them. logx, logy, ylim: as for `draw_curves`.
    Raises ValueError for other lengths, non-finite values, or values that a logarithmic axis cannot show.
    """
    nested = isinstance(ys, Mapping) and bool(ys) and all(isinstance(lines, Mapping) for lines in ys.values())
    parts = ys if nested else {"": ys}
    fig, axes = panels(1, len(parts), height=4.0 if len(parts) == 1 else 3.6)
    for i, (ax, (heading, lines)) in enumerate(zip(np.atleast_1d(axes), parts.items(), strict=True)):
        draw_curves(ax, x, lines, xlabel=xlabel, ylabel="" if i else ylabel, ends=not nested, **options)
        ax.set_title(heading)
        if nested and i == 0 and len(lines) > 1:  # outside, so that it lies on no line
            fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=len(lines))
    return fig


def draw_curves(
    ax: Axes,
    x: Array,
    ys: Mapping[str, Array],
    *,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
    ylim: tuple[float, float] | None = None,
    ends: bool = True,
) -> None:
    """Draw `curves` into given axes; without `ends` the lines get neither labels at their ends nor a legend.

    logx, logy: logarithmic axes. ylim: what the vertical axis shows; a line is labelled where it leaves the picture.
    """
    xs = as_vector(x, "x", positive=logx)
    if not isinstance(ys, Mapping) or not ys:
        raise TypeError('The lines come as a non-empty dict, {"autoencoder": errors, "PCA": pca_errors}.')
    ax.set(**dict.fromkeys(["xscale"] * logx + ["yscale"] * logy, "log"))
    marker = "o" if len(xs) <= 20 else ""
    low, high = ylim or (-math.inf, math.inf)
    labels = []
    for i, (label, y) in enumerate(ys.items()):
        colour, dashes = LINE_COLOURS[i % len(LINE_COLOURS)], "-" if i < len(LINE_COLOURS) else "--"
        values = as_vector(y, f"line {label!r}", length=len(xs), positive=logy)
        ax.plot(xs, values, color=colour, linestyle=dashes, marker=marker, label=label)
        last = max(np.flatnonzero((values >= low) & (values <= high)), key=xs.__getitem__, default=np.argmax(xs))
        labels.append((label, float(xs[last]), float(values[last]), colour))
    ax.set(xlabel=xlabel, ylabel=ylabel, **({"ylim": ylim} if ylim else {}))
    _ticks_at_data(ax, xs, logx)
    if ends and len(ys) > 5:
        ax.legend()
    elif ends and len(ys) > 1:
        _label_ends(ax, labels)


def _ticks_at_data(ax: Axes, xs: np.ndarray, logx: bool) -> None:
    """Put ticks where the measurements are, when that is readable; plain numbers instead of 10⁰, 10¹."""
    values = np.unique(xs)
    position = (np.log(values) if logx else values).astype(float)
    span = np.ptp(position)
    if len(values) <= 12 and (len(values) == 1 or np.diff(position).min() >= 0.05 * span):
        ax.set_xticks(values, [f"{v:g}" for v in values])
        ax.xaxis.set_minor_locator(ticker.NullLocator())
    elif not logx and np.allclose(values, np.round(values)):
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def _label_ends(ax: Axes, ends: list[tuple[str, float, float, str]], *, gap: float = 0.085) -> None:
    """Write each line's name at its end (label, x, y, colour), moved apart where two would overlap."""
    from sklearn.isotonic import isotonic_regression

    ax.set_xlim(ax.get_xlim())  # the labels' places below are fractions of these limits
    ax.set_ylim(ax.get_ylim())
    to_fraction = ax.transScale + ax.transLimits
    placed = sorted((*to_fraction.transform((x, y))[::-1], label, (x, y), colour) for label, x, y, colour in ends)
    # By little, off the x axis, and inside the picture: an isotonic regression of what is left without the gaps.
    steps = gap * np.arange(len(placed))
    free = [item[0] - step for item, step in zip(placed, steps, strict=True)]
    heights = steps + isotonic_regression(free, y_min=gap / 2, y_max=1.0 - steps[-1])
    for height, (_, across, label, end, colour) in zip(heights, placed, strict=True):
        across = across if across < 0.85 else max(across, 0.97)  # beside the picture rather than upon a steep line
        look = {
            "va": "center",
            "color": 0.72 * np.array(to_rgb(colour)),
            "fontweight": "bold",
            "annotation_clip": False,
        }
        ax.annotate(label, xy=end, xytext=(across + 0.02, height), textcoords="axes fraction", **look)


def _push_apart(places: np.ndarray, distance: float) -> np.ndarray:
    """Move points (N, 2) until no two are nearer than `distance`, each by little."""
    if not len(places):
        return places
    angle = 2 * np.pi * np.arange(len(places)) / len(places)
    places = places + 1e-6 * distance * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # none coincide
    for _ in range(500):
        difference = places[:, None] - places[None]  # (N, N, 2)
        length = np.linalg.norm(difference, axis=-1)
        np.fill_diagonal(length, np.inf)
        if length.min() >= distance:
            break
        push = np.maximum(1.01 * distance - length, 0) / 4
        places = places + (difference * (push / length)[..., None]).sum(axis=1)
    return places


# --- the code plane ---


def code_map(
    codes: Array,
    labels: Array,
    *,
    extent: Extent | None = None,
    extra: Mapping[str, Array] | None = None,
    title: str = "",
) -> Figure:
    """Draw two-dimensional codes as points, coloured by class, with each class's numeral at its centroid.

    codes: (N, 2). labels: (N,) whole numbers from 0 to 9. extent: (z₁ from, z₁ to, z₂ from, z₂ to); by
    default all points are in it, and when it leaves some out the figure says how many.
    extra: label -> (M, 2) more points, such as samples from the prior, drawn as crosses.
    Raises ValueError for other shapes, more than two dimensions included.
    """
    points, classes = check_codes(codes, labels)
    overlays = {name: as_plane_points(p, f"points of {name!r}") for name, p in (extra or {}).items()}
    if extent is None:
        extent = extent_of(np.concatenate([points, *overlays.values()]))
    extent = check_extent(extent)
    fig, ax = _plane_figure(extent, extra_height=(0.35 if overlays else 0) + (0.3 if title else 0))
    draw_code_map(ax, points, classes, extent, extra=overlays)
    ax.set_title(title)
    centres = ", ".join(
        f"{digit} ({x:.1f}, {y:.1f})" for digit, (x, y) in zip(*_centroids(points, classes), strict=True)
    )
    fig.alt = (
        f"{len(points)} codes, z1 {extent[0]:g} to {extent[1]:g} and z2 {extent[2]:g} to {extent[3]:g}, coloured by "
        f"class; the classes' means: {centres}."
    )
    fig.alt += "".join(f" Crosses: {len(p)} {name}." for name, p in overlays.items())
    return fig


def draw_code_map(
    ax: Axes, points: np.ndarray, classes: np.ndarray, extent: Extent, extra: Mapping[str, np.ndarray] | None = None
) -> None:
    """Draw `code_map` into given axes, from arrays that have been checked."""
    order = np.random.default_rng(0).permutation(len(points))  # no class lies on top of all others
    colours = np.array([to_rgb(c) for c in CLASS_COLOURS])[classes[order]]
    size = float(np.clip(50_000 / len(points), 5, 25))
    ax.scatter(*points[order].T, s=size, c=colours, alpha=0.85, linewidths=0, rasterized=True, zorder=1)
    for i, (name, overlay) in enumerate((extra or {}).items()):
        marker = "x+1*"[i % 4]
        ax.scatter(*overlay.T, s=36, c="black", marker=marker, linewidths=1.6, label=name, zorder=3)
    digits, centroids = _centroids(points, classes)
    shown = _inside(centroids, extent)
    digits, centroids = digits[shown], centroids[shown]
    # A numeral is 0.3 inches wide. The layout engine may still change the axes a little: near enough.
    width, height = ax.bbox.size / ax.figure.dpi
    inches = min(width / (extent[1] - extent[0]), height / (extent[3] - extent[2]))  # per unit
    back = {"arrowstyle": "-", "color": INK, "lw": 1}  # to the centroid of a numeral that moved
    look = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold", "zorder": 4, "arrowprops": back}
    for digit, centroid, place in zip(digits, centroids, _push_apart(centroids, 0.3 / inches), strict=True):
        ring = {"boxstyle": "circle,pad=0.18", "fc": "white", "ec": CLASS_COLOURS[digit], "lw": 2.2}
        ax.annotate(str(digit), xy=centroid, xytext=place, bbox=ring, **look)
    style_plane(ax, extent)
    notes = [
        f"{outside} of {len(drawn)} {name} lie outside the picture"
        for name, drawn in {"codes": points, **(extra or {})}.items()
        if (outside := int((~_inside(drawn, extent)).sum()))
    ]
    if notes:
        ax.text(0.0, 1.01, "\n".join(notes), transform=ax.transAxes, va="bottom", fontsize=11)
    if extra:
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.1), borderaxespad=0, handletextpad=0.3)


def decoded_plane(
    decode: Decode, *, extent: Extent, size: int = 20, device: torch.device | str | None = None
) -> Figure:
    """Decode a grid of codes that covers a rectangle of the code plane, and show it as one picture.

    decode: (n, 2) codes -> (n, 1, H, W) pixels in [0, 1]. extent: (z₁ from, z₁ to, z₂ from, z₂ to).
    size: images along the longer side. Each image is the decoding of the code at its own middle; z₂ grows
    upwards. device: where `decode` expects its codes.
    Raises ValueError when `decode` returns something else.
    """
    left, right, bottom, top = extent = check_extent(extent)
    if not isinstance(size, int) or not 1 <= size <= 60:
        raise ValueError(f"size is the number of images along the longer side, 1 to 60, not {size!r}.")
    longer = max(right - left, top - bottom)
    across, down = (max(1, round(size * span / longer)) for span in (right - left, top - bottom))
    z1 = left + (np.arange(across) + 0.5) * (right - left) / across
    z2 = top - (np.arange(down) + 0.5) * (top - bottom) / down  # the first row of a picture is its top
    codes = torch.tensor([(a, b) for b in z2 for a in z1], dtype=torch.float32, device=device)
    tiles = decode_codes(decode, codes)[:, 0].unflatten(0, (down, across))
    picture = tiles.transpose(1, 2).flatten(2).flatten(0, 1)
    fig, ax = _plane_figure(extent)
    ax.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    style_plane(ax, extent)
    fig.alt = f"{across} by {down} images, decoded from codes with z1 from {left:g} to {right:g} and z2 from "
    fig.alt += f"{bottom:g} to {top:g}."
    return fig


def style_plane(ax: Axes, extent: Extent) -> None:
    """Give axes the look of the code plane: equal units, z₁ to the right and z₂ upwards."""
    ax.set(xlim=extent[:2], ylim=extent[2:], xlabel="$z_1$", ylabel="$z_2$")
    span = max(extent[1] - extent[0], extent[3] - extent[2])
    step = ticker.MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0, span)[1]  # the same on both axes
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(ticker.MultipleLocator(step))
    ax.set_aspect("equal")


def extent_of(codes: Array) -> Extent:
    """Return the rectangle (z₁ from, z₁ to, z₂ from, z₂ to) around all codes (N, 2), rounded outwards."""
    points = as_plane_points(codes, "codes")
    low, high = points.min(axis=0), points.max(axis=0)
    span = max(float((high - low).max()), 1e-3)
    step = min((m * 10.0**e for e in range(-5, 12) for m in (1, 2, 5)), key=lambda s: abs(math.log(s * 12 / span)))
    low = np.floor((low - 0.04 * span) / step) * step
    high = np.ceil((high + 0.04 * span) / step) * step
    return (float(low[0]), float(high[0]), float(low[1]), float(high[1]))


def decode_codes(decode: Decode, codes: Tensor) -> Tensor:
    """Call `decode` without gradients and return its images, (n, 1, H, W) on the CPU, cut to [0, 1].

    Raises ValueError, saying what came, when the result is not one grey image in [0, 1] for each code.
    """
    with torch.no_grad():
        result = decode(codes)
    if not isinstance(result, Tensor):
        raise ValueError(f"decode returned {type(result).__name__}, expected a tensor of images.")
    if result.ndim != 4 or result.shape[:2] != (len(codes), 1):
        raise ValueError(
            f"decode returned shape {tuple(result.shape)} for {len(codes)} codes, expected "
            f"({len(codes)}, 1, H, W). Does it return flat pixels, or a tuple?"
        )
    return as_images(result, "decode's images")


# --- small helpers ---


def _plane_figure(extent: Extent, *, extra_height: float = 0.0) -> tuple[Figure, Axes]:
    """A figure and its one axes of this extent in equal units, as large as WIDTH and 5.5 inches allow."""
    wide, tall = extent[1] - extent[0], extent[3] - extent[2]
    scale = min((WIDTH - 0.9) / wide, 5.5 / tall)  # inches per unit; 0.9 and 0.75 inches are for ticks and labels
    size = max(wide * scale + 0.9, 3.5), max(tall * scale + 0.75, 2.2) + extra_height
    fig = Figure(figsize=size, layout="constrained")
    return fig, fig.add_subplot()


def _centroids(points: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    digits = np.unique(classes)
    return digits, np.array([points[classes == digit].mean(axis=0) for digit in digits])


def _inside(points: np.ndarray, extent: Extent) -> np.ndarray:
    x, y = points.T
    return (x >= extent[0]) & (x <= extent[1]) & (y >= extent[2]) & (y <= extent[3])
