"""The patients of notebook 08: short broken VAEs, each with one mistake that people really make.

`SmallVAE` and `SmallCVAE` are healthy; every patient differs from one of them in one place (the first in three).
A patient's docstring is what its owner says about it, so that `show_source` tells the symptom and not the cause.

A model here maps images x (B, 1, 28, 28) to ``(logits, mu, log_var)``, and ``model.loss(output, x)`` is its training
loss, one number, so that a test can ask it about outputs that no network has made.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

Output = tuple[Tensor, Tensor, Tensor]  # logits (B, 784), mu (B, L), log_var (B, L)


class SmallVAE(nn.Module):
    """A correct VAE, as short as it gets."""

    def __init__(self, latent_dim=10, hidden=200):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU())
        self.mu = nn.Linear(hidden, latent_dim)
        self.log_var = nn.Linear(hidden, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, 784))

    def encode(self, x):
        h = self.encoder(x)
        return self.mu(h), self.log_var(h)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z):
        return self.decoder(z)  # logits

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return self.decode(z), mu, log_var

    def loss(self, output, x):
        logits, mu, log_var = output
        recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
        kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
        return (recon + kl).mean()


class Patient1(nn.Module):
    """My loss is wonderful from the first epoch on. But every sample is the same grey soup, whatever latent_dim is."""

    def __init__(self, latent_dim=10, hidden=200):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, latent_dim))
        self.decoder = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 784))

    def encode(self, x):
        h = self.encoder(x).mean(dim=1, keepdim=True)
        return h, h

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return self.decode(z), mu, log_var

    def loss(self, output, x):
        logits, _mu, _log_var = output
        return F.binary_cross_entropy_with_logits(logits, x.flatten(1))


class Patient2(SmallVAE):
    """My loss is several nats better than the tutorial's, with the same architecture. Can I publish?"""

    def reparameterize(self, mu, log_var):
        std = torch.exp(log_var)
        return mu + std * torch.randn_like(std)


class Patient3(SmallVAE):
    """My loss jumps up and down from batch to batch, and larger batches do not help."""

    def reparameterize(self, mu, log_var):
        eps = torch.randn(mu.shape[1], dtype=mu.dtype, device=mu.device)
        return mu + torch.exp(0.5 * log_var) * eps


class Patient4(SmallVAE):
    """The best loss that I have ever seen, and my runs are reproducible to the last digit. The samples are rubbish."""

    def __init__(self, latent_dim=10, hidden=200):
        super().__init__(latent_dim, hidden)
        self.register_buffer("eps", torch.randn(latent_dim))

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * self.eps


class Patient5(SmallVAE):
    """The KL falls to zero within an epoch, and all reconstructions look alike. Posterior collapse, I suppose?"""

    def reparameterize(self, mu, log_var):
        return Normal(mu, torch.exp(0.5 * log_var)).sample()


class Patient6(SmallVAE):
    """The loss is tiny, well below 1, the KL is zero, and all reconstructions look alike. Collapse again?"""

    def loss(self, output, x):
        logits, mu, log_var = output
        recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1))
        kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        return recon + kl


class Patient7(SmallVAE):
    """Reconstructions are crisp, samples are scribbles. On the big machine, with larger batches, it got worse."""

    def loss(self, output, x):
        logits, mu, log_var = output
        recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
        kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        return recon + kl


class Patient8(SmallVAE):
    """The loss goes below zero, and then it falls and falls, to numbers with twenty digits. Should I lower lr?"""

    def loss(self, output, x):
        logits, mu, log_var = output
        recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
        kl = 0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(1)
        return (recon + kl).mean()


class Patient9(SmallVAE):
    """The loss comes down to 543 and stays there, whatever lr I try. All pictures are the same flat grey."""

    def decode(self, z):
        return torch.sigmoid(self.decoder(z))


class Patient10(SmallVAE):
    """The loss went negative and keeps falling. I took the data pipeline from an image classifier; it works there."""

    def standardise(self, x):
        return (x - 0.1307) / 0.3081

    def encode(self, x):
        return super().encode(self.standardise(x))

    def loss(self, output, x):
        return super().loss(output, self.standardise(x))


class Patient11(SmallVAE):
    """I call model.eval(), I decode the same code twice, and I get two different pictures."""

    def decode(self, z):
        h = self.decoder[:-1](z)
        return self.decoder[-1](F.dropout(h, 0.5))


def patient_12(model, x, batch_size):
    """My test loss depends on the batch size that I test with, and it is not the noise."""
    losses = []
    for part in x.split(batch_size):
        losses.append(model.loss(model(part), part).item())
    return sum(losses) / len(losses)


def patient_13(model, x, n):
    """The generated images are fantastic, as good as the data! Only nobody can reproduce them from my weights."""
    logits, _, _ = model(x[:n])
    return logits.sigmoid().view(n, 1, 28, 28)


class Patient16(SmallVAE):
    """Everything stays blurred, however long I train. I only made sure that the variance is never negative."""

    def encode(self, x):
        mu, log_var = super().encode(x)
        return mu, F.softplus(log_var)


class Patient17(SmallVAE):
    """My loss beats the tutorial's by far. The samples do not. The noise was too strong, so I turned it down."""

    def reparameterize(self, mu, log_var):
        eps = 0.1 * torch.randn_like(mu)
        return mu + torch.exp(0.5 * log_var) * eps


class SmallCVAE(nn.Module):
    """A correct conditional VAE: encoder and decoder both see the condition."""

    def __init__(self, latent_dim=10, hidden=200, cond_dim=10):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784 + cond_dim, hidden), nn.ReLU())
        self.mu = nn.Linear(hidden, latent_dim)
        self.log_var = nn.Linear(hidden, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim + cond_dim, hidden), nn.ReLU(), nn.Linear(hidden, 784))

    def encode(self, x, cond):
        h = self.encoder(torch.cat([x.flatten(1), cond], dim=-1))
        return self.mu(h), self.log_var(h)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)

    def decode(self, z, cond):
        return self.decoder(torch.cat([z, cond], dim=-1))

    def forward(self, x, cond):
        mu, log_var = self.encode(x, cond)
        z = self.reparameterize(mu, log_var)
        return self.decode(z, cond), mu, log_var

    def loss(self, output, x):
        return SmallVAE.loss(self, output, x)


class Patient14(SmallCVAE):
    """I ask for a seven and get a two, a nine, anything. The label is in the model, I concatenate it myself!"""

    def __init__(self, latent_dim=10, hidden=200, cond_dim=10):
        super().__init__(latent_dim, hidden, cond_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, 784))

    def decode(self, z, cond):
        return self.decoder(z)


class Patient18(SmallCVAE):
    """I ask for a seven and get a seven, every time, better than yours. But it is always the same seven."""

    def loss(self, output, x):
        logits, mu, log_var = output
        recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1))
        kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        return recon + kl


def patient_15(x, y, batch_size):
    """I ask for a seven and get anything, too. But my decoder does see the label, I have checked that twice."""
    order = torch.randperm(len(x))
    for i in range(0, len(x), batch_size):
        yield x[order[i : i + batch_size]], y[i : i + batch_size]


# ---------------------------------------------------------------------------------------------------- some cured


class Cured11(Patient11):
    """Patient 11, cured."""

    def decode(self, z):
        h = self.decoder[:-1](z)
        return self.decoder[-1](F.dropout(h, 0.5, training=self.training))


@torch.no_grad()
def cured_12(model, x, batch_size):
    """Patient 12, cured."""
    total = 0.0
    for part in x.split(batch_size):
        total += model.loss(model(part), part).item() * len(part)
    return total / len(x)


@torch.no_grad()
def cured_13(model, x, n):
    """Patient 13, cured."""
    z = torch.randn(n, model.mu.out_features, device=x.device)
    return model.decode(z).sigmoid().view(n, 1, 28, 28)


# ------------------------------------------------------------------------------------------- around the patients


def train(
    model: nn.Module, epoch: Callable[[], Iterable[tuple[Tensor, ...]]], *, steps: int, lr: float = 2e-3
) -> list[float]:
    """Train `model` by Adam on its own loss and return the loss of every step, as its owner would log it.

    epoch: called for every pass over the data; yields ``(x,)`` or ``(x, cond)``. Stops without an error at the first
    loss that is not finite, which is then the last of the list. The model is left in evaluation mode.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    logged: list[float] = []
    endless = itertools.chain.from_iterable(epoch() for _ in itertools.count())
    for x, *cond in itertools.islice(endless, steps):
        loss = model.loss(model(x, *cond), x)
        logged.append(loss.item())
        if not loss.isfinite():
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    return logged


def linear_judge(x: Tensor, y: Tensor, *, epochs: int = 30) -> nn.Linear:
    """A linear classifier of images x (N, 1, 28, 28) with labels y (N,): flat images (N, 784) to logits (N, 10)."""
    judge = nn.Linear(784, 10).to(x.device)
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x), device=x.device).split(512):
            optimizer.zero_grad()
            F.cross_entropy(judge(x[index].flatten(1)), y[index]).backward()
            optimizer.step()
    return judge


@torch.no_grad()
def second_opinion(model: nn.Module, x: Tensor) -> tuple[float, float]:
    """The negative ELBO of what `encode` and `decode` say, and its KL, in nats per image, whatever the loss is.

    Noise, sampling step and both terms are the clinic's own, so a mistake in the patient's cannot hide. x: images
    (N, 1, 28, 28) in [0, 1]. The number is fair to anyone whose decoder gives logits.
    """
    mu, log_var = model.encode(x)
    logits = model.decode(mu + torch.exp(0.5 * log_var) * torch.randn_like(mu))
    recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)
    return (recon + kl).mean().item(), kl.mean().item()


class Adapter(nn.Module):
    """A reader's VAE of notebook 06 with the methods that the clinic's tests ask for.

    Its loss is the VAE's own, of an output that the test chooses: for this one call `encode` and `decode` of the VAE
    give what stands in the output. The VAE must have encode, reparameterize, decode and loss(x) -> (B,), x: (B, 784),
    and call its own methods through `self`.
    """

    def __init__(self, vae):
        super().__init__()
        self.vae, self.reparameterize, self.decode = vae, vae.reparameterize, vae.decode

    def encode(self, x):
        return self.vae.encode(x.flatten(1))

    forward = SmallVAE.forward

    def loss(self, output, x):
        logits, mu, log_var = output
        given = {"encode": lambda x: (mu, log_var), "decode": lambda z: logits}
        with mock.patch.multiple(self.vae, **given):
            return self.vae.loss(x.flatten(1)).mean()


def failure(test: Callable[..., None], *args: Any) -> str | None:
    """Run a test; return what its failed assertion says, or None when it passes. Other errors pass through."""
    try:
        test(*args)
    except AssertionError as error:
        return str(error) or "(an assertion without words)"
    return None


def prove(test: Callable[..., None], *, fails_on: Mapping[str, tuple], passes_on: Mapping[str, tuple]) -> None:
    """Show that a test can tell the sick from the healthy: run it on both and print what it said.

    fails_on, passes_on: name -> the arguments of the test. Raises AssertionError when a verdict is not the promised
    one: a test that passes on the patient is worth as little as one that fails on the cured model.
    """
    for promised, subjects in (("fails", fails_on), ("passes", passes_on)):
        for name, args in subjects.items():
            said = failure(test, *args)
            verdict = "passes" if said is None else "fails"
            if verdict != promised:
                raise AssertionError(f"{test.__name__} {verdict} on {name}; promised: {promised}. {said or ''}".strip())
            print(f"✔ {test.__name__} {verdict} on {name}" + (f": {said}" if said else ""))


def show_source(*things: type | Callable[..., Any]) -> None:
    """Display the source of classes and functions as code."""
    from IPython.display import Markdown, display

    text = "\n\n\n".join(inspect.getsource(thing).rstrip() for thing in things)
    display(Markdown(f"```python\n{text}\n```"))
