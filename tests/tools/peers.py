"""The same VAE, 784-400-20 at batch 128 with Adam, as other libraries train it, where they are installed.

    python -m pip install --target PEERS --no-deps pythae pyro-ppl pyro-api opt-einsum lightning lightning-utilities \\
        torchmetrics pydantic pydantic-core annotated-types typing-inspection imageio cloudpickle dill
    PYTHONPATH=PEERS python -m tests.tools.benchmark epoch

Each function takes the flat images (N, 784) and the number of epochs, and gives the seconds of an epoch and −ELBO as a
function of images.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

BATCH, WIDTH, LATENT, PIXELS, RATE = 128, 400, 20, 784, 1e-3
Trained = tuple[float, Callable[[Tensor], Tensor]]


class Plain(nn.Module):
    """The model itself, as short as it can be written: what every peer trains."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mu, self.log_var = (
            nn.Linear(PIXELS, WIDTH),
            nn.Linear(WIDTH, LATENT),
            nn.Linear(WIDTH, LATENT),
        )
        self.back, self.out = nn.Linear(LATENT, WIDTH), nn.Linear(WIDTH, PIXELS)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.hidden(x).relu()
        return self.mu(h), self.log_var(h)

    def decode(self, z: Tensor) -> Tensor:
        return self.out(self.back(z).relu())

    def loss(self, x: Tensor) -> Tensor:
        """−ELBO of each image, (B,), with one sample."""
        mu, log_var = self.encode(x)
        logits = self.decode(mu + (0.5 * log_var).exp() * torch.randn_like(mu))
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1) + kl


def barest(x: Tensor, epochs: int) -> Trained:
    """The barest eager loop: the data in memory as floats, fused Adam, nothing kept and nothing looked at."""
    model = Plain()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    start = time.perf_counter()
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            loss = model.loss(x[index]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return (time.perf_counter() - start) / epochs, model.loss


def pyro(x: Tensor, epochs: int) -> Trained:
    """Pyro's SVI with Trace_ELBO's mean-field form, as in its own VAE example."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, TraceMeanField_ELBO

    pyro.clear_param_store()
    vae = Plain()

    def model(x: Tensor) -> None:
        pyro.module("vae", vae)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=vae.decode(z), validate_args=False).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("vae", vae)
        with pyro.plate("data", len(x)):
            mu, log_var = vae.encode(x)
            pyro.sample("z", dist.Normal(mu, (0.5 * log_var).exp()).to_event(1))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": RATE}), loss=TraceMeanField_ELBO())
    loader = DataLoader(TensorDataset(x), BATCH, shuffle=True)
    start = time.perf_counter()
    for _ in range(epochs):
        for (part,) in loader:
            svi.step(part)
    return (time.perf_counter() - start) / epochs, vae.loss


def pythae(x: Tensor, epochs: int) -> Trained:
    """pythae's VAE with its BaseTrainer, encoder and decoder replaced by ours."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    plain = Plain()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.plain = plain

        def forward(self, x: Tensor) -> ModelOutput:
            mu, log_var = plain.encode(x.flatten(1))
            return ModelOutput(embedding=mu, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.plain = plain

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=plain.decode(z).sigmoid().reshape(-1, 1, 28, 28))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, learning_rate=RATE, per_device_train_batch_size=BATCH,
            optimizer_cls="Adam", no_cuda=True,
        )  # fmt: skip
        data = BaseDataset(x.reshape(-1, 1, 28, 28), torch.zeros(len(x)))
        trainer = BaseTrainer(VAE(config, Encoder(), Decoder()), data, training_config=training)
        start = time.perf_counter()
        trainer.train()
        took = (time.perf_counter() - start) / epochs
    logging.disable(logging.NOTSET)
    return took, plain.loss


def lightning(x: Tensor, epochs: int) -> Trained:
    """Lightning's Trainer, with loggers, checkpoints and the bar off."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.plain = Plain()

        def training_step(self, batch: list[Tensor]) -> Tensor:
            return self.plain.loss(batch[0]).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module, loader = Module(), DataLoader(TensorDataset(x), BATCH, shuffle=True)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader)
    return (time.perf_counter() - start) / epochs, module.plain.loss


PEERS = {"pyro": ("Pyro's SVI", pyro), "pythae": ("pythae's trainer", pythae), "lightning": ("Lightning's", lightning)}


def installed() -> dict[str, Callable[[Tensor, int], Trained]]:
    """The peers that are there, by what the table calls them."""
    return {label: train for name, (label, train) in PEERS.items() if importlib.util.find_spec(name)}
