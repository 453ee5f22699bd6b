"""The same with Hugging Face's Trainer (`pip install transformers accelerate`): one of its methods is overridden."""

import tempfile

import torch
from torch import Tensor, nn
from torch.utils.data import StackDataset
from transformers import Trainer, TrainingArguments

import equipoise as eq


class Scored(nn.Module):
    """A network in the shape that a Trainer evaluates: its loss and its scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        scores = self.network(pixels)
        return {"loss": nn.functional.cross_entropy(scores, labels), "scores": scores}


class RuleTrainer(Trainer):
    """A Trainer whose gradients a rule writes, with one batch to a step (no gradient accumulation)."""

    def __init__(self, rule: eq.rules.Rule, **options: object) -> None:
        super().__init__(**options)
        self.rule = rule.to(self.args.device)

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: object = None) -> Tensor:
        model.train()
        batch = self._prepare_inputs(inputs)
        return self.rule.backward(batch["pixels"], batch["labels"]).loss  # here stood loss.backward()


digits = eq.data.load("digits")
train, test = (
    StackDataset(pixels=x, labels=y)
    for x, y in (split.batch(torch.arange(len(split))) for split in (digits.train, digits.test))
)
torch.manual_seed(0)
model = Scored(eq.models.make("mlp:64-256-10,bias=no,init=he_uniform,dropout=0.1", seed=0))
arguments = {"num_train_epochs": 10, "per_device_train_batch_size": 32, "use_cpu": True, "seed": 0}
quiet = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
with tempfile.TemporaryDirectory() as folder:
    trainer = RuleTrainer(
        eq.rules.make("pepita", model.network, example=digits.train.batch(torch.arange(2))[0]),
        model=model,
        args=TrainingArguments(folder, **arguments, **quiet),
        train_dataset=train,
        optimizers=(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), None),
    )
    trainer.train()
    scores, labels, _ = trainer.predict(test)
print(f"test accuracy {(scores.argmax(1) == labels).mean():.3f}")
