#!/usr/bin/env bash
# tests/same_bytes.sh FILE [FOLDER]: what trainings come to, to the last bit, as a file of
# lines `name  sha256`.
#
# A refactoring changes no number: run this on the commit before and on the one after, on the
# same machine, and compare the two files with diff. What is hashed is the weights, the states to
# resume from and the logged losses of the golden trainings, of resumed runs, and of all examples
# at the small sizes of their tests. FOLDER, where it is given, is a new one that keeps the files
# themselves: `losses` are lines of tag, step and the value's bits.
#
# A test that fails is told and records what it came to before that; the exit status is 1 then.
set -euo pipefail
file=$(realpath -- "${1:?the file to write}")
if [ $# -gt 1 ]; then
    mkdir -- "$2"
    folder=$(realpath -- "$2")
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
cd "$(dirname "$0")/.."

# One thread: more would add numbers in an order of their own. One test at a time: libtorch's
# random generator is one for all the tests of a process.
export OMP_NUM_THREADS=1 TEXTBREWER_RECORD=$folder
tests=(
    trainings::every_training_run_is_the_originals
    exact::{epochs_with_projections_schedules_and_kept_outputs,weights_of_layers}
    exact::{steps_over_tasks_with_random_batches,fp16_with_a_loss_scale_that_falls_and_grows}
    random_tokens_saves_its_student random_tokens_saves_a_teacher_and_two_students
    resume_tells_its_losses
    emd_shows_distances_and_flows
    multi_teacher_compares_its_ensembles
    multi_task_counts_the_batches_of_its_tasks
    split_batches_learns_the_same_from_logits_as_from_their_teacher
    sst2 mnli_and_other_pairs conll2003 msra_ner squad cmrc2018_with_drcd
    students_without_layers_and_narrow_ones
    encoders_of_the_family_and_sixteen_bits
    interrupts::an_interrupted_training_goes_on
)
status=0
./cargow build --examples
./cargow test --no-fail-fast --test golden --test resume --test examples --test task_examples -- \
    --exact --test-threads 1 "${tests[@]}" || status=1

cd "$folder"
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum |
    sed -E 's|^([0-9a-f]+) [ *]\./(.*)$|\2  \1|' >"$file"
echo "$(wc -l <"$file") lines in $file"
exit "$status"
