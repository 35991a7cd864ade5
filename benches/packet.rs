//! A packet's header, and the checksums over its payload.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringlift::wire::{DATA_HEADER_LEN, DataHeader, crc32c, crc32c_combine};

const HEADER: DataHeader = DataHeader {
    device: 3,
    idx: 0x0123_4567_89ab,
    config: false,
    len: 1 << 20,
    crc32c: 0xdead_beef,
    read_at_ns: 1_234_567_890_123,
    sent_at_ns: 1_234_567_990_456,
};

fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet/header");
    group.throughput(Throughput::Elements(1));
    let mut bytes = [0; DATA_HEADER_LEN];
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&HEADER).encode(black_box(&mut bytes)));
    });
    HEADER.encode(&mut bytes);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| DataHeader::decode(black_box(&bytes)));
    });
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet/crc32c");
    for kib in [64, 1024] {
        let payload = vec![0x5a; kib << 10];
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(format!("{kib} KiB"), |bencher| {
            bencher.iter(|| crc32c(0, black_box(&payload)));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("combine", |bencher| {
        bencher.iter(|| crc32c_combine(black_box(0x1234_5678), black_box(0x9abc_def0), black_box(1 << 20)));
    });
    group.finish();
}

criterion_group!(benches, header, checksum);
criterion_main!(benches);
