# shellcheck shell=dash
#
# lib.sh - code shared by the scenarios in the test guest, to be sourced: checks, ringlift processes, the cards.
# Prints "ok TITLE" or "FAIL TITLE" for each check, and the processes' messages below the first one that fails in a scenario.
# shellcheck disable=SC2034 # used by the scripts that source this
set -u

A=$UUID_A B=$UUID_B
PATIENCE_S=60
scenario='' told=0 input=/dev/null
cd /tmp || exit 1
cp "$OLDPWD"/ringlift "$OLDPWD"/mtty . || exit 1

# --- checks -------------------------------------------------------------------------------

begin() { # SCENARIO
    scenario=$1 told=0
    rm -f ./*.pid ./*.out ./*.err ./*.status ./*.json
}

check() { # TITLE COMMAND [ARGS]: passes if the command succeeds
    title=$1
    shift
    if "$@" > why 2>&1; then
        echo "ok $scenario: $title"
        return
    fi
    echo "FAIL $scenario: $title"
    sed 's/^/     /' why
    [ $told = 0 ] || return
    told=1
    for words in *.err; do
        if [ -s "$words" ]; then sed "s/^/     $words: /" "$words"; fi
    done
}

is() { # FOUND EXPECTED
    [ "$1" = "$2" ] || { echo "found '$1', expected '$2'"; return 1; }
}

says() { # NAME TEXT: printed on its stderr
    grep -qF -- "$2" "$1.err" || { echo "$1 does not say '$2'"; return 1; }
}

has_hint() { # NAME
    says "$1" "error: " && says "$1" "hint: "
}

# --- processes ----------------------------------------------------------------------------

start() { # NAME ARGS: ringlift with these
    name=$1
    shift
    spawn "$name" ./ringlift "$@"
}

spawn() { # NAME PROGRAM ARGS: in the background; writes NAME.pid, .out, .err and, when it ends, .status
    name=$1
    shift
    rm -f "$name".*
    # shellcheck disable=SC2016 # the inner shell becomes the process whose id it writes
    { sh -c 'echo $$ > "$0.pid"; exec "$@"' "$name" "$@" < $input > "$name.out" 2> "$name.err"; echo $? > "$name.status"; } &
}

wait_for() { # COMMAND [ARGS]: until it succeeds
    tries=$((PATIENCE_S * 50))
    until "$@" 2> /dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        usleep 20000
    done
}

status_of() { # NAME: prints its exit status
    wait_for [ -s "$1.status" ] || { kill -KILL "$(cat "$1.pid")"; wait_for [ -s "$1.status" ]; echo "hangs"; return; }
    cat "$1.status"
}

listener() { # NAME ARGS: starts ringlift and returns when it listens; sets $address
    start "$@"
    wait_for grep -q '^listening on ' "$1.err" || [ -s "$1.status" ]
    address=$(sed -n 's/^listening on //p' "$1.err")
}

signal() { # NAME SIGNAL
    kill "-$2" "$(cat "$1.pid")"
}

# --- cards --------------------------------------------------------------------------------

show() { ./mtty "$1" show; }
fill() { ./mtty "$1" fill "$2" "$3"; } # DEVICE SCRATCH TEXT
shows() { is "$(show "$1" 2>&1)" "$2"; } # DEVICE LINE

resets() { dmesg | grep -c 'mtty_reset: called'; } # as logged by the driver

# --- devices of the module statedev --------------------------------------------------------

made() { # UUID PROFILE: creates one
    echo "$1" > "/sys/class/mdev_bus/statedev/mdev_supported_types/statedev-$2/create"
}
removed() { echo 1 > "/sys/bus/mdev/devices/$1/remove"; } # UUID

knobs() { # UUID NAME=VALUE...: turns them
    of=/sys/bus/mdev/devices/$1/knobs
    shift
    for knob in "$@"; do echo "${knob#*=}" > "$of/${knob%%=*}" || echo "FAIL $scenario: cannot set $knob"; done
}

# What sysfs shows: a name like seed, dirtied, migration_state, resets, loads, saves, log.
attr() { cat "/sys/bus/mdev/devices/$1/$2"; } # UUID NAME
attr_is() { is "$(attr "$1" "$2")" "$3"; } # UUID NAME VALUE
attr_is_not() { [ "$(attr "$1" "$2")" != "$3" ] || { echo "$2 is '$3'"; return 1; }; } # UUID NAME VALUE

kernel_complaints() { dmesg | grep -E 'WARNING:|BUG:|Oops|Call Trace|hung task'; }
check_kernel() { # at the end
    begin "the kernel"
    check "it has nothing to complain about" is "$(kernel_complaints)" ''
}

# --- reports: one key per line ------------------------------------------------------------

value() { # FILE KEY: prints the first value of that key
    sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" "$1" | head -n 1
}
device_value() { # FILE DEVICE KEY
    sed -n "/\"name\": \"$2\"/,/}/p" "$1" > device.json
    value device.json "$3"
}

is_more() { # FOUND THAN
    [ "${1:-0}" -gt "$2" ] || { echo "found '$1', expected more than $2"; return 1; }
}
