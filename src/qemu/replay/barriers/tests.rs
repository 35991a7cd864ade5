use proptest::prelude::*;

use super::*;

const INIT: u64 = 64;
/// The only channel, where there is one.
const CHANNEL: ConnectionIdx = ConnectionIdx(1);

/// A step of a source, in its own order.
#[derive(Debug, Clone)]
enum Act {
    Main(u64),
    Channel(usize, u64),
    Barrier,
}

/// A migration as a source sends it: RAM and pre-copy, the switchover, the last of both, the tail.
#[derive(Debug, Clone)]
struct Program {
    before: Vec<Act>,
    /// Device state is what goes over channels here.
    after: Vec<(Act, bool)>,
    tail: u64,
    channels: usize,
}

fn act(channels: usize) -> impl Strategy<Value = Act> {
    prop_oneof![
        (1_u64..50).prop_map(Act::Main),
        (0..channels, 1_u64..50).prop_map(|(channel, len)| Act::Channel(channel, len)),
        Just(Act::Barrier),
    ]
}

fn program() -> impl Strategy<Value = Program> {
    (1_usize..5).prop_flat_map(|channels| {
        let before = prop::collection::vec(act(channels), 0..20);
        let after = prop::collection::vec((act(channels), any::<bool>()), 0..20);
        (before, after, 0_u64..50).prop_map(move |(before, after, tail)| Program {
            before,
            after,
            tail,
            channels,
        })
    })
}

impl Program {
    fn milestones(&self) -> (MainMilestones, Vec<ChannelMilestones>) {
        let mut main = MainMilestones::default();
        let mut channels =
            vec![ChannelMilestones { len: INIT, ..ChannelMilestones::default() }; self.channels];
        self.before.iter().for_each(|act| carry_out(act, false, &mut main, &mut channels));
        main.switchover = Some(main.len);
        main.len += SWITCHOVER_LEN;
        self.after.iter().for_each(|(act, device)| carry_out(act, *device, &mut main, &mut channels));
        main.tail = Some(main.len);
        main.len += self.tail;
        (main, channels)
    }

    fn barriers(&self) -> Barriers {
        let (main, channels) = self.milestones();
        Barriers::new(main, channels, INIT).expect("a source sent it in this order")
    }
}

fn carry_out(act: &Act, device: bool, main: &mut MainMilestones, channels: &mut [ChannelMilestones]) {
    match *act {
        Act::Main(len) => main.len += len,
        Act::Channel(channel, len) => {
            let milestones = &mut channels[channel];
            let begin = milestones.len;
            milestones.len += len;
            if device {
                let first = milestones.device.as_ref().map_or(begin, |device| device.start);
                milestones.device = Some(first..milestones.len);
            }
        }
        Act::Barrier => {
            for milestones in channels {
                milestones.len += 10;
                milestones.syncs.push(milestones.len);
            }
            main.len += FLUSH_LEN;
            main.flushes.push(main.len);
        }
    }
}

/// The rules again, for one byte: whether it may be sent, given what the others have sent.
fn may_leave(barriers: &Barriers, connection: ConnectionIdx, byte: u64) -> bool {
    let sent = |connection: ConnectionIdx| barriers.sent(connection);
    let main = &barriers.main;
    let switchover = main.switchover.unwrap();
    let mut channels = barriers.channels.iter().zip((1..).map(ConnectionIdx::from_index));
    let Some(channel) = connection.channel() else {
        let flushed = main.flushes.iter().zip(0..).filter(|&(end, _)| byte >= end - FLUSH_LEN);
        let mut synced = flushed
            .flat_map(|(_, k)| channels.clone().map(move |(milestones, at)| (milestones.syncs[k], at)));
        let all_synced = synced.all(|(end, at)| sent(at) >= end);
        let all_loaded = channels
            .all(|(milestones, at)| milestones.device.as_ref().is_none_or(|device| sent(at) >= device.end));
        return all_synced && (byte < main.tail.unwrap() || all_loaded);
    };
    let milestones = &barriers.channels[channel.index()];
    let behind = milestones.syncs.iter().zip(&main.flushes).filter(|&(end, _)| byte >= *end);
    let is_device = milestones.device.as_ref().is_some_and(|device| device.contains(&byte));
    behind.into_iter().all(|(_, flush)| sent(ConnectionIdx::MAIN) >= *flush)
        && (!is_device || sent(ConnectionIdx::MAIN) >= switchover + SWITCHOVER_LEN)
}

/// A QEMU destination, whose sockets hold `room` bytes each.
struct Destination {
    room: u64,
    read: Vec<u64>,
}

impl Destination {
    /// How far a connection's reader would read now if everything had been sent.
    fn wants(&self, barriers: &Barriers, connection: ConnectionIdx) -> u64 {
        let channels = barriers.channels.iter().zip(&self.read[1..]);
        let read = self.read[connection.index()];
        let all_read = |k: usize| channels.clone().all(|(milestones, read)| *read >= milestones.syncs[k]);
        let Some(channel) = connection.channel() else {
            let mut waits = barriers.main.flushes.iter().zip(0..);
            let barrier =
                waits.find(|&(end, k)| *end > read || !all_read(k)).map_or(u64::MAX, |(end, _)| *end);
            let is_loaded = channels.clone().all(|(milestones, read)| {
                milestones.device.as_ref().is_none_or(|device| *read >= device.end)
            });
            return barrier.min(if is_loaded { barriers.main.len } else { barriers.main.tail.unwrap() });
        };
        let milestones = &barriers.channels[channel.index()];
        let mut pairs = milestones.syncs.iter().zip(&barriers.main.flushes).zip(0..);
        let stops = pairs.find(|&((end, flush), k)| *end > read || self.read[0] < *flush || !all_read(k));
        stops.map_or(milestones.len, |((end, _), _)| *end)
    }
}

proptest! {
    /// Sends in pieces of any size and in any order, to a destination with sockets of any size.
    #[test]
    fn everything_is_sent_in_a_sources_order_and_a_destination_reads_it_all(
        program in program(),
        room in 1_u64..100,
        choices in prop::collection::vec((any::<prop::sample::Index>(), 1_u64..60), 50),
    ) {
        let mut barriers = program.barriers();
        let count = program.channels + 1;
        let mut read = vec![INIT; count];
        read[0] = 0;
        let mut destination = Destination { room, read };
        let mut choices = choices.iter().cycle();
        let mut idle = 0;
        while idle < 2 * count {
            let (index, piece) = choices.next().unwrap();
            let mut moved = false;
            for turn in 0..count {
                let connection = ConnectionIdx::from_index((index.index(count) + turn) % count);
                let limit = barriers.limit(connection);
                let sent = barriers.sent(connection);
                let room = destination.read[connection.index()] + destination.room - sent;
                let next = limit.min(sent + (*piece).min(room));
                for byte in sent..next {
                    prop_assert!(may_leave(&barriers, connection, byte), "byte {byte} of {connection}: {barriers:?}");
                }
                barriers.advance(connection, next);
                let reads = destination.wants(&barriers, connection).min(next).max(destination.read[connection.index()]);
                moved |= next > sent || reads > destination.read[connection.index()];
                destination.read[connection.index()] = reads;
            }
            idle = if moved { 0 } else { idle + 1 };
        }
        for connection in ConnectionIdx::below(count) {
            prop_assert!(barriers.is_over(connection), "{connection} of {barriers:?}");
            prop_assert_eq!(destination.read[connection.index()], barriers.len(connection));
        }
    }

    /// Any capture is either refused at the beginning or can be sent to its end.
    #[test]
    fn an_order_that_no_source_keeps_is_refused_or_comes_to_its_end(
        milestones in prop::collection::vec((prop::collection::vec(1_u64..200, 0..4), 64_u64..200, 1_u64..100), 1..4),
        flushes in prop::collection::vec(8_u64..200, 0..4),
        switchover in 0_u64..200,
        tail in 0_u64..200,
    ) {
        let channels = milestones.into_iter().map(|(mut syncs, begin, len)| {
            syncs.sort_unstable();
            ChannelMilestones { len: 300, syncs, device: Some(begin..begin + len) }
        });
        let mut flushes = flushes;
        flushes.sort_unstable();
        let main = MainMilestones { len: 300, flushes, switchover: Some(switchover), tail: Some(tail), awaits_ack: false };
        if let Ok(mut barriers) = Barriers::new(main, channels.collect(), 0) {
            prop_assert!(ConnectionIdx::below(barriers.positions.len()).all(|connection| barriers.sent(connection) == 0));
            prop_assert_eq!(barriers.rehearse(), Ok(()));
        }
    }
}

fn channel(syncs: &[u64], device: Range<u64>) -> ChannelMilestones {
    ChannelMilestones { len: 1000, syncs: syncs.to_vec(), device: Some(device) }
}

fn main_milestones() -> MainMilestones {
    MainMilestones {
        len: 500,
        flushes: vec![108, 208],
        switchover: Some(150),
        tail: Some(300),
        awaits_ack: false,
    }
}

#[test]
fn nothing_is_sent_past_a_place_that_others_wait_for() {
    let mut barriers = Barriers::new(main_milestones(), vec![channel(&[100, 200], 300..400)], 64).unwrap();
    assert_eq!(
        (barriers.limit(ConnectionIdx::MAIN), barriers.limit(CHANNEL)),
        (100, 100),
        "flush 0 waits for SYNC 0"
    );
    barriers.advance(CHANNEL, 100);
    assert_eq!(
        (barriers.limit(ConnectionIdx::MAIN), barriers.limit(CHANNEL)),
        (108, 100),
        "what follows SYNC 0 waits for flush 0"
    );
    barriers.advance(ConnectionIdx::MAIN, 108);
    assert_eq!(
        (barriers.limit(ConnectionIdx::MAIN), barriers.limit(CHANNEL)),
        (155, 200),
        "others wait for SWITCHOVER_START and for SYNC 1"
    );
    barriers.advance(CHANNEL, 200);
    barriers.advance(ConnectionIdx::MAIN, 155);
    assert_eq!((barriers.limit(ConnectionIdx::MAIN), barriers.limit(CHANNEL)), (208, 200));
    barriers.advance(ConnectionIdx::MAIN, 208);
    assert_eq!(
        (barriers.limit(ConnectionIdx::MAIN), barriers.limit(CHANNEL)),
        (300, 400),
        "the tail waits for the device"
    );
    barriers.advance(CHANNEL, 400);
    assert_eq!((barriers.limit(ConnectionIdx::MAIN), barriers.limit(CHANNEL)), (500, 1000));
}

#[test]
fn device_state_waits_for_the_switchover() {
    let mut barriers = Barriers::new(main_milestones(), vec![channel(&[100, 900], 300..400)], 64).unwrap();
    barriers.advance(CHANNEL, 100);
    barriers.advance(ConnectionIdx::MAIN, 108);
    assert_eq!(barriers.limit(CHANNEL), 300);
    assert!(!barriers.is_switched() && !barriers.device_state_is_sent());
    barriers.advance(ConnectionIdx::MAIN, 155);
    assert_eq!(barriers.limit(CHANNEL), 400);
    barriers.advance(CHANNEL, 400);
    assert!(barriers.is_switched() && barriers.device_state_is_sent());
}

#[test]
fn the_switchover_waits_for_the_destination_where_it_is_asked() {
    let main = MainMilestones { flushes: vec![], awaits_ack: true, ..main_milestones() };
    let mut barriers = Barriers::new(main, vec![channel(&[], 64..400)], 64).unwrap();
    assert_eq!(
        (barriers.limit(ConnectionIdx::MAIN), barriers.awaits_ack()),
        (150, false),
        "there is something to send before"
    );
    barriers.advance(ConnectionIdx::MAIN, 150);
    assert_eq!((barriers.limit(ConnectionIdx::MAIN), barriers.awaits_ack()), (150, true));
    barriers.acknowledge();
    assert_eq!((barriers.limit(ConnectionIdx::MAIN), barriers.awaits_ack()), (155, false));
}

#[test]
fn device_state_before_a_barrier_before_the_switchover_is_a_circle() {
    let circle = Barriers::new(main_milestones(), vec![channel(&[100, 200], 70..90)], 64).unwrap_err();
    assert_eq!(circle, Circle { connection: ConnectionIdx::MAIN, offset: 100 });
}

#[test]
fn a_capture_without_channels_is_not_held_at_all() {
    let barriers =
        Barriers::new(MainMilestones { switchover: None, ..main_milestones() }, vec![], 64).unwrap();
    assert_eq!(barriers.limit(ConnectionIdx::MAIN), 108);
    assert!(barriers.device_state_is_sent());
}
