"""The exercises of notebook 10, tighter bounds."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ._attempt import Attempt, NotYet
from ._build import Build, gradients_reach_all, has, per_example, same_numbers, trains
from ._exercise import Draw, Exercise
from .notebook_02 import _OUT_OF_RANGE, _rate
from .notebook_06 import VAE


def log_evidence(log_joint, area):
    """Return log p(x) of each image, the log of the sum of p(x, z) over a grid of codes, times the area of a cell.

    log_joint: (G, B), log p(x, z) of G codes for each of B images; numbers down to -1200
    area:      one number
    result:    (B,)
    """
    return log_joint.logsumexp(dim=0) + math.log(area)


def defensive_log_weights(log_px, log_p, log_q):
    """Return log w of codes that were drawn half from q(z|x) and half from p(z), that is from (q + p) / 2.

    log_px, log_p, log_q: (K, B), the logs of p(x|z), p(z) and q(z|x) at K codes for each of B images
    result:               (K, B)
    """
    log_r = torch.logaddexp(log_p, log_q) - math.log(2)  # of the mixture, at whichever code was drawn
    return log_px + log_p - log_r


class IWAE(VAE):
    """Your VAE with another loss, minus L_k: the mean of k weights, and one log of it.

    k: how many codes are drawn for each image in loss.
    """

    def __init__(self, latent_dim, hidden=400, k=5):
        super().__init__(latent_dim, hidden)
        self.k = k

    def log_weights(self, x, k):  # -> log p(x, z) - log q(z|x) of k codes, (k, B)
        mu, log_var = (parameter.expand(k, *parameter.shape) for parameter in self.encode(x))
        z = self.reparameterize(mu, log_var)  # (k, B, L): new noise for each of the k
        pixels = F.binary_cross_entropy_with_logits(self.decode(z), x.expand(k, *x.shape), reduction="none")
        log_p = -0.5 * z.square().sum(-1)  # log 2 pi stands in both densities, and cancels
        log_q = -0.5 * ((z - mu).square() / log_var.exp() + log_var).sum(-1)
        return log_p - log_q - pixels.sum(-1)

    def loss(self, x):  # -> -L_k of each image, (B,)
        return math.log(self.k) - self.log_weights(x, self.k).logsumexp(0)


def signal_to_noise(gradients):
    """Return the signal-to-noise ratio of each weight's gradient: the size of its mean in units of its noise.

    gradients: (R, P), the gradient of P weights, computed R times with new noise
    result:    (P,), with R - 1 in the variance, as in torch.std
    """
    return gradients.mean(dim=0).abs() / gradients.std(dim=0)


def normalized_weights(log_w):
    """Return the share of each code in the sum of the weights of its image, as constants that pass no gradient on.

    log_w:  (K, B), the log weights of K codes for each of B images
    result: (K, B), for each image K numbers that sum to 1
    """
    return log_w.detach().softmax(dim=0)


def doubly_reparameterized(log_w, z):
    """Return a loss (B,) whose gradient for the encoder is -sum_k s_k^2 dlog w_k/dz_k dz_k/dphi, with s the shares.

    Through all else than z the gradient of log w_k keeps the factor -s_k.

    log_w: (K, B), in which q's parameters are detached, except in z; the shares are constants
    z:     (K, B, L), the codes that log_w was computed from
    """
    shares = log_w.detach().softmax(dim=0)
    z.register_hook(lambda gradient: shares[..., None] * gradient)  # the second s_k, only for what flows through z
    return -(shares * log_w).sum(dim=0)


# What an IWAE does, and the gradients of a surrogate ---------------------------------------------------------


def _log_w(x: Tensor, model: IWAE) -> Tensor:
    return IWAE.log_weights(model, x, 4)


def _shape_of_log_weights(build: Build) -> None:
    model, x = build.make(20), build.images(7)
    came = build.run(model.log_weights, x, 3, doing="in log_weights of 7 images with k = 3")
    shape = tuple(getattr(came, "shape", ())) or type(came).__name__
    words = f"log_weights of 7 images with k = 3 should give 3 numbers for each, shape (3, 7); it gives {shape}."
    build.require(shape == (3, 7), "shape of log_weights", words)
    torch.manual_seed(0)
    model.encode = lambda x: (x.new_ones(len(x), 20), x.new_zeros(len(x), 20))
    came = build.run(model.log_weights, x, 3, doing="in log_weights")
    words = "The k codes of an image all have one weight. Does each of them get noise of its own?"
    build.require(not torch.allclose(came[0], came[1]), "the same noise for all", words)


def _loss_is_the_bound(build: Build) -> None:
    """With weights that are given, and differ by whole nats, so that each slip is another number."""
    model, x = build.make(20, k=3), build.images(2)
    log_w = torch.tensor([[-102.0, -97.5], [-100.0, -99.0], [-104.5, -96.0]]).to(x)
    model.log_weights = lambda x, k: log_w[:k, : len(x)]
    came = build.run(model.loss, x, doing="in loss of 2 images, with other log_weights")
    wanted = math.log(3) - log_w.logsumexp(0)
    slips = {
        "mean of the logs": (
            -log_w.mean(0),
            "That is the mean of the log weights: an estimate of the ELBO with less noise, and no tighter. On which "
            "side of the log does the mean stand?",
        ),
        "log k is missing": (-log_w.logsumexp(0), "A mean is a sum divided by k. What becomes of k outside the log?"),
        "the other sign": (-wanted, "A loss is minimised; the bound is to rise."),
        "losses in the softmax": (
            -((-log_w).softmax(0) * log_w).sum(0),
            "There the worst code has the largest share: the softmax was taken of losses, in place of log weights.",
        ),
    }
    shape = tuple(getattr(came, "shape", ()))
    words = f"loss of 2 images should be 2 numbers; it has shape {shape}."
    build.require(shape == (2,), "shape of loss", words)
    slip = next((name for name, (value, _) in slips.items() if torch.allclose(came, value, atol=1e-3)), "")
    words = "With the log weights −102, −100, −104.5 the loss of an image should be "
    words += f"{wanted[0]:.3f}; it is {came[0]:.3f}. {slips.get(slip, ('', 'Does loss call self.log_weights?'))[1]}"
    build.require(torch.allclose(came, wanted, atol=1e-3), slip or "another loss", words)


_KL_INSIDE = (
    lambda x, model: _log_px(x, model) - _rate(*model.encode(x)),  # the same for all codes
    "The KL in closed form is an average over q. A weight needs both densities at its own z: log p(z) − log q(z|x).",
)


def _log_px(x: Tensor, model: IWAE) -> Tensor:
    mu, log_var = (parameter.expand(4, *parameter.shape) for parameter in model.encode(x))
    logits = model.decode(model.reparameterize(mu, log_var))
    return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def _pushes(attempt: Attempt, mu: Tensor, eps: Tensor, theta: Tensor) -> dict[str, Tensor]:
    """The gradients of the returned loss in what z was made of, and in what else the weights depend on."""
    mu, theta = mu.clone().requires_grad_(), theta.clone().requires_grad_()
    z = mu + eps
    log_w = -(z - theta).square().sum(-1)
    loss = attempt.run(attempt.answer, log_w, z, doing="with log_w (K, B) and z (K, B, L)")
    if not isinstance(loss, Tensor) or loss.shape != mu.shape[:1]:
        raise NotYet("shape of the loss", f"The loss should have shape {tuple(mu.shape[:1])}, one for each image.")
    if not loss.requires_grad:
        raise NotYet("no gradient", "The loss carries no gradient. Only the shares are constants.")
    doing = f"in the backward pass, in which a gradient of shape (K, B, L) = {tuple(z.shape)} arrives at z"
    attempt.run(loss.sum().backward, doing=doing)
    return {"for the encoder": mu.grad, "for the decoder": theta.grad}


def _shares_pass_nothing(attempt: Attempt, cases: list[tuple]) -> None:
    log_w = attempt.prepare(cases[-1][0]).requires_grad_()
    if attempt.run(attempt.answer, log_w, doing="with log_w that asks for a gradient").requires_grad:
        words = "The numbers are right, but they pass gradients on. In a surrogate loss the shares are constants."
        raise NotYet("not detached", words)


def _of_shape(draw: Draw, *shapes: tuple[int, ...]) -> list[tuple]:
    return [tuple(draw(*shape) for _ in range(3)) for shape in shapes]


def _shares(log_w: Tensor) -> Tensor:
    return log_w.softmax(0).detach()


def _squares_in_the_hook(log_w: Tensor, z: Tensor) -> Tensor:
    """The shares stand in the loss already, so that their cubes go on to the encoder."""
    z.register_hook(lambda gradient: _shares(log_w).square()[..., None] * gradient)
    return -(_shares(log_w) * log_w).sum(0)


EXERCISES = (
    Exercise(
        number="10.1",
        title="The evidence, by summing",
        minutes=6,
        solution=log_evidence,
        hints=(
            "An integral is a sum over cells, height times area. Which of the numbers are heights, and on which scale?",
            "log Σ p(x, z)·area. But exp(−1200) is 0, and its log is −∞: let logsumexp do the sum.",
            "`log_joint.logsumexp(dim=0)`, plus the log of the area.",
        ),
        cases=lambda draw: [
            *((5 * draw(g, b) - 3, a) for g, b, a in ((3, 1, 0.25), (4, 2, 0.04), (7, 3, 2.5))),
            (draw(5, 2) - 1200, 0.01),
        ],
        gradients=("log_joint",),
        passed="With two latent dimensions the integral of notebook 02 can be done after all.",
        mistakes={
            "area left out": (
                lambda log_joint, area: log_joint.logsumexp(0),
                "These are sums of heights. With a grid twice as fine they would grow; an integral does not.",
            ),
            "mean over the grid": (
                lambda log_joint, area: log_joint.logsumexp(0) - math.log(len(log_joint)),
                "The mean over the grid is not the integral: which volume does one code stand for?",
            ),
            "out of range": (lambda log_joint, area: (log_joint.exp().sum(0) * area).log(), _OUT_OF_RANGE),
        },
    ),
    Exercise(
        number="10.2",
        title="A proposal that cannot miss",
        minutes=8,
        solution=defensive_log_weights,
        hints=(
            "A weight is p(x, z) divided by the density that z was drawn from. From which density was a code drawn, "
            "if a coin decided between q and p?",
            "From (q + p)/2, whichever side the coin showed. So its log is needed at every code, and it is the log of "
            "a sum: torch.logaddexp.",
            "log r = torch.logaddexp(log_p, log_q) − log 2. Then log_px + log_p − log r.",
        ),
        cases=lambda draw: [*_of_shape(draw, (1, 1), (3, 2), (5, 4)), tuple(draw(4, 2) - 900 for _ in "abc")],
        gradients=("log_px", "log_p", "log_q"),
        passed="No weight can exceed 2·p(x|z), however narrow q is.",
        mistakes={
            "q alone": (
                lambda log_px, log_p, log_q: log_px + log_p - log_q,
                "These are the weights for codes from q alone. Half of yours came from the prior.",
            ),
            "the mean of the logs": (
                lambda log_px, log_p, log_q: log_px + log_p - 0.5 * (log_p + log_q),
                "The mean of two logs is the log of √(q·p), which is no mixture: where q is 0, so is it.",
            ),
            "out of range": (
                lambda log_px, log_p, log_q: log_px + log_p - (0.5 * (log_p.exp() + log_q.exp())).log(),
                _OUT_OF_RANGE,
            ),
        },
    ),
    Exercise(
        number="10.3",
        title="Your IWAE",
        minutes=25,
        solution=IWAE,
        hints=(
            "Two methods are new; the rest of your VAE stays. What changes for shapes when each image has k codes in "
            "place of one? Which of your methods work on (k, B, L) as they are?",
            "mu.expand(k, *mu.shape) stands for k copies and costs nothing; reparameterize then draws noise for each. "
            "A log weight is log p(x|z) + log p(z) − log q(z|x), every term at this code. The loss: minus (logsumexp "
            "over the k, minus log k).",
            "log p(x|z): minus the cross-entropy summed over pixels, with x.expand(k, *x.shape) as the target. log "
            "p(z): −½ Σ z². log q: −½ Σ ((z − mu)²/exp(log_var) + log_var). In loss: math.log(self.k) − "
            "self.log_weights(x, self.k).logsumexp(0).",
        ),
        passed="One log of a mean of k weights; after {steps} steps −L_k is {loss:.0f} nats.",
        checks=(
            has("encode", "decode", "log_weights", "loss"),
            _shape_of_log_weights,
            same_numbers(
                "log_weights(x, 4)",
                lambda model, x: model.log_weights(x, 4),
                _log_w,
                lambda draw: [(draw.uniform(n, 784),) for n in (1, 2, 5)],
                mistakes={"closed-form KL": _KL_INSIDE},
            ),
            _loss_is_the_bound,
            per_example(),
            gradients_reach_all(lambda model, x: model.loss(x) + 0 * model.log_weights(x, 1)[0]),
            trains(below=260, above=60, steps=120, images=2000, batch_size=64),
        ),
    ),
    Exercise(
        number="10.4",
        title="Signal to noise",
        minutes=4,
        solution=signal_to_noise,
        hints=(
            "The signal is what all repetitions have in common; the noise is how they differ. Along which axis?",
            "The mean over axis 0 may be negative; its size is the signal. The noise is the standard deviation.",
            "`gradients.mean(dim=0).abs() / gradients.std(dim=0)`.",
        ),
        cases=lambda draw: [(draw(r, p),) for r, p in ((3, 1), (4, 2), (6, 5))],
        any_type=True,
        passed="Below 1, a single gradient tells more about the noise than about the way.",
    ),
    Exercise(
        number="10.5",
        title="Whose gradient counts",
        minutes=5,
        solution=normalized_weights,
        hints=(
            "A share is a weight divided by the sum of the weights of the same image. You have their logs.",
            "exp of the logs, normalised: PyTorch has a function for it. Along which axis does one image lie?",
            "`log_w.detach().softmax(dim=0)`: the largest log weight gets the largest share.",
        ),
        cases=lambda draw: [*((3 * draw(k, b),) for k, b in ((2, 1), (3, 5), (4, 2))), (3 * draw(3, 2) - 900,)],
        also=_shares_pass_nothing,
        passed="The gradient of L_K is the mean of the codes' gradients, in these shares.",
        mistakes={
            "losses in the softmax": (
                lambda log_w: (-log_w).softmax(0),
                "Here the worst code has the largest share: this is the softmax of losses, −log w. It trains, and "
                "favours what should be ignored.",
            ),
            "over the batch": (
                lambda log_w: log_w.softmax(1),
                "These shares sum to 1 over the images of a batch. Which axis holds the codes of one image?",
            ),
            "out of range": (lambda log_w: log_w.exp() / log_w.exp().sum(0), _OUT_OF_RANGE),
        },
    ),
    Exercise(
        number="10.6",
        title="Doubly reparameterized",
        minutes=12,
        solution=doubly_reparameterized,
        hints=(
            "With constant shares s_k, the loss −Σ s_k log w_k sends −s_k ∂log w_k to everything. Only what goes "
            "through z shall be multiplied by s_k once more. Where does all of that pass?",
            "Through z itself. z.register_hook(f) lets you replace the gradient that arrives at z by f(gradient), "
            "before it goes on to the encoder. The gradient there has the shape (K, B, L).",
            "shares = log_w.detach().softmax(0); z.register_hook(lambda g: shares[..., None] * g); return −(shares * "
            "log_w).sum(0).",
        ),
        cases=lambda draw: [(draw(b, n), draw(k, b, n), draw(b, n)) for k, b, n in ((2, 1, 1), (3, 5, 2), (4, 2, 5))],
        observe=_pushes,
        passed="The square for what comes through z, the share itself for all else.",
        mistakes={
            "no second share": (
                lambda log_w, z: -(_shares(log_w) * log_w).sum(0),
                'Each code still counts with its share, not with its square. That is "sticking the landing": with '
                "more than one code it is biased.",
            ),
            "squares for the decoder too": (
                lambda log_w, z: -(_shares(log_w).square() * log_w).sum(0),
                "The encoder's gradient is right. But the decoder's, which does not come through z, has squares too.",
            ),
            "a share too many": (
                _squares_in_the_hook,
                "The decoder's gradient is right; the encoder's has s_k³ in place of s_k². What arrives at z carries "
                "one s_k already, from the loss. How many are missing there?",
            ),
            "shares not detached": (
                lambda log_w, z: -(log_w.softmax(0).square() * log_w).sum(0),
                "The gradient runs through the shares as well. They are constants: detach them.",
            ),
        },
    ),
)
