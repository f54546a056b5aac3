#!/bin/sh
# Installs the reference into WORK_DIR (once per lock file) and compares. Fails where npm fails.
# Usage: run_cross.sh WORK_DIR JINJA_RENDER
set -eu
source_dir=$(cd "$(dirname "$0")" && pwd)
work_dir=$1
mkdir -p "$work_dir"
if ! cmp -s "$source_dir/package-lock.json" "$work_dir/installed-lock.json"; then
  cp "$source_dir/package.json" "$source_dir/package-lock.json" "$work_dir/"
  (cd "$work_dir" && npm ci --no-audit --no-fund --ignore-scripts)
  cp "$source_dir/package-lock.json" "$work_dir/installed-lock.json"
fi
TZ=UTC LC_ALL=C node "$source_dir/cross.mjs" "$work_dir" "$2"
