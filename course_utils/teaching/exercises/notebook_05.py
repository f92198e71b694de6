"""The exercises of notebook 05, the loss and its scale."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ._attempt import Attempt, NotYet
from ._compare import Case, Compare, Misconception, as_tensor, close, gradient_reaches, require_gradient
from ._framework import Exercise
from ._text import tensor_text

LOG_2PI = math.log(2 * math.pi)


def _sum(t: Tensor) -> Tensor:
    return t.flatten(1).sum(1)


# 5.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def gaussian_nll(mean, x, sigma):
    """Return -log N(x; mean, sigma^2 I) of each image, with all its constants, in nats.

    mean, x: (B, ...), any shape behind the batch axis
    sigma:   a positive number, the standard deviation of every pixel
    result:  (B,)
    """
    ...'''


def gaussian_nll(mean, x, sigma):
    dims = x[0].numel()  # D, the pixels of one image
    squared = ((x - mean) ** 2).flatten(start_dim=1).sum(dim=1)  # (B,)
    return dims / 2 * math.log(2 * math.pi) + dims * math.log(sigma) + squared / (2 * sigma**2)


def _cases_1(rng: torch.Generator) -> list[Case]:
    def images(*shape: int) -> Tensor:
        return torch.randint(0, 11, shape, generator=rng).double() / 10

    small = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.4, 0.9]]), torch.tensor([[0.1, 0.3, 1.0], [0.7, 0.4, 0.6]])
    more = [((2, 1, 2, 3), 0.3), ((3, 5), 2.5), ((1, 4, 2), 1.0)]
    return [
        (*(t.double() for t in small), 0.5),
        *((images(*shape), images(*shape), sigma) for shape, sigma in more),
    ]


def _nll(constant: float, spread: float, fit: float, mean: Tensor, x: Tensor, sigma: float) -> Tensor:
    """The three parts, each with a weight of its own."""
    dims = x[0].numel()
    return (
        constant * dims / 2 * LOG_2PI + spread * dims * math.log(sigma) + fit * _sum((x - mean) ** 2) / (2 * sigma**2)
    )


def _weighted(constant: float, spread: float, fit: float) -> Callable[[Tensor, Tensor, float], Tensor]:
    return lambda mean, x, sigma: _nll(constant, spread, fit, mean, x, sigma)


EXERCISE_1 = Exercise(
    number="5.1",
    title="A Gaussian decoder's loss, with every constant",
    minutes=6,
    stub=STUB_1,
    hints=(
        "Write the density of one pixel, take −log of it, and read off its three parts. Then: what happens to each of "
        "them when D independent pixels are multiplied?",
        "One pixel costs ½·log 2π + log σ + (difference)² / 2σ². The first two are the same for every pixel, so an "
        "image has D of each. D is the number of entries behind the batch axis, whatever their shape.",
        "With D = x[0].numel(): add D/2 times log 2π, D times log σ (sigma is a plain number, so use math.log), and "
        "the squared differences of each image, summed and divided by 2σ².",
    ),
    solution=gaussian_nll,
    passed="Three parts: one that nothing moves, one that only σ moves, and one that everything moves.",
    judge=Compare(
        cases=_cases_1,
        also=gradient_reaches("mean"),
        misconceptions=(
            Misconception(
                "2π forgotten",
                _weighted(0, 1, 1),
                "The constant with 2π is missing: 0.919 nats for each pixel, about 720 for an image of 784. It trains "
                "the same, but can the result still be compared with a log-likelihood?",
            ),
            Misconception(
                "log σ forgotten",
                _weighted(1, 0, 1),
                "The part with log σ is missing. Without it, what would keep σ from growing for ever?",
            ),
            Misconception(
                "only the squared error",
                _weighted(0, 0, 1),
                "This is the one part that depends on the image. Two more belong to a density that integrates to 1: "
                "which factor stands before the exponential?",
            ),
            Misconception(
                "log σ counted once",
                lambda m, x, s: _nll(1, 0, 1, m, x, s) + math.log(s),
                "Here log σ is added once for each image. How many pixels have this σ?",
            ),
            Misconception(
                "log 2π counted once",
                lambda m, x, s: _nll(0, 1, 1, m, x, s) + 0.5 * LOG_2PI,
                "Here ½·log 2π is added once for each image. Every pixel brings its own: how many are there?",
            ),
            Misconception(
                "both constants counted once",
                lambda m, x, s: _nll(0, 0, 1, m, x, s) + 0.5 * LOG_2PI + math.log(s),
                "This adds the constants of a single pixel to the squared error of a whole image. Over how many "
                "pixels does the product of densities run?",
            ),
            Misconception(
                "log σ² in place of log σ",
                _weighted(1, 2, 1),
                "The part with log σ is twice what it should be. Before the exponential stands 1/σ, or the root of "
                "1/σ²: which logarithm is that?",
            ),
            Misconception(
                "D/2 log σ",
                _weighted(1, 0.5, 1),
                "The part with log σ is half of what it should be. With variances it reads D/2 log σ²: how many log σ "
                "is that?",
            ),
            Misconception(
                "784 pixels",
                lambda m, x, s: 784 * (0.5 * LOG_2PI + math.log(s)) + _sum((x - m) ** 2) / (2 * s**2),
                "D is 784 here, whatever the image. How many pixels has *this* image?",
            ),
            Misconception(
                "log 2π not halved",
                _weighted(2, 1, 1),
                "The constant is twice what it should be. Before the exponential stands the root of 2π: what does a "
                "root do to a logarithm?",
            ),
            Misconception(
                "constant counted D times too often",
                lambda m, x, s: _nll(x[0].numel(), 1, 1, m, x, s),
                "The constant D/2·log 2π was added at every pixel and then summed over pixels, so D enters twice. "
                "Is it a number for a pixel or for an image?",
            ),
            Misconception(
                "error not halved",
                _weighted(1, 1, 2),
                "The squared error is divided by σ², but the exponent of a Gaussian has another factor in it. Which?",
            ),
            Misconception(
                "divided by σ",
                lambda m, x, s: _nll(1, 1, s, m, x, s),
                "The squared error is divided by 2σ. Which power of σ makes a squared difference free of units?",
            ),
            Misconception(
                "mean over pixels",
                lambda m, x, s: _nll(1, 1, 1, m, x, s) / x[0].numel(),
                "This is the mean over the pixels. Densities of independent pixels are multiplied: what does that "
                "make of their logarithms?",
            ),
            Misconception(
                "mean over the batch",
                lambda m, x, s: _nll(1, 1, 1, m, x, s).mean(),
                "The number is right for the batch as a whole. One number for each image was asked for: which step "
                "comes too early?",
            ),
            Misconception(
                "sign",
                _weighted(-1, -1, -1),
                "This is the log-density itself. A loss is to be made small: which sign does it carry?",
            ),
            Misconception(
                "D from the last axis",
                lambda m, x, s: x.shape[-1] * (0.5 * LOG_2PI + math.log(s)) + _sum((x - m) ** 2) / (2 * s**2),
                "D was taken from the last axis only. An image may have more axes behind the batch: how many numbers "
                "are in it?",
            ),
        ),
    ),
)

# 5.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def best_sigma(mean, x):
    """Return the one sigma, shared by all pixels and images, that makes the Gaussian loss smallest.

    mean, x: (B, ...), reconstructions and images
    result:  one number, through which gradients pass
    """
    ...'''


def best_sigma(mean, x):
    squared = (x - mean) ** 2
    return squared.mean().sqrt()  # over pixels and images alike


def _cases_2(rng: torch.Generator) -> list[Case]:
    def images(*shape: int) -> Tensor:
        return torch.randint(0, 11, shape, generator=rng).double() / 10

    small = torch.tensor([[0.0, 0.5], [1.0, 0.4]]).double(), torch.tensor([[0.3, 0.5], [0.6, 1.0]]).double()
    good = torch.tensor([[0.001, 0.0], [0.0, 0.001]]).double()  # a decoder with hardly an error left
    return [small, (images(3, 1, 2, 2), images(3, 1, 2, 2)), (images(2, 5), images(2, 5)), (good, good.flip(1))]


def _never_below(bound: float) -> Misconception:
    return Misconception(
        f"never below {bound}",
        lambda mean, x: ((x - mean) ** 2).mean().sqrt().clamp(min=bound),
        f"Right for large errors, but a bound keeps σ from falling below {bound}, and at the bound no gradient passes. "
        "What should σ be when every pixel is off by 0.001?",
    )


EXERCISE_2 = Exercise(
    number="5.2",
    title="The best σ",
    minutes=5,
    stub=STUB_2,
    hints=(
        "Only two of the three parts depend on σ. Average them over the images, take the derivative with respect to "
        "σ, and set it to 0.",
        "D/σ − E/σ³ = 0, where E is the squared error of an image, averaged over images. Solve it for σ², and "
        "recognise the quotient E/D.",
        "σ² is the squared error averaged over everything, pixels and images. Take its root, and stay in torch, so "
        "that a gradient can pass.",
    ),
    solution=best_sigma,
    passed="σ is the typical size of an error, measured rather than chosen.",
    judge=Compare(
        cases=_cases_2,
        also=gradient_reaches("mean"),
        misconceptions=(
            Misconception(
                "variance in place of σ",
                lambda mean, x: ((x - mean) ** 2).mean(),
                "This is σ². Which step leads from a variance to a standard deviation?",
            ),
            Misconception(
                "sum over pixels",
                lambda mean, x: _sum((x - mean) ** 2).mean().sqrt(),
                "The pixels were summed. σ belongs to one pixel: what is E divided by, when the derivative is 0?",
            ),
            Misconception(
                "sum over everything",
                lambda mean, x: ((x - mean) ** 2).sum().sqrt(),
                "This is the length of all differences together, and grows with every image that is added. Should σ?",
            ),
            Misconception(
                "one σ for each image",
                lambda mean, x: ((x - mean) ** 2).flatten(1).mean(1).sqrt(),
                "This is the best σ of each image on its own. One number shared by all was asked for: over which "
                "axes does the mean run then?",
            ),
            Misconception(
                "mean of the images' roots",
                lambda mean, x: ((x - mean) ** 2).flatten(1).mean(1).sqrt().mean(),
                "Each image's root was taken first, and then averaged. Does the derivative average σ, or σ²?",
            ),
            Misconception(
                "one σ for each pixel",
                lambda mean, x: ((x - mean) ** 2).mean(0).sqrt(),
                "This is a σ for each pixel. It is a model, too, but another one; one number was asked for.",
            ),
            Misconception(
                "absolute error",
                lambda mean, x: (x - mean).abs().mean(),
                "This is the mean size of the differences. A Gaussian punishes squares: what does its σ average?",
            ),
            Misconception(
                "spread around the mean difference",
                lambda mean, x: (x - mean).std(correction=0),
                "A standard deviation first takes away the mean difference. If every pixel were off by 0.3, what would "
                "it say, and what should σ be?",
            ),
            Misconception(
                "spread around the mean difference, by n − 1",
                lambda mean, x: (x - mean).std(),
                "torch's std() takes away the mean difference and divides by n − 1. Neither is in the derivative: "
                "what is?",
            ),
            Misconception(
                "spread of the images",
                lambda mean, x: x.std(correction=0),
                "This is how much the images vary; the reconstructions took no part. Errors of what should σ describe?",
            ),
            _never_below(0.1),
            _never_below(0.01),
            Misconception(
                "1e-6 under the root",
                lambda mean, x: (((x - mean) ** 2).mean() + 1e-6).sqrt(),
                "Right for large errors, but σ² has 1e-6 too much. That doubles it when every pixel is off by 0.001. "
                "Does the derivative ask for it?",
            ),
            Misconception(
                "factor two",
                lambda mean, x: (((x - mean) ** 2).mean() / 2).sqrt(),
                "σ² has a factor ½ too much. Differentiate E/2σ² once more: what becomes of the 2?",
            ),
        ),
    ),
)

# 5.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def effective_beta(dims, latent_dim, pixel_mean, half, kl_weight, kl_mean):
    """Return the weight of the KL once the loss is divided so that the error reads ||x - x_hat||^2 / 2.

    The loss is  [1/2 if half] * (sum or mean of the squared error over dims pixels)
                 + kl_weight * (sum or mean of the KL over latent_dim dimensions).

    dims, latent_dim:    whole numbers
    pixel_mean, kl_mean: True for a mean, False for a sum
    half:                True when the squared error carries a factor 1/2
    result:              a number
    """
    ...'''


def effective_beta(dims, latent_dim, pixel_mean, half, kl_weight, kl_mean):
    a = 0.5 if half else 1.0  # the loss is a * ||x - x_hat||^2 + b * KL
    if pixel_mean:
        a = a / dims
    b = kl_weight / latent_dim if kl_mean else kl_weight
    return b / (2 * a)


def _cases_3(rng: torch.Generator) -> list[Case]:
    return [
        (784, 10, True, False, 1.0, False),
        (784, 10, False, True, 1.0, False),
        (784, 10, False, False, 1.0, False),
        (784, 5, True, False, 0.1, True),
        (12288, 128, True, False, 0.00025, False),
        (100, 4, True, True, 3.0, True),
    ]


def _observe_3(attempt: Attempt, *case: object) -> dict[str, Tensor]:
    """A plain number is as good as a tensor here."""
    value, complaint = as_tensor(attempt(*case))
    if complaint and complaint.diagnosis != "a Python number":
        raise complaint
    return {"": value}


def _beta(
    *, twice: bool = True, mean: bool = True, half: bool = True, weight: bool = True, latents: float = 1
) -> Callable[..., float]:
    """A wrong answer that forgets some of the steps."""

    def answer(dims: int, latent_dim: int, pixel_mean: bool, halved: bool, kl_weight: float, kl_mean: bool) -> float:
        a = (0.5 if halved and half else 1.0) / (dims if pixel_mean and mean else 1)
        b = (kl_weight if weight else 1.0) * (latent_dim**-latents if kl_mean else 1)
        return b / ((2 if twice else 1) * a)

    return answer


EXERCISE_3 = Exercise(
    number="5.3",
    title="Which β is hidden in a loss?",
    minutes=8,
    stub=STUB_3,
    hints=(
        "Whatever the choices, the loss is a·‖x − x̂‖² + b·KL, where both are sums. What are a and b? And what may a "
        "loss be divided by without moving its minimum?",
        "A mean over dims pixels is the sum divided by dims, so it goes into a; so does the ½. The weight goes into "
        "b, and so does a mean over the latent dimensions. Then divide everything so that a becomes ½.",
        "Start with a = ½ or 1, divide it by dims when the pixels are averaged. b is the weight, divided by "
        "latent_dim when the KL is averaged. Dividing the loss by 2a leaves a ½ in front of the error and the answer "
        "in front of the KL.",
    ),
    solution=effective_beta,
    passed="Every row of the table is this one number, and its root is the decoder's σ at β = 1.",
    judge=Compare(
        cases=_cases_3,
        observe=_observe_3,
        misconceptions=(
            Misconception(
                "ratio without the ½ of the target",
                _beta(twice=False),
                "This is b / a, the weight of the KL against a plain squared error. The form asked for has ‖x − x̂‖² "
                "divided by 2. What does that do to the weight?",
            ),
            Misconception(
                "upside down",
                lambda d, n, p, h, w, k: 1 / effective_beta(d, n, p, h, w, k),
                "This is the reciprocal. If the error is averaged, and so made small, does the KL weigh more or less "
                "beside it?",
            ),
            Misconception(
                "sigma in place of beta",
                lambda d, n, p, h, w, k: effective_beta(d, n, p, h, w, k) ** 0.5,
                "This is the implied σ, a right number for another question. Which power of it weighs the KL?",
            ),
            Misconception(
                "pixel mean ignored",
                _beta(mean=False),
                "Sum and mean over pixels give the same here. A mean divides the error by dims: what must then be "
                "done to the whole loss to bring the error back?",
            ),
            Misconception(
                "half ignored",
                _beta(half=False),
                "With and without the ½ the answer is the same. Which of the two has the smaller error term, and so "
                "the weightier KL?",
            ),
            Misconception(
                "½ taken for granted",
                lambda d, n, p, h, w, k: effective_beta(d, n, p, True, w, k),
                "Right where the squared error carries the ½. Without it the error term is twice as large: what must "
                "the whole loss then be divided by?",
            ),
            Misconception(
                "weight ignored",
                _beta(weight=False),
                "The weight of the KL does not enter. Where does kl_weight stand in the loss?",
            ),
            Misconception(
                "KL mean ignored",
                _beta(latents=0),
                "Sum and mean over the latent dimensions give the same here. What does a mean over latent_dim of "
                "them do to b?",
            ),
            Misconception(
                "KL mean the wrong way",
                _beta(latents=-1),
                "The KL was multiplied by latent_dim where it is averaged. Is a mean larger or smaller than the sum?",
            ),
            Misconception(
                "half the wrong way",
                lambda d, n, p, h, w, k: effective_beta(d, n, p, not h, w, k),
                "The two cases of half are swapped. A ½ in front of the error makes it small: does the KL then weigh "
                "more or less?",
            ),
            Misconception(
                "pixel mean the wrong way",
                lambda d, n, p, h, w, k: effective_beta(d, n, not p, h, w, k),
                "Sum and mean over the pixels are swapped. Which of the two makes the error 784 times smaller?",
            ),
            Misconception(
                "divided by dims",
                lambda d, n, p, h, w, k: effective_beta(d, n, False, h, w, k) / (d if p else 1),
                "Averaging the error made the KL lighter here. Put numbers in: error 40, KL 20, and then the error "
                "divided by 784. Which of them rules?",
            ),
        ),
    ),
)

# 5.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def bce_floor(x):
    """Return the smallest binary cross-entropy that any reconstruction of each image can reach.

    x:      (B, ...), pixels in [0, 1], both ends included
    result: (B,), summed over pixels, in nats
    """
    ...'''


def bce_floor(x):
    pixels = x.flatten(start_dim=1)
    entropy = -torch.xlogy(pixels, pixels) - torch.xlogy(1 - pixels, 1 - pixels)  # xlogy(0, 0) is 0
    return entropy.sum(dim=1)


def _cases_4(rng: torch.Generator) -> list[Case]:
    inside = torch.tensor([[0.5, 0.1, 0.9], [0.2, 0.7, 0.4]], dtype=torch.float64)
    with_ends = torch.tensor([[0.0, 1.0, 0.5], [0.0, 0.0, 1.0], [0.3, 1.0, 0.0]], dtype=torch.float64)
    images = torch.randint(0, 11, (2, 1, 2, 3), generator=rng).double() / 10
    return [(inside,), (with_ends,), (images,)]


def _entropy(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)


EXERCISE_4 = Exercise(
    number="5.4",
    title="The floor of binary cross-entropy",
    minutes=6,
    stub=STUB_4,
    hints=(
        "Take one pixel x and let the reconstruction p go from 0 to 1. Where is −x log p − (1 − x) log(1 − p) "
        "smallest, and what is left there?",
        "The derivative is 0 at p = x: a perfect reconstruction. So the floor is the cross-entropy of each pixel with "
        "itself. At x = 0 and x = 1 that is 0, but 0 · log 0 is not a number on a computer.",
        "torch.xlogy(a, b) is a · log b, and 0 where a is 0. Use it for x with log x and for 1 − x with log(1 − x), "
        "add them with the right sign, and sum over the pixels of each image.",
    ),
    solution=bce_floor,
    passed="The entropy of each pixel: what is left when the reconstruction is perfect.",
    judge=Compare(
        cases=_cases_4,
        misconceptions=(
            Misconception(
                "not a number at the ends",
                lambda x: -_sum(x * x.log() + (1 - x) * (1 - x).log()),
                "Right for grey pixels, but where a pixel is exactly 0 or 1 this computes 0 · log 0, which is NaN. "
                "What is the limit of x log x as x goes to 0, and which torch function knows it?",
            ),
            Misconception(
                "only the bright half",
                lambda x: -_sum(torch.xlogy(x, x)),
                "Only the part with x is here. What does the other term of the cross-entropy leave?",
            ),
            Misconception(
                "only the dark half",
                lambda x: -_sum(torch.xlogy(1 - x, 1 - x)),
                "Only the part with 1 − x is here. What does the other term of the cross-entropy leave?",
            ),
            Misconception(
                "bits",
                lambda x: _sum(_entropy(x)) / math.log(2),
                "These are bits. Which logarithm measures in nats?",
            ),
            Misconception(
                "mean over pixels",
                lambda x: _entropy(x).flatten(1).mean(1),
                "This is the mean over the pixels. The loss that it is a floor for sums over them.",
            ),
            Misconception(
                "mean over the batch",
                lambda x: _sum(_entropy(x)).mean(),
                "This is the floor for the batch as a whole, and right as such. How do you keep one number for each "
                "image?",
            ),
            Misconception(
                "sign",
                lambda x: -_sum(_entropy(x)),
                "The sign is turned round: logarithms of numbers below 1 are negative, and a cross-entropy is not.",
            ),
            Misconception(
                "zero",
                lambda x: x.new_zeros(len(x)),
                "0 would be the floor if all pixels were 0 or 1. What does a pixel of 0.5 cost when it is "
                "reconstructed perfectly?",
            ),
            Misconception(
                "cost of an even guess",
                lambda x: _sum(torch.full_like(x, math.log(2))),
                "This is what p = ½ costs at every pixel. Is there a p that costs less?",
            ),
            Misconception(
                "rounded pixels",
                lambda x: F.binary_cross_entropy(x, x.round(), reduction="none").flatten(1).sum(1),
                "The target was rounded to 0 or 1 before it was compared. The floor is for grey targets as they are.",
            ),
            Misconception(
                "variance of a coin",
                lambda x: _sum(x * (1 - x)),
                "x (1 − x) is the variance of a coin that shows 1 with probability x. Which quantity of that coin is "
                "the smallest cross-entropy?",
            ),
        ),
    ),
)

# 5.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def bce_from_logits(logits, x):
    """Return the binary cross-entropy of each image, exact however large the logits are.

    logits: (B, ...), any real numbers, such as -1000
    x:      (B, ...), pixels in [0, 1]
    result: (B,), summed over pixels, in nats
    """
    ...'''


def bce_from_logits(logits, x):
    per_pixel = F.softplus(logits) - logits * x  # log(1 + exp(l)) - l x; softplus never overflows
    return per_pixel.flatten(start_dim=1).sum(dim=1)


def _cases_5(rng: torch.Generator) -> list[Case]:
    mild = torch.tensor([[-1.0, 0.5, 2.0], [0.3, -2.0, 0.0]]), torch.tensor([[0.0, 0.5, 1.0], [0.9, 0.2, 0.4]])
    hot = (
        torch.tensor([[20.0, -20.0], [120.0, -120.0], [1000.0, -1000.0]]),
        torch.tensor([[0.0, 1.0], [0.0, 0.3], [0.6, 1.0]]),
    )
    logits = torch.randint(-40, 41, (2, 1, 2, 3), generator=rng).double() / 4 + 0.1
    images = torch.randint(0, 11, (2, 1, 2, 3), generator=rng).double() / 10
    return [tuple(t.double() for t in mild), tuple(t.double() for t in hot), (logits, images)]


def _exact_gradient(attempt: Attempt, cases: Sequence[Case]) -> None:
    """The gradient must be sigmoid(l) − x everywhere, at saturation too."""
    for case in cases:
        logits, x = (attempt.prepare(argument) for argument in case)
        logits.requires_grad_()
        result = attempt.run(attempt.answer, logits, x, doing="with logits that require a gradient")
        require_gradient(result, [logits], "logits")
        (gradient,) = torch.autograd.grad(attempt.run(attempt.answer, logits, x, doing="again").sum(), logits)
        wanted = logits.detach().sigmoid() - x
        # At logit 0 itself max(l, 0) and |l| have kinks that cancel on paper but not in autograd: no fault.
        kink = (logits.detach() == 0) & ((gradient - wanted).abs() < 2.002)
        if not close(torch.where(kink, wanted, gradient).double().cpu(), wanted.double().cpu()):
            raise NotYet(
                "wrong gradient",
                "The values are right, but the gradient is not sigmoid(logits) − x everywhere:\n"
                f"    logits:   {tensor_text(logits.detach())}\n    expected: {tensor_text(wanted)}\n"
                f"    came:     {tensor_text(gradient)}\nWhich step has a flat spot, or multiplies 0 by infinity on "
                "the way back? A clamp on a value also clamps its gradient.",
            )


def _from_probabilities(logits: Tensor, x: Tensor, eps: float = 0.0) -> Tensor:
    p = logits.sigmoid()
    return -_sum(x * (p + eps).log() + (1 - x) * (1 - p + eps).log())


def _inside_the_logarithm(eps: str) -> Misconception:
    return Misconception(
        f"{eps} inside the logarithm",
        lambda l, x: _from_probabilities(l, x, float(eps)),  # noqa: E741
        f"A number as small as {eps} inside the logarithm keeps it finite, and wrong: no pixel can cost more than "
        "−log of it. Can you do without?",
    )


def _clamped(bound: str) -> Misconception:
    low, cap = float(bound), -math.log(float(bound))
    return Misconception(
        f"probabilities clamped at {bound}",
        lambda l, x: (  # noqa: E741
            F.binary_cross_entropy(l.sigmoid().clamp(low, 1 - low), x, reduction="none").flatten(1).sum(1)
        ),
        f"The clamp at {bound} caps the loss at about {cap:.0f} nats a pixel, and beyond it no gradient passes. Can "
        "the cost be written without a probability?",
    )


EXERCISE_5 = Exercise(
    number="5.5",
    title="Cross-entropy that survives saturation",
    minutes=8,
    stub=STUB_5,
    hints=(
        "Put p = 1 / (1 + exp(−l)) into the cross-entropy and simplify on paper until no sigmoid is left. What "
        "remains is log(1 + exp(l)) and one more term.",
        "Cross-entropy = log(1 + exp(l)) − l·x. The exponential overflows at large l. Take exp(l) out of the bracket "
        "where l is positive: log(1 + exp(l)) = l + log(1 + exp(−l)). Can you write both cases with |l|? (Then look "
        "whether torch has it: at l = 0 exactly, autograd is wrong about max and |l|.)",
        "log(1 + exp(l)) = max(l, 0) + log1p(exp(−|l|)), and now the exponent is never positive. torch's softplus is "
        "this function, with the right gradient at 0 too. Take l·x away from it, and sum over pixels.",
    ),
    solution=bce_from_logits,
    passed="Exact at every logit, with slope sigmoid(l) − x. (At l = 0 itself, autograd knows that only of softplus.)",
    judge=Compare(
        cases=_cases_5,
        also=_exact_gradient,
        misconceptions=(
            Misconception(
                "from probabilities",
                _from_probabilities,
                "Mathematically the same, but the sigmoid rounds to exactly 0 or 1 before the logarithm is taken. "
                "Can the sigmoid and the logarithm be joined on paper first?",
            ),
            Misconception(
                "clamped at 100",
                lambda l, x: (  # noqa: E741
                    F.binary_cross_entropy(l.sigmoid(), x, reduction="none").flatten(1).sum(1)
                ),
                "torch's binary_cross_entropy on probabilities keeps every logarithm above −100, so that nothing is "
                "infinite, and wrong logits cost too little or too much. What does it cost exactly?",
            ),
            *map(_inside_the_logarithm, ("1e-6", "1e-7", "1e-8", "1e-10")),
            *map(_clamped, ("1e-5", "1e-6", "1e-7")),
            Misconception(
                "overflow",
                lambda l, x: _sum((1 + l.exp()).log() - l * x),  # noqa: E741
                "The formula is right on paper, but exp(l) overflows for large logits. Which of exp(l) and exp(−l) is "
                "safe, and when?",
            ),
            Misconception(
                "target forgotten",
                lambda l, x: _sum(F.softplus(l)),  # noqa: E741
                "This is log(1 + exp(l)), the cost of a black pixel. Where does x come in?",
            ),
            Misconception(
                "target inverted",
                lambda l, x: _sum(F.softplus(-l) + l * x),  # noqa: E741
                "Black and white are swapped: a large logit should be cheap for a white pixel. Which of the two terms "
                "of the cross-entropy goes with x, and which with 1 − x?",
            ),
            Misconception(
                "sign of l·x",
                lambda l, x: _sum(F.softplus(l) + l * x),  # noqa: E741
                "The part without x is right. The other makes a white pixel dearer, the larger its logit: which sign "
                "has l·x?",
            ),
            Misconception(
                "only the corner",
                lambda l, x: _sum(l.clamp(min=0) - l * x),  # noqa: E741
                "This is what remains for very large logits. Near 0 something is missing, up to log 2 for each pixel.",
            ),
            Misconception(
                "mean over pixels",
                lambda l, x: (F.softplus(l) - l * x).flatten(1).mean(1),  # noqa: E741
                "This is the mean over the pixels. What does the negative log-likelihood of an image do with them?",
            ),
            Misconception(
                "mean of everything",
                lambda l, x: (F.softplus(l) - l * x).mean(),  # noqa: E741
                "This is the mean over pixels and images, the default of many loss functions. One number for each "
                "image was asked for, with its pixels summed.",
            ),
            Misconception(
                "sign",
                lambda l, x: _sum(l * x - F.softplus(l)),  # noqa: E741
                "This is the log-probability. A loss has the other sign.",
            ),
            Misconception(
                "sigmoid twice",
                lambda l, x: _sum(F.softplus(l.sigmoid()) - l.sigmoid() * x),  # noqa: E741
                "The sigmoid went in twice: once by hand, once inside the formula. What does the formula expect, "
                "logits or probabilities?",
            ),
        ),
    ),
)

# 5.6 -----------------------------------------------------------------------------------------------

STUB_6 = '''\
def posterior_average(z, mu, log_var, x):
    """Return, for each code, the average of all images, weighted by how likely each is to have sent it.

    The weight of image n at the code z is q(z|x_n) divided by its sum over all images.

    z:           (M, L), codes
    mu, log_var: (N, L), the encoder's output for N images
    x:           (N, D), those images
    result:      (M, D)
    """
    ...'''


def posterior_average(z, mu, log_var, x):
    distance = (z[:, None] - mu) ** 2 / log_var.exp()  # (M, N, L)
    log_q = -0.5 * (distance + log_var).sum(dim=2)  # log q(z|x_n), up to a constant
    weights = log_q.softmax(dim=1)  # over the images
    return weights @ x


def _cases_6(rng: torch.Generator) -> list[Case]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    small = (
        torch.tensor([[0.0], [1.0]]),
        torch.tensor([[0.0], [2.0], [1.0]]),
        torch.tensor([[0.0], [1.0], [-1.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]),
    )
    wide = (  # the second μ is farther from z, and likelier
        torch.tensor([[3.0, 1.0]]),
        torch.tensor([[0.0, 1.0], [7.0, 0.0]]),
        torch.tensor([[0.5, 0.5], [2.5, 0.8]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    )
    far = (30 + draw(2, 2), draw(3, 2), 0.5 * draw(3, 2), draw(3, 4))  # every density underflows
    return [
        tuple(t.double() for t in small),
        (draw(3, 2), draw(4, 2), 0.7 * draw(4, 2), torch.rand(4, 5, generator=rng, dtype=torch.float64)),
        (draw(3, 2), draw(3, 2), 0.7 * draw(3, 2), torch.rand(3, 3, generator=rng, dtype=torch.float64)),
        far,
        tuple(t.double() for t in wide),
    ]


def _log_q(z: Tensor, mu: Tensor, log_var: Tensor, *, spread: float = 0.5, half: float = 0.5) -> Tensor:
    return -(half * (z[:, None] - mu) ** 2 / log_var.exp() + spread * log_var).sum(2)


def _log_density(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """log q(z|x) with its constant."""
    return _log_q(z, mu, log_var) - mu.shape[1] / 2 * LOG_2PI


def _shares(t: Tensor) -> Tensor:
    return t / t.sum(1, keepdim=True)


def _average(weights: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda z, mu, log_var, x: weights(z, mu, log_var) @ x


EXERCISE_6 = Exercise(
    number="5.6",
    title="What the best decoder would answer",
    minutes=10,
    stub=STUB_6,
    hints=(
        "First the density of one code under one image's q(z|x_n), as a logarithm. Which tensor holds it for all M "
        "codes and all N images, and what is its shape?",
        "z[:, None] − mu has shape (M, N, L). log q is −½ times the sum over L of (difference)²/σ² + log σ², up to a "
        "constant that all images share. A softmax turns log q into weights without leaving the range of floats.",
        "Square the differences, divide by log_var.exp(), add log_var, sum over the last axis, times −½: (M, N). "
        "Softmax over the images, axis 1, then multiply by x.",
    ),
    solution=posterior_average,
    passed="This is the decoder that both losses ask for: the mean of every image that a code may have come from.",
    judge=Compare(
        cases=_cases_6,
        misconceptions=(
            Misconception(
                "log σ² forgotten",
                _average(lambda z, m, v: _log_q(z, m, v, spread=0).softmax(1)),
                "The densities lack their normalising factor, which differs from image to image here. A narrow q is "
                "also a tall one: which term says so?",
            ),
            Misconception(
                "factor ½ forgotten",
                _average(lambda z, m, v: _log_q(z, m, v, spread=1, half=1).softmax(1)),
                "Everything in the exponent is twice too large, so the weights are squared. Which factor stands in "
                "a Gaussian's exponent?",
            ),
            Misconception(
                "½ missing before log σ²",
                _average(lambda z, m, v: _log_q(z, m, v, spread=1).softmax(1)),
                "log σ² enters with weight 1. Before the exponential stands 1/σ: which multiple of log σ² is log σ?",
            ),
            Misconception(
                "σ in place of σ²",
                _average(lambda z, m, v: (-0.5 * (z[:, None] - m) ** 2 / (0.5 * v).exp() - 0.5 * v).sum(2).softmax(1)),
                "The squared differences are divided by σ. Which power of σ goes with a square?",
            ),
            Misconception(
                "log σ² used as σ²",
                _average(lambda z, m, v: (-0.5 * ((z[:, None] - m) ** 2 / v + v)).sum(2).softmax(1)),
                "The encoder gives the logarithm of the variance, and here it was used as if it were the variance. "
                "What turns one into the other?",
            ),
            Misconception(
                "log σ² used as σ² throughout",
                _average(lambda z, m, v: (-0.5 * ((z[:, None] - m) ** 2 / v + v.log())).sum(2).softmax(1)),
                "log_var was taken for σ², and its logarithm for log σ². Wherever log_var is negative, that is NaN. "
                "Which of σ² and log σ² does the encoder give?",
            ),
            Misconception(
                "log σ² read as log σ",
                _average(lambda z, m, v: _log_q(z, m, 2 * v).softmax(1)),
                "log_var was taken for log σ, so that every variance is squared. Which power of σ is its exponential?",
            ),
            Misconception(
                "variances ignored",
                _average(lambda z, m, v: _log_q(z, m, torch.zeros_like(v)).softmax(1)),
                "Every q was treated as if its σ were 1. Where does log_var come in, twice?",
            ),
            Misconception(
                "softmax over the codes",
                _average(lambda z, m, v: _log_q(z, m, v).softmax(0)),
                "The weights add up to 1 over the codes. For one code, over what should they?",
            ),
            Misconception(
                "not normalised",
                _average(lambda z, m, v: _log_q(z, m, v).exp()),
                "These weights do not add up to 1, so the result is no average. (They may even all be 0, far from "
                "every μ.) Which function normalises logarithms safely?",
            ),
            Misconception(
                "not normalised, with 2π",
                _average(lambda z, m, v: _log_density(z, m, v).exp()),
                "Each image is weighted by its density itself, with all its constants. For one code, what do these "
                "weights add up to, and what should they?",
            ),
            Misconception(
                "normalised after underflow",
                _average(lambda z, m, v: _shares(_log_q(z, m, v).exp())),
                "Right where the densities are large enough. Far from every μ they all become 0, and 0 / 0 is NaN. "
                "What can be subtracted from the logarithms first?",
            ),
            Misconception(
                "likeliest image only",
                lambda z, m, v, x: x[_log_q(z, m, v).argmax(1)],
                "This is the likeliest image alone. An average was asked for: how much do the others count?",
            ),
            Misconception(
                "nearest image only",
                lambda z, m, v, x: x[(z[:, None] - m).norm(dim=2).argmin(1)],
                "This is only the image whose μ is nearest to the code. What does log_var say about how far a code may "
                "lie from its μ? And how much do the other images count?",
            ),
            Misconception(
                "plain average",
                lambda z, m, v, x: x.mean(0).expand(len(z), -1),
                "This is the mean of all images, whatever the code. What does z change?",
            ),
            Misconception(
                "weighted by the logarithm",
                _average(lambda z, m, v: _shares(_log_q(z, m, v))),
                "The weights are proportional to log q, so that the least likely image counts most. To what should "
                "they be proportional?",
            ),
            Misconception(
                "weighted by the logarithm, with 2π",
                _average(lambda z, m, v: _shares(_log_density(z, m, v))),
                "Each weight is an image's share of the sum of all log q, constants included. Where q is small, log q "
                "is a large negative number: which image gets the largest share?",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5, EXERCISE_6)
