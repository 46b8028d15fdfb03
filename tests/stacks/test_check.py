"""`vicinal.check` on what people train with: for each kind of target a pipeline that is right and one that is not."""

import contextlib
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

import vicinal
from vicinal.checking.targets import CannotCheck

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["KERAS_BACKEND"] = "torch"

N, CLASSES = 16, 5
X, Y = torch.linspace(0, 1, N * 3 * 8 * 8).view(N, 3, 8, 8), torch.arange(N) % CLASSES


def mixed(x, y, right=True):
    """Mix a batch by hand; its labels too, if it is to be right."""
    lam, other = torch.distributions.Beta(1.0, 1.0).sample().item(), torch.randperm(len(x))
    labels = y if y.is_floating_point() else F.one_hot(y, CLASSES).float()
    return lam * x + (1 - lam) * x[other], lam * labels + (1 - lam) * labels[other] if right else y


def collated(right):
    return lambda rows: mixed(*default_collate(rows), right)


def batches(collate_fn=None):
    return DataLoader(TensorDataset(X, Y), 8, collate_fn=collate_fn)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def state_of(module):
    """Return what a check must leave: weights and buffers, gradients, and modes."""
    values = {name: value.clone() for name, value in module.state_dict().items()}
    return values, [p.grad for p in module.parameters()], [m.training for m in module.modules()]


@contextlib.contextmanager
def nothing_changes(module):
    values, *others = state_of(module)
    random = torch.get_rng_state()
    yield
    after, *others_after = state_of(module)
    assert others == others_after
    assert all(torch.equal(value, after[name]) for name, value in values.items())
    assert torch.equal(random, torch.get_rng_state())


# -- Lightning, by both of its names ------------------------------------------------------------------------------------


def lightning_modules(package):
    L = pytest.importorskip(package, reason=f"needs {package}")

    class Base(L.LightningModule):
        def __init__(self, right=True):
            super().__init__()
            self.net, self.right, self.calls = net(), right, 0

        def loss(self, x, y):
            self.calls += 1
            return F.cross_entropy(self.net(x), y)

        def training_step(self, batch, batch_idx):
            return self.loss(*batch)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(*batch))

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), 0.1)
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}

    class InStep(Base):
        def training_step(self, batch, batch_idx):
            loss = self.loss(*mixed(*batch, self.right))
            self.log("loss", loss, on_epoch=True, prog_bar=True)
            self.log_dict({"step": float(self.global_step)})
            self.logger.experiment.add_scalar("loss", loss, self.global_step)
            return {"loss": loss}

    class ByCallback(Base):
        def configure_callbacks(self):
            from vicinal.integrations.lightning import VicinalCallback

            return [VicinalCallback(vicinal.Mixup(1.0))]

        def loss(self, x, y):
            return super().loss(x, y.ids[0] if isinstance(y, vicinal.MixedTarget) and not self.right else y)

    class Manual(Base):
        def __init__(self, right=True):
            super().__init__(right)
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            loss = self.loss(*mixed(*batch, self.right))
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.lr_schedulers().step(loss.detach())

    class OnTransfer(Base):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return mixed(*batch, self.right) if self.trainer.training else batch

    class Fetches(Base):
        def training_step(self, dataloader_iter):
            batch, _, _ = next(dataloader_iter)
            return self.loss(*mixed(*batch, self.right))

    class ByNumber(Base):
        def training_step(self, batch, batch_idx):
            x, y = batch
            lam, other, y = 0.3 + 0.7 * batch_idx % 0.5, torch.randperm(len(x)), F.one_hot(y, CLASSES).float()
            return self.loss(lam * x + (1 - lam) * x[other], lam * y + (1 - lam) * y[other] if self.right else y)

    class LoadersOfItsOwn(Base):
        prepared = 0

        def prepare_data(self):
            type(self).prepared += 1

        def setup(self, stage):
            self.rows = TensorDataset(X, Y)

        def train_dataloader(self):
            return DataLoader(self.rows, 8, collate_fn=collated(self.right))

        def val_dataloader(self):
            return DataLoader(self.rows, 8)

    return {name: kind for name, kind in locals().items() if isinstance(kind, type)}


MIXING = ["InStep", "ByCallback", "Manual", "OnTransfer", "Fetches", "ByNumber", "LoadersOfItsOwn"]


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize(
    ("package", "kind"),
    [*(("lightning", kind) for kind in MIXING), *(("pytorch_lightning", kind) for kind in ("Manual", "OnTransfer"))],
)
def test_a_lightning_module(package, kind, right):
    module = lightning_modules(package)[kind](right)
    attributes = set(vars(module))
    with nothing_changes(module):
        report = vicinal.check(module, example=None if kind == "LoadersOfItsOwn" else (X, Y))
    assert report.codes == ([] if right else ["VIC002"])
    assert "plain rows reached the model" in report.facts["evaluation"]
    assert not report.skipped
    assert (module._trainer, module.calls, set(vars(module))) == (None, 0, attributes)


def test_a_lightning_module_prepares_its_data_once():
    kind = lightning_modules("lightning")["LoadersOfItsOwn"]
    vicinal.check(kind())
    assert kind.prepared == 1


@pytest.mark.parametrize("right", [True, False])
def test_a_lightning_module_whose_validation_shares_the_step_that_mixes(right):
    class Shares(lightning_modules("lightning")["Base"]):
        def training_step(self, batch, batch_idx):
            return self.loss(*(batch if self.right and not self.training else mixed(*batch)))

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

    assert vicinal.check(Shares(right), example=(X, Y)).codes == ([] if right else ["VIC040"])


@pytest.mark.parametrize("right", [True, False])
def test_a_lightning_module_and_the_loaders_that_are_given(right):
    module = lightning_modules("lightning")["Base"]()
    report = vicinal.check(
        module, example=batches(collated(right)), evaluate=batches(None if right else collated(True))
    )
    assert report.codes == ([] if right else ["VIC002", "VIC040"])


@pytest.mark.parametrize("right", [True, False])
def test_a_lightning_module_and_a_datamodule_that_mixes(right):
    L = pytest.importorskip("lightning")

    class Data(L.LightningDataModule):
        def setup(self, stage):
            self.rows = TensorDataset(X, Y)

        def train_dataloader(self):
            return DataLoader(self.rows, 8)

        def val_dataloader(self):
            return DataLoader(self.rows, 8)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return mixed(*batch) if self.trainer.training or not right else batch

    module, data = lightning_modules("lightning")["Base"](), Data()
    assert vicinal.check(module, example=data).codes == ([] if right else ["VIC040"])
    assert not {"rows", "train_dataloader"} & set(vars(data))


@pytest.mark.parametrize("right", [True, False])
def test_a_lightning_module_with_the_callbacks_of_its_trainer(right):
    L = pytest.importorskip("lightning")

    class Mixes(L.Callback):
        seen = 0

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.seen += 1
            x, y = mixed(*batch)
            batch[0].copy_(x)
            if right:
                batch[1].copy_(y)

    module = lightning_modules("lightning")["Base"]()
    module.trainer = trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[Mixes()])
    report = vicinal.check(module, example=(X, F.one_hot(Y, CLASSES).float()))
    assert [code for code in report.codes if code != "VIC031"] == ([] if right else ["VIC002"])
    assert module.trainer is trainer
    assert trainer.callbacks[0].seen == 0


def test_a_plain_lightning_module_and_one_without_an_example():
    kinds = lightning_modules("lightning")
    assert vicinal.check(kinds["Base"](), example=(X, Y)).codes == ["VIC005"]
    assert vicinal.check(kinds["InStep"](right=False)).codes == ["VIC002"]


def test_a_lightning_module_that_cannot_be_copied_is_put_back():
    module = lightning_modules("lightning")["InStep"]()
    module.last = module.net[1].weight * 2  # has a graph
    with nothing_changes(module):
        assert vicinal.check(module, example=(X, Y)).codes == []
    assert (module._trainer, module.calls) == (None, 0)


def test_a_lightning_module_that_fails_says_why():
    class Fails(lightning_modules("lightning")["Base"]):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("out of wood")

    module = Fails()
    with nothing_changes(module), pytest.raises(CannotCheck, match="out of wood"):
        vicinal.check(module, example=(X, Y))


# -- Hugging Face -------------------------------------------------------------------------------------------------------


def vit(hf, **more):
    config = hf.ViTConfig(
        image_size=8, patch_size=4, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **more,
    )  # fmt: skip
    return hf.ViTForImageClassification(config)


def bert(hf):
    config = hf.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=CLASSES, max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return hf.BertForSequenceClassification(config)


def soft_loss(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / (num_items_in_batch or len(labels))


def of_mixed(rows):
    x, y = mixed(torch.stack([row["pixel_values"] for row in rows]), torch.tensor([row["labels"] for row in rows]))
    return {"pixel_values": x, "labels": y}


class Soft:
    """Mixes in compute_loss; `loss` is one of "own", "model" and "uncounted"."""

    loss, always = "own", False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        x, y = inputs["pixel_values"], F.one_hot(inputs["labels"], CLASSES).float()
        if model.training or self.always:
            x, y = mixed(x, y)
        outputs = model(pixel_values=x, labels=y if self.loss == "model" else None)
        counted = num_items_in_batch if self.loss == "own" else None
        loss = outputs.loss if self.loss == "model" else soft_loss(outputs, y, counted)
        return (loss, outputs) if return_outputs else loss


class PlainEvaluation:
    def get_eval_dataloader(self, eval_dataset=None):
        return DataLoader(self.eval_dataset, 8, collate_fn=default_collate)


def trainer(base=None, model=None, rows=None, accumulation=2, smoothing=0.0, **more):
    hf = pytest.importorskip("transformers", reason="needs transformers: pip install transformers")
    pytest.importorskip("accelerate", reason="needs accelerate: pip install accelerate")
    images = [{"pixel_values": X[i], "labels": i % CLASSES} for i in range(N)]
    arguments = hf.TrainingArguments(
        output_dir="unused", per_device_train_batch_size=8, gradient_accumulation_steps=accumulation,
        label_smoothing_factor=smoothing, report_to=[], use_cpu=True,
    )  # fmt: skip
    rows = rows or images
    model = vit(hf) if model is None else model(hf)
    return (base or (lambda hf: hf.Trainer))(hf)(model, arguments, train_dataset=rows, eval_dataset=rows, **more)


def over_trainer(*mixins, **attributes):
    return lambda hf: type("Made", (*mixins, hf.Trainer), attributes)


def mixup_trainer(hf):
    from vicinal.integrations.transformers import MixupTrainer

    return MixupTrainer


def with_mixin(hf):
    from vicinal.integrations.transformers import MixupMixin

    return type("Mine", (MixupMixin, hf.Trainer), {})


def tokens():
    ids = torch.arange(N * 12).view(N, 12) * 7 % 47 + 3
    return [{"input_ids": ids[i], "attention_mask": torch.ones(12).long(), "labels": i % CLASSES} for i in range(N)]


MIX = {"vicinity": vicinal.Mixup(1.0)}
TRAINERS = {
    "plain": (lambda: trainer(), ["VIC005"]),
    "soft labels": (lambda: trainer(over_trainer(Soft)), []),
    "soft labels in the model": (lambda: trainer(over_trainer(Soft, loss="model"), accumulation=1), ["VIC053"]),
    "soft labels, not counted": (lambda: trainer(over_trainer(Soft, loss="uncounted")), ["VIC054"]),
    "not counted, one micro-batch": (lambda: trainer(over_trainer(Soft, loss="uncounted"), accumulation=1), []),
    "in evaluation too": (lambda: trainer(over_trainer(Soft, always=True)), ["VIC040"]),
    "collator": (
        lambda: trainer(data_collator=of_mixed, compute_loss_func=soft_loss, accumulation=1), ["VIC040"],
    ),
    "collator of training": (
        lambda: trainer(
            over_trainer(PlainEvaluation), data_collator=of_mixed, compute_loss_func=soft_loss, accumulation=1
        ),
        [],
    ),
    "MixupTrainer": (lambda: trainer(mixup_trainer, **MIX), []),
    "MixupTrainer, smoothing": (lambda: trainer(mixup_trainer, smoothing=0.1, **MIX), []),
    "MixupTrainer, own loss": (lambda: trainer(mixup_trainer, compute_loss_func=soft_loss, **MIX), []),
    "MixupTrainer, hidden": (lambda: trainer(mixup_trainer, at="classifier", **MIX), []),
    "MixupTrainer, tokens": (
        lambda: trainer(mixup_trainer, bert, tokens(), accumulation=1, at="bert.encoder", **MIX), [],
    ),
    "MixupMixin": (lambda: trainer(with_mixin, **MIX), []),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer(name):
    make, codes = TRAINERS[name]
    made = make()
    attributes, problem = set(vars(made)), made.model.config.problem_type
    with nothing_changes(made.model):
        report = vicinal.check(made)
    assert report.codes == codes
    assert ("evaluation" in report.facts) != ("VIC040" in codes)
    assert set(vars(made)) == attributes
    assert made.model.config.problem_type == problem
    assert (made.state.global_step, made.optimizer, made.accelerator._dataloaders) == (0, None, [])


def test_a_trainer_that_fails_says_why():
    with pytest.raises(CannotCheck, match="training_step failed on a batch of its own loader"):
        vicinal.check(
            trainer(model=lambda hf: vit(hf, problem_type="single_label_classification"), data_collator=of_mixed)
        )


# -- Keras --------------------------------------------------------------------------------------------------------------

IMAGES = X.permute(0, 2, 3, 1).contiguous()
ONE_HOT = F.one_hot(Y, CLASSES).float()


def keras_model(train, right=True, built=True, loss="categorical_crossentropy", logits=False, metrics=("accuracy",)):
    keras = pytest.importorskip("keras", reason="needs keras: pip install keras")

    class Mixes(keras.Sequential):
        def __init__(self, layers):
            super().__init__(layers)
            self.mixup = keras.layers.MixUp(1.0)

        def train_step(self, data):
            x, y = data[:2]
            if train == "layer":
                made = self.mixup({"images": x, "labels": y}, training=True)
                return super().train_step((made["images"], made["labels"] if right else y, None))
            return super().train_step((*mixed(x, y, right), None))

        def test_step(self, data):
            return super().test_step((*(mixed(*data[:2]) if train == "evaluation" else data[:2]), None))

    class ByHand(keras.Sequential):
        def train_step(self, data):
            x, y = data[:2]
            lam, other = torch.distributions.Beta(1.0, 1.0).sample().item(), torch.randperm(len(x))
            self.zero_grad()
            outputs = self(lam * x + (1 - lam) * x[other], training=True)
            loss = self.compute_loss(y=y, y_pred=outputs)
            if right:
                loss = lam * loss + (1 - lam) * self.compute_loss(y=y[other], y_pred=outputs)
            loss.backward()
            with torch.no_grad():
                self.optimizer.apply([v.value.grad for v in self.trainable_weights], self.trainable_weights)
            return {"loss": loss.detach()}

    last = keras.layers.Dense(CLASSES, activation=None if logits else "softmax")
    inputs = [keras.Input((8, 8, 3))] if built else []
    kind = {"by hand": ByHand, "plain": keras.Sequential}.get(train, Mixes)
    made = kind([*inputs, keras.layers.Flatten(), keras.layers.Dropout(0.1), last])
    if logits:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    made.compile("adam", loss, metrics=list(metrics))
    return made


HAND = {"loss": "sparse_categorical_crossentropy", "metrics": ()}
MODELS = {
    "plain": (("plain",), {}, ONE_HOT, ["VIC005"]),
    "soft labels": (("step",), {}, ONE_HOT, []),
    "soft labels, logits": (("step",), {"logits": True}, ONE_HOT, []),
    "not built": (("step",), {"built": False}, ONE_HOT, []),
    "own labels": (("step", False), {}, ONE_HOT, ["VIC002"]),
    "own labels, logits, not built": (("step", False), {"logits": True, "built": False}, ONE_HOT, ["VIC002"]),
    "layer": (("layer",), {}, ONE_HOT, []),
    "layer, own labels": (("layer", False), {}, ONE_HOT, ["VIC002"]),
    "two losses": (("by hand",), HAND, Y, []),
    "one loss": (("by hand", False), HAND, Y, ["VIC002"]),
    "evaluation": (("evaluation",), {}, ONE_HOT, ["VIC040"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_keras_model(name):
    given, more, labels, codes = MODELS[name]
    made = keras_model(*given, **more)
    before = [variable.numpy().copy() for variable in made.variables]
    report = vicinal.check(made, example=(IMAGES, labels))
    assert report.codes == codes
    if more.get("built", True):
        assert all((a == b.numpy()).all() for a, b in zip(before, made.variables, strict=True))
    assert not any(
        variable.numpy().any() for variable in made.optimizer.variables if "learning_rate" not in variable.name
    )
    assert made.layers[-1].activation.__name__ == ("linear" if more.get("logits") else "softmax")
    x, y = IMAGES.numpy(), labels.numpy()
    assert made.evaluate(x, y, verbose=0, return_dict=True)["loss"] > 0
    made.fit(x, y, batch_size=8, epochs=1, verbose=0)


def test_a_keras_model_without_an_example():
    assert vicinal.check(keras_model("step", right=False)).codes == ["VIC002"]
    assert vicinal.check(keras_model("by hand", **HAND)).codes == []
    with pytest.raises(CannotCheck, match="give a batch as example="):
        vicinal.check(keras_model("step", built=False))


@pytest.mark.parametrize(
    ("layer", "labels", "as_arrays", "codes"),
    [
        ("MixUp", ONE_HOT, False, []),
        ("MixUp", ONE_HOT, True, []),
        ("MixUp", Y, False, ["VIC013"]),
        ("CutMix", ONE_HOT, False, ["VIC001"]),  # the label has the area of a box of fractions of pixels
    ],
)
def test_a_keras_layer(layer, labels, as_arrays, codes):
    keras = pytest.importorskip("keras", reason="needs keras: pip install keras")
    batch = {"images": F.interpolate(X, 32).permute(0, 2, 3, 1).contiguous(), "labels": labels}
    example = {name: value.numpy() for name, value in batch.items()} if as_arrays else batch
    assert vicinal.check(getattr(keras.layers, layer)(), example=example).codes == codes


# -- loops that are given a loader --------------------------------------------------------------------------------------

model = net()
optimizer = torch.optim.Adam(model.parameters())


def accelerate_loop(loader, mix):
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate: pip install accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    prepared, stepping, batches = accelerator.prepare(model, optimizer, loader)
    for batch in batches:
        x, y = mix(*batch)
        stepping.zero_grad()
        accelerator.backward(F.cross_entropy(prepared(x), y))
        stepping.step()


def fabric_loop(loader, mix):
    L = pytest.importorskip("lightning", reason="needs lightning: pip install lightning")
    fabric = L.Fabric(accelerator="cpu", devices=1)
    prepared, stepping = fabric.setup(model, optimizer)
    for batch in fabric.setup_dataloaders(loader):
        x, y = mix(*batch)
        stepping.zero_grad()
        fabric.backward(F.cross_entropy(prepared(x), y))
        stepping.step()


def ignite_loop(loader, mix):
    engine = pytest.importorskip("ignite.engine", reason="needs Ignite: pip install pytorch-ignite")
    prepare = {"prepare_batch": lambda batch, device, non_blocking: mix(*batch)}
    engine.create_supervised_trainer(model, optimizer, F.cross_entropy, **prepare).run(loader, max_epochs=2)


@pytest.mark.parametrize(
    ("where", "right"),
    [*((where, right) for where in ("loader", "loop") for right in (True, False)), ("nowhere", True)],
)
@pytest.mark.parametrize("loop", [accelerate_loop, fabric_loop, ignite_loop])
def test_a_loop(loop, right, where):
    def train(loader):
        return loop(loader, lambda x, y: mixed(x, y, right) if where == "loop" else (x, y))

    with nothing_changes(model):
        report = vicinal.check(train, example=batches(collated(right) if where == "loader" else None))
    assert report.codes == (["VIC005"] if where == "nowhere" else [] if right else ["VIC002"])
    assert not report.skipped
    assert not optimizer.state


@pytest.mark.parametrize("right", [True, False])
def test_a_loop_is_given_marked_rows_where_a_loader_of_that_name_is_beside_it(right):
    names = {"loader": batches(), "model": model, "optimizer": optimizer, "mixed": mixed, "right": right, "F": F}
    code = """
def train(model, loader, val_loader, optimizer):
    for x, y in loader:
        x, y = mixed(x, y, right)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert sum(len(y) for _, y in val_loader) == 48
"""
    exec(code, names)
    with nothing_changes(model):
        assert vicinal.check(names["train"]).codes == ([] if right else ["VIC002"])
