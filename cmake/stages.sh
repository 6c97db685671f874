#!/usr/bin/env bash
# Runs make targets one after the other, each as a stage with its time; stops at the first that fails.
# The runners' own output stays as it is, so that their closing lines (ctest, pytest, cargo, go) can be read.
set -uo pipefail
cd "$(dirname "$0")/.."

total=$#
number=0
table=""
began=$SECONDS
for stage in "$@"; do
  number=$((number + 1))
  start=$SECONDS
  echo
  echo "==== stage $number of $total: $stage"
  if ! "${MAKE:-make}" --no-print-directory "$stage"; then
    echo
    printf '%s' "$table"
    echo "==== FAILED in stage $number of $total: $stage (after $((SECONDS - start)) s)"
    echo "     again, this stage alone: make $stage"
    exit 1
  fi
  table+=$(printf '%-20s %5d s' "$stage" $((SECONDS - start)))$'\n'
done
echo
printf '%s' "$table"
echo "==== all $total stages passed in $((SECONDS - began)) s"
