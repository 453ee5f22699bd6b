"""One run on several devices: every rank takes its share of each batch, and all do the same with what comes out.

``torchrun --nproc-per-node 2 -m equipoise run ...`` starts the ranks, one process each. What a batch is, and what is
drawn for it, does not depend on how many there are. Ranks agree on the host, at the same points of the program: on a
reason to stop, on what rank 0 alone did (all that is read or written), on whether everything went well everywhere.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from equipoise.errors import InputError, LostRank, RunError, ToldElsewhere
from equipoise.rules.sync import Part
from equipoise.train.joint import JointStatistics, normalisations
from equipoise.train.machine import Machine

__all__ = ["ALONE", "Ranks"]

_REASONS = ("", "time limit", "SIGINT", "SIGTERM")
Result = TypeVar("Result")


class Ranks:
    """The processes that train a run together: this one's ``rank``, and how many they are, ``size``."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._agreed: BaseException | None = None

    @classmethod
    def here(cls, device: str = "cpu") -> Ranks:
        """Those that torchrun started, this process among them; ``ALONE`` without it.

        A process group is made where there is none yet: gloo for what is on the host, NCCL on GPUs.
        """
        if not dist.is_available():
            return ALONE
        if not dist.is_initialized():
            if not dist.is_torchelastic_launched() or os.environ.get("WORLD_SIZE", "1") == "1":
                return ALONE
            cuda = torch.device(device).type == "cuda"
            if cuda:
                torch.cuda.set_device(_local(device))
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
            atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size()) if dist.get_world_size() > 1 else ALONE

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return self.size > 1

    def machine(self, machine: Machine) -> Machine:
        """``machine`` with this rank's own device: of "cuda" the one with its local number."""
        return dataclasses.replace(machine, device=_local(machine.device)) if self.several else machine

    # A batch and its parts.

    def over(self, count: int) -> Ranks:
        """Who shares ``count`` rows: all ranks, or each of them does the same alone where there are fewer rows."""
        return self if count >= self.size else ALONE

    def rows(self, count: int) -> slice:
        """This rank's rows of ``count``: the parts follow one another, and differ by one row at most."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def whole(self, part: Tensor, count: int) -> Tensor:
        """A batch of ``count`` rows that holds ``part`` in this rank's, and zeros, which nobody reads, elsewhere."""
        if not self.several:
            return part
        found = part.new_zeros(count, *part.shape[1:])
        found[self.rows(count)] = part
        return found

    def backward(self, rule: Any, x: Tensor, y: Tensor, count: int, generator: torch.Generator) -> Any:
        """The rule's step for this rank's rows (x, y) of a batch of ``count``; gradients are the whole batch's.

        So are batch statistics, and noise is this part of what the whole batch draws.
        """
        if not self.several:
            return rule.backward(x, y, sync=False, generator=generator)
        joint = JointStatistics(len(x), count) if normalisations(rule.model) else contextlib.nullcontext()
        with joint:
            return rule.backward(x, y, sync=Part(self.rows(count).start, count), generator=generator)

    def sum_(self, tensor: Tensor) -> Tensor:
        """``tensor``, summed over ranks in place."""
        if self.several:
            dist.all_reduce(tensor)
        return tensor

    # What ranks agree on, on the host.

    def agree(self, reason: str, *flags: bool) -> tuple[str, *tuple[bool, ...]]:
        """The reason to stop that any rank has, and each flag that is set on any."""
        if not self.several:
            return reason, *flags
        told = torch.tensor([_REASONS.index(reason), *flags])
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return _REASONS[int(told[0])], *map(bool, told[1:].tolist())

    def stopper(self, stopper: Any) -> Any:
        """``stopper``, or one whose ``reason`` is every rank's; all have to ask at the same points."""
        return _Agreed(self, stopper) if self.several else stopper

    def first(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns on rank 0, which alone calls it; its error there ends all."""
        if not self.several:
            return function()
        value, error = _tried(function) if self.rank == 0 else (None, None)
        told = [(value, None if error is None else _line(error))]
        dist.broadcast_object_list(told, src=0)
        if told[0][1] is not None:
            raise self._same(error or ToldElsewhere(told[0][1]))
        return told[0][0]  # type: ignore[return-value]

    def every(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns, which every rank calls; an error on any of them ends all, and rank 0 tells it."""
        if not self.several:
            return function()
        value, error = _tried(function)
        told: list[str | None] = [None] * self.size
        dist.all_gather_object(told, None if error is None else _line(error))
        failed = [rank for rank, line in enumerate(told) if line is not None]
        if failed and self.rank:
            raise self._same(ToldElsewhere(told[failed[0]]))
        if failed:
            raise self._same(error or RunError(f"rank {failed[0]}: {told[failed[0]]}"))
        return value  # type: ignore[return-value]

    def _same(self, error: BaseException) -> BaseException:
        self._agreed = error
        return error

    @contextlib.contextmanager
    def together(self, *shared: type[Exception]) -> Iterator[None]:
        """Turn what only some ranks meet into a ``LostRank``; errors of a type in ``shared`` all ranks raise alike."""
        try:
            yield
        except Exception as error:
            if not self.several or error is self._agreed or isinstance(error, (LostRank, *shared)):
                raise
            if _is_lost(error):
                raise LostRank(
                    f"rank {self.rank} of {self.size} stops: another one has ended, or cannot be reached; the last "
                    "checkpoint is whole, and the same command goes on with it"
                ) from error
            raise LostRank(f"rank {self.rank} of {self.size}: {_line(error)}") from error

    @property
    def name(self) -> str:
        """The words " x 2" for two of them, behind the name of a device."""
        return f" x {self.size}" if self.several else ""


ALONE = Ranks()


class _Agreed:
    """A stopper whose ``reason`` is every rank's."""

    def __init__(self, ranks: Ranks, own: Any) -> None:
        self._ranks, self.own = ranks, own

    @property
    def reason(self) -> str:
        return self._ranks.agree(self.own.reason)[0]


def _tried(function: Callable[[], Result]) -> tuple[Result | None, Exception | None]:
    try:
        return function(), None
    except Exception as error:
        return None, error


def _line(error: BaseException) -> str:
    kind = "" if isinstance(error, (InputError, RunError)) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


def _is_lost(error: Exception) -> bool:
    """Whether a collective failed because another rank is gone."""
    words = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError)
        and any(mark in words for mark in ("gloo", "connection closed", "connection reset", "broken pipe", "nccl"))
    )


def _local(device: str) -> str:
    """The name of this rank's own device."""
    wanted = torch.device(device)
    if wanted.type == "cpu":
        return device
    if wanted.index is not None:
        raise InputError(f"every rank takes a device of its own, and --device says {device}; write {wanted.type}")
    number, there = int(os.environ.get("LOCAL_RANK", dist.get_rank() if dist.is_initialized() else 0)), 1
    if wanted.type == "cuda":
        there = torch.cuda.device_count()
    if number >= there:
        raise InputError(f"there are {there} devices '{device}' here, and more ranks; start fewer (--nproc-per-node)")
    return f"{device}:{number}"


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
