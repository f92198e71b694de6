"""What is said to help against posterior collapse, schedules and floors; and a decoder that can do without a code."""

import itertools
import math

import pytest
import torch

from course_utils import VAE, evaluate, fit, load, log_likelihood, save
from course_utils.data.images import ImageData
from course_utils.data.load import load_images
from course_utils.evaluation import LinearGaussian, optimal_rates
from course_utils.losses import ChargedRate, capacity, free_bits, gaussian_kl_terms
from course_utils.models import MADE, MADEVAE
from course_utils.training import cyclical_beta, linear_beta


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# Schedules ------------------------------------------------------------------------------------------------


def test_a_linear_schedule_goes_from_start_to_end_and_stays():
    assert [linear_beta(4)(step) for step in range(1, 8)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [linear_beta(2, start=4, end=1)(step) for step in (1, 2, 3, 99)] == [4, 2.5, 1, 1]


def test_a_cyclical_schedule_begins_again_and_ends_at_the_end():
    beta = cyclical_beta(16, cycles=2, ramp=0.5)
    assert [beta(step) for step in range(1, 9)] == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert [beta(step) for step in range(9, 17)] == [beta(step) for step in range(1, 9)]
    assert {beta(step) for step in range(17, 40)} == {1.0}
    uneven = cyclical_beta(10, cycles=3, ramp=0.9, start=0.1, end=0.7)  # a cycle of 3⅓ steps
    assert [uneven(step) for step in (1, 2, 3, 4)] == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert uneven(5) == pytest.approx(0.1 + 0.6 * (0.2 / 0.9)) and uneven(11) == 0.7


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: linear_beta(0), ValueError),
        (lambda: linear_beta(2.5), TypeError),
        (lambda: linear_beta(5, end=-1), ValueError),
        (lambda: cyclical_beta(5, cycles=0), ValueError),
        (lambda: cyclical_beta(5, ramp=1.0), ValueError),
        (lambda: cyclical_beta(5, start="0"), TypeError),
    ],
)
def test_schedules_refuse_what_does_not_fit(make, error):
    with pytest.raises(error):
        make()


def test_fit_counts_the_schedule_s_steps_over_all_epochs():
    x, seen, schedule = torch.rand(20, 1, 28, 28), [], linear_beta(6)
    fit(
        VAE(latent_dim=2, hidden_dims=(4,)), x, epochs=4, batch_size=10, show=False,
        beta=lambda step: (seen.append((step, schedule(step))), schedule(step))[1],
    )  # fmt: skip
    by_step = dict(seen)
    assert sorted(by_step) == list(range(1, 9)) and by_step[4] == 0.5 and by_step[8] == 1


# Floors ---------------------------------------------------------------------------------------------------

KL = torch.tensor([[0.0, 3.0, 0.1], [0.8, 1.0, 0.1]], dtype=torch.float64)  # (B, L)


def test_the_three_meanings_of_free_bits_by_hand():
    torch.testing.assert_close(free_bits(KL, 0.5).mean(), torch.tensor(0.5 + 2.0 + 0.5).double())
    torch.testing.assert_close(free_bits(KL, 0.5, per="element"), torch.tensor([0.5 + 3 + 0.5, 0.8 + 1 + 0.5]).double())
    for floor, expected in ((2.0, 2.5), (2.7, 2.7)):
        found = free_bits(KL, floor, per="total").mean()
        torch.testing.assert_close(found, torch.tensor(expected).double())
    for per in ("dimension", "element", "total"):
        torch.testing.assert_close(free_bits(KL, 0.0, per=per).mean(), KL.sum(1).mean())


def test_free_bits_push_only_where_more_than_the_floor_is_paid():
    pushed = {
        ("dimension", 0.5): [[0, 1, 0], [0, 1, 0]],  # the first dimension's mean is 0.4
        ("element", 0.5): [[0, 1, 0], [1, 1, 0]],
        ("total", 0.5): [[1, 1, 1], [1, 1, 1]],
        ("total", 2.6): [[0, 0, 0], [0, 0, 0]],
    }
    for (per, floor), expected in pushed.items():
        kl = KL.clone().requires_grad_()
        free_bits(kl, floor, per=per).sum().backward()
        torch.testing.assert_close(kl.grad, torch.tensor(expected).double())


def test_per_dimension_its_mean_is_that_of_kingma_et_al():
    kl = gaussian_kl_terms(torch.randn(50, 6, dtype=torch.float64), torch.randn(50, 6, dtype=torch.float64))
    for floor in (0.3, 0.9, 2.0):
        by_definition = torch.maximum(kl.mean(0), torch.tensor(floor)).sum()
        torch.testing.assert_close(free_bits(kl, floor).mean(), by_definition)


def test_capacity_is_the_distance_of_the_mean_rate_and_pushes_towards_it():
    for nats, sign in ((1.0, 1.0), (4.0, -1.0)):
        kl = KL.clone().requires_grad_()
        charged = capacity(kl, nats)
        torch.testing.assert_close(charged.mean(), (KL.sum(1).mean() - nats).abs())
        charged.sum().backward()
        assert (kl.grad == sign).all()


def test_floors_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="'dimension'.*'total'.*'batch'"):
        free_bits(KL, 0.5, per="batch")
    for wrong in (lambda: free_bits(KL, -0.5), lambda: capacity(KL, -1), lambda: free_bits(KL.sum(1), 0.5)):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(TypeError, match="charge must be a function"):
        ChargedRate(VAE(latent_dim=2), 0.5)
    with pytest.raises(TypeError, match="MADE has no such posterior"):
        ChargedRate(MADE(input_shape=(4,)), lambda kl: free_bits(kl, 0.5))


VALUES = torch.tensor([4.0, 2.0, 1.5, 0.5, 0.2], dtype=torch.float64)  # of the data's covariance; σ² = 1
CONSTANT = 2.5 * math.log(2 * math.pi)


def best_linear_vae(beta, floor, per):
    """Rates (4,), distortion, −loss and the evidence of a linear VAE trained without sampling, by exact gradients."""
    x = torch.randn(20, 5, dtype=torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T, correction=0))).T
    x = x * VALUES.sqrt() @ torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    W, A = (torch.randn(5, 4, dtype=torch.float64).mul(0.3).requires_grad_() for _ in range(2))
    log_var = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([W, A, log_var])
    for step in range(700):
        optimizer.param_groups[0]["lr"] = 0.08 * 0.991**step
        mu = x @ A
        model = LinearGaussian(W, torch.zeros(5).double(), 1.0)
        terms = model.elbo(x, mu, log_var=log_var)
        kl_terms = gaussian_kl_terms(mu, log_var.expand_as(mu))
        optimizer.zero_grad()
        (terms.recon + beta * free_bits(kl_terms, floor, per=per)).mean().backward()
        optimizer.step()
    numbers = (terms.recon.mean(), -terms.loss.mean(), model.log_evidence(x).mean())
    return kl_terms.mean(0).detach(), *(number.item() for number in numbers)


@pytest.mark.parametrize(("beta", "floor"), [(1.0, 0.0), (0.4, 0.0), (1.0, 0.5), (1.0, 2.5)])
def test_the_best_linear_vae_has_the_rates_of_the_closed_form(beta, floor):
    found, distortion, elbo, evidence = best_linear_vae(beta, floor, "total")
    rates = optimal_rates(VALUES[:4], 1.0, beta=beta, floor=floor)
    assert found.sum() == pytest.approx(rates.sum().item(), abs=0.02)
    expected = 0.5 * (VALUES[:4] * (-2 * rates).exp()).sum() + 0.5 * VALUES[4:].sum() + CONSTANT
    assert distortion == pytest.approx(expected.item(), abs=0.02)
    if beta == 1 and floor <= 0.5:  # the floor does not bind: the maximum-likelihood model, with the exact posterior
        assert elbo == pytest.approx(evidence, abs=0.003)
        assert [rate > 0.01 for rate in found.sort(descending=True).values] == [True, True, True, False]


def test_with_a_floor_in_every_dimension_dimensions_repeat_each_other():
    """Closed form where every dimension ends on the floor f: any codes with a signal-to-noise ratio of e^2f − 1 each.

    They need not be at right angles: the precisions that directions i get, 1 + m_i, are any with Σ m_i = L(e^2f − 1).
    The best are in proportion to √λ_i. So the floors pay for less information, ½ Σ log(1 + m_i), than their sum.
    """
    floor = 0.5
    found, distortion, _, _ = best_linear_vae(2.0, floor, "dimension")
    torch.testing.assert_close(found, torch.full((4,), floor).double(), rtol=0, atol=0.03)
    root = VALUES[:4].sqrt()
    precision = root * (4 + 4 * (math.exp(2 * floor) - 1)) / root.sum()
    assert (precision > 1).all() and VALUES[4].sqrt() * precision[0] / root[0] < 1  # the fifth gets nothing
    expected = 0.5 * (VALUES[:4] / precision).sum() + 0.5 * VALUES[4:].sum() + CONSTANT
    assert distortion == pytest.approx(expected.item(), abs=0.02)
    assert 0.5 * precision.log().sum() < 4 * floor - 0.1
    one_each = 0.5 * (VALUES[:4] * math.exp(-2 * floor)).sum() + 0.5 * VALUES[4:].sum() + CONSTANT
    assert distortion < one_each - 0.05


def test_a_floor_under_the_total_is_a_smaller_beta():
    for floor in (1.5, 3.0, 6.0):
        rates = optimal_rates(VALUES, 1.0, floor=floor)
        assert rates.sum() == pytest.approx(floor)
        level = (VALUES * (-2 * rates).exp()).min().clamp(max=VALUES[0])
        speaking = rates > 0
        torch.testing.assert_close(rates, optimal_rates(VALUES, 1.0, beta=(VALUES * (-2 * rates).exp())[0].item()))
        assert level <= 1 and speaking.sum() >= 3


def test_optimal_rates_refuse_what_does_not_fit():
    ones = torch.ones(2)
    for values, sigma, beta in ((ones - ones, 1.0, 1.0), (ones, 0.0, 1.0), (ones, 1.0, 0.0), (torch.ones(2, 2), 1, 1)):
        with pytest.raises(ValueError):
            optimal_rates(values, sigma, beta=beta)


def test_an_objective_trains_the_model_in_it_and_leaves_its_elbo_alone():
    few = load_images("digits")
    few = ImageData(few.train.subset(200), few.test.subset(50), "digits", "250 digits")
    vae = VAE(latent_dim=3, hidden_dims=(16,))
    objective = ChargedRate(vae, lambda kl: free_bits(kl, 2.0, per="element"))
    x = few.test[:]
    plain, charged = evaluate(vae, x), evaluate(objective, x, beta=3.0)
    torch.testing.assert_close(charged.recon, plain.recon)
    torch.testing.assert_close(charged.kl, plain.kl)
    torch.testing.assert_close(charged.charged, torch.full((50,), 6.0))  # untrained, every KL is small
    torch.testing.assert_close(charged.loss, plain.recon + 18.0)
    history = fit(objective, few, epochs=30, lr=5e-3, batch_size=50, show=False)
    assert history.test[-1].names == ("loss", "recon", "kl", "charged")
    assert history.test[-1].kl > 4 > plain.kl.mean() and evaluate(vae, x).loss.mean() < plain.loss.mean()


# An autoregressive decoder --------------------------------------------------------------------------------

SIZES = [(), (9,), (3,), (12, 7)]


@pytest.mark.parametrize("dims", SIZES)
def test_a_logit_sees_the_pixels_before_its_own_and_the_code_and_nothing_else(dims):
    model, x, z = (
        MADEVAE(input_shape=(2, 3), latent_dim=2, hidden_dims=(5,), decoder_dims=dims),
        torch.rand(1, 2, 3),
        torch.randn(1, 2),
    )
    with torch.no_grad():
        for parameter in model.decoder.parameters():  # positive, so that nothing cancels and no ReLU is shut
            parameter.copy_(parameter.abs() + 0.1)
    by_x, by_z = torch.autograd.functional.jacobian(lambda x, z: model.decode(z, x).flatten(), (x, z.abs()))
    by_x = by_x.reshape(6, 6)
    assert (by_x[torch.ones(6, 6).triu().bool()] == 0).all()
    reachable = torch.ones(6, 6).tril(-1).bool()
    if not dims or min(dims) >= 5:
        assert (by_x[reachable] > 0).all()
    assert by_x[1:].sum(1).min() > 0 and (by_z != 0).all()


@pytest.mark.parametrize("dims", SIZES)
def test_without_a_code_the_likelihood_sums_to_one_over_all_images(dims):
    model = MADE(input_shape=(1, 2, 4), hidden_dims=dims)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # far from uniform
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8))).view(-1, 1, 2, 4)
    log_p = -model.loss(every).loss
    torch.testing.assert_close(log_p.logsumexp(0), torch.tensor(0.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(log_likelihood(model, every, samples=3), log_p.double(), rtol=1e-5, atol=1e-5)
    drawn = model.sample(40_000, generator=torch.Generator().manual_seed(0))
    counts = (drawn.flatten(1) @ (2.0 ** torch.arange(7, -1, -1))).long().bincount(minlength=256)
    assert (counts / 40_000 - log_p.exp()).abs().max() < 0.008 and set(drawn.unique().tolist()) == {0, 1}


def test_with_a_code_the_bound_lies_below_the_evidence_by_quadrature():
    model = MADEVAE(input_shape=(5,), latent_dim=1, hidden_dims=(6,), decoder_dims=(7,))
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    z = torch.linspace(-8, 8, 2001)
    log_pz = torch.distributions.Normal(0.0, 1.0).log_prob(z) + math.log(16 / 2000)
    with torch.no_grad():
        log_px = torch.stack(
            [-model.likelihood.nll(model.decode(z[:, None], x_.expand(2001, -1)), x_.expand(2001, -1)) for x_ in x]
        )
    evidence = (log_px + log_pz).logsumexp(1)
    torch.testing.assert_close(evidence.logsumexp(0), torch.tensor(0.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(log_likelihood(model, x, samples=20_000).float(), evidence, rtol=0, atol=0.02)
    elbo = -torch.stack([evaluate(model, x, seed=seed).loss for seed in range(300)]).mean(0)
    assert (elbo < evidence + 0.02).all() and (evidence - elbo).mean() > 0.01


def test_it_is_trained_saved_and_drawn_from(tmp_path):
    few = load_images("digits")
    few = ImageData(few.train.subset(200), few.test.subset(50), "digits", "250 digits")
    for model in (MADE(hidden_dims=(16,)), MADEVAE(latent_dim=3, hidden_dims=(16,), decoder_dims=())):
        path = tmp_path / f"{type(model).__name__}.pt"
        history = fit(model, few, epochs=3, batch_size=50, binarize="dynamic", checkpoint=path, show=False)
        assert history.test[-1].loss < history.test[0].loss
        again = load(save(model, tmp_path / "again.pt"), kind=type(model))
        assert again.config == model.config and load(path).config == model.config
        x = few.test[:10].round()
        torch.testing.assert_close(evaluate(again, x).loss, evaluate(model, x).loss)
        draws = [again.sample(3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert draws[0].shape == (3, 1, 28, 28) and torch.equal(*draws[:2]) and not torch.equal(*draws[1:])
    assert set(again.reconstruct(x).unique().tolist()) == {0, 1} and again.reconstruct(x).shape == x.shape


def test_a_made_vae_refuses_what_does_not_fit():
    model = MADEVAE(input_shape=(4,), latent_dim=2, hidden_dims=(3,))
    with pytest.raises(ValueError, match="3 images and 2 codes"):
        model.decode(torch.zeros(2, 2), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="activation"):
        MADE(input_shape=(4,), hidden_dims=(), activation="gelu")
    with pytest.raises(TypeError, match="hidden_dims"):
        MADEVAE(input_shape=(4,), latent_dim=2, decoder_dims=3)
