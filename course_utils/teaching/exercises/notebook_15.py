"""The exercises of notebook 15, sharper images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._attempt import Attempt, NotYet
from ._build import Build, fixed_noise, gradients_reach_all, has, same_numbers, shapes, trains
from ._exercise import Draw, Exercise
from .notebook_02 import _rate
from .notebook_06 import VAE


def frechet_distance(a, b):
    """Return |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), from the means and covariances of features.

    The trace of the root is the sum of the roots of the eigenvalues of C_a C_b. They are real and not
    negative, apart from rounding, though torch.linalg.eigvals gives complex numbers.

    a, b:   (n, F), features of two sets of n images
    result: one number
    """
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return means + cov_a.trace() + cov_b.trace() - 2 * roots.sum()


def precision_recall(real, fake, k):
    """Return precision and recall of fake images, by their features.

    Point a lies among a set if, for some b of it, a is at most as far from b as b's k-th nearest
    neighbour in the set is; b is no neighbour of itself.
    Precision: the share of fake points that lie among the real ones. Recall: of real ones among the fake.

    real, fake: (n, F)
    k:          a whole number
    result:     two numbers, precision and recall
    """

    def among(points, others):
        radius = torch.cdist(others, others).topk(k + 1, largest=False).values[:, k]  # (n,)
        return (torch.cdist(points, others) <= radius).any(1).float().mean()

    return among(fake, real), among(real, fake)


def causal_mask(size):
    """Return the mask of a convolution that sees only pixels before its own, in the order of reading.

    size:   an odd number, the height and width of the kernel; its own pixel is in the middle
    result: (size, size), 1 where the kernel may look and 0 elsewhere
    """
    mask = torch.zeros(size * size)
    mask[: size * size // 2] = 1
    return mask.view(size, size)


class PixelVAE(VAE):
    """Your VAE, whose decoder also sees the pixels before each pixel, in a window of size x size.

    self.before: convolution of the image, size x size, from 1 to 16 channels, its kernels times causal_mask(size)
    self.told:   convolution of your decoder's logits as an image, 1 x 1, from 1 to 16 channels
    self.last:   convolution, 1 x 1, from 16 channels to 1. All have a bias, and images stay 28 x 28.
    """

    def __init__(self, latent_dim, size=7, hidden=400):
        super().__init__(latent_dim, hidden)
        self.register_buffer("mask", causal_mask(size))
        self.before = nn.Conv2d(1, 16, size, padding=size // 2)
        self.told, self.last = nn.Conv2d(1, 16, 1), nn.Conv2d(16, 1, 1)

    def decode(self, z, x):  # -> logits (B, 784): those of z, and the correction
        own = self.decoder(z).view(-1, 1, 28, 28)
        kernels = self.before.weight * self.mask
        seen = F.conv2d(x.view(-1, 1, 28, 28), kernels, self.before.bias, padding=self.before.padding)
        return (own + self.last(F.relu(seen + self.told(own)))).flatten(1)

    def terms(self, x):  # -> recon, kl: distortion and rate, (B,) each, nats
        mu, log_var = self.encode(x)
        logits = self.decode(self.reparameterize(mu, log_var), x)
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return recon, 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)


def feature_loss(features, x_hat, x):
    """Return the squared distance of two images in a network's features, as a term beside a KL in nats.

    features:  a function from images (B, D) to features (B, F)
    x_hat, x:  (B, D), decoded images and true ones; only the decoded ones learn
    result:    (B,)
    """
    return (features(x_hat) - features(x).detach()).square().sum(1)


def adversarial_terms(model, discriminator, x, z):
    """Return what the decoder and what the discriminator should lower, for each image.

    Images decoded from z are model.decode(z).sigmoid(). The discriminator gives a logit (B,) for images (B, D):
    log-odds that they are real. The decoder lowers -log D(decoded), and its term teaches the encoder nothing.
    The discriminator lowers the cross-entropy of both, real and decoded, and its term teaches the model nothing.

    x, z:   (B, D) and (B, L), real images, and codes drawn from q(z|x)
    result: two tensors (B,), the decoder's term and the discriminator's
    """
    decoded = model.decode(z.detach()).sigmoid()
    fooled = F.softplus(-discriminator(decoded))
    told_apart = F.softplus(-discriminator(x)) + F.softplus(discriminator(decoded.detach()))
    return fooled, told_apart


# Wrong answers with words of their own --------------------------------------------------------------------


def _distance(a, b, trace_of_root):
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    return (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace_of_root(cov_a, cov_b)


def _apart(a, b):
    return (a.mean(0) - b.mean(0)).norm()


def _among(points, others, radius_of, k):
    radius = torch.cdist(radius_of, radius_of).sort(1).values[:, k]
    return (torch.cdist(points, others) <= radius).any(1).float().mean()


def _own_counted(real, fake, k):
    return _among(fake, real, real, k - 1), _among(real, fake, fake, k - 1)


def _point_counts(points, others, k):
    """A ball around each point itself, with its radius in its own set."""
    radius = torch.cdist(points, points).sort(1).values[:, k]
    return (torch.cdist(points, others) <= radius[:, None]).any(1).float().mean()


def _row_counts(points, others, k):
    """The set's own radii, laid along the points."""
    radius = torch.cdist(others, others).sort(1).values[:, k]
    return (torch.cdist(points, others) <= radius[:, None]).any(1).float().mean()


def _within(points, others, k, inside=torch.le, dim=1):
    radius = torch.cdist(others, others).sort(1).values[:, k]
    return inside(torch.cdist(points, others), radius).any(dim).float().mean()


_ON_THE_EDGE = torch.tensor([[0.0], [2.0], [5.0], [9.0]]), torch.tensor([[-2.0], [4.0], [7.0], [14.0]]), 1


# What is asked besides the numbers ------------------------------------------------------------------------


class _Decoder(nn.Module):
    """A small decoder, 2 → 5, for the cases."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, 2, generator=generator, dtype=torch.float64))

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.weight.T

    def __repr__(self) -> str:
        return "a decoder"


class _Logit(nn.Module):
    """A small discriminator, 5 → a logit."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight)

    def __repr__(self) -> str:
        return "a discriminator"


class _Features(nn.Module):
    """Features for the cases, D → 3."""

    def __init__(self, size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(size)
        self.weight = nn.Parameter(torch.randn(3, size, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight.T)

    def __repr__(self) -> str:
        return "a network"


def _who_learns(attempt: Attempt, cases: list[tuple]) -> None:
    """Each term by itself: whose weights, and whose codes, get a gradient from it."""
    for term in (0, 1):
        model, discriminator, x, z = (attempt.prepare(argument) for argument in cases[-1])
        z.requires_grad_()
        found = attempt.run(attempt.answer, model, discriminator, x, z, doing="to see who learns from which term")
        value = found[term].sum()
        given = (z, model.weight, discriminator.weight)
        grads = torch.autograd.grad(value, given, allow_unused=True) if value.requires_grad else (None,) * 3
        to_z, to_decoder, to_critic = (g is not None and bool(g.any()) for g in grads)
        if term == 0 and not to_decoder:
            raise NotYet(
                "the generator's loss through a detached image",
                "The numbers are right, but the decoder's term gives no gradient to the decoder's weights: the images "
                "were cut off from them, by a detach or a no_grad. Detach the code, not what is decoded from it.",
            )
        if term == 0 and to_z:
            raise NotYet(
                "the discriminator's gradient into the encoder",
                "The numbers are right, but the decoder's term has a gradient at z: the encoder would move codes to "
                "where the decoder fools best, and the KL pays for it. Where must z be detached?",
            )
        if term == 1 and to_decoder:
            raise NotYet(
                "the decoder is told apart",
                "The numbers are right, but the discriminator's term reaches the decoder, which would learn to be "
                "told apart. Which images must be detached there?",
            )
        if term == 1 and not to_critic:
            raise NotYet(
                "the discriminator does not learn",
                "The numbers are right, but the discriminator's term gives no gradient to its weights.",
            )


def _pixel_logits(z, x, model):
    size = model.before.kernel_size[0]
    own = model.decoder(z).view(-1, 1, 28, 28)
    kernels = model.before.weight * causal_mask(size).to(own)
    seen = F.conv2d(x.view(-1, 1, 28, 28), kernels, model.before.bias, padding=size // 2)
    return (own + model.last(F.relu(seen + model.told(own)))).flatten(1)


def _with_middle(size: int) -> Tensor:
    mask = torch.zeros(size * size)
    mask[: size * size // 2 + 1] = 1
    return mask.view(size, size)


def _codes_and_images(draw: Draw) -> list[tuple]:
    return [(draw(n, 20), draw.uniform(n, 784).round()) for n in (1, 3)]


def _has_layers(build: Build) -> None:
    for size in (7, 3):
        model = build.make(20, size)
        for name, shape in (("before", (16, 1, size, size)), ("told", (16, 1, 1, 1)), ("last", (1, 16, 1, 1))):
            layer = getattr(model, name, None)
            words = f"With size = {size}, self.{name} should be an nn.Conv2d with weights {shape}; it is "
            came = f"{tuple(layer.weight.shape)}." if isinstance(layer, nn.Conv2d) else f"a {type(layer).__name__}."
            right = isinstance(layer, nn.Conv2d) and tuple(layer.weight.shape) == shape and layer.bias is not None
            build.require(right, f"self.{name}", words + came)


def _sees_only_before(build: Build) -> None:
    """Also after training steps: a mask that was applied to the weights once is gone then."""
    for moment, steps in (("", 0), (" after three training steps", 3)):
        model, x = build.make(20), build.images(4).round()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            build.run(model.loss, x, doing="in loss, in training").mean().backward()
            optimizer.step()
        z, place = torch.zeros(1, 20).to(x), 14 * 28 + 14
        image = torch.full_like(x[:1], 0.5).requires_grad_()
        logit = build.run(model.decode, z, image, doing="in decode(z, x)")[0, place]
        (seen,) = torch.autograd.grad(logit, image, allow_unused=True)
        seen = torch.zeros(784, dtype=torch.bool) if seen is None else seen[0] != 0
        words = f"The logit of a pixel changes with the pixel itself{moment}. In training it copies it, and in drawing "
        build.require(not seen[place], f"sees its own pixel{moment}", f"{words}there is nothing to copy.")
        words = f"The logit of a pixel changes with pixels after it{moment}: they do not exist yet when it is drawn. "
        words += "Is the mask multiplied in every time, with the weights of that moment?"
        build.require(not seen[place:].any(), f"sees what comes later{moment}", words)
        words = "The logit of a pixel changes with none of the pixels before it. Does decode use x?"
        build.require(seen[:place].any(), "sees nothing", words)


def _terms(x, model):
    mu, log_var = model.encode(x)
    with fixed_noise():
        z = model.reparameterize(mu, log_var)
    return F.binary_cross_entropy_with_logits(_pixel_logits(z, x, model), x, reduction="none").sum(1), _rate(
        mu, log_var
    )


EXERCISES = (
    Exercise(
        number="15.1",
        title="The Fréchet distance",
        minutes=12,
        solution=frechet_distance,
        hints=(
            "Two parts: how far the means are apart, and how far the covariances. torch.cov takes variables in rows, "
            "and features have them in columns.",
            "The trace of a root is the sum of the roots of the eigenvalues. eigvals of cov_a @ cov_b, then .real, "
            "then clamp at 0 for rounding, then sqrt.",
            "(a.mean(0) − b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() − 2 · roots.sum().",
        ),
        cases=lambda draw: [(draw(n, f), 0.5 + draw(n, f) @ draw(f, f)) for n, f in ((4, 2), (6, 3), (9, 4))],
        tolerance=(1e-3, 1e-3),
        passed="Between two Gaussians it would be exact. It sees means and covariances, and nothing else.",
        mistakes={
            "the distance of the means, not its square": (
                lambda a, b: frechet_distance(a, b) + _apart(a, b) - _apart(a, b) ** 2,
                "The distance between the means was added, not its square. The covariances are right.",
            ),
            "images for features": (
                lambda a, b: frechet_distance(a.T, b.T) - _apart(a.T, b.T) ** 2 + _apart(a, b) ** 2,
                "These are covariances of images, n x n. torch.cov takes variables in rows, and features stand in "
                "columns here.",
            ),
            "no matrix root": (
                lambda a, b: _distance(a, b, lambda c, d: (c @ d).trace()),
                "The trace of C_a C_b was subtracted without the root. For equal sets the distance must be 0: is it?",
            ),
            "the root of the trace": (
                lambda a, b: _distance(a, b, lambda c, d: (c @ d).trace().sqrt()),
                "The root was taken of the trace. The trace of the root is another number: first the root of each "
                "eigenvalue, then their sum.",
            ),
            "variances for covariances": (
                lambda a, b: (a.mean(0) - b.mean(0)).square().sum() + (a.std(0) - b.std(0)).square().sum(),
                "Only the variances of single features were compared. Two sets whose features go together in other "
                "ways look equal to this: use the whole covariance.",
            ),
            "the root of each entry": (
                lambda a, b: _distance(a, b, lambda c, d: (c @ d).diagonal().clamp(min=0).sqrt().sum()),
                "The root was taken entry by entry. The root of a matrix is the matrix whose product with itself is "
                "the first: its eigenvalues have the roots.",
            ),
        },
    ),
    Exercise(
        number="15.2",
        title="Precision and recall",
        minutes=10,
        solution=precision_recall,
        hints=(
            "One function does both: the share of some points that lie among others. Which of the two sets has the "
            "balls, and from which distances do their radii come?",
            "radius: distances within the set, the k-th nearest for each point. The nearest of all is the point "
            "itself, at 0. Then: is any ball large enough for the point that is asked about?",
            "torch.cdist(others, others).topk(k + 1, largest=False).values[:, k] is the radius; "
            "(torch.cdist(points, others) <= radius).any(1) says who is among them. Precision: points = fake.",
        ),
        cases=lambda draw: [
            (draw(n, f), 0.3 + 0.7 * draw(n, f), k) for n, f, k in ((5, 1, 1), (8, 2, 2), (12, 2, 3), (20, 3, 2))
        ] + [_ON_THE_EDGE],
        parts=("precision", "recall"),
        any_type=True,
        passed="Precision asks whether the pictures are good, recall whether all kinds are there.",
        mistakes={
            "self counted as a neighbour": (
                _own_counted,
                "The point itself was counted as its nearest neighbour, at a distance of 0: with k = 1 all balls are "
                "empty. Its k-th neighbour is the (k + 1)-th smallest distance.",
            ),
            "precision and recall exchanged": (
                lambda real, fake, k: precision_recall(real, fake, k)[::-1],
                "The two have changed places. Precision is asked of the fake images: do they lie among the real ones?",
            ),
            "the radius of the wrong set": (
                lambda real, fake, k: (_among(fake, real, fake, k), _among(real, fake, real, k)),
                "The radii come from the other set than the balls' middles. A ball belongs to a point and its own set.",
            ),
            "the ball around the point asked about": (
                lambda real, fake, k: (_point_counts(fake, real, k), _point_counts(real, fake, k)),
                "The balls lie around the points that are asked about. A lonely image has a large ball of its own, and "
                "would always be accepted: the balls belong to the other set.",
            ),
            "the radius of the wrong point": (
                lambda real, fake, k: (_row_counts(fake, real, k), _row_counts(real, fake, k)),
                "The radii stand in the wrong direction: row i of cdist(points, others) belongs to point i, and the "
                "radius to the point of the set, in the columns.",
            ),
            "the edge left out": (
                lambda real, fake, k: (_within(fake, real, k, torch.lt), _within(real, fake, k, torch.lt)),
                "A point exactly as far away as the radius was left out. It lies among the set: at least as near, ≤.",
            ),
            "the share of balls": (
                lambda real, fake, k: (_within(fake, real, k, dim=0), _within(real, fake, k, dim=0)),
                "This is the share of balls that hold a point: any(0). Asked for is the share of points that lie in "
                "a ball. Points stand in the rows of cdist(points, others), so any runs over the other axis.",
            ),
        },
    ),
    Exercise(
        number="15.3",
        title="Pixels before this one",
        minutes=5,
        solution=causal_mask,
        hints=(
            "Read the kernel like a page: row by row, left to right. Which places come before the middle?",
            "The rows above the middle, whole, and in the middle row what stands left of it.",
            "Of size·size places in reading order, the first size·size // 2 are 1; view makes them a square.",
        ),
        cases=lambda draw: [(3,), (5,), (1,), (7,)],
        any_type=True,
        passed="The middle is 0: no pixel may see itself.",
        mistakes={
            "keeps the middle": (
                _with_middle,
                "The middle is 1, so a logit sees the pixel that it is to predict: in training the loss falls to "
                "nothing, and in drawing there is nothing to copy. In later layers, whose input has not seen the "
                "pixel, that mask is right.",
            ),
            "the pixels after": (
                lambda size: causal_mask(size).flip(0, 1),
                "These are the pixels that come later. PyTorch's convolution does not turn the kernel round: place "
                "[0, 0] looks up and left.",
            ),
            "columns before rows": (
                lambda size: causal_mask(size).T,
                "This reads column by column. The order here is row by row, as in flat images.",
            ),
            "only up and left": (
                lambda size: causal_mask(size) * (torch.arange(size) <= size // 2),
                "The pixels above and to the right are missing. They have been read before, too.",
            ),
            "a triangle": (
                lambda size: torch.ones(size, size).tril(-1),
                "This is a triangle: each row sees more than the one above. Rows above the middle are seen whole, of "
                "the middle row what stands to the left, and nothing below.",
            ),
            "only rows above": (
                lambda size: (torch.arange(size) < size // 2).float()[:, None].expand(size, size),
                "In the middle row, what stands to the left has been read as well.",
            ),
        },
    ),
    Exercise(
        number="15.4",
        title="A decoder that knows its neighbours",
        minutes=20,
        solution=PixelVAE,
        hints=(
            "What must be multiplied by the mask: the image, or the weights of the kernel? And when: once, or every "
            "time the layer is used?",
            "F.conv2d(x as images, self.before.weight * self.mask, self.before.bias, padding=size // 2) is the masked "
            "convolution. register_buffer keeps the mask beside the weights without training it.",
            "decode: own = self.decoder(z).view(−1, 1, 28, 28); seen as above; own + self.last(F.relu(seen + "
            "self.told(own))), flattened. terms: as in your VAE, but with self.decode(z, x).",
        ),
        passed="No pixel sees itself; after {steps} steps −ELBO is {loss:.0f} nats.",
        checks=(
            has("encode", "reparameterize", "decode", "terms", "loss"),
            _has_layers,
            shapes("decode", [(5, 20), (5, 784)], (5, 784)),
            _sees_only_before,
            same_numbers(
                "decode(z, x)",
                lambda model, z, x: model.decode(z, x),
                _pixel_logits,
                _codes_and_images,
                axes="z: (B, L); x: (B, D)",
                mistakes={
                    "logits of z alone": (
                        lambda z, x, model: model.decoder(z),
                        "These are the logits of your old decoder. What the neighbours say is added to them.",
                    ),
                    "the code left out": (
                        lambda z, x, model: _pixel_logits(z, x, model) - model.decoder(z),
                        "The logits of z are not added at the end. The code then reaches pixels only by a detour, and "
                        "may fall silent.",
                    ),
                },
            ),
            same_numbers(
                "terms(x)",
                lambda model, x: dict(zip(("recon", "kl"), model.terms(x), strict=True)),
                lambda x, model: dict(zip(("recon", "kl"), _terms(x, model), strict=True)),
                lambda draw: [(draw.uniform(n, 784).round(),) for n in (1, 3)],
                axes="x: (B, D)",
            ),
            gradients_reach_all(loss=lambda model, x: model.terms(x)[0]),
            trains(below=190, above=50, steps=100, images=2000, batch_size=64, lr=3e-3),
        ),
    ),
    Exercise(
        number="15.5",
        title="A distance in features",
        minutes=5,
        solution=feature_loss,
        hints=(
            "The same network sees both images, and their features are compared as pixels were before. What does one "
            "number an image need: a sum or a mean?",
            "A sum over features, as the distortion sums over pixels: beside a KL in nats, a mean is F times too weak. "
            "No no_grad around the decoded image: the gradient has to pass through the network.",
            "(features(x_hat) − features(x).detach()).square().sum(1).",
        ),
        cases=lambda draw: [
            (_Features(d), draw.uniform(n, d), draw.uniform(n, d)) for n, d in ((1, 2), (2, 4), (4, 5))
        ],
        gradients=("x_hat",),
        passed="Zero for equal images, and the gradient comes back through the network.",
        mistakes={
            "averaged over features": (
                lambda features, x_hat, x: (features(x_hat) - features(x)).square().mean(1),
                "The squares are averaged over the features. The KL beside it is a sum of nats: averaged, the term is "
                "F times weaker, and its weight means something else for each network.",
            ),
            "not squared": (
                lambda features, x_hat, x: (features(x_hat) - features(x)).abs().sum(1),
                "These are absolute differences. Asked for is the squared distance.",
            ),
            "pixels": (
                lambda features, x_hat, x: (x_hat - x).square().sum(1),
                "This is the distance in pixels. The network was not asked.",
            ),
        },
    ),
    Exercise(
        number="15.6",
        title="Two who learn from each other",
        minutes=12,
        solution=adversarial_terms,
        hints=(
            "Three things could learn: encoder, decoder, discriminator. Which of them should move for which of the two "
            "terms? A detach stops the rest.",
            "−log D is softplus(−logit), and −log(1 − D) is softplus(logit). The decoder's term starts from "
            "z.detach(); the discriminator's from decoded.detach().",
            "decoded = model.decode(z.detach()).sigmoid(). Return F.softplus(−discriminator(decoded)), and "
            "F.softplus(−discriminator(x)) + F.softplus(discriminator(decoded.detach())).",
        ),
        cases=lambda draw: [
            (_Decoder(n), _Logit(n), draw.uniform(n, 5), draw(n, 2)) for n in (1, 2, 4)
        ],
        parts=("the decoder's term", "the discriminator's term"),
        also=_who_learns,
        passed="Each side learns from its own term alone, and the encoder from neither.",
        mistakes={
            "the saturating loss": (
                lambda model, d, x, z: (
                    -F.softplus(d(model.decode(z).sigmoid())), adversarial_terms(model, d, x, z)[1]
                ),
                "The decoder's term is log(1 − D). Its gradient vanishes exactly where the discriminator is sure, at "
                "the beginning. Use −log D.",
            ),
            "the roles exchanged": (
                lambda model, d, x, z: adversarial_terms(model, d, x, z)[::-1],
                "The two terms have changed places.",
            ),
            "the labels exchanged": (
                lambda model, d, x, z: adversarial_terms(model, lambda images: -d(images), x, z),
                "Here a large logit means decoded. A logit is the log-odds that an image is real.",
            ),
            "real images forgotten": (
                lambda model, d, x, z: (
                    adversarial_terms(model, d, x, z)[0], F.softplus(d(model.decode(z).sigmoid()))
                ),
                "The discriminator's term looks at decoded images alone: it would call everything decoded.",
            ),
            "logits of pixels": (
                lambda model, d, x, z: (
                    F.softplus(-d(model.decode(z))), F.softplus(-d(x)) + F.softplus(d(model.decode(z)))
                ),
                "The discriminator saw logits in place of pixels: real images lie in [0, 1], and it would need no "
                "drawing to tell them apart. Take the sigmoid.",
            ),
        },
    ),
)  # fmt: skip
