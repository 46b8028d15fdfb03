"""torchvision's own kinds of tensors go through a plan as what they are: images, videos, masks; places are refused."""

import pytest
import torch

import vicinal as v

tv_tensors = pytest.importorskip("torchvision.tv_tensors", reason="needs torchvision: make test-vision")

N = 5
PLAN = v.MixPlan(torch.tensor([1, 0, 4, 2, 2]), torch.tensor([0.75, 0.5, 0.25, 1.0, 0.0]))


def test_images_videos_and_masks_are_mixed_and_places_refused():
    images, mask = torch.rand(N, 3, 6, 5), torch.arange(N * 30).view(N, 6, 5) % 3
    places = [
        tv_tensors.BoundingBoxes(torch.zeros(N, 4), format="XYXY", canvas_size=(8, 8)),
        tv_tensors.BoundingBoxes(torch.zeros(N, 4, dtype=torch.int64), format="XYXY", canvas_size=(8, 8)),
    ]
    if hasattr(tv_tensors, "KeyPoints"):
        places.append(tv_tensors.KeyPoints(torch.zeros(N, 2), canvas_size=(8, 8)))
    for boxes in places:
        for call in (PLAN, PLAN.target, lambda x: PLAN.target({"a": x}), lambda x: v.CutMix(1.0)(images, x)):
            with pytest.raises(TypeError, match="the average of two boxes lies in neither image"):
                call(boxes)
    assert torch.equal(PLAN(tv_tensors.Image(images)), PLAN(images))
    video = torch.rand(N, 2, 3, 4, 4)
    assert torch.equal(PLAN({"video": tv_tensors.Video(video)})["video"], PLAN(video))
    assert torch.equal(PLAN.target(tv_tensors.Mask(mask)).ids, PLAN.target(mask).ids)
    listed = PLAN([tv_tensors.Image(image) for image in images])
    assert torch.equal(torch.stack(listed), PLAN(images))
