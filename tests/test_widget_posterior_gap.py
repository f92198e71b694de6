"""The explorer of the gap, on the linear-Gaussian model, where everything that it says is known exactly."""

import itertools
import math

import numpy as np
import pytest
import torch

from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.teaching.widgets.posterior_gap import PosteriorGap, explore_posterior_gap, still_posterior_gap

from .test_widgets import pixels

POSITIONS = [*itertools.product((0, 2), (0.0, 1.0), (0.3, 3.0)), (1, 0.5, 1.0)]


@pytest.fixture(scope="module")
def model():
    return LinearGaussian(torch.tensor([[1.0, 0.8], [0.2, 1.0], [0.0, 0.5]]), torch.zeros(3), 0.6)


@pytest.fixture(scope="module")
def arguments(model):
    torch.manual_seed(0)
    x = model.sample(3)[0]
    mean, cov = model.posterior(x)
    precision = torch.linalg.inv(cov).diagonal()
    best = mean, -precision.log().expand(3, 2)  # of all diagonal Gaussians the closest has the inverse precisions
    encoder = mean + torch.tensor([0.3, -0.2]), best[1] + 0.5
    return model.log_joint, x, model.log_evidence(x), encoder, best


@pytest.fixture(scope="module")
def picture(arguments):
    return PosteriorGap(*arguments)


@pytest.mark.parametrize("point", POSITIONS)
def test_the_gap_is_the_linear_models_own(picture, model, point):
    i, mu, log_var = picture.q(*point)
    exact = model.gap(picture.x[i : i + 1], mu[None], log_var=log_var[None]).item()
    assert picture.gap(i, mu, log_var) == pytest.approx(exact, abs=1e-9)
    assert picture.gap(i, mu, log_var) >= picture.family[i] - 1e-9


@pytest.mark.parametrize("point", POSITIONS)
def test_the_picture_shows_what_the_words_say(picture, point):
    before = pixels(picture.render(*point))
    words, scene = picture.describe(*point), picture.scene
    i, mu, log_var = picture.q(*point)
    level, gap = picture.log_evidence[i].item(), picture.gap(i, mu, log_var)
    assert f"= {level:.2f}".replace("-", "−") in words and f"gap {gap:.2f}" in words
    assert words.startswith(f"Image {i}: ELBO {level - gap:.2f}".replace("-", "−"))
    tops = [bar.get_y() + bar.get_height() for bar in scene.bars]
    assert tops[2] == pytest.approx(level)
    assert tops[0] == pytest.approx(max(level - gap, scene.low))
    assert scene.rings[0].get_center() == pytest.approx(tuple(mu.tolist()))
    assert scene.rings[1].get_width() == pytest.approx(4 * (0.5 * log_var[0]).exp().item())
    heights = sorted(word.get_position()[1] for word in scene.words)
    assert min(np.diff(heights)) > 0.1 * (level - scene.low)
    assert np.array_equal(before, pixels(picture.render(*point)))  # the same picture on the way back
    assert not np.array_equal(before, pixels(picture.render(point[0], point[1], 1.5)))


def test_the_costs_of_all_places_add_up_to_the_gap(picture):
    picture.render(1, 0.0, 1.0)
    first, second = picture.window(1)
    lost = np.asarray(picture.scene.pictures[1].get_array())
    total = lost.sum() * (first[1] - first[0]) * (second[1] - second[0])
    assert total == pytest.approx(picture.gap(*picture.q(1, 0.0, 1.0)), abs=5e-3)
    # Rows of the array are z2: the posterior's highest place stands where its mean is.
    density = np.asarray(picture.scene.pictures[0].get_array())
    row, column = np.unravel_index(density.argmax(), density.shape)
    mean = picture.best[0][1]
    assert math.hypot(first[column] - mean[0], second[row] - mean[1]) < 0.15


def test_the_still_figure_and_the_panel(picture, arguments):
    figure = still_posterior_gap(picture, [(0, 0.0, 1.0), (2, 1.0, 1.0)])
    assert len(figure.axes) == 6 and figure.alt.count("log p(x)") == 2
    box = explore_posterior_gap(*arguments)
    assert [slider.description for slider in box.children[0].children] == list(picture.sliders)
    with pytest.raises(ValueError, match="outside the explorer"):
        still_posterior_gap(picture, [(0, 2.0, 1.0)])
    with pytest.raises(ValueError, match=r"must be \(3, 2\) for 3 images"):
        PosteriorGap(*arguments[:3], arguments[3], (torch.zeros(2, 2), torch.zeros(2, 2)))
