"""The queue of GPU measurements: parcels that notice damage, slots that add up, jobs that run, and devices that agree."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bench.gpu import __main__, fast, kernels, parcel, queue
from bench.gpu.jobs import JOBS
from bench.gpu.paper import PaperRun
from bench.gpu.queue import Job, OutOfTime, Slot
from torch import Tensor

import vicinal
from pretend_cuda import CPU, CUDA, PretendCuda, TwoDevices, Waits, here
from vicinal.lab.data import loading
from vicinal.lab.data.augment import CropFlip
from vicinal.lab.errors import UserError
from vicinal.lab.training import loop, recipes, stacked_mlp


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


# ---- parcels


@pytest.fixture(autouse=True)
def _nothing_goes_into_the_data_of_whoever_runs_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A CIFAR folder of two small files, one of them longer than a strip of images."""
    monkeypatch.setitem(parcel.CIFAR, "cifar10", ("cifar-10-batches-bin", ["data_batch_1.bin", "test_batch.bin"], 1))
    folder = tmp_path / "published" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, n in (("data_batch_1.bin", 600), ("test_batch.bin", 7)):
        (folder / name).write_bytes(generator(n).integers(0, 256, (n, 3073), dtype=np.uint8).tobytes())
    return folder.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_cifar_comes_out_as_it_went_in(records: Path, tmp_path: Path) -> None:
    parts = parcel.cifar("cifar10", records, tmp_path / "parcel")
    parcel.unpack(parts, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(records)


def test_flat_images_get_smaller() -> None:
    rows = np.zeros((20, 3073), np.uint8)
    rows[:, 1:] = np.arange(20)[:, None]
    coded = parcel._to_webp(rows.tobytes(), 1)
    assert len(coded) < rows.nbytes / 20
    assert parcel._from_webp(coded) == rows.tobytes()


def test_two_label_bytes_as_in_cifar_100() -> None:
    rows = generator(3).integers(0, 256, (5, 3074), dtype=np.uint8).tobytes()
    assert parcel._from_webp(parcel._to_webp(rows, 2)) == rows


def test_parts_keep_their_size_and_arrive_in_any_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parcel, "PIECE", 100)
    what = {"a/one": generator().bytes(950), "two": generator(1).bytes(3), "empty": b""}
    parts = parcel.cut(what, "data", tmp_path / "parcel", part=300)
    assert len(parts) == 4
    assert all(sum(p.stat().st_size for p in part.glob("piece-*")) <= 300 for part in parts)
    work = tmp_path / "work"
    answers = [queue.take([part], work) for part in reversed(parts)]
    assert answers[0] == "data: 1 of 10 pieces are here"
    assert answers[-1] == "data: 3 files, whole"
    assert contents(work / "data") == what
    assert queue.take([parts[0]], work) == "data: here already"


def test_a_damaged_piece_is_named_and_nothing_is_written(records: Path, tmp_path: Path) -> None:
    (part,) = parcel.cifar("cifar10", records, tmp_path / "parcel")
    piece = part / "piece-000"
    whole = piece.read_bytes()
    for damaged in (whole[:-1], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        piece.write_bytes(damaged)
        with pytest.raises(UserError, match=r"piece-000' arrived damaged .* send its part again"):
            queue.take([part], tmp_path / "work")
        with pytest.raises(UserError, match="arrived damaged"):
            parcel.unpack([part], tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "work").exists()
    piece.unlink()
    with pytest.raises(UserError, match=r"piece-000 of 1 pieces are not there"):
        parcel.unpack([part], tmp_path / "out")


def test_parts_of_two_parcels_do_not_mix(tmp_path: Path) -> None:
    one = parcel.cut({"a": b"1"}, "data", tmp_path / "one")
    two = parcel.cut({"a": b"2"}, "data", tmp_path / "two")
    with pytest.raises(UserError, match="parts of different parcels"):
        parcel.unpack([*one, *two], tmp_path / "out")


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out"])
def test_a_parcel_cannot_write_outside_its_folder(name: str, tmp_path: Path) -> None:
    parts = parcel.cut({name: b"x"}, "data", tmp_path / "parcel")
    with pytest.raises(UserError, match="outside its folder"):
        parcel.unpack(parts, tmp_path / "deep" / "er")
    assert not (tmp_path / "out").exists()


# ---- the queue


def a_job(name: str, seconds: float, clock: list[float], log: list[str]) -> Job:
    """Three parts that take `seconds` each of a clock that is moved by hand."""

    def part(i: int) -> int:
        clock[0] += seconds
        log.append(f"{name}{i}")
        return i * i

    return Job(name, 1, "-", lambda slot: [slot.part(str(i), seconds, lambda i=i: part(i)) for i in range(3)])


def results(work: Path, name: str) -> Any:
    return json.loads((work / "state" / "results" / f"{name}.json").read_text())["result"]


def test_slots_go_on_in_order_where_the_last_one_ended(tmp_path: Path) -> None:
    clock, log = [0.0], []
    jobs = [a_job("a", 60, clock, log), a_job("b", 60, clock, log)]
    seen = []
    work = tmp_path / "slot-0"
    for i in range(4):
        seen.append(queue.run(jobs, work, CPU, 2.5, clock=lambda: clock[0]))
        parts = queue.pack_state(work)
        work = tmp_path / f"slot-{i + 1}"  # the next machine knows nothing
        assert queue.take(parts, work).endswith("whole")
    assert log == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert seen[0] == {"a": "begun", "b": "not begun"}
    assert seen[1] == {"a": "done", "b": "begun"}
    assert seen[2] == {"a": "done before", "b": "done"}
    assert seen[3] == {"a": "done before", "b": "done before"}
    assert results(work, "a") == results(work, "b") == [0, 1, 4]


def test_a_part_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    clock, log = [0.0], []
    outcome = queue.run([a_job("a", 100, clock, log)], tmp_path, CPU, 99 / 60, clock=lambda: clock[0])
    assert (outcome, log) == ({"a": "begun"}, [])


def test_what_fails_is_written_down_and_costs_no_other_job(tmp_path: Path) -> None:
    healed = []

    def breaks(slot: Slot) -> list[Any]:
        def second() -> int:
            if not healed:
                raise ArithmeticError("no such shape")
            return 2

        return [slot.part("one", 0, lambda: 1), slot.part("two", 0, second), slot.part("three", 0, lambda: 3)]

    def crashes(slot: Slot) -> None:
        if not healed:
            raise RuntimeError("at once")

    jobs = [Job("parts", 1, "-", breaks), Job("whole", 1, "-", crashes), Job("fine", 1, "-", lambda slot: 4)]
    assert queue.run(jobs, tmp_path, CPU, None) == {"parts": "failed", "whole": "failed", "fine": "done"}
    one, two, three = results(tmp_path, "parts")
    assert (one, three) == (1, 3)
    assert "no such shape" in two["failed"]
    assert "at once" in (tmp_path / "state" / "failed" / "whole.txt").read_text()
    again = queue.run(jobs, tmp_path, CPU, None)
    assert again == {"parts": "failed before", "whole": "failed before", "fine": "done before"}
    healed.append(True)
    parts, work = queue.pack_state(tmp_path), tmp_path / "next"
    queue.take(parts, work)
    assert queue.run(jobs, work, CPU, None, retry=True) == {"parts": "done", "whole": "done", "fine": "done before"}
    assert results(work, "parts") == [1, 2, 3]


def test_a_job_without_its_data_is_passed_over(tmp_path: Path) -> None:
    jobs = [Job("a", 1, "-", lambda slot: 1, ("cifar100",)), Job("b", 1, "-", lambda slot: 2)]
    assert queue.run(jobs, tmp_path, CPU, None) == {"a": "lacks cifar100", "b": "done"}


def test_a_state_does_not_fall_upon_another(tmp_path: Path) -> None:
    job = [Job("a", 1, "-", lambda slot: 1)]
    for name in ("one", "two"):
        queue.run(job, tmp_path / name, CPU, None)
    queue.run([Job("b", 1, "-", lambda slot: 1)], tmp_path / "two", CPU, None)
    with pytest.raises(UserError, match="has a state of its own"):
        queue.take(queue.pack_state(tmp_path / "two"), tmp_path / "one")


def test_a_run_cut_off_twice_is_the_run_that_was_not(tmp_path: Path) -> None:
    run = PaperRun(recipes.cifar10_noise50_mixup())
    job = [Job("run", 1, "-", run)]
    assert queue.run(job, tmp_path / "whole", CPU, None, smoke=True) == {"run": "done"}
    work, asked = tmp_path / "slot-0", []
    over_after = {0: 4, 1: 3}  # steps of the first two slots, in the middle of an epoch each

    for i in range(3):
        steps = [0]

        def left(i: int = i, steps: list[int] = steps) -> float:
            steps[0] += 1
            return 100.0 if steps[0] <= over_after.get(i, 10**6) else 0.0  # the first is asked before training

        class Short(Slot):
            def left(self) -> float:
                return left()

        folder = work / "state" / "jobs" / "run"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            done = run(Short(folder, CPU, True, lambda: 0.0))
        except OutOfTime:
            asked.append(i)
            parts = queue.pack_state(work)
            work = tmp_path / f"slot-{i + 1}"
            queue.take(parts, work)
        else:
            uninterrupted = results(tmp_path / "whole", "run")

            def told(result: dict[str, Any]) -> list[dict[str, Any]]:
                return [{k: v for k, v in e.items() if k != "examples_per_second"} for e in result["epochs"]]

            assert told(done) == told(uninterrupted)
    assert asked == [0, 1]
    runs = [tmp_path / "whole" / "state" / "jobs" / "run" / "run", work / "state" / "jobs" / "run" / "run"]
    first, second = (torch.load(folder / "weights.pt", weights_only=True) for folder in runs)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


# ---- the jobs


def test_the_list_names_each_job_once_with_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    names = [job.name for job in JOBS]
    assert len(set(names)) == len(names)
    assert names[:2] == ["kernels", "throughput"]
    assert all(set(job.data) <= set(parcel.CIFAR) and job.minutes > 0 and job.estimate for job in JOBS)
    assert __main__.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]] == names


KINDS = ("kernels", "throughput", "cifar10-mixup-seed0", "fleet", "imagenet", "fast", "wrn-28-10-mixup")


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_job_runs_dry(name: str, tmp_path: Path) -> None:
    (job,) = [job for job in JOBS if job.name == name]
    outcome = queue.run([job], tmp_path, CPU, None, smoke=True)
    record = json.loads((tmp_path / "state" / "results" / f"{name}.json").read_text())
    assert outcome == {name: "done"}, [part for part in record["result"].values() if "failed" in part]
    assert record["smoke"] is True
    assert record["failed_parts"] == []


def test_what_needs_cuda_says_so_in_the_results(tmp_path: Path) -> None:
    slot = Slot(tmp_path, CPU, True, lambda: 1e9)
    step = kernels.whole_step(slot, "small")
    reason = {"not available": "no CUDA here: the device is cpu"}
    assert step["times"]["CUDA graph"] == reason
    assert step["times"]["eager"]["ratio"][1] == 1
    rows = kernels.mixing(slot, (4, 3, 8, 8), torch.float32, "contiguous")
    without = {name for name, row in rows.items() if row == reason}
    assert len(without) == 6
    assert all("compiled" in name or "hand-written" in name for name in without)
    assert all(row["share"] == pytest.approx(1.5 / row["ratio"][1]) for row in rows.values() if row != reason)


def test_the_step_for_a_graph_is_the_plain_step() -> None:
    step = kernels.MixedStep("small", 6, CPU)
    plain = kernels.MixedStep("small", 6, CPU)
    for number in range(3):
        for each in (step, plain):
            each.fill(number)
        step.take()
        out = plain.model(plain.x.lerp(plain.x[plain.partner], (1 - plain.weight).view(-1, 1, 1, 1)))
        of = [F.cross_entropy(out, ids, reduction="none") for ids in (plain.y, plain.y[plain.partner])]
        plain.sgd.zero_grad()
        loss = (plain.weight * of[0] + (1 - plain.weight) * of[1]).mean()
        loss.backward()
        plain.sgd.step()
        torch.testing.assert_close(step.loss, loss.detach(), rtol=1e-4, atol=1e-5)


def test_the_first_layer_of_the_fast_model_whitens() -> None:
    x = torch.from_numpy(generator(4).standard_normal((40, 3, 16, 16), dtype="float32"))
    x = F.avg_pool2d(x, 3, 1, 1) * 3 + 1  # neighbors alike, and a mean
    model = fast.FastNet(4, (8, 8, 8))
    model.whiten(x)
    out = model.white(x).transpose(0, 1).flatten(1)  # [24, places]
    torch.testing.assert_close(out[:12].cov(), torch.eye(12), rtol=0.02, atol=0.02)
    torch.testing.assert_close(out[12:], -out[:12])
    assert model(x).shape == (40, 4)
    assert not model.white.weight.requires_grad


def test_the_triangle_and_the_time_to_an_error() -> None:
    assert [fast.triangle(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.2, 0.6, 1.0, 0.5, 0.0])
    lines = [
        {"vicinity": v, "epochs": e, "seconds": 10.0 * e, "error": error}
        for v, e, error in [("A", 1, 0.05), ("A", 1, 0.03), ("A", 2, 0.03), ("B", 1, 0.041), ("B", 2, 0.05)]
    ]
    assert fast.time_to(lines, 0.035) == {"A": {"epochs": 2, "seconds": [20.0], "errors": [0.03]}}
    assert {v: found["epochs"] for v, found in fast.time_to(lines, 0.042).items()} == {"A": 1, "B": 1}


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = ["--work", str(tmp_path)]
    for argv, said in {
        ("next", "--device", "cpu"): "no CUDA device here: --smoke",
        ("next", "--smoke", "--jobs", "kernel"): "no job kernel: see --list",
        ("pack", "mnist", "folder"): "no dataset 'mnist' to pack",
        ("part", "0", "--out", str(tmp_path / "out")): "no part 0",
        (): "nothing was asked for",
    }.items():
        assert __main__.main([*argv, *work]) == 1
        assert said in capsys.readouterr().err


def test_the_command_runs_a_slot_and_sends_it_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path))
    first, second, out = (str(tmp_path / name) for name in ("first", "second", "out"))
    once = ["next", "--smoke", "--jobs", "fleet", "--device", "cpu", "--minutes", "9", "--out", out]
    assert __main__.main([*once, "--work", first]) == 0
    assert "fleet: done\n" in capsys.readouterr().out
    assert __main__.main([*once, "--work", second, "--state", out]) == 0
    assert "fleet: done before\n" in capsys.readouterr().out
    assert contents(Path(first) / "state" / "results") == contents(Path(second) / "state" / "results")


# ---- on a GPU that is not there


def a_fleet(device: torch.device, vicinity: vicinal.Vicinity) -> list[Tensor]:
    """Train four runs, of which the third leaves early, and give all weights and those of the best epochs."""
    x = torch.from_numpy(generator(5).standard_normal((2, 37, 5), dtype="float32"))
    data = stacked_mlp.StackedSplit(x.to(device), (x[:, :, 0] > 0).long().to(device))
    runs = [stacked_mlp.MLPRun(i % 2, i, vicinity, learning_rate=[0.1, 0.2][i // 2]) for i in range(4)]
    seen: list[stacked_mlp.StackedMLP] = []

    def score(models: stacked_mlp.StackedMLP, mine: Sequence[stacked_mlp.MLPRun]) -> list[float]:
        seen.append(models)
        return [0.0 if run.seed == 2 else -float(len(seen)) for run in mine]

    trained = stacked_mlp.train(runs, data, 2, stacked_mlp.Training(epochs=3, hidden=(8,), patience=1), score=score)
    assert [len(models) for models in seen] == [4, 4, 3]
    assert trained.epochs == [3, 3, 1, 3]
    weights = [w for n in (trained.models, seen[-1]) for w in (*n.weights, *n.biases)]
    assert {w.device.type for w in weights} == {device.type}
    return weights


@pytest.mark.parametrize("vicinity", [vicinal.Mixup(0.4), vicinal.LabelSmoothing(0.1)], ids=repr)
def test_a_fleet_computes_where_its_data_are(vicinity: vicinal.Vicinity) -> None:
    expected = a_fleet(CPU, vicinity)
    with PretendCuda(reads=isinstance(vicinity, vicinal.LabelSmoothing)):  # `dense` checks the ids
        weights = a_fleet(CUDA, vicinity)
    for got, exact in zip(weights, expected, strict=True):
        assert torch.equal(here(got), exact)


def steps_of_the_loop(device: torch.device) -> list[Tensor]:
    """Take the three steps of an epoch of `vicinal train`, and give its sums and the model's weights."""
    images = torch.from_numpy(generator(6).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8))
    data = loading.InMemoryDataset(images, torch.arange(20) % 3, ("a", "b", "c"), (0.5,) * 3, (0.2,) * 3, CropFlip(2))
    recipe = replace(recipes.cifar10_preact18_mixup(), model="small", batch_size=8, grad_accum_steps=2, ema_decay=0.9)
    training = loop._Run(recipe, data.to(device), data.to(device), loop.Processes(0, 1, device))
    assert [training.progress()[0] for _ in training.steps()] == [1, 2, 3]
    return [training._sums, *training.model.state_dict().values(), *(training._average or [])]


def test_a_step_of_the_loop_reads_nothing_from_a_gpu() -> None:
    expected = steps_of_the_loop(CPU)
    with PretendCuda():
        there = steps_of_the_loop(CUDA)
    for got, exact in zip(there, expected, strict=True):
        # losses are float32, summed in float64; the loss takes another path where its shares may not be looked at
        torch.testing.assert_close(here(got), exact, rtol=1e-6, atol=1e-6)


class Moves(PretendCuda):
    """Notes what is copied to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, to = getattr(func, "__name__", ""), [*args[1:], *(kwargs or {}).values()]
        if name in ("to", "tensor", "as_tensor") and CUDA in [t for t in to if isinstance(t, torch.device)]:
            self.seen.append(name)
        return super().__torch_function__(func, types, args, kwargs)


def test_mean_and_deviation_are_put_on_a_device_once() -> None:
    pixels = torch.from_numpy(generator().integers(0, 256, (6, 3, 4, 4), dtype=np.uint8))
    mean, deviation = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    data = loading.InMemoryDataset(pixels, torch.arange(6), tuple("abcdef"), mean, deviation)
    rows = torch.tensor([4, 0])
    shift, scale = (np.array(t).reshape(3, 1, 1) for t in (mean, deviation))
    expected = (pixels[rows].numpy() / 255.0 - shift) / scale
    with Moves() as moves:
        there = data.to(CUDA)
        assert moves.seen == ["to", "to", "tensor", "tensor"]  # inputs and labels, mean and deviation
        moves.seen.clear()
        batches = [there.batch(rows, None)[0] for _ in range(3)]
        assert moves.seen == ["to"] * 3  # the row numbers
    for x in batches:
        np.testing.assert_allclose(here(x), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(here(x), data.batch(rows, None)[0])


def test_the_tests_above_would_notice() -> None:
    with PretendCuda():
        x = torch.ones(2, device="cuda")
        assert float(here((x + 1)[0])) == 2
        with pytest.raises(TwoDevices):
            x.add(torch.ones(2))
        with pytest.raises(TwoDevices):
            torch.stack([x, torch.ones(2)])
        for read in (bool, float, Tensor.tolist, Tensor.cpu):
            with pytest.raises(Waits):
                read(x.sum())
