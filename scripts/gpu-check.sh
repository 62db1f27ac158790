#!/usr/bin/env bash
# The whole check of a CUDA card: builds with the feature `cuda`, says what the machine lacks, and
# measures. Rows are written one by one, so that a run that is cut off still tells.
#
#   scripts/gpu-check.sh [OUT] [ROWS]
#
# OUT   folder for the rows as JSON        (default: runs/bench-gpu)
# ROWS  rows, separated by commas          (default: all; see `leap bench gpu --help`)
# LEAP  a binary that is built already     (default: built here)
# LEAP_DEVICE  the device                  (default: cuda:0)
# LEAP_CACHE   where compiled kernels are kept: only the first run compiles them, for minutes
#
# scripts/gpu-peers.py measures PyTorch and transformers on the same card.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/bench-gpu}
rows=${2:-}
if [ -z "${LEAP:-}" ]; then
    cargo build --release --locked --features cuda
    LEAP=target/release/leap
fi
mkdir -p "$out"
# What is missing is worth knowing even if nothing can be measured.
"$LEAP" doctor --offline | tee "$out/doctor.txt" || true
exec "$LEAP" bench gpu --device "${LEAP_DEVICE:-cuda:0}" --out "$out" ${rows:+--only "$rows"}
