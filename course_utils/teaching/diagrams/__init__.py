"""The course's diagrams, drawn by its own code.

    python -m course_utils.teaching.diagrams

writes every diagram to images/, as SVG and PNG on opaque white. The same commands give the same files: no
dates, fixed identifiers. Each file carries a fingerprint of the commands that drew it, by which a test knows
that it is up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl

from course_utils._files import ROOT
from course_utils.teaching.diagrams._canvas import CODE, CONDITION, DECODER, ENCODER, INK, LOSS, STYLE, Canvas
from course_utils.teaching.diagrams._ideas import NOTEBOOKS, course_map, elbo, reparameterization
from course_utils.teaching.diagrams._models import autoencoder, cvae, vae

__all__ = ["ALT", "CODE", "CONDITION", "DECODER", "DIAGRAMS", "ENCODER", "IMAGES", "INK", "LOSS", "NOTEBOOKS", "STYLE"]
__all__ += ["Canvas", "draw", "write"]

IMAGES = ROOT / "images"

# What each diagram shows, for readers who cannot see it; notebooks and the README take their alternative text
# from here.
ALT = {
    "autoencoder": (
        "An autoencoder, from left to right: an image x of 784 pixels enters the encoder f with weights φ, which "
        "narrows to the code z of L numbers; the decoder g with weights θ widens it again to the reconstruction x̂ "
        "of 784 pixels. The loss compares x̂ with x."
    ),
    "vae": (
        "A variational autoencoder, from left to right: an image x enters the encoder q with weights φ, which gives "
        "two results, μ and log σ². With noise ε from N(0, I) they make z = μ + σ·ε, and the decoder p with weights "
        "θ turns z into x̂, the mean of p(x given z). Two terms of the loss: kl = KL(q(z given x) ‖ N(0, I)) is "
        "taken at μ and log σ², recon = −log p(x given z) between x and the decoder's output; loss = recon + kl. In "
        "code: x, encode, mu and log_var, z, decode, x_params."
    ),
    "reparameterization": (
        "Two computation graphs. Left: μ and log σ² feed a round node, z drawn from q, and z feeds f. Gradient "
        "arrows run back from f to z and end there, below a cross: no way back. Right: z is a box, z = μ + σ·ε, "
        "computed from μ, log σ² and the noise ε, which enters from the side; the gradient arrows run back from f "
        "through z to both μ and log σ², and none to ε."
    ),
    "elbo": (
        "Two horizontal bars of the same length, which is −ELBO, the loss, in nats per example; how each is divided "
        "is an example. The upper bar is the distortion, −E_q[log p(x given z)], and then the rate, KL(q(z given x) "
        "‖ p(z)). The lower bar is the negative log-evidence, −log p(x), and then the gap, KL(q(z given x) ‖ p(z "
        "given x)). Below: log p(x) = ELBO + gap; the gap is never negative, and 0 where q is the exact posterior."
    ),
    "cvae": (
        "The three operations of the conditional VAE, one below the other. forward_full(inputs, cond_inputs) "
        "returns z, mu and log_var: image x and condition c are joined, go through the encoder to μ and log σ², and "
        "z is drawn; nothing is decoded. generate(inputs, cond_inputs) returns inputs, recons, mu, log_var and z: "
        "the same, and then z and c are joined and go through the decoder to x̂, a reconstruction of x, despite its "
        "name. sample(cond_inputs) returns a new x: z comes from the prior, p(z), or p(z given c) if the prior is "
        "learned, and z and c go through the decoder; there is no encoder."
    ),
    "course_map": (
        "The map of the course. 01 The autoencoder leads, since it has no probability, to 02 The ELBO. From there "
        "three arrows: its gradient to 03 Reparameterization, its rate to 04 The analytic KL, its distortion to 05 "
        "MSE or BCE. These give z = μ + σ·ε, kl and recon to 06 The VAE, to which the same measurements are put as "
        "to 01. 06 leads, with a condition, to 07 The conditional VAE, and that, by what goes wrong, to 08 The bug "
        "clinic. What the VAE leaves open leads from 06 to part two, beyond the VAE: to 09 Posterior collapse, from "
        "there by what is lost to 10 Tighter bounds, and by how to win it back to 11 Richer posteriors; and by how "
        "much is said to 12 What the code says. From 12, symbols instead of numbers lead to 13 Discrete codes, several "
        "levels from there to 14 Hierarchical codes; and how it looks leads to 15 Sharper images, and from there one "
        "budget for all to 16 VAE, GAN and diffusion."
    ),
}

DIAGRAMS: dict[str, Callable[[], Canvas]] = {
    drawing.__name__: drawing for drawing in (autoencoder, vae, reparameterization, elbo, cvae, course_map)
}


@contextmanager
def _style() -> Iterator[None]:
    """The diagrams' own style, whatever the notebook has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def draw(name: str) -> Canvas:
    """Draw one diagram.  Raises ValueError for an unknown name."""
    if name not in DIAGRAMS:
        raise ValueError(f"There is no diagram {name!r}; there are {sorted(DIAGRAMS)}.")
    with _style():
        return DIAGRAMS[name]()


def write(folder: Path = IMAGES) -> list[Path]:
    """Write every diagram as SVG and PNG into `folder` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in DIAGRAMS:
        canvas = draw(name)
        about = {"Title": name, "Description": f"{ALT[name]} [{canvas.fingerprint()}]"}
        with _style():
            canvas.figure.savefig(folder / f"{name}.svg", metadata={**about, "Date": None, "Creator": None})
            canvas.figure.savefig(folder / f"{name}.png", metadata=about)
        paths += [folder / f"{name}.svg", folder / f"{name}.png"]
    return paths
