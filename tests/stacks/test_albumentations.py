"""albumentations: images one by one, then the batch; image and mask with one draw; boxes and key points are refused."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate

import vicinal
from stacks.programs import printed_by
from vicinal.keyed import Key

A = pytest.importorskip("albumentations", reason="needs albumentations: pip install albumentations")
from albumentations.pytorch import ToTensorV2  # noqa: E402

ROWS, BATCH, CLASSES, IGNORED = 12, 4, 3, 255
RANDOM = Key(0, 0, 0, 0).generator()
IMAGES = RANDOM.integers(0, 256, size=(ROWS, 8, 6, 3)).astype(np.uint8)
MASKS = RANDOM.integers(0, CLASSES, size=(ROWS, 8, 6)).astype(np.uint8)
MASKS[:, 0] = IGNORED
LABELS = np.arange(ROWS) % CLASSES


class Augmented(Dataset):
    def __init__(self, *names, **options):
        flips = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        self.names, self.transform = names, A.Compose([*flips, ToTensorV2()], seed=3, **options)

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        done = self.transform(image=IMAGES[i], mask=MASKS[i])
        return {name: {**done, "label": LABELS[i]}[name] for name in self.names}


def mixup():
    return vicinal.Mixup(1.0, seed=5)


def test_the_program(tmp_path):
    printed = printed_by("with_albumentations", tmp_path)
    assert float(re.fullmatch(r"test accuracy (\S+)\n", printed)[1]) > 0.92


def test_there_is_no_mixup_in_albumentations_itself():
    assert not [name for name in dir(A) if name.lower() in ("mixup", "cutmix")]


@pytest.mark.parametrize("vicinity", [mixup(), vicinal.CutMix(1.0, seed=5)])
def test_an_image_and_its_mask_are_augmented_together_and_mixed_with_one_draw(vicinity):
    names = ("image", "mask")
    plain = DataLoader(Augmented(*names), BATCH)
    loader = DataLoader(Augmented(*names), BATCH, collate_fn=vicinal.Collate(vicinity, target="mask"))
    flipped = 0
    for step, (batch, before) in enumerate(zip(loader, plain, strict=True)):
        image, mask = before["image"], before["mask"]
        flipped += sum(not np.array_equal(m, MASKS[step * BATCH + i]) for i, m in enumerate(mask.numpy()))
        plan = vicinity.plan(BATCH, mask, image, step=step)
        assert batch["image"].dtype == torch.uint8
        assert torch.equal(batch["image"], plan(image))
        logits = torch.randn(BATCH, CLASSES, 8, 6)
        loss = F.cross_entropy(logits, batch["mask"], ignore_index=IGNORED)
        assert torch.equal(loss, F.cross_entropy(logits, plan.target(mask), ignore_index=IGNORED))
        rows = F.cross_entropy(logits, mask.long(), ignore_index=IGNORED, reduction="none")
        if isinstance(
            vicinity, vicinal.Mixup
        ):  # by hand: the loss on either mask, by the shares of what is not ignored
            own, other = plan.weight.view(-1, 1, 1), plan.partner
            crossed = F.cross_entropy(logits, mask.long()[other], ignore_index=IGNORED, reduction="none")
            shares = own * (mask != IGNORED) + (1 - own) * (mask[other] != IGNORED)
            by_hand = (own * rows + (1 - own) * crossed).sum() / shares.sum()
            torch.testing.assert_close(loss, by_hand, atol=1e-6, rtol=0)
    assert flipped > 0


def test_images_of_bytes_are_mixed_and_rounded_once():
    images = torch.from_numpy(IMAGES[:BATCH]).permute(0, 3, 1, 2)
    loader = DataLoader(Augmented("image", "label"), BATCH, collate_fn=vicinal.Collate(mixup()))
    before = next(iter(DataLoader(Augmented("image", "label"), BATCH)))["image"]
    batch, plan = next(iter(loader)), mixup().plan(BATCH, step=0)
    own = plan.weight.double().view(-1, 1, 1, 1)
    exact = own * before + (1 - own) * before[plan.partner]
    assert (batch["image"].double() - exact).abs().max() <= 0.5 + 1e-4
    assert before.shape == images.shape
    assert torch.equal(batch["label"].ids, plan.target(torch.from_numpy(LABELS[:BATCH])).ids)


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (
            {"bbox_params": A.BboxParams("pascal_voc", label_fields=["kind"])},
            {"bboxes": [[0.0, 0.0, 4.0, 4.0]], "kind": [1]},
        ),
        ({"keypoint_params": A.KeypointParams("xy")}, {"keypoints": [[1.0, 2.0]]}),
    ],
    ids=["boxes", "key points"],
)
def test_boxes_and_key_points_are_refused(options, given):
    transform = A.Compose([A.HorizontalFlip(p=1), ToTensorV2()], **options)
    given = {name: np.array(part) for name, part in given.items()}
    rows = [transform(image=image, **given) | {"label": label} for image, label in zip(IMAGES, LABELS, strict=True)]
    places = "bboxes" if "bboxes" in given else "keypoints"
    rows = [{name: row[name] for name in ("image", places, "label")} for row in rows]
    with pytest.raises(TypeError, match=rf"input\['{places}'\] holds boxes or key points"):
        vicinal.Collate(mixup())(rows)


def test_what_is_no_batch_of_tensors_is_refused():
    flip = A.Compose([A.HorizontalFlip(p=1)])
    arrays = [flip(image=image)["image"] for image in IMAGES[:BATCH]]
    labels = torch.from_numpy(LABELS[:BATCH])
    with pytest.raises(TypeError, match=r"torch\.from_numpy\(input\)"):
        mixup()(np.stack(arrays), labels)
    with pytest.raises(ValueError, match="channels_last=True"):  # without ToTensorV2 the channels are last
        vicinal.CutMix(1.0)(default_collate(arrays), labels)
    with pytest.raises(TypeError, match="mix after the DataLoader"):  # one image, in the Dataset
        mixup()(ToTensorV2()(image=IMAGES[0])["image"], int(LABELS[0]))
