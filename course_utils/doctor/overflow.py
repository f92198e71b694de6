"""At which log σ² does the model stop giving numbers?"""

from course_utils.doctor.patient import Patient
from course_utils.doctor.probe import weights_kept
from course_utils.doctor.report import Notes

TRIED = (10.0, 100.0, 200.0)  # exp overflows at 89 in float32, exp of the half at 177


def check_overflow(patient: Patient, notes: Notes) -> None:
    """Push log σ² up by its own biases: what is not finite at 10 is broken, at 200 only unguarded."""
    if patient.spread is None or patient.mu is None or patient.first.recon is None:
        return notes.skipped("overflow: the encoder's second output was not found.")
    masks = patient.only(patient.spread, patient.mu)
    biases = [(p, m) for p, m in zip(patient.parameters, masks, strict=True) if p.dim() == 1 and m.any()]
    if not biases:
        return notes.skipped("overflow: the head of log σ² has no bias of its own to push.")
    for pushed in TRIED:
        with weights_kept(patient.model):
            for bias, mask in biases:
                bias.data += pushed * mask.to(bias)
            run = patient.run()
            spread = run.spread if run.spread is not None else run.probe.at(patient.spread_site)
            spread = patient.spread if spread is None else spread
            variance = spread if patient.spread_kind[0] in ("std", "var") else spread.max().exp()
        parts = {"z": run.code if run.code is not None else run.z, "the output": run.recon}
        parts["the variance in the KL"] = variance
        top = spread.max().item()
        broken = [name for name, values in parts.items() if values is not None and not values.isfinite().all()]
        if broken:
            early = pushed <= 10
            return notes.found(
                "error" if early else "remark", "overflow",
                "Nothing keeps log σ² from growing until exp overflows"
                + (", and it does so early." if early else "; data of the order of 1 do not get there."),
                f"with {pushed:g} added to its head's bias (largest value {top:.3g}), not finite: {', '.join(broken)}",
            )  # fmt: skip
    notes.well(f"numbers stay finite with {TRIED[-1]:g} added to log σ² (largest value {top:.3g})")
