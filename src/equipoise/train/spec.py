"""The spec of a run: everything that decides its weights, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.data import Augmentation, Luminance
from equipoise.errors import InputError, unknown_name
from equipoise.train import checks, optimisers, penalties, schedules

__all__ = ["PRECISIONS", "SELECTIONS", "STARTS", "Run"]

PRECISIONS = ("float32", "float64", "bfloat16")
SELECTIONS = ("last", "validation", "test")
STARTS = ("none", "balance", "norms")
_COUNTS = (
    *("seed", "alignment_batch", "lr", "measure_every", "top_k", "init_batch"),
    *("balance_every", "balance_repeats", "trace_every"),
)
_CHOICES = {"precision": PRECISIONS, "select": SELECTIONS, "balance_start": STARTS}


class _Momentum(dict[str, Any]):
    """The options of sgd where none are given; other optimisers do without."""


@dataclass(frozen=True)
class Run:
    """What is trained, on what, how, and with which seed; its ``hash`` names its folder.

    Where it runs (device, threads, folders) is a ``Machine``. Raises ``InputError`` at construction for a field
    of the wrong type or out of range.

    Args:
        experiment: what the run belongs to; its folder is RUNS/experiment/hash
        version: of the experiment's code, part of the hash
        model: a built-in model with its sizes, or package.module:function
        data: a data set, or package.module:function
        rule: how the network assigns credit; see `equipoise list rules`
        options: the rule's options
        loss: a batch-mean loss by name
        optimizer: any of torch.optim, by name
        lr: the learning rate
        optimizer_options: the optimiser's other arguments; left out, momentum 0.9 for sgd, torch's own for others
        scheduler: any schedule of torch.optim.lr_scheduler, by name, warmup_cosine, or constant
        scheduler_options: its arguments; lengths left out are the number of epochs
        epochs: passes over the training set
        batch_size: samples a step; the last batch of an epoch may be smaller
        validation: fraction of the training set held out
        augment: what is done to training batches: none, or operations in order, as crop+flip+cutout=0.5, of crop, flip,
            cutout, hole, resized_crop, jitter, roll, rotate, temporal_delete; of a/b each sample gets one
        precision: float32, float64 or bfloat16 (autocast)
        clip_norm: largest norm of the whole gradient
        seed: of weights, feedback, order, augmentation and noise
        init_batch: so many random training samples that E-I layers take their weights from before the first step
            (``nn.ei_init_``; 0: the weights that they are built with)
        train_limit: keep that many random training samples
        test_limit: keep that many random test samples
        select: whose epoch's weights are the result: last, the best on validation, or (as some authors did) on test
        alignment_batch: held-out samples that measure the angle to backpropagation after each epoch (0: none)
        measures: what else is measured after each epoch (or the last one, where it costs much), as product,norms
        measure_batch: held-out samples that the measures look at
        measure_every: every so many steps also measure on the step's own batch, before its update, into trace.jsonl
        train_set: after each epoch also measure loss and accuracy on the whole training set; train_loss and
            train_accuracy are running means while the weights still change
        top_k: after each epoch also the share of samples whose class is among so many highest scores (0: none)
        whiten: ZCA-whiten all images with this epsilon, as fitted on the training samples; none if not given
        perturb: light that changes from image to image, as shift=0.75 contrast=0.2: drawn anew in training, fixed for
            held-out images by its own seed=
        group_rates: learning rates of parameters by name pattern, as *_ie=0.6; lr for all others
        decay: penalties s/p |w|^p on every weight and bias, added to the gradient: strengths s by power, as l2=0.001
        balance_start: what is done to the weights before the first step: none, balance, or norms (each weight and bias
            takes the norm that balancing would give it, and nothing else of it)
        balance_every: balance the network after every so many steps (0: never)
        balance_p: which cost |w|^p balancing makes smallest
        balance_repeats: train nothing; an epoch is a sweep of stochastic balancing, in that many random orders at once
        trace_every: every so many steps write the loss, the norms and the balance deficits into trace.jsonl (0: never)
        preset: a label, not part of the hash
    """

    experiment: str = "train"
    version: int = 1
    model: str = "mlp:64-100-10"
    data: str = "digits"
    rule: str = "bp"
    options: dict[str, Any] = field(default_factory=dict)
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    lr: float = 0.1
    optimizer_options: dict[str, Any] = field(default_factory=lambda: _Momentum(momentum=0.9))
    scheduler: str = "constant"
    scheduler_options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch_size: int = 64
    validation: float = 0.1
    augment: str = "none"
    precision: str = "float32"
    clip_norm: float | None = None
    seed: int = 0
    init_batch: int = 0
    train_limit: int | None = None
    test_limit: int | None = None
    select: str = "last"
    alignment_batch: int = 0
    measures: list[str] = field(default_factory=list)
    measure_batch: int = 500
    measure_every: int = 0
    train_set: bool = False
    top_k: int = 0
    whiten: float | None = None
    perturb: dict[str, Any] = field(default_factory=dict)
    group_rates: dict[str, Any] = field(default_factory=dict)
    decay: dict[str, Any] = field(default_factory=dict)
    balance_start: str = "none"
    balance_every: int = 0
    balance_p: float = 2.0
    balance_repeats: int = 0
    trace_every: int = 0
    preset: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.optimizer_options, _Momentum) and str(self.optimizer).lower() != "sgd":
            object.__setattr__(self, "optimizer_options", {})
        checks.check_fields(self)
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", self.experiment):
            raise InputError(f"'experiment' is {self.experiment!r}; use letters, digits, _ - . and /")
        for name in ("version", "epochs", "batch_size", "measure_batch"):
            if getattr(self, name) < 1:
                raise InputError(f"'{name}' is {getattr(self, name)}; it must be at least 1")
        for name in _COUNTS:
            if getattr(self, name) < 0:
                raise InputError(f"'{name}' is {getattr(self, name)}; it must not be negative")
        if self.seed >= 2**63:
            raise InputError(f"'seed' is {self.seed}; it must be below 2**63")
        for name in ("train_limit", "test_limit", "clip_norm", "whiten", "balance_p"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                none = ", or null for none" if name != "balance_p" else ""
                raise InputError(f"'{name}' is {value}; it must be positive{none}")
        if not 0 <= self.validation < 1:
            raise InputError(f"'validation' is {self.validation}; give a fraction in [0, 1)")
        if self.validation == 0 and self.select == "validation":
            raise InputError("select 'validation' needs a validation split: set 'validation' above 0, or select 'last'")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(f"value of '{name}',", getattr(self, name), known)
        Augmentation.read(self.augment)
        self._check_measures()
        penalties.strengths(self.decay)
        if self.balance_repeats and (self.balance_start != "none" or self.balance_every or self.decay or self.measures):
            raise InputError(
                "'balance_repeats' trains nothing; leave out balance_start, balance_every, decay, measures"
            )
        if Luminance.read(self.perturb) is not None and self.whiten is not None:
            raise InputError("'perturb' changes pixels in [0, 1], which 'whiten' has mixed; use one of the two")
        for pattern, rate in self.group_rates.items():
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate < 0:
                raise InputError(f"'group_rates.{pattern}' is {rate!r}; give a learning rate of 0 or more")
        if self.whiten is not None and self.augment != "none":
            raise InputError(f"augment '{self.augment}' moves pixels, which 'whiten' has mixed; use one of the two")
        optimisers.check_optimizer(self.optimizer, self.optimizer_options)
        schedules.check_scheduler(self.scheduler, self.scheduler_options)

    def _check_measures(self) -> None:
        """Text, each once; whether the names exist is asked when the run is built, where plugins are loaded."""
        for place, name in enumerate(self.measures):
            if not isinstance(name, str):
                raise InputError(f"'measures[{place}]' is {name!r}; expected text")
            if name in self.measures[:place]:
                raise InputError(f"'measures' names '{name}' twice")
        if "angles" in self.measures and self.alignment_batch:
            raise InputError("the measure 'angles' is what 'alignment_batch' asks for; set that to 0, or leave it out")
        if self.measure_every and not self.measures:
            raise InputError("'measure_every' asks for the 'measures' step by step, and there are none; name some")
        if self.measure_every and self.trace_every:
            raise InputError("'measure_every' and 'trace_every' both write trace.jsonl; use one of the two")

    def __hash__(self) -> int:
        return hash((self.experiment, self.version, self.model, self.data, self.rule, self.seed))

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of SHA-256 over experiment, version and every field that is not default."""
        default = type(self)(experiment=self.experiment, version=self.version)
        fields = {"experiment": self.experiment, "version": self.version}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            plain = checks.canonical(getattr(default, item.name))
            if item.name != "preset" and checks.canonical(value) != plain:
                fields[item.name] = value
        return hashlib.sha256(checks.canonical(fields).encode()).hexdigest()[:12]

    def folder(self, root: str | Path) -> Path:
        """``root/experiment/hash``."""
        return Path(root) / self.experiment / self.hash

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON's types (a copy)."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """All fields, one a line, as ``spec.json`` holds them."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, source: str | Mapping[str, Any]) -> Run:
        """The run that a JSON text, or a table, describes; fields left out take their defaults.

        Raises ``InputError`` naming the key (and the nearest known one) or the value that does not fit.
        """
        table = checks.load_json(source, what="the spec") if isinstance(source, str) else source
        if not isinstance(table, Mapping):
            raise InputError(f"the spec is a {type(table).__name__}; expected a table of fields")
        checks.known_keys(table, [item.name for item in dataclasses.fields(cls)], kind="field of a spec")
        return cls(**table)
