"""The importance-weighted autoencoder: the VAE trained on the bound L_k instead of the ELBO."""

from typing import Any

from torch import Tensor

from course_utils._checks import check_beta, check_choice, check_positive_int
from course_utils.losses.bounds import doubly_reparameterized, importance_bound, sticking_the_landing
from course_utils.losses.terms import Terms
from course_utils.models.layers import check_input, gaussian_log_density, log_likelihood_of_codes
from course_utils.models.registry import register
from course_utils.models.vae import VAE

GRADIENTS = ("plain", "doubly reparameterized", "sticking the landing")


@register
class IWAE(VAE):
    """The VAE with the loss −L_k of Burda, Grosse & Salakhutdinov (2016): ``k`` samples from q(z|x) for each example.

    ``gradient`` is how the encoder learns: "plain", "doubly reparameterized" (Tucker et al. 2019) or "sticking the
    landing" (Roeder et al. 2017), see ``losses.bounds``; the decoder's gradient is the same with each. All other
    arguments are those of :class:`VAE`, and with k = 1 so is the objective.
    """

    def __init__(self, *, k: int = 5, gradient: str = "plain", **arguments: Any) -> None:
        super().__init__(**arguments)
        self._require_plain()
        self.k, self.gradient = check_positive_int("k", k), check_choice("gradient", gradient, GRADIENTS)
        self.config |= dict(k=self.k, gradient=self.gradient)

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """−L_k, and beside it ``minus_elbo``, the mean of −log w over the same samples: (B,) each, in nats.

        ``beta`` weighs log p(z) − log q(z|x) inside the weights; only with 1 is the loss a bound.
        """
        beta = check_beta(beta)
        x = check_input(x, self.input_shape, self.heads.mu.weight)
        mu, log_var = (parameter.expand(self.k, *parameter.shape) for parameter in self.encode(x))
        z = self.reparameterize(mu, log_var)  # (k, B, L)
        q = (mu, log_var) if self.gradient == "plain" else (mu.detach(), log_var.detach())
        rate = gaussian_log_density(z, *q) - self.log_prior(z)
        log_px = log_likelihood_of_codes(self, x, z)
        log_w = log_px - beta * rate
        if self.gradient == "doubly reparameterized":
            loss = doubly_reparameterized(log_w, z)
        elif self.gradient == "sticking the landing":
            loss = sticking_the_landing(log_w)
        else:
            loss = -importance_bound(log_w)
        return Terms(loss=loss.to(x), minus_elbo=(rate - log_px).mean(0).to(x))
