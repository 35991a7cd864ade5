//! The duration of a report, of which the figures of a bench are made, beside a clock that is not ringlift's: the test
//! stands at both ends of a transfer and looks at its own.

#![expect(clippy::disallowed_methods, reason = "the clock outside of what is measured")]
#![expect(clippy::print_stdout, reason = "a figure that was measured is shown, also when it is good")]

mod common;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use common::{listen, pair, run};
use ringlift::compare::series;
use ringlift::error::DeviceError;
use ringlift::sink::{Discard, Sink};
use ringlift::source::{Flow, Null, Source};
use ringlift::{Checksum, Outcome};

/// Large enough that one per cent of its time is much longer than a process waits for a processor now and then.
const SIZE: u64 = 2 << 30;
const TRANSFERS: usize = 7;

/// When the source was asked for its first bytes, and when the destination's device was let run.
#[derive(Debug, Clone, Default)]
struct Clock {
    first_read: Arc<OnceLock<Instant>>,
    running: Arc<OnceLock<Instant>>,
}

/// A device of zeros at the source.
struct Begins(Null, Clock);

/// Its twin at the destination, which keeps nothing.
struct Ends(Discard, Clock);

impl Source for Begins {
    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.0.start()
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.1.first_read.get_or_init(Instant::now);
        self.0.fill(buffer)
    }

    fn stop(&mut self) -> Result<(), DeviceError> {
        self.0.stop()
    }

    fn release(&mut self) -> Result<(), DeviceError> {
        self.0.release()
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.0.rollback()
    }
}

impl Sink for Ends {
    fn prepare(&mut self) -> Result<(), DeviceError> {
        self.0.prepare()
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        self.0.seal()
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        self.1.running.get_or_init(Instant::now);
        self.0.run()
    }

    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.0.rollback()
    }
}

/// By how much a transfer's duration differs from what the outside clock says: 0.01 is one per cent.
fn difference() -> f64 {
    let (listener, clock) = (listen(), Clock::default());
    let (sender, receiver) =
        pair(&listener, Begins(Null::new(SIZE), clock.clone()), Ends(Discard, clock.clone()));
    let (sent, _) = run(sender.checksum(Checksum::None), receiver);
    assert_eq!((sent.outcome, sent.report.bytes), (Outcome::Complete, SIZE), "{:?}", sent.error);
    let begun = clock.first_read.get().expect("a transfer reads its source");
    let outside = clock.running.get().expect("a complete transfer runs its device").duration_since(*begun);
    let reported = sent.report.duration_ns as f64;
    let rate = SIZE as f64 / reported;
    println!(
        "reported {:.3} ms ({rate:.2} GB/s), outside {:.3} ms",
        reported / 1e6,
        outside.as_secs_f64() * 1e3
    );
    assert!(
        (sent.report.throughput_bytes_per_s / 1e9 - rate).abs() < rate / 1000.0,
        "it is of this duration"
    );
    (reported / outside.as_nanos() as f64 - 1.0).abs()
}

#[test]
fn the_duration_of_a_transfer_agrees_with_an_outside_clock_within_one_per_cent() {
    let differences: Vec<f64> = (0..TRANSFERS).map(|_| difference()).collect();
    let median = series::median(&differences);
    println!("{:.3} % in the median", median * 100.0);
    assert!(median < 0.01, "{differences:?}");
}
