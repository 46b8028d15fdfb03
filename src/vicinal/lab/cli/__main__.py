"""Run the command: `python -m vicinal.lab.cli`, as torchrun does."""

import sys

from vicinal.lab.cli import main

sys.exit(main())
