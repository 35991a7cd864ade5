# shellcheck shell=dash
#
# lib.sh - what the scenarios in the test guest share, to be sourced: checks, processes of ringlift, the cards.
# Prints "ok TITLE" or "FAIL TITLE" for each check, and what the processes said below the first that fails in a scenario.
# shellcheck disable=SC2034 # what is set here is for who sources this
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

check() { # TITLE COMMAND [ARGS]: the command says whether it is so
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

says() { # NAME WORDS: on stderr
    grep -qF -- "$2" "$1.err" || { echo "$1 does not say '$2'"; return 1; }
}

has_hint() { # NAME
    says "$1" "error: " && says "$1" "hint: "
}

# --- processes ----------------------------------------------------------------------------

start() { # NAME ARGS: ringlift
    name=$1
    shift
    spawn "$name" ./ringlift "$@"
}

spawn() { # NAME PROGRAM ARGS: in the background; NAME.pid, .out, .err and, when it ends, .status
    name=$1
    shift
    rm -f "$name".*
    # shellcheck disable=SC2016 # the inner shell becomes the process whose number it writes
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

status_of() { # NAME: how it ended
    wait_for [ -s "$1.status" ] || { kill -KILL "$(cat "$1.pid")"; wait_for [ -s "$1.status" ]; echo "hangs"; return; }
    cat "$1.status"
}

listener() { # NAME ARGS: ringlift, and returns when it listens; sets $address
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

resets() { dmesg | grep -c 'mtty_reset: called'; } # as the driver notes them

# --- reports: one key a line --------------------------------------------------------------

value() { # FILE KEY: the first
    sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" "$1" | head -n 1
}
device_value() { # FILE DEVICE KEY
    sed -n "/\"name\": \"$2\"/,/}/p" "$1" > device.json
    value device.json "$3"
}

is_more() { # FOUND THAN
    [ "${1:-0}" -gt "$2" ] || { echo "found '$1', expected more than $2"; return 1; }
}
