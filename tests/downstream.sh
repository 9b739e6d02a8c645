#!/usr/bin/env bash
# Builds and runs tests/downstream as a project of a user's own, outside this workspace,
# with the build.rs that README.md tells users to write.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT

# What users add of their own is to stay short, comments and imports aside.
for file in distiller term ema dkd head; do
    lines=$(grep -cvE '^ *(//|use |$)' "tests/downstream/src/$file.rs")
    [ "$lines" -lt 40 ] || { echo "tests/downstream/src/$file.rs: $lines lines" >&2; exit 1; }
done

cp -r tests/downstream/. "$project"
sed -i "s|TEXTBREWER|$root|" "$project/Cargo.toml"
awk '/^```rust,ignore$/ {on = 1; next} /^```$/ {on = 0} on' README.md >"$project/build.rs"
grep -q rustc-link-arg "$project/build.rs" || { echo "README.md shows no build.rs" >&2; exit 1; }
# The versions that are built already.
cp Cargo.lock "$project"

cd "$project"
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target} "$root/cargow" run --quiet -- "$project/saved"
ls "$project"/saved/gs*.safetensors >/dev/null
