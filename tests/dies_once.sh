#!/bin/sh
# Runs the example `resume`, whose path is $1, with the output folder $2, as one of several
# processes. In the first life of all, process 0 is killed in the middle of a checkpoint, and this
# script with it.
if [ "$RANK" != 0 ] || [ "$TORCHELASTIC_RESTART_COUNT" != 0 ]; then
    exec "$1" --output-dir "$2"
fi
pipes=$(mktemp -d) || exit 1
mkfifo "$pipes/in" "$pipes/out" || exit 1
"$1" --announce --output-dir "$2" <"$pipes/in" >"$pipes/out" &
exec 3>"$pipes/in" 4<"$pipes/out"
rm -r "$pipes"
checkpoints=0
while read -r line <&4; do
    # The third time that a file takes its place: of the second checkpoint.
    case $line in "file Rename"*) checkpoints=$((checkpoints + 1)) ;; esac
    [ "$checkpoints" = 3 ] && break
    echo >&3
done
kill -KILL $!
kill -KILL $$
