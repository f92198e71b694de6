"""The exercises of notebook 06, the whole VAE."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ._compare import Case, Compare, Misconception, gradient_reaches
from ._framework import Exercise

LOG_2PI = math.log(2 * math.pi)


def _sum(t: Tensor) -> Tensor:
    return t.flatten(1).sum(1)


# 6.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def negative_elbo(logits, x, mu, log_var):
    """Return -ELBO of each image, for a Bernoulli decoder, in nats.

    logits, x:   (B, ...), the decoder's output and the image, pixels in [0, 1]
    mu, log_var: (B, L), the encoder's output, log_var is log sigma^2
    result:      (B,)
    """
    ...'''


def negative_elbo(logits, x, mu, log_var):
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    distortion = bce.flatten(1).sum(1)  # over all pixels
    rate = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)  # over all latent dimensions
    return distortion + rate


def _bce(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1)


def _kl(mu: Tensor, lv: Tensor) -> Tensor:
    return 0.5 * (mu**2 + lv.exp() - 1 - lv)


def _cases_1(rng: torch.Generator) -> list[Case]:
    def case(b: int, *shape: int, latents: int) -> Case:
        logits = torch.randint(-40, 41, (b, *shape), generator=rng).double() / 10
        x = torch.randint(0, 11, (b, *shape), generator=rng).double() / 10
        mu = torch.randint(-15, 16, (b, latents), generator=rng).double() / 10
        return logits, x, mu, torch.randint(-25, 13, (b, latents), generator=rng).double() / 10

    sure = torch.tensor([[60.0, -60.0, 3.0]]).double(), torch.tensor([[0.0, 1.0, 0.5]]).double()
    return [
        case(2, 3, latents=2),
        case(3, 1, 2, 4, latents=3),
        (*sure, torch.zeros(1, 2).double(), torch.zeros(1, 2).double()),
    ]


EXERCISE_1 = Exercise(
    number="6.1",
    title="The loss, whole",
    minutes=6,
    stub=STUB_1,
    hints=(
        "Two terms: the cross-entropy of the pixels (notebook 05) and the KL in closed form (notebook 04). Which axes "
        "does each of them sum over, and which one do both of them keep?",
        "The cross-entropy takes logits, and must not average: look at the `reduction` argument. Images may have "
        "several axes behind the batch. The KL has one number per latent dimension. Both end with shape (B,).",
        'BCE with logits and reduction="none", flattened from axis 1 and summed; half of μ² + σ² − 1 − log σ², summed '
        "over axis 1; then added, with no weight between them.",
    ),
    solution=negative_elbo,
    passed="Nats per image: sums over pixels and dimensions, nothing over the batch, no hidden weight.",
    judge=Compare(
        cases=_cases_1,
        also=gradient_reaches("logits", "mu", "log_var"),
        misconceptions=(
            Misconception(
                "no KL",
                lambda lo, x, m, lv: _bce(lo, x).sum(1),
                "This is the distortion alone: an autoencoder with noise. Which term says where codes shall live?",
            ),
            Misconception(
                "no distortion",
                lambda lo, x, m, lv: _kl(m, lv).sum(1),
                "This is the rate alone, and it is smallest when the codes say nothing. What is missing?",
            ),
            Misconception(
                "KL subtracted",
                lambda lo, x, m, lv: _bce(lo, x).sum(1) - _kl(m, lv).sum(1),
                "The KL is subtracted here. It is subtracted in the ELBO; what happens to both signs in −ELBO?",
            ),
            Misconception(
                "sign",
                lambda lo, x, m, lv: -_bce(lo, x).sum(1) - _kl(m, lv).sum(1),
                "This is the ELBO itself. A loss is made small: which sign does it carry?",
            ),
            Misconception(
                "mean over pixels",
                lambda lo, x, m, lv: _bce(lo, x).mean(1) + _kl(m, lv).sum(1),
                "The cross-entropy was averaged over the pixels, which makes the KL D times too heavy (784 for a "
                "digit). What does the product over pixels become under the logarithm?",
            ),
            Misconception(
                "KL averaged over dimensions",
                lambda lo, x, m, lv: _bce(lo, x).sum(1) + _kl(m, lv).mean(1),
                "The KL was averaged over the latent dimensions, so it weighs L times too little. Sum or mean, when "
                "dimensions are independent?",
            ),
            Misconception(
                "means of both",
                lambda lo, x, m, lv: _bce(lo, x).mean(1) + _kl(m, lv).mean(1),
                "Both terms are averages here, over different numbers of things, and their ratio depends on the image "
                "size. What is an ELBO per image made of?",
            ),
            Misconception(
                "one number for the batch",
                lambda lo, x, m, lv: (_bce(lo, x).sum(1) + _kl(m, lv).sum(1)).mean(),
                "The value is right for the batch as a whole. One number for each image was asked for: which step "
                "comes too early?",
            ),
            Misconception(
                "batch shared",
                lambda lo, x, m, lv: _bce(lo, x).sum(1) + _kl(m, lv).sum(),
                "The KL of the whole batch was added to every image. Over which axis should it be summed?",
            ),
            Misconception(
                "sigmoid twice",
                lambda lo, x, m, lv: _bce(lo.sigmoid(), x).sum(1) + _kl(m, lv).sum(1),
                "A sigmoid was taken of the logits, and the loss takes another one. Which of the two owns it?",
            ),
            Misconception(
                "from probabilities",
                lambda lo, x, m, lv: (
                    F.binary_cross_entropy(lo.sigmoid(), x, reduction="none").flatten(1).sum(1) + _kl(m, lv).sum(1)
                ),
                "Right for moderate logits, but at 60 the sigmoid has rounded to 1 (notebook 05, section 9). "
                "Which function takes the logits as they are?",
            ),
            Misconception(
                "log_var read as sigma",
                lambda lo, x, m, lv: _bce(lo, x).sum(1) + 0.5 * (m**2 + lv**2 - 1 - (lv**2).log()).sum(1),
                "In the KL, log_var was taken for σ. What does its name say that it is?",
            ),
            Misconception(
                "log_var read as log sigma",
                lambda lo, x, m, lv: _bce(lo, x).sum(1) + _kl(m, 2 * lv).sum(1),
                "In the KL, log_var was taken for log σ. Which power of σ is it the logarithm of?",
            ),
            Misconception(
                "summed over the batch",
                lambda lo, x, m, lv: _bce(lo, x).sum() + _kl(m, lv).sum(),
                "This is the sum over all images of the batch. One number for each image was asked for: which axes "
                "should be summed, and which one kept?",
            ),
            Misconception(
                "averaged over everything",
                lambda lo, x, m, lv: _bce(lo, x).mean() + _kl(m, lv).mean(),
                "Both terms are averages over all their numbers, pixels or dimensions and images alike. What is an "
                "ELBO per image made of: sums or means, and over which axes?",
            ),
            Misconception(
                "KL not halved",
                lambda lo, x, m, lv: _bce(lo, x).sum(1) + 2 * _kl(m, lv).sum(1),
                "The KL is twice what it should be: a weight of 2. Where is the ½?",
            ),
            Misconception(
                "squared error",
                lambda lo, x, m, lv: _sum((lo.sigmoid() - x) ** 2) + _kl(m, lv).sum(1),
                "This takes the squared error of the pixels' probabilities. Which likelihood was asked for?",
            ),
        ),
    ),
)

# 6.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def log_weight(log_px, z, mu, log_var):
    """Return log p(x|z) + log p(z) - log q(z|x), the log importance weight of each sample.

    log_px:      (B,), log p(x|z) of the decoder, already computed
    z:           (B, L), drawn from q(z|x) = N(mu, diag sigma^2)
    mu, log_var: (B, L), log_var is log sigma^2
    result:      (B,)
    """
    ...'''


def log_weight(log_px, z, mu, log_var):
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    log_qz = -0.5 * ((z - mu) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi)).sum(1)
    return log_px + log_pz - log_qz


def _cases_2(rng: torch.Generator) -> list[Case]:
    def case(b: int, latents: int) -> Case:
        mu = torch.randint(-15, 16, (b, latents), generator=rng).double() / 10
        lv = torch.randint(-25, 8, (b, latents), generator=rng).double() / 10
        z = mu + torch.randint(-15, 16, (b, latents), generator=rng).double() / 10
        return -torch.randint(50, 150, (b,), generator=rng).double(), z, mu, lv

    one = case(1, 5)
    likely = torch.tensor([-2.0], dtype=torch.float64)  # e to this power is not 0, e to the others is
    return [case(2, 2), case(4, 3), (likely, *one[1:])]


def _weight_2(p: float, q: float, log_sd: float = 1, constant: float = 0) -> Callable[..., Tensor]:
    """log p(x|z) + p · log p(z) − q · log q(z|x), with log σ² counted ``log_sd`` times and a constant per dimension."""

    def wrong(log_px: Tensor, z: Tensor, mu: Tensor, lv: Tensor) -> Tensor:
        log_pz = -0.5 * (z**2 + LOG_2PI).sum(1)
        log_qz = -0.5 * ((z - mu) ** 2 / lv.exp() + log_sd * lv + LOG_2PI).sum(1)
        return log_px + p * log_pz - q * log_qz + constant * z.shape[1]

    return wrong


EXERCISE_2 = Exercise(
    number="6.2",
    title="The importance weight",
    minutes=8,
    stub=STUB_2,
    hints=(
        "The first of the three is given. The other two are log-densities of diagonal Gaussians at the same point z: "
        "one around 0 with variance 1, one around mu with variance σ².",
        "A Gaussian's log-density in one dimension is −½ of: squared distance over variance, plus log variance, plus "
        "log 2π. Sum over the latent dimensions, one number per sample. Here log variance is log_var itself.",
        "log p(z) = −½ Σ (z² + log 2π) and log q(z|x) = −½ Σ ((z − μ)²/σ² + log σ² + log 2π), both over axis 1; then "
        "log_px + log p(z) − log q(z|x).",
    ),
    solution=log_weight,
    passed="Its mean over samples is the ELBO; the logarithm of the mean of its exponential reaches for log p(x).",
    judge=Compare(
        cases=_cases_2,
        misconceptions=(
            Misconception(
                "the closed-form KL",
                lambda lp, z, m, lv: lp - _kl(m, lv).sum(1),
                "This subtracts the KL in closed form, its average over z. Right for the ELBO, but a weight belongs to "
                "one sample: which densities does *this* z have?",
            ),
            Misconception(
                "q forgotten",
                _weight_2(1, 0),
                "The density that z was drawn from is missing. Without it, places that q visits often count too much. "
                "What does importance sampling divide by?",
            ),
            Misconception(
                "prior forgotten",
                _weight_2(0, 1),
                "p(z) is missing: the joint density p(x, z) has two factors. Which one is not here?",
            ),
            Misconception(
                "the other way round",
                _weight_2(-1, -1),
                "The two densities of z stand the wrong way round: this adds log q and subtracts log p(z). Which one "
                "is in the denominator of the weight?",
            ),
            Misconception(
                "both added",
                _weight_2(1, -1),
                "All three are added. A density that one divides by enters its logarithm with which sign?",
            ),
            Misconception(
                "2π in the prior only",
                _weight_2(1, 1, constant=-0.5 * LOG_2PI),
                "Off by −½·log 2π for each dimension: the prior has the constant, q lost it. Either both or neither.",
            ),
            Misconception(
                "2π in q only",
                _weight_2(1, 1, constant=0.5 * LOG_2PI),
                "Off by +½·log 2π for each dimension: q has the constant, the prior lost it. Either both or neither.",
            ),
            Misconception(
                "log σ² counted twice",
                _weight_2(1, 1, log_sd=2),
                "log σ² enters q twice as heavily as it should. Before the exponential stands 1/σ, which is the root "
                "of 1/σ²: how many halves are there?",
            ),
            Misconception(
                "log σ forgotten",
                _weight_2(1, 1, log_sd=0),
                "q lacks its normaliser: a narrow Gaussian is a tall one. Which term says so?",
            ),
            Misconception(
                "divided by σ",
                lambda lp, z, m, lv: lp - 0.5 * (z**2).sum(1) + 0.5 * ((z - m) ** 2 / (0.5 * lv).exp() + lv).sum(1),
                "The squared distance from mu is divided by σ. Which power of it makes the quotient free of units?",
            ),
            Misconception(
                "prior at mu",
                lambda lp, z, m, lv: lp - 0.5 * (m**2).sum(1) + 0.5 * ((z - m) ** 2 / lv.exp() + lv).sum(1),
                "The prior's density was taken at mu. The sample sits at z. Must both densities not look at one point?",
            ),
            Misconception(
                "the weight itself",
                lambda lp, z, m, lv: _weight_2(1, 1)(lp, z, m, lv).exp(),
                "This is the weight, and a weight of e⁻¹⁵⁰ is 0 in float32. Its logarithm was asked for: which step is "
                "one too many?",
            ),
            Misconception(
                "mean over dimensions",
                lambda lp, z, m, lv: lp + (-0.5 * z**2 + 0.5 * ((z - m) ** 2 / lv.exp() + lv)).mean(1),
                "The latent dimensions were averaged. Independent dimensions multiply: sum or mean, for their "
                "logarithms?",
            ),
            Misconception(
                "one for the batch",
                lambda lp, z, m, lv: _weight_2(1, 1)(lp, z, m, lv).mean(),
                "This is the average over the samples. Each sample's own weight was asked for: which step comes too "
                "early?",
            ),
        ),
    ),
)

# 6.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def is_active(mu, threshold):
    """Say which latent dimensions are active: their posterior mean varies over the data.

    mu:        (N, L), the posterior means of N images
    threshold: a number; a dimension is active when the variance of its mean over the images exceeds it
    result:    (L,), True or False
    """
    ...'''


def is_active(mu, threshold):
    variance = mu.var(dim=0)  # over the images, for each dimension
    return variance > threshold


def _cases_3(rng: torch.Generator) -> list[Case]:
    def codes(n: int, scale: list[float], shift: list[float]) -> Tensor:
        """Means with exactly these standard deviations and averages."""
        raw = torch.randn(n, len(scale), generator=rng, dtype=torch.float64)
        raw = (raw - raw.mean(0)) / raw.std(0)
        return raw * torch.tensor(scale).double() + torch.tensor(shift).double()

    small = torch.tensor([[0.9, 0.50, 0.06], [-0.8, 0.51, -0.05], [0.4, 0.50, -0.01]]).double()
    return [
        (small, 0.01),
        (codes(50, [1.0, 0.06, 0.3, 0.001, 0.2], [0.0, 0.0, 0.0, 1.0, -1.0]), 0.01),
        (codes(40, [0.8, 0.15, 0.05, 0.6], [0.3, 0.0, 2.0, -0.1]), 0.2),
        (codes(30, [0.3, 0.05], [0.0, 0.4]), 0.01),
        (codes(40, [0.3, 0.02, 0.02, 0.02], [0.0, 0.0, 0.0, 0.0]), 0.03),
    ]


EXERCISE_3 = Exercise(
    number="6.3",
    title="Which dimensions are active?",
    minutes=4,
    stub=STUB_3,
    hints=(
        "A dimension that says something about the image has another posterior mean for another image. Which axis of "
        "mu are the images on?",
        "Take the variance along the axis of images, one number for each dimension, and compare it with the threshold.",
        "`mu.var(dim=0)` is (L,), and a comparison of a tensor with a number gives a tensor of True and False.",
    ),
    solution=is_active,
    passed="A cheap test: it asks whether the mean moves, not how much it says.",
    judge=Compare(
        cases=_cases_3,
        misconceptions=(
            Misconception(
                "the standard deviation",
                lambda mu, t: mu.std(0) > t,
                "The standard deviation was compared. It is larger than the variance where both are below 1. Which of "
                "the two does the definition name?",
            ),
            Misconception(
                "over the dimensions",
                lambda mu, t: mu.var(1) > t,
                "The variance was taken over the dimensions of each image, so there is one answer per image. Over what "
                "should the mean vary?",
            ),
            Misconception(
                "mean square",
                lambda mu, t: (mu**2).mean(0) > t,
                "A dimension whose mean is 0.5 for *every* image counts as active here, and it says nothing. What does "
                "a variance take off first?",
            ),
            Misconception(
                "any large mean",
                lambda mu, t: (mu.abs() > t).any(0),
                "This asks whether any image has a large mean. A constant is large, too: does it tell images apart?",
            ),
            Misconception(
                "inactive ones",
                lambda mu, t: mu.var(0) <= t,
                "These are the dimensions that are *not* active. Which way round is the comparison?",
            ),
            Misconception(
                "their number",
                lambda mu, t: (mu.var(0) > t).sum(),
                "This counts the active dimensions. Which ones was the question: what did the count throw away?",
            ),
            Misconception(
                "the variances",
                lambda mu, t: mu.var(0),
                "These are the variances themselves. What is the threshold for?",
            ),
            Misconception(
                "range",
                lambda mu, t: (mu.amax(0) - mu.amin(0)) > t,
                "The range from smallest to largest was compared: two odd images are enough to make it large. Which "
                "measure of spread does the definition name?",
            ),
            Misconception(
                "all dimensions together",
                lambda mu, t: mu.var() > t,
                "One variance of all numbers together, so there is one answer for all dimensions. Along which axis "
                "should it be taken?",
            ),
        ),
    ),
)

# 6.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def quantile_places(n):
    """Cut N(0, 1) into n parts of equal probability, and return the point in the middle of each, by probability.

    n:      a whole number
    result: (n,), ascending: the quantiles at (i + 1/2) / n for i = 0 ... n-1
    """
    ...'''


def quantile_places(n):
    levels = (torch.arange(n) + 0.5) / n  # the same share of the prior on both sides, in every part
    return torch.distributions.Normal(0.0, 1.0).icdf(levels)


def _levels(n: int, shift: float = 0.5) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + shift) / n


EXERCISE_4 = Exercise(
    number="6.4",
    title="Places of equal probability",
    minutes=5,
    stub=STUB_4,
    hints=(
        "First n numbers between 0 and 1: the shares of the prior that shall lie to the left of each place. Then the "
        "function that turns a share into a place. What is the inverse of a cumulative distribution called?",
        "The shares are (i + ½)/n: neither 0 nor 1, where the place would be infinite. The function is the quantile "
        "function, icdf in torch.distributions.",
        "`(torch.arange(n) + 0.5) / n`, given to the `icdf` of `torch.distributions.Normal(0.0, 1.0)`.",
    ),
    solution=quantile_places,
    passed="Narrow steps in the middle, wide ones outside: each place stands for the same share of the prior.",
    judge=Compare(
        cases=lambda rng: [(3,), (1,), (8,)],
        misconceptions=(
            Misconception(
                "evenly from −1 to 1",
                lambda n: torch.linspace(-1, 1, n),
                "Evenly spaced from −1 to 1: that is 68 % of a standard normal in one dimension and 46.6 % in two. "
                "How is everything beyond 1 to be seen?",
            ),
            Misconception(
                "evenly from −3 to 3",
                lambda n: torch.linspace(-3, 3, n),
                "Evenly spaced from −3 to 3: half of the range lies beyond ±1.5, where 13 % of the samples are. Which "
                "function makes shares, rather than distances, equal?",
            ),
            Misconception(
                "the shares themselves",
                lambda n: _levels(n),
                "These are the shares, between 0 and 1. Which function turns a share of probability into a place?",
            ),
            Misconception(
                "from 0 to 1",
                lambda n: torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0, 1, n)),
                "At the shares 0 and 1 the places are −∞ and ∞. Where is the *middle* of the first part?",
            ),
            Misconception(
                "the parts' left ends",
                lambda n: torch.special.ndtri(_levels(n, 0.0)),
                "These are the left ends of the parts, and the first is −∞. Where is the middle of a part?",
            ),
            Misconception(
                "the parts' right ends",
                lambda n: torch.special.ndtri(_levels(n, 1.0)),
                "These are the right ends of the parts, and the last is ∞. Where is the middle of a part?",
            ),
            Misconception(
                "ends between n + 1 parts",
                lambda n: torch.special.ndtri(torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)),
                "The shares are i/(n + 1): the ends of n + 1 parts rather than the middles of n. The outer parts get "
                "no picture. Which shares were asked for?",
            ),
            Misconception(
                "the distribution function",
                lambda n: torch.special.ndtr(_levels(n)),
                "This is the distribution function, from a place to a share. Its inverse is wanted.",
            ),
            Misconception(
                "root of 2 forgotten",
                lambda n: torch.erfinv(2 * _levels(n) - 1),
                "erfinv belongs to a Gaussian with another variance: too narrow by the same factor everywhere. Which?",
            ),
            Misconception(
                "descending",
                lambda n: torch.special.ndtri(_levels(n)).flip(0),
                "Right places, in the wrong order: ascending was asked for.",
            ),
        ),
    ),
)

# 6.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def slerp(a, b, t):
    """Go from a to b along the arc between their directions (spherical linear interpolation).

    a, b:   (B, L), no pair of them parallel
    t:      a number from 0 (gives a) to 1 (gives b)
    result: (B, L)
    """
    ...'''


def slerp(a, b, t):
    lengths = a.norm(dim=1, keepdim=True) * b.norm(dim=1, keepdim=True)
    cosine = (a * b).sum(1, keepdim=True) / lengths  # (B, 1), of each pair
    angle = cosine.clamp(-1, 1).arccos()
    return (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()


def _cases_5(rng: torch.Generator) -> list[Case]:
    def codes(b: int, latents: int) -> Tensor:
        return torch.randint(-20, 21, (b, latents), generator=rng).double() / 10 + 0.05

    right_angle = torch.tensor([[2.0, 0.0], [1.0, 1.0]]).double(), torch.tensor([[0.0, 2.0], [3.0, 0.0]]).double()
    return [(*right_angle, 0.5), (codes(4, 3), codes(4, 3), 0.25), (codes(2, 6), codes(2, 6), 1.0)]


def _arc(a: Tensor, b: Tensor, t: float, angle: Tensor) -> Tensor:
    return (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()


def _angle(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b, dim=1)[:, None].arccos()


def _unit(a: Tensor) -> Tensor:
    return a / a.norm(dim=1, keepdim=True)


EXERCISE_5 = Exercise(
    number="6.5",
    title="Along the arc",
    minutes=7,
    stub=STUB_5,
    hints=(
        "Let Ω be the angle between a and b. The weights of a and b are no longer 1 − t and t; they are sines of parts "
        "of Ω, divided by the sine of Ω. What must they be at t = 0 and at t = 1?",
        "cos Ω is the scalar product divided by both lengths, one angle for each pair. The weights are "
        "sin((1 − t)Ω)/sin Ω for a and sin(tΩ)/sin Ω for b.",
        "Sum a·b over axis 1 with keepdim=True, divide by the product of the norms, clamp to −1 … 1, arccos. Then the "
        "two weights times a and b, which keep their own lengths.",
    ),
    solution=slerp,
    passed="At equal lengths the length is kept; that is what the straight line does not do.",
    judge=Compare(
        cases=_cases_5,
        misconceptions=(
            Misconception(
                "straight line",
                lambda a, b, t: (1 - t) * a + t * b,
                "This is the straight line. At equal lengths and a right angle its middle is 0.71 times as long as the "
                "ends. Which weights keep the length?",
            ),
            Misconception(
                "the other end first",
                lambda a, b, t: _arc(b, a, t, _angle(a, b)),
                "At t = 0 this is b, and at t = 1 it is a. Which weight belongs to which?",
            ),
            Misconception(
                "ends of length 1",
                lambda a, b, t: _arc(_unit(a), _unit(b), t, _angle(a, b)),
                "The codes were shortened to length 1 and stayed so. At t = 1 this must be b itself: where does its "
                "length come back?",
            ),
            Misconception(
                "the straight line, stretched",
                lambda a, b, t: _unit((1 - t) * a + t * b) * ((1 - t) * a.norm(dim=1) + t * b.norm(dim=1))[:, None],
                "This is the straight line, stretched to a length between both. It does not move evenly along the arc: "
                "at t = ¼ it is not a quarter of the angle away. Which weights are?",
            ),
            Misconception(
                "angle from the raw product",
                lambda a, b, t: _arc(a, b, t, (a * b).sum(1, keepdim=True).arccos()),
                "The angle was computed from the scalar product alone, which is no number where that exceeds 1. It is "
                "a cosine only for codes of length 1: what is it divided by in general?",
            ),
            Misconception(
                "angle from the clamped product",
                lambda a, b, t: _arc(a, b, t, (a * b).sum(1, keepdim=True).clamp(-1, 1).arccos()),
                "The angle was computed from the scalar product alone, and the clamp hides that it is no cosine unless "
                "the codes have length 1. What is it divided by in general?",
            ),
            Misconception(
                "not divided by the sine",
                lambda a, b, t: _arc(a, b, t, _angle(a, b)) * _angle(a, b).sin(),
                "At t = 1 the weight of b should be 1, and here it is sin Ω. What is missing?",
            ),
            Misconception(
                "cosines as weights",
                lambda a, b, t: math.cos(t * math.pi / 2) * a + math.sin(t * math.pi / 2) * b,
                "These weights are right for a right angle. Other pairs have other angles: where does Ω enter?",
            ),
            Misconception(
                "one angle for the batch",
                lambda a, b, t: _arc(a, b, t, ((a * b).sum() / (a.norm() * b.norm())).arccos()),
                "One angle was computed for the whole batch. Each pair has its own: which axis is summed?",
            ),
            Misconception(
                "the cosine for the angle",
                lambda a, b, t: _arc(a, b, t, F.cosine_similarity(a, b, dim=1)[:, None]),
                "The cosine was used where the angle belongs. Which function leads back from it?",
            ),
            Misconception(
                "halfway, whatever t",
                lambda a, b, t: _arc(a, b, 0.5, _angle(a, b)),
                "This is always the middle of the arc. Where does t enter?",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5)
