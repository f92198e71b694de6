"""Other charges for the rate than the KL itself: free bits in three meanings, and a capacity.

The KL that they change is that of each latent dimension, ``gaussian_kl_terms``; what is charged is no KL, and a loss
made with it no ELBO. Units: nats.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_utils._checks import check_batch, check_beta, check_choice, check_number
from course_utils.losses.terms import Terms, gaussian_kl_terms

PER = ("dimension", "element", "total")


def free_bits(kl_terms: Tensor, floor: float, *, per: str = "dimension") -> Tensor:
    """The KL with a floor of ``floor`` nats: below it nothing more is charged, and no gradient pushes further down.

    Three things go by this name. ``per`` says what may not pay less than the floor:

    - "dimension": the batch mean of each dimension, Σ_j max(λ, mean_b KL_bj) (Kingma et al. 2016, eq. (15)). Some
      examples may need no code as long as others do.
    - "element": each dimension of each example, Σ_j max(λ, KL_bj): nobody may stay below.
    - "total": the batch mean of the whole rate, max(λ, mean_b Σ_j KL_bj). Dimensions may stay silent as long as others
      speak; only here λ is not multiplied by L.

    Where a batch mean decides, the numbers returned have the mean given above, and its gradient.

    Shapes: ``kl_terms`` (B, …, L) → (B,), nats. Raises ``ValueError`` for another ``per`` or a negative floor.
    """
    check_choice("per", per, PER)
    floor = check_number("floor", floor, least=0)
    terms = check_batch("kl_terms", kl_terms).flatten(1)
    if per == "element":
        return terms.clamp(min=floor).sum(1)
    if per == "total":
        terms = terms.sum(1, keepdim=True)
    # What lies below the floor is a constant; what lies above is charged to whoever causes it.
    return torch.where(terms.mean(0) >= floor, terms, terms.new_tensor(floor)).sum(1)


def capacity(kl_terms: Tensor, nats: float) -> Tensor:
    """The distance of the rate from ``nats``: the batch mean of what is returned is |mean_b KL_b − C|.

    A floor and a ceiling at once. Shapes: ``kl_terms`` (B, …, L) → (B,); single numbers may be negative, their mean is
    not. Raises ``ValueError`` for a negative capacity. Source: Burgess et al. 2018, eq. (8), with γ as β.
    """
    nats = check_number("nats", nats, least=0)
    away = check_batch("kl_terms", kl_terms).flatten(1).sum(1) - nats
    return away.mean().sign().detach() * away


class ChargedRate(nn.Module):
    """An objective: a model's distortion plus β times another charge for its rate; ``fit`` trains the model in it.

    ``charge`` takes the KL of each latent dimension, (B, …, L), and gives what is charged, (B,)::

        fit(ChargedRate(vae, lambda kl: free_bits(kl, 0.5)), data, epochs=5)
        evaluate(vae, x)  # the model's own ELBO

    For a model with ``loss`` and ``posterior_and_prior``. The objective keeps no checkpoint; save the model.
    """

    def __init__(self, model: nn.Module, charge: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(charge):
            raise TypeError(f"charge must be a function of the KL terms (B, …, L), got {charge!r}")
        if not callable(getattr(model, "posterior_and_prior", None)):
            raise TypeError(f"a charge needs the KL of each dimension: {type(model).__name__} has no such posterior")
        self.model, self.charge = model, charge

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor, ...]:
        """What ``loss`` takes: the model's own inputs."""
        return self.model.inputs(x, y, condition)

    def loss(self, *inputs: Tensor, beta: float = 1.0) -> Terms:
        """``loss``, and beside it distortion, KL and ``charged`` of each example, (B,) each, in nats."""
        recon = self.model.loss(*inputs, beta=0.0).recon
        posterior, prior = self.model.posterior_and_prior(*inputs)
        kl_terms = gaussian_kl_terms(*posterior, prior=prior)
        charged = self.charge(kl_terms)
        return Terms(
            loss=recon + check_beta(beta) * charged, recon=recon, kl=kl_terms.flatten(1).sum(1), charged=charged
        )
