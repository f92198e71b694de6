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
    SigmaKnob,
    explore_code_swap,
    explore_codes,
    explore_elbo_gap,
    explore_flow_path,
    explore_kl,
    explore_latents,
    explore_levels,
    explore_linear_collapse,
    explore_loss_scale,
    explore_perception,
    explore_rotation,
    explore_samples,
    explore_sigma_knob,
    explore_style,
    still_code_plane,
    still_code_swap,
    still_elbo_gap,
    still_flow_path,
    still_kl,
    still_latents,
    still_levels,
    still_linear_collapse,
    still_loss_scale,
    still_perception,
    still_rotation,
    still_samples,
    still_sigma_knob,
    still_style,
)  # fmt: skip
from course_utils.teaching.widgets.code_plane import CodePlane
from course_utils.teaching.widgets.code_swap import CodeSwap
from course_utils.teaching.widgets.digit_style import DigitStyle
from course_utils.teaching.widgets.elbo_gap import ElboGap
from course_utils.teaching.widgets.flow_path import FlowPath
from course_utils.teaching.widgets.kl_explorer import KLPicture
from course_utils.teaching.widgets.latent_explorer import LatentExplorer
from course_utils.teaching.widgets.levels import Levels
from course_utils.teaching.widgets.linear_collapse import LinearCollapse
from course_utils.teaching.widgets.loss_scale import LossScale
from course_utils.teaching.widgets.perception import Perception
from course_utils.teaching.widgets.reparameterized import ReparameterizedSamples
from course_utils.teaching.widgets.rotation import Rotation


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
    """An explorer's picture, widget and still figure, what they are made from, and its sliders, label -> range."""

    picture: Callable[..., Any]
    explore: Callable[..., Any]
    still: Callable[..., Any]
    args: tuple
    sliders: dict[str, tuple[float, float]]
    most: int  # positions in the still figure
    point: Callable[[tuple], Any] = tuple  # the sliders' values -> what `still` takes for them


def decode(z):
    """(n, L) -> (n, 1, 28, 28): two shades that say where the first two dimensions are."""
    return (0.5 + z[:, :2] / 12).repeat_interleave(14, 1).view(-1, 1, 1, 28).expand(-1, 1, 28, 28)


def write(labels, style):
    return decode(style) * (0.5 + labels.view(-1, 1, 1, 1) / 20)


def path(digit, guidance):
    """Ten straight steps of six points from a ring to a place that depends on both."""
    ring = torch.stack([torch.arange(6).cos(), torch.arange(6).sin(), torch.arange(6) / 6], 1)
    end = torch.tensor([digit - 4.5, 2.0, 0.0]) / 3 * (1 + guidance)
    return ring + torch.linspace(0, 1, 11).view(-1, 1, 1) * (end + 0.1 * ring - ring)


def decode_index(index):
    """(n, 10) -> (n, 1, 8, 20): a shade for each code, each where its place is."""
    return (index / 20).view(-1, 1, 2, 5).repeat_interleave(4, 2).repeat_interleave(4, 3)


INDEX = torch.randint(1, 19, (12, 10), generator=torch.Generator().manual_seed(0))


def redraw(code, kept, temperature):
    """Eight shades around that of the code, further apart the fewer levels are kept."""
    spread = temperature * (3 - kept) * torch.linspace(-0.15, 0.15, 8)
    return (0.3 + code / 30 + spread).clamp(0, 1).view(8, 1, 1, 1).expand(8, 1, 6, 6)


CODES = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)).clamp(-1.7, 1.7)
CODES[:2] = torch.tensor([[-3.7, -1.7, 0], [3.7, 1.7, 0]])  # so that the map goes from -4 to 4 and from -2 to 2
LABELS = torch.arange(300) % 10
with torch.random.fork_rng():
    torch.manual_seed(0)
    PATIENT = SmallVAE(latent_dim=4, hidden=64), torch.rand(20, 1, 28, 28)

EXPLORERS = {
    "code plane": Explorer(
        CodePlane, explore_codes, still_code_plane, (decode, CODES[:, :2], LABELS), {"z₁": (-4, 4), "z₂": (-2, 2)}, 9,
    ),
    "code swap": Explorer(
        lambda: CodeSwap(decode_index, INDEX, grid=(2, 5), codes=20),
        lambda: explore_code_swap(decode_index, INDEX, grid=(2, 5), codes=20),
        lambda points: still_code_swap(decode_index, INDEX, points, grid=(2, 5), codes=20),
        (), {"image": (1, 12), "place": (1, 10), "code": (0, 19)}, 4,
    ),
    "digit and style": Explorer(
        DigitStyle, explore_style, still_style, (write,),
        {"digit": (0, 9), "style 1": (-3, 3), "style 2": (-3, 3)}, 8, lambda values: values[1:],
    ),
    "bound": Explorer(
        ElboGap, explore_elbo_gap, still_elbo_gap, (), {"mean of q": (-1, 3), "width of q": (0.1, 2)}, 4
    ),
    "KL": Explorer(KLPicture, explore_kl, still_kl, (), {"μ": (-3, 3), "log σ²": (-4, 2)}, 4),
    "collapse": Explorer(
        LinearCollapse, explore_linear_collapse, still_linear_collapse, (), {"β": (0.1, 4), "floor, nats": (0, 6)}, 4
    ),
    "levels": Explorer(
        Levels, explore_levels, still_levels, (redraw, 3), {"code": (0, 9), "temp.": (0, 1.5)}, 3,
    ),
    "scale of the loss": Explorer(
        LossScale, explore_loss_scale, lambda error, sigmas: still_loss_scale(error, sigmas=sigmas), (25.7,),
        {"log₁₀ σ": (-1.5, 1)}, 4, lambda values: 10.0 ** values[0],
    ),
    "samples": Explorer(
        ReparameterizedSamples, explore_samples, still_samples, (torch.sin,),
        {"μ": (-2.5, 2.5), "log σ²": (-4, 1)}, 3,
    ),
    "perception": Explorer(
        Perception, explore_perception, lambda path, images, places: still_perception(path, images, places=places),
        ({w: (30.0 + w, 9 - w / 2, torch.rand(4, 1, 8, 8)) for w in range(10)}, torch.rand(4, 1, 8, 8)),
        {"weight": (0, 9)}, 4,
    ),
    "rotated code": Explorer(
        Rotation, explore_rotation, lambda decode, curve, angles: still_rotation(decode, curve, angles=angles),
        (decode, {5.0 * k: (0.5 - 0.02 * k, -30 - 0.01 * k, -28.0) for k in range(19)}), {"angle": (0, 90)}, 4,
    ),
    "flow of codes": Explorer(
        FlowPath, explore_flow_path, still_flow_path, (path, decode, CODES, LABELS),
        {"digit": (0, 9), "time": (0, 1), "guidance": (0, 3)}, 4,
    ),
    "sampling slip": Explorer(
        SigmaKnob, explore_sigma_knob, lambda model, x, ks: still_sigma_knob(model, x, ks=ks),
        PATIENT, {"k": (0, 1.5)}, 3, lambda values: values[0],
    ),
    "code of many dimensions": Explorer(
        lambda: LatentExplorer(decode, CODES, LABELS, dims=[0, 2], start=CODES[5]),
        lambda: explore_latents(decode, CODES, LABELS, dims=[0, 2], start=CODES[5]),
        lambda points: still_latents(decode, CODES[5], range(len(points))), (), {"z₁": (-3, 3), "z₃": (-3, 3)}, 3,
    ),
}  # fmt: skip

every = pytest.mark.parametrize("explorer", EXPLORERS.values(), ids=EXPLORERS)


def corners(explorer: Explorer) -> list[tuple[float, ...]]:
    return list(itertools.product(*explorer.sliders.values()))


@every
def test_sliders_have_their_ranges_and_move_the_picture_and_the_words(explorer):
    controls, image, message = explorer.explore(*explorer.args).children
    assert {c.description: (c.min, c.max) for c in controls.children} == explorer.sliders
    assert all(c.continuous_update and c.readout and 9 <= (c.max - c.min) / c.step <= 300 for c in controls.children)
    picture, seen = explorer.picture(*explorer.args), set()
    for corner in corners(explorer):
        for control, value in zip(controls.children, corner, strict=True):
            control.value = value
        assert image.value == picture.render(*corner)
        seen.add(message.value)
        assert "✘" not in message.value
    assert len(seen) == len(corners(explorer))


@every
def test_a_picture_does_not_depend_on_the_ones_before(explorer):
    picture = explorer.picture(*explorer.args)
    middle = [(low + high) / 2 for low, high in explorer.sliders.values()]
    first = picture.render(*middle)
    shown = pixels(first)
    for corner in corners(explorer):
        assert (pixels(picture.render(*corner)) != shown).any()
    assert (pixels(picture.still_part()) != shown).any()
    assert picture.render(*middle) == first == explorer.picture(*explorer.args).render(*middle)


@every
def test_the_still_figure_shows_some_positions_and_describes_itself(explorer):
    points = [*corners(explorer)[:2], tuple((low + 2 * high) / 3 for low, high in explorer.sliders.values())]
    figure = explorer.still(*explorer.args, [explorer.point(point) for point in points])
    assert to_png(figure).startswith(b"\x89PNG") and len(figure.alt) > 12


@every
def test_the_still_figure_refuses_too_many_too_few_and_what_is_outside(explorer):
    inside = [tuple((low + high) / 2 for low, high in explorer.sliders.values())]
    outside = [tuple(high + 1 for _, high in explorer.sliders.values())]
    for points in ([], inside * (explorer.most + 1), outside if explorer.args or explorer.most > 3 else []):
        with pytest.raises(ValueError):
            explorer.still(*explorer.args, [explorer.point(point) for point in points])


def test_a_later_failure_is_told_and_no_old_image_stays_and_an_early_one_raises():
    def fails_outside(z):
        if z.abs().max() > 2:
            raise RuntimeError("<shapes> cannot be multiplied")
        return decode(z)

    args = CODES[:, :2], LABELS
    controls, image, message = explore_codes(fails_outside, *args).children
    good, picture = image.value, CodePlane(decode, *args)
    controls.children[0].value = 3.0
    assert "no picture at z₁ = 3.00, z₂ = 0.00: RuntimeError: &lt;shapes&gt; cannot" in message.value
    assert (pixels(image.value)[place(picture, picture.image_axes, 0.25, 0.5)] == 255).all()
    controls.children[0].value = 0.0
    assert image.value == good and "✘" not in message.value
    for broken in (lambda z: decode(z).flatten(1), lambda z: decode(z)[:0]):
        with pytest.raises(ValueError, match="expected"):
            explore_codes(broken, *args)
        with pytest.raises(ValueError, match="expected"):
            explore_style(lambda labels, style, broken=broken: broken(style))
