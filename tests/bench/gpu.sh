#!/usr/bin/env bash
# Runs tests/bench/gpu.py on a machine that lacks some packages, with the wheels in a directory.
#   tests/bench/gpu.sh WHEELS --out DIR [options of gpu.py]
set -euo pipefail
wheels=$1
shift
site=$(mktemp -d)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl
export PYTHONPATH="$site" PYTHONUNBUFFERED=1
python3 "$(dirname "$0")/gpu.py" "$@"
