"""The exercises of notebook 13, discrete codes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._attempt import Attempt, NotYet
from ._brick import named_tensors
from ._build import Build, gradients_reach_all, has, same_numbers, shapes, trains
from ._exercise import Draw, Exercise

_PARTS = ("z", "codebook", "commitment")


def nearest(h, book):
    """Return, for every position, which code of the book is nearest to it.

    h:      (B, T, D), what the encoder gives at T positions
    book:   (K, D), the codes
    result: (B, T), whole numbers from 0 to K - 1
    """
    return torch.cdist(h.flatten(0, 1), book).argmin(dim=1).view(h.shape[:2])


def vq_terms(h, code):
    """Return what the decoder takes, the codebook term and the commitment term, without a weight.

    h:      (B, T, D), what the encoder gives
    code:   (B, T, D), the nearest codes; they require a gradient, as h does
    result: z (B, T, D), with the numbers of code and the gradient of h;
            codebook (B,), the squared distance, which moves the codes alone;
            commitment (B,), the same distance, which moves the encoder alone
    """
    z = h + (code - h).detach()
    codebook = (h.detach() - code).square().sum(dim=(1, 2))
    commitment = (h - code.detach()).square().sum(dim=(1, 2))
    return z, codebook, commitment


class VQVAE(nn.Module):
    """Your VQ-VAE: 784 pixels, hidden layers of 400, `tokens` whole numbers below `codes`.

    self.book is an nn.Embedding(codes, dim); its codes begin as draws from N(0, 1).
    """

    def __init__(self, codes, tokens=16, dim=8, hidden=400):
        super().__init__()
        self.tokens, self.dim = tokens, dim
        self.book = nn.Embedding(codes, dim)
        self.encoder = nn.Sequential(nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, tokens * dim))
        self.decoder = nn.Sequential(nn.Linear(tokens * dim, hidden), nn.ReLU(), nn.Linear(hidden, 784))

    def encode(self, x):  # (B, 784) -> (B, tokens, dim), not yet quantised
        return self.encoder(x).view(-1, self.tokens, self.dim)

    def codes(self, x):  # (B, 784) -> (B, tokens), whole numbers
        return nearest(self.encode(x), self.book.weight)

    def decode(self, z):  # (B, tokens, dim) -> logits (B, 784)
        return self.decoder(z.flatten(1))

    def decode_codes(self, index):  # (B, tokens), whole numbers -> logits (B, 784)
        return self.decode(self.book(index))

    def loss(self, x):  # (B, 784) -> (B,): distortion + codebook + 0.25 commitment
        h = self.encode(x)
        z, codebook, commitment = vq_terms(h, self.book(nearest(h, self.book.weight)))
        recon = F.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none").sum(1)
        return recon + codebook + 0.25 * commitment

    def sample(self, n, prior):  # (n, 784), pixels; prior.sample(n): (n, tokens)
        return self.decode_codes(prior.sample(n)).sigmoid()


def bound_in_nats(recon, index, log_p):
    """Return a bound on -log p(x) in nats, under a prior that draws every position by itself.

    recon:  (B,), the distortion -log p(x|k) in nats
    index:  (B, T), the codes k
    log_p:  (T, K), log p of each code at each position
    result: (B,)
    """
    return recon - log_p.gather(1, index.T).sum(dim=0)


def perplexity(batches, codes):
    """Return exp of the entropy of the codes of all batches together: how many are in use.

    batches: (M, B, T), the codes of M batches, whole numbers from 0 to codes - 1
    codes:   K
    result:  one number, from 1 to K
    """
    share = torch.bincount(batches.flatten(), minlength=codes) / batches.numel()
    return torch.special.entr(share.double()).sum().exp()


# Wrong answers with words of their own --------------------------------------------------------------------


def _squared(h, code):
    return (h - code).square().sum((1, 2))


def _terms(z, codebook, commitment):
    return lambda h, code: (z(h, code), codebook(h, code), commitment(h, code))


def _z(h, code):
    return h + (code - h).detach()


def _for_codes(h, code):
    return _squared(h.detach(), code)


def _for_encoder(h, code):
    return _squared(h, code.detach())


def _plain_formula(batches, codes):
    share = torch.bincount(batches.flatten(), minlength=codes) / batches.numel()
    return (-(share * share.log()).sum()).exp()


def _of_each_batch(batches, codes):
    return torch.stack([perplexity(batch, codes) for batch in batches]).mean()


# What is observed -----------------------------------------------------------------------------------------


def _pulls(attempt: Attempt, h: Tensor, code: Tensor) -> dict[str, Tensor]:
    """The three results, and whom each moves by how much."""
    h, code = h.clone().requires_grad_(), code.clone().requires_grad_()
    returned = attempt.run(attempt.answer, h, code, doing="with h and code (B, T, D)")
    values, _ = named_tensors(returned, _PARTS, dict.fromkeys(_PARTS))
    found = {}
    for name in _PARTS:
        found[name] = values[name]
        for of, argument in (("h", h), ("code", code)):
            gradient = None
            if values[name].requires_grad:
                total = values[name].pow(2).sum() if name == "z" else values[name].sum()
                (gradient,) = torch.autograd.grad(total, argument, allow_unused=True, retain_graph=True)
            found[f"gradient of {name} in {of}"] = torch.zeros_like(h) if gradient is None else gradient
    return found


# What a VQ-VAE does ---------------------------------------------------------------------------------------

_ARGS = (12, 4, 3)


def _parts(model: VQVAE, x: Tensor, terms=vq_terms) -> tuple[Tensor, Tensor, Tensor]:
    """Distortion, codebook term and commitment, unweighted."""
    h = model.encode(x)
    z, codebook, commitment = terms(h, model.book(nearest(h, model.book.weight)))
    return F.binary_cross_entropy_with_logits(model.decode(z), x, reduction="none").sum(1), codebook, commitment


def _loss(x, model):
    recon, codebook, commitment = _parts(model, x)
    return recon + codebook + 0.25 * commitment


def _averaged(x, model):
    recon, codebook, commitment = _parts(model, x)
    return recon / x.shape[1] + codebook + 0.25 * commitment


def _terms_averaged(x, model):
    recon, codebook, commitment = _parts(model, x)
    return recon + (codebook + 0.25 * commitment) / (_ARGS[1] * _ARGS[2])


def _all_averaged(x, model):
    recon, codebook, commitment = _parts(model, x)
    return recon.mean() / x.shape[1] + codebook + 0.25 * commitment


def _given_h(x, model):
    h = model.encode(x)
    _, codebook, commitment = _parts(model, x)
    recon = F.binary_cross_entropy_with_logits(model.decode(h), x, reduction="none").sum(1)
    return recon + codebook + 0.25 * commitment


def _images(draw: Draw) -> list[tuple[Tensor]]:
    return [(draw.uniform(n, 784),) for n in (2, 3, 5)]


def _chooses_the_nearest(build: Build) -> None:
    model, x = build.make(*_ARGS), build.images(20)
    words = f"self.book should be an nn.Embedding with codes of shape {_ARGS[0], _ARGS[2]}; it is "
    book = getattr(getattr(model, "book", None), "weight", None)
    came = tuple(book.shape) if isinstance(book, Tensor) else type(getattr(model, "book", None)).__name__
    build.require(came == (_ARGS[0], _ARGS[2]), "another codebook", f"{words}{came}.")
    with torch.no_grad():
        came = build.run(model.codes, x, doing="in codes of 20 images")
        h = build.run(model.encode, x, doing="in encode of 20 images")
        same = (came == nearest(h, book)).double().mean().item()
        words = f"codes gives the nearest code of self.book at {same:.0%} of the positions. exercise 13.1 has it."
        build.require(same > 0.99, "codes are not the nearest", words)
        decoded = build.run(model.decode_codes, came, doing="in decode_codes of 20 codes")
        wanted = build.run(model.decode, book[came], doing="in decode")
    words = "decode_codes(index) should give what decode gives for the codes of self.book at these places."
    build.require(torch.allclose(decoded, wanted, atol=1e-4), "decode_codes decodes something else", words)


def _starts_as_draws(build: Build) -> None:
    spread = build.make(64, 4, 8).book.weight.std().item()
    words = "The codes should begin as draws from N(0, 1), the default of nn.Embedding. Yours begin with a standard "
    words += f"deviation of {spread:.3g}; section 5 shows what a start far below 1 does."
    build.require(0.7 < spread < 1.3, "another start", words)


_SLIPS = {
    "no straight-through": (
        lambda h, code: (code, _for_codes(h, code), _for_encoder(h, code)),
        "The reconstruction moves the codes, and not the encoder: z has the codes' own gradient.",
    ),
    "commitment and codebook exchanged": (
        lambda h, code: (_z(h, code), 0.25 * _for_codes(h, code), 4 * _for_encoder(h, code)),
        "The values are right, and 0.25 stands before the wrong one: the codes get a quarter of their gradient, the "
        "encoder four times too much.",
    ),
    "no detach": (
        lambda h, code: (_z(h, code), _squared(h, code), _squared(h, code)),
        "Each of the two terms moves both sides, so the weights add up.",
    ),
    "detach on the wrong side": (
        lambda h, code: (code + (h - code).detach(), _for_codes(h, code), _for_encoder(h, code)),
        "The decoder got the encoder's own numbers, not the codes.",
    ),
}


def _moves_the_right_sides(build: Build) -> None:
    model, x = build.make(*_ARGS), build.images(16)
    names = [name for name, _ in model.named_parameters()]

    def gradients(loss: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(loss.sum(), list(model.parameters()), allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, model.parameters(), strict=True)]

    def agree(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(one, other, strict=True))

    came = gradients(build.run(model.loss, x, doing="in loss of 16 images"))
    wanted = gradients(_loss(x, model))
    if agree(came, wanted):
        return
    for name, (terms, words) in _SLIPS.items():
        recon, codebook, commitment = _parts(model, x, terms)
        if agree(came, gradients(recon + codebook + 0.25 * commitment)):
            raise NotYet(name, f"The loss has the right value, but not the right gradient. {words}")
    far = next(n for n, a, b in zip(names, came, wanted, strict=True) if not torch.allclose(a, b, rtol=1e-3, atol=1e-3))
    words = f"The loss has the right value, but another gradient in {far}. Which term should move it, and which not?"
    raise NotYet("another gradient", words)


class _Fixed:
    """A prior whose samples are known."""

    def __init__(self, index: Tensor) -> None:
        self.index, self.asked = index, []

    def sample(self, n: int) -> Tensor:
        self.asked.append(n)
        return self.index[:n]


def _samples_the_prior(build: Build) -> None:
    model = build.make(*_ARGS)
    index = torch.randint(_ARGS[0], (7, _ARGS[1]), generator=torch.Generator().manual_seed(0))
    prior = _Fixed(index.to(build.attempt.device))
    with torch.no_grad():
        came = build.run(model.sample, 7, prior, doing="in sample(7, prior)")
        wanted = model.decode_codes(prior.index).sigmoid()
    words = (
        "sample never asked for prior.sample(n). Codes drawn in another way, as with torch.randint, are no samples of "
    )
    build.require(prior.asked == [7], "not the prior's codes", f"{words}the model: its p(x) has this prior in it.")
    shape = tuple(getattr(came, "shape", ()))
    words = f"sample(7, prior) should give 7 images, shape (7, 784); it gives {shape}."
    build.require(shape == (7, 784), "shape of sample", words)
    words = f"Pixels lie between 0 and 1; these reach from {came.min():.3g} to {came.max():.3g}. Are they logits?"
    build.require(came.min() >= 0 and came.max() <= 1, "samples are no pixels", words)
    words = "sample should decode the prior's codes, and give the expected pixels."
    build.require(torch.allclose(came, wanted, atol=1e-4), "other samples", words)


EXERCISES = (
    Exercise(
        number="13.1",
        title="The nearest code",
        minutes=5,
        solution=nearest,
        hints=(
            "Every position is compared with every code. Along which axis do the K distances of one position lie?",
            "torch.cdist gives the distances of N points to K others, (N, K). B and T can be one axis meanwhile.",
            "Flatten (B, T) to one axis, take torch.cdist to the book, argmin over dim 1, and view as (B, T).",
        ),
        cases=lambda draw: [
            (draw(b, t, d), draw(k, d)) for b, t, d, k in ((2, 2, 1, 3), (1, 3, 4, 5), (4, 3, 2, 6), (3, 5, 2, 7))
        ],
        passed="One whole number for each position. From here on the notebook quantises with it.",
        mistakes={
            "the farthest": (
                lambda h, book: torch.cdist(h.flatten(0, 1), book).argmax(1).view(h.shape[:2]),
                "These are the codes that lie farthest away. Is a distance to be small or large, and has one a sign?",
            ),
            "the nearest position of each code": (
                lambda h, book: torch.cdist(h.flatten(0, 1), book).argmin(0),
                "For each code you looked for the nearest position, over the whole batch. Each position needs a code.",
            ),
            "the largest scalar product": (
                lambda h, book: (h @ book.T).argmax(-1),
                "These codes have the largest scalar product with h. In |h - e|² there is |e|² as well: a long code "
                "is not near to everything.",
            ),
        },
    ),
    Exercise(
        number="13.2",
        title="Through the rounding, and two terms",
        minutes=8,
        solution=vq_terms,
        hints=(
            "detach() keeps the numbers of a tensor and drops its gradient. z is to have the gradient of h: which part "
            "of the sum must be without one?",
            "z = h plus what is missing to the code, and that difference detached. In the two terms exactly one of h "
            "and code is detached.",
            "z = h + (code − h).detach(). Codebook term: the squared difference of h.detach() and code, summed over "
            "dims 1 and 2. Commitment: of h and code.detach().",
        ),
        cases=lambda draw: [(draw(b, t, d), draw(b, t, d)) for b, t, d in ((2, 1, 3), (3, 4, 2), (4, 2, 5))],
        observe=_pulls,
        passed="Both terms are the same number, and each moves its own side.",
        mistakes={
            "detach on the wrong side": (
                _terms(lambda h, code: code + (h - code).detach(), _for_codes, _for_encoder),
                "z has the numbers of h and the gradient of the code: the other way round. The decoder would never see "
                "a code. Which of the two should stand outside of detach()?",
            ),
            "the reconstruction moves the codes": (
                _terms(lambda h, code: code + h - h.detach(), _for_codes, _for_encoder),
                "The numbers are right, but the gradient of z goes to h and to the codes. Then the reconstruction "
                "moves the codes as well, beside their own term.",
            ),
            "no straight-through": (
                _terms(lambda h, code: code, _for_codes, _for_encoder),
                "z is the code itself: the encoder gets no gradient from the reconstruction.",
            ),
            "the two terms exchanged": (
                _terms(_z, _for_encoder, _for_codes),
                "Both numbers are right, but the codebook term moves the encoder, and the commitment moves the codes. "
                "Which side is detached in which?",
            ),
            "no detach in the terms": (
                _terms(_z, _squared, _squared),
                "Each of the two terms moves both sides. With different weights they could no longer be told apart.",
            ),
        },
    ),
    Exercise(
        number="13.3",
        title="Your VQ-VAE",
        minutes=25,
        solution=VQVAE,
        hints=(
            "It is an autoencoder with one step between encoder and decoder. Which of your functions is that step?",
            "encode: two layers, then view as (B, tokens, dim). codes: nearest of exercise 13.1, with "
            "self.book.weight. decode: flatten(1), then two layers. In loss, the codes are self.book(index).",
            "loss: h = self.encode(x); code = self.book(nearest(h, self.book.weight)); z, codebook, commitment = "
            "vq_terms(h, code); the distortion is the cross-entropy of self.decode(z), summed over pixels; plus "
            "codebook plus 0.25 · commitment. sample: decode_codes of prior.sample(n), and the sigmoid.",
        ),
        passed="Each term moves its own side; after {steps} steps with 32 codes the loss is {loss:.0f}.",
        checks=(
            has("encode", "codes", "decode", "decode_codes", "loss", "sample", args=_ARGS),
            shapes("encode", [(7, 784)], (7, 4, 3), args=_ARGS),
            shapes("codes", [(7, 784)], (7, 4), args=_ARGS),
            shapes("decode", [(7, 4, 3)], (7, 784), args=_ARGS),
            _chooses_the_nearest,
            _starts_as_draws,
            same_numbers(
                "loss(x)",
                lambda model, x: model.loss(x),
                _loss,
                _images,
                args=_ARGS,
                mistakes={
                    "the mean over pixels": (
                        _averaged,
                        "The distortion is averaged over the 784 pixels, beside terms that are summed: they then weigh "
                        "784 times as much as they should.",
                    ),
                    "the mean over batch and pixels": (
                        _all_averaged,
                        "The distortion is one mean over the batch and the 784 pixels, the default of the "
                        "cross-entropy. It should be a sum over pixels, one number for each image.",
                    ),
                    "the decoder is given h": (
                        _given_h,
                        "The decoder was given h, the encoder's own numbers. It should be given the codes nearest to "
                        "them, z of vq_terms.",
                    ),
                    "terms averaged": (
                        _terms_averaged,
                        "Codebook and commitment are averaged over positions and dimensions. All terms are sums here.",
                    ),
                },
            ),
            _moves_the_right_sides,
            gradients_reach_all(args=_ARGS),
            trains(below=330, above=60, steps=150, args=(32,)),
            _samples_the_prior,
        ),
    ),
    Exercise(
        number="13.4",
        title="What a code costs",
        minutes=6,
        solution=bound_in_nats,
        hints=(
            "p(x) is a sum over all codes of p(k) p(x|k). Which one of these terms do you have? It gives a bound.",
            "−log(p(k) p(x|k)) = distortion − log p(k), and log p(k) is a sum over the positions.",
            "log_p.gather(1, index.T) is (T, B): at each position the number of the code that was chosen. Sum over T, "
            "and subtract from recon.",
        ),
        cases=lambda draw: [
            (draw.uniform(b, low=1.0, high=9.0), draw.integers(0, k, b, t), draw(t, k).log_softmax(1))
            for b, t, k in ((2, 3, 2), (4, 2, 5), (3, 5, 3))
        ],
        gradients=("recon", "log_p"),
        passed="Distortion and rate: no code is for free.",
        mistakes={
            "the rate left out": (
                lambda recon, index, log_p: recon.clone(),
                "This is the distortion alone. Somebody has to be told which code it was: without that number, it is "
                "no bound on -log p(x).",
            ),
            "the rate with the other sign": (
                lambda recon, index, log_p: recon + log_p.gather(1, index.T).sum(0),
                "A code makes x more likely here the rarer it is. log p is negative: what does naming the code cost?",
            ),
            "the prior's entropy": (
                lambda recon, index, log_p: recon - (log_p.exp() * log_p).sum(),
                "The rate here is the prior's entropy, the same for every image. Look up the codes of this image.",
            ),
            "uniform codes": (
                lambda recon, index, log_p: recon + index.shape[1] * math.log(log_p.shape[1]),
                "Each position costs log K, as if all codes were equally likely. What does log_p say?",
            ),
        },
    ),
    Exercise(
        number="13.5",
        title="How many codes are in use",
        minutes=5,
        solution=perplexity,
        hints=(
            "Of how many codes is the entropy the logarithm, if all of them are used equally often?",
            "Count each code over all batches, positions included, divide by the number of all, take the entropy in "
            "nats, and exp. A share of 0 adds 0: torch.special.entr knows that.",
            "torch.bincount(batches.flatten(), minlength=codes) are the counts.",
        ),
        cases=lambda draw: [
            (draw.integers(0, k, m, b, t), k) for m, b, t, k in ((2, 3, 1, 4), (3, 2, 4, 9), (4, 1, 3, 6), (2, 5, 2, 7))
        ],
        passed="Between 1 and K. Of the data, not of a batch.",
        any_type=True,
        mistakes={
            "the mean over batches": (
                _of_each_batch,
                "This is the mean of each batch's own perplexity. A batch cannot use more codes than it has positions, "
                "so the number is too small; count over all batches first.",
            ),
            "the entropy": (
                lambda batches, codes: perplexity(batches, codes).log(),
                "This is the entropy, in nats. As a number of codes it is exp of that.",
            ),
            "0 times log 0": (
                _plain_formula,
                "A share of 0 gave nan: 0 · log 0 is nan in PyTorch. It should add 0.",
            ),
            "codes that occur": (
                lambda batches, codes: torch.tensor(float(batches.unique().numel())),
                "This counts a code that occurs once like one that occurs always. Weigh them by their shares.",
            ),
        },
    ),
)
