#!/usr/bin/env bash
# Makes the image in which the project's own workflow runs its steps, out of what
# is on this machine, so that the demo needs no registry from outside: the host's
# own Go, git, docker client, shell and everyday programs with the libraries they
# are linked to, streamed into `docker import`.
#
#   deploy/demo-image.sh [IMAGE]     default slipway-demo/go:latest
#
# An image of the same inputs that is there already is kept (a label tells).
# Users' own workflows name ordinary images instead.
set -euo pipefail

readonly IMAGE=${1:-slipway-demo/go:latest}

say() { echo "demo-image: $*" >&2; }
die() {
	say "cannot $*"
	exit 1
}

for program in go git docker tar ldd; do
	command -v "$program" >/dev/null || die "make $IMAGE: no $program in PATH"
done

# What a step may want of a shell; what a host lacks is left out.
PROGRAMS=(sh bash git docker env cat cp mv rm mkdir rmdir ls ln chmod chown sleep date id uname
	tee test '[' true false printf echo dirname basename mktemp touch stat head tail cut tr sort uniq wc
	grep sed awk find xargs sha256sum cmp diff tar gzip seq timeout nproc df du pwd readlink realpath ps kill
	expr od hostname who)

goroot=$(go env GOROOT)
inputs=$({
	cat "${BASH_SOURCE[0]}"
	go version
	echo "$goroot"
	for program in "${PROGRAMS[@]}"; do
		path=$(type -P "$program" || true)
		[[ -z $path ]] || stat -L -c '%n %s %Y' "$path"
	done
	cat /etc/ssl/certs/ca-certificates.crt 2>/dev/null || true
} | sha256sum | cut -c1-32)
if [[ $(docker image inspect -f '{{index .Config.Labels "io.slipway.inputs"}}' "$IMAGE" 2>/dev/null || true) == "$inputs" ]]; then
	say "$IMAGE is there"
	exit 0
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/usr/{bin,sbin,lib,lib64,local/bin} "$root"/{etc/ssl/certs,proc,sys,dev,tmp,var/tmp,run,root,home}
# One /usr, also where the host still has two, so that every path of ldd is good.
ln -s usr/bin "$root/bin"
ln -s usr/sbin "$root/sbin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
ln -s /run "$root/var/run"
chmod 1777 "$root/tmp" "$root/var/tmp"

# add_libs FILE: what the loader wants for it, at the same paths.
add_libs() {
	# A static program has none, which is no failure.
	{ ldd "$1" 2>/dev/null || true; } | { grep -oE '/[^ ]+' || true; } | while read -r lib; do
		[[ -e $root$lib ]] && continue
		mkdir -p "$root$(dirname "$lib")"
		cp -L "$lib" "$root$lib"
	done
}

for program in "${PROGRAMS[@]}"; do
	path=$(type -P "$program" || true)
	[[ -n $path ]] || continue
	cp -L "$path" "$root/usr/bin/$program"
	add_libs "$path"
done

# git runs most of its commands itself; these few are programs of their own.
core=$(git --exec-path)
mkdir -p "$root$core" "$root/usr/share/git-core/templates"
for helper in "$core"/*; do
	name=$(basename "$helper")
	case $name in
	git-remote-http | git-upload-pack | git-receive-pack | git-index-pack | git-sh-setup | git-submodule)
		cp -L "$helper" "$root$core/$name"
		add_libs "$helper"
		;;
	esac
done
if [[ -e $root$core/git-remote-http ]]; then ln -s git-remote-http "$root$core/git-remote-https"; fi

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || say "no CA certificates on this host"
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

# The image that the name leaves would lie about without one.
before=$(docker image inspect -f '{{.Id}}' "$IMAGE" 2>/dev/null || true)

# One stream: the small root, then GOROOT without what only Go's own tests want.
base=$(basename "$goroot")
tar --numeric-owner --owner=0 --group=0 -c \
	-C "$root" . \
	-C "$(dirname "$goroot")" \
	--anchored --exclude="$base/test" --exclude="$base/doc" --exclude="$base/api" --exclude="$base/misc" \
	--exclude="$base/.git" --no-anchored --exclude="$base/src/*_test.go" --exclude="$base/src/*/testdata" \
	--transform="flags=r;s,^$base/,usr/local/go/," "$base" |
	docker import \
		--change 'ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
		--change 'ENV CGO_ENABLED=0' \
		--change 'ENV GOTOOLCHAIN=local' \
		--change 'ENV DOCKER_BUILDKIT=0' \
		--change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
		--change 'CMD ["/bin/sh"]' \
		--change "LABEL io.slipway.inputs=$inputs" \
		- "$IMAGE" >/dev/null
[[ -z $before ]] || docker image rm "$before" >/dev/null 2>&1 || true # a container may still use it
say "made $IMAGE of $(go version | cut -d' ' -f3), $(git --version), $(docker --version | cut -d, -f1)"
