#!/usr/bin/env bash
# Tests ./cargow without network, without libtorch and without building anything.
#
# cargow runs with a PATH of its own: the system tools it uses by link, a `cargo` that
# tells what it was given, and a `python3` whose `-m pip download` copies small wheels
# made here (all other Python is real). The copy of cargow under test differs from the
# file only in the sums of these wheels, so the check of the sums runs for real, and in
# the place of a system-wide libtorch, which this machine may have or not.
# shellcheck disable=SC2016 # code in single quotes is for the stubs
set -u

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

real_python=$(python3 -c 'import sys; print(sys.executable)') || { echo "needs python3"; exit 1; }

# --- what cargow finds on its PATH ---------------------------------------------------

bin=$work/bin
mkdir "$bin"
for tool in bash env uname getconf awk sed tr grep sort head tail cat mkdir rm mv df sync flock; do
    ln -s "$(command -v "$tool")" "$bin/$tool"
done
cat >"$bin/cargo" <<'STUB'
#!/usr/bin/env bash
case $1 in
    # Without PROJECT there is none, as in a folder that has no Cargo.toml.
    locate-project) [ "${PROJECT:-}" != broken ] || exit 101; [ -n "${PROJECT:-}" ] || exit 101; echo "$PROJECT/Cargo.toml"; exit ;;
    fetch) [ -z "${LOCKED:-}" ] || echo "fetched: $*" >"$PROJECT/fetched"; exit ;;
    metadata) case " $* " in *" --locked "*) exit 101 ;; esac; [ -z "${LOCKED:-}" ] || printf '%s\n' "$LOCKED" >"$PROJECT/Cargo.lock"; exit ;;
esac
echo "cargo LIBTORCH=${LIBTORCH-unset} in $PWD: $*"
[ ! -e /proc/self/fd/9 ] || echo "cargo inherited the lock"
STUB
cat >"$bin/c++" <<'STUB'
#!/usr/bin/env bash
STUB
# BEFORE_PIP is run before the copy of each wheel: the tests interrupt cargow there.
cat >"$bin/python3" <<STUB
#!/usr/bin/env bash
if [ "\$1 \$2" != "-m pip" ]; then exec "$real_python" "\$@"; fi
if [ "\$3" = --version ]; then exit 0; fi
echo "\$*" >>"\$PIP_CALLS"
while [ \$# -gt 0 ]; do
    case \$1 in --dest) dest=\$2 ;; *==*) name=\${1%%==*} ;; esac
    shift
done
eval "\${BEFORE_PIP:-}"
mkdir -p "\$dest"
cp "\$PIP_WHEELS/\${name//-/_}"-*.whl "\$dest"
STUB
ln -s "$(command -v cp)" "$bin/cp"
chmod +x "$bin"/cargo "$bin"/c++ "$bin"/python3

# --- small wheels, and the cargow that expects them ----------------------------------

wheels=$work/wheels
mkdir "$wheels"
cp "$here/cargow" "$work/cargow"
"$real_python" - "$wheels" "$work/cargow" <<'PYTHON' || exit 1
import hashlib, os, re, sys, zipfile
folder, script = sys.argv[1:]
text = open(script).read()
members = {
    "torch": ["torch/lib/libc10.so", "torch/lib/libtorch_cpu.so", "torch/lib/libgomp.so.1",
              "torch/lib/libtorch.so", "torch/lib/libtorch_cuda.so", "torch/version.py",
              "torch/include/torch/script.h", "torch/include/c10/util/Half.h"],
    "nvidia-cuda-runtime": ["nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/include/cuda.h"],
    "nvidia-cuda-cupti": ["nvidia/cu13/lib/libcupti.so.13"],
}
found = set()
for name, file, old in re.findall(r"([\w-]+)==\S+ \S+ (\S+\.whl) ([0-9a-f]{64})", text):
    with zipfile.ZipFile(folder + "/" + file, "w") as wheel:
        for member in members[name]:
            wheel.writestr(member, "content of " + member)
    found.add(name)
    new = hashlib.sha256(open(folder + "/" + file, "rb").read()).hexdigest()
    assert text.count(old) == 1, old
    text = text.replace(old, new)
assert found == set(members), found
assert text.count(" /usr/lib/libtorch.so ]") == 1
text = text.replace(" /usr/lib/libtorch.so ]", ' "%s/usr-lib-libtorch.so" ]' % os.path.dirname(script))
open(script, "w").write(text)
PYTHON

# --- helpers -------------------------------------------------------------------------

# Each test is a function and starts with an empty cache of its own.
begin() {
    test_name=$1
    cache=$work/cache-$1
    final=$cache/libtorch-2.11.0-cpu
    calls=$work/calls-$1
    : >"$calls"
}
# cargow [VARIABLE=value…] [-- ARGS…]: runs it, leaves $status, $out (stdout), $err.
cargow() {
    local variables=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do variables+=("$1"); shift; done
    [ $# -gt 0 ] && shift
    env -i PATH="$bin" HOME="$work/home" TEXTBREWER_LIBTORCH_CACHE="$cache" PIP_CALLS="$calls" \
        PIP_WHEELS="$wheels" ${variables[@]+"${variables[@]}"} "$work/cargow" "$@" \
        >"$work/out" 2>"$work/err" </dev/null
    status=$?
    out=$(cat "$work/out") err=$(cat "$work/err")
}
check() { # check WHAT COMMAND…
    local what=$1; shift
    if "$@"; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    printf 'FAILED %s: %s\n  status %s\n  stdout: %s\n  stderr: %s\n' \
        "$test_name" "$what" "$status" "$out" "$err"
}
has() { case $1 in *"$2"*) true ;; *) false ;; esac; }
lacks() { ! has "$@"; }
equals() { [ "$1" = "$2" ]; }
lines() { grep -c '' "$1"; }
# What is in the cache, without the empty lock file.
contents() { (cd "$cache" 2>/dev/null && find . -mindepth 1 -maxdepth 1 ! -name '.lock-*' | sort | tr '\n' ' '); }

# --- the tests -----------------------------------------------------------------------

makes_one_and_keeps_it() {
    cargow -- run --example x -- --epochs 1
    check "succeeds" equals "$status" 0
    check "cargo gets LIBTORCH, the arguments and the folder" \
        equals "$out" "cargo LIBTORCH=$final in $PWD: run --example x -- --epochs 1"
    check "tells how plain cargo finds it" has "$err" "ready; for plain cargo: export LIBTORCH=$final"
    check "nothing else is left in the cache" equals "$(contents)" "./libtorch-2.11.0-cpu "
    check "exactly the files needed" equals "$(cd "$final" && find . -type f | LC_ALL=C sort | tr '\n' ' ')" \
        "./build-version ./include/c10/util/Half.h ./include/torch/script.h ./lib/libc10.so ./lib/libcudart.so.13 ./lib/libcupti.so.13 ./lib/libgomp.so.1 ./lib/libtorch.so ./lib/libtorch_cpu.so "
    check "a library's content" equals "$(cat "$final/lib/libcupti.so.13")" "content of nvidia/cu13/lib/libcupti.so.13"
    check "the linker script" equals "$(cat "$final/lib/libtorch.so")" "INPUT(libtorch_cpu.so)"
    check "the version" equals "$(cat "$final/build-version")" "2.11.0"
    check "one pip call a wheel" equals "$(lines "$calls")" 3
    cargow -- build
    check "the second run uses it" equals "$out" "cargo LIBTORCH=$final in $PWD: build"
    check "the second run says one line" equals "$err" "cargow: LIBTORCH=$final"
    check "the second run downloads nothing" equals "$(lines "$calls")" 3
    rm "$final/lib/libtorch_cpu.so"
    cargow -- build
    check "a folder with a file missing is made anew" test -s "$final/lib/libtorch_cpu.so"
}

hands_on_cargos_exit_status() {
    mkdir "$work/failing"
    printf '#!/usr/bin/env bash\nexit 101\n' >"$work/failing/cargo"
    chmod +x "$work/failing/cargo"
    cargow PATH="$work/failing:$bin" -- test
    check "status" equals "$status" 101
}

respects_the_users_libtorch() {
    local mine="$work/my libtorch"
    mkdir -p "$mine/lib" "$mine/include/torch"
    : >"$mine/lib/libtorch.so"
    cargow LIBTORCH="$mine" -- test
    check "LIBTORCH is used as it is" equals "$out" "cargo LIBTORCH=$mine in $PWD: test"
    check "and named" has "$err" "your LIBTORCH=$mine"
    cargow LIBTORCH="$mine" TEXTBREWER_LIBTORCH=cuda -- test
    check "says that it comes before TEXTBREWER_LIBTORCH" has "$err" "TEXTBREWER_LIBTORCH=cuda does nothing"
    echo "2.10.0+cpu" >"$mine/build-version"
    cargow LIBTORCH="$mine" -- test
    check "another version is refused" equals "$status:$out" "1:"
    check "with both versions" has "$err" "is libtorch 2.10.0+cpu, and tch 0.24.0 needs 2.11.0"
    cargow LIBTORCH="$mine" LIBTORCH_BYPASS_VERSION_CHECK=1 -- test
    check "unless the user insists" equals "$status" 0
    echo "2.11.0+cu130" >"$mine/build-version"
    cargow LIBTORCH="$mine" -- test
    check "a CUDA build of the version is fine" equals "$status" 0
    rm "$mine/lib/libtorch.so"
    cargow LIBTORCH="$mine" -- test
    check "no library in it" equals "$status:$out" "1:"
    check "names the place" has "$err" "no $mine/lib/libtorch*"
    cargow LIBTORCH_LIB="$mine" -- test
    check "LIBTORCH_LIB alone is refused" equals "$status:$out" "1:"
    check "with the remedy" has "$err" "only work together with LIBTORCH"
    check "nothing was downloaded" equals "$(lines "$calls")" 0
}

an_empty_libtorch_counts_as_unset() {
    cargow LIBTORCH= -- test
    check "makes one" equals "$out" "cargo LIBTORCH=$final in $PWD: test"
}

takes_the_systems_unless_told_otherwise() {
    : >"$work/usr-lib-libtorch.so"
    cargow -- test
    check "LIBTORCH stays unset" equals "$out" "cargo LIBTORCH=unset in $PWD: test"
    check "says so" equals "$err" "cargow: the system's libtorch in /usr/lib"
    cargow TEXTBREWER_LIBTORCH=cpu -- test
    check "told otherwise" equals "$out" "cargo LIBTORCH=$final in $PWD: test"
    rm "$work/usr-lib-libtorch.so"
}

leaves_features_to_tch() {
    local arguments
    for arguments in "--features download-libtorch" "--features=a,download-libtorch" \
        "-F textbrewer/download-libtorch" "-Fdownload-libtorch" "--features doc-only" "--all-features"; do
        # shellcheck disable=SC2086 # the words are separate arguments
        cargow -- check $arguments
        check "$arguments" equals "$out" "cargo LIBTORCH=unset in $PWD: check $arguments"
    done
    check "nothing was downloaded" equals "$(lines "$calls")" 0
    cargow -- run -- --features download-libtorch
    check "the program's own arguments do not count" equals "$(lines "$calls")" 3
}

asks_python_when_told_to() {
    mkdir "$work/with-torch" "$work/without-torch"
    printf '#!/usr/bin/env bash\necho 2.11.0+cpu\n' >"$work/with-torch/python3"
    printf '#!/usr/bin/env bash\nexit 1\n' >"$work/without-torch/python3"
    chmod +x "$work"/with*-torch/python3
    cargow PATH="$work/with-torch:$bin" LIBTORCH_USE_PYTORCH=1 -- test
    check "LIBTORCH stays unset" equals "$out" "cargo LIBTORCH=unset in $PWD: test"
    cargow PATH="$work/without-torch:$bin" LIBTORCH_USE_PYTORCH=1 -- test
    check "no torch is an error" equals "$status:$out" "1:"
    check "with the remedy" has "$err" "python3 -m pip install torch==2.11.0"
}

# Runs cargow with a PATH that lacks one tool or has another in its place.
tells_what_the_machine_lacks() {
    local lacking=$work/lacking tool
    for tool in python3 cargo c++ flock; do
        rm -rf "$lacking" && cp -R "$bin" "$lacking" && rm "$lacking/$tool"
        cargow PATH="$lacking" -- test
        check "no $tool: refused" equals "$status:$out" "1:"
        case $tool in
            python3) check "names python3 and the remedy" has "$err" "python3 is needed to set libtorch up: install it" ;;
            cargo) check "names cargo and the remedy" has "$err" "cargo is missing: install Rust" ;;
            c++) check "names the compiler and the remedy" has "$err" "apt-get install g++" ;;
            flock) check "names flock and the remedy" has "$err" "install util-linux" ;;
        esac
        check "no $tool: one line" equals "$(lines "$work/err")" 1
    done
    replace() { rm -f "$lacking/$1"; printf '#!/usr/bin/env bash\n%s\n' "$2" >"$lacking/$1"; chmod +x "$lacking/$1"; }
    fresh() { rm -rf "$lacking"; cp -R "$bin" "$lacking"; }

    fresh; replace python3 '[ "$1" != -m ]'
    cargow PATH="$lacking" -- test
    check "no pip" has "$err" "pip is needed to set libtorch up: install it"
    fresh; replace uname 'echo Darwin arm64'
    cargow PATH="$lacking" -- test
    check "another platform" has "$err" "cannot set libtorch up on Darwin arm64, only on Linux x86_64"
    fresh; replace getconf 'echo glibc 2.27'
    cargow PATH="$lacking" -- test
    check "an old glibc" has "$err" "needs glibc 2.28, and this system has 2.27"
    fresh; replace df 'printf "Filesystem\nx 1 1 100 1%% /\n"'
    cargow PATH="$lacking" -- test
    check "a full disk" has "$err" "$cache has 100 MB free"
    cargow TEXTBREWER_LIBTORCH=gpu -- test
    check "a flavour that is none" has "$err" "TEXTBREWER_LIBTORCH=gpu: it is cpu or cuda"
    : >"$work/file"
    cargow TEXTBREWER_LIBTORCH_CACHE="$work/file/cache" -- test
    check "a cache that cannot be" has "$err" "cannot write to $work/file/cache"
    check "nothing was downloaded" equals "$(lines "$calls")" 0
    check "nothing was made" equals "$(contents)" ""
}

refuses_corrupted_wheels() {
    local damaged=$work/damaged
    cp -R "$wheels" "$damaged"
    printf x >>"$(echo "$damaged"/nvidia_cuda_cupti-*)"
    cargow PIP_WHEELS="$damaged" -- test
    check "downloaded: refused" equals "$status:$out" "1:"
    check "downloaded: names the file" has "$err" "cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl is not the published file"
    check "downloaded: nothing left" equals "$(contents)" ""
    cargow TEXTBREWER_WHEELS="$damaged" -- test
    check "given: refused" equals "$status:$out" "1:"
    check "given: nothing left" equals "$(contents)" ""
    check "given: the file is the user's and stays" test -f "$(echo "$damaged"/nvidia_cuda_cupti-*)"
    # The sums in the file itself are of the published wheels, which ours are not.
    cargow -- test
    check "right ones: accepted" equals "$status" 0
    rm -rf "$final"
    env -i PATH="$bin" TEXTBREWER_LIBTORCH_CACHE="$cache" TEXTBREWER_WHEELS="$wheels" \
        TEXTBREWER_LIBTORCH=cpu "$here/cargow" test >"$work/out" 2>"$work/err"
    status=$? out=$(cat "$work/out") err=$(cat "$work/err")
    check "cargow as it is refuses other wheels" equals "$status:$out" "1:"
    check "and names the first" has "$err" "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl is not the published file"
}

takes_wheels_from_a_folder() {
    cargow TEXTBREWER_WHEELS="$wheels" -- test
    check "made" equals "$out" "cargo LIBTORCH=$final in $PWD: test"
    check "without pip" equals "$(lines "$calls")" 0
    check "the wheels stay" equals "$(find "$wheels" -name '*.whl' | grep -c '')" 4
    rm -rf "$final"
    mkdir "$work/empty"
    cargow TEXTBREWER_WHEELS="$work/empty" -- test
    check "an empty folder is refused" equals "$status:$out" "1:"
    check "with the name of what is missing" has "$err" "no $work/empty/torch-2.11.0-cp311"
}

a_failed_download_is_told_and_leaves_nothing() {
    cargow BEFORE_PIP='echo "no matching distribution"; exit 1' -- test
    check "refused" equals "$status:$out" "1:"
    check "what to do" has "$err" "pip could not download the parts of libtorch: try again"
    check "pip's own words" has "$err" "no matching distribution"
    check "nothing left" equals "$(contents)" ""
}

survives_interruption() {
    local signal
    # While the second wheel comes: TERM lets cargow clean up, KILL does not.
    for signal in INT TERM KILL; do
        cargow BEFORE_PIP='mkdir -p "$dest"; case $name in *runtime) echo half >"$dest/half"; kill -'$signal' $PPID; exit 1; esac' -- test
        check "$signal: fails" test "$status" -ne 0
        check "$signal: no cargo" equals "$out" ""
        check "$signal: nothing half-made" test ! -e "$final"
        if [ "$signal" != KILL ]; then check "$signal: nothing left" equals "$(contents)" ""; fi
    done
    check "a killed run leaves its folder" has "$(contents)" "./.making-2.11.0-cpu."
    cargow -- test
    check "the next run succeeds" equals "$out" "cargo LIBTORCH=$final in $PWD: test"
    check "and removes what the killed one left" equals "$(contents)" "./libtorch-2.11.0-cpu "
}

two_at_once_make_it_once() {
    local first line waited=no
    mkfifo "$work/started" "$work/go" "$work/second-err"
    # The first one stops in its first download until the second one says that it waits.
    (cargow BEFORE_PIP='case $name in torch) echo >"'"$work"'/started"; read -r <"'"$work"'/go"; esac' -- first
        printf '%s\n' "$out" >"$work/first-out") &
    first=$!
    read -r line <"$work/started"
    env -i PATH="$bin" TEXTBREWER_LIBTORCH_CACHE="$cache" PIP_CALLS="$calls" PIP_WHEELS="$wheels" \
        "$work/cargow" second >"$work/second-out" 2>"$work/second-err" &
    err=
    while read -r line; do
        err="$err$line "
        case $line in *"another cargow is setting libtorch up"*) waited=yes; echo >"$work/go" ;; esac
    done <"$work/second-err"
    if [ "$waited" = no ]; then echo >"$work/go"; fi
    wait "$first"; wait
    status='' out="$(cat "$work/first-out") $(cat "$work/second-out")"
    check "the second waits and says so" equals "$waited" yes
    check "the first has it" equals "$(cat "$work/first-out")" "cargo LIBTORCH=$final in $PWD: first"
    check "the second has it" equals "$(cat "$work/second-out")" "cargo LIBTORCH=$final in $PWD: second"
    check "made once" equals "$(lines "$calls")" 3
}

package() { printf '[[package]]\nname = "%s"\nversion = "%s"\n' "$1" "$2"; }

makes_the_one_that_tch_needs() {
    local project=$work/project newer=$cache/libtorch-2.13.0-cpu
    mkdir "$project"
    { package other 0.24.0; package tch 0.26.1; package torch-sys 0.26.0; } >"$project/Cargo.lock"
    cargow PROJECT="$project" -- build
    check "of the project's Cargo.lock" has "$out" "LIBTORCH=$newer in"
    check "with its version" equals "$(cat "$newer/build-version")" "2.13.0"
    check "which pip was asked for" has "$(cat "$calls")" "torch==2.13.0"
    cargow -- build
    check "beside the other" equals "$(contents)" "./libtorch-2.11.0-cpu ./libtorch-2.13.0-cpu "

    rm "$project/Cargo.lock"
    cargow PROJECT="$project" LOCKED="$(package tch 0.26.0)" -- build
    check "a project without Cargo.lock gets one first" has "$out" "LIBTORCH=$newer in"
    check "what is missing is fetched before the first build" has "$(cat "$project/fetched")" \
        "fetched: fetch --quiet"
    check "and said in a line" has "$err" "fetching the crates"
    mkdir "$project/target"
    cargow PROJECT="$project" LOCKED=yes -- build
    check "and only then" lacks "$err" "fetching the crates"

    package tch 0.24.0 >"$project/Cargo.lock"
    touch -d '1 minute ago' "$project/Cargo.lock"
    : >"$project/Cargo.toml"
    cargow PROJECT="$project" LOCKED="$(package tch 0.26.0)" -- build
    check "one that is older than Cargo.toml is made current" has "$out" "LIBTORCH=$newer in"
    rm "$project/Cargo.toml"

    package tch 0.23.0 >"$project/Cargo.lock"
    cargow PROJECT="$project" -- build
    check "another tch is refused" equals "$status:$out" "1:"
    check "with what to do" has "$err" "has tch 0.23.0, and textbrewer works with 0.24 (libtorch 2.11.0) and 0.26"

    local mine=$work/libtorch-of-mine
    mkdir -p "$mine/lib" "$mine/include/torch"
    : >"$mine/lib/libtorch.so"
    echo "2.11.0" >"$mine/build-version"
    package tch 0.26.0 >"$project/Cargo.lock"
    cargow PROJECT="$project" LIBTORCH="$mine" -- build
    check "LIBTORCH has to fit" has "$err" "is libtorch 2.11.0, and tch 0.26.0 needs 2.13.0"
}

leaves_to_cargo_what_it_will_refuse() {
    local project=$work/unlocked
    mkdir -p "$project/inner"
    cargow PROJECT="$project" LOCKED="$(package tch 0.26.0)" -- build --locked
    check "no lock is made where none may be" test ! -e "$project/Cargo.lock"
    check "and no libtorch" equals "$out$(contents)" "cargo LIBTORCH=unset in $PWD: build --locked"
    : >"$project/Cargo.toml"
    cd "$project/inner" || exit 1
    cargow PROJECT=broken -- build
    check "nor for a Cargo.toml that cargo cannot read" equals "$out$(contents)" "cargo LIBTORCH=unset in $PWD: build"
    cd "$work/nowhere" || exit 1
    cargow -- new app
    check "nor to make a project" equals "$out$(contents)" "cargo LIBTORCH=unset in $PWD: new app"
    cargow PROJECT="$project" LOCKED="$(package tch 0.24.0)" -- build --offline
    check "the flags are for all calls" has "$(cat "$project/fetched")" "fetch --quiet --offline"
}

works_from_another_folder() {
    local elsewhere=$work/elsewhere
    mkdir "$elsewhere"
    cd "$elsewhere" || exit 1
    cargow PROJECT="$here" TEXTBREWER_LIBTORCH_CACHE=relative -- test --manifest-path ../Cargo.toml
    check "cargo runs where the user is, LIBTORCH is absolute" equals "$out" \
        "cargo LIBTORCH=$elsewhere/relative/libtorch-2.11.0-cpu in $elsewhere: test --manifest-path ../Cargo.toml"
    cd "$work/nowhere" || exit 1
}

uses_the_users_cache_folder() {
    cargow TEXTBREWER_LIBTORCH_CACHE= XDG_CACHE_HOME="$work/xdg" -- test
    check "XDG_CACHE_HOME" has "$out" "LIBTORCH=$work/xdg/textbrewer/libtorch-2.11.0-cpu in"
    cargow TEXTBREWER_LIBTORCH_CACHE= -- test
    check "HOME" has "$out" "LIBTORCH=$work/home/.cache/textbrewer/libtorch-2.11.0-cpu in"
    cargow TEXTBREWER_LIBTORCH_CACHE= HOME= -- test
    check "neither" has "$err" "set HOME or TEXTBREWER_LIBTORCH_CACHE"
}

status='' out='' err=''
# Not in a project: cargow looks for a Cargo.toml.
mkdir "$work/nowhere" && cd "$work/nowhere" || exit 1
for test in makes_one_and_keeps_it makes_the_one_that_tch_needs leaves_to_cargo_what_it_will_refuse hands_on_cargos_exit_status respects_the_users_libtorch \
    an_empty_libtorch_counts_as_unset takes_the_systems_unless_told_otherwise \
    leaves_features_to_tch asks_python_when_told_to \
    tells_what_the_machine_lacks refuses_corrupted_wheels takes_wheels_from_a_folder \
    a_failed_download_is_told_and_leaves_nothing survives_interruption two_at_once_make_it_once \
    works_from_another_folder uses_the_users_cache_folder; do
    begin "$test"
    "$test"
done
echo "cargow: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
