//! Builds the report of one side of a transfer. What captures and replays also report is in [`header`]. It must not
//! know which protocol was used.

mod convert;
mod cost;
pub(crate) mod header;
mod host;
mod moments;
mod prediction;
mod tcp;
pub(crate) mod timeline;

use std::net::{IpAddr, SocketAddr};

use self::cost::Meter;
use self::header::{Header, rate};
use self::moments::Moments;
use self::timeline::Timeline;
use crate::buffer::{Pool, Spare};
use crate::channel::ZeroCopy;
use crate::channel::{Framing, Rx, Tx};
use crate::error::{Error, KernelError};
use crate::net::Connection;
use crate::net::socket::Congestion;
use crate::numbers::PacketSize;
use crate::report::{
    self, ChannelReport, ClockOffset, Counted, DeviceReport, Intervals, PeerReport, PreCopyEnd,
    PreCopyReport, Prediction, Recorder, Report, Role, RunInfo, Schema, Settings, WarningCode,
};
use crate::ring::Ring;
use crate::session::clock::Offset;
use crate::session::handover::Outcome;
use crate::session::totals::Totals;
use crate::time::Nanos;
use crate::wire::{Checksum, SessionId};
use crate::worker::finished::{DeviceEnd, EndState, Finished};
use crate::worker::hook::Panics;

/// What is known about a transfer besides what the recorder counts.
pub(crate) struct ReportBuilder {
    /// When the settings were agreed on.
    pub(crate) started_at: Nanos,
    header: Header,
    /// What the header does not cover.
    settings: Settings,
    devices: Vec<DeviceReport>,
    channels: Vec<ChannelReport>,
    ends: Vec<DeviceEnd>,
    moments: Moments,
    /// No device of this side can stop.
    simulated: bool,
    precopy: Option<PreCopyReport>,
    run: Option<RunInfo>,
    session: Option<SessionId>,
    peer: Option<PeerReport>,
    /// This side's address of the connections.
    local: Option<IpAddr>,
    /// When every device was where it belongs.
    ended_at: Option<Nanos>,
    pub(crate) intervals: Intervals,
    other_side: Option<Box<Report>>,
    clock: Option<ClockOffset>,
    prediction: Option<Prediction>,
    /// How fast bytes that were dropped arrived.
    path: Option<u64>,
    meter: Meter,
    pub(crate) timeline: Timeline,
    /// Memory for what is made when everything is decided; held until then.
    spare: Option<Spare>,
}

/// More than the kernel's `struct tcp_info` has in any version.
const TCP_INFO_MAX: usize = 512;

impl ReportBuilder {
    pub(crate) fn new(now: Nanos, devices: usize) -> ReportBuilder {
        ReportBuilder {
            started_at: now,
            header: Header::default(),
            settings: Settings::default(),
            devices: Vec::with_capacity(devices),
            channels: Vec::new(),
            ends: Vec::with_capacity(devices),
            moments: Moments::default(),
            simulated: false,
            precopy: None,
            run: None,
            session: None,
            peer: None,
            local: None,
            ended_at: None,
            intervals: Intervals::default(),
            other_side: None,
            clock: None,
            prediction: None,
            path: None,
            meter: Meter::start(),
            timeline: Timeline::new(devices),
            spare: Spare::hold(),
        }
    }

    /// The devices of this side are known only now: there was none. No device is noted on the way that has no room.
    pub(crate) fn provide(&mut self, devices: usize) {
        self.devices.reserve_exact(devices);
        self.ends.reserve_exact(devices);
        self.timeline = Timeline::new(devices);
    }

    /// Which run it is, as the caller says.
    pub(crate) fn run(&mut self, run: Option<RunInfo>) {
        self.run = run;
    }

    /// The connections are there; a protocol without sessions has none.
    pub(crate) fn connected(&mut self, session: Option<SessionId>, connection: &Connection) {
        self.session = session;
        self.peer = Some(PeerReport { address: connection.peer().as_ref().map(SocketAddr::to_string) });
        self.local = connection.local().map(|local| local.ip());
    }

    pub(crate) fn packet_size(&mut self, packet_size: PacketSize, checksum: Checksum) {
        self.settings.packet_size = packet_size.get().into();
        self.settings.checksum = checksum.into();
    }

    /// Whether no device of this side can stop.
    pub(crate) fn simulated(&mut self, simulated: bool) {
        self.simulated = simulated;
    }

    /// The name of the protocol.
    pub(crate) fn dialect(&mut self, dialect: &str) {
        dialect.clone_into(&mut self.settings.dialect);
    }

    /// What kind of memory backs the pool, and the reason if it is not registered.
    pub(crate) fn pool(&mut self, pool: &Pool, unregistered: Option<KernelError>) {
        self.header.pool(pool, unregistered);
    }

    pub(crate) fn zero_copy(&mut self, wanted: ZeroCopy, possible: bool) {
        self.settings.zero_copy = Some(wanted.into());
        if wanted == ZeroCopy::On && !possible {
            let text = "this kernel has no zero-copy send";
            self.header.warn(WarningCode::ZeroCopyUnavailable, text, "boot Linux 6.0 or later");
        }
    }

    pub(crate) fn clocks(&mut self, same: bool) {
        if !same {
            let text = "the two hosts' clocks cannot be compared: end_to_end is not counted";
            let hint = "read the stages of each side by themselves";
            self.header.warn(WarningCode::ClocksNotComparable, text, hint);
        }
    }

    pub(crate) fn congestion(&mut self, congestion: Option<Congestion>, loopback: bool) {
        self.header.congestion(congestion);
        let Some(congestion) = congestion else { return };
        if loopback && congestion.as_str() == "bbr" {
            let text = "bbr paces a link whose round trip is shorter than it can measure";
            self.header.warn(WarningCode::CongestionControl, text, "set the congestion control to cubic");
        }
    }

    /// Pre-copy has ended.
    pub(crate) fn precopy(&mut self, precopy: PreCopyReport) {
        if matches!(precopy.end, PreCopyEnd::Time | PreCopyEnd::Volume) {
            let text = match precopy.left_bytes {
                Some(left) => format!(
                    "pre-copy did not converge: {left} bytes were left, {} may be",
                    precopy.limit_bytes
                ),
                None => "pre-copy did not converge, and a device cannot tell how much was left".to_owned(),
            };
            let hint =
                "raise the downtime limit, use more channels, or let the guest keep its devices less busy";
            self.header.warn(WarningCode::PrecopyNotConverged, text, hint);
        }
        self.precopy = Some(precopy);
    }

    /// What was left when the devices were quiet, by when so many bytes had been read and they had been asked so often.
    pub(crate) fn precopy_left(&mut self, bytes: u64, left_bytes: Option<u64>, asked: u64) {
        if let Some(precopy) = &mut self.precopy {
            *precopy = PreCopyReport { bytes, left_bytes, asked, ..precopy.clone() };
        }
    }

    pub(crate) fn switchover(&mut self, now: Nanos) {
        self.moments.switchover.get_or_insert(now);
    }

    pub(crate) fn stopped(&mut self, now: Nanos) {
        self.moments.stopped = Some(now);
    }

    /// When the last byte so far was moved.
    pub(crate) fn transferred(&mut self, now: Nanos) {
        self.moments.transferred = Some(now);
    }

    pub(crate) fn loaded(&mut self, now: Nanos) {
        self.moments.loaded = Some(now);
    }

    pub(crate) fn committed(&mut self, now: Nanos) {
        self.moments.committed = Some(now);
    }

    /// Every device is where it belongs. A complete transfer is over then, whatever else its sides have to say to each other;
    /// another one lasts until its connections are closed.
    pub(crate) fn ended(&mut self, outcome: Outcome, now: Nanos) {
        self.ended_at = (outcome == Outcome::Complete).then_some(now);
        self.spare = None;
    }

    /// The other side's report as it came: whatever a peer sends, it is kept as data and never looked at.
    pub(crate) fn other_side(&mut self, json: Option<Vec<u8>>) {
        let report = json.and_then(|json| serde_json::from_slice::<Report>(&json).ok());
        self.other_side = report.map(|report| Box::new(Report { other_side: None, ..report }));
    }

    /// How the other side's clock relates to this side's.
    pub(crate) fn clock(&mut self, offset: Option<Offset>) {
        self.clock = offset.map(|Offset { offset_ns, error_ns }| ClockOffset { offset_ns, error_ns });
    }

    /// Nothing was done with these devices.
    pub(crate) fn untouched<'a>(&mut self, devices: impl Iterator<Item = (&'a str, u32)>) {
        devices.for_each(|device| self.parted(device, EndState::Untouched));
    }

    /// Where a device's last step has brought it.
    pub(crate) fn parted(&mut self, (name, instance): (&str, u32), end: EndState) {
        if let EndState::Unknown(error) = &end {
            let text = format!("device {name} could not be brought to where it belongs: {error}");
            let hint = "look at the device before its virtual machine runs on";
            self.header.warn(WarningCode::RollbackFailed, text, hint);
        }
        self.ends.push(DeviceEnd { name: name.into(), instance, end });
    }

    /// Whether a sink keeps bytes of an aborted transfer.
    pub(crate) fn kept(&mut self, name: &str, keeps: bool) {
        if keeps {
            let text = format!("device {name}: a plain descriptor keeps the bytes of the aborted transfer");
            let hint = "a sink that is a file takes its name on commit only";
            self.header.warn(WarningCode::CannotTakeBack, text, hint);
        }
    }

    pub(crate) fn device(
        &mut self,
        name: &str,
        instance: u32,
        totals: Totals,
        (precopy_bytes, estimate): (u64, Option<u64>),
        checksum: Checksum,
    ) {
        self.devices.push(DeviceReport {
            name: name.to_owned(),
            instance,
            bytes: totals.bytes,
            packets: totals.packets,
            config_bytes: totals.config_bytes,
            precopy_bytes,
            estimate,
            crc32c: (checksum == Checksum::Crc32c).then(|| format!("{:08x}", totals.crc32c)),
        });
    }

    pub(crate) fn tx(&mut self, ring: &impl Ring, channel: &Tx) {
        let zero_copy = channel.zero_copy();
        self.channels.push(ChannelReport {
            id: self.channels.len() as u64,
            bytes: channel.bytes,
            packets: channel.packets,
            zero_copy_sent: zero_copy.sent,
            zero_copy_copied: zero_copy.copied,
            tcp: tcp_of(ring, channel.connection()),
        });
    }

    pub(crate) fn rx(&mut self, ring: &impl Ring, channel: &Rx<impl Framing>) {
        self.channels.push(ChannelReport {
            id: self.channels.len() as u64,
            bytes: channel.bytes,
            packets: channel.packets,
            tcp: tcp_of(ring, channel.connection()),
            ..ChannelReport::default()
        });
    }

    fn judge_zero_copy(&mut self) {
        let sum = |count: fn(&ChannelReport) -> u64| self.channels.iter().map(count).sum::<u64>();
        let (sent, copied) = (sum(|channel| channel.zero_copy_sent), sum(|channel| channel.zero_copy_copied));
        if copied > 0 {
            let text = format!("the kernel copied {copied} of {sent} zero-copy sends");
            let hint =
                "loopback always copies, and so does a NIC without scatter-gather: turn zero copy off there";
            self.header.warn(WarningCode::ZeroCopyCopied, text, hint);
        }
    }

    /// The end of a transfer whose worker was never made: no device was touched.
    pub(crate) fn not_begun(mut self, role: Role, error: Error, panics: &Panics) -> Finished {
        let (outcome, mut recorder) = (Outcome::Aborted, Recorder::unused());
        let report = self.document(role, outcome, Some(&error), &mut recorder, (self.started_at, 0));
        Finished { panic: panics.take(), ..self.finish(report, outcome, Some(error), recorder) }
    }

    pub(crate) fn finish(
        self,
        report: Report,
        outcome: Outcome,
        error: Option<Error>,
        recorder: Recorder,
    ) -> Finished {
        let (histograms, devices, parked) = (recorder.histograms, self.ends, Vec::new());
        Finished { outcome, error, report, histograms, trace: None, devices, parked, panic: None }
    }

    /// The report, which takes what was collected.
    pub(crate) fn document(
        &mut self,
        role: Role,
        outcome: Outcome,
        error: Option<&Error>,
        recorder: &mut Recorder,
        (now, enters): (Nanos, u64),
    ) -> Report {
        self.judge_zero_copy();
        let now = self.ended_at.unwrap_or(now);
        self.spare = None;
        let duration_ns = now.saturating_sub(self.started_at);
        let bytes: u64 = self.devices.iter().map(|device| device.bytes).sum();
        let downtime = self.moments.downtime(now, self.simulated);
        let timeline = self.timeline.entries(role, self.started_at, self.devices.len());
        let (header, settings) = (std::mem::take(&mut self.header), std::mem::take(&mut self.settings));
        let (devices, channels) = (std::mem::take(&mut self.devices), std::mem::take(&mut self.channels));
        Report {
            schema: Schema::default(),
            run: self.run.take(),
            session: self.session.map(|session| session.to_string()),
            peer: self.peer.take(),
            role,
            outcome: outcome.into(),
            error: error.map(Into::into),
            bytes,
            packets: devices.iter().map(|device| device.packets).sum(),
            duration_ns,
            throughput_bytes_per_s: rate(bytes, duration_ns),
            settings: Settings {
                channels: channels.len() as u64,
                pool: header.pool,
                pool_slots: header.pool_slots,
                congestion: header.congestion,
                huge_pages: header.huge_pages,
                registered_buffers: header.registered_buffers,
                ..settings
            },
            host: host::details(self.local),
            cost: self.meter.read(enters),
            devices,
            channels,
            latency_ns: recorder.histograms.latency(),
            backpressure: recorder.backpressure(now),
            downtime,
            precopy: self.precopy.take(),
            prediction: self.prediction.take().map(|prediction| {
                prediction.judged((outcome == Outcome::Complete).then_some(downtime.total_ns))
            }),
            intervals: self.intervals.take(self.started_at),
            started_ns: Some(self.started_at),
            clock: self.clock,
            other_side: self.other_side.take(),
            timeline,
            warnings: header.warnings,
        }
    }
}

/// What the kernel says of a connection now.
fn tcp_of(ring: &impl Ring, connection: &Connection) -> Option<report::TcpReport> {
    let mut info = [0; TCP_INFO_MAX];
    let len = ring.tcp_info(connection.fd(), &mut info)?;
    Some(tcp::report(&info[..len]))
}

/// What a side has counted so far, besides what its session knows.
pub(crate) fn counted<'a>(
    ring: &impl Ring,
    recorder: &Recorder,
    connections: impl Iterator<Item = &'a Connection>,
) -> Counted {
    let (credit_stall_ns, pool_stall_ns) = recorder.stalled_ns(ring.now());
    let retransmits = connections.map(|connection| {
        let mut info = [0; TCP_INFO_MAX];
        ring.tcp_info(connection.fd(), &mut info).map_or(0, |len| tcp::retransmits(&info[..len]))
    });
    let (cpu_ns, retransmits) = (cost::cpu_ns(), retransmits.sum());
    Counted { credit_stall_ns, pool_stall_ns, cpu_ns, retransmits, ..Counted::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Downtime;

    #[test]
    fn downtime_phases_add_up_to_the_total() {
        let mut builder = ReportBuilder::new(0, 1);
        builder.switchover(100);
        builder.switchover(999);
        builder.stopped(150);
        builder.transferred(400);
        builder.loaded(450);
        builder.committed(500);
        let downtime = builder.moments.downtime(700, false);
        assert_eq!(
            downtime,
            Downtime {
                total_ns: 400,
                stop_ns: 50,
                transfer_ns: 250,
                load_ns: 50,
                commit_ns: 50,
                ..Downtime::default()
            }
        );
    }

    #[test]
    fn a_phase_that_never_came_takes_no_time_and_what_is_left_is_the_way_back() {
        let mut builder = ReportBuilder::new(0, 1);
        assert_eq!(builder.moments.downtime(700, false), Downtime::default());
        builder.switchover(100);
        builder.transferred(300);
        let downtime = builder.moments.downtime(700, false);
        assert_eq!((downtime.total_ns, downtime.transfer_ns, downtime.commit_ns), (600, 200, 0));
        assert_eq!(downtime.rollback_ns, 400);
    }

    #[test]
    fn warns_when_the_kernel_copies() {
        let mut builder = ReportBuilder::new(0, 1);
        builder.channels.push(ChannelReport {
            zero_copy_sent: 8,
            zero_copy_copied: 8,
            ..ChannelReport::default()
        });
        builder.judge_zero_copy();
        assert_eq!(builder.header.warnings[0].code, WarningCode::ZeroCopyCopied);
        assert_eq!(builder.header.warnings[0].text, "the kernel copied 8 of 8 zero-copy sends");
    }
}
