"""The explorer of a flow: its rings, the share of the posterior that they hold, its picture and its still stand-in."""

import math

import numpy as np
import pytest

from course_utils.teaching.widgets import explore_flow, still_flow
from course_utils.teaching.widgets.flow_layers import FlowLayers

from .test_widgets import pixels, place

GRID = np.linspace(-6, 6, 121)


def gaussian(middle, sigma):
    z1, z2 = np.meshgrid(GRID, GRID, indexing="ij")
    return np.exp(-0.5 * ((z1 - middle[0]) ** 2 + (z2 - middle[1]) ** 2) / sigma**2)


def arguments():
    """Two images, one layer that moves rings from the origin to where the posterior is."""
    angle = np.linspace(0, 2 * np.pi, 50)[:-1]
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    rings = np.stack([circle, 2 * circle])
    middles = np.array([[2.0, -1.0], [-3.0, 1.0]])
    paths = np.stack([np.stack([rings, 0.5 * rings + middle]) for middle in middles])
    return paths, np.stack([gaussian(middle, 0.5) for middle in middles]), np.random.default_rng(0).random((2, 28, 28))


@pytest.fixture(scope="module")
def picture():
    return FlowLayers(*arguments())


def test_the_outermost_ring_holds_what_a_gaussian_has_within_two_sigma(picture):
    for i in (0, 1):
        assert picture.held(1, i) == pytest.approx(1 - math.exp(-2), abs=0.02)  # radius 2σ in two dimensions
    assert picture.held(0, 1) < 0.3
    assert picture.describe(1, 2).startswith("Image 2, after 1 of 1 layers: the outermost ring holds 8")


@pytest.mark.parametrize("image", [1, 2])
@pytest.mark.parametrize("layers", [0, 1])
def test_rings_and_posterior_are_drawn_where_they_are(picture, layers, image):
    shown = pixels(picture.render(layers, image))
    paths = arguments()[0]
    ring = paths[image - 1, layers, 1, 7]
    at = place(picture, picture.axes, *ring)
    around = shown[at[0] - 2 : at[0] + 3, at[1] - 2 : at[1] + 3].reshape(-1, 3).astype(int)
    assert (np.abs(around - (0xD5, 0x5E, 0x00)).sum(1) < 60).any()
    middle = [(2.0, -1.0), (-3.0, 1.0)][image - 1]
    inner = shown[place(picture, picture.axes, *middle)].astype(int)
    assert inner[2] > inner[0] + 40  # blue


def test_going_back_to_an_image_gives_its_picture_again(picture):
    first = picture.render(1, 1)
    assert picture.render(1, 2) != first
    assert picture.render(1, 1) == first


def test_the_still_figure_shows_each_position():
    figure = still_flow(*arguments(), [(0, 1), (1, 1), (1, 2)])
    assert [ax.get_title() for ax in figure.axes] == ["image 1, 0 layers", "image 1, 1 layer", "image 2, 1 layer"]
    assert figure.alt.count("outermost ring") == 3
    with pytest.raises(ValueError, match="outside the explorer"):
        still_flow(*arguments(), [(2, 1)])


def test_shapes_that_do_not_fit_are_refused():
    paths, densities, images = arguments()
    with pytest.raises(ValueError, match="paths must be"):
        FlowLayers(paths[:, 0], densities, images)
    with pytest.raises(ValueError, match="paths must be"):
        FlowLayers(paths, densities[:1], images)


def test_it_has_a_panel():
    panel = explore_flow(*arguments())
    assert [control.description for control in panel.children[0].children] == ["layers", "image"]
