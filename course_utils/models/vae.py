"""The variational autoencoder.

B is the batch size, L the number of latent dimensions. ``config`` holds the constructor's arguments, which are stored
beside the weights; ``likelihood`` owns the output activation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils._checks import check_beta, check_bool, check_positive_int
from course_utils.losses.elbo import elbo
from course_utils.losses.likelihoods import make_likelihood, plain_sigma
from course_utils.losses.terms import LOG_2PI, Terms
from course_utils.models.layers import (
    GaussianHeads,
    SkipDecoder,
    as_input,
    check_code,
    check_hidden_dims,
    check_input,
    check_no_condition,
    check_shape,
    decoder_layers,
    encoder_layers,
    gaussian_log_weights,
    log_likelihood_of_codes,
    reparameterize,
)
from course_utils.models.posteriors import make_posterior
from course_utils.models.priors import make_prior
from course_utils.models.registry import register


class VAEOutput(NamedTuple):
    """One forward pass: decoder output, posterior parameters and the sampled code. ``log_var`` is log σ²."""

    x_params: Tensor  # as x: logits or means, whichever the likelihood takes
    mu: Tensor  # (B, L)
    log_var: Tensor  # (B, L)
    z: Tensor  # (B, L)


@register
class VAE(nn.Module):
    """The variational autoencoder of Kingma & Welling (2014): q(z|x) = N(μ, diag σ²), p(z) = N(0, I).

    Arguments as for :class:`Autoencoder`, and ``likelihood``: "bernoulli", "gaussian" (no output activation) or
    "continuous_bernoulli"; ``sigma``, for the Gaussian alone: a positive number, or "learned". ``hidden_dims=()`` is
    the linear VAE. With ``skip=True``, z is joined to the input of every layer of the decoder (:class:`SkipDecoder`).
    ``posterior`` bends q(z|x): "full", "planar" or "coupling", see :mod:`.posteriors`; ``prior`` is learned with the
    rest: "mixture", "vamp" or "coupling", see :mod:`.priors`. ``flow_layers`` are those of a flow, ``components`` those
    of a mixture. Where one of the two is not the plain Gaussian, the rate ``kl`` is log q(z|x) − log p(z) at the one
    sample z: right on average, sometimes negative. Raises ``ValueError`` or ``TypeError`` for arguments that do not
    fit.
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
        skip: bool = False,
        posterior: str = "diagonal",
        prior: str = "standard",
        flow_layers: int = 4,
        components: int = 100,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        dims = check_hidden_dims(hidden_dims, trunk)
        check_bool("skip", skip)
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_shape=self.input_shape, latent_dim=self.latent_dim, hidden_dims=dims,
            trunk=trunk, activation=activation, likelihood=likelihood, sigma=plain_sigma(sigma), skip=skip,
            posterior=posterior, prior=prior, flow_layers=check_positive_int("flow_layers", flow_layers),
            components=check_positive_int("components", components),
        )  # fmt: skip
        layers, features = encoder_layers(self.input_shape, dims, trunk, activation)
        self.encoder = nn.Sequential(*layers)
        self.heads = GaussianHeads(features, self.latent_dim)
        joined = self.latent_dim if skip else 0
        layers = decoder_layers(self.input_shape, self.latent_dim, dims, trunk, activation, joined=joined)
        self.decoder = (SkipDecoder if skip else nn.Sequential)(*layers)
        self.posterior = make_posterior(posterior, self.latent_dim, features, flow_layers)
        self.prior = make_prior(
            prior, self.latent_dim, components=components, layers=flow_layers, input_shape=self.input_shape,
            encode=self.encode,
        )  # fmt: skip
        self.bent = posterior != "diagonal"
        self.gaussian = not self.bent and prior == "standard"  # then the KL has a closed form
        if self.bent and prior == "vamp":
            raise ValueError(f"a VampPrior is made of Gaussian posteriors; it does not go with posterior={posterior!r}")

    def _require_plain(self) -> None:
        """For subclasses whose loss is made of the two plain Gaussians: ``ValueError`` where there are others."""
        if not self.gaussian:
            raise ValueError(f"{type(self).__name__} takes posterior='diagonal' and prior='standard' alone")

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, *input_shape) → ``mu`` and ``log_var``, each (B, L), of q(z|x), or of the Gaussian to be bent."""
        return self.heads(self._features(x))

    def reparameterize(self, mu: Tensor, log_var: Tensor, *, eps: Tensor | None = None) -> Tensor:
        """z = μ + σ·ε, (B, L): see :func:`reparameterize`."""
        return reparameterize(mu, log_var, eps=eps)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, L) → parameters of p(x|z), (B, *input_shape): logits or means, as the likelihood has it."""
        return self.decoder(check_code(z, self.latent_dim, self.heads.mu.weight))

    def forward(self, x: Tensor) -> VAEOutput:
        """Encode, sample z, decode. It samples in ``train()`` and in ``eval()``; :meth:`reconstruct` does not."""
        if self.bent:
            features = self._features(x)
            mu, log_var = self.heads(features)
            z, _ = self.posterior.rsample(mu, log_var, features)
        else:
            mu, log_var = self.encode(x)
            z = self.reparameterize(mu, log_var)
        return VAEOutput(self.decode(z), mu, log_var, z)

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z ~ q(z|x), one for each image (B, *input_shape), and log q(z|x): (B, L) and (B,), in nats, float64."""
        if self.bent:
            features = self._features(x)
            return self.posterior.rsample(*self.heads(features), features)
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        away = (z.double() - mu.double()).square() / log_var.double().exp()
        return z, -0.5 * (away + LOG_2PI + log_var.double()).sum(1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ (B, *input_shape), decoded from the posterior mean μ without sampling; expected pixels, no noise.

        Where q is no Gaussian, from the code that ε = 0 leads to.
        """
        mu, log_var = self.encode(x)
        if self.bent:
            mu, _ = self.posterior.bend(mu, log_var, self._features(x), torch.zeros_like(mu))
        return self.likelihood.mean(self.decode(mu))

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` new images (n, *input_shape): z from the prior, decoded to expected pixels.

        ``temperature`` multiplies the standard deviation of the prior's Gaussians; 0 decodes the mean of N(0, I).
        """
        z = self.prior.sample(check_positive_int("n", n), temperature=temperature, generator=generator)
        return self.likelihood.mean(self.decode(z))

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The loss and its terms per example, (B,) each, in nats, with one sample z."""
        if self.gaussian:
            return elbo(self(x), x, likelihood=self.likelihood, beta=beta)
        beta = check_beta(beta)
        z, log_q = self.infer(x)
        recon = self.likelihood.nll(self.decode(z), x)
        kl = (log_q - self.log_prior(z)).to(recon)
        return Terms(loss=recon + beta * kl, recon=recon, kl=kl)

    def posterior_and_prior(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """``(mu, log_var)`` of q(z|x) and of the prior, zeros for N(0, I), each (B, L).

        Raises ``TypeError`` where one of the two is not that Gaussian.
        """
        if not self.gaussian:
            raise TypeError(
                "mu and log_var say all of q(z|x) and p(z) only where both are diagonal Gaussians; this VAE has "
                f"posterior={self.config['posterior']!r} and prior={self.config['prior']!r}"
            )
        mu, log_var = self.encode(x)
        return (mu, log_var), (torch.zeros_like(mu), torch.zeros_like(mu))

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) of codes (…, L) → (…), in nats, float64."""
        return self.prior.log_prob(z)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) for codes z (…, B, L), or (G, 1, L): G codes that serve all examples → (…, B), nats, float64."""
        return log_likelihood_of_codes(
            self, check_input(x, self.input_shape, self.heads.mu.weight), z
        ) + self.log_prior(z)

    def log_weights(self, x: Tensor, *, samples: int, proposal: str = "posterior") -> Tensor:
        """log p(x, z) − log q(z|x) for ``samples`` z from q(z|x) per example: (samples, B), in nats, float64.

        With the "defensive" ``proposal``, half q and half prior, log r(z) of that mixture stands for log q. It needs
        the density of q at any z, which only the plain Gaussians give here: ``ValueError`` with another posterior or
        prior.
        """
        if self.gaussian:
            return gaussian_log_weights(self, x, samples=samples, proposal=proposal)
        if proposal != "posterior":
            raise ValueError(f"proposal={proposal!r} needs posterior='diagonal' and prior='standard'")
        features = self._features(x)
        repeated = [part.repeat(samples, *[1] * (part.dim() - 1)) for part in (x, *self.heads(features), features)]
        x, mu, log_var, features = repeated
        z, log_q = self.posterior.rsample(mu, log_var, features)
        log_px = -self.likelihood.nll(self.decode(z), x).double()
        return (log_px + self.log_prior(z) - log_q).view(samples, -1)

    def rebuilt(self, **changes: object) -> "VAE":
        """A new VAE with other arguments, such as ``prior="mixture"`` or ``posterior="planar"``, and these weights.

        What was named begins anew: a flow as the identity, a prior yet to be fitted. Raises as the constructor does,
        and ``ValueError`` for changes under which the other weights would not fit.
        """
        made = type(self)(**{**self.config, **changes})
        anew = tuple(f"{part}." for part in ("posterior", "prior") if part in changes)
        state, own = made.state_dict(), self.state_dict()
        wanted = [name for name in state if not name.startswith(anew)]
        if misfits := [name for name in wanted if name not in own or own[name].shape != state[name].shape]:
            raise ValueError(f"with {changes} the weights {misfits[0]} of this model do not fit the new one")
        made.load_state_dict({**state, **{name: own[name] for name in wanted}})
        return made.to(self.heads.mu.weight).train(self.training)

    def _features(self, x: Tensor) -> Tensor:
        """The encoder's last hidden layer, (B, F)."""
        return self.encoder(check_input(x, self.input_shape, self.heads.mu.weight))
