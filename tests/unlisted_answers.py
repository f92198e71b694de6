"""Wrong answers to the exercises, as learners write them, none of them foreseen by the exercises' lists of mistakes.

They measure how an exercise answers what nobody foresaw. `UNLISTED` holds the name of the exercise's function, what was
done, and the function. Lambdas keep the stub's order of arguments and shorten its names (m, v: mu, log_var).
"""

import math
from collections.abc import Callable

import torch
from torch.distributions import Normal
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def sd(log_var):
    return (0.5 * log_var).exp()


def kl(mu, log_var):
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


def square(x, x_hat):
    return ((x - x_hat) ** 2).flatten(1)


def bce(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1)


# Makers of wrong answers: each writes the solution with the piece exchanged that is given ---------------------------


def denoise(noisy=lambda x, n: (x + n).clamp(0, 1), reduce=lambda e: e.sum(1).mean()):
    return lambda autoencode, x, noise: reduce(square(autoencode(noisy(x, noise)), x))


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


def post(precision=lambda E, G, s: E + G / s**2, mean=lambda r, W, s, C: r @ W @ C / s**2, sign=-1):
    def posterior(x, W, b, sigma):
        covariance = torch.linalg.inv(precision(torch.eye(W.shape[1], dtype=W.dtype), W.T @ W, sigma))
        return mean(x + sign * b, W, sigma, covariance), covariance

    return posterior


def bound(reduce=lambda b: b.mean(0), shape=lambda w, k: w.unflatten(0, (-1, k)), log=lambda w, k: math.log(k)):
    return lambda log_w, k: reduce(shape(log_w, k).logsumexp(1) - log(log_w, k))


def scores(mean=lambda e, s, v: e / s, width=lambda e, s, v: 0.5 * (e**2 - 1), f_of=lambda f: f, centre=1):
    def score_function_gradient(f_values, z, mu, log_var):
        sigma = sd(log_var)
        eps = (z - centre * mu) / sigma
        return tuple(f_of(f_values)[:, None] * score(eps, sigma, log_var) for score in (mean, width))

    return score_function_gradient


def loo(baseline, f_of=lambda f: f, scores_of=lambda s: s):
    return lambda f, s: ((f_of(f) - baseline(f))[:, None] * scores_of(s)).mean(0)


def path(slope=lambda s, e, m: 0.5 * s * e, sigma=sd):
    def pathwise_gradient(df, mu, log_var, eps):
        df_dz = df(mu + sigma(log_var) * eps)
        return df_dz, df_dz * slope(sd(log_var), eps, mu)

    return pathwise_gradient


def weighted(weight, loss=lambda w, q: (w * q).mean()):
    return lambda f, q, b: loss(weight(f, b).detach(), q)


def full(
    trace=lambda S, T: (T.inverse() @ S).trace(),
    distance=lambda d, S, T: d @ T.inverse() @ d,
    logs=lambda S, T: T.logdet() - S.logdet(),
    dims=len,
):
    def gaussian_kl_full(mean_q, cov_q, mean_p, cov_p):
        d = mean_p - mean_q
        return 0.5 * (trace(cov_q, cov_p) + distance(d, cov_q, cov_p) - dims(d) + logs(cov_q, cov_p))

    return gaussian_kl_full


def mc(
    log_q=lambda z, m, v, e: -0.5 * (LOG_2PI + v + e**2),
    log_p=lambda z: -0.5 * (LOG_2PI + z**2),
    reduce=lambda r: r.sum(-1).mean(0),
    shift=1,
):
    def kl_monte_carlo(mu, log_var, eps):
        z = shift * mu + sd(log_var) * eps
        return reduce(log_q(z, mu, log_var, eps) - log_p(z))

    return kl_monte_carlo


def nll(log=lambda x, s: x[0].numel() * (LOG_2PI / 2 + math.log(s)), error=lambda q, s: q.sum(1) / (2 * s**2)):
    return lambda mean, x, sigma: log(x, sigma) + error(square(x, mean), sigma)


def ratio(pixels=lambda d, n: d, latent=lambda d, n: n, half=lambda h: 1 if h else 2, pixel_mean=True, kl_mean=True):
    def effective_beta(dims, latent_dim, pm, h, weight, km):
        b = weight / latent(dims, latent_dim) if km == kl_mean else weight
        return b * (pixels(dims, latent_dim) if pm == pixel_mean else 1) / half(h)

    return effective_beta


def average(log_q=lambda d, v: -0.5 * (d / v.exp() + v).sum(2), weigh=lambda q: q.softmax(1)):
    return lambda z, mu, log_var, x: weigh(log_q((z[:, None] - mu) ** 2, log_var)) @ x


def elbo(error=lambda e: e.sum(1), rate=lambda k: k.sum(1), term=kl, total=lambda e, k: e + k):
    return lambda logits, x, mu, log_var: total(error(bce(logits, x)), rate(term(mu, log_var)))


def weight(
    prior=lambda z: -0.5 * (z**2 + LOG_2PI).sum(1),
    q=lambda z, m, v: -0.5 * ((z - m) ** 2 / v.exp() + v + LOG_2PI).sum(1),
    total=lambda x, p, q: x + p - q,
):
    return lambda log_px, z, mu, log_var: total(log_px, prior(z), q(z, mu, log_var))


def arc(angle=lambda a, b, c: c.arccos(), divide=torch.sin, first=lambda w, t: ((1 - t) * w).sin()):
    def slerp(a, b, t):
        w = angle(a, b, F.cosine_similarity(a, b, dim=1)[:, None].clamp(-1, 1))
        return (first(w, t) * a + (t * w).sin() * b) / divide(w)

    return slerp


def moments(mean=lambda m, v: m.mean(0), between=lambda o: o.T @ o / len(o), within=lambda v: v.mean(0).diag()):
    return lambda mu, log_var: (mean(mu, log_var), between(mu - mu.mean(0)) + within(log_var.exp()))


def to_prior(
    distance=lambda m, n, v, w: (m - n) ** 2 / w.exp(),
    ratio=lambda v, w: (v - w).exp(),
    logs=lambda v, w: v - w,
    one=1,
):
    return lambda m, v, n, w: 0.5 * (distance(m, n, v, w) + ratio(v, w) - one - logs(v, w)).sum(1)


# Tests of notebook 08 -----------------------------------------------------------------------------------------------


def one_exact_amount(model, x):
    logits, mu, log_var = model(x)
    far = model.loss((logits, mu + 3, log_var), x) - model.loss((logits, mu, log_var), x)
    assert (far - (3 * mu + 4.5).sum(1).mean()).abs() < 1e-2


def conditions_permuted(model, x, cond):
    z, _ = model.encode(x, cond)
    assert not torch.allclose(model.decode(z, cond), model.decode(z, cond[torch.randperm(len(cond))]))


def within_one_nat(model, x):
    logits, mu, log_var = model(x)
    twice = model.loss((logits.repeat(2, 1), mu.repeat(2, 1), log_var.repeat(2, 1)), x.repeat(2, *[1] * (x.dim() - 1)))
    assert (twice - model.loss((logits, mu, log_var), x)).abs() < 1


ANSWERS: dict[str, list[tuple[str, Callable]]] = {
    "reconstruction_error": [
        ("784 written into the formula", lambda x, r: square(x, r).mean(1) * 784),
        ("the difference of the squares", lambda x, r: (x**2 - r**2).flatten(1).sum(1)),
        ("the mean times the size of the whole batch", lambda x, r: square(x, r).mean(1) * x.numel()),
        ("the mean times the batch size", lambda x, r: square(x, r).mean(1) * len(x)),
        ("all pairs of images", lambda x, r: torch.cdist(x.flatten(1), r.flatten(1)) ** 2),
        ("each image against the mean reconstruction", lambda x, r: square(x, r.mean(0)).sum(1)),
        ("root mean square error", lambda x, r: square(x, r).mean(1).sqrt()),
        ("pixels from 0 to 255", lambda x, r: square(255 * x, 255 * r).sum(1)),
    ],
    "denoising_loss": [
        ("x changed in place", denoise(lambda x, n: x.add_(n).clamp_(0, 1))),
        ("the noise clamped, not the sum", denoise(lambda x, n: x + n.clamp(0, 1))),
        ("noise subtracted", denoise(lambda x, n: (x - n).clamp(0, 1))),
        ("clamped to [-1, 1]", denoise(lambda x, n: (x + n).clamp(-1, 1))),
        ("summed over the batch, averaged over the pixels", denoise(reduce=lambda e: e.mean(1).sum())),
        ("averaged, then times 784", denoise(reduce=lambda e: e.mean() * 784)),
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
        ("only 2 pi dropped", terms(lambda s, d: d * math.log(s**2))),
        ("the constant subtracted", terms(lambda s, d: -d * math.log(2 * math.pi * s**2))),
        ("log base 10", terms(lambda s, d: d * math.log10(2 * math.pi * s**2))),
        ("the spread subtracted", terms(spread=lambda v, W: -(v.exp() @ W.square().sum(0)))),
        ("the spread averaged over the batch", terms(spread=lambda v, W: v.exp().mean(0) @ W.square().sum(0))),
        ("b forgotten", terms(keep=0)),
        ("the rate with sigma for sigma squared", terms(rate=lambda m, v: kl(m, v / 2).sum(1))),
    ],
    "posterior": [
        ("pseudo-inverse for the mean: the prior ignored", post(mean=lambda r, W, s, C: r @ torch.linalg.pinv(W).T)),
        ("W'W not divided by sigma squared", post(lambda E, G, s: E + G)),
        ("W'W divided by sigma", post(lambda E, G, s: E + G / s)),
        ("W'W times sigma squared", post(lambda E, G, s: E + G * s**2)),
        ("sigma squared I + W'W taken as the precision", post(lambda E, G, s: s**2 * E + G)),
        ("the prior subtracted", post(lambda E, G, s: G / s**2 - E)),
        ("only the diagonal of W'W", post(lambda E, G, s: E + G.diag().diag() / s**2)),
        ("one for every entry of the identity", post(lambda E, G, s: 1 + G / s**2)),
        ("b added", post(sign=1)),
        ("p(x) for p(z|x)", lambda x, W, b, s: (x - b, W @ W.T + s**2 * torch.eye(len(W), dtype=W.dtype))),
    ],
    "multi_sample_bound": [
        ("log of the number of groups", bound(log=lambda w, k: math.log(len(w) // k))),
        ("only the last group", bound(lambda b: b[-1])),
        ("divided by k", lambda w, k: w.unflatten(0, (-1, k)).logsumexp(1).mean(0) / k),
        ("the groups summed", bound(lambda b: b.sum(0))),
        ("the best group", bound(lambda b: b.amax(0))),
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
    "leave_one_out": [
        ("the scores centred too", loo(lambda f: f.mean(), scores_of=lambda s: s - s.mean(0))),
        ("divided by K - 1 without leaving out", loo(lambda f: f.sum() / (len(f) - 1))),
        ("the mean minus f", loo(lambda f: f.mean() - f)),
        ("the baseline alone", loo(lambda f: (f - f.sum()) / (len(f) - 1), lambda f: 0)),
        ("the next sample as the baseline", loo(lambda f: f.roll(1))),
        ("standardised f", loo(lambda f: 0, lambda f: (f - f.mean()) / f.std())),
        ("averaged over the dimensions", lambda f, s: ((f - (f.sum() - f) / (len(f) - 1))[:, None] * s).mean(1)),
    ],
    "reparameterize": [
        ("the root of log_var", lambda m, v, e: m + v.abs().sqrt() * e),
        ("softplus for exp", lambda m, v, e: m + F.softplus(v) * e),
        ("mu multiplied by the noise", lambda m, v, e: m * e + sd(v)),
        ("sigma added to the noise", lambda m, v, e: m + sd(v) + e),
        ("sigma detached", lambda m, v, e: m + sd(v).detach() * e),
        ("mu detached", lambda m, v, e: m.detach() + sd(v) * e),
        ("noise of its own", lambda m, v, e: m + sd(v) * torch.randn_like(m)),
        ("the noise changed in place", lambda m, v, e: e.mul_(sd(v)).add_(m)),
    ],
    "pathwise_gradient": [
        ("without sigma", path(lambda s, e, m: 0.5 * e)),
        ("the variance for sigma", path(lambda s, e, m: 0.5 * s**2 * e)),
        ("z with sigma = exp(log_var)", path(sigma=torch.exp)),
        ("z with log_var for sigma", path(sigma=lambda v: v)),
        ("z without the noise's scale", path(sigma=torch.ones_like)),
        ("mu not subtracted: z / 2", path(lambda s, e, m: 0.5 * (m + s * e))),
        ("the sign of the second", path(lambda s, e, m: -0.5 * s * e)),
    ],
    "score_function_loss": [
        ("a column of weights against a row of log q", weighted(lambda f, b: (f - b)[:, None])),
        ("one loss for each sample", weighted(lambda f, b: f - b, lambda w, q: w * q)),
        ("all detached", weighted(lambda f, b: f - b, lambda w, q: (w * q).mean().detach())),
        ("f added to the loss", lambda f, q, b: ((f - b).detach() * q + f).mean()),
        ("f centred besides", weighted(lambda f, b: f - b - (f - b).mean())),
        ("the mean of the baseline for each", weighted(lambda f, b: f - b.mean())),
    ],
    "gaussian_kl": [
        ("-1 outside the sum", lambda m, v: 0.5 * ((m**2 + v.exp() - v).sum(1) - 1)),
        ("-1 outside the half", lambda m, v: (0.5 * (m**2 + v.exp() - v) - 1).sum(1)),
        ("+1 for -1", lambda m, v: 0.5 * (m**2 + v.exp() + 1 - v).sum(1)),
        ("log_var as the variance", lambda m, v: 0.5 * (m**2 + v - 1 - v.abs().log()).sum(1)),
        ("log sigma in the last term", lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v / 2).sum(1)),
        ("the cross-entropy only", lambda m, v: 0.5 * (m**2 + v.exp() + LOG_2PI).sum(1)),
        ("the batch averaged", lambda m, v: kl(m, v).mean(0)),
        ("in bits", lambda m, v: kl(m, v).sum(1) / math.log(2)),
        ("the distance divided by the variance", lambda m, v: 0.5 * (m**2 / v.exp() + v.exp() - 1 - v).sum(1)),
    ],
    "gaussian_kl_full": [
        ("S_q inverted", full(lambda S, T: (S.inverse() @ T).trace(), lambda d, S, T: d @ S.inverse() @ d)),
        ("half the log determinants once more", full(logs=lambda S, T: (T.logdet() - S.logdet()) / 2)),
        ("log base 2", full(logs=lambda S, T: T.det().log2() - S.det().log2())),
        ("entries divided, not the inverse", full(lambda S, T: (S / T).trace())),
        ("the product summed, not its trace", full(lambda S, T: (T.inverse() @ S).sum())),
        ("the means added", lambda m, S, n, T: full()(m, S, -n, T)),
    ],
    "kl_monte_carlo": [
        ("Normal(mu, sigma squared)", mc(lambda z, m, v, e: Normal(m, v.exp()).log_prob(z))),
        ("mu left out of z", mc(shift=0)),
        ("2 pi in log q only", mc(log_p=lambda z: -0.5 * z**2)),
        ("the half forgotten in log p", mc(log_p=lambda z: -LOG_2PI / 2 - z**2)),
        ("log_var added, not subtracted", mc(lambda z, m, v, e: -0.5 * (LOG_2PI - v + e**2))),
        ("only the first sample", mc(reduce=lambda r: r[0].sum(-1))),
        ("the log of the mean ratio", mc(reduce=lambda r: r.sum(-1).logsumexp(0) - math.log(len(r)))),
    ],
    "kl_gradient": [
        ("the reverse KL's gradient", lambda m, v: (m / v.exp(), 0.5 * (1 - (m**2 + 1) / v.exp()))),
        ("mu squared", lambda m, v: (m**2, 0.5 * (v.exp() - 1))),
        ("half of mu squared", lambda m, v: (0.5 * m**2, 0.5 * (v.exp() - 1))),
        ("1 / log_var for the log term", lambda m, v: (m, 0.5 * (v.exp() - 1 / v))),
        ("-1 and log_var both kept", lambda m, v: (m, 0.5 * (v.exp() - 1 - v))),
        ("the -1 outside the half", lambda m, v: (m, 0.5 * v.exp() - 1)),
        ("mu squared in the second", lambda m, v: (m, 0.5 * (m**2 + v.exp() - 1))),
    ],
    "bits_per_dimension": [
        ("log base 2 of the nats", lambda m, v: kl(m, v).mean(0).log2()),
        ("divided by log10 of 2", lambda m, v: kl(m, v).mean(0) / math.log10(2)),
        ("the total shared evenly", lambda m, v: (kl(m, v).mean() / math.log(2)).expand(m.shape[1])),
        ("divided by N - 1", lambda m, v: kl(m, v).sum(0) / (len(m) - 1) / math.log(2)),
        ("2 to the power in place of exp", lambda m, v: 0.5 * (m**2 + 2**v - 1 - v).mean(0) / math.log(2)),
    ],
    "gaussian_nll": [
        ("sigma for its square everywhere, var=sigma", lambda m, x, s: nll()(m, x, math.sqrt(s))),
        ("log sigma subtracted", nll(lambda x, s: x[0].numel() * (LOG_2PI / 2 - math.log(s)))),
        ("x.shape[1] for the pixels", nll(lambda x, s: x.shape[1] * math.log(2 * math.pi * s**2) / 2)),
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
        ("the norm divided by the pixels", lambda m, x: (x - m).norm() / x[0].numel()),
        ("divided by 2 after the root", lambda m, x: square(x, m).mean().sqrt() / 2),
        ("divided by n - 1", lambda m, x: (square(x, m).sum() / (x.numel() - 1)).sqrt()),
        ("the spread around the images' mean", lambda m, x: square(x, x.mean(0)).mean().sqrt()),
        ("1 / sigma", lambda m, x: 1 / square(x, m).mean().sqrt()),
        ("a Python number", lambda m, x: square(x, m).mean().sqrt().item()),
    ],
    "effective_beta": [
        ("2 for the half", ratio(half=lambda h: 0.5 if not h else 1)),
        ("the flags exchanged", lambda d, n, pm, h, w, km: ratio()(d, n, km, h, w, pm)),
        ("sums and means exchanged", ratio(pixel_mean=False, kl_mean=False)),
        ("D and L exchanged", ratio(lambda d, n: n, lambda d, n: d)),
    ],
    "bce_floor": [
        ("x taken as logits", lambda x: bce(x, x).sum(1)),
        ("the sigmoid as target and reconstruction", lambda x: bce(x, x.sigmoid()).sum(1)),
        ("nan made 0 at the end", lambda x: -(x * x.log() + (1 - x) * (1 - x).log()).flatten(1).sum(1).nan_to_num()),
        ("clamped at 0.01", lambda x: bce(x.clamp(0.01, 0.99).logit(), x.clamp(0.01, 0.99)).sum(1)),
        ("1e-3 within the logs", lambda x: -(x * (x + 1e-3).log() + (1 - x) * (1.001 - x).log()).flatten(1).sum(1)),
    ],
    "bce_from_logits": [
        ("probabilities clamped", lambda a, x: bce(a.sigmoid().clamp(1e-3, 0.999).logit(), x).sum(1)),
        ("logits clamped", lambda a, x: bce(a.clamp(-10, 10), x).sum(1)),
        ("softplus(-l) - l x", lambda a, x: (F.softplus(-a) - a * x).flatten(1).sum(1)),
        ("only the lit pixels", lambda a, x: (x * F.softplus(-a)).flatten(1).sum(1)),
        ("averaged over the batch", lambda a, x: bce(a, x).sum(1).mean()),
        ("cross-entropy over all pixels", lambda a, x: -(x.flatten(1) * a.flatten(1).log_softmax(1)).sum(1)),
        ("in bits", lambda a, x: bce(a, x).sum(1) / math.log(2)),
    ],
    "posterior_average": [
        ("log_var added", average(lambda d, v: -0.5 * (d / v.exp() - v).sum(2))),
        ("the mean over dimensions", average(lambda d, v: -0.5 * (d / v.exp() + v).mean(2))),
        ("the sign", average(lambda d, v: 0.5 * (d / v.exp() + v).sum(2))),
        ("log-softmax for softmax", average(weigh=lambda q: q.log_softmax(1))),
    ],
    "negative_elbo": [
        ("the KL averaged over the batch", elbo(rate=lambda k: k.sum(1).mean())),
        ("the KL without -1", elbo(rate=lambda k: (k + 0.5).sum(1))),
        ("the KL with -1 once", elbo(rate=lambda k: (k + 0.5).sum(1) - 0.5)),
        ("the KL with +1", elbo(rate=lambda k: (k + 1).sum(1))),
        ("the reverse KL", elbo(term=lambda m, v: 0.5 * ((m**2 + 1) / v.exp() - 1 + v))),
        ("mu not squared", elbo(term=lambda m, v: 0.5 * (m + v.exp() - 1 - v))),
        ("a column and a row added", elbo(lambda e: e.sum(1, keepdim=True))),
        ("divided by the pixels", lambda a, x, m, v: elbo()(a, x, m, v) / x[0].numel()),
        ("mu and log_var exchanged", lambda a, x, m, v: elbo()(a, x, v, m)),
    ],
    "log_weight": [
        ("sigma = exp(log_var)", lambda p, z, m, v: weight()(p, z, m, 2 * v)),
        ("log_var as sigma", lambda p, z, m, v: weight()(p, z, m, 2 * v.abs().log())),
        ("not divided", weight(q=lambda z, m, v: -0.5 * ((z - m) ** 2 + v + LOG_2PI).sum(1))),
        ("log_var's sign", weight(q=lambda z, m, v: -0.5 * ((z - m) ** 2 / v.exp() - v + LOG_2PI).sum(1))),
        ("2 pi in the prior once, not L times", weight(lambda z: -0.5 * ((z**2).sum(1) + LOG_2PI))),
        ("the KL added", lambda p, z, m, v: p + kl(m, v).sum(1)),
        ("log_px subtracted", weight(total=lambda x, p, q: p - q - x)),
        ("all signs turned", weight(total=lambda x, p, q: q - p - x)),
    ],
    "is_active": [
        ("mean absolute deviation", lambda m, t: (m - m.mean(0)).abs().mean(0) > t),
        ("the summed squares", lambda m, t: ((m - m.mean(0)) ** 2).sum(0) > t),
        ("one variance for all", lambda m, t: (m.var() > t).expand(m.shape[1])),
        ("centred on the mean of everything", lambda m, t: ((m - m.mean()) ** 2).mean(0) > t),
        ("the share of all variance", lambda m, t: m.var(0) / m.var(0).sum() > t),
        ("the indices", lambda m, t: (m.var(0) > t).nonzero().flatten()),
    ],
    "slerp": [
        ("a straight line, normalised", lambda a, b, t: F.normalize((1 - t) * a + t * b, dim=1)),
        ("the cosine of the batch", arc(lambda a, b, c: c.mean().arccos())),
        ("divided by the angle", arc(divide=lambda w: w)),
        ("sin(w) - sin(t w) for the first", arc(first=lambda w, t: w.sin() - (t * w).sin())),
        ("the norms of the batch", arc(lambda a, b, c: ((a * b).sum(1, keepdim=True) / a.norm() / b.norm()).arccos())),
    ],
    "aggregate": [
        ("divided by L", moments(between=lambda o: o.T @ o / o.shape[1])),
        ("variances divided by N once more", moments(within=lambda v: v.mean(0).diag() / len(v))),
        ("variances added to every entry", moments(within=lambda v: v.mean(0))),
        ("precision-weighted mean", moments(lambda m, v: (m / v.exp()).sum(0) / (-v).exp().sum(0))),
        ("the mean over dimensions", moments(lambda m, v: m.mean(1))),
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
    ],
    "same_style": [
        ("only the noise", lambda z, m, v, n, w: (z - m) / sd(v)),
        ("z not centred", lambda z, m, v, n, w: n + sd(w) * z / sd(v)),
        ("the half forgotten on the way out", lambda z, m, v, n, w: n + w.exp() * (z - m) / sd(v)),
        ("the new mean scaled too", lambda z, m, v, n, w: (n + (z - m) / sd(v)) * sd(w)),
        ("the new mean for all", lambda z, m, v, n, w: n),
        ("precedence: only mu divided", lambda z, m, v, n, w: n + sd(w) * (z - m / sd(v))),
        ("new noise", lambda z, m, v, n, w: n + sd(w) * torch.randn_like(z)),
    ],
    "test_far_codes_cost": [("one exact amount demanded", one_exact_amount)],
    "test_loss_is_per_image": [("a tolerance of one nat", within_one_nat)],
    "test_decoder_hears_the_condition": [("conditions permuted", conditions_permuted)],
}
UNLISTED: list[tuple[str, str, Callable]] = [
    (name, words, wrong) for name, answers in ANSWERS.items() for words, wrong in answers
]
