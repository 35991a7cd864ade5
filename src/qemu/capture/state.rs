//! Reads one device's state from a capture, in the order in which the device takes it.

use super::inspection::{Device, Inspection, Piece};
use crate::error::{CaptureError, CaptureProblem, DeviceProblem, StreamPart};
use crate::qemu::reader::{At, Reader};

/// Reads a device's state piece by piece: pre-copy, then what came after it had stopped, and finally the config state.
pub(crate) struct StateReader<'a> {
    inspection: &'a Inspection,
    pieces: Box<dyn Iterator<Item = (Piece, bool)> + 'a>,
    /// The connections' files, each opened for its first piece.
    readers: Vec<Option<Reader>>,
}

impl<'a> StateReader<'a> {
    /// For a complete capture, and a device with config state.
    pub(crate) fn new(
        inspection: &'a Inspection,
        device: &'a Device,
    ) -> Result<StateReader<'a>, CaptureError> {
        if let Some(error) = inspection.errors.first() {
            return Err(error.clone());
        }
        let config = device.config().ok_or_else(|| CaptureError {
            file: inspection.connections.first().map_or_else(Box::default, |first| first.file.clone()),
            offset: 0,
            problem: CaptureProblem::Device {
                device: device.id.to_string().into(),
                problem: DeviceProblem::NoConfig,
            },
        })?;
        let state = device.state().map(|piece| (piece, false));
        let pieces = Box::new(state.chain(std::iter::once((config, true))));
        let readers = inspection.connections.iter().map(|_| None).collect();
        Ok(StateReader { inspection, pieces, readers })
    }

    /// Reads the next piece into the buffer, which must have room for any piece. Returns its length, and whether it is
    /// the config state.
    pub(crate) fn next(&mut self, buffer: &mut [u8]) -> Result<Option<(usize, bool)>, CaptureError> {
        let Some((piece, config)) = self.pieces.next() else { return Ok(None) };
        let connection = usize::from(piece.connection);
        let file = &self.inspection.connections[connection];
        let error = |offset, problem| CaptureError { file: file.file.clone(), offset, problem };
        let reader = match &mut self.readers[connection] {
            Some(reader) => reader,
            empty => empty.insert(Reader::open(&file.path).map_err(|problem| error(piece.offset, problem))?),
        };
        let len = piece.len as usize;
        let bytes = buffer.get_mut(..len).expect("a piece of state fits in the buffer");
        let read = reader.seek(piece.offset).and_then(|()| reader.fill(bytes, StreamPart::StatePiece));
        read.map_err(|At { offset, problem }| error(offset, problem))?;
        Ok(Some((len, config)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::qemu::capture::inspect;

    #[test]
    fn state_comes_in_order_wherever_it_was() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu");
        for name in ["device-on-channels-ack", "device-on-channels", "device-on-main", "one-connection"] {
            let inspection = inspect(&[fixtures.join(name)]);
            let device = inspection.device("0000:00:01.0/vfio", 0).unwrap();
            let mut reader = StateReader::new(&inspection, device).unwrap();
            let mut buffer = vec![0; 1 << 20];
            let found: Vec<_> = std::iter::from_fn(|| reader.next(&mut buffer).unwrap()).collect();
            assert_eq!(found, [(24, false), (72, false), (4132, true)], "{name}");
        }
    }

    #[test]
    fn a_capture_that_is_not_whole_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("main.bin"), b"QEVM").unwrap();
        let inspection = inspect(&[folder.path().to_owned()]);
        let device = Device::new(super::super::DeviceId {
            idstr: "0000:00:01.0/vfio".try_into().unwrap(),
            instance: 0,
        });
        assert_eq!(StateReader::new(&inspection, &device).err(), inspection.errors.first().cloned());
    }

    #[test]
    fn a_file_that_became_shorter_is_reported() {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qemu/one-connection/main.bin");
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("main.bin");
        fs::copy(fixture, &copy).unwrap();
        let inspection = inspect(&[folder.path().to_owned()]);
        fs::write(&copy, b"QEVM").unwrap();
        let device = &inspection.devices[0];
        let mut reader = StateReader::new(&inspection, device).unwrap();
        let error = reader.next(&mut [0; 4200]).unwrap_err();
        assert_eq!(error.problem, CaptureProblem::Cut { within: StreamPart::StatePiece });
    }
}
