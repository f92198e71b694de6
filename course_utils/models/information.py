"""VAEs that are trained for what their code is to be: factorised (β-TCVAE), or like the prior as a whole (InfoVAE).

Both losses compare the codes of a batch with each other, so a term of one example depends on the others beside it, and
on the batch size; trained and evaluated on other batch sizes, they are other numbers.
"""

from typing import Any

from torch import Tensor

from course_utils._checks import check_beta, check_number, check_positive_int
from course_utils.losses.elbo import elbo
from course_utils.losses.information import batch_rate_parts, mmd_to_prior
from course_utils.losses.terms import Terms
from course_utils.models.registry import register
from course_utils.models.vae import VAE


@register
class TCVAE(VAE):
    """β-TCVAE: −ELBO + (β − 1)·TC, in nats, where TC is the total correlation as a batch estimates it; a VAE at β = 1.

    ``size``: N, the number of training images; other arguments as for :class:`VAE`. A batch of one cannot estimate TC;
    in ``eval()`` a batch of more than N, of test images, stands for itself alone.
    Source: Chen et al. 2018, eq. (4) with α = γ = 1, here with the KL in closed form, and with the stratified
    estimate.
    """

    def __init__(self, *, size: int, **vae: Any) -> None:
        super().__init__(**vae)
        self._require_plain()
        self.size = check_positive_int("size", size)
        self.config |= {"size": self.size}

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The loss, recon, kl and tc of each example, (B,) each, in nats; one tc may well be negative."""
        output = self(x)
        recon, kl = (getattr(elbo(output, x, likelihood=self.likelihood), name) for name in ("recon", "kl"))
        size = self.size if self.training else max(self.size, len(x))
        tc = batch_rate_parts(output.z, output.mu, output.log_var, size).total_correlation
        return Terms(loss=recon + kl + (check_beta(beta) - 1) * tc, recon=recon, kl=kl, tc=tc)


@register
class InfoVAE(VAE):
    """InfoVAE: recon + (1 − α)·KL + (α + λ − 1)·MMD(q(z), p(z)); α = 1 is the MMD-VAE, which has no rate in its loss.

    ``alpha`` at most 1; ``weight`` is λ, and has the unit of ``recon``, nats: MMD itself has none. ``width`` is that of
    the Gaussian kernel, by default √L. Other arguments as for :class:`VAE`. −loss is a bound on log p(x) only at α = 0,
    λ = 1. Source: Zhao, Song & Ermon 2019, their InfoVAE family with the MMD.
    """

    def __init__(self, *, alpha: float = 1.0, weight: float = 100.0, width: float | None = None, **vae: Any) -> None:
        super().__init__(**vae)
        self._require_plain()
        self.alpha = check_number("alpha", alpha)
        if self.alpha > 1:
            raise ValueError(f"alpha above 1 would pay for rate instead of charging for it, got {alpha:g}")
        self.weight = check_number("weight", weight, least=0)
        self.width = self.latent_dim**0.5 if width is None else check_number("width", width, above=0)
        self.config |= {"alpha": self.alpha, "weight": self.weight, "width": self.width}

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The loss, recon, kl and mmd of each example, (B,) each; mmd is the batch's, the same for all of them.

        ``beta`` multiplies both terms that are no reconstruction.
        """
        output = self(x)
        recon, kl = (getattr(elbo(output, x, likelihood=self.likelihood), name) for name in ("recon", "kl"))
        distance = mmd_to_prior(output.z, width=self.width).expand(len(x))
        price = (1 - self.alpha) * kl + (self.alpha + self.weight - 1) * distance
        return Terms(loss=recon + check_beta(beta) * price, recon=recon, kl=kl, mmd=distance)
