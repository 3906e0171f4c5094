#!/bin/sh
# Tools of the tests that PyPI does not have, into the project folder and without root: npm's by package-lock.json's
# hashes, promtool out of Debian's package. Where Debian's packages cannot be had, the tests that need promtool are skipped.
set -eu
PATH="$PWD/.venv/bin:$PATH" npm ci --silent
tools="$PWD/.tools"
mkdir -p "$tools"
if ! command -v promtool >/dev/null && [ ! -x "$tools/promtool" ] && command -v apt-get >/dev/null; then
  echo "Fetching promtool (Debian's package, unpacked into .tools) …"
  apt="$tools/apt"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  (
    cd "$apt"
    apt-get -qq -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o APT::Sandbox::User= update &&
      apt-get -qq -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o APT::Sandbox::User= download prometheus &&
      dpkg -x prometheus_*.deb "$apt/prometheus" && cp "$apt/prometheus/usr/bin/promtool" "$tools/promtool"
  ) >/dev/null 2>&1 || echo "promtool cannot be had here: its tests will be skipped"
  rm -rf "$apt"
fi
touch node_modules/.installed
