"""Priors fitted to the codes of a trained model, afterwards: ``fit_prior`` of a VAE, ``fit_code_prior`` of a VQ-VAE."""

from typing import Any

import torch
from torch import Tensor, nn

from course_utils._checks import check_positive_int
from course_utils._random import seeded
from course_utils.evaluation.bounds import batches_of, device_of, method_of
from course_utils.training.fit import fit
from course_utils.training.resume import History


def fit_prior(prior: str, model: nn.Module, x: Tensor, *, epochs: int = 20, seed: int = 0, **sizes: int) -> nn.Module:
    """A copy of a trained VAE with another prior, fitted to one code z ~ q(z|x) of each image; the rest is kept.

    ``prior`` is "mixture" (by scikit-learn's EM), "coupling" (trained for ``epochs`` on −log p(z)) or "vamp", whose
    pseudo-inputs are then images themselves, drawn from ``x`` (N, …), and nothing is trained. ``sizes`` are
    ``components`` or ``flow_layers``. It maximises what the ELBO says of the prior, and so is a fair rival of a prior
    that was learned with the rest. Raises ``ValueError`` for "standard", which has nothing to be fitted, and for fewer
    images than components; else as ``model.rebuilt`` does. Source: Ghosh et al. 2020, section 4, ex-post density
    estimation.
    """
    if prior == "standard":
        raise ValueError("N(0, I) has nothing that could be fitted; choose mixture, vamp or coupling")
    with seeded(seed, device_of(model)), torch.no_grad():
        made = method_of(model, "rebuilt", "fit_prior")(prior=prior, **sizes)
        infer = method_of(model, "infer", "fit_prior")
        codes = torch.cat([infer(*batch)[0] for batch in batches_of(model, (x,), 1000)])
        components = check_positive_int("components", made.config["components"])
        if prior != "coupling" and len(codes) < components:
            raise ValueError(f"{components} components need at least as many images, got {len(codes)}")
        if prior == "mixture":
            from sklearn.mixture import GaussianMixture  # here, as it takes a second to load

            found = GaussianMixture(components, covariance_type="diag", random_state=seed).fit(codes.double().cpu())
            parts = found.weights_, found.means_, found.covariances_
            weights, mu, variances = (torch.as_tensor(part).to(codes) for part in parts)
            for parameter, value in zip(made.prior.parts(), (weights.log(), mu, variances.log()), strict=True):
                parameter.copy_(value)
        elif prior == "vamp":
            made.prior.pseudo_inputs.copy_(x[torch.randperm(len(x))[:components]])
    if prior == "coupling":
        fit(made.prior, codes, epochs=epochs, seed=seed, show=False)
    return made


def fit_code_prior(
    model: nn.Module, x: Tensor, *, epochs: int = 10, lr: float = 2e-3, seed: int = 0, **options: Any
) -> History:
    """Train ``model.prior`` of a model with discrete codes, in place, on the codes of images ``x`` (N, …).

    Nothing else moves. ``options`` are further arguments of ``fit``, as ``batch_size`` and ``show``. Raises as ``fit``
    does, and ``TypeError`` for a model without ``codes``.
    """
    choose = method_of(model, "codes", "fit_code_prior")
    mode = model.training
    with torch.no_grad():
        model.eval()
        codes = torch.cat([choose(*batch) for batch in batches_of(model, (x,), 1000)])
        model.train(mode)
    model.prior.requires_grad_(True)
    try:
        return fit(model.prior, codes, epochs=epochs, lr=lr, seed=seed, **options)
    finally:
        model.prior.requires_grad_(False)
