//! Captures of a real QEMU, as they are and modified.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ringlift::qemu::capture::{self, Inspection};
use ringlift::wire::qemu::{DevicePacket, PREFIX_LEN, Packet, PageSize};
use tempfile::TempDir;

/// The device of every capture.
pub(crate) const DEVICE: &str = "0000:00:01.0/vfio";
/// In `device-on-channels`: where the two packets of the device begin, the state's on channel 0 and the config state's
/// on channel 1.
pub(crate) const DATA_AT: usize = 14976;
pub(crate) const CONFIG_AT: usize = 6784;

/// The folder of one of the captures in `tests/fixtures/qemu`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu").join(name)
}

/// A capture in memory: its files by name.
#[derive(Debug, Clone)]
pub(crate) struct Capture(pub(crate) BTreeMap<String, Vec<u8>>);

impl Capture {
    pub(crate) fn of(name: &str) -> Capture {
        let entries = fs::read_dir(fixture(name)).expect("a fixture").map(|entry| entry.expect("an entry"));
        let read = |path: PathBuf| fs::read(path).expect("a fixture's file");
        Capture(
            entries
                .map(|entry| (entry.file_name().into_string().expect("text"), read(entry.path())))
                .collect(),
        )
    }

    /// Changes a file.
    pub(crate) fn with(mut self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Capture {
        change(self.0.get_mut(file).expect("the capture has it"));
        self
    }

    /// Writes bytes over those at `offset`.
    pub(crate) fn patched(self, file: &str, offset: usize, bytes: &[u8]) -> Capture {
        self.with(file, |file| file[offset..offset + bytes.len()].copy_from_slice(bytes))
    }

    pub(crate) fn without(mut self, file: &str) -> Capture {
        self.0.remove(file).expect("the capture has it");
        self
    }

    /// `device-on-channels` with other state: packet by packet, the last ones first, alternating between the channels.
    pub(crate) fn of_state(pieces: &[&[u8]]) -> Capture {
        let mut capture = Capture::of("device-on-channels");
        let config = capture.0["multifd-1.bin"][CONFIG_AT + PREFIX_LEN..][..4132].to_vec();
        drop(capture.file("multifd-0.bin").drain(DATA_AT..DATA_AT + PREFIX_LEN + 72));
        drop(capture.file("multifd-1.bin").drain(CONFIG_AT..CONFIG_AT + PREFIX_LEN + 4132));
        let last = pieces.len();
        let all: Vec<&[u8]> = pieces.iter().copied().chain([&config[..]]).collect();
        for (idx, piece) in all.into_iter().enumerate().rev() {
            let packet = Packet::Device(DevicePacket {
                idstr: DEVICE.try_into().expect("a name"),
                instance: 0,
                idx: u32::try_from(idx).expect("few"),
                config: idx == last,
                len: u32::try_from(piece.len()).expect("short"),
            });
            let mut prefix = [0; PREFIX_LEN];
            packet.encode(&mut prefix, PageSize::default());
            let file = capture.file(["multifd-0.bin", "multifd-1.bin"][idx % 2]);
            file.extend(prefix);
            file.extend(piece);
        }
        capture
    }

    fn file(&mut self, name: &str) -> &mut Vec<u8> {
        self.0.get_mut(name).expect("the capture has it")
    }

    pub(crate) fn written(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in &self.0 {
            fs::write(folder.path().join(name), bytes).expect("room");
        }
        folder
    }

    pub(crate) fn inspect(&self) -> Inspection {
        let folder = self.written();
        capture::inspect(&[folder.path().to_owned()])
    }

    /// The errors in it, as sentences.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.inspect().errors.iter().map(ToString::to_string).collect()
    }
}
