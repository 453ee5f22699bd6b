"""The module that runs a network of spiking cells over time."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from equipoise.errors import InputError, unknown_name
from equipoise.nn.chain import free, run, stream, timed, unwatched
from equipoise.nn.encode import Direct, Latency, Rate
from equipoise.nn.spiking import folded, unfolded

__all__ = ["OverTime"]

ENCODERS = {"direct": Direct, "rate": Rate, "latency": Latency}


class OverTime(nn.Module):
    """A network of spiking cells run for ``steps`` time steps; the mean of its output over time.

    x (B, ...) a picture, coded by ``encoder`` ("direct", "rate", "latency", or a module from (B, ...) to (T, B, ...));
    encoder None: x (B, T, ...) has its frames already. Out (B, classes). Inside, time is folded into the rows,
    time-major: ``net`` sees (T B, ...), so every layer of torch serves. All parts of ``net`` that know time get the
    same ``steps``, also those put there later; assign ``.steps`` to run a trained network for longer. A picture's
    currents are computed once, and a layer's with its cells' spikes, where nobody watches (``nn.chain``).
    Raises ``InputError`` for frames that are not ``steps`` of the batch, a part that cannot take its rows, by its name,
    or a network that does not return T B rows.
    """

    def __init__(self, net: nn.Module, steps: int, *, encoder: str | nn.Module | None = "direct") -> None:
        super().__init__()
        if isinstance(encoder, str) and encoder not in ENCODERS:
            raise unknown_name("encoder", encoder, ENCODERS)
        self.encoder: nn.Module | None = ENCODERS[encoder](steps) if isinstance(encoder, str) else encoder
        self.net = net
        self.steps = steps

    @property
    def steps(self) -> int:
        """The number of time steps."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if not (isinstance(steps, int) and steps >= 1):
            raise InputError(f"a network runs for at least one time step, not steps={steps}")
        self._steps = steps
        self._tell()

    def _tell(self) -> None:
        """Give all parts that know time the number of steps, those too that have been put there since."""
        for part in (self.encoder, self.net):
            for module in timed(part) if part is not None else ():
                if module.steps != self._steps:
                    module.steps = self._steps

    def frames(self, x: Tensor) -> Tensor:
        """The input over time, (T, B, ...)."""
        self._tell()
        if self.encoder is not None:
            if x.ndim < 2:
                raise InputError(f"pictures come as (batch, ...), and this input is {tuple(x.shape)}: no batch axis?")
            frames = self.encoder(x)
            if frames.ndim < 2 or tuple(frames.shape[:2]) != (self.steps, x.shape[0]):
                raise InputError(
                    f"the encoder {type(self.encoder).__name__} makes {tuple(frames.shape)} of {tuple(x.shape)}; "
                    f"frames are time first, ({self.steps}, {x.shape[0]}, ...) for steps={self.steps}"
                )
            return frames
        if x.ndim < 3 or x.shape[1] != self.steps:
            raise InputError(
                f"frames come as (batch, {self.steps}, ...), time on axis 1; this input is {tuple(x.shape)}. For "
                "another number of frames assign .steps; for pictures pass an encoder"
            )
        return x.transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The mean output over time, (B, ...)."""
        self._tell()
        still = free() and type(self.encoder) is Direct and unwatched(self.encoder) and x.ndim > 1
        frames = x[None] if still else self.frames(x)
        rows, steps = folded(frames), self.steps
        try:
            out = run(self.net, rows, steps, still) if free() else self.net(rows)
        except InputError as error:
            raise self._named(error) from error.__cause__
        if out.shape[0] != steps * frames.shape[1]:
            raise InputError(
                f"the network returns {tuple(out.shape)} for {steps} steps of {frames.shape[1]} samples; it must keep "
                "the first axis, time-major"
            )
        return unfolded(out, steps, "OverTime").mean(0)

    def _named(self, error: InputError) -> InputError:
        """``error`` with the name of the part that it is about."""
        part = getattr(error, "part", None)
        names = [name for name, module in self.named_modules() if module is part]
        return InputError(f"'{names[0]}': {error}") if names and not str(error).startswith("'") else error

    def stream(self, x: Tensor, states: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """One step of the network on the frame ``x`` (B, ...): (its output, the states for the next step).

        A frame is one of ``frames(picture)``, coded; the mean of the outputs over all T is ``forward``'s. Chains
        (``nn.Sequential``) only. Raises ``InputError`` for states of another batch, by the part's name.
        """
        after: dict[str, Any] = {}
        try:
            return stream(self.net, x, {} if states is None else states, after, "net"), after
        except InputError as error:
            raise self._named(error) from error.__cause__
