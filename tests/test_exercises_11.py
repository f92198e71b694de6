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
    coupling_layer,
    flow_prior,
    sampled_rate,
)

# Layers and rates -----------------------------------------------------------------------------------------


def coupling_by_jacobian(z, net, back=False):
    """Row by row; the determinant of the way there by brute force, the way back by solving for each number."""
    half = z.shape[1] // 2
    stretch, shift = net(z[:, :half])[:, :half].exp(), net(z[:, :half])[:, half:]

    def there(row):
        out = net(row[:half])
        return torch.cat([row[:half], row[half:] * torch.exp(out[:half]) + out[half:]])

    result = torch.stack([z[:, half + j] for j in range(half)], 1)
    result = (result - shift) / stretch if back else result * stretch + shift
    start = torch.cat([z[:, :half], result], 1) if back else z
    jacobians = torch.stack([torch.autograd.functional.jacobian(there, row) for row in start])
    log_det = torch.linalg.slogdet(jacobians).logabsdet
    return torch.cat([z[:, :half], result], 1), -log_det if back else log_det


def coupling_with(moved=None, log_det=None, ask=0):
    """The layer with other formulas; `ask`: the half that s and t are made of."""

    def layer(z, net, back=False):
        halves = z.chunk(2, 1)
        s, t = net(halves[ask]).chunk(2, 1)
        right = (halves[1] - t) / s.exp() if back else s.exp() * halves[1] + t
        new = moved(halves[1], s, t, back) if moved else right
        sign = -1 if back else 1
        return torch.cat([halves[0], new], 1), log_det(s, back) if log_det else sign * s.sum(1)

    return layer


def turned(net):
    """The same net, read as t and s."""
    return lambda z_a: net(z_a).roll(z_a.shape[-1], -1)


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
    """Written otherwise: layers that move even and odd places in turn, by masks, and log q by torch.distributions."""

    def __init__(self, latent_dim, hidden=400, layers=4):
        super().__init__(latent_dim, hidden)
        self.flow = nn.ModuleList(nn.Linear(784 + latent_dim, 2 * latent_dim) for _ in range(layers))
        for layer in self.flow:
            nn.init.normal_(layer.weight, std=0.01)

    def infer(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        log_q = Normal(mu, (log_var / 2).exp()).log_prob(z).sum(1)
        for k, layer in enumerate(self.flow):
            moves = (torch.arange(z.shape[1]) + k) % 2 == 0
            s, t = (moves * part for part in layer(torch.cat([z * ~moves, x], 1)).chunk(2, 1))
            z, log_q = z * s.exp() + t, log_q - s.sum(1)
        return z, log_q - Normal(0.0, 1.0).log_prob(z).sum(1)

    def terms(self, x):
        z, rate = self.infer(x)
        return F.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1), rate


def other(**methods):
    """The course's FlowVAE with these methods exchanged."""
    return type("FlowVAE", (FlowVAE,), methods)


def infer_with(rate, flip=True):
    """The solution's infer with rate(z_0, z_K, mu, log_var, log_det)."""

    def infer(self, x):
        mu, log_var = self.encode(x)
        z_0 = z = self.reparameterize(mu, log_var)
        log_det = torch.zeros_like(z[:, 0])
        for net in self.flow:
            z, more = coupling_layer(z, lambda z_a, net=net: net(torch.cat([z_a, x], 1)))
            z, log_det = z.flip(1) if flip else z, log_det + more
        return z, rate(z_0, z, mu, log_var, log_det)

    return other(infer=infer)


def with_networks(count):
    """Layers that share so many networks, in turn."""

    def init(self, latent_dim, hidden=400, layers=4):
        FlowVAE.__init__(self, latent_dim, hidden, min(count, layers))
        self.flow = nn.ModuleList(self.flow[k % count] for k in range(layers))

    return init


def draws_twice(self, x):
    mu, log_var = self.encode(x)
    z, log_det = self.reparameterize(mu, log_var), 0
    for net in self.flow:
        z, more = coupling_layer(z, lambda z_a, net=net: net(torch.cat([z_a, x], 1)))
        z, log_det = z.flip(1), log_det + more
    return z, sampled_rate(self.reparameterize(mu, log_var), z, mu, log_var, log_det)


def draws_by_itself(self, x):
    model = FlowVAE.__new__(FlowVAE)
    model.__dict__ = {key: value for key, value in self.__dict__.items() if key != "reparameterize"}
    return model.infer(x)


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


class Packed(nn.Module):
    """One parameter holds all."""

    def __init__(self, logits, mu, log_var):
        super().__init__()
        self.size, self.all = mu.shape[1], nn.Parameter(torch.cat([logits[:, None], mu, log_var], 1))

    logits = property(lambda self: self.all[:, 0])
    mu = property(lambda self: self.all[:, 1 : 1 + self.size])
    log_var = property(lambda self: self.all[:, 1 + self.size :])
    mixture, log_prob, sample = ByDistributions.mixture, ByDistributions.log_prob, ByDistributions.sample


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


def with_plain_logits(self, logits, mu, log_var):
    nn.Module.__init__(self)
    self.logits, self.mu, self.log_var = logits, nn.Parameter(mu), nn.Parameter(log_var)


def with_buffers(self, logits, mu, log_var):
    nn.Module.__init__(self)
    for name, value in (("logits", logits), ("mu", mu), ("log_var", log_var)):
        self.register_buffer(name, value)


def without_gradient(self, z):
    with torch.no_grad():
        return MixturePrior.log_prob(self, z)


class Couple(Transform):
    """A layer of 11.4, with its flip, for torch.distributions."""

    domain = codomain = torch.distributions.constraints.real_vector
    bijective = True

    def __init__(self, net):
        super().__init__()
        self.net = net

    def s_and_t(self, kept):
        out, half = self.net(kept), kept.shape[1]
        return out[:, :half], out[:, half:]

    def _call(self, e):
        half = e.shape[1] // 2
        s, t = self.s_and_t(e[:, :half])
        return torch.cat([e[:, :half], e[:, half:] * torch.exp(s) + t], 1).flip(1)

    def _inverse(self, z):
        z, half = z.flip(1), z.shape[1] // 2
        s, t = self.s_and_t(z[:, :half])
        return torch.cat([z[:, :half], (z[:, half:] - t) / torch.exp(s)], 1)

    def log_abs_det_jacobian(self, e, z):
        return self.s_and_t(e[:, : e.shape[1] // 2])[0].sum(1)


def prior_by_distributions(eps, z, nets):
    base = Independent(Normal(torch.zeros(z.shape[1]).to(z), 1.0), 1)
    layers = [Couple(net) for net in nets]
    for layer in layers:
        eps = layer(eps)
    return eps, TransformedDistribution(base, layers).log_prob(z)


def prior_with(samples=None, log_det=1.0, back=lambda z, nets: prior_back(z, reversed(nets))):
    def made(eps, z, nets):
        noise, total = back(z, nets)
        log_p = Normal(0.0, 1.0).log_prob(noise).sum(1) + log_det * total
        return samples(eps, nets) if samples else prior_by_distributions(eps, z, nets)[0], log_p

    return made


def prior_back(z, nets, flip=True, after=False):
    total = torch.zeros_like(z[:, 0])
    for net in nets:
        z = z.flip(1) if flip and not after else z
        s, t = net(z.chunk(2, 1)[0]).chunk(2, 1)
        z = torch.cat([z.chunk(2, 1)[0], (z.chunk(2, 1)[1] - t) / s.exp()], 1)
        z, total = z.flip(1) if after else z, total - s.sum(1)
    return z, total


def cross_entropies(t_q, t_p):
    ones, zeros = torch.ones_like(t_q), torch.zeros_like(t_p)
    bce = F.binary_cross_entropy_with_logits
    return bce(t_q, ones, reduction="none") + bce(t_p, zeros, reduction="none")


RIGHT = {
    "11.1": [coupling_by_jacobian, coupling_with()],
    "11.2": [rate_by_distributions],
    "11.3": [OneStepAtATime],
    "11.4": [prior_by_distributions],
    "11.5": [ByDistributions, Packed],
    "11.6": [planar_by_jacobian, planar_with(hat)],
    "11.7": [cross_entropies, lambda t_q, t_p: -F.logsigmoid(t_q) - F.logsigmoid(-t_p)],
}
WRONG = [
    ("11.1", "the half that moves", coupling_with(ask=1)),
    (
        "11.1",
        "undone in the wrong order",
        coupling_with(lambda z, s, t, back: z / s.exp() - t if back else s.exp() * z + t),
    ),
    ("11.1", "log-det sign on the way back", coupling_with(log_det=lambda s, back: s.sum(1))),
    ("11.1", "log-det sign", coupling_with(log_det=lambda s, back: s.sum(1) if back else -s.sum(1))),
    ("11.1", "s and t exchanged", lambda z, net, back=False: coupling_by_jacobian(z, turned(net), back)),
    ("11.1", "back is ignored", lambda z, net, back=False: coupling_by_jacobian(z, net)),
    ("11.1", "not summed over axis 1", coupling_with(log_det=lambda s, back: -s if back else s)),
    ("11.1", "times 2/L", coupling_with(log_det=lambda s, back: -s.mean(1) if back else s.mean(1))),
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
    ("11.3", "one network for all layers", other(__init__=with_networks(1))),
    ("11.3", "one network for all layers", other(__init__=with_networks(2))),
    ("11.3", "not one draw", other(infer=draws_twice)),
    ("11.3", "not one draw", other(infer=draws_by_itself)),
    ("11.3", "a half is never moved", infer_with(sampled_rate, flip=False)),
    ("11.3", "the flow is not used", other(infer=no_flow)),
    ("11.3", "the decoder gets another z", other(terms=decodes_z_0)),
    ("11.3", "another rate in terms", other(terms=analytic_terms)),
    ("11.3", "no samples of the prior", other(sample=far_samples)),
    ("11.3", "shape of infer", other(infer=lambda self, x: FlowVAE.infer(self, x)[0])),
    ("11.4", "samples not passed through the flow", prior_with(lambda eps, nets: eps)),
    ("11.4", "log-det sign", prior_with(log_det=-1.0)),
    ("11.4", "no log-determinant", prior_with(log_det=0.0)),
    ("11.4", "density of the noise", prior_with(back=lambda z, nets: (z, 0.0))),
    ("11.4", "layers in the same order", prior_with(back=lambda z, nets: prior_back(z, nets))),
    ("11.4", "no flip on the way back", prior_with(back=lambda z, nets: prior_back(z, reversed(nets), flip=False))),
    ("11.4", "flip undone after the layer", prior_with(back=lambda z, nets: prior_back(z, reversed(nets), after=True))),
    ("11.5", "log_prob(z): a mixture per dimension", prior(log_prob=per_dimension)),
    ("11.5", "log_prob(z): mean of the logarithms", prior(log_prob=mean_of_logs)),
    ("11.5", "another Gaussian for each dimension", prior(sample=one_for_each_dimension)),
    ("11.5", "exp(log_var) as σ", prior(sample=wide)),
    ("11.5", "other weights", prior(sample=equal_weights)),
    ("11.5", "not a parameter", prior(__init__=with_plain_logits)),
    ("11.5", "not a parameter", prior(__init__=with_buffers)),
    ("11.5", "no gradient", prior(log_prob=without_gradient)),
    ("11.6", "unconstrained u", planar_with(lambda u, w: u)),
    ("11.6", "no log", planar_with(hat, lambda slope: (1 + slope).abs())),
    ("11.6", "log-det sign", planar_with(hat, lambda slope: -(1 + slope).abs().log())),
    ("11.7", "the other direction", lambda t_q, t_p: cross_entropies(-t_q, -t_p)),
    ("11.7", "the encoder's side", lambda t_q, t_p: F.softplus(-t_q) - F.softplus(t_p)),
    ("11.7", "the other direction", lambda t_q, t_p: cross_entropies(t_p, t_q)),
]


def test_the_flow_prior_integrates_to_1_and_its_samples_come_from_its_density():
    torch.manual_seed(0)
    nets = nn.ModuleList(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2)).double() for _ in range(3))
    axis = torch.linspace(-12, 12, 801, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        _, log_p = flow_prior(z, z, nets)
        drawn, _ = flow_prior(torch.randn(200_000, 2, dtype=torch.float64), z, nets)
        _, log_of_drawn = flow_prior(drawn, drawn, nets)
    assert math.isclose(log_p.exp().sum().item() * (axis[1] - axis[0]).item() ** 2, 1.0, abs_tol=1e-3)
    box = (drawn.abs() < 0.5).all(1)
    assert math.isclose((box / log_of_drawn.exp()).mean().item(), 1.0, abs_tol=0.03)
