"""Patients for the doctor: one plain, correct VAE, variants of it that are broken in one place, and foreign styles.

Every broken patient is the plain one with a single method or a single line of the loss changed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, LATENT, PIXELS = 48, 6, 784


class Plain(nn.Module):
    """784-48-6-48-784; returns (logits, mu, log_var)."""

    latent = LATENT

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(PIXELS, WIDTH)
        self.to_mu = nn.Linear(WIDTH, self.latent)
        self.to_log_var = nn.Linear(WIDTH, self.latent)
        self.back = nn.Linear(self.latent, WIDTH)
        self.out = nn.Linear(WIDTH, PIXELS)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.hidden(x.flatten(1)))
        return self.to_mu(h), self.to_log_var(h)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z: Tensor) -> Tensor:
        return self.out(torch.relu(self.back(z)))

    def forward(self, x: Tensor):
        mu, log_var = self.encode(x)
        return self.decode(self.reparameterize(mu, log_var)), mu, log_var


def bce(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)


def kl_of(mu: Tensor, log_var: Tensor) -> Tensor:
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)


def elbo_loss(output, x: Tensor) -> Tensor:
    logits, mu, log_var = output
    return (bce(logits, x) + kl_of(mu, log_var)).mean()


def squared_loss(output, x: Tensor) -> Tensor:
    mean, mu, log_var = output
    return (0.5 * (mean - x.flatten(1)).square().sum(1) + kl_of(mu, log_var)).mean()


# --------------------------------------------------------------- broken in the encoder, the sampler or the decoder


def plain(build: Callable = lambda self: None, **methods: Callable) -> type[Plain]:
    """Plain with something done to it after it is built, and with some methods exchanged."""

    def __init__(self):
        Plain.__init__(self)
        build(self)

    return type("Variant", (Plain,), {"__init__": __init__, **methods})


def sampled_with(noise: Callable[[Tensor], Tensor]) -> type[Plain]:
    """Plain with another noise than torch.randn_like(mu)."""
    return plain(reparameterize=lambda self, mu, log_var: mu + torch.exp(0.5 * log_var) * noise(mu))


def one_head(self, x):
    return self.to_mu(torch.relu(self.hidden(x.flatten(1))))


def narrow(width: int) -> Callable:
    """The decoder takes that many numbers."""
    return lambda self: setattr(self, "back", nn.Linear(width, WIDTH))


def averaged_and_returned(self, x):
    return tuple(values.mean(1, keepdim=True) for values in encode(self, x))


def log_of_zero(self, x):
    mu, variance = encode(self, x)
    return mu, torch.relu(variance).log()


def seeded(self, mu, log_var):
    torch.manual_seed(0)
    return draw(self, mu, log_var)


encode, draw, decode = Plain.encode, Plain.reparameterize, Plain.decode
OneHead = plain(encode=lambda self, x: (one_head(self, x),) * 2)
OneHeadAffine = plain(encode=lambda self, x: (h := one_head(self, x), 0.5 * h - 1))
MuAveraged = plain(reparameterize=lambda self, m, s: draw(self, m.mean(1, keepdim=True).expand_as(m), s))
BothAveraged = plain(narrow(1), reparameterize=lambda self, m, s: draw(self, m.mean(1), s.mean(1))[:, None])
AveragedAndReturned = plain(narrow(1), encode=averaged_and_returned)
Detached = plain(reparameterize=lambda self, m, s: draw(self, m, s).detach())
Sampled = plain(reparameterize=lambda self, m, s: torch.distributions.Normal(m, (0.5 * s).exp()).sample())
SigmaDetached = plain(reparameterize=lambda self, m, s: draw(self, m, s.detach()))
OnlyNoise = plain(reparameterize=lambda self, m, s: torch.randn_like(m))
InfiniteLogVar = plain(encode=log_of_zero)
NotSampled = plain(reparameterize=lambda self, m, s: m)
MeanInEval = plain(reparameterize=lambda self, m, s: draw(self, m, s) if self.training else m)
SampledOnlyInEval = plain(reparameterize=lambda self, m, s: m if self.training else draw(self, m, s))
FrozenBuffer = plain(
    lambda self: self.register_buffer("eps", torch.randn(1, self.latent)),
    reparameterize=lambda self, m, s: m + torch.exp(0.5 * s) * self.eps,
)
FrozenSeed = plain(reparameterize=seeded)
SharedNoise = sampled_with(lambda mu: torch.randn(1, LATENT, dtype=mu.dtype))
SharedOverDimensions = sampled_with(lambda mu: torch.randn(len(mu), 1))
UniformNoise = sampled_with(torch.rand_like)
NarrowNoise = sampled_with(lambda mu: torch.randn_like(mu).clamp(-1, 1))  # of mean 0 and standard deviation 0.72
SkewedNoise = sampled_with(lambda mu: (e := torch.randn_like(mu)) * (1 + 2 * e) / 3)  # of mean ⅔ and deviation 1
SigmaIsVariance = plain(reparameterize=lambda self, m, s: draw(self, m, 2 * s))
SigmaIsLogVar = plain(reparameterize=lambda self, m, s: m + s * torch.randn_like(m))
IgnoresZ = plain(decode=lambda self, z: decode(self, 0 * z))
HalfOfZ = plain(narrow(LATENT // 2), decode=lambda self, z: decode(self, z[:, : LATENT // 2]))
WithSigmoid = plain(decode=lambda self, z: torch.sigmoid(decode(self, z)))
SigmoidTwice = plain(decode=lambda self, z: torch.sigmoid(torch.sigmoid(decode(self, z))))
WithTanh = plain(decode=lambda self, z: torch.tanh(decode(self, z)))
WithRelu = plain(decode=lambda self, z: torch.relu(decode(self, z)))
DropoutAlwaysOn = plain(decode=lambda self, z: self.out(F.dropout(torch.relu(self.back(z)), 0.5)))


class WrongSize(Plain):
    def encode(self, x):
        return super().encode(x.view(-1, 32 * 32))


# ------------------------------------------------------------------------------------------- broken in the loss


def loss_with(recon: Callable = bce, kl: Callable = kl_of, join: Callable = lambda r, k: (r + k).mean()) -> Callable:
    """A loss with one of its three parts exchanged."""
    return lambda output, x: join(recon(output[0], x), kl(output[1], output[2]))


def bce_of_probabilities(p: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy(p, x.flatten(1), reduction="none").sum(1)


def handwritten_bce(p: Tensor, x: Tensor) -> Tensor:
    x = x.flatten(1)
    return -(x * p.log() + (1 - x) * (1 - p).log()).sum(1)


def squared(mean: Tensor, x: Tensor) -> Tensor:
    return 0.5 * (mean - x.flatten(1)).square().sum(1)


def total_mean(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x.flatten(1))


class Broken(NamedTuple):
    """A patient with one mistake: how to build it, its loss, the codes that must be found, and the errors allowed."""

    name: str
    make: Callable[[], nn.Module]
    loss: Callable | None
    code: str
    also: tuple[str, ...] = ()  # errors that follow from the same mistake
    data: str = "pixels"
    error: bool = True  # whether the finding is of severity "error"


BROKEN = [
    Broken("one head", OneHead, elbo_loss, "one-head"),
    Broken("one head, affine", OneHeadAffine, elbo_loss, "one-head"),
    Broken("mu averaged", MuAveraged, elbo_loss, "latents-averaged"),
    Broken("both averaged", BothAveraged, elbo_loss, "latents-averaged"),
    Broken("averaged and returned", AveragedAndReturned, elbo_loss, "latents-averaged"),
    Broken("detached", Detached, elbo_loss, "encoder-cut-off"),
    Broken("sample()", Sampled, elbo_loss, "encoder-cut-off"),
    Broken("sigma detached", SigmaDetached, elbo_loss, "encoder-cut-off"),
    # Decoding pure noise is a sampler that uses neither μ nor σ: the size of the noise is wrong as well.
    Broken("only noise", OnlyNoise, elbo_loss, "encoder-cut-off", also=("sigma-mismatch",)),
    Broken("log of 0", InfiniteLogVar, elbo_loss, "not-finite"),
    Broken("not sampled", NotSampled, elbo_loss, "no-sampling"),
    Broken("sampled only in eval()", SampledOnlyInEval, elbo_loss, "no-sampling"),
    Broken("noise in a buffer", FrozenBuffer, elbo_loss, "noise-frozen"),
    Broken("seed in forward", FrozenSeed, elbo_loss, "noise-frozen"),
    Broken("one noise for the batch", SharedNoise, elbo_loss, "noise-shared"),
    Broken("one noise for the dimensions", SharedOverDimensions, elbo_loss, "noise-shared"),
    Broken("uniform noise", UniformNoise, elbo_loss, "noise-not-normal"),
    Broken("noise of the wrong size", NarrowNoise, elbo_loss, "noise-not-normal"),
    Broken("noise of the wrong mean", SkewedNoise, elbo_loss, "noise-not-normal"),
    Broken("sigma = exp(log_var)", SigmaIsVariance, elbo_loss, "sigma-exp-log-var"),
    Broken("sigma = log_var", SigmaIsLogVar, elbo_loss, "sigma-mismatch"),
    Broken("z times 0", IgnoresZ, elbo_loss, "decoder-ignores-z"),
    Broken("half of z", HalfOfZ, elbo_loss, "unused-dimensions"),
    Broken("sigmoid, and BCE with logits", WithSigmoid, elbo_loss, "double-sigmoid"),
    Broken("sigmoid of a sigmoid", SigmoidTwice, loss_with(bce_of_probabilities), "double-sigmoid"),
    Broken("sigmoid of a sigmoid, squared error", SigmoidTwice, squared_loss, "double-sigmoid"),
    Broken("tanh, and BCE with logits", WithTanh, elbo_loss, "output-range"),
    Broken("tanh, and BCE", WithTanh, loss_with(bce_of_probabilities), "output-range"),
    Broken("no sigmoid, and BCE", Plain, loss_with(bce_of_probabilities), "output-range"),
    Broken("ReLU, and BCE with logits", WithRelu, elbo_loss, "output-range"),
    Broken("ReLU before the sigmoid", plain(decode=lambda self, z: torch.sigmoid(torch.relu(decode(self, z)))),
           loss_with(bce_of_probabilities), "output-range"),
    Broken("softplus, standardised data", plain(decode=lambda self, z: F.softplus(decode(self, z))), squared_loss,
           "output-range", data="standardised"),
    Broken("ReLU, squared error", WithRelu, squared_loss, "output-range", error=False),
    Broken("ReLU on μ", plain(encode=lambda self, x: ((h := encode(self, x))[0].relu(), h[1])), elbo_loss,
           "head-activation", error=False),
    Broken("tanh on both heads", plain(encode=lambda self, x: tuple(h.tanh() for h in encode(self, x))), elbo_loss,
           "head-activation", error=False),
    Broken("sigmoid on log σ²", plain(encode=lambda self, x: ((h := encode(self, x))[0], h[1].sigmoid())), elbo_loss,
           "head-activation", error=False),
    Broken("noise doubled", sampled_with(lambda mu: 2 * torch.randn_like(mu)), elbo_loss, "noise-not-normal"),
    Broken("sigmoid, standardised data", WithSigmoid, squared_loss, "output-range", data="standardised"),
    Broken("tanh, squared error", WithTanh, squared_loss, "output-range", error=False),
    Broken("standardised data, and BCE", Plain, elbo_loss, "data-range", data="standardised"),
    Broken("8-bit data, and BCE", Plain, elbo_loss, "data-range", data="bytes"),
    Broken("8-bit data, squared error", Plain, squared_loss, "data-range", data="bytes", error=False),
    Broken("dropout always on", DropoutAlwaysOn, elbo_loss, "train-eval-difference", error=False),
    Broken("image size written in", WrongSize, elbo_loss, "raises"),
    Broken("loss ends in item()", Plain, lambda o, x: elbo_loss(o, x).item(), "no-gradient"),
    Broken("loss made anew", Plain, lambda o, x: torch.tensor(elbo_loss(o, x).item(), requires_grad=True),
           "no-gradient"),
    Broken("loss under no_grad", Plain, torch.no_grad()(elbo_loss), "no-gradient"),
    Broken("no loss returned", Plain, lambda o, x: None, "no-gradient"),
    Broken("sys.exit() in the loss", Plain, lambda o, x: sys.exit(0), "raises"),
    Broken("no KL", Plain, loss_with(kl=lambda mu, log_var: 0 * mu.sum(1)), "no-kl"),
    Broken("mean of the encoder's output", Plain, loss_with(kl=lambda m, s: m.mean(1) + s.mean(1)), "no-kl"),
    Broken("KL sign", Plain, loss_with(join=lambda r, k: (r - k).mean()), "kl-sign"),
    Broken("KL weight 1/20", Plain, loss_with(join=lambda r, k: (r + k / 20).mean()), "kl-scale"),
    Broken("KL weight 5", Plain, loss_with(join=lambda r, k: (r + 5 * k).mean()), "kl-scale", error=False),
    Broken("sigma² misread in the KL", Plain, loss_with(kl=lambda m, s: kl_of(m, 2 * s)), "sigma-mismatch"),
    Broken("mu² without ½", Plain, loss_with(kl=lambda m, s: (m**2).sum(1) + kl_of(0 * m, s)), "kl-form"),
    Broken("exp flipped in the KL", Plain,
           loss_with(kl=lambda m, s: -0.5 * (1 + s - m**2 + s.exp()).sum(1)), "kl-form"),
    Broken("mean BCE", Plain, loss_with(total_mean), "recon-averaged"),
    Broken("mean squared error", Plain, loss_with(lambda r, x: F.mse_loss(r, x.flatten(1))), "recon-averaged"),
    Broken("KL summed over the batch", Plain, loss_with(join=lambda r, k: r.mean() + k.sum()), "loss-depends-on-batch"),
    Broken("KL summed over the wrong axis", Plain,
           lambda o, x: bce(o[0], x).mean() + 0.5 * (o[1] ** 2 + o[2].exp() - 1 - o[2]).sum(0).mean(),
           "loss-depends-on-batch"),
    Broken("targets standardised in the loss", Plain, lambda o, x: elbo_loss(o, (x - 0.13) / 0.31), "data-range"),
    Broken("σ² without ½", Plain, loss_with(kl=lambda m, s: 0.5 * (m**2 + 2 * s.exp() - s).sum(1)), "kl-form"),
    Broken("log σ² turned", Plain, loss_with(kl=lambda m, s: 0.5 * (m**2 + s.exp() + s).sum(1)), "kl-form"),
    Broken("½ of log σ² alone", Plain, loss_with(kl=lambda m, s: (m**2 + s.exp() - 0.5 * s).sum(1)), "kl-form",
           error=False),
    Broken("targets reversed", Plain, lambda o, x: elbo_loss(o, x.flip(0)), "recon-target"),
    Broken("broadcast over rows", Plain,
           loss_with(lambda r, x: torch.stack([bce(r, row.expand_as(x)) for row in x]).mean(0)), "recon-target"),
    Broken("reconstruction sign", Plain, loss_with(join=lambda r, k: (k - r).mean()), "recon-sign"),
    Broken("the ELBO as the loss", Plain, loss_with(join=lambda r, k: -(r + k).mean()), "loss-sign"),
    Broken("log of probabilities", WithSigmoid, loss_with(handwritten_bce), "saturation", error=False),
]  # fmt: skip


# -------------------------------------------------------------------------------------------------- conditional


class Conditional(nn.Module):
    """Plain, with one-hot labels joined to x and to z; which of the two is for the variants to break."""

    encoder_sees = decoder_sees = True

    def __init__(self) -> None:
        super().__init__()
        self.body = Plain()
        self.body.hidden = nn.Linear(PIXELS + 10, WIDTH)
        self.body.back = nn.Linear(LATENT + 10, WIDTH)

    def forward(self, x, cond):
        seen = cond if self.encoder_sees else torch.zeros_like(cond)
        mu, log_var = self.body.encode(torch.cat([x.flatten(1), seen], 1))
        z = self.body.reparameterize(mu, log_var)
        seen = cond if self.decoder_sees else torch.zeros_like(cond)
        return self.body.decode(torch.cat([z, seen], 1)), mu, log_var


class BlindEncoder(Conditional):
    encoder_sees = False


class BlindDecoder(Conditional):
    decoder_sees = False


class EmbeddedLabel(Plain):
    """Adds an embedding of an integer label to the pixels' features and to z."""

    def __init__(self):
        super().__init__()
        self.on_x, self.on_z = nn.Embedding(10, WIDTH), nn.Embedding(10, LATENT)

    def forward(self, x, label):
        h = torch.relu(self.hidden(x.flatten(1)) + self.on_x(label))
        mu, log_var = self.to_mu(h), self.to_log_var(h)
        z = self.reparameterize(mu, log_var)
        return self.decode(z + self.on_z(label)), mu, log_var


# ---------------------------------------------------------------------------------------------- correct, in many styles


def returning(change: Callable) -> type[Plain]:
    """Plain that returns its (logits, mu, log_var) in another form."""
    return plain(forward=lambda self, x: change(*Plain.forward(self, x)))


DictOutput = returning(lambda logits, mu, log_var: {"x_hat": logits, "mean": mu, "logvar": log_var})
ParamsFirst = returning(lambda logits, mu, log_var: (mu, log_var, logits))
Nested = returning(lambda logits, mu, log_var: (logits, (mu, log_var)))


class ZFirst(Plain):
    def forward(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return z, mu, log_var, self.decode(z)


class ListWithInput(Plain):
    def forward(self, x):
        logits, mu, log_var = super().forward(x)
        return [logits, x, mu, log_var]


@dataclass
class Posterior:
    recon_x: Tensor
    mu: Tensor
    sigma: Tensor


class Softplus(Plain):
    def forward(self, x):
        mu, raw = self.encode(x)
        sigma = F.softplus(raw) + 1e-4
        return Posterior(self.decode(mu + sigma * torch.randn_like(mu)), mu, sigma)


class SoftplusTuple(Plain):
    def forward(self, x):
        out = Softplus.forward(self, x)
        return out.recon_x, out.mu, out.sigma


def sigma_loss(output, x):
    recon, mu, sigma = (output.recon_x, output.mu, output.sigma) if isinstance(output, Posterior) else output
    return (bce(recon, x) + (0.5 * (mu**2 + sigma**2 - 1) - sigma.log()).sum(1)).mean()


class LogSigmaOutput(NamedTuple):
    reconstruction: Tensor
    z_mean: Tensor
    z_log_sigma: Tensor


class LogSigma(Plain):
    def forward(self, x):
        mu, log_sigma = self.encode(x)
        return LogSigmaOutput(self.decode(mu + log_sigma.exp() * torch.randn_like(mu)), mu, log_sigma)


def log_sigma_loss(output, x):
    recon, mu, log_sigma = output
    return (bce(recon, x) + kl_of(mu, 2 * log_sigma)).mean()


class Distributions(Plain):
    def forward(self, x):
        mu, log_var = self.encode(x)
        q = torch.distributions.Independent(torch.distributions.Normal(mu, (0.5 * log_var).exp()), 1)
        return torch.distributions.Bernoulli(logits=self.decode(q.rsample()), validate_args=False), q


def distributions_loss(output, x):
    p, q = output
    prior = torch.distributions.Independent(
        torch.distributions.Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean)), 1
    )
    return (-p.log_prob(x.flatten(1)).sum(1) + torch.distributions.kl_divergence(q, prior)).mean()


class FieldsOutput(Plain):
    def forward(self, x):
        z, mu, log_var, logits = ZFirst.forward(self, x)
        return SimpleNamespace(z=z, mu=mu, log_var=log_var, logits=logits)


def monte_carlo_loss(output, x):
    normal = torch.distributions.Normal
    log_q = normal(output.mu, (0.5 * output.log_var).exp()).log_prob(output.z).sum(1)
    log_p = normal(0.0, 1.0).log_prob(output.z).sum(1)
    return (bce(output.logits, x) + log_q - log_p).mean()


class ConvolutionalWithNorms(nn.Module):
    """Convolutions, batch norm, dropout, one layer cut in two, logits of shape (B, 1, 28, 28)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.1), nn.Linear(8 * 49, 2 * LATENT),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(LATENT, 8, 7), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ELU(),
            nn.ConvTranspose2d(8, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x):
        mu, logvar = self.encoder(x.view(-1, 1, 28, 28)).chunk(2, dim=1)
        z = torch.randn_like(mu).mul(logvar.mul(0.5).exp()).add_(mu)
        return self.decoder(z[:, :, None, None]), mu, logvar


def flat_loss(output, x):
    return elbo_loss((output[0].flatten(1), *output[1:]), x)


def summed_loss(output, x):
    """The loss of PyTorch's own example: summed over the batch as well."""
    recon, mu, logvar = output
    bce_sum = F.binary_cross_entropy(recon, x.view(-1, PIXELS), reduction="sum")
    return bce_sum - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def narrow_gaussian_loss(output, x, sigma=0.1):
    mean, mu, log_var = output
    nll = (mean - x.flatten(1)).square().sum(1) / (2 * sigma**2) + PIXELS * math.log(sigma)
    return {"loss": (nll + kl_of(mu, log_var)).mean(), "recon": nll, "kl": kl_of(mu, log_var)}


OneDimension = type("OneDimension", (Plain,), {"latent": 1})
ZeroHeads = plain(lambda self: [nn.init.zeros_(p) for p in self.to_log_var.parameters()])


class KeepsItsKL(Plain):
    """Returns the reconstruction alone and keeps the KL as an attribute."""

    def forward(self, x):
        logits, mu, log_var = super().forward(x)
        self.kl = kl_of(mu, log_var)
        return logits


class OwnLoss(Plain):
    """Its loss goes through encode and decode, not through forward, and is per example."""

    def kl(self, mu, log_var):
        return kl_of(mu, log_var)

    def loss(self, x):
        mu, log_var = self.encode(x)
        return bce(self.decode(self.reparameterize(mu, log_var)), x) + self.kl(mu, log_var)


def without_forward(**mistake: Callable) -> type[OwnLoss]:
    """Methods alone, and a loss that calls them: the form in which the course's readers write a VAE."""
    return type("WithoutForward", (OwnLoss,), {"forward": nn.Module.forward, **mistake})


def through_layers(self, x):
    mu, log_var = encode(self, x)
    return bce(decode(self, draw(self, mu, log_var)), x) + kl_of(mu, log_var)


class Healthy(NamedTuple):
    """A correct model: how to build it, its loss (None: the model's own, or none), data and condition."""

    name: str
    make: Callable[[], nn.Module]
    loss: Callable | None
    data: str = "pixels"
    cond: str = ""


HEALTHY = [
    Healthy("plain tuple", Plain, elbo_loss),
    Healthy("no loss given", Plain, None),
    Healthy("PyTorch's example", WithSigmoid, summed_loss),
    Healthy("dict", DictOutput, lambda o, x: elbo_loss(o.values(), x)),
    Healthy("parameters first", ParamsFirst, lambda o, x: elbo_loss((o[2], o[0], o[1]), x)),
    Healthy("z first", ZFirst, lambda o, x: elbo_loss((o[3], o[1], o[2]), x)),
    Healthy("nested tuple", Nested, lambda o, x: elbo_loss((o[0], *o[1]), x)),
    Healthy("list with the input", ListWithInput, lambda o, x: elbo_loss((o[0], o[2], o[3]), o[1])),
    Healthy("softplus, dataclass", Softplus, sigma_loss),
    Healthy("softplus, tuple", SoftplusTuple, sigma_loss),
    Healthy("softplus, tuple, no loss", SoftplusTuple, None),
    Healthy("log sigma, NamedTuple", LogSigma, log_sigma_loss),
    Healthy("distributions", Distributions, distributions_loss),
    Healthy("Monte Carlo KL, fields", FieldsOutput, monte_carlo_loss),
    Healthy("mean in eval()", MeanInEval, elbo_loss),
    Healthy("convolutional with norms", ConvolutionalWithNorms, flat_loss),
    Healthy("Gaussian, sigma 1", Plain, squared_loss),
    Healthy("Gaussian, sigma 0.1", Plain, narrow_gaussian_loss),
    Healthy("Gaussian, standardised data", Plain, squared_loss, data="standardised"),
    Healthy("one latent dimension", OneDimension, elbo_loss),
    Healthy("log_var starts at 0", ZeroHeads, elbo_loss),
    Healthy("own loss", OwnLoss, None),
    Healthy("no forward", without_forward(), None),
    Healthy("no forward, loss through layers", without_forward(loss=through_layers), None),
    Healthy("all divided by pixels", Plain, loss_with(join=lambda r, k: ((r + k) / PIXELS).mean())),
    Healthy("conditional", Conditional, elbo_loss, cond="one-hot"),
    Healthy("embedded label", EmbeddedLabel, elbo_loss, cond="label"),
]


# -------------------------------------------------------------------------------------- noise made in other ways


def of_numpy(mu: Tensor) -> Tensor:
    return torch.from_numpy(np.random.standard_normal(tuple(mu.shape))).to(mu)  # noqa: NPY002


NOISES: dict[str, Callable[[Tensor], Tensor]] = {
    "Variable": lambda mu: torch.autograd.Variable(torch.randn(mu.size())),
    "normal_ in place": lambda mu: mu.new_empty(mu.size()).normal_(),
    "normal_ of data": lambda mu: torch.autograd.Variable(mu.data.new(mu.size()).normal_()),
    "distributions": lambda mu: torch.distributions.Normal(0.0, 1.0).sample(mu.shape),
    "NumPy": of_numpy,
    "transposed": lambda mu: torch.randn(mu.shape[::-1]).T,
}


def noisy(noise: Callable[[Tensor], Tensor], mistake: str = "") -> type[Plain]:
    """Plain with noise of another make, right or with a mistake."""

    def reparameterize(self, mu, log_var):
        if mistake == "averaged":
            mu = mu.mean(1, keepdim=True).expand_as(mu)
        return mu + (log_var if mistake == "sigma" else 0.5 * log_var).exp() * noise(mu)

    return plain(reparameterize=reparameterize)


# --------------------------------------------------------------------------------- correct, and more than a plain VAE


class Quantised(Plain):
    def __init__(self):
        super().__init__()
        self.book = nn.Parameter(torch.randn(16, LATENT))

    def forward(self, x):
        mu, _ = self.encode(x)
        chosen = self.book[torch.cdist(mu, self.book).argmin(1)]
        return self.decode(mu + (chosen - mu).detach()), (chosen.detach() - mu).square().sum(1)


class Several(Plain):
    """Three samples for each example, in rows of their own."""

    def forward(self, x):
        mu, log_var = self.encode(x)
        mu, log_var = mu.repeat_interleave(3, 0), log_var.repeat_interleave(3, 0)
        return self.decode(self.reparameterize(mu, log_var)), mu, log_var


class Chain(Plain):
    """A second code is made of the first."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(LATENT, 2 * LATENT), nn.Linear(LATENT, LATENT)

    def forward(self, x):
        mu, log_var = self.encode(x)
        second = self.up(self.reparameterize(mu, log_var)).chunk(2, 1)
        return self.decode(self.down(self.reparameterize(*second))), kl_of(mu, log_var) + kl_of(*second)


class FullCovariance(Plain):
    def __init__(self):
        super().__init__()
        self.to_scale = nn.Linear(WIDTH, LATENT * LATENT)

    def forward(self, x):
        h = torch.relu(self.hidden(x.flatten(1)))
        scale = self.to_scale(h).view(-1, LATENT, LATENT).tril() + torch.eye(LATENT)
        q = torch.distributions.MultivariateNormal(self.to_mu(h), scale_tril=scale, validate_args=False)
        z = q.rsample()
        log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
        return self.decode(z), q.log_prob(z) - log_p


class Flow(Plain):
    """A planar flow behind the Gaussian."""

    def __init__(self):
        super().__init__()
        self.u, self.w = nn.Parameter(0.3 * torch.randn(LATENT)), nn.Parameter(torch.randn(LATENT))

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        bent = torch.tanh(z @ self.w)
        moved = z + bent[:, None] * self.u
        log_det = (1 + (1 - bent**2) * (self.w @ self.u)).abs().log()
        log_q = -0.5 * ((z - mu) ** 2 / log_var.exp() + log_var).sum(1)
        return self.decode(moved), mu, log_var, log_q - log_det + 0.5 * (moved**2).sum(1)


class Mixture(Plain):
    """A learned mixture as the prior."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(2 * torch.randn(5, LATENT))

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        log_q = -0.5 * ((z - mu) ** 2 / log_var.exp() + log_var).sum(1)
        return self.decode(z), log_q - torch.logsumexp(-0.5 * (z[:, None] - self.centres).square().sum(2), 1)


class Masked(Plain):
    def encode(self, x):
        return super().encode(x * (torch.rand_like(x) > 0.3))


class SampledFirst(Plain):
    """Returns drawn pixels before their logits."""

    def forward(self, x):
        logits, mu, log_var = super().forward(x)
        return torch.bernoulli(logits.sigmoid()), logits, mu, log_var


class GammaCode(Plain):
    """A positive code; its KL to Gamma(2, 1), with the shape and the rate of q from the two heads."""

    def forward(self, x):
        shape, rate = (F.softplus(t) + 0.5 for t in self.encode(x))
        q, prior = torch.distributions.Gamma(shape, rate), torch.distributions.Gamma(2.0, 1.0)
        return self.decode(q.rsample()), torch.distributions.kl_divergence(q, prior).sum(1)


class SeveralInside(Plain):
    """Three samples for each example, along an axis of their own."""

    def forward(self, x):
        mu, log_var = (t[:, None].expand(-1, 3, -1) for t in self.encode(x))
        return self.decode(self.reparameterize(mu, log_var)), mu, log_var


def averaged_over_samples(output, x):
    logits, mu, log_var = output
    x = x.flatten(1)[:, None].expand_as(logits)
    return (
        F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(2).mean(1) + kl_of(mu, log_var)[:, 0]
    ).mean()


class Words(Plain):
    """Sentences of nine words out of thirty; the decoder sees the word before, some of them blotted out."""

    WORDS, LENGTH = 30, 9

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.mistake = mistake
        self.embed, self.read = nn.Embedding(self.WORDS, WIDTH), nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.write, self.word = nn.GRU(WIDTH, WIDTH, batch_first=True), nn.Linear(WIDTH, self.WORDS)

    def forward(self, words):
        words = words.long()
        h = self.read(self.embed(words))[1][0]
        mu, log_var = self.to_mu(h), self.to_log_var(h)
        z = mu + (log_var if self.mistake == "sigma" else 0.5 * log_var).exp() * torch.randn_like(mu)
        before = F.pad(words, (1, -1)) * (torch.rand(words.shape) > 0.3)
        z = z.detach() if self.mistake == "cut off" else z
        h = self.write(self.embed(before), torch.tanh(self.back(z))[None])[0]
        return F.log_softmax(self.word(h), 2), mu, log_var


def words_loss(output, x, sign=1.0):
    log_p, mu, log_var = output
    return (F.nll_loss(log_p.transpose(1, 2), x.long(), reduction="sum") + sign * kl_of(mu, log_var).sum()) / len(x)


class Autoregressive(nn.Module):
    """Each pixel from those before it: no code at all."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(PIXELS, PIXELS))

    def forward(self, x):
        return x.flatten(1) @ self.weight.triu(1)


class Generator(Plain):
    """Images from noise, whatever x is."""

    encode = None

    def forward(self, x):
        z = torch.randn(len(x), LATENT)
        return self.decode(z), z


class Implicit(Plain):
    """Noise and x go through layers together."""

    encode = None

    def __init__(self):
        super().__init__()
        self.joined = nn.Linear(PIXELS + LATENT, WIDTH)

    def forward(self, x):
        h = torch.relu(self.joined(torch.cat([x.flatten(1), torch.randn(len(x), LATENT)], 1)))
        return self.decode(self.to_mu(h)), 0.5 * self.to_mu(h).square().sum(1)


class Denoiser(nn.Module):
    """No forward: a loss of x, noise and a random time."""

    def __init__(self):
        super().__init__()
        self.hidden, self.time, self.out = nn.Linear(PIXELS, WIDTH), nn.Linear(1, WIDTH), nn.Linear(WIDTH, PIXELS)

    def loss(self, x):
        x, t = x.flatten(1), torch.rand(len(x), 1)
        noise = torch.randn_like(x)
        h = torch.relu(self.hidden((1 - t) * noise + t * x) + self.time(t))
        return (self.out(h) - x + noise).square().sum(1).mean()


class Levels(Chain):
    """Two levels and no forward; the encoder is not called encode."""

    infer, encode = Plain.encode, None

    def loss(self, x):
        mu, log_var = self.infer(x)
        second = self.up(self.reparameterize(mu, log_var)).chunk(2, 1)
        recon = bce(self.decode(self.down(self.reparameterize(*second))), x)
        return (recon + kl_of(mu, log_var) + kl_of(*second)).mean()


Levels.forward = Denoiser.forward = nn.Module.forward


class Relaxed(Plain):
    """Gumbel noise on the logits of classes."""

    def forward(self, x):
        logits, _ = self.encode(x)
        gumbel = -(-torch.rand_like(logits).clamp(1e-6, 1 - 1e-6).log()).log()
        return self.decode(((logits + gumbel) / 0.5).softmax(1)), logits.log_softmax(1).exp().square().sum(1)


class Moved(Plain):
    """z is moved along a gradient inside of the forward pass."""

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        (slope,) = torch.autograd.grad(bce(self.decode(z), x).sum(), z, create_graph=True)
        return self.decode(z - 1e-6 * slope), mu, log_var


def estimated(output, x, kind):
    """An ELBO whose KL is log q(z) − log p(z) at the sample, with a density whose σ² is exp(2s) or exp(s)."""
    logits, mu, s, z = output
    log_q = -0.5 * ((z - mu) ** 2 / (kind * s).exp() + kind * s).sum(1)
    return (bce(logits, x) + log_q + 0.5 * z.square().sum(1)).mean()


def second_term(output, x):
    return (bce(output[0], x) + output[-1]).mean()


def free_bits(output, x):
    floor = (0.5 * (output[1] ** 2 + output[2].exp() - 1 - output[2])).mean(0).clamp_min(2.0)
    return bce(output[0], x).mean() + floor.sum()


BEYOND: dict[str, tuple] = {
    "quantiser": (Quantised, second_term, "a quantiser is not examined"),
    "several samples": (Several, lambda o, x: elbo_loss(o, x.repeat_interleave(3, 0)), "several samples"),
    "autoregressive": (Autoregressive, lambda o, x: bce(o, x).mean(), "each is made of those before"),
    "generator": (Generator, lambda o, x: o[0].square().mean(), "a generator without an encoder"),
    "implicit": (Implicit, second_term, "an implicit posterior"),
    "diffusion": (Denoiser, None, "neither a reconstruction nor a code of x was seen"),
    "levels without forward": (Levels, None, "2 random draws are decoded one after the other"),
    "relaxed classes": (Relaxed, second_term, "no diagonal Gaussian"),
    "moved along a gradient": (Moved, elbo_loss, "weight of an ELBO"),
    "several samples inside": (SeveralInside, averaged_over_samples, "several samples"),
    "a gamma code": (GammaCode, second_term, "no Gaussian code: z is made of draws by standard_gamma"),
    "chain": (Chain, second_term, "2 random draws are decoded one after the other"),
    "full covariance": (FullCovariance, second_term, "no diagonal Gaussian"),
    "flow": (Flow, second_term, "kl-form"),
    "mixture prior": (Mixture, second_term, "kl-form"),
    "masked input": (Masked, elbo_loss, "weight of an ELBO"),
    "sampled image first": (SampledFirst, lambda o, x: elbo_loss(o[1:], x), "weight of an ELBO"),
    "free bits": (Plain, free_bits, "kl-form"),
    "small capacity": (Plain, loss_with(join=lambda r, k: r.mean() + 1000 * (k.mean() - 3).abs()), "kl-form"),
    "capacity": (Plain, loss_with(join=lambda r, k: r.mean() + 30 * (k.mean() - 40).abs()), "kl-form"),
}


# ------------------------------------------------------ correct, and unlike what its numbers or its names suggest


class BagOfWords(Plain):
    """Counts of words; the output is the share of each word."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(40, WIDTH), nn.Linear(WIDTH, 40)

    def forward(self, x):
        mu, log_var = self.encode(x.log1p())
        return self.decode(self.reparameterize(mu, log_var)).softmax(1), mu, log_var


def with_std(make_std: Callable) -> type[Plain]:
    """Samples with σ and returns it before log σ²."""

    def forward(self, x):
        mu, log_var = self.encode(x)
        std = make_std(log_var)
        return self.decode(mu + std * torch.randn_like(mu)), mu, std, log_var

    return plain(forward=forward)


class OwnVariance(Plain):
    """A Gaussian decoder with a variance for each pixel."""

    def __init__(self):
        super().__init__()
        self.to_pixels = nn.Linear(WIDTH, PIXELS)

    def forward(self, x):
        mu, log_var = self.encode(x)
        h = torch.relu(self.back(self.reparameterize(mu, log_var)))
        return self.out(h), self.to_pixels(h).clamp(-4, 2), mu, log_var


def own_variance_loss(output, x, sign=1):
    mean, log_var = output[:2]
    return (0.5 * (log_var + (mean - x.flatten(1)) ** 2 / log_var.exp()).sum(1) + sign * kl_of(*output[2:])).mean()


def inverse_normal(mu: Tensor) -> Tensor:
    return 2**0.5 * torch.erfinv(2 * torch.rand_like(mu).clamp(1e-6, 1 - 1e-6) - 1)


def logistic(mu: Tensor) -> Tensor:
    u = torch.rand_like(mu)
    return u.log() - (-u).log1p()


class ThresholdedFirst(Plain):
    """Returns pixels drawn by comparing with uniform numbers before their logits."""

    def forward(self, x):
        logits, mu, log_var = super().forward(x)
        return (torch.rand_like(logits) < logits.sigmoid()).float(), logits, mu, log_var


class LaplaceCode(Plain):
    """Returns its posterior, in distributions that check what they are given."""

    def forward(self, x):
        mu, log_scale = self.encode(x)
        q = torch.distributions.Laplace(mu, log_scale.exp())
        return torch.distributions.ContinuousBernoulli(logits=self.decode(q.rsample())), q


def laplace_loss(output, x):
    likelihood, q = output
    prior = torch.distributions.Laplace(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    kl = torch.distributions.kl_divergence(q, prior)
    return (kl.sum(1) - likelihood.log_prob(x.flatten(1)).sum(1)).mean()


def nearest(self, z):
    _, chosen = torch.min(torch.cdist(z, self.book), 1)
    return torch.index_select(self.book, 0, chosen)


QUANTISERS: dict[str, Callable] = {
    "min": nearest,
    "topk": lambda self, z: self.book[(-torch.cdist(z, self.book)).topk(1, 1).indices[:, 0]],
    "trunc": lambda self, z: torch.trunc(3 * z.tanh() + 0.5),
    "round": lambda self, z: torch.round(3 * z.tanh()),
}


def quantised(choose: Callable) -> type[Quantised]:
    """A code out of a small set, straight through, returned beside what it was made of."""

    def forward(self, x):
        z, _ = self.encode(x)
        chosen = choose(self, z)
        return self.decode(z + (chosen - z).detach()), z, chosen

    return type("Chooses", (Quantised,), {"forward": forward})


class SeededAndReturned(Plain):
    def forward(self, x):
        mu, log_var = self.encode(x)
        z = seeded(self, mu, log_var)
        return self.decode(z), z, mu, log_var


class SortedOnTheWay(Plain):
    """Rows in another order, as packed sequences are, and back again after the decoder."""

    def forward(self, x):
        order = torch.arange(len(x), device=x.device).flip(0)
        mu, log_var = self.encode(x[order])
        return self.decode(self.reparameterize(mu, log_var))[order], mu, log_var


def mean_over_rows(values: Tensor) -> Tensor:
    return values.mean(0, keepdim=True).expand_as(values)


MIXED_ROWS = {
    "μ averaged": plain(encode=lambda self, x: (mean_over_rows((h := encode(self, x))[0]), h[1])),
    "both averaged": plain(encode=lambda self, x: tuple(map(mean_over_rows, encode(self, x)))),
    "z of the row before": plain(decode=lambda self, z: decode(self, z.roll(1, 0))),
    "reversed in the end": plain(decode=lambda self, z: decode(self, z).flip(0)),
}
NormOverRows = plain(encode=lambda self, x: ((h := encode(self, x))[0] - h[0].mean(0), h[1]))


# ------------------------------------------------------------------------------------- one loss in different forms


class LossInForward(Plain):
    weight = 1.0

    def forward(self, x):
        logits, mu, log_var = super().forward(x)
        return {"loss": (bce(logits, x) + self.weight * kl_of(mu, log_var)).mean(), "recon": logits.sigmoid()}


def in_forward(weight: float) -> tuple[nn.Module, Callable]:
    model = LossInForward()
    model.weight = weight
    return model, lambda output, x: output["loss"]


def runs_the_model(weight: float) -> tuple[nn.Module, Callable]:
    model, loss = Plain(), loss_with(join=lambda r, k: (r + weight * k).mean())
    return model, lambda output, x: loss(model(x), x)


def in_parts(weight: float) -> tuple[nn.Module, Callable]:
    def loss(output, x):
        r, k = bce(output[0], x).mean(), weight * kl_of(*output[1:]).mean()
        return r, k, r + k

    return Plain(), loss


def in_a_dict(weight: float) -> tuple[nn.Module, Callable]:
    def loss(output, x):
        r, k = bce(output[0], x).mean(), kl_of(*output[1:]).mean()
        return {"nll": r, "kl": k, "everything": r + weight * k}

    return Plain(), loss


LOSS_FORMS = {"in forward": in_forward, "runs the model": runs_the_model, "parts": in_parts, "dict": in_a_dict}
