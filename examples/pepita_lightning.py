"""The same with Lightning (`pip install lightning`): a module that writes its own gradients."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq


class Classifier(lightning.LightningModule):
    """Any model under any rule."""

    def __init__(self, model: nn.Module, rule: str, **options: object) -> None:
        super().__init__()
        self.automatic_optimization = False  # Lightning must not call loss.backward()
        self.model = model
        self.rule = eq.rules.make(rule, model, **options)  # a submodule: its feedback is checkpointed, and moves along

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        step = self.rule.backward(*batch)
        optimizer.step()
        self.log("loss", step.loss)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        x, y = batch
        self.log("accuracy", (self.model(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)


digits = eq.data.load("digits")
train, test = (TensorDataset(*split.batch(torch.arange(len(split)))) for split in (digits.train, digits.test))
lightning.seed_everything(0, verbose=False)
network = eq.models.make("mlp:64-256-10,bias=no,init=he_uniform,dropout=0.1", seed=0)
trainer = lightning.Trainer(
    max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)  # fmt: skip
module = Classifier(network, "pepita", example=train[:2][0])
trainer.fit(module, DataLoader(train, batch_size=32, shuffle=True), DataLoader(test, batch_size=360))
print(f"test accuracy {trainer.callback_metrics['accuracy']:.3f}")
