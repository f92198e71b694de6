"""Reads what a model returns: which tensor is the reconstruction, which are μ and its spread, which is z.

An output may be a tensor, a tuple, list or NamedTuple in any order, a dict, a dataclass, an object with fields, or
contain torch distributions. It is taken apart into leaves, each with a path.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, distributions

Path = tuple[str | int, ...]

# Names without case and punctuation, as in zLogVar -> "zlogvar"; the first pattern that fits decides.
_PREFIX = r"(fc|to|linear|head)?(z|q|qz|enc|encoder|latent|posterior)?"
_SUFFIX = r"(s|z|q|qz|x|latent)?"
PATTERNS = (
    ("other", r".*(loss|elbo|nll|kl|kld|kldiv|klz|beta|weight|distortion|rate).*"),
    ("recon", r"(p|px)?(rec|decod|xhat|hatx|xrec|logit|xparam|prob|xmean|xmu|pixel).*"),
    ("recon", r".*(recon|logits|xhat|decoded|xbar|xtilde|xpred)|out|output|outputs|pred|preds|y|yhat|px|pxz"),
    ("log_var", rf"{_PREFIX}(logvar|logvariance|lnvar|logsigma2|logsigmasq|logsigmasquared|logstd2|lv){_SUFFIX}"),
    ("log_std", rf"{_PREFIX}(logstd|logsigma|logscale|lnsigma|ls){_SUFFIX}"),
    ("var", rf"{_PREFIX}(var|variance|sigma2|sigmasq|sigmasquared){_SUFFIX}"),
    ("std", rf"{_PREFIX}(std|stddev|sigma|scale|sd){_SUFFIX}"),
    ("mu", rf"{_PREFIX}(mu|mean|loc|m){_SUFFIX}"),
    ("z", r"z.*|latent.*|code.*|sample.*"),
)  # fmt: skip


class Spread(NamedTuple):
    """One reading of an encoder's second output s: what it is, how σ comes from it, and log σ as a function of s."""

    name: str
    sigma: str
    log_sigma: Callable[[Tensor], Tensor]


SPREADS = {
    "log_var": Spread("log σ²", "exp(½s)", lambda s: s / 2),
    "log_std": Spread("log σ", "exp(s)", lambda s: s),
    "var": Spread("σ²", "√s", lambda s: s.abs().log() / 2),
    "std": Spread("σ", "s", lambda s: s.abs().log()),
}


def slopes(kind: str, s: Tensor) -> tuple[Tensor, Tensor]:
    """dσ²/ds and d log σ²/ds, for s read as ``kind``; those of the KL to N(0, I) are half their difference."""
    s = s.detach().requires_grad_()
    log_variance = 2 * SPREADS[kind].log_sigma(s)
    (slope,) = torch.autograd.grad(log_variance.sum(), s)
    return slope * log_variance.detach().exp(), slope


class Leaf(NamedTuple):
    """A tensor inside an output, where it is, and the role that its name suggests ("" without a name)."""

    path: Path
    role: str
    value: Tensor


class Reading(NamedTuple):
    """Where the parts of an output are; None for what was not found. ``kind`` is the spread's, if its name says so."""

    recon: Path | None = None
    mu: Path | None = None
    spread: Path | None = None
    z: Path | None = None
    kind: str | None = None


def role_of(name: str) -> str:
    """The role that a field's or argument's name suggests: "recon", "mu", a kind of spread, "z", "other" or ""."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((role for role, pattern in PATTERNS if re.fullmatch(pattern, plain)), "")


def leaves(output: object, path: Path = (), name: str = "") -> Iterator[Leaf]:
    """All floating-point tensors in an output, in order."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield Leaf(path, role_of(name), output)
        return
    for key, part, part_name in _parts(output):
        yield from leaves(part, (*path, key), part_name or name)


def get(output: object, path: Path) -> Tensor:
    """The tensor at that path."""
    for key in path:
        output = next(part for part_key, part, _ in _parts(output) if part_key == key)
    return output  # type: ignore[return-value]


def _parts(output: object) -> list[tuple[str | int, object, str]]:
    """(key, value, name) of what a container holds; nothing for what is no container."""
    if isinstance(output, distributions.Independent):
        return _parts(output.base_dist)
    if isinstance(output, distributions.Normal):
        return [("loc", output.loc, "mu"), ("scale", output.scale, "std")]
    if isinstance(output, distributions.Bernoulli | distributions.ContinuousBernoulli):
        key = "logits" if "logits" in output.__dict__ else "probs"
        return [(key, getattr(output, key), "recon")]
    if isinstance(output, distributions.Distribution):
        return []
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", [""] * len(output))
        return list(zip(range(len(output)), output, names, strict=True))
    if isinstance(output, Mapping):
        return [(key, value, str(key)) for key, value in output.items()]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(f.name, getattr(output, f.name), f.name) for f in dataclasses.fields(output)]
    if isinstance(output, str | bytes | int | float | bool | type(None) | torch.nn.Module):
        return []
    fields = getattr(output, "__dict__", {})
    return [(key, value, key) for key, value in fields.items() if not key.startswith("_")]


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their shapes, up to rounding."""
    if a.numel() != b.numel() or a.shape[:1] != b.shape[:1]:
        return False
    a, b = a.detach().flatten(), b.detach().flatten().to(a.dtype)
    return bool(torch.allclose(a, b, rtol=1e-4, atol=1e-6 * max(1.0, a.abs().max().item())))


def read(
    output: object, x: Tensor, *, noisy: list[Tensor], varies: set[Path], living: Collection[Path] = ()
) -> Reading:
    """Find the parts of an output: by name where there are names, else by shape and by experiment.

    ``noisy`` is what was computed from the noise while that was 0: among it is z, equal to μ then, unlike log σ².
    ``varies`` are the paths of what changes with the noise, ``living`` of what has a gradient: no sampled image.
    """
    size = x.shape[0]
    found = [leaf for leaf in leaves(output) if leaf.value.dim() and leaf.value.shape[0] == size]
    images = [leaf for leaf in found if leaf.value.numel() == x.numel() and not same(leaf.value, x)]
    image_like = [leaf for leaf in images if leaf.path in living]
    image_like = image_like or [leaf for leaf in images if len(leaf.value.unique()) > 2]
    if not image_like:  # probabilities of classes for each number of x, such as for words
        image_like = [leaf for leaf in found if leaf.value.numel() % x.numel() == 0 and leaf.path in varies]
        image_like = [leaf for leaf in image_like if not any(same(leaf.value, t) for t in noisy)]
    recon = _reconstruction(image_like, noisy, varies)
    taken = ("recon", "other")
    rest = [leaf for leaf in found if leaf.path != recon and leaf.role not in taken and not same(leaf.value, x)]
    if codes := [leaf for leaf in rest if leaf.value.numel() != x.numel()]:
        rest = codes  # what else has the size of x belongs to the output, such as a σ for every pixel

    named = {leaf.role: leaf.path for leaf in reversed(rest) if leaf.role}
    kind = next((kind for kind in SPREADS if kind in named), None)
    mu, z, spread = named.get("mu"), named.get("z"), named.get(kind) if kind else None
    unnamed = [leaf for leaf in rest if not leaf.role]
    vectors = [leaf for leaf in unnamed if leaf.value.dim() > 1] or [
        leaf for leaf in unnamed if any(same(leaf.value, t) for t in noisy)
    ]
    if len(vectors) == 1 and unnamed != vectors and len(unnamed) == 2:
        vectors = unnamed  # one of two was averaged
    free = [leaf for leaf in vectors if leaf.path not in varies]
    moving = [leaf for leaf in vectors if leaf.path in varies]
    if z is None and moving:
        z = moving[0].path
    if mu is None and free:
        matching = [leaf for leaf in free if any(same(leaf.value, t) and t.any() for t in noisy)]
        if not matching and len(free) > 2 and same(free[0].value, free[-2].value):
            z = free[0].path  # (z, mu, log_var) without any sampling
            free = free[1:]
        mu = (matching or free)[0].path
    if spread is None:
        spread = next((leaf.path for leaf in free if leaf.path != mu), None)
    return Reading(recon, mu, spread, z, kind)


def _reconstruction(image_like: list[Leaf], noisy: list[Tensor], varies: set[Path]) -> Path | None:
    """Named as a reconstruction, or else shaped like one; made of the code rather than the code."""
    for roles in (("recon",), ("mu", ""), ("z",)):
        chosen = [leaf for leaf in image_like if leaf.role in roles]
        moving = [leaf for leaf in chosen if leaf.path in varies and not any(same(leaf.value, t) for t in noisy)]
        if chosen:
            return (moving or chosen)[0].path
    return None
