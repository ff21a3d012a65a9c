"""Lets the processes that tests start import the tests' own functions, from the top of the repository."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))
