"""The recipe for Hugging Face's Trainer: training is mixed, evaluation is not."""

import os
import re
from pathlib import Path

import pytest
import torch

import vicinal

os.environ["HF_HUB_OFFLINE"] = "1"
hf = pytest.importorskip("transformers", reason="needs transformers: pip install transformers")
pytest.importorskip("accelerate", reason="needs accelerate: pip install accelerate")

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        return {"labels": i % 5, "pixel_values": torch.randn(3, 16, 16, generator=generator) + i % 5}


def test_the_recipe_mixes_training_and_leaves_evaluation_alone(tmp_path):
    (code,) = re.findall(r"```py\n(class MixupTrainer.*?)```", RECIPES.read_text(), re.DOTALL)
    seen = []

    def mixup(inputs, labels):
        mixed = vicinity(inputs, labels)
        seen.append(mixed[1])
        return mixed

    vicinity = vicinal.Mixup(1.0, seed=1)
    names = {"Trainer": hf.Trainer, "mixup": mixup}
    exec(code, names)
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
    torch.random.manual_seed(0)
    model = hf.ResNetForImageClassification(config)
    arguments = hf.TrainingArguments(
        str(tmp_path), max_steps=8, per_device_train_batch_size=8, gradient_accumulation_steps=2, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", remove_unused_columns=False, logging_strategy="no",
    )  # fmt: skip
    trainer = names["MixupTrainer"](model, arguments, train_dataset=Images(), eval_dataset=Images())
    trainer.compute_metrics = lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())}
    trainer.train()
    assert len(seen) == 16
    assert all(isinstance(y, vicinal.MixedTarget) and len(y) == 8 for y in seen)
    found = trainer.evaluate()
    plain = hf.Trainer(model, arguments, eval_dataset=Images()).evaluate()
    assert found["eval_loss"] == plain["eval_loss"]
    assert 0 <= found["eval_accuracy"] <= 1
    assert len(seen) == 16
