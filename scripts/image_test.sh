#!/bin/sh
# Builds the image without a container engine and tries it: `make image-test`. Needs root and scripts/system_packages.sh.
# BASE: an image to build on; without it a small Debian with Python is made here once (no registry of images is asked).
# IMAGE_WORK: a directory with 5 GB of room on a real disk; only the base (180 MB) stays in it.
set -eu
[ "$(id -u)" = 0 ] || { echo "make image-test needs root: it mounts the image read-only and enters it" >&2; exit 2; }
command -v buildah >/dev/null && command -v debootstrap >/dev/null || { echo "first run scripts/system_packages.sh" >&2; exit 2; }
work=${IMAGE_WORK:-/var/tmp/wattos-image}
mkdir -p "$work"
# vfs copies whole layers, and works where the kernel has no overlay file system for us: inside a container, too.
b() { buildah --root "$work/vfs" --runroot "$work/run" --storage-driver vfs "$@"; }
export BUILDAH_ISOLATION=chroot
image=localhost/wattos-test
container=
clean_up() {
  [ -z "$container" ] || { b umount "$container"; b rm "$container"; } >/dev/null
  b rmi --force "$image" >/dev/null 2>&1 || true
  b rmi --prune >/dev/null 2>&1 || true
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

base=${BASE:-}
if [ -z "$base" ]; then
  base=localhost/wattos-base
  if ! b inspect --type image "$base" >/dev/null 2>&1; then
    echo "Making a base image: Debian bookworm with Python …"
    rm -rf "$work/debian"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/debian" >"$work/debootstrap.log"
    rm -rf "$work/debian/var/cache/apt" "$work/debian/var/lib/apt/lists"
    container=$(b from scratch)
    b add "$container" "$work/debian" / >/dev/null
    b commit --quiet "$container" "$base" >/dev/null
    b rm "$container" >/dev/null
    container=
    rm -rf "$work/debian"
  fi
fi

# The way to the package registry, where this machine has one of its own.
volumes=$(for path in /etc/ssl/certs /etc/pip.conf; do [ ! -e "$path" ] || printf ' -v %s:%s:ro' "$path" "$path"; done)
echo "Building …"
started=$(date +%s)
# shellcheck disable=SC2086  # a list of words
b bud --quiet --format docker --network host --layers=false --build-arg "BASE=$base" $volumes -t "$image" . >"$work/build.log" 2>&1 ||
  { tail -n 30 "$work/build.log" >&2; exit 1; }
echo "Built in $(($(date +%s) - started)) s: $(b images --format '{{.Size}}' "$image"), of which the base $(b images --format '{{.Size}}' "$base")"
container=$(b from "$image")
b inspect --type image "$image" >"$work/image.json"
root=$(b mount "$container")
IMAGE_ROOT=$root IMAGE_JSON="$work/image.json" IMAGE_REPORT="$work/resident.txt" .venv/bin/python -m pytest -p no:cacheprovider tests/image "$@"
echo "Memory in use, children included:" && cat "$work/resident.txt"
