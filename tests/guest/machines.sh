# shellcheck shell=dash
#
# machines.sh - machines under QEMU in the test guest, to be sourced after lib.sh: starting one with VFIO devices, and
# migrating it.
# shellcheck disable=SC2034 # used by the scripts that source this

QEMU=$(echo "$OLDPWD"/qemu-*/qemu)
by='' # more properties of the devices
address='' # where to migrate to
cp "$OLDPWD"/qmp . || exit 1

machine() { # NAME TRANSFER CARDS ARGS: starts a QEMU with these devices; their state goes over the channels if TRANSFER is on
    name=$1 migration=enable-migration=on,x-migration-multifd-transfer=$2 uuids=$3
    shift 3
    for uuid in $uuids; do
        set -- "$@" -device "vfio-pci,sysfsdev=/sys/bus/mdev/devices/$uuid,$migration$by"
    done
    rm -f "$name.qmp"
    spawn "$name" "$QEMU" -accel tcg -machine q35 -m 16 -nodefaults -display none -name "$name" \
        -object iommufd,id=iommufd -qmp "unix:$name.qmp,server=on,wait=off" "$@"
}

control() { # NAME QMP-ARGS
    machine=$1
    shift
    [ ! -s "$machine.status" ] || { echo "$machine has ended"; return 1; }
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

migrate() { control src migrate "{\"uri\":\"tcp:$address\"}" > control.out; }
migrated() { control src wait query-migrate status completed failed; }
reaches() { is "$(control "$1" wait query-status status running postmigrate)" "$2"; } # NAME STATUS
