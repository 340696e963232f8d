# Sourced by the steps of slipway.yaml.

# Kept on the host between runs: `cache` of each step mounts them here, at the
# same path in a container and as a process.
export GOMODCACHE="$SLIPWAY_WORKSPACE/.cache/mod"
export GOCACHE="$SLIPWAY_WORKSPACE/.cache/build"
export HOME="${HOME:-/tmp}"
# -modcacherw: who owns the cache folder can also empty it.
export GOFLAGS="${GOFLAGS:-} -modcacherw -buildvcs=false"

# slipway_build FOLDER: what `make build` does, with the commit as version.
slipway_build() {
	mkdir -p "$1"
	go build -trimpath -ldflags '-s -w' -o "$1/slipway-init" ./cmd/slipway-init
	cp "$1/slipway-init" agent/stepinit/embedded/bin/slipway-init
	go build -trimpath -ldflags "-s -w -X github.com/slipway-ci/slipway/shared/version.Commit=${SLIPWAY_SHA:-unknown}" \
		-o "$1/slipway" ./cmd/slipway
}
