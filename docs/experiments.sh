#!/usr/bin/env bash
# One row of docs/book/src/experiments.md.
#   docs/experiments.sh TASK ROW [SEED]
# TASK: sst2, conll2003 or squad. ROW: teacher, labels, distill, float32, tiny, export or python.
#
# ENCODER is the folder of all-MiniLM-L6-v2 (config.json, model.safetensors, tokenizer.json), DATA
# the folder with the tasks' folders, OUT (default saved_models/experiments) where models go. All
# rows but `teacher` and `python` begin with the teacher; `python` begins with `export` and needs a
# Python with torch, transformers, textbrewer and safetensors (PYTHON, default python3).
set -euo pipefail
cd "$(dirname "$0")/.."
task=${1:?TASK: sst2, conll2003 or squad} row=${2:?ROW: teacher, labels, distill, float32, tiny, export or python}
seed=${3:-0}
out=${OUT:-saved_models/experiments}/$task
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

case $task in
    sst2)
        files=()
        teacher=(--epochs 2 --learning-rate 5e-5)
        student=(--train-size 8000 --epochs 5 --learning-rate 3e-4)
        ;;
    conll2003)
        files=()
        teacher=(--epochs 3 --learning-rate 1e-4)
        student=(--train-size 4000 --epochs 10 --learning-rate 3e-4)
        ;;
    squad)
        files=(--train-file train-v1.1.subset.json --dev-file xquad.en.json
            --max-length 256 --stride 64)
        teacher=(--epochs 2 --learning-rate 1e-4)
        student=(--epochs 2 --learning-rate 3e-4)
        ;;
    *)
        echo "unknown task $task: sst2, conll2003 or squad" >&2
        exit 2
        ;;
esac
run() { # run COMMAND OPTION…
    local command=$1
    shift
    ./cargow run --release --quiet --example "$task" -- "$command" \
        --data-dir "${DATA:?the folder with the folder $task}/$task" ${files[@]+"${files[@]}"} \
        --seed "$seed" "$@"
}

case $row in
    teacher)
        run train --encoder "${ENCODER:?the folder of all-MiniLM-L6-v2}" --output-dir "$out/teacher" \
            --precision bf16 "${teacher[@]}"
        ;;
    labels)
        run train --encoder "$out/teacher" --recipe labels --output-dir "$out/labels-$seed" \
            --precision bf16 "${student[@]}"
        ;;
    distill)
        run distill --teacher "$out/teacher" --output-dir "$out/distill-$seed" --precision bf16 \
            "${student[@]}"
        ;;
    float32) # `distill` in the precision of the row `python`
        run distill --teacher "$out/teacher" --output-dir "$out/float32-$seed" --precision float32 \
            "${student[@]}"
        ;;
    tiny)
        run distill --teacher "$out/teacher" --student T4-tiny --output-dir "$out/tiny-$seed" \
            --precision bf16 "${student[@]}"
        ;;
    export)
        run export --teacher "$out/teacher" --output-dir "$out/export-$seed" "${student[@]}"
        ;;
    python)
        "${PYTHON:-python3}" benches/python/distill.py "$out/export-$seed" "$out/python-$seed" \
            --dropout-seed "$seed"
        dev=dev.tsv
        [ "$task" = conll2003 ] && dev=valid.txt
        [ "$task" = squad ] && dev=xquad.en.json
        ./cargow run --release --quiet --example "$task" -- evaluate --model "$out/python-$seed" \
            --file "${DATA:?the folder with the folder $task}/$task/$dev"
        ;;
    *)
        echo "unknown row $row: teacher, labels, distill, float32, tiny, export or python" >&2
        exit 2
        ;;
esac
