#!/usr/bin/env bash
# Trains on exported samples with TRL, three steps of a miniature model, and checks that as many tokens
# carry loss there as here.
#
#   python -m venv venv && venv/bin/pip install "trl>=1.16" "transformers>=5" datasets accelerate torch
#   scripts/trl-check.sh target/release/leap venv/bin/python
set -euo pipefail
leap=$(realpath "${1:?the leap binary}")
python=$(realpath -s "${2:?a python with trl}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$leap" -q run tiny problems.train.count=60 problems.test.count=6 model.scratch.train.tokens=4000 \
    model.scratch.layers=1 model.scratch.hidden_size=32 model.scratch.intermediate_size=64 \
    train.leap_t.tokens=1500 train.control.tokens=1500 engine.wave=4 --out run > run.txt
"$leap" -q data-gen samples leap-t-samples problems=run/problems.jsonl traces.leap=run/traces.jsonl \
    held_out=0.1 --out data > data.txt
"$leap" -q data-gen export data --tokenizer run/tokenizer --out dataset > dataset.txt
HF_HUB_OFFLINE=1 HF_HOME="$folder/hub" "$python" dataset/train_trl.py --data dataset \
    --model run/checkpoints/base --out trained --steps 3 --accumulate 2 --no-bf16 2> trl.err | tee trl.out \
    || { tail -20 trl.err; exit 1; }
ours=$("$leap" data-gen inspect data/samples.jsonl --tokenizer run/tokenizer \
    | awk '/^kind/ { counts = 1 } counts && $4 ~ /^[0-9]+$/ { sum += $4 } END { print sum }')
grep -q "^$ours of " trl.out || { echo "leap counts $ours tokens with loss"; exit 1; }
test -s trained/model.safetensors
echo "TRL trains on $ours tokens with loss, as leap does"
