"""The exercises of notebook 11: right answers pass, wrong ones are told apart."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, TransformedDistribution
from torch.distributions.transforms import Transform

from course_utils.teaching.exercises.notebook_06 import VAE
from course_utils.teaching.exercises.notebook_11 import (
    FlowVAE,
    MixturePrior,
    banana,
    planar_layer,
    sampled_rate,
)

# Layers and rates -----------------------------------------------------------------------------------------


def planar_by_jacobian(z, u, w, b):
    """Row by row, the determinant by brute force."""

    def one(z, u, w, b):
        wu = w @ u
        bent = u + (torch.log(1 + wu.exp()) - 1 - wu) * w / (w @ w)
        return z + bent * torch.tanh(w @ z + b)

    rows = list(zip(z, u, w, b, strict=True))
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda t, r=r: one(t, *r[1:]), r[0], create_graph=True)
                             for r in rows])  # fmt: skip
    return torch.stack([one(*row) for row in rows]), torch.linalg.slogdet(jacobians).logabsdet


def planar_with(u_hat, log_det=lambda slope: (1 + slope).abs().log(), slope=lambda h: 1 - h**2):
    def layer(z, u, w, b):
        bent = u_hat(u, w)
        h = torch.tanh((w * z).sum(1, keepdim=True) + b[:, None])
        return z + bent * h, log_det((slope(h) * (w * bent).sum(1, keepdim=True)).squeeze(1))

    return layer


def hat(u, w):
    wu = (w * u).sum(1, keepdim=True)
    return u + (F.softplus(wu) - 1 - wu) * w / (w * w).sum(1, keepdim=True)


def rate_by_distributions(z_0, z_K, mu, log_var, log_det):
    log_q = Independent(Normal(mu, log_var.div(2).exp()), 1).log_prob(z_0) - log_det
    return log_q - Independent(Normal(torch.zeros_like(z_K), 1.0), 1).log_prob(z_K)


def analytic(z_0, z_K, mu, log_var, log_det):
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)


# The model ------------------------------------------------------------------------------------------------


class OneStepAtATime(VAE):
    """Written otherwise: a list of layers, each with its own network, and log q by torch.distributions."""

    def __init__(self, latent_dim, hidden=400, layers=4):
        super().__init__(latent_dim, hidden)
        self.latent = latent_dim
        self.flow = nn.ModuleList(nn.Linear(784, 2 * latent_dim + 1) for _ in range(layers))

    def infer(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        log_q = Normal(mu, (log_var / 2).exp()).log_prob(z).sum(1)
        for layer in self.flow:
            out = layer(x)
            z, log_det = planar_layer(z, out[:, : self.latent], out[:, self.latent : -1], out[:, -1])
            log_q = log_q - log_det
        return z, log_q - Normal(0.0, 1.0).log_prob(z).sum(1)

    def terms(self, x):
        z, rate = self.infer(x)
        return F.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1), rate


def other(**methods):
    """The course's FlowVAE with these methods exchanged."""
    return type("FlowVAE", (FlowVAE,), methods)


def infer_with(rate):
    """The solution's infer with rate(z_0, z_K, mu, log_var, log_det)."""

    def infer(self, x):
        mu, log_var = self.encode(x)
        z_0 = z = self.reparameterize(mu, log_var)
        log_det = torch.zeros_like(z[:, 0])
        for part in self.flow(x).chunk(self.layers, dim=1):
            u, w, b = part.split(self.sizes, dim=1)
            z, more = planar_layer(z, u, w, b.squeeze(1))
            log_det = log_det + more
        return z, rate(z_0, z, mu, log_var, log_det)

    return other(infer=infer)


def no_flow(self, x):
    mu, log_var = self.encode(x)
    z = self.reparameterize(mu, log_var)
    return z, sampled_rate(z, z, mu, log_var, 0 * z[:, 0])


def decodes_z_0(self, x):
    recon = F.binary_cross_entropy_with_logits(
        self.decode(self.reparameterize(*self.encode(x))), x, reduction="none"
    ).sum(1)
    return recon, self.infer(x)[1]


def analytic_terms(self, x):
    recon, _ = FlowVAE.terms(self, x)
    mu, log_var = self.encode(x)
    return recon, analytic(None, None, mu, log_var, None)


def far_samples(self, n):
    return self.decode(2 * torch.randn(n, self.latent_dim)).sigmoid()


# Priors ---------------------------------------------------------------------------------------------------


class ByDistributions(nn.Module):
    def __init__(self, logits, mu, log_var):
        super().__init__()
        self.logits, self.mu, self.log_var = map(nn.Parameter, (logits, mu, log_var))

    def mixture(self):
        parts = Independent(Normal(self.mu, (0.5 * self.log_var).exp()), 1)
        return MixtureSameFamily(Categorical(logits=self.logits), parts)

    def log_prob(self, z):
        return self.mixture().log_prob(z)

    def sample(self, n):
        return self.mixture().sample((n,))


def prior(**methods):
    return type("MixturePrior", (MixturePrior,), methods)


def per_dimension(self, z):
    each = Normal(self.mu, (0.5 * self.log_var).exp()).log_prob(z[:, None]) + self.logits.log_softmax(0)[:, None]
    return each.logsumexp(1).sum(1)


def mean_of_logs(self, z):
    each = Normal(self.mu, (0.5 * self.log_var).exp()).log_prob(z[:, None]).sum(2)
    return each @ self.logits.softmax(0)


def one_for_each_dimension(self, n):
    which = torch.multinomial(self.logits.softmax(0), 2 * n, replacement=True).view(n, 2)
    mu, log_var = self.mu.gather(0, which), self.log_var.gather(0, which)
    return mu + (0.5 * log_var).exp() * torch.randn_like(mu)


def wide(self, n):
    which = torch.multinomial(self.logits.softmax(0), n, replacement=True)
    return self.mu[which] + self.log_var[which].exp() * torch.randn(n, 2)


def equal_weights(self, n):
    which = torch.randint(len(self.mu), (n,))
    return self.mu[which] + (0.5 * self.log_var[which]).exp() * torch.randn(n, 2)


def without_gradient(self, z):
    with torch.no_grad():
        return MixturePrior.log_prob(self, z)


class Bend(Transform):
    """The flow of 11.6 for torch.distributions."""

    domain = codomain = torch.distributions.constraints.real_vector
    bijective = True

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def _call(self, e):
        return torch.stack([e[:, 0], e[:, 1] * torch.exp(self.a * e[:, 0]) + self.b * e[:, 0]], 1)

    def _inverse(self, z):
        return torch.stack([z[:, 0], (z[:, 1] - self.b * z[:, 0]) / torch.exp(self.a * z[:, 0])], 1)

    def log_abs_det_jacobian(self, e, z):
        return self.a * e[:, 0]


def banana_by_distributions(eps, z, a, b):
    base = Independent(Normal(torch.zeros(2).to(z), 1.0), 1)
    return Bend(a, b)(eps), TransformedDistribution(base, [Bend(a, b)]).log_prob(z)


def banana_with(samples=None, log_p=lambda log_p, z, a: log_p):
    def made(eps, z, a, b):
        right = banana(eps, z, a, b)
        return (right[0] if samples is None else samples(eps)), log_p(right[1], z, a)

    return made


def cross_entropies(t_q, t_p):
    ones, zeros = torch.ones_like(t_q), torch.zeros_like(t_p)
    bce = F.binary_cross_entropy_with_logits
    return bce(t_q, ones, reduction="none") + bce(t_p, zeros, reduction="none")


RIGHT = {
    "11.1": [planar_by_jacobian, planar_with(hat)],
    "11.2": [rate_by_distributions],
    "11.3": [OneStepAtATime],
    "11.4": [cross_entropies, lambda t_q, t_p: -F.logsigmoid(t_q) - F.logsigmoid(-t_p)],
    "11.5": [ByDistributions],
    "11.6": [banana_by_distributions],
}
WRONG = [
    ("11.1", "unconstrained u", planar_with(lambda u, w: u)),
    ("11.1", "no log", planar_with(hat, lambda slope: (1 + slope).abs())),
    ("11.1", "log-det sign", planar_with(hat, lambda slope: -(1 + slope).abs().log())),
    ("11.2", "log-det sign", lambda *case: rate_by_distributions(*case[:4], -case[4])),
    ("11.2", "p at z_0", lambda z_0, z_K, *rest: rate_by_distributions(z_0, z_0, *rest)),
    ("11.2", "q at z_0", lambda *case: rate_by_distributions(*case[:4], 0 * case[4])),
    ("11.2", "the analytic KL", analytic),
    ("11.2", "the analytic KL, less log_det", lambda *case: analytic(*case) - case[4]),
    ("11.2", "sign", lambda *case: -rate_by_distributions(*case)),
    ("11.3", "the analytic KL kept", infer_with(analytic)),
    ("11.3", "sign of the log-determinant", infer_with(lambda *case: sampled_rate(*case[:4], -case[4]))),
    ("11.3", "p at z_0", infer_with(lambda z_0, z, *rest: sampled_rate(z_0, z_0, *rest))),
    ("11.3", "q at z_0", infer_with(lambda *case: sampled_rate(*case[:4], 0 * case[4]))),
    ("11.3", "another rate", infer_with(lambda *case: 2 * sampled_rate(*case))),
    ("11.3", "the flow is not used", other(infer=no_flow)),
    ("11.3", "the decoder gets another z", other(terms=decodes_z_0)),
    ("11.3", "another rate in terms", other(terms=analytic_terms)),
    ("11.3", "no samples of the prior", other(sample=far_samples)),
    ("11.3", "shape of infer", other(infer=lambda self, x: FlowVAE.infer(self, x)[0])),
    ("11.4", "the other direction", lambda t_q, t_p: cross_entropies(-t_q, -t_p)),
    ("11.4", "the encoder's side", lambda t_q, t_p: F.softplus(-t_q) - F.softplus(t_p)),
    ("11.4", "the other direction", lambda t_q, t_p: cross_entropies(t_p, t_q)),
    ("11.5", "log_prob(z): a mixture per dimension", prior(log_prob=per_dimension)),
    ("11.5", "log_prob(z): mean of the logarithms", prior(log_prob=mean_of_logs)),
    ("11.5", "another Gaussian for each dimension", prior(sample=one_for_each_dimension)),
    ("11.5", "exp(log_var) as σ", prior(sample=wide)),
    ("11.5", "other weights", prior(sample=equal_weights)),
    ("11.5", "no gradient", prior(log_prob=without_gradient)),
    ("11.6", "samples not passed through the flow", banana_with(lambda eps: eps)),
    ("11.6", "log-det sign", banana_with(log_p=lambda log_p, z, a: log_p + 2 * a * z[:, 0])),
    ("11.6", "no log-determinant", banana_with(log_p=lambda log_p, z, a: log_p + a * z[:, 0])),
    ("11.6", "density of the noise", banana_with(log_p=lambda log_p, z, a: Normal(0, 1).log_prob(z).sum(1))),
]


def test_the_banana_integrates_to_1():
    axis = torch.linspace(-12, 12, 801, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    _, log_p = banana(z, z, torch.tensor(0.4), torch.tensor(-0.7))
    assert math.isclose(log_p.exp().sum().item() * (axis[1] - axis[0]).item() ** 2, 1.0, abs_tol=1e-3)
