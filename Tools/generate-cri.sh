#!/bin/bash
# Regenerates Sources/CRI/Generated from Tools/cri/*.proto. Needs protoc (Debian: protobuf-compiler); protoc-gen-swift is
# built from the same swift-protobuf version that Package.resolved pins, unless PROTOC_GEN_SWIFT names a built one.
# With --check it changes nothing and fails when the committed files are not current.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
plugin=${PROTOC_GEN_SWIFT:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$plugin" ]; then
    cp -r "$root/.build/checkouts/swift-protobuf" "$work/swift-protobuf"
    (cd "$work/swift-protobuf" && nice swift build -c release --product protoc-gen-swift)
    plugin=$work/swift-protobuf/.build/release/protoc-gen-swift
fi
mkdir "$work/out"
protoc --plugin=protoc-gen-swift="$plugin" --swift_opt=Visibility=Package --swift_opt=UseAccessLevelOnImports=true \
    --swift_out="$work/out" -I "$root/Tools/cri" common.proto sandbox.proto container.proto image.proto
if [ "${1:-}" = --check ]; then
    diff -r "$work/out" "$root/Sources/CRI/Generated"
else
    mkdir -p "$root/Sources/CRI/Generated"
    cp "$work"/out/*.swift "$root/Sources/CRI/Generated/"
fi
