"""The exercises of notebook 01: right answers pass, wrong ones are told apart."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils.teaching.exercises.notebook_01 import MyAutoencoder, squared_error


class WithFunctions(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.up, self.code = nn.Linear(784, 400), nn.Linear(400, latent_dim)
        self.down, self.pixels = nn.Linear(latent_dim, 400), nn.Linear(400, 784)

    def encode(self, x):
        return self.code(F.relu(self.up(x)))

    def decode(self, z):
        return self.pixels(self.down(z).clamp(min=0))

    def loss(self, x):
        return F.mse_loss(self.decode(self.encode(x)), x, reduction="none").sum(-1)


def stacks(encoder, decoder):
    """A wrong model: these two functions of latent_dim make its halves."""

    class Model(MyAutoencoder):
        def __init__(self, latent_dim):
            super().__init__(latent_dim)
            self.encoder, self.decoder = nn.Sequential(*encoder(latent_dim)), nn.Sequential(*decoder(latent_dim))

    return Model


class StraightDecoder(WithFunctions):
    def decode(self, z):
        return self.pixels(self.down(z))


class LayersForMethods(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.encode, self.decode = nn.Sequential(*up(latent_dim)), nn.Sequential(*down(latent_dim))

    def loss(self, x):
        return squared_error(self.decode(self.encode(x)), x)


def up(n, *after, width=400, bend=nn.ReLU, between=()):
    return [nn.Linear(784, width), bend(), *between, nn.Linear(width, n), *after]


def down(n, *after, width=400, bend=nn.ReLU, before=()):
    return [*before, nn.Linear(n, width), bend(), nn.Linear(width, 784), *after]


def with_loss(loss):
    return type("Model", (MyAutoencoder,), {"loss": loss})


def with_a_data_loader(model, images, epochs, batch_size=128, lr=1e-3):
    optimizer, history = torch.optim.Adam(model.parameters(), lr), []
    for _ in range(epochs):
        losses = []
        for (x,) in DataLoader(TensorDataset(images), batch_size=batch_size, shuffle=True):
            optimizer.zero_grad()
            losses.append(model.loss(x).mean())
            losses[-1].backward()
            optimizer.step()
        history.append(torch.stack(losses).mean().item())
    return history


def loop(order=torch.randperm, reduce=torch.mean, optimizer=torch.optim.Adam, kept=torch.Tensor.item, **changed):
    """A training loop with one thing in it done differently."""

    def train(model, images, epochs, batch_size=128, lr=1e-3):
        make = lambda: optimizer(model.parameters(), lr=changed.get("lr", lr))  # noqa: E731
        chosen, orders, history = make(), order(len(images)), []
        for _ in range(epochs):
            chosen = make() if "fresh" in changed else chosen
            orders = orders if "one_order" in changed else order(len(images))
            losses = []
            for batch in orders.split(batch_size):
                losses.append(reduce(model.loss(images[batch])))
                if "pile_up" not in changed:
                    chosen.zero_grad()
                losses[-1].backward()
                if "still" not in changed:
                    chosen.step()
            history.append(kept(changed.get("mean", lambda losses: sum(losses) / len(losses))(losses)))
        return history

    return train


RIGHT = {
    "1.1": [
        lambda a, x: F.mse_loss(a, x, reduction="none").sum(-1),
        lambda a, x: (x - a).norm(dim=1) ** 2,
    ],
    "1.2": [WithFunctions],
    "1.3": [with_a_data_loader, loop(), loop(optimizer=lambda p, lr: torch.optim.Adam(p, lr=lr, fused=True))],
    "1.4": [
        lambda s, c: torch.stack([(c - row).norm(dim=1).min() for row in s]),
        lambda s, c: (s[:, None] - c).square().sum(-1).sqrt().min(1).values,
    ],
    "1.5": [
        lambda c: (c.sum(0) / len(c), (c - c.mean(0)).T @ (c - c.mean(0)) / (len(c) - 1)),
        lambda c: (c.mean(0), torch.cov(c.T, correction=1)),
    ],
}
WRONG = [
    ("1.1", "times 1/D", lambda a, x: (a - x).square().mean(1)),
    ("1.1", "summed over B", lambda a, x: (a - x).square().sum()),
    ("1.1", "summed over B, times 1/(B·D)", lambda a, x: F.mse_loss(a, x)),
    ("1.1", "another axis", lambda a, x: (a - x).square().sum(0)),
    ("1.1", "root", lambda a, x: (a - x).norm(dim=1)),
    ("1.1", "abs for square", lambda a, x: (a - x).abs().sum(1)),
    ("1.2", "a ReLU at the end of encode", stacks(lambda n: up(n, nn.ReLU()), down)),
    ("1.2", "sigmoid in decode", stacks(up, lambda n: down(n, nn.Sigmoid()))),
    ("1.2", "native_layer_norm in encode", stacks(lambda n: up(n, nn.LayerNorm(n)), down)),
    ("1.2", "bernoulli in encode", stacks(lambda n: up(n, between=[nn.Dropout()]), down)),
    ("1.2", "native_batch_norm in encode", stacks(lambda n: up(n, between=[nn.BatchNorm1d(400)]), down)),
    ("1.2", "tanh in encode", stacks(lambda n: up(n, bend=nn.Tanh), down)),
    ("1.2", "no activation in encode", stacks(lambda n: up(n, bend=nn.Identity), down)),
    ("1.2", "no activation in decode", stacks(up, lambda n: down(n, bend=nn.Identity))),
    ("1.2", "no activation in decode", StraightDecoder),
    ("1.2", "a ReLU on the code", stacks(up, lambda n: down(n, before=[nn.ReLU()]))),
    ("1.2", "methods missing", LayersForMethods),
    ("1.2", "other layers", stacks(lambda n: up(n, width=800), lambda n: down(n, width=800))),
    ("1.2", "other layers", stacks(lambda n: up(n, between=[nn.Linear(400, 400), nn.ReLU()]), down)),
    ("1.2", "shape of encode", stacks(lambda n: up(8), lambda n: down(8))),
    ("1.2", "not one loss for each image", with_loss(lambda m, x: squared_error(m.decode(m.encode(x)), x).mean())),
    ("1.2", "loss(x): times 1/784", with_loss(lambda self, x: (self.decode(self.encode(x)) - x).square().mean(1))),
    ("1.2", "no gradient", with_loss(lambda m, x: squared_error(m.decode(m.encode(x).detach()), x))),
    ("1.3", "gradients pile up", loop(pile_up=True)),
    ("1.3", "no step", loop(still=True)),
    ("1.3", "stored order", loop(order=torch.arange)),
    ("1.3", "one order for all epochs", loop(one_order=True)),
    ("1.3", "not every image once", loop(order=lambda n: torch.randint(n, (n,)))),
    ("1.3", "no mean loss", loop(reduce=torch.sum)),
    ("1.3", "not the mean over the batch", loop(reduce=torch.sum, kept=lambda loss: loss.item() / 12.5)),
    ("1.3", "SGD", loop(optimizer=torch.optim.SGD)),
    ("1.3", "AdamW", loop(optimizer=torch.optim.AdamW)),
    ("1.3", "a new optimizer", loop(fresh=True)),
    ("1.3", "lr unused", loop(lr=1e-3)),
    ("1.3", "not a list of numbers", loop(kept=torch.Tensor.detach)),
    ("1.3", "no mean loss", loop(kept=lambda loss: 4 * loss.item())),
    ("1.3", "no mean loss", loop(kept=lambda loss: 1.1 * loss.item())),
    ("1.3", "the last batch's loss", loop(mean=lambda losses: losses[-1])),
    ("1.4", "mean for amin", lambda s, c: torch.cdist(s, c).mean(1)),
    ("1.4", "amin over another axis", lambda s, c: torch.cdist(s, c).amin(0)),
    ("1.4", "amin over everything", lambda s, c: torch.cdist(s, c).amin()),
    ("1.4", "square", lambda s, c: torch.cdist(s, c).square().amin(1)),
    ("1.4", "places, not values", lambda s, c: torch.cdist(s, c).argmin(1)),
    ("1.4", "amax for amin", lambda s, c: torch.cdist(s, c).amax(1)),
    ("1.4", "values and indices", lambda s, c: torch.cdist(s, c).min(1)),
    ("1.5", "the transpose of codes in place of codes", lambda c: (c.mean(0), torch.cov(c))),
    ("1.5", "another axis, times N/L", lambda c: (c.mean(1), torch.cov(c.T))),
    ("1.5", "times (N − 1)/N", lambda c: (c.mean(0), torch.cov(c.T, correction=0))),
    ("1.5", "variances only", lambda c: (c.mean(0), c.var(0))),
    ("1.5", "not centred", lambda c: (c.mean(0), c.T @ c / (len(c) - 1))),
    ("1.5", "correlations", lambda c: (c.mean(0), torch.corrcoef(c.T))),
    ("1.5", "parts exchanged", lambda c: (torch.cov(c.T), c.mean(0))),
    ("1.5", "other parts", lambda c: c.mean(0)),
]
