"""The picture at the top of the README: what the models of this course make, after a few minutes of training.

    python -m course_utils.teaching.gallery

trains five small models on MNIST and writes images/gallery.png. The same seed gives the same picture on the same
machine; another machine rounds differently and ends up with slightly different weights, so the file is not compared
byte by byte in the tests. Nothing in it is picked by hand: the first draws are the ones shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torchvision.utils import make_grid

from course_utils._files import print_anything
from course_utils._random import seeded
from course_utils.data import ImageData, load_images
from course_utils.models import CVAE, VAE, FlowMatching, LatentDiffusion
from course_utils.teaching.diagrams import IMAGES, LOSS, STYLE
from course_utils.teaching.display import to_png
from course_utils.training import fit
from course_utils.training.recipes import cosine_rate

ALT = (
    "Four sheets of handwritten digits, white on black, all made by models of this course. First: the plane of a "
    "VAE with two latent numbers, decoded on a grid; the digits change into one another from place to place. Second: "
    "new digits: a flow draws the codes, and a VAE decodes them; most can be read, some cannot. Third: seven "
    "rows of the digits 0 to 9, each row in one hand: upright, slanted, thin or bold. Fourth: from the lower left "
    "quarter of an image, five different completions, and the image that it came from."
)
TITLES = ("A plane of digits", "Digits from noise", "One hand, ten digits", "A quarter, five guesses")
UNSEEN = (0.80, 0.84, 0.89)  # the part of an image that a model was not shown
ZOOM = 2  # screen pixels for each pixel of an image
GAP = 4  # white screen pixels between images
HALF = 14


def train_models(data: ImageData, *, seed: int = 0, epochs: int = 7, show: bool = True) -> dict[str, nn.Module]:
    """Train the models of the picture, each in about a minute of one CPU core, and return them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = {
            "plane": VAE(latent_dim=2, hidden_dims=(512, 256)),
            "noise": VAE(latent_dim=16, hidden_dims=(512, 256)),
            "hand": CVAE(input_dim=784, cond_dim=10, latent_dim=6, hidden_dims=(512, 256), prior="learned"),
            "quarter": CVAE(input_dim=784, cond_dim=HALF**2, latent_dim=10, hidden_dims=(512, 256), prior="learned"),
        }
    for name, model in models.items():
        condition = seen_quarter if name == "quarter" else None
        beta = 0.1 if name == "noise" else 1.0  # a flow draws its codes: they need not fill N(0, I)
        fit(model, data.train, epochs=epochs, seed=seed, beta=beta, condition=condition, show=show)
        model.eval()
    with seeded(seed, torch.device("cpu")):
        prior = FlowMatching(input_shape=(models["noise"].latent_dim,), hidden_dims=(256, 256, 256))
        models["noise"] = LatentDiffusion(autoencoder=models["noise"], prior=prior).measure(data.train[:])
    lr = partial(cosine_rate, epochs=2 * epochs)
    fit(models["noise"], data.train, epochs=2 * epochs, lr=lr, seed=seed, ema=0.999, show=show)
    models["noise"].eval()
    return models


def seen_quarter(x: Tensor, y: Tensor | None = None) -> Tensor:
    """The lower left quarter of images (B, 1, 28, 28), as a condition (B, 196); the labels ``y`` are not used."""
    return x[:, 0, HALF:, :HALF].flatten(1)


@torch.no_grad()
def sheets(models: dict[str, nn.Module], data: ImageData, *, seed: int = 0, rows: int = 7) -> list[np.ndarray]:
    """The four sheets as RGB pictures (height, width, 3) in [0, 1], each of the same height."""
    draw = torch.Generator().manual_seed(seed)
    return [
        _plane(models["plane"], rows * (28 * ZOOM + GAP) - GAP),
        _sheet(models["noise"].sample(rows * rows, generator=draw), columns=rows),
        _sheet(_hands(models["hand"], rows, draw), columns=10),
        _completions(models["quarter"], data, rows, draw),
    ]


def _plane(model: VAE, height: int, *, side: int = 15) -> np.ndarray:
    """The plane of two latent numbers, decoded at the prior's quantiles: equal steps of probability both ways."""
    steps = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    down, across = torch.meshgrid(-steps, steps, indexing="ij")
    images = model.likelihood.mean(model.decode(torch.stack([across, down], dim=-1).reshape(-1, 2)))
    tiles = images.reshape(side, side, 28, 28).permute(0, 2, 1, 3).reshape(side * 28, side * 28).numpy()
    return _resized(tiles, height)[..., None].repeat(3, axis=-1)


def _resized(picture: np.ndarray, height: int) -> np.ndarray:
    image = Image.fromarray((picture * 255).round().astype(np.uint8))
    return np.asarray(image.resize((height, height), Image.Resampling.LANCZOS)) / 255


def _hands(model: CVAE, rows: int, draw: torch.Generator) -> Tensor:
    """For each row one draw of noise, given to the prior of every class: (rows · 10, 784)."""
    noise = torch.randn(rows, model.latent_dim, generator=draw).repeat_interleave(10, dim=0)
    classes = torch.eye(10).repeat(rows, 1)
    mu, log_var = model.prior(classes)
    return model.likelihood.mean(model.decode(model.reparameterize(mu, log_var, eps=noise), classes))


def _completions(model: CVAE, data: ImageData, rows: int, draw: torch.Generator, *, several: int = 5) -> np.ndarray:
    """For each row a test image: the quarter that is shown, `several` completions, the image itself."""
    first = [int((data.test.labels == digit).nonzero()[0]) for digit in (2, 3, 4, 5, 6, 8, 9)[:rows]]
    images = data.test[torch.tensor(first)]
    made = model.sample(seen_quarter(images).repeat_interleave(several, dim=0), generator=draw)
    made = made.reshape(rows, several, 28, 28).clone()
    made[:, :, HALF:, :HALF] = images[:, :, HALF:, :HALF]  # what was seen stays
    shown = images.repeat(1, 3, 1, 1)
    shown[:, :, :HALF] = shown[:, :, HALF:, HALF:] = torch.tensor(UNSEEN)[:, None, None]
    grey = torch.cat([made, images], dim=1)[:, :, None].expand(-1, -1, 3, -1, -1)
    return _sheet(torch.cat([shown[:, None], grey], dim=1), columns=several + 2)


def _sheet(images: Tensor, *, columns: int) -> np.ndarray:
    """Images (N, 784) or (…, 3, 28, 28) as one picture (height, width, 3): each pixel ZOOM × ZOOM, white between."""
    images = images.reshape(-1, images.shape[-3] if images.dim() > 2 else 1, 28, 28)
    large = images.repeat_interleave(ZOOM, dim=2).repeat_interleave(ZOOM, dim=3)
    grid = make_grid(large, nrow=columns, padding=GAP, pad_value=1.0)[:, GAP:-GAP, GAP:-GAP]
    return grid.permute(1, 2, 0).numpy()


def compose(pictures: Sequence[np.ndarray], *, between: int = 56, margin: int = 24, above: int = 60) -> Figure:
    """The sheets side by side under their titles, pixel by pixel."""
    height = pictures[0].shape[0] + above + margin
    width = sum(picture.shape[1] for picture in pictures) + between * (len(pictures) - 1) + 2 * margin
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        left = margin
        for picture, title in zip(pictures, TITLES, strict=True):
            high, wide = picture.shape[:2]
            axes = figure.add_axes((left / width, margin / height, wide / width, high / height))
            axes.imshow(picture, interpolation="none", aspect="auto")
            axes.axis("off")
            middle = (left + wide / 2) / width
            figure.text(middle, 1 - above / 2 / height, title, size=21, color=LOSS, ha="center", va="center")
            left += wide + between
    return figure


def write(path: Path = IMAGES / "gallery.png", *, seed: int = 0, epochs: int = 7) -> Path:
    """Train on MNIST, draw, and write the picture.  Raises RuntimeError where MNIST cannot be had."""
    data = load_images("mnist", device="cpu")  # on the CPU, so that a GPU does not make another picture
    figure = compose(sheets(train_models(data, seed=seed, epochs=epochs), data, seed=seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure))
    return path


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    print_anything()
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.teaching.gallery", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=7)
    options = parser.parse_args(arguments)
    try:
        print(write(seed=options.seed, epochs=options.epochs))
    except RuntimeError as error:
        if "MNIST cannot be loaded" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        sys.exit(f"{reason} The picture is of MNIST alone: connect to the network, or name its folder in COURSE_DATA.")


if __name__ == "__main__":
    main()
