//! The times of a capture: accepted times only go forward, end where the connection ends, and take no more memory than a
//! buffer.

#![no_main]

use std::{env, fs, process};

use libfuzzer_sys::fuzz_target;
use ringlift::qemu::capture::{self, Times};
use ringlift_fuzz::{SETTINGS_LEN, example, seed, with_peak};

/// A buffer for the file, and its name.
const MEMORY_MAX: u64 = 64 << 10;

fn seeds() {
    let len = example::main_connection().len() as u64;
    let records = [[64, 0], [100, 50], [200, 50], [len, 70]];
    let bytes: Vec<u8> = records.concat().into_iter().flat_map(u64::to_be_bytes).collect();
    seed("whole", &[&bytes[..], &[0; SETTINGS_LEN]].concat());
}

fuzz_target!(init: seeds(), |input: &[u8]| {
    let Some((bytes, settings)) = input.split_last_chunk::<SETTINGS_LEN>() else { return };
    let folder = env::temp_dir().join(format!("ringlift-fuzz-times-{}", process::id()));
    let main = folder.join("main.bin");
    if !main.exists() {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(&main, example::main_connection()).expect("room");
    }
    fs::write(folder.join("main.times"), bytes).expect("room");
    let found = capture::inspect(&[main]);
    let connection = &found.connections[0];
    let step = u64::from_be_bytes(*settings).max(1);
    let (result, peak) = with_peak(|| {
        let mut times = Times::open(connection)?;
        let (mut elapsed, mut offset) = (0_u64, 0);
        while let Some(next) = times.next() {
            assert!(next > elapsed || elapsed == 0);
            elapsed = elapsed.saturating_add(step).max(next);
            let reached = times.reached(elapsed)?;
            assert!((offset..=connection.bytes).contains(&reached));
            offset = reached;
        }
        Ok::<_, ringlift::error::CaptureError>(offset)
    });
    assert!(peak <= MEMORY_MAX, "{peak} bytes");
    match result {
        Ok(offset) => assert_eq!(offset, connection.bytes),
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
});
