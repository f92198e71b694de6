"""What the processes of `tests/test_train.py` run under torchrun: fit two models, the first process writes what came.

    torchrun --nproc-per-node=2 tests/_two_processes.py FOLDER [--kill]

With `--kill` the second process kills itself in the third epoch, once.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import distributed

from course_utils.models.autoencoder import Autoencoder
from course_utils.models.vae import VAE
from course_utils.models.vq_vae import VQVAE
from course_utils.training.command import join_group
from course_utils.training.distributed import of_all
from course_utils.training.fit import fit

EPOCHS, EXAMPLES, BATCH = 6, 203, 20


def points() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(EXAMPLES, 2, generator=generator) @ torch.randn(2, 8, generator=generator)
    return factors + 0.3 * torch.randn(EXAMPLES, 8, generator=generator)


def autoencoder() -> Autoencoder:
    torch.manual_seed(3)
    return Autoencoder(input_shape=(8,), latent_dim=2, hidden_dims=(16,))


def vae() -> VAE:
    torch.manual_seed(3)
    return VAE(input_shape=(8,), latent_dim=2, hidden_dims=(), likelihood="gaussian", sigma=0.3)


def vae_rate(epoch: int) -> float:
    return 1e-2 * 0.97**epoch


def codes_apart() -> list[str]:
    """What two processes do not share of models with codes or averages of their own, after batches of 20 and of 1."""
    apart = []
    for seen, options in (
        (EXAMPLES, dict(quantiser="finite scalar")),
        (201, dict(restart=2)),
        (201, dict(update="ema")),
    ):
        torch.manual_seed(3)
        model = VQVAE(input_shape=(8,), tokens=2, hidden_dims=(8,), likelihood="gaussian", **options)
        fit(model, points()[:seen], epochs=3, batch_size=BATCH, ema=0.9, show=False)
        states = of_all(model.state_dict())
        apart += [f"{options}: {key}" for key, value in states[0].items() if not torch.equal(value, states[-1][key])]
    return apart


def main() -> None:
    folder = Path(sys.argv[1])
    join_group()
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    seen: list[int] = []

    def watch(x: torch.Tensor) -> torch.Tensor:
        if len(x) not in (BATCH, EXAMPLES % BATCH):  # fit's own look at the data before it trains
            return x
        seen.append(len(x))
        marker = folder / "killed"
        if "--kill" in sys.argv and rank == 1 and len(seen) > 2 * (EXAMPLES // BATCH + 1) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    exact = autoencoder()
    history = fit(exact, points(), epochs=EPOCHS, batch_size=BATCH, transform=watch, checkpoint=folder / "model.pt")
    result = {"epochs": history.epochs, "loss": [terms.loss for terms in history.train], "batches": len(seen)}
    result["restarts"] = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    result["weights"] = [parameter.flatten().tolist() for parameter in exact.parameters()]
    if "--kill" not in sys.argv:
        bound = vae()
        fit(bound, points(), epochs=150, batch_size=BATCH, lr=vae_rate, show=False)
        result["vae"] = [parameter.flatten().tolist() for parameter in bound.parameters()]
        result["apart"] = codes_apart()
    if rank == 0:
        # The first of the processes' lives that ends: a later one, should torchrun begin it, would find nothing to do.
        with contextlib.suppress(FileExistsError), (folder / "result.json").open("x") as file:
            json.dump(result, file)
    if distributed.is_initialized():
        distributed.barrier()  # nobody leaves while another still talks to it
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
