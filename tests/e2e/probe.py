"""Run by the Python of a clean environment; prints as JSON what an installed distribution looks like from there."""

import importlib
import json
import sys
from importlib import metadata

name, module = sys.argv[1:]
before = set(sys.modules)
importlib.import_module("turnkeep")
loaded_by_core = sorted({loaded.partition(".")[0] for loaded in set(sys.modules) - before})
importlib.import_module(module)
distribution = metadata.distribution(name)
entry_points = []
for entry_point in distribution.entry_points:
    entry_point.load()
    entry_points.append([entry_point.group, entry_point.name, entry_point.value])
files = [str(file) for file in distribution.files or ()]
print(
    json.dumps(
        {
            "version": distribution.version,
            "location": importlib.import_module(module).__file__,
            "loaded_by_core": loaded_by_core,
            "entry_points": sorted(entry_points),
            "typed": f"{module}/py.typed" in files,
            "licenses": [
                distribution.read_text(f"licenses/{file}") for file in distribution.metadata.get_all("License-File")
            ],
            "installed": sorted(found.name for found in metadata.distributions()),
        }
    )
)
