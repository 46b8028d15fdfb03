"""Mixup in Hugging Face's Trainer: `MixupTrainer(model, args, vicinity=Mixup(0.2), train_dataset=...)`."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from vicinal.latent import LatentMixing
from vicinal.plan import Plan
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity, check_vicinity

try:
    from transformers import Trainer  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("this module needs transformers: pip install 'vicinal[transformers]'") from error


# 1 where a row has something: a mixed row has what any of its rows has
_MASKS = {"encoder": ("attention_mask", "pixel_mask"), "decoder": ("decoder_attention_mask",)}


_Base = Trainer if TYPE_CHECKING else object  # a mixin calls what the class beside it has


class MixupMixin(_Base):
    """Mix what a Trainer trains on, and nothing else; for any class of trainers: `class Mine(MixupMixin, Seq2SeqTrainer)`.

    `training_step` is given mixed inputs and mixed labels, on the device, after the examples of the step were counted:
    gradient accumulation is exact, with a short last batch too. Evaluation and prediction see plain batches. The draw of a
    batch is decided by the trainer's global step, so that a resumed run goes on with the draws that it would have had; the
    seed is `args.seed` where the vicinity has none of its own. An attention mask becomes that of the mixed rows. The
    model's own loss takes mixed labels, and so does `compute_loss_func`. `label_smoothing_factor` smooths the mixed labels.

    Args:
        vicinity: what to mix by, as `Mixup(0.2)`.
        at: the module, or the modules, whose inputs are mixed (Manifold Mixup, Verma et al. 2019), as of `LatentMixing`:
            for tokens, which are names, a module after the embedding, as "bert.encoder". A model that reads its answer off
            the last token, as causal ones do, needs rows that are padded on the left. None: the inputs of the model are
            mixed.
        args: of the trainer.
        kwargs: of the trainer.

    Convention:
        dimension 0: the rows of the batch that one process trains on.
        lambda: that of the vicinity.
        one draw: one plan per training batch and process; decided by the trainer's global step.

    Raises:
        TypeError: `vicinity` is not a vicinity; from a step: the inputs are indices, as tokens are, and `at` is not given.
        ValueError: there is no module of that name; from a step: the batch has no labels, or it is padded on the right and
            the model reads off the last token.

    Examples:
        >>> from transformers import Seq2SeqTrainer
        >>> class MixupSeq2SeqTrainer(MixupMixin, Seq2SeqTrainer):
        ...     pass

    Source: Zhang et al. 2018, section 2, equation 2; `at`: "latent representations" in section 3.8.

    """

    def __init__(self, *args: Any, vicinity: Vicinity, at: str | list[str] | None = None, **kwargs: Any) -> None:
        check_vicinity(vicinity)
        self.vicinity = vicinity
        self._at = at
        self._latent: LatentMixing | None = None
        self._reads_last_token = False
        # the state of the run, its global step, and how many batches of this step came before
        self._counted: tuple[Any, int, int] = (None, -1, 0)
        super().__init__(*args, **kwargs)
        if self._latent is None:  # else `model_init` made the model
            self._watch(self.model)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """Make a model by `model_init`, as at the beginning of every run of a search of hyperparameters."""
        model = super().call_model_init(trial)
        self._watch(model)
        return model

    def _watch(self, model: nn.Module) -> None:
        """Prepare a model for mixing at the modules that were named."""
        if self._at is not None:
            self._latent = LatentMixing(model, self._at)
            self._reads_last_token = _reads_last_token(model)

    def training_step(self, model: nn.Module, inputs: Mapping[str, Any], *others: Any, **more: Any) -> Tensor:
        """Mix a batch, then train on it."""
        step = self._next_step()
        if not self.vicinity.state.on:
            return super().training_step(model, inputs, *others, **more)
        inputs = dict(self._prepare_inputs(inputs))
        labels = self._taken_labels(inputs)
        first, *further = labels.values()
        y = None if further else first  # pairings look at one target
        seed = self.args.seed if self.vicinity.seed is None else None
        epoch = int(self.state.epoch or 0)
        plan = self.vicinity.plan(len(first), y, inputs, step=step, epoch=epoch, seed=seed)
        inputs = self._with_decoder_inputs(inputs, labels)
        inputs = self._masked(inputs, plan) if self._latent is not None else self._mixed(inputs, plan)
        with (
            self._latent(plan) if self._latent is not None else contextlib.nullcontext(),
            self._smoothing() as smoothing,
        ):
            mixed = plan.target(labels)
            mixed = {name: y.smoothed(smoothing) if type(y) is MixedTarget else y for name, y in mixed.items()}
            return super().training_step(model, {**inputs, **mixed}, *others, **more)

    def _next_step(self) -> int:
        """Return the number of this batch in the run: of the global step, and within it of the batches accumulated."""
        state = self.state
        run, last, batches = self._counted
        batches = batches + 1 if run is state and last == state.global_step else 0
        self._counted = (state, state.global_step, batches)
        return state.global_step * self.args.gradient_accumulation_steps + batches

    def _taken_labels(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Take the labels out of a batch."""
        names = [name for name in self.label_names if name in inputs]
        if not names:
            raise ValueError(
                f"there are no labels {self.label_names} among {list(inputs)}; with remove_unused_columns=True the "
                "Trainer drops what the model's forward does not name"
            )
        return {name: inputs.pop(name) for name in names}

    def _mixed(self, inputs: dict[str, Any], plan: Plan) -> dict[str, Any]:
        """Return mixed inputs; tokens are refused with the way to mix them."""
        indices = [
            name
            for name, x in inputs.items()
            if isinstance(x, Tensor) and name.endswith("input_ids") and not x.is_floating_point()
        ]
        if indices:
            raise TypeError(
                f"{indices} hold the names of tokens, which cannot be mixed: give at=, the module whose inputs are to be "
                "mixed, after the embedding, such as at='bert.encoder'"
            )
        masks = self._masks(inputs)
        rest = {name: x for name, x in inputs.items() if name not in masks}
        return {**plan(rest), **{name: plan.union(mask) for name, mask in masks.items()}}

    def _masked(self, inputs: dict[str, Any], plan: Plan) -> dict[str, Any]:
        """Return the inputs with the attention mask of the mixed rows, on the side where they are mixed."""
        places = [self._at] if isinstance(self._at, str) else self._at or []
        masks = self._masks(inputs, {"decoder" if self._is_of_decoder(name) else "encoder" for name in places})
        if self._reads_last_token and self._ends_in_padding(inputs, masks):
            raise ValueError(
                "this model reads its answer off the last token of each row: a short row that is mixed with a longer one "
                "would be read before its partner ends. Pad on the left: tokenizer.padding_side = 'left'"
            )
        return {**inputs, **{name: plan.union(mask) for name, mask in masks.items()}}

    def _ends_in_padding(self, inputs: dict[str, Any], masks: dict[str, Any]) -> bool:
        """Return whether a row is padded on the right, by its mask, else by the token that the model takes for padding."""
        if masks:
            return any(not mask[:, -1].all() for mask in masks.values())
        tokens, padding = inputs.get("input_ids"), self.model.config.get_text_config().pad_token_id
        return tokens is not None and padding is not None and bool((tokens[:, -1] == padding).any())

    def _masks(self, inputs: dict[str, Any], sides: Iterable[str] = ("encoder",)) -> dict[str, Any]:
        """Return the masks of the sides that are mixed."""
        names = [name for side in sides for name in _MASKS[side]]
        return {name: inputs[name] for name in names if inputs.get(name) is not None}

    def _is_of_decoder(self, name: str) -> bool:
        return self._has_both_sides() and "decoder" in name.split(".")

    def _has_both_sides(self) -> bool:
        return bool(getattr(getattr(self.model, "config", None), "is_encoder_decoder", False))

    def _with_decoder_inputs(self, inputs: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
        """Return inputs with those of the decoder, which the model would make of labels that are not mixed."""
        made = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        if not self._has_both_sides() or "labels" not in labels or made is None or "decoder_input_ids" in inputs:
            return inputs
        return {**inputs, "decoder_input_ids": made(labels=labels["labels"])}

    @contextlib.contextmanager
    def _smoothing(self) -> Iterator[float]:
        """Take the Trainer's label smoothing over within the block: its own function does not know mixed labels."""
        smoother = self.label_smoother
        if smoother is None or self.compute_loss_func is not None:  # a loss function of the user's is never smoothed
            yield 0.0
            return
        self.label_smoother = None
        try:
            yield smoother.epsilon
        finally:
            self.label_smoother = smoother


def _reads_last_token(model: nn.Module) -> bool:
    """Return whether logits are taken at the last token of each row, a place that transformers' models find themselves."""
    kinds = {type(module) for module in model.modules()}
    return any(
        "last_non_pad_token" in inspect.getsource(kind.forward)
        for kind in kinds
        if kind.__name__.endswith("ForSequenceClassification")
    )


class MixupTrainer(MixupMixin, Trainer):
    """Hugging Face's Trainer, which mixes what it trains on; `MixupMixin` says what it adds.

    Args:
        vicinity: as of `MixupMixin`.
        at: as of `MixupMixin`.
        args: of the trainer.
        kwargs: of the trainer.

    Convention:
        dimension 0: the rows of the batch that one process trains on.
        lambda: that of the vicinity.
        one draw: one plan per training batch and process; decided by the trainer's global step.

    Examples:
        >>> import torch, transformers, vicinal
        >>> config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
        >>> model = transformers.ViTForImageClassification(config)
        >>> images = [{"pixel_values": torch.rand(3, 224, 224), "labels": i % 2} for i in range(4)]
        >>> arguments = transformers.TrainingArguments("runs", report_to=[])
        >>> trainer = MixupTrainer(model, arguments, vicinity=vicinal.Mixup(alpha=0.2), train_dataset=images)
        >>> trainer.train()  # doctest: +SKIP

    """
