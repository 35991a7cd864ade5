//! What follows the live sections, kept where a device's config state may be in there.
//!
//! Full sections have no length. The description that ends the stream explains them, and it comes last; so all of the
//! tail is kept, in memory and bounded, and followed by it afterwards.

use std::fs::File;
use std::io::{Seek, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{CaptureProblem, Error, KernelError, KernelOperation, PeerError, QemuError};
use crate::limits::QEMU_TAIL_MAX;
use crate::qemu::follow::DeviceId;
use crate::qemu::reader::{At, Reader};
use crate::qemu::tail::{Content, FullSections};

/// The full sections of a main connection, and their description.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    len: usize,
}

/// The tail when it is complete.
#[derive(Debug)]
pub(super) struct Sections {
    reader: Reader,
    found: FullSections,
}

impl Tail {
    pub(super) fn new() -> Result<Tail, KernelError> {
        let file = memfd_create("tail", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| KernelError::new(KernelOperation::MemoryFile, errno))?;
        Ok(Tail { file: file.into(), len: 0 })
    }

    /// More of it.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.len += bytes.len();
        if self.len > QEMU_TAIL_MAX {
            return Err(PeerError::from(QemuError::LongTail).into());
        }
        Ok(self
            .file
            .write_all(bytes)
            .map_err(|error| KernelError::new(KernelOperation::WriteMemoryFile, error))?)
    }

    /// All of it has come; the description that ends it has so many bytes.
    pub(super) fn follow(mut self, description: u32) -> Result<Sections, Error> {
        self.file.rewind().map_err(|error| KernelError::new(KernelOperation::RewindMemoryFile, error))?;
        let broken = |offset, problem: CaptureProblem| {
            PeerError::from(QemuError::Tail { offset, problem: Box::new(problem) })
        };
        let mut reader = Reader::of(self.file).map_err(|problem| broken(0, problem))?;
        let mut found = FullSections::default();
        found
            .explain(&mut reader, 0, self.len as u64, description)
            .map_err(|At { offset, problem }| broken(offset, problem))?;
        Ok(Sections { reader, found })
    }
}

impl Sections {
    /// The config state of a device, if it travelled here.
    pub(super) fn config_of(&mut self, id: DeviceId) -> Option<Vec<u8>> {
        let section = self.found.devices.iter().find(|section| section.id == id)?;
        let (content, bytes) = section.content(&mut self.reader).ok()?;
        (content == Content::Config).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CONFIG_SIZE_MAX;
    use crate::vfio::config_state::CONFIG_STATE_TAG;
    use crate::wire::qemu::TailScanner;

    /// A section, and what describes it.
    fn tail(content: &[u8]) -> Vec<u8> {
        let name = b"0000:00:01.0/vfio";
        let description = format!(
            r#"{{"devices": [{{"name": "{}", "instance_id": 0, "fields": [{{"name": "data", "size": {}}}]}}]}}"#,
            str::from_utf8(name).unwrap(),
            content.len()
        );
        let mut bytes = vec![4, 0, 0, 0, 9, u8::try_from(name.len()).unwrap()];
        bytes.extend_from_slice(name);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend(content);
        bytes.extend([0x7e, 0, 0, 0, 9, 0x00, 0x06]);
        bytes.extend(u32::try_from(description.len()).unwrap().to_be_bytes());
        bytes.extend(description.as_bytes());
        bytes
    }

    fn config_of(bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut tail = Tail::new().unwrap();
        bytes.chunks(7).for_each(|piece| tail.keep(piece).unwrap());
        let id = DeviceId { idstr: "0000:00:01.0/vfio".try_into().unwrap(), instance: 0 };
        let mut scanner = TailScanner::new();
        scanner.take(bytes).unwrap();
        tail.follow(scanner.ended().unwrap()).map(|mut sections| sections.config_of(id))
    }

    #[test]
    fn a_config_state_is_told_from_a_section_that_only_ends() {
        let config = [&CONFIG_STATE_TAG.to_be_bytes()[..], b"\x06 and so on"].concat();
        assert_eq!(config_of(&tail(&config)).unwrap(), Some(config));
        // the end of state, and from 10.1 on also the permission to load config state, which came on a channel
        for mark in [0xffff_ffff_ef10_0001_u64, 0xffff_ffff_ef10_0006] {
            assert_eq!(config_of(&tail(&mark.to_be_bytes())).unwrap(), None);
        }
    }

    #[test]
    fn a_config_state_of_any_length_is_none() {
        let config = [&CONFIG_STATE_TAG.to_be_bytes()[..], &[0; CONFIG_SIZE_MAX]].concat();
        assert_eq!(config_of(&tail(&config)).unwrap(), None);
    }

    #[test]
    fn a_tail_that_its_description_does_not_explain_is_an_error() {
        let mut bytes = tail(b"content");
        bytes[0] = 5;
        let error = config_of(&bytes).unwrap_err();
        assert!(matches!(error, Error::Peer(PeerError::Qemu(QemuError::Tail { offset: 0, .. }))), "{error}");
    }

    #[test]
    fn a_tail_without_end_is_not_kept() {
        let mut tail = Tail::new().unwrap();
        let piece = vec![0; QEMU_TAIL_MAX / 4];
        (0..4).for_each(|_| tail.keep(&piece).unwrap());
        let error = tail.keep(&[0]).unwrap_err();
        assert!(error.to_string().contains("more than 64 MiB"), "{error}");
    }
}
