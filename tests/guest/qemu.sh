#!/bin/sh
# shellcheck shell=dash
#
# qemu.sh - runs in the test guest, beside the programs ringlift, mtty and qmp and a QEMU: migrations of machines that
# have a card of the kernel's own VFIO driver, between a real QEMU and ringlift. tools/guest/test starts it.
# The last line that it prints is "the end".
# shellcheck source=tests/guest/lib.sh
. "$PWD/lib.sh"
# shellcheck source=tests/guest/machines.sh
. "$OLDPWD/machines.sh"

IDSTR=0000:00:01.0/vfio
C=5f0c6b1e-3d52-4c1b-9a77-72696e676c03 D=5f0c6b1e-3d52-4c1b-9a77-72696e676c04
ONE_PORT=5f0c6b1e-3d52-4c1b-9a77-72696e676c05
ACK='return-path switchover-ack'
cards=$A # the source's cards
memory='' port=4400
full_memory='-m 128 -machine memory-backend=full -object memory-backend-file,id=full,mem-path=full.memory,size=128M,share=on'

# --- machines -----------------------------------------------------------------------------

# Starts a machine with card A. The machine's own I/O writes the card's port 0, port 1 has "a5:VFIO!" from before; B has
# different content.
source_machine() { # TRANSFER CHANNELS CAPABILITIES SCRATCH TEXT
    for card in "$A" "$B"; do ./mtty "$card" reset; done
    fill "$A" 5a '!OIFV'
    fill "$B" 11 untouched
    B_AS_IT_WAS=$(show "$B") PORT_0="$4:$5" PORTS="$4:$5 a5:VFIO!" resets_before=$(resets)
    # shellcheck disable=SC2086 # several arguments
    machine src "$1" "$cards" $memory
    control src fill "$4" "$5" > control.out
    configure src "$2" "$3"
}

destination_machine() { # TRANSFER CHANNELS CAPABILITIES ARGS: starts a machine with card B; sets $address
    transfer=$1 channels=$2 capabilities=$3
    shift 3
    port=$((port + 1))
    address=127.0.0.1:$port
    machine dst "$transfer" "$B" -incoming defer "$@"
    configure dst "$channels" "$capabilities"
    control dst migrate-incoming "{\"uri\":\"tcp:$address\"}" > control.out
}

guest_shows() { is "$(control "$1" show)" "$2"; } # NAME PORT-0

# --- checks -------------------------------------------------------------------------------

check_source_completed() {
    check "the source reports completed" is "$(migrated)" completed
    check "the source is stopped" reaches src postmigrate
    quit src
}

check_source_runs_on() {
    check "the source reports failed" is "$(migrated)" failed
    check "the source keeps running" reaches src running
    check "the source's guest has what it had" guest_shows src "$PORT_0"
    control src fill 99 'goes on' > control.out
    check "the source's guest can write" guest_shows src '99:goes on'
    quit src
    check "its card shows that too, and was stopped with the machine" shows "$A" "STOP 99:goes on a5:VFIO!"
}

check_destination_runs() {
    check "the destination runs" reaches dst running
    check "its guest shows what the source's guest wrote" guest_shows dst "$PORT_0"
    quit dst
    check "both ports arrived" is "$(show "$B" | cut -d ' ' -f 2-)" "$PORTS"
}

check_b_is_untouched() {
    check "the second card runs and has none of the source's state" shows "$B" "$B_AS_IT_WAS"
}

check_exit() { # NAME STATUS
    check "$1 exits with $2" is "$(status_of "$1")" "$2"
}

# --- scenarios ----------------------------------------------------------------------------

way() { # CHANNELS CAPABILITIES TRANSFER: describes them
    echo "$1 channels${2:+, switchover-ack}, state $3 the channels"
}

# Does not involve ringlift: if this fails, the other results mean nothing.
machine_to_machine() { # CHANNELS CAPABILITIES TRANSFER
    begin "QEMU to QEMU: $(way "$1" "$2" "$3")${by:+, by iommufd}"
    source_machine "$3" "$1" "$2" a5 'direct'
    destination_machine "$3" "$1" "$2"
    migrate
    check_source_completed
    check_destination_runs
}

# The kernel has two ways to give a card to QEMU: a container, as everywhere else here, and iommufd.
machine_to_machine_by_iommufd() {
    by=,iommufd=iommufd
    machine_to_machine 4 "$ACK" off
    by=''
}

capture() { # CHANNELS ARGS: in the background, into a new folder "captured" if there are no ARGS
    channels=$1
    shift
    rm -rf captured
    [ $# != 0 ] || set -- --out captured
    listener capture qemu capture --listen 127.0.0.1:0 --channels "$channels" "$@" --json capture.json
}

recv() { # CHANNELS DEVICE ARGS: in the background
    channels=$1 device=$2
    shift 2
    listener recv recv --dialect qemu --listen 127.0.0.1:0 --channels "$channels" --device "$device" "$@" --once --json recv.json
}

through_a_capture() { # CHANNELS CAPABILITIES TRANSFER REPLAY-ARGS
    begin "QEMU to a capture: $(way "$1" "$2" "$3")"
    channels=$1 capabilities=$2 transfer=$3
    shift 3
    source_machine "$transfer" "$channels" "$capabilities" "c$channels" "kept in $channels"
    capture "$channels"
    migrate
    check_exit capture 0
    check_source_completed
    check "a file for each connection" is "$(find captured -name '*.bin' ! -name '*.back.bin' | wc -l)" $((channels + 1))

    start inspect qemu inspect captured --json inspect.json
    check_exit inspect 0
    check "inspect finds no error in it" is "$(value inspect.json ok)" true
    check "inspect finds the card's 96 bytes" \
        is $(($(value inspect.json data_bytes) + $(value inspect.json precopy_bytes))) 96

    start extract qemu extract captured --device $IDSTR --to "file:card.state"
    check "extract to a file exits with 0" is "$(status_of extract)" 0
    check "the file has the card's 96 bytes" is "$(wc -c < card.state)" 96
    start extract qemu extract captured --device $IDSTR --to "vfio:$B"
    check "extract to a card exits with 0" is "$(status_of extract)" 0
    check "that card shows what the source's guest wrote" shows "$B" "RUNNING $PORTS"
    fill "$B" 11 untouched

    scenario="a capture to QEMU: ${scenario#*: }"
    destination_machine "$transfer" "$channels" "$capabilities"
    start replay qemu replay captured --to "$address" --json replay.json "$@"
    check_exit replay 0
    check_destination_runs
}

into_nothing() {
    begin "QEMU to a capture that is discarded"
    source_machine on 2 "$ACK" c0 'not kept'
    capture 2 --discard
    migrate
    check_exit capture 0
    check_source_completed
    check "it was measured" is_more "$(value capture.json bytes)" 100000
    check "nothing was recorded" [ ! -e captured ]
}

# Replays the last capture into a machine with more memory.
destination_refuses() { # CHANNELS CAPABILITIES TRANSFER
    begin "a capture to a QEMU that refuses it"
    destination_machine "$3" "$1" "$2" -m 32
    start replay qemu replay captured --to "$address" --json replay.json
    check_exit replay 1
    check "replay says why it failed, and what to do" has_hint replay
    check_exit dst 1
}

straight_into_a_card() { # CHANNELS CAPABILITIES TRANSFER
    begin "QEMU to a card: $(way "$1" "$2" "$3")"
    source_machine "$3" "$1" "$2" "d$1" "live on $1"
    recv "$1" "$IDSTR=vfio:$B"
    migrate
    check_exit recv 0
    check_source_completed
    check "the report says complete" is "$(value recv.json outcome)" complete
    check "the card runs and shows what the source's guest wrote" shows "$B" "RUNNING $PORTS"
}

two_cards() {
    begin "QEMU to two cards"
    for uuid in "$C" "$D"; do
        echo "$uuid" > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create
    done
    fill "$C" 22 second
    cards="$A $C"
    source_machine on 4 "$ACK" e0 'first'
    recv 4 "$IDSTR=vfio:$B" --device "0000:00:02.0/vfio=vfio:$D"
    migrate
    check_exit recv 0
    check_source_completed
    check "the first one has what the source's guest wrote" shows "$B" "RUNNING $PORTS"
    check "the second one has what the source's second card had" shows "$D" "RUNNING 22:second dd:dnoces"
    cards=$A
    for uuid in "$C" "$D"; do echo 1 > /sys/bus/mdev/devices/"$uuid"/remove; done
}

# The source stays in pre-copy for many seconds: its memory is $full_memory, and QEMU sends hardly more than one packet per
# channel in each of the tenths of a second to which its limit applies.
in_pre_copy() {
    control src migrate-set-parameters '{"max-bandwidth":100000,"downtime-limit":1}' > control.out
    migrate
    control src wait query-migrate status active failed
    usleep 500000
}

# The source's machine is stopped and everything but the switchover is done. From here on a QEMU 10.0 whose peer goes away
# may hang for ever, whatever the peer was; so only the source itself fails here.
at_the_switchover() {
    migrate
    control src wait query-migrate status pre-switchover failed
}

card_refuses() {
    begin "the card refuses the state"
    echo "$ONE_PORT" > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create
    source_machine on 2 "$ACK" f0 'refused'
    recv 2 "$IDSTR=vfio:$ONE_PORT"
    migrate
    check_exit recv 1
    check "recv names the device" says recv $IDSTR
    check "recv says why it failed, and what to do" has_hint recv
    check_source_runs_on
    echo 1 > /sys/bus/mdev/devices/"$ONE_PORT"/remove
}

card_is_not_there() {
    begin "recv expects another device"
    source_machine on 2 "$ACK" f1 'unexpected'
    recv 2 "0000:00:07.0/vfio=vfio:$B"
    migrate
    check_exit recv 4
    check_source_runs_on
    check "recv names the device" says recv $IDSTR
    check_b_is_untouched
}

killed_in_pre_copy() { # PROCESS
    begin "$1 killed in pre-copy"
    source_machine on 2 "$ACK" f2 'carried on'
    if [ "$1" = recv ]; then recv 2 "$IDSTR=vfio:$B"; else capture 2; fi
    check "it is under way" is "$(in_pre_copy)" active
    signal "$1" KILL
    check_source_runs_on
    check_exit "$1" 137
}

broken_capture() {
    begin "a capture that was cut short"
    start inspect qemu inspect captured --json inspect.json
    check_exit inspect 1
    check "the report says that it is not ok" is "$(value inspect.json ok)" false
    check "inspect names a file" says inspect main.bin
    fill "$B" 11 untouched
    B_AS_IT_WAS=$(show "$B")
    start extract qemu extract captured --device $IDSTR --to "vfio:$B"
    check_exit extract 1
    check_b_is_untouched
    start replay qemu replay captured --to 127.0.0.1:9
    check_exit replay 1
    check "replay also names a file" says replay main.bin
}

receiver_cancelled() {
    begin "SIGTERM to recv in pre-copy"
    source_machine on 2 "$ACK" f3 'cancelled'
    recv 2 "$IDSTR=vfio:$B"
    check "it is under way" is "$(in_pre_copy)" active
    signal recv TERM
    check_source_runs_on
    check_exit recv 130
    check_b_is_untouched
}

source_killed() {
    begin "the source killed at the switchover"
    source_machine on 2 "$ACK pause-before-switchover" f4 'lost'
    recv 2 "$IDSTR=vfio:$B"
    check "it is under way" is "$(at_the_switchover)" pre-switchover
    signal src KILL
    check_exit recv 1
    check "recv says why it failed, and what to do" has_hint recv
    check "the card was reset" is_more "$(resets)" "$resets_before"
    check_b_is_untouched
}

wrong_channels() { # EXPECTED OPENED COMMAND
    begin "$3 expects $1 channels, QEMU opens $2"
    source_machine on "$2" "$ACK" f5 'miscounted'
    if [ "$3" = recv ]; then recv "$1" "$IDSTR=vfio:$B"; else capture "$1"; fi
    migrate
    check_exit "$3" 1
    check "$3 says why it failed, and what to do" has_hint "$3"
    check_source_runs_on
    check_b_is_untouched
}

machine_to_machine 2 '' on
machine_to_machine_by_iommufd
into_nothing
for where in on off; do
    for answers in '' "$ACK"; do
        through_a_capture 2 "$answers" "$where"
        through_a_capture 4 "$answers" "$where" --pace recorded
        straight_into_a_card 2 "$answers" "$where"
        straight_into_a_card 4 "$answers" "$where"
    done
done
destination_refuses 4 "$ACK" off
two_cards
card_refuses
card_is_not_there
source_killed
yes full | head -c 134217728 > full.memory
memory=$full_memory
killed_in_pre_copy recv
killed_in_pre_copy capture
broken_capture
receiver_cancelled
memory=''
wrong_channels 4 2 recv
wrong_channels 2 4 recv
wrong_channels 4 2 capture
echo "the end"
