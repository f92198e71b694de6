"""Recipes: the models that the training command knows by name, and how each is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from course_utils.data import ImageData
from course_utils.evaluation import JudgeFeatures, train_judge
from course_utils.models import (
    CVAE,
    DDPM,
    GAN,
    IWAE,
    VAE,
    VQVAE,
    AdversarialLoss,
    Autoencoder,
    Discriminator,
    FeatureLoss,
    FlowMatching,
    HierarchicalVAE,
    LatentDiffusion,
    PixelVAE,
)
from course_utils.training.priors import fit_code_prior


@dataclass(frozen=True)
class Setting:
    """A model and how it is trained; ``published`` is a test NLL in nats from the literature, with its source.

    ``on`` names a setting that is trained first: ``model`` is then given its model and the data.
    ``then`` trains what is left afterwards, and is called as ``fit_code_prior`` is.
    """

    about: str
    model: Callable[..., nn.Module]
    epochs: int = 10
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of fit
    samples: int = 0  # importance samples for the NLL at the end; 0: none
    examples: int = 10_000  # test images that the NLL is estimated on
    published: tuple[float, str] | None = None
    on: str = ""
    then: Callable[..., object] | None = None

    @property
    def has_likelihood(self) -> bool:
        """Whether the NLL of its model can be estimated. One that is made from another model is judged by samples."""
        return not self.on and hasattr(self.model(), "log_weights")


PUBLISHED = {1: 86.76, 5: 85.54, 50: 84.78}  # of k, with one stochastic layer


def burda_rate(epoch: int) -> float:
    """Burda et al.'s learning rate: 0.001 · 10^(−i/7) for 3^i epochs, for i = 0 … 7."""
    stage, end = 0, 1
    while epoch > end and stage < 7:
        stage += 1
        end += 3**stage
    return 0.001 * 10 ** (-stage / 7)


def cosine_rate(epoch: int, epochs: int = 200) -> float:
    """From 0.001 down to 0.00001 along half a cosine in ``epochs`` epochs; it stays there."""
    share = min((epoch - 1) / (epochs - 1), 1.0)
    return 1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * share))


def _burda(k: int, about: str, **how: Any) -> Setting:
    """The model of Burda et al. with one stochastic layer, for k samples, on dynamically binarised images."""
    arguments = dict(latent_dim=50, hidden_dims=(200, 200), activation="tanh")
    name = f"{'VAE' if k == 1 else 'IWAE'}, one stochastic layer, k = {k}"
    return Setting(
        f"k = {k}: {about}",
        lambda: VAE(**arguments) if k == 1 else IWAE(k=k, **arguments),
        samples=5000,
        published=(PUBLISHED[k], f"Burda, Grosse & Salakhutdinov 2016, Table 1: {name}"),
        **{**how, "options": {"binarize": "dynamic", **how.get("options", {})}},
    )


def _latent(prior: type[nn.Module], classes: int | None = None) -> Callable[..., nn.Module]:
    """From a VAE and data, a model of the VAE's scaled codes."""
    return lambda vae, data: LatentDiffusion(
        autoencoder=vae, prior=prior(input_shape=(vae.latent_dim,), hidden_dims=(256, 256, 256), classes=classes)
    ).measure(data.train[:])


def _feature_loss(vae: nn.Module, data: ImageData) -> nn.Module:
    """The VAE with a loss in features of a judge of its own: the one that measures starts from another seed."""
    features = JudgeFeatures()
    features.load_state_dict(train_judge(data, seed=1, show=False).state_dict())
    return FeatureLoss(vae, features, weight=10.0)


_GAN = dict(optimizer=partial(torch.optim.Adam, betas=(0.5, 0.999)), lr=2e-3)  # the momentum of Radford et al. 2016
_ON_CODES = dict(epochs=14, on="vae-detailed", options=dict(lr=partial(cosine_rate, epochs=14), ema=0.999))
_UNET = dict(trunk="unet", hidden_dims=(16, 32), pixels=True)
_SHORT = dict(epochs=30, examples=500)
_FULL = dict(epochs=3280, options=dict(batch_size=20, lr=burda_rate))
_COSINE = dict(epochs=200, options=dict(batch_size=100, lr=cosine_rate))

SETTINGS: dict[str, Setting] = {
    "autoencoder": Setting("784-400-2, the code plane of notebook 01", lambda: Autoencoder(latent_dim=2)),
    "vae": Setting("784-400-20, the VAE of notebook 06", lambda: VAE(latent_dim=20)),
    "vae-deep": Setting("784-256-128-10", lambda: VAE(latent_dim=10, hidden_dims=(256, 128))),
    "vae-conv": Setting("convolutional, 20 latents", lambda: VAE(latent_dim=20, trunk="conv")),
    "vae-plane": Setting("784-400-2, the manifold of notebook 06", lambda: VAE(latent_dim=2)),
    "vae-gaussian": Setting(
        "784-400-20 with a learned σ, notebook 05", lambda: VAE(latent_dim=20, likelihood="gaussian", sigma="learned")
    ),
    "cvae": Setting(
        "conditional on the digit, p(z) = N(0, I), notebook 07", lambda: CVAE(input_dim=784, cond_dim=10, latent_dim=10)
    ),
    "cvae-learned-prior": Setting(
        "conditional on the digit, p(z|c) learned, notebook 07",
        lambda: CVAE(input_dim=784, cond_dim=10, latent_dim=10, hidden_dims=(512, 512), prior="learned"),
    ),
    "vq-vae": Setting("16 codes of 64, then their prior, notebook 13", VQVAE, samples=1, then=fit_code_prior),
    "ladder": Setting(
        "two levels, top-down with batch normalisation, notebook 14",
        lambda: HierarchicalVAE(latent_dims=(20, 8), inference="ladder", norm=True),
    ),
    "pixel-vae": Setting(
        "a decoder that sees four neighbours, notebook 15",
        lambda: PixelVAE(latent_dim=20, context=4),
        options=dict(binarize="dynamic"),
    ),
    "vae-features": Setting("the vae, then with a loss in a network's features, notebook 15", _feature_loss, on="vae"),
    "vae-adversary": Setting(
        "the vae, then against a discriminator, notebook 15",
        lambda vae, data: AdversarialLoss(vae, Discriminator(trunk="conv", hidden_dims=(16, 32)), weight=3.0),
        on="vae",
    ),
    "gan": Setting("convolutional, notebook 16", lambda: GAN(trunk="conv"), options=_GAN),
    "flow-matching": Setting(
        "on pixels, a small U-Net, notebook 16", lambda: FlowMatching(**_UNET), options=dict(ema=0.999)
    ),
    "ddpm": Setting("on pixels, a small U-Net, notebook 16", lambda: DDPM(steps=250, **_UNET), options=dict(ema=0.999)),
    "vae-detailed": Setting(
        "784-512-256-16, β = 0.1: for a model of its codes",
        lambda: VAE(latent_dim=16, hidden_dims=(512, 256)),
        options=dict(beta=0.1),
    ),
    "latent-flow": Setting("flow matching on the codes of vae-detailed", _latent(FlowMatching), **_ON_CODES),
    "latent-ddpm": Setting("DDPM on the codes of vae-detailed", _latent(DDPM), **_ON_CODES),
    "latent-flow-classes": Setting(
        "flow matching on the codes of vae-detailed, given the digit", _latent(FlowMatching, classes=10), **_ON_CODES
    ),
    # Hours of one thread at the CPU time of a step that was measured on a busy machine; the NLL comes on top.
    "burda-short": _burda(1, "the model of Burda et al. (2016), NLL on 500 images; minutes", **_SHORT),
    "burda-cosine": _burda(1, "the same, batches of 100, learning rate along a cosine; 1/4 h", **_COSINE),
    "burda": _burda(1, "the same as published, batches of 20; a night (9 h)", **_FULL),
    "iwae-5-short": _burda(5, "the importance-weighted autoencoder, NLL on 500 images; minutes", **_SHORT),
    "iwae-5-cosine": _burda(5, "the same, batches of 100, learning rate along a cosine; 1/2 h", **_COSINE),
    "iwae-5": _burda(5, "the same as published, batches of 20; a long night (17 h)", **_FULL),
    "iwae-50-short": _burda(50, "the importance-weighted autoencoder, NLL on 500 images; 1 h", **_SHORT),
    "iwae-50-cosine": _burda(50, "the same, batches of 100, learning rate along a cosine; a night (5 h)", **_COSINE),
    "iwae-50": _burda(50, "the same as published, batches of 20; days (84 h): for a GPU", **_FULL),
}
