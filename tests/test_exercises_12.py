"""The exercises of notebook 12: right answers pass, wrong ones are told apart."""

import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from course_utils.losses.information import batch_rate_parts, mixture_log_weights
from course_utils.losses.information import log_densities as of_the_package
from course_utils.losses.information import mmd as mmd_of_the_package
from course_utils.teaching.exercises.notebook_06 import VAE
from course_utils.teaching.exercises.notebook_12 import TCVAE, log_densities, mixture_weights, rate_parts

# Densities and parts ----------------------------------------------------------------------------------------


def by_distributions(z, mu, log_var):
    return Normal(mu, (log_var / 2).exp()).log_prob(z.unsqueeze(1))


def by_exponentials(log_own, log_q, log_w, log_p):
    weights = log_w.exp()
    joint = (weights * log_q.sum(-1).exp()).sum(-1).log()
    each = torch.einsum("mn,mnl->ml", weights, log_q.exp()).log().sum(-1)
    return log_own.sum(-1) - joint, joint - each, each - log_p.sum(-1)


def turned(log_own, log_q, log_w, log_p):
    return [-part for part in rate_parts(log_own, log_q, log_w, log_p)]


def mean_of_logs(log_own, log_q, log_w, log_p):
    w = log_w.exp()
    joint, each = torch.einsum("mn,mnl->m", w, log_q), torch.einsum("mn,mnl->ml", w, log_q).sum(1)
    return log_own.sum(1) - joint, joint - each, each - log_p.sum(1)


def marginals_only(log_own, log_q, log_w, log_p):
    each = torch.logsumexp(log_w.unsqueeze(2) + log_q, 1).sum(1)
    return log_own.sum(1) - each, 0 * each, each - log_p.sum(1)


# Weights ----------------------------------------------------------------------------------------------------


def by_where(batch_size, size):
    eye = torch.eye(batch_size)
    return eye / size + (1 - eye) * (1 - 1 / size) / (batch_size - 1)


def with_stride(batch_size, size):
    weights = torch.empty(batch_size * batch_size).fill_((size - 1) / size / (batch_size - 1))
    weights[::batch_size] = 1 / size
    return weights.view(batch_size, batch_size)


def others_have_all(batch_size, size):
    eye = torch.eye(batch_size)
    return eye / size + (1 - eye) / (batch_size - 1)


# MMD --------------------------------------------------------------------------------------------------------


def by_loops(x, y, width):
    def k(a, b):
        return torch.exp(-(a - b).square().sum() / (2 * width**2))

    pairs_x = torch.stack([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    pairs_y = torch.stack([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return pairs_x.mean() + pairs_y.mean() - 2 * torch.stack([k(a, b) for a in x for b in y]).mean()


def with_diagonal(x, y, width):
    return mmd_of_the_package(x, y, width=width, unbiased=False)


def one_number(x, y, width):
    def k(a, b):
        return torch.exp(-torch.cdist(a, b).square().mean() / 2 / width**2)

    return k(x, x) + k(y, y) - 2 * k(x, y)


def of_the_distance(x, y, width):
    def k(a, b, same):
        kernel = torch.exp(-(a.unsqueeze(1) - b).norm(dim=-1) / 2 / width**2)
        return kernel[~torch.eye(len(a), dtype=torch.bool)].mean() if same else kernel.mean()

    return k(x, x, True) + k(y, y, True) - 2 * k(x, y, False)


# The build --------------------------------------------------------------------------------------------------


class ByThePackage(VAE):
    """Another way to write it: torch.distributions, and the package's parts."""

    def __init__(self, latent_dim, size, beta, hidden=400):
        super().__init__(latent_dim, hidden=hidden)
        self.size, self.extra = size, beta - 1

    def total_correlation(self, z, mu, log_var):
        return batch_rate_parts(z, mu, log_var, self.size).total_correlation

    def loss(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        log_px = Bernoulli(logits=self.decode(z), validate_args=False).log_prob(x).sum(-1)
        kl = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(-1)
        return kl - log_px + self.extra * self.total_correlation(z, mu, log_var)


def other(**methods):
    """The course's TCVAE with these methods exchanged."""
    return type("TCVAE", (TCVAE,), methods)


def with_weights(weights):
    def total_correlation(self, z, mu, log_var):
        log_q = log_densities(z, mu, log_var)
        log_w = weights(len(z), self.size).log().to(z)
        return rate_parts(log_q.diagonal().T, log_q, log_w, z)[1]

    return other(total_correlation=total_correlation)


def with_beta(self, x):
    mu, log_var = self.encode(x)
    z = self.reparameterize(mu, log_var)
    recon = nn.functional.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1)
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
    return recon + kl + self.beta * self.total_correlation(z, mu, log_var)


def deaf(self, x):
    stand_in = TCVAE.total_correlation
    mu, log_var = self.encode(x)
    z = self.reparameterize(mu, log_var)
    recon = nn.functional.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1)
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
    return recon + kl + (self.beta - 1) * stand_in(self, z, mu, log_var)


def sampled(self, x):
    """All three parts, the total correlation beta times: sampled at z."""
    mu, log_var = self.encode(x)
    z = self.reparameterize(mu, log_var)
    information, _, by_dimension = batch_rate_parts(z, mu, log_var, self.size)[:3]
    recon = nn.functional.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1)
    return recon + information + self.beta * self.total_correlation(z, mu, log_var) + by_dimension


def charged(detached=(), decoded=lambda z: z):
    """The loss with some of z, mu and log_var detached on the way to the total correlation."""

    def loss(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        given = [t.detach() if i in detached else t for i, t in enumerate((z, mu, log_var))]
        log_px = Bernoulli(logits=self.decode(decoded(z)), validate_args=False).log_prob(x).sum(-1)
        kl = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(-1)
        return kl - log_px + (self.beta - 1) * self.total_correlation(*given)

    return loss


def draws_twice(self, x):
    mu, log_var = self.encode(x)
    z = self.reparameterize(mu, log_var)
    return VAE.loss(self, x) + (self.beta - 1) * self.total_correlation(z, mu, log_var)


# The gap ----------------------------------------------------------------------------------------------------


def by_sorting(information, entropy):
    ordered = information.sort(dim=0, descending=True).values / entropy
    return (ordered[0] - ordered[1]).mean()


def by_view(information, entropy):
    columns = information.reshape(entropy.shape[0], -1).sort(dim=1, descending=True).values
    return ((columns[:, 0] - columns[:, 1]) / entropy).mean()


RIGHT = {
    "12.1": [by_distributions, of_the_package],
    "12.2": [by_exponentials],
    "12.3": [by_where, lambda batch_size, size: mixture_log_weights(batch_size, size).exp()],
    "12.4": [by_loops, lambda x, y, width: mmd_of_the_package(x, y, width=width)],
    "12.5": [ByThePackage],
    "12.6": [by_sorting],
}
WRONG = [
    ("12.1", "summed over L", lambda z, mu, lv: by_distributions(z, mu, lv).sum(-1)),
    ("12.1", "2·log_var in place of log_var", lambda z, mu, lv: Normal(mu, lv.exp()).log_prob(z[:, None])),
    ("12.2", "sign", turned),
    ("12.2", "mean of the logs", mean_of_logs),
    ("12.2", "marginals for the joint", marginals_only),
    ("12.3", "a column in place of the diagonal", with_stride),
    ("12.3", "1/(N·B) for all", lambda b, n: torch.ones(b, b) / (n * b)),
    ("12.3", "the batch for the data", lambda b, n: torch.ones(b, b) / b),
    ("12.3", "the others have 1 together", others_have_all),
    ("12.4", "biased", with_diagonal),
    ("12.4", "sign", lambda x, y, width: -by_loops(x, y, width)),
    ("12.4", "a kernel of one number", one_number),
    ("12.4", "the distance, not its square", of_the_distance),
    (
        "12.5",
        "total_correlation(z, mu, log_var): the batch for the data",
        with_weights(lambda b, n: torch.ones(b, b) / b),
    ),
    (
        "12.5",
        "total_correlation(z, mu, log_var): cut off at 0",
        other(total_correlation=lambda self, *c: TCVAE.total_correlation(self, *c).relu()),
    ),
    ("12.5", "loss(x): the KL at one sample", other(loss=sampled)),
    ("12.5", "no gradient of the total correlation", other(total_correlation=torch.no_grad()(TCVAE.total_correlation))),
    ("12.5", "no gradient of the total correlation", other(loss=charged(detached=(0, 1, 2)))),
    ("12.5", "another gradient", other(loss=charged(detached=(0,)))),
    ("12.5", "another gradient", other(loss=charged(detached=(1, 2)))),
    ("12.5", "another gradient", other(loss=charged(decoded=torch.detach))),
    ("12.5", "weight of the total correlation", other(loss=with_beta)),
    ("12.5", "two draws of z", other(loss=draws_twice)),
    ("12.5", "loss without self.total_correlation", other(loss=deaf)),
    ("12.6", "a view for a transpose", by_view),
    (
        "12.6",
        "not a share of the entropy",
        lambda i, h: (i.sort(dim=0).values[-1] - i.sort(dim=0).values[-2]).mean(),
    ),
]


def test_the_weights_mix_to_one_and_the_column_passes_the_same_test():
    """The sums of rows do not tell the right matrix from the wrong one; the diagonal does."""
    for weights in (mixture_weights(5, 40), with_stride(5, 40)):
        torch.testing.assert_close(weights.sum(1), torch.ones(5))
    torch.testing.assert_close(mixture_weights(5, 40).diag(), torch.full((5,), 1 / 40))
    assert (with_stride(5, 40).diag()[1:] > 0.2).all()
