//! Whether a packet's bytes are sent from where they are, or copied by the kernel first; judged by the kernel's reports
//! about earlier sends. Pure.

/// Notifications that `auto` awaits before it judges.
const ZERO_COPY_TRIAL: u64 = 8;
/// Bytes of a packet on trial that are sent zero-copy; the rest follows as a copy. Enough for the kernel to report what
/// it does, and too few to fill a small receive buffer with pages that count for more than they hold.
pub(super) const ZERO_COPY_TRIAL_BYTES: usize = 64 << 10;
/// Bytes that `auto` sends before its trial. A new connection's receive buffer is small, and pages that the kernel
/// copies after all count for more than they hold: on loopback the window closes, and opens again only when it is
/// probed, 0.2 to
/// 0.8 s later. After this many bytes the buffer has grown.
const ZERO_COPY_WARM_UP: u64 = 16 << 20;

/// How sends use the registered buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopy {
    /// Zero-copy, until the kernel reports that it copies anyway.
    #[default]
    Auto,
    /// Zero-copy wherever the kernel has it.
    On,
    /// Copied by the kernel.
    Off,
}

impl ZeroCopy {
    /// The name used on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            ZeroCopy::Auto => "auto",
            ZeroCopy::On => "on",
            ZeroCopy::Off => "off",
        }
    }
}

/// Decides whether sends are zero-copy, from the kernel's reports about those that were.
#[derive(Debug)]
pub(crate) struct ZeroCopyJudge {
    mode: ZeroCopy,
    /// Sends that used SEND_ZC.
    pub(crate) sent: u64,
    /// Those of them that the kernel copied anyway.
    pub(crate) copied: u64,
    released: u64,
    /// The kernel refused one.
    pub(crate) unavailable: bool,
}

impl ZeroCopyJudge {
    pub(super) fn new(mode: ZeroCopy) -> ZeroCopyJudge {
        ZeroCopyJudge { mode, sent: 0, copied: 0, released: 0, unavailable: false }
    }

    pub(super) fn wanted(&self, sent_bytes: u64) -> bool {
        let warm = sent_bytes >= ZERO_COPY_WARM_UP;
        let pays = self.released < ZERO_COPY_TRIAL || self.copied * 2 < self.released;
        match self.mode {
            ZeroCopy::Off => false,
            ZeroCopy::On => !self.unavailable,
            // while on trial, send no more than the trial needs: notifications come late
            ZeroCopy::Auto => {
                warm && !self.unavailable
                    && pays
                    && (self.released >= ZERO_COPY_TRIAL || self.sent < ZERO_COPY_TRIAL)
            }
        }
    }

    /// Whether `auto` has not judged yet.
    pub(super) fn is_on_trial(&self) -> bool {
        self.mode == ZeroCopy::Auto && self.released < ZERO_COPY_TRIAL
    }

    pub(super) fn judge(&mut self, copied: bool) {
        self.released += 1;
        self.copied += u64::from(copied);
    }
}
