#!/usr/bin/env bash
# Tests derive/build.rs, which tells of settings for libtorch that cannot work before torch-sys
# stumbles over them. Needs no libtorch and no network.
set -u

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

rustc --edition 2024 -o "$work/build" "$here/derive/build.rs" || exit 1

# check STATUS WORDS VARIABLE=value…
check() {
    local status=$1 words=$2 out
    shift 2
    out=$(env -i PATH="$PATH" "$@" "$work/build")
    if [ "$?" = "$status" ] && [[ $out == *"$words"* ]]; then return; fi
    failed=1
    printf "FAILED with %s: expected status %s and '%s', got:\n%s\n" "$*" "$status" "$words" "$out"
}

mkdir -p "$work/whole/lib" "$work/whole/include/torch" "$work/empty" "$work/headless/lib" "$work/bin"
: >"$work/whole/lib/libtorch.so"
: >"$work/headless/lib/libtorch_cpu.so"

check 0 "" NOTHING=set
check 0 "" LIBTORCH="$work/whole"
check 1 "LIBTORCH=$work/none: there is no libtorch in $work/none/lib: correct it" LIBTORCH="$work/none"
check 1 "there is no libtorch in $work/empty/lib" LIBTORCH="$work/empty"
check 1 "there are no headers of libtorch in $work/headless/include" LIBTORCH="$work/headless"
check 0 "" LIBTORCH="$work/headless" LIBTORCH_INCLUDE="$work/whole"
check 0 "" LIBTORCH="$work/empty" LIBTORCH_INCLUDE="$work/whole" LIBTORCH_LIB="$work/whole"
check 0 "" LIBTORCH="$work/none" CARGO_FEATURE_DOC_ONLY=1

printf '#!/bin/sh\necho "No module named torch" >&2\nexit 1\n' >"$work/bin/python3"
chmod +x "$work/bin/python3"
check 1 "python3 cannot import torch (No module named torch)" LIBTORCH_USE_PYTORCH=1 PATH="$work/bin"
check 1 "python3 does not run" LIBTORCH_USE_PYTORCH=1 PATH="$work/empty"
printf '#!/bin/sh\nexit 0\n' >"$work/bin/python3"
check 0 "" LIBTORCH_USE_PYTORCH=1 PATH="$work/bin" LIBTORCH="$work/none"

[ "$failed" = 0 ] && echo "settings for libtorch: all checks passed"
exit "$failed"
