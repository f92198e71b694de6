"""Training data as ``fit`` takes them: images or tensors, handed out as the arguments of a model's loss."""

import copy
import zlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from course_utils._checks import check_choice, check_float, check_unit_interval
from course_utils._random import seeded
from course_utils.data.images import Split
from course_utils.evaluation.bounds import check_inputs, device_of, method_of
from course_utils.models.cvae import Condition

Transform = Callable[[Tensor], Tensor]
Examples = Split | Tensor | tuple[Tensor, ...]
BINARIZE = (None, "dynamic", "static")


class Batches:
    """The examples of one data set as arguments of ``model.loss``, on the model's device; see ``fit`` for what each
    argument means. Raises ``TypeError`` or ``ValueError`` for data that the model cannot take, by trying the first."""

    def __init__(
        self,
        model: nn.Module,
        data: Examples,
        *,
        condition: Condition | None = None,
        transform: Transform | None = None,
        binarize: str | None = None,
    ) -> None:
        check_choice("binarize", binarize, BINARIZE)
        for name, function in (("condition", condition), ("transform", transform)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, got {function!r}")
        self.model, self.device = model, device_of(model)
        self.condition, self.transform, self.binarize = condition, transform, binarize
        self.data = (data,) if isinstance(data, Tensor) else data
        if isinstance(data, Split):
            method_of(model, "inputs", "training on images")
        elif not isinstance(self.data, tuple):
            raise TypeError(
                "data must be an ImageData, a Split, a tensor or a tuple of tensors, the arguments of model.loss, "
                f"got {type(data).__name__}; of a DataLoader, give what its data set holds"
            )
        else:
            check_inputs(model, self.data)
            if condition is not None:
                raise TypeError("condition is for images with labels; give tensors as a pair (inputs, conditions)")
            if binarize:
                check_unit_interval("data", self.data[0])
        if binarize == "static":
            self.data, self.binarize = self._binarised(), None
        with seeded(0, self.device):
            check_inputs(model, self._inputs(*self._some(slice(0, 2))))

    def __len__(self) -> int:
        return len(self.data) if isinstance(self.data, Split) else len(self.data[0])

    def check_share(self, count: int) -> None:
        """Raise ``ValueError`` where the model cannot take the smallest share of a batch, if that is one example or
        none, as its loss may compare examples or normalise over them. It is tried, and the model's state put back."""
        if count > 1:
            return
        state, mode = copy.deepcopy(self.model.state_dict()), self.model.training
        try:
            with seeded(0, self.device):
                inputs = self._inputs(*self._some(slice(0, 2)))
                self.model.train().loss(*(part[:count] for part in inputs), beta=1.0)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"the last batch of an epoch has a share of {count} example{'s' * (count != 1)} for a process, which "
                f"{type(self.model).__name__}.loss cannot take: {error}; choose another batch_size"
            ) from error
        finally:
            self.model.load_state_dict(state)
            self.model.train(mode)

    def epoch(self, batch_size: int, order: torch.Generator) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The size of each batch of one epoch and the arguments of ``model.loss``, in an order drawn from ``order``."""
        if isinstance(self.data, Split):
            for part in self.data.batches(batch_size, seed=order):
                yield len(part[0]), self._inputs(*part)
            return
        for index in torch.randperm(len(self), generator=order).split(batch_size):
            yield len(index), self._inputs(*(tensor[index.to(tensor.device)] for tensor in self.data))

    def whole(self) -> tuple[Tensor, ...]:
        """All examples at once, in order, the same at every call."""
        with seeded(0, self.device):
            return self._inputs(*self._some(slice(None)))

    def fingerprint(self) -> int:
        """A number that other examples, another condition and another transform change."""
        tensors = (self.data.pixels, self.data.labels) if isinstance(self.data, Split) else self.data
        with seeded(0, self.device):
            some = self._inputs(*self._some(slice(0, 256)))
        value = 0
        for tensor in (*tensors, *some):
            value = zlib.crc32(tensor.detach().cpu().contiguous().numpy(), value)
        return value

    def _binarised(self) -> Split | tuple[Tensor, ...]:
        x, *others = self._some(slice(None))
        with seeded(0, x.device):
            drawn = x.bernoulli()
        return Split((255 * drawn).byte(), *others) if isinstance(self.data, Split) else (drawn, *others)

    def _some(self, index: slice) -> tuple[Tensor, ...]:
        if isinstance(self.data, Split):
            return self.data[index], self.data.labels[index]
        return tuple(tensor[index] for tensor in self.data)

    def _inputs(self, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        x = x.bernoulli() if self.binarize else x
        x = check_float("transform(x)", self.transform(x)) if self.transform else x
        if isinstance(self.data, Split):
            return self.model.inputs(x.to(self.device), others[0].to(self.device), self.condition)
        return tuple(tensor.to(self.device) for tensor in (x, *others))
