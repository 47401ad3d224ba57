"""Prints, as constraints for pip, the versions that a report of `pip install --dry-run --report` names.

Of each package its name and version, and nothing of where it came from.
"""

import json
import platform
import re
import sys
from pathlib import Path

report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
found = sorted(
    (re.sub("[-_.]+", "-", one["metadata"]["name"]).lower(), one["metadata"]["version"])
    for one in report["install"]
    if not one["is_direct"]  # retl itself
)
python, _, _ = platform.python_version().rpartition(".")
print(f"# The newest versions that were allowed, on {platform.system()} with Python {python}.")
print("# Written by `make constraints`; what is allowed stands in pyproject.toml and beside each requirements file.")
print(*(f"{name}=={version}" for name, version in found), sep="\n")
