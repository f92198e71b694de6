"""Recipes: the models that the training command knows by name, and how each is trained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from course_utils.models import CVAE, VAE, Autoencoder


@dataclass(frozen=True)
class Setting:
    """A model and how it is trained; ``published`` is a test NLL in nats from the literature, with its source."""

    about: str
    model: Callable[[], nn.Module]
    epochs: int = 10
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of fit
    samples: int = 0  # importance samples for the NLL at the end; 0: none
    examples: int = 10_000  # test images that the NLL is estimated on
    published: tuple[float, str] | None = None


def _burda() -> VAE:
    return VAE(latent_dim=50, hidden_dims=(200, 200), activation="tanh")


def burda_rate(epoch: int) -> float:
    """Burda et al.'s learning rate: 0.001 · 10^(−i/7) for 3^i epochs, for i = 0 … 7."""
    stage, end = 0, 1
    while epoch > end and stage < 7:
        stage += 1
        end += 3**stage
    return 0.001 * 10 ** (-stage / 7)


BURDA_TABLE = (86.76, "Burda, Grosse & Salakhutdinov 2016, Table 1: VAE, one stochastic layer, k = 1")

SETTINGS: dict[str, Setting] = {
    "autoencoder": Setting("784-400-2, the code plane of notebook 01", lambda: Autoencoder(latent_dim=2)),
    "vae": Setting("784-400-20, the VAE of notebook 06", lambda: VAE(latent_dim=20)),
    "vae-deep": Setting("784-256-128-10, notebook 06", lambda: VAE(latent_dim=10, hidden_dims=(256, 128))),
    "vae-conv": Setting("convolutional, 20 latents, notebook 06", lambda: VAE(latent_dim=20, trunk="conv")),
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
    "burda-short": Setting(
        "the model of Burda et al. (2016) for two cores: 30 epochs, NLL on 500 images",
        _burda,
        epochs=30,
        options=dict(binarize="dynamic"),
        samples=5000,
        examples=500,
        published=BURDA_TABLE,
    ),
    "burda": Setting(
        "the same as published: 3,280 epochs of batch 20, their learning rates; for a GPU",
        _burda,
        epochs=3280,
        options=dict(binarize="dynamic", batch_size=20, lr=burda_rate),
        samples=5000,
        published=BURDA_TABLE,
    ),
}
