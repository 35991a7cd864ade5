#!/bin/sh
# shellcheck shell=dash
#
# scenarios.sh - runs in the test guest, beside the programs ringlift and mtty: transfers between devices of the kernel's
# own VFIO driver, each between two real processes. tools/guest/test starts it.
# The last line that it prints is "the end".
# shellcheck source=tests/guest/lib.sh
. "$PWD/lib.sh"

C=5f0c6b1e-3d52-4c1b-9a77-72696e676c03 D=5f0c6b1e-3d52-4c1b-9a77-72696e676c04
resets_before=0

# --- transfers ----------------------------------------------------------------------------

recv() { serve --once "$@"; }
serve() { # ARGS: in the background, on a port of its own
    listener recv recv --listen 127.0.0.1:0 --json recv.json "$@"
}

send() { # ARGS: in the background
    start send send --to "$address" --json send.json "$@"
}

received() { cat /sys/class/net/lo/statistics/rx_bytes; }
has_received() { [ "$(received)" -ge "$1" ]; }

# A device's state is too small to be caught in flight. A second one that takes seconds travels beside it, so the device
# itself is loaded, and waits.
in_the_middle() { # starts a transfer of A to B; returns when 32 MiB have been moved since the devices stopped
    recv --device "card=vfio:$B" --device pad=verify
    send --device "card=vfio:$A" --device pad=synthetic:4GiB --channels 2
    # what warms the connections up is no state
    wait_for grep -qF 'phase: stop-copy' recv.err
    before=$(received)
    wait_for has_received $((before + 33554432)) && [ ! -s send.status ] && [ ! -s recv.status ]
}

# --- devices ------------------------------------------------------------------------------

by_group() { # UUID
    link=$(readlink "/sys/bus/mdev/devices/$1/iommu_group")
    echo "/dev/vfio/${link##*/}/$1"
}
by_node() { for node in "/sys/bus/mdev/devices/$1/vfio-dev/"vfio*; do echo "/dev/vfio/devices/${node##*/}"; done; }

# Both devices run, A with this content and B with different content.
prepare() { # SCRATCH TEXT
    ./mtty "$A" reset
    ./mtty "$B" reset
    fill "$A" "$1" "$2"
    fill "$B" 11 untouched
    A_AS_IT_WAS=$(show "$A") B_AS_IT_WAS=$(show "$B") resets_before=$(resets)
}

# --- what both sides report ---------------------------------------------------------------

check_complete() { # DEVICE-NAME...: both succeeded, and agree on what was moved
    check "both exit with 0" is "$(status_of send) $(status_of recv)" "0 0"
    check "both reports say complete" is "$(value send.json outcome) $(value recv.json outcome)" "complete complete"
    for device in "$@"; do
        config=$(device_value send.json "$device" config_bytes)
        check "$device: 96 bytes and the config state" \
            is "$(device_value send.json "$device" bytes)" $((96 + ${config:-0}))
        check "$device: it has config state" is_more "$config" 64
        for key in bytes packets config_bytes crc32c; do
            check "$device: both sides have the same $key" \
                is "$(device_value recv.json "$device" $key)" "$(device_value send.json "$device" $key)"
        done
        check "$device: its checksum is hexadecimal" is "$(device_value send.json "$device" crc32c | tr -d '0-9a-f')" ""
        check "$device: its checksum is not empty" test -n "$(device_value send.json "$device" crc32c)"
    done
}

check_aborted() { # SEND-STATUS RECV-STATUS
    check "send exits with $1" is "$(status_of send)" "$1"
    check "recv exits with $2" is "$(status_of recv)" "$2"
}

# --- scenarios ----------------------------------------------------------------------------

move() { # SCENARIO SOURCE SINK CHANNELS SCRATCH TEXT OPPOSITE TXET
    begin "$1"
    prepare "$5" "$6"
    recv --device "card=vfio:$3"
    send --device "card=vfio:$2" --channels "$4"
    check_complete card
    check "state was moved before the device stopped" is_more "$(device_value send.json card precopy_bytes)" 0
    check "the sink shows the source's registers and runs" shows "$B" "RUNNING $5:$6 $7:$8"
    check "the source is stopped and still has them" shows "$A" "STOP $5:$6 $7:$8"
}

moves() {
    move "by group, 1 channel" "$(by_group "$A")" "$(by_group "$B")" 1 a5 'VFIO!' 5a '!OIFV'
    move "by group, 4 channels" "$(by_group "$A")" "$(by_group "$B")" 4 3c 'four ways' c3 'syaw ruof'
    move "by node, 1 channel" "$(by_node "$A")" "$(by_node "$B")" 1 01 'one' fe 'eno'
    move "by node, 4 channels" "$(by_node "$A")" "$(by_node "$B")" 4 77 '0123456789abcde' 88 'edcba9876543210'
    move "by UUID and by folder" "$A" "/sys/bus/mdev/devices/$B" 2 42 'named' bd 'deman'
    move "by group to node" "$(by_group "$A")" "$(by_node "$B")" 2 10 'mixed' ef 'dexim'
}

two_devices() {
    begin "two devices at once, 4 channels"
    for uuid in "$C" "$D"; do
        echo "$uuid" > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create
    done
    prepare 21 first
    fill "$C" 22 second
    recv --device "one=vfio:$B" --device "two=vfio:$D"
    send --device "one=vfio:$A" --device "two=vfio:$C" --channels 4
    check_complete one two
    check "the first one's sink has its state" shows "$B" "RUNNING 21:first de:tsrif"
    check "the second one's sink has its state" shows "$D" "RUNNING 22:second dd:dnoces"
    check "the first one is stopped" shows "$A" "STOP 21:first de:tsrif"
    check "the second one is stopped" shows "$C" "STOP 22:second dd:dnoces"
    for uuid in "$C" "$D"; do echo 1 > /sys/bus/mdev/devices/"$uuid"/remove; done
}

check_a_runs_on() {
    check "the source runs and has what it had" shows "$A" "$A_AS_IT_WAS"
    fill "$A" 66 'goes on'
    check "the source can be written" shows "$A" "RUNNING 66:goes on 99:no seog"
}

check_b_is_untouched() {
    check "the sink runs and has none of the source's state" shows "$B" "$B_AS_IT_WAS"
}

# A reset clears mtty's migration state but keeps its registers, so a device that was already loaded still shows what was
# loaded. What can be checked is that ringlift had it reset, and that it then runs, as the kernel leaves it after a reset.
check_b_was_reset() { # LINE-OF-B
    check "the sink was reset" is_more "$(resets)" "$resets_before"
    check "the sink runs" shows "$B" "$1"
}

# Whatever happened before: A's present state arrives in B.
check_another_try() { # LINE-OF-B
    recv --device "card=vfio:$B"
    send --device "card=vfio:$A"
    check "another try: both exit with 0" is "$(status_of send) $(status_of recv)" "0 0"
    check "another try: the sink has the state" shows "$B" "$1"
}

receiver_killed() {
    begin "receiver killed in the middle"
    prepare c0 'kept'
    check "it is under way" in_the_middle
    signal recv KILL
    check_aborted 1 137
    check "send says why it failed, and what to do" has_hint send
    check "send's report says aborted" is "$(value send.json outcome)" aborted
    check_a_runs_on
    check "the sink, as the killed process left it, does not run" shows "$B" "STOP c0:kept 3f:tpek"
    check_another_try "RUNNING 66:goes on 99:no seog"
}

sender_killed() {
    begin "sender killed in the middle"
    prepare c1 'orphan'
    check "it is under way" in_the_middle
    signal send KILL
    check_aborted 137 1
    check "recv says why it failed, and what to do" has_hint recv
    check "recv's report says aborted" is "$(value recv.json outcome)" aborted
    check_b_was_reset "RUNNING c1:orphan 3e:nahpro"
    check "the source is stopped where the killed process left it" shows "$A" "STOP_COPY c1:orphan 3e:nahpro"
    check_another_try "RUNNING c1:orphan 3e:nahpro"
}

sender_cancelled() { # SIGNAL
    begin "SIG$1 to the sender in the middle"
    prepare c2 'signalled'
    check "it is under way" in_the_middle
    signal send "$1"
    check_aborted 130 1
    check "recv says that the peer cancelled" says recv cancelled
    check_b_was_reset "RUNNING c2:signalled 3d:dellangis"
    check_a_runs_on
}

receiver_cancelled() { # SIGNAL
    begin "SIG$1 to the receiver in the middle"
    prepare c3 'signalled'
    check "it is under way" in_the_middle
    signal recv "$1"
    check_aborted 1 130
    check "send says that the peer cancelled" says send cancelled
    check_b_was_reset "RUNNING c3:signalled 3c:dellangis"
    check_a_runs_on
}

through_a_file() {
    begin "device to file"
    prepare d0 'on paper'
    recv --device "card=file:card.state"
    send --device "card=vfio:$A"
    check "both exit with 0" is "$(status_of send) $(status_of recv)" "0 0"
    check "the file has only the device's state" is "$(wc -c < card.state)" 96

    begin "file to device"
    recv --device "card=vfio:$B"
    send --device "card=file:card.state"
    check "both exit with 0" is "$(status_of send) $(status_of recv)" "0 0"
    check "the sink shows what the file has" shows "$B" "RUNNING d0:on paper 2f:repap no"
}

# The source sends half of a state, and then neither more data nor an end. (The pipe is opened for reading and writing,
# because opening it for only one waits for the other end, and a process that ends in the background would interrupt that.)
half_loaded() { # SIGNAL SEND-STATUS
    begin "SIG$1 to the sender when the sink is half loaded"
    prepare d2 'at home'
    mkfifo half.pipe
    recv --device "card=vfio:$B"
    input=half.pipe
    send --device card=fd:0
    input=/dev/null
    exec 3<> half.pipe
    head -c 48 card.state >&3
    wait_for grep -q 'phase: stop-copy' recv.err
    usleep 300000
    check "the sink is in use" is "$(./mtty "$B" show > /dev/null 2>&1; echo $?)" 1
    signal send "$1"
    check_aborted "$2" 1
    check "the sink was reset" is_more "$(resets)" "$resets_before"
    check_b_is_untouched
    exec 3>&-
    rm half.pipe
}

one_receiver() {
    begin "one receiver, several transfers in turn"
    prepare d3 'second'
    serve --device "card=vfio:$B"
    send --device card=file:junk.state
    check "junk: send exits with 1" is "$(status_of send)" 1
    check "junk: the receiver stays" [ ! -s recv.status ]
    send --device "card=vfio:$A"
    check "a device: send exits with 0" is "$(status_of send)" 0
    signal recv TERM
    check "recv exits with 130 after SIGTERM" is "$(status_of recv)" 130
    check "the sink has the state" shows "$B" "RUNNING d3:second 2c:dnoces"
}

broken_state() { # TITLE FILE ERRNO
    begin "$1"
    prepare d1 'not wanted'
    recv --device "card=vfio:$B"
    send --device "card=file:$2"
    check_aborted 1 1
    check "recv reports the device's errno" says recv "$3"
    check "recv names the device" says recv "device card: "
    check "send says that it was the other side's device" says send "error: "
    check_b_is_untouched
}

broken_states() {
    head -c 95 card.state > short.state
    { cat card.state; echo; } > long.state
    printf '%050d' 7 > junk.state
    : > empty.state
    broken_state "junk instead of a state" junk.state EFAULT
    broken_state "a state that is cut short" short.state EINVAL
    broken_state "a state that is too long" long.state ENOMEM
    broken_state "no state at all" empty.state EINVAL
}

has_device() { # UUID MIGRATION SIZE
    grep -F "$1" alone.out | grep -F mtty | grep -F "$(by_node "$1")" | grep -F -- "$2" | grep -qw -- "$3" || {
        echo "no line for $1 with '$2' and '$3':"
        cat alone.out
        return 1
    }
}

devices() {
    begin "ringlift devices"
    prepare e0 'listed'
    start alone devices
    check "it exits with 0" is "$(status_of alone)" 0
    for uuid in "$A" "$B"; do
        check "$uuid is listed, with what it supports" has_device "$uuid" "STOP_COPY P2P PRE_COPY" 96
    done
    check "listing changed nothing" shows "$A" "RUNNING e0:listed 1f:detsil"
    for way in by_group by_node; do
        mkfifo held.pipe
        ./mtty "$($way "$B")" hold < held.pipe > held.out &
        exec 3<> held.pipe
        wait_for grep -q held held.out
        start alone devices
        check "it exits with 0 while one is held $way" is "$(status_of alone)" 0
        check "that one is shown as in use" has_device "$B" "in use" -
        check "the other one is not" has_device "$A" "STOP_COPY P2P PRE_COPY" 96
        start alone send --to 127.0.0.1:9 --device "card=vfio:$B"
        check "a device in use cannot be sent" is "$(status_of alone)" 1
        check "and it is named" says alone "device card: "
        check "and there is a hint" has_hint alone
        exec 3>&-
        wait $!
        rm held.pipe held.out
    done
}

probe() {
    begin "ringlift devices --probe"
    for way in by_group by_node; do
        prepare d1 'probed'
        start alone devices --probe "$($way "$A")" --json probe.json
        check "it exits with 0 ($way)" is "$(status_of alone)" 0
        check "the report says complete" is "$(value probe.json outcome)" complete
        check "the device was not reset" is "$(value probe.json was_reset)" false
        check "it stood still for a time" is_more "$(value probe.json standstill_ns)" 0
        check "the driver's estimate is there" is "$(value probe.json estimate_before)" 96
        check "the state's size is shown" grep -q 'actual state *96 B' alone.out
        check "the way there and back is shown" grep -q 'STOP_COPY *STOP ' alone.out
        check "mtty has no poll" grep -q 'pollable *no' alone.out
        check "the device is as it was" shows "$A" "$A_AS_IT_WAS"
    done
    mkfifo held.pipe
    ./mtty "$(by_node "$A")" hold < held.pipe > held.out &
    exec 3<> held.pipe
    wait_for grep -q held held.out
    start alone devices --probe "$A"
    check "a device in use is refused" is "$(status_of alone)" 1
    check "the hint says why" says alone "another process has the device open"
    exec 3>&-
    wait $!
    rm held.pipe held.out
    check "it is untouched" shows "$A" "$A_AS_IT_WAS"
}

little_memory() {
    begin "64 KiB of locked memory, not root"
    grep -q '^nobody:' /etc/passwd || echo 'nobody:x:65534:65534:nobody:/tmp:/bin/sh' >> /etc/passwd
    chmod 755 ./ringlift
    (ulimit -l 64 && exec su -s /bin/sh nobody -c 'exec ./ringlift demo --size 8MiB --devices 2 --json -') \
        > alone.out 2> alone.err
    check "the demo succeeds" is $? 0
    check "it warns that the pool is not registered" grep -q no_registered_buffers alone.out
    check "the warning has a hint" says alone "hint: "
    check "the settings show that, too" grep -q '"registered_buffers":false' alone.out
}

no_ring() {
    begin "io_uring is disabled"
    prepare f0 'untouched'
    sysctl -q -w kernel.io_uring_disabled=2
    start alone send --to 127.0.0.1:9 --device "card=vfio:$A"
    check "send exits with 1" is "$(status_of alone)" 1
    check "send says so" says alone io_uring
    check "send names the setting" says alone kernel.io_uring_disabled
    start alone recv --listen 127.0.0.1:0 --once --device "card=vfio:$B"
    check "recv exits with 1, before any sender connects" is "$(status_of alone)" 1
    check "recv says so" says alone io_uring
    check "recv names the setting" says alone kernel.io_uring_disabled
    check "the source is untouched" shows "$A" "$A_AS_IT_WAS"
    check_b_is_untouched
    sysctl -q -w kernel.io_uring_disabled=0
    check_another_try "RUNNING f0:untouched 0f:dehcuotnu"
}

moves
two_devices
receiver_killed
sender_killed
sender_cancelled TERM
sender_cancelled INT
receiver_cancelled INT
receiver_cancelled TERM
through_a_file
broken_states
half_loaded KILL 137
half_loaded TERM 130
one_receiver
devices
probe
little_memory
no_ring
echo "the end"
