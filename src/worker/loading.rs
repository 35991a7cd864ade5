//! What every receiver does with all of its devices at once: a step of each in parallel, letting them run, resetting them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::ending::Ending;
use super::operation::Operation;
use super::steps::{StepOutput, StepResult};
use super::writers::{Loader, Writer, Writing};
use crate::error::{DeviceError, Error};
use crate::limits::SETTLE_MAX;
use crate::ring::{Completion, Ring};
use crate::sink::Sink;
use crate::time::nanos;
use crate::transfer::Finished;

/// A side that loads devices.
pub(crate) trait Loading: Ending {
    fn loader(&mut self) -> &mut Loader<Self::Ring>;

    /// One turn of the loop: looks around, begins what can be begun, waits, takes what ended.
    fn turn(&mut self) -> Result<(), Error>;

    /// Whether the devices are ours, whatever happens to the peer.
    fn is_committed(&self) -> bool;

    /// The list of phases.
    fn transfer(&mut self) -> Result<(), Error>;

    /// Leaves every device running what was loaded, or reset.
    fn conclude(self, result: Result<(), Error>) -> Finished;

    /// Runs the transfer to whatever end.
    fn run(mut self) -> Finished
    where
        Self: Sized,
    {
        match catch_unwind(AssertUnwindSafe(|| self.transfer())) {
            Ok(result) => self.conclude(result),
            Err(panic) => {
                // the owner's own code, a hook or an event: the devices come first, then the panic goes on
                self.loader().owner.on_event = None;
                self.conclude(Err(Error::Cancelled));
                resume_unwind(panic)
            }
        }
    }

    /// Runs one step of every device, in parallel, and waits for all of them. Once the devices are ours nothing
    /// interrupts it (P-37).
    fn every(&mut self, step: fn(&mut (dyn Sink + 'static)) -> StepResult) -> Result<(), Error> {
        self.loader().begin_steps(step);
        let end = self.ring().now() + nanos(SETTLE_MAX);
        while self.loader().is_stepping() && self.ring().now() < end {
            match self.turn() {
                Err(_) if self.is_committed() => {
                    self.ring().wait(Some(end))?;
                    self.drain();
                }
                turned => turned?,
            }
        }
        for writer in &mut self.loader().writers {
            let result = writer.held.take_result().unwrap_or(Err(DeviceError::Stuck));
            result.map_err(|error| Error::Device { device: writer.name.clone(), error })?;
        }
        Ok(())
    }

    /// Lets every device run.
    fn wake_and_run(&mut self) -> Result<(), Error> {
        self.every(|sink| sink.wake().map(|()| StepOutput::Nothing))?;
        self.every(|sink| sink.run().map(|()| StepOutput::Nothing))
    }

    /// Resets every device. True when all of them are.
    fn roll_back(&mut self) -> bool {
        let end = self.ring().now() + nanos(SETTLE_MAX);
        let loader = self.loader();
        let under_way = |writer: &Writer| matches!(writer.writing, Writing::UnderWay { .. });
        for (device, _) in loader.writers.iter().enumerate().filter(|(_, writer)| under_way(writer)) {
            loader.ring.cancel(Operation::DeviceState { device }.tag());
        }
        let busy = |writer: &Writer| writer.held.is_away() || (writer.fd.is_some() && under_way(writer));
        while self.loader().writers.iter().any(busy)
            && self.ring().now() < end
            && self.ring().wait(Some(end)).is_ok()
        {
            self.drain();
        }
        let loader = self.loader();
        loader.writers.iter_mut().for_each(|writer| drop(writer.held.take_result()));
        loader.begin_steps(|sink| sink.rollback().map(|()| StepOutput::Nothing));
        while self.loader().is_stepping() && self.ring().now() < end {
            if self.ring().wait(Some(end)).is_err() {
                break;
            }
            while let Some(completion) = self.ring().next() {
                match completion {
                    Completion::Done { tag } => {
                        let Operation::DeviceStep { device } = Operation::of(tag) else { continue };
                        self.loader().writers[device].held.end();
                    }
                    other => drop(self.on_completion(other)),
                }
            }
        }
        self.loader().judge_rollback()
    }
}

impl<R: Ring> Loader<R> {
    /// Whether every device is reset; warns of those that are not, and of those that keep what they were given.
    fn judge_rollback(&mut self) -> bool {
        let mut all = true;
        for writer in &mut self.writers {
            let result = writer.held.take_result().unwrap_or(Err(DeviceError::Stuck));
            all &= result.is_ok();
            self.account.parted(&writer.name, result.err());
            let keeps = writer.held.device().is_some_and(|sink| sink.keeps_written());
            self.account.kept(&writer.name, keeps && writer.written > 0);
        }
        all
    }
}
