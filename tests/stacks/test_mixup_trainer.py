"""Hugging Face's Trainer with mixup: updates are those of a loop by hand, resumed and accumulated; evaluation is plain."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vicinal
from vicinal.keyed import Key

os.environ["HF_HUB_OFFLINE"] = "1"
hf = pytest.importorskip("transformers", reason="needs transformers: pip install transformers")
pytest.importorskip("accelerate", reason="needs accelerate: pip install accelerate")

from stacks.processes import results_of_two  # noqa: E402
from vicinal.integrations.transformers import MixupMixin, MixupTrainer  # noqa: E402

CLASSES = 5
MIXUP = vicinal.Mixup(1.0, seed=7)


def images(rows):
    random = Key(0, 0, 0, 0).generator()
    pixels = torch.from_numpy(random.normal(size=(rows, 3, 8, 8))).float()
    return [{"pixel_values": pixels[i], "labels": i % CLASSES} for i in range(rows)]


def vit():
    """A model that hands the number of examples of an update down to its loss; ResNet, in transformers 5.24, does not."""
    torch.random.manual_seed(0)
    config = hf.ViTConfig(
        image_size=8, patch_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return hf.ViTForImageClassification(config)


def net():
    """A model that resumes to the last bit."""
    torch.random.manual_seed(0)
    config = hf.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    return hf.ResNetForImageClassification(config)


class InOrder:
    """Take the rows in order, so that a loop by hand can follow."""

    def _get_train_sampler(self, *given):
        return None


class Trainer(InOrder, MixupTrainer):
    pass


class PlainTrainer(InOrder, hf.Trainer):
    pass


def arguments(folder, **more):
    return hf.TrainingArguments(
        str(folder),
        **{
            "per_device_train_batch_size": 8,
            "num_train_epochs": 1,
            "learning_rate": 0.1,
            "optim": "sgd",
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_strategy": "no",
            **more,
        },
    )


def by_hand(rows, micro, accumulation, vicinity, smoothing=0.0):
    """Train by hand: an update is the gradient of the mean over all its rows, each micro-batch mixed by itself."""
    model, data = vit().train(), images(rows)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches = [data[i : i + micro] for i in range(0, rows, micro)]
    for update, first in enumerate(range(0, len(batches), accumulation)):
        parts = batches[first : first + accumulation]
        total = sum(map(len, parts))
        for i, part in enumerate(parts):
            x = torch.stack([row["pixel_values"] for row in part])
            y = torch.tensor([row["labels"] for row in part])
            plan = vicinity.plan(len(y), y, x, step=update * accumulation + i)
            logits = model(plan(x)).logits
            (F.cross_entropy(logits, plan.target(y).smoothed(smoothing), reduction="sum") / total).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def distance(model, other):
    return max(float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), other.parameters(), strict=True))


LAYOUTS = [
    (64, 16, 2),
    (24, 16, 2),
    (40, 16, 4),
    (32, 32, 1),
]  # rows, of a micro-batch, accumulated: short ones at the end


@pytest.mark.parametrize(("rows", "micro", "accumulation"), LAYOUTS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_update_is_the_one_of_all_its_rows(tmp_path, rows, micro, accumulation, smoothing):
    model = vit()
    made = arguments(
        tmp_path,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        label_smoothing_factor=smoothing,
    )
    trainer = Trainer(model, made, train_dataset=images(rows), vicinity=MIXUP)
    smoother = trainer.label_smoother
    trainer.train()
    expected = by_hand(rows, micro, accumulation, MIXUP, smoothing)
    assert distance(model, expected) == 0
    assert distance(vit(), expected) > 1e-3  # something was learned
    assert trainer.label_smoother is smoother
    assert model.config.problem_type == "single_label_classification"


@pytest.mark.parametrize(("rows", "micro", "accumulation"), LAYOUTS)
def test_a_collator_that_mixes_gives_the_same_update_where_soft_labels_do_not(tmp_path, rows, micro, accumulation):
    """The Trainer counts labels that are not -100, and the model looks at their type: both know mixed labels."""

    def trained(dense):
        def collator(examples):
            batch = mixed(examples)
            return {**batch, "labels": batch["labels"].dense(CLASSES)} if dense else batch

        mixed = vicinal.Collate(vicinal.Mixup(1.0, seed=7), hf.default_data_collator)
        model = vit()
        made = arguments(tmp_path, per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation)
        PlainTrainer(model, made, train_dataset=images(rows), data_collator=collator).train()
        return model

    expected, start = by_hand(rows, micro, accumulation, MIXUP), vit()
    assert distance(trained(dense=False), expected) == 0
    size = [sum(float((a - b).square().sum()) for a, b in zip(model.parameters(), start.parameters(), strict=True))
            for model in (trained(dense=True), expected)]  # fmt: skip
    assert size[0] > 1.5**2 * size[1]


def test_a_loss_function_of_ones_own_is_given_the_mixed_labels(tmp_path):
    def loss(outputs, labels, num_items_in_batch=None):
        assert type(labels) is vicinal.MixedTarget
        return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch

    model = vit()
    made = arguments(tmp_path, per_device_train_batch_size=16, gradient_accumulation_steps=4)
    Trainer(model, made, train_dataset=images(40), vicinity=MIXUP, compute_loss_func=loss).train()
    assert distance(model, by_hand(40, 16, 4, MIXUP)) == 0


@pytest.mark.parametrize("off", [vicinal.Mixup(1.0), vicinal.ERM()], ids=["off", "ERM"])
def test_without_mixing_it_is_the_plain_trainer_to_the_last_bit(tmp_path, off):
    off.off()
    models = net(), net()
    for model, trainer, more in zip(models, (Trainer, PlainTrainer), ({"vicinity": off}, {}), strict=True):
        made = arguments(tmp_path, gradient_accumulation_steps=2, label_smoothing_factor=0.1)
        trainer(model, made, train_dataset=images(40), **more).train()
    assert distance(*models) == 0


def test_evaluation_is_plain(tmp_path):
    trainer = Trainer(net(), arguments(tmp_path), train_dataset=images(32), eval_dataset=images(24), vicinity=MIXUP)
    trainer.compute_metrics = lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}
    trainer.train()
    found = trainer.evaluate()
    plain = PlainTrainer(trainer.model, arguments(tmp_path), eval_dataset=images(24)).evaluate()
    assert found["eval_loss"] == plain["eval_loss"]
    assert found["eval_accuracy"] * 24 == pytest.approx(round(found["eval_accuracy"] * 24))


@pytest.mark.parametrize("seed", [7, None])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, seed):
    vicinity = vicinal.Scheduled(vicinal.Mixup(1.0), stop=2, seed=seed)
    options = {"num_train_epochs": 3, "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 4}
    whole = net()
    Trainer(whole, arguments(tmp_path, **options), train_dataset=images(40), vicinity=vicinity).train()
    resumed = net()
    trainer = Trainer(resumed, arguments(tmp_path, **options), train_dataset=images(40), vicinity=vicinity)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert distance(whole, resumed) == 0
    assert distance(whole, net()) > 1e-3


def test_two_runs_of_one_trainer_begin_with_the_same_draws(tmp_path):
    trainer = Trainer(net(), arguments(tmp_path), train_dataset=images(8), vicinity=MIXUP)  # one step each
    trainer.train()
    first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(net().state_dict())
    trainer.train()
    assert all(torch.equal(value, first[name]) for name, value in trainer.model.state_dict().items())


# -- text, and a label of each token or pixel --------------------------------------------------------------------------

VOCABULARY, TOKENS = 30, 7
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def sentences(rows, labels=None):
    random = Key(1, 0, 0, 0).generator()
    tokens = torch.from_numpy(random.integers(3, VOCABULARY, size=(rows, TOKENS)))
    mask = (torch.arange(TOKENS) < torch.from_numpy(random.integers(2, TOKENS + 1, size=(rows, 1)))).long()
    labels = [i % CLASSES for i in range(rows)] if labels is None else labels(tokens, mask)
    return [{"input_ids": tokens[i] * mask[i], "attention_mask": mask[i], "labels": labels[i]} for i in range(rows)]


def bert(kind=hf.BertForSequenceClassification, labels=CLASSES):
    torch.random.manual_seed(0)
    config = hf.BertConfig(
        **SMALL,
        intermediate_size=32,
        initializer_range=0.5,
        num_labels=labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return kind(config)


def test_tokens_are_mixed_at_a_layer_with_the_mask_of_the_mixed_rows(tmp_path):
    model, data = bert(), sentences(8)
    Trainer(model, arguments(tmp_path), train_dataset=data, vicinity=MIXUP, at="bert.encoder").train()
    expected = bert().train()
    tokens, mask, y = (torch.stack([torch.as_tensor(row[name]) for row in data]) for name in data[0])
    plan = MIXUP.plan(8, y, step=0)
    with vicinal.LatentMixing(expected, "bert.encoder")(plan):
        out = expected(input_ids=tokens, attention_mask=plan.union(mask))
    F.cross_entropy(out.logits, plan.target(y)).backward()
    torch.optim.SGD(expected.parameters(), 0.1).step()
    assert distance(model, expected) < 1e-6
    assert not torch.equal(plan.union(mask), mask)
    own = bert().train()  # with its own mask a short row sees a part of its partner's tokens
    with vicinal.LatentMixing(own, "bert.encoder")(plan):
        F.cross_entropy(own(input_ids=tokens, attention_mask=mask).logits, plan.target(y)).backward()
    torch.optim.SGD(own.parameters(), 0.1).step()
    assert distance(model, own) > 1e-3


CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GROUPED = {"intermediate_size": 32, "num_key_value_heads": 2}
FAMILIES = {  # of classifiers of sentences: arguments of the config, the module that is mixed, the side of the padding
    "Roberta": ({"intermediate_size": 32, **CALM}, "roberta.encoder.layer.1", "right"),
    "DistilBert": (
        {"hidden_dim": 32, "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
        "distilbert.transformer.layer.1",
        "right",
    ),
    "ModernBert": (
        {"intermediate_size": 32, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
        "model.layers.1",
        "right",
    ),
    "DebertaV2": (  # without a problem type its loss asks which labels are >= 0, which is refused
        {"intermediate_size": 32, **CALM, "pooler_dropout": 0.0, "problem_type": "single_label_classification"},
        "deberta.encoder.layer.1",
        "right",
    ),
    "Electra": ({"intermediate_size": 32, **CALM, "embedding_size": 16}, "electra.encoder.layer.1", "right"),
    "GPT2": ({"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, "transformer.h.1", "left"),
    "Llama": (GROUPED, "model.layers.1", "left"),
    "Qwen3": ({**GROUPED, "head_dim": 8}, "model.layers.1", "left"),
}


def text_model(name):
    torch.random.manual_seed(0)
    more = FAMILIES[name][0]
    config = getattr(hf, f"{name}Config")(**SMALL, num_labels=CLASSES, pad_token_id=0, initializer_range=0.5, **more)
    return getattr(hf, f"{name}ForSequenceClassification")(config)


def padded(rows, side):
    """Return sentences of unequal lengths, padded on a side."""
    made = sentences(rows)
    turned = (lambda row: row.flip(0)) if side == "left" else (lambda row: row)
    return [{**row, **{name: turned(row[name]) for name in ("input_ids", "attention_mask")}} for row in made]


@pytest.mark.parametrize("name", FAMILIES)
def test_sentences_of_unequal_lengths_in_every_family_of_models(tmp_path, name):
    """One update is that of a loop by hand, and the tokens that it learns from are those of all rows in a mix."""
    _, at, side = FAMILIES[name]
    model, data = text_model(name), padded(8, side)
    embedded = []
    model.get_input_embeddings().register_full_backward_hook(lambda module, given, out: embedded.append(out[0]))
    Trainer(model, arguments(tmp_path), train_dataset=data, vicinity=MIXUP, at=at).train()
    expected = text_model(name).train()
    tokens, mask, y = (torch.stack([torch.as_tensor(row[key]) for row in data]) for key in data[0])
    plan = MIXUP.plan(8, y, step=0)
    with vicinal.LatentMixing(expected, at)(plan):
        out = expected(input_ids=tokens, attention_mask=plan.union(mask))
    F.cross_entropy(out.logits, plan.target(y)).backward()
    torch.optim.SGD(expected.parameters(), 0.1).step()
    assert distance(model, expected) < 2e-6
    (gradient,) = embedded
    learned_from = gradient.abs().sum(-1) > 1e-10
    own = mask.bool()
    assert (plan.partner[plan.partner] != torch.arange(8)).any()
    assert learned_from[own].all()  # a token of a row is read in the row itself and in the one it is mixed into
    assert learned_from.sum() > own.sum()  # and what stands where a longer partner has tokens is mixed with them


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Qwen3"])
def test_a_model_that_reads_off_the_last_token_refuses_rows_padded_on_the_right(tmp_path, name):
    model, data = text_model(name), padded(8, "right")
    trainer = Trainer(model, arguments(tmp_path), train_dataset=data, vicinity=MIXUP, at=FAMILIES[name][1])
    with pytest.raises(ValueError, match=r"reads its answer off the last token.*tokenizer\.padding_side = 'left'"):
        trainer.train()


@pytest.mark.parametrize("at", [None, "bert.encoder"])
def test_a_compiled_model_is_trained_as_a_plain_one(tmp_path, at):
    """Over more steps than one block of draws."""
    models = []
    for compiled in (False, True):
        model, data = (bert(), sentences(40 * 8)) if at else (vit(), images(40 * 8))
        made = arguments(tmp_path, torch_compile=compiled, torch_compile_backend="aot_eager" if compiled else None)
        Trainer(model, made, train_dataset=data, vicinity=MIXUP, at=at).train()
        models.append(model)
    assert distance(*models) < 1e-4
    assert distance(models[0], bert() if at else vit()) > 1e-2


@pytest.mark.parametrize("at", [None, "bert.encoder"])
def test_a_model_that_is_made_for_every_run(tmp_path, at):
    """By `model_init`, as a search of hyperparameters needs it."""
    build, data = (bert, sentences(8)) if at else (vit, images(8))
    first, second = build(), build()
    Trainer(first, arguments(tmp_path), train_dataset=data, vicinity=MIXUP, at=at).train()
    made = Trainer(None, arguments(tmp_path), model_init=lambda: build(), train_dataset=data, vicinity=MIXUP, at=at)
    for _ in range(2):
        made.train()
        assert distance(made.model, first) == 0
    assert distance(second, first) > 1e-3


def test_the_mask_of_mixed_waveforms(tmp_path):
    """A waveform is mixed itself; of the two masks the mixed row has the longer one."""
    convolutions = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = hf.Wav2Vec2Config(
        **sizes, **convolutions, **positions, num_labels=CLASSES, classifier_proj_size=8, apply_spec_augment=False
    )
    random = Key(0, 0, 0, 0).generator()
    masks = [(torch.arange(400) < 400 - 40 * i).long() for i in range(8)]
    waves = [torch.from_numpy(random.normal(size=400)).float() * mask for mask in masks]
    data = [{"input_values": waves[i], "attention_mask": masks[i], "labels": i % CLASSES} for i in range(8)]
    torch.random.manual_seed(0)
    model, seen = hf.Wav2Vec2ForSequenceClassification(config), []
    model.register_forward_pre_hook(lambda module, given, named: seen.append(named), with_kwargs=True)
    Trainer(model, arguments(tmp_path), train_dataset=data, vicinity=MIXUP).train()
    plan = MIXUP.plan(8, torch.arange(8) % CLASSES, step=0)
    assert torch.equal(seen[0]["input_values"], plan(torch.stack(waves)))
    longest = torch.maximum(torch.stack(masks), torch.stack(masks)[plan.partner])
    assert torch.equal(seen[0]["attention_mask"], longest)
    assert seen[0]["attention_mask"].dtype == torch.int64


@pytest.mark.parametrize("side", ["right", "left"])
def test_without_a_mask_the_padding_is_told_by_its_token(tmp_path, side):
    model = text_model("Llama")
    data = [{name: row[name] for name in ("input_ids", "labels")} for row in padded(8, side)]
    trainer = Trainer(model, arguments(tmp_path), train_dataset=data, vicinity=MIXUP, at=FAMILIES["Llama"][1])
    if side == "left":
        trainer.train()
        assert distance(model, text_model("Llama")) > 1e-3
        return
    with pytest.raises(ValueError, match="reads its answer off the last token"):
        trainer.train()


def test_tokens_without_a_layer_are_refused_with_what_to_write(tmp_path):
    with pytest.raises(TypeError, match=r"\['input_ids'\] hold the names of tokens.*at='bert.encoder'"):
        Trainer(bert(), arguments(tmp_path), train_dataset=sentences(8), vicinity=MIXUP).train()


def test_a_label_of_each_token(tmp_path):
    def labels(tokens, mask):
        return torch.where(mask.bool(), tokens % 3, -100)

    model, data = bert(hf.BertForTokenClassification, 3), sentences(8, labels)
    Trainer(model, arguments(tmp_path), train_dataset=data, vicinity=MIXUP, at="bert.encoder").train()
    expected = bert(hf.BertForTokenClassification, 3).train()
    tokens, mask, y = (torch.stack([row[name] for row in data]) for name in data[0])
    plan = MIXUP.plan(8, y, step=0)
    with vicinal.LatentMixing(expected, "bert.encoder")(plan):
        out = expected(input_ids=tokens, attention_mask=plan.union(mask))
    count = (y != -100).sum()
    (F.cross_entropy(out.logits.transpose(1, 2), plan.target(y), ignore_index=-100, reduction="sum") / count).backward()
    torch.optim.SGD(expected.parameters(), 0.1).step()
    assert distance(model, expected) < 2e-6


def test_an_encoder_with_a_decoder(tmp_path):
    torch.random.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = hf.T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, dropout_rate=0.0)
    model = hf.T5ForConditionalGeneration(config)
    first = [p.clone() for p in model.parameters()]

    class Seq2Seq(InOrder, MixupMixin, hf.Seq2SeqTrainer):
        pass

    made = hf.Seq2SeqTrainingArguments(**arguments(tmp_path).to_dict() | {"output_dir": str(tmp_path)})
    seen = []
    model.register_forward_pre_hook(lambda module, given, named: seen.append(named), with_kwargs=True)
    data = sentences(8, lambda tokens, mask: tokens)
    Seq2Seq(model, made, train_dataset=data, vicinity=MIXUP, at="encoder.block.1").train()
    (given,) = seen
    y = torch.stack([row["labels"] for row in data])
    assert type(given["labels"]) is vicinal.MixedTarget
    assert torch.equal(given["decoder_input_ids"][:, 1:], y[:, :-1])  # of its own, shifted
    assert any(not torch.equal(a, b) for a, b in zip(first, model.parameters(), strict=True))


def test_a_map_of_labels(tmp_path):
    torch.random.manual_seed(0)
    config = hf.SegformerConfig(
        num_labels=3, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1],
        sr_ratios=[1, 1, 1, 1], decoder_hidden_size=8, hidden_dropout_prob=0.0, classifier_dropout_prob=0.0,
        drop_path_rate=0.0, semantic_loss_ignore_index=255,
    )  # fmt: skip
    model = hf.SegformerForSemanticSegmentation(config)
    random = Key(2, 0, 0, 0).generator()
    maps = torch.from_numpy(random.choice([0, 1, 2, 255], size=(8, 32, 32)))
    pixels = torch.from_numpy(random.normal(size=(8, 3, 32, 32))).float()
    data = [{"pixel_values": pixels[i], "labels": maps[i]} for i in range(8)]
    seen = []
    model.register_forward_pre_hook(lambda module, given, named: seen.append(named), with_kwargs=True)
    for vicinity in (MIXUP, vicinal.CutMix(1.0, seed=7)):
        Trainer(model, arguments(tmp_path), train_dataset=data, vicinity=vicinity).train()
        given, plan = seen.pop(), vicinity.plan(8, maps, pixels, step=0)
        assert torch.equal(given["pixel_values"], plan(pixels))
        expected = plan.target(maps)
        assert torch.equal(given["labels"].ids, expected.ids)
        assert torch.equal(given["labels"].weight, expected.weight)


# -- refusals and processes ------------------------------------------------------------------------------------------------


def test_what_cannot_be_mixed_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"vicinal\.Mixup\(0\.2\)"):
        Trainer(net(), arguments(tmp_path), vicinity=0.2)
    with pytest.raises(ValueError, match="no module 'encoder'"):
        Trainer(bert(), arguments(tmp_path), vicinity=MIXUP, at="encoder")
    unnamed = [{"pixel_values": row["pixel_values"], "class_id": row["labels"]} for row in images(8)]
    with pytest.raises(
        ValueError, match=r"no labels \['labels'\] among \['pixel_values'\]; with remove_unused_columns"
    ):
        Trainer(net(), arguments(tmp_path), train_dataset=unnamed, vicinity=MIXUP).train()


class Stub:
    """Stands for a trainer in a process of two: no launcher is needed to see which draws it takes."""

    def __init__(self, *given):
        self.model, self.label_names, self.label_smoother, self.compute_loss_func = (
            nn.Linear(2, 2),
            ["labels"],
            None,
            None,
        )
        self.state = SimpleNamespace(global_step=3, epoch=0.5)
        self.args = SimpleNamespace(gradient_accumulation_steps=2, seed=11)

    def _prepare_inputs(self, inputs):
        return inputs

    def training_step(self, model, inputs, num_items_in_batch=None):
        return inputs


class Stubbed(MixupMixin, Stub):
    pass


def test_the_draws_of_a_process_are_those_of_its_rank(monkeypatch):
    x, y = torch.eye(4), torch.arange(4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    vicinity = vicinal.Mixup(1.0, seed=7)
    stub = Stubbed(vicinity=vicinity)
    for micro in range(2):
        given = stub.training_step(stub.model, {"pixel_values": x, "labels": y})
        plan = vicinity.plan(4, y, x, step=3 * 2 + micro, rank=1)
        assert torch.equal(given["pixel_values"], plan(x))
        assert not torch.equal(given["pixel_values"], vicinity.plan(4, y, x, step=3 * 2 + micro, rank=0)(x))


def test_the_trainers_seed_is_taken_where_the_vicinity_has_none():
    x, y = torch.eye(4), torch.arange(4)
    given = Stubbed(vicinity=vicinal.Mixup(1.0)).training_step(None, {"pixel_values": x, "labels": y})
    assert torch.equal(given["pixel_values"], vicinal.Mixup(1.0, seed=11).plan(4, y, x, step=6)(x))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return results_of_two("transformers_job", tmp_path_factory.mktemp("transformers"))


def numbers_of(pixels):
    """Return the numbers of plain rows."""
    known = {float(row["pixel_values"][0, 0, 0]): number for number, row in enumerate(images(48))}
    return [known[float(row[0, 0, 0])] for row in pixels]


def is_each_row_once(of_ranks):
    return sorted(number for pixels in of_ranks for number in numbers_of(torch.cat(pixels))) == list(range(48))


def test_two_processes_draw_their_own_and_update_by_all_their_rows(ranks):
    """The sampler is the Trainer's own; six micro-batches of each process are an update of four and one of two."""
    found = [seen["accumulated"] for seen in ranks]
    for first in (0, 6):
        assert is_each_row_once([[x for x, _ in seen["plain"][first : first + 6]] for seen in found])
    model = vit().train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for update, parts in enumerate([range(4), range(4, 6), range(6, 10), range(10, 12)]):
        shares = []
        for rank, seen in enumerate(found):
            assert seen["is_loader"]
            for micro, part in enumerate(parts):
                x, y = seen["plain"][part]
                plan = MIXUP.plan(len(y), y, x, step=update * 4 + micro, rank=rank)
                assert torch.equal(seen["mixed"][part][0], plan(x))
                assert torch.equal(seen["mixed"][part][1], plan.target(y).dense(CLASSES))
                shares.append(float(plan.weight[0]))
                loss = F.cross_entropy(model(plan(x)).logits, plan.target(y), reduction="sum")
                (loss / (2 * 4 * len(parts))).backward()
        assert len(set(shares)) == 2 * len(parts)
        optimizer.step()
        optimizer.zero_grad()
    for first, second, expected in zip(*(seen["weights"] for seen in found), model.parameters(), strict=True):
        assert torch.equal(first, second)
        assert torch.allclose(first, expected, atol=1e-6)
    assert distance(model, vit()) > 1e-3


def test_two_processes_resume_to_the_same_weights(ranks):
    for seen in ranks:
        whole, resumed = seen["whole"], seen["resumed"]
        assert len(whole["mixed"]) == 12
        for batches in ("plain", "mixed"):
            for (x, y), (expected_x, expected_y) in zip(resumed[batches], whole[batches][4:], strict=True):
                assert torch.equal(x, expected_x)
                assert torch.equal(y, expected_y)
        assert all(torch.equal(*of_both) for of_both in zip(whole["weights"], resumed["weights"], strict=True))
    assert all(torch.equal(*of_both) for of_both in zip(*(seen["whole"]["weights"] for seen in ranks), strict=True))


def test_two_processes_evaluate_each_row_once_and_plain(ranks):
    for seen in ranks:
        expected, found = seen["evaluated"]
        assert found == expected
        assert found[1] == 27


def test_a_collator_that_mixes_leaves_each_row_to_one_process(ranks):
    assert is_each_row_once([seen["collator"] for seen in ranks])
