"""The small decoders that the website computes with: trained here, and kept as whole numbers of eight bits.

    .venv/bin/python .site/decoders.py      # trains three models on MNIST, four minutes, and writes decoders.npz

For each model the file holds every linear layer of its decoder: `weight`, int8 (out, in), with a `scale` for each row,
and `bias`, float32. Between the layers stands a ReLU, behind the last one a sigmoid. Beside them: `order`, the latent
dimensions from the most active one on; for each digit `start`, the code of the test image that is decoded best, and of
the conditional
model `mu` and `sigma`, its learned prior.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).with_name("decoders.npz")
HIDDEN = (96, 128)


def layers(decoder: torch.nn.Sequential) -> list[dict[str, np.ndarray]]:
    """The linear layers of a decoder, each weight as the nearest of 255 equal steps of its row."""
    found = []
    for linear in (part for part in decoder if isinstance(part, torch.nn.Linear)):
        weight = linear.weight.detach().numpy()
        scale = np.abs(weight).max(axis=1) / 127
        whole = (weight / scale[:, None]).round().astype(np.int8)
        found.append({"weight": whole, "scale": scale, "bias": linear.bias.detach().numpy()})
    return found


def train(*, epochs: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """Train the three models on MNIST; return what the file holds."""
    from course_utils import CVAE, VAE, fit, load_images

    data = load_images("mnist", device="cpu")
    x, y = data.test[:], data.test.labels
    torch.manual_seed(seed)
    models = {
        "plane": VAE(latent_dim=2, hidden_dims=HIDDEN),
        "digits": VAE(latent_dim=10, hidden_dims=HIDDEN),
        "style": CVAE(input_dim=784, cond_dim=10, latent_dim=6, hidden_dims=HIDDEN, prior="learned"),
    }
    kept: dict[str, np.ndarray] = {}
    for name, model in models.items():
        fit(model, data.train, epochs=epochs, seed=seed, show=False)
        model.eval()
        with torch.no_grad():
            if name == "style":
                prior_mu, prior_log_var = model.prior(torch.eye(10))
                sigma = (0.5 * prior_log_var).exp()
                seven, steps = torch.eye(10)[7].expand(6, 10), 1.5 * torch.eye(6) * sigma[7]
                ends = [model.decode(prior_mu[7] + sign * steps, seven).sigmoid() for sign in (1, -1)]
                activity = (ends[0] - ends[1]).square().sum(1)  # by what changes a seven most
                kept |= {f"{name}.mu": prior_mu.numpy(), f"{name}.sigma": sigma.numpy()}
            else:
                mu, _ = model.encode(x)
                activity = mu.var(0)
                error = (model.reconstruct(x) - x).square().flatten(1).sum(1)
                best = [torch.where(y == digit, error, torch.inf).argmin() for digit in range(10)]
                kept[f"{name}.start"] = mu[torch.stack(best)].numpy()
        kept[f"{name}.order"] = activity.argsort(descending=True).numpy().astype(np.int8)
        for i, layer in enumerate(layers(model.decoder)):
            kept |= {f"{name}.{i}.{part}": array for part, array in layer.items()}
    return kept


def script(name: str) -> str:
    """One model as JavaScript: `DECODERS.name = {…}`, arrays in base64."""
    with np.load(FILE) as file:
        arrays = {key.partition(".")[2]: file[key] for key in file.files if key.startswith(f"{name}.")}
    number = len([key for key in arrays if key.endswith("weight")])
    model = {key: array.round(4).tolist() for key, array in arrays.items() if "." not in key}
    model["layers"] = [
        {part: base64.b64encode(arrays[f"{i}.{part}"].tobytes()).decode() for part in ("weight", "scale", "bias")}
        for i in range(number)
    ]
    return f"(window.DECODERS ??= {{}}).{name} = {json.dumps(model)};\n"


if __name__ == "__main__":
    sys.path.insert(0, str(FILE.parents[1]))
    np.savez_compressed(FILE, **train())
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")
