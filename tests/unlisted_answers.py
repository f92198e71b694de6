"""Wrong answers to the exercises, as learners write them, collected without a look at the mistakes that the course names.

They measure how an exercise answers what nobody foresaw. `UNLISTED` holds (the function asked for, what was done, the function).
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def _sigma(log_var):
    return (0.5 * log_var).exp()


def _kl(mu, log_var):
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


def _eye(W):
    return torch.eye(W.shape[1], dtype=W.dtype)


def _squares(x, x_hat):
    return ((x - x_hat) ** 2).flatten(1)


def _bce(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1)


RECONSTRUCTION_ERROR = [
    ("784 written into the formula", lambda x, r: _squares(x, r).mean(1) * 784),
    ("the difference of the squares", lambda x, r: (x**2 - r**2).flatten(1).sum(1)),
    ("the square of the summed differences", lambda x, r: (x - r).flatten(1).sum(1) ** 2),
    ("the mean times the size of the whole batch", lambda x, r: _squares(x, r).mean(1) * x.numel()),
    ("the mean times the batch size", lambda x, r: _squares(x, r).mean(1) * len(x)),
    ("all pairs of images", lambda x, r: torch.cdist(x.flatten(1), r.flatten(1)) ** 2),
    ("each image against the mean reconstruction", lambda x, r: _squares(x, r.mean(0))),
    ("each image against the mean reconstruction, summed", lambda x, r: _squares(x, r.mean(0)).sum(1)),
    ("the first image against every reconstruction", lambda x, r: _squares(x[:1], r).sum(1)),
    ("root mean square error", lambda x, r: _squares(x, r).mean(1).sqrt()),
    ("the worst pixel", lambda x, r: _squares(x, r).amax(1)),
    ("peak signal-to-noise ratio", lambda x, r: -10 * _squares(x, r).mean(1).log10()),
    ("pixels from 0 to 255", lambda x, r: _squares(255 * x, 255 * r).sum(1)),
    ("1 minus the cosine similarity", lambda x, r: 1 - F.cosine_similarity(x.flatten(1), r.flatten(1))),
    ("smooth L1", lambda x, r: F.smooth_l1_loss(r, x, reduction="none").flatten(1).sum(1)),
    ("one number for all, expanded", lambda x, r: _squares(x, r).sum().expand(len(x))),
]

PCA_RECONSTRUCT = [
    ("the mean subtracted and never added", lambda x, c, m: (x - m) @ c.T @ c),
    ("the mean added and never subtracted", lambda x, c, m: m + x @ c.T @ c),
    ("what is left over", lambda x, c, m: x - m - (x - m) @ c.T @ c),
    ("the batch's own mean", lambda x, c, m: x.mean(0) + (x - x.mean(0)) @ c.T @ c),
    ("the first component only", lambda x, c, m: m + (x - m) @ c[:1].T @ c[:1]),
    ("the mean added twice", lambda x, c, m: 2 * m + (x - m) @ c.T @ c),
    ("codes divided by their length", lambda x, c, m: m + F.normalize((x - m) @ c.T, dim=1) @ c),
    ("the mean subtracted with the wrong sign", lambda x, c, m: (x + m) @ c.T @ c - m),
]

SAMPLE_GAUSSIAN = [
    ("square root of every entry", lambda m, c, e: m + e @ c.clamp(0).sqrt().T),
    ("the inverse's Cholesky factor", lambda m, c, e: m + e @ torch.linalg.cholesky(torch.linalg.inv(c)).T),
    ("eigenvalues without the root", lambda m, c, e: m + (e * torch.linalg.eigh(c)[0]) @ torch.linalg.eigh(c)[1].T),
    ("the mean scaled too", lambda m, c, e: (m + e) @ torch.linalg.cholesky(c).T),
    ("one draw for all rows", lambda m, c, e: (m + e[:1] @ torch.linalg.cholesky(c).T).expand_as(e)),
    ("the noise centred first", lambda m, c, e: m + (e - e.mean(0)) @ torch.linalg.cholesky(c).T),
    ("the largest eigenvalue for all", lambda m, c, e: m + e * torch.linalg.eigvalsh(c)[-1].sqrt()),
]


def _noise_clamped_first(autoencode, x, noise):
    return _squares(autoencode(x + noise.clamp(0, 1)), x).sum(1).mean()


def _x_changed_in_place(autoencode, x, noise):
    return _squares(autoencode(x.add_(noise).clamp_(0, 1)), x).sum(1).mean()


DENOISING_LOSS = [
    ("x changed in place", _x_changed_in_place),
    ("the noise clamped, not the sum", _noise_clamped_first),
    ("noise subtracted", lambda f, x, n: _squares(f((x - n).clamp(0, 1)), x).sum(1).mean()),
    ("only the noise goes in", lambda f, x, n: _squares(f(n.clamp(0, 1)), x).sum(1).mean()),
    ("noise multiplied", lambda f, x, n: _squares(f((x * n).clamp(0, 1)), x).sum(1).mean()),
    ("clamped to [-1, 1]", lambda f, x, n: _squares(f((x + n).clamp(-1, 1)), x).sum(1).mean()),
    ("half the error", lambda f, x, n: 0.5 * _squares(f((x + n).clamp(0, 1)), x).sum(1).mean()),
    ("summed over the batch, divided by the pixels", lambda f, x, n: _squares(f((x + n).clamp(0, 1)), x).mean(1).sum()),
    ("averaged, then times 784", lambda f, x, n: _squares(f((x + n).clamp(0, 1)), x).mean() * 784),
]

LOG_MEAN_EXP = [
    ("log of the batch size", lambda w: w.logsumexp(0) - math.log(w.shape[1])),
    ("log of all entries", lambda w: w.logsumexp(0) - math.log(w.numel())),
    ("divided by S outside the log", lambda w: w.logsumexp(0) / len(w)),
    ("divided by log S", lambda w: w.logsumexp(0) / math.log(len(w))),
    ("log S added", lambda w: w.logsumexp(0) + math.log(len(w))),
    ("base 2", lambda w: (w.logsumexp(0) - math.log(len(w))) / math.log(2)),
    ("base 10 for the S only", lambda w: w.logsumexp(0) - math.log10(len(w))),
    ("S subtracted", lambda w: w.logsumexp(0) - len(w)),
    ("log of S - 1", lambda w: w.logsumexp(0) - math.log(len(w) - 1)),
    ("softmax-weighted mean", lambda w: (w.softmax(0) * w).sum(0)),
    ("one maximum for all columns", lambda w: w.max() + (w - w.max()).exp().mean(0).log()),
    ("over the batch, not the samples", lambda w: w.logsumexp(1) - math.log(w.shape[1])),
    ("log-softmax, averaged", lambda w: w.log_softmax(0).mean(0)),
    ("the maximum subtracted, never added", lambda w: (w - w.amax(0)).exp().mean(0).log()),
    ("the maximum added twice", lambda w: 2 * w.amax(0) + (w - w.amax(0)).exp().mean(0).log()),
    ("the sign turned", lambda w: math.log(len(w)) - w.logsumexp(0)),
    ("the first sample left out", lambda w: w[1:].logsumexp(0) - math.log(len(w))),
    ("log-sum-exp of log-weights minus their mean", lambda w: (w - w.mean(0)).logsumexp(0) - math.log(len(w))),
]


def _distortion_and_rate(square=1.0, log=None, trace=None, rate=None):
    """The solution with one piece exchanged: functions of (sigma, D), (variance, W) and (mu, log_var)."""

    def wrong(x, mu, log_var, W, b, sigma):
        d = x.shape[1]
        spread = (trace or (lambda variance, W: variance @ W.square().sum(0)))(log_var.exp(), W)
        squares = square * (x - b - mu @ W.T).square().sum(1) + spread
        constant = log(sigma, d) if log else d * math.log(2 * math.pi * sigma**2)
        return 0.5 * (constant + squares / sigma**2), (rate or (lambda m, v: _kl(m, v).sum(1)))(mu, log_var)

    return wrong


def _divided_by_sigma(x, mu, log_var, W, b, sigma):
    squares = (x - b - mu @ W.T).square().sum(1) + log_var.exp() @ W.square().sum(0)
    return 0.5 * (x.shape[1] * math.log(2 * math.pi * sigma**2) + squares / sigma), _kl(mu, log_var).sum(1)


def _positive_log_likelihood(x, mu, log_var, W, b, sigma):
    distortion, rate = _distortion_and_rate()(x, mu, log_var, W, b, sigma)
    return -distortion, rate


def _bias_forgotten(x, mu, log_var, W, b, sigma):
    return _distortion_and_rate()(x, mu, log_var, W, 0 * b, sigma)


def _rate_first(x, mu, log_var, W, b, sigma):
    return _distortion_and_rate()(x, mu, log_var, W, b, sigma)[::-1]


def _averaged_pixels(x, mu, log_var, W, b, sigma):
    distortion, rate = _distortion_and_rate()(x, mu, log_var, W, b, sigma)
    return distortion / x.shape[1], rate


DISTORTION_AND_RATE = [
    ("only 2 pi dropped", _distortion_and_rate(log=lambda s, d: d * math.log(s**2))),
    ("log of 2 pi sigma", _distortion_and_rate(log=lambda s, d: d * math.log(2 * math.pi * s))),
    ("the constant once, not D times", _distortion_and_rate(log=lambda s, d: math.log(2 * math.pi * s**2))),
    ("the constant subtracted", _distortion_and_rate(log=lambda s, d: -d * math.log(2 * math.pi * s**2))),
    ("log base 10", _distortion_and_rate(log=lambda s, d: d * math.log10(2 * math.pi * s**2))),
    ("the rows' sums of W for the columns'", _distortion_and_rate(trace=lambda v, W: v.sum(1) * W.square().sum())),
    ("W not squared in the spread", _distortion_and_rate(trace=lambda v, W: v @ W.sum(0))),
    (
        "sigma of q for its variance in the spread",
        _distortion_and_rate(trace=lambda v, W: v.sqrt() @ W.square().sum(0)),
    ),
    ("log_var for the variance in the spread", _distortion_and_rate(trace=lambda v, W: v.log() @ W.square().sum(0))),
    ("the spread subtracted", _distortion_and_rate(trace=lambda v, W: -(v @ W.square().sum(0)))),
    ("the spread averaged over the batch", _distortion_and_rate(trace=lambda v, W: v.mean(0) @ W.square().sum(0))),
    ("divided by sigma", _divided_by_sigma),
    ("the log-likelihood, not its negative", _positive_log_likelihood),
    ("b forgotten", _bias_forgotten),
    ("rate first", _rate_first),
    ("distortion per pixel", _averaged_pixels),
    ("the rate with sigma for sigma squared", _distortion_and_rate(rate=lambda m, v: _kl(m, v / 2).sum(1))),
    ("the rate without its half", _distortion_and_rate(rate=lambda m, v: 2 * _kl(m, v).sum(1))),
    ("the rate without -1", _distortion_and_rate(rate=lambda m, v: (_kl(m, v) + 0.5).sum(1))),
    ("the rate averaged over dimensions", _distortion_and_rate(rate=lambda m, v: _kl(m, v).mean(1))),
    ("the rate with mu, not mu squared", _distortion_and_rate(rate=lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(1))),
]


def _posterior(precision=None, mean=None):
    """The solution with its precision, of (W, sigma), or its mean, of (x, W, b, sigma, covariance), exchanged."""

    def wrong(x, W, b, sigma):
        covariance = torch.linalg.inv(precision(W, sigma) if precision else _eye(W) + W.T @ W / sigma**2)
        return (mean(x, W, b, sigma, covariance) if mean else (x - b) @ W @ covariance / sigma**2), covariance

    return wrong


def _mean_by_pseudo_inverse(x, W, b, sigma, covariance):
    return (x - b) @ torch.linalg.pinv(W).T


def _precision_returned(x, W, b, sigma):
    mean, covariance = _posterior()(x, W, b, sigma)
    return mean, torch.linalg.inv(covariance)


def _covariance_of_x(x, W, b, sigma):
    return x - b, W @ W.T + sigma**2 * torch.eye(len(W), dtype=W.dtype)


POSTERIOR = [
    ("pseudo-inverse for the mean: the prior ignored", _posterior(mean=_mean_by_pseudo_inverse)),
    ("the prior left out of the precision", _posterior(lambda W, s: W.T @ W / s**2)),
    ("W'W not divided by sigma squared", _posterior(lambda W, s: _eye(W) + W.T @ W)),
    ("W'W divided by sigma", _posterior(lambda W, s: _eye(W) + W.T @ W / s)),
    ("W'W times sigma squared", _posterior(lambda W, s: _eye(W) + W.T @ W * s**2)),
    ("sigma squared I + W'W taken as the precision", _posterior(lambda W, s: s**2 * _eye(W) + W.T @ W)),
    ("prior subtracted", _posterior(lambda W, s: W.T @ W / s**2 - _eye(W))),
    ("only the diagonal of W'W", _posterior(lambda W, s: torch.diag(torch.diag(_eye(W) + W.T @ W / s**2)))),
    ("one for every entry of the identity", _posterior(lambda W, s: 1 + W.T @ W / s**2)),
    ("b added", _posterior(mean=lambda x, W, b, s, c: (x + b) @ W @ c / s**2)),
    ("b forgotten", _posterior(mean=lambda x, W, b, s, c: x @ W @ c / s**2)),
    ("1 / sigma in the mean", _posterior(mean=lambda x, W, b, s, c: (x - b) @ W @ c / s)),
    ("1 / sigma squared forgotten in the mean", _posterior(mean=lambda x, W, b, s, c: (x - b) @ W @ c)),
    ("the covariance left out of the mean", _posterior(mean=lambda x, W, b, s, c: (x - b) @ W / s**2)),
    ("the covariance inverted once more in the mean", _posterior(mean=lambda x, W, b, s, c: (x - b) @ W @ c.inverse())),
    (
        "the mean of the batch for every row",
        _posterior(mean=lambda x, W, b, s, c: ((x - b) @ W @ c / s**2).mean(0) + 0 * x @ W),
    ),
    ("the precision for the covariance", _precision_returned),
    ("the marginal of x for the posterior of z", _covariance_of_x),
]


def _groups(log_w, k):
    return log_w.reshape(-1, k, log_w.shape[1])


MULTI_SAMPLE_BOUND = [
    ("S subtracted as log S", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(len(w))).mean(0)),
    ("log of the number of groups", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(len(w) // k)).mean(0)),
    ("only the first k samples", lambda w, k: w[:k].logsumexp(0) - math.log(k)),
    ("only the last group", lambda w, k: w[-k:].logsumexp(0) - math.log(k)),
    ("all S samples in one bound", lambda w, k: w.logsumexp(0) - math.log(len(w))),
    ("the plain mean", lambda w, k: w.mean(0)),
    ("the groups interleaved", lambda w, k: (w.reshape(k, -1, w.shape[1]).logsumexp(0) - math.log(k)).mean(0)),
    ("divided by k", lambda w, k: (_groups(w, k).logsumexp(1) / k).mean(0)),
    ("log k forgotten", lambda w, k: _groups(w, k).logsumexp(1).mean(0)),
    ("the groups summed", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(k)).sum(0)),
    ("the groups not averaged", lambda w, k: _groups(w, k).logsumexp(1) - math.log(k)),
    ("the best sample of each group", lambda w, k: _groups(w, k).amax(1).mean(0)),
    ("the best group", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(k)).amax(0)),
    (
        "averaged in each group, log-mean-exp of those",
        lambda w, k: _groups(w, k).mean(1).logsumexp(0) - math.log(len(w) // k),
    ),
    ("reshaped over the batch", lambda w, k: (w.reshape(w.shape[1], -1, k).logsumexp(2) - math.log(k)).mean(1)),
    ("sliding groups", lambda w, k: (w.unfold(0, k, 1).logsumexp(2) - math.log(k)).mean(0)),
    ("the median of the groups", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(k)).median(0).values),
]


def _fit(noise=None, scale=None, pick=None):
    """The solution with noise variance, column lengths, or choice of directions exchanged."""

    def wrong(covariance, latent_dim):
        values, vectors = torch.linalg.eigh(covariance)
        kept, left = values[-latent_dim:], values[:-latent_dim]
        variance = noise(values, left, latent_dim) if noise else left.mean()
        lengths = scale(kept, variance) if scale else (kept - variance).sqrt()
        return (pick(vectors, latent_dim) if pick else vectors[:, -latent_dim:]) * lengths, variance.sqrt()

    return wrong


FIT_LINEAR_GAUSSIAN = [
    ("the largest discarded eigenvalue", _fit(lambda v, left, n: left[-1])),
    ("the smallest eigenvalue", _fit(lambda v, left, n: left[0])),
    ("the discarded eigenvalues summed", _fit(lambda v, left, n: left.sum())),
    ("the discarded ones divided by D", _fit(lambda v, left, n: left.sum() / len(v))),
    ("the mean of all eigenvalues", _fit(lambda v, left, n: v.mean() - 0 * left[0], lambda k, s: (k - s).abs().sqrt())),
    ("the median of the discarded", _fit(lambda v, left, n: left.median())),
    ("divided by D - L - 1", _fit(lambda v, left, n: left.sum() / (len(left) - 1), lambda k, s: (k - s).abs().sqrt())),
    ("the noise not subtracted", _fit(scale=lambda k, s: k.sqrt())),
    ("the root of each apart", _fit(scale=lambda k, s: k.sqrt() - s.sqrt())),
    ("no root", _fit(scale=lambda k, s: k - s)),
    ("sigma, not its square, subtracted", _fit(scale=lambda k, s: (k - s.sqrt()).abs().sqrt())),
    ("the noise added", _fit(scale=lambda k, s: (k + s).sqrt())),
    ("the directions of smallest variance", _fit(pick=lambda V, n: V[:, :n])),
    ("rows for columns of the eigenvectors", _fit(pick=lambda V, n: V[-n:].T)),
    ("variance returned for sigma", lambda c, n: (lambda W, s: (W, s**2))(*_fit()(c, n))),
]


def _all(**groups: list) -> list[tuple[str, str, Callable]]:
    return [(name, words, wrong) for name, answers in groups.items() for words, wrong in answers]


UNLISTED: list[tuple[str, str, Callable]] = _all(
    reconstruction_error=RECONSTRUCTION_ERROR,
    pca_reconstruct=PCA_RECONSTRUCT,
    sample_gaussian=SAMPLE_GAUSSIAN,
    denoising_loss=DENOISING_LOSS,
    log_mean_exp=LOG_MEAN_EXP,
    distortion_and_rate=DISTORTION_AND_RATE,
    posterior=POSTERIOR,
    multi_sample_bound=MULTI_SAMPLE_BOUND,
    fit_linear_gaussian=FIT_LINEAR_GAUSSIAN,
)
