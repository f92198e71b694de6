"""The exercises of notebook 02, the ELBO."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._attempt import Attempt, NotYet
from ._compare import Compare, Misconception, as_tensor, gradient_reaches, require_gradient
from ._framework import Exercise


def _random(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def _two(attempt: Attempt, case: tuple, names: tuple[str, str]) -> dict[str, Tensor]:
    """What a function gives that was asked for two tensors."""
    returned = attempt(*case)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        came = f"a {type(returned).__name__}" + (f" of {len(returned)}" if isinstance(returned, tuple | list) else "")
        raise NotYet("not a pair", f"Expected two tensors, {names[0]} and {names[1]}; {came} came back.")
    tensors = {}
    for name, value in zip(names, returned, strict=True):
        if not isinstance(value, Tensor):
            raise NotYet(
                "not a tensor",
                f"{name} is of type {type(value).__name__}; a torch tensor was expected. Which step left torch, an "
                "item(), a trip through numpy? Or was it never a tensor?",
            )
        tensors[name], _ = as_tensor(value)
    return tensors


# 2.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def log_mean_exp(log_w):
    """Return the log of the mean of exp(log_w) over the samples, without leaving the range of floats.

    log_w:  (S, B), logarithms: S samples for each of B examples, perhaps all near -2000 or +1000
    result: (B,)
    """
    ...'''


def log_mean_exp(log_w):
    highest = log_w.amax(dim=0)  # (B,)
    shifted = (log_w - highest).exp()  # the largest is exp(0) = 1
    return highest + shifted.mean(dim=0).log()


def _cases_1(rng: torch.Generator) -> list[tuple]:
    small = torch.tensor([[1.0, 3.0], [4.0, 1.0], [7.0, 5.0]]).double().log()
    far_apart = torch.tensor([[-2000.0, 1000.0], [-2001.0, 999.0]]).double()  # the examples
    spread = torch.tensor([[-3000.0], [-1.0], [-3001.0]]).double()  # within an example
    cases = [small, small - 1200, 3 * _random(rng, 5, 3), 2 * _random(rng, 4, 1) + 1000, far_apart, spread]
    return [(log_w,) for log_w in cases]


EXERCISE_1 = Exercise(
    number="2.1",
    title="The log of a mean of exponentials",
    minutes=5,
    stub=STUB_1,
    hints=(
        "The formula is short: exponentiate, average over the samples, take the log. What does exp(-1200) "
        "become in a computer, and what does its log become?",
        "A common factor may be pulled out of a mean: with any number m, the mean of exp(log_w) is exp(m) "
        "times the mean of exp(log_w - m). Which m keeps every exponential between 0 and 1?",
        "Take the largest log_w of each example as m: log_w.amax(dim=0). (torch.logsumexp does the same for a "
        "sum; a mean is a sum divided by S, so in the log something is subtracted.)",
    ),
    solution=log_mean_exp,
    passed="From here on every average of densities is taken in this way.",
    judge=Compare(
        cases=_cases_1,
        also=gradient_reaches("log_w"),
        misconceptions=(
            Misconception(
                "out of range",
                lambda log_w: log_w.exp().mean(0).log(),
                "The formula is right and the computer is not up to it: exp(-1200) is 0 and exp(1000) is infinite "
                "in floating point. What could be subtracted before exp, and added back after log?",
            ),
            Misconception(
                "not the largest taken out",
                lambda log_w: (log_w - log_w.amin(0)).exp().mean(0).log() + log_w.amin(0),
                "Something was subtracted before exp and added back after log, which is the right idea. But here large "
                "positive numbers are left, and their exp is infinite. What must be subtracted so that no number above "
                "0 is left?",
            ),
            Misconception(
                "sum, and out of range",
                lambda log_w: log_w.exp().sum(0).log(),
                "Two things are left to do. The samples are added up where their mean was asked for; and in floating "
                "point exp(-1200) is 0 and exp(1000) infinite, so the logs do not come back. What could be subtracted "
                "before exp?",
            ),
            Misconception(
                "one maximum for the batch",
                lambda log_w: (log_w - log_w.max()).exp().mean(0).log() + log_w.max(),
                "One maximum was taken for the whole batch. An example far below it becomes exp(-3000) = 0. Along "
                "which axis should the maximum run?",
            ),
            Misconception(
                "mean of the logs",
                lambda log_w: log_w.mean(0),
                "This is the mean of the logs. The log of the mean is larger (section 3 is about the difference). "
                "Which of the two comes first here, the mean or the log?",
            ),
            Misconception(
                "sum instead of mean",
                lambda log_w: log_w.logsumexp(0),
                "This is the log of the sum: it grows by log 2 whenever the number of samples doubles. What turns a "
                "sum into a mean, and what does that become inside a log?",
            ),
            Misconception(
                "divided outside of the log",
                lambda log_w: log_w.logsumexp(0) / len(log_w),
                "Dividing by S belongs inside the log. What does a division inside become outside?",
            ),
            Misconception(
                "S in place of log S",
                lambda log_w: log_w.logsumexp(0) - len(log_w),
                "Nearly: dividing by S inside the log subtracts something outside, but not S itself. What is it?",
            ),
            Misconception(
                "over the batch",
                lambda log_w: log_w.logsumexp(1) - math.log(log_w.shape[1]),
                "The average runs over the examples, and each sample is left with a number of its own. Which axis "
                "holds the samples?",
            ),
            Misconception(
                "one number for all",
                lambda log_w: log_w.flatten().logsumexp(0) - math.log(log_w.numel()),
                "Samples and examples were averaged together. How many numbers should be left, one for each what?",
            ),
            Misconception(
                "maximum",
                lambda log_w: log_w.amax(0),
                "This is the largest sample alone. It is most of the story when one sample dwarfs the rest, but what "
                "about the others, and the S that divides?",
            ),
            Misconception(
                "maximum not added back",
                lambda log_w: (log_w - log_w.amax(0)).exp().mean(0).log(),
                "The maximum was taken out to keep exp in range, and left out. Where does it come back?",
            ),
            Misconception(
                "no log at the end",
                lambda log_w: log_w.exp().mean(0),
                "This is the mean itself. The result should again be a logarithm: a density of 784 pixels soon "
                "leaves the range of floats.",
            ),
            Misconception(
                "weights that sum to one",
                lambda log_w: (log_w.softmax(0) * log_w).sum(0),
                "This averages the logs, with softmax weights. No weights are needed: every sample counts 1/S.",
            ),
        ),
    ),
)

# 2.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def distortion_and_rate(x, mu, log_var, W, b, sigma):
    """Return the two terms of the ELBO of q(z|x) = N(mu, diag(exp(log_var))), in nats, without sampling.

    The model is p(z) = N(0, I), p(x|z) = N(W z + b, sigma^2 I).
    x:           (B, D)
    mu, log_var: (B, L)
    W, b, sigma: (D, L), (D,) and a number
    result:      distortion (B,), which is -E_q[log p(x|z)], and rate (B,), which is KL(q || p(z))
    """
    ...'''


def distortion_and_rate(x, mu, log_var, W, b, sigma):
    variance = log_var.exp()
    squares = (x - b - mu @ W.T).square().sum(dim=1) + variance @ W.square().sum(dim=0)
    distortion = 0.5 * (x.shape[1] * math.log(2 * math.pi * sigma**2) + squares / sigma**2)
    rate = 0.5 * (mu.square() + variance - 1 - log_var).sum(dim=1)
    return distortion, rate


def _cases_2(rng: torch.Generator) -> list[tuple]:
    def case(batch: int, size: int, latent: int, sigma: float) -> tuple:
        r = lambda *shape: (2 * _random(rng, *shape)).round() / 4 + 0.125  # noqa: E731
        return r(batch, size), r(batch, latent), r(batch, latent), r(size, latent), r(size), sigma

    return [case(2, 3, 2, 0.5), case(1, 4, 1, 2.0), case(3, 2, 3, 0.7)]


def _wrong_2(
    squares: Callable[..., Tensor] | None = None,
    distortion: Callable[..., Tensor] | None = None,
    rate: Callable[..., Tensor] | None = None,
    pair: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """The solution with one of its steps replaced."""
    squares = squares or (lambda o, v, lv, W: o.square().sum(1) + v @ W.square().sum(0))
    distortion = distortion or (lambda sq, D, s: 0.5 * (D * math.log(2 * math.pi * s**2) + sq / s**2))
    rate = rate or (lambda mu, v, lv: 0.5 * (mu.square() + v - 1 - lv).sum(1))
    pair = pair or (lambda d, r: (d, r))

    def wrong(x: Tensor, mu: Tensor, log_var: Tensor, W: Tensor, b: Tensor, sigma: float) -> Any:
        variance = log_var.exp()
        d = distortion(squares(x - b - mu @ W.T, variance, log_var, W), x.shape[1], sigma)
        return pair(d, rate(mu, variance, log_var))

    return wrong


def _trains_2(attempt: Attempt, cases: Any) -> None:
    """Each term by itself must carry a gradient back to all that it depends on and that may be trained."""
    for i, term, names in ((0, "distortion", ("mu", "log_var", "W", "b")), (1, "rate", ("mu", "log_var"))):
        for name in names:
            args = [attempt.prepare(argument) for argument in cases[0]]
            wanted = args[attempt.parameters.index(name)].requires_grad_()
            returned = attempt.run(attempt.answer, *args, doing=f"with a {name} that requires a gradient")
            require_gradient(returned[i], [wanted], f"{name} from the {term}")


EXERCISE_2 = Exercise(
    number="2.2",
    title="Distortion and rate of a linear-Gaussian model",
    minutes=10,
    stub=STUB_2,
    hints=(
        "Start with the distortion. Only one thing in -log p(x|z) depends on z, the squared distance between x and "
        "W z + b. What is its mean when z has mean mu and variance exp(log_var)?",
        "The mean of a square is the square of the mean plus the variance. So the expected squared distance is that "
        "of W mu + b, plus the variance of each code times the squared length of its column of W. The rest of "
        "-log p(x|z) is D/2 log(2 pi sigma^2), and a factor. The rate is the sum of (mu^2 + variance - 1 - log "
        "variance)/2.",
        "With v = exp(log_var): the squares are the row sums of (x - b - mu Wᵀ)², plus v times the column sums of "
        "W². Distortion: half of (D log(2 pi sigma²) + squares / sigma²). Rate: half of the sum over the codes "
        "of mu² + v - 1 - log_var.",
    ),
    solution=distortion_and_rate,
    passed="Minus their sum is the ELBO, exactly and without a single sample.",
    judge=Compare(
        cases=_cases_2,
        observe=lambda attempt, *case: _two(attempt, case, ("distortion", "rate")),
        also=_trains_2,
        misconceptions=(
            Misconception(
                "z kept at its mean",
                _wrong_2(squares=lambda o, v, lv, W: o.square().sum(1)),
                "The distortion is the one at z = mu. But z is spread around mu, and a spread of z moves W z + b away "
                "from x, on average. What does that add to the expected squared distance?",
            ),
            Misconception(
                "log-variance used as a variance",
                _wrong_2(squares=lambda o, v, lv, W: o.square().sum(1) + lv @ W.square().sum(0)),
                "The spread of z enters as log_var itself, which can be negative. What turns a log-variance into a "
                "variance?",
            ),
            Misconception(
                "standard deviation in place of the variance",
                _wrong_2(squares=lambda o, v, lv, W: o.square().sum(1) + v.sqrt() @ W.square().sum(0)),
                "The spread of z enters as a standard deviation. A squared distance grows with which power of it?",
            ),
            Misconception(
                "columns of W not squared",
                _wrong_2(squares=lambda o, v, lv, W: o.square().sum(1) + v @ W.sum(0)),
                "A code with variance v, multiplied by a weight w, has which variance? w is not squared here.",
            ),
            Misconception(
                "lengths of W ignored",
                _wrong_2(squares=lambda o, v, lv, W: o.square().sum(1) + v.sum(1)),
                "The variance of z was added as it is, but between z and x stands W. How far does a step in z move x?",
            ),
            Misconception(
                "sigma not squared",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * (D * math.log(2 * math.pi * s**2) + sq / s)),
                "The squares are divided by sigma. In what units are they, and in what units is sigma?",
            ),
            Misconception(
                "no constant",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * sq / s**2),
                "The squared error is there, the normalising constant of the Gaussian is not. It depends on sigma, "
                "so it is not constant in training, and without it this is no log-density.",
            ),
            Misconception(
                "the constant of one pixel",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * (math.log(2 * math.pi * s**2) + sq / s**2)),
                "The constant of a one-dimensional Gaussian was added once. x has D numbers: how many Gaussians are "
                "multiplied?",
            ),
            Misconception(
                "the constant without sigma",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * (D * math.log(2 * math.pi) + sq / s**2)),
                "log 2 pi is there, but a wide Gaussian is also lower. Where does sigma enter the constant?",
            ),
            Misconception(
                "log sigma for log sigma squared",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * (D * (math.log(2 * math.pi) + math.log(s)) + sq / s**2)),
                "The constant holds log sigma where the density has sigma² below a root. Half of the log of which of "
                "the two belongs there?",
            ),
            Misconception(
                "factor one half forgotten in the distortion",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * D * math.log(2 * math.pi * s**2) + sq / s**2),
                "The constant is right and the squared error counts twice. What stands in the exponent of a Gaussian?",
            ),
            Misconception(
                "mean over the pixels",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * (math.log(2 * math.pi * s**2) + sq / (D * s**2))),
                "The distortion is averaged over the D pixels, while the rate is not averaged over anything. Both are "
                "nats per example: what is summed?",
            ),
            Misconception(
                "squares averaged over the pixels",
                _wrong_2(distortion=lambda sq, D, s: 0.5 * (D * math.log(2 * math.pi * s**2) + sq / (D * s**2))),
                "The constant counts all D pixels, while the expected squares are averaged over them. What does one "
                "more pixel add to -log p(x|z)?",
            ),
            Misconception(
                "distance averaged, spread summed",
                _wrong_2(squares=lambda o, v, lv, W: o.square().mean(1) + v @ W.square().sum(0)),
                "The squared distance between x and W mu + b is averaged over the pixels, and what the spread of z "
                "adds to it is a sum over them. Which of the two does the exponent of the density hold?",
            ),
            Misconception(
                "sign of the distortion",
                _wrong_2(pair=lambda d, r: (-d, r)),
                "This is E_q[log p(x|z)]. The distortion is a cost: which sign does it have?",
            ),
            Misconception(
                "sign of the rate",
                _wrong_2(pair=lambda d, r: (d, -r)),
                "The rate comes out negative. A KL divergence never is: which sign is turned round?",
            ),
            Misconception(
                "log forgotten in the rate",
                _wrong_2(rate=lambda mu, v, lv: 0.5 * (mu.square() + v - 1).sum(1)),
                "This rate would let the variance shrink to 0 for free. Which term of the KL stops it?",
            ),
            Misconception(
                "1 forgotten in the rate",
                _wrong_2(rate=lambda mu, v, lv: 0.5 * (mu.square() + v - lv).sum(1)),
                "For mu = 0 and a variance of 1, q is the prior and the rate should be 0. What does yours give there?",
            ),
            Misconception(
                "factor one half forgotten in the rate",
                _wrong_2(rate=lambda mu, v, lv: (mu.square() + v - 1 - lv).sum(1)),
                "The rate is exactly twice as large as it should be.",
            ),
            Misconception(
                "rate averaged over the codes",
                _wrong_2(rate=lambda mu, v, lv: 0.5 * (mu.square() + v - 1 - lv).mean(1)),
                "The rate is averaged over the dimensions of the code, while the distortion is a sum over pixels. What "
                "does a second, independent code add to what has to be told?",
            ),
            Misconception(
                "half of the log-variance in the rate",
                _wrong_2(rate=lambda mu, v, lv: 0.5 * (mu.square() + v - 1 - 0.5 * lv).sum(1)),
                "This rate holds log sigma where log sigma² belongs. At which variance should the rate of a code with "
                "mean 0 be smallest?",
            ),
            Misconception(
                "one rate for the batch",
                _wrong_2(rate=lambda mu, v, lv: 0.5 * (mu.square() + v - 1 - lv).sum()),
                "The rate was summed over the batch as well. Over which axis are the codes of one example?",
            ),
            Misconception(
                "in the other order",
                _wrong_2(pair=lambda d, r: (r, d)),
                "Both are right, in the other order: the distortion comes first.",
            ),
        ),
    ),
)

# 2.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def posterior(x, W, b, sigma):
    """Return mean and covariance of p(z|x) for p(z) = N(0, I) and p(x|z) = N(W z + b, sigma^2 I).

    x:           (B, D)
    W, b, sigma: (D, L), (D,) and a number
    result:      mean (B, L) and covariance (L, L)
    """
    ...'''


def posterior(x, W, b, sigma):
    precision = torch.eye(W.shape[1], dtype=W.dtype, device=W.device) + W.T @ W / sigma**2
    covariance = torch.linalg.inv(precision)
    mean = (x - b) @ W @ covariance / sigma**2
    return mean, covariance


def _cases_3(rng: torch.Generator) -> list[tuple]:
    one = tuple(torch.tensor(t).double() for t in ([[2.0], [-1.0]], [[1.0]], [0.5]))
    many = [(_random(rng, 3, 4), _random(rng, 4, 2), _random(rng, 4), 0.6)]
    many += [(_random(rng, 2, 3), _random(rng, 3, 3), _random(rng, 3), 1.5)]
    return [(*one, 0.5), *many]


def _wrong_3(
    precision: Callable[..., Tensor] | None = None,
    mean: Callable[..., Tensor] | None = None,
    pair: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    precision = precision or (lambda eye, G, s: eye + G / s**2)
    mean = mean or (lambda o, W, S, s: o @ W @ S / s**2)
    pair = pair or (lambda m, S, P: (m, S))

    def wrong(x: Tensor, W: Tensor, b: Tensor, sigma: float) -> Any:
        P = precision(torch.eye(W.shape[1]).to(W), W.T @ W, sigma)
        S = torch.linalg.inv(P)
        return pair(mean(x - b, W, S, sigma), S, P)

    return wrong


EXERCISE_3 = Exercise(
    number="2.3",
    title="The posterior of the linear-Gaussian model",
    minutes=10,
    stub=STUB_3,
    hints=(
        "By Bayes' rule, log p(z|x) is log p(x|z) + log p(z) up to a constant. Both are quadratic in z, so the "
        "posterior is Gaussian: collect the terms with z twice, then those with z once.",
        "Terms with z twice: -(1/2) zᵀ (I + Wᵀ W / sigma²) z. The matrix in the middle is the inverse of the "
        "covariance. Terms with z once: zᵀ Wᵀ (x - b) / sigma². In a Gaussian they are zᵀ times the inverse "
        "covariance times the mean.",
        "The covariance Σ is the inverse of I + Wᵀ W / sigma², and the mean, as a column, is Σ Wᵀ (x - b) / sigma². "
        "For rows of x, turn the product round; Σ is symmetric.",
    ),
    solution=posterior,
    passed="The covariance does not depend on x: in this model every example is equally uncertain.",
    judge=Compare(
        cases=_cases_3,
        observe=lambda attempt, *case: _two(attempt, case, ("mean", "covariance")),
        misconceptions=(
            Misconception(
                "sigma not squared",
                _wrong_3(lambda eye, G, s: eye + G / s, lambda o, W, S, s: o @ W @ S / s),
                "Sigma is the standard deviation of the noise, and the exponent of a Gaussian holds its square. Where "
                "is the square?",
            ),
            Misconception(
                "sigma squared in one place only",
                _wrong_3(mean=lambda o, W, S, s: o @ W @ S / s),
                "The covariance is right. In the mean, the noise enters as sigma, there as its square: which is it?",
            ),
            Misconception(
                "prior forgotten",
                _wrong_3(lambda eye, G, s: G / s**2),
                "This is what x alone says about z, least squares. The prior has an opinion too: it adds its own "
                "inverse covariance. Which one?",
            ),
            Misconception(
                "b forgotten",
                lambda x, W, b, sigma: _wrong_3()(x, W, torch.zeros_like(b), sigma),
                "At z = 0 the model expects x = b, not x = 0. What should the mean be for x = b?",
            ),
            Misconception(
                "b ignored and prior forgotten",
                lambda x, W, b, sigma: _wrong_3(lambda eye, G, s: G / s**2)(x, W, torch.zeros_like(b), sigma),
                "Two things are missing: b, which x is compared with, and the prior, which adds to the inverse "
                "covariance.",
            ),
            Misconception(
                "precision, not covariance",
                _wrong_3(pair=lambda m, S, P: (m, P)),
                "The mean is right. The second matrix is the inverse of the covariance, the precision: it grows "
                "with certainty.",
            ),
            Misconception(
                "noise left out of the mean",
                _wrong_3(mean=lambda o, W, S, s: o @ W @ S),
                "The covariance is right. The mean ignores how noisy x is: a term of log p(x|z) has sigma² below it.",
            ),
            Misconception(
                "mean not multiplied by the covariance",
                _wrong_3(mean=lambda o, W, S, s: o @ W / s**2),
                "The covariance is right. The term with z once holds the inverse covariance *times* the mean; "
                "what remains to be done?",
            ),
            Misconception(
                "projection only",
                _wrong_3(mean=lambda o, W, S, s: o @ W),
                "The mean is the plain projection of x - b onto the columns of W. It corrects neither for the lengths "
                "of the columns, nor for the noise, nor for the prior. Which matrix knows of all three?",
            ),
            Misconception(
                "covariance without the noise",
                lambda x, W, b, sigma: (
                    _wrong_3()(x, W, b, sigma)[0],
                    torch.linalg.inv(W.T @ W + sigma**2 * torch.eye(W.shape[1]).to(W)),
                ),
                "The mean is right. The covariance lacks a factor: with less noise it should shrink to 0. Which factor "
                "does (Wᵀ W + sigma² I)⁻¹ still need?",
            ),
            Misconception(
                "variances only",
                _wrong_3(pair=lambda m, S, P: (m, S.diagonal().diag())),
                "The variances are right, but codes that explain the same pixels are correlated given x. Where did the "
                "numbers off the diagonal go?",
            ),
            Misconception(
                "in the other order",
                _wrong_3(pair=lambda m, S, P: (S, m)),
                "Both are right, in the other order: the mean comes first.",
            ),
            Misconception(
                "divided where multiplied",
                _wrong_3(lambda eye, G, s: eye + G * s**2, lambda o, W, S, s: o @ W @ S * s**2),
                "Here more noise in x makes the posterior narrower. On which side of the fraction is sigma²?",
            ),
        ),
    ),
)

# 2.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def multi_sample_bound(log_w, k):
    """Estimate the bound L_k of each example from S samples: the average over S / k groups of k samples.

    log_w:  (S, B), log importance weights; rows 0 to k - 1 are the first group, the next k rows the second, ...
    k:      size of a group, a divisor of S
    result: (B,)
    """
    ...'''


def multi_sample_bound(log_w, k):
    groups = log_w.unflatten(0, (-1, k))  # (S / k, k, B)
    bounds = groups.logsumexp(dim=1) - math.log(k)  # (S / k, B)
    return bounds.mean(dim=0)


def _cases_4(rng: torch.Generator) -> list[tuple]:
    small = torch.tensor([[1.0, 2.0], [3.0, 2.0], [8.0, 1.0], [2.0, 9.0], [5.0, 1.0], [1.0, 3.0]]).double().log()
    far_apart = torch.tensor([[-2000.0, 1000.0], [-2001.0, 999.0]]).double()  # the examples
    spread = torch.tensor([[-3000.0], [-1.0], [-2.0], [-3001.0], [-3000.0], [-3001.0]]).double()  # within one
    return [
        (small, 2),
        (2 * _random(rng, 12, 3) - 1200, 3),
        (2 * _random(rng, 20, 2), 4),
        (small, 6),
        (small, 1),
        (far_apart, 2),
        (spread, 2),
    ]


EXERCISE_4 = Exercise(
    number="2.4",
    title="The multi-sample bound",
    minutes=6,
    stub=STUB_4,
    hints=(
        "There are two averages in L_k: one of k weights, inside the log, and one of many such logs, outside. Which "
        "samples take part in which?",
        "Give the samples an axis more: from (S, B) to (S / k, k, B), one row for each group. Then exercise 2.1 "
        "along one of the axes, and a plain mean along another.",
        "`log_w.unflatten(0, (-1, k))` makes the groups. Over axis 1 take logsumexp and subtract log k; over axis 0 "
        "take the mean.",
    ),
    solution=multi_sample_bound,
    passed="k = 1 is the ELBO; k = S the importance-weighted estimate of log p(x), on average still too low.",
    judge=Compare(
        cases=_cases_4,
        also=gradient_reaches("log_w"),
        misconceptions=(
            Misconception(
                "k ignored: mean of the logs",
                lambda log_w, k: log_w.mean(0),
                "This is the mean of all logs, L_1, whatever k is. In L_k, k weights are averaged before the log is "
                "taken.",
            ),
            Misconception(
                "k ignored: one group of all",
                lambda log_w, k: log_w.logsumexp(0) - math.log(len(log_w)),
                "All S samples were put into one log: that is L_S. How many logs should there be, if each has k "
                "samples?",
            ),
            Misconception(
                "sum within the groups",
                lambda log_w, k: log_w.unflatten(0, (-1, k)).logsumexp(1).mean(0),
                "Each group's weights are added up rather than averaged, so the bound rises by log k too much, and may "
                "pass log p(x).",
            ),
            Misconception(
                "k groups",
                lambda log_w, k: (log_w.unflatten(0, (k, -1)).logsumexp(1) - math.log(len(log_w) // k)).mean(0),
                "There are k groups here; k samples in each were asked for. Which axis of the new shape is k long?",
            ),
            Misconception(
                "k groups, minus log k",
                lambda log_w, k: (log_w.unflatten(0, (k, -1)).logsumexp(1) - math.log(k)).mean(0),
                "There are k groups of S / k samples here, and each is divided as if it held k. Which of the two new "
                "axes is k long?",
            ),
            Misconception(
                "groups across the rows",
                lambda log_w, k: (log_w.unflatten(0, (k, -1)).logsumexp(0) - math.log(k)).mean(0),
                "These are groups of k, and the estimate is as good, but the groups are not consecutive rows as "
                "asked, so the numbers differ. Which of the two axes of the reshaped samples runs within a group?",
            ),
            Misconception(
                "log of a mean over the groups",
                lambda log_w, k: (log_w.unflatten(0, (-1, k)).logsumexp(0) - math.log(len(log_w) // k)).mean(0),
                "In each of these logs stands one sample from every group, S / k of them. Which of the two new axes "
                "runs within a group?",
            ),
            Misconception(
                "log of a sum over the groups, minus log k",
                lambda log_w, k: (log_w.unflatten(0, (-1, k)).logsumexp(0) - math.log(k)).mean(0),
                "Each of these logs adds up one sample from every group, S / k of them, and divides by k. Over which "
                "of the two new axes does the sum run, and which one is k long?",
            ),
            Misconception(
                "only the first group",
                lambda log_w, k: log_w[:k].logsumexp(0) - math.log(k),
                "The first group alone: unbiased for L_k, but S - k samples are thrown away. What about the other "
                "groups?",
            ),
            Misconception(
                "out of range",
                lambda log_w, k: log_w.unflatten(0, (-1, k)).exp().mean(1).log().mean(0),
                "Right on paper, but exp(-1200) is 0 in floating point. Exercise 2.1 has the remedy.",
            ),
            Misconception(
                "sum within the groups, and out of range",
                lambda log_w, k: log_w.unflatten(0, (-1, k)).exp().sum(1).log().mean(0),
                "Two things are left to do. The k weights of a group are added up where their mean was asked for; and "
                "exp(-1200) is 0 in floating point, as in exercise 2.1. What was the remedy there?",
            ),
            Misconception(
                "not the largest taken out",
                lambda log_w, k: torch.stack(
                    [(g - g.amin(0)).exp().mean(0).log() + g.amin(0) for g in log_w.split(k)]
                ).mean(0),
                "What is subtracted before exp leaves large positive numbers in some groups, and their exp is "
                "infinite. Which number of each group leaves none above 0?",
            ),
            Misconception(
                "one maximum for all groups",
                lambda log_w, k: (
                    (log_w - log_w.amax(0)).unflatten(0, (-1, k)).exp().mean(1).log().mean(0) + log_w.amax(0)
                ),
                "One maximum was taken over all S samples of an example. In a group far below it every weight becomes "
                "exp(-2999) = 0, and the log of their mean is -inf. Over which rows should each maximum run?",
            ),
            Misconception(
                "one maximum for the batch",
                lambda log_w, k: (log_w - log_w.max()).unflatten(0, (-1, k)).exp().mean(1).log().mean(0) + log_w.max(),
                "One maximum was taken for the whole batch. An example far below it becomes exp(-3000) = 0. Over "
                "which axes should each maximum run?",
            ),
            Misconception(
                "log S in place of log k",
                lambda log_w, k: log_w.unflatten(0, (-1, k)).logsumexp(1).mean(0) - math.log(len(log_w)),
                "Log S is subtracted from each group's log. How many weights were added up inside that log?",
            ),
            Misconception(
                "best of each group",
                lambda log_w, k: log_w.unflatten(0, (-1, k)).amax(1).mean(0),
                "This takes the largest weight of each group. The bound wants their average, inside the log.",
            ),
            Misconception(
                "average of the groups inside the log",
                lambda log_w, k: log_w.unflatten(0, (-1, k)).mean(1).logsumexp(0) - math.log(len(log_w) // k),
                "Inside and outside are swapped: the mean of logs was taken within the groups, and the log of a mean "
                "over the groups. Which comes first?",
            ),
            Misconception(
                "one number for the batch",
                lambda log_w, k: (log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)).mean(),
                "The examples were averaged as well. Each should keep its own bound.",
            ),
            Misconception(
                "one number for each group",
                lambda log_w, k: log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k),
                "These are the logs of all groups, (S / k, B). One average is left to take.",
            ),
        ),
    ),
)

# 2.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def fit_linear_gaussian(covariance, latent_dim):
    """Return W and sigma of the linear-Gaussian model under which centred data are most likely.

    covariance: (D, D), of the data, divided by N
    latent_dim: L, smaller than D
    result:     W (D, L), up to a rotation of the codes, and sigma, shape ()
    """
    ...'''


def fit_linear_gaussian(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)  # in ascending order
    variance = values[:-latent_dim].mean()
    W = vectors[:, -latent_dim:] * (values[-latent_dim:] - variance).sqrt()
    return W, variance.sqrt()


def _cases_5(rng: torch.Generator) -> list[tuple]:
    turn = torch.linalg.qr(_random(rng, 5, 5))[0]
    five = turn @ torch.tensor([9.0, 4.0, 1.0, 0.5, 0.3]).double().diag() @ turn.T
    return [(torch.tensor([4.0, 9.0, 1.0]).double().diag(), 1), (five, 2), (five, 1), (five, 3)]


def _observe_5(attempt: Attempt, covariance: Tensor, latent_dim: int) -> dict[str, Tensor]:
    """W Wᵀ, since a rotation of the codes changes W and nothing else, and sigma."""
    found = _two(attempt, (covariance, latent_dim), ("W", "sigma"))
    W, sigma = found["W"], found["sigma"]
    if W.shape != (len(covariance), latent_dim):
        raise NotYet(
            "wrong shape",
            f"With a covariance of shape {tuple(covariance.shape)} and latent_dim = {latent_dim}, W should have shape "
            f"{(len(covariance), latent_dim)}; it has {tuple(W.shape)}. Eigenvectors are the columns of what eigh "
            f"gives.",
        )
    return {"W Wᵀ": W @ W.T, "sigma": sigma}


def _wrong_5(
    noise: Callable[[Tensor, int], Tensor] | None = None,
    lengths: Callable[[Tensor, Tensor], Tensor] | None = None,
    sigma: Callable[[Tensor], Tensor] = torch.sqrt,
) -> Callable[..., Any]:
    noise = noise or (lambda values, L: values[:-L].mean())
    lengths = lengths or (lambda top, variance: (top - variance).sqrt())

    def wrong(covariance: Tensor, latent_dim: int) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(covariance)
        variance = noise(values, latent_dim)
        return vectors[:, -latent_dim:] * lengths(values[-latent_dim:], variance), sigma(variance)

    return wrong


def _first_ones_5(covariance: Tensor, latent_dim: int) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(covariance)
    variance = values[latent_dim:].mean()
    return vectors[:, :latent_dim] * (values[:latent_dim] - variance).abs().sqrt(), variance.sqrt()


def _wrong_end_5(covariance: Tensor, latent_dim: int) -> tuple[Tensor, Tensor]:
    """Every length is the root of a negative number, and no direction survives it."""
    sigma = torch.linalg.eigvalsh(covariance)[latent_dim:].mean().sqrt()
    return covariance.new_full((len(covariance), latent_dim), torch.nan), sigma


def _flipped_5(covariance: Tensor, latent_dim: int) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(covariance)
    values = values.flip(0)
    variance = values[latent_dim:].mean()
    return vectors[:, :latent_dim] * (values[:latent_dim] - variance).sqrt(), variance.sqrt()


def _rows_5(covariance: Tensor, latent_dim: int) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(covariance)
    variance = values[:-latent_dim].mean()
    return vectors.T[:, -latent_dim:] * (values[-latent_dim:] - variance).sqrt(), variance.sqrt()


EXERCISE_5 = Exercise(
    number="2.5",
    title="The maximum-likelihood solution",
    minutes=8,
    stub=STUB_5,
    hints=(
        "The model's covariance is W Wᵀ + sigma² I. It can match the data's variance in L directions; in the others "
        "it has one number, sigma², for all. Which L directions would you choose, and which sigma²?",
        "With the eigenvalues of the covariance: sigma² is the mean of those that are left out. In a direction that "
        "is kept, the noise already contributes sigma², so W has to supply the rest of the eigenvalue.",
        "torch.linalg.eigh gives eigenvalues in ascending order, eigenvectors as columns: the last L are wanted. "
        "Each of these columns is scaled by the root of (eigenvalue - sigma²). Return W and the root of sigma².",
    ),
    solution=fit_linear_gaussian,
    passed="PCA's plane, and a noise level that nobody had to choose.",
    judge=Compare(
        cases=_cases_5,
        observe=_observe_5,
        misconceptions=(
            Misconception(
                "noise counted twice",
                _wrong_5(lengths=lambda top, v: top.sqrt()),
                "Along the kept directions the model's variance is now eigenvalue + sigma²: too much by sigma². Who "
                "else contributes variance there?",
            ),
            Misconception(
                "noise added",
                _wrong_5(lengths=lambda top, v: (top + v).sqrt()),
                "The noise was added to the kept eigenvalues. W Wᵀ + sigma² I should equal the eigenvalue: what must W "
                "Wᵀ be?",
            ),
            Misconception(
                "root forgotten",
                _wrong_5(lengths=lambda top, v: top - v),
                "These columns have the variance as their length. W enters the covariance twice, as W Wᵀ: what should "
                "its length be?",
            ),
            Misconception(
                "directions only",
                _wrong_5(lengths=lambda top, v: torch.ones_like(top)),
                "The right directions, all of length 1. How much variance should each of them carry?",
            ),
            Misconception(
                "smallest eigenvalues",
                _first_ones_5,
                "eigh sorts in ascending order, so the first columns are the directions with the *least* variance.",
            ),
            Misconception(
                "eigenvalues from the wrong end",
                _wrong_end_5,
                "The smallest eigenvalues were taken for the largest, and a negative number came under the root. In "
                "which order does eigh give them?",
            ),
            Misconception(
                "noise from the wrong end",
                _wrong_5(noise=lambda values, L: values[L:].mean()),
                "The noise is the mean of the eigenvalues after the first L. In which order does eigh give them, and "
                "which ones are left out?",
            ),
            Misconception(
                "eigenvalues flipped, eigenvectors not",
                _flipped_5,
                "The noise is right. The eigenvalues were put into descending order. What about the columns that they "
                "belong to?",
            ),
            Misconception(
                "lengths in the other order",
                _wrong_5(lengths=lambda top, v: (top - v).sqrt().flip(0)),
                "The directions and the lengths are right, but not which belongs to which. In which order are the "
                "columns, in which the eigenvalues?",
            ),
            Misconception(
                "rows in place of columns",
                _rows_5,
                "The eigenvectors are the columns of what eigh gives; these are rows.",
            ),
            Misconception(
                "variance in place of sigma",
                _wrong_5(sigma=lambda v: v),
                "W is right. sigma is a standard deviation; this is its square.",
            ),
            Misconception(
                "sum of the discarded eigenvalues",
                _wrong_5(lambda values, L: values[:-L].sum()),
                "All of the discarded variance was given to every single direction. How is it shared among D - L of "
                "them?",
            ),
            Misconception(
                "discarded variance shared among all",
                _wrong_5(lambda values, L: values[:-L].sum() / len(values)),
                "The discarded variance was divided by D. Over how many directions was it added up?",
            ),
            Misconception(
                "mean of all eigenvalues",
                _wrong_5(lambda values, L: values.mean()),
                "This noise is the mean of all eigenvalues, and it can exceed one that W should explain. Which ones "
                "are left to the noise?",
            ),
            Misconception(
                "smallest eigenvalue as the noise",
                _wrong_5(lambda values, L: values[0]),
                "The noise is the smallest eigenvalue alone. One sigma² has to serve all the discarded directions: "
                "which compromise is the most likely?",
            ),
            Misconception(
                "sigma subtracted, not its square",
                _wrong_5(lengths=lambda top, v: (top - v.sqrt()).sqrt()),
                "From a variance, a variance has to be subtracted. Was it sigma or sigma²?",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5)
