#!/bin/sh
# The docs page's library, from npm's package (package-lock.json) into ours: the page must work without the internet.
# A test compares the copies with the package; run this after its version changes.
set -eu
cd "$(dirname "$0")/.."
from=node_modules/swagger-ui-dist
to=src/app/http/docs/swagger_ui
[ -d "$from" ] || { echo "$from is missing: run \`make tools\` first" >&2; exit 1; }
mkdir -p "$to"
for file in swagger-ui-bundle.js swagger-ui.css swagger-ui-bundle.js.LICENSE.txt LICENSE NOTICE; do
  cp "$from/$file" "$to/$file"
done
