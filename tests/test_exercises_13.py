"""The exercises of notebook 13: right answers pass, wrong ones are told apart."""

import itertools
import math

import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from course_utils.models.quantisers import VectorQuantiser, straight_through
from course_utils.teaching.exercises.notebook_13 import VQVAE, nearest, vq_terms

# Nearest ----------------------------------------------------------------------------------------------------


def by_squares(h, book):
    squares = (h.unsqueeze(2) - book).pow(2).sum(-1)
    return squares.min(dim=-1).indices


def by_loops(h, book):
    return torch.tensor([[min(range(len(book)), key=lambda k: (v - book[k]).norm().item()) for v in row] for row in h])


# Terms ------------------------------------------------------------------------------------------------------


def by_the_package(h, code):
    difference = nn.functional.mse_loss
    first = difference(code, h.detach(), reduction="none").flatten(1).sum(1)
    second = difference(h, code.detach(), reduction="none").flatten(1).sum(1)
    return straight_through(h, code), first, second


def with_terms(z=None, codebook=None, commitment=None):
    def terms(h, code):
        own = vq_terms(h, code)
        given = (z, codebook, commitment)
        return tuple(one if f is None else f(h, code) for f, one in zip(given, own, strict=True))

    return terms


def distance(h, code):
    return ((h - code) ** 2).sum((1, 2))


# The build --------------------------------------------------------------------------------------------------


class ByThePackage(VQVAE):
    """Another way to write it."""

    def loss(self, x):
        quantiser = VectorQuantiser(codes=self.book.num_embeddings, dim=self.dim, start="normal", restart=None)
        del quantiser.codebook
        quantiser.codebook = self.book.weight
        z, _, terms = quantiser(self.encode(x))
        log_px = Bernoulli(logits=self.decode(z), validate_args=False).log_prob(x).sum(1)
        return sum(terms.values()) - log_px


def with_loss(terms=vq_terms, weight=0.25, pixels=1, each=1):
    """The course's VQVAE with other terms in its loss."""

    def loss(self, x):
        h = self.encode(x)
        z, codebook, commitment = terms(h, self.book(nearest(h, self.book.weight)))
        recon = nn.functional.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1)
        return recon / pixels + (codebook + weight * commitment) / each

    return type("VQVAE", (VQVAE,), {"loss": loss})


def with_recon(recon):
    """The course's VQVAE with another distortion in its loss."""

    def loss(self, x):
        h = self.encode(x)
        z, codebook, commitment = vq_terms(h, self.book(nearest(h, self.book.weight)))
        return recon(self, h, z, x) + codebook + 0.25 * commitment

    return type("VQVAE", (VQVAE,), {"loss": loss})


def uniform_start(self, codes, tokens=16, dim=8, hidden=400):
    VQVAE.__init__(self, codes, tokens, dim, hidden)
    nn.init.uniform_(self.book.weight, -1 / codes, 1 / codes)


def other(**methods):
    return type("VQVAE", (VQVAE,), methods)


# Bound and perplexity ---------------------------------------------------------------------------------------


def by_categorical(recon, index, log_p):
    return recon - Categorical(logits=log_p, validate_args=False).log_prob(index).sum(-1)


def picked(recon, index, log_p):
    return torch.stack(
        [r - sum(log_p[t, k] for t, k in enumerate(row.tolist())) for r, row in zip(recon, index, strict=True)]
    )


def by_counting(batches, codes):
    values = list(itertools.chain(*batches.flatten(1).tolist()))
    shares = [values.count(k) / len(values) for k in range(codes)]
    return math.exp(-sum(p * math.log(p) for p in shares if p))


def by_the_formula(batches, codes):
    share = nn.functional.one_hot(batches, codes).double().mean((0, 1, 2))
    return torch.exp(-torch.sum(share * torch.log(share)))


def of_batches(batches, codes):
    return torch.tensor([by_counting(batch[None], codes) for batch in batches]).mean()


RIGHT = {
    "13.1": [by_squares, by_loops],
    "13.2": [by_the_package],
    "13.3": [ByThePackage],
    "13.4": [by_categorical, picked],
    "13.5": [by_counting],
}
WRONG = [
    ("13.1", "the farthest", lambda h, book: by_squares(h, book * 0) * 0 + (-torch.cdist(h, book)).argmin(-1)),
    ("13.1", "the nearest position of each code", lambda h, book: torch.cdist(book, h.flatten(0, 1)).argmin(1)),
    ("13.1", "the largest scalar product", lambda h, book: torch.einsum("btd,kd->btk", h, book).argmax(2)),
    ("13.2", "detach on the wrong side", with_terms(z=lambda h, code: straight_through(code, h))),
    ("13.2", "the reconstruction moves the codes", with_terms(z=lambda h, code: h - h.detach() + code)),
    ("13.2", "no straight-through", with_terms(z=lambda h, code: code * 1.0)),
    ("13.2", "the two terms exchanged", lambda h, code: [vq_terms(h, code)[i] for i in (0, 2, 1)]),
    ("13.2", "no detach in the terms", with_terms(codebook=distance, commitment=distance)),
    ("13.3", "loss(x): the mean over pixels", with_loss(pixels=784)),
    ("13.3", "loss(x): terms averaged", with_loss(each=12)),
    (
        "13.3",
        "loss(x): the mean over batch and pixels",
        with_recon(lambda self, h, z, x: cross_entropy(self.decode(z), x)),
    ),
    (
        "13.3",
        "loss(x): the decoder is given h",
        with_recon(lambda self, h, z, x: cross_entropy(self.decode(h), x, reduction="none").sum(1)),
    ),
    ("13.3", "another start", other(__init__=uniform_start)),
    ("13.3", "no straight-through", with_loss(with_terms(z=lambda h, code: code))),
    (
        "13.3",
        "commitment and codebook exchanged",
        with_loss(lambda h, code: (vq_terms(h, code)[0], *(vq_terms(h, code)[:0:-1]))),
    ),
    ("13.3", "no detach", with_loss(with_terms(codebook=distance, commitment=distance))),
    (
        "13.3",
        "codes are not the nearest",
        other(codes=lambda self, x: torch.cdist(self.encode(x), self.book.weight).argmax(-1)),
    ),
    (
        "13.3",
        "not the prior's codes",
        other(
            sample=lambda self, n, prior: self.decode_codes(
                torch.randint(self.book.num_embeddings, (n, self.tokens))
            ).sigmoid()
        ),
    ),
    ("13.3", "samples are no pixels", other(sample=lambda self, n, prior: self.decode_codes(prior.sample(n)))),
    (
        "13.3",
        "decode_codes decodes something else",
        other(decode_codes=lambda self, index: self.decode(self.book.weight.roll(1, 0)[index])),
    ),
    ("13.4", "the rate left out", lambda recon, index, log_p: recon + 0 * log_p.sum()),
    (
        "13.4",
        "the rate with the other sign",
        lambda recon, index, log_p: 2 * recon - by_categorical(recon, index, log_p),
    ),
    ("13.4", "uniform codes", lambda recon, index, log_p: recon + index.shape[1] * torch.tensor(log_p.shape[1]).log()),
    ("13.4", "the prior's entropy", lambda recon, index, log_p: recon + Categorical(logits=log_p).entropy().sum()),
    ("13.5", "the mean over batches", of_batches),
    ("13.5", "the entropy", lambda batches, codes: math.log(by_counting(batches, codes))),
    ("13.5", "0 times log 0", by_the_formula),
    ("13.5", "codes that occur", lambda batches, codes: len(set(batches.flatten().tolist()))),
]


def test_both_terms_are_one_number_and_only_their_gradients_differ():
    """So no look at the values can tell them apart: the reason why exercise 13.2 compares gradients."""
    h, code = (torch.randn(3, 4, 2, requires_grad=True) for _ in range(2))
    _, codebook, commitment = vq_terms(h, code)
    assert torch.equal(codebook, commitment)
    assert torch.autograd.grad(codebook.sum(), h, allow_unused=True) == (None,)
    assert torch.autograd.grad(commitment.sum(), code, allow_unused=True) == (None,)
