//! Time: nanoseconds of the host's monotonic clock.
//!
//! Pure code is passed `now` and never reads a clock. The ring has its own clock (the test controls the simulated one);
//! the function `now` is for code that runs before there is a ring.

pub(crate) mod deadlines;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point in time, or a span: nanoseconds of the host's monotonic clock.
pub type Nanos = u64;

/// The current time on the host's monotonic clock.
#[expect(clippy::cast_sign_loss, reason = "the monotonic clock counts from the start of the host")]
pub(crate) fn now() -> Nanos {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every kernel has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Nanoseconds since 1970 by the host's clock of the day: for people, and never compared.
pub(crate) fn since_1970() -> u64 {
    let since = ClockId::CLOCK_REALTIME.now().map(Duration::from).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration from `limits`, in nanoseconds.
pub(crate) const fn nanos(duration: Duration) -> Nanos {
    duration.as_secs() * 1_000_000_000 + duration.subsec_nanos() as Nanos
}
