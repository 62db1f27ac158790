#!/usr/bin/env bash
# Runs a command of a build with the feature `cuda` on a machine without a card: kernels are compiled,
# launches do nothing and leave zeros, products by cuBLAS are computed by the host, attention by cuDNN by nobody
# (scripts/offline-card/*.c say what that is good for).
#
#   scripts/offline-card.sh COMMAND...
#   scripts/offline-card.sh target/release/leap bench gpu --only decode --small --out runs/offline
#
# CUDA_PATH  folder of a CUDA 13.0 with include, lib and bin/ptxas: a toolkit, or the wheels
#            nvidia-cuda-nvrtc, nvidia-cuda-runtime, nvidia-cuda-cccl, nvidia-cuda-crt and
#            nvidia-cuda-nvcc of 13.0 unpacked into one folder (their nvidia/cu13)
# CARD_TRACE set to 1: a line for each launch
#
# What is kept of it (LEAP_CACHE) is for offline use: the times in it mean nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${CUDA_PATH:?name the folder of a CUDA 13.0}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cc -shared -fPIC -O1 -Wall -Wno-unused-parameter -Wno-unused-result -o "$folder/libnvcuda.so" "$here/offline-card/driver.c" -lpthread
cc -shared -fPIC -O2 -Wall -Wno-unused-parameter -o "$folder/libcublas.so" "$here/offline-card/cublas.c"
cc -shared -fPIC -O1 -Wall -Wno-unused-parameter -o "$folder/libcudnn.so" "$here/offline-card/cudnn.c"
export LD_LIBRARY_PATH="$folder:$CUDA_PATH/lib:$CUDA_PATH/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PTXAS=${PTXAS:-$CUDA_PATH/bin/ptxas}
export LEAP_CACHE=${LEAP_CACHE:-$folder/cache}
"$@"
