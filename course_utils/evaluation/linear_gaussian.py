"""The linear-Gaussian model, probabilistic PCA: the one VAE whose evidence, posterior and ELBO are known exactly.

    z ~ N(0, I),    x | z ~ N(W z + b, σ² I)    and therefore    x ~ N(b, W Wᵀ + σ² I)

It is the ground truth against which the course checks bounds, estimators and training. Everything is in float64,
per example and in nats, and differentiable with respect to W, b and σ.
"""

import math

import torch
from torch import Tensor, nn

from course_utils._checks import (
    check_batch,
    check_float,
    check_number,
    check_positive_int,
    check_same_shape,
    check_symmetric,
)
from course_utils.losses.likelihoods import Gaussian
from course_utils.losses.terms import LOG_2PI, Terms, gaussian_kl, gaussian_kl_full


def optimal_rates(values: Tensor, sigma: float, *, beta: float = 1.0, floor: float = 0.0) -> Tensor:
    """The rate of each latent dimension where a linear VAE's loss is smallest, in nats: ½ log⁺(λ_j/θ).

    The loss is distortion + β·max(floor, Σ_j rate_j) on the average over the data; with β = 1 and floor 0 it is −ELBO.
    Dimension j carries the direction with eigenvalue λ_j of the data's covariance. No code of r nats brings the squared
    error there below λ_j e^(−2r), and a linear VAE reaches that. So θ, the squared error where all directions that
    speak end, is βσ²; or less, where that would pay less than the floor in total: a floor is a smaller β.

    Shapes: ``values`` (L,), eigenvalues above 0 → (L,). Raises ``ValueError`` or ``TypeError`` for arguments that do
    not fit. Source: β = 1, Lucas, Tucker, Grosse & Norouzi 2019; the least error, Cover & Thomas 2006, section 10.3.
    """
    sigma, beta = check_number("sigma", sigma, above=0), check_number("beta", beta, above=0)
    floor = check_number("floor", floor, least=0)
    if values.dim() != 1 or not (check_float("values", values) > 0).all():
        raise ValueError(f"values must be positive eigenvalues (L,), got {values}")

    def rates(log_level: float | Tensor) -> Tensor:
        return 0.5 * (values.log() - log_level).clamp(min=0)

    chosen = rates(math.log(beta * sigma**2))
    if chosen.sum() >= floor:
        return chosen
    largest = values.sort(descending=True).values.log().cumsum(0)
    levels = (largest - 2 * floor) / torch.arange(1, len(values) + 1).to(values)  # if the n largest speak
    return rates(levels.max())


class LinearGaussian:
    """p(z) = N(0, I) and p(x|z) = N(W z + b, σ² I), with D data dimensions and L latent ones.

    Shapes: ``W`` (D, L), ``b`` (D,), ``sigma`` a positive number or a tensor of shape (). Gradients reach all three.
    Raises ``TypeError`` or ``ValueError`` for anything else.
    """

    def __init__(self, W: Tensor, b: Tensor, sigma: float | Tensor) -> None:
        check_float("W", W)
        check_float("b", b)
        if W.dim() != 2 or b.shape != W.shape[:1]:
            raise ValueError(f"W must be (D, L) and b (D,), got {tuple(W.shape)} and {tuple(b.shape)}")
        sigma = torch.as_tensor(sigma, dtype=torch.float64, device=W.device)
        if sigma.numel() != 1 or not 0 < sigma.item() < math.inf:
            raise ValueError(f"sigma must be one positive number, the standard deviation of a pixel, got {sigma}")
        self.W, self.b, self.sigma = W.double(), b.double(), sigma.reshape(())

    @classmethod
    def fit(cls, x: Tensor, latent_dim: int) -> "LinearGaussian":
        """The maximum-likelihood model of the data ``x`` (N, …); see :meth:`from_moments`."""
        check_batch("x", x)
        if len(x) < 2:
            raise ValueError(f"a covariance needs at least two examples, got {len(x)}")
        flat = x.flatten(1).double()
        return cls.from_moments(flat.mean(0), torch.cov(flat.T, correction=0), latent_dim)

    @classmethod
    def from_moments(cls, mean: Tensor, covariance: Tensor, latent_dim: int) -> "LinearGaussian":
        """The maximum-likelihood model of data with this mean (D,) and covariance (D, D), divided by N.

        σ² is the mean of the D − L smallest eigenvalues, and W = U (Λ − σ² I)^½ from the L largest, in descending
        order. W is determined up to a rotation of z; this choice makes its columns orthogonal, and the posterior
        covariance diagonal. Raises ``ValueError`` unless 1 ≤ L < D, and where the data leave no variance for σ².
        Source: Tipping & Bishop 1999, section 3.2.
        """
        check_float("mean", mean)
        check_float("covariance", covariance)
        size, latent_dim = len(mean), check_positive_int("latent_dim", latent_dim)
        if mean.dim() != 1 or covariance.shape != (size, size):
            raise ValueError(
                f"mean and covariance must be (D,) and (D, D), got {tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        check_symmetric("covariance", covariance)
        if latent_dim >= size:
            raise ValueError(f"latent_dim must be below the {size} data dimensions, got {latent_dim}")
        values, vectors = torch.linalg.eigh(covariance.double())  # ascending
        values, vectors = values.flip(0), vectors.flip(1)
        variance = values[latent_dim:].clamp(min=0).mean()
        if not variance > 1e-12 * values[0]:
            raise ValueError(f"{latent_dim} dimensions explain the data entirely: no variance is left for sigma")
        stretch = (values[:latent_dim] - variance).clamp(min=0).sqrt()
        return cls(vectors[:, :latent_dim] * stretch, mean, variance.sqrt())

    @classmethod
    def from_vae(cls, model: nn.Module) -> "LinearGaussian":
        """The model that a linear VAE's decoder is: ``hidden_dims=()`` with the Gaussian likelihood; a copy.

        Raises ``ValueError`` for a VAE whose decoder bends, or whose likelihood is another one.
        """
        layer = next(iter(getattr(model, "decoder", [])), None)
        straight = isinstance(layer, nn.Linear) and getattr(model, "config", {}).get("hidden_dims") == ()
        gaussian = isinstance(getattr(model, "likelihood", None), Gaussian)
        if not (straight and gaussian and layer.in_features == model.latent_dim):  # a condition would come in as well
            raise ValueError('only a VAE with hidden_dims=() and likelihood="gaussian" is a linear-Gaussian model')
        return cls(*(t.detach().clone() for t in (layer.weight, layer.bias, model.likelihood.sigma)))

    @property
    def latent_dim(self) -> int:
        """L, the number of latent dimensions."""
        return self.W.shape[1]

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) of each example, exactly: ``x`` (B, …) → (B,)."""
        offset = self._offset(x)
        factor = torch.linalg.cholesky(self._precision() * self.sigma**2)  # of Wᵀ W + σ² I, (L, L)
        # Two identities avoid the D × D covariance: for its determinant, and (Woodbury) for its inverse.
        projected = torch.linalg.solve_triangular(factor, (offset @ self.W).T, upper=False)  # (L, B)
        distance = (offset.square().sum(1) - projected.square().sum(0)) / self.sigma**2
        size = len(self.b)
        log_det = 2 * (size - self.latent_dim) * self.sigma.log() + 2 * factor.diagonal().log().sum()
        return -0.5 * (size * LOG_2PI + log_det + distance)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, L) and covariance (L, L) of p(z|x), exactly; the covariance is the same for every x.

        Source: Tipping & Bishop 1999, section 3.1.
        """
        factor = torch.linalg.cholesky(self._precision())
        mean = torch.cholesky_solve((self._offset(x) @ self.W / self.sigma**2).T, factor).T
        return mean, torch.cholesky_inverse(factor)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z): ``x`` (B, …) and ``z`` (…, B, L) → (…, B); z (S, 1, L) serves all examples with S codes."""
        z, offset = self._codes(z), self._offset(x)
        # ‖x − b − W z‖² multiplied out: no array of D numbers for every pair of x and z.
        distance = (
            offset.square().sum(1)
            - 2 * torch.einsum("...bl,bl->...b", z, offset @ self.W)
            + ((z @ self._gram()) * z).sum(-1)
        )
        return -0.5 * (len(self.b) * (LOG_2PI + 2 * self.sigma.log()) + distance / self.sigma**2)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) = log p(x|z) + log p(z), shapes as in :meth:`log_likelihood`."""
        z = self._codes(z)
        return self.log_likelihood(x, z) - 0.5 * (z.square() + LOG_2PI).sum(-1)

    def elbo(self, x: Tensor, mu: Tensor, *, log_var: Tensor | None = None, cov: Tensor | None = None) -> Terms:
        """The terms of the ELBO for q(z|x) = N(μ, S), with no sampling: ``recon`` and ``kl`` in closed form.

        Shapes: ``x`` (B, …), ``mu`` (B, L), and S either diagonal, as ``log_var`` (B, L) or (L,), or full, as ``cov``
        (B, L, L) or (L, L) → three tensors (B,), nats; the ELBO is ``-loss``. Raises ``ValueError`` for other shapes,
        and unless exactly one of ``log_var`` and ``cov`` is given.
        """
        offset = self._offset(x)
        mu, log_var, cov = self._gaussian(len(offset), mu, log_var, cov)
        if cov is None:
            spread = log_var.exp() @ self._gram().diagonal()
            kl = gaussian_kl(mu, log_var)
        else:
            spread = (cov * self._gram()).sum((1, 2))  # tr(W S Wᵀ)
            kl = gaussian_kl_full(mu, cov, torch.zeros_like(mu[0]), torch.eye(self.latent_dim).to(mu))
        distance = (offset - mu @ self.W.T).square().sum(1) + spread  # E‖x − b − W z‖²
        recon = 0.5 * (len(self.b) * (LOG_2PI + 2 * self.sigma.log()) + distance / self.sigma**2)
        return Terms(loss=recon + kl, recon=recon, kl=kl)

    def gap(self, x: Tensor, mu: Tensor, *, log_var: Tensor | None = None, cov: Tensor | None = None) -> Tensor:
        """KL(q(z|x) ‖ p(z|x)) = log p(x) − ELBO of each example, (B,); arguments as for :meth:`elbo`."""
        mean, posterior_cov = self.posterior(x)
        mu, log_var, cov = self._gaussian(len(mean), mu, log_var, cov)
        if cov is None:
            cov = torch.diag_embed(log_var.exp())
        return gaussian_kl_full(mu, cov, mean, posterior_cov.expand_as(cov))

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``n`` examples x (n, D), with pixel noise, and the codes z (n, L) that they came from."""
        n = check_positive_int("n", n)
        device = self.W.device if generator is None else generator.device

        def noise(size: int) -> Tensor:
            return torch.randn(n, size, generator=generator, dtype=torch.float64, device=device).to(self.W.device)

        z = noise(self.latent_dim)
        return z @ self.W.T + self.b + self.sigma * noise(len(self.b)), z

    def _gram(self) -> Tensor:
        return self.W.T @ self.W

    def _precision(self) -> Tensor:
        """The posterior's: I + Wᵀ W / σ², (L, L)."""
        return torch.eye(self.latent_dim).to(self.W) + self._gram() / self.sigma**2

    def _offset(self, x: Tensor) -> Tensor:
        """x − b, flat and in float64, (B, D)."""
        flat = check_batch("x", x).flatten(1)
        if flat.shape[1] != len(self.b):
            raise ValueError(
                f"x must have {len(self.b)} numbers per example for this model, got shape {tuple(x.shape)}"
            )
        return flat.double() - self.b

    def _codes(self, z: Tensor) -> Tensor:
        check_float("z", z)
        if z.dim() < 2 or z.shape[-1] != self.latent_dim:
            raise ValueError(f"z must be (…, B, {self.latent_dim}) for this model, got {tuple(z.shape)}")
        return z.double()

    def _gaussian(
        self, size: int, mu: Tensor, log_var: Tensor | None, cov: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """q's parameters in float64, one set for each example."""
        if (log_var is None) == (cov is None):
            raise ValueError("give either log_var, the log-variances of a diagonal q, or cov, its full covariance")
        mu = check_float("mu", mu).double()
        if mu.shape != (size, self.latent_dim):
            raise ValueError(f"mu must be ({size}, {self.latent_dim}) for these examples, got {tuple(mu.shape)}")
        if cov is not None:
            cov = check_float("cov", cov).double()
            cov = cov.expand(size, -1, -1) if cov.dim() == 2 else cov
            if cov.shape != (size, self.latent_dim, self.latent_dim):
                raise ValueError(f"cov must be (L, L) or (B, L, L) to go with mu, got {tuple(cov.shape)}")
            return mu, None, cov
        log_var = check_float("log_var", log_var).double()
        log_var = log_var.expand(size, -1) if log_var.dim() == 1 else log_var
        check_same_shape("mu", mu, "log_var", log_var)
        return mu, log_var, None
