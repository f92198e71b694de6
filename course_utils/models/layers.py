"""What the models are put together from: trunks, Gaussian heads, the sampler, and checks of their inputs."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from course_utils._checks import (
    check_batch,
    check_choice,
    check_dtype,
    check_float,
    check_number,
    check_positive_int,
    check_same_shape,
    check_sizes,
)
from course_utils.losses.terms import LOG_2PI

LOG_VAR_RANGE = (-30.0, 20.0)  # σ from 3e-7 to 2e4: far outside what training visits, far inside what exp can take

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}

PROPOSALS = ("posterior", "defensive")

TRUNKS = ("mlp", "conv")

PRIOR_WIDTH = 128  # of the one hidden layer between a condition and its prior

DEFAULT_DIMS = {"mlp": (400,), "conv": (32, 64)}


def reparameterize(mu: Tensor, log_var: Tensor, *, eps: Tensor | None = None) -> Tensor:
    """z = μ + σ·ε with σ = exp(½ log σ²), so that gradients reach μ and log σ² through the sample.

    Shapes: all (…, L). ``eps`` is standard normal noise, drawn here unless given. Raises ``ValueError`` when shapes
    differ. Source: Kingma & Welling 2014, section 2.4.
    """
    check_same_shape("mu", mu, "log_var", log_var)
    if eps is None:
        eps = torch.randn_like(mu)
    check_same_shape("eps", eps, "mu", mu)
    return mu + (0.5 * log_var).exp() * eps


class GaussianHeads(nn.Module):
    """Two linear layers from features to the parameters of q(z|x): ``mu`` and ``log_var``, one head for each."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.mu = nn.Linear(features, latent_dim)
        self.log_var = nn.Linear(features, latent_dim)
        nn.init.normal_(self.log_var.weight, std=1e-2)  # σ starts near 1, the prior's own
        nn.init.zeros_(self.log_var.bias)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(…, features) → ``mu`` and ``log_var``, each (…, L); ``log_var`` bounded so that exp cannot overflow."""
        return self.mu(h), self.log_var(h).clamp(*LOG_VAR_RANGE)


class SkipDecoder(nn.Sequential):
    """Decoder layers that all see z: it is joined to what each layer after the first takes, [h, z].

    Where h is an image, z joins it as L constant maps. Source: Dieng, Kim, Rush & Blei 2019, Skip-VAE.
    """

    def forward(self, z: Tensor) -> Tensor:
        """Codes (B, L) → decoder output (B, …)."""
        first, *others = self
        h = first(z)
        for layer in others:
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                size = h.shape[2:]
                h = torch.cat([h, z.view(*z.shape, *[1] * len(size)).expand(-1, -1, *size)], dim=1)
            h = layer(h)
        return h


def mlp_layers(
    features: int, dims: tuple[int, ...], activation: str, *, joined: int = 0
) -> tuple[list[nn.Module], int]:
    """Linear layers of the given widths, each followed by the activation; and the number of features at the end.

    ``joined`` features more come to what each layer after the first takes, and to those at the end.
    """
    act = ACTIVATIONS[check_choice("activation", activation, tuple(ACTIVATIONS))]
    layers: list[nn.Module] = []
    for width in dims:
        layers += [nn.Linear(features, width), act()]
        features = width + joined
    return layers, features


def normalised(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers, with batch normalisation between each linear or convolutional one and its activation."""
    out: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, tuple(ACTIVATIONS.values())):
            linear = isinstance(before := out[-1], nn.Linear)
            out.append(nn.BatchNorm1d(before.out_features) if linear else nn.BatchNorm2d(before.out_channels))
        out.append(layer)
    return out


def prior_net(cond_dim: int, latent_dim: int, activation: str) -> nn.Sequential:
    """The condition's own network, (…, C) → ``mu`` and ``log_var`` of p(z|c); heads of zeros make it N(0, I) at first.

    ``log_var`` is bounded as in the encoder.
    """
    layers, features = mlp_layers(cond_dim, (PRIOR_WIDTH,), activation)
    heads = GaussianHeads(features, latent_dim)
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers, heads)


def encoder_layers(
    shape: tuple[int, ...], dims: tuple[int, ...], trunk: str, activation: str
) -> tuple[list[nn.Module], int]:
    if trunk == "mlp":
        layers, features = mlp_layers(math.prod(shape), dims, activation)
        return [nn.Flatten(), *layers], features
    act = ACTIVATIONS[check_choice("activation", activation, tuple(ACTIVATIONS))]
    layers, channels = [], shape[0]
    for width in dims:
        layers += [nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1), act()]
        channels = width
    return [*layers, nn.Flatten()], channels * math.prod(_conv_sizes(shape, len(dims))[-1])


def decoder_layers(
    shape: tuple[int, ...], latent_dim: int, dims: tuple[int, ...], trunk: str, activation: str, *, joined: int = 0
) -> list[nn.Module]:
    if trunk == "mlp":
        layers, features = mlp_layers(latent_dim, dims[::-1], activation, joined=joined)
        return [*layers, nn.Linear(features, math.prod(shape)), nn.Unflatten(1, shape)]
    act = ACTIVATIONS[activation]
    sizes = _conv_sizes(shape, len(dims))
    layers = [
        nn.Linear(latent_dim, dims[-1] * math.prod(sizes[-1])),
        act(),
        nn.Unflatten(1, (dims[-1], *sizes[-1])),
    ]
    for stage in reversed(range(len(dims))):
        # Odd sizes lose a row on the way down; output padding gives it back on the way up.
        padding = tuple(want - 2 * have for want, have in zip(sizes[stage], sizes[stage + 1], strict=True))
        out = dims[stage - 1] if stage else shape[0]
        layers.append(nn.ConvTranspose2d(dims[stage] + joined, out, 4, stride=2, padding=1, output_padding=padding))
        layers += [act()] if stage else []
    return layers


def _conv_sizes(shape: tuple[int, ...], stages: int) -> list[tuple[int, int]]:
    """(height, width) before each stage and after the last; every stage halves, rounding down."""
    if len(shape) != 3:
        raise ValueError(f"a convolutional trunk takes images (channels, height, width), got input_shape={shape}")
    sizes = [(shape[1] // 2**stage, shape[2] // 2**stage) for stage in range(stages + 1)]
    if min(sizes[-1]) < 1:
        raise ValueError(f"{stages} stages halve {shape[1]}×{shape[2]} to nothing; give fewer hidden_dims")
    return sizes


def check_shape(name: str, value: Sequence[int]) -> tuple[int, ...]:
    return check_sizes(name, value, "the shape of one example, as in (1, 28, 28) or (784,)")


def check_hidden_dims(value: Sequence[int] | None, trunk: str) -> tuple[int, ...]:
    check_choice("trunk", trunk, TRUNKS)
    if value is None:
        return DEFAULT_DIMS[trunk]
    if isinstance(value, int) or not isinstance(value, Sequence):
        raise TypeError(f"hidden_dims must be a tuple of widths, as in (400,) or (), got {value!r}")
    if trunk == "conv" and not value:
        raise ValueError("a convolutional trunk needs at least one stage in hidden_dims, as in (32, 64)")
    return tuple(check_positive_int(f"hidden_dims[{i}]", width) for i, width in enumerate(value))


def check_input(x: Tensor, input_shape: tuple[int, ...], weights: Tensor) -> Tensor:
    check_batch("x", x)
    check_dtype("x", x, weights)
    if x.shape[1:] != input_shape:
        raise ValueError(
            f"x must be (B, {', '.join(map(str, input_shape))}) for this model, got {tuple(x.shape)}; "
            "reshape x, or build the model with another input_shape"
        )
    return x


def as_input(x: Tensor, input_shape: tuple[int, ...]) -> Tensor:
    """Images (B, C, H, W) as a model takes them: as they are, or flat for a model of flat inputs; nothing else fits."""
    if len(input_shape) == 1:
        x = x.flatten(1)
    if x.shape[1:] != input_shape:
        raise ValueError(
            f"the model takes images of shape {input_shape}, got {tuple(x.shape[1:])}; "
            "build the model with another input_shape, or resize the images"
        )
    return x


def check_no_condition(model: nn.Module, condition: object) -> None:
    if condition is not None:
        raise TypeError(f"condition is for a conditional model; a {type(model).__name__} has no use for one")


def check_no_beta(model: nn.Module, beta: float) -> None:
    """Raise ``ValueError`` for another β than 1 in a loss without a KL."""
    if beta != 1.0:
        raise ValueError(f"the loss of a {type(model).__name__} has no KL for beta to weigh, got beta={beta}")


def check_code(z: Tensor, latent_dim: int, weights: Tensor) -> Tensor:
    check_float("z", z)
    check_dtype("z", z, weights)
    if z.dim() != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"z must be (B, {latent_dim}) for this model, got {tuple(z.shape)}")
    return z


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model.eval()`` inside; afterwards each part of the model is in the mode that it was in."""
    modes = {part: part.training for part in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def standard_noise(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None, temperature: float = 1.0
) -> Tensor:
    """Normal noise of standard deviation ``temperature`` in the weights' dtype, drawn where the generator lives."""
    temperature = check_number("temperature", temperature, least=0)
    device = like.device if generator is None else generator.device
    noise = torch.randn(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)
    return noise if temperature == 1.0 else temperature * noise


def log_likelihood_of_codes(model: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z) for codes z (…, B, L), or (G, 1, L): G codes, each of which serves all B examples → (…, B), float64.

    Raises ``ValueError`` for codes of another shape.
    """
    check_float("z", z)
    if z.dim() < 2 or z.shape[-1] != model.latent_dim or z.shape[-2] not in (1, len(x)):
        raise ValueError(
            f"z must be (…, {len(x)}, {model.latent_dim}), a code for each example, or (…, 1, {model.latent_dim}), "
            f"codes that serve them all, got {tuple(z.shape)}"
        )
    params = model.decode(z.flatten(0, -2))
    if z.shape[-2] == 1:
        return model.likelihood.log_prob_pairs(params, x).view(*z.shape[:-2], len(x))
    repeated = x.expand(*z.shape[:-2], *x.shape).flatten(0, z.dim() - 2)
    return -model.likelihood.nll(params, repeated).double().view(z.shape[:-1])


def gaussian_log_density(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; μ, diag σ²), shapes (…, L) → (…), in nats and float64."""
    z, mu, log_var = z.double(), mu.double(), log_var.double()
    return -0.5 * ((z - mu).square() / log_var.exp() + LOG_2PI + log_var).sum(-1)


def gaussian_log_weights(
    model: nn.Module,
    x: Tensor,
    *cond: Tensor,
    samples: int,
    proposal: str = "posterior",
    decode: Callable[..., Tensor] | None = None,
) -> Tensor:
    """log p(x|z) + log p(z) − log r(z|x) for ``samples`` fresh z ~ r of each example, (samples, B), in float64.

    ``proposal`` is r: "posterior", q(z|x); or "defensive", ½ q(z|x) + ½ p(z), under which no weight exceeds 2 p(x|z),
    however narrow q is. For a model whose q and p are those of ``posterior_and_prior``, and whose ``likelihood`` takes
    ``decode(z, *cond)``, the model's own unless given. Source of the second: Hesterberg 1995.
    """
    check_choice("proposal", proposal, PROPOSALS)
    posterior, prior = model.posterior_and_prior(x, *cond)
    repeated = [tensor.repeat(samples, *[1] * (tensor.dim() - 1)) for tensor in (x, *cond, *posterior, *prior)]
    x, *cond, mu, log_var, mu_p, log_var_p = repeated
    eps = torch.randn_like(mu)
    z = model.reparameterize(mu, log_var, eps=eps)
    if proposal == "defensive":
        from_prior = (torch.rand(len(mu), device=mu.device) < 0.5).view(-1, *[1] * (mu.dim() - 1))
        z = torch.where(from_prior, model.reparameterize(mu_p, log_var_p, eps=eps), z)
    log_px = -model.likelihood.nll((decode or model.decode)(z, *cond), x).double()
    log_pz = _per_example(gaussian_log_density(z, mu_p, log_var_p))
    if proposal == "posterior":
        # From the noise itself, which rounding of z cannot spoil where σ is tiny.
        log_r = -0.5 * (eps.double().square() + LOG_2PI + log_var.double()).flatten(1).sum(1)
    else:
        log_r = torch.logaddexp(_per_example(gaussian_log_density(z, mu, log_var)), log_pz) - math.log(2)
    return (log_px + log_pz - log_r).view(samples, -1)


def _per_example(value: Tensor) -> Tensor:
    """Summed over what lies behind the batch, a sequence's axis, if there is one."""
    return value.flatten(1).sum(1) if value.dim() > 1 else value
