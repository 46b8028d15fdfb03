"""`vicinal data fetch` of an archive on the loopback: python -m torture.kills.fetch PORT SHA256 FOLDER."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command with one dataset more."""
    port, sha256, folder = sys.argv[1:]
    os.environ["VICINAL_DATA"] = folder
    from vicinal.lab import cli
    from vicinal.lab.data import download

    download.DATASETS["toy"] = download.PublishedDataset(
        title="Toy",
        archive="toy.tar.gz",
        folder="toy",
        license="none",
        url=f"http://127.0.0.1:{port}/toy.tar.gz",
        checksum=f"sha256:{sha256}",
        files={f"{i}.bin": 75_000 for i in range(40)},
    )
    return cli.main(["data", "fetch", "toy"])


if __name__ == "__main__":
    sys.exit(main())
