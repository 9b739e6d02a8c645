#!/usr/bin/env bash
# Builds and runs tests/downstream as a project of a user's own, outside this workspace: with the
# build.rs that README.md tells users to write, and from the crates as they would be published.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT

# What users add of their own is to stay short, comments and imports aside.
for file in distiller term ema dkd head; do
    lines=$(grep -cvE '^ *(//|use |$)' "tests/downstream/src/$file.rs")
    [ "$lines" -lt 40 ] || { echo "tests/downstream/src/$file.rs: $lines lines" >&2; exit 1; }
done

# Not verified by cargo: it would build them here with the names of what is built from the working
# tree, and mix the two up. Always in one folder, so that what was built once serves again.
"$root/cargow" package --quiet --no-verify --allow-dirty -p textbrewer-derive -p textbrewer
packed=$target/packed
rm -rf "$packed"
mkdir -p "$packed"
# -m: packed files have one time, by which cargo would not notice that they have changed.
for crate in "$target"/package/*.crate; do tar -xzmf "$crate" -C "$packed"; done
rm -r "$target/package"

cp -r tests/downstream/. "$project"
sed -i "s|PACKED|$packed|" "$project/Cargo.toml"
awk '/^```rust,ignore$/ {on = 1; next} /^```$/ {on = 0} on' README.md >"$project/build.rs"
grep -q rustc-link-arg "$project/build.rs" || { echo "README.md shows no build.rs" >&2; exit 1; }
# The versions that are built already.
cp Cargo.lock "$project"

cd "$project"
CARGO_TARGET_DIR=$target "$root/cargow" run --quiet -- "$project/saved"
ls "$project"/saved/gs*.safetensors >/dev/null
