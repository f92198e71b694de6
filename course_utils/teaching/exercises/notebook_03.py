"""The exercises of notebook 03, the reparameterization."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from ._attempt import Attempt, NotYet
from ._brick import gradient_reaches, named_tensors
from ._build import (
    Build,
    fixed_noise,
    fresh,
    gradients_reach_all,
    has,
    new_noise,
    per_example,
    same_numbers,
    shapes,
    trains,
)
from ._exercise import Draw, Exercise
from .notebook_02 import MyVAE


def score_function_gradient(f_values, z, mu, log_var):
    """Return one estimate of the gradient of E[f(z)] for each sample: f(z) times the score.

    f_values: (K,), f at each sample
    z:        (K, L), samples from N(mu, diag(exp(log_var)))
    mu, log_var: (L,)
    result:   two tensors (K, L): the estimates for mu, and for log_var
    """
    variance = log_var.exp()
    score_mu = (z - mu) / variance
    score_log_var = 0.5 * ((z - mu) ** 2 / variance - 1)
    return f_values[:, None] * score_mu, f_values[:, None] * score_log_var


def pathwise_gradient(slope, log_var, eps):
    """Return one estimate of the gradient of E[f(z)] for each sample, by the chain rule.

    slope:   (K, L), the derivative of f at each sample z = mu + sigma * eps
    log_var: (L,), log sigma^2
    eps:     (K, L), the noise that the samples were made of
    result:  two tensors (K, L): the estimates for mu, and for log_var
    """
    by_log_var = 0.5 * (0.5 * log_var).exp() * eps  # how far z moves, for each unit of log sigma^2
    return slope, slope * by_log_var


def reparameterize(mu, log_var):
    """Draw z from N(mu, diag(exp(log_var))), so that gradients get back to mu and log_var.

    mu, log_var: (B, L)
    result:      (B, L), with new noise at every call, drawn on the device where mu is
    """
    sigma = (0.5 * log_var).exp()
    eps = torch.randn_like(mu)
    return mu + sigma * eps


def _with_fixed_noise(attempt: Attempt, mu: Tensor, log_var: Tensor) -> dict[str, Tensor]:
    with fixed_noise():
        (first, _), (second, _) = (named_tensors(attempt(mu, log_var)) for _ in range(2))
    if first[""].shape == second[""].shape and not torch.allclose(first[""], second[""], equal_nan=True):
        raise NotYet(
            "other noise",
            "With the draws of torch.randn and the like held fixed, two calls still differ: the noise comes from "
            "elsewhere. torch.rand is uniform between 0 and 1; which function of PyTorch draws from N(0, 1)?",
        )
    return first


def _log_variances(draw: Draw) -> list[tuple]:
    wide = torch.tensor([[8.0, -8.0]], dtype=torch.float64)  # no clamp may hide between 0 and here
    return [*((draw(b, n), draw(b, n)) for b, n in ((1, 2), (2, 3), (4, 1), (3, 4))), (torch.zeros_like(wide), wide)]


def _fresh_and_open(attempt: Attempt, cases: Sequence[tuple]) -> None:
    fresh(attempt)
    gradient_reaches("mu", "log_var")(attempt, cases)


class PathwiseVAE(MyVAE):
    """MyVAE with your reparameterize."""

    def reparameterize(self, mu, log_var):  # -> z (B, L), by exercise 3.3
        return reparameterize(mu, log_var)

    def reconstruct(self, x):  # (B, 784) -> pixels (B, 784), z at its mean
        mu, _ = self.encode(x)
        return self.decode(mu).sigmoid()


def _distortion(model: MyVAE, x: Tensor) -> Tensor:
    return model.loss(x) - model.kl(*model.encode(x))


def _draws_nothing(build: Build) -> None:
    model, x = build.make(20), build.images(3)
    first, second = (build.run(model.reconstruct, x, doing="in reconstruct of 3 images") for _ in range(2))
    build.require(
        torch.equal(first, second), "reconstruct draws", "The same image gives two reconstructions: is z drawn?"
    )


class ScoreVAE(MyVAE):
    """MyVAE whose encoder learns of the distortion by the score function. No gradient passes through z."""

    def loss(self, x):  # (B, 784) -> (B,), the same value as MyVAE's loss
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var).detach()
        logits = self.decode(z)
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        log_q = Normal(mu, (0.5 * log_var).exp()).log_prob(z).sum(1)
        worth_nothing = distortion.detach() * (log_q - log_q.detach())
        return distortion + worth_nothing + self.kl(mu, log_var)


_PIXELS = torch.linspace(0, 1, 784).double()  # an image, and a decoder, for codes of three numbers
_DECODER = torch.linspace(-0.5, 1, 3 * 784).double().sin().reshape(3, 784)


def _with_stand_ins(model: MyVAE, mu: Tensor, log_var: Tensor) -> Tensor:
    """The model's loss where encode gives mu and log_var, and decode is linear."""
    model.encode, model.decode = lambda x: (mu, log_var), lambda z: z @ _DECODER.to(z)
    return model.loss(_PIXELS.to(mu).expand(len(mu), -1))


def _loss(
    surrogate: Callable[[Tensor, Tensor], Any], *, path: bool = False, in_log_q: bool = False
) -> Callable[[Tensor, Tensor], Tensor]:
    """The same of a model that adds surrogate(distortion, log q) to its loss, and lets gradients through z or not."""

    def loss(mu, log_var):
        z = mu + (0.5 * log_var).exp() * fixed_noise.eps(mu)
        z = z if path or in_log_q else z.detach()
        logits = (z if path else z.detach()) @ _DECODER.to(z)
        pixels = _PIXELS.to(z).expand_as(logits)
        distortion = F.binary_cross_entropy_with_logits(logits, pixels, reduction="none").sum(1)
        log_q = Normal(mu, (0.5 * log_var).exp()).log_prob(z).sum(1)
        rate = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
        return distortion + surrogate(distortion, log_q) + rate

    return loss


def _gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    def gradients(mu, log_var):
        codes = {"mu": mu.detach().clone().requires_grad_(), "log_var": log_var.detach().clone().requires_grad_()}
        with torch.enable_grad():
            total = loss(*codes.values()).sum()
        found = torch.autograd.grad(total, list(codes.values()), allow_unused=True)
        return {name: torch.zeros_like(mu) if g is None else g for name, g in zip(codes, found, strict=True)}

    return gradients


def _worth_nothing(distortion: Tensor, log_q: Tensor) -> Tensor:
    return distortion.detach() * (log_q - log_q.detach())


def _codes_of(size: int, draw: Draw) -> list[tuple]:
    return [(draw(b, size), draw(b, size)) for b in (1, 2, 4)]


EXERCISES = (
    Exercise(
        number="3.1",
        title="The score of a Gaussian",
        minutes=11,
        solution=score_function_gradient,
        hints=(
            "Differentiate log q of one dimension twice: once in mu, once in v = log sigma^2. For the second, write "
            "1/sigma^2 as exp(-v).",
            "In mu it is (z - mu) / sigma^2, in v it is -1/2 + (z - mu)^2 / (2 sigma^2), and sigma^2 is exp(log_var). "
            "Every sample has one value of f for all L of its scores.",
            "f_values[:, None] has shape (K, 1) and multiplies each row of the scores (z - mu) / sigma2 and "
            "0.5 * ((z - mu)**2 / sigma2 - 1).",
        ),
        cases=lambda draw: [(draw(k), draw(k, n), draw(n), draw(n)) for k, n in ((2, 1), (3, 2), (2, 3), (5, 4))],
        parts=("mu", "log_var"),
        passed="No derivative of f anywhere: each sample asks only what f is worth there.",
        mistakes={
            "derivative in sigma": (
                lambda f, z, mu, v: (
                    f[:, None] * (z - mu) / v.exp(),
                    f[:, None] * ((z - mu) ** 2 / v.exp() - 1) / (0.5 * v).exp(),
                ),
                "The part for log_var is the derivative in sigma. Asked for is that in v = log sigma^2: write sigma as "
                "exp(v / 2) before you differentiate.",
            ),
            "derivative in log sigma": (
                lambda f, z, mu, v: (f[:, None] * (z - mu) / v.exp(), f[:, None] * ((z - mu) ** 2 / v.exp() - 1)),
                "The part for log_var is twice too large: it is the derivative in log sigma. How many times log sigma "
                "is log sigma^2?",
            ),
        },
    ),
    Exercise(
        number="3.2",
        title="Along the path",
        minutes=5,
        solution=pathwise_gradient,
        hints=(
            "z = mu + exp(v / 2) * eps, with v = log sigma^2. If mu grows by a little, by how much does z grow? And if "
            "v does?",
            "dz/dmu is 1. dz/dv is half of sigma times eps. Each of them multiplies the slope.",
            "The first result is slope itself, the second slope * 0.5 * sigma * eps with sigma from log_var.",
        ),
        cases=lambda draw: [(draw(k, n), draw(n), draw(k, n)) for k, n in ((2, 1), (3, 2), (2, 3), (5, 4))],
        parts=("mu", "log_var"),
        passed="The slope of f, times how far the sample moves. Backpropagation does nothing else here.",
        mistakes={
            "derivative in sigma": (
                lambda slope, v, eps: (slope, slope * eps),
                "The part for log_var is the derivative in sigma. The network gives log sigma^2: what does "
                "d sigma / d log sigma^2 add?",
            ),
        },
    ),
    Exercise(
        number="3.3",
        title="The reparameterization",
        minutes=2,
        solution=reparameterize,
        hints=(
            "A sample of N(mu, sigma^2) is a standard normal one, stretched and shifted. Stretched by what, and how do "
            "you get that from log_var?",
            "sigma is the square root of sigma^2, so its logarithm is half of log_var. The noise has the shape of mu.",
            "Take exp of half of log_var, multiply it with torch.randn_like(mu), and add mu.",
        ),
        cases=_log_variances,
        observe=_with_fixed_noise,
        also=_fresh_and_open,
        passed="All the chance is in the noise, and the way back to mu and log_var is open.",
        mistakes={
            "exp(log_var) taken for sigma": (
                lambda mu, log_var: mu + log_var.exp() * torch.randn_like(mu),
                "The noise is multiplied by sigma^2, the variance. A sample is stretched by the standard deviation: "
                "what is log sigma, if log sigma^2 is given?",
            ),
            "one noise for every dimension": (
                lambda mu, log_var: mu + (0.5 * log_var).exp() * torch.randn(len(mu), 1).to(mu),
                "All dimensions of an example get the same noise, so they move together. Of which shape is it?",
            ),
        },
    ),
    Exercise(
        number="3.4",
        title="Put it in",
        minutes=3,
        solution=PathwiseVAE,
        hints=(
            "Everything but two methods comes from MyVAE. In reparameterize, call your function of exercise 3.3. For "
            "reconstruct: which three steps lead from an image to the pixels of its reconstruction?",
            "encode gives mu and log_var; a reconstruction needs the mean only, so nothing is drawn. decode gives "
            "logits: what turns a logit into a pixel?",
            "def reparameterize(self, mu, log_var): return reparameterize(mu, log_var). In reconstruct, decode the mu "
            "of self.encode(x), and take the sigmoid of what comes.",
        ),
        passed="The distortion reaches every weight; after {steps} steps the loss is {loss:.0f} nats.",
        checks=(
            has("reparameterize", "reconstruct", "loss"),
            shapes("reparameterize", [(7, 20), (7, 20)], (7, 20)),
            same_numbers(
                "reparameterize(mu, log_var)",
                "reparameterize",
                lambda mu, log_var: mu + (0.5 * log_var).exp() * fixed_noise.eps(mu),
                _log_variances,
            ),
            new_noise,
            shapes("reconstruct", [(7, 784)], (7, 784)),
            _draws_nothing,
            same_numbers(
                "reconstruct(x)",
                "reconstruct",
                lambda x, model: model.decode(model.encode(x)[0]).sigmoid(),
                lambda draw: [(draw.uniform(n, 784),) for n in (1, 2, 5)],
            ),
            gradients_reach_all(_distortion),
            trains(below=200),
        ),
    ),
    Exercise(
        number="3.5",
        title="Learning without a path",
        minutes=20,
        solution=ScoreVAE,
        hints=(
            "Copy the four steps of MyVAE's loss, and cut the path: z becomes plain numbers with .detach(). Now the "
            "encoder needs a term whose gradient is distortion times the gradient of log q(z|x).",
            "log q(z|x) is Normal(mu, sigma).log_prob(z), summed over L; its gradient goes to mu and log_var. The "
            "distortion multiplies it as a plain number, so it is detached.",
            "Subtract a detached copy, so that the term is worth 0: distortion.detach() * (log_q - log_q.detach()). "
            "Add it to distortion + self.kl(mu, log_var).",
        ),
        passed="The same loss, and for the encoder another estimate of the same gradient.",
        checks=(
            has("loss"),
            per_example(),
            same_numbers(
                "the value of loss(x)",
                _with_stand_ins,
                _loss(lambda distortion, log_q: 0),
                lambda draw: _codes_of(3, draw),
                args=(3,),
                mistakes={
                    "another value": (
                        _loss(lambda distortion, log_q: distortion * log_q),
                        "The gradient may be right, but the loss is no longer −ELBO: the term that you add should be "
                        "worth 0. What could be subtracted from log q, so that its gradient stays?",
                    )
                },
            ),
            same_numbers(
                "the gradient of loss(x)",
                lambda model, *codes: _gradients(lambda *leaves: _with_stand_ins(model, *leaves))(*codes),
                _gradients(_loss(_worth_nothing)),
                lambda draw: _codes_of(3, draw),
                args=(3,),
                mistakes={
                    "the rate alone": (
                        _gradients(_loss(lambda distortion, log_q: 0)),
                        "The encoder hears of the rate only. Which term carries the distortion to log q(z|x)?",
                    ),
                    "the path alone": (
                        _gradients(_loss(lambda distortion, log_q: 0, path=True)),
                        "This is the gradient along the path through z. Here z is to be plain numbers.",
                    ),
                    "the path is open": (
                        _gradients(_loss(_worth_nothing, path=True)),
                        "z still carries a gradient, so log q(z|x) sees z move together with mu. Which step makes "
                        "plain numbers of z?",
                    ),
                    "the path is open in log q": (
                        _gradients(_loss(_worth_nothing, in_log_q=True)),
                        "z is plain numbers for the decoder, but log q(z|x) still sees z move together with mu. Make "
                        "plain numbers of z before both.",
                    ),
                    "log q averaged": (
                        _gradients(_loss(lambda distortion, log_q: _worth_nothing(distortion, log_q / 3))),
                        "log q(z|x) is averaged over the latent dimensions here. The dimensions are independent: what "
                        "becomes of their log-densities?",
                    ),
                    "sign": (
                        _gradients(_loss(lambda *terms: -_worth_nothing(*terms))),
                        "The score function has the wrong sign: a step downhill makes bad samples likelier.",
                    ),
                },
            ),
            gradients_reach_all(),
        ),
    ),
)
