"""The ELBO of one forward pass: distortion plus rate, for a batch."""

from typing import Protocol

from torch import Tensor

from course_utils._checks import check_beta, check_same_shape
from course_utils.losses.likelihoods import Likelihood, make_likelihood
from course_utils.losses.terms import Terms, gaussian_kl


class _Output(Protocol):
    """What a forward pass has to hold: the decoder's output, and the two parameters of q(z|x)."""

    x_params: Tensor
    mu: Tensor
    log_var: Tensor


def elbo(
    output: _Output,
    x: Tensor,
    *,
    likelihood: str | Likelihood,
    beta: float = 1.0,
    prior: tuple[Tensor, Tensor] | None = None,
) -> Terms:
    """The loss to minimise and its two terms, for one sample z per example: ``loss = recon + beta * kl``.

    Shapes: ``output`` as a model's forward pass returns it, ``x`` (B, …) → three tensors (B,), nats per example. At
    β = 1, ``-loss`` is the one-sample estimate of the ELBO. ``likelihood`` is a model's ``.likelihood``, or a name:
    "bernoulli", "continuous_bernoulli", or "gaussian" (with σ = 1). ``prior`` as for :func:`gaussian_kl`. Raises
    ``ValueError`` for unknown names, β < 0, and where pixels or shapes do not fit. Source: Kingma & Welling 2014,
    eq. (10), with one sample and the sign reversed; β: Higgins et al. 2017.
    """
    beta = check_beta(beta)
    likelihood = make_likelihood(likelihood) if isinstance(likelihood, str) else likelihood
    recon = likelihood.nll(output.x_params, x)
    kl = gaussian_kl(output.mu, output.log_var, prior=prior)
    check_same_shape("recon", recon, "kl", kl)
    return Terms(loss=recon + beta * kl, recon=recon, kl=kl)
