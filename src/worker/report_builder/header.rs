//! What every report needs, whatever it describes: host, pool, congestion control, warnings and error. It must not know
//! what was moved.

use crate::buffer::{self, Pool};
use crate::error::{Error, KernelError};
use crate::net::socket::Congestion;
use crate::report::{ErrorReport, Host, HugePages, Warning, WarningCode};
use crate::worker::io_mode;

/// Collects the common part of a report during a transfer, a capture or a replay.
#[derive(Default)]
pub(crate) struct Header {
    /// Bytes of the pool.
    pub(crate) pool: u64,
    pub(crate) pool_slots: u64,
    pub(crate) huge_pages: HugePages,
    pub(crate) registered_buffers: bool,
    pub(crate) congestion: String,
    pub(crate) warnings: Vec<Warning>,
}

impl Header {
    pub(crate) fn warn(&mut self, code: WarningCode, text: impl Into<String>, hint: &str) {
        self.warnings.push(Warning { code, text: text.into(), hint: hint.to_owned() });
    }

    /// What kind of memory backs the pool, and the reason if it is not registered.
    pub(crate) fn pool(&mut self, pool: &Pool, unregistered: Option<KernelError>) {
        self.pool = pool_bytes(pool);
        self.pool_slots = pool.total().into();
        self.huge_pages = match pool.huge_pages() {
            buffer::HugePages::Explicit => HugePages::Explicit,
            buffer::HugePages::Transparent => HugePages::Transparent,
            buffer::HugePages::None => HugePages::None,
        };
        self.registered_buffers = unregistered.is_none();
        if self.huge_pages == HugePages::None {
            let hint = "reserve huge pages: sysctl vm.nr_hugepages";
            self.warn(WarningCode::NoHugePages, "the pool lies on ordinary pages", hint);
        }
        if let Some(error) = unregistered {
            let hint = error.hint().unwrap_or("the transfer goes on with buffers that are not registered");
            self.warn(WarningCode::NoRegisteredBuffers, error.to_string(), hint);
        }
    }

    pub(crate) fn congestion(&mut self, congestion: Option<Congestion>) {
        self.congestion = congestion.map(|name| name.to_string()).unwrap_or_default();
    }
}

/// Bytes that a pool occupies, if one of its slots is free.
fn pool_bytes(pool: &Pool) -> u64 {
    let slot = pool.sample().map_or(0, |slot| buffer::stride(slot.capacity()) as u64);
    slot * u64::from(pool.total())
}

impl From<&Error> for ErrorReport {
    fn from(error: &Error) -> ErrorReport {
        ErrorReport { text: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
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
        ringlift: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Bytes per second; 0 when no time has passed.
#[expect(clippy::cast_precision_loss, reason = "a rate of 2^53 bytes per second is far off")]
pub(crate) fn rate(bytes: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { bytes as f64 * 1e9 / ns as f64 }
}
