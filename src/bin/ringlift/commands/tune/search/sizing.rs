//! How large a measured transfer is, and how large a pool the path needs. Pure arithmetic.

use std::time::Duration;

use ringlift::limits;

/// The first transfer of all: on any path it tells how large the next one may be.
pub(super) const FIRST: u64 = 1 << 20;
const SIZE_MIN: u64 = 256 << 10;
const SIZE_MAX: u64 = 16 << 30;
/// A rate that was found with a tiny transfer is hardly known.
const GROWTH_MAX: u64 = 16;
/// Long enough for the first and the last packets not to count for much.
const TARGET: Duration = Duration::from_millis(150);
const TARGET_MIN: Duration = Duration::from_millis(20);
/// A connection needs several round trips to reach its rate.
const ROUND_TRIPS: u32 = 10;
/// A transfer takes no larger part of the budget.
const OF_BUDGET: u32 = 100;

/// How long a measured transfer should take.
pub(super) fn target(budget: Duration, rtt_us: Option<f64>) -> Duration {
    let trips = Duration::from_micros(whole(rtt_us.unwrap_or(0.0))) * ROUND_TRIPS;
    TARGET.max(trips).min(budget / OF_BUDGET).max(TARGET_MIN)
}

/// Bytes of each device, so that a transfer takes `target` at `rate`; `last` was measured.
pub(super) fn size(rate: f64, target: Duration, devices: u16, last: u64) -> u64 {
    let bytes = whole(rate * target.as_secs_f64()) / u64::from(devices.max(1));
    bytes.min(last.saturating_mul(GROWTH_MAX)).clamp(SIZE_MIN, SIZE_MAX).next_multiple_of(SIZE_MIN)
}

/// Bytes on their way: bandwidth × round trip.
pub(in super::super) fn in_flight(rate: f64, rtt_us: Option<f64>) -> u64 {
    whole(rate * rtt_us.unwrap_or(0.0) / 1e6)
}

/// A pool for these bytes on their way: twice as much, because a slot is in use from its read on. At least the default,
/// and at most what a receiver takes.
pub(in super::super) fn pool(in_flight: u64, max: u64) -> u64 {
    let needed = in_flight.saturating_mul(2).min(limits::POOL_SIZE_MAX).next_power_of_two();
    needed.min(max).max(limits::POOL_SIZE_DEFAULT)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number that is not negative saturates"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_transfer_takes_as_long_as_it_should_and_grows_in_steps() {
        let minute = Duration::from_secs(60);
        assert_eq!(target(minute, None), Duration::from_millis(150));
        assert_eq!(target(minute, Some(30_000.0)), Duration::from_millis(300), "ten round trips");
        assert_eq!(target(minute, Some(1e9)), Duration::from_millis(600), "no more of the budget");
        assert_eq!(target(Duration::from_secs(1), None), Duration::from_millis(20));
        assert_eq!(size(1e9, Duration::from_millis(150), 1, FIRST), 16 * MIB);
        assert_eq!(size(1e9, Duration::from_millis(150), 1, 16 * MIB).div_ceil(MIB), 144);
        assert_eq!(size(1e9, Duration::from_millis(150), 4, 16 * MIB).div_ceil(MIB), 36);
        for rate in [0.0, f64::NAN, -1.0] {
            assert_eq!(size(rate, TARGET, 1, FIRST), SIZE_MIN);
        }
        assert_eq!(size(f64::INFINITY, TARGET, 1, u64::MAX), SIZE_MAX);
    }

    #[test]
    fn a_pool_holds_twice_what_is_on_its_way() {
        assert_eq!(in_flight(1.25e9, Some(100_000.0)), 125_000_000);
        assert_eq!(pool(125_000_000, limits::POOL_SIZE_TRUSTED), 256 * MIB);
        assert_eq!(pool(1000, limits::POOL_SIZE_TRUSTED), 64 * MIB, "never below the default");
        assert_eq!(pool(u64::MAX, limits::POOL_SIZE_TRUSTED), 1024 * MIB, "never above the bound");
        assert_eq!(in_flight(1e9, None), 0);
    }
}
