"""The exercises of notebook 08: right tests pass, wrong ones are told apart by the models that they judge wrongly."""

import math
import subprocess
import warnings

import torch
from torch.nn import functional as F

from course_utils.teaching.exercises import exercises_of, find, grade
from course_utils.teaching.exercises._bench import Bench
from course_utils.teaching.exercises.notebook_08 import FAR_CODES, HEARS, PER_IMAGE, SPREAD, TEACHES, WHOLE

from .conftest import python

BENCHES = [FAR_CODES, SPREAD, TEACHES, PER_IMAGE, HEARS, WHOLE]


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


def spread_at_two_values_at_once(model, x):
    log_var = x.new_tensor([2 * math.log(3.0), -1.0]).expand(20_000, 2)
    std = model.reparameterize(torch.zeros_like(log_var), log_var).std(0)
    assert torch.allclose(std, (0.5 * log_var[0]).exp(), rtol=0.06)


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
    once, thrice = losses_of(model, x, 3)
    assert abs(once - thrice) <= 1e-3 * abs(once)


def half_of_a_batch(model, x):
    output = [torch.cat([t[:4], t[:4]]) for t in (*model(x), x)]
    losses = [model.loss(tuple(t[:n] for t in output[:3]), output[3][:n]) for n in (4, 8)]
    torch.testing.assert_close(*losses, rtol=1e-3, atol=0)


def condition_by_classes(model, x, cond):
    assert pictures(model, x, cond).std(0).max() > 1e-6


def condition_by_gradient(model, x, cond):
    cond = cond.clone().requires_grad_()
    z = x.new_zeros(len(x), model.mu.out_features)
    assert torch.autograd.grad(model.decode(z, cond).sum(), cond)[0].any()


def whole_in_other_words(model, x):
    """Other bounds and other questions: a bend is found by doubling the input, the scale by two losses."""
    for test in (far_codes_by_steps, spread_by_variance, gradient_by_backward, batch_repeated_thrice):
        test(model, x)
    here, there = model.encode(1e3 * x.new_empty(x.shape).normal_()), model.encode(1e4 * x.new_empty(x.shape).normal_())
    for head, further in zip(here, there, strict=True):
        assert further.max() > head.abs().max() / 2 > 1 and further.min() < -head.abs().max() / 2
    noise = torch.stack([model.reparameterize(*(x.new_zeros(8, 5),) * 2) for _ in range(3)])
    assert len(noise.unique()) == noise.numel()
    logits = model.decode(1e3 * x.new_empty(50, here[0].shape[1]).normal_())
    assert logits.max() - logits.min() > 2
    scale = float(model.loss((x.new_zeros(16, 784), *(x.new_zeros(16, 5),) * 2), x)) / 784
    assert math.isclose(scale, math.log(2), rel_tol=1e-3)


RIGHT = {
    "8.1": [far_codes_by_steps, far_codes_by_gradient],
    "8.2": [spread_by_variance, spread_at_two_values_at_once],
    "8.3": [gradient_by_backward, gradient_by_heads],
    "8.4": [batch_repeated_thrice, half_of_a_batch],
    "8.5": [condition_by_classes, condition_by_gradient],
    "8.6": [whole_in_other_words],
}


# Wrong answers, as a learner would write them ------------------------------------------------------------


def losses_of(model, x, times):
    """The loss of a batch, and of the same batch in which every image occurs `times` times."""
    logits, mu, log_var = model(x)
    return [model.loss(tuple(t.repeat_interleave(n, 0) for t in (logits, mu, log_var)), x.repeat_interleave(n, 0))
            for n in (1, times)]  # fmt: skip


def moved(model, x, by):
    """The loss with all means at 0, and with all at `by`."""
    logits, mu, log_var = model(x)
    return [model.loss((logits, torch.full_like(mu, m), log_var), x) for m in (0.0, by)]


def std_for(model, x, value, count=20_000):
    zeros = x.new_zeros(count, 2)
    return model.reparameterize(zeros, zeros + value).flatten().std().item()


def spread_within(low, high, values=(-3.0, 0.5, 3.0), asked=lambda value: math.exp(value / 2), count=20_000):
    return lambda model, x: must(all(low < std_for(model, x, v, count) / asked(v) < high for v in values))


def reaches(model, x, *names):
    output = dict(zip(("logits", "mu", "log_var"), model(x), strict=True))
    for name in names:
        output[name].retain_grad()
    output["logits"].square().sum().backward()
    return all(output[name].grad is not None and bool(output[name].grad.any()) for name in names)


def pictures(model, x, cond):
    """One code in all ten classes, (10, 784)."""
    return model.decode(x.new_ones(10, model.mu.out_features), torch.eye(10, dtype=x.dtype, device=x.device))


def must(condition):
    assert condition


def own_kl_is_positive(model, x):
    _, mu, log_var = model(x)
    assert (0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1) >= 0).all()


def zeroes_the_weights(model, x):
    find("8.1").solution(model, x)
    with torch.no_grad():
        model.mu.weight.zero_()


def switches_the_mode(model, x):
    model.eval()
    find("8.3").solution(model, x)


def exact_amount(model, x):
    home, away = moved(model, x, 3.0)
    assert math.isclose((away - home).item(), 4.5 * model.mu.out_features, rel_tol=1e-3)


def wider_is_dearer(model, x):
    logits, mu, log_var = model(x)
    assert model.loss((logits, mu, torch.full_like(log_var, 4.0)), x) > model.loss((logits, mu, 0 * log_var), x)


def more_than_cross_entropy(model, x):
    logits, mu, log_var = model(x)
    assert model.loss((logits, mu, log_var), x) - F.softplus(logits).sub(x.flatten(1) * logits).sum() / len(x) > 1e-3


def encoder_has_grad_after_backward(model, x):
    model.loss(model(x), x).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())


def finite_differences(model, x):
    mu, log_var = model.encode(x)
    torch.manual_seed(1)
    here = model.decode(model.reparameterize(mu, log_var))
    torch.manual_seed(1)
    assert (model.decode(model.reparameterize(mu + 0.01, log_var)) - here).abs().max() > 1e-6


def first_layer_hears(model, x):
    model(x)[0].sum().backward()
    weight = model.encoder[1].weight
    assert weight.grad is not None and weight.grad.abs().sum() > 0


def two_runs(model, x):
    double = torch.cat([x, x])
    assert abs(model.loss(model(x), x) - model.loss(model(double), double)) < 1e-5


def two_runs_within(share):
    def test(model, x):
        here, double = model.loss(model(x), x), x.repeat(2, 1, 1, 1)
        torch.testing.assert_close(model.loss(model(double), double), here, rtol=share, atol=0)

    return test


def half_of_the_images(model, x):
    output, half = model(x), len(x) // 2
    losses = [model.loss(tuple(t[:n] for t in output), x[:n]).item() for n in (len(x), half)]
    assert math.isclose(*losses, rel_tol=1e-3)


def asks_a_tensor_that_is_no_leaf(model, x):
    logits, mu, log_var = model(x)
    logits.sum().backward()
    with warnings.catch_warnings():  # PyTorch says the same, where it is seen
        warnings.simplefilter("ignore")
        assert mu.grad is not None and log_var.grad is not None


def shuffled_conditions(model, x, cond):
    z, _ = model.encode(x, cond)
    assert (model.decode(z, cond) - model.decode(z, cond.roll(1, dims=0))).abs().max() > 1e-6


def means_decoded_for_each_class(model, x, cond):
    other = torch.flip(cond, dims=(1,))
    here, there = model.decode(model.encode(x, cond)[0], cond), model.decode(model.encode(x, other)[0], other)
    assert (here - there).abs().max() > 1e-6


def whole_on_ordinary_images(model, x):
    find("8.6").solution(model, x)
    _, log_var = model.encode(x)
    assert log_var.min() < 0 < log_var.max()


def equal_to_the_last_digit(model, x):
    output = model(x)
    must(model.loss(output, x) == model.loss(tuple(torch.cat([t, t]) for t in output), torch.cat([x, x])))


def own_tests_only(model, x):
    for number in ("8.1", "8.2", "8.3", "8.4"):
        find(number).solution(model, x)


WRONG = [
    ("8.1", "returns a verdict", lambda model, x: bool(torch.lt(*moved(model, x, 3.0)))),
    ("8.1", "always passes", own_kl_is_positive),
    ("8.1", "always fails", lambda model, x: must(abs(model.loss(model(x), x) - 12.37) < 5e-3)),
    ("8.1", "leaves traces", zeroes_the_weights),
    ("8.1", "always passes", lambda model, x: must(model.loss(model(x), x).shape == ())),
    ("8.1", "fails on a sound VAE with a bad loss", lambda model, x: must(model.loss(model(x), x) < 700)),
    ("8.1", "fails on a sound VAE with β = ½", exact_amount),
    ("8.1", "passes on the sum of mu in place of the KL", lambda model, x: must(torch.lt(*moved(model, x, 4.0)))),
    ("8.1", "passes on minus the sum of mu in place of the KL", lambda model, x: must(torch.lt(*moved(model, x, -2)))),
    ("8.1", "passes on the sum of mu in place of the KL", lambda model, x: must(torch.ne(*moved(model, x, -5.0)))),
    ("8.1", "asks for the mistake", lambda model, x: must(torch.gt(*moved(model, x, 4.0)))),
    ("8.1", "passes on a KL that forgets the means", wider_is_dearer),
    ("8.1", "fails on Patient 6, with another weight of the KL", more_than_cross_entropy),
    ("8.2", "luck decides", spread_within(0.9, 1.1, (-2.0,), count=20)),
    ("8.2", "always passes", lambda model, x: must(std_for(model, x, 1.0) >= 0)),
    ("8.2", "always fails", spread_within(1 - 1e-6, 1 + 1e-6)),
    ("8.2", "passes on Patient 2", spread_within(0.9, 1.1, (0.0,))),
    ("8.2", "asks for the mistake", spread_within(0.9, 1.1, asked=math.exp)),
    ("8.2", "passes on Patient 2", spread_within(0.4, 2.5, (1.0,))),
    ("8.2", "passes on a sampler that ignores log_var", spread_within(0.55, 1.45, (1.0,))),
    ("8.2", "passes on noise that is 1.5 times too wide", spread_within(0.9, 99)),
    ("8.2", "passes on Patient 17, with too little noise", spread_within(0, 1.1)),
    ("8.2", "passes on Patient 2", lambda model, x: must(std_for(model, x, -1) < std_for(model, x, 1))),
    ("8.2", "passes on Patient 2", lambda model, x: must(std_for(model, x, 1.0) > 1e-3)),
    ("8.3", "leaves traces", switches_the_mode),
    ("8.3", "always passes", lambda model, x: must(model(x)[0].requires_grad)),
    ("8.3", "always passes", encoder_has_grad_after_backward),
    ("8.3", "always passes", finite_differences),
    ("8.3", "always fails", asks_a_tensor_that_is_no_leaf),
    ("8.3", "passes on σ detached in the sampler", lambda model, x: must(reaches(model, x, "mu"))),
    ("8.3", "passes on mu detached in the sampler", lambda model, x: must(reaches(model, x, "log_var"))),
    ("8.3", "passes on mu detached in the sampler", first_layer_hears),
    ("8.3", "asks for the mistake", lambda model, x: must(not reaches(model, x, "mu", "log_var"))),
    ("8.4", "always fails", two_runs),
    ("8.4", "luck decides", two_runs_within(0.02)),
    ("8.4", "fails on a sound VAE with a bad loss", half_of_the_images),
    ("8.4", "luck decides", equal_to_the_last_digit),
    ("8.4", "always passes", lambda model, x: must(F.mse_loss(x, x) == F.mse_loss(x[:2], x[:2]))),
    ("8.4", "passes on a KL summed over the batch", lambda model, x: must(torch.divide(*losses_of(model, x, 2)) > 0.7)),
    ("8.4", "asks for the mistake", lambda model, x: must(torch.divide(*losses_of(model, x, 2)) < 0.6)),
    ("8.5", "fails on a sound CVAE, and a batch of one class", shuffled_conditions),
    ("8.5", "always passes", lambda m, x, cond: must(not torch.equal(m(x, cond)[0], m(x, 1 - cond)[0]))),
    ("8.5", "always passes", lambda model, x, cond: must(pictures(model, x, cond).shape == (10, 784))),
    ("8.5", "always passes", means_decoded_for_each_class),
    ("8.5", "asks for the mistake", lambda model, x, cond: must(pictures(model, x, cond).std(0).max() < 1e-6)),
    ("8.6", "passes on Patient 6", own_tests_only),
    ("8.6", "fails on a sound VAE that is sure of its codes", whole_on_ordinary_images),
]


# The judge of tests ------------------------------------------------------------------------------------


def test_a_bench_stands_in_every_exercise_and_asks_about_sound_and_broken_models():
    judges = [e.judge or e.checks[0].__self__ for e in exercises_of(8)]
    assert judges == BENCHES and all(isinstance(bench, Bench) for bench in BENCHES)
    for bench in BENCHES:
        assert {sound for _, sound in bench.specimens} == {True, False}
        assert all(specimen.words for specimen, sound in bench.specimens if not sound)


def test_an_error_on_a_sound_model_is_the_learners_own():
    result = grade("8.1", lambda model, x: model.no_such_method(x))
    assert result.status == "raised" and "no_such_method" in result.message


def test_what_passes_on_everything_is_told_what_the_first_broken_model_lacks():
    assert "Which one have you asked for?" in " ".join(grade("8.3", encoder_has_grad_after_backward).message.split())


def test_what_is_asked_of_the_wrong_tensor_or_of_two_runs_is_told_the_cure():
    assert "retain_grad()" in grade("8.3", asks_a_tensor_that_is_no_leaf).message
    for answer in (two_runs_within(3e-3), half_of_the_images):
        assert "Two runs draw two noises" in " ".join(grade("8.4", answer).message.split())


def test_where_python_strips_asserts_the_check_says_so():
    code = "from course_utils.teaching.exercises import *; print(grade('8.1', find('8.1').solution).message)"
    said = subprocess.run([*python("-O"), "-c", code], capture_output=True, text=True, check=True).stdout
    assert "strips every" in said and "Start it without -O" in said
