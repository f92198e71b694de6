"""The models of the course as diagrams: autoencoder, VAE, and the three operations of the CVAE."""

from __future__ import annotations

from course_utils.teaching.diagrams._canvas import CODE, CONDITION, DECODER, ENCODER, INK, LOSS, Canvas, digit


def autoencoder() -> Canvas:
    """x → encoder → z → decoder → x̂, with the loss between both ends."""
    c = Canvas(140, 50)
    middle, low = 24, 3.5

    c.picture(digit(0.25), 4, middle - 8, 16)
    c.text(12, middle + 11.5, "$x$", size=32)
    c.text(12, low + 4.8, "image", size=22)
    c.text(12, low, "28×28 = 784", size=20)

    c.arrow((21, middle), (29, middle))
    _encoder(c, 30, middle, 24, r"$f_\phi$")
    c.text(42, low + 4.8, r"weights $\phi$", size=22, colour=ENCODER)
    c.text(42, low, r"784 → … → $L$", size=20)

    c.arrow((55, middle), (65, middle))
    c.box(70, middle, 8, 14, "$z$", size=34, colour=CODE)
    c.text(70, low + 4.8, "code", size=22, colour=CODE)
    c.text(70, low, "$L$ numbers", size=20)

    c.arrow((75, middle), (85, middle))
    _decoder(c, 86, middle, 24, r"$g_\theta$")
    c.text(98, low + 4.8, r"weights $\theta$", size=22, colour=DECODER)
    c.text(98, low, r"$L$ → … → 784", size=20)

    c.arrow((111, middle), (119, middle))
    c.picture(digit(0.8), 120, middle - 8, 16)
    c.text(128, middle + 11.5, r"$\hat{x}$", size=32)
    c.text(128, low + 4.8, "reconstruction", size=22)
    c.text(128, low, "28×28 = 784", size=20)

    top = 47
    c.line([(12, middle + 15.5), (12, top), (46, top)], colour=LOSS)
    c.line([(94, top), (128, top), (128, middle + 15.5)], colour=LOSS)
    c.text(70, top, r"loss: how far is $\hat{x}$ from $x$?", size=24, colour=LOSS)
    return c


def _encoder(c: Canvas, left: float, y: float, width: float, name: str) -> None:
    """A block that narrows to the right."""
    _network(c, left, y, width, (12, 7), "encoder", name, ENCODER)


def _decoder(c: Canvas, left: float, y: float, width: float, name: str) -> None:
    """A block that widens to the right."""
    _network(c, left, y, width, (7, 12), "decoder", name, DECODER)


def _network(
    c: Canvas, left: float, y: float, width: float, half: tuple[float, float], kind: str, name: str, colour: str
) -> None:
    right = left + width
    c.shape([(left, y - half[0]), (right, y - half[1]), (right, y + half[1]), (left, y + half[0])], colour=colour)
    c.text(left + width / 2, y + 2.8, kind, size=23, colour=colour, bold=True)
    c.text(left + width / 2, y - 3.2, name, size=24, colour=colour)


def vae() -> Canvas:
    """x → encoder → μ, log σ² → z = μ + σ·ε → decoder → x̂, with both terms of the loss."""
    c = Canvas(174, 72)
    y, low = 36, 3

    c.picture(digit(0.25), 3, y - 8, 16)
    c.text(11, y + 11, "$x$", size=30)
    c.arrow((20, y), (27, y))
    _encoder(c, 28, y, 22, r"$q_\phi(z \,|\, x)$")

    c.arrow((51, y + 3), (57, y + 6.5))
    c.arrow((51, y - 3), (57, y - 6.5))
    for height, name in [(y + 7, r"$\mu$"), (y - 7, r"$\log\,\sigma^2$")]:
        c.box(66, height, 16, 10, name, size=26, colour=ENCODER)

    c.arrow((75, y + 6.5), (80, y + 3))
    c.arrow((75, y - 6.5), (80, y - 3))
    c.box(95, y, 28, 12, r"$z = \mu + \sigma \cdot \varepsilon$", size=25, colour=CODE)
    c.box(95, y - 20, 10, 10, r"$\varepsilon$", size=28, colour=INK, oval=True)
    c.arrow((95, y - 14.5), (95, y - 7))
    c.text(101.5, y - 20.2, r"$\sim \mathcal{N}(0, I)$", size=22, align="left")

    c.arrow((110, y), (117, y))
    _decoder(c, 118, y, 24, r"$p_\theta(x \,|\, z)$")
    c.arrow((143, y), (150, y))
    c.picture(digit(0.8), 151, y - 8, 16)
    c.text(159, y + 11, r"$\hat{x}$", size=30)

    names = [(11, "x", INK), (39, "encode", ENCODER), (66, "mu, log_var", ENCODER), (95, "z", CODE)]
    for x, words, colour in [*names, (130, "decode", DECODER), (159, "x_params", INK)]:
        c.text(x, low, words, size=20, colour=colour, code=True)

    frame = [(54, y - 14), (77, y - 14), (77, y + 14), (54, y + 14), (54, y - 14)]
    c.line(frame, colour=LOSS, dashed=True)
    c.line([(66, y + 14), (66, 52.5)], colour=LOSS)
    c.text(66, 55.5, r"kl $= \mathrm{KL}(q_\phi(z \,|\, x) \,\Vert\, \mathcal{N}(0, I))$", size=23, colour=LOSS)
    top = 68
    c.line([(11, y + 15), (11, top), (65, top)], colour=LOSS)
    c.line([(105, top), (159, top), (159, y + 15)], colour=LOSS)
    c.text(85, top, r"recon $= -\log\, p_\theta(x \,|\, z)$", size=23, colour=LOSS)
    c.text(130, 55.5, r"loss = recon + kl", size=25, colour=LOSS, bold=True)
    return c


def cvae() -> Canvas:
    """The CVAE's three operations, one below the other: encode and sample, reconstruct, generate."""
    c = Canvas(174, 132)
    rows = [
        (104, "forward_full(inputs, cond_inputs) → z, mu, log_var", "nothing is decoded"),
        (60, "generate(inputs, cond_inputs) → [inputs, recons, mu, log_var, z]", "a reconstruction, despite its name"),
        (16, "sample(cond_inputs) → x", "a new image, from the prior"),
    ]
    for y, call, meaning in rows:
        c.text(3, y + 21.5, call, size=20, bold=True, align="left", code=True)
        c.text(171, y + 21.5, meaning, size=21, align="right", colour=LOSS)
        encodes, decodes = y > 30, y < 90
        if encodes:
            c.picture(digit(0.25), 3, y - 8, 16)
            c.text(11, y + 11, "$x$", size=27)
            c.arrow((20, y), (37, y))
            _encoder(c, 38, y, 22, r"$q_\phi(z \,|\, x, c)$")
            _condition(c, 28, y - 10)
            c.line([(28, y - 6.5), (28, y)])
            c.arrow((61, y), (67, y))
            c.box(76, y + 5, 16, 9, r"$\mu$", size=25, colour=ENCODER)
            c.box(76, y - 5, 16, 9, r"$\log\,\sigma^2$", size=23, colour=ENCODER)
            c.arrow((85, y), (91, y))
        else:
            _condition(c, 28, y)
            c.arrow((32.5, y), (45, y), dashed=True)
            c.text(28, y - 7.5, "if the prior is learned", size=20)
            c.box(65.5, y, 39, 12, r"prior $p(z)$ or $p(z \,|\, c)$", size=22, colour=INK)
            c.arrow((86, y), (91, y))
        c.box(96.5, y, 9, 11, "$z$", size=29, colour=CODE)
        if decodes:
            c.arrow((102, y), (121, y))
            _condition(c, 111, y - 10)
            c.line([(111, y - 6.5), (111, y)])
            _decoder(c, 122, y, 24, r"$p_\theta(x \,|\, z, c)$")
            c.arrow((147, y), (153, y))
            c.picture(digit(0.8, slant=0.0 if encodes else 0.35), 154, y - 8, 16)
            c.text(162, y + 11, r"$\hat{x}$" if encodes else "new $x$", size=27 if encodes else 23)
    return c


def _condition(c: Canvas, x: float, y: float) -> None:
    c.box(x, y, 7, 7, "$c$", size=26, colour=CONDITION)
