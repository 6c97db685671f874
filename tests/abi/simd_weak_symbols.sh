#!/usr/bin/env bash
# simd_weak_symbols.sh OBJECT...: fails if an object of a SIMD unit (avx2*, avx512*, neon*) defines a weak function.
set -euo pipefail
units=0
faults=0
for object in "$@"; do
  case "$(basename "$object")" in
    avx2*|avx512*|neon*) ;;
    *) continue ;;
  esac
  units=$((units + 1))
  if weak=$(nm -C --defined-only "$object" | grep -E ' [Ww] '); then
    faults=$((faults + 1))
    echo "$object: weak functions compiled for one instruction set:"
    echo "$weak"
  fi
done
echo "simd units: $units checked, $faults with shared code"
[ "$faults" = 0 ]
