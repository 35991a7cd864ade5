//! A source and a worker played by hand: whole migrations in any order, and the events of the main connection.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::devices::Admission;
use super::*;
use crate::limits::{DEVICES_MAX, QEMU_AHEAD_MAX};
use crate::numbers::DeviceIdx;
use crate::wire::qemu::{DevicePacket, Section};

const SECOND: Nanos = 1_000_000_000;
/// Where packets arrive.
const PLACE: (Place, u64) = (Place::Multifd(3), 64);

fn name(device: usize) -> Idstr {
    Idstr::try_from(&*format!("0000:00:{device:02x}.0/vfio")).unwrap()
}

fn session(devices: usize, slots: usize) -> QemuSession<u32> {
    QemuSession::new((0..devices).map(|device| (name(device), 0)).collect(), slots, 0)
}

fn section(device: usize) -> u32 {
    u32::try_from(device).unwrap() + 30
}

fn start(device: usize) -> Event<'static> {
    Event::Start(Section { id: section(device), idstr: name(device), instance: 0, version: 1 })
}

fn packet(device: usize, idx: u32, config: bool) -> DevicePacket {
    DevicePacket { idstr: name(device), instance: 0, idx, config, len: 100 }
}

/// The source has begun every device.
fn begun(devices: usize, slots: usize) -> QemuSession<u32> {
    let mut session = session(devices, slots);
    assert!((0..devices).all(|device| session.on_main(&start(device), 0, 0).unwrap().is_none()));
    session
}

fn switched_over(devices: usize, slots: usize) -> QemuSession<u32> {
    let mut session = begun(devices, slots);
    session.on_main(&Event::Command(Command::SwitchoverStart), 0, 0).unwrap();
    session
}

fn text(result: Result<impl std::fmt::Debug, Error>) -> String {
    result.unwrap_err().to_string()
}

/// A packet arrives, whole.
fn arrive(session: &mut QemuSession<u32>, packet: DevicePacket) -> Admission {
    let admission = session.devices.admit(&packet, PLACE).unwrap();
    if admission == Admission::Slot {
        session.devices.fill(&packet, packet.idx, 0);
    }
    admission
}

/// Takes and writes a device's next packet, as a worker does.
fn write(session: &mut QemuSession<u32>, device: usize) -> Option<NextPacket<u32>> {
    let turn = session.pop(DeviceIdx::from_index(device))?;
    session.written(DeviceIdx::from_index(device), 0);
    if turn.config {
        session.loaded(DeviceIdx::from_index(device));
    }
    Some(turn)
}

#[test]
fn packets_wait_for_switchover_start_and_come_after_the_main_connections_state() {
    let mut session = begun(1, 4);
    arrive(&mut session, packet(0, 0, false));
    assert!(session.pop(DeviceIdx::from_index(0)).is_none());
    session.on_main(&Event::Part(section(0)), 0, 0).unwrap();
    assert!(session.devices.admit_main());
    session.devices.fill_main(77, 24, 0).unwrap();
    session.on_main(&Event::Command(Command::SwitchoverStart), 0, 5).unwrap();
    arrive(&mut session, packet(0, 1, true));
    let order: Vec<u32> = std::iter::from_fn(|| write(&mut session, 0)).map(|turn| turn.handle).collect();
    assert_eq!((order, session.switched_over()), (vec![77, 0, 1], Some(5)));
    let (totals, precopy_bytes) = session.devices.totals(DeviceIdx::from_index(0));
    assert_eq!((totals.packets, totals.bytes, totals.config_bytes, precopy_bytes), (3, 224, 100, 24));
    assert!(session.is_loaded() && !session.commit(), "the main connection has more to send");
    session.main_is_over(6);
    assert!(session.commit());
}

#[test]
fn a_device_on_one_side_only_is_refused_and_named() {
    let refusal = "refused by the receiver: device 0000:00:01.0/vfio is on one side only";
    assert_eq!(text(session(1, 2).on_main(&start(1), 0, 0)), refusal);
    assert_eq!(text(session(1, 2).devices.admit(&packet(1, 0, false), PLACE)), refusal);
    for event in [Event::Part(1), Event::End(1), Event::Command(Command::SwitchoverStart), Event::Tail] {
        let mut session = session(2, 4);
        session.on_main(&start(0), 0, 0).unwrap();
        assert_eq!(text(session.on_main(&event, 0, 0)), refusal);
    }
}

#[test]
fn packets_out_of_order_are_errors_that_name_device_and_idx() {
    let mut session = switched_over(1, 4);
    arrive(&mut session, packet(0, 0, false));
    write(&mut session, 0);
    arrive(&mut session, packet(0, 2, true));
    for (wrong, what) in [
        (packet(0, 0, false), "packet 0 came twice"),
        (packet(0, 2, false), "packet 2 came twice"),
        (packet(0, 3, false), "packet 3 came after the config packet"),
        (packet(0, 1, true), "packet 1 came as a second config packet"),
    ] {
        let expected = format!("multifd channel 3, offset 64: device 0000:00:00.0/vfio: {what}");
        assert_eq!(text(session.devices.admit(&wrong, PLACE)), expected);
    }
    let far = packet(0, 0xffff_fffe, false);
    let expected = "packet 4294967294 came further ahead of its turn than connections can hold";
    assert!(text(switched_over(1, 4).devices.admit(&far, PLACE)).ends_with(expected));
    let near = packet(0, u32::try_from(QEMU_AHEAD_MAX).unwrap(), false);
    assert_eq!(switched_over(1, 4).devices.admit(&near, PLACE).unwrap(), Admission::Wait);
}

#[test]
fn config_below_data_that_came_is_an_error() {
    let mut session = switched_over(1, 8);
    arrive(&mut session, packet(0, 3, false));
    let error = text(session.devices.admit(&packet(0, 1, true), PLACE));
    assert!(error.ends_with("packet 1 came as config packet, but data after it"), "{error}");
}

#[test]
fn a_next_packet_has_its_slot_and_others_take_only_what_is_left() {
    let mut session = switched_over(2, 4);
    // one slot is spare, and three are reserved: for each device's next packet and for the main connection
    assert_eq!(arrive(&mut session, packet(0, 1, false)), Admission::Slot);
    assert_eq!(arrive(&mut session, packet(0, 2, false)), Admission::Wait);
    assert_eq!(arrive(&mut session, packet(1, 1, false)), Admission::Wait);
    assert_eq!(arrive(&mut session, packet(1, 0, false)), Admission::Slot);
    assert_eq!(arrive(&mut session, packet(0, 0, false)), Admission::Slot);
    assert!(session.devices.admit_main(), "whatever the channels brought");
    assert!(!session.devices.admit_main());
}

#[test]
fn one_packet_among_256_devices_touches_one_device() {
    // Every packet, admitted or not, asked each of the devices whether a slot is reserved for it.
    let device = 100;
    let mut session = switched_over(DEVICES_MAX, DEVICES_MAX + 2);
    session.devices.looked_at();
    assert_eq!(arrive(&mut session, packet(device, 1, false)), Admission::Slot);
    session.on_packet(0).unwrap();
    assert_eq!(arrive(&mut session, packet(device, 2, true)), Admission::Wait);
    assert_eq!(arrive(&mut session, packet(device, 0, false)), Admission::Slot);
    session.on_packet(0).unwrap();
    assert!((0..2).all(|_| write(&mut session, device).is_some()));
    session.on_main(&Event::Part(section(7)), 0, 0).unwrap();
    assert!(session.devices.admit_main());
    session.check(0).unwrap();
    assert!(session.find_missing(true).is_err());
    assert_eq!(session.devices.looked_at(), [device]);
}

#[test]
fn state_of_one_stopped_device_does_not_travel_both_ways() {
    let mut session = switched_over(1, 4);
    arrive(&mut session, packet(0, 0, false));
    session.on_main(&Event::End(section(0)), 0, 0).unwrap();
    assert!(session.devices.admit_main());
    let error = text(session.devices.fill_main(1, 10, 0));
    assert!(error.ends_with("state on the main connection after packets on multifd channels"), "{error}");

    let mut session = switched_over(1, 4);
    session.on_main(&Event::End(section(0)), 0, 0).unwrap();
    assert!(session.devices.admit_main());
    session.devices.fill_main(1, 10, 0).unwrap();
    let error = text(session.devices.admit(&packet(0, 0, false), PLACE));
    assert!(error.ends_with("packet 0 came after state on the main connection"), "{error}");
}

#[test]
fn a_device_whose_state_is_all_on_the_main_connection_is_loaded_by_its_config_state() {
    // older machine types do not send SWITCHOVER_START
    let mut session = begun(1, 3);
    session.on_main(&Event::Part(section(0)), 0, 0).unwrap();
    assert!(session.devices.admit_main());
    session.devices.fill_main(1, 10, 0).unwrap();
    session.on_main(&Event::End(section(0)), 0, 0).unwrap();
    write(&mut session, 0);
    assert!(session.devices.admit_main());
    session.devices.fill_main(2, 20, 0).unwrap();
    session.on_main(&Event::Tail, 0, 0).unwrap();
    session.main_is_over(0);
    assert!(session.devices.unclear().all(|unclear| unclear.needs_config));
    write(&mut session, 0);
    assert!(session.devices.admit_main());
    session.devices.fill_config(DeviceIdx::from_index(0), 3, 30, 0);
    assert!(write(&mut session, 0).unwrap().config && session.is_loaded());
    let (totals, precopy_bytes) = session.devices.totals(DeviceIdx::from_index(0));
    assert_eq!((totals.bytes, precopy_bytes), (60, 10));
}

#[test]
fn packets_without_switchover_start_are_an_error_and_not_a_wait() {
    let mut session = begun(1, 4);
    arrive(&mut session, packet(0, 0, true));
    assert!(text(session.on_main(&Event::Tail, 0, 0)).contains("no SWITCHOVER_START"));
    let mut session = begun(1, 4);
    session.on_main(&Event::Tail, 0, 0).unwrap();
    arrive(&mut session, packet(0, 0, true));
    assert!(text(session.on_packet(0)).contains("no SWITCHOVER_START"));
}

#[test]
fn pings_are_answered_and_switchover_is_acknowledged_once() {
    let mut session = begun(1, 4);
    let mut answer = |event: Event<'_>| session.on_main(&event, 0, 0).unwrap();
    assert_eq!(answer(Event::Command(Command::Ping(7))), Some(Reply::Pong(7)));
    assert_eq!(answer(Event::Part(section(0))), None);
    assert_eq!(answer(Event::VfioInitDataSent), Some(Reply::SwitchoverAck));
    assert_eq!(answer(Event::VfioInitDataSent), None);
}

#[test]
fn a_source_that_moves_nothing_is_given_up() {
    let mut session = switched_over(1, 4);
    session.enter(Phase::StopCopy, 0);
    session.moved(10 * SECOND);
    let end = session.next_deadline();
    assert_eq!(end, 10 * SECOND + nanos(STANDSTILL_MAX));
    assert!(session.check(end - 1).is_ok());
    assert_eq!(text(session.check(end)), "no data has moved for at least 60 s in the middle of the state");
}

#[test]
fn after_the_end_of_one_channel_the_rest_has_to_come_soon() {
    let place = Place::Multifd(3);
    let leftovers = nanos(QEMU_LEFTOVERS_MAX);
    let mut session = switched_over(1, 4);
    session.enter(Phase::StopCopy, 0);
    session.on_end(place, SECOND);
    session.moved(2 * SECOND);
    assert_eq!(session.next_deadline(), SECOND + leftovers);
    assert_eq!(
        text(session.check(SECOND + leftovers)),
        "the peer closed multifd channel 3 in the middle of the state"
    );
    // after the main connection's end only device state counts
    session.main_is_over(3 * SECOND);
    session.on_packet(4 * SECOND).unwrap();
    session.moved(5 * SECOND);
    assert_eq!(session.next_deadline(), 4 * SECOND + leftovers);
    arrive(&mut session, packet(0, 0, true));
    assert!(session.check(4 * SECOND + leftovers).is_ok(), "nothing is missing any more");
}

/// What a source has to send, and what a worker has done with it.
struct Play {
    session: QemuSession<u32>,
    /// The packets left on each channel.
    channels: Vec<VecDeque<DevicePacket>>,
    /// The packet being received on each channel.
    receiving: Vec<Option<DevicePacket>>,
    /// The devices of the pieces of state before SWITCHOVER_START, in order.
    pieces: VecDeque<usize>,
    has_switched: bool,
    /// The device of the piece that is being received.
    piece: Option<usize>,
    writing: Vec<Option<(u32, bool)>>,
    written: Vec<Vec<u32>>,
}

/// The handle of every piece of the main connection; packets' handles are their idx.
const PIECE: u32 = 1 << 16;

impl Play {
    fn new(devices: usize, spare: usize, channels: Vec<VecDeque<DevicePacket>>, pieces: Vec<usize>) -> Play {
        Play {
            session: begun(devices, devices + 1 + spare),
            receiving: vec![None; channels.len()],
            channels,
            pieces: pieces.into(),
            has_switched: false,
            piece: None,
            writing: vec![None; devices],
            written: vec![Vec::new(); devices],
        }
    }

    /// Tries the action with this number; false if it cannot be done now.
    fn step(&mut self, number: usize) -> bool {
        let (channels, devices) = (self.channels.len(), self.writing.len());
        match number {
            _ if number < channels => self.receive(number),
            _ if number < channels + devices => self.write(number - channels),
            _ => self.go_on(),
        }
    }

    fn actions(&self) -> usize {
        self.channels.len() + self.writing.len() + 1
    }

    fn receive(&mut self, channel: usize) -> bool {
        if let Some(packet) = self.receiving[channel].take() {
            self.session.devices.fill(&packet, packet.idx, 0);
            return true;
        }
        let Some(packet) = self.channels[channel].front() else { return false };
        if self.session.devices.admit(packet, PLACE).unwrap() == Admission::Wait {
            return false;
        }
        self.receiving[channel] = self.channels[channel].pop_front();
        true
    }

    fn write(&mut self, device: usize) -> bool {
        if let Some((handle, config)) = self.writing[device].take() {
            self.session.written(DeviceIdx::from_index(device), 0);
            self.written[device].push(handle);
            if config {
                self.session.loaded(DeviceIdx::from_index(device));
            }
            return true;
        }
        self.writing[device] =
            self.session.pop(DeviceIdx::from_index(device)).map(|turn| (turn.handle, turn.config));
        self.writing[device].is_some()
    }

    fn go_on(&mut self) -> bool {
        if let Some(device) = self.piece.take() {
            self.session.on_main(&Event::Part(section(device)), 0, 0).unwrap();
            self.session.devices.fill_main(PIECE, 10, 0).unwrap();
            return true;
        }
        match self.pieces.front() {
            Some(_) if self.session.devices.admit_main() => {
                self.piece = self.pieces.pop_front();
                true
            }
            None if !self.has_switched => {
                self.has_switched = true;
                self.session.on_main(&Event::Command(Command::SwitchoverStart), 0, 0).unwrap();
                true
            }
            _ => false,
        }
    }

    /// Acts in the order of `dice`, and then for as long as anything can be done.
    fn run(&mut self, dice: &[u8]) {
        for &number in dice {
            self.step(usize::from(number) % self.actions());
            self.session.devices.check_standing();
        }
        while (0..self.actions()).any(|number| self.step(number)) {
            self.session.devices.check_standing();
        }
    }
}

/// The packets of all devices in one order, in which each device's are in order of idx.
fn global_order(counts: &[u32], choices: &[u8]) -> Vec<DevicePacket> {
    let mut next = vec![0; counts.len()];
    let mut order = Vec::new();
    let mut choices = choices.iter().cycle();
    while let Some(open) = (0..counts.len()).find(|&device| next[device] < counts[device]) {
        let wished = usize::from(*choices.next().unwrap_or(&0)) % counts.len();
        let device = if next[wished] < counts[wished] { wished } else { open };
        order.push(packet(device, next[device], next[device] + 1 == counts[device]));
        next[device] += 1;
    }
    order
}

fn spread(order: Vec<DevicePacket>, channels: usize, choices: &[u8]) -> Vec<VecDeque<DevicePacket>> {
    let mut spread = vec![VecDeque::new(); channels];
    for (packet, choice) in order.into_iter().zip(choices.iter().cycle()) {
        spread[usize::from(*choice) % channels].push_back(packet);
    }
    spread
}

proptest! {
    /// Whatever a source does that hands packets to its channels in one order, and however few slots there are, every
    /// packet is written, in order. Oracle: counting.
    #[test]
    fn no_order_of_a_source_stops_a_receiver(
        counts in prop::collection::vec(1_u32..12, 1..6),
        channels in 1_usize..6,
        spare in 0_usize..4,
        pieces in prop::collection::vec(0_usize..100, 0..8),
        choices in prop::collection::vec(any::<u8>(), 1..40),
        ways in prop::collection::vec(any::<u8>(), 1..40),
        dice in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let devices = counts.len();
        let pieces: Vec<usize> = pieces.into_iter().map(|piece| piece % devices).collect();
        let order = global_order(&counts, &choices);
        let mut play = Play::new(devices, spare, spread(order, channels, &ways), pieces.clone());
        play.run(&dice);
        for (device, count) in counts.iter().enumerate() {
            let before = pieces.iter().filter(|&&piece| piece == device).map(|_| PIECE);
            let expected: Vec<u32> = before.chain(0..*count).collect();
            prop_assert_eq!(&play.written[device], &expected);
        }
        prop_assert!(play.session.is_loaded());
    }

    /// A source that keeps no order does not hang the receiver either: everything is written, or an error names a
    /// packet that is stuck behind one that waits.
    #[test]
    fn a_source_without_order_ends_in_an_error_and_not_in_a_wait(
        counts in prop::collection::vec(1_u32..8, 1..4),
        channels in 1_usize..4,
        spare in 0_usize..3,
        keys in prop::collection::vec(any::<u16>(), 30),
        ways in prop::collection::vec(any::<u8>(), 1..40),
        dice in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut order: Vec<_> = global_order(&counts, &[0]).into_iter().zip(keys).collect();
        order.sort_by_key(|(_, key)| *key);
        let order = order.into_iter().map(|(packet, _)| packet).collect();
        let mut play = Play::new(counts.len(), spare, spread(order, channels, &ways), Vec::new());
        play.run(&dice);
        play.session.main_is_over(0);
        let left: Vec<_> = play.channels.iter().flatten().map(|packet| (packet.idstr, packet.idx)).collect();
        prop_assert_eq!(play.session.is_loaded(), left.is_empty());
        match play.session.find_missing(true) {
            Ok(()) => prop_assert!(left.is_empty()),
            Err(error) => {
                let names = |(name, idx): &(Idstr, u32)| {
                    error.to_string() == format!("device {name}: packet {idx} never came")
                };
                prop_assert!(left.iter().any(names), "{}", error);
            }
        }
    }
}
