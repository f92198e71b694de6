"""Quantisers: what turns an encoder's numbers into discrete codes, and lets gradients pass.

B is the batch size, T the number of positions of a code, K the number of codes to choose from at each. A quantiser has
``features``, the numbers that it takes at a position, ``dim``, those that it gives to the decoder, ``codes``, K, and
``config``, its arguments as plain values:

    quantiser(h) -> Quantised            h (B, T, features); in ``train()`` a finite h may also move its codes
    quantiser.choose(h) -> (B, T)        whole numbers 0 … K − 1, without noise
    quantiser.look_up(index) -> (B, T, dim)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from course_utils._checks import (
    check_bool,
    check_choice,
    check_number,
    check_positive_int,
    check_same_shape,
    check_share,
    check_sizes,
)

STARTS = ("data", "normal", "uniform")
UPDATES = ("gradient", "ema")


class Quantised(NamedTuple):
    """A quantised code: what the decoder takes, the choice at each position, and the quantiser's terms of the loss."""

    z: Tensor  # (B, T, dim)
    index: Tensor  # (B, T)
    terms: dict[str, Tensor]  # (B,) each: the loss is the reconstruction plus all of them


def straight_through(h: Tensor, code: Tensor) -> Tensor:
    """The numbers of ``code`` with the gradient of ``h``, of one shape. Source: van den Oord et al. 2017, section 3."""
    check_same_shape("h", h, "code", code)
    return h + (code - h).detach()


class VectorQuantiser(nn.Module):
    """A codebook of K vectors; each position takes the one nearest to it. Source: van den Oord et al. 2017, eq. (3).

    Terms: ``codebook``, ‖sg[h] − e‖², which moves the codes alone, and ``commitment`` times ‖h − sg[e]‖², which moves
    the encoder alone; both summed over positions. With ``update="ema"`` there is no first term: in ``train()``, each
    code follows a running mean of what chose it, of weight ``decay`` (their appendix A.1). ``start``: codes begin as
    "data", what the encoder gives for the first batch, "normal", N(0, I), or "uniform" on [−1/K, 1/K]. A code that
    nobody chose in ``restart`` batches is put where a random position of the batch is; None leaves it where it is.
    Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """

    def __init__(
        self,
        *,
        codes: int = 64,
        dim: int = 8,
        update: str = "gradient",
        start: str = "data",
        commitment: float = 0.25,
        decay: float = 0.99,
        restart: int | None = 50,
    ) -> None:
        super().__init__()
        self.codes, self.dim = check_positive_int("codes", codes), check_positive_int("dim", dim)
        self.features = self.dim
        self.ema = check_choice("update", update, UPDATES) == "ema"
        self.commitment = check_number("commitment", commitment, least=0)
        self.decay = 0.0 if decay == 0 else check_share("decay", decay)
        self.restart = None if restart is None else check_positive_int("restart", restart)
        self.config = dict(
            codes=self.codes, dim=self.dim, update=update, start=start, commitment=self.commitment, decay=self.decay,
            restart=self.restart,
        )  # fmt: skip
        book = torch.randn(self.codes, self.dim)
        if check_choice("start", start, STARTS) == "uniform":
            book.uniform_(-1 / self.codes, 1 / self.codes)
        if self.ema:
            self.register_buffer("codebook", book)
            self.register_buffer("counts", torch.ones(self.codes))
            self.register_buffer("sums", book.clone())
        else:
            self.codebook = nn.Parameter(book)
        self.register_buffer("idle", torch.zeros(self.codes, dtype=torch.int64))  # batches since it was last chosen
        self.register_buffer("started", torch.tensor(start != "data"))

    def choose(self, h: Tensor) -> Tensor:
        """The nearest code of each position, (B, T, dim) → (B, T)."""
        return torch.cdist(h.detach().flatten(0, 1), self.codebook.detach()).argmin(1).view(h.shape[:2])

    def look_up(self, index: Tensor) -> Tensor:
        """The codes themselves, (B, T) → (B, T, dim)."""
        return F.embedding(index, self.codebook)

    def forward(self, h: Tensor) -> Quantised:
        """(B, T, dim) → the nearest codes, with the encoder's gradient."""
        moves = self.training and _usable(h)
        if moves and not self.started:
            self._put(torch.ones_like(self.idle, dtype=torch.bool), h)
            self.started.fill_(True)
        index = self.choose(h)
        code = self.look_up(index)
        terms = {} if self.ema else {"codebook": (h.detach() - code).square().sum((1, 2))}
        terms["commitment"] = self.commitment * (h - code.detach()).square().sum((1, 2))
        z = straight_through(h, code)
        if moves:
            self._follow(h, index)
        return Quantised(z, index, terms)

    @torch.no_grad()
    def _follow(self, h: Tensor, index: Tensor) -> None:
        """Move the codes as far as that is not left to the optimiser."""
        n = _of_all_processes(torch.bincount(index.flatten(), minlength=self.codes))
        if self.ema:
            sums = torch.zeros_like(self.sums).index_add_(0, index.flatten(), h.flatten(0, 1))
            sums = _of_all_processes(sums)
            self.counts.lerp_(n.to(sums), 1 - self.decay)
            self.sums.lerp_(sums, 1 - self.decay)
            known = self.counts > 1e-5  # nobody was there for long: it stays where it is
            self.codebook[known] = self.sums[known] / self.counts[known, None]
        self.idle.add_(1).masked_fill_(n > 0, 0)
        if self.restart is not None:
            self._put(self.idle >= self.restart, h)

    @torch.no_grad()
    def _put(self, which: Tensor, h: Tensor) -> None:
        """Put these codes, a mask (K,), where random positions of the batch are."""
        many = int(which.sum())
        if many == 0:
            return
        h = h.flatten(0, 1)
        if len(h):
            chosen = h[torch.randperm(len(h), device=h.device)[torch.arange(many, device=h.device) % len(h)]]
        else:  # no part of a batch that is smaller than the number of processes
            chosen = h.new_zeros(many, self.dim)
        if _several_processes():
            distributed.broadcast(chosen, 0)  # each drew from its own part of the batch
        self.codebook[which] = chosen
        if self.ema:
            self.counts[which], self.sums[which] = 1.0, chosen
        self.idle[which] = 0


class FiniteScalarQuantiser(nn.Module):
    """No codebook: each number is squashed and rounded to one of a few ``levels``, (8, 8, 8) for K = 512 codes.

    h → u = ½ (L − 1) (tanh h + 1), rounded; the decoder takes 2u / (L − 1) − 1, in [−1, 1]. Without ``normalise``, h
    can grow until tanh is flat: then everything rounds to one level, and no gradient comes back. With it, h is
    standardised as in batch norm before. There are no terms. Source: Mentzer et al. 2023. The normalisation is not
    theirs; and they shift an even L by half a step, so that h = 0 is a level, which is not done here.
    Raises ``ValueError`` or ``TypeError`` for levels below 2.
    """

    def __init__(self, *, levels: Sequence[int] = (8, 8), normalise: bool = True) -> None:
        super().__init__()
        levels = check_sizes("levels", levels, "whole numbers from 2 on, one for each number, as in (8, 8)")
        if min(levels) < 2:
            raise ValueError(f"levels must be whole numbers from 2 on, got {levels}")
        self.features = self.dim = len(levels)
        self.codes, self.normalise = math.prod(levels), check_bool("normalise", normalise)
        self.config = dict(levels=levels, normalise=normalise)
        self.register_buffer("tops", torch.tensor(levels, dtype=torch.float) - 1, persistent=False)
        steps = [math.prod(levels[:i]) for i in range(len(levels))]  # index = Σ steps · level
        self.register_buffer("steps", torch.tensor(steps), persistent=False)
        self.norm = nn.BatchNorm1d(self.dim, affine=False)

    def choose(self, h: Tensor) -> Tensor:
        """(B, T, dim) → the number of the rounded point, (B, T)."""
        return self._index(self._squashed(h.detach(), training=False).round())

    def look_up(self, index: Tensor) -> Tensor:
        """The points themselves, (B, T) → (B, T, dim), in [−1, 1]."""
        levels = index[..., None] // self.steps % (self.tops.long() + 1)
        return 2 * levels / self.tops - 1

    def forward(self, h: Tensor) -> Quantised:
        """(B, T, dim) → the rounded points, with the gradient of what was rounded."""
        u = self._squashed(h, training=self.training and _usable(h))
        z = 2 * straight_through(u, u.round()) / self.tops - 1
        return Quantised(z, self._index(u.detach().round()), {})

    def _squashed(self, h: Tensor, *, training: bool) -> Tensor:
        """Numbers from 0 to L − 1, yet to be rounded."""
        if self.normalise:
            norm = self.norm if training else lambda h: F.batch_norm(h, self.norm.running_mean, self.norm.running_var)
            h = norm(h.flatten(0, 1)).view_as(h)
        return 0.5 * self.tops * (h.tanh() + 1)

    def _index(self, levels: Tensor) -> Tensor:
        return (levels.long() * self.steps).sum(-1)


class GumbelQuantiser(nn.Module):
    """q(k|x) is categorical, with K logits at each position; in training, samples are relaxed to mixtures of codes.

    In ``train()``, z = Σ_k w_k e_k with w = softmax((logits + Gumbel noise) / ``temperature``): the lower, the nearer
    to one code, and the noisier the gradient. Otherwise the likeliest code. The term ``kl`` is that of q(k|x) from
    uniform codes, summed over positions, in nats. Source: Jang, Gu & Poole 2017; Maddison, Mnih & Teh 2017.
    Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """

    def __init__(self, *, codes: int = 64, dim: int = 8, temperature: float = 1.0) -> None:
        super().__init__()
        self.codes, self.dim = check_positive_int("codes", codes), check_positive_int("dim", dim)
        self.features, self.temperature = self.codes, check_number("temperature", temperature, above=0)
        self.config = dict(codes=self.codes, dim=self.dim, temperature=self.temperature)
        self.codebook = nn.Parameter(torch.randn(self.codes, self.dim))

    def choose(self, h: Tensor) -> Tensor:
        """The likeliest code of each position, (B, T, K) → (B, T)."""
        return h.argmax(2)

    def look_up(self, index: Tensor) -> Tensor:
        """The codes themselves, (B, T) → (B, T, dim)."""
        return F.embedding(index, self.codebook)

    def forward(self, h: Tensor) -> Quantised:
        """Logits (B, T, K) → mixtures of codes in ``train()``, the likeliest codes in ``eval()``."""
        index, log_q = self.choose(h), h.log_softmax(2)
        z = F.gumbel_softmax(h, tau=self.temperature) @ self.codebook if self.training else self.look_up(index)
        return Quantised(z, index, {"kl": (log_q.exp() * (log_q + math.log(self.codes))).sum((1, 2))})


def _usable(h: Tensor) -> bool:
    """Whether ``h``, of all processes together, holds something and is finite: codes may follow it."""
    size, bad = _of_all_processes(torch.tensor([h.numel(), (~h.isfinite()).sum().item()], device=h.device)).tolist()
    return size > 0 and bad == 0


def _several_processes() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _of_all_processes(values: Tensor) -> Tensor:
    """The sum over all processes that train one model together, in place."""
    if _several_processes():
        distributed.all_reduce(values)
    return values


QUANTISERS = {"vector": VectorQuantiser, "finite scalar": FiniteScalarQuantiser, "gumbel": GumbelQuantiser}
