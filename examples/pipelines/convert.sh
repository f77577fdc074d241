#!/bin/sh
# Convert a model in a pipeline: keep the artifact if it was verified, say why if it was not.
#
#     convert.sh MODEL TARGET FOLDER [more options of edgec convert]
#
# FOLDER gets the artifact, manifest.json and result.json (the JSON document that edgec printed).
# The exit code is edgec's: 0 verified, 1 not the same function, 2 usage, 3 bad model, 4 the target cannot hold it, ...
# Needs: edgec and python3 on PATH (or named in $EDGEC and $PYTHON).  Nothing else: no jq.
set -u

if [ $# -lt 3 ]; then
    echo "usage: $0 MODEL TARGET FOLDER [options]" >&2
    exit 2
fi
model=$1 target=$2 folder=$3
shift 3
edgec=${EDGEC:-edgec}
python=${PYTHON:-python3}

document=$(mktemp) || exit 70
trap 'rm -f "$document"' EXIT
trap 'exit 130' INT TERM

# Read one field of the JSON document: `field error.code` prints its value, or nothing if there is none.
field() {
    "$python" -c '
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
value = json.loads(text) if text.strip() else None  # a process that was killed has printed nothing
for key in sys.argv[2].split("."):
    value = value.get(key) if isinstance(value, dict) else None
print("" if value is None else value)
' "$document" "$1"
}

"$edgec" convert "$model" --target "$target" -o "$folder" --json "$@" >"$document"
code=$?

if [ "$code" -ne 0 ]; then
    echo "not converted (exit $code): $(field error.code) $(field error.message)" >&2
    help=$(field error.help)
    [ -z "$help" ] || echo "try: $help" >&2
    exit "$code"
fi

# Exit 0 means verified; the document must say the same before the artifact may be shipped.
if [ "$(field status)" != ok ]; then
    echo "exit 0, but status is '$(field status)'" >&2
    exit 70
fi
cp "$document" "$folder/result.json" || exit 70
echo "artifact: $(field artifact)"
echo "manifest: $(field manifest)"
