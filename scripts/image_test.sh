#!/bin/sh
# Builds the image without a container engine and tries it: `make image-test`. Needs root and scripts/system_packages.sh.
# BASE: an image to build on; without it a small Debian with Python is made here once (no registry of images is asked).
set -eu
[ "$(id -u)" = 0 ] || { echo "make image-test needs root: it mounts the image read-only and enters it" >&2; exit 2; }
command -v buildah >/dev/null && command -v debootstrap >/dev/null || { echo "first run scripts/system_packages.sh" >&2; exit 2; }
# Layers are big and of no use afterwards: outside the tree, and not on a tmpfs.
work=${IMAGE_WORK:-/var/tmp/wattos-image}
mkdir -p "$work"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
b() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }
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
    rm -rf "$work/debian"
  fi
fi
# The way to the package registry, where this machine has one of its own.
volumes=$(for path in /etc/ssl/certs /etc/pip.conf; do [ ! -e "$path" ] || printf ' -v %s:%s:ro' "$path" "$path"; done)
echo "Building …"
# shellcheck disable=SC2086  # a list of words
b bud --quiet --format docker --network host --layers=false --build-arg "BASE=$base" $volumes -t localhost/wattos . >"$work/build.log" 2>&1 ||
  { tail -n 30 "$work/build.log" >&2; exit 1; }
container=$(b from localhost/wattos)
trap 'b umount "$container" >/dev/null; b rm "$container" >/dev/null' EXIT
b inspect --type image localhost/wattos >"$work/image.json"
IMAGE_ROOT=$(b mount "$container") IMAGE_JSON="$work/image.json" .venv/bin/python -m pytest -p no:cacheprovider tests/image "$@"
