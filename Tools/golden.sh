#!/bin/bash
# Replays the exchanges recorded from upstream against a fresh control plane: Tools/golden.sh MARTLET [FILE...]
set -u
martlet=$1; shift
root=$(cd "$(dirname "$0")/.." && pwd)
golden=${MARTLET_GOLDEN:-$root/../shared/golden}
files=("$@"); [ ${#files[@]} -gt 0 ] || files=(defaults.json errors.json change.json)
work=$(mktemp -d); port=$((20000 + RANDOM % 20000))
echo 'golden,bench,11111111-1111-1111-1111-111111111111,"system:masters"' > "$work/tokens.csv"
"$martlet" server --data-dir "$work/data" --port $port --disable scheduler,controllers --token-auth-file "$work/tokens.csv" > "$work/log" 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 200); do curl -sk "https://127.0.0.1:$port/readyz" >/dev/null && break; sleep 0.05; done
cd "$golden" && python3 replay.py compare "${files[@]}" --server "https://127.0.0.1:$port" --token golden
