"""Generative models that turn noise into data in steps: flow matching, and DDPM.

One convention for flow matching, everywhere in the course: time t = 0 is noise and t = 1 is data,
x_t = (1 − t)·noise + t·data, and the velocity to be learned is data − noise. DDPM counts as its paper does: t = 0 is
data, t = T is noise. The data are any tensors (B, …): images, codes, points of the plane.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from course_utils._checks import (
    check_batch,
    check_bool,
    check_choice,
    check_float,
    check_number,
    check_positive_int,
    check_same_shape,
    check_sizes,
    check_unit_interval,
)
from course_utils.losses.terms import LOG_2PI, Terms, gaussian_kl
from course_utils.models.denoisers import DENOISERS, make_denoiser
from course_utils.models.layers import (
    as_input,
    check_input,
    check_no_beta,
    check_no_condition,
    check_shape,
    standard_noise,
)
from course_utils.models.registry import register

Velocity = Callable[[Tensor, Tensor], Tensor]  # x (B, …), t (B,) -> as x
Labels = Tensor | int | None
SOLVERS = ("euler", "heun")


def straight_path(data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """x_t = (1 − t)·noise + t·data, and its velocity data − noise: both (B, …), for times t (B,).

    Source: Lipman et al. 2023, eqs. (22) and (23) with σ_min = 0; Liu, Gong & Liu 2023, eq. (1).
    """
    check_same_shape("data", check_batch("data", data), "noise", noise)
    if check_float("t", t).shape != data.shape[:1]:
        raise ValueError(f"t must be ({len(data)},), a time for each example, got {tuple(t.shape)}")
    t = t.view(-1, *[1] * (data.dim() - 1))
    return (1 - t) * noise + t * data, data - noise


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """(1 + w)·conditional − w·unconditional: two predictions with and without the class, of one shape → that shape.

    w = 0 is no guidance. Source: Ho & Salimans 2022, eq. (6); others write 1 + w for the weight.
    """
    check_same_shape("conditional", conditional, "unconditional", unconditional)
    return (1 + weight) * conditional - weight * unconditional


def trajectory(
    velocity: Velocity, x: Tensor, *, steps: int, solver: str = "euler", start: float = 0.0, end: float = 1.0
) -> Iterator[Tensor]:
    """The states of dx/dt = velocity(x, t) from ``x`` (B, …) at ``start`` to ``end``: steps + 1 of them, the first x.

    ``solver`` is "euler", whose error is of the order 1/steps, or "heun", 1/steps², which asks ``velocity`` twice a
    step. Raises ``ValueError`` for another solver or number of steps.
    """
    steps, solver = check_positive_int("steps", steps), check_choice("solver", solver, SOLVERS)
    times = torch.linspace(start, end, steps + 1, dtype=torch.float64).tolist()

    def states(x: Tensor) -> Iterator[Tensor]:
        yield x
        for now, then in pairwise(times):
            v = velocity(x, x.new_full(x.shape[:1], now))
            if solver == "heun":
                v = 0.5 * (v + velocity(x + (then - now) * v, x.new_full(x.shape[:1], then)))
            x = x + (then - now) * v
            yield x

    return states(x)


def _last(states: Iterator[Tensor]) -> Tensor:
    return deque(states, maxlen=1).pop()


class _Denoising(nn.Module):
    """What both models share: the network, labels that are dropped in training, guidance, the range of pixels."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        trunk: str = "mlp",
        hidden_dims: Sequence[int] | None = None,
        classes: int | None = None,
        drop: float = 0.1,
        pixels: bool = False,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        check_choice("trunk", trunk, tuple(DENOISERS))
        dims = DENOISERS[trunk] if hidden_dims is None else hidden_dims
        dims = check_sizes("hidden_dims", dims, "one or more widths, as in (256, 256)")
        self.classes = None if classes is None else check_positive_int("classes", classes)
        if check_number("drop", drop, least=0) > 1:
            raise ValueError(f"drop is the share of labels that training leaves out, at most 1, got {drop:g}")
        check_bool("pixels", pixels)
        self.config = dict(
            input_shape=self.input_shape, trunk=trunk, hidden_dims=dims, classes=self.classes, drop=float(drop),
            pixels=pixels,
        )  # fmt: skip
        self.network = make_denoiser(trunk, self.input_shape, dims, self.classes)

    def inputs(self, x: Tensor, y: Tensor, condition: Callable[[Tensor, Tensor], Tensor] | None = None) -> tuple:
        """What ``loss`` takes, from images (B, C, H, W) and labels (B,): the images, and with ``classes`` the labels,
        or those that ``condition(x, y)`` gives."""
        x = as_input(x, self.input_shape)
        if self.classes is None:
            check_no_condition(self, condition)
            return (x,)
        return x, (condition(x, y) if condition else y)

    def predict(self, x: Tensor, t: Tensor, y: Labels = None, *, guidance: float = 0.0) -> Tensor:
        """The network's output for x (B, …) at times t (B,) in [0, 1]: as x, guided towards the labels by ``guidance``.

        ``y``: labels (B,), one label for all, or None for no class. Raises ``ValueError`` for guidance without labels.
        """
        check_input(x, self.input_shape, next(self.parameters()))
        if check_float("t", t).shape != (len(x),):
            raise ValueError(f"t must be ({len(x)},), a time for each example, got {tuple(t.shape)}")
        y = self._labels(y, len(x))
        if check_number("guidance", guidance) == 0:
            return self.network(x, t, y)
        if y is None or (y == self.classes).all():
            raise ValueError("guidance needs labels y to guide towards, and a model of classes")
        return guided(self.network(x, t, y), self.network(x, t, torch.full_like(y, self.classes)), guidance)

    def _labels(self, y: Labels, n: int) -> Tensor | None:
        """Labels (n,) on the model's device, ``classes`` where there is none; None for a model without classes."""
        if self.classes is None:
            if y is not None:
                raise ValueError("this model knows no classes, so it takes no labels y: build it with classes=10")
            return None
        y = torch.as_tensor(self.classes if y is None else y, device=next(self.parameters()).device)
        if y.is_floating_point() or y.shape not in ((), (n,)):
            raise ValueError(f"y must be {n} whole numbers, or one, got {y.dtype} of shape {tuple(y.shape)}")
        if y.numel() and not 0 <= y.min() <= y.max() <= self.classes:
            raise ValueError(f"labels must lie in 0…{self.classes - 1}, got values from {y.min()} to {y.max()}")
        return y.long().expand(n)

    def _training_labels(self, y: Tensor | None, n: int) -> Tensor | None:
        """The labels, a share of them dropped in ``train()``. Raises ``ValueError`` where there are none to learn."""
        if y is None and self.training and self.classes is not None:
            raise ValueError(
                f"a model of {self.classes} classes is trained with labels: give a pair (x, y), got x alone"
            )
        y = self._labels(y, n)
        if y is None or not self.training:
            return y
        return torch.where(torch.rand(n, device=y.device) < self.config["drop"], self.classes, y)

    def _scaled(self, x: Tensor) -> Tensor:
        """The data as the network takes them: pixels in [−1, 1]. Raises for what is no input of the model."""
        check_input(x, self.input_shape, next(self.parameters()))
        if not self.config["pixels"]:
            return x
        check_unit_interval("x", x)
        return 2 * x - 1

    def _unscaled(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2).clamp(0, 1) if self.config["pixels"] else x

    def _log_volume(self) -> float:
        """log |d scaled / d x|, by which a density of scaled data becomes one of the data."""
        return math.prod(self.input_shape) * math.log(2) if self.config["pixels"] else 0.0

    def _noise(self, n: int, noise: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Normal noise to start from, (n, …), or the one that was given."""
        weights = next(self.parameters())
        if noise is None:
            return standard_noise((check_positive_int("n", n), *self.input_shape), weights, generator)
        if len(check_input(noise, self.input_shape, weights)) != n:
            raise ValueError(f"noise must hold {n} examples, got {len(noise)}")
        return noise

    @torch.no_grad()
    def sample(self, n: int, y: Labels = None, **how: object) -> Tensor:
        """``n`` new examples (n, …): the last of :meth:`states`, which takes the same arguments."""
        return self._unscaled(_last(self.states(n, y, **how)))


@register
class FlowMatching(_Denoising):
    """Flow matching: a network of x_t and t learns the mean velocity data − noise; an ODE along it makes samples.

    ``input_shape`` is that of one example; ``trunk`` the network, "mlp" or, for images, "unet", with ``hidden_dims``
    its widths or channels. With ``classes`` it is conditional on a label; in training a share ``drop`` of the labels is
    left out, so that the same network knows both velocities that guidance needs. ``pixels`` says that the data are
    pixels in [0, 1]: the network sees them in [−1, 1], and samples are given back in [0, 1]. Other data should have
    about unit variance; see :class:`LatentDiffusion`. Raises ``ValueError`` or ``TypeError`` for arguments that do not
    fit. Source: Lipman et al. 2023; labels and guidance: Ho & Salimans 2022.
    """

    def loss(self, x: Tensor, y: Tensor | None = None, *, beta: float = 1.0) -> Terms:
        """Squared error of the velocity at one random t for each example, summed over its dimensions: (B,).

        x (B, …), labels y (B,). No density and no bound: it cannot reach 0, since many paths cross at one x_t.
        """
        check_no_beta(self, beta)
        data = self._scaled(x)
        t = torch.rand(len(x), dtype=x.dtype, device=x.device)
        x_t, velocity = straight_path(data, torch.randn_like(data), t)
        error = self.predict(x_t, t, self._training_labels(y, len(x))) - velocity
        return Terms(loss=error.square().flatten(1).sum(1))

    def velocity(self, x: Tensor, t: Tensor, y: Labels = None, *, guidance: float = 0.0) -> Tensor:
        """The velocity at x (B, …) and times t (B,): see :meth:`predict`. Of pixels, at scaled ones."""
        return self.predict(x, t, y, guidance=guidance)

    def states(
        self, n: int, y: Labels = None, *, steps: int = 50, solver: str = "euler", guidance: float = 0.0,
        noise: Tensor | None = None, generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:  # fmt: skip
        """The path of ``n`` examples from noise (t = 0) to data (t = 1): steps + 1 tensors (n, …), as in training.

        ``y``: labels (n,), one label, or None for any class. ``noise`` is where to start, drawn unless given.
        """
        x, y = self._noise(n, noise, generator), self._labels(y, n)
        field = torch.no_grad()(lambda x, t: self.velocity(x, t, y, guidance=guidance))
        return trajectory(field, x, steps=steps, solver=solver)

    @torch.no_grad()
    def log_prob(self, x: Tensor, y: Labels = None, *, steps: int = 20, solver: str = "heun") -> Tensor:
        """log p(x) of examples (B, …): (B,), in nats, float64, exact up to the solver's error.

        Back along the ODE to the noise: log p(x) = log N(noise) − ∫ div v dt, the trace of the Jacobian taken exactly,
        with one backward pass for each dimension: for codes, not for images. Source: Chen,
        Rubanova, Bettencourt & Duvenaud 2018 (neural ODEs), eq. (8).
        """
        shape, dims = x.shape, math.prod(self.input_shape)

        def both(state: Tensor, t: Tensor) -> Tensor:  # (B, D + 1): velocity, and its divergence
            with torch.enable_grad():
                at = state[:, :dims].detach().requires_grad_()
                v = self.velocity(at.view(shape), t, y).flatten(1)
                rows = [torch.autograd.grad(v[:, i].sum(), at, retain_graph=i < dims - 1)[0][:, i] for i in range(dims)]
            return torch.cat([v.detach(), torch.stack(rows, 1).sum(1, keepdim=True)], dim=1)

        data = self._scaled(x).flatten(1)
        start = torch.cat([data, torch.zeros_like(data[:, :1])], dim=1)
        state = _last(trajectory(both, start, steps=steps, solver=solver, start=1.0, end=0.0))
        noise, change = state[:, :dims].double(), state[:, dims].double()
        return -0.5 * (noise.square() + LOG_2PI).sum(1) + change + self._log_volume()


@register
class DDPM(_Denoising):
    """Denoising diffusion (Ho, Jain & Abbeel 2020): data become noise in ``steps`` small steps, a network goes back.

    q(x_t|x_{t−1}) = N(√(1 − β_t)·x_{t−1}, β_t I) for t = 1 … T is fixed; p(x_{t−1}|x_t) has the variance β_t and a mean
    made of the network's guess of the noise. It is a hierarchical VAE with T levels and an encoder without weights.
    β_t rises evenly, from 0.1/T to 20/T, as in the paper for T = 1,000; ``steps`` is T, at least 40. The other
    arguments are those of :class:`FlowMatching`.
    """

    def __init__(self, *, steps: int = 1000, **arguments: object) -> None:
        super().__init__(**arguments)
        if check_positive_int("steps", steps) < 40:
            raise ValueError(f"with fewer than 40 steps the last ones are too large for this schedule, got {steps}")
        self.steps = int(steps)
        self.config |= dict(steps=self.steps)
        betas = torch.linspace(0.1, 20, self.steps, dtype=torch.float64) / self.steps
        self.register_buffer("betas", betas, persistent=False)  # of t = 1 … T, at index t − 1, float64
        self.register_buffer("kept", (1 - betas).cumprod(0), persistent=False)  # ᾱ_t

    def diffuse(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = √ᾱ_t·x + √(1 − ᾱ_t)·noise, (B, …), at once for whole numbers t (B,) from 1 to T. Eq. (4)."""
        check_same_shape("x", check_batch("x", x), "noise", noise)
        if (
            not isinstance(t, Tensor)
            or t.is_floating_point()
            or t.shape != x.shape[:1]
            or not ((t >= 1) & (t <= self.steps)).all()
        ):
            raise ValueError(f"t must be ({len(x)},) whole numbers from 1 to {self.steps}, got {t}")
        kept = self.kept[t - 1].view(-1, *[1] * (x.dim() - 1))
        return kept.sqrt().to(x) * x + (1 - kept).sqrt().to(x) * noise

    def noise(self, x: Tensor, t: Tensor, y: Labels = None, *, guidance: float = 0.0) -> Tensor:
        """The network's guess of the noise in x_t (B, …), for whole numbers t (B,): as x. See :meth:`predict`."""
        return self.predict(x, t.to(x) / self.steps, y, guidance=guidance)

    def loss(self, x: Tensor, y: Tensor | None = None, *, beta: float = 1.0) -> Terms:
        """At one random t for each example: ``loss``, the squared error of the guessed noise, summed over dimensions,
        and ``bound``, an estimate of the bound on −log p(x) in nats from the same error: (B,) each.

        ``loss`` is the simple one, eq. (14): the bound's terms without their weights. ``bound`` is right on average and
        varies much from one t to the next; :meth:`bound` sums all of them.
        """
        check_no_beta(self, beta)
        data, y = self._scaled(x), self._training_labels(y, len(x))
        t = torch.randint(1, self.steps + 1, (len(x),), device=x.device)
        error = self._error(data, t, y)
        bound = self._fixed(data) + self.steps * self._weights[t - 1] * error.detach()
        return Terms(loss=error, bound=bound.to(error))

    @torch.no_grad()
    def bound(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """A bound on −log p(x) in nats, (B,), float64: all T terms of eq. (5), one draw of noise for each.

        The last step is a Gaussian too, so this is a density of the data; the paper bins its pixels. Its mean over
        draws lies above −log p(x); a single value may lie below.
        """
        data, y = self._scaled(x), self._labels(y, len(x))
        total = self._fixed(data)
        for t in range(1, self.steps + 1):
            error = self._error(data, torch.full((len(x),), t, device=x.device), y)
            total = total + self._weights[t - 1] * error
        return total

    def states(
        self, n: int, y: Labels = None, *, guidance: float = 0.0,
        noise: Tensor | None = None, generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:  # fmt: skip
        """Ancestral sampling, algorithm 2: x_T, x_{T−1} … x_0, T + 1 tensors (n, …), as in training.

        ``y``: labels (n,), one label, or None for any class. ``noise`` is x_T, drawn unless given.
        """
        x, y = self._noise(n, noise, generator), self._labels(y, n)
        return self._back(x, y, guidance, generator)

    def _back(self, x: Tensor, y: Labels, guidance: float, generator: torch.Generator | None) -> Iterator[Tensor]:
        yield x
        for t in range(self.steps, 0, -1):
            beta, kept = self.betas[t - 1], self.kept[t - 1]  # without axes: they leave the dtype of x as it is
            with torch.no_grad():
                noise = self.noise(x, torch.full((len(x),), t, device=x.device), y, guidance=guidance)
                x = (x - beta / (1 - kept).sqrt() * noise) / (1 - beta).sqrt()
                if t > 1:
                    x = x + beta.sqrt() * standard_noise(x.shape, x, generator)
            yield x

    def _error(self, data: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        noise = torch.randn_like(data)
        return (self.noise(self.diffuse(data, t, noise), t, y) - noise).square().flatten(1).sum(1)

    @property
    def _weights(self) -> Tensor:
        """Of the squared error at t in the bound: β_t / (2 (1 − β_t)(1 − ᾱ_t)), (T,), float64; eq. (12), σ² = β."""
        return self.betas / (2 * (1 - self.betas) * (1 - self.kept))

    def _fixed(self, data: Tensor) -> Tensor:
        """What the bound holds beside the errors: the KL at T, and what unequal variances cost; (B,), float64."""
        betas, kept = self.betas, self.kept
        ratio = (1 - kept[:-1]) / (1 - kept[1:])  # of q's variance of x_{t−1} given x_t and x_0 to β_t, t = 2 … T
        each = 0.5 * (ratio - 1 - ratio.log()).sum() + 0.5 * (LOG_2PI + betas[0].log())
        mu = kept[-1].sqrt() * data.double().flatten(1)
        last = gaussian_kl(mu, (1 - kept[-1]).log().expand_as(mu))
        return last + mu.shape[1] * each - self._log_volume()
