#!/usr/bin/env bash
# A real server: traces of a small model behind llama.cpp's `llama-server`, cut off and gone on with.
#
#   scripts/llama-server-check.sh LLAMA_SERVER MODEL.gguf DIR [OUT]
#
# LLAMA_SERVER  the binary          MODEL.gguf  the model, such as SmolLM2-135M-Instruct
# DIR           a Hugging Face folder with the same tokenizer and chat template
# OUT           where runs go   (default: runs/llama-server)
#
# It passes if ids go to and fro, a run that was killed ends with groups that replay, and nothing is
# asked twice. Sampling is greedy; with several slots a server's sums can still depend on what else
# is computed, so files of two runs are compared and a difference is told, not a failure.
#
# LEAP  a binary that is built already   (default: built here)
set -euo pipefail
server=$1 model=$2 folder=$3
out=${4:-runs/llama-server}
cd "$(dirname "$0")/.."
if [ -z "${LEAP:-}" ]; then
    cargo build --release --locked
    LEAP=target/release/leap
fi
port=${PORT:-8093}
rm -rf "$out"
mkdir -p "$out"
"$server" -m "$model" --alias small --port "$port" -c 16384 -np 4 >"$out/server.log" 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null || true' EXIT
for _ in $(seq 120); do
    curl -sf "http://127.0.0.1:$port/health" >/dev/null && break
    kill -0 $pid 2>/dev/null || { echo "the server has ended:"; tail -3 "$out/server.log"; exit 2; }
    sleep 1
done
url=http://127.0.0.1:$port
name=$(curl -sf "$url/v1/models" | sed 's/.*"id":"\([^"]*\)".*/\1/')
for n in 1 2 3 4 5 6 7 8 9 10; do
    echo "{\"id\": \"sum-$n\", \"problem\": \"What is $n + $((n + 3))?\", \"answer\": $((2 * n + 3))}"
done >"$out/problems.jsonl"
# A model as small as that may find no answer, which is exit code 1.
"$LEAP" infer "$folder" "What is 6 * 7?" --paths 2 --server "$url" sampling.temperature=0.0 \
    || [ $? -eq 1 ]
traces=(data-gen traces leap-t-teacher-32b teacher.folder="$folder"
    teacher.remote.model="$name" teacher.remote.positions=4096
    problems.file="$out/problems.jsonl" protocol.paths=3 protocol.turn_tokens=60
    protocol.max_tokens=150 protocol.summary_tokens=40 protocol.answer_tokens=40
    protocol.peers=2 protocol.sampling.temperature=0.0 --server "$url" --in-flight 4)
"$LEAP" "${traces[@]}" --out "$out/whole"
for seconds in 3 5 7; do
    "$LEAP" "${traces[@]}" --out "$out/killed" &
    writer=$!
    sleep "$seconds"
    kill -9 $writer 2>/dev/null || true
    wait $writer 2>/dev/null || true
done
"$LEAP" "${traces[@]}" --out "$out/killed"
for run in whole killed; do
    "$LEAP" trace replay "$out/$run/traces.jsonl" --tokenizer "$folder"
    grep -q '"device":"remote llama.cpp, ids"' "$out/$run/traces.jsonl"
done
cmp "$out/whole/traces.jsonl" "$out/killed/traces.jsonl" && echo "the same bytes" \
    || echo "different bytes: the server's sums depend on what else it computes"
"$LEAP" trace stats "$out/killed/traces.jsonl"
