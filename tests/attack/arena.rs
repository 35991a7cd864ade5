//! The files of one run: the state of each device at the source, and what stands at the destination before. Knows
//! nothing of what is done to the transfer.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringlift::limits::PAGE_SIZE;
use tempfile::TempDir;

use crate::dice::Dice;

/// A folder for one run.
pub(crate) struct Arena {
    folder: TempDir,
    devices: Vec<Device>,
}

struct Device {
    new: Vec<u8>,
    old: Option<Vec<u8>>,
}

/// What a file at the destination is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Is {
    /// What it was before, or not there if it was not there.
    Old,
    /// The whole state.
    New,
    /// Anything else, which is never right.
    Neither(String),
}

pub(crate) fn program() -> &'static Path {
    assert_cmd::cargo::cargo_bin!("ringlift")
}

impl Arena {
    /// `count` devices of less than `size_max` bytes; at some of the targets there is an old file.
    pub(crate) fn new(dice: &mut Dice, count: usize, size_max: usize) -> Arena {
        let mut device = |number: usize| {
            // two states are never equal, so none can stand in for another
            let state = |dice: &mut Dice, kind: &str| {
                let len = dice.below(size_max);
                [format!("{kind} {number} ").as_bytes(), &dice.bytes(len)].concat()
            };
            let new = state(dice, "new");
            Device { new, old: dice.chance(60).then(|| state(dice, "old")) }
        };
        let devices: Vec<_> = (0..count).map(&mut device).collect();
        let arena = Arena { folder: tempfile::tempdir().unwrap(), devices };
        fs::create_dir(arena.sources()).unwrap();
        fs::create_dir(arena.sinks()).unwrap();
        for (number, device) in arena.devices.iter().enumerate() {
            fs::write(arena.sources().join(name(number)), &device.new).unwrap();
        }
        arena.put_old();
        arena
    }

    /// Writes the old files.
    pub(crate) fn put_old(&self) {
        for (number, device) in self.devices.iter().enumerate() {
            if let Some(old) = &device.old {
                fs::write(self.sinks().join(name(number)), old).unwrap();
            }
        }
    }

    /// The disk space that the old files take.
    pub(crate) fn old_space(&self) -> u64 {
        let pages = |device: &Device| device.old.as_ref().map_or(0, |old| old.len().div_ceil(PAGE_SIZE));
        self.devices.iter().map(|device| (pages(device) * PAGE_SIZE) as u64).sum()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn sources(&self) -> PathBuf {
        self.folder().join("sources")
    }

    pub(crate) fn sinks(&self) -> PathBuf {
        self.folder().join("sinks")
    }

    /// The arguments of a receiver of all devices.
    pub(crate) fn recv(&self) -> Vec<String> {
        let begin = ["recv", "--listen", "127.0.0.1:0", "--once"].map(str::to_owned).to_vec();
        [begin, self.devices_in(&self.sinks())].concat()
    }

    /// The arguments of a sender of all devices.
    pub(crate) fn send(&self, to: SocketAddr, options: &[&str]) -> Vec<String> {
        let begin = ["send", "--to", &to.to_string(), "--pool", "4MiB", "--packet-size", "16KiB"];
        let begin = begin.iter().chain(options).map(|&text| text.to_owned()).collect();
        [begin, self.devices_in(&self.sources())].concat()
    }

    fn devices_in(&self, folder: &Path) -> Vec<String> {
        let device = |number| {
            let path = folder.join(name(number));
            ["--device".to_owned(), format!("{0}=file:{1}", name(number), path.to_str().unwrap())]
        };
        (0..self.devices.len()).flat_map(device).collect()
    }

    /// What each file at the destination is.
    pub(crate) fn files(&self) -> Vec<Is> {
        let is = |(number, device): (usize, &Device)| {
            let found = fs::read(self.sinks().join(name(number))).ok();
            match found {
                found if found == device.old => Is::Old,
                Some(found) if found == device.new => Is::New,
                Some(found) => Is::Neither(format!("{} bytes, of {}", found.len(), device.new.len())),
                None => Is::Neither("no file, where an old one was".to_owned()),
            }
        };
        self.devices.iter().enumerate().map(is).collect()
    }

    /// The devices whose state is no longer at the source.
    pub(crate) fn lost(&self) -> Vec<String> {
        let is_lost = |(number, device): &(usize, &Device)| {
            fs::read(self.sources().join(name(*number))).ok().as_ref() != Some(&device.new)
        };
        self.devices.iter().enumerate().filter(is_lost).map(|(number, _)| name(number)).collect()
    }

    /// Names at the destination that are not those of devices.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.sinks()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|found| (0..self.devices.len()).all(|number| *found != name(number))).collect()
    }
}

/// The command with these arguments.
pub(crate) fn ringlift(args: &[String]) -> Command {
    let mut command = Command::new(program());
    command.args(args);
    command
}

fn name(number: usize) -> String {
    format!("d{number}")
}
