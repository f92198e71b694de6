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
    ("the mean times the size of the whole batch", lambda x, r: _squares(x, r).mean(1) * x.numel()),
    ("the mean times the batch size", lambda x, r: _squares(x, r).mean(1) * len(x)),
    ("all pairs of images", lambda x, r: torch.cdist(x.flatten(1), r.flatten(1)) ** 2),
    ("each image against the mean reconstruction, summed", lambda x, r: _squares(x, r.mean(0)).sum(1)),
    ("the first image against every reconstruction", lambda x, r: _squares(x[:1], r).sum(1)),
    ("root mean square error", lambda x, r: _squares(x, r).mean(1).sqrt()),
    ("pixels from 0 to 255", lambda x, r: _squares(255 * x, 255 * r).sum(1)),
]

PCA_RECONSTRUCT = [
    ("the first component only", lambda x, c, m: m + (x - m) @ c[:1].T @ c[:1]),
    ("the mean added twice", lambda x, c, m: 2 * m + (x - m) @ c.T @ c),
    ("the mean subtracted with the wrong sign", lambda x, c, m: (x + m) @ c.T @ c - m),
]

SAMPLE_GAUSSIAN = [
    ("the mean scaled too", lambda m, c, e: (m + e) @ torch.linalg.cholesky(c).T),
    ("one draw for all rows", lambda m, c, e: (m + e[:1] @ torch.linalg.cholesky(c).T).expand_as(e)),
    ("the noise centred first", lambda m, c, e: m + (e - e.mean(0)) @ torch.linalg.cholesky(c).T),
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
    ("clamped to [-1, 1]", lambda f, x, n: _squares(f((x + n).clamp(-1, 1)), x).sum(1).mean()),
    ("half the error", lambda f, x, n: 0.5 * _squares(f((x + n).clamp(0, 1)), x).sum(1).mean()),
    ("summed over the batch, divided by the pixels", lambda f, x, n: _squares(f((x + n).clamp(0, 1)), x).mean(1).sum()),
    ("averaged, then times 784", lambda f, x, n: _squares(f((x + n).clamp(0, 1)), x).mean() * 784),
]

LOG_MEAN_EXP = [
    ("log of the batch size", lambda w: w.logsumexp(0) - math.log(w.shape[1])),
    ("log of all entries", lambda w: w.logsumexp(0) - math.log(w.numel())),
    ("divided by log S", lambda w: w.logsumexp(0) / math.log(len(w))),
    ("log S added", lambda w: w.logsumexp(0) + math.log(len(w))),
    ("base 2", lambda w: (w.logsumexp(0) - math.log(len(w))) / math.log(2)),
    ("base 10 for the S only", lambda w: w.logsumexp(0) - math.log10(len(w))),
    ("log of S - 1", lambda w: w.logsumexp(0) - math.log(len(w) - 1)),
    ("log-softmax, averaged", lambda w: w.log_softmax(0).mean(0)),
    ("the maximum added twice", lambda w: 2 * w.amax(0) + (w - w.amax(0)).exp().mean(0).log()),
    ("the sign turned", lambda w: math.log(len(w)) - w.logsumexp(0)),
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
    ("the constant subtracted", _distortion_and_rate(log=lambda s, d: -d * math.log(2 * math.pi * s**2))),
    ("log base 10", _distortion_and_rate(log=lambda s, d: d * math.log10(2 * math.pi * s**2))),
    ("the spread subtracted", _distortion_and_rate(trace=lambda v, W: -(v @ W.square().sum(0)))),
    ("the spread averaged over the batch", _distortion_and_rate(trace=lambda v, W: v.mean(0) @ W.square().sum(0))),
    ("b forgotten", _bias_forgotten),
    ("the rate with sigma for sigma squared", _distortion_and_rate(rate=lambda m, v: _kl(m, v / 2).sum(1))),
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
    ("W'W not divided by sigma squared", _posterior(lambda W, s: _eye(W) + W.T @ W)),
    ("W'W divided by sigma", _posterior(lambda W, s: _eye(W) + W.T @ W / s)),
    ("W'W times sigma squared", _posterior(lambda W, s: _eye(W) + W.T @ W * s**2)),
    ("sigma squared I + W'W taken as the precision", _posterior(lambda W, s: s**2 * _eye(W) + W.T @ W)),
    ("prior subtracted", _posterior(lambda W, s: W.T @ W / s**2 - _eye(W))),
    ("only the diagonal of W'W", _posterior(lambda W, s: torch.diag(torch.diag(_eye(W) + W.T @ W / s**2)))),
    ("one for every entry of the identity", _posterior(lambda W, s: 1 + W.T @ W / s**2)),
    ("b added", _posterior(mean=lambda x, W, b, s, c: (x + b) @ W @ c / s**2)),
    ("the covariance inverted once more in the mean", _posterior(mean=lambda x, W, b, s, c: (x - b) @ W @ c.inverse())),
    ("the marginal of x for the posterior of z", _covariance_of_x),
]


def _groups(log_w, k):
    return log_w.reshape(-1, k, log_w.shape[1])


MULTI_SAMPLE_BOUND = [
    ("log of the number of groups", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(len(w) // k)).mean(0)),
    ("only the last group", lambda w, k: w[-k:].logsumexp(0) - math.log(k)),
    ("divided by k", lambda w, k: (_groups(w, k).logsumexp(1) / k).mean(0)),
    ("the groups summed", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(k)).sum(0)),
    ("the best group", lambda w, k: (_groups(w, k).logsumexp(1) - math.log(k)).amax(0)),
    ("reshaped over the batch", lambda w, k: (w.reshape(w.shape[1], -1, k).logsumexp(2) - math.log(k)).mean(1)),
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
    ("the mean of all eigenvalues", _fit(lambda v, left, n: v.mean() - 0 * left[0], lambda k, s: (k - s).abs().sqrt())),
    ("divided by D - L - 1", _fit(lambda v, left, n: left.sum() / (len(left) - 1), lambda k, s: (k - s).abs().sqrt())),
    ("the root of each apart", _fit(scale=lambda k, s: k.sqrt() - s.sqrt())),
    ("the directions of smallest variance", _fit(pick=lambda V, n: V[:, :n])),
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
    ("not divided by the variance", _score(lambda e, s, v: e * s)),
    ("divided by sigma to the fourth", _score(lambda e, s, v: e / s**3)),
    ("log_var read as sigma squared", lambda f, z, m, v: _score()(f, z, m, v.abs().log())),
    ("divided by log_var", _score(lambda e, s, v: e * s / v)),
    ("the sign of log_var's score", _score(log_var=lambda e, s, v: 0.5 * (1 - e**2))),
    ("the log term's derivative taken as -1", _score(log_var=lambda e, s, v: 0.5 * e**2 - 1)),
    ("z for z - mu", lambda f, z, m, v: _score()(f, z, 0 * m, v)),
    ("f centred", lambda f, z, m, v: _score()(f - f.mean(), z, m, v)),
    ("the mean of f for every sample", lambda f, z, m, v: _score()(f.mean().expand(len(f)), z, m, v)),
    ("log q for its gradient", lambda f, z, m, v: (f[:, None] * -0.5 * ((z - m) ** 2 / v.exp() + v),) * 2),
    ("summed over the dimensions", lambda f, z, m, v: tuple(g.sum(1) for g in _score()(f, z, m, v))),
    ("the pair stacked along the dimensions", lambda f, z, m, v: torch.cat(_score()(f, z, m, v), dim=1)),
]


def _loo(f, scores, baseline):
    return ((f - baseline)[:, None] * scores).mean(0)


LEAVE_ONE_OUT = [
    ("the scores centred too", lambda f, s: ((f - f.mean())[:, None] * (s - s.mean(0))).mean(0)),
    ("divided by K - 1 without leaving out", lambda f, s: _loo(f, s, f.sum() / (len(f) - 1))),
    ("the mean minus f", lambda f, s: _loo(f, s, f.mean() - f)),
    ("the baseline alone", lambda f, s: (((f.sum() - f) / (len(f) - 1))[:, None] * s).mean(0)),
    ("the next sample as the baseline", lambda f, s: _loo(f, s, f.roll(1))),
    ("standardised f", lambda f, s: _loo((f - f.mean()) / f.std(), s, 0)),
    ("averages multiplied", lambda f, s: f.mean() * s.mean(0)),
    ("a baseline of each score", lambda f, s: (f[:, None] * s - (f[:, None] * s).mean(0)).mean(0)),
    ("baseline of the scores left out", lambda f, s: (f[:, None] * (s.sum(0) - s) / (len(f) - 1)).mean(0)),
    ("averaged over the dimensions", lambda f, s: ((f - (f.sum() - f) / (len(f) - 1))[:, None] * s).mean(1)),
]

REPARAMETERIZE = [
    ("the root of log_var", lambda m, v, e: m + v.abs().sqrt() * e),
    ("softplus for exp", lambda m, v, e: m + F.softplus(v) * e),
    ("mu multiplied by the noise", lambda m, v, e: m * e + _sigma(v)),
    ("sigma added to the noise", lambda m, v, e: m + _sigma(v) + e),
    ("sigma detached", lambda m, v, e: m + _sigma(v).detach() * e),
    ("mu detached", lambda m, v, e: m.detach() + _sigma(v) * e),
    ("noise of its own", lambda m, v, e: m + _sigma(v) * torch.randn_like(m)),
    ("noise from Normal(mu, sigma), in place of eps", lambda m, v, e: torch.normal(m, _sigma(v))),
    ("base 2", lambda m, v, e: m + 2 ** (0.5 * v) * e),
    ("the noise itself changed in place", lambda m, v, e: e.mul_(_sigma(v)).add_(m)),
]


def _path(df, mu, log_var, eps, scale=None, sigma=_sigma):
    slope = df(mu + sigma(log_var) * eps)
    return slope, slope * (scale(_sigma(log_var), eps) if scale else 0.5 * _sigma(log_var) * eps)


PATHWISE_GRADIENT = [
    ("without sigma", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 0.5 * e)),
    ("2 for the half", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 2 * s * e)),
    ("the variance for sigma", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: 0.5 * s**2 * e)),
    ("z with sigma = exp(log_var)", lambda df, m, v, e: _path(df, m, v, e, sigma=torch.exp)),
    ("z with log_var for sigma", lambda df, m, v, e: _path(df, m, v, e, sigma=lambda v: v)),
    ("z without the noise's scale", lambda df, m, v, e: _path(df, m, v, e, sigma=torch.ones_like)),
    (
        "z - mu forgotten: z / 2",
        lambda df, m, v, e: (_path(df, m, v, e)[0], _path(df, m, v, e)[0] * 0.5 * (m + _sigma(v) * e)),
    ),
    ("the sign of the second", lambda df, m, v, e: _path(df, m, v, e, lambda s, e: -0.5 * s * e)),
]

SCORE_FUNCTION_LOSS = [
    ("a column of weights against a row of log q", lambda f, q, b: ((f - b).detach()[:, None] * q).mean()),
    ("one loss for each sample", lambda f, q, b: (f - b).detach() * q),
    ("all detached", lambda f, q, b: ((f - b) * q).mean().detach()),
    ("the baseline multiplied", lambda f, q, b: ((f * b).detach() * q).mean()),
    ("f added to the loss", lambda f, q, b: ((f - b).detach() * q + f).mean()),
    ("f centred besides", lambda f, q, b: ((f - b - (f - b).mean()).detach() * q).mean()),
    ("the mean of the baseline for each", lambda f, q, b: ((f - b.mean()).detach() * q).mean()),
    ("the absolute advantage", lambda f, q, b: ((f - b).abs().detach() * q).mean()),
]

GAUSSIAN_KL = [
    ("-1 outside the sum", lambda m, v: 0.5 * ((m**2 + v.exp() - v).sum(1) - 1)),
    ("-1 outside the half", lambda m, v: (0.5 * (m**2 + v.exp() - v) - 1).sum(1)),
    ("+1 for -1", lambda m, v: 0.5 * (m**2 + v.exp() + 1 - v).sum(1)),
    ("the square of the summed mu", lambda m, v: 0.5 * (m.sum(1) ** 2 + (v.exp() - 1 - v).sum(1))),
    ("log_var as the variance", lambda m, v: 0.5 * (m**2 + v - 1 - v.abs().log()).sum(1)),
    ("log of log_var", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v.abs().log()).sum(1)),
    ("log sigma in the last term", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v / 2).sum(1)),
    ("the cross-entropy only", lambda m, v: 0.5 * (m**2 + v.exp() + LOG_2PI).sum(1)),
    ("the batch averaged", lambda m, v: _kl(m, v).mean(0)),
    ("in bits", lambda m, v: _kl(m, v).sum(1) / math.log(2)),
    ("divided by the batch size", lambda m, v: _kl(m, v).sum(1) / len(m)),
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
    (
        "half the log determinants once more",
        lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: (T.logdet() - S.logdet()) / 2),
    ),
    ("log base 2", lambda m, S, n, T: _full(m, S, n, T, logs=lambda S, T: T.det().log2() - S.det().log2())),
    ("entries divided, not the inverse", lambda m, S, n, T: _full(m, S, n, T, lambda S, T: (S / T).trace())),
    ("the product summed, not its trace", lambda m, S, n, T: _full(m, S, n, T, lambda S, T: (T.inverse() @ S).sum())),
    ("the means added", lambda m, S, n, T: _full(m, S, -n, T)),
    ("L squared, as len of the flat matrix", lambda m, S, n, T: _full(m, S, n, T, dims=S.numel())),
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
    ("mu left out of z", _mc(z=lambda m, v, e: _sigma(v) * e)),
    ("z in place of eps in log q", _mc(lambda z, m, v, e: -0.5 * (LOG_2PI + v + z**2))),
    ("2 pi in log q only", _mc(log_p=lambda z: -0.5 * z**2)),
    ("the half forgotten in log p", _mc(log_p=lambda z: -LOG_2PI / 2 - z**2)),
    ("log_var added, not subtracted", _mc(lambda z, m, v, e: -0.5 * (LOG_2PI - v + e**2))),
    ("only the first sample", _mc(reduce=lambda r: r[0].sum(-1))),
    ("the log of the mean ratio", _mc(reduce=lambda r: r.sum(-1).logsumexp(0) - math.log(len(r)))),
    ("samples averaged before the ratio", lambda m, v, e: _mc()(m, v, e.mean(0, keepdim=True))),
]

KL_GRADIENT = [
    ("the reverse KL's gradient", lambda m, v: (m / v.exp(), 0.5 * (1 - (m**2 + 1) / v.exp()))),
    ("mu squared", lambda m, v: (m**2, 0.5 * (v.exp() - 1))),
    ("half of mu squared", lambda m, v: (0.5 * m**2, 0.5 * (v.exp() - 1))),
    ("1 / log_var for the log term", lambda m, v: (m, 0.5 * (v.exp() - 1 / v))),
    ("-1 and log_var both kept", lambda m, v: (m, 0.5 * (v.exp() - 1 - v))),
    ("exp's derivative as v exp(v - 1)", lambda m, v: (m, 0.5 * (v * (v - 1).exp() - 1))),
    ("the -1 outside the half", lambda m, v: (m, 0.5 * v.exp() - 1)),
    ("mu squared in the second", lambda m, v: (m, 0.5 * (m**2 + v.exp() - 1))),
    ("summed over dimensions", lambda m, v: (m.sum(1), 0.5 * (v.exp() - 1).sum(1))),
]

BITS_PER_DIMENSION = [
    ("log base 2 of the nats", lambda m, v: _kl(m, v).mean(0).log2()),
    ("divided by log10 of 2", lambda m, v: _kl(m, v).mean(0) / math.log10(2)),
    (
        "total shared among the dimensions",
        lambda m, v: (_kl(m, v).sum(1).mean() / m.shape[1] / math.log(2)).expand(m.shape[1]),
    ),
    ("divided by N - 1", lambda m, v: _kl(m, v).sum(0) / (len(m) - 1) / math.log(2)),
    ("2 to the power in place of exp", lambda m, v: 0.5 * (m**2 + 2**v - 1 - v).mean(0) / math.log(2)),
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
    ("log sigma subtracted", lambda m, x, s: _nll(m, x, s, lambda s, d: d * (LOG_2PI / 2 - math.log(s)))),
    ("log base 10", lambda m, x, s: _nll(m, x, s, lambda s, d: d * math.log10(2 * math.pi * s**2) / 2)),
    (
        "pixels of the whole batch",
        lambda m, x, s: _nll(m, x, s, lambda s, d: x.numel() * math.log(2 * math.pi * s**2) / 2),
    ),
    (
        "x.shape[1] for the pixels",
        lambda m, x, s: _nll(m, x, s, lambda s, d: x.shape[1] * math.log(2 * math.pi * s**2) / 2),
    ),
    ("divided by (2 sigma) squared", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / (2 * s) ** 2)),
    ("q / 2 * sigma squared, by precedence", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / 2 * s**2)),
    ("not divided by sigma at all", lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / 2)),
    ("subtracted", lambda m, x, s: _nll(m, x, s, square=lambda q, s: -q / (2 * s**2))),
    (
        "the error averaged over pixels",
        lambda m, x, s: _nll(m, x, s, square=lambda q, s: q / x[0].numel() / (2 * s**2)),
    ),
    ("in bits", lambda m, x, s: _nll(m, x, s) / math.log(2)),
    ("sigma as log sigma squared", lambda m, x, s: _nll(m, x, math.exp(s / 2))),
]

BEST_SIGMA = [
    ("summed over images, averaged over pixels", lambda m, x: _squares(x, m).mean(1).sum().sqrt()),
    ("the norm over the batch", lambda m, x: (x - m).norm() / len(x)),
    ("the norm divided by the pixels", lambda m, x: (x - m).norm() / x[0].numel()),
    ("the norm divided by all numbers", lambda m, x: (x - m).norm() / x.numel()),
    ("divided by 2 after the root", lambda m, x: _squares(x, m).mean().sqrt() / 2),
    ("divided by n - 1", lambda m, x: (_squares(x, m).sum() / (x.numel() - 1)).sqrt()),
    ("log of sigma", lambda m, x: _squares(x, m).mean().sqrt().log()),
    ("the spread around the images' mean", lambda m, x: _squares(x, x.mean(0)).mean().sqrt()),
    ("1 / sigma", lambda m, x: 1 / _squares(x, m).mean().sqrt()),
    ("a Python number", lambda m, x: _squares(x, m).mean().sqrt().item()),
    ("784 written in", lambda m, x: (_squares(x, m).sum(1).mean() / 784).sqrt()),
]

EFFECTIVE_BETA = [
    ("2 for the half", lambda d, n, pm, h, w, km: (w / n if km else w) * (d if pm else 1) * (1 if h else 2)),
    ("D / L always", lambda d, n, pm, h, w, km: w * d / n / (1 if h else 2)),
    ("the flags exchanged", lambda d, n, pm, h, w, km: (w / n if pm else w) * (d if km else 1) / (1 if h else 2)),
    ("sums and means exchanged", lambda d, n, pm, h, w, km: (w if km else w / n) * (1 if pm else d) / (1 if h else 2)),
    ("D and L exchanged", lambda d, n, pm, h, w, km: (w / d if km else w) * (n if pm else 1) / (1 if h else 2)),
]


def _entropy(p):
    return (-torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)).flatten(1)


BCE_FLOOR = [
    ("summed over the batch too", lambda x: _entropy(x).sum()),
    ("x taken as logits", lambda x: _bce(x, x).sum(1)),
    ("entropy of sigmoid(x)", lambda x: _entropy(x.sigmoid()).sum(1)),
    ("nan replaced after the sum", lambda x: (-(x * x.log() + (1 - x) * (1 - x).log()).flatten(1).sum(1)).nan_to_num()),
    ("the log of x only", lambda x: -x.clamp_min(1e-12).log().flatten(1).sum(1)),
    ("clamped at 0.01", lambda x: _entropy(x.clamp(0.01, 0.99)).sum(1)),
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
        "probabilities clamped",
        lambda a, x: F.binary_cross_entropy(a.sigmoid().clamp(1e-3, 0.999), x, reduction="none").flatten(1).sum(1),
    ),
    ("logits clamped", lambda a, x: _bce(a.clamp(-10, 10), x).sum(1)),
    ("softplus(-l) - l x", lambda a, x: (F.softplus(-a) - a * x).flatten(1).sum(1)),
    ("only the lit pixels", lambda a, x: (x * F.softplus(-a)).flatten(1).sum(1)),
    ("only the dark pixels", lambda a, x: ((1 - x) * F.softplus(a)).flatten(1).sum(1)),
    ("averaged over the batch", lambda a, x: _bce(a, x).sum(1).mean()),
    ("softmax cross-entropy over pixels", lambda a, x: -(x.flatten(1) * a.flatten(1).log_softmax(1)).sum(1)),
    ("x rounded", lambda a, x: _bce(a, x.round()).sum(1)),
    ("in bits", lambda a, x: _bce(a, x).sum(1) / math.log(2)),
]


def _average(z, mu, log_var, x, log_q=None, weigh=None):
    distance = (z[:, None] - mu) ** 2
    q = log_q(distance, log_var) if log_q else -0.5 * (distance / log_var.exp() + log_var).sum(2)
    return (weigh(q) if weigh else q.softmax(1)) @ x


POSTERIOR_AVERAGE = [
    ("log_var added", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d / v.exp() - v).sum(2))),
    (
        "distance, not its square",
        lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -(d.sqrt() / _sigma(v) + v / 2).sum(2)),
    ),
    (
        "the mean over dimensions",
        lambda z, m, v, x: _average(z, m, v, x, lambda d, v: -0.5 * (d / v.exp() + v).mean(2)),
    ),
    ("the sign", lambda z, m, v, x: _average(z, m, v, x, lambda d, v: 0.5 * (d / v.exp() + v).sum(2))),
    ("softmax, then its log", lambda z, m, v, x: _average(z, m, v, x, weigh=lambda q: q.log_softmax(1))),
]

NEGATIVE_ELBO = [
    ("the KL averaged over the batch", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(m, v).sum(1).mean()),
    ("the error averaged over the batch", lambda a, x, m, v: _bce(a, x).sum(1).mean() + _kl(m, v).sum(1)),
    ("the KL without -1", lambda a, x, m, v: _bce(a, x).sum(1) + (_kl(m, v) + 0.5).sum(1)),
    ("the KL with -1 once", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * ((m**2 + v.exp() - v).sum(1) - 1)),
    ("the KL with +1", lambda a, x, m, v: _bce(a, x).sum(1) + (_kl(m, v) + 1).sum(1)),
    ("sigma for the variance", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * (m**2 + _sigma(v) - 1 - v).sum(1)),
    ("the reverse KL", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * ((m**2 + 1) / v.exp() - 1 + v).sum(1)),
    ("mu not squared", lambda a, x, m, v: _bce(a, x).sum(1) + 0.5 * (m + v.exp() - 1 - v).sum(1)),
    ("logits and x exchanged", lambda a, x, m, v: _bce(x, a.sigmoid()).sum(1) + _kl(m, v).sum(1)),
    ("a column and a row added", lambda a, x, m, v: _bce(a, x).sum(1, keepdim=True) + _kl(m, v).sum(1)),
    ("divided by the pixels at the end", lambda a, x, m, v: (_bce(a, x).sum(1) + _kl(m, v).sum(1)) / x[0].numel()),
    ("mu and log_var exchanged", lambda a, x, m, v: _bce(a, x).sum(1) + _kl(v, m).sum(1)),
]


def _weight(log_px, z, m, v, prior=None, q=None):
    log_pz = prior(z) if prior else -0.5 * (z**2 + LOG_2PI).sum(1)
    return log_px + log_pz - (q(z, m, v) if q else -0.5 * ((z - m) ** 2 / v.exp() + v + LOG_2PI).sum(1))


LOG_WEIGHT = [
    ("sigma = exp(log_var)", lambda p, z, m, v: _weight(p, z, m, 2 * v)),
    ("log_var as sigma", lambda p, z, m, v: _weight(p, z, m, v.abs().log() * 2)),
    (
        "not divided",
        lambda p, z, m, v: _weight(p, z, m, v, q=lambda z, m, v: -0.5 * ((z - m) ** 2 + v + LOG_2PI).sum(1)),
    ),
    (
        "log_var's sign",
        lambda p, z, m, v: _weight(p, z, m, v, q=lambda z, m, v: -0.5 * ((z - m) ** 2 / v.exp() - v + LOG_2PI).sum(1)),
    ),
    (
        "2 pi in the prior once, not L times",
        lambda p, z, m, v: _weight(p, z, m, v, lambda z: -0.5 * ((z**2).sum(1) + LOG_2PI)),
    ),
    ("the prior's half forgotten", lambda p, z, m, v: _weight(p, z, m, v, lambda z: -(z**2 + LOG_2PI / 2).sum(1))),
    (
        "q at the prior's mean",
        lambda p, z, m, v: _weight(p, z, m, v, q=lambda z, m, v: -0.5 * (z**2 / v.exp() + v + LOG_2PI).sum(1)),
    ),
    ("the KL added", lambda p, z, m, v: p + _kl(m, v).sum(1)),
    ("log_px subtracted", lambda p, z, m, v: _weight(-p, z, m, v)),
    ("all signs turned", lambda p, z, m, v: -_weight(p, z, m, v)),
    ("summed over the batch", lambda p, z, m, v: p + _weight(0, z, m, v).sum()),
]

IS_ACTIVE = [
    ("mean absolute deviation", lambda m, t: (m - m.mean(0)).abs().mean(0) > t),
    ("the summed squares", lambda m, t: ((m - m.mean(0)) ** 2).sum(0) > t),
    ("one variance for all", lambda m, t: (m.var() > t).expand(m.shape[1])),
    ("centred on the mean of everything", lambda m, t: ((m - m.mean()) ** 2).mean(0) > t),
    ("the share of all variance", lambda m, t: m.var(0) / m.var(0).sum() > t),
    ("the indices", lambda m, t: (m.var(0) > t).nonzero().flatten()),
]


def _icdf(levels):
    return math.sqrt(2) * torch.erfinv(2 * levels - 1)


QUANTILE_PLACES = [
    ("i from 1", lambda n: _icdf((torch.arange(1, n + 1) + 0.5) / (n + 1))),
    ("(i + 1/2) / (n + 1)", lambda n: _icdf((torch.arange(n) + 0.5) / (n + 1))),
    ("(i + 1/2) / (n - 1)", lambda n: _icdf((torch.arange(n) + 0.5) / max(n - 1, 1))),
    (
        "the middle between the edges",
        lambda n: (lambda e: (e[:-1] + e[1:]) / 2)(_icdf(torch.linspace(1e-3, 1 - 1e-3, n + 1))),
    ),
    ("i + 0.5 / n, by precedence", lambda n: _icdf(torch.arange(n) + 0.5 / n)),
]


def _slerp(a, b, t, angle=None, weights=None):
    cosine = F.cosine_similarity(a, b, dim=1)[:, None].clamp(-1, 1)
    w = angle(cosine) if angle else cosine.arccos()
    left, right = weights(w, t) if weights else (((1 - t) * w).sin() / w.sin(), (t * w).sin() / w.sin())
    return left * a + right * b


SLERP = [
    ("a straight line, normalised", lambda a, b, t: F.normalize((1 - t) * a + t * b, dim=1)),
    (
        "a straight line with a's length",
        lambda a, b, t: F.normalize((1 - t) * a + t * b, dim=1) * a.norm(dim=1, keepdim=True),
    ),
    ("arcsine for arccosine", lambda a, b, t: _slerp(a, b, t, torch.arcsin)),
    ("the cosine of the batch", lambda a, b, t: _slerp(a, b, t, lambda c: c.mean().arccos().expand_as(c))),
    (
        "divided by the angle",
        lambda a, b, t: _slerp(a, b, t, weights=lambda w, t: (((1 - t) * w).sin() / w, (t * w).sin() / w)),
    ),
    (
        "sin(w) - sin(t w) for the first",
        lambda a, b, t: _slerp(
            a, b, t, weights=lambda w, t: ((w.sin() - (t * w).sin()) / w.sin(), (t * w).sin() / w.sin())
        ),
    ),
    ("the angle in degrees", lambda a, b, t: _slerp(a, b, t, lambda c: c.arccos().rad2deg())),
    (
        "unit vectors times a's length",
        lambda a, b, t: _slerp(F.normalize(a, dim=1), F.normalize(b, dim=1), t) * a.norm(dim=1, keepdim=True),
    ),
    (
        "norms over the batch",
        lambda a, b, t: _slerp(a, b, t, lambda c: ((a * b).sum(1, keepdim=True) / a.norm() / b.norm()).arccos()),
    ),
]

WITH_LABEL = [
    ("the number divided by C", lambda v, y, c: torch.cat([v, y[..., None].to(v.dtype) / c], -1)),
    ("10 written in", lambda v, y, c: torch.cat([v, F.one_hot(y, 10).to(v.dtype)], -1)),
    ("one class too many", lambda v, y, c: torch.cat([v, F.one_hot(y, c + 1).to(v.dtype)], -1)),
    (
        "the first label for all",
        lambda v, y, c: torch.cat([v, F.one_hot(y, c).to(v.dtype)[:1].expand(*y.shape, c)], -1),
    ),
    ("one-hot turned round", lambda v, y, c: torch.cat([v, 1 - F.one_hot(y, c).to(v.dtype)], -1)),
    ("integers: values truncated", lambda v, y, c: torch.cat([v.long(), F.one_hot(y, c)], -1)),
    ("label counted from 1", lambda v, y, c: torch.cat([v, F.one_hot((y + 1) % c, c).to(v.dtype)], -1)),
]


def _moments(m, v, mean=None, between=None, within=None):
    offset = m - m.mean(0)
    spread = between(m, offset) if between else offset.T @ offset / len(m)
    return (mean(m) if mean else m.mean(0)), spread + (within(v) if within else torch.diag(v.exp().mean(0)))


AGGREGATE = [
    ("divided by L", lambda m, v: _moments(m, v, between=lambda m, o: o.T @ o / m.shape[1])),
    (
        "variances divided by N once more",
        lambda m, v: _moments(m, v, within=lambda v: torch.diag(v.exp().mean(0)) / len(v)),
    ),
    ("variances added to every entry", lambda m, v: _moments(m, v, within=lambda v: v.exp().mean(0))),
    (
        "one average variance for all",
        lambda m, v: _moments(m, v, within=lambda v: v.exp().mean() * torch.eye(v.shape[1], dtype=v.dtype)),
    ),
    ("precision-weighted mean", lambda m, v: _moments(m, v, lambda m: (m / v.exp()).sum(0) / (1 / v.exp()).sum(0))),
    (
        "the product of the Gaussians",
        lambda m, v: ((m / v.exp()).sum(0) / (1 / v.exp()).sum(0), torch.diag(1 / (1 / v.exp()).sum(0))),
    ),
    ("the mean over dimensions", lambda m, v: _moments(m, v, lambda m: m.mean(1))),
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
    ("the KLs subtracted", lambda m, v, n, w: (_kl(m, v) - _kl(n, w)).sum(1)),
    ("the distance times the prior's variance", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: d**2 * w.exp())),
    ("the distance not squared", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: d / w.exp())),
    ("means' squares subtracted", lambda m, v, n, w: _kl_p(m, v, n, w, lambda d, v, w: (m**2 - n**2) / w.exp())),
    ("means added", lambda m, v, n, w: _kl_p(m, v, -n, w)),
    ("the ratio turned", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: (w - v).exp())),
    ("sigmas' ratio", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: (0.5 * (v - w)).exp())),
    ("the variances' difference", lambda m, v, n, w: _kl_p(m, v, n, w, ratio=lambda v, w: v.exp() - w.exp())),
    ("the logs' sign", lambda m, v, n, w: _kl_p(m, v, n, w, logs=lambda v, w: w - v)),
    ("logs of sigmas", lambda m, v, n, w: _kl_p(m, v, n, w, logs=lambda v, w: 0.5 * (v - w))),
    ("the 1 forgotten", lambda m, v, n, w: _kl_p(m, v, n, w, one=0)),
    ("+1", lambda m, v, n, w: _kl_p(m, v, n, w, one=-1)),
    ("symmetrised", lambda m, v, n, w: 0.5 * (_kl_p(m, v, n, w) + _kl_p(n, w, m, v))),
    ("one prior for the batch", lambda m, v, n, w: _kl_p(m, v, n[:1], w[:1])),
]

SAME_STYLE = [
    ("means exchanged", lambda z, m, v, n, w: m + _sigma(w) * (z - n) / _sigma(v)),
    ("only the noise", lambda z, m, v, n, w: (z - m) / _sigma(v)),
    ("z not centred", lambda z, m, v, n, w: n + _sigma(w) * z / _sigma(v)),
    ("z taken as noise", lambda z, m, v, n, w: n + _sigma(w) * z),
    ("log_vars subtracted, no exp", lambda z, m, v, n, w: n + 0.5 * (w - v) * (z - m)),
    ("the exponent's half forgotten once", lambda z, m, v, n, w: n + w.exp() * (z - m) / _sigma(v)),
    ("the new mean scaled too", lambda z, m, v, n, w: (n + (z - m) / _sigma(v)) * _sigma(w)),
    ("the new mean for all", lambda z, m, v, n, w: n),
    ("precedence: only mu divided", lambda z, m, v, n, w: n + _sigma(w) * (z - m / _sigma(v))),
    ("the batch's own mean and deviation", lambda z, m, v, n, w: n + _sigma(w) * (z - z.mean(0)) / z.std(0)),
    ("new noise", lambda z, m, v, n, w: n + _sigma(w) * torch.randn_like(z)),
]

HEALTHY_LOSS = [
    ("the KL summed over the batch", lambda a, m, v, x: _bce(a, x).sum(1).mean() + _kl(m, v).sum()),
    ("squared error", lambda a, m, v, x: _squares(a.sigmoid(), x).sum(1).mean() + _kl(m, v).sum(1).mean()),
    ("the KL with -1 once", lambda a, m, v, x: (_bce(a, x).sum(1) + 0.5 * ((m**2 + v.exp() - v).sum(1) - 1)).mean()),
    ("the KL of the mean code", lambda a, m, v, x: _bce(a, x).sum(1).mean() + _kl(m.mean(0), v.mean(0)).sum()),
    (
        "the sum of both divided by the pixels",
        lambda a, m, v, x: (_bce(a, x).sum(1) + _kl(m, v).sum(1)).mean() / x.shape[1],
    ),
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
