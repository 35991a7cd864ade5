//! Credit, both halves: a check before every packet, and now and then an announcement.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringlift::internals::{Allowance, Credit};

const PACKETS: u64 = 4096;

/// Sends and writes all packets; returns how many announcements that took.
fn run(window: u32) -> u64 {
    let (mut credit, mut allowance) = (Credit::new(window), Allowance::default());
    let mut announcements = 0;
    for idx in 0..PACKETS {
        while !allowance.allows(black_box(idx)) {
            let limit = credit.announce().expect("a used-up window is announced again");
            assert!(allowance.raise(limit), "a limit only grows");
            announcements += 1;
        }
        credit.written(idx);
    }
    announcements
}

fn credit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("credit");
    group.throughput(Throughput::Elements(PACKETS));
    for window in [1, 16, 64] {
        group.bench_function(format!("window {window}"), |bencher| {
            bencher.iter(|| run(black_box(window)));
        });
    }
    group.finish();
}

criterion_group!(benches, credit);
criterion_main!(benches);
