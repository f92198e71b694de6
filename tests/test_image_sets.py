"""Measures of sets of images, against closed forms and sets made so that the answer is known."""

import math

import pytest
import torch
from torch.nn import functional as F

from course_utils.data.load import load_images
from course_utils.evaluation import Judge, frechet_distance, precision_recall, sharpness


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(noise, mean, covariance):
    """Points whose sample mean and covariance are exactly these."""
    centred = noise - noise.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(centred.T)), centred.T, upper=False)
    return mean + (torch.linalg.cholesky(covariance) @ white).T


# ------------------------------------------------------------------------------------------------- Fréchet distance


def test_between_gaussians_it_is_the_closed_form():
    """Covariances that do not commute, against the roots of the product C C' itself, which is not symmetric."""
    a_mean, b_mean = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 1.0, 1.0]).double()
    a_factor, b_factor = draw(3, 3, seed=1), draw(3, 3, seed=2)
    a_cov, b_cov = a_factor @ a_factor.T + 0.1 * torch.eye(3), b_factor @ b_factor.T + 0.1 * torch.eye(3)
    a, b = with_moments(draw(50, 3), a_mean, a_cov), with_moments(draw(50, 3, seed=3), b_mean, b_cov)
    roots = torch.linalg.eigvals(a_cov @ b_cov).real.sqrt().sum()
    expected = (a_mean - b_mean).square().sum() + a_cov.trace() + b_cov.trace() - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected.item(), rel=1e-9)
    without_root = expected + 2 * roots - 2 * (a_cov @ b_cov).trace()
    variances_only = (a_mean - b_mean).square().sum() + (a_cov.diag().sqrt() - b_cov.diag().sqrt()).square().sum()
    for wrong in (without_root, variances_only):
        assert abs(wrong - expected) > 0.1


def test_it_is_zero_for_equal_sets_and_the_squared_shift_for_shifted_ones():
    a = draw(40, 5).float()
    assert frechet_distance(a, a.flip(0)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(5 * 4, rel=1e-5)
    assert frechet_distance(draw(9, 1), draw(9, 1, seed=1)) >= 0


def test_features_that_never_fire_and_fewer_images_than_features_are_no_trouble():
    a, b = draw(10, 30), draw(10, 30, seed=1)
    a[:, 3] = b[:, 3] = 0
    assert 0 < frechet_distance(a, b) < math.inf
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_two_samples_of_one_distribution_are_closer_the_larger_they_are():
    few, many = (frechet_distance(draw(n, 8, seed=1), draw(n, 8, seed=2)) for n in (50, 5000))
    assert few > 20 * many > 0


# ---------------------------------------------------------------------------------------------- precision and recall


def clusters(*centres, n=200, seed=0):
    parts = [draw(n, 2, seed=seed + i) * 0.1 + torch.tensor(centre).double() for i, centre in enumerate(centres)]
    return torch.cat(parts)


def test_precision_falls_for_images_outside_and_recall_for_what_is_left_out():
    real = clusters((0.0, 0.0), (10.0, 0.0))
    one_mode = precision_recall(real, clusters((0.0, 0.0), (0.0, 0.0), seed=5))
    assert one_mode.precision > 0.9 and one_mode.recall == pytest.approx(0.5, abs=0.05)
    one_astray = precision_recall(real, clusters((0.0, 0.0), (0.0, 10.0), seed=5))
    assert one_astray.precision == pytest.approx(0.5, abs=0.05) and one_astray.recall == pytest.approx(0.5, abs=0.05)
    assert precision_recall(clusters((0.0, 0.0)), clusters((5.0, 0.0))) == (0, 0)
    assert precision_recall(real, real) == (1, 1)


def test_the_two_change_places_with_the_sets():
    real, fake = draw(300, 2), 0.3 * draw(300, 2, seed=1)
    there, back = precision_recall(real, fake), precision_recall(fake, real)
    assert there == back[::-1] and there.precision > 0.95 > 0.6 > there.recall


def test_the_radius_reaches_the_kth_neighbour_and_the_point_itself_is_none():
    """On a line at 0, 1, 2, 3, 4 a point's nearest neighbour is at 1, its second at 1 or, at an end, at 2."""
    real = torch.arange(5.0).view(-1, 1)
    fake = torch.tensor([[-0.5], [-1.0], [-1.5], [-2.0], [-2.1]])
    assert precision_recall(real, fake, k=1).precision == pytest.approx(2 / 5)
    assert precision_recall(real, fake, k=2).precision == pytest.approx(4 / 5)


def test_more_images_than_one_block_give_the_plain_answer():
    real, fake = draw(1300, 4), 1.5 * draw(1300, 4, seed=1)

    def inside(points, others, k=3):
        radius = torch.cdist(others, others).sort(1).values[:, k]  # column 0 is the point itself
        return (torch.cdist(points, others) <= radius).any(1).double().mean().item()

    assert precision_recall(real, fake) == pytest.approx((inside(fake, real), inside(real, fake)), abs=1e-12)


@pytest.mark.parametrize("measure", [frechet_distance, precision_recall])
def test_sets_that_cannot_be_compared_are_refused(measure):
    a = draw(20, 4)
    with pytest.raises(ValueError, match="20 and 19.*cannot be compared"):
        measure(a, a[:19])
    with pytest.raises(ValueError, match="one network, got 4 and 3"):
        measure(a, a[:, :3])
    with pytest.raises(ValueError, match="at least two images"):
        measure(a[:1], a[:1])
    with pytest.raises(ValueError, match="at least two images"):
        measure(a.view(20, 2, 2), a)
    with pytest.raises(ValueError, match="must be finite"):
        measure(a, a * math.nan)
    with pytest.raises(TypeError, match="floating-point"):
        measure(a.long(), a)


def test_a_neighbour_number_that_the_sets_do_not_have_is_refused():
    with pytest.raises(ValueError, match="k=20 needs more"):
        precision_recall(draw(20, 2), draw(20, 2), k=20)
    with pytest.raises(ValueError, match="at least 1"):
        precision_recall(draw(20, 2), draw(20, 2), k=0)


# --------------------------------------------------------------------------------------------------------- sharpness


def test_sharpness_of_images_that_can_be_counted():
    x = torch.zeros(4, 1, 28, 28)
    x[0, 0, 5, 5] = 1  # one pixel, four steps of 1
    x[1, 0, ::2, ::2] = x[1, 0, 1::2, 1::2] = 1  # a chessboard: every white pixel has four black neighbours
    x[2, 0, 4:10, 4:10] = 0.5  # a square of 6 × 6: 24 steps for 36 pixels, whatever the grey
    torch.testing.assert_close(sharpness(x), torch.tensor([2.0, 2.0, (24 / 36) ** 0.5, 0.0]))
    torch.testing.assert_close(sharpness(x.flatten(1)), sharpness(x))
    torch.testing.assert_close(sharpness(4 * x - 0.0), sharpness((4 * x).clamp(max=1)))


def test_blur_lowers_it_and_coins_raise_it():
    digits = load_images("digits").test[:]
    blurred = F.avg_pool2d(digits, 3, stride=1, padding=1)
    coins = (torch.rand(blurred.shape, generator=torch.Generator().manual_seed(0)) < blurred).float()
    assert 1.2 * sharpness(blurred).mean() < sharpness(digits).mean() < sharpness(coins).mean() / 1.2
    fair = (torch.rand(50, 1, 100, 100, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    assert sharpness(fair).mean().item() == pytest.approx(2**0.5, abs=0.02)


def test_images_without_a_shape_are_refused():
    with pytest.raises(ValueError, match="must be square"):
        sharpness(torch.zeros(3, 783))
    with pytest.raises(ValueError, match="batch dimension"):
        sharpness(torch.zeros(784))


# ------------------------------------------------------------------------------------------------------ the features


def test_features_are_what_the_last_layer_sees_clipped_and_without_gradient():
    torch.manual_seed(0)
    judge = Judge()
    x = torch.rand(7, 784, requires_grad=True)
    features = judge.features(x, batch_size=3)
    assert features.shape == (7, 128) and not features.requires_grad
    torch.testing.assert_close(judge.layers[-1](features), judge(x))
    torch.testing.assert_close(judge.features(4 * x - 2), judge.features((4 * x - 2).clamp(0, 1)))
    with pytest.raises(ValueError, match="finite"):
        judge.features(x * math.nan)
    with pytest.raises(ValueError, match="28×28"):
        judge.features(torch.rand(3, 700))
