//! What recording costs: six histograms and two stopwatches for every packet.
//!
//! The limit is 1 % of the time that a packet takes. That time is not taken from a transfer, whose other costs would
//! flatter the figure: it is what one processor needs to copy the payload twice, from a buffer into a socket of this
//! host and out again, without a device on either side.
//!
//! The clock is counted separately. The engine reads it for the packets' timestamps, and for deadlines, heartbeats and
//! progress, so not all of its cost is due to recording; the figure with all of it is the worst case, and has no limit.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group};
use ringlift::internals::{Recorder, now};

/// The largest share of a packet's time that may be spent on recording it.
const SHARE_MAX: f64 = 0.01;
/// Reads of the clock per packet, both sides together: when its read begins and ends, when it is handed to a channel,
/// sent, arrived, next in order, written.
const CLOCK_CALLS: usize = 7;

/// Ends of stages, slightly different for each packet, so that many buckets of the histograms are written.
fn times(packet: u64) -> [u64; 7] {
    let step = 1_000 + packet.wrapping_mul(2_654_435_761) % 100_000;
    std::array::from_fn(|end| packet * 1_000_000 + step * end as u64)
}

fn record(recorder: &mut Recorder, packet: u64) {
    recorder.packet(black_box(&times(packet)), packet.is_multiple_of(16), packet.is_multiple_of(64));
}

fn recorder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recorder");
    group.throughput(Throughput::Elements(1));
    let mut recorder = Recorder::default();
    let mut packet = 0;
    group.bench_function("packet", |bencher| {
        bencher.iter(|| {
            packet += 1;
            record(&mut recorder, packet);
        });
    });
    group.bench_function("clock", |bencher| bencher.iter(now));
    group.finish();
}

/// Nanoseconds per call, the median of several batches.
fn nanoseconds(batches: usize, calls: u32, mut call: impl FnMut()) -> f64 {
    let mut taken: Vec<f64> = (0..batches)
        .map(|_| {
            let begun = Instant::now();
            (0..calls).for_each(|_| call());
            begun.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    taken[taken.len() / 2]
}

/// The shortest time in which a payload gets into a socket and out of it: the best of several runs.
fn fastest_packet(len: usize) -> f64 {
    const PIECE: usize = 32 << 10;
    let (mut here, mut there) = UnixStream::pair().expect("a pair of sockets");
    let (payload, mut arrived) = (vec![1; len], vec![0; len]);
    let mut move_once = || {
        for (from, to) in payload.chunks(PIECE).zip(arrived.chunks_mut(PIECE)) {
            here.write_all(from).expect("the socket has room for a piece");
            there.read_exact(to).expect("the piece is there");
        }
    };
    (0..50).map(|_| nanoseconds(1, 1, &mut move_once)).fold(f64::INFINITY, f64::min)
}

/// Whether recording stays below its limit; prints the figures.
fn is_cheap() -> bool {
    let mut recorder = Recorder::default();
    let mut packet = 0;
    let recording = nanoseconds(51, 2_000, || {
        packet += 1;
        record(&mut recorder, packet);
    });
    assert_eq!(recorder.count(), packet, "every packet was recorded");
    let clock = nanoseconds(51, 2_000, || {
        black_box(now());
    });
    let whole = recording + clock * CLOCK_CALLS as f64;
    println!(
        "recording a packet: {recording:.1} ns, and {CLOCK_CALLS} looks at the clock of {clock:.1} ns each"
    );
    let mut cheap = true;
    for kib in [64, 1024] {
        let fastest = fastest_packet(kib << 10);
        let share = recording / fastest;
        println!(
            "packet of {kib} KiB: {:.1} us at the fastest; {:.3} % of it for histograms and stopwatches ({} the bar of \
             {} %), {:.3} % with all looks at the clock",
            fastest / 1e3,
            share * 100.0,
            if share < SHARE_MAX { "below" } else { "ABOVE" },
            SHARE_MAX * 100.0,
            whole / fastest * 100.0
        );
        cheap &= share < SHARE_MAX;
    }
    cheap
}

criterion_group!(benches, recorder);

fn main() {
    benches();
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    // Otherwise this only checks that it works, or lists its name; and without optimisation the figures mean nothing.
    if asked("--bench") && !asked("--test") {
        assert!(is_cheap(), "recording costs less than its limit");
    }
    Criterion::default().configure_from_args().final_summary();
}
