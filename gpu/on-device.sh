#!/usr/bin/env bash
# Runs on a machine with a GPU what was built on one without: conformance, then benchmarks, into one JSON file.
#
#     cargo build --release -p adaloss-on-device
#     gpu/on-device.sh target/release/adaloss-on-device results.json
#
# Nothing is compiled here: the kernels are in the program. Adds date, driver and commit to the results, which go to
# results/<date>-<device>.json in the repository.
set -euo pipefail
program=${1:?the program} results=${2:?a file for the results}

"$program" "$results" || status=$?
python3 - "$results" <<'PYTHON'
import datetime, json, os, subprocess, sys

def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

path = sys.argv[1]
results = json.load(open(path)) if os.path.exists(path) else {}
results["date"] = datetime.date.today().isoformat()
results["driver"] = output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
results["commit"] = os.environ.get("COMMIT") or output("git", "rev-parse", "HEAD")
json.dump(results, open(path, "w"), indent=2)
PYTHON
exit "${status:-0}"
