"""The exercises of notebook 12, what the code says."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ._attempt import NotYet
from ._build import Build, fixed_noise, gradients_reach_all, has, same_numbers, trains
from ._exercise import Draw, Exercise
from .notebook_02 import _rate
from .notebook_06 import VAE


def log_densities(z, mu, log_var):
    """Return log q of every code under every posterior, for each dimension, in nats.

    z:           (M, L), codes
    mu, log_var: (N, L), posteriors N(mu, diag sigma^2); log_var is log sigma^2
    result:      (M, N, L)
    """
    squared = (z[:, None] - mu).square() / log_var.exp()
    return -0.5 * (squared + log_var + math.log(2 * math.pi))


def rate_parts(log_own, log_q, log_w, log_p):
    """Return the three parts of log q(z|x) - log p(z) of each of M codes, in nats.

    log_own: (M, L), log q(z_i|x) under the posterior that the code was drawn from
    log_q:   (M, N, L), the same under each of N posteriors
    log_w:   (M, N), log of the weights of these N in q(z), for each code
    log_p:   (M, L), log p(z_i) under the prior
    result:  three tensors (M,): mutual information, total correlation, dimension-wise KL
    """
    log_joint = (log_w + log_q.sum(2)).logsumexp(1)  # log q(z)
    log_each = (log_w[:, :, None] + log_q).logsumexp(1).sum(1)  # log of the product of all q(z_i)
    return log_own.sum(1) - log_joint, log_joint - log_each, log_each - log_p.sum(1)


def mixture_weights(batch_size, size):
    """Return the weights with which a batch stands for the whole data set in q(z).

    batch_size, size: whole numbers, B and N
    result: (B, B); row m is for the code that was drawn from image m of the batch
    """
    weights = torch.full((batch_size, batch_size), (size - 1) / (size * (batch_size - 1)))
    weights.fill_diagonal_(1 / size)
    return weights


def mmd(x, y, width):
    """Return the unbiased estimate of MMD^2, with k = exp(-|a - b|^2 / (2 width^2)).

    x: (M, L), one sample
    y: (N, L), the other
    result: one number
    """
    within_x, within_y, between = (_kernel(a, b, width) for a, b in ((x, x), (y, y), (x, y)))
    m, n = len(x), len(y)
    within = (within_x.sum() - m) / (m * (m - 1)) + (within_y.sum() - n) / (n * (n - 1))
    return within - 2 * between.mean()


def _kernel(a, b, width):  # (M, L), (N, L) -> (M, N)
    return (-(a[:, None] - b).square().sum(2) / (2 * width**2)).exp()


class TCVAE(VAE):
    """Your VAE with the loss -ELBO + (beta - 1) TC: closed-form KL, one z for the rest; size: number of images."""

    def __init__(self, latent_dim, size, beta, hidden=400):
        super().__init__(latent_dim, hidden)
        self.size, self.beta = size, beta

    def total_correlation(self, z, mu, log_var):  # (B, L) each -> (B,)
        log_q = log_densities(z, mu, log_var)
        log_w = mixture_weights(len(z), self.size).log().to(z)
        return rate_parts(log_q.diagonal().T, log_q, log_w, torch.zeros_like(z))[1]

    def loss(self, x):  # (B, 784) -> (B,)
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        recon = F.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1)
        kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
        return recon + kl + (self.beta - 1) * self.total_correlation(z, mu, log_var)


def mutual_information_gap(information, entropy):
    """Return the gap of the two best dimensions over the entropy, averaged over factors.

    information: (L, K), nats that each latent dimension tells of each factor
    entropy:     (K,), of each factor, in nats
    result:      one number
    """
    first, second = information.topk(2, dim=0).values
    return ((first - second) / entropy).mean()


# Wrong answers with words of their own --------------------------------------------------------------------


def _by_mean_of_logs(log_own, log_q, log_w, log_p):
    weights = log_w.exp()
    joint, each = (weights * log_q.sum(2)).sum(1), (weights[:, :, None] * log_q).sum(1).sum(1)
    return log_own.sum(1) - joint, joint - each, each - log_p.sum(1)


def _one_mixture(log_own, log_q, log_w, log_p):
    each = (log_w[:, :, None] + log_q).logsumexp(1).sum(1)
    return log_own.sum(1) - each, each - each, each - log_p.sum(1)


def _column(batch_size, size):
    weights = torch.full((batch_size, batch_size), (size - 1) / (size * (batch_size - 1)))
    weights.view(-1)[::batch_size] = 1 / size
    return weights


def _biased(x, y, width):
    return _kernel(x, x, width).mean() + _kernel(y, y, width).mean() - 2 * _kernel(x, y, width).mean()


def _scalar_kernel(x, y, width):
    def kernel(a, b):
        return (-(a[:, None] - b).square().sum(2).mean() / (2 * width**2)).exp()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def _unsquared(x, y, width):
    def kernel(a, b):
        return (-torch.cdist(a, b) / (2 * width**2)).exp()

    within = sum((kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1)) for a in (x, y))
    return within - 2 * kernel(x, y).mean()


def _viewed(information, entropy):
    first, second = information.reshape(len(entropy), -1).topk(2, dim=1).values.T
    return ((first - second) / entropy).mean()


# What a TCVAE does ----------------------------------------------------------------------------------------

_ARGS = (20, 4000, 4.0)


def _tc(z, mu, log_var):
    return _tc_with(mixture_weights(len(z), _ARGS[1]), z, mu, log_var)


def _tc_with(weights, z, mu, log_var):
    log_q = log_densities(z, mu, log_var)
    return rate_parts(log_q.diagonal().T, log_q, weights.log().to(z), torch.zeros_like(z))[1]


def _terms(x, model):
    """Distortion, rate in closed form, total correlation and rate at one sample."""
    mu, log_var = model.encode(x)
    with fixed_noise():
        z = model.reparameterize(mu, log_var)
    recon = F.binary_cross_entropy_with_logits(model.decode(z), x, reduction="none").sum(1)
    sampled = 0.5 * (z**2 - (z - mu) ** 2 / log_var.exp() - log_var).sum(1)
    return recon, _rate(mu, log_var), _tc(z, mu, log_var), sampled


def _loss(x, model):
    recon, kl, tc, _ = _terms(x, model)
    return recon + kl + (_ARGS[2] - 1) * tc


def _loss_with_a_sampled_kl(x, model):
    recon, _, tc, kl = _terms(x, model)
    return recon + kl + (_ARGS[2] - 1) * tc


def _codes(draw: Draw) -> list[tuple[Tensor, ...]]:
    return [(draw(b, size), draw(b, size), draw(b, size)) for b, size in ((3, 2), (5, 3), (4, 1))]


def _images(draw: Draw) -> list[tuple[Tensor]]:
    return [(draw.uniform(n, 784),) for n in (2, 3, 5)]


def _weighs_it(build: Build) -> None:
    model, x = build.make(*_ARGS), build.images(5)
    with fixed_noise(), torch.no_grad():
        before = build.run(model.loss, x, doing="in loss of 5 images")
        model.total_correlation = lambda z, mu, log_var: z.new_full((len(z),), 1e3)
        rise = (build.run(model.loss, x, doing="in loss, with another total_correlation") - before).mean() / 1e3
    words = "With another method total_correlation, the loss stays the same. It should ask self.total_correlation."
    build.require(rise.abs() > 0.1, "loss without self.total_correlation", words)
    words = f"With beta = {_ARGS[2]:g}, one nat more of total correlation adds {rise:.2f} to the loss. "
    words += "The KL has it once already; which weight must be added?"
    build.require(abs(rise - _ARGS[2] + 1) < 0.05, "weight of the total correlation", words)


def _one_draw(build: Build) -> None:
    """The code that is decoded is the one whose total correlation is paid for."""
    model, x = build.make(*_ARGS), build.images(5)
    decoded, charged = [], []
    decode, charge = model.decode, model.total_correlation
    model.decode = lambda z: (decoded.append(z), decode(z))[1]
    model.total_correlation = lambda z, *q, **named: (charged.append(z), charge(z, *q, **named))[1]
    with torch.no_grad():
        build.run(model.loss, x, doing="in loss of 5 images")
    same = not decoded or not charged or torch.equal(decoded[-1], charged[-1])
    words = "The z that is decoded is not the z that total_correlation gets: the loss draws twice. One draw serves "
    build.require(same, "two draws of z", f"{words}both; the terms of your VAE draw one of their own.")


def _moves_the_weights(build: Build) -> None:
    """The loss has the gradient of all its terms."""
    model, x = build.make(*_ARGS), build.images(16)
    weights = dict(model.named_parameters())

    def gradients(loss: Tensor) -> dict[str, Tensor]:
        found = torch.autograd.grad(loss.sum(), list(weights.values()), allow_unused=True, retain_graph=True)
        return {n: torch.zeros_like(weights[n]) if g is None else g for n, g in zip(weights, found, strict=True)}

    def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
        return [n for n in weights if (one[n] - other[n]).abs().max() > 1e-3 * other[n].abs().max() + 1e-6]

    with fixed_noise():
        came = gradients(build.run(model.loss, x, doing="in loss of 16 images"))
    recon, kl, tc, _ = _terms(x, model)
    if far := differ(came, gradients(recon + kl + (_ARGS[2] - 1) * tc)):
        words = "total_correlation passes no gradient on: its price never reaches the encoder. Is there a detach() or "
        free = not differ(came, gradients(recon + kl))
        build.require(not free, "no gradient of the total correlation", f"{words}a no_grad()?")
        words = f"The loss has the right value, but another gradient, first in {far[0]}. Is there a detach() or a "
        words += "no_grad() on the way from mu and log_var to z, to the decoder or to total_correlation?"
        raise NotYet("another gradient", words)


EXERCISES = (
    Exercise(
        number="12.1",
        title="Every code under every posterior",
        minutes=6,
        solution=log_densities,
        hints=(
            "How many numbers has the result, and which axis belongs to the codes, which to the images?",
            "z[:, None] has shape (M, 1, L). Minus mu, (N, L), it becomes (M, N, L) by broadcasting.",
            "Minus one half of: the squared difference divided by exp(log_var), plus log_var, plus log 2π.",
        ),
        cases=lambda draw: [(draw(m, s), draw(n, s), draw(n, s)) for m, n, s in ((2, 3, 1), (3, 2, 4), (1, 4, 2))],
        gradients=("z", "mu", "log_var"),
        passed="Summed over the last axis it is log q(z|x); kept apart, it gives the marginals.",
    ),
    Exercise(
        number="12.2",
        title="Three parts of the rate",
        minutes=10,
        solution=rate_parts,
        hints=(
            "Two mixtures are needed: q(z), of whole codes, and q(z_i), of one dimension at a time. In which of them "
            "is the sum over dimensions taken first?",
            "The log of a weighted sum of densities is a logsumexp over the images of log weight + log density. For "
            "q(z) the log density is summed over dimensions before, for the product of marginals after.",
            "joint: logsumexp over axis 1 of log_w + log_q.sum(2). each: logsumexp over axis 1 of log_w[:, :, None] + "
            "log_q, then summed over dimensions. The parts: own − joint, joint − each, each − prior.",
        ),
        cases=lambda draw: [
            (draw(m, s), draw(m, n, s), draw(m, n), draw(m, s)) for m, n, s in ((2, 3, 1), (1, 3, 2), (3, 4, 2))
        ],
        gradients=("log_own", "log_q", "log_p"),
        parts=("mutual information", "total correlation", "dimension-wise KL"),
        passed="Own, joint, marginals, prior: each part is the step from one to the next, so they add up.",
        mistakes={
            "mean of the logs": (
                _by_mean_of_logs,
                "The logs of the densities were averaged. A mixture averages the densities: which function takes the "
                "log of a sum of exps?",
            ),
            "marginals for the joint": (
                _one_mixture,
                "The same mixture stands for q(z) and for the product of the q(z_i), so the total correlation is 0. A "
                "code of one image has all its dimensions from that image: sum over them before mixing.",
            ),
        },
    ),
    Exercise(
        number="12.3",
        title="A batch stands for the data",
        minutes=6,
        solution=mixture_weights,
        hints=(
            "Of N images the batch holds B. One of them is there for certain: the one that the code was drawn from. "
            "Which weight has it in q(z)?",
            "Its own weight is 1/N. The other N − 1 images have (N − 1)/N together, and B − 1 of them are "
            "in the batch.",
            "A (B, B) matrix full of (N − 1)/(N·(B − 1)), and then 1/N on the diagonal.",
        ),
        cases=lambda draw: [(3, 10), (2, 7), (5, 40)],
        passed="Rows sum to 1, and each code's own image has the weight that it has in the data.",
        mistakes={
            "a column in place of the diagonal": (
                _column,
                "1/N stands in the first column. Rows sum to 1, so a test of the sums is content; but code m was drawn "
                "from image m. At which place of row m does its own image stand?",
            ),
            "1/(N·B) for all": (
                lambda batch_size, size: torch.full((batch_size, batch_size), 1 / (size * batch_size)),
                "All have 1/(N·B), so a row sums to 1/N. What should the weights of a mixture sum to?",
            ),
            "the others have 1 together": (
                lambda batch_size, size: torch.full((batch_size,) * 2, 1 / (batch_size - 1)).fill_diagonal_(1 / size),
                "A row sums to 1 + 1/N: the other images have 1 together, and the own image 1/N besides. How much of 1 "
                "is left for the others?",
            ),
            "the batch for the data": (
                lambda batch_size, size: torch.full((batch_size, batch_size), 1 / batch_size),
                "All have 1/B: this is the mixture of a data set of B images. In one of N, how much of q(z) belongs to "
                "the image that the code was drawn from?",
            ),
        },
    ),
    Exercise(
        number="12.4",
        title="The distance between two samples",
        minutes=8,
        solution=mmd,
        hints=(
            "Three averages of the kernel: within x, within y, and between them. What does the kernel give for a "
            "point and itself, and does such a pair say anything about the distribution?",
            "Within x there are M·(M − 1) pairs of different points. The M others have the kernel 1. Between x and y "
            "all M·N pairs count, and that average is subtracted twice.",
            "The kernel of two samples is a matrix: exp of minus the squared distance of every a and every b, over "
            "2·width². Within: (its sum − M)/(M·(M − 1)).",
        ),
        cases=lambda draw: [
            (draw(m, s), draw(n, s), w) for m, n, s, w in ((2, 3, 1, 1.0), (4, 2, 3, 0.8), (3, 5, 1, 2.0))
        ],
        gradients=("x", "y"),
        passed="Zero on average for equal distributions, so now and then below zero.",
        mistakes={
            "biased": (
                _biased,
                "Pairs of a point with itself are among those averaged, each with the kernel 1. Two samples of one "
                "distribution then look different. Which pairs should count?",
            ),
            "sign": (
                lambda x, y, width: -mmd(x, y, width),
                "The sign is the other one: this is largest where the samples agree. Training would drive them apart.",
            ),
            "the distance, not its square": (
                _unsquared,
                "The exponent has |a − b| in place of its square. torch.cdist gives the distance itself.",
            ),
            "a kernel of one number": (
                _scalar_kernel,
                "The exponential was taken of an average distance. A kernel gives a number for each pair; these are "
                "averaged afterwards. Else the distance sees little more than means and variances.",
            ),
        },
    ),
    Exercise(
        number="12.5",
        title="Your VAE pays for sharing",
        minutes=15,
        solution=TCVAE,
        hints=(
            "Your VAE has encode, reparameterize and decode already. Which of the three parts is asked for, and which "
            "functions of exercises 12.1 to 12.3 give it?",
            "log_densities(z, mu, log_var) is (B, B, L); its diagonal over the first two axes is each code under its "
            "own posterior. The weights' log goes into rate_parts. The prior does not matter for this part.",
            "total_correlation: log_q as above; log_q.diagonal().T is (B, L); second result of rate_parts. loss: "
            "distortion and KL as in your VAE, from one z, plus (beta − 1) times self.total_correlation of that z.",
        ),
        passed="At β = 1 it is your VAE; after {steps} steps with β = 4 the loss is {loss:.0f} nats.",
        checks=(
            has("encode", "decode", "total_correlation", "loss", "sample", args=_ARGS),
            same_numbers(
                "total_correlation(z, mu, log_var)",
                lambda model, *codes: model.total_correlation(*codes),
                _tc,
                _codes,
                args=_ARGS,
                axes="z, mu, log_var: (B, L)",
                mistakes={
                    "cut off at 0": (
                        lambda z, mu, log_var: _tc(z, mu, log_var).clamp(min=0),
                        "Negative numbers were cut off. The mean over the data is a KL; what one code contributes may "
                        "have either sign, and without the negative ones the mean is too large.",
                    ),
                    "the batch for the data": (
                        lambda z, *q: _tc_with(torch.full((len(z), len(z)), 1 / len(z)), z, *q),
                        "This is the total correlation if the batch were all the data. Are the weights those of "
                        "exercise 12.3, with self.size?",
                    ),
                },
            ),
            same_numbers(
                "loss(x)",
                lambda model, x: model.loss(x),
                _loss,
                _images,
                args=_ARGS,
                mistakes={
                    "the KL at one sample": (
                        _loss_with_a_sampled_kl,
                        "The KL here is log q(z|x) − log p(z), at one z. Your VAE has the mean of this over z, in "
                        "closed form: without the noise of a draw.",
                    ),
                },
            ),
            _weighs_it,
            _one_draw,
            gradients_reach_all(args=_ARGS),
            _moves_the_weights,
            trains(below=230, above=60, steps=150, args=_ARGS),
        ),
    ),
    Exercise(
        number="12.6",
        title="The mutual information gap",
        minutes=6,
        solution=mutual_information_gap,
        hints=(
            "Look at one factor, one column of information. Which two of its numbers are needed?",
            "The largest and the second largest of the column; their difference over the entropy of that factor. Then "
            "the mean over the factors.",
            "information.topk(2, dim=0).values has two rows of K numbers each.",
        ),
        cases=lambda draw: [
            (draw.uniform(n, k), draw.uniform(k, low=1.0, high=3.0)) for n, k in ((3, 2), (4, 3), (2, 5), (5, 1))
        ],
        passed="One if each factor stands in one dimension alone; zero if two dimensions share each of them.",
        mistakes={
            "a view for a transpose": (
                _viewed,
                "The matrix was reshaped to (K, L), which keeps the order of the numbers and mixes the factors. A "
                "transpose moves them: information.T.",
            ),
            "not a share of the entropy": (
                lambda information, entropy: (lambda top: (top[0] - top[1]).mean())(information.topk(2, 0).values),
                "These are nats. A factor of many values has more to tell than one of two: divide by its entropy.",
            ),
        },
    ),
)
