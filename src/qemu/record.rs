//! Accepts a QEMU migration and records it as it arrives: to inspect it, to measure the source, or to replay it to a
//! destination later.
//!
//! To the source this is a destination that accepts everything: it answers pings, lets the source switch over as soon
//! as the devices have sent their initial state, and finally reports success. No virtual machine runs here afterwards.

mod connection;
mod devices;
mod files;
mod observer;
mod recording;

use std::path::PathBuf;

use self::files::Folder;
use self::recording::{Parts, Recording};
use super::gather::{Gathered, Listener};
use super::{answer_report, outcome};
use crate::buffer::Pool;
use crate::cancel::Cancel;
use crate::error::{Error, Misuse, Uuid};
use crate::limits::{
    CHANNELS_MAX, POOL_SIZE_DEFAULT, POOL_SIZE_MAX, QEMU_PIECE_MAX, QEMU_PIECE_MIN, QEMU_STATE_MAX,
};
use crate::report::{
    CaptureReport, CaptureSettings, Host, MainReport, PacketHistograms, PacketsReport, Schema, StreamOutcome,
    WarningCode,
};
use crate::ring;
use crate::ring::{HostRing, Ring};
use crate::time::now;
use crate::wire::qemu::Init;
use crate::worker::caller::Event;
use crate::worker::hook::HookPanic;
use crate::worker::report_builder::header::{Header, host, rate};
use crate::worker::settings::Settings;
use crate::worker::write_signals::WriteSignals;

/// Slots per connection when the pool allows: one that fills while another is written, and some in between.
const SHARE: u64 = 8;

/// Records a QEMU migration.
///
/// ```no_run
/// use ringlift::qemu::{Capture, Listener};
///
/// let listener = Listener::bind("127.0.0.1:4444".parse().unwrap()).unwrap();
/// // (qemu) migrate -d tcp:127.0.0.1:4444
/// let captured = Capture::builder().listener(listener).channels(2).folder("captured").build().unwrap().run();
/// println!("{} bytes, {:?}", captured.report.bytes, captured.error);
/// ```
pub struct Capture {
    listener: Listener,
    options: Options,
    settings: Settings,
}

/// Builds a [`Capture`]. Each method documents the default of its setting.
pub struct CaptureBuilder {
    listener: Option<Listener>,
    options: Options,
    settings: Settings,
}

struct Options {
    channels: usize,
    folder: Option<PathBuf>,
    pool_size: u64,
}

/// How a capture ended.
#[derive(Debug)]
pub struct Captured {
    /// Why it is not complete; none when it is.
    pub error: Option<Error>,
    /// The figures.
    pub report: CaptureReport,
    /// The figures' distributions.
    pub histograms: PacketHistograms,
    /// The first panic of the caller's own code, which ends the capture.
    pub panic: Option<HookPanic>,
}

impl Capture {
    /// Starts building a capture.
    pub fn builder() -> CaptureBuilder {
        let options = Options { channels: 0, folder: None, pool_size: POOL_SIZE_DEFAULT };
        CaptureBuilder { listener: None, options, settings: Settings::default() }
    }

    /// Waits for one migration and records it on this thread, until it completes or fails.
    pub fn run(self) -> Captured {
        let _blocked = WriteSignals::block();
        let mut builder = ReportBuilder::new(self.options.channels);
        let panics = self.settings.panics();
        let captured = match self.prepare(&mut builder) {
            Err(error) => builder.finish(Some(error)),
            Ok(mut recording) => {
                let result = recording.record();
                let error = recording.conclude(result);
                builder.see(recording);
                builder.finish(error)
            }
        };
        Captured { panic: panics.take(), ..captured }
    }

    fn prepare(mut self, builder: &mut ReportBuilder) -> Result<Recording<HostRing>, Error> {
        let Options { channels, folder, pool_size } = self.options;
        let mut caller = self.settings.connecting_caller(now());
        let folder = folder.map(|path| Folder::make(&path)).transpose()?;
        if let Some(name) = self.settings.congestion() {
            self.listener.check_congestion(name)?;
        }
        // before a source connects: once it has, nothing on this host should make it fail
        let mut ring = ring::open(&caller.cancel)?;
        let (pool, share) = pool(pool_size, channels + 1, folder.is_some())?;
        builder.header.pool(&pool, ring.register(&pool).err());
        let gathered = self.listener.gather_for(&mut caller, channels, self.settings.congestion())?;
        builder.connected(&gathered);
        let record = folder.map(|folder| open(folder, &gathered)).transpose()?;
        let Gathered { main, multifd, .. } = gathered;
        Ok(Recording::new(ring, Parts { main, multifd, record, pool, share, caller })?)
    }
}

/// Opens the files of every connection.
fn open(folder: Folder, gathered: &Gathered) -> Result<(Folder, Vec<files::Files>), Error> {
    let mut files = vec![folder.main()?];
    for id in 0..gathered.multifd.len() {
        let id = u8::try_from(id).expect("channels are bounded by CHANNELS_MAX");
        files.push(folder.multifd(&Init { uuid: gathered.uuid.unwrap_or_default(), id })?);
    }
    Ok((folder, files))
}

/// A pool, and how many of its slots each connection has. Without files each has one, which is reused immediately.
fn pool(size: u64, connections: usize, records: bool) -> Result<(Pool, u32), Error> {
    let connections = connections as u64;
    let piece = size / connections / SHARE;
    let piece = piece.clamp(QEMU_PIECE_MIN.into(), QEMU_PIECE_MAX.into()).next_multiple_of(4096);
    let piece = u32::try_from(piece).expect("at most QEMU_PIECE_MAX");
    let least = if records { 2 } else { 1 };
    let share = u64::from(Pool::slots_in(size, piece)) / connections;
    if share < least {
        let needed = Pool::bytes_for(least * connections, piece);
        return Err(Misuse::BadPool { given: size, needed }.into());
    }
    let share = u32::try_from(if records { share } else { 1 }).expect("fewer than slots");
    let slots = share * u32::try_from(connections).expect("few");
    Ok((Pool::new(slots, piece)?, share))
}

impl CaptureBuilder {
    /// Records the next migration that arrives at a listener.
    pub fn listener(mut self, listener: Listener) -> CaptureBuilder {
        self.listener = Some(listener);
        self
    }

    /// Multifd connections: the source's parameter `multifd-channels`, or 0 when its capability `multifd` is off. 0
    /// unless set.
    pub fn channels(mut self, channels: usize) -> CaptureBuilder {
        self.options.channels = channels;
        self
    }

    /// The folder to record into: it is created, or must be empty. Nothing is kept unless set.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> CaptureBuilder {
        self.options.folder = Some(path.into());
        self
    }

    /// Bytes of memory for what has arrived and is not written yet. 64 MiB unless set.
    pub fn pool_size(mut self, bytes: u64) -> CaptureBuilder {
        self.options.pool_size = bytes;
        self
    }

    /// The TCP congestion control. The host's default unless set.
    pub fn congestion(mut self, name: impl AsRef<str>) -> CaptureBuilder {
        self.settings.set_congestion(name.as_ref());
        self
    }

    /// Is called with every event, on the thread that runs the capture, so it must return quickly.
    pub fn on_event(mut self, on_event: impl FnMut(&Event) + Send + 'static) -> CaptureBuilder {
        self.settings.set_on_event(on_event);
        self
    }

    /// Ends the capture when `cancel` is used.
    pub fn cancel(mut self, cancel: &Cancel) -> CaptureBuilder {
        self.settings.set_cancel(cancel);
        self
    }

    /// Checks the settings.
    pub fn build(self) -> Result<Capture, Misuse> {
        let Options { channels, pool_size, .. } = self.options;
        if channels > CHANNELS_MAX {
            return Err(Misuse::BadMultifd { given: channels });
        }
        if pool_size > POOL_SIZE_MAX {
            return Err(Misuse::BadPool { given: pool_size, needed: 0 });
        }
        if let Some(path) = &self.options.folder {
            Folder::check(path)?;
        }
        let listener = self.listener.ok_or(Misuse::NoPeer)?;
        Ok(Capture { listener, options: self.options, settings: self.settings })
    }
}

/// The report while it is being built.
struct ReportBuilder {
    header: Header,
    report: CaptureReport,
    histograms: PacketHistograms,
}

impl ReportBuilder {
    fn new(channels: usize) -> ReportBuilder {
        let report = CaptureReport {
            schema: Schema::default(),
            outcome: StreamOutcome::Failed,
            error: None,
            folder: None,
            peer: None,
            machine: None,
            uuid: None,
            bytes: 0,
            duration_ns: 0,
            throughput_bytes_per_s: 0.0,
            switchover_ns: None,
            main: MainReport::default(),
            channels: Vec::new(),
            devices: Vec::new(),
            packets: PacketsReport::default(),
            answers: Vec::new(),
            settings: CaptureSettings { channels: channels as u64, ..CaptureSettings::default() },
            host: Host::default(),
            warnings: Vec::new(),
        };
        ReportBuilder { header: Header::default(), report, histograms: histograms() }
    }

    fn connected(&mut self, gathered: &Gathered) {
        self.report.peer = gathered.peer().map(|peer| peer.to_string());
        self.report.uuid = gathered.uuid.map(|uuid| Uuid(uuid).to_string());
        self.header.congestion(gathered.congestion());
    }

    fn see(&mut self, recording: Recording<impl Ring>) {
        let began_at = recording.began_at.unwrap_or(recording.moved_at);
        let (observer, answers, report) = (&recording.observer, &recording.answers, &mut self.report);
        for device in observer.silent_devices() {
            let text = format!("device {device} was announced, but sent no state after it had stopped");
            let hint = "a device without state is possible; else look at the source's own messages";
            self.header.warn(WarningCode::DeviceSilent, text, hint);
        }
        report.folder = recording.folder();
        report.machine = observer.machine();
        report.bytes = observer.bytes();
        report.duration_ns = recording.now().saturating_sub(began_at);
        report.throughput_bytes_per_s = rate(observer.bytes(), recording.moved_at.saturating_sub(began_at));
        report.switchover_ns = observer.switchover_ns();
        report.main = observer.main_report(answers.is_open());
        report.channels = observer.channel_reports();
        report.devices = observer.device_reports();
        report.packets = observer.packets();
        report.answers = answers.sent.iter().map(|sent| answer_report(sent, began_at)).collect();
        self.histograms = recording.into_histograms();
    }

    fn finish(self, error: Option<Error>) -> Captured {
        let ReportBuilder { header, report, histograms } = self;
        let report = CaptureReport {
            outcome: outcome(error.as_ref()),
            error: error.as_ref().map(Into::into),
            settings: CaptureSettings {
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
        };
        Captured { error, report, histograms, panic: None }
    }
}

/// Empty histograms, for device packets up to the largest that may come.
fn histograms() -> PacketHistograms {
    PacketHistograms::up_to(u64::from(QEMU_STATE_MAX) * 2)
}

#[cfg(test)]
mod tests;
