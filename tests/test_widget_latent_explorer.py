"""The latent explorer: its code and picture at the ends of every slider, its words, and its still stand-in."""

import numpy as np
import pytest
import torch

from course_utils.teaching.widgets import LatentExplorer, explore_latents, still_latents

from .test_widgets import pixels, place

DIMS = [4, 1, 3]
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
def codes():
    return torch.randn(300, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.9, 0.2, 0.5, 1.0])


@pytest.fixture
def labels():
    return torch.arange(300) % 10


@pytest.fixture
def start():
    return torch.tensor([0.3, -0.6, 1.2, 0.9, -1.5])


@pytest.fixture
def explorer(codes, labels, start):
    return LatentExplorer(decode, codes, labels, dims=DIMS, start=start, judge=judge)


@pytest.mark.parametrize("values", ENDS_AND_MIDDLE)
def test_code_moves_the_chosen_dimensions_and_leaves_the_others(explorer, start, values):
    code = explorer.code(*values)[0]
    assert code[DIMS].tolist() == pytest.approx(values)
    assert code[[0, 2]].tolist() == pytest.approx(start[[0, 2]].tolist())


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


def test_failure_shows_no_old_image(explorer):
    explorer.render(3.0, 3.0, 3.0)
    picture = pixels(explorer.render_failure(0.0, 0.0, 0.0))
    row, column = place(explorer, explorer.image_axes, 0.5, 0.5)
    assert picture[row, column].min() == 255


def test_sliders_move_the_picture_and_the_words(codes, labels, start, explorer):
    box = explore_latents(decode, codes, labels, dims=DIMS, start=start, judge=judge)
    sliders, picture, message = box.children
    assert [slider.description for slider in sliders.children] == ["z₅", "z₂", "z₄"]
    assert [slider.value for slider in sliders.children] == pytest.approx([-1.5, -0.6, 0.9])
    for slider in sliders.children:
        assert (slider.min, slider.max) == (-3.0, 3.0)
        for value in (-3.0, 3.0):
            slider.value = value
            now = [s.value for s in sliders.children]
            assert picture.value == explorer.render(*now)
            assert f"{slider.description} = {'−' if value < 0 else ''}3.00" in message.value
    assert "the other 2 stay where they began. The judge takes it for a 2 (60%)." in message.value


def test_a_later_failure_is_told(codes, labels):
    def fragile(z):
        if (z > 2).any():
            raise ValueError("too far")
        return decode(z)

    sliders, _, message = explore_latents(fragile, codes, labels).children
    sliders.children[0].value = 3.0
    assert "✘ no picture at" in message.value and "too far" in message.value
    sliders.children[0].value = 0.0
    assert "✘" not in message.value


def test_defaults_take_the_dimensions_that_vary_most_and_begin_at_zero(codes, labels):
    explorer = LatentExplorer(decode, codes, labels)
    assert explorer.dims == [4, 1, 3, 2, 0]
    assert explorer.start.tolist() == [0.0] * 5
    assert explorer.describe(*[0.0] * 5) == "z₅ = 0.00, z₂ = 0.00, z₄ = 0.00, z₃ = 0.00, z₁ = 0.00."
    assert explorer.map_axes.get_xlabel() == "$z_{5}$" and explorer.map_axes.get_ylabel() == "$z_{2}$"


def test_two_dimensions_are_a_map_to_move_in(codes, labels):
    sliders, *_ = explore_latents(
        lambda z: decode(torch.cat([z, z, z[:, :1]], 1)), codes[:, :2], labels, dims=[0, 1]
    ).children
    assert [slider.description for slider in sliders.children] == ["z₁", "z₂"]


@pytest.mark.parametrize("steps", [2, 9, 15])
def test_still_moves_one_dimension_in_each_row(start, steps):
    seen = []

    def spy(z):
        seen.append(z.clone())
        return decode(z)

    fig = still_latents(spy, start, DIMS, steps=steps)
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["z₅", "z₂", "z₄"]
    for d, z in zip(DIMS, seen, strict=True):
        assert z[:, d].tolist() == pytest.approx(np.linspace(-3, 3, steps).tolist(), abs=1e-6)
        others = [k for k in range(5) if k != d]
        assert torch.equal(z[:, others], start[others].expand(steps, -1))
    fig.draw_without_rendering()


@pytest.mark.parametrize("dims", [[0], [0, 0], [0, 5], [-1, 0], list(range(9))])
def test_refuses_other_dims(codes, labels, dims):
    with pytest.raises(ValueError, match="dims"):
        LatentExplorer(decode, codes, labels, dims=dims)


def test_refuses_other_shapes(codes, labels, start, explorer):
    with pytest.raises(ValueError, match="codes has shape"):
        LatentExplorer(decode, codes[:, :1], labels)
    with pytest.raises(ValueError, match="start is one code of 5 numbers"):
        LatentExplorer(decode, codes, labels, start=start[:3])
    with pytest.raises(ValueError, match="3 values expected"):
        explorer.code(0.0)
    with pytest.raises(ValueError, match="start is one code"):
        still_latents(decode, start[None], DIMS)
    with pytest.raises(ValueError, match="steps"):
        still_latents(decode, start, DIMS, steps=1)
