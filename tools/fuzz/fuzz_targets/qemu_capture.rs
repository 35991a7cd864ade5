//! A whole capture, including its files: whatever is in it, the inspection ends, takes little memory and describes the
//! errors that it finds; and a capture that it reports as whole is whole.

#![no_main]

use std::path::PathBuf;
use std::{env, fs, process};

use libfuzzer_sys::fuzz_target;
use ringlift::qemu::capture::{self, Device, Inspection};
use ringlift_fuzz::{example, seed, with_peak};

/// Separates the files of a capture in the input.
const SEPARATOR: &[u8] = b"\xff\xf1\x1e\xff";
const FILES: [&str; 4] = ["main.bin", "multifd-0.bin", "multifd-1.bin", "multifd-2.bin"];
/// The memory that an inspection takes besides its findings: a buffer for each file.
const MEMORY_FIXED: u64 = 256 << 10;
/// And the memory that it takes for each byte of input.
const MEMORY_FACTOR: u64 = 32;

fn seeds() {
    let files = [example::main_connection(), example::channel(0).1, example::channel(1).1];
    let input = files.join(SEPARATOR);
    let found = inspect(&input);
    assert!(found.is_ok() && found.devices.len() == 1, "{:?}", found.errors);
    seed("whole", &input);
    seed("main", &files[0]);
    seed("channels", &files[1..].join(SEPARATOR));
}

/// A folder for this process.
fn folder() -> PathBuf {
    env::temp_dir().join(format!("ringlift-fuzz-{}", process::id()))
}

fn inspect(input: &[u8]) -> Inspection {
    let folder = folder();
    fs::create_dir_all(&folder).expect("a folder");
    let mut rest = Some(input);
    for file in FILES {
        let path = folder.join(file);
        let Some(bytes) = rest else {
            let _ = fs::remove_file(path);
            continue;
        };
        let end = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let (content, others) = end.map_or((bytes, None), |end| (&bytes[..end], Some(&bytes[end + 4..])));
        fs::write(path, content).expect("room");
        rest = others;
    }
    let (found, peak) = with_peak(|| capture::inspect(&[folder]));
    let max = MEMORY_FIXED + MEMORY_FACTOR * input.len() as u64;
    assert!(peak <= max, "a peak of {peak} bytes for an input of {}", input.len());
    found
}

fn assert_whole(device: &Device, found: &Inspection) {
    for (packet, idx) in device.packets.iter().zip(0..) {
        assert_eq!((packet.idx, packet.config), (idx, idx as usize + 1 == device.packets.len()));
    }
    assert!(device.config().is_some());
    for piece in device.state().chain(device.config()) {
        let file = &found.connections[usize::from(piece.connection)];
        assert!(piece.offset + u64::from(piece.len) <= file.bytes);
    }
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let found = inspect(input);
    for error in &found.errors {
        let words = error.to_string();
        assert!(words.len() < 2000 && !words.contains(char::is_control), "{words:?}");
        let file = found.connections.iter().find(|connection| connection.file == error.file);
        assert!(file.is_none_or(|file| error.offset <= file.bytes), "{words}");
    }
    let packets: u64 = found.connections.iter().map(|connection| connection.device_packets).sum();
    let kept: usize = found.devices.iter().map(|device| device.packets.len()).sum();
    assert!(kept as u64 <= packets);
    if found.is_ok() {
        assert_eq!(kept as u64, packets);
        for device in &found.devices {
            assert_whole(device, &found);
        }
        for connection in found.connections.iter().filter(|connection| connection.id.is_some()) {
            assert_eq!(connection.packets, connection.ram_packets + connection.device_packets);
            assert!(connection.syncs <= connection.ram_packets);
        }
    }
});
