# shellcheck shell=bash
# Functions for the scripts in examples/ and tests/. Source this file; it starts no process by itself.
#
# Variables that a caller may set:
#   OCIFORGE                  a built binary; the default is to build one
#   OCIFORGE_EXAMPLES_CACHE   directory that keeps the Debian base, uv and the store between runs
#   OCIFORGE_STORE            ociforge's store; the default is a directory in the cache, not the user's store
#   TMPDIR                    parent of the work directories; the default is /var/tmp

set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C.UTF-8 # decimal points, sorting by bytes

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${OCIFORGE_EXAMPLES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ociforge-examples}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)
export OCIFORGE_STORE=${OCIFORGE_STORE:-$CACHE/store}

say() { printf '\n== %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# --- cleanup ----------------------------------------------------------------------------------------------------------

PIDS=()     # servers of this script
WORK=       # the work directory, see make_work

stop_servers() {
    local pid
    for pid in "${PIDS[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    PIDS=()
}

cleanup() {
    stop_servers
    [ -z "$WORK" ] || rm -rf "$WORK"
    rm -f "$CACHE"/*.$$.* # an incomplete base
}
trap cleanup EXIT
# Without these traps a signal ends the shell without running the EXIT trap.
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets WORK to a directory that cleanup removes. /var/tmp is the default because /tmp is often in memory and images are large.
make_work() {
    WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/ociforge.XXXXXX")
    chmod 755 "$WORK"
}

# --- requirements -------------------------------------------------------------------------------------------------

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# need_packages PACKAGE...: installs missing Debian packages as root; otherwise prints their names and fails.
need_packages() {
    local package missing=()
    command -v dpkg-query >/dev/null || die "this needs a Debian machine with the packages: $*"
    for package; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    if [ "$(id -u)" != 0 ]; then
        printf 'error: Debian packages are missing: %s\n  hint: apt-get install --no-install-recommends %s\n' \
            "${missing[*]}" "${missing[*]}" >&2
        exit 1
    fi
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null >/dev/null
    # A new machine may still install its updates: wait for the lock of dpkg.
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${missing[@]}" \
        </dev/null >/dev/null
    # Debian's package starts a registry as a service; the scripts need only the program.
    if [ -d /run/systemd/system ] && [[ " ${missing[*]} " == *" docker-registry "* ]]; then
        systemctl disable --quiet --now docker-registry
    fi
}

need_rust() {
    command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || die 'cargo is missing: install Rust (stable) with rustup, then run this again'
    command -v cc >/dev/null || need_packages gcc libc6-dev # for the linker, and for C sources of some crates
}

# uv has no Debian package: install it from PyPI into a virtual environment in the cache. Only uv goes on the PATH, because the
# environment's python would hide the system's python and its modules.
need_uv() {
    PATH=$CACHE/bin:$PATH
    if command -v uv >/dev/null; then return; fi
    need_packages python3 python3-venv
    say 'installing uv'
    /usr/bin/python3 -m venv --clear "$CACHE/uv" >&2
    "$CACHE/uv/bin/pip" install --quiet --disable-pip-version-check uv >&2
    mkdir -p "$CACHE/bin"
    ln -sf ../uv/bin/uv "$CACHE/bin/uv"
}

# Sets OCIFORGE to the binary of this checkout.
build_ociforge() {
    need_packages jq
    [ -z "${OCIFORGE:-}" ] || return 0
    need_rust
    cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" </dev/null >&2
    OCIFORGE=$(cargo metadata --format-version 1 --no-deps --locked --manifest-path "$ROOT/Cargo.toml" |
        jq -r .target_directory)/release/ociforge
    export OCIFORGE
}

# --- a base image without access to a registry ----------------------------------------------------------------------

# make_base [FILE]: creates a tar of a small Debian with Python, of the running system's suite, in the cache. Sets BASE_TAR to
# its path, and links or copies it to FILE. The tar is reproducible: it changes only when Debian publishes other packages.
make_base() {
    need_packages mmdebstrap ca-certificates
    [ "$(id -u)" = 0 ] || need_packages uidmap # for mmdebstrap in a user namespace
    local suite
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
    BASE_TAR=$CACHE/debian-$suite-python3.tar
    [ -e "$BASE_TAR" ] || bootstrap "$suite" "$BASE_TAR"
    [ $# = 0 ] || ln -f "$BASE_TAR" "$1" 2>/dev/null || cp --reflink=auto "$BASE_TAR" "$1"
}

# bootstrap SUITE TAR
bootstrap() {
    local suite=$1 tar=$2 new=$2.$$.tar config=$2.$$.conf sources
    say "making a Debian $suite base"
    # Use the machine's own sources and proxy, so that this works wherever apt does. Leave out third-party sources.
    mapfile -t sources < <(grep -lsE "^[^#]*[[:space:]]$suite([[:space:]]|\$)" \
        /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources |
        xargs -r grep -lwE '^[^#]*main')
    apt-config dump Acquire::http Acquire::https Acquire::Check-Valid-Until Acquire::Check-Date >"$config"

    # Leave out files that depend on this machine, and device nodes, because only root can unpack them: /dev is empty.
    # shellcheck disable=SC2016 # mmdebstrap's shell expands $1
    SOURCE_DATE_EPOCH=0 TMPDIR=${TMPDIR:-/var/tmp} mmdebstrap --quiet --variant=minbase --include=python3,ca-certificates --format=tar \
        --aptopt="$config" --skip=output/dev \
        --customize-hook='cd "$1" && rm -f etc/hostname etc/resolv.conf etc/apt/apt.conf.d/99mmdebstrap' \
        "$suite" "$new" "${sources[@]}" </dev/null >&2 || die "mmdebstrap could not make $tar"
    tar --append --file="$new" --no-recursion --numeric-owner --owner=0 --group=0 --mode=755 --mtime=@0 \
        --transform='s|^|./|' -C / dev
    rm "$config"
    mv "$new" "$tar"
}

# --- servers ----------------------------------------------------------------------------------------------------------

# start_serve DIR: starts `ociforge serve` on a free port and sets REGISTRY.
start_serve() {
    local line
    mkdir -p "$1"
    exec {SERVE}< <(exec "$OCIFORGE" serve "$1" --listen 127.0.0.1:0)
    PIDS+=($!)
    read -r -t 30 line <&"$SERVE" || die "ociforge serve $1 did not start"
    REGISTRY=${line##* }
    [[ $REGISTRY == 127.0.0.1:+([0-9]) ]] || die "ociforge serve said: $line"
}

# start_registry DIR: starts Debian's docker-registry on a free port and sets REGISTRY.
start_registry() {
    local pid
    need_packages docker-registry
    mkdir -p "$1"
    cat >"$1/config.yml" <<-END
	version: 0.1
	storage: {filesystem: {rootdirectory: $1/data}, delete: {enabled: true}}
	http: {addr: 127.0.0.1:0}
	END
    : >"$1/log"
    docker-registry serve "$1/config.yml" >"$1/log" 2>&1 &
    pid=$!
    PIDS+=("$pid")
    for _ in {1..300}; do
        REGISTRY=$(grep -oPm1 'listening on \K127\.0\.0\.1:\d+' "$1/log" || true)
        [ -z "$REGISTRY" ] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$1/log" >&2
    die 'docker-registry did not start'
}

# alias_registry HOST REGISTRY: redirects names of HOST to REGISTRY with containers-registries.conf(5).
alias_registry() {
    cat >"$WORK/registries.conf" <<-END
	[[registry]]
	prefix = "$1"
	location = "$2"
	insecure = true
	END
    export CONTAINERS_REGISTRIES_CONF=$WORK/registries.conf
}

# --- numbers ----------------------------------------------------------------------------------------------------------

TIMES=()

# timed LABEL COMMAND...: runs the command and keeps its wall time for print_times.
timed() {
    local label=$1 start
    start=$EPOCHREALTIME
    shift
    say "$label"
    "$@"
    TIMES+=("$(awk -v a="$start" -v b="$EPOCHREALTIME" -v l="$label" 'BEGIN { printf "%8.1f s  %s", b - a, l }')")
}

print_times() { printf '%s\n' "${TIMES[@]}"; }

# bytes N: 3.0GiB
bytes() { numfmt --to=iec-i --suffix=B --format='%.1f' "$1"; }

# --- images -----------------------------------------------------------------------------------------------------------

# build_image RECIPE-DIR NAME FILE: builds the recipe and pushes the image. RECIPE-DIR is a copy, because the lock must not
# change the checkout. FILE receives the metadata of the build, and FILE.name the NAME@sha256:... that it prints.
build_image() {
    "$OCIFORGE" build "$1" -t "$2" --push --metadata-file "$3" >"$3.name"
}

# push_base NAME FILE: builds an image of the Debian base and pushes it.
push_base() {
    cp -r "$ROOT/examples/base" "$WORK/base"
    make_base "$WORK/base/rootfs.tar"
    build_image "$WORK/base" "$1" "$2"
}

# print_image FILE: prints the image of build_image and the bytes that it moved.
print_image() {
    local key count line
    cat "$1.name"
    line="$(jq '.layers | length' "$1") layers"
    while read -r key count; do
        line+=", $(bytes "$count") $key"
    done < <(jq -r '.bytes | to_entries[] | "\(.key) \(.value)"' "$1")
    echo "    $line"
}
