"""What holds for every explorer: its picture at the ends of every slider, its words, its start, its still stand-in."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.teaching.clinic import SmallVAE
from course_utils.teaching.display import to_png
from course_utils.teaching.widgets import (
    CodePlane,
    DigitStyle,
    ElboGap,
    LatentExplorer,
    LossScale,
    SigmaKnob,
    explore_codes,
    explore_elbo_gap,
    explore_latents,
    explore_loss_scale,
    explore_samples,
    explore_sigma_knob,
    explore_style,
    still_code_plane,
    still_elbo_gap,
    still_latents,
    still_loss_scale,
    still_samples,
    still_sigma_knob,
    still_style,
)  # fmt: skip
from course_utils.teaching.widgets.kl_explorer import KLPicture, explore_kl, still_kl
from course_utils.teaching.widgets.reparameterized import ReparameterizedSamples


def pixels(png: bytes) -> np.ndarray:
    """The colours (height, width, 3) of a PNG, which must be opaque."""
    image = Image.open(io.BytesIO(png))
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def place(picture: Any, axes: Any, x: float, y: float) -> tuple[int, int]:
    """Row and column of the picture at a place in the axes' own units."""
    column, from_bottom = axes.transData.transform((x, y))
    return round(picture.figure.bbox.height - from_bottom), round(column)


class Explorer(NamedTuple):
    """How to make an explorer's picture, its widget and its still figure; and its sliders, label -> range."""

    picture: Callable[[], Any]
    explore: Callable[..., Any]
    still: Callable[[list], Any]
    sliders: dict[str, tuple[float, float]]
    most: int  # positions in the still figure


def decode(z):
    """(n, L) -> (n, 1, 28, 28): two shades that say where the first two dimensions are."""
    return (0.5 + z[:, :2] / 12).repeat_interleave(14, 1).view(-1, 1, 1, 28).expand(-1, 1, 28, 28)


def write(labels, style):
    return decode(style) * (0.5 + labels.view(-1, 1, 1, 1) / 20)


CODES = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(300) % 10
PLANE = {"decode": decode, "codes": CODES[:, :2], "labels": LABELS, "extent": (-4.0, 4.0, -2.0, 2.0)}
LATENT = {"decode": decode, "codes": CODES, "labels": LABELS, "dims": [0, 2]}
with torch.random.fork_rng():
    torch.manual_seed(0)
    PATIENT = SmallVAE(latent_dim=4, hidden=64), torch.rand(20, 1, 28, 28)

EXPLORERS = {
    "code plane": Explorer(
        lambda: CodePlane(**PLANE), lambda **start: explore_codes(**PLANE, **start),
        lambda points: still_code_plane(points=points, **PLANE), {"z₁": (-4, 4), "z₂": (-2, 2)}, 9,
    ),
    "digit and style": Explorer(
        lambda: DigitStyle(write), lambda **start: explore_style(write, **start),
        lambda styles: still_style(write, [style[1:] for style in styles]),
        {"digit": (0, 9), "style 1": (-3, 3), "style 2": (-3, 3)}, 8,
    ),
    "bound": Explorer(
        ElboGap, explore_elbo_gap, still_elbo_gap, {"mean of q": (-1, 3), "width of q": (0.1, 2)}, 4
    ),
    "KL": Explorer(KLPicture, explore_kl, still_kl, {"μ": (-3, 3), "log σ²": (-4, 2)}, 4),
    "code of many dimensions": Explorer(
        lambda: LatentExplorer(**LATENT), lambda: explore_latents(**LATENT),
        lambda points: still_latents(decode, CODES[0], [0, 2], steps=1 + len(points)),
        {"z₁": (-3, 3), "z₃": (-3, 3)}, 14,
    ),
    "scale of the loss": Explorer(
        lambda: LossScale(25.7), lambda **start: explore_loss_scale(25.7, **start),
        lambda points: still_loss_scale(25.7, sigmas=[10.0 ** point[0] for point in points]), {"log₁₀ σ": (-1.5, 1)}, 4,
    ),
    "samples": Explorer(
        lambda: ReparameterizedSamples(torch.sin), lambda **start: explore_samples(torch.sin, **start),
        lambda points: still_samples(torch.sin, points), {"μ": (-2.5, 2.5), "log σ²": (-4, 1)}, 3,
    ),
    "sampling slip": Explorer(
        lambda: SigmaKnob(*PATIENT), lambda **start: explore_sigma_knob(*PATIENT, **start),
        lambda points: still_sigma_knob(*PATIENT, ks=[point[0] for point in points]), {"k": (0, 1.5)}, 3,
    ),
}  # fmt: skip

every = pytest.mark.parametrize("explorer", EXPLORERS.values(), ids=EXPLORERS)
begun = [
    name for name in EXPLORERS if name not in ("bound", "code of many dimensions")
]  # the others take no such start


def corners(explorer: Explorer) -> list[tuple[float, ...]]:
    return list(itertools.product(*explorer.sliders.values()))


@every
def test_sliders_have_their_ranges_and_move_the_picture_and_the_words(explorer):
    controls, image, message = explorer.explore().children
    assert {c.description: (c.min, c.max) for c in controls.children} == explorer.sliders
    assert all(c.continuous_update and c.readout and 9 <= (c.max - c.min) / c.step <= 300 for c in controls.children)
    picture, seen = explorer.picture(), set()
    for corner in corners(explorer):
        for control, value in zip(controls.children, corner, strict=True):
            control.value = value
        assert image.value == picture.render(*corner)
        seen.add(message.value)
        assert "✘" not in message.value
    assert len(seen) == len(corners(explorer))


@every
def test_a_picture_does_not_depend_on_the_ones_before(explorer):
    picture = explorer.picture()
    middle = [(low + high) / 2 for low, high in explorer.sliders.values()]
    first = picture.render(*middle)
    shown = pixels(first)
    for corner in corners(explorer):
        assert (pixels(picture.render(*corner)) != shown).any()
    if hasattr(picture, "render_failure"):
        picture.render_failure(*middle)
    assert picture.render(*middle) == first == explorer.picture().render(*middle)


@pytest.mark.parametrize("name", begun)
def test_start_must_be_on_the_sliders(name):
    explorer = EXPLORERS[name]
    for i, (label, (low, high)) in enumerate(explorer.sliders.items()):
        start = [(a + b) // 2 for a, b in explorer.sliders.values()]
        for value in (low - 1, high + 1, float("nan")):
            start[i] = value
            with pytest.raises(ValueError, match=f"start: {label} = .* is outside the explorer, {low:g} to {high:g}"):
                explorer.explore(start=tuple(start) if len(start) > 1 else value)


@every
def test_the_still_figure_shows_some_positions_and_describes_itself(explorer):
    points = [*corners(explorer)[:2], tuple((low + 2 * high) / 3 for low, high in explorer.sliders.values())]
    figure = explorer.still(points)
    assert to_png(figure).startswith(b"\x89PNG") and len(figure.alt) > 12


@every
def test_the_still_figure_refuses_too_many_too_few_and_what_is_outside(explorer):
    inside = [tuple((low + high) / 2 for low, high in explorer.sliders.values())]
    outside = [tuple(high + 1 for _, high in explorer.sliders.values())]
    for points in ([], inside * (explorer.most + 1), outside if explorer.most < 14 else []):
        with pytest.raises(ValueError):
            explorer.still(points)
