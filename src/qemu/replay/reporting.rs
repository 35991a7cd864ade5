//! Turns what a replay was into its report.

use std::net::SocketAddr;

use super::Pace;
use super::worker::Pump;
use crate::buffer::Pool;
use crate::error::{Error, KernelError};
use crate::qemu::capture::{Connection, Device, Inspection, Piece};
use crate::qemu::gather::Gathered;
use crate::qemu::{answer_report, outcome, rate};
use crate::report::{
    CapturedDevice, ErrorReport, Host, ReplayReport, ReplaySettings, ReplayedConnection, Warning, WarningCode,
};
use crate::ring::Ring;
use crate::time::Nanos;
use crate::worker::report_builder;

/// The report while it is put together.
pub(super) struct Account {
    report: ReplayReport,
}

impl Account {
    /// What the capture says before anything is sent.
    pub(super) fn new(capture: &Inspection, to: SocketAddr, pace: Pace) -> Account {
        let (main, channels) = match &capture.connections[..] {
            [main, channels @ ..] => (connection(main), channels.iter().map(connection).collect()),
            [] => (ReplayedConnection::default(), Vec::new()),
        };
        let uuid = capture.connections.iter().find_map(|connection| connection.uuid);
        let settings = ReplaySettings {
            channels: channels.len() as u64,
            pace: pace.name(),
            huge_pages: "none",
            ..ReplaySettings::default()
        };
        let report = ReplayReport {
            schema: "ringlift.replay.v1",
            outcome: "failed",
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
        Account { report }
    }

    /// What the pool lies on, and why it is not registered if it is not.
    pub(super) fn pool(&mut self, pool: &Pool, unregistered: Option<KernelError>) {
        let settings = &mut self.report.settings;
        settings.pool = report_builder::pool_bytes(pool);
        settings.pool_slots = pool.total().into();
        settings.huge_pages = pool.huge_pages().name();
        settings.registered_buffers = unregistered.is_none();
        self.report.warnings.extend(report_builder::pool_warnings(pool, unregistered));
    }

    pub(super) fn connected(&mut self, gathered: &Gathered) {
        self.report.settings.congestion =
            gathered.congestion().map(|name| name.to_string()).unwrap_or_default();
    }

    /// What the pump did, until now.
    pub(super) fn see(&mut self, pump: &Pump<impl Ring>, now: Nanos) {
        let (progress, report) = (&pump.progress, &mut self.report);
        report.bytes = progress.bytes();
        report.duration_ns = now.saturating_sub(progress.began);
        report.throughput_bytes_per_s = rate(report.bytes, progress.last_at().saturating_sub(progress.began));
        report.switchover_ns = progress.switchover_ns();
        let shut = progress.shut_at.zip(progress.switchover_at);
        report.shut_ns = shut.map(|(shut, begin)| shut.saturating_sub(begin));
        let connections = std::iter::once(&mut report.main).chain(&mut report.channels);
        for (number, connection) in connections.enumerate() {
            let (bytes, ns) = progress.pace(number);
            connection.bytes = progress.sent(number);
            connection.throughput_bytes_per_s = rate(bytes, ns);
        }
        for (number, device) in report.devices.iter_mut().enumerate() {
            device.switchover_ns = progress.device_ns(number);
        }
        report.answers =
            progress.answers.iter().map(|answer| answer_report(answer, progress.began)).collect();
        if pump.unacknowledged {
            self.warn(
                WarningCode::NotAcknowledged,
                "the source had waited for SWITCHOVER_ACK, and the destination did not send it".to_owned(),
                "turn its capability switchover-ack on, as it was on the source",
            );
        }
        if !pump.expects_answer {
            self.warn(
                WarningCode::Unanswered,
                "the capture opens no return path: that the destination closed is all that it said"
                    .to_owned(),
                "ask the destination: query-migrate, query-status",
            );
        }
    }

    fn warn(&mut self, code: WarningCode, text: String, hint: &'static str) {
        self.report.warnings.push(Warning { code, text, hint });
    }

    pub(super) fn finish(self, error: Option<&Error>) -> ReplayReport {
        ReplayReport {
            outcome: outcome(error),
            error: error.map(|error| ErrorReport { text: error.to_string(), hint: error.hint() }),
            host: report_builder::host(),
            ..self.report
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
