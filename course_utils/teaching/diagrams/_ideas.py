"""The ideas of the course as diagrams: reparameterization, the ELBO as two bars, and the map of the notebooks."""

from __future__ import annotations

import itertools

from course_utils.teaching.diagrams._canvas import CODE, DECODER, ENCODER, INK, LOSS, Canvas


def reparameterization() -> Canvas:
    """Left: a sampled z stops the gradient. Right: z = μ + σ·ε lets it through to μ and log σ²."""
    c = Canvas(150, 74)
    for left, title in [(0, "z is sampled"), (80, "z is computed")]:
        mu, log_var, code, value = left + 14, left + 45, left + 29.5, left + 29.5
        c.text(code, 71, title, size=26, bold=True)
        for x, name in [(mu, r"$\mu$"), (log_var, r"$\log\,\sigma^2$")]:
            c.box(x, 58, 16, 10, name, size=27, colour=ENCODER)
        c.box(value, 8, 16, 10, "$f(z)$", size=27, colour=DECODER)

    # Left: the arrows down are the forward pass, the purple ones upwards the gradient.
    c.arrow((16, 52.5), (24.5, 42.5))
    c.arrow((43, 52.5), (34.5, 42.5))
    c.box(29.5, 34, 19, 19, r"$z \sim q_\phi$", size=25, colour=CODE, oval=True)
    c.arrow((27.5, 24), (27.5, 14))
    c.arrow((32.5, 14), (32.5, 23.5), colour=LOSS)
    c.line([(27.1, 45.6), (31.9, 50.4)], colour=LOSS)
    c.line([(27.1, 50.4), (31.9, 45.6)], colour=LOSS)
    c.text(55, 36.3, "no way back", size=22, colour=LOSS)
    c.text(55, 31.9, "to μ and log σ²", size=22, colour=LOSS)
    c.text(43.5, 18.8, "gradient", size=22, colour=LOSS)

    # Right: ε comes in from the side, and every arrow into z has a derivative.
    c.arrow((95, 52.5), (102.5, 41.5))
    c.arrow((123, 52.5), (115.5, 41.5))
    c.box(109.5, 35, 30, 11, r"$z = \mu + \sigma \cdot \varepsilon$", size=26, colour=CODE)
    c.arrow((107.5, 28.5), (107.5, 14))
    c.arrow((112.5, 14), (112.5, 28.5), colour=LOSS)
    c.arrow((106.5, 41.5), (99, 52.5), colour=LOSS)
    c.arrow((119.5, 41.5), (127, 52.5), colour=LOSS)
    c.text(123.5, 18.8, "gradient", size=22, colour=LOSS)
    c.box(143, 35, 11, 11, r"$\varepsilon$", size=30, colour=INK, oval=True)
    c.arrow((137, 35), (125.5, 35))
    c.text(137, 26, r"$\varepsilon \sim \mathcal{N}(0, I)$", size=21)
    return c


def elbo() -> Canvas:
    """−ELBO twice, as bars of one length: distortion + rate, and −log p(x) + gap."""
    c = Canvas(166, 82)
    left, right, rate_at, gap_at = 6, 160, 112, 126
    upper, lower, height = 57, 27, 13

    def part(start: float, end: float, y: float, name: str, formula: str, colour: str) -> None:
        c.box((start + end) / 2, y, end - start, height, name, size=25, colour=colour, bold=True)
        c.text((start + end) / 2, y - 11.5, formula, size=22, colour=colour)

    top = 76
    c.line([(left, upper + 10), (left, top), (47, top)])
    c.line([(119, top), (right, top), (right, upper + 10)])
    c.text(83, top, r"$-\mathrm{ELBO}$, the loss, in nats per example", size=25)

    part(left, rate_at, upper, "distortion", r"$-\mathbb{E}_{q}[\log\, p_\theta(x \,|\, z)]$", DECODER)
    part(rate_at, right, upper, "rate", r"$\mathrm{KL}(q_\phi(z \,|\, x) \,\Vert\, p(z))$", ENCODER)
    part(left, gap_at, lower, "negative log-evidence", r"$-\log\, p_\theta(x)$", INK)
    part(gap_at, right, lower, "gap", r"$\mathrm{KL}(q_\phi(z \,|\, x) \,\Vert\, p_\theta(z \,|\, x))$", LOSS)
    c.text(83, 5.5, r"$\log\, p_\theta(x) = \mathrm{ELBO} + \mathrm{gap}$", size=26)
    c.text(83, 0, "the gap is never negative, and 0 where q is the exact posterior", size=21)
    return c


# Notebook, its title, its question in a few words, its colour: three to a row of the map, the first row two.
NOTEBOOKS = [
    ("01", "The autoencoder", "Why can't it generate?", INK),
    ("02", "The ELBO", "What is the objective?", LOSS),
    ("03", "Reparameterization", "A gradient through a draw?", CODE),
    ("04", "The analytic KL", "What is the regulariser?", ENCODER),
    ("05", "MSE or BCE", "Which loss, which scale?", DECODER),
    ("06", "The VAE", "How good is it?", INK),
    ("07", "The conditional VAE", "How do I ask for a seven?", INK),
    ("08", "The bug clinic", "Why doesn't my VAE work?", INK),
    ("09", "Posterior collapse", "When is the code silent?", ENCODER),
    ("10", "Tighter bounds", "How far below log p(x)?", LOSS),
    ("11", "Richer posteriors", "Where are the lost nats?", CODE),
    ("12", "What the code says", "What is in the rate?", ENCODER),
    ("13", "Discrete codes", "Must a code be Gaussian?", CODE),
    ("14", "Hierarchical codes", "Must it be one code?", CODE),
    ("15", "Sharper images", "What does blur hide?", DECODER),
    ("16", "VAE, GAN and diffusion", "What are VAEs for today?", INK),
]


def course_map() -> Canvas:
    """The notebooks and the ideas that lead from one to the next."""
    c = Canvas(194, 198)
    columns, (top, middle, bottom, first, second, third) = (33, 101, 169), (188, 146, 106, 68, 38, 8)
    places = [(columns[0], top), (columns[1], top)]
    places += [(x, y) for y in (middle, bottom, first, second, third) for x in columns]
    for (number, title, question, colour), (x, y) in zip(NOTEBOOKS, places, strict=False):
        c.box(x, y, 46, 15, colour=colour)
        c.text(x, y + 3.1, f"{number}  {title}", size=20, colour=colour, bold=True)
        c.text(x, y - 3.4, question, size=20)

    for left, y, words in [
        (57, top, "no probability"),
        (57, bottom, "add a condition"),
        (125, bottom, "what goes wrong"),
        (57, first, "what is lost"),
        (125, first, "win it back"),
        (57, second, "symbols instead"),
        (125, second, "several levels"),
        (57, third, "one budget"),
    ]:
        c.arrow((left, y), (left + 20, y))
        above, below = words.rsplit(" ", 1)
        c.text(left + 9.5, y + 7.5, above, colour=LOSS, size=20)
        c.text(left + 9.5, y + 3.3, below, colour=LOSS, size=20)

    fork, join = middle + 22, middle - 19
    c.line([(101, top - 8.5), (101, fork)])
    c.line([(columns[0], fork), (columns[2], fork)])
    for x, word in zip(columns, ["its gradient", "its rate", "its distortion"], strict=True):
        c.arrow((x, fork), (x, middle + 8.5))
        c.text(x + 2, fork - 7, word, size=20, align="left", colour=LOSS)

    c.line([(columns[0], join), (columns[2], join)])
    for x, word in zip(columns, [r"$z = \mu + \sigma \cdot \varepsilon$", "kl", "recon"], strict=True):
        c.line([(x, middle - 8.5), (x, join)])
        c.text(x + 2, join + 5, word, size=20, align="left", colour=LOSS, code=word.isalpha())
    c.arrow((columns[0], join), (columns[0], bottom + 8.5))

    c.line([(9, top), (3, top), (3, bottom)], dashed=True)
    c.arrow((3, bottom), (9.3, bottom))
    c.text(5, fork + 6, "the same measurements", size=20, align="left", colour=LOSS)

    c.text(194, (bottom + first) / 2, "Part two: beyond the VAE", size=24, align="right", bold=True)
    steps = ["what the VAE leaves open", "how much is said", "how it looks"]
    for (start, end), words in zip(itertools.pairwise([bottom, first, second, third]), steps, strict=True):
        c.arrow((columns[0], start - 8.5), (columns[0], end + 8.5))
        c.text(columns[0] + 2, (start + end) / 2 + 1, words, size=20, align="left", colour=LOSS)
    return c
