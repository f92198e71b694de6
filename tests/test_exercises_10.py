"""The exercises of notebook 10: right answers pass, wrong ones are told apart."""

import math

import torch
from torch.distributions import Bernoulli, Normal

from course_utils.losses.terms import gaussian_kl
from course_utils.teaching.exercises import grade
from course_utils.teaching.exercises.notebook_06 import VAE
from course_utils.teaching.exercises.notebook_10 import IWAE

# The IWAE -------------------------------------------------------------------------------------------------


class ByLoop(VAE):
    """One code at a time, with torch.distributions."""

    def __init__(self, latent_dim, hidden=400, k=5):
        super().__init__(latent_dim, hidden)
        self.k = k

    def log_weights(self, x, k):
        mu, log_var = self.encode(x)
        q, prior, rows = Normal(mu, log_var.div(2).exp()), Normal(torch.zeros_like(mu), 1.0), []
        for _ in range(k):
            z = self.reparameterize(mu, log_var)
            p = Bernoulli(logits=self.decode(z), validate_args=False)
            rows.append(p.log_prob(x).sum(1) + (prior.log_prob(z) - q.log_prob(z)).sum(1))
        return torch.stack(rows)

    def loss(self, x):
        w = self.log_weights(x, self.k)
        top = w.detach().max(0).values
        return -(top + (w - top).exp().mean(0).log())


def other(**methods):
    """The course's IWAE with these methods exchanged."""
    return type("IWAE", (IWAE,), methods)


def loss_of(bound):
    return other(loss=lambda self, x: -bound(self.log_weights(x, self.k)))


def log_px(self, x, k, *, shared=False, mean=False):
    mu, log_var = self.encode(x)
    z = self.reparameterize(mu, log_var).expand(k, -1, -1) if shared else None
    if z is None:
        z = torch.stack([mu if mean else self.reparameterize(mu, log_var) for _ in range(k)])
    p = Bernoulli(logits=self.decode(z), validate_args=False).log_prob(x).sum(-1)
    return p, z, mu, log_var


def kl_inside(self, x, k):
    p, _, mu, log_var = log_px(self, x, k)
    return p - gaussian_kl(mu, log_var)


def one_noise(self, x, k):
    p, z, mu, log_var = log_px(self, x, k, shared=True)
    return p + (Normal(0.0, 1.0).log_prob(z) - Normal(mu, (0.5 * log_var).exp()).log_prob(z)).sum(-1)


def q_added(self, x, k):
    p, z, mu, log_var = log_px(self, x, k)
    return p + (Normal(0.0, 1.0).log_prob(z) + Normal(mu, (0.5 * log_var).exp()).log_prob(z)).sum(-1)


# Surrogates -----------------------------------------------------------------------------------------------


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx, value, factor):
        ctx.save_for_backward(factor)
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None


def with_the_bound_itself(log_w, z):
    shares = (log_w - log_w.logsumexp(0)).exp().detach().unsqueeze(-1)
    z.register_hook(lambda g: g * shares)
    return -(log_w.logsumexp(0) - math.log(len(log_w)))


def with_a_hook(change):
    """The shares in the loss, and change(gradient, shares) on the way from z to the encoder."""

    def surrogate(log_w, z):
        s = torch.softmax(log_w.detach(), 0)
        z.register_hook(lambda g: change(g, s))
        return -torch.einsum("kb,kb->b", s, log_w)

    return surrogate


def by_parts(log_w, z):
    """Without a hook: the gradient at z is taken apart and put on again with the second share."""
    s = torch.softmax(log_w.detach(), 0)
    (g,) = torch.autograd.grad(log_w.sum(), z, create_graph=False, retain_graph=True)
    extra = ((s.square() - s)[..., None] * g * (z - z.detach())).sum((0, 2))
    return -(s * log_w).sum(0) - extra


def mixture(log_px, log_p, log_q):
    both = torch.stack([log_p, log_q]).logsumexp(0) + math.log(0.5)
    return log_px - both + log_p


RIGHT = {
    "10.1": [
        lambda j, area: (j + math.log(area)).logsumexp(0),
        lambda j, area: j.max(0).values + ((j - j.max(0).values).exp().sum(0) * area).log(),
    ],
    "10.2": [mixture],
    "10.3": [ByLoop],
    "10.4": [lambda g: torch.sqrt(g.mean(0) ** 2 / g.var(0)), lambda g: (abs(g.mean(0)) / g.std(0)).tolist()],
    "10.5": [
        lambda log_w: (log_w - log_w.logsumexp(0)).exp().detach(),
        lambda log_w: torch.softmax(log_w, 0).clone().detach(),
    ],
    "10.6": [with_the_bound_itself, by_parts],
}
WRONG = [
    ("10.1", "area left out", lambda j, area: torch.logsumexp(j, 0)),
    ("10.1", "mean over the grid", lambda j, area: j.logsumexp(0) - math.log(j.shape[0])),
    ("10.1", "out of range", lambda j, area: torch.log((j.exp() * area).sum(0))),
    ("10.1", "no gradient", lambda j, area: j.detach().logsumexp(0) + math.log(area)),
    ("10.2", "q alone", lambda x, p, q: x + p - q),
    ("10.2", "the mean of the logs", lambda x, p, q: x + p / 2 - q / 2),
    ("10.2", "minus log 2", lambda x, p, q: x + p - torch.logaddexp(p, q)),
    ("10.2", "out of range", lambda x, p, q: x + p - ((p.exp() + q.exp()) / 2).log()),
    ("10.3", "mean of the logs", loss_of(lambda w: w.mean(0))),
    ("10.3", "log k is missing", loss_of(lambda w: w.logsumexp(0))),
    ("10.3", "the other sign", loss_of(lambda w: math.log(len(w)) - w.logsumexp(0))),
    ("10.3", "losses in the softmax", loss_of(lambda w: ((-w).softmax(0) * w).sum(0))),
    ("10.3", "log_weights(x, 4): closed-form KL", other(log_weights=kl_inside)),
    ("10.3", "the same noise for all", other(log_weights=one_noise)),
    ("10.3", "shape of log_weights", other(log_weights=lambda self, x, k: IWAE.log_weights(self, x, k).T)),
    ("10.3", "shape of loss", loss_of(lambda w: (w.logsumexp(0) - math.log(len(w))).mean())),
    ("10.3", "another loss", other(loss=lambda self, x: VAE.loss(self, x))),
    ("10.3", "log_weights(x, 4): too small", other(log_weights=q_added)),
    ("10.4", "a factor missing", lambda g: g.mean(0).abs()),
    ("10.4", "abs missing", lambda g: g.mean(0) / g.std(0)),
    ("10.5", "losses in the softmax", lambda log_w: torch.softmax(-log_w, 0).detach()),
    ("10.5", "over the batch", lambda log_w: torch.softmax(log_w, -1).detach()),
    ("10.5", "not detached", lambda log_w: torch.softmax(log_w, 0)),
    ("10.5", "out of range", lambda log_w: (log_w.exp() / log_w.exp().sum(0)).detach()),
    ("10.6", "no second share", lambda log_w, z: math.log(len(log_w)) - log_w.logsumexp(0)),
    ("10.6", "squares for the decoder too", lambda log_w, z: -(log_w.detach().softmax(0) ** 2 * log_w).sum(0)),
    ("10.6", "a share too many", with_a_hook(lambda g, s: torch.einsum("kb,kbl->kbl", s * s, g))),
    ("10.6", "shares not detached", lambda log_w, z: -(log_w.softmax(0) ** 2 * log_w).sum(0)),
    ("10.6", "shape of the loss", lambda log_w, z: -(log_w.softmax(0) * log_w).sum()),
    ("10.6", "no gradient", lambda log_w, z: -log_w.detach().logsumexp(0)),
]


def test_an_error_of_the_learners_in_the_backward_pass_is_no_traceback():
    result = grade("10.6", with_a_hook(lambda g, s: g * s))
    assert result.status == "raised" and "has changed the size" in result.message and "(K, B, L)" in result.message
