"""The adversarial pair: the losses at known densities, who moves whom, batch statistics, saving, and bad input."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from course_utils import evaluate, fit, load, log_likelihood, save
from course_utils.models.gan import GAN, discriminator_nll, generator_loss


def small(seed=0, **options):
    torch.manual_seed(seed)
    return GAN(**{"input_shape": (1, 8, 8), "latent_dim": 3, "hidden_dims": (16,), **options})


def conv(**options):
    return small(trunk="conv", hidden_dims=(8, 16), **options)


def images(n=12, shape=(1, 8, 8), seed=1):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=2e-3, betas=(0.5, 0.999))


# The two losses ------------------------------------------------------------------------------------------


def densities():
    """p and p_g on a fine grid, and its step: N(0, 1) and N(1, 1.5²)."""
    grid = torch.linspace(-14, 16, 6001, dtype=torch.float64)
    return *(Normal(m, s).log_prob(grid).exp() for m, s in ((0.0, 1.0), (1.0, 1.5))), grid[1] - grid[0]


def value(logit, p, q, step):
    """The discriminator's expected loss of two densities on a grid, by a sum."""
    zero = torch.zeros_like(logit)
    at_real, at_fake = discriminator_nll(logit, zero - 1e3), discriminator_nll(zero + 1e3, logit)
    return (p * at_real + q * at_fake).sum() * step


def test_the_best_discriminator_is_the_log_ratio_and_its_value_a_divergence():
    p, q, step = densities()
    best = (p / q).log()
    torch.testing.assert_close(best.sigmoid(), p / (p + q))
    middle = (p + q) / 2
    jsd = 0.5 * (torch.special.xlogy(p, p / middle) + torch.special.xlogy(q, q / middle)).sum() * step
    found = value(best, p, q, step)
    assert found.item() == pytest.approx((math.log(4) - 2 * jsd).item(), abs=1e-6)
    for change in (0.2 * torch.sin(torch.arange(len(p))), -0.3, 0.3):  # any other logit costs more
        assert value(best + change, p, q, step) > found + 1e-3
    logit = best.clone().requires_grad_()
    value(logit, p, q, step).backward()
    assert logit.grad.abs().max() < 1e-12
    assert value(torch.zeros_like(p), p, p, step).item() == pytest.approx(math.log(4), abs=1e-6)


def test_both_generators_losses_push_alike_and_only_one_fades_where_the_fake_is_found_out():
    logits = torch.tensor([-20.0, -8.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    share = logits.sigmoid().detach()
    for name, expected, slope in (
        ("non_saturating", -share.log(), share - 1),
        ("minimax", (1 - share).log(), -share),
    ):
        loss = generator_loss(logits, name)
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        torch.testing.assert_close(gradient, slope)
    assert generator_loss(torch.tensor([-1e4])).isfinite() and discriminator_nll(-logits, logits).isfinite().all()
    with pytest.raises(ValueError, match="minimax"):
        generator_loss(logits, "saturating")


# Who moves whom ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small, conv, lambda: small(objective="minimax")])
def test_each_player_is_moved_by_its_own_loss_alone(make):
    model, x = make(), images().requires_grad_()
    ours, theirs = list(model.generator.parameters()), list(model.discriminator.parameters())
    torch.manual_seed(0)
    terms = model.loss(x)
    assert torch.equal(terms.loss, terms.generator) and terms.names == ("loss", "generator", "discriminator")
    terms.generator.sum().backward(retain_graph=True)
    assert all(p.grad is None for p in theirs) and x.grad is None  # the real images say nothing to the generator
    assert all(p.grad.any() for p in ours)
    expected = [p.grad.clone() for p in ours]
    model.zero_grad()
    terms.discriminator.sum().backward(retain_graph=True)
    assert all(p.grad is None for p in ours) and all(p.grad.any() for p in theirs) and x.grad.any()
    expected += [p.grad.clone() for p in theirs]
    model.zero_grad()
    terms.loss.sum().backward()
    for parameter, gradient in zip([*ours, *theirs], expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_step_of_fit_raises_what_each_player_wants():
    """One small step of plain descent lowers both losses at the same noise."""

    def losses(model):
        torch.manual_seed(5)
        with torch.no_grad():
            terms = model.loss(x)
        return terms.generator.mean(), terms.discriminator.mean()

    x, moved = images(256), []
    for part in ("generator", "discriminator"):
        model = small(dropout=0.0)
        before = losses(model)
        held = [p for name, p in model.named_parameters() if not name.startswith(part)]
        for p in held:
            p.requires_grad_(False)
        fit(model, x, epochs=1, batch_size=256, show=False, optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
        after = losses(model)
        moved.append((after[0] < before[0], after[1] < before[1]))
    assert moved[0][0] and moved[1][1]


def test_the_discriminator_has_no_batch_statistics_and_the_generator_its_own_images_alone():
    model, x = conv(dropout=0.0), images()
    assert not any("BatchNorm" in type(layer).__name__ for layer in model.discriminator)
    together, alone = model.log_ratio(x), torch.cat([model.log_ratio(one[None]) for one in x])
    torch.testing.assert_close(together, alone)
    torch.manual_seed(3)
    first = model.loss(x).generator
    torch.manual_seed(3)
    torch.testing.assert_close(model.loss(1 - x).generator, first)  # other real images, the same generated ones


# Training and sampling -----------------------------------------------------------------------------------


def test_on_one_dimension_the_generator_finds_the_distribution():
    """Two bumps, at 0.25 and 0.75: both are found, and the discriminator ends near log 4."""
    torch.manual_seed(0)
    x = (0.25 + 0.5 * torch.randint(2, (4096, 1)) + 0.05 * torch.randn(4096, 1)).clamp(0, 1)
    model = GAN(input_shape=(1,), latent_dim=2, hidden_dims=(32, 32), dropout=0.0)
    history = fit(model, x, epochs=25, optimizer=adam, lr=1e-3, ema=0.99, show=False)
    made = model.sample(4000, generator=torch.Generator().manual_seed(1))
    assert 0.3 < (made < 0.5).float().mean() < 0.7
    assert made.std().item() == pytest.approx(x.std().item(), abs=0.08)
    assert abs(history.train[-1].discriminator - math.log(4)) < 0.3
    assert len(history.train) == 25 and history.train[0].names == ("loss", "generator", "discriminator")


@pytest.mark.parametrize("make", [small, conv, lambda: small(batch_norm=True)])
def test_it_is_saved_sampled_and_evaluated(make, tmp_path):
    model = make()
    fit(model, images(40), epochs=1, batch_size=20, optimizer=adam, show=False, checkpoint=tmp_path / "gan.pt")
    again = load(save(model, tmp_path / "again.pt"), kind=GAN)
    draw = lambda m, **kw: m.sample(4, generator=torch.Generator().manual_seed(2), **kw)  # noqa: E731
    assert torch.equal(draw(model), draw(again)) and torch.equal(draw(model), draw(load(tmp_path / "gan.pt")))
    assert draw(model).shape == (4, 1, 8, 8) and draw(model).min() >= 0 and draw(model).max() <= 1
    cold = draw(model, temperature=0.0)
    assert torch.equal(cold[0], cold[1])
    assert again.config == model.config and evaluate(again, images(5)).loss.shape == (5,)
    x, z = again(images(3))
    torch.testing.assert_close(again.generate(z), x)


def test_sampling_leaves_mode_and_averages_alone_and_each_image_is_made_by_itself():
    model = conv().train()
    model.discriminator.eval()  # a part that stays in its own mode
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, z = model(images(9))
    assert not torch.allclose(model.generate(z[:3]), x[:3])  # in train() an image depends on those beside it
    model.load_state_dict(before)
    made = model.sample(9, generator=torch.Generator().manual_seed(4))
    assert model.training and model.generator[1].training and not model.discriminator.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    z = torch.randn(9, 3, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(made[:3], model.eval().generate(z[:3]))


@pytest.mark.parametrize("shape", [(6,), (3, 9, 14)])
def test_shapes_follow_the_input(shape):
    for trunk, dims in (("mlp", (16, 8)), ("conv", (4, 8))):
        if trunk == "mlp" or len(shape) == 3:
            model = small(input_shape=shape, trunk=trunk, hidden_dims=dims)
            x = images(5, shape)
            assert model.sample(2).shape == (2, *shape) and model.log_ratio(x).shape == (5,)
            assert all(term.shape == (5,) for term in model.loss(x))
    with pytest.raises(ValueError, match=r"takes images \(channels"):
        small(input_shape=(6,), trunk="conv")


# Bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (dict(objective="wasserstein"), ValueError, "objective must be one of"),
        (dict(dropout=1.0), ValueError, "below 1"),
        (dict(dropout="0.3"), TypeError, "dropout must be a number"),
        (dict(latent_dim=0), ValueError, "latent_dim must be at least 1"),
        (dict(batch_norm="yes"), TypeError, "batch_norm must be"),
        (dict(trunk="unet"), ValueError, "trunk must be one of"),
        (dict(input_shape=64), TypeError, "shape of one example"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        small(**wrong)


def test_wrong_calls_are_refused():
    model = small()
    with pytest.raises(ValueError, match="no KL for beta"):
        model.loss(images(), beta=2.0)
    for wrong in (2 * images() - 1, images() * math.nan):
        with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
            model.loss(wrong)
    with pytest.raises(ValueError, match="x must be"):
        model.loss(torch.rand(3, 1, 9, 9))
    with pytest.raises(TypeError, match="no use for one"):
        model.inputs(images(), None, condition=lambda x, y: y)
    with pytest.raises(ValueError, match="n must be at least 1"):
        model.sample(0)
    with pytest.raises(ValueError, match="z must be"):
        model.generate(torch.randn(2, 4))
    with pytest.raises(TypeError, match="log_weights, which GAN has not"):
        log_likelihood(model, images(), samples=3)
    assert isinstance(model.generator, nn.Module)
