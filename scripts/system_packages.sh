#!/bin/sh
# Debian packages that `make image-test` needs: a builder without a daemon, and a base image made here. Needs root.
# Nothing else in this project needs a system package.
set -eu
[ "$(id -u)" = 0 ] || { echo "run as root: $0" >&2; exit 2; }
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends buildah debootstrap
