"""The exercises of notebook 15: right answers pass, wrong ones are told apart."""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import evaluation, losses
from course_utils.models import MaskedConv2d
from course_utils.teaching.exercises import grade
from course_utils.teaching.exercises.notebook_06 import VAE
from course_utils.teaching.exercises.notebook_15 import PixelVAE, adversarial_terms, causal_mask, precision_recall

# Measures -----------------------------------------------------------------------------------------------------


def by_symmetric_roots(a, b):
    return torch.tensor(evaluation.frechet_distance(a, b))


def unsquared(a, b):
    c, d = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(c @ d).real.clamp(min=0).sqrt()
    return (a.mean(0) - b.mean(0)).norm() + c.trace() + d.trace() - 2 * roots.sum()


def images_for_features(a, b):
    c, d = torch.cov(a), torch.cov(b)
    roots = torch.linalg.eigvals(c @ d).real.clamp(min=0).sqrt()
    return (a.mean(0) - b.mean(0)).square().sum() + c.trace() + d.trace() - 2 * roots.sum()


def of_no_known_kind(a, b):  # no known mistake, so that the finder of relations has to look
    c, d = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(c @ d).real.clamp(min=0).sqrt()
    return (a.mean(0) - b.mean(0)).norm() + c.trace() + d.trace() - 3 * roots.sum()


def of_nothing(a, b):
    return torch.linalg.eigvals(torch.full((4, 4), torch.nan, dtype=a.dtype)).real.sum()


def diagonal(a, b):
    return ((a.mean(0) - b.mean(0)) ** 2 + a.var(0) + b.var(0) - 2 * (a.var(0) * b.var(0)).sqrt()).sum()


def rootless(a, b):
    c, d = torch.cov(a.T), torch.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + torch.trace(c + d - 2 * c @ d)


def root_of_the_trace(a, b):
    c, d = torch.cov(a.T), torch.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + torch.trace(c) + torch.trace(d) - 2 * torch.trace(c @ d) ** 0.5


def root_of_entries(a, b):
    c, d = torch.cov(a.T), torch.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + torch.trace(c + d - 2 * (c @ d).clamp(min=0) ** 0.5)


def radius_of_the_other(real, fake, k):
    def share(points, others):
        radius = torch.cdist(points, points).kthvalue(k + 1, dim=1).values
        return (torch.cdist(points, others) <= radius).any(1).double().mean()

    return share(fake, real), share(real, fake)


def own_ball(real, fake, k):
    def share(points, others):
        radius = torch.cdist(points, points).kthvalue(k + 1, dim=1, keepdim=True).values
        return (torch.cdist(points, others) <= radius).any(1).double().mean()

    return share(fake, real), share(real, fake)


def radius_in_rows(real, fake, k):
    def share(points, others):
        radius = torch.cdist(others, others).kthvalue(k + 1, dim=1, keepdim=True).values
        return (torch.cdist(points, others) <= radius).any(1).double().mean()

    return share(fake, real), share(real, fake)


def with_self(real, fake, k):
    def share(points, others):
        radius = torch.cdist(others, others).kthvalue(k, dim=1).values
        return (torch.cdist(points, others) <= radius).any(1).double().mean()

    return share(fake, real), share(real, fake)


def quadrant(size):
    mask = torch.zeros(size, size)
    mask[: size // 2 + 1, : size // 2 + 1] = 1
    mask[size // 2, size // 2] = 0
    return mask


def edge_left_out(real, fake, k):
    def share(points, others):
        radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values
        return (torch.cdist(points, others) < radius).any(1).double().mean()

    return share(fake, real), share(real, fake)


def share_of_balls(real, fake, k):
    def share(points, others):
        radius = torch.cdist(others, others).kthvalue(k + 1, dim=1).values
        return (torch.cdist(points, others) <= radius).any(0).double().mean()

    return share(fake, real), share(real, fake)


# The decoder --------------------------------------------------------------------------------------------------


class WithTheCoursesLayer(VAE):
    """Another way to write it: the package's masked convolution."""

    def __init__(self, latent_dim, size=7, hidden=400):
        super().__init__(latent_dim, hidden)
        self.before = MaskedConv2d(1, 16, size, "A")
        self.told, self.last = nn.Conv2d(1, 16, kernel_size=1), nn.Conv2d(16, 1, kernel_size=1)

    def decode(self, z, x):
        own = self.decoder(z).unflatten(1, (1, 28, 28))
        h = torch.relu(self.before(x.unflatten(1, (1, 28, 28))) + self.told(own))
        return torch.flatten(own + self.last(h), 1)

    def terms(self, x):
        mu, log_var = self.encode(x)
        logits = self.decode(self.reparameterize(mu, log_var), x)
        return losses.bernoulli_nll(logits, x), losses.gaussian_kl(mu, log_var)


def other(**methods):
    """The course's PixelVAE with these methods exchanged."""
    return type("PixelVAE", (PixelVAE,), methods)


def decode_with(mask):
    def decode(self, z, x):
        own = self.decoder(z).view(-1, 1, 28, 28)
        weight = self.before.weight * mask(self.before.kernel_size[0])
        seen = F.conv2d(x.view(-1, 1, 28, 28), weight, self.before.bias, padding=self.before.padding)
        return (own + self.last(F.relu(seen + self.told(own)))).flatten(1)

    return other(decode=decode)


def with_middle(size):
    mask = causal_mask(size).clone()
    mask[size // 2, size // 2] = 1
    return mask


class MaskedOnce(PixelVAE):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        with torch.no_grad():
            self.before.weight.mul_(self.mask)

    def decode(self, z, x):
        own = self.decoder(z).view(-1, 1, 28, 28)
        return (own + self.last(F.relu(self.before(x.view(-1, 1, 28, 28)) + self.told(own)))).flatten(1)


# Terms --------------------------------------------------------------------------------------------------------


def by_the_package(features, x_hat, x):
    return losses.feature_distance(features, x_hat, x)


def silent(features, x_hat, x):
    with torch.no_grad():
        came = features(x_hat)
    return (came - features(x)).square().sum(1)


def by_cross_entropy(model, discriminator, x, z):
    decoded = torch.sigmoid(model.decode(z.detach()))

    def bce(logits, label):
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")

    own = bce(discriminator(decoded), 1.0)
    return own, bce(discriminator(x), 1.0) + bce(discriminator(decoded.detach()), 0.0)


def into_the_encoder(model, discriminator, x, z):
    decoded = torch.sigmoid(model.decode(z))
    told = F.softplus(-discriminator(x)) + F.softplus(discriminator(decoded.detach()))
    return F.softplus(-discriminator(decoded)), told


def through_a_detached_image(model, discriminator, x, z):
    decoded = torch.sigmoid(model.decode(z)).detach()
    return F.softplus(-discriminator(decoded)), F.softplus(-discriminator(x)) + F.softplus(discriminator(decoded))


def nothing_detached_for_the_critic(model, discriminator, x, z):
    decoded = torch.sigmoid(model.decode(z.detach()))
    return F.softplus(-discriminator(decoded)), F.softplus(-discriminator(x)) + F.softplus(discriminator(decoded))


def logits_shown(model, discriminator, x, z):
    decoded = model.decode(z.detach())
    told = F.softplus(-discriminator(x)) + F.softplus(discriminator(decoded.detach()))
    return F.softplus(-discriminator(decoded)), told


def saturating(model, discriminator, x, z):
    _, told = by_cross_entropy(model, discriminator, x, z)
    return -F.softplus(discriminator(torch.sigmoid(model.decode(z.detach())))), told


def labels_exchanged(model, discriminator, x, z):
    return by_cross_entropy(model, lambda images: -discriminator(images), x, z)


def decoded_alone(model, discriminator, x, z):
    own, _ = by_cross_entropy(model, discriminator, x, z)
    return own, F.softplus(discriminator(torch.sigmoid(model.decode(z)).detach()))


RIGHT = {
    "15.1": [by_symmetric_roots],
    "15.2": [lambda real, fake, k: evaluation.precision_recall(real, fake, k=k)],
    "15.3": [lambda size: MaskedConv2d(1, 1, size, "A").mask],
    "15.4": [WithTheCoursesLayer],
    "15.5": [by_the_package],
    "15.6": [by_cross_entropy],
}
WRONG = [
    ("15.1", "no matrix root", rootless),
    ("15.1", "variances for covariances", diagonal),
    ("15.1", "the distance of the means, not its square", unsquared),
    ("15.1", "images for features", images_for_features),
    ("15.1", "the root of the trace", root_of_the_trace),
    ("15.1", "the root of each entry", root_of_entries),
    ("15.2", "the radius of the wrong set", radius_of_the_other),
    ("15.2", "the ball around the point asked about", own_ball),
    ("15.2", "the radius of the wrong point", radius_in_rows),
    ("15.2", "the edge left out", edge_left_out),
    ("15.2", "the share of balls", share_of_balls),
    ("15.2", "self counted as a neighbour", with_self),
    ("15.2", "precision and recall exchanged", lambda real, fake, k: precision_recall(fake, real, k)),
    ("15.3", "keeps the middle", with_middle),
    ("15.3", "the pixels after", lambda size: causal_mask(size).rot90(2)),
    ("15.3", "columns before rows", lambda size: causal_mask(size).T),
    ("15.3", "only up and left", quadrant),
    ("15.3", "a triangle", lambda size: (torch.arange(size)[:, None] > torch.arange(size)).float()),
    (
        "15.3",
        "only rows above",
        lambda size: torch.cat([torch.ones(size // 2, size), torch.zeros(size // 2 + 1, size)]),
    ),
    ("15.4", "sees its own pixel", decode_with(with_middle)),
    ("15.4", "sees its own pixel", decode_with(lambda size: torch.ones(size, size))),
    ("15.4", "sees its own pixel after three training steps", MaskedOnce),
    ("15.4", "sees nothing", other(decode=lambda self, z, x: self.decoder(z))),
    ("15.5", "averaged over features", lambda f, x_hat, x: F.mse_loss(f(x_hat), f(x), reduction="none").mean(1)),
    ("15.5", "no gradient", silent),
    ("15.5", "not squared", lambda f, x_hat, x: F.l1_loss(f(x_hat), f(x), reduction="none").sum(1)),
    ("15.5", "pixels", lambda f, x_hat, x: F.mse_loss(x_hat, x, reduction="none").sum(1)),
    ("15.6", "the discriminator's gradient into the encoder", into_the_encoder),
    ("15.6", "the generator's loss through a detached image", through_a_detached_image),
    ("15.6", "the decoder is told apart", nothing_detached_for_the_critic),
    ("15.6", "logits of pixels", logits_shown),
    ("15.6", "the saturating loss", saturating),
    ("15.6", "the labels exchanged", labels_exchanged),
    ("15.6", "real images forgotten", decoded_alone),
    ("15.6", "the roles exchanged", lambda *case: adversarial_terms(*case)[::-1]),
]


def test_eigenvalues_of_nan_are_an_error_and_not_the_end_of_the_process():
    """LAPACK may end the process there; the finder of relations, too, tries inputs that lead to NaN."""
    before = torch.linalg.eigvals
    assert grade("15.1", of_nothing).status == "raised"
    assert grade("15.1", of_no_known_kind).status == "not yet"
    assert torch.linalg.eigvals is before


def test_the_builds_mask_is_that_of_the_package():
    for size in (1, 3, 5, 7):
        torch.testing.assert_close(causal_mask(size), MaskedConv2d(1, 1, size, "A").mask)
