//! Turns what one side saw into its report.

use super::io_mode;
use crate::buffer::{HugePages, Pool};
use crate::channel::ZeroCopy;
use crate::channel::{Framing, Rx, Tx};
use crate::error::{DeviceError, Error, KernelError};
use crate::net::socket::Congestion;
use crate::report::{
    ChannelReport, DeviceReport, Downtime, ErrorReport, Host, Recorder, Report, Settings, Warning,
    WarningCode,
};
use crate::session::handover::Outcome;
use crate::session::totals::Totals;
use crate::time::Nanos;
use crate::transfer::Finished;
use crate::wire::Checksum;

/// What is known of a transfer besides what the recorder counts.
pub(crate) struct Account {
    /// When settings were agreed on.
    pub(crate) started_at: Nanos,
    settings: Settings,
    devices: Vec<DeviceReport>,
    channels: Vec<ChannelReport>,
    warnings: Vec<Warning>,
    /// When the devices began to stop, were stopped, all was moved, loaded, and they ran on the other side.
    moments: [Option<Nanos>; 5],
}

const SWITCHOVER: usize = 0;
const STOPPED: usize = 1;
const TRANSFERRED: usize = 2;
const LOADED: usize = 3;
const COMMITTED: usize = 4;

impl Account {
    pub(crate) fn new(now: Nanos, devices: usize) -> Account {
        let settings = Settings {
            dialect: "native",
            checksum: "none",
            zero_copy: "off",
            huge_pages: "none",
            ..Settings::default()
        };
        Account {
            started_at: now,
            settings,
            devices: Vec::with_capacity(devices),
            channels: Vec::new(),
            warnings: Vec::new(),
            moments: [None; 5],
        }
    }

    fn warn(&mut self, code: WarningCode, text: String, hint: &'static str) {
        self.warnings.push(Warning { code, text, hint });
    }

    pub(crate) fn packet_size(&mut self, packet_size: u32, checksum: Checksum) {
        self.settings.packet_size = packet_size.into();
        self.settings.checksum = match checksum {
            Checksum::None => "none",
            Checksum::Crc32c => "crc32c",
        };
    }

    /// Whose protocol was spoken.
    pub(crate) fn dialect(&mut self, dialect: &'static str) {
        self.settings.dialect = dialect;
    }

    /// What the pool lies on, and why it is not registered if it is not.
    pub(crate) fn pool(&mut self, pool: &Pool, unregistered: Option<KernelError>) {
        self.settings.pool = pool_bytes(pool);
        self.settings.pool_slots = pool.total().into();
        self.settings.huge_pages = pool.huge_pages().name();
        self.settings.registered_buffers = unregistered.is_none();
        self.warnings.extend(pool_warnings(pool, unregistered));
    }

    pub(crate) fn zero_copy(&mut self, wanted: ZeroCopy, possible: bool) {
        self.settings.zero_copy = wanted.name();
        if wanted == ZeroCopy::On && !possible {
            let text = "this kernel has no zero-copy send".to_owned();
            self.warn(WarningCode::ZeroCopyUnavailable, text, "boot Linux 6.0 or later");
        }
    }

    pub(crate) fn clocks(&mut self, same: bool) {
        if !same {
            let text = "the two hosts' clocks cannot be compared: end_to_end is not counted".to_owned();
            self.warn(WarningCode::ClocksNotComparable, text, "read the stages of each side by themselves");
        }
    }

    pub(crate) fn congestion(&mut self, congestion: Option<Congestion>, loopback: bool) {
        let Some(congestion) = congestion else { return };
        self.settings.congestion = congestion.to_string();
        if loopback && congestion.as_str() == "bbr" {
            let text = "bbr paces a link whose round trip is shorter than it can measure".to_owned();
            self.warn(WarningCode::CongestionControl, text, "set the congestion control to cubic");
        }
    }

    pub(crate) fn switchover(&mut self, now: Nanos) {
        self.moments[SWITCHOVER].get_or_insert(now);
    }

    pub(crate) fn stopped(&mut self, now: Nanos) {
        self.moments[STOPPED] = Some(now);
    }

    /// The last byte so far.
    pub(crate) fn transferred(&mut self, now: Nanos) {
        self.moments[TRANSFERRED] = Some(now);
    }

    pub(crate) fn loaded(&mut self, now: Nanos) {
        self.moments[LOADED] = Some(now);
    }

    pub(crate) fn committed(&mut self, now: Nanos) {
        self.moments[COMMITTED] = Some(now);
    }

    /// How a device's last step went.
    pub(crate) fn parted(&mut self, name: &str, error: Option<DeviceError>) {
        if let Some(error) = error {
            let text = format!("device {name} could not be brought to where it belongs: {error}");
            self.warn(
                WarningCode::RollbackFailed,
                text,
                "look at the device before its virtual machine runs on",
            );
        }
    }

    /// Whether a sink has kept bytes of a transfer that was aborted.
    pub(crate) fn kept(&mut self, name: &str, keeps: bool) {
        if keeps {
            let text = format!("device {name}: a plain descriptor keeps the bytes of the aborted transfer");
            self.warn(
                WarningCode::CannotTakeBack,
                text,
                "a sink that is a file takes its name on commit only",
            );
        }
    }

    pub(crate) fn device(
        &mut self,
        name: &str,
        instance: u32,
        totals: Totals,
        precopy_bytes: u64,
        checksum: Checksum,
    ) {
        self.devices.push(DeviceReport {
            name: name.to_owned(),
            instance,
            bytes: totals.bytes,
            packets: totals.packets,
            config_bytes: totals.config_bytes,
            precopy_bytes,
            crc32c: (checksum == Checksum::Crc32c).then(|| format!("{:08x}", totals.crc32c)),
        });
    }

    pub(crate) fn tx(&mut self, channel: &Tx) {
        let zero_copy = channel.zero_copy();
        self.channels.push(ChannelReport {
            id: self.channels.len() as u64,
            bytes: channel.bytes,
            packets: channel.packets,
            zero_copy_sent: zero_copy.sent,
            zero_copy_copied: zero_copy.copied,
        });
    }

    pub(crate) fn rx(&mut self, channel: &Rx<impl Framing>) {
        self.channels.push(ChannelReport {
            id: self.channels.len() as u64,
            bytes: channel.bytes,
            packets: channel.packets,
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
            self.warn(WarningCode::ZeroCopyCopied, text, hint);
        }
    }

    /// Phases follow one another: each begins where the one before ended, and one that is not known takes no time.
    fn downtime(&self, end: Nanos) -> Downtime {
        let Some(begin) = self.moments[SWITCHOVER] else { return Downtime::default() };
        let mut last = begin;
        let mut phase = |moment: usize| {
            let at = self.moments[moment].unwrap_or(last).max(last);
            let took = at - last;
            last = at;
            took
        };
        let (stop_ns, transfer_ns, load_ns) = (phase(STOPPED), phase(TRANSFERRED), phase(LOADED));
        let commit_ns = phase(COMMITTED);
        let end = self.moments[COMMITTED].unwrap_or(end);
        Downtime { total_ns: end.saturating_sub(begin), stop_ns, transfer_ns, load_ns, commit_ns }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate of 2^53 bytes per second is far off")]
    pub(crate) fn finish(
        mut self,
        role: &'static str,
        outcome: Outcome,
        error: Option<Error>,
        mut recorder: Recorder,
        now: Nanos,
    ) -> Finished {
        self.judge_zero_copy();
        self.settings.channels = self.channels.len() as u64;
        let duration_ns = now.saturating_sub(self.started_at);
        let bytes: u64 = self.devices.iter().map(|device| device.bytes).sum();
        let downtime = self.downtime(now);
        let report = Report {
            schema: "ringlift.report.v1",
            role,
            outcome: outcome.name(),
            error: error.as_ref().map(|error| ErrorReport { text: error.to_string(), hint: error.hint() }),
            bytes,
            packets: self.devices.iter().map(|device| device.packets).sum(),
            duration_ns,
            throughput_bytes_per_s: if duration_ns == 0 {
                0.0
            } else {
                bytes as f64 * 1e9 / duration_ns as f64
            },
            settings: self.settings,
            host: host(),
            devices: self.devices,
            channels: self.channels,
            latency_ns: recorder.histograms.latency(),
            backpressure: recorder.backpressure(now),
            downtime,
            warnings: self.warnings,
        };
        Finished { outcome, error, report, histograms: recorder.histograms, parked: Vec::new() }
    }
}

/// Bytes that a pool takes, while a slot of it is free.
pub(crate) fn pool_bytes(pool: &Pool) -> u64 {
    let slot = pool.sample().map_or(0, |slot| crate::buffer::stride(slot.capacity()) as u64);
    slot * u64::from(pool.total())
}

/// What a reader of the figures must know of a pool, and of why it is not registered if it is not.
pub(crate) fn pool_warnings(pool: &Pool, unregistered: Option<KernelError>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if pool.huge_pages() == HugePages::None {
        let text = "the pool lies on ordinary pages".to_owned();
        let hint = "reserve huge pages: sysctl vm.nr_hugepages";
        warnings.push(Warning { code: WarningCode::NoHugePages, text, hint });
    }
    if let Some(error) = unregistered {
        let hint = error.hint().unwrap_or("the transfer goes on with buffers that are not registered");
        warnings.push(Warning { code: WarningCode::NoRegisteredBuffers, text: error.to_string(), hint });
    }
    warnings
}

/// Where this process runs.
pub(crate) fn host() -> Host {
    let kernel = nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned());
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Host {
        kernel,
        cpu: model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
        cpus: io_mode::cpus() as u64,
        ringlift: env!("CARGO_PKG_VERSION"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downtime_phases_add_up_to_the_total() {
        let mut account = Account::new(0, 1);
        account.switchover(100);
        account.switchover(999);
        account.stopped(150);
        account.transferred(400);
        account.loaded(450);
        account.committed(500);
        let downtime = account.downtime(700);
        assert_eq!(
            downtime,
            Downtime { total_ns: 400, stop_ns: 50, transfer_ns: 250, load_ns: 50, commit_ns: 50 }
        );
    }

    #[test]
    fn a_phase_that_never_came_takes_no_time() {
        let mut account = Account::new(0, 1);
        assert_eq!(account.downtime(700), Downtime::default());
        account.switchover(100);
        account.transferred(300);
        let downtime = account.downtime(700);
        assert_eq!((downtime.total_ns, downtime.transfer_ns, downtime.commit_ns), (600, 200, 0));
    }

    #[test]
    fn warns_when_the_kernel_copies() {
        let mut account = Account::new(0, 1);
        account.channels.push(ChannelReport {
            zero_copy_sent: 8,
            zero_copy_copied: 8,
            ..ChannelReport::default()
        });
        account.judge_zero_copy();
        assert_eq!(account.warnings[0].code, WarningCode::ZeroCopyCopied);
        assert_eq!(account.warnings[0].text, "the kernel copied 8 of 8 zero-copy sends");
    }
}
