"""A hundred small models: the fleet beside a plain PyTorch loop and scikit-learn, on breast_cancer, all of it counted.

Every candidate trains an MLP 30-128-128-2 with Adam, batch 16, 10 epochs, on 60 % of the rows; mixup for ours and for
the plain loop, none for scikit-learn's, which cannot. The plain loop is timed over a few runs, and scaled; so is
scikit-learn's. Times are wall clock, of whole jobs: plans, initial weights, training and the test error.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import joblib
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_model import MLPClassifier
from sklearn.preprocessing import StandardScaler

import vicinal
from bench import timing
from vicinal.lab.compare.table_comparison import FLEET
from vicinal.lab.models.mlp import MLP
from vicinal.lab.training import stacked_mlp

EPOCHS, BATCH = 10, 16


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.Generator(np.random.Philox(1)).permutation(len(x))
    x = StandardScaler().fit_transform(x).astype(np.float32)[order]
    cut = int(0.6 * len(x))
    return x[:cut], y[order][:cut], x[cut:], y[order][cut:]


def plain_loop(seed: int) -> float:
    """One run as the reference does it."""
    x, y, x_test, y_test = map(torch.from_numpy, data())
    generator = np.random.Generator(np.random.Philox(seed))
    model = MLP(x.shape[1], (128, 128), 2)
    adam = torch.optim.Adam(model.parameters())
    for _ in range(EPOCHS):
        for rows in torch.from_numpy(generator.permutation(len(x))).split(BATCH):
            xb, yb = x[rows], y[rows]
            lam = float(generator.beta(0.4, 0.4))
            index = torch.from_numpy(generator.permutation(len(rows)))
            mixed = lam * xb + (1 - lam) * xb[index]
            out = model(mixed)
            loss = lam * F.cross_entropy(out, yb) + (1 - lam) * F.cross_entropy(out, yb[index])
            adam.zero_grad()
            loss.backward()
            adam.step()
    with torch.no_grad():
        return float((model(x_test).argmax(1) != y_test).float().mean())


def sklearn_run(seed: int) -> float:
    x, y, x_test, y_test = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((128, 128), batch_size=BATCH, max_iter=EPOCHS, random_state=seed, n_iter_no_change=10**6)
        return 1 - model.fit(x, y).score(x_test, y_test)


def chunk(seeds: list[int]) -> list[float]:
    """One fleet of runs."""
    torch.set_num_threads(1)
    x, y, x_test, y_test = map(torch.from_numpy, data())
    runs = [stacked_mlp.MLPRun(0, seed, vicinal.Mixup(0.4)) for seed in seeds]
    models = stacked_mlp.train(
        runs, stacked_mlp.StackedSplit(x[None], y[None]), 2, stacked_mlp.Training(EPOCHS, BATCH)
    ).models
    return (models.outputs(x_test).argmax(-1) != y_test).float().mean(1).tolist()


def chunks(n: int, size: int = FLEET) -> list[list[int]]:
    return [list(range(n))[i : i + size] for i in range(0, n, size)]


def timed(job: Any) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def main() -> None:
    args = timing.arguments(__doc__ or "", runs=100, most=1000)
    args.rounds = min(args.rounds, 3)
    n, jobs = args.runs, min(2, os.cpu_count() or 1)
    few = 4
    pool = ProcessPoolExecutor(jobs, get_context("forkserver"))
    list(pool.map(chunk, [[0]] * jobs))  # warm
    parallel = joblib.Parallel(n_jobs=jobs)
    parallel(joblib.delayed(sklearn_run)(seed) for seed in range(jobs))
    plain_loop(0)
    chunk([0])
    candidates = {
        f"plain loop, 1 process ({few} runs, scaled)": lambda: (
            timed(lambda: [plain_loop(s) for s in range(few)]) * n / few
        ),
        f"sklearn MLPClassifier, n_jobs={jobs}, no mixup (20 runs, scaled)": lambda: (
            timed(lambda: parallel(joblib.delayed(sklearn_run)(s) for s in range(20))) * n / 20
        ),
        "fleet, 1 process": lambda: timed(lambda: [chunk(c) for c in chunks(n)]),
        f"fleet, {jobs} processes": lambda: timed(lambda: list(pool.map(chunk, chunks(n, math.ceil(n / jobs / 3))))),
    }
    order = np.random.Generator(np.random.Philox(0))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(args.rounds):
        for i in order.permutation(len(candidates)):
            name = list(candidates)[i]
            times[name].append(candidates[name]())
    reference = next(iter(candidates))
    result = timing.against(times, reference)
    timing.show(f"{n} runs, whole jobs", result, "plain loop")

    flat = {}
    size = 10
    while size <= args.most:
        seconds = timed(lambda size=size: list(pool.map(chunk, chunks(size, min(FLEET, math.ceil(size / jobs))))))
        flat[str(size)] = {"ms_per_run": 1e3 * seconds / size, "peak_MB": _peak()}
        print(f"{size:6d} runs: {flat[str(size)]['ms_per_run']:.2f} ms a run", flush=True)
        size *= 10
    timing.save("fleet", args, {"100 runs": result, "cost a run": flat})
    pool.shutdown()


def _peak() -> float:
    """Peak memory of the largest worker so far, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()
