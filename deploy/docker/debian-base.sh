#!/bin/sh
# A base for the image where no registry can be reached: Debian's own packages, as localhost/python:SUITE.
#   sh deploy/docker/debian-base.sh && buildah build --build-arg PYTHON=localhost/python:bookworm …
# Needs root, debootstrap and buildah. SUITE names another Debian (bookworm: Python 3.11, trixie: 3.13, forky: 3.14),
# MIRROR another mirror. Certificates that this machine trusts are trusted in the base. A label has this script's SHA-256.
# Ends with status 3 where debootstrap fails: it may not mount here, or has no mirror.
set -eu
suite=${SUITE:-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}
script= # a suite that is newer than this debootstrap is made as the newest that it knows
[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=sid
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$suite" "$folder" "$mirror" $script >&2 || exit 3
ln -s python3 "$folder/usr/bin/python"
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/*
container=$(buildah from scratch)
buildah add --quiet "$container" "$folder" / >/dev/null
buildah config --label "made-by-sha256=$(sha256sum "$0" | cut -d ' ' -f 1)" "$container"
buildah commit --quiet --rm "$container" "localhost/python:$suite"
