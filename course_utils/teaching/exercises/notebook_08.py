"""The exercises of notebook 08, the bug clinic: six tests that must tell the sick from the healthy, and one cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.teaching import clinic
from course_utils.teaching.clinic import SmallCVAE, SmallVAE

from ._attempt import Attempt, NotYet, Raised
from ._compare import Compare, Misconception, gradient_reaches
from ._framework import Exercise

if TYPE_CHECKING:
    from collections.abc import Sequence

# A judge for tests ---------------------------------------------------------------------------------

PASSES, FAILS, BOTH = "passes", "fails", "sometimes passes"
REPEATS = 3  # other weights, other images, another state of the random generator


@dataclass(frozen=True)
class Specimen:
    """A model that the reader's test is run on.

    make: () -> the arguments of the test; called under several seeds. expected: "passes" or "fails"; None where
    either is right, because this one only helps to tell mistakes apart. why: what to say when the verdict is wrong.
    """

    name: str
    make: Callable[[], tuple]
    expected: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Bench:
    """A judge that runs the reader's *test* on healthy and on broken models and reads its verdicts.

    specimens: the first must be healthy. misconceptions: wrong tests; the first that gives the same verdict on every
    specimen as the reader's test speaks, chance aside (`_alike`). A test fails by raising AssertionError, or any other
    error on a broken model, as it would under pytest; an error on the healthy model is the reader's own.
    """

    specimens: tuple[Specimen, ...]
    misconceptions: tuple[Misconception, ...]

    def __call__(self, exercise: Exercise, attempt: Attempt) -> None:
        """Raises NotYet or Raised unless the test passes where it should and fails where it should."""
        verdicts = self.verdicts(attempt, strict=True)
        wrong = [(s, v) for s, v in zip(self.specimens, verdicts, strict=True) if s.expected not in (None, v)]
        if not wrong:
            self._leaves_no_traces(attempt)
            return
        table = "\n".join(
            f"    {f'on {s.name}:':<44}{v}" + (f", and should: {s.expected}" if s.expected != v else "")
            for s, v in zip(self.specimens, verdicts, strict=True)
            if s.expected
        )
        table = table.replace(", and should: fails", ", should fail").replace(", and should: passes", ", should pass")
        diagnosis, message = self._diagnosis(attempt, verdicts, wrong)
        raise NotYet(diagnosis, f"Your test\n{table}\n{message}")

    def verdicts(self, attempt: Attempt, *, strict: bool = False) -> list[str]:
        """ "passes", "fails" or "sometimes passes" for every specimen; `strict`: errors on the healthy one raise."""
        found = []
        for index, specimen in enumerate(self.specimens):
            seen = set()
            for seed in range(REPEATS):
                torch.manual_seed(1000 * seed + index)
                args = [attempt.prepare(argument) for argument in specimen.make()]
                seen.add(self._verdict(attempt, specimen, args, strict=strict and index == 0))
            found.append(seen.pop() if len(seen) == 1 else BOTH)
        return found

    def _verdict(self, attempt: Attempt, specimen: Specimen, args: list, *, strict: bool) -> str:
        try:
            returned = attempt.run(attempt.answer, *args, doing=f"on {specimen.name}")
        except Raised as raised:
            if strict and not isinstance(raised.error, AssertionError):
                raise
            return FAILS
        if strict and returned is not None:
            raise NotYet(
                "returns a verdict",
                f"Your test returned {_brief(returned)}. Nobody looks at what a test returns: it speaks by `assert`, "
                "and by nothing else.",
            )
        return PASSES

    def _diagnosis(self, attempt: Attempt, verdicts: list[str], wrong: Sequence[tuple]) -> tuple[str, str]:
        for misconception in self.misconceptions:
            known = _verdicts_of(self, misconception.wrong, attempt)
            if all(map(_alike, self.specimens, known, verdicts)):
                return misconception.name, misconception.message
        lucky = next((s for s, v in wrong if v == BOTH), None)
        if lucky:
            return (
                "luck decides",
                f"On {lucky.name} the verdict changed with the weights, the images or the draw of the noise. A test is "
                "only worth having if it says the same every time: more samples, a wider tolerance, or a quantity "
                "without chance in it?",
            )
        specimen, verdict = wrong[0]
        return f"{verdict} on {specimen.name}", specimen.why

    def _leaves_no_traces(self, attempt: Attempt) -> None:
        torch.manual_seed(0)
        args = [attempt.prepare(argument) for argument in self.specimens[0].make()]
        model: nn.Module = args[0]
        before, mode = {k: v.clone() for k, v in model.state_dict().items()}, model.training
        attempt.run(attempt.answer, *args, doing=f"on {self.specimens[0].name}")
        after = model.state_dict()
        if model.training != mode or any(not torch.equal(before[key], after[key]) for key in before):
            raise NotYet(
                "leaves traces",
                "All verdicts are right, but afterwards the model is not what it was: your test changed its weights or "
                "its mode. The next test would examine another model. Can it work on a copy?",
            )


_known: dict[tuple, list[str]] = {}


def _verdicts_of(bench: Bench, wrong: Callable[..., None], attempt: Attempt) -> list[str]:
    """What a known wrong test says of every specimen: the same each time, so worked out once."""
    key = (id(bench), wrong, attempt.dtype, str(attempt.device))
    if key not in _known:
        _known[key] = bench.verdicts(attempt.like(wrong))
    return _known[key]


def _alike(specimen: Specimen, known: str, seen: str) -> bool:
    """The same verdict; or chance in the known one, or chance that lets a sick model through now and then."""
    return known in (seen, BOTH) or (seen == BOTH and specimen.expected == FAILS)


def _brief(value: Any) -> str:
    return repr(value) if isinstance(value, bool) else f"a {type(value).__name__}"


# Specimens that several exercises share ------------------------------------------------------------


def images() -> Tensor:
    return torch.rand(16, 1, 28, 28)


def small(kind: type = SmallVAE) -> Callable[[], tuple]:
    """The arguments (model, x) for a small model of this class."""
    return lambda: (kind(latent_dim=5, hidden=24), images())


def _wild() -> tuple:
    model, x = small()()
    with torch.no_grad():
        model.decoder[-1].weight.mul_(20)
    return model, x


class Misshapen(SmallVAE):
    """Every shape is wrong; a test of anything else may do what it likes with it."""

    def forward(self, x):
        logits, mu, log_var = super().forward(x)
        return logits[..., None], mu[..., None], log_var[..., None]

    def reparameterize(self, mu, log_var):
        return super().reparameterize(mu, log_var)[..., None].mean(-1).repeat(2, 1)

    def decode(self, z):
        return super().decode(z)[: len(z) // 2]

    def loss(self, output, x):
        return torch.cat([t.flatten(1) for t in output], 1).mean(1)


HEALTHY = Specimen(
    "the cured model", small(), PASSES, "The cured model has nothing wrong with it, yet your test complains."
)
WILD = Specimen(
    "a healthy model with a bad loss",
    _wild,
    PASSES,
    "This model is correct and badly trained: its loss is high, and that is no bug. A test must not mind.",
)
MISSHAPEN = Specimen("a model with other shapes", small(Misshapen))

SHAPES = "Your test looks at shapes only. In the patient every shape is right, and so it is in most sick models."
VALUE = (
    "Your test compares the loss with a number. That number belongs to one seed, one data set and one day of training; "
    "a healthy model with other weights fails it, and a sick one may well pass."
)


def _always(passes: str, fails: str) -> tuple[Misconception, Misconception]:
    def nothing_asserted(*args):
        assert args

    def everything_refused(*args):
        raise AssertionError("no")

    return (
        Misconception("always passes", nothing_asserted, f"Your test passes on everything. {passes}"),
        Misconception(
            "always fails",
            everything_refused,
            f"Your test fails on everything, the cured model included. {fails}",
        ),
    )


def _loss_is_a_scalar(model, x):
    assert model.loss(model(x), x).shape == ()


def _loss_is_below_700(model, x):
    assert model.loss(model(x), x) < 700


def _z_has_the_shape_of_mu(model, x):
    mu, log_var = model.encode(x)
    assert model.reparameterize(mu, log_var).shape == mu.shape


# 8.1 -----------------------------------------------------------------------------------------------

STUB_1 = '''\
def test_far_codes_cost(model, x):
    """Fail unless moving all means away from 0, upwards or downwards, makes the loss greater.

    model(x) -> (logits, mu, log_var); model.loss((logits, mu, log_var), x) -> one number, for any three tensors
    """
    ...'''


def test_far_codes_cost(model, x):
    logits, mu, log_var = model(x)
    home = model.loss((logits, torch.zeros_like(mu), log_var), x)
    for far in (-3.0, 3.0):
        away = model.loss((logits, torch.full_like(mu, far), log_var), x)
        assert away > home, f"all means at {far:g}: loss {away:.4g}, and {home:.4g} with all means at 0"


def _with_terms(terms: Callable[[Tensor, Tensor], Tensor]) -> type:
    """A SmallVAE with another second term: terms(mu, log_var) -> (B,)."""

    class Other(SmallVAE):
        def loss(self, output, x):
            logits, mu, log_var = output
            recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
            return (recon + terms(mu, log_var)).mean()

    return Other


def _kl(mu: Tensor, log_var: Tensor) -> Tensor:
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)


NO_KL = _with_terms(lambda mu, log_var: 0 * mu.sum(1))
MEAN_AS_KL = _with_terms(lambda mu, log_var: mu.mean(1))
MINUS_MEAN_AS_KL = _with_terms(lambda mu, log_var: -mu.mean(1))
SPREAD_ONLY = _with_terms(lambda mu, log_var: 0.5 * (log_var.exp() - 1 - log_var).sum(1))
MEANS_ONLY = _with_terms(lambda mu, log_var: 0.5 * mu.square().sum(1))


def _moved(model, x, *, by: float) -> tuple[Tensor, Tensor]:
    logits, mu, log_var = model(x)
    home = model.loss((logits, torch.zeros_like(mu), log_var), x)
    return home, model.loss((logits, torch.full_like(mu, by), log_var), x)


def _upwards_only(model, x):
    home, away = _moved(model, x, by=3.0)
    assert away > home


def _downwards_only(model, x):
    home, away = _moved(model, x, by=-3.0)
    assert away > home


def _different(model, x):
    home, away = _moved(model, x, by=3.0)
    assert away != home


def _cheaper(model, x):
    for by in (-3.0, 3.0):
        home, away = _moved(model, x, by=by)
        assert away < home


def _spread_moved(model, x):
    logits, mu, log_var = model(x)
    assert model.loss((logits, mu, log_var + 3), x) > model.loss((logits, mu, log_var), x)


def _more_than_the_reconstruction(model, x):
    output = model(x)
    recon = F.binary_cross_entropy_with_logits(output[0], x.flatten(1), reduction="none").sum(1).mean()
    assert model.loss(output, x) > recon + 1e-3


EXERCISE_1 = Exercise(
    number="8.1",
    title="Is there a KL in this loss?",
    minutes=8,
    stub=STUB_1,
    hints=(
        "You need not train anything. `model.loss` takes any three tensors: give it the same logits twice, once with "
        "means at 0 and once with means far away. Which of the two losses must be greater?",
        "Call the model once and keep its logits and log_var. torch.zeros_like and torch.full_like make the means. "
        "Compare the two losses with `assert ... > ...`, and do it for +3 and for −3.",
        "logits, mu, log_var = model(x); home = model.loss((logits, torch.zeros_like(mu), log_var), x); then, for far "
        "in (−3.0, 3.0), assert model.loss((logits, torch.full_like(mu, far), log_var), x) > home.",
    ),
    solution=test_far_codes_cost,
    passed="It needs no trained model, no threshold and no luck: it asks the loss about outputs of your own choice.",
    judge=Bench(
        specimens=(
            HEALTHY,
            WILD,
            Specimen("Patient 1", small(clinic.Patient1), FAILS, "Patient 1's loss has no KL, and your test passes."),
            Specimen("a VAE without any KL", small(NO_KL), FAILS, "Far codes cost nothing here. Your test passes."),
            Specimen(
                "mu.mean() in place of the KL",
                small(MEAN_AS_KL),
                FAILS,
                "This loss has the mean of the encoder's output where the KL should be: upwards costs, downwards pays.",
            ),
            Specimen(
                "−mu.mean() in place of the KL",
                small(MINUS_MEAN_AS_KL),
                FAILS,
                "This loss has minus the mean of the encoder's output where the KL should be: downwards costs, upwards "
                "pays.",
            ),
            Specimen(
                "a KL with its sign turned (Patient 8)",
                small(clinic.Patient8),
                FAILS,
                "Here far codes are rewarded: the KL has the wrong sign.",
            ),
            Specimen(
                "a KL that forgets the means", small(SPREAD_ONLY), FAILS, "Only the spread costs here, not the means."
            ),
            Specimen(
                "a KL that forgets the spread",
                small(MEANS_ONLY),
                PASSES,
                "Here the means cost what they should; that the spread is free is the business of another test.",
            ),
            Specimen(
                "another weight of the KL (Patient 6)",
                small(clinic.Patient6),
                PASSES,
                "Patient 6 is sick in another way: far codes do cost. How much they should is another test's business.",
            ),
            MISSHAPEN,
        ),
        misconceptions=(
            *_always(
                "If it works out a KL of its own from mu and log_var, that one is right everywhere: it is model.loss "
                "that has to be asked.",
                "A test that nobody can pass finds every bug there is, and some more. Or is there a number in it that "
                "was copied from one run?",
            ),
            Misconception("shapes only", _loss_is_a_scalar, SHAPES),
            Misconception("a loss that was copied", _loss_is_below_700, VALUE),
            Misconception(
                "upwards only",
                _upwards_only,
                "Upwards only: a loss with the *mean of mu* in place of the KL passes. What does it do for means below "
                "0?",
            ),
            Misconception(
                "downwards only",
                _downwards_only,
                "Downwards only: a loss with *minus* the mean of mu in place of the KL passes. What does it do for "
                "means above 0?",
            ),
            Misconception(
                "different, not greater",
                _different,
                "It is not enough that the loss changes: with the sign turned it changes, too, and far codes are paid "
                "for.",
            ),
            Misconception(
                "the wrong way round",
                _cheaper,
                "This asks that far codes be *cheaper*. The loss is what is minimised; which way should it go?",
            ),
            Misconception(
                "moves the spread",
                _spread_moved,
                "You moved log_var. Asked for are the means: the same log_var, and mu moved.",
            ),
            Misconception(
                "compared with a reconstruction of its own",
                _more_than_the_reconstruction,
                "You subtract a reconstruction term of your own, summed over pixels. A model that averages over pixels "
                "(a scale, not a missing KL) is refused. Which two losses of the *same* model can be compared?",
            ),
        ),
    ),
)

# 8.2 -----------------------------------------------------------------------------------------------

STUB_2 = '''\
def test_spread(model, x):
    """Fail unless samples of model.reparameterize(mu, log_var) have the standard deviation exp(log_var / 2).

    mu, log_var: (B, L), of your own making; take B large, and more than one value of log_var
    """
    ...'''


def test_spread(model, x):
    for value in (-4.0, -1.0, 2.0):
        log_var = x.new_full((20_000, 1), value)
        z = model.reparameterize(torch.zeros_like(log_var), log_var)
        expected = (0.5 * log_var[0, 0]).exp()
        assert 0.95 < z.std() / expected < 1.05, f"std {z.std():.3f}, log_var = {value:g} asks for {expected:.3f}"


def _with_sampler(sampler: Callable[[Tensor, Tensor], Tensor]) -> type:
    class Other(SmallVAE):
        def reparameterize(self, mu, log_var):
            return sampler(mu, log_var)

    return Other


ALWAYS_ONE = _with_sampler(lambda mu, log_var: mu + torch.randn_like(mu))
NO_NOISE = _with_sampler(lambda mu, log_var: mu + 0 * log_var)
LOG_VAR_AS_STD = _with_sampler(lambda mu, log_var: mu + log_var * torch.randn_like(mu))
TOO_WIDE = _with_sampler(lambda mu, log_var: mu + 1.5 * (0.5 * log_var).exp() * torch.randn_like(mu))
UNIFORM = _with_sampler(lambda mu, log_var: mu + (0.5 * log_var).exp() * torch.rand_like(mu))


def _sampled_std(model, x, value: float, count: int = 20_000) -> Tensor:
    log_var = x.new_full((count, 1), value)
    return model.reparameterize(torch.zeros_like(log_var), log_var).std()


def _at_zero_only(model, x):
    assert 0.95 < _sampled_std(model, x, 0.0) < 1.05


def _same_mistake(model, x):
    for value in (-4.0, -1.0, 2.0):
        assert 0.95 < _sampled_std(model, x, value) / x.new_tensor(value).exp() < 1.05


def _too_loose(model, x):
    assert 0.5 < _sampled_std(model, x, -1.0) / x.new_tensor(-0.5).exp() < 2


def _at_least(model, x):
    for value in (-4.0, -1.0, 2.0):
        assert _sampled_std(model, x, value) / x.new_tensor(0.5 * value).exp() > 0.95


def _grows(model, x):
    assert _sampled_std(model, x, -4.0) < _sampled_std(model, x, -1.0) < _sampled_std(model, x, 2.0)


def _positive(model, x):
    assert _sampled_std(model, x, -1.0) > 0


EXERCISE_2 = Exercise(
    number="8.2",
    title="As wide as it says",
    minutes=8,
    stub=STUB_2,
    hints=(
        "Give the sampler a log_var that you know and look at what comes out. Is there a value of log_var at which the "
        "patient and a correct sampler do the same?",
        "log_var = x.new_full((20_000, 1), −1.0) has the dtype and the device of x. The samples' std should be e to "
        "the power −½. With 20,000 samples it is right within about one per cent; leave five.",
        "For value in (−4.0, −1.0, 2.0): z = model.reparameterize(torch.zeros_like(log_var), log_var), and assert that "
        "z.std() / math.exp(value / 2) lies between 0.95 and 1.05.",
    ),
    solution=test_spread,
    passed="The sampler is asked directly, so it does not matter how good the loss looks.",
    judge=Bench(
        specimens=(
            HEALTHY,
            WILD,
            Specimen(
                "Patient 2", small(clinic.Patient2), FAILS, "Patient 2 uses exp(log_var) for σ, and your test passes."
            ),
            Specimen(
                "a sampler that ignores log_var", small(ALWAYS_ONE), FAILS, "Its spread is 1, whatever log_var says."
            ),
            Specimen("a sampler without noise", small(NO_NOISE), FAILS, "It returns mu: its spread is 0."),
            Specimen("log_var taken for σ", small(LOG_VAR_AS_STD), FAILS, "Its spread is log_var itself."),
            Specimen(
                "noise with a standard deviation of 1.5", small(TOO_WIDE), FAILS, "Its spread is 1.5 times too wide."
            ),
            Specimen(
                "noise from rand instead of randn", small(UNIFORM), FAILS, "Uniform noise is 3.5 times too narrow."
            ),
            Specimen(
                "no gradient to the encoder (Patient 5)",
                small(clinic.Patient5),
                PASSES,
                "Patient 5 is sick in another way; its samples are as wide as they should be.",
            ),
            Specimen(
                "a KL with its sign turned (Patient 8)",
                small(clinic.Patient8),
                PASSES,
                "Patient 8's sampler is healthy; its loss is not.",
            ),
            MISSHAPEN,
        ),
        misconceptions=(
            Misconception("shapes only", _z_has_the_shape_of_mu, SHAPES),
            *_always(
                "Was the spread of model.reparameterize measured, and asserted?",
                "Is the tolerance tighter than chance allows? The std of n samples is uncertain by about one part in "
                "√(2n): 1 per cent takes thousands.",
            ),
            Misconception("a loss that was copied", _loss_is_below_700, VALUE),
            Misconception(
                "at log_var = 0 only",
                _at_zero_only,
                "At log_var = 0 the patient is healthy: exp(0) and exp(½ · 0) are both 1. Where do the two differ?",
            ),
            Misconception(
                "the same mistake",
                _same_mistake,
                "Your test refuses the cured model and passes the patient: it expects exp(log_var), which is the "
                "variance. It repeats the mistake that it should find.",
            ),
            Misconception(
                "too loose",
                _too_loose,
                "The tolerance lets the patient through: near log_var = −1, σ and σ² are less than a factor of two "
                "apart. Take a log_var further from 0, or a tolerance that 20,000 samples deserve.",
            ),
            Misconception(
                "a lower bound only",
                _at_least,
                "You ask that the samples be wide enough. A sampler whose noise is too wide passes: what keeps it in?",
            ),
            Misconception(
                "grows, no more",
                _grows,
                "You ask that the spread grow with log_var. So it does in the patient, only twice as fast in the "
                "exponent. How *wide* should it be?",
            ),
            Misconception(
                "some spread",
                _positive,
                "That there is some spread is true of the patient, too. How much should it be?",
            ),
        ),
    ),
)

# 8.3 -----------------------------------------------------------------------------------------------

STUB_3 = '''\
def test_noise_is_new(model, x):
    """Fail unless the noise in z differs between two calls, between two images and between two dimensions.

    model.encode(x) -> mu, log_var, each (B, L); model.reparameterize(mu, log_var) -> z (B, L)
    """
    ...'''


def test_noise_is_new(model, x):
    mu, log_var = (torch.zeros_like(t) for t in model.encode(x))
    first, second = model.reparameterize(mu, log_var), model.reparameterize(mu, log_var)
    assert not torch.equal(first, second), "two calls draw the same noise"
    assert not torch.equal(first[0], first[1]), "two images share their noise"
    if mu.shape[1] > 1:
        assert not torch.equal(first[:, 0], first[:, 1]), "two dimensions share their noise"


def _seeded(mu: Tensor, log_var: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(mu.shape, generator=generator).to(mu)
    return mu + (0.5 * log_var).exp() * eps


SEEDED = _with_sampler(_seeded)
ONE_NUMBER = _with_sampler(lambda mu, log_var: mu + (0.5 * log_var).exp() * torch.randn_like(mu[:, :1]))


class BlankNoNoise(NO_NOISE):
    def encode(self, x):
        mu, log_var = super().encode(x)
        return 0 * mu, 0 * log_var


def _zeros(model, x):
    return [torch.zeros_like(t) for t in model.encode(x)]


def _calls(model, x):
    zeros = _zeros(model, x)
    assert not torch.equal(model.reparameterize(*zeros), model.reparameterize(*zeros))


def _rows(model, x):
    z = model.reparameterize(*_zeros(model, x))
    assert not torch.equal(z[0], z[1])


def _columns(model, x):
    z = model.reparameterize(*_zeros(model, x))
    assert not torch.equal(z[:, 0], z[:, 1])


def _calls_and_rows(model, x):
    _calls(model, x)
    _rows(model, x)


def _rows_with_means(model, x):
    z = model.reparameterize(*model.encode(x))
    assert not torch.equal(z[0], z[1])


def _calls_repeat(model, x):
    zeros = _zeros(model, x)
    assert torch.equal(model.reparameterize(*zeros), model.reparameterize(*zeros))


EXERCISE_3 = Exercise(
    number="8.3",
    title="New noise for everybody",
    minutes=8,
    stub=STUB_3,
    hints=(
        "z holds the means, too, and they differ from image to image in every model. What must mu and log_var be, so "
        "that z is nothing but the noise?",
        "With mu = 0 and log_var = 0, z *is* ε. Call the sampler twice: two calls must differ, two rows of one call, "
        "and two columns. torch.equal says whether two tensors are the same.",
        "mu, log_var = (torch.zeros_like(t) for t in model.encode(x)); draw twice; three times `assert not "
        "torch.equal(...)`: first and second, two rows of first, two columns of first.",
    ),
    solution=test_noise_is_new,
    passed="Three lines, and neither of the two patients gets through, however good its loss.",
    judge=Bench(
        specimens=(
            HEALTHY,
            WILD,
            Specimen("Patient 3", small(clinic.Patient3), FAILS, "All images of a batch share one noise here."),
            Specimen("Patient 4", small(clinic.Patient4), FAILS, "The noise was drawn once, in __init__."),
            Specimen(
                "noise with a fixed seed in every call",
                small(SEEDED),
                FAILS,
                "Its noise differs from image to image, but every call repeats it.",
            ),
            Specimen(
                "one number of noise per image",
                small(ONE_NUMBER),
                FAILS,
                "All dimensions of an image share their noise here: codes only move along the diagonal.",
            ),
            Specimen("a sampler without noise", small(NO_NOISE), FAILS, "There is no noise here at all."),
            Specimen(
                "a wrong spread (Patient 2)",
                small(clinic.Patient2),
                PASSES,
                "Patient 2's noise is new each time; that it is too narrow is the business of exercise 8.2.",
            ),
            Specimen(
                "no gradient to the encoder (Patient 5)",
                small(clinic.Patient5),
                PASSES,
                "Patient 5's noise is as it should be; what is missing there is a gradient.",
            ),
            Specimen("no noise and no means", small(BlankNoNoise)),
            MISSHAPEN,
        ),
        misconceptions=(
            Misconception("shapes only", _z_has_the_shape_of_mu, SHAPES),
            *_always(
                "What does it assert about two draws of model.reparameterize?",
                "Perhaps it sets the same seed before both calls, and so repeats the noise itself?",
            ),
            Misconception("a loss that was copied", _loss_is_below_700, VALUE),
            Misconception(
                "calls only",
                _calls,
                "Two calls are compared, but not two images within a call: Patient 3, which shares one noise over the "
                "batch, passes. If you do compare images, is their z nothing but noise, or do their means differ?",
            ),
            Misconception(
                "images only",
                _rows,
                "Two images are compared, but not two calls: a sampler that repeats its noise in every call passes.",
            ),
            Misconception(
                "dimensions only",
                _columns,
                "Only dimensions are compared. What about two images, and two calls?",
            ),
            Misconception(
                "dimensions forgotten",
                _calls_and_rows,
                "Calls and images are right. One number of noise for all dimensions of an image still passes.",
            ),
            Misconception(
                "the means left in",
                _rows_with_means,
                "The codes of two images differ in every model, because their means do. Set mu and log_var to 0, so "
                "that only noise is left.",
            ),
            Misconception(
                "the wrong way round",
                _calls_repeat,
                "This asks that two calls give the *same* z. Reproducible runs come from a seed at the start, not from "
                "a sampler that repeats itself.",
            ),
        ),
    ),
)

# 8.4 -----------------------------------------------------------------------------------------------

STUB_4 = '''\
def test_reconstruction_teaches_the_encoder(model, x):
    """Fail unless the logits carry a gradient that is not zero, back to mu and back to log_var.

    model(x) -> (logits, mu, log_var), all part of one graph
    """
    ...'''


def test_reconstruction_teaches_the_encoder(model, x):
    logits, mu, log_var = model(x)
    for name, parameter in {"mu": mu, "log_var": log_var}.items():
        (gradient,) = torch.autograd.grad(logits.sum(), parameter, retain_graph=True, allow_unused=True)
        assert gradient is not None, f"no path leads from the logits to {name}"
        assert gradient.abs().max() > 0, f"the gradient at {name} is zero"


def _no_grad_sampler(mu: Tensor, log_var: Tensor) -> Tensor:
    with torch.no_grad():
        return mu + (0.5 * log_var).exp() * torch.randn_like(mu)


NO_GRAD = _with_sampler(_no_grad_sampler)
MU_DETACHED = _with_sampler(lambda mu, log_var: mu.detach() + (0.5 * log_var).exp() * torch.randn_like(mu))
STD_DETACHED = _with_sampler(lambda mu, log_var: mu + (0.5 * log_var).exp().detach() * torch.randn_like(mu))


class CutOffAndNoKL(clinic.Patient5):
    loss = NO_KL.loss


def _reaches(value: Tensor, parameter: Tensor) -> bool:
    (gradient,) = torch.autograd.grad(value, parameter, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient.abs().max() > 0)


def _whole_loss(model, x):
    loss = model.loss(model(x), x)
    for parameter in model.encoder.parameters():
        assert _reaches(loss, parameter)


def _mean_only(model, x):
    logits, mu, _ = model(x)
    assert _reaches(logits.sum(), mu)


def _spread_only(model, x):
    logits, _, log_var = model(x)
    assert _reaches(logits.sum(), log_var)


def _encoder_weights(model, x):
    logits, _, _ = model(x)
    assert _reaches(logits.sum(), model.encoder[1].weight)


def _no_gradient_wanted(model, x):
    logits, mu, _ = model(x)
    assert not _reaches(logits.sum(), mu)


EXERCISE_4 = Exercise(
    number="8.4",
    title="Does the encoder hear of the picture?",
    minutes=8,
    stub=STUB_4,
    hints=(
        "In the patient the encoder does get a gradient: from the KL. So which quantity must be differentiated, if "
        "only the way through the sample is to count?",
        "The logits know nothing of the KL. torch.autograd.grad(logits.sum(), mu, retain_graph=True, "
        "allow_unused=True) returns a tuple with one gradient, which is None where no path exists.",
        "For mu and for log_var: (gradient,) = torch.autograd.grad(...) as above, then assert that it is not None and "
        "that gradient.abs().max() > 0.",
    ),
    solution=test_reconstruction_teaches_the_encoder,
    passed="Both ways are open: where the code lies, and how sure it is.",
    judge=Bench(
        specimens=(
            HEALTHY,
            WILD,
            Specimen("Patient 5", small(clinic.Patient5), FAILS, "Patient 5 samples with sample(): nothing gets back."),
            Specimen("a sampler under no_grad", small(NO_GRAD), FAILS, "The sample is drawn without a graph here."),
            Specimen(
                "mu detached in the sampler", small(MU_DETACHED), FAILS, "Only log_var gets a gradient here, not mu."
            ),
            Specimen("σ detached in the sampler", small(STD_DETACHED), FAILS, "Only mu gets a gradient here."),
            Specimen("Patient 5 without its KL", small(CutOffAndNoKL), FAILS, "Nothing at all teaches this encoder."),
            Specimen(
                "a KL with its sign turned (Patient 8)",
                small(clinic.Patient8),
                PASSES,
                "Patient 8's gradients arrive; they come from a wrong loss, which is another test's business.",
            ),
            Specimen(
                "a VAE without any KL",
                small(NO_KL),
                PASSES,
                "Without a KL, all that the encoder hears is the reconstruction: it should pass.",
            ),
            MISSHAPEN,
        ),
        misconceptions=(
            *_always(
                "The decoder's weights get a gradient in the patient, too, and `requires_grad` is true there: neither "
                "says anything about the encoder.",
                "Does it ask for a gradient of a tensor that is not part of the graph, such as a copy?",
            ),
            Misconception(
                "shapes only",
                lambda model, x: _same_shapes(model, x),
                SHAPES,
            ),
            Misconception("a loss that was copied", _loss_is_below_700, VALUE),
            Misconception(
                "the whole loss",
                _whole_loss,
                "You differentiate the whole loss, and the KL is a part of it: it gives the encoder a gradient in the "
                "patient as well. Which part of the output knows nothing of the KL?",
            ),
            Misconception(
                "the mean only",
                _mean_only,
                "The way to mu is open, but nobody looked at log_var: with σ detached the encoder never learns how "
                "sure it may be.",
            ),
            Misconception(
                "the spread only",
                _spread_only,
                "The way to log_var is open, but nobody looked at mu.",
            ),
            Misconception(
                "either will do",
                _encoder_weights,
                "The encoder's first layers serve both heads: they get a gradient as soon as one of the two ways is "
                "open. Look at mu and log_var one by one.",
            ),
            Misconception(
                "the wrong way round",
                _no_gradient_wanted,
                "This asks that there be *no* gradient: it passes on the patient and refuses the cured model.",
            ),
        ),
    ),
)


def _same_shapes(model, x):
    logits, mu, log_var = model(x)
    assert logits.shape == (len(x), 784) and mu.shape == log_var.shape and mu.dim() == 2


# 8.5 -----------------------------------------------------------------------------------------------

STUB_5 = '''\
def test_loss_is_per_image(model, x):
    """Fail unless the loss of a batch stays the same when every image in it occurs twice.

    model(x) -> (logits, mu, log_var); model.loss((logits, mu, log_var), x) -> one number, for any three tensors
    """
    ...'''


def test_loss_is_per_image(model, x):
    output = model(x)
    once = model.loss(output, x)
    twice = model.loss(tuple(torch.cat([t, t]) for t in output), torch.cat([x, x]))
    assert torch.isclose(once, twice, rtol=1e-4), f"{once:.2f} for {len(x)} images, {twice:.2f} for the same ones twice"


class SummedOverBatch(SmallVAE):
    def loss(self, output, x):
        return super().loss(output, x) * len(x)


class KLSummedOverBatch(SmallVAE):
    def loss(self, output, x):
        _, mu, log_var = output
        return NO_KL.loss(self, output, x) + _kl(mu, log_var).sum()


def _still_images(kind: type) -> Callable[[], tuple]:
    return lambda: (kind(latent_dim=5, hidden=24), images()[:1].repeat(16, 1, 1, 1))


def _doubled(model, x) -> tuple[Tensor, Tensor]:
    output = model(x)
    return model.loss(output, x), model.loss(tuple(torch.cat([t, t]) for t in output), torch.cat([x, x]))


def _new_noise(model, x):
    twice = torch.cat([x, x])
    assert torch.isclose(model.loss(model(x), x), model.loss(model(twice), twice), rtol=1e-6)


def _other_images(model, x):
    half = x[: len(x) // 2]
    assert torch.isclose(model.loss(model(x), x), model.loss(model(half), half), rtol=1e-6)


def _wide(model, x):
    once, twice = _doubled(model, x)
    assert torch.isclose(once, twice, rtol=0.1)


def _wants_a_sum(model, x):
    once, twice = _doubled(model, x)
    assert torch.isclose(2 * once, twice, rtol=1e-4)


EXERCISE_5 = Exercise(
    number="8.5",
    title="A loss per image",
    minutes=6,
    stub=STUB_5,
    hints=(
        "Two batches of different size, and yet the same images and the same noise. How can one batch be made of "
        "another, without running the model again?",
        "Run the model once. torch.cat([t, t]) doubles each of the three tensors of its output, and x as well. "
        "model.loss takes the doubled tuple.",
        "once = model.loss(output, x), twice = model.loss(tuple(torch.cat([t, t]) for t in output), torch.cat([x, x])) "
        "and assert torch.isclose(once, twice, rtol=1e-4).",
    ),
    solution=test_loss_is_per_image,
    passed="The same images, the same noise, and only the size of the batch has changed.",
    judge=Bench(
        specimens=(
            HEALTHY,
            WILD,
            Specimen("Patient 7", small(clinic.Patient7), FAILS, "Patient 7 sums one term over the batch."),
            Specimen("a sum over the batch", small(SummedOverBatch), FAILS, "Both terms are summed over the batch."),
            Specimen(
                "a KL summed over the batch",
                small(KLSummedOverBatch),
                FAILS,
                "The KL alone is summed over the batch here, and it is a small part of the loss.",
            ),
            Specimen(
                "an average over pixels (Patient 6)",
                small(clinic.Patient6),
                PASSES,
                "Patient 6 has a wrong scale, and the same wrong scale at every batch size.",
            ),
            Specimen(
                "a KL with its sign turned (Patient 8)",
                small(clinic.Patient8),
                PASSES,
                "Patient 8's loss is wrong at every batch size alike.",
            ),
            Specimen("a model without noise", small(NO_NOISE)),
            Specimen("a model without noise, on one image many times", _still_images(NO_NOISE)),
            MISSHAPEN,
        ),
        misconceptions=(
            *_always(
                "Is a loss of your own compared with itself? It is model.loss that has to be asked twice.",
                "What differs between the two losses besides the size of the batch?",
            ),
            Misconception("shapes only", _loss_is_a_scalar, SHAPES),
            Misconception("a loss that was copied", _loss_is_below_700, VALUE),
            Misconception(
                "new noise",
                _new_noise,
                "The model ran twice, so the noise was drawn twice, and the losses differ for that reason alone. Run "
                "it once and double its output.",
            ),
            Misconception(
                "other images",
                _other_images,
                "The two batches hold different images, whose losses differ in every model. What is a larger batch "
                "with the *same* images?",
            ),
            Misconception(
                "too loose",
                _wide,
                "The tolerance is so wide that a KL summed over the batch gets through, since the KL is a small part "
                "of the loss. Nothing random is left here: a relative 1e-4 is plenty.",
            ),
            Misconception(
                "the wrong way round",
                _wants_a_sum,
                "This asks that the loss double. Per image is what an ELBO is stated in, and what the learning rate "
                "was chosen for.",
            ),
        ),
    ),
)

# 8.6 -----------------------------------------------------------------------------------------------

STUB_6 = '''\
def healthy_loss(logits, mu, log_var, x):
    """Return the loss that patients 6, 7 and 8 should have had: the negative ELBO in nats per image, one number.

    logits, x:   (B, D), Bernoulli logits and pixels in [0, 1]
    mu, log_var: (B, L), with log_var = log sigma**2
    """
    ...'''


def healthy_loss(logits, mu, log_var, x):
    recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)  # (B,), nats
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(dim=1)  # (B,), nats
    return (recon + kl).mean()


def _cases_6(rng: torch.Generator) -> list[tuple]:
    def case(batch: int, dims: int, latent: int) -> tuple:
        logits = torch.randn(batch, dims, generator=rng, dtype=torch.float64)
        mu, log_var = (torch.randn(batch, latent, generator=rng, dtype=torch.float64) for _ in range(2))
        return logits, mu, log_var, torch.rand(batch, dims, generator=rng, dtype=torch.float64)

    return [case(2, 3, 2), case(5, 4, 3), case(1, 6, 2)]


def _bce(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def _other_kl(kl: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda logits, mu, log_var, x: _bce(logits, x).sum(1).mean() + kl(mu, log_var).mean()


EXERCISE_6 = Exercise(
    number="8.6",
    title="One cure for three patients",
    minutes=6,
    stub=STUB_6,
    hints=(
        "One rule for both terms: sum over whatever belongs to one image (its pixels, its latent dimensions), and take "
        "the mean over the images.",
        'F.binary_cross_entropy_with_logits(logits, x, reduction="none") is (B, D): which sum is left to do? The KL of '
        "one dimension is ½(μ² + σ² − 1 − log σ²), and σ² is log_var.exp().",
        "recon = (the line above).sum(1); kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1); and then "
        "(recon + kl).mean().",
    ),
    solution=healthy_loss,
    passed="Nats per image, in both terms: no batch size, no number of pixels, no latent size hides in it as a weight.",
    judge=Compare(
        cases=_cases_6,
        also=gradient_reaches("logits", "mu", "log_var"),
        misconceptions=(
            Misconception(
                "averaged over pixels",
                lambda logits, mu, log_var, x: _bce(logits, x).mean() + _kl(mu, log_var).mean(),
                "That is Patient 6: the reconstruction is averaged over the D pixels, which makes the KL D times too "
                "heavy.",
            ),
            Misconception(
                "reconstruction summed over the batch",
                lambda logits, mu, log_var, x: _bce(logits, x).sum() + _kl(mu, log_var).mean(),
                "That is Patient 7: the reconstruction is summed over the batch, the KL is averaged over it, and so "
                "the weight of the KL is 1/B.",
            ),
            Misconception(
                "sign of the KL",
                _other_kl(lambda mu, log_var: -_kl(mu, log_var)),
                "That is Patient 8: 1 + log σ² − μ² − σ² is *minus* twice the KL.",
            ),
            Misconception(
                "summed over everything",
                lambda logits, mu, log_var, x: _bce(logits, x).sum() + _kl(mu, log_var).sum(),
                "Both terms are summed over the batch. The balance is right, but the loss, and with it the gradient, "
                "grows with the batch size.",
            ),
            Misconception(
                "averaged over everything",
                lambda logits, mu, log_var, x: _bce(logits, x).mean() + _kl(mu, log_var).mean() / mu.shape[1],
                "Both terms are averaged over their own dimensions, D pixels and L latents: the KL weighs D/L times "
                "what it should.",
            ),
            Misconception(
                "KL averaged over the latents",
                _other_kl(lambda mu, log_var: _kl(mu, log_var) / mu.shape[1]),
                "The KL is averaged over the L latent dimensions: its weight is 1/L.",
            ),
            Misconception(
                "half forgotten",
                _other_kl(lambda mu, log_var: 2 * _kl(mu, log_var)),
                "The ½ in front of the KL is missing.",
            ),
            Misconception(
                "log_var taken for log σ",
                _other_kl(lambda mu, log_var: 0.5 * (mu**2 + (2 * log_var).exp() - 1 - 2 * log_var).sum(1)),
                "This is the KL of a q whose log σ is log_var. It is log σ² here.",
            ),
            Misconception(
                "sigmoid twice",
                lambda logits, mu, log_var, x: _bce(logits.sigmoid(), x).sum(1).mean() + _kl(mu, log_var).mean(),
                "The logits went through a sigmoid before a function that applies its own: Patient 9 will be glad of "
                "company.",
            ),
            Misconception(
                "no KL",
                lambda logits, mu, log_var, x: _bce(logits, x).sum(1).mean(),
                "There is no KL in it. That was Patient 1.",
            ),
            Misconception(
                "per image",
                lambda logits, mu, log_var, x: _bce(logits, x).sum(1) + _kl(mu, log_var),
                "These are the losses of the single images, and they are right. One number is asked for: their mean.",
            ),
            Misconception(
                "the ELBO itself",
                lambda logits, mu, log_var, x: -(_bce(logits, x).sum(1) + _kl(mu, log_var)).mean(),
                "This is the ELBO, which is maximised. An optimiser minimises: what is its loss?",
            ),
        ),
    ),
)

# 8.7 -----------------------------------------------------------------------------------------------

STUB_7 = '''\
def test_decoder_hears_the_condition(model, x, cond):
    """Fail unless model.decode gives another picture when the condition is changed, and only the condition.

    cond: (B, 10), one-hot; model.encode(x, cond) -> (mu, log_var); model.decode(z, cond) -> logits
    """
    ...'''


def test_decoder_hears_the_condition(model, x, cond):
    z, _ = model.encode(x, cond)
    asked, otherwise = model.decode(z, cond), model.decode(z, cond.roll(1, dims=1))
    change = (asked - otherwise).abs().max()
    assert change > 1e-5, f"another class, the same picture: largest change {change:.2g}"


class DecoderTimesZero(SmallCVAE):
    def decode(self, z, cond):
        return super().decode(z, 0 * cond)


class DeafEncoder(SmallCVAE):
    def encode(self, x, cond):
        return super().encode(x, torch.zeros_like(cond))


class BothDeaf(DeafEncoder):
    def decode(self, z, cond):
        return super().decode(z, 0 * cond)


class BothDeafNoNoise(BothDeaf):
    def reparameterize(self, mu, log_var):
        return mu


class MisshapenCVAE(SmallCVAE):
    def decode(self, z, cond):
        return super().decode(z, cond)[..., None].repeat(1, 1, 2)


def _conditional(kind: type = SmallCVAE, scale: float = 1.0) -> Callable[[], tuple]:
    def make() -> tuple:
        model = kind(latent_dim=5, hidden=24)
        with torch.no_grad():
            model.decoder[-1].weight.mul_(scale)
        return model, images(), F.one_hot(torch.arange(16) % 10, 10).float()

    return make


def _runs_twice(model, x, cond):
    assert not torch.equal(model(x, cond)[0], model(x, cond.roll(1, dims=1))[0])


def _through_the_encoder(model, x, cond):
    torch.manual_seed(0)
    first = model(x, cond)[0]
    torch.manual_seed(0)
    assert not torch.equal(first, model(x, cond.roll(1, dims=1))[0])


def _hearing_of_the_encoder(model, x, cond):
    assert not torch.equal(model.encode(x, cond)[0], model.encode(x, cond.roll(1, dims=1))[0])


def _logits_have_a_shape(model, x, cond):
    assert model.decode(model.encode(x, cond)[0], cond).shape == (len(x), 784)


def _conditional_loss(model, x, cond):
    recon = F.binary_cross_entropy_with_logits(model(x, cond)[0], x.flatten(1), reduction="none").sum(1)
    assert recon.mean() < 700


def _deaf_wanted(model, x, cond):
    z, _ = model.encode(x, cond)
    assert torch.equal(model.decode(z, cond), model.decode(z, cond.roll(1, dims=1)))


EXERCISE_7 = Exercise(
    number="8.7",
    title="Is anybody listening?",
    minutes=6,
    stub=STUB_7,
    hints=(
        "Change the condition and nothing else. If you run the whole model twice, what else changes?",
        "Take one z, for example the means that encode returns, and decode it twice: with cond, and with "
        "cond.roll(1, dims=1), in which every image has another class.",
        "z, _ = model.encode(x, cond); compare model.decode(z, cond) with model.decode(z, cond.roll(1, dims=1)) and "
        "assert that the largest absolute difference is greater than, say, 1e-5.",
    ),
    solution=test_decoder_hears_the_condition,
    passed="One code, two classes, two pictures: only the decoder's hearing can be the reason.",
    judge=Bench(
        specimens=(
            Specimen("the cured model", _conditional(), PASSES, HEALTHY.why),
            Specimen("a healthy model with a bad loss", _conditional(scale=20), PASSES, WILD.why),
            Specimen("Patient 14", _conditional(clinic.Patient14), FAILS, "Patient 14's decoder takes z alone."),
            Specimen(
                "a decoder that multiplies cond by 0",
                _conditional(DecoderTimesZero),
                FAILS,
                "This decoder takes the condition and makes nothing of it.",
            ),
            Specimen(
                "an encoder that does not see cond",
                _conditional(DeafEncoder),
                PASSES,
                "Here the decoder hears and the encoder does not. That costs some nats, but a seven will be a seven.",
            ),
            Specimen("both deaf, no noise", _conditional(BothDeafNoNoise)),
            Specimen("both deaf", _conditional(BothDeaf), FAILS, "Neither network sees the condition here."),
            Specimen("a model with other shapes", _conditional(MisshapenCVAE)),
        ),
        misconceptions=(
            *_always(
                "Which two pictures are compared?",
                "Are the two conditions really different? Or are two pictures asked to be the same?",
            ),
            Misconception("shapes only", _logits_have_a_shape, SHAPES),
            Misconception("a loss that was copied", _conditional_loss, VALUE),
            Misconception(
                "new noise",
                _runs_twice,
                "The model ran twice, with new noise each time: the pictures differ in the patient, too. Decode *one* "
                "z twice.",
            ),
            Misconception(
                "through the encoder",
                _through_the_encoder,
                "The noise is the same, but the encoder was given the other class as well, so z has changed. It is the "
                "decoder that should be asked: one z, decoded twice.",
            ),
            Misconception(
                "the encoder's hearing",
                _hearing_of_the_encoder,
                "You tested whether the *encoder* hears the condition. The patient's does; its decoder does not.",
            ),
            Misconception(
                "the wrong way round",
                _deaf_wanted,
                "This asks that the picture stay the same: it passes on the patient and refuses the cured model.",
            ),
        ),
    ),
)

EXERCISES = (EXERCISE_1, EXERCISE_2, EXERCISE_3, EXERCISE_4, EXERCISE_5, EXERCISE_6, EXERCISE_7)
