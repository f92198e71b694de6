"""What a decoder's output means: each likelihood owns its output activation, its loss and its samples.

``nll`` is per example in nats, ``log_prob_pairs`` is of every example under every code, ``mean`` gives pixels to look
at, ``sample`` draws pixels with their noise; ``check`` raises ``ValueError`` for images that have no likelihood.
"""

import math
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_batch, check_choice, check_float, check_unit_interval
from course_utils.losses.terms import (
    LOG_2PI,
    bernoulli_nll,
    continuous_bernoulli_nll,
    gaussian_nll,
    log_normaliser,
    squared_error,
)


class Bernoulli(nn.Module):
    """Pixels in {0, 1}; the decoder gives logits. On grey pixels its ``nll`` is a cross-entropy, not a density."""

    def check(self, x: Tensor) -> None:
        """Raise unless all pixels lie in [0, 1]."""
        check_unit_interval("x", x)

    def nll(self, logits: Tensor, x: Tensor) -> Tensor:
        """−log p(x|z) per example (B,), in nats; ``x`` in [0, 1]."""
        return bernoulli_nll(logits, x)

    def log_prob_pairs(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of every pair: logits (G, …) of G codes and ``x`` (B, …) in [0, 1] → (G, B), in nats, float64."""
        return _bernoulli_pairs(logits, x)

    def mean(self, logits: Tensor) -> Tensor:
        """The expected pixels, in [0, 1], of the shape of ``logits``."""
        return logits.sigmoid()

    def sample(self, logits: Tensor) -> Tensor:
        """Pixels of 0 and 1, drawn one by one."""
        return logits.sigmoid().bernoulli()


class ContinuousBernoulli(nn.Module):
    """A density on [0, 1] for grey pixels; the decoder gives logits (Loaiza-Ganem & Cunningham 2019)."""

    check = Bernoulli.check

    def nll(self, logits: Tensor, x: Tensor) -> Tensor:
        """−log p(x|z) per example (B,), in nats; ``x`` in [0, 1]."""
        return continuous_bernoulli_nll(logits, x)

    def log_prob_pairs(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of every pair, (G, B), as for :class:`Bernoulli`."""
        return _bernoulli_pairs(logits, x) + log_normaliser(logits).double().flatten(1).sum(1)[:, None]

    def mean(self, logits: Tensor) -> Tensor:
        """The expected pixels, 1 / (1 − e^−η) − 1/η at logit η: closer to grey than the sigmoid of η."""
        size = logits.abs()
        small = size < 0.3
        away = torch.where(small, torch.ones_like(size), size)
        exact = -1 / torch.expm1(-away) - 1 / away
        series = 0.5 + size / 12 - size**3 / 720 + size**5 / 30240
        mean = torch.where(small, series, exact)
        return torch.where(logits < 0, 1 - mean, mean)

    def sample(self, logits: Tensor) -> Tensor:
        """Grey pixels in [0, 1], drawn one by one: the inverse of the distribution function at uniform numbers.

        From the logit itself: a clamped probability, as in ``torch.distributions``, cannot tell −16 from −100.
        """
        u, size = torch.rand_like(logits), logits.abs()
        flat = size < 1e-6
        away = -torch.where(flat, torch.ones_like(size), size)  # of η and −η the one whose exp cannot overflow
        dark = torch.where(flat, u, torch.log1p(u * torch.expm1(away)) / away)
        return torch.where(logits > 0, 1 - dark, dark)


class Gaussian(nn.Module):
    """Pixels with Gaussian noise of one standard deviation σ; the decoder gives means, without an activation.

    ``sigma`` is a positive number, or "learned": then σ is a parameter that starts at 1, and Adam moves log σ by about
    its learning rate per step, so a small σ takes many steps. Raises ``ValueError`` otherwise.
    """

    def __init__(self, sigma: float | str = 1.0) -> None:
        super().__init__()
        sigma = plain_sigma(sigma)
        log_sigma = torch.tensor(0.0 if sigma == "learned" else math.log(sigma))
        if sigma == "learned":
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def check(self, x: Tensor) -> None:
        """Raise unless all pixels are finite."""
        if not x.isfinite().all():
            raise ValueError("x must be finite, got NaN or infinite pixels")

    @property
    def sigma(self) -> Tensor:
        """The standard deviation of a pixel, a tensor of shape ()."""
        return self.log_sigma.exp()

    def nll(self, mean: Tensor, x: Tensor) -> Tensor:
        """−log p(x|z) per example (B,), in nats, all constants included."""
        return gaussian_nll(mean, x, sigma=self.sigma)

    def log_prob_pairs(self, mean: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) of every pair: means (G, …) of G codes and ``x`` (B, …) → (G, B), in nats, float64."""
        mean, x = check_batch("mean", mean).flatten(1).double(), check_batch("x", x).flatten(1).double()
        square = mean.square().sum(1)[:, None] - 2 * mean @ x.T + x.square().sum(1)  # ‖x − mean‖², multiplied out
        variance = self.sigma.double() ** 2
        return -0.5 * (mean.shape[1] * (LOG_2PI + variance.log()) + square / variance)

    def mean(self, mean: Tensor) -> Tensor:
        """The expected pixels: the decoder's output itself, which may leave [0, 1]."""
        return mean

    def sample(self, mean: Tensor) -> Tensor:
        """Pixels with their noise."""
        return mean + self.sigma * torch.randn_like(mean)


class SquaredError(nn.Module):
    """The plain autoencoder's loss: squared error summed over pixels. It is no density, so nothing can be drawn."""

    def nll(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Squared error per example (B,); a loss, not a log-likelihood."""
        return squared_error(x_hat, x)

    def mean(self, x_hat: Tensor) -> Tensor:
        """The reconstruction itself."""
        return check_float("x_hat", x_hat)


def _bernoulli_pairs(logits: Tensor, x: Tensor) -> Tensor:
    """Σ x·η − log(1 + e^η) for every pair, by one matrix product: no array of pixels for each of them."""
    check_unit_interval("x", x)
    logits, x = check_batch("logits", logits).flatten(1), check_batch("x", x).flatten(1)
    return (logits @ x.T).double() - F.softplus(logits).double().sum(1)[:, None]


Likelihood = Bernoulli | ContinuousBernoulli | Gaussian | SquaredError
NAMES = ("bernoulli", "continuous_bernoulli", "gaussian")


def make_likelihood(name: str, *, sigma: float | str = 1.0) -> Likelihood:
    """The likelihood of that name: "bernoulli", "continuous_bernoulli" or "gaussian"; ``sigma`` is the Gaussian's.

    Raises ``ValueError`` for another name, and for a ``sigma`` that nothing would use.
    """
    check_choice("likelihood", name, NAMES)
    if name == "gaussian":
        return Gaussian(sigma)
    if sigma != 1.0:
        raise ValueError(f"sigma={sigma!r} has no meaning for likelihood={name!r}; only 'gaussian' has a sigma")
    return Bernoulli() if name == "bernoulli" else ContinuousBernoulli()


def plain_sigma(sigma: object) -> float | str:
    """``sigma`` as a float, or "learned". Raises ``ValueError`` for anything else."""
    if isinstance(sigma, str) and sigma == "learned":
        return sigma
    if isinstance(sigma, bool) or not isinstance(sigma, Real) or not 0 < sigma < math.inf:
        raise ValueError(f'sigma must be a positive number or "learned", got {sigma!r}')
    return float(sigma)
