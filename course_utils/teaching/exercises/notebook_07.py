"""The exercises of notebook 07, the conditional VAE."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._build import (
    Build,
    as_many_weights,
    fixed_noise,
    goes_through,
    gradients_reach_all,
    has,
    per_example,
    same_numbers,
    samples,
    samples_the_prior,
    shapes,
    trains,
)
from ._exercise import Draw, Exercise
from .notebook_02 import _rate, _z
from .notebook_06 import SIGMOID_TWICE


class CVAE(nn.Module):
    """Your VAE with a condition, joined to what goes in: [x, c] and [z, c].

    One hidden layer on either side, ReLU, a Bernoulli for each pixel, prior N(0, I).
    cond: (B, cond_dim); recons: pixels in [0, 1], decoded from z.
    """

    def __init__(self, latent_dim, cond_dim=10, input_dim=784, hidden=400):
        super().__init__()
        self.latent_dim = latent_dim
        self.hidden = nn.Sequential(nn.Linear(input_dim + cond_dim, hidden), nn.ReLU())
        self.to_mu, self.to_log_var = nn.Linear(hidden, latent_dim), nn.Linear(hidden, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim + cond_dim, hidden), nn.ReLU(), nn.Linear(hidden, input_dim))

    def encode(self, inputs, cond):  # (B, input_dim) -> mu, log_var, (B, L) each
        h = self.hidden(torch.cat([inputs, cond], dim=-1))
        return self.to_mu(h), self.to_log_var(h)

    def reparameterize(self, mu, log_var):  # -> z (B, L)
        return mu + (0.5 * log_var).exp() * torch.randn_like(mu)

    def decode(self, z, cond):  # (B, L) -> logits (B, input_dim)
        return self.decoder(torch.cat([z, cond], dim=-1))

    def forward_full(self, inputs, cond):  # -> z, mu, log_var; nothing is decoded
        mu, log_var = self.encode(inputs, cond)
        return self.reparameterize(mu, log_var), mu, log_var

    def generate(self, inputs, cond):  # -> [inputs, recons, mu, log_var, z]
        z, mu, log_var = self.forward_full(inputs, cond)
        return [inputs, self.decode(z, cond).sigmoid(), mu, log_var, z]

    def sample(self, cond):  # -> new pixels (B, input_dim), z from the prior
        z = torch.randn(len(cond), self.latent_dim, device=cond.device, dtype=cond.dtype)
        return self.decode(z, cond).sigmoid()

    def terms(self, inputs, cond):  # -> recon, kl: distortion and rate, (B,) each, nats
        z, mu, log_var = self.forward_full(inputs, cond)
        logits = self.decode(z, cond)
        recon = F.binary_cross_entropy_with_logits(logits, inputs, reduction="none").sum(1)
        return recon, 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)

    def loss(self, inputs, cond):  # -> (B,), the sum of the terms
        recon, kl = self.terms(inputs, cond)
        return recon + kl


def aggregate(mu, log_var):
    """Return mean and covariance of the average of N posteriors N(mu_n, diag sigma_n^2).

    Each posterior has the weight 1/N.

    mu, log_var: (N, L), the encoder's output for N images, log_var is log sigma^2
    result:      a pair, mean (L,) and covariance (L, L)
    """
    mean = mu.mean(dim=0)
    offset = mu - mean
    between = offset.T @ offset / len(offset)  # how the centres are spread
    within = log_var.exp().mean(dim=0)  # how wide each posterior is
    return mean, between + torch.diag(within)


def kl_to_prior(mu, log_var, mu_p, log_var_p):
    """Return KL(N(mu, diag sigma^2) || N(mu_p, diag sigma_p^2)) of each example, in nats.

    mu, log_var:     (B, L), the posterior q(z|x, c), log_var is log sigma^2
    mu_p, log_var_p: (B, L), the prior p(z|c) of the same examples
    result:          (B,)
    """
    distance = (mu - mu_p) ** 2 / log_var_p.exp()  # in units of the prior's variance
    log_ratio = log_var - log_var_p  # log of sigma^2 / sigma_p^2
    return 0.5 * (distance + log_ratio.exp() - 1 - log_ratio).sum(dim=1)


def same_style(z, mu_old, log_var_old, mu_new, log_var_new):
    """Return the codes that stand under the new prior where z stands under the old one.

    z:                   (B, L), codes of images of one class
    mu_old, log_var_old: (B, L), the prior p(z|c) of that class, log_var is log sigma^2
    mu_new, log_var_new: (B, L), the prior of the class to be written instead
    result:              (B, L)
    """
    eps = (z - mu_old) / (0.5 * log_var_old).exp()  # the style, in units that every class shares
    return mu_new + (0.5 * log_var_new).exp() * eps


# What a conditional VAE does -----------------------------------------------------------------------------


def _asked(x: Tensor) -> Tensor:
    """A condition that each image brings along: the last digit of how many of some pixels are bright, one-hot."""
    return F.one_hot((x[:, 300:500] > 0.5).sum(1) % 10, 10).to(x)


def _loss(model, x):
    return model.loss(x, _asked(x))


def _conditions(n: int) -> Tensor:
    """The classes 0, 0, 1, 1, 2, … as conditions, (n, 10)."""
    return F.one_hot(torch.arange(n) // 2 % 10, 10).float()


def _pairs(draw: Draw) -> list[tuple]:
    return [(draw.uniform(n, 784), draw(n, 10)) for n in (1, 2, 5)]


def _logits(inputs, cond, model):
    return model.decode(_z(*model.encode(inputs, cond)), cond)


def _recon(inputs, cond, model):
    return F.binary_cross_entropy_with_logits(_logits(inputs, cond, model), inputs, reduction="none").sum(1)


def _recon_of_pixels(inputs, cond, model):
    pixels = _logits(inputs, cond, model).sigmoid()
    return F.binary_cross_entropy_with_logits(pixels, inputs, reduction="none").sum(1)


def _uses_the_condition(build: Build) -> None:
    model, x = build.make(20), build.images(1).expand(10, -1)
    for name, value in {"encode": x, "decode": x[:, :20] + 1}.items():
        with torch.no_grad():
            out = build.run(getattr(model, name), value, torch.eye(10).to(x), doing=f"in {name}")
        rows = out[0] if isinstance(out, tuple | list) else out
        words = f"{name} gives the same for all ten conditions, with all else alike. Where does cond go in?"
        build.require(not torch.allclose(rows[0], rows[1]), f"{name} without the condition", words)


def _in_order(build: Build) -> None:
    model, x = build.make(20), build.images(3)
    with fixed_noise(), torch.no_grad():
        came, full = (f(x, torch.eye(10)[:3].to(x)) for f in (model.generate, model.forward_full))
    for i, name, value in zip((0, 2, 3, 4), ("inputs", "mu", "log_var", "z"), (x, *full[1:], full[0]), strict=True):
        words = f"generate gives [inputs, recons, mu, log_var, z]; what stands at place {i} is not {name}."
        build.require(torch.allclose(came[i], value), "another order", words)


def _one_draw(build: Build) -> None:
    model, x = build.make(20), build.images(3)
    cond = _asked(x)
    with torch.no_grad():
        _, recons, _, _, z = build.run(model.generate, x, cond, doing="in generate of 3 images")
        decoded = build.run(model.decode, z, cond, doing="in decode").sigmoid()
    words = "The recons in generate were decoded from another draw than the z beside them. How often is noise drawn?"
    build.require(torch.allclose(recons, decoded, atol=1e-4), "another draw", words)


def _codes(draw: Draw, count: int) -> list[tuple]:
    return [tuple(draw(*shape) for _ in range(count)) for shape in ((1, 2), (5, 4), (2, 3))]


EXERCISES = (
    Exercise(
        number="7.1",
        title="Your VAE becomes conditional",
        minutes=20,
        solution=CVAE,
        hints=(
            "Begin with a copy of your VAE. Which two layers get wider, and by how much? Then every method that uses "
            "one of them needs cond beside what it had.",
            "torch.cat([inputs, cond], dim=-1) is what the encoder sees; the decoder alike, with z. forward_full is "
            "encode and reparameterize. Which of generate and sample needs forward_full, and which draws its own z?",
            "generate: z, mu, log_var from self.forward_full; recons is self.decode(z, cond).sigmoid(). sample: z from "
            "torch.randn(len(cond), self.latent_dim), decoded with cond, then the sigmoid. terms: as in your VAE, with "
            "z from self.forward_full.",
        ),
        passed="The condition reaches both networks; after {steps} steps −ELBO is {loss:.0f} nats.",
        checks=(
            has("encode", "reparameterize", "decode", "forward_full", "generate", "sample", "terms", "loss"),
            shapes("encode", [(7, 784), (7, 10)], (7, 20), (7, 20)),
            shapes("decode", [(7, 5), (7, 3)], (7, 50), args=(5, 3, 50, 64)),
            _uses_the_condition,
            as_many_weights(
                CVAE, (20,), (5, 3, 50, 64), because="one hidden layer for [x, c] and one for [z, c] make it"
            ),
            shapes("forward_full", [(7, 784), (7, 10)], (7, 20), (7, 20), (7, 20)),
            shapes("generate", [(7, 784), (7, 10)], (7, 784), (7, 784), (7, 20), (7, 20), (7, 20)),
            _in_order,
            same_numbers(
                "recons in generate",
                lambda model, *pair: model.generate(*pair)[1],
                lambda inputs, cond, model: _logits(inputs, cond, model).sigmoid(),
                _pairs,
                mistakes={
                    "decoded from the mean": (
                        lambda inputs, cond, model: model.decode(model.encode(inputs, cond)[0], cond).sigmoid(),
                        "These are decoded from μ, as reconstruct did in notebook 06. Here they come from the z of "
                        "forward_full.",
                    )
                },
            ),
            _one_draw,
            samples(given=_conditions),
            samples_the_prior(_conditions),
            shapes("terms", [(7, 784), (7, 10)], (7,), (7,)),
            same_numbers(
                "recon in terms",
                lambda model, *pair: model.terms(*pair)[0],
                _recon,
                _pairs,
                mistakes={"sigmoid twice": (_recon_of_pixels, SIGMOID_TWICE)},
            ),
            same_numbers(
                "kl in terms",
                lambda model, *pair: model.terms(*pair)[1],
                lambda inputs, cond, model: _rate(*model.encode(inputs, cond)),
                _pairs,
            ),
            per_example(_loss),
            goes_through("encode", "reparameterize", "decode", "terms", loss=_loss),
            gradients_reach_all(lambda model, x: model.terms(x, _asked(x))[0]),
            trains(below=200, above=60, loss=_loss),
        ),
    ),
    Exercise(
        number="7.2",
        title="Where the codes really lie",
        minutes=8,
        solution=aggregate,
        hints=(
            "Imagine drawing an image at random, and then z from its posterior. What is the mean of all these z? And "
            "from which two sources does their spread come?",
            "The law of total variance: the covariance of the centres, plus the mean of the covariances. The second is "
            "diagonal, since every single posterior is.",
            "Centre mu by its mean over the images; its transpose times itself, divided by N, is the first part. The "
            "average of exp(log_var) over the images, put on a diagonal, is the second. Return mean and sum.",
        ),
        cases=lambda draw: [(draw(n, size), draw(n, size)) for n, size in ((3, 2), (6, 3), (4, 1))],
        parts=("mean", "covariance"),
        passed="Spread of the centres plus mean of the widths: this is what a prior has to cover.",
        mistakes={
            "only the means": (
                lambda mu, lv: (mu.mean(0), (mu - mu.mean(0)).T @ (mu - mu.mean(0)) / len(mu)),
                "This is the spread of the centres alone. Every image sends not a point but a small cloud: where is "
                "its width?",
            ),
            "divided by N − 1": (
                lambda mu, lv: (mu.mean(0), torch.cov(mu.T).reshape(mu.shape[1], -1) + lv.exp().mean(0).diag()),
                "The spread of the centres was divided by N − 1, as one does to estimate from a sample. Here the N "
                "posteriors are all there is, each with weight 1/N.",
            ),
            "diagonal only": (
                lambda mu, lv: (mu.mean(0), torch.diag(mu.var(0, correction=0) + lv.exp().mean(0))),
                "The variances are right, but dimensions can vary together even where each posterior is diagonal. "
                "Where are the entries off the diagonal?",
            ),
        },
    ),
    Exercise(
        number="7.3",
        title="The KL to a prior that moves",
        minutes=8,
        solution=kl_to_prior,
        hints=(
            "Where N(0, I) stood, there is a Gaussian with a centre and a width of its own. Measure everything in its "
            "units: from its centre, in multiples of its width. What is left then is the KL that you know.",
            "In those units the mean is (μ − μ_p)/σ_p and the variance is σ²/σ_p². Put both into ½(m² + s² − 1 − log "
            "s²). The logarithm of the ratio of variances is a difference of what the networks give.",
            "With r = log_var − log_var_p: half of (μ − μ_p)² divided by exp(log_var_p), plus exp(r), minus 1, minus "
            "r; summed over the latent dimensions, axis 1.",
        ),
        cases=lambda draw: _codes(draw, 4),
        gradients=("mu", "log_var", "mu_p", "log_var_p"),
        passed="Measured in the prior's own units, it is the KL of notebook 04.",
        mistakes={
            "the distance in other units": (
                lambda m, v, n, w: 0.5 * ((m - n) ** 2 + (v - w).exp() - 1 - (v - w)).sum(1),
                "The variances are compared with the prior's. The distance of the means is not yet in the prior's "
                "units: a prior that is twice as wide makes the same distance half as large.",
            ),
            "the distance divided by σ_p": (
                lambda m, v, n, w: 0.5 * ((m - n) ** 2 / (0.5 * w).exp() + (v - w).exp() - 1 - (v - w)).sum(1),
                "The squared distance of the means was divided by σ_p once. In the prior's units the distance is "
                "(μ − μ_p)/σ_p, and then it is squared.",
            ),
        },
    ),
    Exercise(
        number="7.4",
        title="Another digit in the same hand",
        minutes=6,
        solution=same_style,
        hints=(
            "With p(z) = N(0, I) the same z is the same style for every class. Here every class has a Gaussian of its "
            "own: which number says where z stands *within* its Gaussian?",
            "That number is the ε of the reparameterization: z = μ + σ·ε. Take ε out with the old prior, and put it in "
            "with the new one.",
            "ε = (z − μ_old)/σ_old, with σ_old = exp(½·log_var_old). Then μ_new + σ_new·ε.",
        ),
        cases=lambda draw: _codes(draw, 5),
        passed="Style is ε: where a code stands within its class, whatever the class.",
        mistakes={
            "shift only": (
                lambda z, m, v, n, w: z - m + n,
                "The centre moved along, the width did not. If the new class varies half as much, where does a code "
                "one σ away from its centre belong?",
            ),
        },
    ),
)
