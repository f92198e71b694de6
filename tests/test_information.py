"""What the code says: the split of the rate, its estimates from a batch, MMD, MIG, and the losses made of them."""

import itertools
import math

import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch.distributions import Categorical as Choice
from torch.distributions import Independent, MixtureSameFamily, MultivariateNormal, Normal

from course_utils import evaluate, fit, load, save
from course_utils.data import sprites
from course_utils.evaluation import factor_entropy, factor_information, mutual_information_gap, rate_parts
from course_utils.losses import batch_rate_parts, gaussian_kl, log_densities, mixture_log_weights, mmd, mmd_to_prior
from course_utils.models import TCVAE, VAE, InfoVAE


def posteriors(n=40, latent=3, seed=0, width=-1.0):
    torch.manual_seed(seed)
    return torch.randn(n, latent).double(), width + 0.5 * torch.randn(n, latent).double()


# The rate and its parts -----------------------------------------------------------------------------------


def test_the_parts_add_up_to_the_rate_in_every_draw_and_the_rate_is_the_kl():
    mu, log_var = posteriors()
    parts = rate_parts(mu, log_var, samples=4000)
    torch.testing.assert_close(sum(parts[1:]), parts.rate, rtol=0, atol=1e-10)
    error = parts.rate.std() / 4000**0.5
    assert abs(parts.rate.mean() - gaussian_kl(mu, log_var).mean()) < 4 * error
    assert (parts.mutual_information <= math.log(40) + 1e-9).all()


def test_the_densities_are_those_of_torch_distributions():
    mu, log_var = posteriors(7, 2)
    z = torch.randn(5, 2).double()
    each = Normal(mu, (0.5 * log_var).exp())
    torch.testing.assert_close(log_densities(z, mu, log_var), each.log_prob(z[:, None]))
    parts = batch_rate_parts(mu, mu, log_var, 7)  # a batch that is the whole data set: exact
    q = MixtureSameFamily(Choice(torch.ones(7)), Independent(each, 1))
    marginals = MixtureSameFamily(Choice(torch.ones(2, 7)), Normal(mu.T, (0.5 * log_var.T).exp()))
    joint, single = q.log_prob(mu), marginals.log_prob(mu)
    torch.testing.assert_close(parts.mutual_information, each.log_prob(mu).sum(1) - joint)
    torch.testing.assert_close(parts.total_correlation, joint - single.sum(1))
    torch.testing.assert_close(parts.dimension_wise, (single - Normal(0.0, 1.0).log_prob(mu)).sum(1))


def test_codes_that_name_their_image_carry_log_n_and_codes_that_say_nothing_carry_none():
    mu = 100 * torch.eye(20).double()
    named = rate_parts(mu, torch.zeros_like(mu), samples=200)
    assert named.mutual_information.mean() == pytest.approx(math.log(20), abs=1e-6)
    silent = rate_parts(torch.zeros_like(mu), torch.zeros_like(mu), samples=200)
    assert torch.stack(silent).abs().max() < 1e-10


def test_the_total_correlation_of_a_gaussian_is_minus_half_the_log_of_one_minus_its_correlation_squared():
    """Many narrow posteriors around draws from a correlated Gaussian make, nearly, that Gaussian."""
    r, width = 0.8, 0.3
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, r], [r, 1.0]]).double() - width**2 * torch.eye(2).double()
    mu = MultivariateNormal(torch.zeros(2).double(), covariance).sample((2000,))
    parts = rate_parts(mu, torch.full_like(mu, 2 * math.log(width)), samples=2000)
    assert parts.total_correlation.mean() == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.03)
    assert parts.dimension_wise.mean() == pytest.approx(0, abs=0.03)
    gaussian_information = -0.5 * math.log(width**4 / (1 - r**2))  # h(z) − h(z|x)
    assert parts.mutual_information.mean() == pytest.approx(gaussian_information, abs=0.05)


def test_draws_are_seeded_and_the_chunks_do_not_matter(monkeypatch):
    mu, log_var = posteriors()
    once = rate_parts(mu, log_var, samples=90, seed=3)
    monkeypatch.setattr("course_utils.evaluation.information._NUMBERS_AT_ONCE", 500)
    for a, b in zip(once, rate_parts(mu, log_var, samples=90, seed=3), strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.equal(once.rate, rate_parts(mu, log_var, samples=90, seed=4).rate)


# A batch in place of the data -------------------------------------------------------------------------------


def mean_density_over_batches(log_weights, z, own, mu, log_var, size):
    """The estimate of q(z) for z drawn from image `own`, averaged over all ordered batches that begin with it."""
    log_q = log_densities(z, mu, log_var).sum(2)[0]
    others = [n for n in range(len(mu)) if n != own]
    batches = [[own, *rest] for rest in itertools.permutations(others, size - 1)]
    weights = log_weights[0].exp()
    return torch.stack([(weights * log_q[batch].exp()).sum() for batch in batches]).mean()


@pytest.mark.parametrize("size", [2, 3, 5])
def test_over_all_batches_the_stratified_estimate_is_the_mixture(size):
    mu, log_var = posteriors(6, 2)
    z = mu[:1] + 0.3
    exact = log_densities(z, mu, log_var).sum(2).logsumexp(1).exp().squeeze() / 6
    right = mixture_log_weights(size, 6).double()
    torch.testing.assert_close(mean_density_over_batches(right, z, 0, mu, log_var, size), exact, rtol=1e-6, atol=0)
    weighted = mixture_log_weights(size, 6, estimate="weighted").double()
    assert mean_density_over_batches(weighted, z, 0, mu, log_var, size) < 0.9 * exact
    wrong = right.roll(1, dims=1)  # 1/N beside its place: rows still sum to 1
    assert wrong.exp().sum(1) == pytest.approx(torch.ones(size).double())
    assert abs(mean_density_over_batches(wrong, z, 0, mu, log_var, size) / exact - 1) > 0.01


def test_rows_of_weights_sum_to_one_or_to_one_over_n():
    torch.testing.assert_close(mixture_log_weights(5, 50).exp().sum(1), torch.ones(5))
    torch.testing.assert_close(mixture_log_weights(5, 50).diag(), torch.full((5,), -math.log(50)))
    torch.testing.assert_close(mixture_log_weights(5, 50, estimate="weighted").exp().sum(1), torch.full((5,), 0.02))
    for bad in ((1, 9), (10, 9)):
        with pytest.raises(ValueError, match="a batch of 2 to 9 images"):
            mixture_log_weights(*bad)
    with pytest.raises(ValueError, match="estimate"):
        mixture_log_weights(5, 50, estimate="exact")


def test_it_is_the_mean_of_the_published_stratified_weights_over_the_order_of_the_others():
    """Chen et al. 2018, appendix C.2: of M others, one carries (N − M)/(N·M) and the rest 1/M each."""
    size, others = 50, 4
    published = torch.tensor([(size - others) / (size * others)] + [1 / others] * (others - 1))
    assert mixture_log_weights(others + 1, size)[0, 1].exp().item() == pytest.approx(published.mean().item())


def test_weighted_parts_are_off_by_logs_of_n_and_their_gradient_is_not():
    mu, log_var = posteriors(16, 4)
    gradients = []
    for size in (100, 10_000):
        m = mu.clone().requires_grad_()
        parts = batch_rate_parts(m, m, log_var, size, estimate="weighted")
        tc = parts.total_correlation.mean()
        gradients.append((tc.item(), torch.autograd.grad(tc, m)[0]))
    (small, g), (large, h) = gradients
    assert large - small == pytest.approx(3 * math.log(100))  # (L − 1) log N
    torch.testing.assert_close(g, h)


# MMD --------------------------------------------------------------------------------------------------------


def gaussian_mmd(mean, variance, v):
    """Of N(mean, variance) and N(0, 1) in one dimension under the kernel of squared width v; the textbook integrals."""

    def k(variance, distance):
        return (v / (v + variance)) ** 0.5 * math.exp(-(distance**2) / (2 * (v + variance)))

    return k(2 * variance, 0) + k(2, 0) - 2 * k(variance + 1, mean)


@pytest.mark.parametrize(("mean", "spread", "width"), [(1.0, 1.0, 1.0), (0.0, 0.5, 1.0), (0.5, 2.0, 0.7)])
def test_mmd_has_its_closed_form_between_gaussians(mean, spread, width):
    torch.manual_seed(0)
    x, y = mean + spread * torch.randn(2000, 1).double(), torch.randn(2000, 1).double()
    exact = gaussian_mmd(mean, spread**2, width**2)
    assert mmd(x, y, width=width) == pytest.approx(exact, abs=0.03)
    assert mmd_to_prior(x, width=width) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("unbiased", [True, False])
def test_unbiased_is_zero_on_average_and_biased_is_too_large_by_known_amounts(unbiased):
    torch.manual_seed(0)
    n, latent, v = 10, 2, 1.5
    found = torch.stack([
        torch.stack([mmd(x, y, width=v**0.5, unbiased=unbiased), mmd_to_prior(x, width=v**0.5, unbiased=unbiased)])
        for x, y in torch.randn(3000, 2, n, latent).double()
    ])  # fmt: skip
    inside = (v / (v + 2)) ** (latent / 2)
    bias = torch.tensor([2.0, 1.0]).double() * (1 - inside) / n * (not unbiased)
    error = found.std(0) / 3000**0.5
    assert ((found.mean(0) - bias).abs() < 4 * error).all()
    assert (found < 0).any() == unbiased


def test_mmd_by_hand_and_its_gradient_where_points_coincide():
    x = torch.tensor([[0.0], [0.0]], requires_grad=True)
    y = torch.tensor([[1.0], [1.0]])
    value = mmd(x, y)
    assert value.item() == pytest.approx(2 - 2 * math.exp(-0.5))
    value.backward()
    assert x.grad.isfinite().all() and (x.grad < 0).all()  # a step down goes towards y
    with pytest.raises(ValueError, match="x must be"):
        mmd(y[:1], y)
    with pytest.raises(ValueError, match="dimensions"):
        mmd(torch.zeros(3, 2), y)
    with pytest.raises(ValueError, match="width"):
        mmd(y, y, width=0)


# Factors ----------------------------------------------------------------------------------------------------


def two_factors():
    return torch.cartesian_prod(torch.arange(5), torch.arange(4))


def test_a_code_that_copies_the_factors_has_gap_one_a_rotated_one_less_and_noise_none():
    factors, small = two_factors(), torch.full((20, 3), -12.0)
    copied = torch.cat([factors.float(), torch.zeros(20, 1)], 1)
    entropy = factor_entropy(factors)
    torch.testing.assert_close(entropy, torch.tensor([5.0, 4.0]).double().log())
    found = factor_information(copied, small, factors)
    torch.testing.assert_close(found[:2].diag(), entropy)
    assert found[2].abs().max() < 1e-9 and mutual_information_gap(found, entropy) == pytest.approx(1, abs=1e-6)
    c = 0.5**0.5
    wide = torch.full((20, 3), -2.0)
    rotated = copied @ torch.tensor([[c, -c, 0], [c, c, 0], [0, 0, 1.0]])
    upright, turned = (mutual_information_gap(factor_information(m, wide, factors), entropy) for m in (copied, rotated))
    assert upright > 0.5 and turned < 0.15
    noise = factor_information(torch.zeros(20, 3), torch.zeros(20, 3), factors)
    assert noise.abs().max() < 1e-9 and mutual_information_gap(noise, entropy) == pytest.approx(0, abs=1e-9)


def test_information_is_that_of_samples_and_more_bins_tell_no_less():
    torch.manual_seed(0)
    factors = two_factors()
    mu, log_var = factors[:, :1] + 0.3 * torch.randn(20, 1), torch.full((20, 1), -1.5)
    n = torch.randint(20, (200_000,))
    z = (mu[n] + (0.5 * log_var[n]).exp() * torch.randn(len(n), 1)).squeeze(1)
    drawn = mutual_info_score((z / 0.1).round().long().numpy(), factors[n, 0].numpy())
    found = [factor_information(mu, log_var, factors[:, :1], bins=b).item() for b in (5, 10, 20, 40, 200, 800)]
    assert found[4] == pytest.approx(drawn, abs=0.01) and found[5] == pytest.approx(found[4], abs=1e-3)
    assert found == sorted(found)


def test_what_fits_no_gap_is_refused():
    good = torch.zeros(3, 2)
    for information, entropy in ((good[:1], torch.ones(2)), (good, torch.ones(3)), (good, torch.tensor([1.0, 0.0]))):
        with pytest.raises(ValueError, match="dimensions or more|entropy"):
            mutual_information_gap(information, entropy)
    with pytest.raises(TypeError, match="whole numbers"):
        factor_information(good, good, torch.rand(3, 2))
    with pytest.raises(ValueError, match="N = 3"):
        factor_information(good, good, two_factors())


# Sprites ----------------------------------------------------------------------------------------------------


def test_sprites_are_every_combination_once_and_stand_where_their_factors_say():
    made = sprites()
    assert made.names == ("shape", "scale", "x", "y") and len(made.images) == len(made.factors) == 3 * 3 * 9 * 9
    assert len(made.factors.unique(dim=0)) == len(made.factors)
    assert torch.equal(made.images.labels, made.factors[:, 0])
    x = made.images[:].squeeze(1)
    assert x.shape[1:] == (28, 28) and x.min() == 0 and x.max() == 1
    at = torch.arange(28) + 0.5 - 14
    ink = x.sum((1, 2))
    centre_x, centre_y = (x.sum(1) * at).sum(1) / ink, -(x.sum(2) * at).sum(1) / ink
    places = torch.linspace(-7, 7, 9)
    torch.testing.assert_close(centre_x, places[made.factors[:, 2]], rtol=0, atol=0.05)
    torch.testing.assert_close(centre_y, places[made.factors[:, 3]], rtol=0, atol=0.05)
    assert x[:, [0, -1]].sum() == 0 and x[:, :, [0, -1]].sum() == 0  # nothing is cut off
    square = ink[(made.factors[:, 0] == 0) & (made.factors[:, 1] == 2)]
    assert square.min() == pytest.approx(144, abs=1.5) and square.max() == pytest.approx(144, abs=1.5)
    disc = ink[(made.factors[:, 0] == 1) & (made.factors[:, 1] == 0)]
    assert disc.mean() == pytest.approx(math.pi * 9, rel=0.03)


def test_sprites_leave_out_what_does_not_vary_and_are_the_same_each_time():
    plain = sprites(shapes=1, scales=1, places=5, size=14)
    assert plain.names == ("x", "y") and plain.factors.shape == (25, 2) and plain.images.pixels.shape == (25, 1, 14, 14)
    assert torch.equal(plain.images.pixels, sprites(shapes=1, scales=1, places=5, size=14).images.pixels)
    for bad in (dict(shapes=4), dict(places=1), dict(scales=0)):
        with pytest.raises(ValueError, match=r"shapes|scales|at least 1"):
            sprites(**bad)


# Losses -----------------------------------------------------------------------------------------------------

SMALL = dict(input_shape=(1, 4, 4), latent_dim=3, hidden_dims=(8,))


def small(kind, **options):
    torch.manual_seed(0)
    return kind(**SMALL, **options)


def test_at_beta_one_a_tcvae_is_a_vae_and_above_it_pays_for_total_correlation():
    x = torch.rand(12, 1, 4, 4)
    plain, tc = small(VAE), small(TCVAE, size=100)
    torch.testing.assert_close(evaluate(tc, x).loss, evaluate(plain, x).loss, rtol=0, atol=0)
    terms = evaluate(tc, x, beta=5)
    torch.testing.assert_close(terms.loss, terms.recon + terms.kl + 4 * terms.tc)
    output = tc(x)
    parts = batch_rate_parts(output.z, output.mu, output.log_var, 100)
    assert parts.total_correlation.requires_grad and terms.tc.shape == (12,)


def test_more_test_images_than_training_images_are_evaluated():
    model, x = TCVAE(input_shape=(4,), latent_dim=2, size=10), torch.rand(30, 4)
    assert evaluate(model, x).tc.isfinite().all()
    with pytest.raises(ValueError, match="a batch of 2 to 10 images"):
        model.train().loss(x)


def test_infovae_holds_the_vae_and_the_mmd_vae():
    x = torch.rand(12, 1, 4, 4)
    plain = evaluate(small(VAE), x)
    torch.testing.assert_close(evaluate(small(InfoVAE, alpha=0, weight=1), x).loss, plain.loss)
    terms = evaluate(small(InfoVAE, weight=50), x)
    torch.testing.assert_close(terms.loss, terms.recon + 50 * terms.mmd)
    with pytest.raises(ValueError, match="alpha above 1"):
        small(InfoVAE, alpha=1.5)


@pytest.mark.parametrize(("kind", "options"), [(TCVAE, dict(size=64)), (InfoVAE, dict(weight=20.0, width=2.0))])
def test_they_train_and_are_saved_and_loaded(kind, options, tmp_path):
    model, x = small(kind, **options), torch.rand(64, 1, 1, 4).round().expand(-1, -1, 4, -1).clone()
    history = fit(model, x, epochs=12, batch_size=16, lr=1e-2, beta=2.0, show=False)
    assert history.train[-1].recon < history.train[0].recon
    save(model, tmp_path / "m.pt")
    again = load(tmp_path / "m.pt")
    assert type(again) is kind and again.config == model.config
    torch.testing.assert_close(evaluate(again, x).loss, evaluate(model, x).loss)


def test_a_higher_weight_of_total_correlation_leaves_less_of_it():
    """Blocks of four pixels, equal within a block: two numbers to say, and codes of two that may share them."""
    torch.manual_seed(0)
    x = torch.rand(256, 1, 2, 1).expand(-1, 1, 2, 4).clone()
    left = {}
    for beta in (1.0, 20.0):
        torch.manual_seed(0)
        model = TCVAE(
            input_shape=(1, 2, 4), latent_dim=2, hidden_dims=(16,), likelihood="gaussian", sigma=0.1, size=256
        )
        fit(model, x, epochs=40, batch_size=64, lr=1e-2, beta=beta, show=False)
        with torch.no_grad():
            left[beta] = rate_parts(*model.encode(x), samples=512).total_correlation.mean()
    assert left[20.0] < left[1.0] - 0.1


# The law of slopes --------------------------------------------------------------------------------------------


def test_trained_linear_vaes_fill_water_and_their_slopes_lie_between_their_betas():
    """The optimum is known: a direction of variance v keeps min(v, β σ²), and costs half the log of their ratio."""
    variances, noise = torch.tensor([1.0, 0.4, 0.1]), 0.05
    torch.manual_seed(0)
    white = torch.randn(1024, 3)
    white = (white - white.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T, correction=0)).T)
    x, points = white * variances.sqrt(), {}
    for beta in (0.5, 1.0, 4.0):
        model = VAE(input_shape=(3,), latent_dim=3, hidden_dims=(), likelihood="gaussian", sigma=noise**0.5)
        fit(model, x, epochs=36, batch_size=32, lr=lambda epoch: 0.02 if epoch < 24 else 0.001, beta=beta, show=False)
        terms = evaluate(model, x.repeat(16, 1)).map(torch.mean)
        points[beta] = terms.recon.item(), terms.kl.item()
        left = variances.clamp(max=beta * noise)
        assert terms.kl.item() == pytest.approx(0.5 * (variances / left).log().sum().item(), abs=0.1)
    for (b, (d, r)), (c, (e, s)) in itertools.pairwise(points.items()):
        assert b <= (e - d) / (r - s) <= c
