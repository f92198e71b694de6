"""Which numbers can a result of the model be at all, whatever the layer before it gives?"""

from typing import NamedTuple

import torch

from course_utils.doctor.patient import ModelRaised, Patient
from course_utils.doctor.probe import Site, normals


class Reach(NamedTuple):
    """The smallest and largest number that something takes, and the share that is exactly the smallest or largest."""

    low: float
    high: float
    cut: float

    @property
    def unit(self) -> bool:
        """Whether all lie in [0, 1], as a sigmoid's do."""
        return self.low >= -1e-6 and self.high <= 1 + 1e-6

    @property
    def one_sided(self) -> bool:
        """Whether all lie on one side of 0."""
        return self.low >= -1e-6 or self.high <= 1e-6

    def __str__(self) -> str:
        return f"[{self.low:.3g}, {self.high:.3g}]"


def reach_of(patient: Patient, site: Site | None = None) -> Reach | None:
    """The range of a result (of the reconstruction, without a site) whatever the last layer before it gives.

    The output of that layer is replaced by small and by large numbers, so this is what the activations let through.
    None where no such layer is found.
    """
    first = patient.first if site is None else patient.zero
    natural = first.recon if site is None else first.probe.at(site)
    last = len(first.probe.calls) if site is None else site[0] + 1
    layers = [k for k in reversed(range(last)) if first.probe.calls[k].is_layer]
    for k in layers[:4] if natural is not None else ():
        seen, cut = [natural.detach().flatten()], 0.0
        for size in (1.0, 30.0, 1000.0):
            numbers = size * normals(int(size))(first.probe.calls[k].results[0])
            try:
                run = patient.run(noise=None if site is None else 0.0, put={(k, 0): numbers})
            except ModelRaised:  # a distribution may refuse such numbers
                break
            values = run.recon if site is None else run.probe.at(site)
            if values is None or torch.equal(values, natural):
                break
            values = values.detach().flatten()
            cut = (values == values.min()).float().mean().item() if size == 1.0 else cut
            seen.append(values[values.isfinite()])
        if len(seen) > 1:
            every = torch.cat(seen)
            return Reach(every.min().item(), every.max().item(), cut)
    return None
