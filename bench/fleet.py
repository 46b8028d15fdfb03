"""A hundred small models: the fleet next to a plain PyTorch loop and scikit-learn, on breast_cancer, all of it counted.

Every candidate trains an MLP 30-128-128-2 with Adam, batch 16, 10 epochs, on 60 % of the rows; mixup for ours and for
the plain loop, none for scikit-learn's, which cannot. The plain loop is timed over a few runs, and scaled; so is
scikit-learn's. Times are wall clock, of whole jobs: plans, initial weights, training and the test error.
"""

from __future__ import annotations

import math
import os
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import joblib
import numpy as np
import torch
import torch.nn.functional as F
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import vicinal
from bench import timing
from vicinal.lab.compare.table_comparison import FLEET
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
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
    """Train one run as the reference does it."""
    x, y, x_test, y_test = map(torch.from_numpy, data())
    generator = np.random.Generator(np.random.Philox(seed))
    model = MLP(x.shape[1], (128, 128), 2)
    adam = torch.optim.Adam(model.parameters())
    for _ in range(EPOCHS):
        for rows in torch.from_numpy(generator.permutation(len(x))).split(BATCH):
            xb, yb = x[rows], y[rows]
            lam = float(generator.beta(0.4, 0.4))
            index = torch.from_numpy(generator.permutation(len(rows)))
            out = model(lam * xb + (1 - lam) * xb[index])
            loss = lam * F.cross_entropy(out, yb) + (1 - lam) * F.cross_entropy(out, yb[index])
            adam.zero_grad()
            loss.backward()
            adam.step()
    with torch.no_grad():
        return float((model(x_test).argmax(1) != y_test).float().mean())


def sklearn_run(seed: int) -> float:
    x, y, x_test, y_test = data()
    model = MLPClassifier((128, 128), batch_size=BATCH, max_iter=EPOCHS, random_state=seed, n_iter_no_change=10**6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return 1 - model.fit(x, y).score(x_test, y_test)


def fleet(seeds: list[int]) -> list[float]:
    """Train one fleet of runs."""
    torch.set_num_threads(1)
    x, y, x_test, y_test = map(torch.from_numpy, data())
    runs = [stacked_mlp.MLPRun(0, seed, vicinal.Mixup(0.4)) for seed in seeds]
    training = stacked_mlp.MLPTraining(EPOCHS, BATCH)
    models = stacked_mlp.train(runs, StackedSplit(TableInputs(x[None]), y[None]), 2, training).models
    return (models.outputs(x_test).argmax(-1) != y_test).float().mean(1).tolist()


def chunks(n: int, size: int) -> list[list[int]]:
    return [list(range(n))[i : i + size] for i in range(0, n, size)]


def timed(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def memory(_: int) -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cost(pool: ProcessPoolExecutor, n: int, jobs: int) -> dict[str, float]:
    """Measure milliseconds per run of `n` runs, and the peak memory of a worker so far."""
    seconds = timed(lambda: list(pool.map(fleet, chunks(n, min(FLEET, math.ceil(n / jobs))))))
    row = {"ms_per_run": 1e3 * seconds / n, "worker_MB": max(pool.map(memory, range(jobs)))}
    print(f"{n:6d} runs: {row['ms_per_run']:.2f} ms per run, {row['worker_MB']:.0f} MB", flush=True)
    return row


def main() -> None:
    args = timing.arguments(__doc__, runs=100, most=1000)
    n, most, few, more = (2, 10, 1, 2) if args.quick else (args.runs, args.most, 4, 20)
    jobs = min(2, os.cpu_count() or 1)
    parallel = joblib.Parallel(n_jobs=jobs)

    def sklearn(runs: int) -> None:
        parallel(joblib.delayed(sklearn_run)(seed) for seed in range(runs))

    with ProcessPoolExecutor(jobs, get_context("forkserver")) as pool:
        timers = {
            f"plain loop, 1 process ({few} runs, scaled)": lambda: (
                timed(lambda: [plain_loop(seed) for seed in range(few)]) * n / few
            ),
            f"sklearn MLPClassifier, n_jobs={jobs}, no mixup ({more} runs, scaled)": lambda: (
                timed(lambda: sklearn(more)) * n / more
            ),
            "fleet, 1 process": lambda: timed(lambda: [fleet(seeds) for seeds in chunks(n, FLEET)]),
            f"fleet, {jobs} processes": lambda: timed(
                lambda: list(pool.map(fleet, chunks(n, math.ceil(n / jobs / 3))))
            ),
        }
        list(pool.map(fleet, [[0]] * jobs))  # warm
        sklearn(jobs)
        plain_loop(0)
        fleet([0])
        table = timing.in_turns(f"{n} runs, whole jobs", timers, min(args.rounds, 3))
        costs = {str(size): cost(pool, size, jobs) for size in (10, 100, 1000, 10_000) if size <= most}
    get_reusable_executor().shutdown(wait=True)  # joblib's workers would outlive the program's work
    timing.save("fleet", args, {f"{n} runs": table, "cost per run": costs})


if __name__ == "__main__":
    main()
