"""The exercises of notebook 09: right answers pass, wrong ones are told apart."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from course_utils.evaluation import optimal_rates
from course_utils.losses import free_bits
from course_utils.training import cyclical_beta


def loop(charge=lambda kl, floor: kl.mean(0).clamp(min=floor).sum(), told=None, count="steps", adam=torch.optim.Adam):
    """A training loop written with other means, in which one thing can be exchanged."""

    def train_with(model, images, epochs, beta, floor=0.0, batch_size=128, lr=1e-3):
        optimizer, history = adam(model.parameters(), lr=lr), []
        per_epoch = math.ceil(len(images) / batch_size)
        for epoch in range(epochs):
            order, told_here = torch.randperm(len(images), device=images.device), 0.0
            for k in range(per_epoch):
                x = images[order[k * batch_size : (k + 1) * batch_size]]
                number = {"steps": epoch * per_epoch + k + 1, "epoch": epoch + 1, "in the epoch": k + 1, "0": 1}
                number["from 0"] = number["steps"] - 1
                recon, kl = model.parts(x)
                weight = beta(number[count])
                loss = recon.mean() + weight * charge(kl, floor)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                mean = recon.mean() + kl.sum(1).mean() if told is None else told(recon, kl, weight, floor)
                told_here += mean.item() * len(x)
            history.append(told_here / len(images))
        return history

    return train_with


def scheduled(step, steps, cycles):
    """By the position in whole steps."""
    return 1 if step > steps else min(1, 2 * ((step - 1) * cycles % steps) / steps)


def nats(mu, log_var):
    return kl_divergence(Normal(mu, (log_var / 2).exp()), Normal(0.0, 1.0))


def as_trained(recon, kl, weight, floor):
    return recon.mean() + weight * kl.mean(0).clamp(min=floor).sum()


def masked(kl, floor):
    """Another number, and the same gradient."""
    return (kl.mean(0) * (kl.mean(0) > floor)).sum()


RIGHT = {
    "9.2": [
        lambda values, variance: torch.relu(values.log() - math.log(variance)) / 2,
        lambda values, variance: torch.log(torch.clamp(values, min=variance) / variance).mul(0.5),
        lambda values, variance: optimal_rates(values, math.sqrt(variance)),
        lambda values, variance: torch.where(values > variance, 0.5 * (values / variance).log(), 0 * values),
    ],
    "9.3": [scheduled, lambda step, steps, cycles: cyclical_beta(steps, cycles=cycles)(step)],
    "9.4": [
        lambda kl, floor: torch.maximum(kl.mean(0), torch.full_like(kl[0], floor)).sum(),
        lambda kl, floor: floor * kl.shape[1] + torch.relu(kl.mean(0) - floor).sum(),
        lambda kl, floor: free_bits(kl, floor).mean(),
    ],
    "9.5": [loop(), loop(charge=lambda kl, floor: free_bits(kl, floor).mean()), loop(charge=masked)],
    "9.1": [
        lambda mu, lv, least: sum(nats(mu, lv).mean(0) > least),
        lambda mu, lv, least: int((nats(mu, lv).sum(0) > least * len(mu)).sum()),
    ],
}
WRONG = [
    ("9.2", "negative rates", lambda values, variance: (values.log() - math.log(variance)) / 2),
    ("9.2", "sigma for its square", lambda values, variance: optimal_rates(values, variance)),
    ("9.2", "one too many", lambda values, variance: torch.log1p(values / variance) / 2),
    ("9.2", "no half", lambda values, variance: 2 * optimal_rates(values, math.sqrt(variance))),
    ("9.3", "begins again after the end", lambda t, n, c: scheduled((t - 1) % n + 1, n, c)),
    ("9.3", "no cycles", lambda t, n, c: scheduled(t, n, 1) if t <= n else 1),
    ("9.3", "no rest", lambda t, n, c: 1 if t > n else ((t - 1) * c % n) / n),
    ("9.3", "whole steps in a cycle", lambda t, n, c: 1 if t > n else min(1, 2 * ((t - 1) % (n // c)) / (n // c))),
    ("9.3", "counts from 0", lambda t, n, c: 1 if t > n else min(1, 2 * (t * c % n) / n)),
    ("9.4", "a mask in place of a maximum", lambda kl, f: sum(k for k in kl.mean(0) if k > f)),
    ("9.4", "before the batch mean", lambda kl, f: free_bits(kl, f, per="element").mean()),
    ("9.4", "on the total", lambda kl, f: free_bits(kl, f, per="total").mean()),
    ("9.4", "on the total of each image", lambda kl, f: kl.sum(1).clamp(min=f).mean()),
    ("9.4", "a ceiling", lambda kl, f: kl.mean(0).clamp(max=f).sum()),
    ("9.4", "the excess", lambda kl, f: torch.relu(kl.mean(0) - f).sum()),
    ("9.4", "no gradient", lambda kl, f: free_bits(kl.detach(), f).mean()),
    ("9.5", "reset inside the batch loop", loop(count="0")),
    ("9.5", "reset in each epoch", loop(count="in the epoch")),
    ("9.5", "counts epochs", loop(count="epoch")),
    ("9.5", "counts from 0", loop(count="from 0")),
    ("9.5", "no floor", loop(charge=lambda kl, floor: kl.sum(1).mean())),
    ("9.5", "before the batch mean", loop(charge=lambda kl, floor: free_bits(kl, floor, per="element").mean())),
    ("9.5", "on the total", loop(charge=lambda kl, floor: free_bits(kl, floor, per="total").mean())),
    ("9.5", "averaged over dimensions", loop(charge=lambda kl, floor: kl.mean(0).clamp(min=floor).mean())),
    ("9.5", "other steps", loop(adam=torch.optim.SGD)),
    ("9.5", "the loss in place of −ELBO", loop(told=as_trained)),
    ("9.5", "other numbers", loop(told=lambda recon, kl, weight, floor: recon.mean())),
    ("9.1", "active units", lambda mu, lv, least: (mu.var(0) > 0.01).sum()),
    ("9.1", "active units above least", lambda mu, lv, least: sum(mu.std(0) ** 2 > least)),
    ("9.1", "any image", lambda mu, lv, least: (nats(mu, lv) > least).any(0).sum()),
]
