"""A step recorded once and replayed: on a GPU the launches of hundreds of small kernels then cost one.

What is recorded reads its inputs from tensors that stay, so a replay is a copy into those and one launch. Steps of
another shape (an epoch's last batch) are recorded for themselves. What cannot be recorded goes on as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Captured", "CudaGraphs", "Recorder", "Step"]

Step = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


class Recorder(Protocol):
    """Records what a function launches."""

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A function that launches the same again, into the same result; ``function`` itself need not have run."""
        ...


class CudaGraphs:
    """CUDA graphs on ``device``."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def record(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                output = function()

        def play() -> Tensor:
            graph.replay()
            return output

        return play


class Captured:
    """``step``, recorded for each shape of its inputs after ``warm`` calls that ran as they are.

    The step changes tensors in place, so every call, warm-up included, is a step that counts. Its result belongs to
    the caller. note: told once, where recording fails.
    """

    def __init__(self, step: Step, recorder: Recorder, *, note: Callable[[str], None], warm: int = 3) -> None:
        self.step, self.recorder, self.note, self.warm = step, recorder, note, warm
        self._calls: dict[Any, int] = {}
        self._plays: dict[Any, tuple[list[Tensor], Callable[[], Tensor]]] = {}
        self._off = False

    def __call__(self, x: Tensor, y: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        given = [x, y, *noise.values()]
        key = tuple((one.shape, one.dtype) for one in given)
        if not self._off and key not in self._plays and self._calls.get(key, 0) >= self.warm:
            self._record(key, x, y, noise)
        if key in self._plays:
            kept, play = self._plays[key]
            for place, value in zip(kept, given, strict=True):
                place.copy_(value)
            return play().clone()  # the next launch writes into the same tensor
        self._calls[key] = self._calls.get(key, 0) + 1
        return self.step(x, y, noise)

    def _record(self, key: Any, x: Tensor, y: Tensor, noise: Mapping[str, Tensor]) -> None:
        kept = [x.clone(), y.clone(), *(value.clone() for value in noise.values())]
        named = dict(zip(noise, kept[2:], strict=True))
        try:
            self._plays[key] = kept, self.recorder.record(lambda: self.step(kept[0], kept[1], named))
        except (RuntimeError, NotImplementedError) as error:
            self._off = True
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.note(f"steps are not captured as a CUDA graph, and cost more launches: {reason}")
