"""The four readings of an encoder's second output s, each known by the log σ that it stands for."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Spread(NamedTuple):
    """What s is, how σ comes from it, and log σ as a function of s."""

    name: str
    sigma: str
    log_sigma: Callable[[Tensor], Tensor]


SPREADS = {
    "log_var": Spread("log σ²", "exp(½s)", lambda s: s / 2),
    "log_std": Spread("log σ", "exp(s)", lambda s: s),
    "var": Spread("σ²", "√s", lambda s: s.abs().log() / 2),
    "std": Spread("σ", "s", lambda s: s.abs().log()),
}


def slopes(kind: str, s: Tensor) -> tuple[Tensor, Tensor]:
    """dσ²/ds and d log σ²/ds, for s read as ``kind``; those of the KL to N(0, I) are half their difference."""
    s = s.detach().requires_grad_()
    log_variance = 2 * SPREADS[kind].log_sigma(s)
    (slope,) = torch.autograd.grad(log_variance.sum(), s)
    return slope * log_variance.detach().exp(), slope
