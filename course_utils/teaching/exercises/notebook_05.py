"""The exercises of notebook 05, MSE or BCE."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Attempt, Draw, Exercise, NotYet
from ._build import Build, fixed_noise, gradients_reach_all, has, per_example, same_numbers, trains
from .notebook_02 import MyVAE


def gaussian_nll(mean, x, sigma):
    """Return -log N(x; mean, sigma^2 I) of each image, with all its constants, in nats.

    mean, x: (B, D)
    sigma:   a number or tensor of one element, the standard deviation of every pixel; gradients pass through it
    result:  (B,)
    """
    dims, log_sigma = x.shape[1], torch.as_tensor(sigma).log()
    squared = ((x - mean) ** 2).sum(dim=1)
    return dims / 2 * math.log(2 * math.pi) + dims * log_sigma + squared / (2 * sigma**2)


def best_sigma(mean, x):
    """Return the one sigma, shared by all pixels and images, that makes the Gaussian loss smallest.

    mean, x: (B, D), reconstructions and images
    result:  one number, through which gradients pass
    """
    return ((x - mean) ** 2).mean().sqrt()


def effective_beta(dims, latent_dim, pixel_mean, half, kl_weight, kl_mean):
    """Return the weight of the KL once the loss is divided so that the error reads ||x - x_hat||^2 / 2.

    The loss is  [1/2 if half] * (sum or mean of the squared error over dims pixels)
                 + kl_weight * (sum or mean of the KL over latent_dim dimensions).

    pixel_mean, kl_mean: True for a mean, False for a sum
    half:                True when the squared error carries a factor 1/2
    result:              a number
    """
    a = 0.5 if half else 1.0  # the loss is a * ||x - x_hat||^2 + b * KL
    if pixel_mean:
        a = a / dims
    b = kl_weight / latent_dim if kl_mean else kl_weight
    return b / (2 * a)


class AnyLossVAE(MyVAE):
    """Your VAE with a loss line of your choice: nll(decoded, x) gives (B,), kl_weight stands before the KL."""

    def __init__(self, latent_dim, nll, kl_weight=1.0):
        super().__init__(latent_dim)
        self.nll, self.kl_weight = nll, kl_weight

    def loss(self, x):  # nll of what was decoded + kl_weight * self.kl -> (B,)
        mu, log_var = self.encode(x)
        decoded = self.decode(self.reparameterize(mu, log_var))
        return self.nll(decoded, x) + self.kl_weight * self.kl(mu, log_var)


def bce_floor(x):
    """Return the smallest binary cross-entropy that any reconstruction of each image can reach.

    x:      (B, D), pixels in [0, 1], both ends included
    result: (B,), summed over pixels, in nats
    """
    entropy = -torch.xlogy(x, x) - torch.xlogy(1 - x, 1 - x)  # xlogy(0, 0) is 0
    return entropy.sum(dim=1)


def bce_from_logits(logits, x):
    """Return the binary cross-entropy of each image, exact however large the logits are.

    Write it without PyTorch's binary_cross_entropy_with_logits: the notebook compares the two.

    logits: (B, D), any real numbers, such as -1000
    x:      (B, D), pixels in [0, 1]
    result: (B,), summed over pixels, in nats
    """
    per_pixel = F.softplus(logits) - logits * x  # log(1 + exp(l)) - l x; softplus never overflows
    return per_pixel.sum(dim=1)


def _pictures(draw: Draw) -> list[tuple]:
    return [(draw(*shape), draw(*shape), sigma) for shape, sigma in (((2, 3), 0.5), ((4, 5), 1.5), ((3, 2), 0.8))]


def _settings(draw: Draw) -> list[tuple]:
    return [
        (12, 5, False, True, 0.5, False),
        (12, 5, False, False, 2.0, False),
        (12, 5, True, False, 2.0, False),
        (12, 5, True, True, 0.5, True),
        (7, 3, False, False, 1.5, True),
        (20, 6, True, False, 0.3, True),
    ]


def _with_ends(draw: Draw) -> list[tuple]:
    def pixels(*shape: int) -> Tensor:
        x = draw.uniform(*shape, low=0.05, high=0.95)
        x[0, 0], x[-1, -1] = 0.0, 1.0
        return x

    mixed, black_to_white = [pixels(2, 3), pixels(5, 4)], pixels(3, 4)
    black_to_white[0], black_to_white[-1] = 0.0, 1.0
    return [(x,) for x in (*mixed, black_to_white)]


def _logits(draw: Draw) -> list[tuple]:
    far = torch.tensor([[-1000.0, 1000.0, 40.0], [120.0, -120.0, -30.0]], dtype=torch.float64)
    mild = [(draw(*shape) + 0.05, draw.uniform(*shape, low=0.05, high=0.95)) for shape in ((2, 3), (5, 4))]
    return [*mild, (far, draw.uniform(2, 3, low=0.05, high=0.95))]


def _gradient_in_sigma(attempt: Attempt, cases: Sequence[tuple]) -> None:
    """The slope is D/σ − ‖x − x̂‖²/σ³: log σ is part of the graph."""
    mean, x = (attempt.prepare(t) for t in cases[0][:2])
    sigma = torch.tensor(cases[0][2], dtype=mean.dtype, device=mean.device, requires_grad=True)
    with warnings.catch_warnings():  # float(sigma) warns
        warnings.simplefilter("ignore")
        result = attempt.run(attempt.answer, mean, x, sigma, doing="with a sigma that requires a gradient")
    slope = torch.autograd.grad(result.sum(), sigma, allow_unused=True)[0] if result.requires_grad else None
    wanted = x.numel() / sigma.item() - float((x - mean).square().sum()) / sigma.item() ** 3
    if slope is None or not math.isclose(float(slope), wanted, rel_tol=1e-4):
        came = "there is none" if slope is None else f"yours is {float(slope):.4g}"
        raise NotYet(
            "wrong gradient in sigma",
            f"The numbers are right, and the gradient in sigma is not: here it should be {wanted:.4g}, and {came}. The "
            "notebook trains sigma by it. math.log, float() and item() give numbers that autograd knows nothing of: "
            "take the logarithm in torch.",
        )


def _by_hand(attempt: Attempt, cases: Sequence[tuple]) -> None:
    def theirs(*args: Any, **kwargs: Any) -> None:
        raise NotYet(
            "PyTorch's own",
            "The numbers are right, and PyTorch's binary_cross_entropy_with_logits has made them. The next cell "
            "compares yours with it. So write the line itself: what is left when the sigmoid is put into the formula?",
        )

    with mock.patch.object(torch, "binary_cross_entropy_with_logits", theirs):
        attempt.answer(*(attempt.prepare(argument) for argument in cases[0]))


def _exact_gradient(attempt: Attempt, cases: Sequence[tuple]) -> None:
    """The slope is sigmoid(l) − x, saturated or not."""
    _by_hand(attempt, cases)
    for logits, x in cases:
        logits, x = attempt.prepare(logits).requires_grad_(), attempt.prepare(x)
        result = attempt.run(attempt.answer, logits, x, doing="with logits that require a gradient")
        (gradient,) = torch.autograd.grad(result.sum(), logits, allow_unused=True)
        wanted = logits.detach().sigmoid() - x
        if gradient is None or not torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-5):
            raise NotYet(
                "wrong gradient",
                "The values are right, and the gradient is not: it should be sigmoid(logit) − x at every logit, also "
                "at ±1000. Which of your steps is flat, or has no gradient, where the logit is large?",
            )


_ANOTHER_D = (
    "You use the notebook's D = 784, and the images of this check have fewer pixels. Take the number from what is "
    "given: D = x.shape[1]."
)


def _of_a_pixel(sigma: float) -> float:
    return 0.5 * math.log(2 * math.pi) + math.log(sigma)


def _squares(decoded: Tensor, x: Tensor) -> Tensor:
    return (decoded - x).square().sum(1)


def _lopsided(decoded: Tensor, x: Tensor) -> Tensor:
    """An nll that notices when its arguments are exchanged."""
    return (decoded - 2 * x).square().sum(1)


def _loss(of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """A loss made `of` what was decoded, the images, and their KL."""

    def loss(x: Tensor, model: Any) -> Tensor:
        mu, log_var = model.encode(x)
        with fixed_noise():
            decoded = model.decode(model.reparameterize(mu, log_var))
        return of(decoded, x, model.kl(mu, log_var))

    return loss


def _nll_is_kept(build: Build) -> None:
    """A likelihood with a parameter of its own is trained with the rest: it must be an attribute of the model."""
    model = build.make(20, torch.nn.Linear(1, 1))
    here = sum(parameter.numel() for parameter in model.parameters())
    without = sum(parameter.numel() for parameter in build.make(20, _squares).parameters())
    build.require(
        here == without + 2,
        "nll is not kept",
        "An nll that has a parameter of its own, such as a σ to be learned, must be trained with the model. Keep it as "
        "an attribute in __init__, after super().__init__(latent_dim): then the model's parameters() include its own.",
    )


def _nothing_else(build: Build) -> None:
    """With an nll of 0 and a weight of 0 the loss is 0: neither the old likelihood nor an unweighted KL is in it."""
    model = build.make(20, lambda decoded, x: x.new_zeros(len(x)), 0.0)
    left = build.run(model.loss, build.images(5), doing="in loss(x), with an nll of 0 and kl_weight 0")
    build.require(
        float(left.detach().abs().max()) < 1e-4,
        "something else in the loss",
        "With an nll that is 0 and kl_weight 0, nothing should be left of the loss; on average "
        f"{float(left.detach().mean()):.4g} are left for each image. Which term does not ask self.nll or "
        "self.kl_weight?",
    )


EXERCISES = (
    Exercise(
        number="5.1",
        title="A Gaussian decoder's loss, with every constant",
        minutes=6,
        solution=gaussian_nll,
        hints=(
            "Write the density of one pixel, take −log of it, and read off its three parts. What happens to each of "
            "them when D independent pixels are multiplied?",
            "One pixel costs ½·log 2π + log σ + (difference)² / 2σ². The first two are the same for every pixel, so an "
            "image has D of each.",
            "With D = x.shape[1]: D/2 times log 2π, plus D times log σ, plus the squared differences of each image, "
            "summed and divided by 2σ². `torch.as_tensor(sigma).log()` takes a number as well as a tensor.",
        ),
        cases=_pictures,
        gradients=("mean",),
        also=_gradient_in_sigma,
        mistakes={
            "the notebook's D": (
                lambda mean, x, sigma: gaussian_nll(mean, x, sigma) + (784 - x.shape[1]) * _of_a_pixel(sigma),
                _ANOTHER_D,
            ),
        },
        passed="Three parts: one that nothing moves, one that only σ moves, and one that everything moves.",
    ),
    Exercise(
        number="5.2",
        title="The best σ",
        minutes=5,
        solution=best_sigma,
        hints=(
            "Only two of the three parts depend on σ. Average them over the images, take the derivative with respect "
            "to σ, and set it to 0.",
            "D/σ − E/σ³ = 0, where E is the squared error of an image, averaged over images. Solve it for σ², and "
            "recognise the quotient E/D.",
            "σ² is the squared error averaged over everything, pixels and images. Take its root, and stay in torch.",
        ),
        cases=lambda draw: [(draw(*s), draw(*s)) for s in ((2, 3), (4, 5), (3, 2))],
        gradients=("mean",),
        passed="σ is the typical size of an error, measured and not chosen.",
        mistakes={
            "the notebook's D": (lambda mean, x: ((x - mean) ** 2).sum(1).mean().div(784).sqrt(), _ANOTHER_D),
            "a σ for each image": (
                lambda mean, x: ((x - mean) ** 2).mean(1).sqrt().mean(),
                "Each image has got a σ of its own here, and the mean of these was taken. One σ for all of them: first "
                "the mean of all squares, then the root.",
            ),
            **{
                name: (
                    lambda mean, x, correction=correction: (x - mean).std(correction=correction),
                    "This is the spread of the errors around their own mean: std() subtracts that first. A "
                    "reconstruction that is always too dark by the same amount would cost nothing. Which squares does "
                    "the loss hold?",
                )
                for name, correction in (("the mean removed", 0), ("the mean removed, by N − 1", 1))
            },
        },
    ),
    Exercise(
        number="5.3",
        title="Which β is hidden in a loss?",
        minutes=8,
        solution=effective_beta,
        hints=(
            "Whatever the choices, the loss is a·‖x − x̂‖² + b·KL, where both are sums. What are a and b? And what may "
            "a loss be divided by without moving its minimum?",
            "A mean over dims pixels is the sum divided by dims, so it goes into a; so does the ½. The weight goes "
            "into b, and so does a mean over the latent dimensions. Then divide everything so that a becomes ½.",
            "Start with a = ½ or 1, divide it by dims when the pixels are averaged. b is the weight, divided by "
            "latent_dim when the KL is averaged. Dividing the loss by 2a leaves the answer in front of the KL.",
        ),
        cases=_settings,
        any_type=True,
        passed="Every row of the table is this one number, and its root is the decoder's σ at β = 1.",
        mistakes={
            "the ½ forgotten": (
                lambda d, n, pm, h, w, km: w / (n if km else 1) / (2 / (d if pm else 1)),
                "With half=True the error is ½‖x − x̂‖² already. What does a become then?",
            ),
            "a loss with another ½": (
                lambda d, n, pm, h, w, km: w / (n if km else 1) / ((0.5 if h else 1.0) / (d if pm else 1)),
                "These numbers bring the error to ‖x − x̂‖². The Gaussian with σ = 1 has half of that: by what is the "
                "loss to be divided?",
            ),
            "the ½ taken as 2": (
                lambda d, n, pm, h, w, km: w / (n if km else 1) / (2 * (2.0 if h else 1.0) / (d if pm else 1)),
                "half=True puts a factor ½ before the squared error, not 2. With less weight on the error, does the "
                "KL weigh more or less?",
            ),
        },
    ),
    Exercise(
        number="5.4",
        title="A VAE with any loss line",
        minutes=10,
        solution=AnyLossVAE,
        hints=(
            "Your VAE of notebook 02 has all it needs, but for the line that compares pixels. What must `__init__` "
            "keep, and which of the inherited methods does `loss` call?",
            "`super().__init__(latent_dim)` builds the networks. Then keep nll and kl_weight as attributes. In `loss`: "
            "encode, reparameterize, decode, and add two terms.",
            "decoded = self.decode(self.reparameterize(mu, log_var)); return self.nll(decoded, x) plus self.kl_weight "
            "times self.kl(mu, log_var).",
        ),
        checks=(
            has("encode", "reparameterize", "decode", "kl", "loss", args=(20, _squares)),
            _nll_is_kept,
            _nothing_else,
            same_numbers(
                "loss(x)",
                "loss",
                _loss(lambda decoded, x, kl: _lopsided(decoded, x) + 50 * kl),
                args=(20, _lopsided, 50.0),
                cases=lambda draw: [(draw.uniform(n, 784, low=0, high=1),) for n in (2, 5, 3)],
                axes="x: (B, D)",
                mistakes={
                    "a sigmoid in front of nll": (
                        _loss(lambda decoded, x, kl: _lopsided(decoded.sigmoid(), x) + 50 * kl),
                        "A sigmoid stands between decode and nll. nll gets what decode gives, as it is: whether these "
                        "numbers are logits or means is for nll to say.",
                    ),
                    "the arguments of nll exchanged": (
                        _loss(lambda decoded, x, kl: _lopsided(x, decoded) + 50 * kl),
                        "nll(decoded, x): what the decoder gives comes first.",
                    ),
                    "the weight on both terms": (
                        _loss(lambda decoded, x, kl: 50 * (_lopsided(decoded, x) + kl)),
                        "kl_weight stands before the KL alone.",
                    ),
                },
            ),
            per_example(args=(20, _squares)),
            gradients_reach_all(args=(20, _squares)),
            trains(below=52, above=10, args=(20, _squares, 0.1)),
        ),
        passed="After {steps} steps with squared errors and a KL weight of 0.1 its loss is {loss:.0f}.",
    ),
    Exercise(
        number="5.5",
        title="The floor of binary cross-entropy",
        minutes=6,
        solution=bce_floor,
        hints=(
            "Take one pixel x and let the reconstruction p go from 0 to 1. Where is −x log p − (1 − x) log(1 − p) "
            "smallest, and what is left there?",
            "The derivative is 0 at p = x: a perfect reconstruction. So the floor is the cross-entropy of each pixel "
            "with itself. At x = 0 and x = 1 that is 0, but 0 · log 0 is not a number on a computer.",
            "torch.xlogy(a, b) is a · log b, and 0 where a is 0. Use it for x with log x and for 1 − x with "
            "log(1 − x), add them with the right sign, and sum over the pixels.",
        ),
        cases=_with_ends,
        tolerance=(1e-3, 1e-3),
        passed="The entropy of each pixel: what is left when the reconstruction is perfect.",
    ),
    Exercise(
        number="5.6",
        title="Cross-entropy that survives saturation",
        minutes=6,
        solution=bce_from_logits,
        hints=(
            "Put p = 1 / (1 + exp(−l)) into the cross-entropy and simplify on paper until no sigmoid is left. What "
            "remains is log(1 + exp(l)) and one more term.",
            "Cross-entropy = log(1 + exp(l)) − l·x. The exponential overflows at large l. Take exp(l) out of the "
            "bracket where l is positive: log(1 + exp(l)) = l + log(1 + exp(−l)).",
            "torch's softplus is log(1 + exp(l)), safe at every l and with the right gradient. Take l·x away from it, "
            "and sum over pixels.",
        ),
        cases=_logits,
        also=_exact_gradient,
        passed="Exact at every logit, with slope sigmoid(l) − x.",
        mistakes={
            "from probabilities": (
                lambda logits, x: F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(1),
                "The formula is right, and the sigmoid has rounded: where it is exactly 0 or 1, a logarithm is cut off "
                "at −100. Can sigmoid and logarithm be joined on paper first?",
            ),
        },
    ),
)
