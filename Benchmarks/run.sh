#!/bin/bash
# Measures speed and memory and prints them beside upstream's figures: Benchmarks/run.sh MARTLET
set -eu
cd "$(dirname "$0")"
command -v wrk >/dev/null || { run=(); [ "$(id -u)" = 0 ] || run=(sudo); "${run[@]}" apt-get install -y -q wrk >/dev/null; }
exec python3 run.py "$(cd .. && realpath "${1:-.build/release/martlet}")"
