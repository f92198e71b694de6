"""The exercises of notebook 02: right answers pass, wrong ones are told apart."""

import inspect
import itertools
import math

import pytest
import torch

from course_utils.exercises import Attempt, exercises_of, find, grade
from course_utils.exercises._compare import _agree

EXERCISES = exercises_of(2)
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of tiny operations: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Right answers, written differently --------------------------------------------------------------------


def terms_by_distributions(x, mu, log_var, W, b, sigma):
    q, prior = torch.distributions.Normal(mu, (0.5 * log_var).exp()), torch.distributions.Normal(0.0, 1.0)
    rate = torch.distributions.kl_divergence(q, prior).sum(1)
    at_mean = -torch.distributions.Normal(mu @ W.T + b, sigma).log_prob(x).sum(1)
    spread = torch.einsum("dl,bl->b", W**2, log_var.exp())
    return at_mean + spread / (2 * sigma**2), rate


def terms_by_loops(x, mu, log_var, W, b, sigma):
    distortion, rate = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
    for i in range(len(x)):
        covariance = log_var[i].exp().diag()
        offset = x[i] - b - W @ mu[i]
        squares = offset @ offset + torch.trace(W @ covariance @ W.T)
        distortion[i] = squares / (2 * sigma**2) + len(b) * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
        rate[i] = 0.5 * (torch.trace(covariance) + mu[i] @ mu[i] - len(mu[i]) - torch.logdet(covariance))
    return distortion, rate


def posterior_by_woodbury(x, W, b, sigma):
    """From the joint Gaussian of z and x, conditioned on x."""
    marginal = W @ W.T + sigma**2 * torch.eye(len(W)).to(W)
    gain = torch.linalg.solve(marginal, W).T  # (L, D)
    return (x - b) @ gain.T, torch.eye(W.shape[1]).to(W) - gain @ W


def posterior_by_tipping_and_bishop(x, W, b, sigma):
    M = W.T @ W + sigma**2 * torch.eye(W.shape[1]).to(W)
    return [torch.linalg.solve(M, W.T @ (x - b).T).T, sigma**2 * torch.linalg.inv(M)]


def bound_by_loops(log_w, k):
    total = 0
    for start in range(0, len(log_w), k):
        total = total + torch.logsumexp(log_w[start : start + k], 0) - math.log(k)
    return total / (len(log_w) // k)


def bound_by_reshape(log_w, k):
    return (log_w.reshape(-1, k, log_w.shape[1]).logsumexp(1) - math.log(k)).mean(0)


def fit_descending(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    variance = values[latent_dim:].sum() / (len(values) - latent_dim)
    return vectors[:, :latent_dim] @ (values[:latent_dim] - variance).sqrt().diag(), variance**0.5


def fit_by_svd_and_turned(covariance, latent_dim):
    U, values, _ = torch.linalg.svd(covariance)
    variance = values[latent_dim:].mean()
    turn = torch.linalg.qr(torch.randn(latent_dim, latent_dim).to(covariance))[0]
    return U[:, :latent_dim] * (values[:latent_dim] - variance).sqrt() @ turn, variance.sqrt()


RIGHT = {
    "2.1": [
        lambda log_w: torch.logsumexp(log_w, 0) - math.log(log_w.shape[0]),
        lambda log_w: torch.logsumexp(log_w - math.log(len(log_w)), dim=0),
        lambda log_w: (log_w - log_w.max(dim=0).values).exp().mean(0).log() + log_w.max(dim=0).values,
        lambda log_w: torch.logaddexp(log_w[0], log_w[1:].logsumexp(0)) - math.log(len(log_w)),
    ],
    "2.2": [terms_by_distributions, terms_by_loops],
    "2.3": [posterior_by_woodbury, posterior_by_tipping_and_bishop],
    "2.4": [bound_by_loops, bound_by_reshape],
    "2.5": [fit_descending, fit_by_svd_and_turned],
}
ALL_RIGHT = [(e.number, e.solution) for e in EXERCISES] + [(n, f) for n, fs in RIGHT.items() for f in fs]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "answer"), ALL_RIGHT)
def test_right_answers_pass(number, answer, dtype):
    result = grade(number, answer, dtype=dtype)
    assert result.status == "passed", result.message


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_solutions_pass_on_every_device(exercise, device):
    assert grade(exercise.number, exercise.solution, device=device).status == "passed"


# Wrong answers, each with its own diagnosis ------------------------------------------------------------

MISCONCEPTIONS = [(e, m) for e in EXERCISES for m in e.judge.misconceptions]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("exercise", "misconception"), MISCONCEPTIONS, ids=[f"{e.number}-{m.name}" for e, m in MISCONCEPTIONS]
)
def test_each_misconception_is_recognised(exercise, misconception, dtype):
    result = grade(exercise.number, misconception.wrong, dtype=dtype)
    assert (result.status, result.diagnosis) == ("not yet", misconception.name), result.message
    assert " ".join(misconception.message.split()) in " ".join(result.message.split())


def eigen_rows(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    return vectors[-latent_dim:], values[:-latent_dim].mean().sqrt()


def values_flipped(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    values = torch.flip(values, (0,))
    sigma = values[latent_dim:].mean() ** 0.5
    return vectors[:, :latent_dim] @ (values[:latent_dim] - sigma**2).sqrt().diag(), sigma


def largest_first(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    sigma = values[latent_dim:].mean().sqrt()
    return vectors[:, -latent_dim:] @ (values[:latent_dim] - sigma**2).sqrt().diag(), sigma


def bound_with_one_maximum(log_w, k):
    m = log_w.max()
    return (torch.exp(log_w - m).reshape(-1, k, log_w.shape[1]).mean(1).log() + m).mean(0)


def half_detached(x, mu, log_var, W, b, sigma):
    return find("2.2").solution(x, mu.detach(), log_var, W, b, sigma)


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("2.1", "out of range", lambda w: torch.log(torch.mean(torch.exp(w), dim=0))),
    ("2.1", "out of range", lambda w: torch.log(torch.exp(w).sum(0) / len(w))),
    ("2.1", "sum instead of mean", lambda w: torch.logsumexp(w, dim=0)),
    ("2.1", "one maximum for the batch", lambda w: w.max() + torch.log(torch.exp(w - w.max()).mean(0))),
    ("2.1", "no gradient", lambda w: find("2.1").solution(w.detach())),
    ("2.1", "right numbers, wrong shape", lambda w: find("2.1").solution(w)[None]),
    ("2.1", "returns nothing", lambda w: print(end="")),
    ("2.2", "not a pair", lambda *a: sum(find("2.2").solution(*a))),
    ("2.2", "no gradient", half_detached),
    ("2.3", "not a pair", lambda *a: find("2.3").solution(*a)[0]),
    ("2.3", "variances only", lambda *a: (posterior_by_woodbury(*a)[0], posterior_by_woodbury(*a)[1].diag().diag())),
    ("2.4", "k ignored: one group of all", lambda w, k: torch.logsumexp(w, 0) - math.log(w.shape[0])),
    ("2.4", "one number for the batch", lambda w, k: find("2.4").solution(w, k).mean().item()),
    ("2.4", "one maximum for the batch", bound_with_one_maximum),
    ("2.4", "log S in place of log k", lambda w, k: bound_by_loops(w, k) + math.log(k) - math.log(w.shape[0])),
    ("2.5", "eigenvalues flipped, eigenvectors not", values_flipped),
    ("2.5", "eigenvalues from the wrong end", largest_first),
    ("2.5", "wrong shape", eigen_rows),
    ("2.5", "not a pair", lambda c, n: find("2.5").solution(c, n)[0]),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "diagnosis", "answer"), WRONG)
def test_plausible_wrong_answers_are_diagnosed(number, diagnosis, answer, dtype):
    result = grade(number, answer, dtype=dtype)
    assert (result.status, result.diagnosis) == ("not yet", diagnosis), result.message


def test_one_sample_is_no_closed_form():
    def sampled(x, mu, log_var, W, b, sigma):
        z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
        right = find("2.2").solution(x, mu, log_var, W, b, sigma)
        return 0.5 * (
            x.shape[1] * math.log(2 * math.pi * sigma**2) + (x - b - z @ W.T).square().sum(1) / sigma**2
        ), right[1]

    assert grade("2.2", sampled).status == "not yet"


# What every exercise promises --------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_messages_are_distinct_and_keep_the_solution_to_themselves(exercise):
    wrong = [answer for number, _, answer in WRONG if number == exercise.number]
    results = [grade(exercise.number, w) for w in [*wrong, *(m.wrong for m in exercise.judge.misconceptions)]]
    advice = {}
    for result in results:
        prose = [line for line in result.message.splitlines() if not line.startswith("    ")]
        advice.setdefault(result.diagnosis, " ".join(prose))
    assert len(advice) >= 10 and len(set(advice.values())) == len(advice)

    source = inspect.getsource(exercise.solution).splitlines()[1:]
    code = [line.split("#")[0].strip() for line in source]
    steps = {part.strip() for line in code for part in (line, line.removeprefix("return"), line.partition("=")[2])}
    secrets = {step for step in steps if len(step) > 16}
    assert len(secrets) >= 2
    for text in [*(result.message for result in results), *exercise.hints[:2], exercise.passed]:
        assert not any(secret in text for secret in secrets), text
        assert max(map(len, text.splitlines())) <= 160 or text in exercise.hints


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_exercises_are_complete(exercise):
    namespace = {}
    exec(exercise.stub, namespace)
    stub = namespace[exercise.name]
    assert grade(exercise.number, stub).status == "unattempted"
    assert exercise.name == exercise.solution.__name__
    assert exercise.parameters == tuple(inspect.signature(exercise.solution).parameters)
    assert exercise.title and 1 <= exercise.minutes <= 15
    assert len(exercise.hints) == len(set(exercise.hints)) == 3
    assert max(len(line) for line in exercise.cell.splitlines()) <= 120
    assert exercise.cell.endswith(f'check("{exercise.number}", {exercise.name})')


def test_numbers_are_in_order():
    assert [exercise.number for exercise in EXERCISES] == ["2.1", "2.2", "2.3", "2.4", "2.5"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
def test_cases_separate_every_misconception_from_the_truth_and_from_the_others(exercise, dtype):
    judge = exercise.judge
    assert len(judge.misconceptions) >= 5
    answers = {"solution": exercise.solution} | {m.name: m.wrong for m in judge.misconceptions}
    assert len(answers) == len(judge.misconceptions) + 1
    outcomes = {
        name: [outcome for outcome, _ in judge.outcomes(Attempt(answer, exercise.parameters, dtype))]
        for name, answer in answers.items()
    }
    for one, other in itertools.combinations(outcomes, 2):
        assert not all(map(_agree, outcomes[one], outcomes[other])), f"{one} = {other}"


# The production code agrees ----------------------------------------------------------------------------


def test_the_package_computes_the_same():
    from course_utils.linear_gaussian import LinearGaussian

    x, mu, log_var, W, b, sigma = find("2.2").judge.all_cases()[0]
    model = LinearGaussian(W, b, sigma)
    distortion, rate = find("2.2").solution(x, mu, log_var, W, b, sigma)
    terms = model.elbo(x, mu, log_var=log_var)
    torch.testing.assert_close((terms.recon, terms.kl), (distortion, rate))
    for a, b_ in zip(model.posterior(x), find("2.3").solution(x, W, b, sigma), strict=True):
        torch.testing.assert_close(a, b_)
    covariance, latent = find("2.5").judge.all_cases()[1]
    fitted = LinearGaussian.from_moments(torch.zeros(5), covariance, latent)
    W, sigma = find("2.5").solution(covariance, latent)
    torch.testing.assert_close((fitted.W @ fitted.W.T, fitted.sigma), (W @ W.T, sigma))
