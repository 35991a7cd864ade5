#!/bin/sh
# shellcheck shell=dash
#
# qemu.sh - runs in the test guest, beside the programs ringlift, mtty and qmp and a QEMU: migrations of machines that
# have a card of the kernel's own VFIO driver, between a real QEMU and ringlift. tools/guest/test starts it.
# At last it prints "the end".
# shellcheck source=tests/guest/lib.sh
. "$PWD/lib.sh"

QEMU=$(echo "$OLDPWD"/qemu-*/qemu)
ACK='return-path switchover-ack'
port=4400
cp "$OLDPWD"/qmp . || exit 1

# --- machines -----------------------------------------------------------------------------

machine() { # NAME UUID TRANSFER ARGS: a QEMU with that card, whose state goes over the channels if TRANSFER is on
    name=$1 card="sysfsdev=/sys/bus/mdev/devices/$2,enable-migration=on,x-migration-multifd-transfer=$3"
    shift 3
    rm -f "$name.qmp"
    spawn "$name" "$QEMU" -accel tcg -machine q35 -m 16 -nodefaults -display none -name "$name" \
        -qmp "unix:$name.qmp,server=on,wait=off" -device "vfio-pci,id=card,$card" "$@"
}

control() { # NAME ARGS OF QMP
    machine=$1
    shift
    ./qmp "$machine.qmp" "$@" 2>&1
}

quit() { # NAME
    control "$1" quit > control.out
    wait_for [ -s "$1.status" ] || signal "$1" KILL
    wait_for [ -s "$1.status" ]
}

configure() { # NAME CHANNELS CAPABILITIES
    list=''
    for capability in multifd $3; do list="$list,{\"capability\":\"$capability\",\"state\":true}"; done
    control "$1" migrate-set-capabilities "{\"capabilities\":[${list#,}]}" > control.out
    control "$1" migrate-set-parameters \
        "{\"multifd-channels\":$2,\"max-bandwidth\":10737418240,\"downtime-limit\":5000}" > control.out
}

# Runs, with card A. Port 0 of that is written by the machine's own I/O, port 1 has "a5:VFIO!" from before; B has a content
# of its own.
source_machine() { # TRANSFER CHANNELS CAPABILITIES SCRATCH TEXT
    for card in "$A" "$B"; do ./mtty "$card" reset; done
    fill "$A" 5a '!OIFV'
    fill "$B" 11 untouched
    PORT_0="$4:$5" PORTS="$4:$5 a5:VFIO!"
    machine src "$A" "$1"
    control src fill "$4" "$5" > control.out
    configure src "$2" "$3"
}

destination_machine() { # TRANSFER CHANNELS CAPABILITIES: with card B; sets $address
    port=$((port + 1))
    address=127.0.0.1:$port
    machine dst "$B" "$1" -incoming defer
    configure dst "$2" "$3"
    control dst migrate-incoming "{\"uri\":\"tcp:$address\"}" > control.out
}

migrate() { control src migrate "{\"uri\":\"tcp:$address\"}" > control.out; }
migrated() { control src wait query-migrate status completed failed; }
reaches() { is "$(control "$1" wait query-status status "$2")" "$2"; } # NAME STATUS
guest_shows() { is "$(control "$1" show)" "$2"; } # NAME PORT-0

# --- checks -------------------------------------------------------------------------------

check_source_completed() {
    check "the source says completed" is "$(migrated)" completed
    check "the source is stopped" reaches src postmigrate
    quit src
}

check_destination_runs() {
    check "the destination runs" reaches dst running
    check "its guest shows what the source's guest wrote" guest_shows dst "$PORT_0"
    quit dst
    check "both ports arrived" is "$(show "$B" | cut -d ' ' -f 2-)" "$PORTS"
}

# --- scenarios ----------------------------------------------------------------------------

# Needs nothing of ringlift: if this fails, the rest says nothing.
machine_to_machine() { # CHANNELS CAPABILITIES TRANSFER
    begin "QEMU to QEMU, $1 channels"
    source_machine "$3" "$1" "$2" a5 'direct'
    destination_machine "$3" "$1" "$2"
    migrate
    check_source_completed
    check_destination_runs
}

machine_to_machine 2 '' on
machine_to_machine 4 "$ACK" off
echo "the end"
