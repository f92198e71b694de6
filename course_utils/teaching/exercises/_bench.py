"""The judge of tests: what a reader's test says of models that are known to be sound or broken."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from ._attempt import Attempt, NotYet, Raised
from ._build import Build
from ._exercise import Exercise

REPEATS = 4  # other weights, sizes, images and noise


class Specimen(NamedTuple):
    """A model that the reader's test is run on: how to make the test's arguments, and what to say if it errs."""

    name: str
    make: Callable[[], tuple]
    words: str = ""


class Bench:
    """Runs the reader's test on models that must pass it and on models that must fail it, under several seeds.

    A test fails by AssertionError, or by any other error on a broken model, as under pytest; an error of another kind
    on a sound model is the reader's own. alarm: what to ask where a sound model without words of its own fails.
    """

    def __init__(self, *, passes: list[Specimen], fails: list[Specimen], alarm: str) -> None:
        self.specimens = [(s, True) for s in passes] + [(s, False) for s in fails]
        self.alarm = alarm

    def __call__(self, exercise: Exercise, attempt: Attempt) -> None:
        """Raises NotYet or Raised unless every verdict is right and the model is left as it was."""
        seen = {s.name: self._verdicts(attempt, s, sound, i) for i, (s, sound) in enumerate(self.specimens)}
        wrong = [(s, sound) for s, sound in self.specimens if seen[s.name] != {sound}]
        if not wrong:
            return self._leaves_no_traces(attempt)
        raise NotYet(*self._diagnosis(seen, wrong))

    def as_check(self, build: Build) -> None:
        """The same, as a check of a build."""
        self(build.exercise, build.attempt)

    def _verdicts(self, attempt: Attempt, specimen: Specimen, sound: bool, index: int) -> set[bool]:
        """{True} where it passes under every seed, {False} where it never does, else both."""
        seen = set()
        for seed in range(REPEATS):
            torch.manual_seed(1000 * seed + index)
            args = [attempt.prepare(argument) for argument in specimen.make()]
            try:
                returned = attempt.run(attempt.answer, *args, doing=f"on {specimen.name}")
            except Raised as raised:
                if sound and not isinstance(raised.error, AssertionError):
                    raise
                seen.add(False)
                continue
            if returned is not None:
                words = (
                    f"Your test returned a {type(returned).__name__}. A test speaks by `assert`, and by nothing else."
                )
                raise NotYet("returns a verdict", words)
            seen.add(True)
        return seen

    def _diagnosis(self, seen: dict[str, set[bool]], wrong: list[tuple[Specimen, bool]]) -> tuple[str, str]:
        sound, broken = ([s for s, is_sound in wrong if is_sound is kind] for kind in (True, False))
        count = f"It was run on {len(seen)} models, sound and broken."
        if all(verdicts == {True} for verdicts in seen.values()):
            if not __debug__:
                words = "Python runs with -O, which strips every `assert`. Start it without -O."
                return "assert is switched off", words
            return (
                "always passes",
                f"Your test passes on everything, {broken[0].name} included. {count} {broken[0].words}",
            )
        if all(verdicts == {False} for verdicts in seen.values()):
            return "always fails", f"Your test fails on everything. {count} {self.alarm}"
        refused = [s for s in sound if seen[s.name] == {False}]
        passed = [s for s in broken if seen[s.name] == {True}]
        if passed and len(refused) == sum(is_sound for _, is_sound in self.specimens):
            words = (
                f"Your test fails on every sound model and passes on {passed[0].name}. Does it ask for that mistake, "
                "in place of the right thing?"
            )
            return "asks for the mistake", words
        for specimen in [*refused, *passed]:
            verdict, should = ("fails", "pass") if specimen in refused else ("passes", "fail")
            words = specimen.words or self.alarm
            others = f" ({len(wrong)} of {len(seen)} verdicts are wrong.)" if len(wrong) > 1 else ""
            return (
                f"{verdict} on {specimen.name}",
                f"Your test {verdict} on {specimen.name}, and should {should}.{others} {words}",
            )
        specimen, is_sound = wrong[0]
        cure = self.alarm if is_sound else "More samples, another tolerance, or a quantity without chance in it?"
        return (
            "luck decides",
            f"On {specimen.name} the verdict changed with the weights, the images, the noise or the last digit. A "
            f"test should say the same every time. {cure}",
        )

    def _leaves_no_traces(self, attempt: Attempt) -> None:
        torch.manual_seed(0)
        model, *args = (attempt.prepare(argument) for argument in self.specimens[0][0].make())
        before, mode = {k: v.clone() for k, v in model.state_dict().items()}, model.training
        attempt.run(attempt.answer, model, *args, doing=f"on {self.specimens[0][0].name}")
        if model.training != mode or any(not torch.equal(v, model.state_dict()[k]) for k, v in before.items()):
            raise NotYet(
                "leaves traces",
                "All verdicts are right, but your test changed the model's weights or its mode. The next test would "
                "examine another model. Can it work on a copy?",
            )
