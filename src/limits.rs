//! Every bound of the program, each with its derivation.
//!
//! Nothing a peer sends makes this side allocate, wait or trust more than a number on this page. The relations
//! between the numbers are checked when the crate is compiled (at the end of the file).

use std::time::Duration;

/// Bytes of one memory page: payloads start on such a boundary so that the kernel can move whole pages.
pub const PAGE_SIZE: usize = 4096;

/// Room in front of a payload for its header: the largest framing (288 bytes for a QEMU device packet, 64 for our own)
/// rounded up to a page, because the payload behind it is page-aligned.
pub const HEADER_ROOM: usize = PAGE_SIZE;

/// Smallest packet payload: below a page the header costs more than the data.
pub const PACKET_SIZE_MIN: u32 = 4096;
/// Largest packet payload: 16 MiB is past the point where larger packets are faster on any link measured, and a
/// pool must hold at least two packets per device.
pub const PACKET_SIZE_MAX: u32 = 16 << 20;
/// Default packet payload: the fastest in the measurements of `docs/BENCHMARKING.md`.
pub const PACKET_SIZE_DEFAULT: u32 = 1 << 20;

/// Largest config state of a device: PCI config space (4 KiB), a header, and room for a table of 2048 MSI-X vectors
/// (32 KiB) from an embedder's device.
pub const CONFIG_SIZE_MAX: usize = 64 << 10;

/// Devices in one session: a virtual machine has at most 32 slots of 8 functions on a bus.
pub const DEVICES_MAX: usize = 256;
/// Threads of one side that carry out what may block: one for each device, because all of them change their states at
/// once, while the machine stands still, and one that does not come back must not hold up another's way home; and one for
/// a hook, or for making the pool.
pub const JOB_THREADS_MAX: usize = DEVICES_MAX + 1;
/// Longest device name in bytes (a QEMU idstr has the same bound).
pub const NAME_MAX: usize = 255;
/// Data connections in one session, the same as in QEMU's multifd.
pub const CHANNELS_MAX: usize = 255;
/// Default number of data connections.
pub const CHANNELS_DEFAULT: usize = 2;

/// Default pool size for one device: 64 packets of the default size, several times what a socket holds, and what a path of
/// 40 Gbit/s and 10 ms has on the way.
pub const POOL_SIZE_DEFAULT: u64 = 64 << 20;
/// Packets by which each further device makes the default pool larger, and for which a device has slots until its last packet
/// has come, where the pool has them: a small device needs them for its state and its config state. So a large device has
/// what it has alone, however many small ones are beside it.
pub const PACKETS_PER_DEVICE: u64 = 2;
/// Largest pool that the sender may ask for, on either side.
pub const POOL_SIZE_MAX: u64 = 16 << 30;
/// Largest pool that a receiver allocates because its peer asked for it, unless its caller raises the bound.
pub const POOL_SIZE_TRUSTED: u64 = 1 << 30;

/// How long an interval of a report lasts, until there are too many of them: a guest's pause of some tenths of a second is
/// seen in parts. No interval that a caller is told of is shorter.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Intervals in a report: a minute of the shortest. With the most devices and channels they are 2.4 MiB.
pub const INTERVALS_MAX: usize = 600;

/// Packets of one side that are kept with their times, at most, where a caller asks for that: 80 bytes each, 320 MiB.
pub const TRACE_PACKETS_MAX: usize = 4 << 20;
/// As many as the command keeps: 256 GiB in packets of the default size take 20 MiB, and a file of some 200 MiB.
pub const TRACE_PACKETS_DEFAULT: usize = 256 << 10;

/// What a worker allocates beside its pools, at most: six histograms of 264 KiB, the ring's table, intervals, and lists for
/// every device and channel come to 7 MiB, and `LENT_PLACES_MAX` to 8 MiB at most. Without this much it does not begin.
pub const WORKER_MEMORY: usize = 16 << 20;
/// What a side allocates when everything is decided: its own report, the other side's as it came and as it is read, and
/// the histograms as they are written, with the stack for that. It is held from the beginning.
pub const SPARE_MEMORY: usize = 16 << 20;
/// What a worker allocates for each slot of a pool: its place in the list of free slots and in a device's window.
pub const SLOT_MEMORY: usize = 256;
/// Places of all devices' windows together for slots that others do not use: what one of 32 devices may have waiting
/// beside a pool's equal part is 1024 packets, a GiB of the default size.
pub const LENT_PLACES_MAX: usize = 32 << 10;

/// Single state changes of one device that are kept with their times: a transfer that is rolled back makes at most ten,
/// four more for each arc that fails on the way.
pub const ARCS_MAX: usize = 32;

/// Longest control message: settings with every device at its longest name, and its fixed part.
pub const CONTROL_BODY_MAX: usize = 72 << 10;
/// Longest text in an abort or a refusal.
pub const TEXT_MAX: usize = 512;
/// Size of a control buffer: the small buffers that packet headers and control messages use.
pub const CONTROL_BUFFER_SIZE: usize = 80 << 10;
/// Control messages that may wait to be sent: one of each kind, and for each device one Credit (newer credit replaces
/// older) and one Loaded.
pub const CONTROL_QUEUE_MAX: usize = 2 * DEVICES_MAX + 16;

/// A receiver's report behind committed, in bytes: some KiB, and with the most intervals of many devices and channels more
/// than this, so it leaves them out then. A sender keeps no longer one.
pub const REPORT_MAX: usize = 1 << 20;
/// Bytes of a report in one control message.
pub const REPORT_PIECE_MAX: usize = 64 << 10;
/// How long a sender waits for that report when everything is over: a receiver makes it in milliseconds. Devices run
/// meanwhile.
pub const REPORT_WAIT: Duration = Duration::from_secs(1);
/// How often a sender asks for the receiver's time: the fastest of some round trips is close to the network's own.
pub const PINGS: u8 = 8;
/// Bytes that warm all data connections of a session up, at most, and that a receiver drops: in half a second they fill a path
/// of 1 Gbit/s, and on a faster one they are enough to measure it.
pub const WARM_UP_MAX: u64 = 64 << 20;
/// How long that may take; the devices run meanwhile. Slow start is over after some round trips.
pub const WARM_UP_TIME: Duration = Duration::from_millis(500);
/// Bytes of it in one packet: few enough to leave a slow socket soon.
pub const WARM_UP_PACKET: u32 = 256 << 10;

/// Connections that may be in their hello at the same time at a listener.
pub const PENDING_HELLOS_MAX: usize = 64;
/// While there are as many, the oldest is closed for a newer one, once it has had this long for its hello: a round trip
/// on the slowest link.
pub const HELLO_GRACE: Duration = Duration::from_millis(250);
/// Sessions that may be set up at the same time at a listener. Those that have brought no data connection make room first,
/// and of these the one that has made no progress for longest; so a stranger has to begin this many between a sender's
/// first connection and its second to keep it out.
pub const GATHERINGS_MAX: usize = 256;
/// Connections in all of these sessions: two of the largest. Each session has a second descriptor of its control connection.
/// Where the limit of open files is reached first (1024 is usual), a session makes room as well.
pub const GATHERED_CONNECTIONS_MAX: usize = 2 * (CHANNELS_MAX + 1);
/// From connecting to the end of one connection's hello: a generous bound for two round trips on the slowest link.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// From the control connection's hello to the last data connection's.
pub const GATHER_TIMEOUT: Duration = Duration::from_secs(10);
/// From the control connection's hello to the whole offer. Heartbeats do not extend it. A sender makes its pool in this
/// time: 16 GiB at 1 GiB/s are half of it.
pub const AGREEMENT_MAX: Duration = Duration::from_secs(30);
/// How often a thread waiting for connections checks for cancellation. Short enough to feel immediate after Ctrl-C.
pub const CANCEL_POLL: Duration = Duration::from_millis(50);

/// A side with nothing else to send sends a heartbeat this often.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that has been silent for this long is gone: ten heartbeats.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A transfer in which no data has moved for this long has failed, even if heartbeats arrive. This bounds the time that
/// a slow device may take for one read, one write or one state change (seconds, for the slowest known).
pub const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// How long the source's devices stand still at most, unless the caller sets another bound: what takes longer is rolled
/// back. A guest notices seconds; 60 s move 64 GiB of state over a link of 10 Gbit/s.
pub const DOWNTIME_MAX_DEFAULT: Duration = Duration::from_secs(60);
/// How long a side waits for a hook of its peer's caller, during which heartbeats arrive and nothing moves: before the
/// switchover, before the last loaded, and before commit. It restores the rest of a virtual machine there, or waits for
/// its memory to converge, which takes minutes at the most.
pub const HOOK_MAX: Duration = Duration::from_secs(60 * 60);
/// Bytes that have to move in that time for it to begin anew: less is no transfer, but a peer that holds a receiver. The
/// end of a device and a change of phase count, however few bytes they took.
pub const PROGRESS_MIN: u64 = 64 << 10;
/// How long a side that gives up tries to send its final message.
pub const FINAL_MESSAGE_MAX: Duration = Duration::from_secs(1);
/// How often to poll for the peer kernel's acknowledgement of our final message: a fraction of a round trip.
pub const CONFIRMATION_POLL: Duration = Duration::from_micros(100);
/// How long a side whose data connection failed waits for the reason on the control connection.
pub const REASON_PATIENCE: Duration = Duration::from_millis(300);
/// How long a side whose transfer failed waits for reads, writes and state changes that are under way. A device whose
/// operation has not ended by then is reported, not waited for.
pub const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How often progress is reported.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How long a side waits, after its final message, for its peer to close, so that the message is not lost in a reset.
pub const LINGER_MAX: Duration = Duration::from_secs(2);

/// What may be left of all devices when pre-copy ends is what the link moves in this time, unless the caller sets another:
/// as long as QEMU's users know it.
pub const DOWNTIME_LIMIT_DEFAULT: Duration = Duration::from_millis(300);
/// Pre-copy of a device ends once this many times as much has been read as it ever expected to have: a device that produces
/// state faster than the network takes it would never finish pre-copy.
pub const PRECOPY_FACTOR_MAX: u64 = 4;
/// Pre-copy ends after this time in any case.
pub const PRECOPY_TIME_MAX: Duration = Duration::from_secs(30);
/// How long to wait before asking a device in pre-copy that had nothing new, and twice as long each time that it has nothing
/// again: a fraction of what saving the next part takes.
pub const PRECOPY_POLL: Duration = Duration::from_millis(10);
/// How often a device in pre-copy is asked what is left when nothing else makes it worth asking, and at least so often in
/// any case. The kernel's virtio driver asks its device once a second at most.
pub const PRECOPY_ASK_INTERVAL: Duration = Duration::from_secs(1);

/// State in one QEMU packet, or in one piece on QEMU's main connection: QEMU's buffer is at most 1 MiB.
pub const QEMU_STATE_MAX: u32 = 1 << 20;
/// Blocks of guest memory: every known machine has some tens.
pub const QEMU_RAM_BLOCKS_MAX: usize = 4096;
/// Body of a message that a QEMU destination sends: a request for pages contains a block's name, as does a bitmap.
pub const QEMU_REPLY_MAX: u16 = 512;
/// Connections of one QEMU migration: the main one and the multifd channels.
pub const QEMU_CONNECTIONS_MAX: usize = CHANNELS_MAX + 1;
/// Packets and pieces of device state that are listed for a captured stream: 4 TiB in packets of the largest size, and
/// 100 MiB of memory for the list.
pub const QEMU_PIECES_MAX: usize = 4 << 20;
/// Barriers of a captured connection: a source makes one for each pass over its memory, so this allows three hours at a
/// hundred passes a second, and 8 MiB of memory for the list.
pub const QEMU_BARRIERS_MAX: usize = 1 << 20;
/// Packets of one device that have a slot and wait for earlier ones. More than any pool gives one device in practice;
/// it bounds the list of places for them, not what a device can send.
pub const QEMU_WINDOW_MAX: usize = 1024;
/// What follows the live sections of a main connection, where it has to be kept: some MiB in a machine with hundreds of
/// devices.
pub const QEMU_TAIL_MAX: usize = 64 << 20;
/// From the end of one multifd connection to the end of the main one, or between two packets on the others after that:
/// QEMU closes its connections when it has written everything, so whatever is still missing is already in the sockets'
/// buffers.
pub const QEMU_LEFTOVERS_MAX: Duration = Duration::from_secs(10);
/// QEMU's description of a machine's state: 44 KiB for a small machine, some MiB for one with hundreds of devices.
pub const QEMU_DESCRIPTION_MAX: u32 = 16 << 20;

/// How far a packet of a QEMU device may be ahead of the first missing one. The packets in between wait on other
/// connections, whose sockets hold at most 6 MiB each, which is 16384 of the smallest packets (a device of 96 bytes
/// sends 384).
pub const QEMU_AHEAD_MAX: usize = 4 * 16384;
/// Answers that may wait for a QEMU source to read them: it pings once in a migration.
pub const QEMU_ANSWERS_MAX: usize = 64;
/// Most bytes for one receive from a QEMU: what a socket returns in one call, and no more than stays in a cache.
pub const QEMU_PIECE_MAX: u32 = 1 << 20;
/// Fewest bytes for one receive, however many connections share a pool: below this a system call costs more than the
/// bytes that it moves.
pub const QEMU_PIECE_MIN: u32 = 64 << 10;

/// Longest latency that a histogram can hold, in nanoseconds (one hour); longer ones are counted as this.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

const _: () = assert!(HEADER_ROOM >= 288, "QEMU's device packet header fits in front of a payload");
const _: () = assert!(PACKET_SIZE_MIN <= PACKET_SIZE_DEFAULT);
const _: () = assert!(PACKET_SIZE_DEFAULT <= PACKET_SIZE_MAX);
const _: () = assert!(POOL_SIZE_DEFAULT <= POOL_SIZE_TRUSTED && POOL_SIZE_TRUSTED <= POOL_SIZE_MAX);
const _: () =
    assert!(LENT_PLACES_MAX * SLOT_MEMORY <= WORKER_MEMORY / 2, "a worker's memory has these places");
const _: () = assert!(
    POOL_SIZE_DEFAULT
        + PACKETS_PER_DEVICE * DEVICES_MAX as u64 * (PACKET_SIZE_DEFAULT as u64 + HEADER_ROOM as u64)
        <= POOL_SIZE_TRUSTED,
    "a receiver trusts the default pool of any number of devices"
);
const _: () = assert!(CONTROL_BODY_MAX >= 64 + DEVICES_MAX * (NAME_MAX + 24), "settings fit in one message");
const _: () =
    assert!(CONTROL_BUFFER_SIZE >= CONTROL_BODY_MAX + 64 && CONTROL_BUFFER_SIZE.is_multiple_of(PAGE_SIZE));
const _: () = assert!(CHANNELS_MAX <= u8::MAX as usize, "QEMU's channel numbers have the same bound");
const _: () =
    assert!(QEMU_STATE_MAX <= PACKET_SIZE_DEFAULT, "a QEMU packet fits into a slot of the default size");
const _: () =
    assert!(REPORT_MAX.div_ceil(REPORT_PIECE_MAX) <= CONTROL_QUEUE_MAX, "a whole report can be queued");
const _: () =
    assert!(WARM_UP_MAX / CHANNELS_MAX as u64 >= PACKET_SIZE_MIN as u64, "each connection can be warmed up");
const _: () = assert!(DEVICES_MAX <= u16::MAX as usize);
const _: () = assert!(INTERVALS_MAX.is_multiple_of(2), "neighbours become one in pairs");
const _: () = assert!(AGREEMENT_MAX.as_secs() > GATHER_TIMEOUT.as_secs());
const _: () = assert!(HELLO_GRACE.as_millis() < HELLO_TIMEOUT.as_millis());
const _: () = assert!(SILENCE_MAX.as_secs() >= 5 * HEARTBEAT_INTERVAL.as_secs());
const _: () = assert!(STANDSTILL_MAX.as_secs() > SILENCE_MAX.as_secs());
const _: () = assert!(PRECOPY_POLL.as_millis() < PRECOPY_ASK_INTERVAL.as_millis());
const _: () = assert!(HOOK_MAX.as_secs() > STANDSTILL_MAX.as_secs());
