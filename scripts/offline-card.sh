#!/usr/bin/env bash
# Runs a command of a build with the feature `cuda` on a machine without a card: kernels are compiled by NVRTC and run on
# the host, as are products of cuBLAS and attention of cuDNN (scripts/offline-card/*.c say what that is good for). It
# needs python3 and a C compiler with OpenMP; a kernel that is new takes it a third of a second.
#
#   scripts/offline-card.sh COMMAND...
#   scripts/offline-card.sh target/release/leap bench gpu --only self-check,logits,training --small --out runs/offline
#   scripts/offline-card.sh target/release/leap run micro --device cuda --out runs/micro
#
# CUDA_PATH      folder of a CUDA 13.0 with include, lib and bin/ptxas: a toolkit, or the wheels
#                nvidia-cuda-nvrtc, nvidia-cuda-runtime, nvidia-cuda-cccl, nvidia-cuda-crt and
#                nvidia-cuda-nvcc of 13.0 unpacked into one folder (their nvidia/cu13)
# CARD_COMPUTES  set to 0: launches do nothing, for models of any size
# CARD_ORDER     another order in which threads take turns: 1 turns it around, 2 and above draw it
# CARD_KERNELS   folder in which translated kernels are kept for the next call
# CARD_TRACE     set to 1: a line for each launch
#
# What is kept of it (LEAP_CACHE) is for offline use: the times in it mean nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${CUDA_PATH:?name the folder of a CUDA 13.0}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
make=(cc -shared -fPIC -fopenmp -march=native -w)
"${make[@]}" -O2 -o "$folder/libnvcuda.so" "$here"/offline-card/{driver,emulator}.c -lpthread -lm -ldl
"${make[@]}" -O3 -o "$folder/libcublas.so" "$here/offline-card/cublas.c" -ldl
"${make[@]}" -O3 -ffast-math -fno-finite-math-only -o "$folder/libcudnn.so" "$here/offline-card/cudnn.c" -lm -ldl
export CARD_SOURCES="$here/offline-card" CARD_KERNELS=${CARD_KERNELS:-$folder/kernels}
mkdir -p "$CARD_KERNELS"
CARD_KERNELS=$(cd "$CARD_KERNELS" && pwd)
export LD_LIBRARY_PATH="$folder:$CUDA_PATH/lib:$CUDA_PATH/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PTXAS=${PTXAS:-$CUDA_PATH/bin/ptxas}
export LEAP_CACHE=${LEAP_CACHE:-$folder/cache}
"$@"
