//! A trace of packets: the file is what its schema says, viewers can draw it, and it says of a transfer what the report says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::schema::{assert_same_properties, schema_words, type_words, valid};
use common::source::{Streams, migrate};
use common::{Running, listen, loopback, pair, run};
use ringlift::report::trace::{
    self, Trace, TraceAbout, TraceArgs, TraceEvent, TraceFile, TracePh, TraceSide, join,
};
use ringlift::report::{
    self, ClockOffset, HugePages, Report, Role, RunInfo, Schema, Settings, TransferOutcome,
};
use ringlift::sink::{Discard, Verify};
use ringlift::source::{Null, Synthetic};
use ringlift::vfio::State;
use ringlift::{Cancel, Event, Finished, Outcome, Phase, Receiver, Sender, qemu};
use serde_json::Value;

const SCHEMA: &str = include_str!("../docs/trace.schema.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// A file in which nothing is left out.
fn full() -> TraceFile {
    let args = TraceArgs {
        name: Some("phases".to_owned()),
        value: Some(1),
        device: Some(0),
        idx: Some(1),
        bytes: Some(4096),
        config: Some(true),
        unfinished: Some(true),
        from: Some(State::Running),
        to: Some(State::Stop),
    };
    let event = TraceEvent {
        ph: TracePh::Complete,
        name: "send".into(),
        cat: Some("packet".into()),
        pid: 1,
        tid: 100,
        ts: Some(1_234_567),
        dur: Some(1),
        id: Some("0x1".into()),
        bp: Some("e".into()),
        args: Some(args),
    };
    let side = TraceSide {
        role: Role::Sender,
        host: "a".to_owned(),
        outcome: TransferOutcome::Complete,
        duration_ns: 1,
        started_ns: 1,
        clock: Some(ClockOffset { offset_ns: -1, error_ns: 1 }),
        settings: Settings::default(),
        packets: 1,
        dropped: 0,
        capacity: 1,
    };
    TraceFile {
        display_time_unit: "ns".into(),
        other_data: TraceAbout {
            schema: Schema::default(),
            version: "0.1.0".to_owned(),
            session: Some("0123456789abcdef0123456789abcdef".to_owned()),
            run: Some(RunInfo { arm: Some("a".to_owned()), round: Some(1), ..RunInfo::default() }),
            sides: vec![side],
        },
        trace_events: vec![event],
    }
}

#[test]
fn a_trace_has_every_property_of_its_schema_and_no_other_and_the_same_words() {
    let json = valid(&schema(), &full());
    assert_same_properties(&schema(), &json, 45);
    assert_eq!(json["traceEvents"][0]["ts"], 1234.567, "microseconds");
    let settings = "/properties/otherData/properties/sides/items/properties/settings/properties";
    let expected = [
        ("/properties/traceEvents/items/properties/ph".to_owned(), type_words::<TracePh>()),
        ("/properties/otherData/properties/sides/items/properties/role".to_owned(), type_words::<Role>()),
        (
            "/properties/otherData/properties/sides/items/properties/outcome".to_owned(),
            type_words::<TransferOutcome>(),
        ),
        ("/$defs/state".to_owned(), type_words::<State>()),
        (format!("{settings}/dialect"), ["native", "qemu"].map(str::to_owned).into()),
        (format!("{settings}/checksum"), type_words::<report::Checksum>()),
        (format!("{settings}/zero_copy"), type_words::<report::ZeroCopy>()),
        (format!("{settings}/huge_pages"), type_words::<HugePages>()),
    ];
    assert_eq!(schema_words(&schema()), expected.into_iter().collect::<BTreeMap<_, BTreeSet<_>>>());
}

/// A file that was read, whose events are as they must be.
fn read(text: &str) -> TraceFile {
    let file: TraceFile = serde_json::from_str(text).unwrap();
    valid(&schema(), &file);
    assert_eq!(text.lines().count(), file.trace_events.len() + 2, "a line for each event");
    check_slices(&file);
    check_pairs(&file);
    check_arrows(&file);
    let side = &file.other_data.sides[0];
    for event in &file.trace_events {
        let end = event.ts.unwrap_or(0) + event.dur.unwrap_or(0);
        // what the other side did is placed by the measured clocks
        let is_own = event.pid == if side.role == Role::Sender { 1 } else { 2 };
        assert!(!is_own || end <= side.duration_ns, "{event:?} is over by {}", side.duration_ns);
        let counts = event.args.as_ref().is_some_and(|args| args.value.is_some());
        assert_eq!(event.ph == TracePh::Counter, counts, "{event:?}");
        assert_eq!(event.ph == TracePh::Metadata, event.ts.is_none(), "{event:?}");
    }
    file
}

/// Slices of one track follow one another, or one lies within the other; and every track has a name.
fn check_slices(file: &TraceFile) {
    let mut tracks: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for event in &file.trace_events {
        match event.ph {
            TracePh::Complete => {
                let (begin, took) = (event.ts.unwrap(), event.dur.unwrap());
                tracks.entry((event.pid, event.tid)).or_default().push((begin, begin + took));
            }
            TracePh::Metadata if event.name == "thread_name" => drop(named.insert((event.pid, event.tid))),
            _ => {}
        }
    }
    for (track, mut slices) in tracks {
        assert!(named.contains(&track), "{track:?} has no name");
        slices.sort_by_key(|&(begin, end)| (begin, u64::MAX - end));
        let mut around: Vec<u64> = Vec::new();
        for (begin, end) in slices {
            while around.last().is_some_and(|&over| over <= begin) {
                around.pop();
            }
            assert!(
                around.last().is_none_or(|&over| end <= over),
                "{track:?} at {begin}: {end} and {around:?}"
            );
            around.push(end);
        }
    }
}

/// Every beginning has its end, and no id is used twice.
fn check_pairs(file: &TraceFile) {
    let mut open = BTreeMap::new();
    let mut used = BTreeSet::new();
    for event in &file.trace_events {
        let key = (event.pid, event.tid, event.cat.clone(), event.name.clone(), event.id.clone());
        match event.ph {
            TracePh::Begin => {
                assert!(used.insert(key.clone()), "{event:?} is there twice");
                assert_eq!(open.insert(key, event.ts.unwrap()), None, "{event:?} begins twice");
            }
            TracePh::End => assert!(open.remove(&key).unwrap() <= event.ts.unwrap(), "{event:?}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Every arrow begins and ends, at slices, and never goes back in time.
fn check_arrows(file: &TraceFile) {
    let slices: BTreeSet<(u64, u64, u64)> = file
        .trace_events
        .iter()
        .filter(|event| event.ph == TracePh::Complete)
        .map(|event| (event.pid, event.tid, event.ts.unwrap()))
        .collect();
    let mut arrows: BTreeMap<_, Vec<(TracePh, u64)>> = BTreeMap::new();
    for event in &file.trace_events {
        if matches!(event.ph, TracePh::FlowStart | TracePh::FlowStep | TracePh::FlowEnd) {
            let at = event.ts.unwrap();
            assert!(slices.contains(&(event.pid, event.tid, at)), "{event:?} is at no slice");
            arrows.entry(event.id.clone().unwrap()).or_default().push((event.ph, at));
        }
    }
    for (id, points) in arrows {
        let kinds: Vec<_> = points.iter().map(|(ph, _)| *ph).collect();
        let is_whole = matches!(
            kinds[..],
            [TracePh::FlowStart, TracePh::FlowEnd]
                | [TracePh::FlowStart, TracePh::FlowStep, TracePh::FlowStep, TracePh::FlowEnd]
        );
        assert!(is_whole && points.is_sorted_by_key(|(_, at)| *at), "{id}: {points:?}");
    }
}

/// How many events there are of a kind and a name.
fn count(file: &TraceFile, ph: TracePh, name: &str) -> u64 {
    file.trace_events.iter().filter(|event| event.ph == ph && event.name == name).count() as u64
}

fn written(finished: &Finished) -> String {
    let mut text = Vec::new();
    finished.trace.as_ref().unwrap().write(&finished.report, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Two devices over two channels, of which each side keeps so many packets.
fn transfer(packets: usize) -> (Finished, Finished) {
    let listener = listen();
    let receiver = Receiver::builder().device("a", Verify::new()).device("b", Discard).instance(1);
    let sender = Sender::builder().device("a", Synthetic::new(2 << 20)).device("b", Null::new(70_000));
    let sender = sender.instance(1).connect(listener.local_addr()).packet_size(64 << 10).pool_size(4 << 20);
    let (sent, received) = run(sender.trace(packets), receiver.listener(&listener).trace(packets));
    assert_eq!((sent.outcome, received.outcome), (Outcome::Complete, Outcome::Complete), "{:?}", sent.error);
    (sent, received)
}

#[test]
fn a_trace_has_every_packet_of_the_report_with_all_of_its_stages() {
    let (sent, received) = transfer(1000);
    for (finished, first, wait, second) in
        [(&sent, "read", "queue", "send"), (&received, "receive", "reorder", "write")]
    {
        let file = read(&written(finished));
        let packets = finished.report.packets;
        let side = &file.other_data.sides[0];
        assert_eq!((side.packets, side.dropped, side.capacity), (packets, 0, 1000));
        assert_eq!(file.other_data.session, finished.report.session);
        assert_eq!(count(&file, TracePh::Complete, first), packets);
        assert_eq!(count(&file, TracePh::Complete, second), packets);
        let waits = ["a", "b#1"].map(|device| count(&file, TracePh::Begin, &format!("{device} {wait}")));
        assert_eq!(waits.iter().sum::<u64>(), packets);
        assert_eq!(count(&file, TracePh::FlowStart, "packet"), packets);
        assert_eq!(count(&file, TracePh::Counter, "free slots"), packets);
        assert_eq!(count(&file, TracePh::Complete, "stop-copy"), 1);
        let unfinished =
            |event: &&TraceEvent| event.args.as_ref().is_some_and(|args| args.unfinished.is_some());
        assert_eq!(file.trace_events.iter().find(unfinished), None);
    }
    let bytes: u64 = sent.trace.unwrap().packets().map(|packet| packet.bytes).sum();
    assert_eq!(bytes, sent.report.bytes);
}

#[test]
fn stages_are_as_long_as_the_report_counts_them() {
    let (sent, received) = transfer(1000);
    let longest = |finished: &Finished, stage: fn(&trace::TracedPacket) -> Option<trace::TraceSpan>| {
        let spans = finished.trace.as_ref().unwrap().packets().filter_map(|packet| stage(&packet));
        spans.map(|span| span.end_ns.unwrap() - span.begin_ns).max().unwrap()
    };
    let near = |found: u64, counted: u64| found.abs_diff(counted) <= counted / 500 + 1;
    assert!(near(longest(&sent, |packet| packet.send), sent.report.latency_ns.send.max));
    assert!(near(longest(&received, |packet| packet.reorder), received.report.latency_ns.reorder.max));
    assert!(near(longest(&received, |packet| packet.write), received.report.latency_ns.write.max));
}

#[test]
fn of_more_packets_than_there_is_room_for_the_last_ones_are_kept_and_the_rest_is_counted() {
    let (sent, received) = transfer(10);
    for finished in [sent, received] {
        let file = read(&written(&finished));
        let side = &file.other_data.sides[0];
        assert_eq!((side.packets, side.dropped), (10, finished.report.packets - 10));
        let process = file.trace_events.iter().find(|event| event.name == "process_name").unwrap();
        let name = process.args.clone().unwrap().name.unwrap();
        assert!(name.ends_with(&format!("(the oldest {} packets are missing)", side.dropped)), "{name}");
    }
}

#[test]
fn without_a_word_of_the_caller_there_is_no_trace() {
    let listener = listen();
    let (sender, receiver) = pair(&listener, Null::new(1 << 20), Discard);
    let (sent, received) = run(sender, receiver);
    assert!(sent.trace.is_none() && received.trace.is_none());
}

#[test]
fn the_traces_of_both_sides_become_one_in_which_an_arrow_follows_each_packet_from_device_to_device() {
    let (sent, received) = transfer(1000);
    let (ours, theirs) = (written(&sent), written(&received));
    let steps_of_the_other = |event: &&TraceEvent| event.pid == 2 && event.ph == TracePh::Complete;
    assert!(read(&ours).trace_events.iter().any(|event| steps_of_the_other(&event)), "of its report");
    for same_clock in [true, false] {
        let mut both = Vec::new();
        join(ours.as_bytes(), theirs.as_bytes(), same_clock, &mut both).unwrap();
        let file: TraceFile = serde_json::from_slice(&both).unwrap();
        valid(&schema(), &file);
        check_slices(&file);
        check_pairs(&file);
        let packets = sent.report.packets;
        for (ph, name, times) in [
            (TracePh::FlowStart, "packet", 1),
            (TracePh::FlowStep, "packet", 2),
            (TracePh::FlowEnd, "packet", 1),
            (TracePh::Complete, "load", 0),
        ] {
            let expected = if times == 0 { 2 } else { times * packets };
            assert_eq!(count(&file, ph, name), expected, "{ph:?} {name}");
        }
        // by the measured clocks an arrow may seem to go back a little
        if same_clock {
            check_arrows(&file);
        }
    }
    let refused = |one: &str, other: &str| {
        let error = join(one.as_bytes(), other.as_bytes(), true, std::io::sink()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        error.to_string()
    };
    assert_eq!(refused(&theirs, &ours), "it is no trace of one sender");
    let others = written(&transfer(1000).1);
    assert_eq!(refused(&ours, &others), "they are of different sessions");
    assert!(!refused("", &theirs).is_empty());
    let cut = &theirs[..theirs.len() / 2];
    assert!(!refused(&ours, &cut[..cut.rfind('\n').unwrap() + 1]).is_empty());
}

#[test]
fn what_happened_until_a_transfer_was_cancelled_is_in_the_trace() {
    let listener = listen();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let (sender, receiver) = pair(&listener, Null::new(64 << 30), Discard);
    let sender = sender.packet_size(64 << 10).trace(100_000).cancel(&cancel).on_event(move |event| {
        if matches!(event, Event::Progress { bytes: 1.., .. }) {
            stop.cancel();
        }
    });
    let (sent, received) = run(sender, receiver.trace(100_000));
    assert_eq!((sent.outcome, received.outcome), (Outcome::Aborted, Outcome::Aborted));
    for finished in [sent, received] {
        let trace = finished.trace.as_ref().unwrap();
        assert!(trace.packets().count() > 0);
        assert!(trace.phases().any(|(phase, _)| phase == Phase::RollingBack));
        let file = read(&written(&finished));
        assert_eq!(file.other_data.sides[0].outcome, TransferOutcome::Aborted);
        assert_eq!(count(&file, TracePh::Complete, "rolling back"), 1);
    }
}

#[test]
fn a_transfer_that_never_began_has_a_trace_without_packets() {
    let sender = Sender::builder().device("a", Null::new(1)).connect(([127, 0, 0, 1], 1).into()).trace(10);
    let finished = sender.build().unwrap().run();
    assert!(finished.error.is_some() && finished.trace.is_none());
    let mut text = Vec::new();
    Trace::default().write(&finished.report, &mut text).unwrap();
    let file = read(&String::from_utf8(text).unwrap());
    assert_eq!(file.other_data.sides[0].packets, 0);
}

#[test]
fn a_migration_from_a_qemu_has_a_trace_as_well() {
    for name in ["device-on-channels", "device-on-main"] {
        let streams = Streams::of(name);
        let listener = qemu::Listener::bind(loopback()).unwrap();
        let receiver = qemu::Receiver::builder().listener(&listener).channels(streams.multifd.len());
        let receiver = receiver.device("0000:00:01.0/vfio", Discard).trace(1000).build().unwrap();
        let running = Running::start(move || receiver.run());
        migrate(listener.local_addr(), &streams, false);
        let finished = running.finish();
        assert_eq!(finished.outcome, Outcome::Complete, "{name}: {:?}", finished.error);
        let file = read(&written(&finished));
        assert_eq!(file.other_data.sides[0].packets, finished.report.packets, "{name}");
        assert_eq!(count(&file, TracePh::Complete, "write"), finished.report.packets, "{name}");
    }
}

// ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────

fn ringlift(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("ringlift"));
    command.args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_demo_writes_one_trace_of_both_of_its_processes_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["demo", "--devices", "2", "--size", "4MiB", "--trace", "demo.trace", "--json", "demo.json"];
    let output = ringlift(&args, folder.path());
    assert!(output.status.success(), "{output:?}");
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let file: TraceFile =
        serde_json::from_slice(&fs::read(folder.path().join("demo.trace")).unwrap()).unwrap();
    valid(&schema(), &file);
    check_slices(&file);
    check_pairs(&file);
    check_arrows(&file);
    let reports = fs::read_to_string(folder.path().join("demo.json")).unwrap();
    let reports: Vec<Report> = reports.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (side, report) in file.other_data.sides.iter().zip(&reports) {
        assert_eq!((side.role, side.packets, side.dropped), (report.role, report.packets, 0));
    }
    assert_eq!(count(&file, TracePh::FlowStep, "packet"), 2 * reports[0].packets);
}

#[test]
fn the_files_of_two_commands_are_put_together_in_either_order() {
    let folder = tempfile::tempdir().unwrap();
    let (sent, received) = transfer(1000);
    fs::write(folder.path().join("sent"), written(&sent)).unwrap();
    fs::write(folder.path().join("received"), written(&received)).unwrap();
    for files in [["sent", "received"], ["received", "sent"]] {
        let output = ringlift(&["report", files[0], files[1], "--trace", "both"], folder.path());
        assert!(output.status.success(), "{output:?}");
        let file: TraceFile = serde_json::from_slice(&fs::read(folder.path().join("both")).unwrap()).unwrap();
        assert_eq!(file.other_data.sides.len(), 2);
    }
    for (args, words) in [
        (&["report", "sent", "--trace", "both"][..], "there are 1 traces, and two sides"),
        (
            &["report", "sent", "sent", "--trace", "both"],
            "cannot be put together: it is no trace of one receiver",
        ),
        (&["report", "sent", "received", "--trace", "sent"], "would overwrite sent"),
        (&["report", "sent", "nowhere", "--trace", "both"], "No such file"),
    ] {
        let output = ringlift(args, folder.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn a_trace_that_cannot_be_written_or_would_overwrite_a_device_is_refused_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state"), b"state").unwrap();
    for (args, words) in [
        (&["demo", "--trace", "missing/trace"][..], "the trace cannot be written to missing/trace"),
        (
            &["send", "--to", "127.0.0.1:1", "--device", "a=file:state", "--trace", "./state"],
            "the trace in ./state would overwrite state",
        ),
        (
            &["recv", "--listen", "127.0.0.1:0", "--device", "a=file:state", "--trace", "state"],
            "the trace in state would overwrite state",
        ),
    ] {
        let output = ringlift(args, folder.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(words), "{args:?}: {said}");
    }
    assert_eq!(fs::read(folder.path().join("state")).unwrap(), b"state");
}

#[test]
fn a_command_that_fails_writes_its_trace_and_a_device_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["send", "--to", "127.0.0.1:1", "--device", "a=null:1", "--trace", "sent.trace"];
    assert_eq!(ringlift(&args, folder.path()).status.code(), Some(1));
    read(&fs::read_to_string(folder.path().join("sent.trace")).unwrap());
    let output = ringlift(&["demo", "--size", "64KiB", "--trace", "/dev/null"], folder.path());
    assert!(output.status.success(), "{output:?}");
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}
