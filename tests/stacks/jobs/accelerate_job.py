"""Two processes of Accelerate: what each loader yields, what is mixed, and what is gathered."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator, DataLoaderConfiguration
from torch.utils.data import DataLoader, IterableDataset

import vicinal
from stacks.processes import BATCH, CLASSES, RATE, Recording, data, linear, mixup, numbers_of

folder = Path(sys.argv[1])


def prepared(loader, **configuration):
    """Return an accelerator of this configuration and its loader."""
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**configuration))
    return accelerator, accelerator.prepare(loader)


def in_the_loop(**configuration):
    """Train two epochs; return rows, draws, and weights."""
    accelerator, loader = prepared(DataLoader(data(), BATCH, shuffle=True), **configuration)
    net = linear()
    net, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), RATE))
    vicinity, rows, draws = mixup(), [], []
    for _ in range(2):
        for x, y in loader:
            rows.append(numbers_of(x))
            mixed, target = vicinity(x, y)
            draws.append((mixed, target.dense(CLASSES)))
            accelerator.backward(F.cross_entropy(net(mixed), target))
            optimizer.step()
            optimizer.zero_grad()
    weights = [p.detach() for p in accelerator.unwrap_model(net).parameters()]
    return {"rows": rows, "draws": draws, "weights": weights}


def in_the_collator(**configuration):
    """Iterate over an epoch that a collator mixes; return the rows it was given and what came out."""
    recording = Recording()
    loader = DataLoader(data(), BATCH, shuffle=True, collate_fn=vicinal.Collate(mixup(), recording))
    _, loader = prepared(loader, **configuration)
    batches = [(x, y.dense(CLASSES)) for x, y in loader]
    return {"rows": recording.batches, "draws": batches, "is_loader": isinstance(loader, DataLoader)}


def soft_labels_in_the_collator():
    """Iterate over an epoch that the first process mixes and sends around, with soft labels."""
    recording = Recording()
    mixing = vicinal.Collate(mixup(), recording)

    def collate(examples):
        x, y = mixing(examples)
        return x, y.dense(CLASSES)

    _, loader = prepared(DataLoader(data(), BATCH, collate_fn=collate), dispatch_batches=True)
    return {"rows": recording.batches, "draws": list(loader)}


class Stream(IterableDataset):
    """A dataset that is read in order."""

    def __iter__(self):
        return iter(data())


def dispatched_mixed_labels():
    """Return what the first process hears that would send mixed labels around: asked to, and where data are a stream.

    It hears it before it sends anything, so that the other process need not wait for it.
    """
    heard = []
    for source, configuration in ((data(), {"dispatch_batches": True}), (Stream(), {})):
        accelerator, loader = prepared(DataLoader(source, BATCH, collate_fn=vicinal.Collate(mixup())), **configuration)
        if accelerator.is_main_process:
            try:
                next(iter(loader))
            except TypeError as error:
                heard.append(str(error))
    return heard


def gathered():
    """Gather over both processes: predictions of an evaluation, and what a mixed batch has to gather."""
    accelerator, loader = prepared(DataLoader(data(14), BATCH))  # 4 + 4 and 4 + 2: two rows fill the last batch up
    evaluated = [accelerator.gather_for_metrics((torch.tensor(numbers_of(x)), y)) for x, y in loader]
    x, y = next(iter(accelerator.prepare(DataLoader(data(), BATCH))))
    _, y = mixup()(x, y, step=0)
    predicted = torch.arange(BATCH) % CLASSES
    try:
        accelerator.gather((predicted, y))
    except TypeError as error:
        refused = str(error)
    pair = accelerator.gather_for_metrics((predicted, y))
    return {
        "evaluated": [torch.cat(parts) for parts in zip(*evaluated, strict=True)],
        "refused": refused,
        "pair": [type(part).__name__ for part in pair],
        "alone": [type(part).__name__ for part in accelerator.gather_for_metrics(y)],
        "hits": accelerator.gather(predicted == y),
        "own_hits": predicted == y,
    }


def resumed():
    """Save after three batches; return the draws that came next, and those of another object that loaded the state."""
    x, y = data()[:BATCH]
    accelerator = Accelerator(cpu=True)
    vicinity = mixup()
    accelerator.register_for_checkpointing(vicinity)
    for _ in range(3):
        vicinity(x, y)
    accelerator.save_state(str(folder / "state"))
    accelerator.wait_for_everyone()
    expected = vicinity(x, y)[0]
    accelerator = Accelerator(cpu=True)
    again = mixup()
    accelerator.register_for_checkpointing(again)
    accelerator.load_state(str(folder / "state"))
    return expected, again(x, y)[0]


seen = {
    "loop": in_the_loop(),
    "split loop": in_the_loop(split_batches=True),
    "dispatched loop": in_the_loop(dispatch_batches=True),
    "collator": in_the_collator(),
    "split collator": in_the_collator(split_batches=True),
    "dispatched soft labels": soft_labels_in_the_collator(),
    "dispatched mixed labels": dispatched_mixed_labels(),
    "gathered": gathered(),
    "resumed": resumed(),
}
torch.save(seen, folder / f"{Accelerator(cpu=True).process_index}.pt")
