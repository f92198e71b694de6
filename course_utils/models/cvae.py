"""The conditional variational autoencoder. D is the number of input dimensions, C that of the condition."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_choice, check_dtype, check_float, check_positive_int
from course_utils.losses.elbo import elbo
from course_utils.losses.likelihoods import make_likelihood, plain_sigma
from course_utils.losses.terms import Terms
from course_utils.models.layers import (
    GaussianHeads,
    as_input,
    check_hidden_dims,
    gaussian_log_weights,
    mlp_layers,
    prior_net,
    reparameterize,
    standard_noise,
)
from course_utils.models.registry import register
from course_utils.models.vae import VAEOutput

Condition = Callable[[Tensor, Tensor], Tensor]  # images (B, C, H, W) and labels (B,) -> conditions (B, C)
PRIORS = ("standard", "learned")


@register
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
        dims = check_hidden_dims(hidden_dims, "mlp")
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_dim=self.input_dim, cond_dim=self.cond_dim, latent_dim=self.latent_dim, hidden_dims=dims,
            activation=activation, likelihood=likelihood, sigma=plain_sigma(sigma), prior=prior,
        )  # fmt: skip
        layers, features = mlp_layers(self.input_dim + self.cond_dim, dims, activation)
        self.encoder = nn.Sequential(*layers)
        self.heads = GaussianHeads(features, self.latent_dim)
        layers, features = mlp_layers(self.latent_dim + self.cond_dim, dims[::-1], activation)
        self.decoder = nn.Sequential(*layers, nn.Linear(features, self.input_dim))
        self.prior_net = None if prior == "standard" else prior_net(self.cond_dim, self.latent_dim, activation)

    def inputs(self, x: Tensor, y: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels (B,): flat images, and ``condition(x, y)`` (B, C),
        one-hot labels unless given."""
        return as_input(x, (self.input_dim,)), (condition or one_hot_labels)(x, y)

    def encode(self, inputs: Tensor, cond_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(…, D) and (…, C) → ``mu`` and ``log_var`` of q(z|x, c), each (…, L)."""
        return self.heads(self.encoder(self._join("inputs", inputs, self.input_dim, cond_inputs)))

    def reparameterize(self, mu: Tensor, log_var: Tensor, *, eps: Tensor | None = None) -> Tensor:
        """z = μ + σ·ε, (…, L): see :func:`reparameterize`."""
        return reparameterize(mu, log_var, eps=eps)

    def prior(self, cond_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(…, C) → ``mu`` and ``log_var`` of p(z|c), each (…, L): zeros with the standard prior, which is N(0, I)."""
        self._check_cond(cond_inputs)
        if self.prior_net is not None:
            return self.prior_net(cond_inputs)
        zeros = cond_inputs.new_zeros(*cond_inputs.shape[:-1], self.latent_dim)
        return zeros, zeros

    def decode(self, z: Tensor, cond_inputs: Tensor) -> Tensor:
        """(…, L) and (…, C) → parameters of p(x|z, c), (…, D)."""
        return self.decoder(self._join("z", z, self.latent_dim, cond_inputs))

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
    def sample(
        self, cond_inputs: Tensor, *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """One new example for each condition (…, C) → (…, D): z from the prior p(z|c), decoded to expected pixels.

        ``temperature`` multiplies the prior's standard deviation; 0 decodes its mean.
        """
        mu, log_var = self.prior(cond_inputs)
        eps = standard_noise(mu.shape, self.heads.mu.weight, generator, temperature)
        return self.likelihood.mean(self.decode(self.reparameterize(mu, log_var, eps=eps), cond_inputs))

    def loss(self, inputs: Tensor, cond_inputs: Tensor, *, beta: float = 1.0) -> Terms:
        """The loss and its terms per example, (B,) each, in nats; a sequence axis is summed over."""
        output, prior = self(inputs, cond_inputs), self.prior(cond_inputs)
        return elbo(output, inputs, likelihood=self.likelihood, beta=beta, prior=prior)

    def posterior_and_prior(
        self, inputs: Tensor, cond_inputs: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """``(mu, log_var)`` of q(z|x, c) and of p(z|c), each (…, L)."""
        return self.encode(inputs, cond_inputs), self.prior(cond_inputs)

    def log_weights(self, inputs: Tensor, cond_inputs: Tensor, *, samples: int, proposal: str = "posterior") -> Tensor:
        """log p(x, z|c) − log q(z|x, c) for ``samples`` z from q per example: (samples, B), in nats, float64.

        With the "defensive" ``proposal``, half q and half prior, log r(z) of that mixture stands for log q.
        """
        return gaussian_log_weights(self, inputs, cond_inputs, samples=samples, proposal=proposal)

    def _join(self, name: str, value: Tensor, size: int, cond_inputs: Tensor) -> Tensor:
        """Concatenate on the last dimension, after checking that both fit: [value, cond], (…, size + C)."""
        check_dtype(name, check_float(name, value), self.heads.mu.weight)
        if value.shape[-1:] != (size,):
            raise ValueError(f"{name} must end in a dimension of {size} for this model, got {tuple(value.shape)}")
        self._check_cond(cond_inputs, like=(name, value))
        return torch.cat([value, cond_inputs], dim=-1)

    def _check_cond(self, cond_inputs: Tensor, like: tuple[str, Tensor] | None = None) -> None:
        if isinstance(cond_inputs, Tensor) and not cond_inputs.is_floating_point():
            raise TypeError(
                f"cond_inputs must be floating-point, got {cond_inputs.dtype}; for class labels use "
                f"torch.nn.functional.one_hot(labels, {self.cond_dim}).float()"
            )
        check_dtype("cond_inputs", check_float("cond_inputs", cond_inputs), self.heads.mu.weight)
        if like is not None and cond_inputs.shape != (*like[1].shape[:-1], self.cond_dim):
            raise ValueError(
                f"cond_inputs must be {(*like[1].shape[:-1], self.cond_dim)} to go with {like[0]} of shape "
                f"{tuple(like[1].shape)}, got {tuple(cond_inputs.shape)}"
            )
        if cond_inputs.shape[-1:] != (self.cond_dim,):
            raise ValueError(
                f"cond_inputs must end in a dimension of {self.cond_dim} for this model, got {tuple(cond_inputs.shape)}"
            )


def one_hot_labels(x: Tensor, y: Tensor) -> Tensor:
    """The usual condition: labels y (B,) in 0…9 as one-hot vectors (B, 10), in the dtype of ``x``.

    Raises ``ValueError`` for a label that is no digit.
    """
    if len(y) and not 0 <= y.min() <= y.max() <= 9:
        raise ValueError(f"labels must lie in 0…9, got values from {int(y.min())} to {int(y.max())}")
    return F.one_hot(y, 10).to(x.dtype)
