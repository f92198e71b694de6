"""Several processes that train one model together, or one alone: each takes its share of every batch."""

from typing import Any

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from course_utils.losses.terms import Terms


def processes() -> tuple[int, int]:
    """This process's rank and how many there are: (0, 1) without a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class Objective(nn.Module):
    """``model.loss`` as a module's ``forward``, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor, beta: float) -> Terms:
        return self.model.loss(*inputs, beta=beta)


def objective(model: nn.Module) -> nn.Module:
    """What gives the model's loss in every process: with several, all begin with the weights of the first, and the
    gradients are averaged over them in ``backward``."""
    alone = Objective(model)
    return DistributedDataParallel(alone) if processes()[1] > 1 else alone


def share(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """This process's part of a batch."""
    rank, world = processes()
    return tuple(part[rank::world] for part in inputs) if world > 1 else inputs


def total(values: Tensor) -> Tensor:
    """The sum of ``values`` over all processes."""
    if processes()[1] > 1:
        distributed.all_reduce(values)
    return values


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers, averages of a normalisation for one: all must call this."""
    for buffer in model.buffers() if processes()[1] > 1 else ():
        distributed.broadcast(buffer, 0)


def of_all(value: Any) -> list[Any]:
    """``value`` of every process, by rank: all must call this."""
    world = processes()[1]
    if world == 1:
        return [value]
    values: list[Any] = [None] * world
    distributed.all_gather_object(values, value)
    return values
