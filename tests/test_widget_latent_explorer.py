"""The latent explorer: its code and picture at the ends of every slider, its words, and its still stand-in."""

import numpy as np
import pytest
import torch

from course_utils.teaching.widgets import explore_latents, still_latents
from course_utils.teaching.widgets.latent_explorer import LatentExplorer

from .test_widgets import LABELS, pixels, place

DIMS = [4, 1, 3]
CODES = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.9, 0.2, 0.5, 1.0])
START = torch.tensor([0.3, -0.6, 1.2, 0.9, -1.5])
ENDS_AND_MIDDLE = [(-3.0, -3.0, -3.0), (3.0, 3.0, 3.0), (-3.0, 3.0, 0.0), (3.0, -3.0, 0.5), (0.0, 0.0, 0.0)]


def decode(z):
    """Five stripes whose shades, from 0.1 to 0.9, say where the five dimensions are."""
    images = torch.zeros(len(z), 1, 25, 25)
    for d in range(5):
        images[..., 5 * d : 5 * d + 5] = (0.5 + 0.4 * z[:, d] / 3).view(-1, 1, 1, 1)
    return images


def judge(images):
    """A 2 with 60 %, whatever comes."""
    chances = torch.full((len(images), 10), 0.4 / 9)
    chances[:, 2] = 0.6
    return chances


@pytest.fixture
def explorer():
    return LatentExplorer(decode, CODES, LABELS, dims=DIMS, start=START, judge=judge)


@pytest.mark.parametrize("values", ENDS_AND_MIDDLE)
def test_code_moves_the_chosen_dimensions_and_leaves_the_others(explorer, values):
    code = explorer.code(*values)[0]
    assert code[DIMS].tolist() == pytest.approx(values)
    assert code[[0, 2]].tolist() == pytest.approx(START[[0, 2]].tolist())


@pytest.mark.parametrize("values", ENDS_AND_MIDDLE)
def test_picture_shows_the_decoding_of_exactly_this_code(explorer, values):
    picture = pixels(explorer.render(*values))
    assert abs(picture.shape[0] - 414) <= 1 and picture.shape[1:] == (810, 3)  # matplotlib 3.10 rounds the height down
    shades = decode(explorer.code(*values))[0, 0, 0, 2::5].tolist()
    for d, shade in enumerate(shades):
        row, column = place(explorer, explorer.image_axes, 0.1 + 0.2 * d, 0.5)
        assert np.abs(picture[row, column] - 255 * shade).max() <= 1.5


@pytest.mark.parametrize("values", ENDS_AND_MIDDLE)
def test_cross_hair_is_at_the_first_two_values(explorer, values):
    picture = pixels(explorer.render(*values))
    for x, y in [(values[0], 2.1), (2.1, values[1])]:
        row, column = place(explorer, explorer.map_axes, x, y)
        assert picture[row - 2 : row + 3, column - 2 : column + 3].min() < 60
    assert explorer.ring.get_xydata().tolist() == [[values[0], values[1]]]


def test_sliders_begin_at_the_start_and_the_words_name_every_value(explorer):
    sliders, _, message = explore_latents(decode, CODES, LABELS, dims=DIMS, start=START, judge=judge).children
    assert [slider.description for slider in sliders.children] == ["z₅", "z₂", "z₄"]
    assert [slider.value for slider in sliders.children] == pytest.approx([-1.5, -0.6, 0.9])
    assert "the other 2 stay where they began. The judge takes it for a 2 (60%)." in message.value
    assert explorer.describe(-3.0, 3.0, 0.0).startswith("z₅ = −3.00, z₂ = 3.00, z₄ = 0.00; the other 2")
    every = LatentExplorer(decode, CODES, LABELS, dims=range(5), start=START)
    assert every.describe(*[0.0] * 5) == "z₁ = 0.00, z₂ = 0.00, z₃ = 0.00, z₄ = 0.00, z₅ = 0.00."
    assert explorer.map_axes.get_xlabel() == "$z_{5}$" and explorer.map_axes.get_ylabel() == "$z_{2}$"


def test_still_moves_one_dimension_in_each_row():
    seen = []

    def spy(z):
        seen.append(z.clone())
        return decode(z)

    fig = still_latents(spy, START, DIMS)
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["z₅", "z₂", "z₄"]
    for d, z in zip(DIMS, seen, strict=True):
        assert z[:, d].tolist() == pytest.approx(np.linspace(-3, 3, 9).tolist(), abs=1e-6)
        others = [k for k in range(5) if k != d]
        assert torch.equal(z[:, others], START[others].expand(9, -1))
    fig.draw_without_rendering()


def test_refuses_other_dims_and_shapes():
    for dims in [[0], [0, 0], [0, 5], [-1, 0], list(range(9))]:
        with pytest.raises(ValueError, match="dims"):
            LatentExplorer(decode, CODES, LABELS, dims=dims, start=START)
    with pytest.raises(ValueError, match="codes has shape"):
        LatentExplorer(decode, CODES[:, :1], LABELS, dims=DIMS, start=START)
    with pytest.raises(ValueError, match=r"start is one code, a tensor \(5,\)"):
        LatentExplorer(decode, CODES, LABELS, dims=DIMS, start=START[:3])
    with pytest.raises(ValueError, match="start is one code"):
        still_latents(decode, START[None], DIMS)
