"""Flow matching, DDPM and latent diffusion: against closed forms, known densities and simulation."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from course_utils import VAE, Autoencoder, evaluate, fit, load, save
from course_utils.data.images import ImageData
from course_utils.data.load import load_images
from course_utils.models import CVAE, DDPM, MADEVAE, VQVAE, FlowMatching, LatentDiffusion
from course_utils.models.denoisers import UNet, time_embedding
from course_utils.models.diffusion import guided, straight_path, trajectory
from course_utils.models.priors import MixtureOfGaussians
from course_utils.models.quantisers import QUANTISERS

GAUSSIAN = MultivariateNormal(torch.tensor([1.0, -0.5]), torch.tensor([[0.8, 0.5], [0.5, 0.6]]))
MIXTURE = MixtureSameFamily(
    Categorical(torch.tensor([0.3, 0.7])),
    MultivariateNormal(
        torch.tensor([[-2.0, 0.0], [1.0, 1.0]]),
        torch.tensor([[[0.2, 0.0], [0.0, 0.4]], [[0.5, 0.3], [0.3, 0.5]]]),
    ),
)


def plane(kind=FlowMatching, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**{"input_shape": (2,), "hidden_dims": (64, 64), **options})


def drawn(distribution, n, seed=0):
    torch.manual_seed(seed)
    return distribution.sample((n,))


@pytest.fixture(scope="module")
def few():
    data = load_images("digits")
    return ImageData(data.train.subset(200), data.test.subset(50), "digits", "200 digits")


# Flow matching ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "room"), [(GAUSSIAN, 0.1), (MIXTURE, 0.3)], ids=["Gaussian", "mixture"])
def test_a_known_density_on_the_plane_is_recovered(data, room):
    model = plane(hidden_dims=(64, 64, 64))
    fit(model, drawn(data, 20_000), epochs=4, batch_size=250, lr=3e-3, ema=0.98, show=False)
    x = drawn(data, 400, seed=1)
    error = model.log_prob(x) - data.log_prob(x)
    assert error.abs().mean() < room and error.mean().abs() < room / 2
    torch.manual_seed(2)
    samples = model.sample(4000, steps=50)
    assert data.log_prob(samples).mean().item() == pytest.approx(data.log_prob(x).mean().item(), abs=0.15)
    torch.testing.assert_close(samples.mean(0), data.mean, rtol=0, atol=0.12)


def test_the_density_integrates_to_one_whatever_the_weights():
    model = plane(seed=3)
    with torch.no_grad():
        model.network.out.weight *= 5  # a flow that bends
    grid = torch.linspace(-8, 8, 81)
    points = torch.cartesian_prod(grid, grid)
    mass = model.log_prob(points, steps=10).exp().sum() * (grid[1] - grid[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=2e-3)


def test_the_loss_is_the_squared_error_of_the_velocity_and_time_runs_from_noise_to_data():
    model, x = plane(), drawn(GAUSSIAN, 50)
    torch.manual_seed(5)
    loss = model.loss(x).loss
    torch.manual_seed(5)
    t, noise = torch.rand(50), torch.randn(50, 2)
    at = torch.stack([(1 - t[i]) * noise[i] + t[i] * x[i] for i in range(50)])
    wanted = (model.velocity(at, t) - (x - noise)).square().sum(1)
    torch.testing.assert_close(loss, wanted)
    zeros, ones = torch.zeros(50), torch.ones(50)
    torch.testing.assert_close(straight_path(x, noise, zeros)[0], noise)
    torch.testing.assert_close(straight_path(x, noise, ones)[0], x)
    x_t, velocity = straight_path(x, noise, t)
    torch.testing.assert_close(x_t + (1 - t)[:, None] * velocity, x)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_solvers_err_at_their_order_on_a_known_field(solver, order):
    """dx/dt = t·x − 1 from x(0): an integral that has a closed form, checked at fine steps."""
    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)

    def field(x, t):
        return t[:, None] * x - 1

    s = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    exact = math.exp(0.5) * (x - torch.trapezoid((-0.5 * s**2).exp(), s))
    errors = []
    for steps in (8, 16, 32, 64):
        states = list(trajectory(field, x, steps=steps, solver=solver))
        assert len(states) == steps + 1 and torch.equal(states[0], x)
        errors.append((states[-1] - exact).abs().max().item())
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.15)
    *_, back = trajectory(field, exact, steps=64, solver=solver, start=1.0, end=0.0)
    torch.testing.assert_close(back, x, rtol=0, atol=4 * errors[-1])


def test_pixels_come_back_in_their_range_and_the_density_knows_of_the_scale():
    torch.manual_seed(0)
    model = FlowMatching(input_shape=(2,), hidden_dims=(16,), pixels=True)
    plain = FlowMatching(input_shape=(2,), hidden_dims=(16,))
    plain.load_state_dict(model.state_dict())
    x = torch.rand(5, 2)
    torch.testing.assert_close(model.log_prob(x), plain.log_prob(2 * x - 1) + 2 * math.log(2))
    chains = [plane(Known, steps=40, pixels=pixels) for pixels in (True, False)]
    for measure in (lambda chain, x: chain.bound(x), lambda chain, x: chain.loss(x).bound.double()):
        found = []
        for chain, data in zip(chains, (x, 2 * x - 1), strict=True):
            torch.manual_seed(2)
            found.append(measure(chain, data))
        torch.testing.assert_close(found[0], found[1] - 2 * math.log(2), rtol=1e-5, atol=1e-5)
    samples = model.sample(100, noise=3 * torch.randn(100, 2))
    assert samples.min() == 0 and samples.max() == 1
    for kind in (FlowMatching, DDPM):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            kind(input_shape=(2,), hidden_dims=(16,), pixels=True).loss(x + 1)


def test_a_u_net_takes_images_of_odd_sizes_and_learns(few):
    torch.manual_seed(0)
    model = FlowMatching(input_shape=(1, 28, 28), trunk="unet", hidden_dims=(8, 16, 16), pixels=True)
    history = fit(model, few, epochs=3, batch_size=50, lr=2e-3, show=False)
    assert history.test[-1].loss < 0.75 * history.test[0].loss
    assert model.sample(2, steps=2).shape == (2, 1, 28, 28)
    for size in ((3, 7, 5), (1, 13, 28)):
        x = torch.randn(2, *size)
        assert UNet(size, (8, 16, 16), None)(x, torch.rand(2)).shape == x.shape


# Time, labels, guidance ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FlowMatching, DDPM])
@pytest.mark.parametrize(("trunk", "shape", "dims"), [("mlp", (3,), (32, 32)), ("unet", (1, 8, 8), (8, 16))])
def test_time_and_label_reach_the_network(kind, trunk, shape, dims):
    torch.manual_seed(0)
    model = kind(input_shape=shape, trunk=trunk, hidden_dims=dims, classes=3).eval()
    x, y = torch.randn(4, *shape), torch.tensor([0, 1, 2, 0])
    early, late = (model.predict(x, torch.full((4,), t), y) for t in (0.2, 0.3))
    other, none = (model.predict(x, torch.full((4,), 0.2), label) for label in (y.roll(1), None))
    for one in (late, other, none):
        assert ((early - one).abs().flatten(1).amax(1) > 1e-4).sum() >= 3  # one label may be the same
    model.loss(x, y).loss.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_neighbouring_times_of_ddpm_are_told_apart():
    t = torch.arange(1, 1001) / 1000
    steps = time_embedding(t).diff(dim=0).norm(dim=1)
    assert steps.min() > 0.1
    assert time_embedding(t, 8).shape == (1000, 8)


@pytest.mark.parametrize("kind", [FlowMatching, DDPM])
def test_no_weight_is_no_guidance_and_a_weight_moves_away_from_no_class(kind):
    model = plane(kind, classes=3, **({"steps": 50} if kind is DDPM else {})).eval()
    x, t, y = torch.randn(6, 2), torch.rand(6), torch.tensor([0, 1, 2, 0, 1, 2])
    conditional, none = model.predict(x, t, y), model.predict(x, t)
    assert torch.equal(model.predict(x, t, y, guidance=0.0), conditional)
    torch.testing.assert_close(model.predict(x, t, y, guidance=2.0), conditional + 2 * (conditional - none))
    torch.testing.assert_close(model.predict(x, t, y, guidance=-1.0), none)
    torch.testing.assert_close(guided(conditional, none, 0.0), conditional)
    same = [
        model.sample(6, y, noise=x, generator=torch.Generator().manual_seed(1), **how) for how in ({}, {"guidance": 0})
    ]
    assert torch.equal(*same)
    more = model.sample(6, y, noise=x, generator=torch.Generator().manual_seed(1), guidance=2)
    assert not torch.allclose(more, same[0], atol=1e-3)


def test_labels_are_dropped_in_training_at_their_rate_and_nowhere_else():
    model, y = plane(classes=4, drop=0.25), torch.arange(4).repeat(5000)
    seen = model._training_labels(y, len(y))
    assert (seen == 4).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(seen[seen != 4], y[seen != 4])
    assert torch.equal(model.eval()._training_labels(y, len(y)), y)


def test_a_conditional_flow_draws_from_the_class_that_was_asked_for():
    """Two classes on the line, at −2 and 2: samples of a class, of none, and guided ones, which are further out."""
    torch.manual_seed(0)
    y = torch.arange(2).repeat(5000)
    x = (4 * y - 2)[:, None] + 0.5 * torch.randn(10_000, 1)
    model = FlowMatching(input_shape=(1,), hidden_dims=(64, 64), classes=2, drop=0.2)
    fit(model, (x, y), epochs=6, batch_size=250, lr=3e-3, ema=0.98, show=False)
    left, right, any_class, far = (
        model.sample(1000, y, guidance=w) for y, w in ((0, 0), (torch.ones(1000).long(), 0), (None, 0), (1, 3))
    )
    assert left.mean().item() == pytest.approx(-2, abs=0.25) and right.mean().item() == pytest.approx(2, abs=0.25)
    assert 0.3 < (any_class > 0).float().mean() < 0.7
    assert far.std() < right.std() or far.mean() > right.mean() + 0.1


# DDPM ---------------------------------------------------------------------------------------------------


def test_the_marginals_in_closed_form_are_those_of_the_chain():
    model = plane(DDPM, steps=50)
    torch.manual_seed(0)
    x = torch.tensor([1.5, -0.5]).expand(100_000, 2)
    chain, start = x, x
    for t in range(1, 51):
        beta = model.betas[t - 1].float()
        chain = (1 - beta).sqrt() * chain + beta.sqrt() * torch.randn_like(chain)
        if t in (1, 10, 30, 50):
            at_once = model.diffuse(start, torch.full((100_000,), t), torch.randn_like(start))
            torch.testing.assert_close(chain.mean(0), at_once.mean(0), rtol=0, atol=0.02)
            torch.testing.assert_close(chain.std(0), at_once.std(0), rtol=0, atol=0.02)
    assert model.kept[-1] < 1e-4  # what is left of the data at T


def test_the_schedule_is_the_papers():
    betas = DDPM(input_shape=(2,), hidden_dims=(4,)).betas
    torch.testing.assert_close(betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))


class Known(DDPM):
    """The best guess of the noise where the data are N(m, s² I): E[ε|x_t]."""

    m, s = 0.0, 1.0

    def noise(self, x, t, y=None, *, guidance=0.0):
        kept = self.kept[t - 1].view(-1, 1).to(x)
        return (1 - kept).sqrt() * (x - kept.sqrt() * self.m) / (kept * self.s**2 + 1 - kept)


def exact_log_prob(model, x):
    """log p(x) of the chain that ``Known`` makes, which is Gaussian: mean and variance, step by step."""
    mean, var = torch.zeros(()).double(), torch.ones(()).double()
    for beta, kept in zip(model.betas.flip(0), model.kept.flip(0), strict=True):
        slope = (1 - kept).sqrt() / (kept * model.s**2 + 1 - kept)  # of the guessed noise in x_t
        a = (1 - beta / (1 - kept).sqrt() * slope) / (1 - beta).sqrt()
        b = beta / (1 - kept).sqrt() * slope * kept.sqrt() * model.m / (1 - beta).sqrt()
        mean, var = a * mean + b, a**2 * var + beta
    return MultivariateNormal(mean.expand(2), var * torch.eye(2).double()).log_prob(x.double())


def test_the_bound_is_exact_where_the_chain_back_is_the_chain_forth():
    """Of N(0, I) data the reverse of the chain is the model itself: the bound is −log p(x), on average over noise."""
    model = plane(Known, steps=40)
    x = torch.tensor([[0.0, 0.0], [1.0, -1.0], [2.0, 0.5]])
    wanted = -MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(x)
    torch.testing.assert_close(-exact_log_prob(model, x).float(), wanted, rtol=0, atol=1e-3)
    torch.manual_seed(0)
    bounds = model.bound(x.repeat_interleave(40_000, 0)).view(3, -1)
    torch.testing.assert_close(bounds.mean(1).float(), wanted, rtol=0, atol=0.03)


def test_the_bound_lies_above_the_exact_value_elsewhere_and_the_loss_estimates_it():
    model = plane(Known, steps=60)
    model.m, model.s = 0.7, 0.5
    torch.manual_seed(0)
    x = 0.7 + 0.5 * torch.randn(30_000, 2)
    exact = -exact_log_prob(model, x).mean().item()
    bound = model.bound(x).mean().item()
    assert exact + 0.01 < bound < exact + 0.6
    estimates = torch.cat([model.loss(x).bound for _ in range(40)])
    assert estimates.mean().item() == pytest.approx(bound, abs=5 * estimates.std().item() / len(estimates) ** 0.5)


def test_the_simple_loss_is_the_error_of_the_noise():
    model, x = plane(DDPM, steps=50), drawn(GAUSSIAN, 30)
    torch.manual_seed(4)
    loss = model.loss(x).loss
    torch.manual_seed(4)
    t, noise = torch.randint(1, 51, (30,)), torch.randn(30, 2)
    wanted = (model.noise(model.diffuse(x, t, noise), t) - noise).square().sum(1)
    torch.testing.assert_close(loss, wanted)
    model.loss(x).loss.sum().backward()
    model.zero_grad()
    assert not model.loss(x).bound.requires_grad


def test_ancestral_sampling_draws_from_the_chain_that_the_bound_is_about():
    model = plane(Known, steps=60)
    model.m, model.s = 0.7, 0.5
    torch.manual_seed(0)
    x = model.sample(20_000)
    entropy = 1 + math.log(2 * math.pi) + 2 * x.std(0).log().mean().item()  # of a Gaussian as wide as the samples
    assert -exact_log_prob(model, x).mean().item() == pytest.approx(entropy, abs=0.02)
    assert x.mean().item() == pytest.approx(0.7, abs=0.02)
    states = list(model.states(3))
    assert len(states) == 61 and all(state.dtype == torch.float32 for state in states)


def test_the_last_step_adds_no_noise_and_the_network_is_told_a_share_of_the_steps():
    model, x = plane(DDPM, steps=50), drawn(GAUSSIAN, 20)
    noise, told = model.noise(x, torch.full((20,), 10)), model.predict(x, torch.full((20,), 0.2))
    torch.testing.assert_close(noise, told)
    *_, before, last = model.states(20, noise=x)
    beta, kept = model.betas[0].float(), model.kept[0].float()
    with torch.no_grad():
        guess = model.noise(before, torch.ones(20, dtype=torch.int64))
    wanted = (before - beta / (1 - kept).sqrt() * guess) / (1 - beta).sqrt()
    torch.testing.assert_close(last, wanted, rtol=1e-4, atol=1e-4)


def test_ddpm_learns_a_mixture():
    model = plane(DDPM, steps=100, hidden_dims=(64, 64, 64))
    fit(model, drawn(MIXTURE, 20_000), epochs=4, batch_size=250, lr=3e-3, ema=0.98, show=False)
    x = drawn(MIXTURE, 5000, seed=1)
    entropy = -MIXTURE.log_prob(x).mean().item()
    assert entropy < model.bound(x).mean().item() < entropy + 1.0
    assert -MIXTURE.log_prob(model.sample(2000)).mean().item() == pytest.approx(entropy, abs=0.6)


# Latent diffusion ---------------------------------------------------------------------------------------


class Stretched(nn.Module):
    """A code of two numbers of very different sizes, and no word about likelihoods."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([5.0, 0.01]))

    def encode(self, x):
        return x * self.factor + 3

    def decode(self, z):
        return (z - 3) / self.factor


@pytest.mark.parametrize("scaling", ["dimension", "one", "none"])
def test_scaling_makes_unit_variance_and_is_undone(scaling):
    autoencoder = Stretched()
    model = LatentDiffusion(autoencoder=autoencoder, prior=plane(), scaling=scaling)
    x = drawn(GAUSSIAN, 2000)
    if scaling != "none":
        with pytest.raises(ValueError, match=r"call measure\(images\)"):
            model.loss(x)
    codes = model.measure(x).encode(x)
    if scaling == "dimension":
        torch.testing.assert_close(codes.mean(0), torch.zeros(2), rtol=0, atol=1e-4)
        torch.testing.assert_close(codes.std(0), torch.ones(2), rtol=0, atol=1e-4)
    elif scaling == "one":
        assert codes.mean().abs() < 1e-4 and codes.std().item() == pytest.approx(1, abs=1e-4)
        assert codes[:, 0].std() > 100 * codes[:, 1].std()
    else:
        torch.testing.assert_close(codes, autoencoder.encode(x))
    torch.testing.assert_close(model.decode(codes), x, rtol=1e-3, atol=2e-3)
    noise = torch.randn(4, 2)
    torch.testing.assert_close(
        model.sample(4, noise=noise, steps=3),
        autoencoder.decode(model.prior.sample(4, noise=noise, steps=3) * model.scale + model.shift),
    )


def test_the_autoencoder_stays_as_it_is_and_the_prior_learns(few):
    torch.manual_seed(0)
    vae = VAE(latent_dim=4, hidden_dims=(32,))
    fit(vae, few.train, epochs=2, show=False)
    prior = FlowMatching(input_shape=(4,), hidden_dims=(32, 32), classes=10)
    model = LatentDiffusion(autoencoder=vae, prior=prior).measure(few.train[:])
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    history = fit(model, few, epochs=6, lr=5e-3, ema=0.9, show=False)
    assert history.train[-1].loss < history.train[0].loss
    for name, value in before.items():
        assert torch.equal(model.autoencoder.state_dict()[name], value) and torch.equal(vae.state_dict()[name], value)
    assert all(p.requires_grad for p in vae.parameters()) and not model.train().autoencoder.training
    codes = model.encode(few.train[:])
    torch.testing.assert_close(codes.std(0), torch.ones(4), rtol=0, atol=0.2)
    images = model.sample(3, torch.tensor([1, 2, 3]), guidance=1.0, steps=5)
    assert images.shape == (3, 1, 28, 28) and images.min() >= 0 and images.max() <= 1


def test_codes_are_drawn_or_the_means():
    torch.manual_seed(0)
    vae = VAE(input_shape=(6,), latent_dim=2, hidden_dims=(4,))
    x = torch.rand(500, 6)
    for sampled in (True, False):
        model = LatentDiffusion(autoencoder=vae, prior=plane(), scaling="none", sampled=sampled)
        assert torch.equal(model.encode(x), model.encode(x)) != sampled
    torch.testing.assert_close(model.encode(x), vae.encode(x)[0])


class Standard(nn.Module):
    """N(0, I) on scaled codes, given whatever class."""

    classes = 10

    def loss(self, z, y):
        return NotImplemented

    def sample(self, n, y=None):
        return NotImplemented

    def log_prob(self, z, y):
        return Normal(0.0, 1.0).log_prob(z).sum(1).double()


@pytest.mark.parametrize("scaling", ["dimension", "one", "none"])
def test_the_bound_is_in_nats_of_the_data_whatever_the_scale(scaling):
    torch.manual_seed(0)
    vae, x, y = VAE(input_shape=(6,), latent_dim=2, hidden_dims=(4,)), torch.rand(2000, 6), torch.zeros(2000).long()
    model = LatentDiffusion(autoencoder=vae, prior=Standard(), scaling=scaling).measure(x)
    with torch.no_grad():
        terms = model.bound(x, y)
        mu, log_var = vae.encode(x)
        torch.manual_seed(5)
        z = vae.reparameterize(mu, log_var)
        q, p = Normal(mu, (0.5 * log_var).exp()), Normal(model.shift, model.scale)
        torch.manual_seed(5)
        again = model.bound(x, y)
        torch.testing.assert_close(again.kl, (q.log_prob(z) - p.log_prob(z)).sum(1), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again.recon, vae.likelihood.nll(vae.decode(z), x))
    torch.testing.assert_close(terms.loss, terms.recon + terms.kl)
    if scaling == "none":  # the VAE's own bound
        assert terms.loss.mean().item() == pytest.approx(evaluate(vae, x).loss.mean().item(), abs=0.1)


def test_a_learned_prior_of_either_kind_takes_the_place_of_the_normal_one(few):
    torch.manual_seed(0)
    vae = VAE(latent_dim=2, hidden_dims=(16,))
    x, y = few.test[:10], few.test.labels[:10]
    for kind, how in ((FlowMatching, {"steps": 4}), (DDPM, {})):
        prior = plane(kind, hidden_dims=(8,), classes=10, **({"steps": 50} if kind is DDPM else {})).eval()
        model = LatentDiffusion(autoencoder=vae, prior=prior).measure(few.train[:])
        torch.manual_seed(1)
        terms = model.bound(x, y, **how)
        torch.manual_seed(1)
        codes = model.encode(x)
        log_p = prior.log_prob(codes, y, steps=4) if kind is FlowMatching else -prior.bound(codes, y)
        mu, log_var = vae.encode(x)
        z = codes * model.scale + model.shift
        log_q = Normal(mu, (0.5 * log_var).exp()).log_prob(z).sum(1)
        torch.testing.assert_close(terms.kl.double(), log_q - log_p + model.scale.log().sum(), rtol=1e-3, atol=1e-3)
    with pytest.raises(TypeError, match="a VAE with a likelihood"):
        LatentDiffusion(autoencoder=Stretched(), prior=plane(), scaling="none").bound(torch.zeros(3, 2))


def test_a_mixture_is_a_prior_too():
    torch.manual_seed(0)
    model = LatentDiffusion(autoencoder=Stretched(), prior=MixtureOfGaussians(2, 3))
    x = drawn(GAUSSIAN, 1000)
    history = fit(model.measure(x), x, epochs=3, lr=1e-2, show=False)
    assert history.train[-1].loss < history.train[0].loss and model.sample(5).shape == (5, 2)
    with pytest.raises(TypeError, match="Stretched cannot be saved"):
        save(model, "nowhere.pt")


# Saved, loaded, resumed ---------------------------------------------------------------------------------


def latent(trained=0):
    prior = DDPM(steps=40, input_shape=(3,), hidden_dims=(16, 16), classes=10)
    torch.manual_seed(trained)  # the prior is new each time, the autoencoder comes from elsewhere
    autoencoder = Autoencoder(latent_dim=3, hidden_dims=(16,))
    return LatentDiffusion(autoencoder=autoencoder, prior=prior, scaling="one")


MODELS = {
    "flow": lambda: FlowMatching(hidden_dims=(16, 16), classes=10, pixels=True),
    "flow, U-Net": lambda: FlowMatching(trunk="unet", hidden_dims=(8, 8), pixels=True),
    "DDPM": lambda: DDPM(steps=50, hidden_dims=(16, 16), pixels=True),
    "latent": latent,
}


@pytest.mark.parametrize("name", MODELS)
def test_training_goes_on_from_a_checkpoint_to_the_same_weights(name, few, tmp_path):
    def made(seed=0):
        torch.manual_seed(seed)
        model = MODELS[name]()
        return model.measure(few.train[:]) if name == "latent" else model

    how = dict(batch_size=100, ema=0.9, show=False)
    whole, path = made(), tmp_path / "model.pt"
    expected = fit(whole, few, epochs=3, **how)
    fit(made(), few, epochs=1, checkpoint=path, **how)
    resumed = made(seed=7)
    assert fit(resumed, few, epochs=3, checkpoint=path, **how).test == expected.test
    again = load(path)
    assert again.config == whole.config
    for model in (resumed, again):
        state = model.state_dict()
        assert all(torch.equal(state[key], value) for key, value in whole.state_dict().items())
    inputs = whole.inputs(few.test[:], few.test.labels)
    assert torch.equal(evaluate(again.eval(), *inputs).loss, evaluate(whole.eval(), *inputs).loss)
    images = [model.sample(2, generator=torch.Generator().manual_seed(0)) for model in (whole, again)]
    assert torch.equal(*images) and images[0].shape == (2, 1, 28, 28)


def test_training_does_not_go_on_with_another_autoencoder(few, tmp_path):
    path = tmp_path / "model.pt"
    fit(latent().measure(few.train[:]), few, epochs=1, checkpoint=path, show=False)
    other = latent(trained=1).measure(few.train[:])
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"other weights autoencoder\..*another file"):
        fit(other, few, epochs=2, checkpoint=path, show=False)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("posterior", ["planar", "coupling", "full"])
def test_codes_that_the_decoder_does_not_take_as_they_are_are_refused(posterior):
    with pytest.raises(ValueError, match="bends or quantises"):
        LatentDiffusion(autoencoder=VAE(latent_dim=2, posterior=posterior), prior=plane())
    for quantiser in QUANTISERS:
        with pytest.raises(ValueError, match="this VQVAE bends or quantises"):
            LatentDiffusion(autoencoder=VQVAE(quantiser=quantiser), prior=plane())
    for model in (MADEVAE(latent_dim=2), CVAE(input_dim=4, cond_dim=2, latent_dim=2)):
        with pytest.raises(TypeError, match=rf"codes alone, got {type(model).__name__}.decode\(z"):
            LatentDiffusion(autoencoder=model, prior=plane())


# What is refused ----------------------------------------------------------------------------------------

X, Y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plane(trunk="transformer"), ValueError, "trunk must be one of 'mlp', 'unet'"),
        (lambda: plane(trunk="unet"), ValueError, "cannot take inputs of shape"),
        (lambda: FlowMatching(trunk="unet", hidden_dims=(12,)), ValueError, "multiples of 8"),
        (lambda: plane(hidden_dims=()), TypeError, r"hidden_dims must be one or more widths.*got \(\)"),
        (lambda: plane(hidden_dims=256), TypeError, "hidden_dims must be one or more widths.*got 256"),
        (lambda: plane(classes=0), ValueError, "classes must be at least 1"),
        (lambda: plane(drop=1.5), ValueError, "drop is the share"),
        (lambda: plane(pixels=1), TypeError, "pixels must be True or False"),
        (lambda: plane(DDPM, steps=10), ValueError, "fewer than 40 steps"),
        (lambda: plane().loss(X, beta=2.0), ValueError, "no KL"),
        (lambda: plane(DDPM).loss(X, beta=2.0), ValueError, "no KL"),
        (lambda: plane().loss(torch.zeros(4, 3)), ValueError, r"x must be \(B, 2\)"),
        (lambda: plane().loss(X.double()), TypeError, "float32"),
        (lambda: plane().loss(X, Y), ValueError, "knows no classes"),
        (lambda: plane(classes=3).loss(X), ValueError, "3 classes is trained with labels"),
        (lambda: plane(DDPM, classes=3).loss(X), ValueError, "3 classes is trained with labels"),
        (lambda: plane().velocity(X[:, :1], Y[:4].float()), ValueError, r"x must be \(B, 2\)"),
        (lambda: plane().velocity(X, torch.zeros(3)), ValueError, r"t must be \(4,\)"),
        (lambda: plane().velocity(X, 0.5), TypeError, "t must be a torch.Tensor"),
        (lambda: guided(X, X[0], 1.0), ValueError, "same shape"),
        (lambda: time_embedding(torch.zeros(3), 5), ValueError, "even.*got 5"),
        (lambda: straight_path(X, X, 0.5), TypeError, "t must be a torch.Tensor"),
        (lambda: plane(DDPM).diffuse(X, [1] * 4, X), ValueError, r"whole numbers.*got \[1, 1, 1, 1\]"),
        (lambda: plane(classes=3).loss(X, Y + 4), ValueError, "labels must lie in 0…2"),
        (lambda: plane(classes=3).loss(X, Y[:2]), ValueError, "y must be 4 whole numbers"),
        (lambda: plane(classes=3).loss(X, Y.float()), ValueError, "whole numbers"),
        (lambda: plane().sample(3, 1), ValueError, "knows no classes"),
        (lambda: plane(classes=3).sample(3, guidance=2.0), ValueError, "guidance needs labels"),
        (lambda: plane().sample(3, guidance=2.0), ValueError, "guidance needs labels"),
        (lambda: plane().sample(0), ValueError, "n must be at least 1"),
        (lambda: plane().sample(3, steps=0), ValueError, "steps must be at least 1"),
        (lambda: plane().sample(3, solver="rk4"), ValueError, "solver must be one of"),
        (lambda: plane().sample(3, noise=X), ValueError, "noise must hold 3 examples"),
        (lambda: plane().inputs(X, Y, lambda x, y: y), TypeError, "condition is for a conditional model"),
        (lambda: straight_path(X, X[:2], torch.zeros(4)), ValueError, "same shape"),
        (lambda: straight_path(X, X, torch.zeros(4, 1)), ValueError, r"t must be \(4,\)"),
        (lambda: plane(DDPM).diffuse(X, Y, X), ValueError, "whole numbers from 1 to 1000"),
        (lambda: LatentDiffusion(autoencoder=nn.Linear(2, 2), prior=plane()), TypeError, "Linear has no encode"),
        (lambda: LatentDiffusion(autoencoder=Stretched(), prior=nn.Linear(2, 2)), TypeError, "Linear has no loss"),
        (
            lambda: LatentDiffusion(autoencoder=Stretched(), prior=plane(), scaling="unit"),
            ValueError,
            "scaling must be",
        ),
        (
            lambda: LatentDiffusion(autoencoder=Stretched(), prior=plane(input_shape=(3,))).measure(X),
            ValueError,
            r"codes are \(2,\) and the prior takes \(3,\)",
        ),
        (
            lambda: LatentDiffusion(autoencoder=Stretched(), prior=plane()).measure(X),
            ValueError,
            "codes of one constant number",
        ),
        (
            lambda: LatentDiffusion(autoencoder=Stretched(), prior=plane()).measure(X * math.nan),
            ValueError,
            "all of them finite; got 4",
        ),
        (
            lambda: LatentDiffusion(autoencoder=Stretched(), prior=plane()).measure(X[:1]),
            ValueError,
            "two or more codes.*got 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
