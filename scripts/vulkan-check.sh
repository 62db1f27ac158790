#!/usr/bin/env bash
# The CubeCL path without a card: the feature `wgpu` on Mesa's software Vulkan (lavapipe), with small
# models. It finds wrong kernels and wrong gradients; its speed says nothing.
#
#   apt-get install mesa-vulkan-drivers
#   scripts/vulkan-check.sh [OUT] [ROWS]
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
# Each choice between kernels takes a minute here.
export CUBECL_AUTOTUNE_LEVEL=${CUBECL_AUTOTUNE_LEVEL:-minimal}
"$LEAP" doctor --offline || true
exec "$LEAP" bench gpu --device wgpu:0 --small --out "$out" --only "$rows"
