"""Lets the processes that tests start find the tests' own functions: they import them from the top of the repository."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))
