#!/bin/bash
# Several processes started by torchrun come to the bytes that they come to without it, also when
# one is killed in the middle and all are started again; and torchrun shows what a process says.
#
#   tests/torchrun.sh      builds the example `resume`; needs torchrun in PATH, or in $TORCHRUN
set -euo pipefail
cd "$(dirname "$0")/.."

torchrun=${TORCHRUN:-$(command -v torchrun || true)}
if [[ ! -x $torchrun ]]; then
    echo "left out: no torchrun"
    exit 0
fi
./cargow build -q --example resume
program=${CARGO_TARGET_DIR:-target}/debug/examples/resume
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1

# What all are compared with: two processes started by hand.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
pids=()
for rank in 0 1; do
    RANK=$rank WORLD_SIZE=2 LOCAL_RANK=$rank MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
        "$program" --output-dir "$folder/by_hand" >"$folder/$rank" 2>&1 &
    pids+=($!)
done
for rank in 0 1; do
    wait "${pids[rank]}" || { cat "$folder/$rank"; exit 1; }
done
ls "$folder/by_hand"/*.safetensors >/dev/null

same() {
    local file
    diff <(cd "$folder/by_hand" && ls -R) <(cd "$folder/$1" && ls -R)
    for file in "$folder/by_hand"/*.safetensors; do
        cmp "$file" "$folder/$1/${file##*/}"
    done
    echo "$1: the same bytes"
}

run=("$torchrun" --standalone --nproc-per-node 2)
"${run[@]}" --no-python "$program" --output-dir "$folder/torchrun" >"$folder/log" 2>&1 ||
    { cat "$folder/log"; exit 1; }
same torchrun

"${run[@]}" --max-restarts 2 --no-python tests/dies_once.sh "$program" "$folder/restarted" \
    >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
for said in 'exitcode: -9' 'resumed from step'; do
    grep -q "$said" "$folder/log" || { cat "$folder/log"; echo "nobody was killed"; exit 1; }
done
same restarted

if "${run[@]}" --no-python "$program" --output-dir /dev/null/folder >"$folder/log" 2>&1; then
    echo "no error came of a folder that cannot be"
    exit 1
fi
grep -A8 'Root Cause' "$folder/log" | grep -q '/dev/null/folder' ||
    { cat "$folder/log"; echo "torchrun did not show the error"; exit 1; }
echo "torchrun shows what a process says"
