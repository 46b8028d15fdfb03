"""Many processes: what each one takes, and how the death of one is reported."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vicinal.lab.training.distributed import Processes


def test_processes_share_the_examples_of_one() -> None:
    rows = torch.arange(37)
    for world in (1, 2, 3):
        shards = [Processes(rank, world, torch.device("cpu")).shard(rows) for rank in range(world)]
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
        assert torch.equal(torch.cat(shards), rows)


@pytest.mark.torture
def test_torchrun_names_the_process_that_died(tmp_path: Path) -> None:
    # as a training: the first process waits for the second, which is killed
    script = tmp_path / "job.py"
    script.write_text(
        "import os, signal\n"
        "from vicinal.lab.training import distributed\n"
        "with distributed.job(60) as job:\n"
        "    job.broadcast(0.0)\n"
        "    if job.rank == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    job.broadcast(0.0)\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1
    assert re.search(r"rank +: 1 \(local_rank: 1\)\s+exitcode +: -9", done.stderr)
