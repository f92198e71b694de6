"""The exercises of notebook 14, hierarchical codes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._build import Build, fixed_noise, gradients_reach_all, has, per_example, same_numbers, trains
from ._exercise import Draw, Exercise
from .notebook_02 import _rate
from .notebook_06 import VAE


def draw_levels(eps_2, eps_1, W, log_var_p, t_2, t_1):
    """Return z_2 and z_1 of a chain, drawn from the top, each level with its own temperature.

    p(z_2) = N(0, I); p(z_1|z_2) = N(W z_2, diag sigma_p^2). A temperature multiplies a standard deviation.

    eps_2:     (B, M), noise from N(0, I) for the top level
    eps_1:     (B, L), noise from N(0, I) for the lower level
    W:         (L, M)
    log_var_p: (L,), log sigma_p^2
    t_2, t_1:  two numbers
    result:    a pair, z_2 (B, M) and z_1 (B, L)
    """
    z_2 = t_2 * eps_2
    z_1 = z_2 @ W.T + t_1 * (0.5 * log_var_p).exp() * eps_1
    return z_2, z_1


def sampled_rate(z, mu, log_var, mu_p, log_var_p):
    """Return log q(z) - log p(z) of each example at one sample, in nats: its share of the rate.

    z:               (B, L), the sample
    mu, log_var:     (B, L), q = N(mu, diag sigma^2), log_var is log sigma^2
    mu_p, log_var_p: (B, L), the conditional prior, at the code that was drawn above
    result:          (B,)
    """
    log_q = -0.5 * ((z - mu) ** 2 / log_var.exp() + log_var + math.log(2 * math.pi))
    log_p = -0.5 * ((z - mu_p) ** 2 / log_var_p.exp() + log_var_p + math.log(2 * math.pi))
    return (log_q - log_p).sum(dim=1)


class TwoLevelVAE(VAE):
    """Your VAE, and a level above its code: q(z_2|z_1) on the way up, p(z_1|z_2) on the way down."""

    def __init__(self, latent_dim, top_dim, hidden=400):
        super().__init__(latent_dim, hidden)
        self.top_dim = top_dim
        self.up = nn.Sequential(nn.Linear(latent_dim, 128), nn.ReLU(), nn.Linear(128, 2 * top_dim))
        self.down = nn.Sequential(nn.Linear(top_dim, 128), nn.ReLU(), nn.Linear(128, 2 * latent_dim))

    def encode_top(self, z_1):  # (B, L) -> mu_2, log_var_2 of q(z_2|z_1), (B, M) each
        return self.up(z_1).chunk(2, dim=1)

    def prior(self, z_2):  # (B, M) -> mu_p, log_var_p of p(z_1|z_2), (B, L) each
        return self.down(z_2).chunk(2, dim=1)

    def levels(self, x):  # (B, 784) -> recon, kl_1, kl_2: (B,), nats, one sample
        mu, log_var = self.encode(x)
        z_1 = self.reparameterize(mu, log_var)
        mu_2, log_var_2 = self.encode_top(z_1)
        z_2 = self.reparameterize(mu_2, log_var_2)
        recon = F.binary_cross_entropy_with_logits(self.decode(z_1), x, reduction="none").sum(1)
        kl_1 = sampled_rate(z_1, mu, log_var, *self.prior(z_2))
        kl_2 = 0.5 * (mu_2**2 + log_var_2.exp() - 1 - log_var_2).sum(1)
        return recon, kl_1, kl_2

    def terms(self, x):  # -> recon, kl: (B,) each, for the loss that your VAE has
        recon, kl_1, kl_2 = self.levels(x)
        return recon, kl_1 + kl_2

    def draw(self, z_2):  # (n, M) -> pixels (n, 784), with z_1 drawn from p(z_1|z_2)
        return self.decode(self.reparameterize(*self.prior(z_2))).sigmoid()

    def sample(self, n):  # -> pixels (n, 784), drawn from the top
        return self.draw(torch.randn(n, self.top_dim, device=next(self.parameters()).device))


def merge(mu_hat, log_var_hat, mu_p, log_var_p):
    """Return the Gaussian proportional to the product of two: precisions 1/sigma^2 add up, and weigh the means.

    mu_hat, log_var_hat: (B, L), what the features of the image say
    mu_p, log_var_p:     (B, L), what the level above says
    result:              a pair, mu (B, L) and log_var (B, L)
    """
    precision_hat, precision_p = (-log_var_hat).exp(), (-log_var_p).exp()
    precision = precision_hat + precision_p
    return (mu_hat * precision_hat + mu_p * precision_p) / precision, -precision.log()


def ladder_rate(mu_hat, log_var_hat, mu_p, log_var_p):
    """Return what a level of a ladder pays: KL(q || p), where q is the merge of both, in nats.

    mu_hat, log_var_hat: (B, L), what the features of the image say
    mu_p, log_var_p:     (B, L), the conditional prior p(z_1|z_2)
    result:              (B,)
    """
    mu, log_var = merge(mu_hat, log_var_hat, mu_p, log_var_p)
    ratio = (log_var - log_var_p).exp()
    return 0.5 * ((mu - mu_p) ** 2 / log_var_p.exp() + ratio - 1 - (log_var - log_var_p)).sum(dim=1)


def residual_rate(d_mu, d_log_var, mu_p, log_var_p):
    """Return KL(q || p) of each example, in nats, where q = N(mu_p + d_mu, diag(sigma_p^2 * d_sigma^2)).

    d_mu, d_log_var: (B, L), how q is moved from p; d_log_var is log d_sigma^2
    mu_p, log_var_p: (B, L), the conditional prior
    result:          (B,)
    """
    return 0.5 * (d_mu**2 / log_var_p.exp() + d_log_var.exp() - 1 - d_log_var).sum(dim=1)


# Wrong answers with words of their own --------------------------------------------------------------------


def _kl(mu, log_var, mu_p, log_var_p):
    return 0.5 * ((mu - mu_p) ** 2 / log_var_p.exp() + (log_var - log_var_p).exp() - 1 - log_var + log_var_p).sum(1)


def _standard(mu_p):
    return torch.zeros_like(mu_p), torch.zeros_like(mu_p)


def _one_for_all(eps_2, eps_1, W, log_var_p, t_2, t_1):
    return draw_levels(eps_2, eps_1, W, log_var_p, t_2, t_2)


def _mean_too(eps_2, eps_1, W, log_var_p, t_2, t_1):
    z_2 = t_2 * eps_2
    return z_2, t_1 * (z_2 @ W.T + (0.5 * log_var_p).exp() * eps_1)


def _top_ignored(eps_2, eps_1, W, log_var_p, t_2, t_1):
    return t_2 * eps_2, t_1 * eps_1


def _other_weights(mu_hat, log_var_hat, mu_p, log_var_p):
    mu, log_var = merge(mu_hat, log_var_hat, mu_p, log_var_p)
    return mu_hat + mu_p - mu, log_var


def _variances_added(mu_hat, log_var_hat, mu_p, log_var_p):
    return merge(mu_hat, log_var_hat, mu_p, log_var_p)[0], torch.logaddexp(log_var_hat, log_var_p)


def _variances_added_and_weighing(mu_hat, log_var_hat, mu_p, log_var_p):
    return _other_weights(mu_hat, log_var_hat, mu_p, log_var_p)[0], torch.logaddexp(log_var_hat, log_var_p)


def _plain_mean(mu_hat, log_var_hat, mu_p, log_var_p):
    return 0.5 * (mu_hat + mu_p), merge(mu_hat, log_var_hat, mu_p, log_var_p)[1]


_VARIANCES = (
    "The variances were added, so the result is less certain than either side. Two opinions that agree make one more "
    "certain: which quantity adds up?"
)


def _four(draw: Draw) -> list[tuple[Tensor, ...]]:
    return [tuple(draw(b, size) for _ in range(4)) for b, size in ((2, 1), (3, 2), (4, 5), (1, 3))]


# What a model of two levels does ----------------------------------------------------------------------------

_ARGS = (20, 8)


def _levels(x, model):
    """recon, kl_1 and kl_2 by another route, from the model's own networks and the same noise."""
    q = torch.distributions.Normal
    with fixed_noise():
        mu, log_var = model.encode(x)
        z_1 = model.reparameterize(mu, log_var)
        mu_2, log_var_2 = model.encode_top(z_1)
        mu_p, log_var_p = model.prior(model.reparameterize(mu_2, log_var_2))
    recon = F.binary_cross_entropy_with_logits(model.decode(z_1), x, reduction="none").sum(1)
    ratio = q(mu, (0.5 * log_var).exp()).log_prob(z_1) - q(mu_p, (0.5 * log_var_p).exp()).log_prob(z_1)
    return recon, ratio.sum(1), _rate(mu_2, log_var_2)


def _lower(x, model):
    return _levels(x, model)[1]


def _against(prior, *, closed=False):
    """kl_1 with another prior, or in closed form where it must be sampled."""

    def wrong(x, model):
        with fixed_noise():
            mu, log_var = model.encode(x)
            z_1 = model.reparameterize(mu, log_var)
            mu_p, log_var_p = prior(model, model.reparameterize(*model.encode_top(z_1)))
        return (_kl if closed else lambda *p: sampled_rate(z_1, *p))(mu, log_var, mu_p, log_var_p)

    return wrong


def _at_the_mean(x, model):
    """kl_1 with the prior at mu_2, not at z_2."""
    with fixed_noise():
        mu, log_var = model.encode(x)
        z_1 = model.reparameterize(mu, log_var)
        return sampled_rate(z_1, mu, log_var, *model.prior(model.encode_top(z_1)[0]))


def _top_of_the_mean(x, model):
    return _rate(*model.encode_top(model.encode(x)[0]))


def _decoded_from_the_prior(x, model):
    with fixed_noise():
        z_1 = model.reparameterize(*model.encode(x))
        drawn = model.reparameterize(*model.prior(model.reparameterize(*model.encode_top(z_1))))
    return F.binary_cross_entropy_with_logits(model.decode(drawn), x, reduction="none").sum(1)


def _its_prior(model, z_2):
    return model.prior(z_2)


def _none(model, z_2):
    return (z_2.new_zeros(len(z_2), _ARGS[0]),) * 2


def _loud(build: Build) -> None:
    """Both networks between the levels are made to say something, so that no mistake hides behind small weights."""
    made = build.make

    def make(*args, **kwargs):
        model = made(*args, **kwargs)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        return model

    build.make = make


def _images(draw: Draw) -> list[tuple[Tensor]]:
    return [(draw.uniform(n, 784),) for n in (2, 3, 5)]


def _adds_up(build: Build) -> None:
    x = build.images(4)
    for seed in range(20):  # until one lower rate is negative
        model = build.make(*_ARGS, seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 0.3
            if _lower(x, model).min() < -0.01:
                break
    with fixed_noise(), torch.no_grad():
        recon, kl = build.run(model.terms, x, doing="in terms of 4 images")
        parts = build.run(model.levels, x, doing="in levels of 4 images")
    words = f"terms of the first image are {recon[0]:.2f} and {kl[0]:.2f}; the levels say {parts[0][0]:.2f} for the "
    words += f"distortion, and {parts[1][0]:.2f} + {parts[2][0]:.2f} for the rate."
    same = torch.allclose(recon, parts[0], rtol=1e-4) and torch.allclose(kl, parts[1] + parts[2], rtol=1e-3, atol=1e-3)
    build.require(same, "terms are not the levels", words)


def _learns_all_the_way(build: Build) -> None:
    for name, size in (("encode_top", _ARGS[0]), ("prior", _ARGS[1])):
        model = build.make(*_ARGS)
        z = build.images(8)[:, 300 : 300 + size].clone().requires_grad_()
        for part, out in zip(("mu", "log_var"), build.run(getattr(model, name), z, doing=f"in {name}"), strict=True):
            slope = None
            if out.requires_grad:
                (slope,) = torch.autograd.grad(out.sum(), z, allow_unused=True, retain_graph=True)
            words = f"The {part} that {name} returns passes no gradient back to its argument. Is there a detach() or a "
            words += "no_grad()? Then nothing teaches the level that the argument came from."
            build.require(slope is not None and slope.any(), f"no gradient through {name}", words)
    model, x = build.make(*_ARGS), build.images(4)
    with fixed_noise():
        came = sum(build.run(model.terms, x, doing="in terms of 4 images")).sum()
    wanted, given = sum(_levels(x, model)).sum(), dict(model.named_parameters())
    found = [torch.autograd.grad(loss, list(given.values()), allow_unused=True) for loss in (came, wanted)]
    for name, one, other in zip(given, *found, strict=True):
        one, other = (torch.zeros_like(given[name]) if g is None else g for g in (one, other))
        near = 1e-3 * other.abs().max() + 1e-6
        words = f"terms has the right value, but another gradient, first in {name}. Is there a detach() or a no_grad() "
        words += "on the way from x to z_1, from z_1 to z_2, or from z_2 to the prior of z_1?"
        build.require((one - other).abs().max() <= near, "another gradient", words)


def _draws_down(build: Build) -> None:
    """`draw` gives decode one z_1 for each z_2, drawn from p(z_1|z_2); `sample` asks it with codes of N(0, I)."""
    model, seen = build.make(*_ARGS), []
    decode = model.decode
    model.decode = lambda z: (seen.append(z), decode(z))[1]
    z_2 = build.images(1).new_full((4000, _ARGS[1]), 1.5)
    with torch.no_grad():
        mu, log_var = (p[0] for p in build.run(model.prior, z_2[:1], doing="in prior"))
        pixels = build.run(model.draw, z_2, doing="in draw of 4,000 codes")
        came = [tuple(z.shape) for z in seen]
        words = f"draw of 4,000 codes should give self.decode codes of shape (4000, {_ARGS[0]}), once; it gave {came}."
        build.require(came == [(4000, _ARGS[0])], "draw decodes other codes", words)
        low, high = pixels.min().item(), pixels.max().item()
        words = f"Pixels lie between 0 and 1; those of draw lie between {low:.3g} and {high:.3g}. Are they logits?"
        build.require(low >= 0 and high <= 1, "draw gives no pixels", words)
        z, sigma = seen.pop(), (0.5 * log_var).exp()
        words = "All z_1 under one z_2 are the same. p(z_1|z_2) has a width: where is its noise?"
        build.require(z.std(0).max() > 1e-3, "the mean in place of a draw", words)
        off, width = ((z.mean(0) - mu) / sigma).abs().max(), (z.std(0) / sigma - 1).abs().max()
        words = f"Under one z_2, the mean of z_1 is up to {off:.2f} standard deviations away from that of p(z_1|z_2). "
        plain = z.mean(0).abs().max() < 0.1 and (z.std(0) - 1).abs().max() < 0.1
        more = "It is N(0, I): the top level is ignored." if plain else "From which distribution is z_1 drawn?"
        name = "the top is ignored" if plain else "z_1 from another distribution"
        build.require(off < 0.1 and width < 0.1, name, words + more)
        tops: list[Tensor] = []
        model.draw = lambda z_2: (tops.append(z_2), decode(z_2.new_zeros(len(z_2), _ARGS[0])).sigmoid())[1]
        build.run(model.sample, 4000, doing="in sample(4000)")
    words = f"sample(4000) should hand codes of N(0, I), shape (4000, {_ARGS[1]}), to self.draw."
    right = len(tops) == 1 and tops[0].shape == z_2.shape and abs(tops[0].std() - 1) < 0.05 > abs(tops[0].mean())
    build.require(right, "sample does not begin at the top", words)


EXERCISES = (
    Exercise(
        number="14.1",
        title="Down the chain",
        minutes=5,
        solution=draw_levels,
        hints=(
            "Which level is drawn first? What does the distribution of the other one need?",
            "z_2 is noise times its temperature. z_1 is a mean, which z_2 decides, plus noise times a standard "
            "deviation. To which of the two does the temperature belong?",
            "z_1: z_2 @ W.T, plus t_1 times exp(half of log_var_p) times eps_1.",
        ),
        cases=lambda draw: [
            (draw(b, m), draw(b, size), draw(size, m), draw(size), t_2, t_1)
            for b, m, size, t_2, t_1 in ((2, 1, 2, 0.7, 0.4), (3, 2, 1, 1.3, 0.6), (1, 3, 5, 0.5, 0.9))
        ],
        gradients=("W", "log_var_p"),
        parts=("z_2", "z_1"),
        passed="At temperature 0 each level stands at its mean, and the mean below still follows the code above.",
        mistakes={
            "one temperature for all": (
                _one_for_all,
                "The lower level was drawn with the temperature of the top. Each level has its own.",
            ),
            "the mean is cooled": (
                _mean_too,
                "The temperature multiplies the mean of z_1 as well, so z_1 is drawn towards 0. A temperature "
                "multiplies the standard deviation alone; what the level above says stays.",
            ),
            "the top is ignored": (
                _top_ignored,
                "z_1 was drawn from N(0, I), times a temperature. Its distribution depends on z_2: with which mean, "
                "and with which standard deviation?",
            ),
        },
    ),
    Exercise(
        number="14.2",
        title="The rate of a level, at one sample",
        minutes=6,
        solution=sampled_rate,
        hints=(
            "Two log-densities of the same point z. Which of the two Gaussians was it drawn from?",
            "log N(z; mu, sigma²) is −½ of: the squared distance over sigma², plus log sigma², plus log 2π.",
            "Both densities with the formula above, at z; the difference, log q first, is summed over dimensions.",
        ),
        cases=lambda draw: [tuple(draw(b, size) for _ in range(5)) for b, size in ((2, 1), (3, 2), (4, 5), (1, 3))],
        gradients=("z", "mu", "log_var", "mu_p", "log_var_p"),
        passed="One sample may well be negative. Its mean over z from q is a KL, which is not.",
        mistakes={
            "N(0, I) for the conditional prior": (
                lambda z, mu, log_var, mu_p, log_var_p: sampled_rate(z, mu, log_var, *_standard(mu_p)),
                "This is paid against N(0, I). Only the top level has that prior. What is the price list of a level "
                "that has another one above it?",
            ),
            "cut off at 0": (
                lambda *args: sampled_rate(*args).clamp(min=0),
                "Negative numbers were cut off. A KL cannot be negative, but one sample of log q − log p can: without "
                "these, the mean is too large.",
            ),
            "the closed form": (
                lambda z, *gaussians: _kl(*gaussians),
                "This is the KL of the two Gaussians; z is not used. In bottom-up inference the prior was computed "
                "from this very z, so the average over q must not be taken again.",
            ),
        },
    ),
    Exercise(
        number="14.3",
        title="Your VAE gets a level above",
        minutes=25,
        solution=TwoLevelVAE,
        hints=(
            "Your VAE goes from x to z_1 and back already. Which two networks are missing between z_1 and z_2, and how "
            "many numbers does each put out?",
            "levels: draw z_1 as your VAE does; from z_1 the Gaussian of z_2; draw z_2; from z_2 the prior of z_1. The "
            "lower level pays sampled_rate with that prior, the top pays the KL to N(0, I) in closed form.",
            "up: latent_dim → 128 → 2·top_dim; down: top_dim → 128 → 2·latent_dim; both with ReLU, and cut in two "
            "by chunk(2, dim=1). draw(z_2): self.prior, self.reparameterize, self.decode, sigmoid.",
        ),
        passed="Two levels, one loss; after {steps} steps it is {loss:.0f} nats.",
        checks=(
            has("encode_top", "prior", "levels", "terms", "draw", "sample", args=_ARGS),
            _loud,
            same_numbers(
                "recon of levels(x)",
                lambda model, x: model.levels(x)[0],
                lambda x, model: _levels(x, model)[0],
                _images,
                args=_ARGS,
                mistakes={
                    "a draw of the prior is decoded": (
                        _decoded_from_the_prior,
                        "These pictures were decoded from a new z_1, drawn from p(z_1|z_2). That is how to sample. The "
                        "distortion needs the z_1 that was drawn from q(z_1|x).",
                    ),
                },
            ),
            same_numbers(
                "kl_2 of levels(x)",
                lambda model, x: model.levels(x)[2],
                lambda x, model: _levels(x, model)[2],
                _images,
                args=_ARGS,
                mistakes={
                    "the top sees the mean": (
                        _top_of_the_mean,
                        "The top was inferred from mu_1, the mean of q(z_1|x). q(z_2|z_1) is a Gaussian for the z_1 "
                        "that was drawn.",
                    ),
                },
            ),
            same_numbers(
                "kl_1 of levels(x)",
                lambda model, x: model.levels(x)[1],
                _lower,
                _images,
                args=_ARGS,
                mistakes={
                    "N(0, I) for the conditional prior": (
                        _against(_none),
                        "The lower level is paid against N(0, I). Then the loss bounds the evidence of a model in "
                        "which z_2 explains nothing. Its prior is self.prior(z_2).",
                    ),
                    "N(0, I), and in closed form": (
                        _against(_none, closed=True),
                        "This is the KL of your VAE without a level above. The prior of z_1 is self.prior(z_2), at the "
                        "z_2 that was drawn.",
                    ),
                    "the prior at the mean of the top": (
                        _at_the_mean,
                        "The prior of z_1 was computed at mu_2, the mean of q(z_2|z_1). It is self.prior(z_2), at the "
                        "z_2 that was drawn.",
                    ),
                    "the closed form": (
                        _against(_its_prior, closed=True),
                        "This is KL(q(z_1|x) ‖ p(z_1|z_2)) in closed form. But z_2 came from q(z_2|z_1). Given z_2, "
                        "z_1 is no fresh draw of q(z_1|x). Take log q − log p at the very z_1 that z_2 was made of.",
                    ),
                },
            ),
            _adds_up,
            _learns_all_the_way,
            per_example(args=_ARGS),
            gradients_reach_all(args=_ARGS),
            _draws_down,
            trains(below=230, above=60, steps=150, args=_ARGS),
        ),
    ),
    Exercise(
        number="14.4",
        title="Two opinions on one code",
        minutes=6,
        solution=merge,
        hints=(
            "Multiply two Gaussian densities, and look at the exponent: which coefficient has z² in the product?",
            "The precisions 1/sigma² add up. The mean is an average of both means, weighted by the precisions.",
            "precision = exp(−log_var_hat) + exp(−log_var_p). mu: (mu_hat · first + mu_p · second) / precision. "
            "log_var: minus the log of the precision.",
        ),
        cases=_four,
        gradients=("mu_hat", "log_var_hat", "mu_p", "log_var_p"),
        parts=("mu", "log_var"),
        passed="The merge is more certain than either side, and nearer to the more certain one.",
        mistakes={
            "variances added": (_variances_added, _VARIANCES),
            "variances added, and weighing": (_variances_added_and_weighing, _VARIANCES),
            "weighed by variances": (
                _other_weights,
                "The mean lies nearer to the less certain side: it was weighted by variances. Which of the two should "
                "count more?",
            ),
            "a plain average of the means": (
                _plain_mean,
                "Both means count the same here. One side may be nearly certain and the other may know nothing.",
            ),
        },
    ),
    Exercise(
        number="14.5",
        title="What a level of the ladder pays",
        minutes=5,
        solution=ladder_rate,
        hints=(
            "Three Gaussians are about: the features', the prior's and their merge. Which one was z drawn from, and "
            "which one would it be drawn from in a sample of the model?",
            "KL(merge ‖ p). In general: ½ Σ ((mu − mu_p)²/sigma_p² + sigma²/sigma_p² − 1 − log(sigma²/sigma_p²)).",
            "mu, log_var from your merge; then the formula above with log_var − log_var_p as the log of the ratio.",
        ),
        cases=_four,
        gradients=("mu_hat", "log_var_hat", "mu_p", "log_var_p"),
        passed="It has a closed form here, since z_2 was drawn first, and without looking at z_1.",
        mistakes={
            "to the features' own Gaussian": (
                lambda *four: _kl(*merge(*four), *four[:2]),
                "This is KL(merge ‖ features' Gaussian). That one stands in the encoder, and a sampler does not have "
                "it. The price is the distance from what the model would draw without the image.",
            ),
            "the features' Gaussian for q": (
                lambda *four: _kl(*four),
                "This is KL(features' Gaussian ‖ p). But z is drawn from the merge.",
            ),
            "the other way round": (
                lambda *four: _kl(*four[2:], *merge(*four)),
                "This is KL(p ‖ merge). A rate is KL(q ‖ p), the average of log q − log p over the z that is drawn "
                "from q, and q is the merge.",
            ),
            "to N(0, I)": (
                lambda *four: _kl(*merge(*four), *_standard(four[2])),
                "This is paid against N(0, I). That is the prior of the top alone; this level has p(z_1|z_2).",
            ),
        },
    ),
    Exercise(
        number="14.6",
        title="A posterior that starts at its prior",
        minutes=5,
        solution=residual_rate,
        hints=(
            "Put mu_p + d_mu and sigma_p · d_sigma into the general KL of two Gaussians. What cancels?",
            "The difference of the means is d_mu, and the ratio of the variances is exp(d_log_var). Only one term "
            "still needs the prior.",
            "½ Σ (d_mu² / exp(log_var_p) + exp(d_log_var) − 1 − d_log_var).",
        ),
        cases=_four,
        gradients=("d_mu", "d_log_var", "log_var_p"),
        passed="Where nothing is moved the rate is 0, whatever the prior is.",
        mistakes={
            "the prior's width is missing": (
                lambda d_mu, d_log_var, mu_p, log_var_p: _kl(d_mu, d_log_var, *_standard(mu_p)),
                "This is the KL of N(d_mu, d_sigma²) to N(0, I). A shift of d_mu is dear where the prior is narrow: "
                "divide by what?",
            ),
            "moved from N(0, I)": (
                lambda d_mu, d_log_var, mu_p, log_var_p: _kl(d_mu, d_log_var, mu_p, log_var_p),
                "This is KL(N(d_mu, d_sigma²) ‖ p). d_mu and d_sigma say how far q lies from p, not where q lies: its "
                "mean is mu_p + d_mu, its standard deviation sigma_p · d_sigma.",
            ),
            "to N(0, I)": (
                lambda d_mu, d_log_var, mu_p, log_var_p: _kl(mu_p + d_mu, log_var_p + d_log_var, *_standard(mu_p)),
                "This is the KL of q to N(0, I). The prior of this level is N(mu_p, diag sigma_p²).",
            ),
            "the logs multiplied": (
                lambda d_mu, d_log_var, mu_p, log_var_p: _kl(mu_p + d_mu, log_var_p * d_log_var, mu_p, log_var_p),
                "log_var_p and d_log_var were multiplied. The log of a product is a sum of logs.",
            ),
            "the other way round": (
                lambda d_mu, d_log_var, mu_p, log_var_p: _kl(mu_p, log_var_p, mu_p + d_mu, log_var_p + d_log_var),
                "This is KL(p ‖ q). A rate is KL(q ‖ p), the average of log q − log p over the z drawn from q.",
            ),
        },
    ),
)
