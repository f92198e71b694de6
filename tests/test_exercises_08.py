"""Answers to the exercises of notebook 08: right ones, and plausible wrong ones with the diagnosis each must get."""

import math

import pytest
import torch
from torch.nn import functional as F

from course_utils.exercises import exercises_of, find, grade
from course_utils.exercises.notebook_08 import BOTH, FAILS, PASSES, Bench

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


WRONG = [
    ("8.1", "returns a verdict", returns_a_bool),
    ("8.1", "always passes", own_kl_is_positive),
    ("8.1", "always fails", last_weeks_loss),
    ("8.1", "leaves traces", zeroes_the_weights),
    ("8.2", "luck decides", few_samples),
    ("8.2", "always passes", prints_only),
    ("8.3", "leaves traces", switches_the_mode),
    ("8.3", "always fails", seeds_both_calls),
    ("8.4", "always passes", looks_at_requires_grad),
    ("8.4", "the whole loss", encoder_has_grad_after_backward),
    ("8.5", "new noise", two_runs),
    ("8.6", "averaged over pixels", lambda logits, mu, v, x: F.binary_cross_entropy_with_logits(logits, x)
        + torch.distributions.kl_divergence(torch.distributions.Normal(mu, (v / 2).exp()),
                                            torch.distributions.Normal(0, 1)).sum(1).mean()),
    ("8.6", "no gradient", lambda *a: find("8.6").solution(*a).detach()),
    ("8.7", "new noise", lambda model, x, cond: _assert(not torch.equal(model(x, cond)[0], model(x, 1 - cond)[0]))),
]  # fmt: skip


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


def test_verdicts_are_the_same_every_time():
    judge = find("8.2").judge
    from course_utils.exercises import Attempt

    runs = [judge.verdicts(Attempt(few_samples, ("model", "x"))) for _ in range(2)]
    assert runs[0] == runs[1] and BOTH in runs[0]
