"""VAEs whose code has levels: z_1 next to the image, z_2 above it, up to z_K; each level is the prior of the one below.

B is the batch size, L_k the number of dimensions of level k. Everything that has one entry a level, ``latent_dims``,
codes, temperatures, begins with z_1. The rate is a sum of one term for each level, and each is priced by the
*conditional* prior p(z_k|z_k+1, …, z_K), not by N(0, I), which is the prior of the top alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils._checks import (
    check_beta,
    check_bool,
    check_choice,
    check_number,
    check_positive_int,
    check_same_shape,
    check_sizes,
)
from course_utils.losses.likelihoods import Likelihood, make_likelihood, plain_sigma
from course_utils.losses.terms import Terms, gaussian_kl
from course_utils.models.layers import (
    ACTIVATIONS,
    GaussianHeads,
    as_input,
    check_code,
    check_hidden_dims,
    check_input,
    check_no_condition,
    check_shape,
    decoder_layers,
    encoder_layers,
    evaluating,
    gaussian_log_density,
    mlp_layers,
    normalised,
    reparameterize,
    standard_noise,
)
from course_utils.models.registry import register

Gaussian = tuple[Tensor, Tensor]  # mu and log_var, (B, L_k) each
Noise = Callable[[Tensor], Tensor]  # torch.randn_like, or torch.zeros_like for means

SIZES = "the size of each level, z_1 first, as in (16, 8)"
INFERENCE = ("bottom-up", "ladder", "residual")


class Level(NamedTuple):
    """One level of a batch: the code, the Gaussian it was drawn from, and the conditional prior at the codes above."""

    z: Tensor  # (B, L_k)
    q: Gaussian
    p: Gaussian


def precision_weighted(a: Gaussian, b: Gaussian) -> Gaussian:
    """The Gaussian proportional to the product of two: precisions 1/σ² add up, and weigh the means.

    Shapes: four tensors (B, L) → ``mu`` and ``log_var``, (B, L) each. Raises ``ValueError`` for other shapes. Source:
    Sønderby et al. 2016, section 2.
    """
    for name, other in (("log_var of the first", a[1]), ("mu of the second", b[0]), ("log_var of the second", b[1])):
        check_same_shape("mu of the first", a[0], name, other)
    share = (b[1] - a[1]).sigmoid()  # of the first in the sum of precisions
    return torch.lerp(b[0], a[0], share), -torch.logaddexp(-a[1], -b[1])


class _Levels(nn.Module):
    """What both models share: all but how a code is inferred, what the prior of a level is, and what is decoded."""

    latent_dims: tuple[int, ...]
    input_shape: tuple[int, ...]
    likelihood: Likelihood

    def infer(self, x: Tensor) -> tuple[Level, ...]:
        """One code for each level, drawn from q given x (B, *input_shape), and its two Gaussians; z_1 first."""
        return self._infer(x, torch.randn_like)

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Codes z_1, z_2, …, (B, L_k) each → parameters of p(x|z), (B, *input_shape)."""
        count = len(self.latent_dims)
        if not isinstance(codes, Sequence) or len(codes) != count:
            came = f"{len(codes)} codes" if isinstance(codes, Sequence) else f"one {type(codes).__name__}"
            raise ValueError(f"decode takes {count} codes, z_1 first, in a tuple; got {came}")
        codes = [check_code(z, size, self._weight) for z, size in zip(codes, self.latent_dims, strict=True)]
        if len({len(z) for z in codes}) > 1:
            raise ValueError(f"decode takes as many codes of each level, got {[len(z) for z in codes]}")
        return self._decode(codes)

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The loss, recon, kl, and its share in each level, kl_1, kl_2, …: (B,) each, in nats, with one sample.

        Where the code of a level below enters q of a level above, a level's share is log q − log p at the sample, which
        may be negative; else it is a KL in closed form, given the codes above.
        """
        beta = check_beta(beta)
        self.likelihood.check(x)  # before averages of the normalisation move
        levels = self.infer(x)
        recon = self.likelihood.nll(self._decode([level.z for level in levels]), x)
        rates = [self._rate(k, level).to(recon) for k, level in enumerate(levels, start=1)]
        kl = torch.stack(rates).sum(0)
        named = {f"kl_{k}": rate for k, rate in enumerate(rates, start=1)}
        return Terms(loss=recon + beta * kl, recon=recon, kl=kl, **named)

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def log_weights(self, x: Tensor, *, samples: int) -> Tensor:
        """log p(x, z) − log q(z|x) for ``samples`` z, all levels together: (samples, B), in nats, float64."""
        x = check_input(x, self.input_shape, self._weight)
        x = x.repeat(check_positive_int("samples", samples), *[1] * (x.dim() - 1))
        levels = self.infer(x)
        log_w = -self.likelihood.nll(self._decode([level.z for level in levels]), x).double()
        for z, q, p in levels:
            log_w = log_w + gaussian_log_density(z, *p) - gaussian_log_density(z, *q)
        return log_w.view(samples, -1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ (B, *input_shape), expected pixels: every level at the mean of its q, the levels it depends on likewise."""
        return self.likelihood.mean(self._decode([level.z for level in self._infer(x, torch.zeros_like)]))

    @torch.no_grad()
    def sample_codes(
        self,
        n: int,
        *,
        held: Mapping[int, Tensor] | None = None,
        temperature: float | Sequence[float] = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, ...]:
        """``n`` codes of every level from the prior, top first and each level given those above: (n, L_k), z_1 first.

        ``held``: levels that are not drawn, as in ``{2: z_2}``; what is below is drawn given them. ``temperature``
        multiplies the standard deviation of each level's prior, with one number for all or one for each level, z_1
        first; 0 takes the mean of a level *given* what was drawn above. Drawn as in ``eval()``, whatever the mode.
        Raises ``ValueError`` for other levels, shapes or temperatures.
        """
        count, n, held = len(self.latent_dims), check_positive_int("n", n), dict(held or {})
        if unknown := [k for k in held if k not in range(1, count + 1)]:
            raise ValueError(f"held has level {unknown[0]!r}; the levels are 1 to {count}")
        per_level = isinstance(temperature, Sequence) and not isinstance(temperature, str)
        temperatures = list(temperature) if per_level else [temperature] * count
        if len(temperatures) != count:
            raise ValueError(f"temperature is one number, or one for each of {count} levels, got {temperature!r}")
        temperatures = [check_number("temperature", t, least=0) for t in temperatures]
        codes: dict[int, Tensor] = {}
        for k in range(count, 0, -1):
            with evaluating(self):
                mu, log_var = self._prior(k, codes, n)
            if k in held:
                codes[k] = check_code(held[k], self.latent_dims[k - 1], self._weight)
                if len(codes[k]) != n:
                    raise ValueError(f"held[{k}] has {len(codes[k])} codes, expected n = {n}")
                continue
            eps = standard_noise(tuple(mu.shape), self._weight, generator, temperatures[k - 1])
            codes[k] = reparameterize(mu, log_var, eps=eps)
        return tuple(codes[k] for k in sorted(codes))

    def sample(
        self,
        n: int,
        *,
        temperature: float | Sequence[float] = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` new images (n, *input_shape), expected pixels; arguments as for :meth:`sample_codes`."""
        codes = self.sample_codes(n, temperature=temperature, generator=generator)
        with torch.no_grad(), evaluating(self):
            return self.likelihood.mean(self._decode(list(codes)))

    def _top(self, n: int) -> Gaussian:
        return (self._weight.new_zeros(n, self.latent_dims[-1]),) * 2

    def _rate(self, k: int, level: Level) -> Tensor:
        return gaussian_kl(*level.q, prior=level.p)

    @property
    def _weight(self) -> Tensor:
        return next(self.parameters())


@register
class HierarchicalVAE(_Levels):
    """A chain of levels: p(z_K) = N(0, I), then p(z_k|z_k+1) down to z_1, and p(x|z_1).

    ``latent_dims``: the sizes of z_1, z_2, …; with one of them it is the :class:`VAE`. How a code is inferred, by name:

    - "bottom-up": z_1 ~ q(z_1|x), then z_2 ~ q(z_2|z_1), and so on (Burda, Grosse & Salakhutdinov 2016, eq. (2)).
    - "ladder": features of x go up without noise; then z_K is drawn first, and each level below from the product of
      what the features say and what p(z_k|z_k+1) says, :func:`precision_weighted` (Sønderby et al. 2016).
    - "residual": top-down as well, but q is p(z_k|z_k+1) moved: N(μ_p + Δμ, (σ_p·Δσ)²), with Δμ and Δσ from features
      and z_k+1 together (Vahdat & Kautz 2020, section 3.2).

    ``width`` is that of the one hidden layer between levels. ``norm`` puts batch normalisation between each linear
    layer and its activation; then examples of a batch touch in ``train()``, so measure in ``eval()``. Other arguments
    as for :class:`VAE`.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dims: Sequence[int],
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float | str = 1.0,
        inference: str = "bottom-up",
        width: int = 128,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.latent_dims = check_sizes("latent_dims", latent_dims, SIZES)
        self.inference = check_choice("inference", inference, INFERENCE)
        dims, width = check_hidden_dims(hidden_dims, trunk), check_positive_int("width", width)
        check_bool("norm", norm)
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_shape=self.input_shape, latent_dims=self.latent_dims, hidden_dims=dims, trunk=trunk,
            activation=activation, likelihood=likelihood, sigma=plain_sigma(sigma), inference=inference, width=width,
            norm=norm,
        )  # fmt: skip
        layers, features = encoder_layers(self.input_shape, dims, trunk, activation)
        self.encoder = _net(layers, norm)
        lower, top = self.latent_dims[:-1], self.latent_dims[-1]
        seen = [features, *[width] * len(lower)]  # by the heads of each level
        if inference == "residual":
            seen = [size + width for size in seen[:-1]] + seen[-1:]  # what p sees, too
        self.heads = nn.ModuleList(map(GaussianHeads, seen, self.latent_dims))
        self.decoder = _net(decoder_layers(self.input_shape, self.latent_dims[0], dims, trunk, activation), norm)
        ups = lower if inference == "bottom-up" else [features, *[width] * len(lower)][: len(lower)]
        self.up = nn.ModuleList(_net(mlp_layers(size, (width,), activation)[0], norm) for size in ups)
        self.down = nn.ModuleList(_net(mlp_layers(size, (width,), activation)[0], norm) for size in [*lower, top][1:])
        self.priors = nn.ModuleList(GaussianHeads(width, size) for size in lower)

    def _infer(self, x: Tensor, noise: Noise) -> tuple[Level, ...]:
        h = self.encoder(check_input(x, self.input_shape, self._weight))
        top, features, codes, q = len(self.latent_dims), {}, {}, {}
        for k in range(1, top + 1):
            features[k] = h
            if self.inference == "bottom-up":
                q[k] = self.heads[k - 1](h)
                h = codes[k] = reparameterize(*q[k], eps=noise(q[k][0]))
            if k < top:
                h = self.up[k - 1](h)
        levels: list[Level] = []
        for k in range(top, 0, -1):
            seen = [] if k == top else [self.down[k - 1](codes[k + 1])]  # all that comes from above
            p = self.priors[k - 1](*seen) if seen else self._top(len(x))
            if self.inference == "ladder":
                said = self.heads[k - 1](features[k])
                q[k] = precision_weighted(said, p) if seen else said
            elif self.inference == "residual":
                q[k] = _moved(p, self.heads[k - 1](torch.cat([features[k], *seen], 1)))
            if k not in codes:
                codes[k] = reparameterize(*q[k], eps=noise(q[k][0]))
            levels.append(Level(codes[k], q[k], p))
        return tuple(reversed(levels))

    def _prior(self, k: int, codes: Mapping[int, Tensor], n: int) -> Gaussian:
        return self.priors[k - 1](self.down[k - 1](codes[k + 1])) if k < len(self.latent_dims) else self._top(n)

    def _decode(self, codes: Sequence[Tensor]) -> Tensor:
        return self.decoder(codes[0])

    def _rate(self, k: int, level: Level) -> Tensor:
        if self.inference != "bottom-up" or k == len(self.latent_dims):
            return super()._rate(k, level)
        # z_k+1 was drawn from q(z_k+1|z_k): given it, z_k is no sample of q(z_k|x), and no KL of the two applies.
        return gaussian_log_density(level.z, *level.q) - gaussian_log_density(level.z, *level.p)


@register
class ResidualVAE(_Levels):
    """Several small levels that all reach the image: each adds to a state that runs from the top down to the pixels.

    The state begins as a learned vector. Level k reads its prior p(z_k|z_k+1, …, z_K) from it, and adds a network of
    z_k to it; the last state is decoded. The posterior is "residual", as in :class:`HierarchicalVAE`, from the features
    of x and the state (Vahdat & Kautz 2020, section 3.2). What is added begins small, divided by √K (as the
    last weights of a block in Child 2021, section 4.1). Both papers have convolutions and dozens of levels; this is
    their idea in fully connected layers.

    ``hidden_dims`` are those of the encoder, reversed in the decoder; ``width`` is that of the state, and of all
    networks of a level. Other arguments as for :class:`HierarchicalVAE`.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dims: Sequence[int],
        hidden_dims: Sequence[int] = (400,),
        width: int = 128,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float | str = 1.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.latent_dims = check_sizes("latent_dims", latent_dims, SIZES)
        dims, width = check_hidden_dims(hidden_dims, "mlp"), check_positive_int("width", width)
        check_bool("norm", norm)
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_shape=self.input_shape, latent_dims=self.latent_dims, hidden_dims=dims, width=width,
            activation=activation, likelihood=likelihood, sigma=plain_sigma(sigma), norm=norm,
        )  # fmt: skip
        layers, features = encoder_layers(self.input_shape, dims, "mlp", activation)
        self.encoder = _net([*layers, nn.Linear(features, width), ACTIVATIONS[activation]()], norm)
        self.state = nn.Parameter(torch.zeros(width))

        def nets(given: Callable[[int], int], end: Callable[[int], nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(_net(mlp_layers(given(size), (width,), activation)[0], norm), end(size))
                for size in self.latent_dims
            )

        self.priors = nets(lambda size: width, lambda size: GaussianHeads(width, size))[:-1]  # the top's is N(0, I)
        self.moves = nets(lambda size: 2 * width, lambda size: GaussianHeads(width, size))
        self.adds = nets(lambda size: size, lambda size: nn.Linear(width, width))
        for add in self.adds:
            add[-1].weight.data /= math.sqrt(len(self.latent_dims))
        self.decoder = _net(decoder_layers(self.input_shape, width, dims, "mlp", activation), norm)

    def _infer(self, x: Tensor, noise: Noise) -> tuple[Level, ...]:
        features = self.encoder(check_input(x, self.input_shape, self._weight))
        state, levels = self.state.expand(len(x), -1), []
        for k in range(len(self.latent_dims), 0, -1):
            p = self._read(k, state)
            q = _moved(p, self.moves[k - 1](torch.cat([features, state], 1)))
            levels.append(Level(reparameterize(*q, eps=noise(q[0])), q, p))
            state = state + self.adds[k - 1](levels[-1].z)
        return tuple(reversed(levels))

    def _read(self, k: int, state: Tensor) -> Gaussian:
        return self.priors[k - 1](state) if k < len(self.latent_dims) else self._top(len(state))

    def _prior(self, k: int, codes: Mapping[int, Tensor], n: int) -> Gaussian:
        return self._read(k, self._state(codes, n))

    def _state(self, codes: Mapping[int, Tensor], n: int) -> Tensor:
        return sum((self.adds[k - 1](codes[k]) for k in sorted(codes, reverse=True)), self.state.expand(n, -1))

    def _decode(self, codes: Sequence[Tensor]) -> Tensor:
        return self.decoder(self._state(dict(enumerate(codes, start=1)), len(codes[0])))


def _moved(p: Gaussian, move: Gaussian) -> Gaussian:
    """N(μ_p + Δμ, (σ_p·Δσ)²): the logarithms of variances add."""
    return p[0] + move[0], p[1] + move[1]


def _net(layers: Sequence[nn.Module], norm: bool) -> nn.Sequential:
    return nn.Sequential(*(normalised(layers) if norm else layers))
