"""A long, random run of schemathesis: `python tests/load/fuzz.py [REQUESTS AN OPERATION]`, 200 if not said: 5 minutes.

Each run sends others; a finding is printed with its curl command, and ends the run with exit code 1.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzzing import fuzz
from gateway import running_gateway


def main(n_requests: str) -> int:
    options = ("--max-examples", n_requests, "--phases", "examples,coverage,fuzzing,stateful")
    with tempfile.TemporaryDirectory() as name, running_gateway(Path(name)) as gateway:
        for prefix in ("/v1/", "/api/v1/", "/(health|plugins)"):
            try:
                print(fuzz(gateway, Path(name), prefix=prefix, options=options))
            except AssertionError as finding:
                print(finding)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "200"))
