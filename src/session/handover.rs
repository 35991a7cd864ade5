//! The two-phase hand-over: at most one side runs the devices, and their state is never lost.
//!
//! | sender | receiver |
//! |---|---|
//! | `Moving`: the devices are ours; any failure brings them back | `Moving`: nothing runs; any failure resets |
//! | `Loaded`: every device was reported loaded | `Loaded`: every device is ready to run |
//! | `Committed`: Commit was sent; we may not run them unless the receiver promises that it never will | `Committed`: Commit came; we run them, or reset and promise |
//! | `Over`: the receiver runs them | `Over`: they run here |

use crate::numbers::DeviceIdx;

/// The outcome of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The destination runs the devices.
    Complete,
    /// The source has the devices back, the destination is clean.
    Aborted,
    /// Commit was sent and no answer came: the source stays stopped with its state intact, and an operator must decide.
    InDoubt,
}

impl Outcome {
    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::Aborted => "aborted",
            Outcome::InDoubt => "in_doubt",
        }
    }
}

/// Where one side is in the hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Moving,
    Loaded,
    Committed,
    Over,
}

fn count_missing(loaded: &[bool]) -> usize {
    loaded.iter().filter(|&&loaded| !loaded).count()
}

/// The sender's half.
#[derive(Debug)]
pub(crate) struct SenderHandover {
    stage: Stage,
    loaded: Vec<bool>,
}

impl SenderHandover {
    pub(crate) fn new(devices: usize) -> SenderHandover {
        SenderHandover { stage: Stage::Moving, loaded: vec![false; devices] }
    }

    /// The receiver reported a device as loaded. False when it did so before, or at the wrong time.
    pub(crate) fn loaded(&mut self, device: DeviceIdx) -> bool {
        if self.stage != Stage::Moving || self.loaded[device.index()] {
            return false;
        }
        self.loaded[device.index()] = true;
        if self.loaded.iter().all(|&loaded| loaded) {
            self.stage = Stage::Loaded;
        }
        true
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.stage == Stage::Loaded
    }

    /// Devices that were not reported yet.
    pub(crate) fn missing(&self) -> usize {
        count_missing(&self.loaded)
    }

    /// Commit is about to be sent: from now on it counts as sent, whatever the socket reports.
    pub(crate) fn commit(&mut self) {
        assert_eq!(self.stage, Stage::Loaded, "Commit only after every device is loaded");
        self.stage = Stage::Committed;
    }

    pub(crate) fn is_committed(&self) -> bool {
        matches!(self.stage, Stage::Committed | Stage::Over)
    }

    /// The receiver reported that it runs the devices. False at the wrong time.
    pub(crate) fn committed(&mut self) -> bool {
        let fits = self.stage == Stage::Committed;
        if fits {
            self.stage = Stage::Over;
        }
        fits
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// The outcome if the transfer ends now (P-36). `promised`: the receiver promised that it does not run the devices
    /// and never will.
    pub(crate) fn outcome(&self, promised: bool) -> Outcome {
        match self.stage {
            Stage::Moving | Stage::Loaded => Outcome::Aborted,
            Stage::Committed if promised => Outcome::Aborted,
            Stage::Committed => Outcome::InDoubt,
            Stage::Over => Outcome::Complete,
        }
    }
}

/// The receiver's half.
#[derive(Debug)]
pub(crate) struct ReceiverHandover {
    stage: Stage,
    loaded: Vec<bool>,
}

impl ReceiverHandover {
    pub(crate) fn new(devices: usize) -> ReceiverHandover {
        ReceiverHandover { stage: Stage::Moving, loaded: vec![false; devices] }
    }

    /// A device has loaded its state and is ready to run.
    pub(crate) fn loaded(&mut self, device: DeviceIdx) {
        assert_eq!(self.stage, Stage::Moving, "devices are loaded before Commit");
        self.loaded[device.index()] = true;
        if self.loaded.iter().all(|&loaded| loaded) {
            self.stage = Stage::Loaded;
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.stage == Stage::Loaded
    }

    /// Devices that have not loaded their state yet.
    pub(crate) fn missing(&self) -> usize {
        count_missing(&self.loaded)
    }

    /// The sender hands the devices over. False when that is too early, or a second time.
    pub(crate) fn commit(&mut self) -> bool {
        let fits = self.stage == Stage::Loaded;
        if fits {
            self.stage = Stage::Committed;
        }
        fits
    }

    pub(crate) fn is_committed(&self) -> bool {
        matches!(self.stage, Stage::Committed | Stage::Over)
    }

    /// Every device runs.
    pub(crate) fn committed(&mut self) {
        assert_eq!(self.stage, Stage::Committed, "devices run only after Commit");
        self.stage = Stage::Over;
    }

    /// The outcome if the transfer ends now (P-37).
    pub(crate) fn outcome(&self) -> Outcome {
        match self.stage {
            Stage::Moving | Stage::Loaded | Stage::Committed => Outcome::Aborted,
            Stage::Over => Outcome::Complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_transfer_that_ends_before_commit_is_aborted_on_both_sides() {
        let mut giving = SenderHandover::new(2);
        assert_eq!(giving.outcome(false), Outcome::Aborted);
        assert!(
            giving.loaded(DeviceIdx(0))
                && !giving.is_loaded()
                && giving.loaded(DeviceIdx(1))
                && giving.is_loaded()
        );
        assert_eq!(giving.outcome(false), Outcome::Aborted);
        let mut taking = ReceiverHandover::new(1);
        taking.loaded(DeviceIdx(0));
        assert_eq!(taking.outcome(), Outcome::Aborted);
    }

    #[test]
    fn a_lost_answer_leaves_the_sender_in_doubt_unless_the_receiver_promised() {
        let mut giving = SenderHandover::new(1);
        giving.loaded(DeviceIdx(0));
        giving.commit();
        assert_eq!((giving.outcome(false), giving.outcome(true)), (Outcome::InDoubt, Outcome::Aborted));
        assert!(giving.committed() && giving.is_over());
        assert_eq!(giving.outcome(false), Outcome::Complete);
    }

    #[test]
    fn commit_before_everything_is_loaded_and_a_second_commit_are_refused() {
        let mut taking = ReceiverHandover::new(2);
        taking.loaded(DeviceIdx(0));
        assert!(!taking.commit());
        taking.loaded(DeviceIdx(1));
        assert!(taking.commit() && !taking.commit());
        taking.committed();
        assert_eq!(taking.outcome(), Outcome::Complete);
    }

    #[test]
    fn a_device_reported_twice_or_an_answer_to_nothing_is_refused() {
        let mut giving = SenderHandover::new(2);
        assert!(giving.loaded(DeviceIdx(0)) && !giving.loaded(DeviceIdx(0)) && !giving.committed());
    }

    proptest! {
        /// The link loses everything from some message on. Wherever it is cut, the two sides never both run the
        /// devices, and at least one side has the state.
        #[test]
        fn never_two_runners_and_never_none(devices in 1_usize..4, cut in 0_usize..10, resets in any::<bool>()) {
            let (mut giving, mut taking) = (SenderHandover::new(devices), ReceiverHandover::new(devices));
            let mut messages = 0;
            let mut arrives = || { messages += 1; messages <= cut };
            let mut promised = false;
            for device in 0..devices {
                taking.loaded(DeviceIdx::from_index(device));
                if arrives() { giving.loaded(DeviceIdx::from_index(device)); }
            }
            if giving.is_loaded() {
                giving.commit();
                if arrives() && taking.commit() {
                    if resets {
                        promised = arrives();
                    } else {
                        taking.committed();
                        if arrives() { giving.committed(); }
                    }
                }
            }
            let source_runs = giving.outcome(promised) == Outcome::Aborted;
            let destination_runs = taking.outcome() == Outcome::Complete;
            let source_keeps = giving.outcome(promised) != Outcome::Complete;
            prop_assert!(!(source_runs && destination_runs));
            prop_assert!(source_keeps || destination_runs);
        }
    }
}
