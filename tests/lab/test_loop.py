"""The training loop: what a recipe decides, exact resumption after a kill at any instant, and the same work by many."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vicinal as v
from vicinal.lab import models, recipes
from vicinal.lab.errors import UserError
from vicinal.lab.train import checkpoint, examples, loop
from vicinal.lab.train.distributed import Job
from vicinal.lab.train.recipe import Recipe, override

ALONE = Job(0, 1, torch.device("cpu"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 small pictures each, told apart by their colour."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.Generator(np.random.Philox(5))
    for c, word in enumerate(("blue", "green", "red")):
        (folder / word).mkdir()
        for i in range(20):
            pixels = generator.integers(0, 160, (16, 16, 3), dtype=np.uint8)
            pixels[:, :, 2 - c] += 80
            Image.fromarray(pixels).save(folder / word / f"{i}.png")
    return folder


def recipe(data: Path, **changes: object) -> Recipe:
    values = {
        "data": str(data),
        "network": "small",
        "vicinity": "Mixup(alpha=1.0)",
        "epochs": 3,
        "batch": 8,
        "learning_rate": 0.05,
        "drops": (2,),
        "channels_last": False,
    }
    return Recipe(**{**values, **changes})  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_the_loop_is_the_plain_loop(pictures: Path, tmp_path: Path) -> None:
    """Against the same steps written down one by one, without the loop's classes."""
    what = recipe(pictures, epochs=2, momentum=0.8, weight_decay=0.01)
    loop.train(what, tmp_path / "run", ALONE)
    data, _ = examples.load(what)
    with loop._seeded(v.Key(0, 0, 0, 0, loop._WEIGHTS)):
        network = models.build("small", 3)
    sgd = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.8, weight_decay=0.01)
    mixup, step = v.Mixup(1.0), 0
    for epoch in range(2):
        order = v.Key(0, 0, 0, epoch, loop._ORDER).generator().permutation(len(data))
        for rows in torch.from_numpy(order).split(8):
            x, y = data.batch(rows, v.Key(0, 0, 0, step))
            plan = mixup.plan(len(y), step=step)
            sgd.zero_grad()
            F.cross_entropy(network(plan(x)), plan.target(y)).backward()
            sgd.step()
            step += 1
    for name, value in weights(tmp_path / "run").items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_it_learns_and_reports(pictures: Path, tmp_path: Path) -> None:
    results = loop.train(recipe(pictures, epochs=12, drops=()), tmp_path / "run", ALONE)
    errors = [line["test_error"] for line in results["epochs"]]
    assert results["test_error"]["last"] == errors[-1] < 0.2
    assert results["test_error"]["best"] == min(errors)
    assert results["test_error"]["median_of_last_10"] == sorted(errors[-10:])[4] / 2 + sorted(errors[-10:])[5] / 2
    assert [line["epoch"] for line in results["epochs"]] == list(range(1, 13))
    assert not list((tmp_path / "run").glob("*.ckpt"))
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
    again = loop.train(recipe(pictures, epochs=12, drops=()), tmp_path / "run", ALONE)  # done already
    assert again == results


def test_the_test_error_is_that_of_the_weights(pictures: Path, tmp_path: Path) -> None:
    what = recipe(pictures, epochs=2)
    results = loop.train(what, tmp_path / "run", ALONE)
    _, test = examples.load(what)
    network = models.build("small", 3)
    network.load_state_dict(weights(tmp_path / "run"))
    x, y = test.batch(torch.arange(len(test)), None)
    with torch.no_grad():
        wrong = network.eval()(x).argmax(1) != y
    assert results["test_error"]["last"] == pytest.approx(float(wrong.double().mean()))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam", "learning_rate": 1e-3},
        {"accumulate": 2},
        {"ema": 0.9},
        {"precision": "bfloat16"},
        {"vicinity": "Scheduled(Mixup(alpha=0.2), start=1)", "noise": 0.5},
        {"network": "preact-resnet-18", "dropout": 0.5, "epochs": 1, "examples": 16},
        {"decay_norms": False, "nesterov": True, "warmup_epochs": 2},
        {"channels_last": True},
    ],
)
def test_every_option_resumes_to_the_same_bits(
    pictures: Path, tmp_path: Path, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = recipe(pictures, **changes)
    loop.train(what, tmp_path / "whole", ALONE)

    class Stop(Exception):
        pass

    written = []
    save = checkpoint.save

    def save_then_stop(folder: Path, step: int, state: dict[str, object]) -> Path:
        path = save(folder, step, state)  # type: ignore[arg-type]
        written.append(step)
        if len(written) in (1, 4):
            raise Stop
        return path

    monkeypatch.setattr(checkpoint, "save", save_then_stop)
    for _ in range(2):  # a checkpoint after every step; stopped after the first and the fourth
        try:
            loop.train(what, tmp_path / "parts", ALONE, seconds=0.0)
        except Stop:
            continue
    monkeypatch.undo()
    loop.train(what, tmp_path / "parts", ALONE)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts"))
    for a, b in zip(whole["epochs"], parts["epochs"], strict=True):
        a.pop("examples_per_second"), b.pop("examples_per_second")
        assert a == b


def test_accumulation_changes_nothing_but_memory(pictures: Path) -> None:
    # without batch norm, whose statistics are those of the part
    data, test = examples.load(recipe(pictures))
    results = []
    for accumulate in (1, 4):
        what = recipe(pictures, network="tests_lab_linear:build", accumulate=accumulate)
        run = loop._Run(what, data, test, ALONE)
        for _ in run.steps():
            pass
        results.append([p.detach().clone() for p in run.network.parameters()])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


@pytest.fixture(autouse=True)
def linear_module(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A network without batch norm, as a module of the user's own."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "tests_lab_linear.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, num_classes))\n".replace(
            "nn.LazyLinear(8)", "nn.Linear(3 * 64 * 64, 8)"
        )
    )
    monkeypatch.syspath_prepend(str(folder))


def test_two_processes_see_the_examples_of_one(pictures: Path) -> None:
    what = recipe(pictures)
    seen: dict[int, list[list[int]]] = {}
    for world in (1, 2):
        seen[world] = []
        order = torch.from_numpy(v.Key(0, 0, 0, 0, loop._ORDER).generator().permutation(36))
        for rows in order.split(what.batch):
            shares = [Job(rank, world, torch.device("cpu")).share(rows) for rank in range(world)]
            assert len({len(share) for share in shares}) <= 2
            seen[world].append(sorted(torch.cat(shares).tolist()))
    assert seen[1] == seen[2]


DRIVER = """
import sys, torch
from pathlib import Path
from vicinal.lab.train import distributed, loop
from vicinal.lab.train.recipe import Recipe
torch.set_num_threads(1)
recipe = Recipe(**eval(sys.argv[1]))
with distributed.job() as job:
    loop.train(recipe, Path(sys.argv[2]), job, seconds=0.05)
"""


def command(what: Recipe, folder: Path, processes: int) -> list[str]:
    values = repr({f: getattr(what, f) for f in what.__dataclass_fields__})
    python = [sys.executable]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        script = folder.parent / "driver.py"
        script.write_text(DRIVER)
        return [*python, *launcher, str(script), values, str(folder)]
    return [*python, "-c", DRIVER, values, str(folder)]


def killed_at(args: list[str], seconds: float) -> bool:
    """Start a run, kill it and all its children after so many seconds; whether it was still running."""
    process = subprocess.Popen(args, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        with_children = os.getpgid(process.pid) if process.poll() is None else None
        if with_children is not None:
            os.killpg(with_children, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_instants_it_ends_with_the_same_bits(pictures: Path, tmp_path: Path, processes: int) -> None:
    what = recipe(pictures, epochs=12, drops=(8,))
    (tmp_path / "a").mkdir()
    whole = command(what, tmp_path / "a" / "whole", processes)
    start = time.monotonic()
    subprocess.run(whole, check=True, capture_output=True, timeout=300)
    length = time.monotonic() - start
    generator = np.random.Generator(np.random.Philox(processes))
    parts = command(what, tmp_path / "a" / "parts", processes)
    kills = 0
    for _ in range(2):  # instants from before the first checkpoint to near the end of the run
        kills += killed_at(parts, float(generator.uniform(0.3, 0.9)) * length)
    subprocess.run(parts, check=True, capture_output=True, timeout=300)
    assert kills >= 1
    assert_same_weights(tmp_path / "a" / "whole", tmp_path / "a" / "parts")


@pytest.mark.slow
def test_two_processes_train_as_one_does(pictures: Path, tmp_path: Path) -> None:
    # without mixing, which is drawn for each process, augmentation likewise; and without batch norm
    what = recipe(pictures, epochs=1, examples=32, vicinity="ERM()", network="tests_lab_linear:build")
    (tmp_path / "one").mkdir()
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if "modules" in p)}
    for name, processes in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir(exist_ok=True)
        driver = DRIVER.replace(
            "recipe = Recipe",
            "from vicinal.lab.data.augment import CropFlip\nCropFlip.__call__ = lambda s, x, key: x\nrecipe = Recipe",
        )
        (tmp_path / name / "driver.py").write_text(driver)
        args = command(what, tmp_path / name / "run", processes)
        if processes == 1:
            args = [sys.executable, str(tmp_path / name / "driver.py"), *args[3:]]
        else:
            (tmp_path / name / "driver.py").write_text(driver)
        subprocess.run(args, check=True, capture_output=True, timeout=300, env=env)
    one, two = weights(tmp_path / "one" / "run"), weights(tmp_path / "two" / "run")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000002.ckpt", "step-0000000003.ckpt"]
    newest = tmp_path / "step-0000000003.ckpt"
    content = bytearray(newest.read_bytes())
    content[100] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=r"step-0000000003.ckpt is damaged"):
        assert checkpoint.load_last(tmp_path) == {"step": 2}
    newest.write_bytes(content[:50])
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.load_last(tmp_path) == {"step": 2}


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    import hashlib
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "ran"),)

    content = pickle.dumps(Evil(), protocol=2)
    (tmp_path / "step-0000000001.ckpt").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load_last(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_another_run_is_refused(pictures: Path, tmp_path: Path) -> None:
    loop.train(recipe(pictures, epochs=1), tmp_path / "run", ALONE)
    with pytest.raises(UserError, match="another recipe"):
        loop.train(recipe(pictures, epochs=2), tmp_path / "run", ALONE)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("words")
    with pytest.raises(UserError, match="is not a run"):
        loop.train(recipe(pictures), tmp_path / "else", ALONE)


@pytest.mark.parametrize("name", recipes.all_recipes())
def test_every_recipe_names_a_network_and_a_vicinity_that_exist(name: str) -> None:
    from vicinal.lab import spec

    what = recipes.find(name)
    assert isinstance(spec.parse(what.vicinity), v.Vicinity)
    with torch.device("meta"):
        models.build(what.network, 10)
    doc = recipes.all_recipes()[name].__doc__
    assert doc
    assert doc.startswith(("Section", "Not of the paper"))


def test_learning_rates_follow_the_paper() -> None:
    cifar = recipes.find("cifar10-preact18-mixup")
    assert [cifar.rate(e) for e in (0, 99, 100, 149, 150, 199)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    warm = replace(cifar, warmup_epochs=5, warmup_from=0.1, learning_rate=0.4, drops=(30, 60, 80))  # section 3.1
    rates = [warm.rate(e, p) for e, p in ((0, 0.0), (2, 0.5), (5, 0.0), (29, 0.9), (30, 0.0), (80, 0.0))]
    assert rates == pytest.approx([0.1, 0.25, 0.4, 0.4, 0.04, 0.0004])


def test_overrides_are_read_by_type() -> None:
    got = override(
        Recipe("cifar10", "small"), ["epochs=3", "learning_rate=0.5", "nesterov=true", "drops=1,2", "examples=7"]
    )
    assert (got.epochs, got.learning_rate, got.nesterov, got.drops, got.examples) == (3, 0.5, True, (1, 2), 7)
    assert override(got, ["examples=none", "drops="]).examples is None
    for change, words in (
        ("epoch=3", "did you mean epochs"),
        ("epochs", "field=value"),
        ("epochs=x", "whole number"),
        ("nesterov=maybe", "true or false"),
        ("optimizer=lion", "one of sgd, adam"),
        ("epochs=0", "1 or more"),
        ("learning_rate=nan", "finite"),
        ("ema=1", "in \\[0, 1\\)"),
        ("accumulate=3", "equal parts"),
    ):
        with pytest.raises(UserError, match=words):
            override(got, [change])


def test_label_noise_is_the_papers() -> None:
    labels = torch.zeros(20_000, dtype=torch.int64)
    noisy = examples.corrupt(labels, 10, 0.5, 1)
    assert float((noisy != 0).double().mean()) == pytest.approx(0.45, abs=5 * (0.45 * 0.55 / 20_000) ** 0.5)
    assert torch.equal(noisy, examples.corrupt(labels, 10, 0.5, 1))
    assert not torch.equal(noisy, examples.corrupt(labels, 10, 0.5, 2))
    assert int(labels.sum()) == 0
