"""Numbers to judge a model by: ELBO on held-out data, importance-weighted log p(x), active units, the judge."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_batch, check_positive_int
from course_utils._random import seeded
from course_utils.data import ImageData
from course_utils.losses import ELBO, LOG_2PI, gaussian_kl_terms
from course_utils.models import CVAE, VAE
from course_utils.progress import progress


@torch.no_grad()
def evaluate(
    model: nn.Module,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    beta: float = 1.0,
    seed: int = 0,
    batch_size: int = 1000,
) -> ELBO:
    """The loss and its terms for each example of ``x``, (N,) each, in nats, with one sample z per example.

    Shapes: ``x`` (N, …) as the model takes it; for a CVAE also ``cond`` (N, C). The same formula as in training: the
    test ELBO is ``-evaluate(model, x).loss.mean()``. The same seed draws the same noise.
    """
    kwargs = {} if beta == 1.0 else {"beta": beta}
    with seeded(seed, _device(model)):
        parts = [model.loss(*batch, **kwargs) for batch in _batches(model, x, cond, batch_size)]
    return ELBO(*(torch.cat(terms) for terms in zip(*parts, strict=True)))


@torch.no_grad()
def log_likelihood(
    model: VAE | CVAE,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    samples: int,
    seed: int = 0,
    batch_size: int = 2000,
) -> Tensor:
    """Importance-weighted estimate of log p(x) per example, in nats: in expectation a bound, tighter with samples.

    log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x) with z_k from q(z|x) and K = ``samples``; with K = 1 its mean is the ELBO.
    For a CVAE every term is given the condition, the prior too: p(z_k|c).
    It is a log-density only where the likelihood is one. ``batch_size`` bounds how many (example, sample) pairs are
    decoded at a time, and so the memory.

    Shapes: ``x`` (N, …), ``cond`` (N, C) for a CVAE → (N,). Raises ``ValueError`` for ``samples`` below 1 and
    ``TypeError`` for a model without a likelihood. Source: Burda, Grosse & Salakhutdinov 2016, the bound L_k.
    """
    samples = check_positive_int("samples", samples)
    if not isinstance(model, VAE | CVAE):
        raise TypeError(f"log_likelihood needs a VAE or a CVAE, got {type(model).__name__}")
    chunk = min(samples, batch_size)
    counts = [min(chunk, samples - done) for done in range(0, samples, chunk)]
    results = []
    with seeded(seed, _device(model)):
        for batch in _batches(model, x, cond, max(1, batch_size // chunk)):
            mu, log_var = model.encode(*batch)
            prior = _prior(model, batch, mu)
            weights = [_log_weights(model, batch, (mu, log_var), prior, count) for count in counts]
            results.append(torch.cat(weights).logsumexp(0) - math.log(samples))
    return torch.cat(results)


def _log_weights(
    model: VAE | CVAE, batch: tuple[Tensor, ...], posterior: tuple[Tensor, ...], prior: tuple[Tensor, ...], count: int
) -> Tensor:
    """log p(x|z) + log p(z) − log q(z|x) for ``count`` fresh z per example: (count, B), in float64."""
    repeated = [tensor.repeat(count, *[1] * (tensor.dim() - 1)) for tensor in (*batch, *posterior, *prior)]
    x, *cond, mu, log_var, mu_p, log_var_p = repeated
    eps = torch.randn_like(mu)
    z = model.reparameterize(mu, log_var, eps=eps)
    log_px = -model.likelihood.nll(model.decode(z, *cond), x).double()
    from_prior = (z.double() - mu_p.double()).square() / log_var_p.double().exp()
    log_pz = -0.5 * (from_prior + LOG_2PI + log_var_p.double()).flatten(1).sum(1)
    log_qz = -0.5 * (eps.double().square() + LOG_2PI + log_var.double()).flatten(1).sum(1)
    return (log_px + log_pz - log_qz).view(count, -1)


def _prior(model: VAE | CVAE, batch: tuple[Tensor, ...], mu: Tensor) -> tuple[Tensor, Tensor]:
    """``mu`` and ``log_var`` of the model's prior for each example, in the shape of the posterior's ``mu``."""
    return model.prior(batch[1]) if isinstance(model, CVAE) else (torch.zeros_like(mu), torch.zeros_like(mu))


class ActiveUnits(NamedTuple):
    """How many latent dimensions carry information, and the variance over the data of each posterior mean, (L,)."""

    count: int
    variance: Tensor


@torch.no_grad()
def active_units(
    model: VAE | CVAE,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    threshold: float = 0.01,
    batch_size: int = 1000,
) -> ActiveUnits:
    """The latent dimensions whose posterior mean varies over the data by more than ``threshold``.

    Shapes: ``x`` (N, …), ``cond`` (N, C) for a CVAE. Raises ``ValueError`` for fewer than two examples.
    Source: Burda, Grosse & Salakhutdinov 2016, where they study the latent representation.
    """
    if len(x) < 2:
        raise ValueError(f"a variance over the data needs at least two examples, got {len(x)}")
    mu = torch.cat([model.encode(*batch)[0] for batch in _batches(model, x, cond, batch_size)])
    variance = mu.flatten(0, -2).var(0)
    return ActiveUnits(int((variance > threshold).sum()), variance)


@torch.no_grad()
def kl_per_dimension(model: VAE | CVAE, x: Tensor, cond: Tensor | None = None, *, batch_size: int = 1000) -> Tensor:
    """The mean KL of each latent dimension over the data, (L,), in nats.

    Together they are the rate; for inputs with a sequence axis, the rate of one time step.
    """
    parts = []
    for batch in _batches(model, x, cond, batch_size):
        mu, log_var = model.encode(*batch)
        parts.append(gaussian_kl_terms(mu, log_var, prior=_prior(model, batch, mu)))
    return torch.cat(parts).flatten(0, -2).mean(0)


# ------------------------------------------------------------------------------------------------------- judge


class Judge(nn.Module):
    """A small convolutional classifier of digits that says whether an image is recognised, and as what."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28), or flat (B, 784) → class logits (B, 10)."""
        check_batch("x", x)
        if math.prod(x.shape[1:]) != 784:
            raise ValueError(f"the judge looks at 28×28 images, got x of shape {tuple(x.shape)}")
        return self.layers(x.reshape(-1, 1, 28, 28))

    @torch.no_grad()
    def probabilities(self, x: Tensor, *, batch_size: int = 1000) -> Tensor:
        """Class probabilities (B, 10) for images in [0, 1]; pixels outside are clipped, as a viewer would."""
        return torch.cat([self(part.clamp(0, 1)).softmax(1) for part in x.split(batch_size)])

    def recognised(self, x: Tensor, *, confidence: float = 0.9) -> Tensor:
        """Which images (B,) the judge gives one class with more than ``confidence``."""
        return self.probabilities(x).amax(1) > confidence


def train_judge(data: ImageData, *, steps: int = 900, batch_size: int = 128, seed: int = 0, show: bool = True) -> Judge:
    """Train a :class:`Judge` on the training digits in some seconds, and print its accuracy on the test digits.

    The same seed gives the same judge on the same machine; the global random state is left alone. On the device of
    the data; in evaluation mode.
    """
    check_positive_int("steps", steps)
    device = data.train.pixels.device
    start = time.perf_counter()
    order = torch.Generator().manual_seed(seed)
    with seeded(seed, device):
        judge = Judge().to(device)
        optimizer = torch.optim.Adam(judge.parameters(), lr=2e-3, fused=True)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
        with progress(steps, "training the judge", show=show) as bar:
            for x, y in itertools.islice(_endless(lambda: data.train.batches(batch_size, seed=order)), steps):
                loss = F.cross_entropy(judge(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
            judge.eval()
            accuracy = (judge.probabilities(data.test[:]).argmax(1) == data.test.labels).double().mean().item()
            bar.end_line = (
                f"the judge names {accuracy:.1%} of {len(data.test):,} test digits correctly "
                f"(trained in {time.perf_counter() - start:.0f} s)"
            )
    return judge.requires_grad_(False)


def _endless(epoch: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from epoch()


# ----------------------------------------------------------------------------------------------------- batches


def _batches(model: nn.Module, x: Tensor, cond: Tensor | None, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """The data in order, as the arguments of the model's methods, on the model's device."""
    check_batch("x", x)
    check_positive_int("batch_size", batch_size)
    if len(x) == 0:
        raise ValueError("x must hold at least one example, got none")
    if isinstance(model, CVAE) != (cond is not None):
        need = "needs cond as well" if cond is None else "takes no cond"
        raise ValueError(f"a {type(model).__name__} {need}")
    if cond is not None and len(cond) != len(x):
        raise ValueError(f"x and cond must have one length, got {len(x)} and {len(cond)}")
    device = _device(model)
    tensors = (x,) if cond is None else (x, cond)
    for parts in zip(*(tensor.split(batch_size) for tensor in tensors), strict=True):
        yield tuple(part.to(device) for part in parts)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
