//! Builds the report of a replay.

use std::net::SocketAddr;

use super::Pace;
use super::worker::ReplayWorker;
use crate::buffer::Pool;
use crate::error::{Error, KernelError};
use crate::numbers::{ConnectionIdx, DeviceIdx};
use crate::qemu::capture::{Connection, Device, Inspection, Piece};
use crate::qemu::gather::Gathered;
use crate::qemu::{answer_report, outcome};
use crate::report::{
    CapturedDevice, Host, ReplayPace, ReplayReport, ReplaySettings, ReplayedConnection, Schema,
    StreamOutcome, WarningCode,
};
use crate::ring::Ring;
use crate::time::Nanos;
use crate::worker::report_builder::header::{Header, host, rate};

/// The report while it is being built.
pub(super) struct ReportBuilder {
    header: Header,
    report: ReplayReport,
}

impl ReportBuilder {
    /// Starts with what is known from the capture before anything is sent.
    pub(super) fn new(capture: &Inspection, to: SocketAddr, pace: Pace) -> ReportBuilder {
        let (main, channels) = match &capture.connections[..] {
            [main, channels @ ..] => (connection(main), channels.iter().map(connection).collect()),
            [] => (ReplayedConnection::default(), Vec::new()),
        };
        let uuid = capture.connections.iter().find_map(|connection| connection.uuid);
        let settings = ReplaySettings {
            channels: channels.len() as u64,
            pace: pace.into(),
            ..ReplaySettings::default()
        };
        let report = ReplayReport {
            schema: Schema::default(),
            outcome: StreamOutcome::Failed,
            error: None,
            peer: to.to_string(),
            machine: capture.stream.machine.map(|machine| machine.to_string()),
            uuid: uuid.map(|uuid| uuid.to_string()),
            bytes: 0,
            duration_ns: 0,
            throughput_bytes_per_s: 0.0,
            switchover_ns: None,
            shut_ns: None,
            main,
            channels,
            devices: capture.devices.iter().map(device).collect(),
            answers: Vec::new(),
            settings,
            host: Host::default(),
            warnings: Vec::new(),
        };
        ReportBuilder { header: Header::default(), report }
    }

    pub(super) fn pool(&mut self, pool: &Pool, unregistered: Option<KernelError>) {
        self.header.pool(pool, unregistered);
    }

    pub(super) fn connected(&mut self, gathered: &Gathered) {
        self.header.congestion(gathered.congestion());
    }

    /// Adds what the worker has done so far.
    pub(super) fn see(&mut self, worker: &ReplayWorker<impl Ring>, now: Nanos) {
        let (progress, report) = (&worker.progress, &mut self.report);
        report.bytes = progress.bytes();
        report.duration_ns = now.saturating_sub(progress.began);
        report.throughput_bytes_per_s = rate(report.bytes, progress.last_at().saturating_sub(progress.began));
        report.switchover_ns = progress.switchover_ns();
        let shut = progress.shut_at.zip(progress.switchover_at);
        report.shut_ns = shut.map(|(shut, begin)| shut.saturating_sub(begin));
        let connections = std::iter::once(&mut report.main).chain(&mut report.channels);
        for (number, connection) in connections.enumerate() {
            let number = ConnectionIdx::from_index(number);
            let (bytes, ns) = progress.pace(number);
            connection.bytes = progress.sent(number);
            connection.throughput_bytes_per_s = rate(bytes, ns);
        }
        for (number, device) in report.devices.iter_mut().enumerate() {
            device.switchover_ns = progress.device_ns(DeviceIdx::from_index(number));
        }
        report.answers =
            progress.answers.iter().map(|answer| answer_report(answer, progress.began)).collect();
        if worker.unacknowledged {
            self.header.warn(
                WarningCode::NotAcknowledged,
                "the source had waited for SWITCHOVER_ACK, and the destination did not send it",
                "turn its capability switchover-ack on, as it was on the source",
            );
        }
        if !worker.expects_answer {
            self.header.warn(
                WarningCode::Unanswered,
                "the capture opens no return path, so the destination answered only by closing its connection",
                "ask the destination: query-migrate, query-status",
            );
        }
    }

    pub(super) fn finish(self, error: Option<&Error>) -> ReplayReport {
        let ReportBuilder { header, report } = self;
        ReplayReport {
            outcome: outcome(error),
            error: error.map(Into::into),
            settings: ReplaySettings {
                pool: header.pool,
                pool_slots: header.pool_slots,
                congestion: header.congestion,
                huge_pages: header.huge_pages,
                registered_buffers: header.registered_buffers,
                ..report.settings
            },
            host: host(),
            warnings: header.warnings,
            ..report
        }
    }
}

impl From<Pace> for ReplayPace {
    fn from(pace: Pace) -> ReplayPace {
        match pace {
            Pace::Full => ReplayPace::Full,
            Pace::Recorded => ReplayPace::Recorded,
        }
    }
}

fn connection(captured: &Connection) -> ReplayedConnection {
    ReplayedConnection {
        id: captured.id.map(u64::from),
        captured_bytes: captured.bytes,
        device_packets: captured.device_packets,
        sync: captured.syncs,
        ..ReplayedConnection::default()
    }
}

fn device(device: &Device) -> CapturedDevice {
    let sum = |pieces: &mut dyn Iterator<Item = Piece>| pieces.map(|piece| u64::from(piece.len)).sum();
    let data = device.packets.iter().filter(|packet| !packet.config).map(|packet| packet.state);
    CapturedDevice {
        idstr: device.id.idstr.to_string(),
        instance: device.id.instance,
        packets: device.packets.len() as u64,
        data_bytes: sum(&mut data.into_iter()),
        config_bytes: device.config_bytes(),
        precopy_bytes: device.precopy_bytes(),
        stopcopy_bytes: sum(&mut device.main_data.iter().copied()),
        switchover_ns: None,
    }
}
