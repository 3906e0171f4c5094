#!/bin/sh
# Tools of the tests that PyPI does not have, into the project folder and without root: npm's by package-lock.json's
# hashes, promtool and kubectl out of Debian's packages. Where those cannot be had, the tests that need them are skipped.
set -eu
PATH="$PWD/.venv/bin:$PATH" npm ci --silent
tools="$PWD/.tools"
mkdir -p "$tools"

# PROGRAM PACKAGE: the program out of Debian's package, if the machine has none.
fetch() {
  if command -v "$1" >/dev/null || [ -x "$tools/$1" ] || ! command -v apt-get >/dev/null; then return; fi
  echo "Fetching $1 (Debian's package, unpacked into .tools) …"
  apt="$tools/apt"
  mkdir -p "$apt/archives/partial"
  (
    cd "$apt"
    [ -d lists ] || { mkdir -p lists/partial && apt-get -qq -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o APT::Sandbox::User= update; }
    apt-get -qq -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o APT::Sandbox::User= download "$2" &&
      dpkg -x "$2"_*.deb "$apt/$2" && cp "$apt/$2/usr/bin/$1" "$tools/$1"
  ) >/dev/null 2>&1 || echo "$1 cannot be had here: its tests will be skipped"
}
fetch promtool prometheus
fetch kubectl kubernetes-client
rm -rf "$tools/apt"
touch node_modules/.installed
