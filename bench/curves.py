"""Draws the learning curves of two runs of `vicinal train` side by side: python -m bench.curves RUN_A RUN_B OUT.svg."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure


def main() -> None:
    runs, out = sys.argv[1:-1], sys.argv[-1]
    with rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "curves"}):
        fig = Figure(figsize=(7, 2.8), layout="constrained")
        left, right = fig.subplots(1, 2)
        for run, color in zip(runs, ("#555555", "#1f6fb2"), strict=False):
            record = json.loads((Path(run) / "results.json").read_text())
            lines, label = record["epochs"], record["recipe"]["vicinity"]
            epochs = [line["epoch"] for line in lines]
            left.plot(epochs, [100 * line["test_error"] for line in lines], color=color, label=label)
            right.plot(epochs, [line["test_nll"] for line in lines], color=color)
        left.set(xlabel="epoch", ylabel="test error, %", ylim=(0, None))
        right.set(xlabel="epoch", ylabel="test negative log-likelihood", ylim=(0, None))
        left.legend(frameon=False)
        for ax in (left, right):
            ax.spines[["top", "right"]].set_visible(False)
        fig.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
