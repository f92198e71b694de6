"""The exercises of notebook 04, the analytic KL."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._attempt import Attempt, NotYet, Raised
from ._compare import Case, Compare, Misconception, _agree, as_tensor, gradient_reaches
from ._framework import Exercise

# 4.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def gaussian_kl(mu, log_var):
    """Return KL(N(mu, diag sigma^2) || N(0, I)) of each example, in nats.

    mu, log_var: (B, L), log_var is log sigma^2
    result:      (B,)
    """
    ...'''


def gaussian_kl(mu, log_var):
    per_dimension = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)  # (B, L)
    return per_dimension.sum(dim=1)  # (B,)


def _parameters(*shape: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    mu = torch.randint(-15, 16, shape, generator=rng).double() / 10
    log_var = torch.randint(-25, 13, shape, generator=rng).double() / 10
    return mu, log_var


def _cases_1(rng: torch.Generator) -> list[tuple]:
    small = [[1.0, -0.5, 0.0], [0.2, 2.0, -1.0]], [[-1.0, 0.5, -2.0], [-0.3, -0.7, 1.0]]
    positive = [[0.5, -1.0]], [[0.4, 1.0]]  # where log_var has a logarithm
    small, positive = (tuple(torch.tensor(t).double() for t in pair) for pair in (small, positive))
    return [small, _parameters(4, 5, rng=rng), _parameters(1, 2, rng=rng), positive]


def _terms(mu: Tensor, log_var: Tensor) -> Tensor:
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var)


EXERCISE_1 = Exercise(
    number="4.1",
    title="The KL of each example",
    minutes=5,
    stub=STUB_1,
    hints=(
        "First the formula for one dimension, applied to whole tensors; what you hold then has the shape of mu. "
        "Which axis holds the dimensions of one example?",
        "The network gives log σ², and the formula wants σ² and log σ². Which of the two is an exponential away, "
        "and which one is there already? Then add up over the latent dimensions; the examples stay apart.",
        "Per dimension: half of μ² plus σ² minus 1 minus log σ², where σ² is `log_var.exp()` and log σ² is `log_var` "
        "itself. Then `.sum(dim=1)`.",
    ),
    solution=gaussian_kl,
    passed="Summed over dimensions, one number per example, never negative.",
    judge=Compare(
        cases=_cases_1,
        also=gradient_reaches("mu", "log_var"),
        misconceptions=(
            Misconception(
                "sign flipped",
                lambda mu, lv: -_terms(mu, lv).sum(1),
                "This is −KL, and it is below zero. The paper's formula is that of −KL, a term of the ELBO. Which "
                "sign can a divergence have?",
            ),
            Misconception(
                "log_var read as sigma",
                lambda mu, lv: (0.5 * (mu**2 + lv**2 - 1 - (lv**2).log())).sum(1),
                "Here log_var was taken for σ: squared where σ² belongs, and log σ² computed from that square. It can "
                "be negative, which no standard deviation is. Which logarithm does its name promise?",
            ),
            Misconception(
                "log_var squared",
                lambda mu, lv: (0.5 * (mu**2 + lv**2 - 1 - lv)).sum(1),
                "The log term is right. For σ², log_var was squared, as if it were σ. What turns log σ² into σ²?",
            ),
            Misconception(
                "log_var read as the variance",
                lambda mu, lv: (0.5 * (mu**2 + lv - 1 - lv.log())).sum(1),
                "Here log_var itself was used as σ², and its logarithm taken once more. What does its name say that "
                "it is?",
            ),
            Misconception(
                "logarithm taken twice",
                lambda mu, lv: (0.5 * (mu**2 + lv.exp() - 1 - lv.log())).sum(1),
                "σ² is right. Where log σ² belongs, the logarithm of log_var was taken, which does not even exist "
                "where log_var is negative. What does its name say that has been done already?",
            ),
            Misconception(
                "log_var read as log sigma",
                lambda mu, lv: (0.5 * (mu**2 + (2 * lv).exp() - 1 - 2 * lv)).sum(1),
                "This is right for a network that gives log σ. Here it gives log σ², which is twice that. How many "
                "factors 2 are there, then?",
            ),
            Misconception(
                "sigma in place of its square",
                lambda mu, lv: (0.5 * (mu**2 + (0.5 * lv).exp() - 1 - lv)).sum(1),
                "The exponential was taken of half of log_var, which gives σ. The formula asks for which power of it?",
            ),
            Misconception(
                "mean over dimensions",
                lambda mu, lv: _terms(mu, lv).mean(1),
                "This is the average over the latent dimensions: the KL divided by L. Independent dimensions multiply "
                "their densities. What does the logarithm make of a product?",
            ),
            Misconception(
                "over the batch",
                lambda mu, lv: _terms(mu, lv).sum(0),
                "The sum runs over the examples and keeps the dimensions. Which axis is the batch?",
            ),
            Misconception(
                "one sum for the batch",
                lambda mu, lv: _terms(mu, lv).sum(),
                "Everything was added into one number, so twice the examples cost twice as much. Which axis should "
                "survive?",
            ),
            Misconception(
                "one mean for the batch",
                lambda mu, lv: _terms(mu, lv).mean(),
                "This is the mean over examples and dimensions, L times too small and one number for all. Which axis "
                "is summed, and which is left to the caller?",
            ),
            Misconception(
                "sum averaged over the batch",
                lambda mu, lv: _terms(mu, lv).sum(1).mean(),
                "The dimensions are summed, as they should be, and then the examples were averaged. What if that step "
                "were left to the caller?",
            ),
            Misconception(
                "one half missing",
                lambda mu, lv: 2 * _terms(mu, lv).sum(1),
                "This is exactly twice the KL. Where does the ½ in a Gaussian's exponent go?",
            ),
            Misconception(
                "one half on the mean only",
                lambda mu, lv: (0.5 * mu**2 + lv.exp() - 1 - lv).sum(1),
                "The ½ reached μ² but not the rest. Where does the bracket close?",
            ),
            Misconception(
                "minus one missing",
                lambda mu, lv: (0.5 * (mu**2 + lv.exp() - lv)).sum(1),
                "At μ = 0 and σ = 1 this gives ½ per dimension, but q and p are equal there. What is missing?",
            ),
            Misconception(
                "log term added",
                lambda mu, lv: (0.5 * (mu**2 + lv.exp() - 1 + lv)).sum(1),
                "The logarithm has the other sign here, so narrow posteriors are rewarded. What should happen to the "
                "KL as σ goes to 0?",
            ),
            Misconception(
                "mu not squared",
                lambda mu, lv: (0.5 * (mu + lv.exp() - 1 - lv)).sum(1),
                "The mean enters without its square, so moving to the left is rewarded. What makes both directions "
                "cost the same?",
            ),
            Misconception(
                "the other direction",
                lambda mu, lv: (0.5 * ((1 + mu**2) / lv.exp() - 1 + lv)).sum(1),
                "This is KL(p ‖ q), the right formula for the other direction. Under which of the two is the "
                "expectation taken?",
            ),
        ),
    ),
)

# 4.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def gaussian_kl_full(mean_q, cov_q, mean_p, cov_p):
    """Return KL(N(mean_q, cov_q) || N(mean_p, cov_p)) in nats: one number.

    mean_q, mean_p: (L,)
    cov_q, cov_p:   (L, L), symmetric and positive definite
    """
    ...'''


def gaussian_kl_full(mean_q, cov_q, mean_p, cov_p):
    offset = mean_p - mean_q
    trace = torch.linalg.solve(cov_p, cov_q).trace()
    mahalanobis = offset @ torch.linalg.solve(cov_p, offset)
    log_dets = torch.logdet(cov_p) - torch.logdet(cov_q)
    return 0.5 * (trace + mahalanobis - len(offset) + log_dets)


def _cases_2(rng: torch.Generator) -> list[tuple]:
    def case(size: int) -> tuple:
        means = torch.randint(-10, 11, (2, size), generator=rng).double() / 10
        roots = torch.randn(2, size, size, generator=rng, dtype=torch.float64)
        covs = roots @ roots.mT + torch.eye(size, dtype=torch.float64)
        return means[0], covs[0], means[1], covs[1]

    small = [1.0, 0.0], [[1.0, 0.5], [0.5, 2.0]], [0.0, 0.5], [[2.0, -0.4], [-0.4, 1.0]]
    return [tuple(torch.tensor(t).double() for t in small), case(3), case(5)]


def _pieces(m_q: Tensor, s_q: Tensor, m_p: Tensor, s_p: Tensor) -> tuple[Tensor, Tensor, int, Tensor]:
    inverse, d = torch.linalg.inv(s_p), m_p - m_q
    return (inverse @ s_q).trace(), d @ inverse @ d, len(d), torch.logdet(s_p) - torch.logdet(s_q)


def _assemble(trace: Any, mahalanobis: Any, size: Any, log_dets: Any) -> Any:
    return 0.5 * (trace + mahalanobis - size + log_dets)


def _changed(**changes: Any) -> Any:
    """The right formula, but for the named pieces: each a function of (m_q, s_q, m_p, s_p)."""
    names = ("trace", "mahalanobis", "size", "log_dets")

    def wrong(m_q: Tensor, s_q: Tensor, m_p: Tensor, s_p: Tensor) -> Any:
        pieces = dict(zip(names, _pieces(m_q, s_q, m_p, s_p), strict=True))
        pieces |= {name: change(m_q, s_q, m_p, s_p) for name, change in changes.items()}
        return _assemble(**pieces)

    return wrong


def _diagonals(m_q: Tensor, s_q: Tensor, m_p: Tensor, s_p: Tensor) -> Any:
    return _assemble(*_pieces(m_q, s_q.diagonal().diag(), m_p, s_p.diagonal().diag()))


EXERCISE_2 = Exercise(
    number="4.2",
    title="The KL between two full Gaussians",
    minutes=8,
    stub=STUB_2,
    hints=(
        "Four pieces stand in the bracket: a trace, a Mahalanobis distance, the dimension and a difference of "
        "log-determinants. Compute each by itself, for a case that you can check: q = p must give L, 0, L and 0.",
        "Both the trace and the distance are measured with the inverse of p's covariance, for the expectation of "
        "log p is where they come from. `torch.linalg.solve(A, B)` gives A⁻¹ B without forming the inverse.",
        "trace of solve(cov_p, cov_q); offset · solve(cov_p, offset); minus L; plus logdet of cov_p minus logdet of "
        "cov_q. All of it times ½.",
    ),
    solution=gaussian_kl_full,
    passed="Trace, distance, dimension and log-determinants, each in its place.",
    judge=Compare(
        cases=_cases_2,
        also=gradient_reaches("mean_q", "cov_q", "mean_p", "cov_p"),
        misconceptions=(
            Misconception(
                "the other direction",
                lambda m_q, s_q, m_p, s_p: _assemble(*_pieces(m_p, s_p, m_q, s_q)),
                "This is KL(p ‖ q), the right formula with the roles exchanged. Under which of the two is the "
                "expectation taken?",
            ),
            Misconception(
                "dimension missing",
                _changed(size=lambda *_: 0),
                "With q = p this gives L/2 and not 0. What does the trace come to there?",
            ),
            Misconception(
                "one in place of the dimension",
                _changed(size=lambda *_: 1),
                "The 1 is right in one dimension. What is the trace of the identity in L dimensions?",
            ),
            Misconception(
                "one half missing",
                lambda *a: 2 * _assemble(*_pieces(*a)),
                "This is exactly twice the KL. Which factor do all four pieces share?",
            ),
            Misconception(
                "sign flipped",
                lambda *a: -_assemble(*_pieces(*a)),
                "This is −KL. Which sign can a divergence have?",
            ),
            Misconception(
                "log-determinants exchanged",
                _changed(log_dets=lambda m_q, s_q, m_p, s_p: torch.logdet(s_q) - torch.logdet(s_p)),
                "The log-determinants have each other's sign. What should happen to the KL as q's volume goes to 0?",
            ),
            Misconception(
                "log-determinants missing",
                _changed(log_dets=lambda *_: 0),
                "The trace, the distance and the dimension are right. Nothing here stops q from shrinking to a point: "
                "which piece should?",
            ),
            Misconception(
                "determinants without the logarithm",
                _changed(log_dets=lambda m_q, s_q, m_p, s_p: torch.linalg.det(s_p) - torch.linalg.det(s_q)),
                "The determinants were subtracted as they are. What stands in the logarithm of a Gaussian density?",
            ),
            Misconception(
                "trace without the inverse",
                _changed(trace=lambda m_q, s_q, m_p, s_p: (s_p @ s_q).trace()),
                "The trace multiplies the two covariances. A wide p should make q's spread cheap: what is missing?",
            ),
            Misconception(
                "trace with the wrong inverse",
                _changed(trace=lambda m_q, s_q, m_p, s_p: torch.linalg.solve(s_q, s_p).trace()),
                "In the trace, q's covariance was inverted. It comes from E_q[log p]: whose inverse is in log p?",
            ),
            Misconception(
                "distance measured by q",
                _changed(mahalanobis=lambda m_q, s_q, m_p, s_p: (m_p - m_q) @ torch.linalg.solve(s_q, m_p - m_q)),
                "The distance between the means is measured with q's covariance. Whose log-density does it come from?",
            ),
            Misconception(
                "distance without the inverse",
                _changed(mahalanobis=lambda m_q, s_q, m_p, s_p: (m_p - m_q) @ s_p @ (m_p - m_q)),
                "The distance is multiplied by p's covariance. Should a wide p make a shift of the mean cost more or "
                "less?",
            ),
            Misconception(
                "plain squared distance",
                _changed(mahalanobis=lambda m_q, s_q, m_p, s_p: (m_p - m_q) @ (m_p - m_q)),
                "The distance between the means ignores p's covariance, which is right only for p = N(0, I). In what "
                "units should it be measured?",
            ),
            Misconception(
                "means ignored",
                _changed(mahalanobis=lambda *_: 0),
                "The covariances are compared, the means are not. What does moving q away from p cost?",
            ),
            Misconception(
                "diagonals only",
                _diagonals,
                "Only the variances were used, the covariances off the diagonal were not. When would that be enough?",
            ),
        ),
    ),
)

# 4.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def kl_monte_carlo(mu, log_var, eps):
    """Estimate KL(N(mu, diag sigma^2) || N(0, I)) of each example from samples: the mean of log q(z) - log p(z).

    mu, log_var: (B, L), log_var is log sigma^2
    eps:         (K, B, L), noise from N(0, I): K samples for each example
    result:      (B,), in nats
    """
    ...'''


def kl_monte_carlo(mu, log_var, eps):
    z = mu + (0.5 * log_var).exp() * eps  # (K, B, L), samples of q
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + eps**2)  # (z - mu) / sigma is eps
    log_p = -0.5 * (math.log(2 * math.pi) + z**2)
    return (log_q - log_p).sum(dim=-1).mean(dim=0)


def _cases_3(rng: torch.Generator) -> list[tuple]:
    mu, log_var = torch.tensor([[1.0, -0.5]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    eps = torch.tensor([[[0.5, -1.0]], [[-1.5, 0.2]], [[0.3, 0.8]]]).double()
    more = torch.randint(-20, 21, (4, 3, 5), generator=rng).double() / 10
    return [(mu, log_var, eps), (*_parameters(3, 5, rng=rng), more)]


def _log_ratio(mu: Tensor, log_var: Tensor, eps: Tensor, z: Tensor | None = None) -> Tensor:
    z = mu + (0.5 * log_var).exp() * eps if z is None else z
    return 0.5 * (z**2 - log_var - (z - mu) ** 2 / log_var.exp())


class _WithTheGivenNoise(Compare):
    """Compare, after asking whether the same arguments give the same result twice."""

    def __call__(self, exercise: Exercise, attempt: Attempt) -> None:
        first, second = ([outcome for outcome, _ in self.outcomes(attempt)] for _ in range(2))
        if not all(map(_agree, first, second)):
            raise NotYet(
                "eps was not used",
                "The same arguments gave two different results: your function draws noise of its own. The noise is an "
                "argument here, so that the result can be compared. Which line should use eps?",
            )
        super().__call__(exercise, attempt)


EXERCISE_3 = Exercise(
    number="4.3",
    title="The KL from samples",
    minutes=7,
    stub=STUB_3,
    hints=(
        "Three steps: make the samples z out of the noise, evaluate both log-densities at z, and average their "
        "difference. Which axes are summed, and which one is averaged?",
        "log N(z; μ, σ²) is −½ (log 2π + log σ² + ((z − μ)/σ)²) per dimension. Dimensions are independent, so "
        "their log-densities add; samples are averaged.",
        "z = μ + σ·eps with σ = exp(½ log_var). log q has log_var and eps² in its bracket, log p only z². The "
        "constant log 2π cancels. Sum over the last axis, then mean over the first.",
    ),
    solution=kl_monte_carlo,
    passed="An unbiased estimate of the KL, for any pair of densities that can be evaluated.",
    judge=_WithTheGivenNoise(
        cases=_cases_3,
        also=gradient_reaches("mu", "log_var"),
        misconceptions=(
            Misconception(
                "sign flipped",
                lambda mu, lv, eps: -_log_ratio(mu, lv, eps).sum(-1).mean(0),
                "This is the mean of log p − log q, which estimates −KL. Which of the two should be larger where q has "
                "its samples?",
            ),
            Misconception(
                "summed over samples",
                lambda mu, lv, eps: _log_ratio(mu, lv, eps).sum(-1).sum(0),
                "This grows with the number of samples K. What turns a sum over samples into an expectation?",
            ),
            Misconception(
                "averaged over dimensions",
                lambda mu, lv, eps: _log_ratio(mu, lv, eps).mean(-1).mean(0),
                "The dimensions were averaged, so the result is L times too small. What do log-densities of "
                "independent dimensions do?",
            ),
            Misconception(
                "one number for the batch",
                lambda mu, lv, eps: _log_ratio(mu, lv, eps).sum(-1).mean(),
                "Samples and examples were averaged together. Which axis should survive?",
            ),
            Misconception(
                "samples left apart",
                lambda mu, lv, eps: _log_ratio(mu, lv, eps).sum(-1),
                "This is log q − log p of each sample, (K, B). What is the estimate of their expectation?",
            ),
            Misconception(
                "exp(log_var) as sigma",
                lambda mu, lv, eps: _log_ratio(mu, lv, eps, mu + lv.exp() * eps).sum(-1).mean(0),
                "The densities are right, but the samples are not from q: they were spread by σ², not by σ. What is σ "
                "in terms of log σ²?",
            ),
            Misconception(
                "exp(log_var) as sigma, in log q too",
                lambda mu, lv, eps: _log_ratio(mu, 2 * lv, eps).sum(-1).mean(0),
                "Samples and log q belong together, but to another Gaussian: its standard deviation is exp(log_var). "
                "Is that σ, or which power of it?",
            ),
            Misconception(
                "exp(log_var) as sigma, eps in log q",
                lambda mu, lv, eps: 0.5 * ((mu + lv.exp() * eps) ** 2 - lv - eps**2).sum(-1).mean(0),
                "The samples were spread by σ², not by σ, while log q takes eps for (z − μ)/σ. By what must eps be "
                "multiplied to make that true?",
            ),
            Misconception(
                "normaliser of q missing",
                lambda mu, lv, eps: (_log_ratio(mu, lv, eps) + 0.5 * lv).sum(-1).mean(0),
                "Only the exponents were compared. The two densities also have different heights: which term of log q "
                "says so?",
            ),
            Misconception(
                "normaliser of q without one half",
                lambda mu, lv, eps: (_log_ratio(mu, lv, eps) - 0.5 * lv).sum(-1).mean(0),
                "log σ² was subtracted whole. The normaliser of a Gaussian is 1/σ: what is its logarithm in terms of "
                "log σ²?",
            ),
            Misconception(
                "distance not divided by sigma",
                lambda mu, lv, eps: (
                    (_log_ratio(mu, lv, eps) + 0.5 * eps**2 - 0.5 * (lv.exp() * eps**2)).sum(-1).mean(0)
                ),
                "In log q, the distance from μ is not measured in units of σ. What is (z − μ)/σ in terms of eps?",
            ),
            Misconception(
                "samples from the prior",
                lambda mu, lv, eps: _log_ratio(mu, lv, eps, eps).sum(-1).mean(0),
                "The log-densities were compared at z = eps, samples of p. Under which of the two is the expectation "
                "in KL(q ‖ p)?",
            ),
            Misconception(
                "samples at the mean",
                lambda mu, lv, eps: _log_ratio(mu, lv, eps, mu).sum(1),
                "Everything was evaluated at z = μ, and the noise took no part. Where does eps come in?",
            ),
            Misconception(
                "closed form",
                lambda mu, lv, eps: _terms(mu, lv).sum(1),
                "This is the exact KL, from exercise 4.1. It is the right number to compare with; here it should be "
                "estimated from the samples alone.",
            ),
            Misconception(
                "one half missing",
                lambda mu, lv, eps: 2 * _log_ratio(mu, lv, eps).sum(-1).mean(0),
                "This is exactly twice the estimate. Where is the ½ of a Gaussian's exponent?",
            ),
        ),
    ),
)

# 4.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def kl_gradient(mu, log_var):
    """Return the derivatives of the KL to N(0, I) with respect to mu and to log_var, by hand: no autograd.

    mu, log_var: (B, L), log_var is log sigma^2
    result:      a pair (d_mu, d_log_var), (B, L) each
    """
    ...'''


def kl_gradient(mu, log_var):
    d_mu = mu
    d_log_var = 0.5 * (log_var.exp() - 1)
    return d_mu, d_log_var


def _cases_4(rng: torch.Generator) -> list[tuple]:
    small = [[1.0, -0.5]], [[-1.0, 0.5]]
    return [tuple(torch.tensor(t).double() for t in small), _parameters(3, 4, rng=rng)]


def _observe_4(attempt: Attempt, mu: Tensor, log_var: Tensor) -> dict[str, Tensor]:
    try:
        with torch.no_grad():
            pair = attempt(mu, log_var)
    except Raised as raised:
        if "require grad" in str(raised.error):
            raise NotYet(
                "autograd",
                "Your function asks autograd for the derivatives; here they are asked for without it. The formula is "
                "short enough to differentiate on paper: what is left of it after each of the two derivatives?",
            ) from None
        raise
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        came = f"a tensor of shape {tuple(pair.shape)}" if isinstance(pair, Tensor) else f"a {type(pair).__name__}"
        if isinstance(pair, list | tuple):
            came += f" of length {len(pair)}"
        raise NotYet(
            "not a pair",
            f"Two tensors were asked for, the derivative with respect to mu and the one with respect to log_var; "
            f"your function returned {came}. Which two should stand after `return`, with a comma between them?",
        )
    tensors = {}
    for name, value in zip(("d_mu", "d_log_var"), pair, strict=True):
        tensors[name], complaint = as_tensor(value)
        if complaint:
            raise complaint
    return tensors


def _by_hand(attempt: Attempt, cases: Sequence[Case]) -> None:
    """Whole numbers cannot require a gradient: a backward pass fails on them, also where the answer turns it on."""
    for case in cases:
        with contextlib.suppress(Raised):  # any other error is no fault: decimals were promised
            _observe_4(attempt, *(argument.long() for argument in case))


EXERCISE_4 = Exercise(
    number="4.4",
    title="The gradient of the KL, by hand",
    minutes=5,
    stub=STUB_4,
    hints=(
        "Each dimension's KL depends on its own μ and log σ² alone, so it is enough to differentiate the formula for "
        "one dimension. Call log σ² by one letter, v: what is σ² then?",
        "With v = log σ², the KL is ½ (μ² + eᵛ − 1 − v). Differentiate with respect to μ, and with respect to v.",
        "With respect to μ it is μ itself. The derivative of eᵛ is eᵛ, that of v is 1; the ½ stays in front.",
    ),
    solution=kl_gradient,
    passed="The mean is pulled back like a spring; log σ² is pulled up with at most ½, and down with no limit.",
    judge=Compare(
        cases=_cases_4,
        observe=_observe_4,
        also=_by_hand,
        misconceptions=(
            Misconception(
                "downhill",
                lambda mu, lv: (-mu, -0.5 * (lv.exp() - 1)),
                "This is the direction in which gradient descent moves, the gradient with its sign changed. What was "
                "asked for is the gradient itself: at μ > 0, does the KL rise or fall with μ?",
            ),
            Misconception(
                "with respect to log sigma",
                lambda mu, lv: (mu, lv.exp() - 1),
                "The second part is twice what it should be: the derivative in log σ, or the ½ got lost. With "
                "respect to which variable do we differentiate?",
            ),
            Misconception(
                "with respect to the variance",
                lambda mu, lv: (mu, 0.5 * (1 - (-lv).exp())),
                "The second part is the derivative in σ². The network gives log σ²: which factor does the chain rule "
                "add?",
            ),
            Misconception(
                "with respect to sigma",
                lambda mu, lv: (mu, (0.5 * lv).exp() - (-0.5 * lv).exp()),
                "The second part is the derivative in σ. The network gives log σ². What is the derivative of eᵛ in v?",
            ),
            Misconception(
                "mu halved",
                lambda mu, lv: (0.5 * mu, 0.5 * (lv.exp() - 1)),
                "The first part is half of what it should be. What is the derivative of μ², before the ½?",
            ),
            Misconception(
                "mu doubled",
                lambda mu, lv: (2 * mu, 0.5 * (lv.exp() - 1)),
                "The first part is twice what it should be. Which factor stands in front of μ² in the KL?",
            ),
            Misconception(
                "one half missing in both",
                lambda mu, lv: (2 * mu, lv.exp() - 1),
                "Both parts are twice what they should be. Which factor do all terms of the KL share?",
            ),
            Misconception(
                "minus one missing",
                lambda mu, lv: (mu, 0.5 * lv.exp()),
                "The second part is never negative, so σ could only shrink. Which term of the KL depends on log σ² "
                "without an exponential?",
            ),
            Misconception(
                "plus one",
                lambda mu, lv: (mu, 0.5 * (lv.exp() + 1)),
                "The second part is never zero, but at σ = 1 the KL has its minimum. Which sign has the log term?",
            ),
            Misconception(
                "sigma in place of its square",
                lambda mu, lv: (mu, 0.5 * ((0.5 * lv).exp() - 1)),
                "The second part has σ where σ² should stand. What is eᵛ, with v = log σ²?",
            ),
            Misconception(
                "parts exchanged",
                lambda mu, lv: (0.5 * (lv.exp() - 1), mu),
                "Both parts are there, in each other's place. Which one was asked for first?",
            ),
            Misconception(
                "averaged over the batch",
                lambda mu, lv: (mu / len(mu), 0.5 * (lv.exp() - 1) / len(mu)),
                "Everything is divided by the number of examples: the gradient of a mean over the batch. What is that "
                "of each example's own KL?",
            ),
        ),
    ),
)

# 4.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def bits_per_dimension(mu, log_var):
    """Return the mean KL to N(0, I) of each latent dimension over the examples, in bits.

    mu, log_var: (N, L), log_var is log sigma^2
    result:      (L,)
    """
    ...'''


def bits_per_dimension(mu, log_var):
    nats = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)  # (N, L)
    return nats.mean(dim=0) / math.log(2)  # (L,)


def _cases_5(rng: torch.Generator) -> list[tuple]:
    small = [[1.0, -0.5], [0.2, 2.0], [-0.6, 0.4]], [[-1.0, 0.5], [-0.3, -0.7], [-2.0, 0.1]]
    return [tuple(torch.tensor(t).double() for t in small), _parameters(2, 5, rng=rng)]


_LOG2 = math.log(2)

EXERCISE_5 = Exercise(
    number="4.5",
    title="Bits per latent dimension",
    minutes=5,
    stub=STUB_5,
    hints=(
        "You know the KL of one dimension of one example. Here the dimensions stay apart: what happens to the "
        "examples? And one bit is a factor of two: how many nats is that?",
        "A nat is a factor of e, a bit a factor of 2, so 1 bit = log 2 ≈ 0.69 nats. Is the number in bits the larger "
        "or the smaller one?",
        "Take the formula per dimension, (N, L), the mean over axis 0, and divide by math.log(2).",
    ),
    solution=bits_per_dimension,
    passed="The rate, split by dimension, in bits.",
    judge=Compare(
        cases=_cases_5,
        misconceptions=(
            Misconception(
                "nats",
                lambda mu, lv: _terms(mu, lv).mean(0),
                "These are the right numbers in nats. A bit is a factor of 2, a nat a factor of e: what is left to do?",
            ),
            Misconception(
                "multiplied by log 2",
                lambda mu, lv: _terms(mu, lv).mean(0) * _LOG2,
                "The conversion went the wrong way: a bit is smaller than a nat. Does it take more or fewer of them?",
            ),
            Misconception(
                "decimal logarithm",
                lambda mu, lv: _terms(mu, lv).mean(0) / math.log(10),
                "These are decimal digits: one for each factor of 10. How large is the factor of one bit?",
            ),
            Misconception(
                "only the log term converted",
                lambda mu, lv: (0.5 * (mu**2 + lv.exp() - 1 - lv / _LOG2)).mean(0),
                "Only the logarithm that can be seen was changed to base 2. The other terms come from a logarithm, "
                "too: which one?",
            ),
            Misconception(
                "summed over examples",
                lambda mu, lv: _terms(mu, lv).sum(0) / _LOG2,
                "The examples were added up, so twice the data give twice the bits. What was asked for is per example.",
            ),
            Misconception(
                "per example",
                lambda mu, lv: _terms(mu, lv).sum(1) / _LOG2,
                "This is the KL of each example in bits: the dimensions were summed and the examples kept. It should "
                "be the other way round: which axis stays?",
            ),
            Misconception(
                "mean over dimensions",
                lambda mu, lv: _terms(mu, lv).mean(1) / _LOG2,
                "The mean was taken over the dimensions. Which axis holds the examples?",
            ),
            Misconception(
                "one total",
                lambda mu, lv: _terms(mu, lv).sum(1).mean() / _LOG2,
                "This is the whole rate in bits. How is it shared out among the dimensions?",
            ),
            Misconception(
                "one mean",
                lambda mu, lv: _terms(mu, lv).mean() / _LOG2,
                "This is the mean over everything. Which axis should survive, so that dimensions can be compared?",
            ),
            Misconception(
                "KL of the averaged posterior parameters",
                lambda mu, lv: _terms(mu.mean(0), lv.mean(0)) / _LOG2,
                "The parameters were averaged before the KL was taken. Means of +1 and −1 average to 0, as if nothing "
                "had been said. In which order should it go?",
            ),
            Misconception(
                "sign flipped",
                lambda mu, lv: -_terms(mu, lv).mean(0) / _LOG2,
                "This is −KL. Which sign can a divergence have?",
            ),
            Misconception(
                "one half missing",
                lambda mu, lv: 2 * _terms(mu, lv).mean(0) / _LOG2,
                "This is exactly twice the number of bits. Which factor stands in front of the KL's bracket?",
            ),
            Misconception(
                "log_var read as log sigma",
                lambda mu, lv: (0.5 * (mu**2 + (2 * lv).exp() - 1 - 2 * lv)).mean(0) / _LOG2,
                "This is right for a network that gives log σ. Here it gives log σ². How many factors 2 are there?",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5)
