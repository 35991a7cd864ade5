//! Follows a migration while it is recorded: what is on each connection, what must be answered, and whether everything
//! has come. Pure: bytes and `now` in, decisions out.

use super::devices::Recorded;
use crate::error::{Error, PeerError, Place, QemuError, StreamPart};
use crate::numbers::ChannelIdx;
use crate::numbers::ConnectionIdx;
use crate::qemu::follow::{MainFollower, Step};
use crate::report::{CapturedDevice, MainReport, MultifdReport, PacketHistograms, PacketsReport};
use crate::time::Nanos;
use crate::wire::qemu::{Command, Deframer, Event, Frame, INIT_LEN, Idstr, PREFIX_LEN, Packet, Reply};
use crate::worker::report_builder::header::rate;

/// Follows a migration.
pub(super) struct StreamObserver {
    main: Main,
    channels: Vec<Channel>,
    devices: Recorded,
    histograms: PacketHistograms,
    switchover_at: Option<Nanos>,
}

struct Main {
    follower: MainFollower,
    machine: Option<Idstr>,
    seen: Seen,
    closed: bool,
}

struct Channel {
    deframer: Option<Deframer>,
    /// The packet that is being received.
    current: Option<Packet>,
    report: MultifdReport,
    seen: Seen,
    last_packet_at: Option<Nanos>,
    closed_at: Option<Nanos>,
}

/// How many bytes of a connection came, and when.
#[derive(Default, Clone, Copy)]
struct Seen {
    bytes: u64,
    first_at: Option<Nanos>,
    last_at: Nanos,
}

/// What the main connection asks the recorder to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamRequest {
    /// Open the return path: the source reads replies from now on.
    OpenReturnPath,
    /// Send this reply.
    Reply(Reply),
    /// Report that the source has stopped its devices.
    ReportStopped,
}

impl StreamObserver {
    /// For this many multifd connections.
    pub(super) fn new(channels: usize) -> StreamObserver {
        let main =
            Main { follower: MainFollower::default(), machine: None, seen: Seen::default(), closed: false };
        let channel = |id| Channel {
            deframer: None,
            current: None,
            report: MultifdReport { id, ..MultifdReport::default() },
            seen: Seen { bytes: INIT_LEN as u64, ..Seen::default() },
            last_packet_at: None,
            closed_at: None,
        };
        StreamObserver {
            main,
            channels: (0..channels as u64).map(channel).collect(),
            devices: Recorded::default(),
            histograms: super::histograms(),
            switchover_at: None,
        }
    }

    /// Takes bytes of the main connection.
    pub(super) fn on_main(
        &mut self,
        bytes: &[u8],
        now: Nanos,
        request: &mut dyn FnMut(StreamRequest),
    ) -> Result<(), Error> {
        self.main.seen.add(bytes.len(), now);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (taken, step) = self.main.follower.next(rest).map_err(|what| {
                let offset = self.main.follower.offset();
                PeerError::from(QemuError::Malformed { place: Place::Main, offset, what })
            })?;
            rest = &rest[taken..];
            if let Some(Step::Event { event, begin }) = step {
                self.on_event(&event, begin, now, request)?;
            }
        }
        Ok(())
    }

    fn on_event(
        &mut self,
        event: &Event<'_>,
        begin: u64,
        now: Nanos,
        request: &mut dyn FnMut(StreamRequest),
    ) -> Result<(), Error> {
        match *event {
            Event::Machine(machine) => self.main.machine = Some(machine),
            Event::Command(Command::OpenReturnPath) => request(StreamRequest::OpenReturnPath),
            Event::Command(Command::SwitchoverStart) => {
                self.switchover_at.get_or_insert(now);
                request(StreamRequest::ReportStopped);
            }
            Event::VfioData(data) => self.devices.on_main(data.len(), now),
            _ => {}
        }
        let answer = self.devices.follower.on_main(event, begin).map_err(|wrong| wrong.on(Place::Main))?;
        answer.into_iter().for_each(|reply| request(StreamRequest::Reply(reply)));
        Ok(())
    }

    /// Whether the multifd connections can be decoded: the main one has sent the page size.
    pub(super) fn knows_page_size(&self) -> bool {
        self.main.follower.knows_page_size()
    }

    /// Takes bytes of a multifd connection, after its init.
    pub(super) fn on_channel(&mut self, id: ChannelIdx, bytes: &[u8], now: Nanos) -> Result<(), Error> {
        let StreamObserver { main, channels, devices, histograms, .. } = self;
        let channel = &mut channels[id.index()];
        channel.seen.add(bytes.len(), now);
        let place = place(channel);
        let page_size = main.follower.page_size();
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
                    if let Packet::Device(packet) = &packet {
                        devices.claim(packet, place, offset)?;
                    }
                    channel.current = Some(packet);
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
        let cut = QemuError::Cut {
            place: Place::Main,
            offset: self.main.seen.bytes,
            within: StreamPart::MainStream,
        };
        Err(cut.into())
    }

    /// A multifd connection has closed.
    pub(super) fn on_channel_closed(&mut self, id: ChannelIdx, now: Nanos) -> Result<(), PeerError> {
        let channel = &mut self.channels[id.index()];
        channel.closed_at = Some(now);
        match channel.is_at_boundary() {
            true => Ok(()),
            false => Err(QemuError::Cut {
                place: place(channel),
                offset: channel.offset(),
                within: StreamPart::Packet,
            }
            .into()),
        }
    }

    /// Whether the main connection's stream is over.
    pub(super) fn main_has_ended(&self) -> bool {
        let follower = &self.main.follower;
        follower.description().is_some() || (self.main.closed && follower.is_at_bare_end())
    }

    /// The multifd connection that closed first: where it ended, and when.
    pub(super) fn first_closed(&self) -> Option<(Place, u64, Nanos)> {
        let end = |channel: &Channel| Some((place(channel), channel.offset(), channel.closed_at?));
        self.channels.iter().filter_map(end).min_by_key(|&(_, _, at)| at)
    }

    /// Whether everything that the streams announce has come.
    pub(super) fn is_complete(&self) -> bool {
        self.missing().is_none()
    }

    /// Whether a device was announced whose state has not begun to come.
    pub(super) fn awaits_devices(&self) -> bool {
        self.devices.silent().next().is_some()
    }

    /// Devices that sent no state after they had stopped.
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

    fn missing_sync(&self) -> Option<QemuError> {
        let expected = self.main.follower.barriers();
        let wrong = self.channels.iter().find(|channel| channel.report.sync != expected)?;
        Some(QemuError::Sync { place: place(wrong), found: wrong.report.sync, expected })
    }

    /// Counts bytes that came and are not decoded.
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
            flushes: self.main.follower.flushes(),
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

impl Channel {
    fn is_at_boundary(&self) -> bool {
        self.deframer.as_ref().is_none_or(Deframer::is_at_boundary)
    }

    fn offset(&self) -> u64 {
        self.deframer.as_ref().map_or(0, Deframer::offset)
    }

    fn end(&mut self, devices: &mut Recorded, histograms: &mut PacketHistograms, now: Nanos) {
        let Some(packet) = self.current.take() else { return };
        let size = PREFIX_LEN as u64 + u64::from(packet.rest());
        let after = self.last_packet_at.replace(now).map(|last| now.saturating_sub(last));
        let report = &mut self.report;
        report.packets += 1;
        if let Packet::Device(packet) = &packet {
            report.device_packets += 1;
            devices.complete(packet, now);
            return histograms.device(size, after);
        }
        report.ram_packets += 1;
        histograms.ram(size, after);
        if let Packet::Ram(packet) = &packet {
            report.normal_pages += u64::from(packet.normal_pages);
            report.zero_pages += u64::from(packet.zero_pages);
        } else {
            report.sync += 1;
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
