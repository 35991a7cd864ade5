#!/bin/sh
# shellcheck shell=dash
#
# drivers.sh - runs in the test guest, beside the programs ringlift, mtty and qmp and a QEMU: transfers between devices of
# the module statedev, each of which behaves like the device of a real driver. tools/guest/test starts it.
# It prints a line "times" for each driver. The last line that it prints is "the end".
# shellcheck source=tests/guest/lib.sh
. "$PWD/lib.sh"
# shellcheck source=tests/guest/machines.sh
. "$OLDPWD/machines.sh"

PROFILES='plain mlx5 hisi qat pds virtio xe'
S=5f0c6b1e-3d52-4c1b-9a77-72696e676c11 D=5f0c6b1e-3d52-4c1b-9a77-72696e676c12
profile='' seed='' resets_before=''

# --- devices ------------------------------------------------------------------------------

pair() { # SOURCE-PROFILE SINK-PROFILE KNOB=VALUE...: makes S and D, with these knobs both
    made "$S" "$1"
    made "$D" "$2"
    shift 2
    knobs "$S" "$@"
    knobs "$D" "$@" dirty_rate=0 # so that it shows what the source's end was
    seed=$(attr "$S" seed) resets_before=$(attr "$D" resets)
}

unpair() {
    removed "$S"
    removed "$D"
}

# Large enough for several packets where the real state is large, no larger.
size_of() { # PROFILE
    case $1 in
        mlx5) echo state_size=16777216 initial_bytes=12582912 chunk_size=2097152 ;;
        xe) echo state_size=16777216 chunk_size=4194304 ;;
        *) ;;
    esac
}

# A transfer with these takes a few tenths of a second, wherever most of it is spent.
slowness_of() { # PROFILE
    case $1 in
        mlx5 | xe) echo chunk_us=40000 load_us=50000 ;;
        *) echo read_us=60000 write_us=20000 load_us=50000 ;;
    esac
}

# --- transfers ----------------------------------------------------------------------------

recv() { listener recv recv --listen 127.0.0.1:0 --json recv.json --once --device "dev=vfio:$D"; }
send() { start send send --to "$address" --json send.json --device "dev=vfio:$S" --channels 2 --pool 8MiB; }

check_moved() {
    check "both exit with 0" is "$(status_of send) $(status_of recv)" "0 0"
    check "the source is stopped" attr_is "$S" migration_state STOP
    check "the sink runs" attr_is "$D" migration_state RUNNING
    check "the sink has the source's state" attr_is "$D" seed "$seed"
    check "as it was when the source stopped" attr_is "$D" dirtied "$(attr "$S" dirtied)"
    check "all of it was read, and loaded once" is "$(attr "$S" saves) $(attr "$D" loads)" "1 1"
}

check_source_runs() {
    check "the source runs" attr_is "$S" migration_state RUNNING
    check "it has its state" attr_is "$S" seed "$seed"
}

check_sink_is_fresh() {
    check "the sink runs" attr_is "$D" migration_state RUNNING
    check "the sink has none of the source's state" attr_is_not "$D" seed "$seed"
}

check_sink_was_reset() {
    check "the sink was reset" is_more "$(attr "$D" resets)" "$resets_before"
    check_sink_is_fresh
}

check_failed() { # SEND-STATUS RECV-STATUS
    check "send exits with $1" is "$(status_of send)" "$1"
    check "recv exits with $2" is "$(status_of recv)" "$2"
    check_source_runs
}

# Another transfer of the same devices, whatever happened before.
check_another_try() {
    knobs "$S" read_error_at=none fail_arc=none compat=0
    knobs "$D" write_error_at=none fail_arc=none compat=0
    loads_before=$(attr "$D" loads)
    recv
    send
    check "another try: both exit with 0" is "$(status_of send) $(status_of recv)" "0 0"
    check "another try: the sink has the source's state" is \
        "$(attr "$D" seed) $(($(attr "$D" loads) - loads_before))" "$seed 1"
}

below() { # NUMBER: prints a random one
    echo $(($(od -An -N4 -tu4 /dev/urandom) % $1))
}

# --- scenarios ----------------------------------------------------------------------------

milliseconds() { echo $(($1 / 1000000)).$(($1 / 100000 % 10)); } # NANOSECONDS

print_times() { # PROFILE: of the transfer that send.json reports
    printf 'times %-6s %9s bytes, %6s ms in all, %6s ms stopped: stop %s, transfer %s, load %s, commit %s\n' \
        "$1" "$(value send.json bytes)" "$(milliseconds "$(value send.json duration_ns)")" \
        "$(milliseconds "$(value send.json total_ns)")" "$(milliseconds "$(value send.json stop_ns)")" \
        "$(milliseconds "$(value send.json transfer_ns)")" "$(milliseconds "$(value send.json load_ns)")" \
        "$(milliseconds "$(value send.json commit_ns)")"
}

moved() { # PROFILE KNOB=VALUE...
    begin "$1 moved"
    profile=$1
    shift
    pair "$profile" "$profile" "$@"
    recv
    send
    check_moved
    check_arcs "$profile"
    print_times "$profile"
    unpair
}

flat() { tr -d ' \n' < "$1"; } # JSON-FILE
arcs() { flat "$1" | grep -o '"from":"[A-Z_0-9]*","to":"[A-Z_0-9]*"' | tr -d '"' | tr ',\n' '  '; } # REPORT

# Every single change of state is in the report, each side's in its own.
check_arcs() { # PROFILE
    check "the report has the arc to STOP_COPY" has "$(arcs send.json)" "to:STOP_COPY"
    check "and the one out of RESUMING" has "$(arcs recv.json)" "from:RESUMING"
}
has() { case $1 in *"$2"*) ;; *) echo "$2 is not in: $1"; return 1 ;; esac; } # TEXT PART

# A device that is not used, measured as a user does it; it is where it was afterwards, and can be moved.
probed() { # PROFILE BYTES END-OF-PRE-COPY POLLABLE
    begin "$1 probed"
    profile=$1
    pair "$1" "$1"
    ./ringlift devices --probe "$S" > probe.out 2> probe.err < /dev/null
    check "it exits with 0" is $? 0
    ./ringlift devices --probe "$S" --json probe.json > probe.again 2>&1 < /dev/null
    check "and again, with a report" is $? 0
    check "the source runs" attr_is "$S" migration_state RUNNING
    check "it has its state" attr_is "$S" seed "$seed"
    check "what is read after the stop is no less than it was" is_more "$(flat probe.json | sed -n 's/.*"stop_copy":{"bytes":\([0-9]*\).*/\1/p')" "$2"
    check "pre-copy ends with $3" has "$(sed -n '/^end /p' probe.out)" "$3"
    check "whether it can be polled" has "$(sed -n '/^pollable /p' probe.out)" "$4"
    sed 's/^/probe: /' probe.out
    unpair
}

# What was left of pre-copy, and what may be, of a device that changes so fast.
precopied() { # DIRTY-RATE EXPECTED-END...
    begin "mlx5 that changes $1 bytes a second"
    profile=mlx5
    pair mlx5 mlx5 state_size=33554432 initial_bytes=25165824 chunk_size=2097152
    knobs "$S" dirty_rate="$1"
    rate=$1
    shift
    recv
    start send send --to "$address" --json send.json --device "dev=vfio:$S" --channels 2 --pool 8MiB --downtime-limit 100ms
    check_moved
    row=$(flat send.json | grep -o '"precopy":{[^}]*}' | head -n 1)
    end=$(echo "$row" | sed 's/.*"end":"\([a-z]*\)".*/\1/')
    left=$(echo "$row" | sed 's/.*"left_bytes":\([0-9]*\).*/\1/') limit=$(echo "$row" | sed 's/.*"limit_bytes":\([0-9]*\).*/\1/')
    check "pre-copy ends as it must" has " $* " " $end "
    [ "$end" != converged ] || check "no more is left than may be, and what changed since" is_more $((limit + rate)) "$left"
    echo "precopy: dirty $rate B/s $row"
    print_times mlx5
    unpair
}

# Either side is cancelled at some time; whatever it was doing then, both sides must end as they should.
cancelled() { # PROFILE SIDE
    delay=$(below 500)
    begin "$1, SIGTERM to $2 after $delay ms"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1") $(slowness_of "$1")
    recv
    send
    check "it is under way" wait_for grep -q '^phase: agreeing' recv.err # before, a receiver goes on listening
    usleep $((delay * 1000))
    signal "$2" TERM 2> /dev/null
    statuses="$(status_of send) $(status_of recv)"
    case "$2 $statuses" in
        'send 0 0' | 'recv 0 0') check_moved ;; # too late
        'send 130 1' | 'recv 1 130')
            check_source_runs
            check_sink_is_fresh
            ;;
        *) check "both end as they should" is "$2 $statuses" "$2, complete or cancelled" ;;
    esac
    unpair
}

killed() { # PROFILE SIDE
    delay=$(below 200)
    begin "$1, $2 killed $delay ms after the sink is RESUMING"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1") $(slowness_of "$1") load_us=300000
    recv
    send
    check "it is under way" wait_for attr_is "$D" migration_state RESUMING
    usleep $((delay * 1000))
    signal "$2" KILL
    if [ "$2" = recv ]; then
        check_failed 1 137
        check "send says why it failed, and what to do" has_hint send
        check "the sink does not run with the source's state" is_not_both "$(attr "$D" migration_state)" "$(attr "$D" seed)"
        check_another_try
    else
        check "send exits with 137" is "$(status_of send)" 137
        check "recv exits with 1" is "$(status_of recv)" 1
        check "recv says why it failed, and what to do" has_hint recv
        check_sink_was_reset
        check "the source has its state" attr_is "$S" seed "$seed"
    fi
    unpair
}

is_not_both() { [ "$1 $2" != "RUNNING $seed" ] || { echo "it runs with $seed"; return 1; }; } # STATE SEED

incompatible() { # PROFILE
    begin "$1 to an incompatible $1"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1")
    knobs "$D" compat=9
    recv
    send
    check_failed 1 1
    check "recv says why it failed, and what to do" has_hint recv
    check "recv names the device" says recv "device dev: "
    check "send names the device" says send "device dev: "
    check_sink_was_reset
    unpair
}

wrong_device() { # PROFILE OTHER
    begin "$1 to a device of another kind"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$2" $(size_of "$1")
    recv
    send
    check_failed 1 1
    check "recv says why it failed, and what to do" has_hint recv
    check_sink_was_reset
    unpair
}

read_fails() { # PROFILE OFFSET
    begin "$1: EIO when byte $2 is read"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1")
    knobs "$S" read_error_at="$2"
    recv
    send
    check_failed 1 1
    check "send names the device" says send "device dev: "
    check "send says why it failed, and what to do" has_hint send
    check_sink_is_fresh
    unpair
}

write_fails() { # PROFILE OFFSET
    begin "$1: EIO when byte $2 is written"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1")
    knobs "$D" write_error_at="$2"
    recv
    send
    check_failed 1 1
    check "recv names the device" says recv "device dev: "
    check "recv says why it failed, and what to do" has_hint recv
    check_sink_was_reset
    check_another_try
    unpair
}

source_arc_fails() { # PROFILE FROM TO
    begin "$1: $2 to $3 fails at the source"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1")
    knobs "$S" fail_arc="$2 $3 5"
    recv
    send
    check_failed 1 1
    check "send names the device" says send "device dev: "
    check "send says why it failed, and what to do" has_hint send
    check_sink_is_fresh
    unpair
}

# A source that its driver can no longer run is lost; what must not happen is that the sink runs with half of it.
source_breaks() { # PROFILE FROM TO
    begin "$1: $2 to $3 breaks the source"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1")
    knobs "$S" fail_arc="$2 $3 5 ERROR"
    recv
    send
    check "send exits with 1" is "$(status_of send)" 1
    check "recv exits with 1" is "$(status_of recv)" 1
    check "send says why it failed, and what to do" has_hint send
    check_sink_is_fresh
    unpair
}

sink_arc_fails() { # SEND-STATUS PROFILE FROM TO [ERROR]
    expected=$1
    shift
    begin "$1: $2 to $3 fails at the sink${4:+, which is then in $4}"
    # shellcheck disable=SC2046 # several arguments
    pair "$1" "$1" $(size_of "$1")
    knobs "$D" fail_arc="$2 $3 5${4:+ $4}"
    recv
    send
    check_failed "$expected" 1
    check "recv names the device" says recv "device dev: "
    check "recv says why it failed, and what to do" has_hint recv
    check_sink_is_fresh
    check_another_try
    unpair
}

# --- with QEMU at the other end -------------------------------------------------------------

# Two network cards of 64 MiB each: S and S2 are the source's, D and D2 the destination's.
S2=5f0c6b1e-3d52-4c1b-9a77-72696e676c13 D2=5f0c6b1e-3d52-4c1b-9a77-72696e676c14
ONE=0000:00:01.0/vfio TWO=0000:00:02.0/vfio
QEMU_PORT=4500

# A machine with S and S2 runs, and has them reset when it starts.
two_cards_of_a_machine() {
    for uuid in "$S" "$S2" "$D" "$D2"; do made "$uuid" mlx5; done
    for uuid in "$D" "$D2"; do knobs "$uuid" dirty_rate=0; done
    machine src on "$S $S2"
    configure src 4 'return-path switchover-ack'
    seeds="$(attr "$S" seed) $(attr "$S2" seed)"
}

no_cards() { for uuid in "$S" "$S2" "$D" "$D2"; do removed "$uuid"; done; }

check_machine_left() {
    check "QEMU reports completed" is "$(migrated)" completed
    check "its machine is stopped" reaches src postmigrate
    check "it has read all of both cards" is "$(attr "$S" saves) $(attr "$S2" saves)" "1 1"
    quit src
}

check_cards_arrived() {
    check "the cards run" is "$(attr "$D" migration_state) $(attr "$D2" migration_state)" "RUNNING RUNNING"
    check "they have the source's state" is "$(attr "$D" seed) $(attr "$D2" seed)" "$seeds"
    check "as it was when the source stopped" is \
        "$(attr "$D" dirtied) $(attr "$D2" dirtied)" "$(attr "$S" dirtied) $(attr "$S2" dirtied)"
}

machine_to_cards() {
    begin "QEMU to recv, two mlx5 of 64 MiB"
    two_cards_of_a_machine
    listener recv recv --dialect qemu --listen 127.0.0.1:0 --channels 4 --once --json recv.json \
        --device "$ONE=vfio:$D" --device "$TWO=vfio:$D2"
    migrate
    check "recv exits with 0" is "$(status_of recv)" 0
    check_machine_left
    check_cards_arrived
    no_cards
}

machine_to_capture_to_machine() {
    begin "QEMU to a capture, two mlx5 of 64 MiB"
    two_cards_of_a_machine
    listener capture qemu capture --listen 127.0.0.1:0 --channels 4 --out captured --json capture.json
    migrate
    check "capture exits with 0" is "$(status_of capture)" 0
    check_machine_left
    start inspect qemu inspect captured --json inspect.json
    check "inspect exits with 0" is "$(status_of inspect)" 0
    check "inspect finds no error in it" is "$(value inspect.json ok)" true

    begin "the capture to a machine with two other mlx5"
    address=127.0.0.1:$QEMU_PORT
    machine dst on "$D $D2" -incoming defer
    configure dst 4 'return-path switchover-ack'
    control dst migrate-incoming "{\"uri\":\"tcp:$address\"}" > control.out
    start replay qemu replay captured --to "$address" --json replay.json
    check "replay exits with 0" is "$(status_of replay)" 0
    check "the machine runs" reaches dst running
    check_cards_arrived
    quit dst
    no_cards
    rm -rf captured
}

# --- all of them ---------------------------------------------------------------------------

for profile in $PROFILES; do
    # shellcheck disable=SC2046 # several arguments
    moved "$profile" $(size_of "$profile")
    incompatible "$profile"
    [ "$profile" = plain ] || wrong_device "$profile" plain
    for side in recv send; do
        killed "$profile" $side
        cancelled "$profile" $side
    done
    cancelled "$profile" send
done
wrong_device plain mlx5
moved mlx5 # 64 MiB

probed plain 524287 ENOMSG yes
probed mlx5 0 ENOMSG yes
probed hisi 4031 'a read of 0' no
probed qat 3583 'a read of 0' no
probed pds 65535 '' no
probed virtio 0 ENOMSG no
probed xe 268435455 '' no
precopied 1048576 converged
precopied 33554432 converged volume time
precopied 1073741824 volume time converged

read_fails mlx5 0
read_fails mlx5 5000000
read_fails mlx5 16000000
read_fails pds 60000
read_fails xe 9000000
write_fails mlx5 0
write_fails mlx5 5000000
write_fails pds 65535
write_fails xe 9000000

source_arc_fails mlx5 RUNNING PRE_COPY
source_arc_fails mlx5 PRE_COPY PRE_COPY_P2P
source_arc_fails mlx5 PRE_COPY_P2P STOP_COPY
source_arc_fails hisi PRE_COPY STOP_COPY
source_arc_fails pds RUNNING RUNNING_P2P
source_arc_fails pds RUNNING_P2P STOP
source_arc_fails pds STOP STOP_COPY
source_breaks mlx5 PRE_COPY_P2P STOP_COPY
source_breaks pds STOP STOP_COPY
sink_arc_fails 4 mlx5 STOP RESUMING
sink_arc_fails 1 mlx5 RESUMING STOP
sink_arc_fails 1 pds RESUMING STOP ERROR
sink_arc_fails 1 mlx5 STOP RUNNING_P2P
sink_arc_fails 1 hisi STOP RUNNING
sink_arc_fails 1 mlx5 RUNNING_P2P RUNNING ERROR
machine_to_cards
machine_to_capture_to_machine
check_kernel
echo "the end"
