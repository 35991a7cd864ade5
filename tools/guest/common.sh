# shellcheck shell=bash
#
# common.sh - code shared by "build" and "qemu", to be sourced: the cache, progress messages, packages from apt, one
# build at a time.

# shellcheck disable=SC2034 # used by the scripts that source this
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${RINGLIFT_GUEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringlift-guest}

progress=2 # the descriptor that progress messages go to
say() { printf 'guest %s %3ds: %s\n' "${0##*/}" "$SECONDS" "$*" >&"$progress"; }
die() { say "FAILED: $*"; exit 1; }

usage() { # prints the comment at the top of a tool
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 125
}

key() { sha256sum | cut -c 1-16; } # a hash of standard input, for the name of a cache entry

[ "$(uname -m)" = x86_64 ] || die "the guest is for x86-64 machines only"

# --- packages: no registry is named; apt's own sources are asked for packages by name -------

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
lists_fresh=0

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o APT::Sandbox::User=root "$@" >> "$cache/packages.log" 2>&1
}

apt_install() { apt install --no-install-recommends "$@"; }

apt_die() { tail -n 15 "$cache/packages.log" >&2; die "$*; see $cache/packages.log"; }

refresh_lists() { # once; again only if the sources have changed
    [ "$lists_fresh" = 0 ] || return 0
    say "updating the package lists"
    apt update || say "apt-get update reported errors; continuing with the existing lists"
    lists_fresh=1
}

may_install() { # PACKAGE...: ends with a message if that is not possible
    command -v apt-get > /dev/null || die "cannot install without apt-get: $*"
    [ "$(id -u)" = 0 ] || die "only root can install missing packages: $*"
    refresh_lists
}

install_missing() { # PACKAGE...
    local p need=()
    for p in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2> /dev/null)" = installed ] || need+=("$p")
    done
    [ ${#need[@]} != 0 ] || return 0
    may_install "${need[@]}"
    say "installing ${need[*]}"
    apt_install "${need[@]}" || apt_die "cannot install ${need[*]}"
}

has_backports() { [ "$(apt-cache policy | grep -c "n=$codename-backports")" != 0 ]; }

add_backports() { # from the archive that the release itself comes from
    local uri
    ! has_backports || return 0
    may_install "the $codename-backports package source"
    # shellcheck disable=SC2016 # apt fills in the field, not the shell
    uri=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $codename" \
        'Origin: Debian' 'Created-By: Packages' | sed -n 1p)
    [ -n "$uri" ] || die "apt does not know where $codename comes from"
    say "adding $codename-backports to the package sources"
    echo "deb $uri $codename-backports main" > "/etc/apt/sources.list.d/$codename-backports.list"
    lists_fresh=0
    refresh_lists
}

# --- one build at a time, in a directory from which only a finished result is moved ---------

work='' pid='' # pid: a process group that ends with this process

# shellcheck disable=SC2317 # called by the trap
cleanup() {
    trap - EXIT
    [ -z "$pid" ] || { kill -- "-$pid" 2>/dev/null && wait "$pid"; } || true
    rm -rf "$work"
}

alone() { # waits for other builds; $work is then an empty directory in the cache
    mkdir -p "$cache"
    exec 9> "$cache/lock"
    flock -n 9 || { say "waiting for another build"; flock 9; }
    rm -rf "$cache"/tmp.* || true # left by builds that were killed
    work=$(mktemp -d -p "$cache")
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
