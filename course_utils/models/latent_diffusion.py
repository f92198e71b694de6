"""Latent diffusion: an encoder and a decoder that stay as they are, and a generative model of their scaled codes."""

import copy
import inspect

import torch
from torch import Tensor, nn

from course_utils._checks import check_choice, check_float
from course_utils.losses.terms import Terms
from course_utils.models.layers import check_no_condition, gaussian_log_density, reparameterize
from course_utils.models.registry import Part, describe, part, register

SCALINGS = ("dimension", "one", "none")


@register
class LatentDiffusion(nn.Module):
    """A generative model of the codes of an encoder-decoder. Source: Rombach et al. 2022.

    ``autoencoder``: any model with ``encode(x)``, codes (B, …) or a pair (mu, log_var), and ``decode(z)`` of those very
    codes, neither bent nor quantised in between; it is copied and frozen. ``prior``: any model with ``loss(z)`` and
    ``sample(n)``, or ``loss(z, y)`` and ``sample(n, y)``, such as :class:`FlowMatching`, :class:`DDPM` or a mixture; it
    is the part that is trained. Of a pair, codes are drawn, or with ``sampled=False`` the means. ``scaling``: before
    the prior sees them, codes are brought to mean 0 and unit variance, each "dimension" by itself, or all by "one"
    factor, as in the paper; :meth:`measure` finds both numbers, before training. Sampling takes them back. "none"
    leaves codes as they are.
    Saved if both parts can be. Raises ``TypeError`` or ``ValueError`` for parts that do not fit.
    """

    def __init__(self, *, autoencoder: Part, prior: Part, scaling: str = "dimension", sampled: bool = True) -> None:
        super().__init__()
        self.scaling, self.sampled = check_choice("scaling", scaling, SCALINGS), bool(sampled)
        self.autoencoder = _frozen(_check_part("autoencoder", part(autoencoder), "encode", "decode"))
        _check_decodes_its_codes(self.autoencoder)
        self.prior = _check_part("prior", part(prior), "loss", "sample")
        start = 1.0 if scaling == "none" else 0.0  # 0: not yet measured
        shape = tuple(getattr(self.prior, "input_shape", ())) if scaling == "dimension" else ()
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.full(shape, start))

    @property
    def config(self) -> dict[str, object]:
        """The constructor's arguments as plain values. Raises ``TypeError`` for a part that cannot be saved."""
        parts = dict(autoencoder=describe(self.autoencoder), prior=describe(self.prior))
        return parts | dict(scaling=self.scaling, sampled=self.sampled)

    @property
    def given(self) -> list[str]:
        """Names in the state of what training begins with and never moves: the autoencoder's weights."""
        return [name for name in self.state_dict() if name.startswith("autoencoder.")]

    def train(self, mode: bool = True) -> "LatentDiffusion":
        """As ever, but for the autoencoder, which stays in ``eval()``."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor, ...]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: images as the autoencoder takes them (flat, where
        it does not say), and the labels, where the prior has ``classes``."""
        check_no_condition(self, condition)
        own = getattr(self.autoencoder, "inputs", None)
        x = own(x, y)[0] if own else x.flatten(1)
        return (x,) if getattr(self.prior, "classes", None) is None else (x, y)

    @torch.no_grad()
    def measure(self, x: Tensor) -> "LatentDiffusion":
        """Find shift and scale from the codes of examples x (N, …), a thousand or more; returns the model.

        Raises ``ValueError`` for a dimension in which all codes are one number, and for codes that are not finite.
        """
        if self.scaling == "none":
            return self
        z = self._codes(x)
        if z.shape[1:] != (wanted := getattr(self.prior, "input_shape", z.shape[1:])):
            raise ValueError(f"the codes are {tuple(z.shape[1:])} and the prior takes {tuple(wanted)}: its input_shape")
        if len(z) < 2 or not z.isfinite().all():
            raise ValueError(f"a scale needs two or more codes, all of them finite; got {len(z)}, of {tuple(x.shape)}")
        dims = 0 if self.scaling == "dimension" else tuple(range(z.dim()))
        shift, scale = z.mean(dims), z.std(dims)
        if not (scale.isfinite() & (scale > 0)).all():
            raise ValueError("codes of one constant number cannot be scaled to unit variance; give more examples")
        self.shift, self.scale = shift, scale
        return self

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Examples (B, …) → scaled codes (B, …), which ``prior`` is trained on. Raises ``ValueError`` before
        :meth:`measure`."""
        self._check_measured()
        return (self._codes(x) - self.shift) / self.scale

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Scaled codes (B, …) → what the autoencoder makes of the codes they stand for: the mean of its likelihood,
        pixels, where it has one, else what its ``decode`` gives."""
        self._check_measured()
        params = self.autoencoder.decode(check_float("codes", codes) * self.scale + self.shift)
        likelihood = getattr(self.autoencoder, "likelihood", None)
        return params if likelihood is None else likelihood.mean(params)

    def loss(self, x: Tensor, y: Tensor | None = None, *, beta: float = 1.0) -> Terms:
        """The prior's loss on the codes of x (B, …), with labels y (B,) where it takes them; see there."""
        codes = self.encode(x)
        return self.prior.loss(codes, beta=beta) if y is None else self.prior.loss(codes, y, beta=beta)

    def sample(self, n: int, y: Tensor | int | None = None, **how: object) -> Tensor:
        """``n`` new examples: codes from the prior, given labels y and what else its ``sample`` takes, decoded."""
        codes = self.prior.sample(n, **how) if y is None else self.prior.sample(n, y, **how)
        return self.decode(codes)

    @torch.no_grad()
    def bound(self, x: Tensor, y: Tensor | None = None, **how: object) -> Terms:
        """A bound on −log p(x) with the learned prior for N(0, I): ``loss`` = ``recon`` + ``kl``, (B,) each, in nats.

        ``kl`` is log q(z|x) − log p(z) at one z of q, in the units of the codes as the encoder makes them: right on
        average, sometimes negative. log p(z) is from the prior's ``log_prob``, which takes labels y and what else is
        given, or −``bound`` of a DDPM. Raises ``TypeError`` unless ``encode`` gives (mu, log_var), ``decode`` the
        parameters of a ``likelihood``, and the prior has one of the two methods.
        """
        self._check_measured()
        found, likelihood = self.autoencoder.encode(x), getattr(self.autoencoder, "likelihood", None)
        density = getattr(self.prior, "log_prob", None) or getattr(self.prior, "bound", None)
        if isinstance(found, Tensor) or likelihood is None or density is None:
            raise TypeError("a bound needs a VAE with a likelihood, and a prior with log_prob or bound")
        mu, log_var = found
        z = reparameterize(mu, log_var)
        scaled = (z - self.shift) / self.scale
        log_p = density(scaled, **how) if y is None else density(scaled, y, **how)
        log_p = (log_p if hasattr(self.prior, "log_prob") else -log_p) - self.scale.double().log().expand_as(z[0]).sum()
        recon = likelihood.nll(self.autoencoder.decode(z), x)
        kl = (gaussian_log_density(z, mu, log_var) - log_p).to(recon)
        return Terms(loss=recon + kl, recon=recon, kl=kl)

    def _codes(self, x: Tensor) -> Tensor:
        """Codes as the encoder gives them."""
        found = self.autoencoder.encode(x)
        if isinstance(found, Tensor):
            return found
        mu, log_var = found
        return reparameterize(mu, log_var) if self.sampled else mu

    def _check_measured(self) -> None:
        if not (self.scale > 0).all():
            raise ValueError("the scale of the codes is not known yet: call measure(images) before training")


def _check_part(name: str, model: nn.Module, *methods: str) -> nn.Module:
    if absent := [method for method in methods if not callable(getattr(model, method, None))]:
        raise TypeError(
            f"{name} must have the methods {' and '.join(methods)}; {type(model).__name__} has no {absent[0]}"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(model).__name__}")
    return model


def _check_decodes_its_codes(model: nn.Module) -> None:
    if getattr(model, "bent", False) or hasattr(model, "codes"):
        raise ValueError(
            f"autoencoder must decode what encode gives; this {type(model).__name__} bends or quantises it in between"
        )
    try:
        (signature := inspect.signature(model.decode)).bind(None)
    except TypeError:
        raise TypeError(f"autoencoder must decode codes alone, got {type(model).__name__}.decode{signature}") from None


def _frozen(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(False).eval()
