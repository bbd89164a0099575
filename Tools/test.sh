#!/bin/bash
# Runs the tests and closes with one line: N passed, N failed.
#   Tools/test.sh            everything
#   Tools/test.sh unit       what swift test runs (unit, in-process cluster, privileged suites)
#   Tools/test.sh cluster    the real binary with kubectl
set -u
cd "$(dirname "$0")/.."
which=${1:-all}
logs=$(mktemp -d); passed=0; failed=0; broken=0

count() { # count LOG: adds the closing lines of swift test and of the cluster tests
  local line p f
  while read -r line; do
    if [[ $line =~ Test\ run\ with\ ([0-9]+)\ test ]]; then
      p=${BASH_REMATCH[1]}; f=0
      # Swift Testing prints a line for each failed test.
      f=$(grep -cE '^(✘|.*[[:space:]]✘) Test .* failed after' "$1"); passed=$((passed + p - f)); failed=$((failed + f))
    elif [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
      passed=$((passed + BASH_REMATCH[1])); failed=$((failed + BASH_REMATCH[2]))
    fi
  done < "$1"
}

step() { # step NAME COMMAND...
  local name=$1 status; shift
  echo "== $name"
  "$@" 2>&1 | tee "$logs/$name" | grep -vE '^(◇|✔|\[[0-9]+/[0-9]+\]|warning: |Building|Build complete)|passed after' ; status=${PIPESTATUS[0]}
  # The closing line of a part is counted, not shown: there is one closing line in all.
  count "$logs/$name"
  if [ "$status" -ne 0 ] && ! grep -qE '(Test run with|[0-9]+ passed, [0-9]+ failed)' "$logs/$name"; then
    echo "$name did not run to its end (status $status):"; tail -n 40 "$logs/$name"; broken=$((broken + 1))
  fi
}

if [ "$which" = all ] || [ "$which" = unit ]; then
  step generated Tools/generate.py --check
  step build swift build --build-tests
  step swift-test swift test --skip-build --no-parallel
fi
if [ "$which" = all ] || [ "$which" = cluster ]; then
  [ -x .build/debug/martlet ] && [ "$which" = all ] || step build swift build --product martlet
  step cluster python3 Tests/cluster/run.py --martlet .build/debug/martlet
fi
failed=$((failed + broken))
rm -rf "$logs"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
