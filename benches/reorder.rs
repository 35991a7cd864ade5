//! Putting packets in order: what a packet costs between the arrival of its header and its turn to be written.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringlift::internals::Reorder;

const WINDOW: usize = 64;
const PACKETS: u64 = 4096;

/// All packets, in blocks of `skew` that arrive back to front, as channels of different speed would deliver them.
fn run(reorder: &mut Reorder, skew: u64) -> u64 {
    let mut popped = 0;
    for block in 0..PACKETS / skew {
        for idx in (block * skew..(block + 1) * skew).rev() {
            assert!(reorder.claim(idx, popped + WINDOW as u64), "every packet is within the window");
            reorder.fill(idx, 7);
            while let Some(packet) = reorder.pop() {
                black_box(packet);
                popped += 1;
            }
        }
    }
    popped
}

fn reorder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reorder");
    group.throughput(Throughput::Elements(PACKETS));
    for (name, skew) in [("in order", 1), ("4 apart", 4), ("64 apart", 64)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(run(&mut Reorder::new(WINDOW), skew), PACKETS));
        });
    }
    group.finish();
}

criterion_group!(benches, reorder);
criterion_main!(benches);
