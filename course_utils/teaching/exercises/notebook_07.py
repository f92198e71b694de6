"""The exercises of notebook 07, the conditional VAE."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ._attempt import Attempt, NotYet
from ._compare import Case, Compare, Misconception, as_tensor, gradient_reaches
from ._framework import Exercise


def _draw(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(-15, 16, shape, generator=rng).double() / 10


# 7.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def with_label(values, labels, classes):
    """Return the values with their label, one-hot, appended on the last dimension.

    values:  (..., D), any number of dimensions in front: (B, D), or (B, T, D)
    labels:  (...), int64, whole numbers from 0 to classes - 1
    classes: a whole number, C
    result:  (..., D + C), the values first
    """
    ...'''


def with_label(values, labels, classes):
    one_hot = F.one_hot(labels, num_classes=classes).to(values.dtype)  # (..., C)
    return torch.cat([values, one_hot], dim=-1)


def _cases_1(rng: torch.Generator) -> list[Case]:
    small = torch.tensor([[0.5, -1.0], [0.2, 0.7]]).double(), torch.tensor([2, 1]), 3
    steps = _draw(rng, 3, 2, 4), torch.tensor([[3, 0], [1, 2], [0, 1]]), 4  # D = C: joins on other axes too
    few = _draw(rng, 4, 2), torch.tensor([1, 0, 1, 1]), 5  # the largest labels are missing
    return [small, few, steps]


def _one_hot(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels, classes).to(values.dtype)


EXERCISE_1 = Exercise(
    number="7.1",
    title="Tell the network which digit",
    minutes=5,
    stub=STUB_1,
    hints=(
        "Two steps: labels become rows of zeros with a single one, then those rows stand behind the values. What does "
        "the second step need to know about how many dimensions there are in front?",
        "torch.nn.functional has one_hot, which gives whole numbers, so the result must be turned into the dtype of "
        "the values. It guesses the number of classes unless told. For joining there is torch.cat, and a negative axis "
        "counts from the end.",
        "one_hot with num_classes=classes, then .to(values.dtype), then torch.cat of the list [values, that] along "
        "the last axis, which is axis −1 for two dimensions and for three.",
    ),
    solution=with_label,
    passed="The last axis it is, so the same line serves (B, D) and (B, T, D).",
    judge=Compare(
        cases=_cases_1,
        also=gradient_reaches("values"),
        misconceptions=(
            Misconception(
                "label as a number",
                lambda v, y, c: torch.cat([v, y[..., None].to(v.dtype)], -1),
                "The label went in as one number. Then a 9 is nine times a 1, and 4 lies halfway between 3 and 5. Is "
                "that so for the classes?",
            ),
            Misconception(
                "as many classes as seen",
                lambda v, y, c: torch.cat([v, F.one_hot(y).to(v.dtype)], -1),
                "The number of classes was guessed from the labels at hand, so a batch without the largest one gives "
                "another width. Who can tell the function how many there are?",
            ),
            Misconception(
                "axis 1",
                lambda v, y, c: torch.cat([v, _one_hot(v, y, c)], 1),
                "Right for (B, D), where axis 1 is the last. With a time axis, (B, T, D), the labels were appended as "
                "extra time steps. Which axis is the last whatever the number of dimensions?",
            ),
            Misconception(
                "label first",
                lambda v, y, c: torch.cat([_one_hot(v, y, c), v], -1),
                "The label stands before the values. A network would not mind, but weights trained with the other "
                "order would. Which comes first here?",
            ),
            Misconception(
                "counted from 1",
                lambda v, y, c: torch.cat([v, torch.eye(c, dtype=v.dtype, device=v.device)[y - 1]], -1),
                "The one stands one place too early, as if the labels began at 1, and a 0 has gone round to the last "
                "place. Where do the labels begin?",
            ),
            Misconception(
                "no place for 0",
                lambda v, y, c: torch.cat([v, F.one_hot(y, c + 1)[..., 1:].to(v.dtype)], -1),
                "The places are numbered from 1 to C: a label 0 gets a row of zeros, and every other label has its one "
                "a place too early. Which C labels are there?",
            ),
            Misconception(
                "only the label",
                lambda v, y, c: _one_hot(v, y, c),
                "This is the label alone. Where are the values?",
            ),
            Misconception(
                "time flattened",
                lambda v, y, c: torch.cat([v.flatten(1), _one_hot(v, y, c).flatten(1)], 1),
                "Time and features were flattened into one axis, so that all time steps stand in one row. The axes in "
                "front should stay as they are: which axis alone grows?",
            ),
            Misconception(
                "examples and time flattened",
                lambda v, y, c: torch.cat([v, _one_hot(v, y, c)], -1).flatten(0, -2),
                "Every row is right, but with a time axis the rows stand in one long list: the axes in front were "
                "flattened into one. Which shape did the values have in front?",
            ),
            Misconception(
                "one label for all",
                lambda v, y, c: torch.cat([v, _one_hot(v, y.flatten()[:1], c).expand(*v.shape[:-1], c)], -1),
                "Every row got the label of the first. Which label belongs to which row?",
            ),
        ),
    ),
)

# 7.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def from_the_prior():
    """Return the letter of the row, "A", "B" or "C", that was drawn from the prior and has seen no test image."""
    ...'''


def from_the_prior():
    copies_its_column = {"A": True, "B": False, "C": True}  # slant and stroke of the test image above it?
    return next(row for row, copied in copies_its_column.items() if not copied)


def _judge_2(exercise: Exercise, attempt: Attempt) -> None:
    answer = attempt()
    if not isinstance(answer, str):
        raise NotYet(
            "not a letter", f'A letter was expected, such as "A"; what came is of type {type(answer).__name__}.'
        )
    words = set(re.findall(r"\w+", answer.upper())) - {"ROW", "ROWS", "AND", "OR"}
    methods = words & {"GENERATE", "SAMPLE", "FORWARD_FULL"}
    rows = words - methods
    if rows == {"B"}:
        return
    if rows == {"A"}:
        raise NotYet(
            "generate taken at its name",
            "Row A is what `generate` returns. Look along its columns: slant, width and weight of the stroke are those "
            "of the test image above. Could a picture that has not seen the image know them?",
        )
    if rows == {"C"}:
        raise NotYet(
            "the clean reconstruction",
            "Row C follows the test images above it even more closely than its neighbours do. It is decoded from the "
            "encoder's mean. Which row does not follow them?",
        )
    letters = set("".join(rows))
    if len(letters) > 1 and letters <= set("ABC"):
        raise NotYet("more than one row", "Exactly one of the rows has seen no test image. Which one?")
    if methods:
        raise NotYet("a method, not a row", "That names a method. Which row of the picture is it: A, B or C?")
    raise NotYet("no such row", f"There is no row {answer!r}. The rows are called A, B and C.")


EXERCISE_2 = Exercise(
    number="7.2",
    title="Which row comes from the prior?",
    minutes=3,
    stub=STUB_2,
    hints=(
        "Do not read the digits, look at the handwriting. A picture that has gone through the encoder has something "
        "of the image above it.",
        "Compare column by column with the test images: the slant of the 1, the loop of the 2, how bold the stroke is. "
        "Two of the rows agree with them.",
        "The row whose handwriting has nothing to do with the test images is the one; the name of the method that "
        'made it is `sample`. Return its letter, as in `return "A"`.',
    ),
    solution=from_the_prior,
    passed="The other two have been through the encoder, the one made by `generate` included.",
    judge=_judge_2,
)

# 7.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def aggregate(mu, log_var):
    """Return mean and covariance of the aggregated posterior: the average of N posteriors N(mu_n, diag sigma_n^2).

    mu, log_var: (N, L), the encoder's output for N images, log_var is log sigma^2
    result:      a pair, mean (L,) and covariance (L, L)
    """
    ...'''


def aggregate(mu, log_var):
    mean = mu.mean(dim=0)
    offset = mu - mean
    between = offset.T @ offset / len(offset)  # how the means are spread
    within = log_var.exp().mean(dim=0)  # how wide each posterior is
    return mean, between + torch.diag(within)


def _cases_3(rng: torch.Generator) -> list[Case]:
    small = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, -1.0]]), torch.tensor([[-1.0, 0.2], [0.4, -0.6], [0.0, 0.8]])
    return [
        tuple(t.double() for t in small),
        (_draw(rng, 6, 3) + 1, _draw(rng, 6, 3)),
        (_draw(rng, 4, 1), _draw(rng, 4, 1)),
    ]


def _observe_3(attempt: Attempt, *case: Any) -> Mapping[str, Tensor]:
    pair = attempt(*case)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        kind = type(pair).__name__
        what = f"a {kind} of length {len(pair)}" if isinstance(pair, tuple | list) else f"of type {kind}"
        raise NotYet("not a pair", f"A pair was expected, `return mean, covariance`; what came is {what}.")
    named = {}
    for name, value in zip(("mean", "covariance"), pair, strict=True):
        named[name], complaint = as_tensor(value)
        if complaint:
            raise complaint
    return named


def _spread(mu: Tensor, log_var: Tensor, *, between: float = 1, within: Tensor | None = None) -> tuple[Tensor, Tensor]:
    offset = mu - mu.mean(0)
    within = log_var.exp().mean(0) if within is None else within
    return mu.mean(0), between * offset.T @ offset / len(mu) + torch.diag(within)


EXERCISE_3 = Exercise(
    number="7.3",
    title="Where do the codes really lie?",
    minutes=8,
    stub=STUB_3,
    hints=(
        "Imagine drawing an image at random, and then z from its posterior. What is the mean of all these z? And from "
        "which two sources does their spread come?",
        "The law of total variance: the covariance of the means, plus the mean of the covariances. The second is "
        "diagonal, since every single posterior is.",
        "Centre mu by its mean over the images; its transpose times itself, divided by N, is the first part. The "
        "average of exp(log_var) over the images, put on a diagonal, is the second. Return mean and sum.",
    ),
    solution=aggregate,
    passed="Spread of the means plus mean of the spreads: this is what the prior has to cover.",
    judge=Compare(
        cases=_cases_3,
        observe=_observe_3,
        misconceptions=(
            Misconception(
                "only the means",
                lambda m, v: _spread(m, v, within=m.new_zeros(m.shape[1])),
                "This is the spread of the means alone. Every image sends not a point but a small cloud: where is its "
                "width?",
            ),
            Misconception(
                "only the widths",
                lambda m, v: _spread(m, v, between=0),
                "This is the average width of the clouds. They do not all lie in the same place: where is the spread "
                "of their centres?",
            ),
            Misconception(
                "log σ² averaged",
                lambda m, v: _spread(m, v, within=v.mean(0).exp()),
                "The logarithms were averaged, and exponentiated afterwards. Which of the two is added up over images, "
                "the variance or its logarithm?",
            ),
            Misconception(
                "log σ² used as σ²",
                lambda m, v: _spread(m, v, within=v.mean(0)),
                "log_var was added as if it were the variance. What turns one into the other?",
            ),
            Misconception(
                "σ in place of σ²",
                lambda m, v: _spread(m, v, within=(0.5 * v).exp().mean(0)),
                "Standard deviations were averaged, and stand where variances should. Which of σ and σ² adds up?",
            ),
            Misconception(
                "σ averaged, then squared",
                lambda m, v: _spread(m, v, within=(0.5 * v).exp().mean(0) ** 2),
                "Standard deviations were averaged, and their average was squared. Where images differ in σ, that is "
                "less than the average variance: which comes first, the square or the average?",
            ),
            Misconception(
                "divided by N − 1",
                lambda m, v: (m.mean(0), torch.cov(m.T).reshape(m.shape[1], -1) + torch.diag(v.exp().mean(0))),
                "The spread of the means was divided by N − 1, as one does to estimate from a sample. Here the N "
                "posteriors are all there is, each with weight 1/N.",
            ),
            Misconception(
                "not centred",
                lambda m, v: (m.mean(0), m.T @ m / len(m) + torch.diag(v.exp().mean(0))),
                "These are the second moments about 0. A covariance is taken about the mean.",
            ),
            Misconception(
                "diagonal only",
                lambda m, v: (m.mean(0), torch.diag(m.var(0, correction=0) + v.exp().mean(0))),
                "The variances are right, but the dimensions can vary together even though each posterior is diagonal. "
                "Where are the off-diagonal entries?",
            ),
            Misconception(
                "variances as a vector",
                lambda m, v: (m.mean(0), m.var(0, correction=0) + v.exp().mean(0)),
                "These are the L variances. A covariance matrix, (L, L), was asked for.",
            ),
            Misconception(
                "summed over images",
                lambda m, v: (m.mean(0), len(m) * _spread(m, v)[1]),
                "Both parts of the covariance were summed over the images and never divided by their number. What "
                "would twice as many images make of it?",
            ),
            Misconception(
                "mean summed as well",
                lambda m, v: (m.sum(0), (m - m.sum(0)).T @ (m - m.sum(0)) + torch.diag(v.exp().sum(0))),
                "Everything was summed over the images, the mean too, and nothing divided by their number. Which "
                "weight has each of N posteriors in their average?",
            ),
            Misconception(
                "widths summed",
                lambda m, v: _spread(m, v, within=v.exp().sum(0)),
                "The spread of the means is divided by the number of images, the widths are only summed. How wide is "
                "one cloud on average?",
            ),
            Misconception(
                "spread of the means summed",
                lambda m, v: _spread(m, v, between=len(m)),
                "The widths are averaged over the images, the spread of the means is only summed. Which weight "
                "has each image in it?",
            ),
        ),
    ),
)

# 7.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def kl_to_prior(mu, log_var, mu_p, log_var_p):
    """Return KL(N(mu, diag sigma^2) || N(mu_p, diag sigma_p^2)) of each example, in nats.

    mu, log_var:     (B, L), the posterior q(z|x, c), log_var is log sigma^2
    mu_p, log_var_p: (B, L), the prior p(z|c) of the same examples
    result:          (B,)
    """
    ...'''


def kl_to_prior(mu, log_var, mu_p, log_var_p):
    distance = (mu - mu_p) ** 2 / log_var_p.exp()  # in units of the prior's variance
    log_ratio = log_var - log_var_p  # log of sigma^2 / sigma_p^2
    return 0.5 * (distance + log_ratio.exp() - 1 - log_ratio).sum(dim=1)


def _cases_4(rng: torch.Generator) -> list[Case]:
    small = [[1.0, -0.5], [0.0, 2.0]], [[-1.0, 0.5], [-0.3, 0.8]], [[0.5, 0.5], [1.0, -1.0]], [[0.4, -0.8], [1.2, 0.1]]
    return [
        tuple(torch.tensor(rows).double() for rows in small),
        tuple(_draw(rng, 4, 5) for _ in range(4)),
        tuple(_draw(rng, 1, 3) for _ in range(4)),
    ]


def _kl_terms(mu: Tensor, log_var: Tensor, mu_p: Tensor, log_var_p: Tensor) -> Tensor:
    ratio = log_var - log_var_p
    return 0.5 * ((mu - mu_p) ** 2 / log_var_p.exp() + ratio.exp() - 1 - ratio)


EXERCISE_4 = Exercise(
    number="7.4",
    title="The KL to a prior that moves",
    minutes=8,
    stub=STUB_4,
    hints=(
        "Where N(0, I) stood, there is now a Gaussian with a centre and a width of its own. Measure everything in its "
        "units: from its centre, and in multiples of its width. What is left then is the KL that you know.",
        "In those units the mean is (μ − μ_p)/σ_p and the variance is σ²/σ_p². Put both into ½(m² + s² − 1 − log s²). "
        "The logarithm of the variance ratio is a difference of what the networks give.",
        "With r = log_var − log_var_p: half of (μ − μ_p)² divided by exp(log_var_p), plus exp(r), minus 1, minus r; "
        "summed over the latent dimensions, axis 1.",
    ),
    solution=kl_to_prior,
    passed="Measured in the prior's own units, it is the KL of notebook 04.",
    judge=Compare(
        cases=_cases_4,
        also=gradient_reaches("mu", "log_var", "mu_p", "log_var_p"),
        misconceptions=(
            Misconception(
                "p and q swapped",
                lambda m, v, mp, vp: _kl_terms(mp, vp, m, v).sum(1),
                "This is the KL from the prior to the posterior. Over which of the two does the ELBO take its "
                "expectation?",
            ),
            Misconception(
                "prior ignored",
                lambda m, v, mp, vp: _kl_terms(m, v, torch.zeros_like(mp), torch.zeros_like(vp)).sum(1),
                "This is the KL to N(0, I). Where do mu_p and log_var_p come in?",
            ),
            Misconception(
                "prior's variance ignored",
                lambda m, v, mp, vp: _kl_terms(m, v, mp, torch.zeros_like(vp)).sum(1),
                "The prior's mean is in it, its width is not: this is the KL to N(μ_p, I). What does a wide prior "
                "forgive?",
            ),
            Misconception(
                "distance in the wrong units",
                lambda m, v, mp, vp: (_kl_terms(m, v, m, vp) + 0.5 * (m - mp) ** 2).sum(1),
                "The variances are right, but the distance of the means is not measured in units of the prior's width. "
                "By what is it divided?",
            ),
            Misconception(
                "distance divided by the posterior's variance",
                lambda m, v, mp, vp: (_kl_terms(m, v, m, vp) + 0.5 * (m - mp) ** 2 / v.exp()).sum(1),
                "The distance of the means is divided by the variance of q. Whose density is evaluated away from its "
                "centre, that of q or that of p?",
            ),
            Misconception(
                "distance divided by σ",
                lambda m, v, mp, vp: (_kl_terms(m, v, m, vp) + 0.5 * (m - mp) ** 2 / (0.5 * vp).exp()).sum(1),
                "The squared distance is divided by σ_p. Which power of σ_p goes with a square?",
            ),
            Misconception(
                "variance not divided",
                lambda m, v, mp, vp: (0.5 * ((m - mp) ** 2 / vp.exp() + v.exp() - 1 - v + vp)).sum(1),
                "The term with σ² lacks its unit. It is the ratio σ²/σ_p² that is compared with 1.",
            ),
            Misconception(
                "normaliser forgotten",
                lambda m, v, mp, vp: (0.5 * ((m - mp) ** 2 / vp.exp() + (v - vp).exp() - 1 - v)).sum(1),
                "The logarithm is that of σ² alone. The prior has a normalising factor of its own: log σ_p² is "
                "missing, and so the result can be negative.",
            ),
            Misconception(
                "log_var read as log σ",
                lambda m, v, mp, vp: _kl_terms(m, 2 * v, mp, 2 * vp).sum(1),
                "Both log-variances were read as log σ, so every variance is squared. Which is its exponential?",
            ),
            Misconception(
                "not halved",
                lambda m, v, mp, vp: 2 * _kl_terms(m, v, mp, vp).sum(1),
                "Every number is twice the expected one. A Gaussian's exponent has a factor in it: which?",
            ),
            Misconception(
                "sign",
                lambda m, v, mp, vp: -_kl_terms(m, v, mp, vp).sum(1),
                "This is negative, and a KL never is.",
            ),
            Misconception(
                "mean over dimensions",
                lambda m, v, mp, vp: _kl_terms(m, v, mp, vp).mean(1),
                "This is the mean over the latent dimensions. Nats of independent dimensions add up: which reduction "
                "does that?",
            ),
            Misconception(
                "mean over the batch",
                lambda m, v, mp, vp: _kl_terms(m, v, mp, vp).sum(1).mean(),
                "The number is right for the batch as a whole. One for each example was asked for.",
            ),
            Misconception(
                "per dimension",
                lambda m, v, mp, vp: _kl_terms(m, v, mp, vp),
                "These are the shares of the single dimensions, (B, L). What makes one number of each row?",
            ),
        ),
    ),
)

# 7.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def same_style(z, mu_old, log_var_old, mu_new, log_var_new):
    """Return the codes that stand under the new prior where z stands under the old one.

    z:                    (B, L), codes of images of one class
    mu_old, log_var_old:  (B, L), the prior p(z|c) of that class
    mu_new, log_var_new:  (B, L), the prior of the class to be written instead
    result:               (B, L)
    """
    ...'''


def same_style(z, mu_old, log_var_old, mu_new, log_var_new):
    eps = (z - mu_old) / (0.5 * log_var_old).exp()  # the style, in units that every class shares
    return mu_new + (0.5 * log_var_new).exp() * eps


def _cases_5(rng: torch.Generator) -> list[Case]:
    small = [[1.0, -0.5]], [[0.5, 0.5]], [[-1.0, 0.6]], [[0.0, -1.0]], [[0.8, -0.4]]
    return [tuple(torch.tensor(rows).double() for rows in small), tuple(_draw(rng, 3, 4) for _ in range(5))]


def _observe_5(attempt: Attempt, z: Tensor, *priors: Tensor) -> Mapping[str, Tensor]:
    def moved(codes: Tensor) -> Tensor:
        torch.default_generator.manual_seed(0)
        value, complaint = as_tensor(attempt(codes, *priors))
        if complaint:
            raise complaint
        return value

    came = moved(z)
    # One code alone may be lost for another reason: an offset from the batch's own mean is 0 then.
    if len(z) != 1 and torch.equal(came, moved(torch.rand_like(z))):
        raise NotYet(
            "z ignored",
            "The result does not depend on z. Then the style of the image is lost: which number carries it?",
        )
    return {"": came}


EXERCISE_5 = Exercise(
    number="7.5",
    title="Another digit in the same hand",
    minutes=6,
    stub=STUB_5,
    hints=(
        "With p(z) = N(0, I) the same z is the same style for every class. Here every class has a Gaussian of its own: "
        "which number says where z stands *within* its Gaussian?",
        "That number is the ε of the reparameterization: z = μ + σ·ε. Take ε out with the old prior, and put it in "
        "with the new one.",
        "ε = (z − μ_old)/σ_old, with σ_old = exp(½·log_var_old). Then μ_new + σ_new·ε.",
    ),
    solution=same_style,
    passed="Style is ε: where a code stands within its class, whatever the class.",
    judge=Compare(
        cases=_cases_5,
        observe=_observe_5,
        misconceptions=(
            Misconception(
                "z kept",
                lambda z, m, v, n, w: z.clone(),
                "The code was kept as it is. A z in the middle of one class may lie at the edge of another: what has "
                "to be kept instead?",
            ),
            Misconception(
                "shift only",
                lambda z, m, v, n, w: z - m + n,
                "The centre moved along, the width did not. If the new class varies half as much, where does a code "
                "one σ away from its centre belong?",
            ),
            Misconception(
                "scale only",
                lambda z, m, v, n, w: z * (0.5 * (w - v)).exp(),
                "The code was rescaled about 0, but neither prior has its centre there.",
            ),
            Misconception(
                "not rescaled on the way in",
                lambda z, m, v, n, w: n + (0.5 * w).exp() * (z - m),
                "The offset from the old centre was multiplied by the new σ, without being divided by the old one.",
            ),
            Misconception(
                "not rescaled on the way out",
                lambda z, m, v, n, w: n + (z - m) / (0.5 * v).exp(),
                "This adds ε itself to the new centre. How far is one unit of ε under the new prior?",
            ),
            Misconception(
                "variances in place of σ",
                lambda z, m, v, n, w: n + (w - v).exp() * (z - m),
                "The offset was scaled by the ratio of the variances. Distances scale with σ: which power is that?",
            ),
            Misconception(
                "upside down",
                lambda z, m, v, n, w: n + (0.5 * (v - w)).exp() * (z - m),
                "Old and new σ have changed places: a wider new class should move the code outwards, not inwards.",
            ),
            Misconception(
                "old and new swapped",
                lambda z, m, v, n, w: m + (0.5 * (v - w)).exp() * (z - n),
                "This carries a code of the new class over to the old one. Under which prior does z stand now?",
            ),
            Misconception(
                "old centre kept",
                lambda z, m, v, n, w: m + (0.5 * (w - v)).exp() * (z - m),
                "The scale is right, but the code was put back around the old centre.",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5)
