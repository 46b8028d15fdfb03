"""`vicinal.check` on torchvision, timm and fastai: for each kind of target a pipeline that is right and one that is not."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

import vicinal

pytest.importorskip("torchvision", reason="needs torchvision: make test-vision")
from torchvision.transforms import v2

N, CLASSES = 32, 5
X, Y = torch.linspace(0, 1, N * 3 * 16 * 16).view(N, 3, 16, 16), torch.arange(N) % CLASSES
ROWS = TensorDataset(X, Y)

# -- torchvision --------------------------------------------------------------------------------------------------------

MIXUP, CUTMIX = v2.MixUp(num_classes=CLASSES), v2.CutMix(num_classes=CLASSES)
EITHER = v2.RandomChoice([MIXUP, CUTMIX])


def own_labels(transform):
    """Return a transform that mixes the images alone."""
    return lambda x, y: (transform(x, y)[0], y)


@pytest.mark.parametrize("transform", [MIXUP, CUTMIX, EITHER], ids=["MixUp", "CutMix", "RandomChoice"])
def test_transforms_of_torchvision(transform):
    assert vicinal.check(transform, example=(X, Y)).codes == []
    assert vicinal.check(own_labels(transform), example=(X, Y)).codes == ["VIC002"]


def test_the_distribution_of_torchvisions_lambda():
    transform = v2.MixUp(num_classes=CLASSES, alpha=0.2)
    assert vicinal.check(transform, example=(X, Y), alpha=0.2).codes == []
    assert vicinal.check(transform, example=(X, Y), alpha=8.0).codes == ["VIC020"]


def test_a_choice_that_never_mixes():
    assert vicinal.check(v2.RandomChoice([MIXUP, v2.Identity()], p=[0.0, 1.0]), example=(X, Y)).codes == ["VIC005"]


def collate(examples, transform=EITHER):
    return transform(*default_collate(examples))


def collate_own_labels(examples):
    return own_labels(EITHER)(*default_collate(examples))


@pytest.mark.parametrize(("function", "codes"), [(collate, []), (collate_own_labels, ["VIC002"])])
def test_collate_functions_that_call_torchvision(function, codes):
    assert vicinal.check(function, example=ROWS).codes == codes
    assert vicinal.check(DataLoader(ROWS, 8, shuffle=True, collate_fn=function)).codes == codes


def test_loaders_that_are_not_shuffled_have_torchvisions_partners_always():
    """It mixes each row with the one before it."""
    assert vicinal.check(DataLoader(ROWS, 8, collate_fn=collate)).codes == ["VIC026"]


# -- timm ---------------------------------------------------------------------------------------------------------------


def timm_mixup(**options):
    data = pytest.importorskip("timm.data", reason="needs timm: make test-vision")
    return data.Mixup(**{"num_classes": CLASSES, "label_smoothing": 0.0, **options})


# an odd number of rows is refused, and the batch is written to
OF_TIMM = ["VIC036", "VIC031"]


@pytest.mark.parametrize(
    "options",
    [{}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}, {"mode": "elem"}, {"mode": "pair"}],
    ids=["mixup", "either", "cutmix", "elem", "pair"],
)
def test_mixup_of_timm(options):
    transform = timm_mixup(**options)
    assert vicinal.check(transform, example=(X, Y)).codes == OF_TIMM
    assert vicinal.check(own_labels(transform), example=(X, Y)).codes == ["VIC002", *OF_TIMM]


def test_label_smoothing_of_timm():
    transform = timm_mixup(label_smoothing=0.1)
    assert vicinal.check(transform, example=(X, Y), smoothing=0.1).codes == OF_TIMM
    assert set(vicinal.check(transform, example=(X, Y)).codes) == {"VIC012", *OF_TIMM}


class Images(Dataset):
    """Images of Pillow, as of a folder."""

    transform = None

    def __len__(self):
        return N

    def __getitem__(self, i):
        pillow = pytest.importorskip("PIL.Image")
        image = pillow.fromarray((255 * X[i]).byte().permute(1, 2, 0).numpy())
        return image if self.transform is None else self.transform(image), int(Y[i])


class Arrays(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return (255 * X[i]).byte().numpy(), int(Y[i])


def fast_collate(right, **options):
    data = pytest.importorskip("timm.data", reason="needs timm: make test-vision")

    class OwnLabels(data.FastCollateMixup):
        def __call__(self, batch, _=None):
            images, _ = super().__call__(batch)
            return images, torch.tensor([label for _, label in batch])

    kind = data.FastCollateMixup if right else OwnLabels
    return kind(num_classes=CLASSES, label_smoothing=0.0, **options)


@pytest.mark.parametrize("mode", ["batch", "elem"])
@pytest.mark.parametrize("right", [True, False])
def test_fast_collate_mixup_of_timm(mode, right):
    codes = vicinal.check(fast_collate(right, mode=mode), kind="collate", example=Arrays()).codes
    assert codes == ([] if right else ["VIC002"]) + ["VIC036"]


@pytest.mark.parametrize("prefetcher", [True, False])
@pytest.mark.parametrize(("right", "codes"), [(True, []), (False, ["VIC002"]), (None, ["VIC005"])])
def test_create_loader_of_timm(right, codes, prefetcher):
    data = pytest.importorskip("timm.data", reason="needs timm: make test-vision")
    loader = data.create_loader(
        Images(), (3, 16, 16), 8, is_training=True, no_aug=True, num_workers=0, persistent_workers=False,
        device=torch.device("cpu"), pin_memory=False, use_prefetcher=prefetcher,
        collate_fn=(fast_collate(right) if prefetcher else collate if right else collate_own_labels)
        if right is not None else None,
    )  # fmt: skip
    dataset, function = loader.dataset, loader.loader.collate_fn if prefetcher else loader.collate_fn
    assert vicinal.check(loader).codes == codes
    assert loader.dataset is dataset
    assert (loader.loader if prefetcher else loader).collate_fn is function


# -- fastai -------------------------------------------------------------------------------------------------------------


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


model = net()


def fit(*callbacks, loss=None):
    """Return a loop of fastai's."""
    fastai = pytest.importorskip("fastai.vision.all", reason="needs fastai: make test-vision")

    def loop(train_loader):
        loaders = fastai.DataLoaders(train_loader, DataLoader(ROWS, N))
        learner = fastai.Learner(loaders, model, loss_func=loss or fastai.CrossEntropyLossFlat(), cbs=callbacks)
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 0.01)

    return loop


def fastai_callback(name):
    fastai = pytest.importorskip("fastai.vision.all", reason="needs fastai: make test-vision")

    class OwnLabels(fastai.Callback):
        run_valid = False

        def before_batch(self):
            (x,) = self.xb
            lam = torch.distributions.Beta(1.0, 1.0).sample()
            self.learn.xb = (lam * x + (1 - lam) * x[torch.randperm(len(x))],)

    if name == "Vicinal":
        from stacks.programs import FOLDER

        sys.path.insert(0, str(FOLDER))
        from with_fastai import Vicinal

        return Vicinal(vicinal.Mixup(1.0))
    return OwnLabels() if name == "OwnLabels" else getattr(fastai, name)(1.0)


@pytest.fixture
def model_is_left():
    before, mode = {name: value.clone() for name, value in model.state_dict().items()}, model.training
    yield
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training == mode


@pytest.mark.usefixtures("model_is_left")
@pytest.mark.parametrize(
    ("callback", "codes"),
    [("MixUp", []), ("CutMix", []), ("Vicinal", []), ("OwnLabels", ["VIC002"]), (None, ["VIC005"])],
)
def test_a_loop_of_fastai(callback, codes):
    report = vicinal.check(fit(*([] if callback is None else [fastai_callback(callback)])), example=ROWS)
    assert report.codes == codes
    assert not report.skipped


@pytest.mark.usefixtures("model_is_left")
@pytest.mark.parametrize(("function", "codes"), [(collate, []), (collate_own_labels, ["VIC002"])])
def test_a_loop_of_fastai_over_a_loader_that_mixes(function, codes):
    loader = DataLoader(ROWS, 8, collate_fn=function)
    assert vicinal.check(fit(loss=F.cross_entropy), example=loader).codes == codes
