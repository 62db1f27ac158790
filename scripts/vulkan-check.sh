#!/usr/bin/env bash
# The CubeCL path without a card: the feature `wgpu` on Mesa's software Vulkan (lavapipe), with small
# models. It finds wrong kernels and wrong gradients; its speed says nothing.
#
#   apt-get install mesa-vulkan-drivers
#   scripts/vulkan-check.sh [OUT] [ROWS]
#
# It runs on one core: on several, a thread of wgpu 30.0.2 that waits for the device can panic ("the
# current submission index should be at least the wait submission index"), and the device hangs.
#
# LEAP  a binary with the feature `wgpu` that is built already   (default: built here)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/bench-vulkan}
rows=${2:-self-check,logits,training,growth}
if [ -z "${LEAP:-}" ]; then
    cargo build --release --locked --features wgpu
    LEAP=target/release/leap
fi
"$LEAP" doctor --offline || true
exec taskset -c 0 "$LEAP" bench gpu --device wgpu:0 --small --out "$out" --only "$rows"
