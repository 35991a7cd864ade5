//! Follows a migration while it is recorded: what is on each connection, what has to be answered, and whether all is there.
//! Pure: bytes and `now` in, decisions out.

use super::devices::{DeviceNumber, Devices};
use crate::error::{PeerError, Place, QemuError};
use crate::numbers::ChannelIdx;
use crate::qemu::connection_idx::ConnectionIdx;
use crate::qemu::rate;
use crate::qemu::session::ack::Acknowledgement;
use crate::report::{CapturedDevice, MainReport, MultifdReport, PacketHistograms, PacketsReport};
use crate::time::Nanos;
use crate::wire::Malformed;
use crate::wire::qemu::{
    Command, Deframer, DevicePacket, Event, Frame, INIT_LEN, Idstr, MainStream, PREFIX_LEN, Packet, Reply,
    TailScanner,
};

/// The last bytes of a stream that has no description behind its end: a footer, and the end.
const BARE_END_LEN: usize = 6;

/// Follows a migration.
pub(super) struct Watch {
    main: Main,
    channels: Vec<Channel>,
    devices: Devices,
    histograms: PacketHistograms,
    switchover_at: Option<Nanos>,
}

struct Main {
    stream: MainStream,
    tail: Option<TailScanner>,
    ack: Acknowledgement,
    acked: bool,
    machine: Option<Idstr>,
    /// The first section has begun.
    is_configured: bool,
    /// The section that is open, and whether its device has stopped.
    section: (u32, bool),
    flushes: u64,
    seen: Seen,
    last: [u8; BARE_END_LEN],
    closed: bool,
}

struct Channel {
    deframer: Option<Deframer>,
    /// The packet that is under way.
    current: Option<(Current, u64)>,
    report: MultifdReport,
    seen: Seen,
    last_packet_at: Option<Nanos>,
    closed_at: Option<Nanos>,
}

#[derive(Clone, Copy)]
enum Current {
    Device { number: DeviceNumber, idx: u32, config: bool, len: u32 },
    Ram,
}

/// When a connection's bytes came, and how many.
#[derive(Default, Clone, Copy)]
struct Seen {
    bytes: u64,
    first_at: Option<Nanos>,
    last_at: Nanos,
}

/// What the main connection asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It listens to answers from now on.
    Listen,
    /// To be answered with this.
    Answer(Reply),
    /// The devices have stopped.
    Stopped,
}

impl Watch {
    /// So many multifd connections.
    pub(super) fn new(channels: usize) -> Watch {
        let main = Main {
            stream: MainStream::new(),
            tail: None,
            ack: Acknowledgement::default(),
            acked: false,
            machine: None,
            is_configured: false,
            section: (0, false),
            flushes: 0,
            seen: Seen::default(),
            last: [0; BARE_END_LEN],
            closed: false,
        };
        let channel = |id| Channel {
            deframer: None,
            current: None,
            report: MultifdReport { id, ..MultifdReport::default() },
            seen: Seen { bytes: INIT_LEN as u64, ..Seen::default() },
            last_packet_at: None,
            closed_at: None,
        };
        Watch {
            main,
            channels: (0..channels as u64).map(channel).collect(),
            devices: Devices::default(),
            histograms: PacketHistograms::default(),
            switchover_at: None,
        }
    }

    /// Bytes of the main connection.
    pub(super) fn on_main(
        &mut self,
        bytes: &[u8],
        now: Nanos,
        wish: &mut dyn FnMut(Wish),
    ) -> Result<(), PeerError> {
        self.main.seen.add(bytes.len(), now);
        self.main.keep_last(bytes);
        let mut rest = bytes;
        while self.main.tail.is_none() {
            let (taken, event) = self.main.stream.next(rest).map_err(|what| self.main.malformed(what))?;
            rest = &rest[taken..];
            let Some(event) = event else { return Ok(()) };
            self.on_event(&event, now, wish)?;
        }
        let tail = self.main.tail.as_mut().map_or(Ok(()), |tail| tail.take(rest));
        tail.map_err(|what| self.main.malformed(what))
    }

    fn on_event(
        &mut self,
        event: &Event<'_>,
        now: Nanos,
        wish: &mut dyn FnMut(Wish),
    ) -> Result<(), PeerError> {
        self.main.is_configured |= matches!(event, Event::Start(_) | Event::Command(_) | Event::Tail);
        match *event {
            Event::Machine(machine) => self.main.machine = Some(machine),
            Event::Command(Command::OpenReturnPath) => wish(Wish::Listen),
            Event::Command(Command::Ping(value)) => wish(Wish::Answer(Reply::Pong(value))),
            Event::Command(Command::SwitchoverStart) => {
                self.switchover_at.get_or_insert(now);
                wish(Wish::Stopped);
            }
            Event::Start(section) => {
                self.main.section = (section.id, false);
                if section.idstr.is_vfio() {
                    self.devices.announce(&section)?;
                }
            }
            Event::Part(id) => self.main.section = (id, false),
            Event::End(id) => self.main.section = (id, true),
            Event::VfioData(data) => {
                let (section, stopped) = self.main.section;
                self.devices.on_main(section, data.len(), stopped, now);
            }
            Event::RamFlush => self.main.flushes += 1,
            Event::Tail => self.main.tail = Some(TailScanner::new()),
            _ => {}
        }
        self.main.ack.see(event);
        if !self.main.acked && self.main.ack.is_due() {
            self.main.acked = true;
            wish(Wish::Answer(Reply::SwitchoverAck));
        }
        Ok(())
    }

    /// Whether the multifd connections can be understood: the main one has said how large a page is.
    pub(super) fn knows_page_size(&self) -> bool {
        self.main.is_configured
    }

    /// Bytes of a multifd connection, behind its init.
    pub(super) fn on_channel(&mut self, id: ChannelIdx, bytes: &[u8], now: Nanos) -> Result<(), PeerError> {
        let Watch { main, channels, devices, histograms, .. } = self;
        let channel = &mut channels[id.index()];
        channel.seen.add(bytes.len(), now);
        let place = place(channel);
        let page_size = main.stream.page_size();
        let mut rest = bytes;
        loop {
            let deframer = channel.deframer.get_or_insert_with(|| Deframer::after_init(page_size));
            let next = deframer.next(rest);
            let (taken, frame) = next.map_err(|what| {
                let offset = deframer.offset().saturating_sub(PREFIX_LEN as u64);
                PeerError::from(QemuError::Malformed { place, offset, what })
            })?;
            rest = &rest[taken..];
            match frame {
                None => return Ok(()),
                Some(Frame::Init(_)) => {}
                Some(Frame::Begin { packet, offset }) => {
                    let size = PREFIX_LEN as u64 + u64::from(packet.rest());
                    let current = channel.begin(&packet, place, offset, devices)?;
                    channel.current = Some((current, size));
                }
                Some(Frame::End) => channel.end(devices, histograms, now),
            }
        }
    }

    /// The main connection has closed.
    pub(super) fn on_main_closed(&mut self) -> Result<(), PeerError> {
        self.main.closed = true;
        if self.main_has_ended() {
            return Ok(());
        }
        let cut = QemuError::Cut { place: Place::Main, offset: self.main.seen.bytes, within: "its stream" };
        Err(cut.into())
    }

    /// A multifd connection has closed.
    pub(super) fn on_channel_closed(&mut self, id: ChannelIdx, now: Nanos) -> Result<(), PeerError> {
        let channel = &mut self.channels[id.index()];
        channel.closed_at = Some(now);
        match channel.is_at_boundary() {
            true => Ok(()),
            false => {
                Err(QemuError::Cut { place: place(channel), offset: channel.offset(), within: "a packet" }
                    .into())
            }
        }
    }

    /// Whether the main connection's stream is over.
    pub(super) fn main_has_ended(&self) -> bool {
        let Some(tail) = &self.main.tail else { return false };
        let bare = matches!(self.main.last, [0x7e, .., 0]);
        tail.ended().is_some() || (self.main.closed && bare)
    }

    /// The multifd connection that closed first: where it ended, and when.
    pub(super) fn first_closed(&self) -> Option<(Place, u64, Nanos)> {
        let end = |channel: &Channel| Some((place(channel), channel.offset(), channel.closed_at?));
        self.channels.iter().filter_map(end).min_by_key(|&(_, _, at)| at)
    }

    /// Whether everything is there that the streams themselves promise.
    pub(super) fn is_complete(&self) -> bool {
        self.missing().is_none()
    }

    /// Whether a device was announced, and its state has not even begun.
    pub(super) fn awaits_devices(&self) -> bool {
        self.devices.silent().next().is_some()
    }

    /// Devices of whose state nothing came after they stopped.
    pub(super) fn silent_devices(&self) -> Vec<String> {
        self.devices.silent().map(Idstr::to_string).collect()
    }

    /// What is missing, if anything is.
    pub(super) fn missing(&self) -> Option<PeerError> {
        if !self.main_has_ended() {
            let (place, offset) = (Place::Main, self.main.seen.bytes);
            return Some(QemuError::Unended { place, offset }.into());
        }
        for channel in &self.channels {
            if !channel.is_at_boundary() {
                let (place, offset) = (place(channel), channel.offset());
                return Some(QemuError::Unended { place, offset }.into());
            }
        }
        self.devices.missing().or_else(|| self.missing_sync()).map(PeerError::from)
    }

    /// A machine type before 8.1 sends no flush flags: then the connections are compared with each other.
    fn missing_sync(&self) -> Option<QemuError> {
        let most = self.channels.iter().map(|channel| channel.report.sync).max()?;
        let expected = if self.main.flushes > 0 { self.main.flushes } else { most };
        let wrong = self.channels.iter().find(|channel| channel.report.sync != expected)?;
        Some(QemuError::Sync { place: place(wrong), found: wrong.report.sync, expected })
    }

    /// Bytes that came, and are not looked at.
    pub(super) fn pass(&mut self, connection: ConnectionIdx, len: usize, now: Nanos) {
        match connection.channel() {
            None => self.main.seen.add(len, now),
            Some(id) => self.channels[id.index()].seen.add(len, now),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.main.seen.bytes + self.channels.iter().map(|channel| channel.seen.bytes).sum::<u64>()
    }

    pub(super) fn machine(&self) -> Option<String> {
        self.main.machine.map(|machine| machine.to_string())
    }

    pub(super) fn main_report(&self, return_path: bool) -> MainReport {
        MainReport {
            bytes: self.main.seen.bytes,
            throughput_bytes_per_s: self.main.seen.rate(),
            flushes: self.main.flushes,
            return_path,
            ended: self.main_has_ended(),
        }
    }

    pub(super) fn channel_reports(&self) -> Vec<MultifdReport> {
        let report = |channel: &Channel| MultifdReport {
            bytes: channel.seen.bytes,
            throughput_bytes_per_s: channel.seen.rate(),
            ..channel.report.clone()
        };
        self.channels.iter().map(report).collect()
    }

    pub(super) fn device_reports(&self) -> Vec<CapturedDevice> {
        self.devices.report(self.switchover_at)
    }

    pub(super) fn switchover_ns(&self) -> Option<u64> {
        Some(self.devices.last_at()?.saturating_sub(self.switchover_at?))
    }

    pub(super) fn packets(&self) -> PacketsReport {
        self.histograms.packets()
    }

    pub(super) fn into_histograms(self) -> PacketHistograms {
        self.histograms
    }
}

impl Main {
    fn malformed(&self, what: Malformed) -> PeerError {
        let tail = self.tail.as_ref().map_or(0, TailScanner::offset);
        QemuError::Malformed { place: Place::Main, offset: self.stream.offset() + tail, what }.into()
    }

    fn keep_last(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(BARE_END_LEN)..];
        self.last.rotate_left(fresh.len());
        self.last[BARE_END_LEN - fresh.len()..].copy_from_slice(fresh);
    }
}

impl Channel {
    fn is_at_boundary(&self) -> bool {
        self.deframer.as_ref().is_none_or(Deframer::is_at_boundary)
    }

    fn offset(&self) -> u64 {
        self.deframer.as_ref().map_or(0, Deframer::offset)
    }

    fn begin(
        &mut self,
        packet: &Packet,
        place: Place,
        offset: u64,
        devices: &mut Devices,
    ) -> Result<Current, QemuError> {
        let report = &mut self.report;
        match packet {
            Packet::Device(packet) => {
                let number = devices.claim(packet, place, offset)?;
                let DevicePacket { idx, config, len, .. } = *packet;
                return Ok(Current::Device { number, idx, config, len });
            }
            Packet::Ram(packet) => {
                report.normal_pages += u64::from(packet.normal_pages);
                report.zero_pages += u64::from(packet.zero_pages);
            }
            Packet::Sync(_) => report.sync += 1,
        }
        Ok(Current::Ram)
    }

    fn end(&mut self, devices: &mut Devices, histograms: &mut PacketHistograms, now: Nanos) {
        let Some((current, size)) = self.current.take() else { return };
        let after = self.last_packet_at.replace(now).map(|last| now.saturating_sub(last));
        self.report.packets += 1;
        match current {
            Current::Device { number, idx, config, len } => {
                self.report.device_packets += 1;
                devices.complete(number, idx, config, len, now);
                histograms.device(size, after);
            }
            Current::Ram => {
                self.report.ram_packets += 1;
                histograms.ram(size, after);
            }
        }
    }
}

impl Seen {
    fn add(&mut self, bytes: usize, now: Nanos) {
        self.bytes += bytes as u64;
        self.first_at.get_or_insert(now);
        self.last_at = now;
    }

    fn rate(&self) -> f64 {
        rate(self.bytes, self.last_at.saturating_sub(self.first_at.unwrap_or(self.last_at)))
    }
}

fn place(channel: &Channel) -> Place {
    Place::Multifd(u8::try_from(channel.report.id).expect("channels are bounded by CHANNELS_MAX"))
}
