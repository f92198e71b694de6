"""The exercises of notebook 03: right answers pass, wrong ones are told apart."""

import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal

from course_utils.teaching.exercises.notebook_02 import MyVAE
from course_utils.teaching.exercises.notebook_03 import PathwiseVAE, ScoreVAE


def q(mu, log_var):
    return Normal(mu, (0.5 * log_var).exp())


def score_by_autograd(f_values, z, mu, log_var):
    """One backward pass for each sample and dimension."""
    found = torch.zeros(2, *z.shape).to(z)
    for k in range(z.shape[0]):
        leaves = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
        with torch.enable_grad():
            gradients = torch.autograd.grad(q(*leaves).log_prob(z[k]).sum(), leaves)
        found[0, k], found[1, k] = (f_values[k] * g for g in gradients)
    return found[0], found[1]


def score_by_noise(f_values, z, mu, log_var):
    sigma = log_var.exp().sqrt()
    eps = (z - mu) / sigma
    return torch.einsum("k,kl->kl", f_values, eps / sigma), torch.einsum("k,kl->kl", f_values, (eps**2 - 1) / 2)


def scored(score_mu, score_log_var):
    """A wrong 3.1 from two wrong scores, functions of z - mu and sigma."""

    def answer(f_values, z, mu, log_var):
        sigma = (0.5 * log_var).exp()
        return f_values[:, None] * score_mu(z - mu, sigma), f_values[:, None] * score_log_var(z - mu, sigma)

    return answer


def right_mu(d, s):
    return d / s**2


def right_log_var(d, s):
    return 0.5 * ((d / s) ** 2 - 1)


def rsample(mu, log_var):
    return Independent(q(mu, log_var), 1).rsample()


def by_torch_normal(mu, log_var):
    return mu + torch.normal(torch.zeros_like(mu), 1.0) * torch.sqrt(torch.exp(log_var))


def with_noise(shape):
    return lambda mu, log_var: mu + (0.5 * log_var).exp() * torch.randn(shape(mu)).to(mu)


ONCE = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


def drawn_once(mu, log_var):
    """Noise of a global tensor where its shape fits, as in a class that draws it in __init__."""
    return mu + (0.5 * log_var).exp() * (ONCE.to(mu) if mu.shape == ONCE.shape else torch.randn_like(mu))


def put_in(reparameterize=rsample, reconstruct=None):
    methods = {"reparameterize": lambda self, mu, log_var: reparameterize(mu, log_var)}
    return type("Model", (PathwiseVAE,), methods | ({"reconstruct": reconstruct} if reconstruct else {}))


def learning_by(surrogate, draw=lambda d: d.sample()):
    """A ScoreVAE with another surrogate, a function of distortion and log q, or with another draw of z."""

    class Model(MyVAE):
        def loss(self, x):
            mu, log_var = self.encode(x)
            z = draw(q(mu, log_var))
            distortion = F.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1)
            return distortion + surrogate(distortion, q(mu, log_var).log_prob(z).sum(1)) + self.kl(mu, log_var)

    return Model


def magic(distortion, log_q):
    return distortion.detach() * ((log_q - log_q.detach()).exp() - 1)


RIGHT = {
    "3.1": [score_by_autograd, score_by_noise],
    "3.2": [lambda g, v, e: (g * 1.0, g * e * torch.exp(v / 2) / 2), lambda g, v, e: [g, g * (v.exp().sqrt() * e) / 2]],
    "3.3": [rsample, by_torch_normal, with_noise(lambda mu: mu.shape)],
    "3.4": [put_in(), put_in(by_torch_normal, lambda self, x: torch.sigmoid(self.decode(self.encode(x)[0])))],
    "3.5": [learning_by(magic), learning_by(lambda d, lq: d * (lq - lq.detach().clone()))],
}


def open_in_log_q(self, x):
    mu, log_var = self.encode(x)
    z = self.reparameterize(mu, log_var)
    distortion = F.binary_cross_entropy_with_logits(self.decode(z.detach()), x, reduction="none").sum(1)
    log_q = q(mu, log_var).log_prob(z).sum(1)
    return distortion + distortion.detach() * (log_q - log_q.detach()) + self.kl(mu, log_var)


WRONG = [
    ("3.1", "derivative in sigma", scored(right_mu, lambda d, s: (d / s) ** 2 / s - 1 / s)),
    ("3.5", "the gradient of loss(x): the path is open in log q", type("Model", (MyVAE,), {"loss": open_in_log_q})),
    ("3.5", "the gradient of loss(x): log q averaged", learning_by(lambda d, lq: magic(d, lq / 3))),
    ("3.1", "derivative in log sigma", scored(right_mu, lambda d, s: (d / s) ** 2 - 1)),
    ("3.1", "times exp(½ log_var)", scored(lambda d, s: d / s, right_log_var)),
    ("3.1", "sign", scored(lambda d, s: -d / s**2, right_log_var)),
    ("3.1", "a term missing", scored(right_mu, lambda d, s: 0.5 * (d / s) ** 2)),
    ("3.1", "parts exchanged", scored(right_log_var, right_mu)),
    ("3.1", "1 in place of f_values", lambda f, z, mu, v: score_by_noise(torch.ones_like(f), z, mu, v)),
    ("3.1", "summed over K, times 1/K", lambda f, z, mu, v: tuple(g.mean(0) for g in score_by_noise(f, z, mu, v))),
    ("3.1", "other parts", lambda f, z, mu, v: score_by_noise(f, z, mu, v)[0]),
    ("3.2", "derivative in sigma", lambda g, v, e: (g, g * e)),
    ("3.2", "times 2", lambda g, v, e: (g, g * e * (0.5 * v).exp())),
    ("3.2", "times exp(½ log_var)", lambda g, v, e: (g, g * 0.5 * e * v.exp())),
    ("3.2", "1 in place of eps", lambda g, v, e: (g, g * 0.5 * (0.5 * v).exp())),
    ("3.2", "summed over K, times 1/K", lambda g, v, e: (g.mean(0), (g * 0.5 * e * (0.5 * v).exp()).mean(0))),
    ("3.3", "exp(log_var) taken for sigma", lambda mu, v: mu + torch.exp(v) * torch.randn_like(mu)),
    ("3.3", "log_var itself for a function of it", lambda mu, v: mu + v * torch.randn_like(mu)),
    ("3.3", "log(log_var) in place of log_var", lambda mu, v: mu + v.sqrt() * torch.randn_like(mu)),
    ("3.3", "0 in place of log_var", lambda mu, v: mu + torch.randn_like(mu)),
    ("3.3", "mu itself", lambda mu, v: mu.clone()),
    ("3.3", "right on another case", lambda mu, v: mu + (0.5 * v.clamp(-5, 5)).exp() * torch.randn_like(mu)),
    ("3.3", "other noise", lambda mu, v: mu + (0.5 * v).exp() * torch.rand_like(mu)),
    ("3.3", "one noise for every example", with_noise(lambda mu: (1, mu.shape[1]))),
    ("3.3", "one noise for every dimension", with_noise(lambda mu: (mu.shape[0], 1))),
    ("3.3", "one noise for every call", drawn_once),
    ("3.3", "no gradient", lambda mu, v: q(mu, v).sample()),
    ("3.3", "no gradient", lambda mu, v: rsample(mu, v.detach())),
    ("3.4", "methods missing", type("Model", (MyVAE,), {"reparameterize": lambda self, *codes: rsample(*codes)})),
    (
        "3.4",
        "reparameterize(mu, log_var): 2·log_var in place of log_var",
        put_in(lambda mu, v: mu + v.exp() * torch.randn_like(mu)),
    ),
    ("3.4", "one noise for every example", put_in(with_noise(lambda mu: (1, mu.shape[1])))),
    ("3.4", "no gradient", put_in(lambda mu, v: q(mu, v).sample())),
    ("3.4", "reconstruct(x): logit", put_in(reconstruct=lambda self, x: self.decode(self.encode(x)[0]))),
    ("3.4", "reconstruct draws", put_in(reconstruct=lambda s, x: s.decode(rsample(*s.encode(x))).sigmoid())),
    ("3.5", "the gradient of loss(x): the rate alone", learning_by(lambda d, lq: 0)),
    ("3.5", "the gradient of loss(x): the path alone", MyVAE),
    (
        "3.5",
        "the gradient of loss(x): the path is open",
        learning_by(lambda d, lq: d.detach() * (lq - lq.detach()), lambda d: d.rsample()),
    ),
    ("3.5", "the value of loss(x): another value", learning_by(lambda d, lq: d.detach() * lq)),
    ("3.5", "the gradient of loss(x): sign", learning_by(lambda d, lq: d.detach() * (lq.detach() - lq))),
    (
        "3.5",
        "not one loss for each image",
        type("Model", (ScoreVAE,), {"loss": lambda s, x: ScoreVAE.loss(s, x).mean()}),
    ),
]
