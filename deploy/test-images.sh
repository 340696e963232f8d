#!/usr/bin/env bash
# Makes the images that the tests run, out of what is on this machine, since a
# test must not depend on a registry: `docker import` of Debian's busybox-static.
#
#   slipway-test/busybox:latest   /bin/sh and every applet, users, /tmp
#
# An image that is there already and was made of the same inputs is kept.
set -euo pipefail

readonly IMAGE=slipway-test/busybox:latest

say() { echo "test-images: $*" >&2; }

find_busybox() {
	local b
	for b in /bin/busybox /usr/bin/busybox "$(command -v busybox || true)"; do
		# A static one only: nothing else is in the image.
		[[ -x $b ]] && ! ldd "$b" >/dev/null 2>&1 && { echo "$b"; return; }
	done
	return 1
}

if ! busybox=$(find_busybox); then
	if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
		say "cannot find a static busybox: install Debian's busybox-static"
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq >&2 || true
	apt-get install -y -qq --no-install-recommends busybox-static >&2
	busybox=$(find_busybox)
fi

inputs=$(cat "${BASH_SOURCE[0]}" "$busybox" | sha256sum | cut -c1-32)
if [[ $(docker image inspect -f '{{index .Config.Labels "io.slipway.inputs"}}' "$IMAGE" 2>/dev/null || true) == "$inputs" ]]; then
	say "$IMAGE is there"
	exit 0
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,tmp,var/tmp,root,home/user,work}
chmod 1777 "$root/tmp" "$root/var/tmp"
cp "$busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
"$busybox" --list-full | while read -r applet; do
	[[ $applet == bin/busybox ]] && continue
	mkdir -p "$root/$(dirname "$applet")"
	ln -sf /bin/busybox "$root/$applet"
done
ln -sf /bin/busybox "$root/bin/sh"
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n' >"$root/etc/group"
chown -R 1000:1000 "$root/home/user" 2>/dev/null || true

tar -C "$root" --numeric-owner -c . | docker import \
	--change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
	--change 'CMD ["/bin/sh"]' \
	--change "LABEL io.slipway.inputs=$inputs" \
	- "$IMAGE" >/dev/null
say "made $IMAGE"
