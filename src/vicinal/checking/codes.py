"""What can be found in a pipeline that mixes: one code for each kind of fault, with its severity, meaning and mend.

A code never changes its meaning. The card of a code (`cards/VIC001.md`, `vicinal explain VIC001`) says more.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Code:
    """One kind of fault.

    Args:
        code: "VIC" and three digits.
        severity: "error": the model is trained on something other than its labels say, or the program fails;
            "warning": probably not what was meant; "note": worth knowing, never a failure.
        title: the fault, in a few words.
        means: what it does to the training.
        fix: what to do.

    Examples:
        >>> CODES["VIC002"].severity
        'error'

    """

    code: str
    severity: Severity
    title: str
    means: str
    fix: str

    @property
    def page(self) -> str:
        """Address of its card in the documentation, relative to the repository."""
        return f"docs/cards/checks/{self.code.lower()}.md"

    def card(self) -> str:
        """Return its card, in Markdown."""
        return (files("vicinal.checking") / "cards" / f"{self.code}.md").read_text(encoding="utf-8")


def _table(*codes: Code) -> dict[str, Code]:
    return {code.code: code for code in codes}


# fmt: off
CODES = _table(
    # -- shares: what is mixed with what, and how much of it
    Code("VIC001", "error", "the shares of input and label disagree",
         "An example counts for one share in the mixed input and for another in its label.",
         "Use one draw (partner and lambda) for inputs and labels; after clipping a box, count its cells again."),
    Code("VIC002", "error", "inputs are mixed, labels are not",
         "The model sees two examples and is told of one.",
         "Mix the labels by the same draw, or mix two losses: lam * loss(y) + (1 - lam) * loss(y[partner])."),
    Code("VIC003", "error", "labels are mixed, inputs are not",
         "The model sees one example and is told of two: label noise.",
         "Let the mixed input, not the original, reach the model."),
    Code("VIC004", "error", "a part of the batch is left out of the mixing, or mixed by another draw",
         "One input or target belongs to other examples than the rest of its row.",
         "Mix every tensor of the batch by one draw."),
    Code("VIC005", "warning", "nothing is mixed",
         "Training is plain training.",
         "Check that the mixing is reached: its probability, the rank of the batch, a module in eval mode."),
    Code("VIC006", "error", "weights of the inputs are below 0, above 1, or do not sum to 1",
         "The mixed input is not a convex combination: its scale differs from that of plain examples.",
         "Use lambda in [0, 1] and 1 - lambda."),
    Code("VIC007", "error", "label shares are below 0, above 1, or do not sum to 1",
         "The label is not a distribution over the classes, so the size of the loss depends on the draw.",
         "Use lambda and 1 - lambda for the labels; keep thresholds and sums of labels away from single-label tasks."),
    # -- labels
    Code("VIC010", "error", "class indices are averaged as numbers",
         "Half of class 1 and half of class 3 is taken for class 2.",
         "Make labels one-hot before mixing, or keep both indices and lambda."),
    Code("VIC011", "error", "mixed targets are rounded or cast",
         "What is left of the mixture is one class, or a whole number.",
         "Keep mixed targets in floating point, or keep both targets and lambda."),
    Code("VIC012", "warning", "labels are smoothed though it was not declared",
         "A part of each label is spread over all classes.",
         "Switch smoothing off, or declare it: smoothing=0.1, --smoothing 0.1."),
    Code("VIC013", "error", "labels have the wrong shape, or their shape or dtype changes from batch to batch",
         "A loss may broadcast them, or take them for another kind of label.",
         "Return labels of one shape and dtype, mixed or not."),
    Code("VIC014", "error", "entries that mean \"unknown\" are averaged",
         "-1, -100 or nan becomes a number that the loss takes for a label.",
         "Keep unknown entries as they are, and leave them out of the loss."),
    Code("VIC015", "warning", "label shares are rounded to half precision",
         "Shares do not sum to 1, and class indices above 256 (bfloat16) or 2048 (float16) change.",
         "Keep shares in float32 and class indices in int64, whatever the inputs are."),
    # -- draws
    Code("VIC020", "error", "lambda is not drawn from the declared distribution",
         "Examples are mixed more, or less, than was asked.",
         "Draw lambda from Beta(alpha, alpha) once; look for other parameters, folding (max(lam, 1 - lam)), a second draw."),
    Code("VIC021", "error", "the draw never varies",
         "Each batch is mixed by the same lambda and the same partners.",
         "Draw anew for each batch: no fixed seed and no generator made anew inside the step."),
    Code("VIC022", "error", "draws repeat in each epoch",
         "The second epoch mixes by the lambdas of the first.",
         "Use the epoch in the seed, or a generator that goes on; in workers, torch's, or seed yours in worker_init_fn."),
    Code("VIC023", "error", "draws repeat in each worker",
         "Several batches in a row are mixed by one lambda, and the mixing varies less than it seems to.",
         "Seed each worker apart: worker_init_fn, or torch's generator instead of a copied one."),
    Code("VIC024", "error", "draws repeat on each rank",
         "All processes mix by one lambda: the global batch has one draw where it should have as many as processes.",
         "Let the rank take part in the seed."),
    Code("VIC025", "warning", "draws start over after a resume",
         "A resumed run mixes by the draws that it has used already.",
         "Save the state of the draws with the checkpoint, or derive it from the step."),
    Code("VIC026", "warning", "an example always has the same partner",
         "The vicinity of an example is one line instead of lines to all others.",
         "Draw partners anew, or shuffle the loader."),
    Code("VIC027", "note", "examples are mixed with themselves more often than by chance",
         "Such rows are not mixed at all.",
         "Draw a permutation of the rows; a shuffle must change what is used, not a copy of it."),
    Code("VIC028", "error", "partners come from outside the training rows",
         "Validation or test examples leak into the training.",
         "Draw partners among the training rows only."),
    Code("VIC029", "warning", "batches are mixed more rarely, or more often, than declared",
         "The strength of the augmentation is not the one that was asked for.",
         "Apply the probability once."),
    # -- data
    Code("VIC030", "error", "the dataset is overwritten",
         "What was an example is a mixture from now on, and each epoch mixes it further.",
         "Write into a new tensor, or clone before mixing in place."),
    Code("VIC031", "note", "the caller's batch is changed in place",
         "Whoever uses the batch afterwards (a teacher, a metric, a log) gets mixed rows.",
         "Write into a new tensor, or clone before."),
    Code("VIC032", "warning", "the dtype of the inputs changes",
         "Half precision becomes float32, or double becomes single: memory, speed and precision change silently.",
         "Compute the weights in the dtype that is mixed, or cast back."),
    Code("VIC033", "note", "the memory format is lost",
         "A channels_last batch comes out contiguous, and convolutions convert it again.",
         "Call .contiguous(memory_format=torch.channels_last) after mixing."),
    Code("VIC034", "warning", "mixing follows a nonlinear transform",
         "What is averaged is a logarithm (or another nonlinear function) of the signals, not the signals.",
         "Mix before it (waveforms before log-mel), or ignore this finding if it is meant."),
    Code("VIC035", "warning", "mixed whole numbers are cut off, not rounded",
         "Each mixture is half a level too dark, always.",
         "Mix in floating point, and round before casting back."),
    Code("VIC036", "error", "it fails for a batch of another size",
         "The last batch of an epoch, or an odd one, ends the training.",
         "Mix batches of any size, or use drop_last=True."),
    Code("VIC037", "note", "a batch of one example stays unmixed",
         "A row needs a partner, and the batch holds none.",
         "Use larger batches per device."),
    Code("VIC038", "error", "integer inputs (token ids) are averaged",
         "The average of two ids is the id of a third, unrelated token.",
         "Mix after the embedding, or cut and paste spans of tokens."),
    Code("VIC039", "warning", "a box cuts through channels or time steps",
         "Colors, or frames, of one example lie over those of another.",
         "Cut boxes along height and width only."),
    # -- where it is mixed
    Code("VIC040", "error", "evaluation is mixed",
         "Validation figures are those of mixtures.",
         "Mix in the training loader or step only."),
    Code("VIC041", "error", "mixing that is switched off goes on in persistent workers",
         "The last epochs, which should be plain, are mixed: workers have a copy of the switch.",
         "Make the loader anew, or keep the switch in shared memory."),
    Code("VIC042", "error", "an attention or padding mask hides tokens that have a share in the label",
         "The label speaks of tokens that the model cannot see.",
         "Join the masks of both rows (logical or)."),
    Code("VIC043", "error", "an epoch over all ranks does not see each row once",
         "Rows are seen several times, or never.",
         "Give each rank its part by a DistributedSampler, and mix inside of it."),
    # -- loss
    Code("VIC050", "error", "the loss of mixed labels is neither of mixed labels nor a mixture of losses",
         "Its gradient is not the mixture of the two examples' gradients.",
         "Compute the loss of each label and mix the losses."),
    Code("VIC051", "error", "class weights are applied otherwise with mixed labels than without",
         "At lambda = 1 the loss is not the one of plain training.",
         "Divide by the sum of both labels' weights, by their shares, as PyTorch's mean does; not by the number of rows."),
    Code("VIC052", "error", "ignored labels are counted with mixed labels",
         "The loss is divided by rows that do not count.",
         "Divide by the shares that count."),
    Code("VIC053", "warning", "soft labels turn cross-entropy into binary cross-entropy",
         "Training with mixing has another loss than training without.",
         "Compute the loss yourself: cross-entropy of soft labels, or both class indices' losses mixed."),
    Code("VIC054", "error", "gradient accumulation changes the update",
         "The same rows in more micro-batches give an update of another size.",
         "Divide the loss by the number of micro-batches, or by the number of rows in all of them."),
    Code("VIC055", "warning", "a training metric compares predictions of mixed inputs with unmixed labels",
         "Training accuracy looks worse than it is.",
         "Count lam * (pred == y) + (1 - lam) * (pred == y[partner])."),
    # -- cost
    Code("VIC060", "note", "mixing takes long",
         "A training step waits for its batch to be mixed.",
         "Mix batches, not single examples; on the device, not in Python loops."),
)
# fmt: on


def code(name: str) -> Code:
    """Return a code by its name, in any case.

    Raises:
        ValueError: there is none of that name.

    Examples:
        >>> code("vic002").title
        'inputs are mixed, labels are not'

    """
    found = CODES.get(name.strip().upper())
    if found is None:
        raise ValueError(f"there is no code {name!r}: codes are {', '.join(CODES)}")
    return found
