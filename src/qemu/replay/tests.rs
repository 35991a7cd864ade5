use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use super::*;
use crate::error::PeerError;
use crate::report::WarningCode;
use crate::time::Nanos;

fn fixture() -> Inspection {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu/device-on-channels-ack");
    crate::qemu::capture::inspect(&[path])
}

/// A worker that is connected, and the other ends of its connections.
fn connected() -> (Replay, ReportBuilder, ReplayWorker<HostRing>, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let replay = Replay::builder(fixture(), listener.local_addr().unwrap()).build();
    let mut builder = ReportBuilder::new(&replay.capture, replay.to, replay.pace);
    let worker = replay.prepare(Caller::new(Cancel::new(), None), &mut builder).unwrap();
    let streams = (0..3).map(|_| listener.accept().unwrap().0).collect();
    (replay, builder, worker, streams)
}

#[test]
fn waiting_for_the_acknowledgement_of_a_switchover_is_bounded() {
    let (replay, mut builder, mut worker, streams) = connected();
    let soon = worker.ring.now() + 50_000_000;
    worker.deadlines.set(Deadline::Acknowledgement, soon);
    let len = usize::try_from(replay.capture.connections[0].bytes).unwrap();
    let readers = streams.into_iter().enumerate().map(|(number, mut stream)| {
        thread::spawn(move || {
            if number == 0 {
                stream.read_exact(&mut vec![0; len]).unwrap();
                stream.write_all(&[0, 1, 0, 4, 0, 0, 0, 0]).unwrap();
            }
            stream.read_to_end(&mut Vec::new()).unwrap();
        })
    });
    let readers: Vec<_> = readers.collect();
    worker.run().unwrap();
    assert!(worker.unacknowledged && worker.progress.switchover_at.unwrap() >= soon);
    builder.see(&worker, worker.ring.now());
    drop(worker);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let report = builder.finish(None);
    assert!(report.warnings.iter().any(|warning| warning.code == WarningCode::NotAcknowledged));
}

#[test]
fn a_destination_that_takes_nothing_is_given_up() {
    let (_replay, _account, mut worker, _streams) = connected();
    // the destination does not acknowledge: main waits before the switchover, the channels after their barriers
    worker.deadlines.set(Deadline::Acknowledgement, Nanos::MAX);
    worker.deadlines.set(Deadline::Standstill, worker.ring.now());
    let error = worker.run().unwrap_err();
    assert!(matches!(error, Error::Peer(PeerError::Standstill { .. })), "{error}");
}

#[test]
fn slots_are_smaller_when_there_are_many_connections() {
    let bytes = |connections| {
        let pool = make_pool(connections).unwrap();
        (pool.total(), pool.sample().unwrap().capacity())
    };
    assert_eq!(bytes(1), (4, QEMU_PIECE_MAX));
    assert_eq!(bytes(3), (12, QEMU_PIECE_MAX));
    assert_eq!(bytes(256), (1024, QEMU_PIECE_MIN));
}

mod simulation;
