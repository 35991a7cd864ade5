//! What every run of a comparison does: the options of its sender, and a receiver that matches them.
//!
//! It reads of these options only what it must: programs of other versions may have others. Invariant: a comparison
//! consumes nothing, so that every run finds what the first one found.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const DEFAULT_DEVICE: &str = "d0=null:512MiB";

/// Options that the comparison gives itself.
const TAKEN: [&str; 6] = ["--to", "--json", "--run-id", "--arm", "--round", "--fail-if"];

/// The options of all runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    /// For `send`, without where to.
    pub(super) send: Vec<OsString>,
    /// For `recv`, without where at.
    pub(super) recv: Vec<OsString>,
}

/// What is wrong, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) String, pub(super) &'static str);

impl Workload {
    /// From what stands behind `--`.
    pub(super) fn of(typed: &[OsString]) -> Result<Workload, Unfit> {
        let mut send = typed.to_vec();
        let mut devices = devices(typed)?;
        if devices.is_empty() {
            send.extend(["--device", DEFAULT_DEVICE].map(OsString::from));
            devices.push(DEFAULT_DEVICE.into());
        }
        let sinks = devices.iter().map(|device| sink_for(device)).collect::<Result<Vec<_>, _>>()?;
        let recv = sinks.into_iter().flat_map(|sink| ["--device".into(), sink]).collect();
        Ok(Workload { send, recv })
    }
}

fn devices(typed: &[OsString]) -> Result<Vec<OsString>, Unfit> {
    let mut devices = Vec::new();
    let mut options = typed.iter();
    while let Some(option) = options.next() {
        let bytes = option.as_bytes();
        let is = |name: &&str| bytes == name.as_bytes() || bytes.starts_with(format!("{name}=").as_bytes());
        if let Some(taken) = TAKEN.iter().find(|name| is(name)) {
            return Err(Unfit(format!("{taken} is given by the comparison itself"), "leave it out"));
        }
        if let Some(device) = bytes.strip_prefix(b"--device=") {
            devices.push(OsString::from_vec(device.to_vec()));
        } else if bytes == b"--device" {
            devices.extend(options.next().cloned());
        }
    }
    Ok(devices)
}

/// NAME=discard for NAME=SOURCE, where a source can be read any number of times.
fn sink_for(device: &OsStr) -> Result<OsString, Unfit> {
    let bytes = device.as_bytes();
    let shown = device.display();
    let Some(at) = bytes.iter().position(|byte| *byte == b'=') else {
        return Err(Unfit(format!("the device {shown} has no source"), "write for example d0=null:512MiB"));
    };
    let (name, source) = (&bytes[..at], &bytes[at + 1..]);
    if source.starts_with(b"vfio:") || source.starts_with(b"fd:") {
        let text = format!("{shown} cannot be sent again and again: its state is gone after the first run");
        return Err(Unfit(text, "use null:SIZE, synthetic:SIZE or file:PATH"));
    }
    Ok(OsString::from_vec([name, b"=discard"].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(typed: &str) -> Result<Workload, Unfit> {
        Workload::of(&typed.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_receiver_has_a_sink_for_every_device() {
        let found = of("--device a=null:1 --channels 4 --device=b=file:x=y").unwrap();
        assert_eq!(found.recv, ["--device", "a=discard", "--device", "b=discard"]);
        assert_eq!(found.send.len(), 5);
    }

    #[test]
    fn without_a_device_there_is_one() {
        let found = of("--checksum none").unwrap();
        assert_eq!(found.send, ["--checksum", "none", "--device", "d0=null:512MiB"]);
        assert_eq!(found.recv, ["--device", "d0=discard"]);
    }

    #[test]
    fn what_cannot_be_repeated_or_is_given_already_is_refused() {
        for typed in ["--device a=vfio:0000:41:00.1", "--device a=fd:0", "--device a", "--to 1:1", "--json=-"]
        {
            assert!(of(typed).is_err(), "{typed}");
        }
    }
}
