"""What a run is made of: data on the device, model, rule, optimiser and schedule, built from its spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import data, measure, models, rules
from equipoise.errors import EquipoiseError, InputError
from equipoise.functional.losses import Loss, as_loss
from equipoise.nn import constraints_of, ei_init_, enforce, param_groups
from equipoise.randomness import generator
from equipoise.train import optimisers, schedules
from equipoise.train.joint import ROWS, require_parts
from equipoise.train.machine import Machine
from equipoise.train.ranks import ALONE, Ranks
from equipoise.train.spec import Run

__all__ = ["Parts", "build", "shared", "usable"]

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


@dataclass(frozen=True, eq=False)
class Parts:
    """The living objects of one run; ``validation`` is None where nothing is held out."""

    run: Run
    device: torch.device
    train: data.Split
    validation: data.Split | None
    test: data.Split
    model: nn.Module
    rule: Any
    loss: Loss
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    note: str
    light: data.Luminance | None = None
    augment: data.Augmentation | None = None
    ranks: Ranks = ALONE

    def batch(self, split: data.Split, index: Tensor) -> tuple[Tensor, Tensor]:
        """The samples in ``index`` on the device, in the run's precision."""
        images, labels = split.batch(index)
        return images.to(self.device, _DTYPES[self.run.precision]), labels.to(self.device)

    def target(self, x: Tensor, y: Tensor) -> Tensor:
        """What the loss compares the output for ``x`` with: the labels ``y``, or ``x`` itself, flat."""
        return x.flatten(1) if self.loss.of_input else y

    def autocast(self) -> torch.autocast:
        """The context of every forward pass: bfloat16 where the run asks for it, else nothing."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.run.precision == "bfloat16")

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that the optimiser trains, learned feedback included."""
        for group in self.optimizer.param_groups:
            yield from group["params"]


def build(run: Run, machine: Machine, dataset: data.Dataset | None = None) -> Parts:
    """Make every part of ``run`` on the machine's device; its data are ``dataset`` where that was loaded before.

    Raises ``InputError`` for unknown names and for parts that do not fit one another.
    """
    device = usable(machine.device)
    loss = as_loss(run.loss)
    if loss.of_input and run.select != "last":
        raise InputError(f"the loss '{run.loss}' has no accuracy to select an epoch by; use select 'last'")
    for name in run.measures:
        measure.measures[name]
    dataset = data.load(run.data, folder=machine.data_dir) if dataset is None else dataset
    augment = _changes(run, dataset)
    train, validation, test = _splits(run, dataset)
    train, test = train.to(device), test.to(device)
    validation = validation.to(device) if validation is not None else None
    light = data.Luminance.read(run.perturb)
    if light is not None:
        test = light.fixed(test, "test")
        validation = light.fixed(validation, "validation") if validation is not None else None

    model = models.make(run.model, seed=run.seed).to(device, _DTYPES[run.precision])
    images, _ = train.batch(torch.arange(min(2, len(train)), device=train.labels.device))
    example = images.to(device, _DTYPES[run.precision])
    _check_fit(run, model, example, None if loss.of_input else len(dataset.classes))
    if run.init_batch:
        _start(run, model, train, light, device)
    rule = rules.make(run.rule, model, example=example, loss=run.loss, seed=run.seed, **run.options)

    groups = param_groups(model, run.lr, run.group_rates)
    feedback = list(rule.feedback_parameters())
    if feedback:
        groups.append({"params": feedback, "lr": run.lr})
    if not any(group["params"] for group in groups):
        raise InputError(f"the model '{run.model}' has no trainable parameters")
    optimizer = optimisers.build_optimizer(run.optimizer, groups, lr=run.lr, options=run.optimizer_options)
    per_epoch = -(-len(train) // run.batch_size)
    scheduler = schedules.build_scheduler(
        run.scheduler, optimizer, epochs=run.epochs, per_epoch=per_epoch, options=run.scheduler_options
    )
    if constraints_of(model):
        enforce(optimizer, model)
    living = (run, device, train, validation, test, model, rule, loss, optimizer, scheduler)
    return Parts(*living, dataset.note, light, augment)


def shared(parts: Parts, ranks: Ranks) -> Parts:
    """``parts`` for one of several ``ranks``; ``InputError`` for a run that no batch can be shared in."""
    if not ranks.several:
        return parts
    if parts.run.balance_repeats:
        raise InputError("'balance_repeats' has no batches that several ranks could share; run it on one")
    x, y = parts.batch(parts.train, torch.arange(min(ROWS, len(parts.train)), device=parts.train.labels.device))
    require_parts(parts.rule, x, parts.target(x, y), what=f"the rule '{parts.run.rule}' with '{parts.run.model}'")
    return replace(parts, ranks=ranks)


def _start(run: Run, model: nn.Module, train: data.Split, light: data.Luminance | None, device: torch.device) -> None:
    """Let the model's E-I layers take their weights from a random batch of the training split."""
    chosen = torch.randperm(len(train), generator=generator(run.seed, "init_batch"))[: run.init_batch]
    images = train.batch(chosen.to(train.labels.device))[0].to(device, _DTYPES[run.precision])
    if light is not None:
        images = light(images, generator(run.seed, "init_batch", "light"))
    before = model.training
    try:
        ei_init_(model.eval(), images, seed=run.seed)
    except InputError as error:
        raise InputError(f"init_batch={run.init_batch} with the model '{run.model}': {error}") from None
    finally:
        model.train(before)


def usable(name: str) -> torch.device:
    """The device ``name``; ``InputError`` where this machine cannot compute on it."""
    device = torch.device(name)
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"the device '{name}' is not available here; use --device cpu") from None
    return device


def _changes(run: Run, dataset: data.Dataset) -> data.Augmentation | None:
    """The run's augmentation, once everything that would change the samples fits them."""
    over_time = len(dataset.shape) in (2, 4)
    if over_time and run.whiten is not None:
        raise InputError(f"'whiten' mixes pixels, here of different times: '{run.data}' has samples {dataset.shape}")
    if len(dataset.shape) == 4 and run.perturb:
        raise InputError(f"'perturb' changes the light of pictures; '{run.data}' has frames {dataset.shape}")
    augment = data.Augmentation.read(run.augment)
    if augment is not None:
        augment.check(dataset.shape, handed=dataset.handed, upright=dataset.upright)
    return augment


def _splits(run: Run, dataset: data.Dataset) -> tuple[data.Split, data.Split | None, data.Split]:
    """Training, validation (or None) and test split, cut to the run's limits; all whitened by the first one's law."""
    for name, split in (("training", dataset.train), ("test", dataset.test)):
        try:
            data.check(split, dataset.classes)
        except InputError as error:
            raise InputError(f"the {name} split of '{run.data}': {error}") from None
    train = _limited(dataset.train, run.train_limit, run.seed)
    # One choice for all seeds: they are compared on the same test samples.
    test = _limited(dataset.test, run.test_limit, 0)
    validation = None
    if run.validation > 0:
        train, validation = data.hold_out(train, run.validation, seed=run.seed)
    if run.whiten is None:
        return train, validation, test
    fitted = data.whitening(train, run.whiten)
    return fitted.split(train), None if validation is None else fitted.split(validation), fitted.split(test)


def _limited(split: data.Split, limit: int | None, seed: int) -> data.Split:
    if limit is None or limit >= len(split):
        return split
    chosen = torch.randperm(len(split), generator=generator(seed, "limit", len(split)))[:limit]
    return split.take(chosen.sort().values)


def _check_fit(run: Run, model: nn.Module, example: Tensor, classes: int | None) -> None:
    """One forward pass in eval mode: the model takes the data's shape and gives a score per class, or per pixel."""
    before = model.training
    try:
        with torch.no_grad():
            output = model.eval()(example)
    except InputError as error:
        raise InputError(
            f"the model '{run.model}' does not take a batch of '{run.data}' {tuple(example.shape)}: {error}"
        ) from error
    except EquipoiseError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the model '{run.model}' does not take a batch of '{run.data}' {tuple(example.shape)}: {reason}"
        ) from error
    finally:
        model.train(before)
    shape = tuple(getattr(output, "shape", ()))
    wanted = example[0].numel() if classes is None else classes
    fits = (
        len(shape) == 2 and shape[0] == len(example) and (shape[1] == wanted if classes is None else shape[1] >= wanted)
    )
    if not fits:
        raise InputError(
            f"the model '{run.model}' gives shape {shape} for {len(example)} samples; "
            f"'{run.data}' needs ({len(example)}, {wanted})" + (f" for '{run.loss}'" if classes is None else "")
        )
