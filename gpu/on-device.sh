#!/usr/bin/env bash
# Runs on a machine with a GPU what was built on one without: conformance, then benchmarks, into one JSON file.
#
#     cargo build --release -p adaloss-on-device
#     gpu/on-device.sh target/release/adaloss-on-device results.json
#
# Nothing is compiled here: the kernels are in the program. Where PyTorch sees a GPU, peers.py times its operations for the
# same purposes. Adds date, driver and commit to the results, which go to results/<date>-<device>.json in the repository.
set -euo pipefail
program=${1:?the program} results=${2:?a file for the results}

"$program" "$results" || status=$?
if [ -n "${status:-}" ]; then
    echo "without peers: the program failed" >&2
elif python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    python3 "$(dirname "$0")/peers.py" "$results" || status=$?
else
    echo "without peers: PyTorch is missing, or sees no GPU" >&2
fi
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
