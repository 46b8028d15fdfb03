"""FiniteCheck: what is not finite is named with its rows or its parameter, at its step, and the batch is saved."""

import math
import os
import resource

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vicinal as v
from vicinal.finite import NonFinite

INF, NAN = math.inf, math.nan


def model():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p))
    return net


def rows(n=6):
    return torch.arange(3.0 * n).view(n, 3) / 10


def labels(n=6):
    return torch.arange(n) % 2


def trained():
    net = model()
    out = net(rows())
    loss = F.cross_entropy(out, labels())
    loss.backward()
    return net, out.detach(), loss.detach()


def put(t, at, value):
    t = t.clone()
    t[at] = value
    return t


def test_a_finite_step_passes():
    net, out, loss = trained()
    check = v.FiniteCheck(net)
    assert check.find(rows(), labels(), output=out, loss=loss) is None
    assert check(rows(), labels(), step=0, output=out, loss=loss) is None
    assert check.find() is None


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_the_rows_of_an_input(dtype, value):
    x = put(rows().to(dtype), (torch.tensor([1, 4]), torch.tensor([0, 2])), value)
    found = v.FiniteCheck().find(x)
    assert found == NonFinite("input", "input", "nan" if math.isnan(value) else "inf", (1, 4), 6)


def test_what_is_named_is_the_first_in_the_order_of_causes():
    net, out, loss = trained()
    check = v.FiniteCheck(net)
    bad_loss, bad_out = torch.tensor(NAN), put(out, (3, 1), INF)
    net[2].weight.grad[0, 0] = NAN
    net[0].bias.grad[0] = INF
    assert check.find(rows(), output=out, loss=loss) == NonFinite("gradient", "0.bias", "inf", (), 0, ("2.weight",))
    assert check.find(rows(), output=out, loss=bad_loss) == NonFinite("loss", "loss", "nan")
    assert check.find(rows(), output=bad_out, loss=bad_loss) == NonFinite("output", "output", "inf", (3,), 6)
    with torch.no_grad():
        net[1].running_var[2] = INF
    assert check.find(rows(), output=bad_out).what == "buffer"
    with torch.no_grad():
        net[2].bias[1] = NAN
    assert check.find(rows(), output=bad_out) == NonFinite("parameter", "2.bias", "nan")
    y = put(torch.ones(6), 5, NAN)
    assert check.find(rows(), y, output=bad_out) == NonFinite("target", "target", "nan", (5,), 6)
    assert check.find(put(rows(), 0, INF), y, output=bad_out) == NonFinite("input", "input", "inf", (0,), 6)


def test_gradients_are_left_to_a_gradient_scaler():
    net, out, loss = trained()
    net[0].bias.grad[0] = INF
    assert v.FiniteCheck(net, gradients=False).find(rows(), output=out, loss=loss) is None
    assert v.FiniteCheck(net).find(rows(), output=out, loss=loss).what == "gradient"


def test_losses_by_row_and_losses_that_are_numbers():
    assert v.FiniteCheck().find(loss=torch.tensor([0.0, INF, 1.0])) == NonFinite("loss", "loss", "inf", (1,), 3)
    assert v.FiniteCheck().find(loss=NAN) == NonFinite("loss", "loss", "nan")
    assert v.FiniteCheck().find(loss=np.float64("inf")) == NonFinite("loss", "loss", "inf")


def test_nests_are_named_and_what_holds_no_numbers_is_passed_over():
    nest = {"image": rows(), "id": torch.arange(6), "name": ["a", "b"], "meta": (None, np.array([1.0, NAN]))}
    assert v.FiniteCheck().find(nest) == NonFinite("input", "input['meta'][1]", "nan", (1,), 2)
    circle: list = []
    circle.append(circle)
    with pytest.raises(TypeError, match="this input is nested more than 16 levels deep, or holds itself"):
        v.FiniteCheck().find(circle)


def test_mixed_targets_and_sparse_gradients():
    y = v.MixedTarget(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[0.5, 0.5, 1.0], [0.5, 0.5, 0.0]]))
    y.weight = put(y.weight, (0, 1), NAN)
    assert v.FiniteCheck().find(None, y) == NonFinite("target", "target", "nan", (1,), 3)
    table = nn.Embedding(5, 2, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    assert v.FiniteCheck(table).find() is None
    table(torch.tensor([3])).log().sum().mul(NAN).backward()
    assert v.FiniteCheck(table).find() == NonFinite("gradient", "weight", "nan")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_numbers_are_finite(dtype):
    big = torch.full((40, 3), torch.finfo(dtype).max, dtype=dtype)
    net = nn.Linear(3, 40).to(dtype)
    net.weight.grad = big.clone()
    assert v.FiniteCheck(net).find(big, big, output=big, loss=big) is None
    net.weight.grad[7, 1] = INF
    assert v.FiniteCheck(net).find(big).name == "weight"


def test_the_batch_is_saved_and_can_be_run_again(tmp_path):
    net, folder = model(), tmp_path / "runs" / "faults"
    plan = v.Mixup(0.4, seed=2**64 - 1).plan(6, step=3)
    x = put(rows(), (2, 0), NAN)
    mixed = plan.target(labels())
    with pytest.raises(
        FloatingPointError, match=r"at step 3 the input holds nan in 1 of 6 rows \(2\): .*saved in '.*-step3-rank0.pt'"
    ):
        v.FiniteCheck(net, folder)(
            x[:, :2], mixed, step=3, plan=plan, loss=1.5, also={"epoch": np.int64(4), "net": net}
        )
    assert os.listdir(folder) == ["nonfinite-step3-rank0.pt"]
    saved = torch.load(folder / "nonfinite-step3-rank0.pt", weights_only=True)
    assert torch.equal(saved["x"].nan_to_num(), x[:, :2].nan_to_num())
    assert saved["x"].untyped_storage().nbytes() == 6 * 2 * 4
    assert torch.equal(saved["y"]["ids"], mixed.ids)
    assert torch.equal(v.plan_from_dict(saved["plan"])(rows()), plan(rows()))
    assert (saved["format"], saved["step"], saved["rank"], saved["loss"]) == (1, 3, 0, 1.5)
    assert saved["also"] == {"epoch": 4, "net": "(Sequential, not saved)"}
    assert saved["found"] == {
        **{"what": "input", "name": "input", "value": "nan", "rows": [2], "size": 6, "others": []},
    }


def test_a_folder_that_cannot_be_written_hides_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    check = v.FiniteCheck(None, tmp_path / "file")
    with pytest.raises(FloatingPointError, match=r"at step 0 the loss holds nan: .*; the batch could not be saved in"):
        check(step=0, loss=NAN)


def test_a_file_that_is_cut_off_does_not_appear(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(FloatingPointError, match="could not be saved"):
            v.FiniteCheck(None, tmp_path)(torch.zeros(10_000), step=0, loss=NAN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_it_is_refused_what_is_no_model():
    with pytest.raises(
        TypeError, match=r"model is a torch.nn.Module whose gradients are looked at, or None, not 'faults'"
    ):
        v.FiniteCheck("faults")
    with pytest.raises(ValueError, match="made without a folder"):
        v.FiniteCheck().save(NonFinite("loss", "loss", "nan"), step=0)
