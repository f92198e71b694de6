"""Wrong answers to the exercises, as learners write them, none of them among the mistakes that the course names.

They measure how an exercise answers what nobody foresaw. `UNLISTED` holds the name of the exercise's function, what was
done, and the function.
"""

import math
from collections.abc import Callable

import torch
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


def _score(mu=None, log_var=None):
    """The solution with the score of mu or of log_var, functions of (eps, sigma, log_var), exchanged."""

    def wrong(f, z, m, v):
        eps, sigma = (z - m) / _sigma(v), _sigma(v)
        scores = (
            (mu or (lambda e, s, v: e / s))(eps, sigma, v),
            (log_var or (lambda e, s, v: 0.5 * (e**2 - 1)))(eps, sigma, v),
        )
        return tuple(f[:, None] * score for score in scores)

    return wrong


SCORE_FUNCTION_GRADIENT = [
    ("divided by sigma once", _score(lambda e, s, v: e)),
    ("not divided by the variance", _score(lambda e, s, v: e * s)),
    ("divided by sigma to the fourth", _score(lambda e, s, v: e / s**3)),
    ("log_var read as sigma squared", lambda f, z, m, v: _score()(f, z, m, v.abs().log())),
    ("log_var read as log sigma", lambda f, z, m, v: _score()(f, z, m, 2 * v)),
    ("divided by log_var", _score(lambda e, s, v: e * s / v)),
    ("the sign of mu's score", _score(lambda e, s, v: -e / s)),
    ("the sign of log_var's score", _score(log_var=lambda e, s, v: 0.5 * (1 - e**2))),
    ("the score of sigma", _score(log_var=lambda e, s, v: (e**2 - 1) / s)),
    ("the score of log sigma", _score(log_var=lambda e, s, v: e**2 - 1)),
    ("the score of the variance", _score(log_var=lambda e, s, v: 0.5 * (e**2 - 1) / s**2)),
    ("the -1/2 forgotten", _score(log_var=lambda e, s, v: 0.5 * e**2)),
    ("the log term's derivative taken as -1", _score(log_var=lambda e, s, v: 0.5 * e**2 - 1)),
    ("z for z - mu", lambda f, z, m, v: _score()(f, z, 0 * m, v)),
    ("averaged over the samples", lambda f, z, m, v: tuple(g.mean(0) for g in _score()(f, z, m, v))),
    ("f not multiplied in", lambda f, z, m, v: _score()(torch.ones_like(f), z, m, v)),
    ("f centred", lambda f, z, m, v: _score()(f - f.mean(), z, m, v)),
    ("the log of f", lambda f, z, m, v: _score()(f.abs().log(), z, m, v)),
    ("the mean of f for every sample", lambda f, z, m, v: _score()(f.mean().expand(len(f)), z, m, v)),
    ("log q for its gradient", lambda f, z, m, v: (f[:, None] * -0.5 * ((z - m) ** 2 / v.exp() + v),) * 2),
    ("the two results exchanged", lambda f, z, m, v: _score()(f, z, m, v)[::-1]),
    ("summed over the dimensions", lambda f, z, m, v: tuple(g.sum(1) for g in _score()(f, z, m, v))),
    ("the pair stacked along the dimensions", lambda f, z, m, v: torch.cat(_score()(f, z, m, v), dim=1)),
]


def _loo(f, scores, baseline):
    return ((f - baseline)[:, None] * scores).mean(0)


LEAVE_ONE_OUT = [
    ("the scores centred too", lambda f, s: ((f - f.mean())[:, None] * (s - s.mean(0))).mean(0)),
    ("the mean of all as the baseline", lambda f, s: _loo(f, s, f.mean())),
    ("divided by K", lambda f, s: _loo(f, s, (f.sum() - f) / len(f))),
    ("divided by K - 1 without leaving out", lambda f, s: _loo(f, s, f.sum() / (len(f) - 1))),
    ("the sum of the others", lambda f, s: _loo(f, s, f.sum() - f)),
    ("the mean minus f", lambda f, s: _loo(f, s, f.mean() - f)),
    ("the baseline alone", lambda f, s: (((f.sum() - f) / (len(f) - 1))[:, None] * s).mean(0)),
    ("the next sample as the baseline", lambda f, s: _loo(f, s, f.roll(1))),
    ("the baseline added", lambda f, s: _loo(f, s, -(f.sum() - f) / (len(f) - 1))),
    ("the median as the baseline", lambda f, s: _loo(f, s, f.median())),
    ("standardised f", lambda f, s: _loo((f - f.mean()) / f.std(), s, 0)),
    ("averages multiplied", lambda f, s: f.mean() * s.mean(0)),
    ("a baseline of each score", lambda f, s: (f[:, None] * s - (f[:, None] * s).mean(0)).mean(0)),
    ("baseline of the scores left out", lambda f, s: (f[:, None] * (s.sum(0) - s) / (len(f) - 1)).mean(0)),
    ("averaged over the dimensions", lambda f, s: ((f - (f.sum() - f) / (len(f) - 1))[:, None] * s).mean(1)),
    ("divided by K - 1 at the end", lambda f, s: _loo(f, s, (f.sum() - f) / (len(f) - 1)) * len(f) / (len(f) - 1)),
    ("the first left out for all", lambda f, s: _loo(f, s, f[1:].mean())),
    ("running mean of the samples so far", lambda f, s: _loo(f, s, f.cumsum(0) / torch.arange(1, len(f) + 1))),
]

REPARAMETERIZE = [
    ("sigma as exp(log_var)", lambda m, v, e: m + v.exp() * e),
    ("log_var as sigma", lambda m, v, e: m + v * e),
    ("the root of log_var", lambda m, v, e: m + v.abs().sqrt() * e),
    ("exp of 2 log_var", lambda m, v, e: m + (2 * v).exp() * e),
    ("exp(-log_var / 2)", lambda m, v, e: m + (-0.5 * v).exp() * e),
    ("softplus for exp", lambda m, v, e: m + F.softplus(v) * e),
    ("half of exp(log_var)", lambda m, v, e: m + 0.5 * v.exp() * e),
    ("the mean scaled too", lambda m, v, e: (m + e) * _sigma(v)),
    ("mu multiplied by the noise", lambda m, v, e: m * e + _sigma(v)),
    ("the noise added without scale", lambda m, v, e: m + e),
    ("sigma added to the noise", lambda m, v, e: m + _sigma(v) + e),
    ("the first row's noise for all", lambda m, v, e: m + _sigma(v) * e[:1]),
    ("one noise for all dimensions", lambda m, v, e: m + _sigma(v) * e[:, :1]),
    ("a mean sigma for each row", lambda m, v, e: m + _sigma(v).mean(1, keepdim=True) * e),
    ("sigma detached", lambda m, v, e: m + _sigma(v).detach() * e),
    ("mu detached", lambda m, v, e: m.detach() + _sigma(v) * e),
    ("noise of its own", lambda m, v, e: m + _sigma(v) * torch.randn_like(m)),
    ("noise from Normal(mu, sigma), in place of eps", lambda m, v, e: torch.normal(m, _sigma(v))),
    ("subtracted", lambda m, v, e: m - _sigma(v) * e),
    ("base 2", lambda m, v, e: m + 2 ** (0.5 * v) * e),
    ("sigma clamped", lambda m, v, e: m + _sigma(v.clamp(-1, 1)) * e),
    ("the noise itself changed in place", lambda m, v, e: e.mul_(_sigma(v)).add_(m)),
]


def _path(df, mu, log_var, eps, scale=None, sigma=_sigma):
    slope = df(mu + sigma(log_var) * eps)
    return slope, slope * (scale(_sigma(log_var), eps) if scale else 0.5 * _sigma(log_var) * eps)


PATHWISE_GRADIENT = [
    ("without sigma", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 0.5 * e)),
    ("without eps", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 0.5 * s)),
    ("the half forgotten", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: s * e)),
    ("2 for the half", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 2 * s * e)),
    ("the derivative to sigma", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: e)),
    ("the variance for sigma", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 0.5 * s**2 * e)),
    ("eps squared", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 0.5 * s * e**2)),
    ("the slope at mu", lambda df, m, v, e: (df(m.expand_as(e)), df(m.expand_as(e)) * 0.5 * _sigma(v) * e)),
    ("the slope at eps", lambda df, m, v, e: (df(e), df(e) * 0.5 * _sigma(v) * e)),
    ("z with sigma = exp(log_var)", lambda df, m, v, e: _path(df, m, v, e, sigma=torch.exp)),
    ("z with log_var for sigma", lambda df, m, v, e: _path(df, m, v, e, sigma=lambda v: v)),
    ("z without the noise's scale", lambda df, m, v, e: _path(df, m, v, e, sigma=torch.ones_like)),
    ("multiplied by z", lambda df, m, v, e: (df(m + _sigma(v) * e) * (m + _sigma(v) * e), _path(df, m, v, e)[1])),
    (
        "z - mu forgotten: z / 2",
        lambda df, m, v, e: (_path(df, m, v, e)[0], _path(df, m, v, e)[0] * 0.5 * (m + _sigma(v) * e)),
    ),
    ("the scores multiplied in", lambda df, m, v, e: (_path(df, m, v, e)[0] * e / _sigma(v), _path(df, m, v, e)[1])),
    ("averaged", lambda df, m, v, e: tuple(g.mean(0) for g in _path(df, m, v, e))),
    (
        "the slope averaged first",
        lambda df, m, v, e: (lambda s: (s, s * 0.5 * _sigma(v) * e))(df(m + _sigma(v) * e).mean(0).expand_as(e)),
    ),
    ("the pair exchanged", lambda df, m, v, e: _path(df, m, v, e)[::-1]),
    ("the sign of the second", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: -0.5 * s * e)),
]

SCORE_FUNCTION_LOSS = [
    ("a column of weights against a row of log q", lambda f, q, b: ((f - b).detach()[:, None] * q).mean()),
    ("averaged before multiplying", lambda f, q, b: (f - b).detach().mean() * q.mean()),
    ("summed", lambda f, q, b: ((f - b).detach() * q).sum()),
    ("one loss for each sample", lambda f, q, b: (f - b).detach() * q),
    ("nothing detached", lambda f, q, b: ((f - b) * q).mean()),
    ("only f detached", lambda f, q, b: ((f.detach() - b) * q).mean()),
    ("only the baseline detached", lambda f, q, b: ((f - b.detach()) * q).mean()),
    ("log q detached", lambda f, q, b: ((f - b) * q.detach()).mean()),
    ("all detached", lambda f, q, b: ((f - b) * q).mean().detach()),
    ("q, not log q", lambda f, q, b: ((f - b).detach() * q.exp()).mean()),
    ("the sign for ascent", lambda f, q, b: -((f - b).detach() * q).mean()),
    ("the baseline added", lambda f, q, b: ((f + b).detach() * q).mean()),
    ("the baseline multiplied", lambda f, q, b: ((f * b).detach() * q).mean()),
    ("the baseline subtracted from log q", lambda f, q, b: (f.detach() * (q - b.detach())).mean()),
    ("f added to the loss", lambda f, q, b: ((f - b).detach() * q + f).mean()),
    ("the weight added", lambda f, q, b: ((f - b).detach() + q).mean()),
    ("f centred besides", lambda f, q, b: ((f - b - (f - b).mean()).detach() * q).mean()),
    ("the mean of the baseline for each", lambda f, q, b: ((f - b.mean()).detach() * q).mean()),
    ("the absolute advantage", lambda f, q, b: ((f - b).abs().detach() * q).mean()),
    ("the squared advantage", lambda f, q, b: ((f - b).square().detach() * q).mean()),
]

GAUSSIAN_KL = [
    ("-1 outside the sum", lambda m, v: 0.5 * ((m**2 + v.exp() - v).sum(1) - 1)),
    ("-1 outside the half", lambda m, v: (0.5 * (m**2 + v.exp() - v) - 1).sum(1)),
    ("+1 for -1", lambda m, v: 0.5 * (m**2 + v.exp() + 1 - v).sum(1)),
    ("the 1 left out", lambda m, v: 0.5 * (m**2 + v.exp() - v).sum(1)),
    ("the sign of the whole", lambda m, v: -_kl(m, v).sum(1)),
    ("the half forgotten", lambda m, v: 2 * _kl(m, v).sum(1)),
    ("the half on the first term only", lambda m, v: (0.5 * m**2 + v.exp() - 1 - v).sum(1)),
    ("mu not squared", lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(1)),
    ("the absolute mu", lambda m, v: 0.5 * (m.abs() + v.exp() - 1 - v).sum(1)),
    ("the square of the summed mu", lambda m, v: 0.5 * (m.sum(1) ** 2 + (v.exp() - 1 - v).sum(1))),
    ("sigma for the variance", lambda m, v: 0.5 * (m**2 + _sigma(v) - 1 - v).sum(1)),
    ("log_var as log sigma", lambda m, v: _kl(m, 2 * v).sum(1)),
    ("log_var as the variance", lambda m, v: 0.5 * (m**2 + v - 1 - v.abs().log()).sum(1)),
    ("log_var squared", lambda m, v: 0.5 * (m**2 + v**2 - 1 - v).sum(1)),
    ("log of log_var", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v.abs().log()).sum(1)),
    ("log sigma in the last term", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v / 2).sum(1)),
    ("log_var added", lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v).sum(1)),
    ("the reverse KL", lambda m, v: 0.5 * ((m**2 + 1) / v.exp() - 1 + v).sum(1)),
    ("the cross-entropy only", lambda m, v: 0.5 * (m**2 + v.exp() + LOG_2PI).sum(1)),
    ("the batch averaged", lambda m, v: _kl(m, v).mean(0)),
    ("a number for all", lambda m, v: _kl(m, v).sum(1).mean()),
    ("the dimensions averaged", lambda m, v: _kl(m, v).mean(1)),
    ("in bits", lambda m, v: _kl(m, v).sum(1) / math.log(2)),
    ("divided by the batch size", lambda m, v: _kl(m, v).sum(1) / len(m)),
    ("the largest dimension", lambda m, v: _kl(m, v).amax(1)),
    ("mu squared averaged over the batch", lambda m, v: (_kl(0 * m, v) + 0.5 * (m**2).mean(0)).sum(1)),
    ("multiplied by exp(log_var)", lambda m, v: 0.5 * ((m**2 + 1) * v.exp() - 1 - v).sum(1)),
    ("each distance divided by the variance", lambda m, v: 0.5 * (m**2 / v.exp() + v.exp() - 1 - v).sum(1)),
]


def _full(mq, Sq, mp, Sp, trace=None, distance=None, dims=None, logs=None, half=0.5):
    """The solution with terms exchanged: functions of (Sq, Sp) and (offset, Sq, Sp)."""
    d, inverse = mp - mq, torch.linalg.inv(Sp)
    trace = trace(Sq, Sp) if trace else (inverse @ Sq).trace()
    distance = distance(d, Sq, Sp) if distance else d @ inverse @ d
    logs = logs(Sq, Sp) if logs else Sp.logdet() - Sq.logdet()
    return half * (trace + distance - (len(d) if dims is None else dims) + logs)


GAUSSIAN_KL_FULL = [
    (
        "S_q inverted",
        lambda m, S, n, T: _full(
            m, S, n, T, lambda S, T: (S.inverse() @ T).trace(), lambda d, S, T: d @ S.inverse() @ d
        ),
    ),
    ("S_q inverted in the trace", lambda m, S, n, T: _full(m, S, n, T, lambda S, T: (S.inverse() @ T).trace())),
    (
        "S_q inverted in the distance",
        lambda m, S, n, T: _full(m, S, n, T, distance=lambda d, S, T: d @ S.inverse() @ d),
    ),
    ("p and q exchanged", lambda m, S, n, T: _full(n, T, m, S)),
    ("the log determinants exchanged", lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: S.logdet() - T.logdet())),
    ("determinants without log", lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: T.det() - S.det())),
    ("the quotient without log", lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: T.det() / S.det())),
    (
        "half the log determinants once more",
        lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: (T.logdet() - S.logdet()) / 2),
    ),
    ("log base 2", lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: T.det().log2() - S.det().log2())),
    ("log of the trace", lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: T.trace().log() - S.trace().log())),
    ("entries divided, not the inverse", lambda m, S, n, T: _full(m, S, n, T, lambda S, T: (S / T).trace())),
    ("the product summed, not its trace", lambda m, S, n, T: _full(m, S, n, T, lambda S, T: (T.inverse() @ S).sum())),
    ("S_p not inverted in the trace", lambda m, S, n, T: _full(m, S, n, T, lambda S, T: (T @ S).trace())),
    ("the traces divided", lambda m, S, n, T: _full(m, S, n, T, lambda S, T: S.trace() / T.trace())),
    ("only the diagonals", lambda m, S, n, T: _full(m, torch.diag(S.diag()), n, torch.diag(T.diag()))),
    ("the distance without the covariance", lambda m, S, n, T: _full(m, S, n, T, distance=lambda d, S, T: d @ d)),
    ("the distance with S_p not inverted", lambda m, S, n, T: _full(m, S, n, T, distance=lambda d, S, T: d @ T @ d)),
    (
        "the root of the distance",
        lambda m, S, n, T: _full(m, S, n, T, distance=lambda d, S, T: (d @ T.inverse() @ d).sqrt()),
    ),
    ("the means added", lambda m, S, n, T: _full(m, S, -n, T)),
    ("1 for L", lambda m, S, n, T: _full(m, S, n, T, dims=1)),
    ("L forgotten", lambda m, S, n, T: _full(m, S, n, T, dims=0)),
    ("L squared, as len of the flat matrix", lambda m, S, n, T: _full(m, S, n, T, dims=S.numel())),
    ("the half forgotten", lambda m, S, n, T: _full(m, S, n, T, half=1)),
    (
        "Cholesky factors taken as covariances",
        lambda m, S, n, T: _full(m, torch.linalg.cholesky(S), n, torch.linalg.cholesky(T)),
    ),
]


def _mc(log_q=None, log_p=None, z=None, reduce=None):
    """The solution with log q, of (z, mu, log_var, eps), log p, of z, z itself or the reduction exchanged."""

    def wrong(m, v, e):
        x = z(m, v, e) if z else m + _sigma(v) * e
        q = log_q(x, m, v, e) if log_q else -0.5 * (LOG_2PI + v + e**2)
        p = log_p(x) if log_p else -0.5 * (LOG_2PI + x**2)
        return reduce(q - p) if reduce else (q - p).sum(-1).mean(0)

    return wrong


def _normal(scale):
    return _mc(lambda z, m, v, e: torch.distributions.Normal(m, scale(v)).log_prob(z))


KL_MONTE_CARLO = [
    ("Normal(mu, sigma squared)", _normal(torch.exp)),
    ("Normal(mu, exp(2 log_var))", _normal(lambda v: (2 * v).exp())),
    ("sigma = exp(log_var) in z only", _mc(z=lambda m, v, e: m + v.exp() * e)),
    ("sigma = exp(log_var) everywhere", lambda m, v, e: _mc()(m, 2 * v, e)),
    ("mu left out of z", _mc(z=lambda m, v, e: _sigma(v) * e)),
    ("eps in place of z in log p", _mc(z=lambda m, v, e: e)),
    ("log sigma forgotten in log q", _mc(lambda z, m, v, e: -0.5 * (LOG_2PI + e**2))),
    ("z in place of eps in log q", _mc(lambda z, m, v, e: -0.5 * (LOG_2PI + v + z**2))),
    ("(z - mu) not divided", _mc(lambda z, m, v, e: -0.5 * (LOG_2PI + v + (z - m) ** 2))),
    ("2 pi in log q only", _mc(log_p=lambda z: -0.5 * z**2)),
    ("the half forgotten in log p", _mc(log_p=lambda z: -LOG_2PI / 2 - z**2)),
    ("p's log-density at its mean", _mc(log_p=lambda z: torch.full_like(z, -LOG_2PI / 2))),
    ("log_var added, not subtracted", _mc(lambda z, m, v, e: -0.5 * (LOG_2PI - v + e**2))),
    ("averaged over the dimensions too", _mc(reduce=lambda r: r.mean(-1).mean(0))),
    ("summed over the samples too", _mc(reduce=lambda r: r.sum(-1).sum(0))),
    ("averaged over samples and batch, summed over dimensions", _mc(reduce=lambda r: r.mean((0, 1)).sum())),
    ("only the first sample", _mc(reduce=lambda r: r[0].sum(-1))),
    ("K log-ratios kept", _mc(reduce=lambda r: r.sum(-1))),
    ("the log of the mean ratio", _mc(reduce=lambda r: r.sum(-1).logsumexp(0) - math.log(len(r)))),
    ("log p - log q", _mc(reduce=lambda r: -r.sum(-1).mean(0))),
    (
        "densities, not their logs",
        lambda m, v, e: ((-0.5 * e**2).exp() / _sigma(v) - (-0.5 * (m + _sigma(v) * e) ** 2).exp()).sum(-1).mean(0),
    ),
    ("the closed form", lambda m, v, e: _kl(m, v).sum(-1)),
    ("the absolute log-ratio", _mc(reduce=lambda r: r.sum(-1).abs().mean(0))),
    ("half the squared log-ratio", _mc(reduce=lambda r: 0.5 * r.sum(-1).square().mean(0))),
    ("samples averaged before the ratio", lambda m, v, e: _mc()(m, v, e.mean(0, keepdim=True))),
]

KL_GRADIENT = [
    ("the reverse KL's gradient", lambda m, v: (m / v.exp(), 0.5 * (1 - (m**2 + 1) / v.exp()))),
    ("the half forgotten", lambda m, v: (m, v.exp() - 1)),
    ("2 mu", lambda m, v: (2 * m, 0.5 * (v.exp() - 1))),
    ("half of mu", lambda m, v: (m / 2, 0.5 * (v.exp() - 1))),
    ("mu squared", lambda m, v: (m**2, 0.5 * (v.exp() - 1))),
    ("half of mu squared", lambda m, v: (0.5 * m**2, 0.5 * (v.exp() - 1))),
    ("the gradient to sigma", lambda m, v: (m, _sigma(v) - 1 / _sigma(v))),
    ("the gradient to log sigma", lambda m, v: (m, v.exp() - 1.0)),
    ("the gradient to the variance", lambda m, v: (m, 0.5 * (1 - 1 / v.exp()))),
    ("1 / log_var for the log term", lambda m, v: (m, 0.5 * (v.exp() - 1 / v))),
    ("the log term's derivative as -log_var", lambda m, v: (m, 0.5 * (v.exp() - v))),
    ("-1 and log_var both kept", lambda m, v: (m, 0.5 * (v.exp() - 1 - v))),
    ("exp's derivative as v exp(v - 1)", lambda m, v: (m, 0.5 * (v * (v - 1).exp() - 1))),
    ("exp(log_var) left out", lambda m, v: (m, torch.full_like(v, -0.5))),
    ("the -1 left out", lambda m, v: (m, 0.5 * v.exp())),
    ("the -1 outside the half", lambda m, v: (m, 0.5 * v.exp() - 1)),
    ("mu squared in the second", lambda m, v: (m, 0.5 * (m**2 + v.exp() - 1))),
    ("sigma for its square", lambda m, v: (m, 0.5 * (_sigma(v) - 1))),
    ("divided by the batch", lambda m, v: (m / len(m), 0.5 * (v.exp() - 1) / len(m))),
    ("descent's sign", lambda m, v: (-m, -0.5 * (v.exp() - 1))),
    ("exchanged", lambda m, v: (0.5 * (v.exp() - 1), m)),
    ("summed over dimensions", lambda m, v: (m.sum(1), 0.5 * (v.exp() - 1).sum(1))),
    ("ones for mu", lambda m, v: (torch.ones_like(m), 0.5 * (v.exp() - 1))),
    ("times sigma, as along the path", lambda m, v: (m, 0.5 * (v.exp() - 1) * _sigma(v))),
]

BITS_PER_DIMENSION = [
    ("multiplied by log 2", lambda m, v: _kl(m, v).mean(0) * math.log(2)),
    ("log base 2 of the nats", lambda m, v: _kl(m, v).mean(0).log2()),
    ("divided by log 10", lambda m, v: _kl(m, v).mean(0) / math.log(10)),
    ("divided by log10 of 2", lambda m, v: _kl(m, v).mean(0) / math.log10(2)),
    ("log_var alone in bits", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v / math.log(2)).mean(0)),
    ("divided by 2", lambda m, v: _kl(m, v).mean(0) / 2),
    ("divided by 8", lambda m, v: _kl(m, v).mean(0) / 8),
    ("nats", lambda m, v: _kl(m, v).mean(0)),
    ("summed over the examples", lambda m, v: _kl(m, v).sum(0) / math.log(2)),
    ("over the dimensions", lambda m, v: _kl(m, v).mean(1) / math.log(2)),
    (
        "total shared among the dimensions",
        lambda m, v: (_kl(m, v).sum(1).mean() / m.shape[1] / math.log(2)).expand(m.shape[1]),
    ),
    ("KL of the mean code", lambda m, v: _kl(m.mean(0), v.mean(0)) / math.log(2)),
    ("one total", lambda m, v: _kl(m, v).sum(1).mean() / math.log(2)),
    ("divided by N - 1", lambda m, v: _kl(m, v).sum(0) / (len(m) - 1) / math.log(2)),
    ("the median example", lambda m, v: _kl(m, v).median(0).values / math.log(2)),
    ("2 to the power in place of exp", lambda m, v: 0.5 * (m**2 + 2**v - 1 - v).mean(0) / math.log(2)),
    ("log1p for the log", lambda m, v: _kl(m, v).mean(0) / math.log1p(2)),
]


def _nll(mean, x, sigma, log=None, square=None):
    d, squares = x[0].numel(), _squares(x, mean).sum(1)
    constant = log(sigma, d) if log else d * math.log(2 * math.pi * sigma**2) / 2
    return constant + (square(squares, sigma) if square else squares / (2 * sigma**2))


GAUSSIAN_NLL = [
    (
        "var=sigma in torch's loss",
        lambda m, x, s: F.gaussian_nll_loss(m, x, torch.full_like(x, s), full=True, reduction="none").flatten(1).sum(1),
    ),
    (
        "torch's loss without full=True",
        lambda m, x, s: F.gaussian_nll_loss(m, x, torch.full_like(x, s**2), reduction="none").flatten(1).sum(1),
    ),
    ("log of 2 pi sigma", lambda m, x, s: _nll(m, x, s, lambda s, d: d * math.log(2 * math.pi * s) / 2)),
    ("the log term once, not D times", lambda m, x, s: _nll(m, x, s, lambda s, d: math.log(2 * math.pi * s**2) / 2)),
    ("log sigma once, not D times", lambda m, x, s: _nll(m, x, s, lambda s, d: d * LOG_2PI / 2 + math.log(s))),
    ("half of log sigma", lambda m, x, s: _nll(m, x, s, lambda s, d: d * (LOG_2PI + math.log(s)) / 2)),
    ("2 pi without its half", lambda m, x, s: _nll(m, x, s, lambda s, d: d * (LOG_2PI + math.log(s)))),
    ("log sigma subtracted", lambda m, x, s: _nll(m, x, s, lambda s, d: d * (LOG_2PI / 2 - math.log(s)))),
    ("log base 10", lambda m, x, s: _nll(m, x, s, lambda s, d: d * math.log10(2 * math.pi * s**2) / 2)),
    ("log of pi, not 2 pi", lambda m, x, s: _nll(m, x, s, lambda s, d: d * math.log(math.pi * s**2) / 2)),
    (
        "pixels of the whole batch",
        lambda m, x, s: _nll(m, x, s, lambda s, d: x.numel() * math.log(2 * math.pi * s**2) / 2),
    ),
    ("784 written in", lambda m, x, s: _nll(m, x, s, lambda s, d: 392 * math.log(2 * math.pi * s**2))),
    (
        "x.shape[1] for the pixels",
        lambda m, x, s: _nll(m, x, s, lambda s, d: x.shape[1] * math.log(2 * math.pi * s**2) / 2),
    ),
    ("divided by sigma", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / (2 * s))),
    ("the 2 forgotten under the square", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / s**2)),
    ("divided by (2 sigma) squared", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / (2 * s) ** 2)),
    ("multiplied by sigma squared", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q * s**2 / 2)),
    ("q / 2 * sigma squared, by precedence", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / 2 * s**2)),
    ("not divided by sigma at all", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / 2)),
    ("the distance, not its square", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q.sqrt() / (2 * s**2))),
    ("subtracted", lambda m, x, s: _nll(m, x, s, square=lambda q, s: -q / (2 * s**2))),
    (
        "the error averaged over pixels",
        lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / x[0].numel() / (2 * s**2)),
    ),
    ("log-likelihood", lambda m, x, s: -_nll(m, x, s)),
    ("in bits", lambda m, x, s: _nll(m, x, s) / math.log(2)),
    ("per pixel", lambda m, x, s: _nll(m, x, s) / x[0].numel()),
    ("averaged over the batch", lambda m, x, s: _nll(m, x, s).mean()),
    ("sigma as log sigma squared", lambda m, x, s: _nll(m, x, math.exp(s / 2))),
]

BEST_SIGMA = [
    ("the variance", lambda m, x: _squares(x, m).mean()),
    ("one sigma for each image", lambda m, x: _squares(x, m).mean(1).sqrt()),
    ("the roots averaged", lambda m, x: _squares(x, m).mean(1).sqrt().mean()),
    ("the standard deviation of the residual", lambda m, x: (x - m).std()),
    ("its standard deviation without Bessel", lambda m, x: (x - m).std(unbiased=False)),
    ("the mean absolute error", lambda m, x: (x - m).abs().mean()),
    ("summed over pixels, averaged over images", lambda m, x: _squares(x, m).sum(1).mean().sqrt()),
    ("summed over images, averaged over pixels", lambda m, x: _squares(x, m).mean(1).sum().sqrt()),
    ("the norm over the batch", lambda m, x: (x - m).norm() / len(x)),
    ("the norm divided by the pixels", lambda m, x: (x - m).norm() / x[0].numel()),
    ("the norm divided by all numbers", lambda m, x: (x - m).norm() / x.numel()),
    ("divided by 2 before the root", lambda m, x: (_squares(x, m).mean() / 2).sqrt()),
    ("divided by 2 after the root", lambda m, x: _squares(x, m).mean().sqrt() / 2),
    ("divided by n - 1", lambda m, x: (_squares(x, m).sum() / (x.numel() - 1)).sqrt()),
    ("log of sigma", lambda m, x: _squares(x, m).mean().sqrt().log()),
    ("the spread of the images", lambda m, x: x.std()),
    ("the spread around the images' mean", lambda m, x: _squares(x, x.mean(0)).mean().sqrt()),
    ("the median", lambda m, x: _squares(x, m).median().sqrt()),
    ("the precision", lambda m, x: 1 / _squares(x, m).mean()),
    ("1 / sigma", lambda m, x: 1 / _squares(x, m).mean().sqrt()),
    ("a Python number", lambda m, x: _squares(x, m).mean().sqrt().item()),
    ("784 written in", lambda m, x: (_squares(x, m).sum(1).mean() / 784).sqrt()),
    ("the largest error", lambda m, x: (x - m).abs().max()),
]

EFFECTIVE_BETA = [
    ("half taken as 1 when true", lambda d, n, pm, h, w, km: (w / n if km else w) * (d if pm else 1) / (2 if h else 1)),
    ("half ignored", lambda d, n, pm, h, w, km: (w / n if km else w) * (d if pm else 1)),
    ("divided by D", lambda d, n, pm, h, w, km: (w / n if km else w) / (d if pm else 1) / (1 if h else 2)),
    ("multiplied by L", lambda d, n, pm, h, w, km: (w * n if km else w) * (d if pm else 1) / (1 if h else 2)),
    ("the KL's mean ignored", lambda d, n, pm, h, w, km: w * (d if pm else 1) / (1 if h else 2)),
    ("the pixels' mean ignored", lambda d, n, pm, h, w, km: (w / n if km else w) / (1 if h else 2)),
    ("2 for the half", lambda d, n, pm, h, w, km: (w / n if km else w) * (d if pm else 1) * (1 if h else 2)),
    ("divided by 2 always", lambda d, n, pm, h, w, km: (w / n if km else w) * (d if pm else 1) / 2),
    ("D / L always", lambda d, n, pm, h, w, km: w * d / n / (1 if h else 2)),
    ("the reciprocal", lambda d, n, pm, h, w, km: (d if pm else 1) ** -1 * (1 if h else 2) / (w / n if km else w)),
    ("the flags exchanged", lambda d, n, pm, h, w, km: (w / n if pm else w) * (d if km else 1) / (1 if h else 2)),
    ("sums and means exchanged", lambda d, n, pm, h, w, km: (w if km else w / n) * (1 if pm else d) / (1 if h else 2)),
    ("D and L exchanged", lambda d, n, pm, h, w, km: (w / d if km else w) * (n if pm else 1) / (1 if h else 2)),
    ("the weight forgotten", lambda d, n, pm, h, w, km: (1 / n if km else 1) * (d if pm else 1) / (1 if h else 2)),
    ("the root of D", lambda d, n, pm, h, w, km: (w / n if km else w) * (d**0.5 if pm else 1) / (1 if h else 2)),
]


def _entropy(p):
    return (-torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)).flatten(1)


BCE_FLOOR = [
    ("only x log x", lambda x: -torch.xlogy(x, x).flatten(1).sum(1)),
    ("only (1 - x) log (1 - x)", lambda x: -torch.xlogy(1 - x, 1 - x).flatten(1).sum(1)),
    ("in bits", lambda x: _entropy(x).sum(1) / math.log(2)),
    ("averaged over pixels", lambda x: _entropy(x).mean(1)),
    ("summed over the batch too", lambda x: _entropy(x).sum()),
    ("zero", lambda x: torch.zeros(len(x))),
    ("log 2 for every pixel", lambda x: torch.full((len(x),), x[0].numel() * math.log(2))),
    ("the sign turned", lambda x: -_entropy(x).sum(1)),
    ("x taken as logits", lambda x: _bce(x, x).sum(1)),
    ("entropy of sigmoid(x)", lambda x: _entropy(x.sigmoid()).sum(1)),
    (
        "the logs of the wrong one",
        lambda x: -(torch.xlogy(x, 1 - x) + torch.xlogy(1 - x, x)).flatten(1).clamp(-100, 100).sum(1),
    ),
    ("no treatment of 0 log 0", lambda x: -(x * x.log() + (1 - x) * (1 - x).log()).flatten(1).sum(1)),
    ("nan replaced after the sum", lambda x: (-(x * x.log() + (1 - x) * (1 - x).log()).flatten(1).sum(1)).nan_to_num()),
    ("x (1 - x), the variance", lambda x: (x * (1 - x)).flatten(1).sum(1)),
    ("the log of x only", lambda x: -x.clamp_min(1e-12).log().flatten(1).sum(1)),
    ("clamped at 0.01", lambda x: _entropy(x.clamp(0.01, 0.99)).sum(1)),
    ("of the mean pixel", lambda x: _entropy(x.flatten(1).mean(1, keepdim=True)).sum(1)),
    ("rounded pixels", lambda x: _bce(100 * (x.round() - 0.5), x).sum(1)),
    (
        "entropy of pixels normalised to sum to 1",
        lambda x: (lambda p: -torch.xlogy(p, p).sum(1))(x.flatten(1) / x.flatten(1).sum(1, keepdim=True)),
    ),
    ("log1p(x)", lambda x: -(x * x.log1p() + (1 - x) * (1 - x).log1p()).flatten(1).sum(1)),
    (
        "a constant 1e-3 within the logs",
        lambda x: -(x * (x + 1e-3).log() + (1 - x) * (1 - x + 1e-3).log()).flatten(1).sum(1),
    ),
]

BCE_FROM_LOGITS = [
    (
        "logits as probabilities",
        lambda a, x: -(torch.xlogy(x, a.clamp(1e-7, 1)) + torch.xlogy(1 - x, (1 - a).clamp(1e-7, 1))).flatten(1).sum(1),
    ),
    (
        "sigmoid, then binary_cross_entropy",
        lambda a, x: F.binary_cross_entropy(a.sigmoid(), x, reduction="none").flatten(1).sum(1),
    ),
    (
        "sigmoid, then the logs",
        lambda a, x: -(x * a.sigmoid().log() + (1 - x) * (1 - a.sigmoid()).log()).flatten(1).sum(1),
    ),
    (
        "1e-8 within the logs",
        lambda a, x: -(x * (a.sigmoid() + 1e-8).log() + (1 - x) * (1 - a.sigmoid() + 1e-8).log()).flatten(1).sum(1),
    ),
    ("sigmoid twice", lambda a, x: _bce(a.sigmoid(), x).sum(1)),
    (
        "probabilities clamped",
        lambda a, x: F.binary_cross_entropy(a.sigmoid().clamp(1e-3, 0.999), x, reduction="none").flatten(1).sum(1),
    ),
    ("logits clamped", lambda a, x: _bce(a.clamp(-10, 10), x).sum(1)),
    ("softplus(-l) - l x", lambda a, x: (F.softplus(-a) - a * x).flatten(1).sum(1)),
    ("softplus + l x", lambda a, x: (F.softplus(a) + a * x).flatten(1).sum(1)),
    ("softplus alone", lambda a, x: F.softplus(a).flatten(1).sum(1)),
    ("relu(l) - l x without the log", lambda a, x: (a.relu() - a * x).flatten(1).sum(1)),
    ("log(1 + exp l) - l x", lambda a, x: (a.exp().log1p() - a * x).flatten(1).sum(1)),
    ("softplus(l) - x", lambda a, x: (F.softplus(a) - x).flatten(1).sum(1)),
    ("only the lit pixels", lambda a, x: (x * F.softplus(-a)).flatten(1).sum(1)),
    ("only the dark pixels", lambda a, x: ((1 - x) * F.softplus(a)).flatten(1).sum(1)),
    ("x and 1 - x exchanged", lambda a, x: _bce(a, 1 - x).sum(1)),
    ("averaged over pixels", lambda a, x: _bce(a, x).mean(1)),
    ("averaged over the batch", lambda a, x: _bce(a, x).sum(1).mean()),
    ("softmax cross-entropy over pixels", lambda a, x: -(x.flatten(1) * a.flatten(1).log_softmax(1)).sum(1)),
    ("x rounded", lambda a, x: _bce(a, x.round()).sum(1)),
    ("the square for sure pixels", lambda a, x: _squares(a.sigmoid(), x).sum(1)),
    ("log-likelihood", lambda a, x: -_bce(a, x).sum(1)),
    ("the floor subtracted", lambda a, x: (_bce(a, x) - _entropy(x)).sum(1)),
    ("in bits", lambda a, x: _bce(a, x).sum(1) / math.log(2)),
    ("tanh for sigmoid", lambda a, x: _bce(2 * a, x).sum(1)),
]


def _average(z, mu, log_var, x, log_q=None, weigh=None):
    distance = (z[:, None] - mu) ** 2
    q = log_q(distance, log_var) if log_q else -0.5 * (distance / log_var.exp() + log_var).sum(2)
    return (weigh(q) if weigh else q.softmax(1)) @ x


POSTERIOR_AVERAGE = [
    ("softmax over the codes", lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: q.softmax(0))),
    ("not normalised", lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: q.exp())),
    (
        "the log densities as weights",
        lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: q / q.sum(1, keepdim=True)),
    ),
    ("the nearest image", lambda z, m, v, x: x[_average(z, m, v, torch.eye(len(x), dtype=x.dtype)).argmax(1)]),
    ("equal weights", lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: torch.ones_like(q) / q.shape[1])),
    ("the half forgotten", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -(d / v.exp() + v).sum(2))),
    ("log_var forgotten", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d / v.exp()).sum(2))),
    ("log_var added", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d / v.exp() - v).sum(2))),
    ("divided by sigma", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d / _sigma(v) + v).sum(2))),
    ("times the variance", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d * v.exp() + v).sum(2))),
    ("divided by log_var", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d / v + v).sum(2))),
    ("Euclidean distance", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * d.sum(2) + 0 * v.sum())),
    (
        "distance, not its square",
        lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -(d.sqrt() / _sigma(v) + v / 2).sum(2)),
    ),
    (
        "the mean over dimensions",
        lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d / v.exp() + v).mean(2)),
    ),
    ("the sign", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: 0.5 * (d / v.exp() + v).sum(2))),
    ("Normal with the variance as scale", lambda z, m, v, x: _average(z, m, 2 * v, x)),
    (
        "weighted by the prior too",
        lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: (q - 0.5 * (m**2).sum(1)).softmax(1)),
    ),
    ("one variance for all images", lambda z, m, v, x: _average(z, m, v.mean(0).expand_as(v), x)),
    ("softmax, then its log", lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: q.log_softmax(1))),
    (
        "densities without the largest subtracted",
        lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: q.exp() / q.exp().sum(1, keepdim=True)),
    ),
]

NEGATIVE_ELBO = [
    ("the KL averaged over the batch", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(m, v).sum(1).mean()),
    ("the KL summed over the batch", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(m, v).sum()),
    ("the error averaged over the batch", lambda a, x, m, v: _bce(a, x).sum(1).mean() + _kl(m, v).sum(1)),
    ("the KL averaged over dimensions", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(m, v).mean(1)),
    ("the error averaged over pixels", lambda a, x, m, v: _bce(a, x).mean(1) + _kl(m, v).sum(1)),
    ("both averaged", lambda a, x, m, v: _bce(a, x).mean(1) + _kl(m, v).mean(1)),
    ("the ELBO", lambda a, x, m, v: -_bce(a, x).sum(1) - _kl(m, v).sum(1)),
    ("the KL subtracted", lambda a, x, m, v: _bce(a, x).sum(1) - _kl(m, v).sum(1)),
    ("the KL times two", lambda a, x, m, v: _bce(a, x).sum(1) + 2 * _kl(m, v).sum(1)),
    ("the KL without -1", lambda a, x, m, v: _bce(a, x).sum(1) + (_kl(m, v) + 0.5).sum(1)),
    ("the KL with -1 once", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * ((m**2 + v.exp() - v).sum(1) - 1)),
    ("the KL with +1", lambda a, x, m, v: _bce(a, x).sum(1) + (_kl(m, v) + 1).sum(1)),
    ("log_var as log sigma", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(m, 2 * v).sum(1)),
    ("sigma for the variance", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * (m**2 + _sigma(v) - 1 - v).sum(1)),
    ("the reverse KL", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * ((m**2 + 1) / v.exp() - 1 + v).sum(1)),
    ("mu not squared", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * (m + v.exp() - 1 - v).sum(1)),
    ("squared error", lambda a, x, m, v: _squares(a.sigmoid(), x).sum(1) + _kl(m, v).sum(1)),
    ("squared error of the logits", lambda a, x, m, v: _squares(a, x).sum(1) + _kl(m, v).sum(1)),
    ("half the squared error", lambda a, x, m, v: 0.5 * _squares(a.sigmoid(), x).sum(1) + _kl(m, v).sum(1)),
    ("sigmoid twice", lambda a, x, m, v: _bce(a.sigmoid(), x).sum(1) + _kl(m, v).sum(1)),
    ("logits and x exchanged", lambda a, x, m, v: _bce(x, a.sigmoid()).sum(1) + _kl(m, v).sum(1)),
    ("no KL", lambda a, x, m, v: _bce(a, x).sum(1)),
    ("the KL alone", lambda a, x, m, v: _kl(m, v).sum(1)),
    ("a column and a row added", lambda a, x, m, v: _bce(a, x).sum(1, keepdim=True) + _kl(m, v).sum(1)),
    ("x rounded", lambda a, x, m, v: _bce(a, x.round()).sum(1) + _kl(m, v).sum(1)),
    ("divided by the pixels at the end", lambda a, x, m, v: (_bce(a, x).sum(1) + _kl(m, v).sum(1)) / x[0].numel()),
    ("mu and log_var exchanged", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(v, m).sum(1)),
    ("free bits of 0.5 for each dimension", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(m, v).clamp_min(0.5).sum(1)),
]


def _weight(log_px, z, m, v, prior=None, q=None):
    log_pz = prior(z) if prior else -0.5 * (z**2 + LOG_2PI).sum(1)
    return log_px + log_pz - (q(z, m, v) if q else -0.5 * ((z - m) ** 2 / v.exp() + v + LOG_2PI).sum(1))


LOG_WEIGHT = [
    ("sigma = exp(log_var)", lambda p, z, m, v: _weight(p, z, m, 2 * v)),
    ("log_var as sigma", lambda p, z, m, v: _weight(p, z, m, v.abs().log() * 2)),
    (
        "divided by sigma",
        lambda p, z, m, v: _weight(
            p, z, m, v, q=lambda z, m, v: -0.5 * ((z - m) ** 2 / _sigma(v) + v + LOG_2PI).sum(1)
        ),
    ),
    (
        "not divided",
        lambda p, z, m, v: _weight(p, z, m, v, q=lambda z, m, v: -0.5 * ((z - m) ** 2 + v + LOG_2PI).sum(1)),
    ),
    (
        "log_var once too often",
        lambda p, z, m, v: _weight(
            p, z, m, v, q=lambda z, m, v: -(0.5 * (z - m) ** 2 / v.exp() + v + LOG_2PI / 2).sum(1)
        ),
    ),
    (
        "log_var forgotten",
        lambda p, z, m, v: _weight(p, z, m, v, q=lambda z, m, v: -0.5 * ((z - m) ** 2 / v.exp() + LOG_2PI).sum(1)),
    ),
    (
        "log_var's sign",
        lambda p, z, m, v: _weight(p, z, m, v, q=lambda z, m, v: -0.5 * ((z - m) ** 2 / v.exp() - v + LOG_2PI).sum(1)),
    ),
    ("2 pi in q only", lambda p, z, m, v: _weight(p, z, m, v, lambda z: -0.5 * (z**2).sum(1))),
    (
        "2 pi in the prior once, not L times",
        lambda p, z, m, v: _weight(p, z, m, v, lambda z: -0.5 * ((z**2).sum(1) + LOG_2PI)),
    ),
    (
        "2 pi in neither, log_var in full",
        lambda p, z, m, v: p - 0.5 * (z**2).sum(1) + (0.5 * (z - m) ** 2 / v.exp() + v).sum(1),
    ),
    ("the prior's half forgotten", lambda p, z, m, v: _weight(p, z, m, v, lambda z: -(z**2 + LOG_2PI / 2).sum(1))),
    ("the prior added twice", lambda p, z, m, v: _weight(p, z, m, v, lambda z: -(z**2 + LOG_2PI).sum(1))),
    ("the prior at mu", lambda p, z, m, v: _weight(p, z, m, v, lambda z: -0.5 * (m**2 + LOG_2PI).sum(1))),
    (
        "q at the prior's mean",
        lambda p, z, m, v: _weight(p, z, m, v, q=lambda z, m, v: -0.5 * (z**2 / v.exp() + v + LOG_2PI).sum(1)),
    ),
    ("the KL subtracted", lambda p, z, m, v: p - _kl(m, v).sum(1)),
    ("the KL added", lambda p, z, m, v: p + _kl(m, v).sum(1)),
    ("averaged over the dimensions", lambda p, z, m, v: p + (_weight(0, z, m, v)) / z.shape[1]),
    ("the weight, not its log", lambda p, z, m, v: _weight(p, z, m, v).exp()),
    ("densities subtracted", lambda p, z, m, v: p.exp() + _weight(0, z, m, v).exp()),
    ("log_px subtracted", lambda p, z, m, v: _weight(-p, z, m, v)),
    ("log_px forgotten", lambda p, z, m, v: _weight(0 * p, z, m, v)),
    ("q forgotten", lambda p, z, m, v: p - 0.5 * (z**2 + LOG_2PI).sum(1)),
    (
        "q added",
        lambda p, z, m, v: p - 0.5 * (z**2 + LOG_2PI).sum(1) - 0.5 * ((z - m) ** 2 / v.exp() + v + LOG_2PI).sum(1),
    ),
    ("all signs turned", lambda p, z, m, v: -_weight(p, z, m, v)),
    ("summed over the batch", lambda p, z, m, v: p + _weight(0, z, m, v).sum()),
    ("normalised weights", lambda p, z, m, v: _weight(p, z, m, v).log_softmax(0)),
    (
        "the prior's mean left at mu",
        lambda p, z, m, v: _weight(p, z, m, v, lambda z: -0.5 * ((z - m) ** 2 + LOG_2PI).sum(1)),
    ),
]

IS_ACTIVE = [
    ("mean absolute deviation", lambda m, t: (m - m.mean(0)).abs().mean(0) > t),
    ("the standard deviation", lambda m, t: m.std(0) > t),
    ("the mean square, not centred", lambda m, t: (m**2).mean(0) > t),
    ("the mean's size", lambda m, t: m.mean(0).abs() > t),
    ("over the dimensions", lambda m, t: m.var(1) > t),
    ("the range", lambda m, t: m.amax(0) - m.amin(0) > t),
    ("below the threshold", lambda m, t: m.var(0) < t),
    ("the summed squares", lambda m, t: ((m - m.mean(0)) ** 2).sum(0) > t),
    ("one variance for all", lambda m, t: (m.var() > t).expand(m.shape[1])),
    ("centred on the mean of everything", lambda m, t: ((m - m.mean()) ** 2).mean(0) > t),
    ("the threshold squared", lambda m, t: m.var(0) > t**2),
    ("relative to the largest", lambda m, t: m.var(0) / m.var(0).max() > t),
    ("the share of all variance", lambda m, t: m.var(0) / m.var(0).sum() > t),
    ("the number of active ones", lambda m, t: (m.var(0) > t).sum()),
    ("the indices", lambda m, t: (m.var(0) > t).nonzero().flatten()),
    ("any image beyond the threshold", lambda m, t: (m.abs() > t).any(0)),
    ("the variances themselves", lambda m, t: m.var(0)),
    ("the median's spread", lambda m, t: ((m - m.median(0).values) ** 2).median(0).values > t),
    ("images that are active", lambda m, t: (m**2).sum(1) > t),
    ("the log of the variance", lambda m, t: m.var(0).log() > t),
]


def _icdf(levels):
    return math.sqrt(2) * torch.erfinv(2 * levels - 1)


QUANTILE_PLACES = [
    ("evenly spaced from -3 to 3", lambda n: torch.linspace(-3, 3, n)),
    ("the edges i / n", lambda n: _icdf(torch.arange(n) / n)),
    ("(i + 1) / (n + 1)", lambda n: _icdf((torch.arange(n) + 1) / (n + 1))),
    ("linspace(0, 1)", lambda n: _icdf(torch.linspace(0, 1, n))),
    ("linspace without its ends", lambda n: _icdf(torch.linspace(0, 1, n + 2)[1:-1])),
    ("linspace clipped at 0.05", lambda n: _icdf(torch.linspace(0.05, 0.95, n))),
    ("the levels themselves", lambda n: (torch.arange(n) + 0.5) / n),
    ("the cdf in place of its inverse", lambda n: torch.special.ndtr((torch.arange(n) + 0.5) / n)),
    ("i from 1", lambda n: _icdf((torch.arange(1, n + 1) + 0.5) / (n + 1))),
    ("(i + 1/2) / (n + 1)", lambda n: _icdf((torch.arange(n) + 0.5) / (n + 1))),
    ("(i + 1/2) / (n - 1)", lambda n: _icdf((torch.arange(n) + 0.5) / max(n - 1, 1))),
    ("the root of 2 forgotten", lambda n: torch.erfinv(2 * (torch.arange(n) + 0.5) / n - 1)),
    ("2 p forgotten in erfinv", lambda n: math.sqrt(2) * torch.erfinv((torch.arange(n) + 0.5) / n)),
    ("logistic quantiles", lambda n: torch.logit((torch.arange(n) + 0.5) / n)),
    (
        "the middle between the edges",
        lambda n: (lambda e: (e[:-1] + e[1:]) / 2)(_icdf(torch.linspace(1e-3, 1 - 1e-3, n + 1))),
    ),
    ("descending", lambda n: _icdf((torch.arange(n) + 0.5) / n).flip(0)),
    ("sorted random draws", lambda n: torch.randn(n).sort().values),
    ("i + 0.5 / n, by precedence", lambda n: _icdf(torch.arange(n) + 0.5 / n)),
]


def _slerp(a, b, t, angle=None, weights=None):
    cosine = F.cosine_similarity(a, b, dim=1)[:, None].clamp(-1, 1)
    w = angle(cosine) if angle else cosine.arccos()
    left, right = weights(w, t) if weights else (((1 - t) * w).sin() / w.sin(), (t * w).sin() / w.sin())
    return left * a + right * b


SLERP = [
    ("a straight line", lambda a, b, t: (1 - t) * a + t * b),
    ("a straight line, normalised", lambda a, b, t: F.normalize((1 - t) * a + t * b, dim=1)),
    (
        "a straight line with a's length",
        lambda a, b, t: F.normalize((1 - t) * a + t * b, dim=1) * a.norm(dim=1, keepdim=True),
    ),
    ("a and b exchanged", lambda a, b, t: _slerp(b, a, t)),
    ("arcsine for arccosine", lambda a, b, t: _slerp(a, b, t, torch.arcsin)),
    ("the cosine for the angle", lambda a, b, t: _slerp(a, b, t, lambda c: c)),
    ("the cosine of the batch", lambda a, b, t: _slerp(a, b, t, lambda c: c.mean().arccos().expand_as(c))),
    (
        "not divided by the sine",
        lambda a, b, t: _slerp(a, b, t, weights=lambda w, t: (((1 - t) * w).sin(), (t * w).sin())),
    ),
    (
        "divided by the angle",
        lambda a, b, t: _slerp(a, b, t, weights=lambda w, t: (((1 - t) * w).sin() / w, (t * w).sin() / w)),
    ),
    (
        "cosines for sines",
        lambda a, b, t: _slerp(a, b, t, weights=lambda w, t: (((1 - t) * w).cos() / w.cos(), (t * w).cos() / w.cos())),
    ),
    ("t outside the sine", lambda a, b, t: _slerp(a, b, t, weights=lambda w, t: (1 - t * w.sin(), t * w.sin()))),
    (
        "sin(w) - sin(t w) for the first",
        lambda a, b, t: _slerp(
            a, b, t, weights=lambda w, t: ((w.sin() - (t * w).sin()) / w.sin(), (t * w).sin() / w.sin())
        ),
    ),
    ("a quarter circle always", lambda a, b, t: _slerp(a, b, t, lambda c: torch.full_like(c, math.pi / 2))),
    ("the angle in degrees", lambda a, b, t: _slerp(a, b, t, lambda c: c.arccos().rad2deg())),
    (
        "the dot product, not divided by lengths",
        lambda a, b, t: _slerp(a, b, t, lambda c: (a * b).sum(1, keepdim=True).clamp(-1, 1).arccos()),
    ),
    ("unit vectors", lambda a, b, t: _slerp(F.normalize(a, dim=1), F.normalize(b, dim=1), t)),
    (
        "unit vectors times a's length",
        lambda a, b, t: _slerp(F.normalize(a, dim=1), F.normalize(b, dim=1), t) * a.norm(dim=1, keepdim=True),
    ),
    (
        "norms over the batch",
        lambda a, b, t: _slerp(a, b, t, lambda c: ((a * b).sum(1, keepdim=True) / a.norm() / b.norm()).arccos()),
    ),
    ("half of the angle", lambda a, b, t: _slerp(a, b, t, lambda c: c.arccos() / 2)),
    ("weights sqrt(1 - t), sqrt(t)", lambda a, b, t: math.sqrt(1 - t) * a + math.sqrt(t) * b),
    ("cos and sin of t pi / 2", lambda a, b, t: math.cos(t * math.pi / 2) * a + math.sin(t * math.pi / 2) * b),
    ("one minus the cosine", lambda a, b, t: _slerp(a, b, t, lambda c: 1 - c)),
]

WITH_LABEL = [
    ("labels first", lambda v, y, c: torch.cat([F.one_hot(y, c).to(v.dtype), v], -1)),
    ("the number itself", lambda v, y, c: torch.cat([v, y[..., None].to(v.dtype)], -1)),
    ("the number divided by C", lambda v, y, c: torch.cat([v, y[..., None].to(v.dtype) / c], -1)),
    ("as many classes as occur", lambda v, y, c: torch.cat([v, F.one_hot(y).to(v.dtype)], -1)),
    ("10 written in", lambda v, y, c: torch.cat([v, F.one_hot(y, 10).to(v.dtype)], -1)),
    ("one class too many", lambda v, y, c: torch.cat([v, F.one_hot(y, c + 1).to(v.dtype)], -1)),
    ("one-hot added", lambda v, y, c: v + F.one_hot(y, c).to(v.dtype).sum(-1, keepdim=True)),
    ("all ones", lambda v, y, c: torch.cat([v, torch.ones(*y.shape, c, dtype=v.dtype)], -1)),
    (
        "the first label for all",
        lambda v, y, c: torch.cat([v, F.one_hot(y, c).to(v.dtype)[:1].expand(*y.shape, c)], -1),
    ),
    ("one-hot turned round", lambda v, y, c: torch.cat([v, 1 - F.one_hot(y, c).to(v.dtype)], -1)),
    ("one-hot scaled to sum to C", lambda v, y, c: torch.cat([v, c * F.one_hot(y, c).to(v.dtype)], -1)),
    ("integers: values truncated", lambda v, y, c: torch.cat([v.long(), F.one_hot(y, c)], -1)),
    ("label counted from 1", lambda v, y, c: torch.cat([v, F.one_hot((y + 1) % c, c).to(v.dtype)], -1)),
    ("dim=1", lambda v, y, c: torch.cat([v, F.one_hot(y, c).to(v.dtype)], 1)),
    ("counting backwards", lambda v, y, c: torch.cat([v, F.one_hot(c - 1 - y, c).to(v.dtype)], -1)),
    ("thermometer code", lambda v, y, c: torch.cat([v, (torch.arange(c) <= y[..., None]).to(v.dtype)], -1)),
    ("softmax of the one-hot", lambda v, y, c: torch.cat([v, F.one_hot(y, c).to(v.dtype).softmax(-1)], -1)),
    ("the label twice", lambda v, y, c: torch.cat([v] + 2 * [F.one_hot(y, c).to(v.dtype)], -1)),
    ("the one-hot alone", lambda v, y, c: F.one_hot(y, c).to(v.dtype)),
]


def _moments(m, v, mean=None, between=None, within=None):
    offset = m - m.mean(0)
    spread = between(m, offset) if between else offset.T @ offset / len(m)
    return (mean(m) if mean else m.mean(0)), spread + (within(v) if within else torch.diag(v.exp().mean(0)))


AGGREGATE = [
    ("the spread of the means alone", lambda m, v: _moments(m, v, within=lambda v: 0.0)),
    ("the widths alone", lambda m, v: _moments(m, v, between=lambda m, o: 0.0)),
    ("divided by N - 1", lambda m, v: _moments(m, v, between=lambda m, o: torch.cov(m.T))),
    ("not centred", lambda m, v: _moments(m, v, between=lambda m, o: m.T @ m / len(m))),
    ("the sum of products", lambda m, v: _moments(m, v, between=lambda m, o: o.T @ o)),
    ("divided by L", lambda m, v: _moments(m, v, between=lambda m, o: o.T @ o / m.shape[1])),
    (
        "variances only, no covariances",
        lambda m, v: _moments(m, v, between=lambda m, o: torch.diag(o.square().mean(0))),
    ),
    ("standard deviations", lambda m, v: _moments(m, v, within=lambda v: torch.diag(_sigma(v).mean(0)))),
    ("the mean sigma squared", lambda m, v: _moments(m, v, within=lambda v: torch.diag(_sigma(v).mean(0) ** 2))),
    ("exp of the mean log_var", lambda m, v: _moments(m, v, within=lambda v: torch.diag(v.mean(0).exp()))),
    ("the mean log_var", lambda m, v: _moments(m, v, within=lambda v: torch.diag(v.mean(0)))),
    ("variances summed", lambda m, v: _moments(m, v, within=lambda v: torch.diag(v.exp().sum(0)))),
    (
        "variances divided by N once more",
        lambda m, v: _moments(m, v, within=lambda v: torch.diag(v.exp().mean(0)) / len(v)),
    ),
    ("variances added to every entry", lambda m, v: _moments(m, v, within=lambda v: v.exp().mean(0))),
    (
        "one average variance for all",
        lambda m, v: _moments(m, v, within=lambda v: v.exp().mean() * torch.eye(v.shape[1], dtype=v.dtype)),
    ),
    ("the identity for the widths", lambda m, v: _moments(m, v, within=lambda v: torch.eye(v.shape[1], dtype=v.dtype))),
    ("the widths subtracted", lambda m, v: _moments(m, v, within=lambda v: -torch.diag(v.exp().mean(0)))),
    ("the correlation", lambda m, v: _moments(m, v, between=lambda m, o: torch.corrcoef(m.T))),
    ("precision-weighted mean", lambda m, v: _moments(m, v, lambda m: (m / v.exp()).sum(0) / (1 / v.exp()).sum(0))),
    (
        "the product of the Gaussians",
        lambda m, v: ((m / v.exp()).sum(0) / (1 / v.exp()).sum(0), torch.diag(1 / (1 / v.exp()).sum(0))),
    ),
    ("the median", lambda m, v: _moments(m, v, lambda m: m.median(0).values)),
    ("the mean over dimensions", lambda m, v: _moments(m, v, lambda m: m.mean(1))),
    ("a mean of zero", lambda m, v: _moments(m, v, lambda m: 0 * m.mean(0))),
    ("only the diagonal returned", lambda m, v: (m.mean(0), m.var(0, unbiased=False) + v.exp().mean(0))),
    ("the covariance inverted", lambda m, v: (m.mean(0), torch.linalg.inv(_moments(m, v)[1]))),
    ("N by N", lambda m, v: (m.mean(0), (m - m.mean(0)) @ (m - m.mean(0)).T)),
]


def _kl_p(m, v, n, w, square=None, ratio=None, logs=None, one=1):
    return 0.5 * (
        (square(m - n, v, w) if square else (m - n) ** 2 / w.exp())
        + (ratio(v, w) if ratio else (v - w).exp())
        - one
        - (logs(v, w) if logs else v - w)
    ).sum(1)


KL_TO_PRIOR = [
    ("p and q exchanged", lambda m, v, n, w: _kl_p(n, w, m, v)),
    ("the prior's variance ignored", lambda m, v, n, w: _kl(m - n, v).sum(1)),
    ("the prior ignored", lambda m, v, n, w: _kl(m, v).sum(1)),
    ("the KLs subtracted", lambda m, v, n, w: (_kl(m, v) - _kl(n, w)).sum(1)),
    ("log_vars subtracted for both, distance undivided", lambda m, v, n, w: _kl(m - n, v - w).sum(1)),
    ("the distance over q's variance", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: d**2 / v.exp())),
    ("the distance over sigma_p", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: d**2 / _sigma(w))),
    ("the distance times the prior's variance", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: d**2 * w.exp())),
    ("the distance not squared", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: d / w.exp())),
    ("the absolute distance", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: d.abs() / w.exp())),
    ("means' squares subtracted", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: (m**2 - n**2) / w.exp())),
    ("means added", lambda m, v, n, w: _kl_p(m, v, -n, w)),
    ("the ratio turned", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: (w - v).exp())),
    ("sigmas' ratio", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: (0.5 * (v - w)).exp())),
    ("the variances' difference", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: v.exp() - w.exp())),
    ("the quotient of log_vars", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: v / w)),
    ("q's variance undivided", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: v.exp())),
    ("the logs' sign", lambda m, v, n, w: _kl_p(m, v, n, w, logs=lambda v, w: w - v)),
    ("the prior's log_var forgotten", lambda m, v, n, w: _kl_p(m, v, n, w, logs=lambda v, w: v)),
    ("logs of sigmas", lambda m, v, n, w: _kl_p(m, v, n, w, logs=lambda v, w: 0.5 * (v - w))),
    ("logs added", lambda m, v, n, w: _kl_p(m, v, n, w, logs=lambda v, w: v + w)),
    ("log_vars as log sigmas", lambda m, v, n, w: _kl_p(m, 2 * v, n, 2 * w)),
    ("the 1 forgotten", lambda m, v, n, w: _kl_p(m, v, n, w, one=0)),
    ("+1", lambda m, v, n, w: _kl_p(m, v, n, w, one=-1)),
    ("the half forgotten", lambda m, v, n, w: 2 * _kl_p(m, v, n, w)),
    ("averaged over dimensions", lambda m, v, n, w: _kl_p(m, v, n, w) / m.shape[1]),
    ("symmetrised", lambda m, v, n, w: 0.5 * (_kl_p(m, v, n, w) + _kl_p(n, w, m, v))),
    ("one prior for the batch", lambda m, v, n, w: _kl_p(m, v, n[:1], w[:1])),
    ("the prior's mean over the batch", lambda m, v, n, w: _kl_p(m, v, n.mean(0), w.mean(0))),
]

SAME_STYLE = [
    ("sigma = exp(log_var)", lambda z, m, v, n, w: n + w.exp() * (z - m) / v.exp()),
    ("old and new exchanged", lambda z, m, v, n, w: m + _sigma(v) * (z - n) / _sigma(w)),
    ("scales exchanged", lambda z, m, v, n, w: n + _sigma(v) * (z - m) / _sigma(w)),
    ("means exchanged", lambda z, m, v, n, w: m + _sigma(w) * (z - n) / _sigma(v)),
    ("only the means moved", lambda z, m, v, n, w: z - m + n),
    ("only the noise", lambda z, m, v, n, w: (z - m) / _sigma(v)),
    ("not standardised", lambda z, m, v, n, w: n + _sigma(w) * (z - m)),
    ("not scaled anew", lambda z, m, v, n, w: n + (z - m) / _sigma(v)),
    ("z not centred", lambda z, m, v, n, w: n + _sigma(w) * z / _sigma(v)),
    ("z taken as noise", lambda z, m, v, n, w: n + _sigma(w) * z),
    ("multiplied by both", lambda z, m, v, n, w: n + _sigma(w) * (z - m) * _sigma(v)),
    ("log_vars divided", lambda z, m, v, n, w: n + w / v * (z - m)),
    ("log_vars subtracted, no exp", lambda z, m, v, n, w: n + 0.5 * (w - v) * (z - m)),
    ("the exponent's half forgotten once", lambda z, m, v, n, w: n + w.exp() * (z - m) / _sigma(v)),
    ("the new mean scaled too", lambda z, m, v, n, w: (n + (z - m) / _sigma(v)) * _sigma(w)),
    ("the old mean divided too", lambda z, m, v, n, w: n + _sigma(w) * (z / _sigma(v) - m)),
    ("half way", lambda z, m, v, n, w: 0.5 * (z + n + _sigma(w) * (z - m) / _sigma(v))),
    ("the new mean for all", lambda z, m, v, n, w: n),
    ("precedence: only mu divided", lambda z, m, v, n, w: n + _sigma(w) * (z - m / _sigma(v))),
    ("the batch's own mean and deviation", lambda z, m, v, n, w: n + _sigma(w) * (z - z.mean(0)) / z.std(0)),
    ("new noise", lambda z, m, v, n, w: n + _sigma(w) * torch.randn_like(z)),
]

HEALTHY_LOSS = [
    ("a loss for each image", lambda a, m, v, x: _bce(a, x).sum(1) + _kl(m, v).sum(1)),
    ("averaged over pixels too", lambda a, m, v, x: _bce(a, x).mean() + _kl(m, v).sum(1).mean()),
    ("summed over the batch", lambda a, m, v, x: _bce(a, x).sum() + _kl(m, v).sum()),
    ("the KL summed over the batch", lambda a, m, v, x: _bce(a, x).sum(1).mean() + _kl(m, v).sum()),
    ("the KL averaged over all", lambda a, m, v, x: _bce(a, x).sum(1).mean() + _kl(m, v).mean()),
    ("squared error", lambda a, m, v, x: _squares(a.sigmoid(), x).sum(1).mean() + _kl(m, v).sum(1).mean()),
    ("the KL subtracted", lambda a, m, v, x: _bce(a, x).sum(1).mean() - _kl(m, v).sum(1).mean()),
    ("the KL with -1 once", lambda a, m, v, x: (_bce(a, x).sum(1) + 0.5 * ((m**2 + v.exp() - v).sum(1) - 1)).mean()),
    ("the KL of the mean code", lambda a, m, v, x: _bce(a, x).sum(1).mean() + _kl(m.mean(0), v.mean(0)).sum()),
    ("log_var as log sigma", lambda a, m, v, x: (_bce(a, x).sum(1) + _kl(m, 2 * v).sum(1)).mean()),
    (
        "the sum of both divided by the pixels",
        lambda a, m, v, x: (_bce(a, x).sum(1) + _kl(m, v).sum(1)).mean() / x.shape[1],
    ),
    ("sigmoid twice", lambda a, m, v, x: (_bce(a.sigmoid(), x).sum(1) + _kl(m, v).sum(1)).mean()),
    ("no KL", lambda a, m, v, x: _bce(a, x).sum(1).mean()),
    ("mu's part only", lambda a, m, v, x: (_bce(a, x).sum(1) + 0.5 * (m**2).sum(1)).mean()),
    ("log_var's part only", lambda a, m, v, x: (_bce(a, x).sum(1) + _kl(0 * m, v).sum(1)).mean()),
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
    score_function_gradient=SCORE_FUNCTION_GRADIENT,
    leave_one_out=LEAVE_ONE_OUT,
    reparameterize=REPARAMETERIZE,
    pathwise_gradient=PATHWISE_GRADIENT,
    score_function_loss=SCORE_FUNCTION_LOSS,
    gaussian_kl=GAUSSIAN_KL,
    gaussian_kl_full=GAUSSIAN_KL_FULL,
    kl_monte_carlo=KL_MONTE_CARLO,
    kl_gradient=KL_GRADIENT,
    bits_per_dimension=BITS_PER_DIMENSION,
    gaussian_nll=GAUSSIAN_NLL,
    best_sigma=BEST_SIGMA,
    effective_beta=EFFECTIVE_BETA,
    bce_floor=BCE_FLOOR,
    bce_from_logits=BCE_FROM_LOGITS,
    posterior_average=POSTERIOR_AVERAGE,
    negative_elbo=NEGATIVE_ELBO,
    log_weight=LOG_WEIGHT,
    is_active=IS_ACTIVE,
    quantile_places=QUANTILE_PLACES,
    slerp=SLERP,
    with_label=WITH_LABEL,
    aggregate=AGGREGATE,
    kl_to_prior=KL_TO_PRIOR,
    same_style=SAME_STYLE,
    healthy_loss=HEALTHY_LOSS,
)
