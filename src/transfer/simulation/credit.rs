//! Devices that are not alike share a pool: large ones beside tiny ones, wrong estimates, devices that never take a write.

use super::*;
use crate::wire::Control;

/// How a device differs from others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) size: usize,
    pub(super) estimate: Option<u64>,
    /// Its first write never ends by itself.
    pub(super) is_stuck: bool,
}

impl Shape {
    /// One that knows its size.
    fn of(size: usize) -> Shape {
        Shape { size, estimate: Some(size as u64), is_stuck: false }
    }
}

/// A source that expects to have so much.
pub(super) struct Estimating {
    pub(super) source: FakeSource,
    pub(super) estimate: Option<u64>,
}

impl Source for Estimating {
    fn estimate(&self) -> Option<u64> {
        self.estimate
    }
    fn start(&mut self) -> Result<Flow, DeviceError> {
        self.source.start()
    }
    fn fd(&self) -> Option<(BorrowedFd<'_>, FdKind)> {
        self.source.fd()
    }
    fn quiesce(&mut self) -> Result<(), DeviceError> {
        self.source.quiesce()
    }
    fn stop(&mut self) -> Result<(), DeviceError> {
        self.source.stop()
    }
    fn config(&mut self, buffer: &mut [u8]) -> Result<usize, DeviceError> {
        self.source.config(buffer)
    }
    fn release(&mut self) -> Result<(), DeviceError> {
        self.source.release()
    }
    fn rollback(&mut self) -> Result<(), DeviceError> {
        self.source.rollback()
    }
    fn park(&mut self) -> Result<(), DeviceError> {
        self.source.park()
    }
}

fn shaped(seed: u64, shapes: Vec<Shape>, slots: u32) -> Scenario {
    Scenario { devices: shapes.len(), shapes, slots, ..scenario(seed) }
}

/// The limits that the receiver sent for a device.
fn limits(tape: &[u8], wanted: u16) -> Vec<u64> {
    let ends = boundaries(tape);
    let messages = ends.windows(2).map(|ends| {
        let (head, body) = tape[ends[0]..ends[1]].split_first_chunk::<CONTROL_HEADER_LEN>().unwrap();
        Control::decode(&ControlHeader::decode(head).unwrap(), body).unwrap()
    });
    let limit = |message| match message {
        Control::Credit { device, limit } if device == wanted => Some(limit),
        _ => None,
    };
    messages.filter_map(limit).collect()
}

#[track_caller]
fn assert_complete(scenario: &Scenario) -> Played {
    let result = simulate(scenario);
    check(scenario, &result);
    assert_eq!(result.sender.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.sender.error);
    assert_eq!(result.receiver.outcome, Outcome::Complete, "{scenario:?}: {:?}", result.receiver.error);
    result
}

#[test]
fn a_large_device_beside_many_tiny_ones_has_what_it_has_alone() {
    for seed in seeds(6) {
        let alone = assert_complete(&shaped(seed, vec![Shape::of(900_000)], 16));
        let mut shapes = vec![Shape::of(96); 32];
        shapes[0] = Shape::of(900_000);
        let beside = assert_complete(&shaped(seed, shapes, 16 + 2 * 31));
        assert_eq!(limits(&alone.control[1], 0)[0], 16);
        assert_eq!(limits(&beside.control[1], 0)[0], 16);
        assert_eq!(limits(&beside.control[1], 31)[0], 2, "and they wait for nothing");
    }
}

#[test]
fn devices_of_any_size_arrive_whatever_they_expect_and_however_small_the_pool() {
    for seed in seeds(60) {
        let mut dice = Dice(seed);
        let shapes: Vec<Shape> = (0..1 + dice.below(12))
            .map(|_| {
                let size = [0, 96, 9000, 50_000, 300_000][dice.below(5)];
                let estimate = [None, Some(size as u64), Some(1), Some(u64::MAX)][dice.below(4)];
                Shape { size, estimate, is_stuck: false }
            })
            .collect();
        // from one slot for each device to many
        let slots = u32::try_from(shapes.len() + [0, 1, 5, 40][dice.below(4)]).unwrap();
        let flow = if dice.chance(50) { Flow::PreCopy } else { Flow::StopCopyOnly };
        let channels = 1 + dice.below(5);
        assert_complete(&Scenario { flow, channels, ..shaped(seed, shapes, slots) });
    }
}

#[test]
fn devices_that_never_take_a_write_do_not_hold_the_others_up() {
    for seed in seeds(20) {
        let mut dice = Dice(seed);
        let shape = |is_stuck: bool, dice: &mut Dice| {
            let size = 20_000 + dice.below(200_000);
            Shape { size, estimate: [None, Some(size as u64), Some(1)][dice.below(3)], is_stuck }
        };
        let shapes: Vec<Shape> = (0..6).map(|device| shape(device % 3 == 0, &mut dice)).collect();
        let slots = u32::try_from(shapes.len() + dice.below(20)).unwrap();
        let scenario = shaped(seed, shapes.clone(), slots);
        let result = simulate(&scenario);
        check(&scenario, &result);
        assert_eq!(result.receiver.outcome, Outcome::Aborted, "{scenario:?}");
        for (shape, intact) in shapes.iter().zip(&result.intact) {
            assert_eq!(*intact, !shape.is_stuck, "{scenario:?}");
        }
    }
}
