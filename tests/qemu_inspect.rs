//! `ringlift qemu inspect` and `ringlift qemu extract` as a user and a script type them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::captures::{Capture, DEVICE, fixture};
use serde_json::{Value, json};

fn ringlift(args: &[&str], paths: &[&Path]) -> Output {
    Command::new(assert_cmd::cargo::cargo_bin!("ringlift"))
        .arg("qemu")
        .args(args)
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn found(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

// ── inspect ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn json_has_what_a_script_looks_for() {
    let output = ringlift(&["inspect", "--json", "-"], &[&fixture("device-on-channels-ack")]);

    assert_eq!((code(&output), text(&output.stderr)), (0, ""));
    let zeros = "00000000-0000-0000-0000-000000000000";
    let channel = |id: u8, rest: [u64; 7]| {
        let [bytes, packets, ram_packets, sync, normal_pages, zero_pages, device_packets] = rest;
        json!({
            "file": format!("multifd-{id}.bin"), "kind": "multifd", "id": id, "uuid": zeros, "bytes": bytes,
            "packets": packets, "ram_packets": ram_packets, "sync": sync, "normal_pages": normal_pages,
            "zero_pages": zero_pages, "device_packets": device_packets
        })
    };
    let expected = json!({
        "ok": true, "machine": "pc-q35-10.0", "page_size": 4096, "ram_bytes": 67_641_344, "flush_flags": 5,
        "return_path_at": 24, "switchover_at": 432, "tail_at": 489, "full_sections": 30, "capabilities": [],
        "connections": [
            {
                "file": "main.bin", "kind": "main", "id": null, "uuid": null, "bytes": 77143, "packets": 0,
                "ram_packets": 0, "sync": 5, "normal_pages": 0, "zero_pages": 0, "device_packets": 0
            },
            channel(0, [284_228, 72, 71, 5, 45, 8190, 1]),
            channel(1, [468_520, 75, 74, 5, 90, 8210, 1]),
        ],
        "devices": [{
            "idstr": DEVICE, "instance": 0, "packets": 2, "data_bytes": 72, "config_bytes": 4132,
            "precopy_bytes": 24,
            "pieces": [
                {"kind": "precopy", "idx": null, "channel": null, "offset": 307, "bytes": 24},
                {"kind": "data", "idx": 0, "channel": 1, "offset": 423_168, "bytes": 72},
                {"kind": "config", "idx": 1, "channel": 0, "offset": 277_120, "bytes": 4132},
            ]
        }],
        "errors": [], "notes": []
    });
    assert_eq!(found(&output), expected);
}

#[test]
fn tables_show_connections_stream_and_devices() {
    let output = ringlift(&["inspect"], &[&fixture("device-on-main")]);

    assert_eq!((code(&output), text(&output.stderr)), (0, ""));
    let text = text(&output.stdout);
    for line in [
        "multifd-0.bin   multifd   0    -      17664         7        7       3       2          510            0",
        "machine type         pc-q35-10.0",
        "switchover start     at byte 366",
        "device 0000:00:01.0/vfio, instance 0: no packets: its state is on the main connection; 24 bytes of pre-copy, 72 of \
         data, 4132 of config state",
        "  config     main           32889    4132",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn a_long_list_is_cut_in_its_middle_unless_all_of_it_is_wanted() {
    let pieces = [&[7; 100][..]; 40];
    let folder = Capture::of_state(&pieces).written();

    let output = ringlift(&["inspect"], &[folder.path()]);
    assert!(text(&output.stdout).contains("\n  ... 34 more (--packets)\n"), "{}", text(&output.stdout));
    assert!(!text(&output.stdout).contains("  packet 20 "));

    let output = ringlift(&["inspect", "--packets"], &[folder.path()]);
    assert!(text(&output.stdout).contains("  packet 20 "));
    assert!(!text(&output.stdout).contains("more"));
}

#[test]
fn a_broken_capture_has_status_1_and_a_sentence_with_file_and_offset() {
    let folder =
        Capture::of("device-on-channels").patched("multifd-0.bin", 14976 + 272, &[0xff; 4]).written();
    let report = folder.path().join("found.json");

    let args = ["inspect", "--json", report.to_str().unwrap()];
    let output = ringlift(&args, &[folder.path()]);

    let sentence = "the packet that begins here cannot be right: its state is 4294967283 bytes, at most 1048576 are allowed";
    assert_eq!(code(&output), 1);
    assert_eq!(text(&output.stderr), format!("error: multifd-0.bin, byte 14976: {sentence}\n"));
    assert!(text(&output.stdout).contains("multifd-1.bin"), "the rest is shown anyway");
    let found: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(found["ok"], json!(false));
    assert_eq!(found["errors"], json!([{"file": "multifd-0.bin", "offset": 14976, "text": sentence}]));
}

#[test]
fn what_is_not_there_has_status_1_and_what_makes_no_sense_status_2() {
    let output = ringlift(&["inspect", "--json", "-"], &[Path::new("/nowhere")]);
    assert_eq!(code(&output), 1);
    assert_eq!(found(&output)["errors"][0]["file"], "/nowhere");
    for args in [&["inspect"][..], &["inspect", "--bogus", "x"], &["extract", "x"], &["bogus"], &[]] {
        assert_eq!(code(&ringlift(args, &[])), 2, "{args:?}");
    }
}

// ── extract ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_devices_state_is_put_into_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let to = format!("file:{}", folder.path().join("state").display());

    let output = ringlift(&["extract", "--device", DEVICE, "--to", &to], &[&fixture("device-on-channels")]);

    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "0000:00:01.0/vfio: 24 bytes of pre-copy, 72 of data, 4132 of config state, in 3 pieces\n"
    );
    let state = fs::read(folder.path().join("state")).unwrap();
    assert_eq!((state.len(), &state[32..37]), (96, &b"VFIO!"[..]));
}

#[test]
fn stdout_may_be_the_sink() {
    let output = ringlift(&["extract", "--device", DEVICE, "--to", "fd:1"], &[&fixture("one-connection")]);
    assert_eq!((code(&output), output.stdout.len()), (0, 96));
    assert!(text(&output.stderr).contains("72 of data"));
}

#[test]
fn a_device_that_is_not_there_is_answered_with_those_that_are() {
    for device in ["0000:00:02.0/vfio", "0000:00:01.0/vfio#1"] {
        let output =
            ringlift(&["extract", "--device", device, "--to", "discard"], &[&fixture("one-connection")]);
        assert_eq!(code(&output), 2);
        let expected = format!("error: the capture has no device {device}\nhint: it has {DEVICE}\n");
        assert_eq!(text(&output.stderr), expected);
    }
}

#[test]
fn nothing_is_extracted_from_a_broken_capture() {
    let folder = Capture::of("device-on-channels").without("multifd-0.bin").written();
    let to = folder.path().join("state");
    let sink = format!("file:{}", to.display());

    let output = ringlift(&["extract", "--device", DEVICE, "--to", &sink], &[folder.path()]);

    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("error: the capture is not whole: nothing was extracted\n"));
    assert!(!to.exists());
}
