"""The examination: runs the checks in an order in which each can rely on the ones before."""

import inspect
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from course_utils.doctor.decoder import check_code_is_used, check_collapse, check_condition, check_range
from course_utils.doctor.encoder import check_averaging, check_gradient, check_heads, check_reach
from course_utils.doctor.objective import check_objective
from course_utils.doctor.outputs import role_of
from course_utils.doctor.patient import ModelRaised, Patient, forward_of, last_line
from course_utils.doctor.probe import Probe, kept
from course_utils.doctor.report import Diagnosis, Notes
from course_utils.doctor.sampling import check_modes, check_noise, check_rows, check_spread, measure_spread

FEWEST, EXAMPLES = 8, 64
MOST_NUMBERS = 5_000_000  # in one forward pass: of a large model fewer examples are used
PATIENCE = 2.0  # seconds without a word


def examine(
    model: nn.Module, x: Tensor, *, cond: Tensor | None = None, loss: Callable | None = None,
    forward: Callable | None = None, encode: Callable | None = None, decode: Callable | None = None,
) -> Diagnosis:  # fmt: skip
    """Examine a model that is meant to be a VAE: experiments on its sampler, its loss, its encoder and its decoder.

    Nothing is trained, and the model is left as it was: weights, buffers, gradients, mode, random state, device.

    Shapes: ``x`` (B, …) floating-point, as the model takes it, at least 8 examples, of which the first 64 are used
    (fewer for a large model); ``cond`` (B, …), passed as ``model(x, cond)``. ``loss(output, x)`` is the training
    loss; without one, ``model.loss(x)``, ``model.loss(x, cond)`` or ``model.loss(output, x)`` is used if it exists. The
    doctor calls it with outputs in which it has put numbers of its own, so it must compute from its arguments.
    ``forward(x)`` returns the output where that is not ``model(x)``, ``encode(x)`` the pair (μ, second output),
    ``decode(z)`` the reconstruction; with ``cond`` each gets it as one more argument. Raises ``TypeError`` or
    ``ValueError`` for arguments that do not fit; what the model itself raises is reported as a finding.
    """
    _check_arguments(model, x, cond, loss=loss, forward=forward, encode=encode, decode=decode)
    notes = Notes()
    with kept(model), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experiments provoke what a user would want to be warned about
        try:
            patient = _patient(model, x, cond, loss or _loss_of_output(model), forward, encode, decode)
        except ModelRaised as error:
            notes.error("raises", "The model raises an error on these data.", str(error))
            notes.skipped("everything else: the model has to run first.")
            return notes.diagnosis()
        _run_checks(patient, notes)
    return notes.diagnosis()


def _run_checks(patient: Patient, notes: Notes) -> None:
    parts = {"the reconstruction": patient.first.recon, "z": patient.zero.code, "μ": patient.mu}
    parts["the spread"] = patient.spread
    counts = {name: int((~t.isfinite()).sum()) for name, t in parts.items() if t is not None}
    if bad := ", ".join(f"{n:,} numbers of {name}" for name, n in counts.items() if n):
        notes.error("not-finite", "The forward pass gives numbers that are not finite.", bad)
        return notes.skipped("everything else: the numbers have to be finite first.")
    form = kl_kind = None

    def objective() -> None:
        nonlocal form, kl_kind
        patient.spread_kind = measure_spread(patient)
        form, kl_kind = check_objective(patient, notes)

    checks = {
        "the use of z": lambda: check_code_is_used(patient, notes),
        "the noise": lambda: check_noise(patient, notes),
        "the heads": lambda: check_heads(patient, notes),
        "the latent dimensions": lambda: check_averaging(patient, notes),
        "the encoder's gradient": lambda: check_gradient(patient, notes),
        "the loss": objective,
        "the size of the noise": lambda: check_spread(patient, notes, kl_kind),
        "the range of the heads": lambda: check_reach(patient, notes, kl_kind),
        "the range of the output": lambda: check_range(patient, notes, form),
        "the condition": lambda: check_condition(patient, notes),
        "collapse": lambda: check_collapse(patient, notes),
        "train() and eval()": lambda: (check_modes(patient, notes), check_rows(patient, notes)),
    }
    if patient.cond is None:
        del checks["the condition"]
    one_code = {"the heads", "the latent dimensions", "the encoder's gradient", "the size of the noise", "collapse",
                "the range of the heads", "the condition"}  # fmt: skip
    looks = ("the use of z", "the noise", "train() and eval()")  # no gradients
    next_word = time.perf_counter() + PATIENCE
    for done, (name, check) in enumerate(checks.items()):
        if time.perf_counter() > next_word:
            print(f"The doctor examines: {done} of {len(checks)} checks done, next {name} …", file=sys.stderr)
            next_word = time.perf_counter() + PATIENCE
        with notes.check():
            if patient.beyond and name in one_code:
                continue
            try:
                with patient.calm() if name in looks else torch.enable_grad():
                    check()
            except (ModelRaised, RuntimeError, ValueError, IndexError, TypeError) as error:
                said = "the model raised in" if isinstance(error, ModelRaised) else "something failed in"
                notes.skipped(f"{name}: {said} this experiment ({last_line(error)}).")


def _patient(model, x, cond, *callables) -> Patient:
    """The patient on the first examples; on all of them, if it runs with no other batch size."""
    x, few = x.detach().clone(), EXAMPLES
    with suppress(Exception), Probe() as tape:
        (callables[1] or forward_of(model))(*(t[:FEWEST] for t in (x, cond) if t is not None))
        numbers = sum(t.numel() for call in tape.calls for t in call.results)
        few = min(max(FEWEST, FEWEST * MOST_NUMBERS // max(numbers, 1)), EXAMPLES)
    try:
        return Patient(model, x[:few], None if cond is None else cond[:few], *callables)
    except ModelRaised:
        if len(x) <= few:
            raise
    return Patient(model, x, cond, *callables)


def _loss_of_output(model: nn.Module) -> Callable | None:
    """The model's method ``loss``, if its first argument is by its name the output of the forward pass."""
    method = getattr(model, "loss", None)
    if not callable(method) or isinstance(method, nn.Module):
        return None
    names = [p.name for p in inspect.signature(method).parameters.values() if p.default is p.empty and p.kind < 2]
    return method if len(names) == 2 and role_of(names[0]) == "recon" else None


def _check_arguments(model: object, x: object, cond: object, **functions: object) -> None:
    if not isinstance(model, nn.Module):
        made = "; did you pass the class? Make an instance of it first" if isinstance(model, type) else ""
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}{made}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("model is traced or scripted: nothing inside can be watched; give what it was made from")
    if functions["forward"] is None and forward_of(model) is model and type(model).forward is nn.Module.forward:
        raise TypeError(f"{type(model).__name__} has no forward(x); give forward=lambda x: …, which returns its output")
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, a batch as the model takes it, got {type(x).__name__}")
    if not x.is_floating_point():
        hint = "for 8-bit images: x.float() / 255; for words: x.float(), with forward=lambda x: model(x.long())"
        raise TypeError(f"x must hold floating-point numbers, got {x.dtype}; {hint}")
    if x.dim() < 2 or len(x) < FEWEST:
        raise ValueError(f"x must be a batch (B, …) of at least {FEWEST} examples, got shape {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError("x holds NaN or infinity; the doctor needs clean data to tell the model's errors from theirs")
    if bool((x == x[:1]).all()):
        raise ValueError("all examples of x are the same; the doctor needs examples that differ")
    if cond is not None and (not isinstance(cond, Tensor) or cond.shape[:1] != x.shape[:1]):
        got = getattr(cond, "shape", cond)
        raise ValueError(f"cond must be a tensor with one row per example, {len(x)}, got {got}")
