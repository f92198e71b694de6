"""Wrong answers to the exercises, as learners write them, none of them foreseen by the exercises' lists of mistakes.

They measure how an exercise answers what nobody foresaw. `UNLISTED` holds the name of the exercise's function, what was
done, and the function. Lambdas keep the stub's order of arguments and shorten its names (m, v: mu, log_var).
"""

import math
from collections.abc import Callable

import torch
from torch.nn import functional as F

from course_utils.teaching.exercises import exercises_of

LOG_2PI = math.log(2 * math.pi)


def sd(log_var):
    return (0.5 * log_var).exp()


def kl(mu, log_var):
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


def square(x, x_hat):
    return (x - x_hat) ** 2


def bce(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def noise(mu):
    return torch.randn_like(mu)


# Makers of wrong answers: each writes the solution with the piece exchanged that is given ---------------------------


def terms(
    log=lambda s, d: d * math.log(2 * math.pi * s**2),
    spread=lambda v, W: v.exp() @ W.square().sum(0),
    rate=lambda m, v: kl(m, v).sum(1),
    keep=1,
):
    def distortion_and_rate(x, mu, log_var, W, b, sigma):
        squares = (x - keep * b - mu @ W.T).square().sum(1) + spread(log_var, W)
        return 0.5 * (log(sigma, x.shape[1]) + squares / sigma**2), rate(mu, log_var)

    return distortion_and_rate


def bound(reduce=lambda b: b.mean(0), shape=lambda w, k: w.unflatten(0, (-1, k)), log=lambda w, k: math.log(k)):
    return lambda log_w, k: reduce(shape(log_w, k).logsumexp(1) - log(log_w, k))


def scores(mean=lambda e, s, v: e / s, width=lambda e, s, v: 0.5 * (e**2 - 1), f_of=lambda f: f, centre=1):
    def score_function_gradient(f_values, z, mu, log_var):
        sigma = sd(log_var)
        eps = (z - centre * mu) / sigma
        return tuple(f_of(f_values)[:, None] * score(eps, sigma, log_var) for score in (mean, width))

    return score_function_gradient


def mc(
    log_q=lambda z, m, v, e: -0.5 * (LOG_2PI + v + e**2),
    log_p=lambda z: -0.5 * (LOG_2PI + z**2),
    reduce=lambda r: r.sum(-1).mean(0),
    shift=1,
):
    def kl_from_samples(mu, log_var, eps):
        z = shift * mu + sd(log_var) * eps
        return reduce(log_q(z, mu, log_var, eps) - log_p(z))

    return kl_from_samples


def nll(log=lambda x, s: x.shape[1] * (LOG_2PI / 2 + math.log(s)), error=lambda q, s: q.sum(1) / (2 * s**2)):
    return lambda mean, x, sigma: log(x, sigma) + error(square(x, mean), sigma)


def ratio(pixels=lambda d, n: d, latent=lambda d, n: n, half=lambda h: 1 if h else 2, pixel_mean=True, kl_mean=True):
    def effective_beta(dims, latent_dim, pm, h, weight, km):
        b = weight / latent(dims, latent_dim) if km == kl_mean else weight
        return b * (pixels(dims, latent_dim) if pm == pixel_mean else 1) / half(h)

    return effective_beta


def weights(
    p=lambda z: -0.5 * z.square().sum(-1),
    q=lambda z, m, v: -0.5 * ((z - m) ** 2 / v.exp() + v).sum(-1),
    total=lambda recon, log_p, log_q: -recon + log_p - log_q,
    reduce=lambda w: w.logsumexp(0) - math.log(len(w)),
):
    return lambda recon, z, mu, log_var: reduce(total(recon, p(z), q(z, mu, log_var)))


def votes(z, codes, labels, k):
    return F.one_hot(labels[torch.cdist(z, codes).topk(k, largest=False).indices], 10).sum(1).double()


def paired(mean=lambda d: d.mean(), width=lambda d: d.std(), root=lambda n: math.sqrt(n)):
    return lambda a, b: mean(a - b) / (width(a - b) / root(len(a)))


def moments(mean=lambda m, v: m.mean(0), between=lambda o: o.T @ o / len(o), within=lambda v: v.mean(0).diag()):
    return lambda mu, log_var: (mean(mu, log_var), between(mu - mu.mean(0)) + within(log_var.exp()))


def to_prior(
    distance=lambda m, n, v, w: (m - n) ** 2 / w.exp(),
    ratio=lambda v, w: (v - w).exp(),
    logs=lambda v, w: v - w,
    one=1,
):
    return lambda m, v, n, w: 0.5 * (distance(m, n, v, w) + ratio(v, w) - one - logs(v, w)).sum(1)


def model(name, **methods):
    """The course's class with these methods exchanged."""
    (base,) = (e.solution for n in range(1, 8) for e in exercises_of(n) if e.name == name)
    return type(name, (base,), methods)


def moved(vae, x, i, values):
    z = vae.encode(x)[0].repeat(len(values), 1)
    z[:, i] = values
    return z


# Tests of notebook 08 -----------------------------------------------------------------------------------------------


def one_exact_amount(model, x):
    logits, mu, log_var = model(x)
    far = model.loss((logits, mu + 3, log_var), x) - model.loss((logits, mu, log_var), x)
    assert (far - (3 * mu + 4.5).sum(1).mean()).abs() < 1e-2


def conditions_permuted(model, x, cond):
    z, _ = model.encode(x, cond)
    assert not torch.allclose(model.decode(z, cond), model.decode(z, cond[torch.randperm(len(cond))]))


ANSWERS: dict[str, list[tuple[str, Callable]]] = {
    "squared_error": [
        ("784 written into the formula", lambda r, x: square(x, r).mean(1) * 784),
        ("the difference of the squares", lambda r, x: (x**2 - r**2).sum(1)),
        ("the square of the summed difference", lambda r, x: (x - r).sum(1) ** 2),
        ("the mean times the batch size", lambda r, x: square(x, r).mean(1) * len(x)),
        ("all pairs of images", lambda r, x: torch.cdist(x, r) ** 2),
        ("each image against the mean reconstruction", lambda r, x: square(x, r.mean(0)).sum(1)),
        ("root mean square error", lambda r, x: square(x, r).mean(1).sqrt()),
        ("pixels from 0 to 255", lambda r, x: square(255 * x, 255 * r).sum(1)),
        ("doubled, not squared", lambda r, x: (2 * (x - r)).sum(1)),
        ("cubed", lambda r, x: (x - r).abs().pow(3).sum(1)),
        ("the largest error", lambda r, x: square(x, r).amax(1)),
        ("x x_hat forgotten: x^2 + x_hat^2", lambda r, x: (x**2 + r**2).sum(1)),
        ("running sums", lambda r, x: square(x, r).cumsum(1)),
        ("half of it, the Gaussian way", lambda r, x: 0.5 * square(x, r).sum(1)),
        ("the mean image taken off x", lambda r, x: square(x - x.mean(0), r).sum(1)),
    ],
    "nearest_distance": [
        ("the nearest sample of each code, squared", lambda s, c: torch.cdist(c, s).square().amin(1)),
        ("the sum over all codes", lambda s, c: torch.cdist(s, c).sum(1)),
        ("Manhattan distances", lambda s, c: torch.cdist(s, c, p=1).amin(1)),
        ("the largest coordinate's distance", lambda s, c: torch.cdist(s, c, p=math.inf).amin(1)),
        ("the distance to the mean code", lambda s, c: (s - c.mean(0)).norm(dim=1)),
        ("the distance to the first code", lambda s, c: (s - c[0]).norm(dim=1)),
        ("the mean over the samples", lambda s, c: torch.cdist(s, c).amin(1).mean()),
        ("the second nearest", lambda s, c: torch.cdist(s, c).sort(1).values[:, 1]),
        ("divided by the size of a code", lambda s, c: torch.cdist(s, c).amin(1) / s.shape[1]),
        ("the nearest in each dimension by itself", lambda s, c: (s[:, None] - c).abs().amin(1).norm(dim=1)),
        ("the median distance", lambda s, c: torch.cdist(s, c).median(1).values),
        ("the nearest other sample", lambda s, c: torch.cdist(s, s + 0 * c.sum()).sort(1).values[:, -1]),
    ],
    "fit_gaussian": [
        ("standard deviations for the covariance", lambda c: (c.mean(0), c.std(0).diag())),
        ("the variances on a diagonal", lambda c: (c.mean(0), c.var(0).diag())),
        ("divided by N - 1 twice", lambda c: (c.mean(0), torch.cov(c.T) / (len(c) - 1))),
        ("not divided", lambda c: (c.mean(0), torch.cov(c.T) * (len(c) - 1))),
        ("the median", lambda c: (c.median(0).values, torch.cov(c.T))),
        ("the sum", lambda c: (c.sum(0), torch.cov(c.T))),
        ("the inverse of the covariance", lambda c: (c.mean(0), torch.cov(c.T).inverse())),
        ("divided by L - 1", lambda c: (c.mean(0), torch.cov(c.T) * (len(c) - 1) / max(c.shape[1] - 1, 0.5))),
        ("the mean of everything", lambda c: (c.mean().expand(c.shape[1]), torch.cov(c.T))),
        ("centred by the mean of everything", lambda c: (c.mean(0), (c - c.mean()).T @ (c - c.mean()) / (len(c) - 1))),
        ("the mean added, not taken off", lambda c: (c.mean(0), (c + c.mean(0)).T @ (c + c.mean(0)) / (len(c) - 1))),
        ("a factor of the covariance", lambda c: (c.mean(0), torch.linalg.cholesky_ex(torch.cov(c.T)).L)),
    ],
    "log_mean_exp": [
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
        ("the mean subtracted, never added", lambda w: (w - w.mean(0)).logsumexp(0) - math.log(len(w))),
    ],
    "distortion_and_rate": [
        ("the constant subtracted", terms(lambda s, d: -d * math.log(2 * math.pi * s**2))),
        ("log base 10", terms(lambda s, d: d * math.log10(2 * math.pi * s**2))),
        ("the spread subtracted", terms(spread=lambda v, W: -(v.exp() @ W.square().sum(0)))),
        ("the spread averaged over the batch", terms(spread=lambda v, W: v.exp().mean(0) @ W.square().sum(0))),
        ("the rate with sigma for sigma squared", terms(rate=lambda m, v: kl(m, v / 2).sum(1))),
        ("log sigma for log sigma squared", terms(lambda s, d: d * math.log(2 * math.pi * s))),
    ],
    "multi_sample_bound": [
        ("log of the number of groups", bound(log=lambda w, k: math.log(len(w) // k))),
        ("only the last group", bound(lambda b: b[-1])),
        ("divided by k", lambda w, k: w.unflatten(0, (-1, k)).logsumexp(1).mean(0) / k),
        ("the groups summed", bound(lambda b: b.sum(0))),
        ("the best group", bound(lambda b: b.amax(0))),
        ("k for its logarithm", bound(log=lambda w, k: k)),
        ("log base 2 of k", bound(log=lambda w, k: math.log2(k))),
    ],
    "score_function_gradient": [
        ("not divided by the variance", scores(lambda e, s, v: e * s)),
        ("log_var read as sigma squared", lambda f, z, m, v: scores()(f, z, m, v.abs().log())),
        ("the sign of log_var's score", scores(width=lambda e, s, v: 0.5 * (1 - e**2))),
        ("the log term's derivative taken as -1", scores(width=lambda e, s, v: 0.5 * e**2 - 1)),
        ("z for z - mu", scores(centre=0)),
        ("f centred", scores(f_of=lambda f: f - f.mean())),
        ("summed over the dimensions", lambda f, z, m, v: tuple(g.sum(1) for g in scores()(f, z, m, v))),
    ],
    "pathwise_gradient": [
        ("without sigma", lambda g, v, e: (g, 0.5 * g * e)),
        ("the path of sigma alone, times sigma squared", lambda g, v, e: (g, g * v.exp() * e)),
        ("2 for a half", lambda g, v, e: (g, 2 * sd(v) * g * e)),
        ("the sign of the second", lambda g, v, e: (g, -0.5 * sd(v) * g * e)),
        ("log_var for its exponential", lambda g, v, e: (g, 0.5 * v * g * e)),
        ("the noise in both", lambda g, v, e: (g * e, 0.5 * sd(v) * g * e)),
        ("sigma in both", lambda g, v, e: (g * sd(v), 0.5 * sd(v) * g * e)),
        ("the slope forgotten", lambda g, v, e: (g, 0.5 * sd(v) * e)),
        ("the square of the noise", lambda g, v, e: (g, 0.5 * sd(v) * g * e**2)),
        ("divided by sigma", lambda g, v, e: (g, 0.5 * g * e / sd(v))),
        ("the half in the exponent twice", lambda g, v, e: (g, 0.5 * (v / 4).exp() * g * e)),
        ("the samples summed", lambda g, v, e: (g.sum(0), (0.5 * sd(v) * g * e).sum(0))),
        ("the two added", lambda g, v, e: (g, g + 0.5 * sd(v) * g * e)),
    ],
    "reparameterize": [
        ("the root of log_var", lambda m, v: m + v.abs().sqrt() * noise(m)),
        ("softplus for exp", lambda m, v: m + F.softplus(v) * noise(m)),
        ("mu multiplied by the noise", lambda m, v: m * noise(m) + sd(v)),
        ("sigma added to the noise", lambda m, v: m + sd(v) + noise(m)),
        ("minus half of log_var", lambda m, v: m + (-0.5 * v).exp() * noise(m)),
        ("2 to the power", lambda m, v: m + 2 ** (0.5 * v) * noise(m)),
        ("a quarter in the exponent", lambda m, v: m + (0.25 * v).exp() * noise(m)),
        ("mu and log_var exchanged", lambda m, v: v + sd(m) * noise(m)),
        ("the noise scaled twice by a half", lambda m, v: m + 0.5 * v.exp() * noise(m)),
        ("exp(log_var) and a half outside", lambda m, v: m + 0.5 * sd(v) * noise(m)),
        ("mu scaled as well", lambda m, v: sd(v) * (m + noise(m))),
        ("no mu", lambda m, v: sd(v) * noise(m)),
        ("the mean over the batch", lambda m, v: m.mean(0) + sd(v) * noise(m)),
        ("mu subtracted", lambda m, v: sd(v) * noise(m) - m),
        ("a small number for stability", lambda m, v: m + (sd(v) + 0.01) * noise(m)),
        ("the noise squared", lambda m, v: m + sd(v) * noise(m) ** 2),
    ],
    "kl_from_samples": [
        ("mu left out of z", mc(shift=0)),
        ("2 pi in log q only", mc(log_p=lambda z: -0.5 * z**2)),
        ("the half forgotten in log p", mc(log_p=lambda z: -LOG_2PI / 2 - z**2)),
        ("log_var added, not subtracted", mc(lambda z, m, v, e: -0.5 * (LOG_2PI - v + e**2))),
        ("only the first sample", mc(reduce=lambda r: r[0].sum(-1))),
        ("the log of the mean ratio", mc(reduce=lambda r: r.sum(-1).logsumexp(0) - math.log(len(r)))),
        ("the samples kept apart", mc(reduce=lambda r: r.sum(-1))),
        ("the absolute value", mc(reduce=lambda r: r.sum(-1).mean(0).abs())),
        ("divided by K - 1", mc(reduce=lambda r: r.sum(-1).sum(0) / (len(r) - 1))),
        ("log p alone", mc(log_q=lambda z, m, v, e: 0 * z)),
        ("log q not divided by the variance", mc(lambda z, m, v, e: -0.5 * (LOG_2PI + v + (z - m) ** 2))),
        ("log sigma for log sigma squared", mc(lambda z, m, v, e: -0.5 * (LOG_2PI + v / 2 + e**2))),
        ("z for z - mu in log q", mc(lambda z, m, v, e: -0.5 * (LOG_2PI + v + z**2 / v.exp()))),
    ],
    "gaussian_kl": [
        ("-1 outside the half", lambda m, v: (0.5 * (m**2 + v.exp() - v) - 1).sum(1)),
        ("+1 for -1", lambda m, v: 0.5 * (m**2 + v.exp() + 1 - v).sum(1)),
        ("log_var as the variance", lambda m, v: 0.5 * (m**2 + v - 1 - v.abs().log()).sum(1)),
        ("log sigma in the last term", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v / 2).sum(1)),
        ("the cross-entropy only", lambda m, v: 0.5 * (m**2 + v.exp() + LOG_2PI).sum(1)),
        ("the batch averaged", lambda m, v: kl(m, v).mean(0)),
        ("in bits", lambda m, v: kl(m, v).sum(1) / math.log(2)),
        ("the distance divided by the variance", lambda m, v: 0.5 * (m**2 / v.exp() + v.exp() - 1 - v).sum(1)),
    ],
    "balance": [
        ("lam for lam / (1 + lam)", lambda m, lam: (lam * m, -lam.log1p())),
        ("the KL in the mean only", lambda m, lam: (lam / (1 + lam) * m, -lam.log())),
        ("the precision", lambda m, lam: (lam / (1 + lam) * m, 1 + lam)),
        ("lam/2 kept in the mean", lambda m, lam: (lam / (2 + lam) * m, -lam.log1p())),
        ("2 lam", lambda m, lam: (2 * lam / (1 + 2 * lam) * m, -(2 * lam).log1p())),
        ("no pull on the width", lambda m, lam: (lam / (1 + lam) * m, 0 * lam)),
        ("the distance to 1", lambda m, lam: (lam / (1 + lam) * m, -(lam - 1).abs().log())),
        ("the average of both wishes", lambda m, lam: (m / 2, -lam.log1p())),
        ("the standard deviation", lambda m, lam: (lam / (1 + lam) * m, (1 + lam) ** -0.5)),
        ("mu squared", lambda m, lam: ((lam / (1 + lam) * m) ** 2, -lam.log1p())),
    ],
    "kl_per_dimension": [
        ("the total shared evenly", lambda m, v: kl(m, v).mean().expand(m.shape[1])),
        ("divided by N - 1", lambda m, v: kl(m, v).sum(0) / (len(m) - 1)),
        ("2 to the power in place of exp", lambda m, v: 0.5 * (m**2 + 2**v - 1 - v).mean(0)),
        ("the median", lambda m, v: kl(m, v).median(0).values),
        ("the largest", lambda m, v: kl(m, v).amax(0)),
        ("the KL of the mean Gaussian", lambda m, v: kl(m.mean(0), v.exp().mean(0).log())),
        ("the -1 once per dimension, N times", lambda m, v: (kl(m, v) + 0.5).sum(0) / len(m) - 0.5 * len(m)),
        ("mu centred", lambda m, v: kl(m - m.mean(0), v).mean(0)),
        ("without the half", lambda m, v: 2 * kl(m, v).mean(0)),
        ("the reverse KL", lambda m, v: 0.5 * ((m**2 + 1) / v.exp() - 1 + v).mean(0)),
        ("log_var added", lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v).mean(0)),
        ("the mean of everything", lambda m, v: kl(m, v).mean()),
    ],
    "gaussian_nll": [
        ("log sigma subtracted", nll(lambda x, s: x.shape[1] * (LOG_2PI / 2 - math.log(s)))),
        ("divided by (2 sigma) squared", nll(error=lambda q, s: q.sum(1) / (2 * s) ** 2)),
        ("q / 2 * sigma squared, by precedence", nll(error=lambda q, s: q.sum(1) / 2 * s**2)),
        ("not divided by sigma at all", nll(error=lambda q, s: q.sum(1) / 2)),
        ("the error averaged over pixels", nll(error=lambda q, s: q.mean(1) / (2 * s**2))),
        ("in bits", lambda m, x, s: nll()(m, x, s) / math.log(2)),
        ("sigma read as log sigma squared", lambda m, x, s: nll()(m, x, math.exp(s / 2))),
    ],
    "best_sigma": [
        ("summed over images, averaged over pixels", lambda m, x: square(x, m).mean(1).sum().sqrt()),
        ("the norm over the batch", lambda m, x: (x - m).norm() / len(x)),
        ("the norm divided by the pixels", lambda m, x: (x - m).norm() / x.shape[1]),
        ("divided by 2 after the root", lambda m, x: square(x, m).mean().sqrt() / 2),
        ("divided by n - 1", lambda m, x: (square(x, m).sum() / (x.numel() - 1)).sqrt()),
        ("the spread around the images' mean", lambda m, x: square(x, x.mean(0)).mean().sqrt()),
        ("1 / sigma", lambda m, x: 1 / square(x, m).mean().sqrt()),
    ],
    "effective_beta": [
        ("2 for the half", ratio(half=lambda h: 0.5 if not h else 1)),
        ("the flags exchanged", lambda d, n, pm, h, w, km: ratio()(d, n, km, h, w, pm)),
        ("sums and means exchanged", ratio(pixel_mean=False, kl_mean=False)),
        ("D and L exchanged", ratio(lambda d, n: n, lambda d, n: d)),
        ("the weight forgotten", lambda d, n, pm, h, w, km: ratio()(d, n, pm, h, 1.0, km)),
        ("the inverse", lambda d, n, pm, h, w, km: 1 / ratio()(d, n, pm, h, w, km)),
        ("no latent mean", ratio(latent=lambda d, n: 1)),
    ],
    "bce_floor": [
        ("x taken as logits", lambda x: bce(x, x).sum(1)),
        ("the sigmoid as target and reconstruction", lambda x: bce(x, x.sigmoid()).sum(1)),
        ("nan made 0 at the end", lambda x: -(x * x.log() + (1 - x) * (1 - x).log()).sum(1).nan_to_num()),
        ("clamped at 0.01", lambda x: bce(x.clamp(0.01, 0.99).logit(), x.clamp(0.01, 0.99)).sum(1)),
        ("1e-3 within the logs", lambda x: -(x * (x + 1e-3).log() + (1 - x) * (1.001 - x).log()).sum(1)),
    ],
    "bce_from_logits": [
        ("probabilities clamped", lambda a, x: bce(a.sigmoid().clamp(1e-3, 0.999).logit(), x).sum(1)),
        ("logits clamped", lambda a, x: bce(a.clamp(-10, 10), x).sum(1)),
        ("softplus(-l) - l x", lambda a, x: (F.softplus(-a) - a * x).sum(1)),
        ("only the lit pixels", lambda a, x: (x * F.softplus(-a)).sum(1)),
        ("averaged over the batch", lambda a, x: bce(a, x).sum(1).mean()),
        ("cross-entropy over all pixels", lambda a, x: -(x * a.log_softmax(1)).sum(1)),
        ("in bits", lambda a, x: bce(a, x).sum(1) / math.log(2)),
    ],
    "importance_bound": [
        ("the sign of recon", weights(total=lambda r, p, q: r + p - q)),
        ("p and q exchanged", weights(total=lambda r, p, q: -r - p + q)),
        ("log q left out", weights(total=lambda r, p, q: -r + p)),
        ("the prior left out", weights(total=lambda r, p, q: -r - q)),
        ("log K not subtracted", weights(reduce=lambda w: w.logsumexp(0))),
        ("log K added", weights(reduce=lambda w: w.logsumexp(0) + math.log(len(w)))),
        ("log of the batch size", weights(reduce=lambda w: w.logsumexp(0) - math.log(w.shape[1]))),
        ("over the batch", weights(reduce=lambda w: w.logsumexp(1) - math.log(w.shape[1]))),
        ("divided by K outside the log", weights(reduce=lambda w: w.logsumexp(0) / len(w))),
        ("the best sample", weights(reduce=lambda w: w.amax(0))),
        ("the loss: turned round", weights(reduce=lambda w: math.log(len(w)) - w.logsumexp(0))),
        ("log_var's sign in log q", weights(q=lambda z, m, v: -0.5 * ((z - m) ** 2 / v.exp() - v).sum(-1))),
        ("log q not divided by the variance", weights(q=lambda z, m, v: -0.5 * ((z - m) ** 2 + v).sum(-1))),
        ("z for z - mu in log q", weights(q=lambda z, m, v: -0.5 * (z**2 / v.exp() + v).sum(-1))),
        ("2 pi in log p only", weights(lambda z: -0.5 * (z**2 + LOG_2PI).sum(-1))),
        ("the half forgotten in log p", weights(lambda z: -z.square().sum(-1))),
        ("averaged over the dimensions", weights(lambda z: -0.5 * z.square().mean(-1))),
        ("softmax-weighted", weights(reduce=lambda w: (w.softmax(0) * w).sum(0))),
    ],
    "agreement": [
        ("a percentage", lambda z, c, y, k=10: 100 * votes(z, c, y, k).amax(1) / k),
        ("the share of the others", lambda z, c, y, k=10: 1 - votes(z, c, y, k).amax(1) / k),
        ("the label itself", lambda z, c, y, k=10: votes(z, c, y, k).argmax(1)),
        ("the mean over z", lambda z, c, y, k=10: (votes(z, c, y, k).amax(1) / k).mean()),
    ],
    "paired_t": [
        ("not divided at all", lambda a, b: (a - b).mean()),
        ("the variance for the standard deviation", paired(width=lambda d: d.var())),
        ("divided by S", paired(width=lambda d: d.std(correction=0))),
        ("the root of S - 1", paired(root=lambda n: math.sqrt(n - 1))),
        ("S for its root", paired(root=lambda n: n)),
        ("the sum", paired(mean=lambda d: d.sum())),
        ("the absolute value", paired(mean=lambda d: d.mean().abs())),
        ("the median", paired(mean=lambda d: d.median())),
        ("the spread of a alone", lambda a, b: (a - b).mean() / (a.std() / math.sqrt(len(a)))),
        ("the spreads added", lambda a, b: (a - b).mean() / ((a.std() + b.std()) / math.sqrt(len(a)))),
        ("the standard error", lambda a, b: (a - b).std() / math.sqrt(len(a))),
        ("turned upside down", lambda a, b: (a - b).std() / math.sqrt(len(a)) / (a - b).mean()),
        ("one number for each seed", lambda a, b: (a - b) / ((a - b).std() / math.sqrt(len(a)))),
        ("the root forgotten to divide", lambda a, b: (a - b).mean() / (a - b).std() / math.sqrt(len(a))),
        ("relative differences", lambda a, b: ((a - b) / b).mean() / (((a - b) / b).std() / math.sqrt(len(a)))),
    ],
    "aggregate": [
        ("divided by L", moments(between=lambda o: o.T @ o / o.shape[1])),
        ("variances divided by N once more", moments(within=lambda v: v.mean(0).diag() / len(v))),
        ("variances added to every entry", moments(within=lambda v: v.mean(0))),
        ("precision-weighted mean", moments(lambda m, v: (m / v.exp()).sum(0) / (-v).exp().sum(0))),
        ("the mean over dimensions", moments(lambda m, v: m.mean(1))),
        ("log_var not exponentiated", lambda m, v: moments()(m, v.abs().log())),
        ("standard deviations for variances", lambda m, v: moments()(m, v / 2)),
        ("only the variances", moments(between=lambda o: 0 * o.T @ o)),
    ],
    "kl_to_prior": [
        ("the KLs subtracted", lambda m, v, n, w: (kl(m, v) - kl(n, w)).sum(1)),
        ("the distance times the prior's variance", to_prior(lambda m, n, v, w: (m - n) ** 2 * w.exp())),
        ("the means added", to_prior(lambda m, n, v, w: (m + n) ** 2 / w.exp())),
        ("the ratio turned", to_prior(ratio=lambda v, w: (w - v).exp())),
        ("the sigmas' ratio", to_prior(ratio=lambda v, w: sd(v - w))),
        ("the logs' sign", to_prior(logs=lambda v, w: w - v)),
        ("logs of sigmas", to_prior(logs=lambda v, w: 0.5 * (v - w))),
        ("the 1 forgotten", to_prior(one=0)),
        ("one prior for the batch", lambda m, v, n, w: to_prior()(m, v, n[:1], w[:1])),
        ("the half forgotten", lambda m, v, n, w: 2 * to_prior()(m, v, n, w)),
        ("averaged over L", lambda m, v, n, w: to_prior()(m, v, n, w) / m.shape[1]),
    ],
    "same_style": [
        ("only the noise", lambda z, m, v, n, w: (z - m) / sd(v)),
        ("z not centred", lambda z, m, v, n, w: n + sd(w) * z / sd(v)),
        ("the half forgotten on the way out", lambda z, m, v, n, w: n + w.exp() * (z - m) / sd(v)),
        ("the new mean scaled too", lambda z, m, v, n, w: (n + (z - m) / sd(v)) * sd(w)),
        ("the new mean for all", lambda z, m, v, n, w: n),
        ("precedence: only mu divided", lambda z, m, v, n, w: n + sd(w) * (z - m / sd(v))),
        ("new noise", lambda z, m, v, n, w: n + sd(w) * torch.randn_like(z)),
        ("the old mean kept", lambda z, m, v, n, w: m + sd(w) * (z - m) / sd(v)),
        ("multiplied by both sigmas", lambda z, m, v, n, w: n + sd(w) * (z - m) * sd(v)),
    ],
    "MyAutoencoder": [
        (
            "the difference of the squares",
            model("MyAutoencoder", loss=lambda s, x: (s.decode(s.encode(x)) ** 2 - x**2).sum(1).abs()),
        ),
        (
            "the codes compared",
            model("MyAutoencoder", loss=lambda s, x: square(s.encode(s.decode(s.encode(x))), s.encode(x)).sum(1)),
        ),
        ("absolute errors", model("MyAutoencoder", loss=lambda s, x: (s.decode(s.encode(x)) - x).abs().sum(1))),
        (
            "half of the squared error",
            model("MyAutoencoder", loss=lambda s, x: 0.5 * square(s.decode(s.encode(x)), x).sum(1)),
        ),
    ],
    "MyVAE": [
        ("log sigma in the KL", model("MyVAE", kl=lambda s, m, v: (m**2 + v.exp() - 1 - 0.5 * v).sum(1) / 2)),
        ("the KL in bits", model("MyVAE", kl=lambda s, m, v: kl(m, v).sum(1) / math.log(2))),
        ("half of sigma", model("MyVAE", reparameterize=lambda s, m, v: m + 0.5 * v.exp() * noise(m))),
        ("the reverse KL", model("MyVAE", kl=lambda s, m, v: 0.5 * ((m**2 + 1) / v.exp() - 1 + v).sum(1))),
    ],
    "RateVAE": [
        ("nats summed over images", model("RateVAE", nats=lambda s, x: kl(*s.encode(x)).sum(0))),
        ("nats of the mean code", model("RateVAE", nats=lambda s, x: kl(*(t.mean(0) for t in s.encode(x))))),
        ("the mean square in nats", model("RateVAE", nats=lambda s, x: s.encode(x)[0].square().mean(0))),
        (
            "logits along the traverse",
            model("RateVAE", traverse=lambda s, x, i, values: s.decode(moved(s, x, i, values))),
        ),
        (
            "values added",
            model(
                "RateVAE",
                traverse=lambda s, x, i, values: s.decode(moved(s, x, i, values + s.encode(x)[0][0, i])).sigmoid(),
            ),
        ),
        (
            "another dimension",
            model("RateVAE", traverse=lambda s, x, i, values: s.decode(moved(s, x, i - 1, values)).sigmoid()),
        ),
    ],
    "VAE": [
        ("the KL counted twice", model("VAE", loss=lambda s, x: sum(s.terms(x)) + s.terms(x)[1])),
        (
            "the reconstruction is drawn",
            model("VAE", reconstruct=lambda s, x: s.decode(s.reparameterize(*s.encode(x))).sigmoid()),
        ),
        ("the reconstruction as logits", model("VAE", reconstruct=lambda s, x: s.decode(s.encode(x)[0]))),
        (
            "samples of a wide prior",
            model("VAE", sample=lambda s, n: s.decode(2 * torch.randn(n, s.latent_dim)).sigmoid()),
        ),
    ],
    "test_far_codes_cost": [("one exact amount demanded", one_exact_amount)],
    "test_decoder_hears_the_condition": [("conditions permuted", conditions_permuted)],
}
UNLISTED: list[tuple[str, str, Callable]] = [
    (name, words, wrong) for name, answers in ANSWERS.items() for words, wrong in answers
]
