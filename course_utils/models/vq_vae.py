"""The VQ-VAE, an autoencoder with discrete codes, and an autoregressive prior over them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from course_utils._checks import check_beta, check_choice, check_number, check_positive_int
from course_utils.losses.likelihoods import make_likelihood, plain_sigma
from course_utils.losses.terms import Terms
from course_utils.models.layers import (
    as_input,
    check_hidden_dims,
    check_input,
    check_no_beta,
    check_no_condition,
    check_shape,
    decoder_layers,
    encoder_layers,
)
from course_utils.models.quantisers import QUANTISERS
from course_utils.models.registry import register


@register
class CodePrior(nn.Module):
    """p(k) = Π_t p(k_t | k_1 … k_{t−1}) over codes of T positions with K values each; uniform until it is trained.

    Each earlier code adds a vector of its own to the hidden layer of position t: one sum, kept up from position to
    position. Raises ``ValueError`` or ``TypeError`` for arguments that do not fit. Source: NADE, Larochelle & Murray
    2011, here for K values in place of two.
    """

    def __init__(self, *, codes: int, positions: int, width: int = 128) -> None:
        super().__init__()
        self.config = {name: check_positive_int(name, value) for name, value in dict(
            codes=codes, positions=positions, width=width
        ).items()}  # fmt: skip
        self.embedding = nn.Parameter(0.05 * torch.randn(positions, codes, width))
        self.bias = nn.Parameter(torch.zeros(positions, width))
        self.head = nn.Parameter(torch.zeros(positions, width, codes))
        self.head_bias = nn.Parameter(torch.zeros(positions, codes))

    def forward(self, index: Tensor) -> Tensor:
        """Codes (B, T) → logits (B, T, K); those of position t see the codes before it and no other."""
        index = check_codes(index, *self.head_bias.shape)
        own = self.embedding[torch.arange(index.shape[1], device=index.device), index]  # (B, T, width)
        before = own.cumsum(1) - own
        return torch.einsum("bth,thk->btk", (before + self.bias).relu(), self.head) + self.head_bias

    def log_prob(self, index: Tensor) -> Tensor:
        """log p(k) of codes (B, T): (B,), in nats."""
        return self(index).log_softmax(2).gather(2, index[..., None]).sum((1, 2))

    def loss(self, index: Tensor, *, beta: float = 1.0) -> Terms:
        """−log p(k) of codes (B, T), (B,), in nats; there is no KL for β to weigh."""
        check_no_beta(self, beta)
        return Terms(loss=-self.log_prob(index))

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` codes (n, T), position by position. ``temperature`` divides the logits; below 1, likelier codes."""
        temperature = check_number("temperature", temperature, above=0)
        positions = len(self.bias)
        index = torch.zeros(check_positive_int("n", n), positions, dtype=torch.int64, device=self.bias.device)
        for t in range(positions):
            chances = (self(index)[:, t] / temperature).softmax(1)
            chances = chances if generator is None else chances.to(generator.device)
            index[:, t] = torch.multinomial(chances, 1, generator=generator)[:, 0].to(index.device)
        return index


@register
class VQVAE(nn.Module):
    """An autoencoder whose code is T whole numbers, each one of K (van den Oord, Vinyals & Kavukcuoglu 2017).

    ``quantiser`` is "vector", "finite scalar" or "gumbel", and ``options`` are its arguments, see :mod:`.quantisers`.
    With ``trunk="mlp"``, a code has ``tokens`` positions (16), which lie nowhere in the image; with "conv" they are a
    grid, as large as ``input_shape`` and the number of ``hidden_dims`` make it. Other arguments as for :class:`VAE`.
    ``prior``, of ``prior_width``, stays uniform and frozen until ``training.fit_code_prior`` trains it, after the rest.
    Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        quantiser: str = "vector",
        tokens: int | None = None,
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float | str = 1.0,
        prior_width: int = 128,
        **options: Any,
    ) -> None:
        super().__init__()
        self.input_shape = shape = check_shape("input_shape", input_shape)
        dims = check_hidden_dims(hidden_dims, trunk)
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        tokens = None if tokens is None else check_positive_int("tokens", tokens)
        if tokens is not None and trunk == "conv":
            raise ValueError(f"with trunk='conv' the image's size makes the number of tokens, got tokens={tokens}")
        self.quantiser = QUANTISERS[check_choice("quantiser", quantiser, tuple(QUANTISERS))](**options)
        self.config = dict(
            input_shape=shape, quantiser=quantiser, tokens=tokens, hidden_dims=dims, trunk=trunk,
            activation=activation, likelihood=likelihood, sigma=plain_sigma(sigma),
            prior_width=check_positive_int("prior_width", prior_width), **self.quantiser.config,
        )  # fmt: skip
        wanted, given = self.quantiser.features, self.quantiser.dim
        layers, features = encoder_layers(shape, dims, trunk, activation)
        if trunk == "mlp":
            self.grid = (16 if tokens is None else tokens,)
            layers += [nn.Linear(features, self.grid[0] * wanted), nn.Unflatten(1, (self.grid[0], wanted))]
            below = decoder_layers(shape, self.grid[0] * given, dims, trunk, activation)
            below = [nn.Flatten(), *below]
        else:
            self.grid = tuple(side // 2 ** len(dims) for side in shape[1:])
            layers[-1:] = [nn.Conv2d(dims[-1], wanted, 1)]
            _, act, _, *rest = decoder_layers(shape, 1, dims, trunk, activation)
            below = [nn.Conv2d(given, dims[-1], 3, padding=1), act, *rest]
        self.encoder, self.decoder = nn.Sequential(*layers), nn.Sequential(*below)
        self.prior = CodePrior(codes=self.quantiser.codes, positions=math.prod(self.grid), width=prior_width)
        self.prior.requires_grad_(False)

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, *input_shape) → what is to be quantised, (B, T, features)."""
        h = self.encoder(check_input(x, self.input_shape, self.prior.bias))
        return h if len(self.grid) == 1 else h.flatten(2).mT

    def codes(self, x: Tensor) -> Tensor:
        """Images (B, *input_shape) → codes (B, T), whole numbers 0 … K − 1, row by row where they are a grid."""
        return self.quantiser.choose(self.encode(x))

    def decode(self, z: Tensor) -> Tensor:
        """Quantised vectors (B, T, dim) → parameters of p(x|k), (B, *input_shape)."""
        if z.shape[1:] != (wanted := (math.prod(self.grid), self.quantiser.dim)):
            raise ValueError(f"z must be (B, {wanted[0]}, {wanted[1]}) for this model, got {tuple(z.shape)}")
        return self.decoder(z if len(self.grid) == 1 else z.mT.unflatten(2, self.grid))

    def decode_codes(self, index: Tensor) -> Tensor:
        """Codes (B, T) → parameters of p(x|k), (B, *input_shape). Raises ``ValueError`` for numbers that are none."""
        index = check_codes(index, *self.prior.head_bias.shape)
        return self.decode(self.quantiser.look_up(index))

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ (B, *input_shape), decoded from the code of x; expected pixels."""
        return self.likelihood.mean(self.decode_codes(self.codes(x)))

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The loss and its terms per example, (B,) each: ``recon``, in nats, and those of the quantiser, by ``beta``.

        No bound: that is :meth:`bound`. In ``train()`` it also moves those codes that no gradient moves.
        """
        beta = check_beta(beta)
        self.likelihood.check(x)  # before codes move
        z, _, terms = self.quantiser(self.encode(x))
        recon = self.likelihood.nll(self.decode(z), x)
        return Terms(loss=recon + beta * sum(terms.values()), recon=recon, **terms)

    def bound(self, x: Tensor) -> Terms:
        """A bound on −log p(x), (B,), in nats, and its terms: ``recon``, and ``rate``, −log p(k) under the prior.

        p(x) = Σ_k p(k) p(x|k) has a term for every code; this is the one of the code that x is given.
        """
        index = self.codes(x)
        recon, rate = self.likelihood.nll(self.decode_codes(index), x), -self.prior.log_prob(index)
        return Terms(loss=recon + rate, recon=recon, rate=rate)

    def log_weights(self, x: Tensor, *, samples: int) -> Tensor:
        """−bound, (samples, B), the same in every row: the code of an image is no draw."""
        return -self.bound(x).loss.double().expand(check_positive_int("samples", samples), -1)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` new images (n, *input_shape): codes from the prior at ``temperature``, decoded to pixels."""
        return self.likelihood.mean(
            self.decode_codes(self.prior.sample(n, temperature=temperature, generator=generator))
        )


def check_codes(index: Tensor, positions: int, codes: int) -> Tensor:
    """Raise ``TypeError`` or ``ValueError`` unless these are codes (B, positions), int64 and below ``codes``."""
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        came = index.dtype if isinstance(index, Tensor) else type(index).__name__
        raise TypeError(f"codes must be a tensor of whole numbers (torch.int64), got {came}")
    if index.dim() != 2 or index.shape[1] != positions:
        raise ValueError(f"codes must be (B, {positions}) for this model, got {tuple(index.shape)}")
    if index.numel() and not (index.min() >= 0 and index.max() < codes):
        raise ValueError(f"codes must lie from 0 to {codes - 1}, got {index.min().item()} to {index.max().item()}")
    return index
