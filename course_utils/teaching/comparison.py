"""The comparison of notebook 16 on a longer budget: families of models, each given the same CPU seconds on MNIST.

    python -m course_utils.teaching.comparison                         # 60 s each, three seeds; about an hour
    python -m course_utils.teaching.comparison --seconds 30 --seeds 2
    python -m course_utils.teaching.comparison --only "flow matching on pixels" "DDPM on pixels" --seconds 600 --seeds 1

trains them one after the other on one core and writes comparison.json beside this file, which the notebook reads;
``--only`` keeps the other rows of the file, and another budget is said in the new rows' names. A budget is turned into
a number of steps by timing a few of them first, so the same command does not give the same numbers on another machine,
nor on one that is busy with other work. Nothing is chosen by its result.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from course_utils._files import print_anything, replace_text
from course_utils._random import seeded
from course_utils.data import ImageData, load_images
from course_utils.evaluation import Judge, effective_classes, frechet_distance, precision_recall, train_judge
from course_utils.models import DDPM, GAN, VAE, FlowMatching, LatentDiffusion
from course_utils.training import fit

STORED = Path(__file__).with_suffix(".json")
SAMPLES = 2_000  # of each model, against as many test images: all numbers depend on it
BATCH = 128
LATENT = 20
STEPS = 20  # of a flow's sampler
LEVELS = 100  # of a DDPM, each of them a step of its sampler
COLUMNS = ("FD", "precision", "recall", "recognised", "classes", "µs a sample")

FAMILIES = ("VAE", "GAN, MLP", "GAN, convolutional", "flow matching on pixels", "DDPM on pixels", "codes")

Draw = Callable[[int], Tensor]  # n -> images (n, 1, 28, 28)


def gan_optimizer(parameters: Any) -> torch.optim.Optimizer:
    """Adam with the smaller momentum that GANs need (Radford et al. 2016), and a rate for budgets of a minute."""
    return torch.optim.Adam(parameters, lr=2e-3, betas=(0.5, 0.999))


def train_for(seconds: float, model: nn.Module, *inputs: Tensor, seed: int = 0, **options: Any) -> dict[str, float]:
    """Train for about ``seconds`` of CPU time, as ``fit`` does; returns the steps taken and the seconds they took."""
    few = tuple(part[: 8 * BATCH] for part in inputs)
    trial = copy.deepcopy(model)
    for _ in range(2):  # the first time is slower
        start = time.process_time()
        fit(trial, few, epochs=1, batch_size=BATCH, show=False, **options)
        a_step = (time.process_time() - start) / 8
    steps = max(1, round(seconds / a_step))
    epochs = -(-steps * BATCH // len(inputs[0]))
    size = min(len(inputs[0]), round(steps / epochs) * BATCH)
    start = time.process_time()
    fit(model, tuple(part[:size] for part in inputs), epochs=epochs, batch_size=BATCH, seed=seed, show=False, **options)
    model.eval()
    return {"steps": epochs * -(-size // BATCH), "seconds": time.process_time() - start}


def contestants(
    data: ImageData, seconds: float, seed: int, only: Sequence[str] = FAMILIES
) -> Iterator[tuple[str, dict[str, float], Draw]]:
    """Name, cost and sampler of each, trained when its turn comes; a model of two stages shares the seconds out."""
    x, unet = data.train[:], dict(trunk="unet", hidden_dims=(8, 16), pixels=True)

    def asked_for(family: str) -> bool:
        torch.manual_seed(seed)  # a model does not depend on those that were trained before it
        return family in only

    if asked_for("VAE"):
        vae = VAE(latent_dim=LATENT)
        yield "VAE", train_for(seconds, vae, x, seed=seed), vae.sample
    for name, trunk, dims in (("GAN, MLP", "mlp", (256,)), ("GAN, convolutional", "conv", (8, 16))):
        if asked_for(name):
            gan = GAN(trunk=trunk, hidden_dims=dims)
            yield name, train_for(seconds, gan, x, seed=seed, optimizer=gan_optimizer), gan.sample
    if asked_for("flow matching on pixels"):
        flow = FlowMatching(**unet)
        cost = train_for(seconds, flow, x, seed=seed)
        yield "flow matching on pixels", cost, lambda n: flow.sample(n, steps=STEPS)
    if asked_for("DDPM on pixels"):
        ddpm = DDPM(steps=LEVELS, **unet)
        yield "DDPM on pixels", train_for(seconds, ddpm, x, seed=seed), ddpm.sample
    for beta in (1.0, 0.01) if asked_for("codes") else ():
        vae = VAE(latent_dim=LATENT)
        cost = train_for(seconds / 2, vae, x, seed=seed, beta=beta)
        latent = LatentDiffusion(autoencoder=vae, prior=FlowMatching(input_shape=(LATENT,))).measure(x)
        codes = latent.encode(x)
        more = train_for(seconds / 2, latent.prior, codes, seed=seed)
        both = {name: cost[name] + more[name] for name in cost}
        sample = lambda n, latent=latent: latent.sample(n, steps=STEPS)  # noqa: E731
        yield f"VAE, β = {beta:g}, and flow matching on its codes", both, sample
        start = time.process_time()
        mixture = GaussianMixture(50, random_state=seed, max_iter=30)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # thirty rounds are what it gets
            mixture.fit(codes[:10_000].double().numpy())
        less = {"steps": cost["steps"], "seconds": cost["seconds"] + time.process_time() - start}
        drawn = lambda n, m=mixture, latent=latent: latent.decode(torch.tensor(m.sample(n)[0]).float())  # noqa: E731
        yield f"VAE, β = {beta:g}, and a mixture on its codes", less, drawn
        if beta < 1:
            yield f"VAE, β = {beta:g}, codes from N(0, I)", cost, vae.sample


def measure(draw: Draw, judge: Judge, real: Tensor) -> dict[str, float]:
    """The columns for as many samples as there are features ``real`` (n, F) of test images."""
    start = time.process_time()
    images = draw(len(real))
    micro = (time.process_time() - start) / len(real) * 1e6
    fake = judge.features(images)
    share = judge.recognised(images).float().mean().item()
    values = frechet_distance(fake, real), *precision_recall(real, fake), share, effective_classes(judge, images), micro
    return dict(zip(COLUMNS, values, strict=True))


def compare(
    data: ImageData,
    *,
    seconds: float,
    seeds: int,
    only: Sequence[str] = FAMILIES,
    samples: int = SAMPLES,
    show: bool = True,
) -> dict[str, Any]:
    """Train and measure the contestants with seeds 0, 1, …: what ``stored`` gives back."""
    judge = train_judge(data, show=show)
    real = judge.features(data.test.subset(samples)[:])  # the first ones would not do: MNIST is not shuffled
    found: dict[str, list[dict[str, float]]] = {}

    def keep(name: str, cost: dict[str, float], draw: Draw) -> None:
        found.setdefault(name, []).append({**measure(draw, judge, real), **cost})
        if show:
            numbers = ", ".join(f"{key} {value:.3g}" for key, value in found[name][-1].items())
            print(f"{name}: {numbers}", flush=True)

    keep("training images", {"steps": 0, "seconds": 0.0}, lambda n: data.train.subset(n)[:])
    for seed in range(seeds):
        with seeded(seed, torch.device("cpu")):
            for contestant in contestants(data, seconds, seed, only):
                keep(*contestant)
    return {"seconds": seconds, "seeds": seeds, "samples": samples, "data": data.name, "rows": found}


def stored() -> dict[str, Any]:
    """What the command last wrote: ``rows`` by name, a dictionary for each seed, and under which conditions."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def added(found: dict[str, Any]) -> dict[str, Any]:
    """What is stored, with the rows that were found put in their places, or at the end where the budget differs."""
    old = stored()
    more = "" if found["seconds"] == old["seconds"] else f", {found['seconds']:,.0f} s"
    rows = {f"{name}{more}": rows for name, rows in found["rows"].items() if name != "training images"}
    return old | {"rows": old["rows"] | rows}


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    print_anything()
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.teaching.comparison", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=60, help="of CPU time for each, all stages together")
    parser.add_argument("--seeds", type=int, default=3, help="how many times everything is trained")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, help="train these, and keep the other rows of the file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = load_images("mnist", device="cpu")
    found = compare(data, seconds=options.seconds, seeds=options.seeds, only=options.only or FAMILIES)
    if options.only:
        found = added(found)
    replace_text(STORED, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(STORED)


if __name__ == "__main__":
    main()
