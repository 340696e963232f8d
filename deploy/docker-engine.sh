#!/usr/bin/env bash
# Makes sure that a Docker engine answers, for tests and the demo.
#
#   deploy/docker-engine.sh          start one when none answers (root; installs
#                                    Debian's docker.io when dockerd is missing)
#   deploy/docker-engine.sh stop     end the engine that this script started
#   deploy/docker-engine.sh status   say whether one answers
#
# An engine that answers is never touched. One that does not may have been killed
# with no chance to tidy up, and what it left makes the next one refuse to start:
# pid files (whose pid may meanwhile be anybody's), sockets that nobody listens
# on (dockerd takes a dead /run/containerd/containerd.sock for a living
# containerd), mounts, orphaned containers. All of that is put away first, and a
# start that fails is tried again with less and less of the old state.
set -euo pipefail

readonly SOCKET=/var/run/docker.sock
readonly PIDFILE=/var/run/docker.pid
readonly OURS=/var/run/slipway-docker-engine.pid
readonly LOG=${SLIPWAY_DOCKER_LOG:-/var/log/slipway-dockerd.log}
readonly LOCK=/var/lock/slipway-docker-engine.lock
readonly WAIT=${SLIPWAY_DOCKER_WAIT:-60} # seconds for one start

say() { echo "docker-engine: $*" >&2; }
die() {
	say "cannot $*"
	exit 1
}

# answers tells whether an engine speaks at DOCKER_HOST or the usual socket.
answers() {
	local host=${DOCKER_HOST:-unix://$SOCKET}
	if [[ $host == unix://* && ! -S ${host#unix://} ]]; then return 1; fi
	if command -v docker >/dev/null; then
		timeout 20 docker -H "$host" version --format '{{.Server.Version}}' >/dev/null 2>&1
	elif command -v curl >/dev/null && [[ $host == unix://* ]]; then
		curl -fsS -m 20 --unix-socket "${host#unix://}" http://docker/_ping >/dev/null 2>&1
	else
		return 1
	fi
}

version() { timeout 20 docker version --format '{{.Server.Version}}' 2>/dev/null || echo "of unknown version"; }

# is PID NAME: a living process (not a zombie) of that name.
is() {
	local pid=${1:-} name=$2
	[[ $pid =~ ^[0-9]+$ && -r /proc/$pid/comm ]] || return 1
	[[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$name" ]] || return 1
	! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# listening PATH: somebody listens on that socket. The kernel lists the name that
# was bound, which may go through the symbolic link /var/run.
listening() {
	local path=${1#/var}
	grep -qE " 00010000 .* (/var)?$path\$" /proc/net/unix
}

install_engine() {
	command -v dockerd >/dev/null && command -v docker >/dev/null && command -v iptables >/dev/null && return
	command -v apt-get >/dev/null || die "find dockerd, and this is no Debian: install a Docker engine"
	say "installing docker.io"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq >&2 || say "apt-get update failed; trying with the lists that are there"
	apt-get install -y -qq --no-install-recommends docker.io iptables >&2 ||
		die "install docker.io with apt-get: see above"
}

# One of the cgroup v1 hierarchies or the unified one must be there; a bare
# container of an init system has them, a bare chroot has not.
mount_cgroups() {
	grep -qE ' (cgroup|cgroup2) ' /proc/mounts && return
	command -v cgroupfs-mount >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq cgroupfs-mount >&2 ||
		die "mount cgroups: install cgroupfs-mount"
	cgroupfs-mount
}

# tidy puts away what a killed engine left. It only removes what no living
# process owns.
tidy() {
	local file pid
	pid=$(cat "$PIDFILE" 2>/dev/null || true)
	if [[ -e $PIDFILE ]] && ! is "$pid" dockerd; then
		say "removing stale $PIDFILE (pid ${pid:-none} is no dockerd)"
		rm -f "$PIDFILE"
	fi
	for file in /var/run/docker/containerd/containerd.pid /run/containerd/containerd.pid; do
		[[ -e $file ]] || continue
		pid=$(cat "$file" 2>/dev/null || true)
		is "$pid" containerd && continue
		say "removing stale $file (pid ${pid:-none} is no containerd)"
		rm -f "$file"
	done
	for file in "$SOCKET" /run/containerd/containerd.sock /run/containerd/containerd.sock.ttrpc \
		/var/run/docker/containerd/containerd.sock /var/run/docker/containerd/containerd.sock.ttrpc \
		/var/run/docker/containerd/containerd-debug.sock /var/run/docker/metrics.sock; do
		[[ -S $file ]] || continue
		listening "$file" && continue
		say "removing stale socket $file"
		rm -f "$file"
	done
}

# reap_orphans ends a containerd and shims that a killed dockerd of this script
# left: only those whose command line names our own state folder.
reap_orphans() {
	local proc pid comm
	for proc in /proc/[0-9]*; do
		pid=${proc#/proc/}
		comm=$(cat "$proc/comm" 2>/dev/null || true)
		case $comm in containerd | containerd-shim*) ;; *) continue ;; esac
		tr '\0' ' ' <"$proc/cmdline" 2>/dev/null | grep -qE '(^| )(/var)?/run/docker/containerd/' || continue
		say "ending orphaned $comm $pid"
		kill -9 "$pid" 2>/dev/null || true
	done
}

unmount_leftovers() {
	local target
	# Deepest first; a lazy unmount lets go also of what something still holds.
	{ grep -oE ' (/var)?(/run/docker|/lib/docker)/[^ ]*' /proc/mounts || true; } | tr -d ' ' | sort -r |
		while read -r target; do umount -l "$target" 2>/dev/null || true; done
}

PID=0
start() { # start LABEL FLAGS...
	local label=$1 started=$SECONDS path=$PATH
	shift
	say "starting dockerd ($label), log in $LOG"
	# The kernel may know only the older tables.
	if ! iptables -t nat -n -L >/dev/null 2>&1 && command -v iptables-legacy >/dev/null &&
		iptables-legacy -t nat -n -L >/dev/null 2>&1; then
		local shims
		shims=$(mktemp -d)
		ln -s "$(command -v iptables-legacy)" "$shims/iptables"
		ln -s "$(command -v ip6tables-legacy)" "$shims/ip6tables"
		path=$shims:$PATH
	fi
	echo "== $(date -u +%FT%TZ) $label: dockerd $*" >>"$LOG"
	# A session of its own and no open file of ours: it must outlive us, and
	# neither hold our output nor our lock.
	PATH=$path setsid nohup dockerd "$@" </dev/null >>"$LOG" 2>&1 9>&- &
	PID=$!
	while ((SECONDS - started < WAIT)); do
		if answers; then
			echo "$PID" >"$OURS"
			return 0
		fi
		if ! kill -0 "$PID" 2>/dev/null; then
			say "dockerd ended after $((SECONDS - started)) s"
			return 1
		fi
		sleep 0.3
	done
	say "dockerd does not answer after $WAIT s; ending it"
	end "$PID"
	return 1
}

# end PID: TERM, then KILL; and wait until it is gone, since a dockerd that is
# still leaving takes the new one's bridge along.
end() {
	local pid=$1 i
	kill -TERM "$pid" 2>/dev/null || return 0
	for ((i = 0; i < 150; i++)); do
		is "$pid" dockerd || return 0
		sleep 0.2
	done
	kill -KILL "$pid" 2>/dev/null || true
	sleep 0.5
}

engine_start() {
	if answers; then
		say "an engine answers (version $(version)); leaving it alone"
		return
	fi
	if [[ -n ${DOCKER_HOST:-} && $DOCKER_HOST != "unix://$SOCKET" && $DOCKER_HOST != "unix:///run/docker.sock" ]]; then
		die "reach the engine at DOCKER_HOST=$DOCKER_HOST, and this script starts one only at $SOCKET"
	fi
	((EUID == 0)) || die "start an engine without root: no engine answers at $SOCKET"

	mkdir -p "$(dirname "$LOCK")" "$(dirname "$LOG")"
	exec 9>"$LOCK"
	flock -w 300 9 || die "get the lock $LOCK: another start hangs"
	# Whoever held the lock may have started it.
	if answers; then return; fi

	install_engine
	mount_cgroups
	# Installing may have started a service.
	local pid
	pid=$(cat "$PIDFILE" 2>/dev/null || true)
	if is "$pid" dockerd; then
		say "dockerd $pid lives but does not answer yet; waiting"
		local i
		for ((i = 0; i < WAIT; i++)); do
			answers && return
			is "$pid" dockerd || break
			sleep 1
		done
		if is "$pid" dockerd; then
			die "start an engine: dockerd $pid lives and does not answer; end it yourself (kill $pid)"
		fi
	fi

	tidy
	if start "first try"; then return; fi
	reap_orphans
	tidy
	unmount_leftovers
	rm -rf /var/run/docker/containerd /var/run/docker/runtime-runc /var/run/docker/libnetwork
	if start "second try, without the old run state"; then return; fi
	reap_orphans
	tidy
	# What lies in the old data folder stays there for people to look at.
	rm -rf /var/run/slipway-docker
	if start "third try, with a new data folder" \
		--data-root /var/lib/slipway-docker --exec-root /var/run/slipway-docker; then return; fi
	say "the last lines of $LOG:"
	tail -n 40 "$LOG" >&2
	die "start a Docker engine (three tries)"
}

engine_stop() {
	local pid
	pid=$(cat "$OURS" 2>/dev/null || true)
	if ! is "$pid" dockerd; then
		say "no engine of this script runs"
		rm -f "$OURS"
		return
	fi
	say "ending dockerd $pid"
	end "$pid"
	rm -f "$OURS"
	tidy
}

case ${1:-start} in
start)
	engine_start
	answers || die "reach the engine that just started"
	say "ready (version $(version))"
	;;
stop) engine_stop ;;
status) if answers; then say "an engine answers (version $(version))"; else say "no engine answers"; exit 1; fi ;;
*) die "do '$1': want start, stop or status" ;;
esac
