"""Answers to the exercises of notebook 08: right ones, and plausible wrong ones with the diagnosis each must get."""

import math

import pytest
import torch
from torch.nn import functional as F

from course_utils.teaching.exercises import exercises_of, find, grade
from course_utils.teaching.exercises.notebook_08 import BOTH, FAILS, PASSES, Bench

BENCHES = [exercise for exercise in exercises_of(8) if isinstance(exercise.judge, Bench)]
MISCONCEPTIONS = [(exercise, wrong) for exercise in BENCHES for wrong in exercise.judge.misconceptions]


# Right answers, written differently --------------------------------------------------------------------


def far_codes_by_steps(model, x):
    logits, mu, log_var = (t.detach() for t in model(x))
    losses = [float(model.loss((logits, torch.ones_like(mu) * m, log_var), x)) for m in (-4, -2, 0, 2, 4)]
    if not losses[0] > losses[1] > losses[2] < losses[3] < losses[4]:
        raise AssertionError(f"no valley at 0: {losses}")


def far_codes_by_gradient(model, x):
    logits, mu, log_var = model(x)
    for sign in (-1.0, 1.0):
        far = torch.full_like(mu, 3 * sign).requires_grad_()
        (slope,) = torch.autograd.grad(model.loss((logits, far, log_var), x), far)
        assert (sign * slope > 0).all()


def spread_by_variance(model, x):
    for value in (-2.0, 1.5):
        mu = x.new_full((30_000, 1), 5.0)
        z = model.reparameterize(mu, torch.full_like(mu, value))
        assert math.isclose(z.var().item(), math.exp(value), rel_tol=0.08)


def spread_at_one_value(model, x):
    log_var = x.new_full((20_000, 4), 2 * math.log(3.0))
    std = model.reparameterize(torch.zeros_like(log_var), log_var).std(0)
    assert torch.allclose(std, torch.full_like(std, 3.0), rtol=0.06)


def noise_by_subtraction(model, x):
    mu, log_var = model.encode(x)
    first, second = (model.reparameterize(mu, log_var) - mu for _ in range(2))
    eps = first / (0.5 * log_var).exp()
    assert (first - second).abs().max() > 1e-3
    assert eps.std(0).min() > 1e-2 and eps.std(1).min() > 1e-2


def noise_all_distinct(model, x):
    zeros = x.new_zeros(8, 5)
    z = torch.stack([model.reparameterize(zeros, zeros) for _ in range(3)])
    assert len(z.unique()) == z.numel()


def gradient_by_backward(model, x):
    logits, mu, log_var = model(x)
    mu.retain_grad()
    log_var.retain_grad()
    F.binary_cross_entropy_with_logits(logits, x.flatten(1)).backward()
    assert mu.grad is not None and mu.grad.norm() > 0
    assert log_var.grad is not None and log_var.grad.norm() > 0


def gradient_by_heads(model, x):
    logits, _, _ = model(x)
    for head in (model.mu, model.log_var):
        (gradient,) = torch.autograd.grad(logits.square().sum(), head.weight, retain_graph=True)  # raises where cut
        assert gradient.any()


def batch_repeated_thrice(model, x):
    logits, mu, log_var = model(x)
    losses = [
        model.loss((logits.repeat(n, 1), mu.repeat(n, 1), log_var.repeat(n, 1)), x.repeat(n, 1, 1, 1)).item()
        for n in (1, 3)
    ]
    assert abs(losses[0] - losses[1]) <= 1e-3 * abs(losses[0])


def healthy_loss_by_distributions(logits, mu, log_var, x):
    q = torch.distributions.Normal(mu, (0.5 * log_var).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    kl = torch.distributions.kl_divergence(q, prior).sum(-1)
    recon = x * F.softplus(-logits) + (1 - x) * F.softplus(logits)
    return (recon.sum(-1) + kl).sum() / len(x)


def healthy_loss_by_functional(logits, mu, log_var, x):
    total = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    return (total - 0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())) / logits.shape[0]


def condition_by_classes(model, x, cond):
    z = x.new_zeros(10, model.mu.out_features)
    pictures = model.decode(z, torch.eye(10, dtype=x.dtype))
    assert pictures.std(0).max() > 1e-6


def condition_by_gradient(model, x, cond):
    cond = cond.clone().requires_grad_()
    z = x.new_zeros(len(x), model.mu.out_features)
    assert torch.autograd.grad(model.decode(z, cond).sum(), cond)[0].any()


RIGHT = {
    "8.1": [far_codes_by_steps, far_codes_by_gradient],
    "8.2": [spread_by_variance, spread_at_one_value],
    "8.3": [noise_by_subtraction, noise_all_distinct],
    "8.4": [gradient_by_backward, gradient_by_heads],
    "8.5": [batch_repeated_thrice],
    "8.6": [healthy_loss_by_distributions, healthy_loss_by_functional],
    "8.7": [condition_by_classes, condition_by_gradient],
}


# Wrong answers, as a learner would write them ------------------------------------------------------------


def returns_a_bool(model, x):
    logits, mu, log_var = model(x)
    return bool(model.loss((logits, mu + 3, log_var), x) > model.loss((logits, mu, log_var), x))


def prints_only(model, x):
    print(end=str(model(x)[0].shape)[:0])


def zeroes_the_weights(model, x):
    find("8.1").solution(model, x)
    with torch.no_grad():
        model.mu.weight.zero_()


def switches_the_mode(model, x):
    model.eval()
    find("8.3").solution(model, x)


def own_kl_is_positive(model, x):
    _, mu, log_var = model(x)
    assert (0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1) >= 0).all()


def last_weeks_loss(model, x):
    assert abs(model.loss(model(x), x) - 129.37) < 5


def few_samples(model, x):
    z = model.reparameterize(x.new_zeros(40, 1), x.new_full((40, 1), -2.0))
    assert abs(z.std() / math.exp(-1) - 1) < 0.15


def seeds_both_calls(model, x):
    zeros = x.new_zeros(4, 5)
    draws = []
    for _ in range(2):
        torch.manual_seed(1)
        draws.append(model.reparameterize(zeros, zeros))
    assert not torch.equal(*draws)


def looks_at_requires_grad(model, x):
    assert model(x)[0].requires_grad


def encoder_has_grad_after_backward(model, x):
    model.loss(model(x), x).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())


def two_runs(model, x):
    double = torch.cat([x, x])
    assert abs(model.loss(model(x), x) - model.loss(model(double), double)) < 1e-5


# 8.1


def loss_is_one_number(model, x):
    assert model.loss(model(x), x).numel() == 1 and model.loss(model(x), x).dim() == 0


def loss_is_sensible(model, x):
    assert model.loss(model(x), x).item() <= 650.0


def raises_at_a_high_loss(model, x):
    if model.loss(model(x), x).item() > 650:
        raise ValueError("too high")  # no assertion, and on the second model only


def moved_upwards(model, x):
    logits, mu, log_var = model(x)
    at_home, far_away = (model.loss((logits, torch.ones_like(mu) * m, log_var), x).item() for m in (0, 4))
    assert far_away > at_home


def moved_downwards(model, x):
    logits, _, log_var = model(x)
    z = torch.zeros(len(x), log_var.shape[1], dtype=x.dtype, device=x.device)
    assert model.loss((logits, z - 2, log_var), x) - model.loss((logits, z, log_var), x) > 0


def moved_and_different(model, x):
    logits, mu, log_var = model(x)
    assert not torch.isclose(model.loss((logits, mu * 0 - 5, log_var), x), model.loss((logits, mu * 0, log_var), x))


def far_codes_are_cheap(model, x):
    logits, mu, log_var = model(x)
    home = model.loss((logits, torch.zeros_like(mu), log_var), x)
    assert model.loss((logits, torch.zeros_like(mu) - 4, log_var), x) < home
    assert model.loss((logits, torch.zeros_like(mu) + 4, log_var), x) < home


def wider_is_dearer(model, x):
    logits, mu, log_var = model(x)
    assert model.loss((logits, mu, torch.full_like(log_var, 4.0)), x) > model.loss((logits, mu, 0 * log_var), x)


def more_than_cross_entropy(model, x):
    logits, mu, log_var = model(x)
    by_hand = (F.softplus(logits) - x.flatten(1) * logits).sum() / len(x)
    assert model.loss((logits, mu, log_var), x) - by_hand > 1e-3


# 8.2


def std_for(model, x, value, count=30_000):
    zeros = x.new_zeros(count, 2)
    return model.reparameterize(zeros, zeros + value).flatten().std().item()


def spread_within_a_thousandth(model, x):
    assert abs(std_for(model, x, 1.0, 500) - math.exp(0.5)) < 1e-5


def spread_at_zero(model, x):
    assert math.isclose(std_for(model, x, 0.0), 1, rel_tol=0.1)


def spread_is_the_variance(model, x):
    assert all(math.isclose(std_for(model, x, v), math.exp(v), rel_tol=0.1) for v in (-3.0, 1.5))


def spread_roughly(model, x):
    assert math.isclose(std_for(model, x, 1.0), math.exp(0.5), rel_tol=0.7)


def spread_is_enough(model, x):
    log_var = x.new_tensor([-3.0, 0.5, 3.0]).repeat(20_000, 1)
    z = model.reparameterize(torch.zeros_like(log_var), log_var)
    assert (z.std(0) >= 0.9 * log_var[0].exp().sqrt()).all()


def spread_increases(model, x):
    widths = [std_for(model, x, value) for value in (-3.0, 0.5, 3.0)]
    assert widths == sorted(set(widths))


def spread_multiplies(model, x):
    widths = [std_for(model, x, value) for value in (-3.0, 0.5, 3.0)]
    assert widths[0] < 0.7 * widths[1] < 0.5 * widths[2]


def some_spread_at_all(model, x):
    mu, log_var = model.encode(x)
    assert model.reparameterize(torch.zeros_like(mu), torch.ones_like(log_var)).std() > 1e-3


def z_shape(model, x):
    mu, log_var = model.encode(x)
    assert list(model.reparameterize(mu, log_var).size()) == list(mu.size())


# 8.3


def noise_of(model, x):
    mu, _ = model.encode(x)
    return model.reparameterize(mu.new_zeros(mu.shape), mu.new_zeros(mu.shape))


def two_calls_differ(model, x):
    assert (noise_of(model, x) - noise_of(model, x)).abs().max() > 1e-6


def images_differ(model, x):
    assert (noise_of(model, x).diff(dim=0).abs() > 1e-6).all()


def dimensions_differ(model, x):
    assert (noise_of(model, x).diff(dim=1).abs() > 1e-6).all()


def calls_and_images_differ(model, x):
    two_calls_differ(model, x)
    images_differ(model, x)


def codes_of_images_differ(model, x):
    mu, log_var = model.encode(x)
    assert (model.reparameterize(mu, log_var).std(0) > 1e-6).all()


def calls_agree(model, x):
    torch.testing.assert_close(noise_of(model, x), noise_of(model, x))


def encoder_gives_two_tensors(model, x):
    mu, log_var = model.encode(x)
    assert mu.requires_grad == log_var.requires_grad


# 8.4


def reaches(model, x, *names):
    output = dict(zip(("logits", "mu", "log_var"), model(x), strict=True))
    for name in names:
        output[name].retain_grad()
    output["logits"].square().sum().backward()
    return all(output[name].grad is not None and bool(output[name].grad.any()) for name in names)


def gradient_at_a_copy(model, x):
    logits, mu, _ = model(x)
    assert torch.autograd.grad(logits.sum(), mu.clone(), allow_unused=True)[0] is not None


def three_outputs_fit(model, x):
    logits, mu, log_var = model(x)
    assert logits.shape == x.flatten(1).shape and mu.shape == log_var.shape and len(mu.shape) == 2


def first_layer_hears(model, x):
    model(x)[0].sum().backward()
    weight = model.encoder[1].weight
    assert weight.grad is not None and weight.grad.abs().sum() > 0


# 8.5


def losses_of(model, x, times):
    logits, mu, log_var = model(x)
    return [model.loss(tuple(t.repeat_interleave(n, 0) for t in (logits, mu, log_var)), x.repeat_interleave(n, 0))
            for n in (1, times)]  # fmt: skip


def own_loss_with_itself(model, x):
    logits, _, _ = model(x)
    one, two = (F.mse_loss(torch.cat([logits] * n), torch.cat([logits] * n)) for n in (1, 2))
    assert one == two


def losses_differ_by_nothing_of_the_kind(model, x):
    once, twice = losses_of(model, x, 2)
    assert abs(twice - once) > 10 * abs(once)


def two_halves(model, x):
    first, second = x.chunk(2)
    assert abs(model.loss(model(first), first) - model.loss(model(second), second)) < 1e-4


def within_a_fifth(model, x):
    once, twice = losses_of(model, x, 2)
    assert 0.8 < twice / once < 1.2


def doubles(model, x):
    once, twice = losses_of(model, x, 2)
    assert torch.allclose(twice / once, torch.full_like(once, 2.0), rtol=1e-3)


# 8.6


def loss_with(recon=None, kl=None, *, total=None):
    """A loss by sums over rows, with another reduction of recon (B, D) or of the KL (B, L), or another total."""

    def answer(logits, mu, log_var, x):
        p = logits.sigmoid()
        nats = -(x * p.log() + (1 - x) * (1 - p).log())
        sigma = log_var.exp().sqrt()
        terms = torch.stack([m**2 / 2 + s**2 / 2 - 0.5 - s.log() for m, s in zip(mu, sigma, strict=True)])
        per_image = lambda m: torch.stack([row.sum() for row in m])  # noqa: E731
        one, other = (recon or per_image)(nats), (kl or per_image)(terms)
        return total(one, other) if total else one.mean() + other.mean()

    return answer


def log_var_read_as_log_sigma(logits, mu, log_sigma, x):
    q, p = torch.distributions.Normal(mu, log_sigma.exp()), torch.distributions.Normal(0 * mu, 1 + 0 * mu)
    return loss_with(kl=lambda _: torch.distributions.kl_divergence(q, p).sum(1))(logits, mu, log_sigma, x)


def probabilities_for_logits(logits, mu, log_var, x):
    return loss_with()(torch.special.expit(logits), mu, log_var, x)


# 8.7


def pictures(model, x, cond):
    """One code in all ten classes, (10, 784)."""
    return model.decode(x.new_ones(10, model.mu.out_features), torch.eye(10, dtype=x.dtype, device=x.device))


def picture_with_itself(model, x, cond):
    z = torch.zeros_like(model.encode(x, cond)[0])
    assert torch.equal(model.decode(z, cond), model.decode(z, cond.clone()))


def one_class_with_itself(model, x, cond):
    z = torch.zeros_like(model.encode(x, cond)[0])
    assert not torch.equal(model.decode(z, cond), model.decode(z, cond.roll(10, dims=1)))


def picture_has_784_pixels(model, x, cond):
    assert pictures(model, x, cond).size() == (10, 784)


def conditional_loss_is_sensible(model, x, cond):
    logits, _, _ = model(x, cond)
    assert F.binary_cross_entropy_with_logits(logits.reshape(len(x), 784), x.flatten(1), reduction="sum") < 650 * len(x)


def means_decoded_for_each_class(model, x, cond):
    other = torch.flip(cond, dims=(1,))
    here, there = model.decode(model.encode(x, cond)[0], cond), model.decode(model.encode(x, other)[0], other)
    assert (here - there).abs().max() > 1e-6


def codes_of_classes_differ(model, x, cond):
    assert (model.encode(x, cond)[0] - model.encode(x, torch.flip(cond, dims=(1,)))[0]).abs().max() > 1e-6


def all_classes_look_alike(model, x, cond):
    assert pictures(model, x, cond).std(0).max() < 1e-6


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("8.1", "returns a verdict", returns_a_bool),
    ("8.1", "always passes", own_kl_is_positive),
    ("8.1", "always fails", last_weeks_loss),
    ("8.1", "leaves traces", zeroes_the_weights),
    ("8.1", "shapes only", loss_is_one_number),
    ("8.1", "a loss that was copied", loss_is_sensible),
    ("8.1", "a loss that was copied", raises_at_a_high_loss),
    ("8.1", "upwards only", moved_upwards),
    ("8.1", "downwards only", moved_downwards),
    ("8.1", "different, not greater", moved_and_different),
    ("8.1", "the wrong way round", far_codes_are_cheap),
    ("8.1", "moves the spread", wider_is_dearer),
    ("8.1", "compared with a reconstruction of its own", more_than_cross_entropy),
    ("8.2", "luck decides", few_samples),
    ("8.2", "always passes", prints_only),
    ("8.2", "always fails", spread_within_a_thousandth),
    ("8.2", "shapes only", z_shape),
    ("8.2", "a loss that was copied", loss_is_sensible),
    ("8.2", "at log_var = 0 only", spread_at_zero),
    ("8.2", "the same mistake", spread_is_the_variance),
    ("8.2", "too loose", spread_roughly),
    ("8.2", "a lower bound only", spread_is_enough),
    ("8.2", "grows, no more", spread_increases),
    ("8.2", "grows, no more", spread_multiplies),
    ("8.2", "some spread", some_spread_at_all),
    ("8.3", "leaves traces", switches_the_mode),
    ("8.3", "always fails", seeds_both_calls),
    ("8.3", "always passes", encoder_gives_two_tensors),
    ("8.3", "shapes only", z_shape),
    ("8.3", "a loss that was copied", loss_is_sensible),
    ("8.3", "calls only", two_calls_differ),
    ("8.3", "images only", images_differ),
    ("8.3", "dimensions only", dimensions_differ),
    ("8.3", "dimensions forgotten", calls_and_images_differ),
    ("8.3", "the means left in", codes_of_images_differ),
    ("8.3", "the wrong way round", calls_agree),
    ("8.4", "always passes", looks_at_requires_grad),
    ("8.4", "always fails", gradient_at_a_copy),
    ("8.4", "the whole loss", encoder_has_grad_after_backward),
    ("8.4", "shapes only", three_outputs_fit),
    ("8.4", "a loss that was copied", loss_is_sensible),
    ("8.4", "the mean only", lambda model, x: _assert(reaches(model, x, "mu"))),
    ("8.4", "the spread only", lambda model, x: _assert(reaches(model, x, "log_var"))),
    ("8.4", "either will do", first_layer_hears),
    ("8.4", "the wrong way round", lambda model, x: _assert(not reaches(model, x, "mu"))),
    ("8.5", "new noise", two_runs),
    ("8.5", "always passes", own_loss_with_itself),
    ("8.5", "always fails", losses_differ_by_nothing_of_the_kind),
    ("8.5", "shapes only", loss_is_one_number),
    ("8.5", "a loss that was copied", loss_is_sensible),
    ("8.5", "other images", two_halves),
    ("8.5", "too loose", within_a_fifth),
    ("8.5", "the wrong way round", doubles),
    ("8.6", "averaged over pixels", loss_with(recon=lambda m: m.mean())),
    ("8.6", "reconstruction summed over the batch", loss_with(recon=lambda m: m.sum())),
    ("8.6", "sign of the KL", loss_with(total=lambda recon, kl: (recon - kl).mean())),
    ("8.6", "summed over everything", loss_with(total=lambda recon, kl: recon.sum() + kl.sum())),
    ("8.6", "averaged over everything", loss_with(recon=lambda m: m.mean(), kl=lambda m: m.mean())),
    ("8.6", "KL averaged over the latents", loss_with(kl=lambda m: m.mean(1))),
    ("8.6", "half forgotten", loss_with(total=lambda recon, kl: (recon + kl + kl).mean())),
    ("8.6", "log_var taken for log σ", log_var_read_as_log_sigma),
    ("8.6", "sigmoid twice", probabilities_for_logits),
    ("8.6", "no KL", loss_with(total=lambda recon, kl: recon.mean())),
    ("8.6", "per image", loss_with(total=lambda recon, kl: recon + kl)),
    ("8.6", "the ELBO itself", loss_with(total=lambda recon, kl: -recon.mean() - kl.mean())),
    ("8.6", "no gradient", lambda *a: find("8.6").solution(*a).detach()),
    ("8.6", "no gradient", lambda logits, mu, v, x: healthy_loss_by_functional(logits.detach(), mu, v, x)),
    ("8.6", "no gradient", lambda logits, mu, v, x: healthy_loss_by_functional(logits, mu.detach(), v, x)),
    ("8.6", "no gradient", lambda logits, mu, v, x: healthy_loss_by_functional(logits, mu, v.detach(), x)),
    ("8.7", "new noise", lambda model, x, cond: _assert(not torch.equal(model(x, cond)[0], model(x, 1 - cond)[0]))),
    ("8.7", "always passes", picture_with_itself),
    ("8.7", "always fails", one_class_with_itself),
    ("8.7", "shapes only", picture_has_784_pixels),
    ("8.7", "a loss that was copied", conditional_loss_is_sensible),
    ("8.7", "through the encoder", means_decoded_for_each_class),
    ("8.7", "the encoder's hearing", codes_of_classes_differ),
    ("8.7", "the wrong way round", all_classes_look_alike),
]


def _assert(condition):
    assert condition


# The judge of tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("exercise", "wrong"), MISCONCEPTIONS, ids=[f"{e.number}-{m.name}" for e, m in MISCONCEPTIONS])
def test_each_wrong_test_is_recognised(exercise, wrong, dtype):
    result = grade(exercise.number, wrong.wrong, dtype=dtype)
    assert (result.status, result.diagnosis) == ("not yet", wrong.name), result.message
    assert "Your test\n" in result.message and "should" in result.message


@pytest.mark.parametrize("exercise", BENCHES, ids=lambda e: e.number)
def test_a_bench_holds_sick_healthy_and_differently_sick_models(exercise):
    specimens = exercise.judge.specimens
    assert len(exercise.judge.misconceptions) >= 5
    assert specimens[0].expected == PASSES
    assert any(s.expected == FAILS and "Patient" in s.name for s in specimens)
    assert sum(s.expected == PASSES for s in specimens) >= 3  # healthy, badly trained, and sick in another way
    assert all(s.why for s in specimens if s.expected)


def test_an_error_on_the_healthy_model_is_the_learners_own():
    result = grade("8.1", lambda model, x: model.no_such_method(x))
    assert result.status == "raised" and "no_such_method" in result.message


def test_a_single_wrong_verdict_that_no_known_mistake_explains_is_told_by_its_model():
    def narrow_is_fine(model, x):
        assert all(0.2 < std_for(model, x, value) / math.exp(value / 2) < 1.05 for value in (-4.0, 2.0))

    result = grade("8.2", narrow_is_fine)
    assert result.diagnosis == "passes on noise from rand instead of randn"
    assert "Uniform noise is 3.5 times too narrow." in result.message


def test_verdicts_are_the_same_every_time():
    judge = find("8.2").judge
    from course_utils.teaching.exercises import Attempt

    runs = [judge.verdicts(Attempt(few_samples, ("model", "x"))) for _ in range(2)]
    assert runs[0] == runs[1] and BOTH in runs[0]
