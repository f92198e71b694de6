"""The models of the course: ``Autoencoder``, ``VAE`` and ``CVAE``, each short enough to be read in one sitting.

B is the batch size, L the number of latent dimensions, D the number of input dimensions, C that of the condition.
Every model has ``config``, its constructor arguments (stored beside the weights by
:func:`course_utils.checkpoints.save`), ``likelihood``, which owns the output activation, and ``loss``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils._checks import check_batch, check_choice, check_float, check_positive_int, check_same_shape
from course_utils.likelihoods import Bernoulli, SquaredError, make_likelihood
from course_utils.losses import ELBO, elbo

LOG_VAR_RANGE = (
    -30.0,
    20.0,
)  # σ from 3e-7 to 2e4: far outside what training visits, far inside what exp can take
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
TRUNKS = ("mlp", "conv")
PRIORS = ("standard", "learned")
PRIOR_WIDTH = 128  # of the one hidden layer between a condition and its prior
DEFAULT_DIMS = {"mlp": (400,), "conv": (32, 64)}


class VAEOutput(NamedTuple):
    """One forward pass: decoder output, posterior parameters and the sampled code. ``log_var`` is log σ²."""

    x_params: Tensor  # as x: logits or means, whichever the likelihood takes
    mu: Tensor  # (B, L)
    log_var: Tensor  # (B, L)
    z: Tensor  # (B, L)


class AutoencoderOutput(NamedTuple):
    """One forward pass of an autoencoder: decoder output, and the code."""

    x_params: Tensor  # as x
    z: Tensor  # (B, L)


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


class Autoencoder(nn.Module):
    """Encoder, code, decoder; trained on the reconstruction alone.

    ``input_shape`` is that of one example without the batch, ``latent_dim`` the length of its code. With
    ``trunk="mlp"``, ``hidden_dims`` are the widths of the encoder's hidden layers, mirrored in the decoder (``()`` is
    the linear autoencoder); with ``trunk="conv"`` they are the channels of its stages, each of which halves height and
    width. ``likelihood`` is "squared_error" (the output is the reconstruction) or "bernoulli" (it is logits).
    Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dim: int,
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        activation: str = "relu",
        likelihood: str = "squared_error",
    ) -> None:
        super().__init__()
        self.input_shape = _shape("input_shape", input_shape)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        dims = _hidden_dims(hidden_dims, trunk)
        check_choice("likelihood", likelihood, ("squared_error", "bernoulli"))
        self.config = dict(
            input_shape=self.input_shape, latent_dim=self.latent_dim, hidden_dims=dims,
            trunk=trunk, activation=activation, likelihood=likelihood,
        )  # fmt: skip
        layers, features = _encoder_layers(self.input_shape, dims, trunk, activation)
        self.encoder = nn.Sequential(*layers, nn.Linear(features, self.latent_dim))
        self.decoder = nn.Sequential(*_decoder_layers(self.input_shape, self.latent_dim, dims, trunk, activation))
        self.likelihood = SquaredError() if likelihood == "squared_error" else Bernoulli()

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, *input_shape) → codes (B, L)."""
        return self.encoder(_check_input(x, self.input_shape))

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, L) → decoder output (B, *input_shape)."""
        return self.decoder(_check_code(z, self.latent_dim))

    def forward(self, x: Tensor) -> AutoencoderOutput:
        """Encode and decode ``x`` (B, *input_shape)."""
        z = self.encode(x)
        return AutoencoderOutput(self.decode(z), z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The reconstruction x̂ (B, *input_shape), as pixels."""
        return self.likelihood.mean(self(x).x_params)

    def loss(self, x: Tensor, *, beta: float = 1.0) -> ELBO:
        """The reconstruction loss per example, in the form of the VAE's: ``kl`` is 0, as there is none to weigh."""
        if beta != 1.0:
            raise ValueError(f"an autoencoder has no KL for beta to weigh, got beta={beta}")
        recon = self.likelihood.nll(self(x).x_params, x)
        return ELBO(loss=recon, recon=recon, kl=torch.zeros_like(recon))


class VAE(nn.Module):
    """The variational autoencoder of Kingma & Welling (2014): q(z|x) = N(μ, diag σ²), p(z) = N(0, I).

    Arguments as for :class:`Autoencoder`, and ``likelihood``: "bernoulli", "gaussian" (no output activation) or
    "continuous_bernoulli"; ``sigma``, for the Gaussian alone: a positive number, or "learned". ``hidden_dims=()`` is
    the linear VAE. Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dim: int,
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float | str = 1.0,
    ) -> None:
        super().__init__()
        self.input_shape = _shape("input_shape", input_shape)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        dims = _hidden_dims(hidden_dims, trunk)
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_shape=self.input_shape, latent_dim=self.latent_dim, hidden_dims=dims,
            trunk=trunk, activation=activation, likelihood=likelihood, sigma=sigma,
        )  # fmt: skip
        layers, features = _encoder_layers(self.input_shape, dims, trunk, activation)
        self.encoder = nn.Sequential(*layers)
        self.heads = GaussianHeads(features, self.latent_dim)
        self.decoder = nn.Sequential(*_decoder_layers(self.input_shape, self.latent_dim, dims, trunk, activation))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, *input_shape) → ``mu`` and ``log_var`` of q(z|x), each (B, L)."""
        return self.heads(self.encoder(_check_input(x, self.input_shape)))

    def reparameterize(self, mu: Tensor, log_var: Tensor, *, eps: Tensor | None = None) -> Tensor:
        """z = μ + σ·ε, (B, L): see :func:`reparameterize`."""
        return reparameterize(mu, log_var, eps=eps)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, L) → parameters of p(x|z), (B, *input_shape): logits or means, as the likelihood has it."""
        return self.decoder(_check_code(z, self.latent_dim))

    def forward(self, x: Tensor) -> VAEOutput:
        """Encode, sample z, decode. It samples in ``train()`` and in ``eval()``; :meth:`reconstruct` does not."""
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return VAEOutput(self.decode(z), mu, log_var, z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ (B, *input_shape), decoded from the posterior mean μ without sampling; expected pixels, no noise."""
        mu, _ = self.encode(x)
        return self.likelihood.mean(self.decode(mu))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` new images (n, *input_shape): z from the prior N(0, I), decoded to expected pixels."""
        z = _prior((check_positive_int("n", n), self.latent_dim), self.heads.mu.weight, generator)
        return self.likelihood.mean(self.decode(z))

    def loss(self, x: Tensor, *, beta: float = 1.0) -> ELBO:
        """The loss and its terms per example, (B,) each, in nats, with one sample z."""
        return elbo(self(x), x, likelihood=self.likelihood, beta=beta)


class CVAE(nn.Module):
    """The conditional VAE: encoder and decoder both see the condition, joined on the last dimension.

    Inputs are (…, D) and conditions (…, C) with the same leading dimensions: (B, D) and (B, C), or (B, T, D) and
    (B, T, C). ``prior`` is "standard", p(z) = N(0, I) for every condition, or "learned", p(z|c) = N(μ_p(c), diag
    σ_p²(c)) by a small network of the condition that starts at N(0, I). Three operations that are easily confused:
    :meth:`forward_full` encodes and samples, :meth:`generate` reconstructs (despite its name), :meth:`sample`
    generates from the prior. MLP trunk only. Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    Source: Sohn, Lee & Yan 2015, whose prior is the learned one.
    """

    def __init__(
        self,
        *,
        input_dim: int,
        cond_dim: int,
        latent_dim: int,
        hidden_dims: Sequence[int] = (400,),
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float | str = 1.0,
        prior: str = "standard",
    ) -> None:
        super().__init__()
        check_choice("prior", prior, PRIORS)
        self.input_dim = check_positive_int("input_dim", input_dim)
        self.cond_dim = check_positive_int("cond_dim", cond_dim)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        dims = _hidden_dims(hidden_dims, "mlp")
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_dim=self.input_dim, cond_dim=self.cond_dim, latent_dim=self.latent_dim, hidden_dims=dims,
            activation=activation, likelihood=likelihood, sigma=sigma, prior=prior,
        )  # fmt: skip
        layers, features = _mlp_layers(self.input_dim + self.cond_dim, dims, activation)
        self.encoder = nn.Sequential(*layers)
        self.heads = GaussianHeads(features, self.latent_dim)
        layers, features = _mlp_layers(self.latent_dim + self.cond_dim, dims[::-1], activation)
        self.decoder = nn.Sequential(*layers, nn.Linear(features, self.input_dim))
        self.prior_net = None if prior == "standard" else _prior_net(self.cond_dim, self.latent_dim, activation)

    def encode(self, inputs: Tensor, cond_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(…, D) and (…, C) → ``mu`` and ``log_var`` of q(z|x, c), each (…, L)."""
        return self.heads(self.encoder(_join("inputs", inputs, self.input_dim, cond_inputs, self.cond_dim)))

    def reparameterize(self, mu: Tensor, log_var: Tensor, *, eps: Tensor | None = None) -> Tensor:
        """z = μ + σ·ε, (…, L): see :func:`reparameterize`."""
        return reparameterize(mu, log_var, eps=eps)

    def prior(self, cond_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(…, C) → ``mu`` and ``log_var`` of p(z|c), each (…, L): zeros with the standard prior, which is N(0, I)."""
        _check_cond(cond_inputs, self.cond_dim)
        if self.prior_net is not None:
            return self.prior_net(cond_inputs)
        zeros = cond_inputs.new_zeros(*cond_inputs.shape[:-1], self.latent_dim)
        return zeros, zeros

    def decode(self, z: Tensor, cond_inputs: Tensor) -> Tensor:
        """(…, L) and (…, C) → parameters of p(x|z, c), (…, D)."""
        return self.decoder(_join("z", z, self.latent_dim, cond_inputs, self.cond_dim))

    def forward(self, inputs: Tensor, cond_inputs: Tensor) -> VAEOutput:
        """Encode, sample z, decode; samples in ``train()`` and in ``eval()``."""
        z, mu, log_var = self.forward_full(inputs, cond_inputs)
        return VAEOutput(self.decode(z, cond_inputs), mu, log_var, z)

    def forward_full(self, inputs: Tensor, cond_inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode [inputs, cond] and sample: ``(z, mu, log_var)``, each (…, L). Nothing is decoded."""
        mu, log_var = self.encode(inputs, cond_inputs)
        return self.reparameterize(mu, log_var), mu, log_var

    def generate(self, inputs: Tensor, cond_inputs: Tensor) -> list[Tensor]:
        """A reconstruction, despite the name: ``[inputs, recons, mu, log_var, z]``, with ``recons`` (…, D) decoded
        from the sampled z as expected pixels. For new data from a condition alone call :meth:`sample`."""
        z, mu, log_var = self.forward_full(inputs, cond_inputs)
        return [inputs, self.likelihood.mean(self.decode(z, cond_inputs)), mu, log_var, z]

    @torch.no_grad()
    def sample(self, cond_inputs: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """One new example for each condition (…, C) → (…, D): z from the prior p(z|c), decoded to expected pixels."""
        mu, log_var = self.prior(cond_inputs)
        eps = _prior((*cond_inputs.shape[:-1], self.latent_dim), self.heads.mu.weight, generator)
        return self.likelihood.mean(self.decode(self.reparameterize(mu, log_var, eps=eps), cond_inputs))

    def loss(self, inputs: Tensor, cond_inputs: Tensor, *, beta: float = 1.0) -> ELBO:
        """The loss and its terms per example, (B,) each, in nats; a sequence axis is summed over."""
        output, prior = self(inputs, cond_inputs), self.prior(cond_inputs)
        return elbo(output, inputs, likelihood=self.likelihood, beta=beta, prior=prior)


# ------------------------------------------------------------------------------------------------------ layers


def _mlp_layers(features: int, dims: tuple[int, ...], activation: str) -> tuple[list[nn.Module], int]:
    """Linear layers of the given widths, each followed by the activation; and the number of features at the end."""
    act = ACTIVATIONS[check_choice("activation", activation, tuple(ACTIVATIONS))]
    layers: list[nn.Module] = []
    for width in dims:
        layers += [nn.Linear(features, width), act()]
        features = width
    return layers, features


def _prior_net(cond_dim: int, latent_dim: int, activation: str) -> nn.Sequential:
    """The condition's own network, (…, C) → ``mu`` and ``log_var`` of p(z|c); heads of zeros make it N(0, I) at first.

    ``log_var`` is bounded as in the encoder.
    """
    layers, features = _mlp_layers(cond_dim, (PRIOR_WIDTH,), activation)
    heads = GaussianHeads(features, latent_dim)
    for parameter in heads.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers, heads)


def _encoder_layers(
    shape: tuple[int, ...], dims: tuple[int, ...], trunk: str, activation: str
) -> tuple[list[nn.Module], int]:
    if trunk == "mlp":
        layers, features = _mlp_layers(math.prod(shape), dims, activation)
        return [nn.Flatten(), *layers], features
    act = ACTIVATIONS[check_choice("activation", activation, tuple(ACTIVATIONS))]
    layers, channels = [], shape[0]
    for width in dims:
        layers += [nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1), act()]
        channels = width
    return [*layers, nn.Flatten()], channels * math.prod(_conv_sizes(shape, len(dims))[-1])


def _decoder_layers(
    shape: tuple[int, ...], latent_dim: int, dims: tuple[int, ...], trunk: str, activation: str
) -> list[nn.Module]:
    if trunk == "mlp":
        layers, features = _mlp_layers(latent_dim, dims[::-1], activation)
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
        layers.append(nn.ConvTranspose2d(dims[stage], out, 4, stride=2, padding=1, output_padding=padding))
        layers += [act()] if stage else []
    return layers


def _conv_sizes(shape: tuple[int, ...], stages: int) -> list[tuple[int, int]]:
    """(height, width) before each stage and after the last; every stage halves, rounding down."""
    sizes = [(shape[1] // 2**stage, shape[2] // 2**stage) for stage in range(stages + 1)]
    if min(sizes[-1]) < 1:
        raise ValueError(f"{stages} stages halve {shape[1]}×{shape[2]} to nothing; give fewer hidden_dims")
    return sizes


# ------------------------------------------------------------------------------------------------------ checks


def _shape(name: str, value: Sequence[int]) -> tuple[int, ...]:
    if isinstance(value, int) or not isinstance(value, Sequence) or not value:
        raise TypeError(f"{name} must be the shape of one example, as in (1, 28, 28) or (784,), got {value!r}")
    return tuple(check_positive_int(f"{name}[{i}]", size) for i, size in enumerate(value))


def _hidden_dims(value: Sequence[int] | None, trunk: str) -> tuple[int, ...]:
    check_choice("trunk", trunk, TRUNKS)
    if value is None:
        return DEFAULT_DIMS[trunk]
    if isinstance(value, int) or not isinstance(value, Sequence):
        raise TypeError(f"hidden_dims must be a tuple of widths, as in (400,) or (), got {value!r}")
    if trunk == "conv" and not value:
        raise ValueError("a convolutional trunk needs at least one stage in hidden_dims, as in (32, 64)")
    return tuple(check_positive_int(f"hidden_dims[{i}]", width) for i, width in enumerate(value))


def _check_input(x: Tensor, input_shape: tuple[int, ...]) -> Tensor:
    check_batch("x", x)
    if x.shape[1:] != input_shape:
        raise ValueError(
            f"x must be (B, {', '.join(map(str, input_shape))}) for this model, got {tuple(x.shape)}; "
            "reshape x, or build the model with another input_shape"
        )
    return x


def _check_code(z: Tensor, latent_dim: int) -> Tensor:
    check_float("z", z)
    if z.dim() != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"z must be (B, {latent_dim}) for this model, got {tuple(z.shape)}")
    return z


def _join(name: str, value: Tensor, size: int, cond_inputs: Tensor, cond_dim: int) -> Tensor:
    """Concatenate on the last dimension, after checking that both fit: [value, cond], (…, size + C)."""
    check_float(name, value)
    _check_cond_type(cond_inputs, cond_dim)
    if value.shape[-1:] != (size,):
        raise ValueError(f"{name} must end in a dimension of {size} for this model, got {tuple(value.shape)}")
    if cond_inputs.shape != (*value.shape[:-1], cond_dim):
        raise ValueError(
            f"cond_inputs must be {(*value.shape[:-1], cond_dim)} to go with {name} of shape {tuple(value.shape)}, "
            f"got {tuple(cond_inputs.shape)}"
        )
    return torch.cat([value, cond_inputs], dim=-1)


def _check_cond_type(cond_inputs: Tensor, cond_dim: int) -> None:
    if isinstance(cond_inputs, Tensor) and not cond_inputs.is_floating_point():
        raise TypeError(
            f"cond_inputs must be floating-point, got {cond_inputs.dtype}; for class labels use "
            f"torch.nn.functional.one_hot(labels, {cond_dim}).float()"
        )
    check_float("cond_inputs", cond_inputs)


def _check_cond(cond_inputs: Tensor, cond_dim: int) -> None:
    _check_cond_type(cond_inputs, cond_dim)
    if cond_inputs.shape[-1:] != (cond_dim,):
        raise ValueError(
            f"cond_inputs must end in a dimension of {cond_dim} for this model, got {tuple(cond_inputs.shape)}"
        )


def _prior(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of the weights' dtype and device, drawn where the generator lives."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)
