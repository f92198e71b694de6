"""The exercises of notebook 03, the reparameterization."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._attempt import Attempt, NotYet
from ._compare import Compare, Misconception, as_tensor, gradient_reaches
from ._framework import Exercise
from ._text import numbers_text

# 3.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def score_function_gradient(f_values, z, mu, log_var):
    """Return the score-function estimate of every single sample, for mu and for log_var.

    f_values: (K,), f at each sample
    z:        (K, L), samples from N(mu, diag sigma**2), with log_var = log sigma**2
    mu, log_var: (L,)
    result:   two tensors (K, L): f times d log q / d mu, and f times d log q / d log_var
    """
    ...'''


def score_function_gradient(f_values, z, mu, log_var):
    sigma = (0.5 * log_var).exp()
    eps = (z - mu) / sigma  # (K, L), the noise that z was made of
    score_mu = eps / sigma
    score_log_var = 0.5 * (eps**2 - 1)
    return f_values[:, None] * score_mu, f_values[:, None] * score_log_var


def _pair(returned: Any, first: str, second: str) -> dict[str, Tensor]:
    """Two tensors, in a tuple or list, under the names of what they are."""
    if isinstance(returned, tuple | list) and len(returned) == 2:
        tensors = {}
        for name, part in zip((first, second), returned, strict=True):
            tensors[name], complaint = as_tensor(part)
            if complaint:
                raise complaint
        return tensors
    came = f"a {type(returned).__name__}" + (f" of {len(returned)}" if isinstance(returned, tuple | list) else "")
    raise NotYet(
        "not a pair",
        f"Expected two tensors, one {first} and one {second}; {came} came back. What follows `return`?",
    )


def _observe_1(attempt: Attempt, f_values: Tensor, z: Tensor, mu: Tensor, log_var: Tensor) -> dict[str, Tensor]:
    return _pair(attempt(f_values, z, mu, log_var), "for mu", "for log_var")


def _cases_1(rng: torch.Generator) -> list[tuple]:
    def case(k: int, latent: int) -> tuple:
        mu, log_var = (torch.randn(latent, generator=rng, dtype=torch.float64) for _ in range(2))
        z = mu + (0.5 * log_var).exp() * torch.randn(k, latent, generator=rng, dtype=torch.float64)
        return torch.randint(1, 9, (k,), generator=rng).double(), z, mu, log_var

    small = [2.0, 3.0, -1.0], [[1.5], [0.0], [2.0]], [0.5], [0.6]
    return [tuple(torch.tensor(t, dtype=torch.float64) for t in small), case(4, 3), case(2, 2)]


def _scores(z: Tensor, mu: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    difference = z - mu
    return difference / log_var.exp(), 0.5 * (difference**2 / log_var.exp() - 1)


def _log_densities(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    return torch.distributions.Normal(mu, (0.5 * log_var).exp()).log_prob(z)


def _wrong_1(change: Any) -> Any:
    """A wrong answer, from (f, difference, variance) -> the two results; f is (K, 1)."""
    return lambda f, z, mu, log_var: change(f[:, None], z - mu, log_var.exp())


EXERCISE_1 = Exercise(
    number="3.1",
    title="The score of a Gaussian",
    minutes=8,
    stub=STUB_1,
    hints=(
        "Write out log q for one dimension: it is −½ log 2π − ½ log σ² − (z − μ)² / 2σ². Differentiate it twice: "
        "once with respect to μ, once with respect to v = log σ², remembering that 1/σ² is exp(−v).",
        "For μ: (z − μ)/σ². For log σ²: −½ + (z − μ)²/2σ². Both have the shape (K, L), and σ² is log_var.exp(). "
        "Every sample has one value of f, which multiplies all L of its scores.",
        "f_values[:, None] has the shape (K, 1) and multiplies each row. The two results are "
        "f_values[:, None] * (z - mu) / sigma2 and f_values[:, None] * 0.5 * ((z - mu)**2 / sigma2 - 1).",
    ),
    solution=score_function_gradient,
    passed="No derivative of f anywhere: the score asks only what f is worth at each sample.",
    judge=Compare(
        cases=_cases_1,
        observe=_observe_1,
        misconceptions=(
            Misconception(
                "divided by sigma",
                _wrong_1(lambda f, d, v: (f * d / v.sqrt(), f * 0.5 * (d**2 / v - 1))),
                "The part for log_var is right. For μ, the exponent −(z − μ)²/2σ² gives (z − μ) over which power of σ?",
            ),
            Misconception(
                "sign of the mean's score",
                _wrong_1(lambda f, d, v: (-f * d / v, f * 0.5 * (d**2 / v - 1))),
                "The part for mu has the wrong sign. If z lies above μ, does moving μ up make z more or less likely?",
            ),
            Misconception(
                "derivative in sigma",
                _wrong_1(lambda f, d, v: (f * d / v, f * (d**2 / v - 1) / v.sqrt())),
                "The second part is the derivative with respect to σ. The network's number is log σ²: which factor "
                "does dσ / d log σ² bring?",
            ),
            Misconception(
                "derivative in log sigma",
                _wrong_1(lambda f, d, v: (f * d / v, f * (d**2 / v - 1))),
                "The second part is exactly twice the expected one: it is the derivative with respect to log σ. How "
                "many times log σ is log σ²?",
            ),
            Misconception(
                "derivative in the variance",
                _wrong_1(lambda f, d, v: (f * d / v, f * 0.5 * (d**2 / v - 1) / v)),
                "The second part is the derivative with respect to σ². By the chain rule, which factor does "
                "dσ² / d log σ² bring?",
            ),
            Misconception(
                "normaliser forgotten",
                _wrong_1(lambda f, d, v: (f * d / v, f * 0.5 * d**2 / v)),
                "The second part is too large by ½ f. log q has a term −½ log σ² in front of the square. What is its "
                "derivative?",
            ),
            Misconception(
                "log_var taken for sigma",
                lambda f, z, mu, log_var: (
                    f[:, None] * (z - mu) / log_var**2,
                    f[:, None] * 0.5 * ((z - mu) ** 2 / log_var**2 - 1),
                ),
                "log_var is used as if it were σ. It is log σ²; which function turns it into σ²?",
            ),
            Misconception(
                "log_var taken for the variance",
                lambda f, z, mu, log_var: (
                    f[:, None] * (z - mu) / log_var,
                    f[:, None] * 0.5 * ((z - mu) ** 2 / log_var - 1),
                ),
                "log_var is used as if it were σ². What undoes the logarithm?",
            ),
            Misconception(
                "exp(log_var) taken for sigma",
                lambda f, z, mu, log_var: (
                    f[:, None] * (z - mu) / (2 * log_var).exp(),
                    f[:, None] * 0.5 * ((z - mu) ** 2 / (2 * log_var).exp() - 1),
                ),
                "exp(log_var) is squared here, as if it were σ. Which power of σ is exp(log σ²) already?",
            ),
            Misconception(
                "exp(log_var) taken for sigma, and its derivative",
                lambda f, z, mu, log_var: (
                    f[:, None] * (z - mu) / (2 * log_var).exp(),
                    f[:, None] * ((z - mu) ** 2 / (2 * log_var).exp() - 1),
                ),
                "The derivatives are right for a Gaussian with the standard deviation exp(log σ²). But that is σ², not "
                "σ. What is half of a logarithm?",
            ),
            Misconception(
                "the scores alone",
                lambda f, z, mu, log_var: _scores(z, mu, log_var),
                "These are the scores, and they are right. What is missing is what each sample was worth: where does f "
                "come in?",
            ),
            Misconception(
                "averaged over the samples",
                lambda f, z, mu, log_var: tuple((f[:, None] * s).mean(0) for s in _scores(z, mu, log_var)),
                "These are averages over the K samples. Every sample is an estimate of its own, and the notebook needs "
                "all of them to measure their variance.",
            ),
            Misconception(
                "in the other order",
                lambda f, z, mu, log_var: tuple(f[:, None] * s for s in _scores(z, mu, log_var))[::-1],
                "Both are right, but they come in the other order. Which one is asked for first?",
            ),
            Misconception(
                "q instead of log q",
                lambda f, z, mu, log_var: tuple(
                    f[:, None] * s * _log_densities(z, mu, log_var).sum(1, keepdim=True).exp()
                    for s in _scores(z, mu, log_var)
                ),
                "The density itself is still a factor: this is f ∇q, not f ∇log q. Drawing z from q has already "
                "weighted it by the density. Which step of the derivation divided by q?",
            ),
            Misconception(
                "q of each dimension instead of log q",
                lambda f, z, mu, log_var: tuple(
                    f[:, None] * s * _log_densities(z, mu, log_var).exp() for s in _scores(z, mu, log_var)
                ),
                "Each score still carries the density of its own dimension as a factor: this is f times the "
                "derivative of that density, not of its logarithm. How does the one follow from the other?",
            ),
        ),
    ),
)

# 3.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def leave_one_out(f_values, scores):
    """Return the score-function estimate with the leave-one-out baseline.

    f_values: (K,), f at each of K >= 2 independent samples
    scores:   (K, L), the gradient of log q at each sample
    result:   (L,), the average of (f_k - b_k) * scores_k, with b_k the mean of f over the OTHER samples
    """
    ...'''


def leave_one_out(f_values, scores):
    k = len(f_values)
    baseline = (f_values.sum() - f_values) / (k - 1)  # (K,), each the mean of the others
    return ((f_values - baseline)[:, None] * scores).mean(dim=0)  # (L,)


def _cases_2(rng: torch.Generator) -> list[tuple]:
    def case(k: int, latent: int) -> tuple:
        return (
            torch.randint(1, 20, (k,), generator=rng).double(),
            torch.randn(k, latent, generator=rng, dtype=torch.float64),
        )

    small = [1.0, 4.0, 10.0], [[1.0], [-0.5], [2.0]]
    return [tuple(torch.tensor(t, dtype=torch.float64) for t in small), case(2, 3), case(5, 2), case(3, 3)]


def _total(f: Tensor) -> Tensor:
    return f.sum() - f


EXERCISE_2 = Exercise(
    number="3.2",
    title="A baseline that costs nothing",
    minutes=6,
    stub=STUB_2,
    hints=(
        "For sample k the baseline may use everything but sample k itself: then it is independent of the score that "
        "it multiplies. How do you get the sum over all others from the sum over all?",
        "The sum of the others is f_values.sum() − f_values, a tensor (K,), and there are K − 1 of them. Subtract "
        "that mean from f_values, weight the scores, average over the K samples.",
        "baseline = (f_values.sum() - f_values) / (K - 1), then ((f_values - baseline)[:, None] * scores).mean(0).",
    ),
    solution=leave_one_out,
    passed="Each sample is compared with the others, never with itself: that is what keeps it unbiased.",
    judge=Compare(
        cases=_cases_2,
        also=gradient_reaches("scores"),
        misconceptions=(
            Misconception(
                "mean of all",
                lambda f, s: ((f - f.mean())[:, None] * s).mean(0),
                "The baseline contains the sample's own f, so it is not independent of its score: the result is too "
                "small by the factor (K − 1)/K, a bias. Which sample must be left out of each mean?",
            ),
            Misconception(
                "no baseline",
                lambda f, s: (f[:, None] * s).mean(0),
                "This is the plain score-function estimate. What is subtracted from each f first?",
            ),
            Misconception(
                "divided by K",
                lambda f, s: ((f - _total(f) / len(f))[:, None] * s).mean(0),
                "The sum over the other samples was divided by K. How many others are there?",
            ),
            Misconception(
                "sum of the others",
                lambda f, s: ((f - _total(f))[:, None] * s).mean(0),
                "The sum of the others was subtracted, not their mean. Which division is missing?",
            ),
            Misconception(
                "summed over the samples",
                lambda f, s: ((f - _total(f) / (len(f) - 1))[:, None] * s).sum(0),
                "The baseline is right, but the K samples were added up: the result is K times too large. What turns K "
                "estimates into one?",
            ),
            Misconception(
                "averaged over K − 1",
                lambda f, s: ((f - _total(f) / (len(f) - 1))[:, None] * s).sum(0) / (len(f) - 1),
                "The baseline is right, but the last average is over K − 1. All K samples take part in it.",
            ),
            Misconception(
                "one estimate per sample",
                lambda f, s: (f - _total(f) / (len(f) - 1))[:, None] * s,
                "These are K separate estimates, (K, L). One gradient, (L,), is asked for.",
            ),
            Misconception(
                "baseline added",
                lambda f, s: ((f + _total(f) / (len(f) - 1))[:, None] * s).mean(0),
                "The baseline was added. That is unbiased too, and as a rule noisier than no baseline at all. Which "
                "sign makes the weights small?",
            ),
            Misconception(
                "subtracted after the product",
                lambda f, s: (f[:, None] * s - (_total(f) / (len(f) - 1))[:, None]).mean(0),
                "The baseline was subtracted from f times the score. It has to be taken off f, before the score "
                "multiplies what is left.",
            ),
            Misconception(
                "sign",
                lambda f, s: ((_total(f) / (len(f) - 1) - f)[:, None] * s).mean(0),
                "The sign is the wrong way round: a descent along this makes f larger. f minus baseline, or baseline "
                "minus f?",
            ),
        ),
    ),
)

# 3.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def reparameterize(mu, log_var, eps):
    """Return samples z from N(mu, diag sigma**2), made from standard normal noise.

    mu, log_var, eps: (B, L), with log_var = log sigma**2
    result:           (B, L), through which gradients reach mu and log_var
    """
    ...'''


def reparameterize(mu, log_var, eps):
    sigma = (0.5 * log_var).exp()  # log sigma is half of log sigma**2
    return mu + sigma * eps


def _cases_3(rng: torch.Generator) -> list[tuple]:
    def case(*shape: int) -> tuple:
        return tuple(torch.randn(*shape, generator=rng, dtype=torch.float64) for _ in range(3))

    small = [[0.5, -1.0], [2.0, 0.0]], [[0.6, -1.2], [1.0, -0.4]], [[1.0, -2.0], [0.5, 3.0]]
    return [tuple(torch.tensor(t, dtype=torch.float64) for t in small), case(3, 4), case(1, 3), case(2, 1)]


def _observe_3(attempt: Attempt, *case: Tensor) -> dict[str, Tensor]:
    (value, complaint), (again, _) = (as_tensor(attempt(*case)) for _ in range(2))
    if complaint:
        raise complaint
    if not torch.equal(value.nan_to_num(), again.nan_to_num()):  # where both are NaN, they are the same
        raise NotYet(
            "own noise",
            "Two calls with the same eps gave two different samples: your function draws noise of its own, and eps was "
            "not used, or not alone. Which numbers take the place of the draw?",
        )
    return {"": value}


def _large_and_small_spreads(attempt: Attempt) -> None:
    """Raises NotYet where log σ² = ±8 is not taken as it is; for answers that are right near 0."""
    eps = torch.tensor([[1.0]], dtype=torch.float64)
    mu = torch.zeros_like(eps)
    for value in (8.0, -8.0):
        log_var = torch.full_like(eps, value)
        seen = _observe_3(attempt, mu, log_var, eps)[""].detach().cpu().double()
        expected = reparameterize(mu, log_var, eps)
        if not torch.allclose(seen, expected, rtol=1e-3, atol=0.0):
            raise NotYet(
                "log_var limited",
                f"Right where log σ² is near 0, but not where it is {value:g}: with μ = 0 and ε = 1, "
                f"expected {expected.item():.4g}, came {seen.item():.4g}. Was log_var or σ clamped, or something added "
                "to it? The package clamps, too, but where log_var is made; here it is to be taken as it comes.",
            )


def _check_3(attempt: Attempt, cases: Sequence[tuple]) -> None:
    _large_and_small_spreads(attempt)
    gradient_reaches("mu", "log_var")(attempt, cases)


EXERCISE_3 = Exercise(
    number="3.3",
    title="The reparameterization",
    minutes=4,
    stub=STUB_3,
    hints=(
        "A Gaussian sample is a standard normal one, stretched and shifted. By what is it stretched, and how do you "
        "get that from log σ²?",
        "σ is the square root of σ², so its logarithm is half of log σ². Take the exponential of that half.",
        "sigma = (0.5 * log_var).exp(), and then mu + sigma * eps, element by element.",
    ),
    solution=reparameterize,
    passed="All the randomness is in ε, and the way back to μ and log σ² is open.",
    judge=Compare(
        cases=_cases_3,
        observe=_observe_3,
        also=_check_3,
        misconceptions=(
            Misconception(
                "exp(log_var) taken for sigma",
                lambda mu, v, eps: mu + v.exp() * eps,
                "The noise is multiplied by exp(log σ²) = σ², the variance. A sample is stretched by the standard "
                "deviation: what is log σ, if log σ² is given? (What this mistake does to a VAE is measured in section "
                "11.)",
            ),
            Misconception(
                "log_var taken for sigma",
                lambda mu, v, eps: mu + v * eps,
                "The noise is multiplied by log σ² itself, which may be negative. Which function undoes a logarithm?",
            ),
            Misconception(
                "half of log_var, not exponentiated",
                lambda mu, v, eps: mu + 0.5 * v * eps,
                "½ log σ² is log σ. One step is missing before it is σ.",
            ),
            Misconception(
                "root of log_var",
                lambda mu, v, eps: mu + v.sqrt() * eps,
                "The square root was taken of log σ² itself. Where σ is below 1, log σ² is negative and has no root: "
                "hence the nan. It is the root of σ² that is σ: how do you get from log σ² to σ²?",
            ),
            Misconception(
                "half in the wrong place",
                lambda mu, v, eps: mu + 0.5 * v.exp() * eps,
                "The ½ stands outside of the exponential, so this is σ²/2. Where must it stand to take a square root?",
            ),
            Misconception(
                "exp(2 log_var)",
                lambda mu, v, eps: mu + (2 * v).exp() * eps,
                "This is σ⁴. Taking the square root halves a logarithm; which factor was meant?",
            ),
            Misconception(
                "noise not stretched",
                lambda mu, v, eps: mu + eps,
                "These samples have σ = 1 everywhere: log_var took no part. What does it do to the noise?",
            ),
            Misconception(
                "noise forgotten",
                lambda mu, v, eps: mu + (0.5 * v).exp(),
                "Nothing is random here: this is always one standard deviation above the mean. Where does ε go?",
            ),
            Misconception(
                "noise alone",
                lambda mu, v, eps: (0.5 * v).exp() * eps,
                "The spread is right, but the samples are centred at zero. What shifts them?",
            ),
            Misconception(
                "the mean alone",
                lambda mu, v, eps: mu.clone(),
                "This is the mean, with no sample around it. That is what an autoencoder does.",
            ),
            Misconception(
                "everything stretched",
                lambda mu, v, eps: (0.5 * v).exp() * (mu + eps),
                "The mean was stretched as well. Only the noise is multiplied by σ.",
            ),
            Misconception(
                "clamped to ±1",
                lambda mu, v, eps: mu + (0.5 * v.clamp(-1, 1)).exp() * eps,
                "log_var was kept between −1 and 1. Any real number is a valid log σ²; why should it be cut off here?",
            ),
            Misconception(
                "one noise for the batch",
                lambda mu, v, eps: mu + (0.5 * v).exp() * eps[:1],
                "Every row got the noise of the first row. Each example needs its own (section 11 measures why).",
            ),
            Misconception(
                "one noise for all dimensions",
                lambda mu, v, eps: mu + (0.5 * v).exp() * eps[:, :1],
                "Every dimension of an example got the same noise, so that they all move together. In diag σ² they are "
                "independent.",
            ),
            Misconception(
                "divided",
                lambda mu, v, eps: mu + eps / (0.5 * v).exp(),
                "The noise is divided by σ. That turns a sample into noise; here it goes the other way.",
            ),
        ),
    ),
)

# 3.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def pathwise_gradient(df, mu, log_var, eps):
    """Return the pathwise estimate of every single sample, for mu and for log_var, by the chain rule.

    df:          the derivative of f: takes z (K, L), returns df/dz (K, L)
    mu, log_var: (L,)
    eps:         (K, L), standard normal noise
    result:      two tensors (K, L): df/dz * dz/dmu, and df/dz * dz/dlog_var
    """
    ...'''


def pathwise_gradient(df, mu, log_var, eps):
    sigma = (0.5 * log_var).exp()
    slope = df(mu + sigma * eps)  # (K, L)
    return slope, slope * 0.5 * sigma * eps  # dz/dmu = 1, dz/dlog_var = sigma * eps / 2


@dataclass(frozen=True)
class _Derivative:
    """A df that shows its formula in messages, instead of an address."""

    formula: str
    function: Callable[[Tensor], Tensor]

    def __call__(self, z: Tensor) -> Tensor:
        return self.function(z)

    def __repr__(self) -> str:
        return f"z ↦ {self.formula}"


_cubic = _Derivative("3 z² − 1", lambda z: 3 * z**2 - 1)
_wave = _Derivative("cos 2z + ½ (sum of z over L)", lambda z: torch.cos(2 * z) + 0.5 * z.sum(-1, keepdim=True))


def _cases_4(rng: torch.Generator) -> list[tuple]:
    def case(df: Any, k: int, latent: int) -> tuple:
        mu, log_var = (torch.randn(latent, generator=rng, dtype=torch.float64) for _ in range(2))
        return df, mu, log_var, torch.randn(k, latent, generator=rng, dtype=torch.float64)

    small = [0.5], [0.6], [[1.0], [-2.0], [0.5]]
    return [(_cubic, *(torch.tensor(t, dtype=torch.float64) for t in small)), case(_wave, 4, 3), case(_cubic, 2, 2)]


def _observe_4(attempt: Attempt, df: Any, mu: Tensor, log_var: Tensor, eps: Tensor) -> dict[str, Tensor]:
    return _pair(attempt(df, mu, log_var, eps), "for mu", "for log_var")


def _wrong_4(change: Any) -> Any:
    """A wrong answer, from (slope at z, sigma, eps) -> the two results."""

    def answer(df: Any, mu: Tensor, log_var: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        sigma = (0.5 * log_var).exp()
        return change(df(mu + sigma * eps), sigma, eps)

    return answer


EXERCISE_4 = Exercise(
    number="3.4",
    title="Along the path",
    minutes=6,
    stub=STUB_4,
    hints=(
        "Make z from ε first. Then ask of z = μ + exp(½ log σ²)·ε: if μ grows by a little, by how much does z grow? "
        "And if log σ² does?",
        "dz/dμ is 1. The derivative of exp(½v)·ε with respect to v is ½ exp(½v)·ε, which is ½ σ ε. Both are "
        "multiplied by the slope of f at z.",
        "slope = df(mu + sigma * eps); return slope, and slope * 0.5 * sigma * eps.",
    ),
    solution=pathwise_gradient,
    passed="The slope of f, and how far each parameter moves the point: that is all that backpropagation does here.",
    judge=Compare(
        cases=_cases_4,
        observe=_observe_4,
        misconceptions=(
            Misconception(
                "derivative in sigma",
                _wrong_4(lambda g, s, e: (g, g * e)),
                "The second part is the derivative with respect to σ. The network gives log σ²: what does "
                "dσ / d log σ² add?",
            ),
            Misconception(
                "derivative in log sigma",
                _wrong_4(lambda g, s, e: (g, g * s * e)),
                "The second part is twice the expected one: the derivative with respect to log σ. Where does the ½ of "
                "exp(½ log σ²) go, when it is differentiated?",
            ),
            Misconception(
                "derivative in the variance",
                _wrong_4(lambda g, s, e: (g, g * e / (2 * s))),
                "The second part is the derivative with respect to σ². One more factor leads from σ² to its logarithm.",
            ),
            Misconception(
                "slope at the mean",
                lambda df, mu, v, e: (
                    df(mu.expand_as(e)),
                    df(mu.expand_as(e)) * 0.5 * (0.5 * v).exp() * e,
                ),
                "The slope was taken at μ for every sample. Each sample stands at its own z: what is f's slope there?",
            ),
            Misconception(
                "one slope, at the mean",
                lambda df, mu, v, e: (df(mu), df(mu) * 0.5 * (0.5 * v).exp() * e),
                "The slope was taken once, at μ, so the part for mu has one row for all samples. Each sample stands at "
                "its own z: how steep is f there?",
            ),
            Misconception(
                "slope at the noise",
                lambda df, mu, v, e: (df(e), df(e) * 0.5 * (0.5 * v).exp() * e),
                "The slope was taken at ε. f never sees ε; at which point is it evaluated?",
            ),
            Misconception(
                "exp(log_var) taken for sigma",
                lambda df, mu, v, e: (df(mu + v.exp() * e), df(mu + v.exp() * e) * 0.5 * v.exp() * e),
                "exp(log σ²) is σ², not σ, and z was made with it. What is half of a logarithm?",
            ),
            Misconception(
                "exp(log_var) taken for sigma, and its derivative",
                lambda df, mu, v, e: (df(mu + v.exp() * e), df(mu + v.exp() * e) * v.exp() * e),
                "The chain rule is right for z = μ + exp(log σ²)·ε, but that z has the standard deviation σ². What is "
                "half of a logarithm?",
            ),
            Misconception(
                "noise forgotten",
                _wrong_4(lambda g, s, e: (g, g * 0.5 * s)),
                "dz/d log σ² depends on the sample: a point with ε = 0 does not move at all when σ changes. Which "
                "factor is missing?",
            ),
            Misconception(
                "the slope twice",
                _wrong_4(lambda g, s, e: (g, g)),
                "Both parts are the slope. μ moves every point by the same amount; does σ?",
            ),
            Misconception(
                "averaged over the samples",
                _wrong_4(lambda g, s, e: (g.mean(0), (g * 0.5 * s * e).mean(0))),
                "These are averages over the K samples. The notebook needs every sample's own estimate.",
            ),
            Misconception(
                "summed over the samples",
                _wrong_4(lambda g, s, e: (g.sum(0), (g * 0.5 * s * e).sum(0))),
                "These are sums over the K samples, as backward() gives them for parameters that all samples share. "
                "The notebook needs every sample's own estimate.",
            ),
            Misconception(
                "in the other order",
                _wrong_4(lambda g, s, e: (g * 0.5 * s * e, g)),
                "Both are right, but they come in the other order. Which one is asked for first?",
            ),
        ),
    ),
)

# 3.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def score_function_loss(f_values, log_q, baseline):
    """Return a loss whose GRADIENT is the score-function estimate, averaged over the batch.

    f_values: (B,), f at each sample; it may itself carry a gradient, which must not be used
    log_q:    (B,), log q of each sample, with its gradient to the encoder
    baseline: (B,), may carry a gradient as well, which must not be used
    result:   one number; its gradient is the mean of (f - baseline) times the gradient of log_q
    """
    ...'''


def score_function_loss(f_values, log_q, baseline):
    weight = (f_values - baseline).detach()  # a number for each sample, not a function of the parameters
    return (weight * log_q).mean()


def _cases_5(rng: torch.Generator) -> list[tuple]:
    def case(batch: int, parameters: int) -> tuple:
        f, minus_log_q, b = (torch.randint(1, 9, (batch,), generator=rng).double() for _ in range(3))
        a, c = (torch.randn(batch, parameters, generator=rng, dtype=torch.float64) for _ in range(2))
        return f, -0.5 * minus_log_q, b, a, c

    small = [2.0, 5.0, 3.0], [-1.0, -2.0, -0.5], [1.0, 1.0, 4.0], [[1.0], [2.0], [-1.0]], [[0.5], [-1.0], [2.0]]
    return [tuple(torch.tensor(t, dtype=torch.float64) for t in small), case(4, 2), case(2, 3)]


def _observe_5(attempt: Attempt, *case: Tensor) -> dict[str, Tensor]:
    """Three tensors that all depend on one parameter vector, as they do in a VAE; the gradient is what counts."""
    f, log_q, b, slope_q, slope_f = (attempt.prepare(t) for t in case)
    slopes = {"f_values": slope_f, "log_q": slope_q, "baseline": 0.5 * slope_f}
    phi = torch.zeros(slope_q.shape[1], dtype=f.dtype, device=f.device, requires_grad=True)
    given = [value + slope @ phi for value, slope in zip((f, log_q, b), slopes.values(), strict=True)]
    loss = attempt.run(attempt.answer, *given, doing=f"with three tensors ({len(f)},)")
    if loss is None:
        raise NotYet("returns nothing", "Your code ran, but nothing came back. Is a `return` missing at the end?")
    loss, complaint = as_tensor(loss)
    if complaint:
        raise complaint
    if loss.shape != ():
        raise NotYet(
            "not one number",
            f"A loss is one number, shape (); yours has shape {tuple(loss.shape)}. What is done with the batch?",
        )
    (gradient,) = torch.autograd.grad(loss, phi, allow_unused=True) if loss.requires_grad else (None,)
    if gradient is None:
        raise NotYet(
            "no gradient",
            "No gradient gets back from your loss to log_q, and its gradient is all that is asked for. What cut it "
            "off: a detach, an item(), a no_grad around too much?",
        )
    return {"gradient": gradient} | slopes


def _explain_5(seen: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """With the gradients of the inputs, so that the gradient of the loss can be worked out on paper."""
    lines = [f"gradient of {name} = {numbers_text(expected[name])}" for name in ("f_values", "log_q", "baseline")]
    lines += [f"expected: gradient of the loss = {numbers_text(expected['gradient'])}"]
    lines += [f"came:     gradient of the loss = {numbers_text(seen['gradient'])}"]
    return "\n".join(f"    {line}" for line in lines)


EXERCISE_5 = Exercise(
    number="3.5",
    title="A loss for autograd",
    minutes=8,
    stub=STUB_5,
    hints=(
        "Autograd differentiates whatever you give it. Find an expression whose derivative is (f − b)·∇log q: in it, "
        "(f − b) has to behave like a plain number.",
        ".detach() turns a tensor into plain numbers. Multiply the detached weight with log_q, whose gradient must "
        "stay, and average over the batch.",
        "weight = (f_values - baseline).detach(), and then (weight * log_q).mean().",
    ),
    solution=score_function_loss,
    passed="Its value means nothing, only its gradient does: that is why it is called a surrogate.",
    judge=Compare(
        cases=_cases_5,
        observe=_observe_5,
        explain=_explain_5,
        misconceptions=(
            Misconception(
                "weight not detached",
                lambda f, log_q, b: ((f - b) * log_q).mean(),
                "The gradient went through f and the baseline as well, which adds log q · ∇(f − b) to the estimate. "
                "What makes a tensor a plain number?",
            ),
            Misconception(
                "baseline not detached",
                lambda f, log_q, b: ((f.detach() - b) * log_q).mean(),
                "f is a plain number now, but the baseline still carries a gradient.",
            ),
            Misconception(
                "f not detached",
                lambda f, log_q, b: ((f - b.detach()) * log_q).mean(),
                "The baseline is a plain number now, but f still carries its gradient.",
            ),
            Misconception(
                "no baseline",
                lambda f, log_q, b: (f.detach() * log_q).mean(),
                "The baseline took no part. What is subtracted from f?",
            ),
            Misconception(
                "sign",
                lambda f, log_q, b: -((f - b).detach() * log_q).mean(),
                "The sign is the wrong way round. In reinforcement learning a reward is maximised, hence the minus "
                "found in their code; f here is a loss.",
            ),
            Misconception(
                "baseline added",
                lambda f, log_q, b: ((f + b).detach() * log_q).mean(),
                "The baseline was added to f instead of subtracted.",
            ),
            Misconception(
                "summed over the batch",
                lambda f, log_q, b: ((f - b).detach() * log_q).sum(),
                "This is the sum over the batch, so the gradient grows with the batch size. An average was asked for.",
            ),
            Misconception(
                "baseline taken off log_q",
                lambda f, log_q, b: (f.detach() * (log_q - b)).mean(),
                "The baseline belongs to f: it says what f was expected to be. Here it was taken off log q.",
            ),
            Misconception(
                "log_q detached",
                lambda f, log_q, b: ((f - b) * log_q.detach()).mean(),
                "The wrong factor was detached: the gradient must go through log_q, and not through f.",
            ),
            Misconception(
                "probability instead of its logarithm",
                lambda f, log_q, b: ((f - b).detach() * log_q.exp()).mean(),
                "This is the density itself, exp(log q). The score is the gradient of the logarithm.",
            ),
            Misconception(
                "averaged before the product",
                lambda f, log_q, b: (f - b).detach().mean() * log_q.mean(),
                "The batch was averaged before multiplying: every sample got the same weight. Which comes first, the "
                "product or the mean?",
            ),
            Misconception(
                "the pathwise loss",
                lambda f, log_q, b: f.mean(),
                "This gradient is the mean slope of f, as in the pathwise estimate: nothing of log_q is in it. Through "
                "which of the three tensors is the gradient to pass?",
            ),
            Misconception(
                "the mean of the weights",
                lambda f, log_q, b: (f - b).mean(),
                "This gradient is that of the mean of f − b, in which log_q takes no part. What multiplies each f − b "
                "in the estimate?",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5)
