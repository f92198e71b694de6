"""``fit_prior``: a prior fitted to the codes of a trained VAE, afterwards."""

import torch
from torch import Tensor, nn

from course_utils._checks import check_positive_int
from course_utils._random import seeded
from course_utils.evaluation.bounds import batches_of, device_of, method_of
from course_utils.training.fit import fit


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
