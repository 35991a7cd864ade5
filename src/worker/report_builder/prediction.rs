//! The downtime that is predicted before the devices stop: from what is left, the path's rate and the round trip. It must not
//! know how any of these was measured.

use super::{ReportBuilder, tcp_of};
use crate::net::Connection;
use crate::report::{Basis, Prediction, RateFrom};
use crate::ring::Ring;

impl ReportBuilder {
    /// Bytes a second at which what warmed the connections up has arrived.
    pub(crate) fn path(&mut self, bytes_per_s: Option<u64>) {
        self.path = bytes_per_s;
    }

    /// The devices are about to stop, and `left` bytes are to be moved then. How long that takes follows from the rate so
    /// far and the round trip, which the kernel knows, too; without a rate nothing does.
    pub(crate) fn predict(
        &mut self,
        ring: &impl Ring,
        left: Option<u64>,
        connection: Option<&Connection>,
        round_trip_ns: Option<u64>,
    ) {
        let of_kernel = || Some(tcp_of(ring, connection?)?.min_rtt_us? * 1000);
        let round_trip_ns = round_trip_ns.or_else(of_kernel).unwrap_or(0);
        let measured = self.intervals.best_rate().map(|rate| (rate, RateFrom::PreCopy));
        let rate = measured.or(self.path.map(|rate| (rate, RateFrom::WarmUp)));
        let basis = |(left, (rate, from))| Basis { left, rate, from, round_trip_ns };
        self.prediction = left.zip(rate).map(basis).map(Prediction::of);
    }
}
