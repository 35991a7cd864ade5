//! The pool of slots: one take and one put for every packet.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringlift::internals::Pool;

const SLOTS: u32 = 64;

fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    let mut pool = Pool::new(SLOTS, 64 << 10).expect("4 MiB can be mapped");

    group.throughput(Throughput::Elements(1));
    group.bench_function("take and put", |bencher| {
        bencher.iter(|| {
            let slot = pool.take().expect("one is free");
            pool.put(black_box(slot));
        });
    });

    group.throughput(Throughput::Elements(u64::from(SLOTS)));
    let mut taken = Vec::with_capacity(SLOTS as usize);
    group.bench_function("take all and put all", |bencher| {
        bencher.iter(|| {
            taken.extend(std::iter::from_fn(|| pool.take()));
            taken.drain(..).for_each(|slot| pool.put(slot));
        });
    });

    // once per transfer and side, before the devices stop
    let bytes = 8 << 20;
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("map and populate 8 MiB", |bencher| {
        bencher.iter(|| Pool::new(8, 1 << 20).expect("8 MiB can be mapped"));
    });
    group.finish();
}

criterion_group!(benches, pool);
criterion_main!(benches);
