"""`vicinal data fetch` of an archive on the loopback: python -P torture/kills/fetch.py PORT SHA256 FOLDER.

The command is the real one from its first import on; the dataset is added when the module of datasets is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

_MODULE = "vicinal.lab.data.download"


class _Loader(SourceFileLoader):
    server: Sequence[str] = ()  # its port, and the checksum of its archive

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        port, sha256 = self.server
        module.DATASETS["toy"] = module.PublishedDataset(
            title="Toy",
            archive="toy.tar.gz",
            folder="toy",
            license="none",
            url=f"http://127.0.0.1:{port}/toy.tar.gz",
            checksum=f"sha256:{sha256}",
            files={f"{i}.bin": 75_000 for i in range(40)},
        )


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == _MODULE else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


def main() -> int:
    """Run the command with one dataset more."""
    _, *_Loader.server, os.environ["VICINAL_DATA"] = sys.argv
    sys.argv[1:] = ["data", "fetch", "toy"]
    sys.meta_path.insert(0, _Finder)
    from vicinal.lab import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
