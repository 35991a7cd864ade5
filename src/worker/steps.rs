//! Steps of a device that may block, beside the loop: state changes, config state, syncing. Those of several devices run in
//! parallel, and heartbeats go on meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::buffer::Slot;
use crate::error::DeviceError;
use crate::ring::{Ring, Tag};
use crate::source::Flow;

/// What a step gives.
#[derive(Debug)]
pub(crate) enum StepOutput {
    Nothing,
    Flow(Flow),
    /// The slot that went with it, and bytes of payload in it.
    Slot(Slot, usize),
}

pub(crate) type StepResult = Result<StepOutput, DeviceError>;

type HandBack<D> = Arc<Mutex<Option<(Box<D>, StepResult)>>>;

/// An embedder's device may panic; it is ours to bring back all the same.
pub(crate) fn unless_panicked<T>(step: impl FnOnce() -> Result<T, DeviceError>) -> Result<T, DeviceError> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or(Err(DeviceError::Panicked))
}

/// A device that is either here or away in a step; never in two steps.
pub(crate) struct Lent<D: ?Sized> {
    device: Option<Box<D>>,
    back: HandBack<D>,
    /// What the last step gave.
    result: Option<StepResult>,
}

impl<D: ?Sized + Send + 'static> Lent<D> {
    pub(crate) fn new(device: Box<D>) -> Lent<D> {
        Lent { device: Some(device), back: HandBack::default(), result: None }
    }

    /// The device, unless a step has it.
    pub(crate) fn device(&mut self) -> Option<&mut D> {
        self.device.as_deref_mut()
    }

    /// The device for good, unless a step has it.
    pub(crate) fn into_device(self) -> Option<Box<D>> {
        self.device
    }

    pub(crate) fn is_away(&self) -> bool {
        self.device.is_none()
    }

    /// Begins a step. `ring` completes `tag` when it has ended.
    pub(crate) fn begin(
        &mut self,
        ring: &mut impl Ring,
        tag: Tag,
        step: impl FnOnce(&mut D) -> StepResult + Send + 'static,
    ) {
        let mut device = self.device.take().expect("one step at a time");
        let back = Arc::clone(&self.back);
        self.result = None;
        ring.spawn(
            tag,
            Box::new(move || {
                let result = unless_panicked(|| step(&mut *device));
                *back.lock().unwrap_or_else(PoisonError::into_inner) = Some((device, result));
            }),
        );
    }

    /// The step has ended: the device is here again.
    pub(crate) fn end(&mut self) {
        match self.back.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((device, result)) => {
                self.device = Some(device);
                self.result = Some(result);
            }
            None => self.result = Some(Err(DeviceError::Panicked)),
        }
    }

    /// What the last step gave, once.
    pub(crate) fn take_result(&mut self) -> Option<StepResult> {
        self.result.take()
    }
}
