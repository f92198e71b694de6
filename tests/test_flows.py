"""Posteriors and priors: each density against its sampler, each log-determinant against autograd, the plain case."""

import itertools
import math

import pytest
import torch
from sklearn.mixture import GaussianMixture

from course_utils import VAE, evaluate, examine, fit, load, log_likelihood, save
from course_utils.evaluation import active_units, kl_per_dimension, log_evidence_on_grid
from course_utils.losses.terms import gaussian_kl, gaussian_kl_full
from course_utils.models.flows import Coupling, invertible_u, planar
from course_utils.models.posteriors import POSTERIORS, make_posterior
from course_utils.models.priors import CouplingFlowPrior, MixtureOfGaussians, StandardNormal, VampPrior
from course_utils.training.priors import fit_prior

B, F = 3, 5
FLOWS = ("planar", "coupling")


def shaken(module, scale=0.5, seed=0):
    """The module with weights that do something."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return module


def posterior(name, latent_dim=2, layers=3, seed=0):
    return shaken(make_posterior(name, latent_dim, F, layers), seed=seed).double()


def conditions(latent_dim=2, size=B):
    torch.manual_seed(1)
    mu, log_var = torch.randn(size, latent_dim), -torch.rand(size, latent_dim)
    return mu.double(), log_var.double(), torch.randn(size, F).double()


def priors(latent_dim=2):
    """One prior of each kind with weights that do something, in float64."""
    encoder = shaken(torch.nn.Linear(7, 2 * latent_dim), 0.3)
    made = {
        "standard": StandardNormal(latent_dim),
        "mixture": shaken(MixtureOfGaussians(latent_dim, 4)),
        "vamp": VampPrior(4, (7,), lambda u: encoder(u.float()).chunk(2, 1)),
        "coupling": shaken(CouplingFlowPrior(latent_dim, 4), 0.05),
    }
    return {name: prior.double() for name, prior in made.items()}


def square(reach, points):
    """The middles of points² cells, and the area of a cell; multiples of a cell's side are the cells' edges."""
    axis = (torch.arange(points, dtype=torch.float64) + 0.5) * (2 * reach / points) - reach
    return torch.cartesian_prod(axis, axis), (2 * reach / points) ** 2


def agree(z, log_density, grid, log_on_grid, volume, inside):
    """Samples, their log-densities, and the density on a grid tell of one distribution.

    The density integrates to 1, and its mass in each cell of a coarse lattice is the share of samples there; the mean
    of 1/q over the samples in a box is the box's volume.
    """
    mass = log_on_grid.exp() * volume
    assert mass.sum().item() == pytest.approx(1, abs=2e-3)
    for low, high in itertools.pairwise(torch.linspace(-3, 3, 5).tolist()):
        for axis in range(2):
            share = ((z[:, axis] > low) & (z[:, axis] <= high)).double().mean().item()
            there = mass[(grid[:, axis] > low) & (grid[:, axis] <= high)].sum().item()
            assert share == pytest.approx(there, abs=0.012), (low, high, axis)
    in_box = (z.abs() < inside).all(1)
    assert torch.where(in_box, (-log_density).exp(), 0.0).mean().item() == pytest.approx((2 * inside) ** 2, rel=0.05)


# --- maps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_a_planar_map_has_autograds_determinant(latent_dim):
    torch.manual_seed(0)
    z, u, w = (2 * torch.randn(6, latent_dim).double() for _ in range(3))
    b = torch.randn(6, 1).double()
    log_det = planar(z, u, w, b)[1]
    for i in range(6):
        jacobian = torch.autograd.functional.jacobian(lambda row, i=i: planar(row, u[[i]], w[[i]], b[[i]])[0], z[[i]])
        expected = torch.linalg.slogdet(jacobian.view(latent_dim, latent_dim))
        assert expected.sign == 1  # invertible: u is constrained
        assert log_det[i].item() == pytest.approx(expected.logabsdet.item(), abs=1e-10)


def test_any_u_is_made_invertible_and_zero_stays_zero():
    torch.manual_seed(0)
    u, w = 30 * torch.randn(2000, 4), torch.randn(2000, 4)
    made = invertible_u(u, w)
    assert ((w * u).sum(1) < -1).float().mean() > 0.4  # many would not have been
    assert ((w * made).sum(1) > -1).all()
    across = made - u
    cosine = torch.cosine_similarity(across, w, dim=1).abs()
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-3)  # moved along w only
    assert not invertible_u(torch.zeros(5, 4), torch.randn(5, 4)).any()
    unconstrained = u + 0 * w
    assert not ((w * unconstrained).sum(1) > -1).all()


def test_a_planar_map_is_monotone_along_w():
    z = torch.linspace(-5, 5, 999).double()[:, None]
    for u in (-40.0, -2.0, 0.0, 3.0):
        out, log_det = planar(z, torch.full_like(z, u), torch.full_like(z, 1.5), torch.full_like(z, 0.3))
        assert (out.diff(dim=0) > 0).all()
        assert log_det.isfinite().all()


@pytest.mark.parametrize(("latent_dim", "last"), [(2, True), (2, False), (5, True), (5, False)])
def test_a_coupling_has_autograds_determinant_and_its_inverse(latent_dim, last):
    coupling = shaken(Coupling(latent_dim, features=F, last=last)).double()
    z, context = torch.randn(4, latent_dim).double(), torch.randn(4, F).double()
    out, log_det = coupling(z, context)
    back, log_det_back = coupling.inverse(out, context)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(log_det_back, -log_det)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda row, i=i: coupling(row, context[[i]])[0], z[[i]])
        expected = torch.linalg.slogdet(jacobian.view(latent_dim, latent_dim)).logabsdet
        assert log_det[i].item() == pytest.approx(expected.item(), abs=1e-10)
    kept = slice(0, coupling.kept) if last else slice(-coupling.kept, None)
    assert torch.equal(out[:, kept], z[:, kept]) and not torch.equal(out, z)


# --- posteriors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("latent_dim", [2, 3])
def test_log_q_is_that_of_the_noise_less_autograds_determinant(name, latent_dim):
    q, (mu, log_var, features) = posterior(name, latent_dim), conditions(latent_dim)
    eps = torch.randn(B, latent_dim).double()
    z, log_q = q.rsample(mu, log_var, features, eps=eps)
    assert z.shape == (B, latent_dim) and log_q.shape == (B,) and log_q.dtype == torch.float64
    for i in range(B):

        def to_z(row, i=i):
            return q.rsample(mu[[i]], log_var[[i]], features[[i]], eps=row)[0]

        log_det = torch.linalg.slogdet(torch.autograd.functional.jacobian(to_z, eps[[i]]).view(latent_dim, -1))[1]
        base = torch.distributions.Normal(0, 1).log_prob(eps[i]).sum()
        assert log_q[i].item() == pytest.approx((base - log_det).item(), abs=1e-9)


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_posterior_integrates_to_1_and_agrees_with_its_sampler(name):
    """The density on the grid comes from the samples' own: a map of a fine square of noise, cell by cell."""
    q, (mu, log_var, features) = posterior(name), conditions(size=1)
    n = 100_000
    torch.manual_seed(2)
    rows = [part.expand(n, -1) for part in (mu, log_var, features)]
    z, log_q = q.rsample(*rows)
    eps, cell = square(5, 300)
    with torch.no_grad():
        mapped, log_density = q.rsample(*[part.expand(len(eps), -1) for part in (mu, log_var, features)], eps=eps)
    corner, _ = q.rsample(mu, log_var, features, eps=torch.zeros(1, 2).double())
    # Mass of q in half-planes, by noise (exact) and by samples; and 1/q, whose mean over a box is the box's volume.
    weight = torch.distributions.Normal(0, 1).log_prob(eps).sum(1).exp() * cell
    for direction in torch.randn(5, 2).double():
        inside = ((mapped - corner) @ direction > 0.2).double()
        assert ((z - corner) @ direction > 0.2).double().mean().item() == pytest.approx(
            (weight * inside).sum().item(), abs=0.01
        )
    reach = 0.4
    in_box = ((z - corner).abs() < reach).all(1)
    assert in_box.double().mean() > 0.02
    volume = torch.where(in_box, (-log_q).exp(), 0.0).mean().item()
    assert volume == pytest.approx((2 * reach) ** 2, rel=0.05)
    wrong = torch.where(in_box, (-(log_q + 2 * _log_det(q, mu, log_var, features, rows))).exp(), 0.0).mean().item()
    if name in FLOWS:  # the other sign of the log-determinant is caught
        assert wrong != pytest.approx((2 * reach) ** 2, rel=0.2)
    assert log_density.isfinite().all()


def _log_det(q, mu, log_var, features, rows):
    torch.manual_seed(2)
    eps = torch.randn_like(rows[0])
    return q.bend(*rows, eps)[1]


def test_the_full_gaussian_is_the_textbooks():
    q, (mu, log_var, features) = posterior("full", 3), conditions(3)
    factor = torch.autograd.functional.jacobian(
        lambda eps: q.rsample(mu, log_var, features, eps=eps)[0].sum(0), torch.zeros(B, 3).double()
    ).permute(1, 0, 2)  # (B, L, L)
    covariance = factor @ factor.mT
    eps = torch.randn(B, 3).double()
    z, log_q = q.rsample(mu, log_var, features, eps=eps)
    expected = torch.distributions.MultivariateNormal(mu, covariance).log_prob(z)
    torch.testing.assert_close(log_q, expected)
    kl = gaussian_kl_full(mu, covariance, torch.zeros(3).double(), torch.eye(3).double())
    many = [part.repeat(40_000, 1) for part in (mu, log_var, features)]
    z, log_q = q.rsample(*many)
    estimate = (log_q - StandardNormal(3).log_prob(z)).view(-1, B).mean(0)
    torch.testing.assert_close(estimate, kl, rtol=0.02, atol=0.02)


def test_names_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="posterior must be one of 'diagonal', 'full', 'planar', 'coupling'"):
        VAE(latent_dim=2, posterior="iaf")
    with pytest.raises(ValueError, match="prior must be one of"):
        VAE(latent_dim=2, prior="gmm")
    with pytest.raises(ValueError, match="at least 2"):
        VAE(latent_dim=1, posterior="coupling")
    with pytest.raises(ValueError, match="at least 2"):
        VAE(latent_dim=1, posterior="full")
    with pytest.raises(ValueError, match="VampPrior is made of Gaussian posteriors"):
        VAE(latent_dim=2, posterior="planar", prior="vamp")
    with pytest.raises(ValueError, match="eps and mu"):
        posterior("planar").rsample(*conditions(), eps=torch.zeros(B, 3).double())


# --- priors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", priors())
def test_a_prior_integrates_to_1_and_agrees_with_its_sampler(name):
    prior = priors()[name]
    torch.manual_seed(0)
    z = prior.sample(60_000)
    grid, volume = square(9, 360)
    with torch.no_grad():
        on_grid = torch.cat([prior.log_prob(part) for part in grid.split(50_000)])
        agree(z, prior.log_prob(z), grid, on_grid, volume, inside=0.5)
    assert torch.equal(prior.log_prob(grid[:6].view(2, 3, 2)), prior.log_prob(grid[:6]).view(2, 3))


def test_the_check_above_catches_public_mistakes():
    mixture = priors()["mixture"]
    torch.manual_seed(0)
    z, (grid, volume) = mixture.sample(60_000), square(9, 360)
    logits, mu, log_var = mixture.parts()
    normal = torch.distributions.Normal(mu, (0.5 * log_var).exp())

    def per_dimension(z):  # a product of mixtures
        return (normal.log_prob(z[:, None]) + logits.log_softmax(0)[:, None]).logsumexp(1).sum(1)

    with pytest.raises(AssertionError), torch.no_grad():
        agree(z, per_dimension(z), grid, per_dimension(grid), volume, inside=0.5)
    which = torch.distributions.Categorical(logits=logits).sample((60_000,))
    wide = mu[which] + log_var[which].exp() * torch.randn(60_000, 2)  # exp(log σ²) as σ
    with pytest.raises(AssertionError), torch.no_grad():
        agree(wide, mixture.log_prob(wide), grid, mixture.log_prob(grid), volume, inside=0.5)
    flow = priors()["coupling"]
    noise = torch.randn(60_000, 2).double()  # never sent through the flow
    with pytest.raises(AssertionError), torch.no_grad():
        agree(noise, flow.log_prob(noise), grid, flow.log_prob(grid), volume, inside=0.5)


def test_a_mixture_is_scikit_learns():
    torch.manual_seed(0)
    codes = torch.cat([torch.randn(300, 3) + 2, 0.5 * torch.randn(300, 3) - 1])
    found = GaussianMixture(2, covariance_type="diag", random_state=0).fit(codes.double())
    mixture = MixtureOfGaussians(3, 2).double()
    weights, mu, variances = (torch.as_tensor(part) for part in (found.weights_, found.means_, found.covariances_))
    with torch.no_grad():
        for parameter, value in zip(mixture.parts(), (weights.log(), mu, variances.log()), strict=True):
            parameter.copy_(value)
        expected = torch.as_tensor(found.score_samples(codes.double()))
        torch.testing.assert_close(mixture.log_prob(codes.double()), expected)


def test_temperature_shrinks_every_gaussian_and_a_generator_repeats_the_draw():
    mixture = priors()["mixture"]
    cold = mixture.sample(500, temperature=0.0)
    assert len(cold.unique(dim=0)) <= 4
    for prior in priors().values():
        first, second = (prior.sample(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(first, second) and first.shape == (5, 2)


# --- in the VAE -----------------------------------------------------------------------------------


def images(n=40):
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(0))


def vae(seed=0, **options):
    torch.manual_seed(seed)
    return VAE(input_shape=(6,), latent_dim=2, hidden_dims=(8,), components=3, **options)


COMBINATIONS = [c for c in itertools.product(POSTERIORS, priors()) if c[0] == "diagonal" or c[1] != "vamp"]


@pytest.mark.parametrize("name", ["full", *FLOWS])
def test_the_identity_gives_the_plain_vae_to_the_last_digit(name):
    plain, bent, x = vae(), vae(posterior=name), images()
    torch.manual_seed(1)
    first = plain(x)
    torch.manual_seed(1)
    for a, b in zip(first, bent(x), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(log_likelihood(plain, x, samples=7), log_likelihood(bent, x, samples=7))
    assert torch.equal(evaluate(plain, x).recon, evaluate(bent, x).recon)
    assert torch.equal(plain.reconstruct(x), bent.reconstruct(x))


def test_the_plain_vae_is_the_one_it_was():
    model, x = vae(), images()
    assert set(model.state_dict()) == {f"{part}.{kind}" for part in (
        "encoder.1", "heads.mu", "heads.log_var", "decoder.0", "decoder.2") for kind in ("weight", "bias")}  # fmt: skip
    torch.manual_seed(1)
    mu, log_var, z = model(x)[1:]
    torch.manual_seed(1)
    terms = model.loss(x)
    assert torch.equal(terms.kl, gaussian_kl(mu, log_var))
    torch.manual_seed(1)
    z, log_q = model.infer(x)
    expected = torch.distributions.Normal(mu, (0.5 * log_var).exp()).log_prob(z).sum(1)
    torch.testing.assert_close(log_q.float(), expected, rtol=1e-5, atol=1e-5)
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(2))
    assert torch.equal(model.sample(5, generator=generator), model.decode(noise).sigmoid())


@pytest.mark.parametrize(("q", "p"), COMBINATIONS)
def test_weights_and_terms_agree_with_the_exact_evidence(q, p):
    """E[exp(log w)] = p(x), which the grid knows; and −E[log w] is the loss."""
    model, x = vae(posterior=q, prior=p), images(4)
    for part in (model.posterior, model.prior):
        shaken(part, 0.03)
    shaken(model.decoder, 0.3)
    exact = log_evidence_on_grid(model, x, reach=9.0, points=301)
    with torch.no_grad():
        weights = model.log_weights(x, samples=20_000)
        many = model.loss(x.repeat(5_000, 1))
    torch.testing.assert_close(weights.logsumexp(0) - math.log(20_000), exact, rtol=0, atol=0.03)
    torch.testing.assert_close(-weights.mean(0), many.loss.view(-1, 4).double().mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(many.loss, many.recon + many.kl)


@pytest.mark.parametrize(("q", "p"), COMBINATIONS)
def test_every_combination_trains_is_saved_and_loaded(q, p, tmp_path):
    model, x = vae(posterior=q, prior=p), images()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fit(model, x, epochs=2, batch_size=10, show=False)
    still = [name for name, weight in model.state_dict().items() if torch.equal(weight, before[name])]
    assert not still
    again = load(save(model, tmp_path / "model.pt"))
    assert torch.equal(evaluate(model, x).loss, evaluate(again, x).loss)
    assert model.sample(3).shape == (3, 6)


@pytest.mark.parametrize(("q", "p"), [c for c in COMBINATIONS if c != ("diagonal", "standard")])
def test_what_needs_two_gaussians_refuses_in_words(q, p):
    model, x = vae(posterior=q, prior=p), images()
    for measure in (active_units, kl_per_dimension):
        with pytest.raises(TypeError, match=f"posterior='{q}' and prior='{p}'"):
            measure(model, x)
    for part in (model.posterior, model.prior):
        shaken(part, 0.2)
    found = examine(model, x)
    assert not [finding for finding in found.findings if finding.severity == "error"], found


def test_rebuilt_keeps_the_rest():
    plain, x = vae(), images()
    for changes in ({"posterior": "planar"}, {"prior": "mixture"}, {"prior": "vamp", "components": 5}):
        other = plain.rebuilt(**changes)
        assert torch.equal(other.encode(x)[0], plain.encode(x)[0])
        assert other.config == {**plain.config, **changes}
        other.decoder[0].weight.data += 1
        assert not torch.equal(other.decoder[0].weight, plain.decoder[0].weight)
    bent = vae(posterior="planar")
    with pytest.raises(ValueError, match="do not fit"):
        bent.rebuilt(prior="coupling", flow_layers=6)
    with pytest.raises(ValueError, match="do not fit"):
        plain.rebuilt(latent_dim=3)


def test_a_prior_fitted_afterwards_costs_fewer_nats_and_changes_nothing_else():
    x = images(300)
    plain = vae()
    fit(plain, x, epochs=5, batch_size=50, show=False)
    shaken(plain.heads.mu, 2.0)  # codes far from N(0, I)
    rate = evaluate(plain, x).kl.mean()
    for name in ("mixture", "vamp", "coupling"):
        fitted = fit_prior(name, plain, x, epochs=10)
        terms = evaluate(fitted, x)
        assert torch.equal(fitted.encode(x)[0], plain.encode(x)[0])
        assert terms.kl.mean() < rate - 0.3, name
    first, second = (fit_prior("mixture", plain, x, seed=3) for _ in range(2))
    assert torch.equal(first.prior.mu, second.prior.mu)
    with pytest.raises(ValueError, match="nothing that could be fitted"):
        fit_prior("standard", plain, x)
    with pytest.raises(ValueError, match="at least as many images"):
        fit_prior("mixture", plain, x[:2])
