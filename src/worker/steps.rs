//! Steps of a device that may block, beside the loop: state changes, config state, syncing. Those of several devices
//! run in parallel, and heartbeats go on meanwhile.
//!
//! Nothing here knows what a step does. The invariant: a device is either here or lent to exactly one step, and comes
//! back even when the step panics.

use crate::numbers::DeviceIdx;
use std::sync::{Arc, Mutex, PoisonError};

use super::Worker;
use super::caller::{DeviceMoment, DeviceStep};
use super::guard::{Guarded, unless_panicked};
use super::operation::Operation;
use crate::buffer::Slot;
use crate::error::{DeviceError, Error, KernelError};
use crate::ring::Ring;
use crate::session::index_set::IndexSet;
use crate::source::Flow;
use crate::worker::finished::EndState;

/// What a step gives.
#[derive(Debug)]
pub(crate) enum StepOutput {
    Nothing,
    Flow(Flow),
    /// Where the device's last step has brought it.
    End(EndState),
    /// The slot that went with it, and bytes of payload in it.
    Slot(Slot, usize),
}

pub(crate) type StepResult = Result<StepOutput, DeviceError>;

/// One step of every device, and what it is to the caller, if anything.
pub(crate) type NamedStep<D> = (Option<DeviceStep>, fn(&mut D) -> StepResult);

type HandBack<D> = Arc<Mutex<Option<(Guarded<Box<D>>, StepResult)>>>;

/// A device that is either here or lent to a step; never to two.
struct Lent<D: ?Sized> {
    name: Box<str>,
    instance: u32,
    device: Option<Guarded<Box<D>>>,
    back: HandBack<D>,
    /// What the last step gave.
    result: Option<StepResult>,
    /// It has been in a step.
    touched: bool,
    /// What its step is to the caller, if anything.
    step: Option<DeviceStep>,
}

/// The devices of one side, by their number in the session.
pub(crate) struct Devices<D: ?Sized> {
    all: Vec<Lent<D>>,
    /// Devices that are lent to a step.
    away: IndexSet<DeviceIdx>,
}

impl<D: ?Sized + Send + 'static> Devices<D> {
    /// Names, instances, and the devices themselves.
    pub(crate) fn new(devices: impl Iterator<Item = (Box<str>, u32, Guarded<Box<D>>)>) -> Devices<D> {
        let all = devices.map(|(name, instance, device)| Lent {
            name,
            instance,
            device: Some(device),
            back: HandBack::default(),
            result: None,
            touched: false,
            step: None,
        });
        Devices { all: all.collect(), away: IndexSet::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// A device's name and instance.
    pub(crate) fn name(&self, device: DeviceIdx) -> (&str, u32) {
        let lent = &self.all[device.index()];
        (&lent.name, lent.instance)
    }

    /// Names and instances, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        self.all.iter().map(|lent| (&*lent.name, lent.instance))
    }

    /// Puts the devices into the order that `order` names: `order[k]` is where the new k-th is now.
    pub(crate) fn sort(&mut self, order: &[usize]) {
        assert!(self.away.is_empty(), "devices have their numbers before their first step");
        let mut old: Vec<Option<Lent<D>>> = self.all.drain(..).map(Some).collect();
        self.all.extend(order.iter().filter_map(|&at| old.get_mut(at).and_then(Option::take)));
    }

    /// Makes the threads of all steps: one for each device, and one for a job beside them.
    pub(crate) fn reserve_threads(&self, ring: &mut impl Ring) -> Result<(), KernelError> {
        ring.reserve_threads(self.all.len() + 1)
    }

    /// A device, unless a step has it.
    pub(crate) fn here(&mut self, device: DeviceIdx) -> Option<&mut D> {
        self.all[device.index()].device.as_mut().map(|device| &mut ***device)
    }

    /// Devices for good, with their names and instances; without those that a step has.
    pub(crate) fn into_devices(self) -> impl Iterator<Item = (Box<str>, u32, Box<D>)> {
        self.all.into_iter().filter_map(|lent| Some((lent.name, lent.instance, lent.device?.into_inner())))
    }

    /// Whether a device has been in a step.
    pub(crate) fn is_touched(&self, device: DeviceIdx) -> bool {
        self.all[device.index()].touched
    }

    /// Whether a step of some device is under way.
    pub(crate) fn is_any_away(&self) -> bool {
        !self.away.is_empty()
    }

    /// Begins a step of a device that is here; what it is to the caller, if anything.
    pub(crate) fn begin<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        device: DeviceIdx,
        name: Option<DeviceStep>,
        step: impl FnOnce(&mut D) -> StepResult + Send + 'static,
    ) {
        let lent = &mut self.all[device.index()];
        lent.step = name;
        if let Some(step) = name {
            worker.caller.tell_device((&lent.name, lent.instance), DeviceMoment::Begins(step));
        }
        let mut here = lent.device.take().expect("one step at a time");
        let back = Arc::clone(&lent.back);
        lent.result = None;
        lent.touched = true;
        self.away.insert(device);
        worker.ring.spawn(
            Operation::DeviceStep { device }.tag(),
            Box::new(move || {
                let result = unless_panicked(|| step(&mut **here));
                *back.lock().unwrap_or_else(PoisonError::into_inner) = Some((here, result));
            }),
        );
    }

    /// Begins one step of every device that is here. Which those are.
    pub(crate) fn begin_all<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        name: Option<DeviceStep>,
        step: fn(&mut D) -> StepResult,
    ) -> IndexSet<DeviceIdx> {
        let mut begun = IndexSet::default();
        for device in DeviceIdx::below(self.all.len()) {
            if !self.away.contains(device) {
                self.begin(worker, device, name, step);
                begun.insert(device);
            }
        }
        begun
    }

    /// A step has ended: the device is here again.
    pub(crate) fn on_step_end<R: Ring>(&mut self, worker: &mut Worker<R>, device: DeviceIdx) {
        let lent = &mut self.all[device.index()];
        if let Some(step) = lent.step.take() {
            worker.caller.tell_device((&lent.name, lent.instance), DeviceMoment::Ends(step));
        }
        match lent.back.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((here, result)) => {
                lent.device = Some(here);
                lent.result = Some(result);
                self.away.remove(device);
            }
            None => lent.result = Some(Err(DeviceError::Panicked)),
        }
    }

    /// What a device's last step gave, once.
    pub(crate) fn take_result(&mut self, device: DeviceIdx) -> Option<StepResult> {
        self.all[device.index()].result.take()
    }

    /// Whether the last step of every device has ended well. What the steps gave can still be taken.
    pub(crate) fn check_results(&mut self) -> Result<(), Error> {
        for lent in &mut self.all {
            if !matches!(lent.result, Some(Ok(_))) {
                let result = lent.result.take().unwrap_or(Err(DeviceError::Stuck));
                result.map_err(|error| Error::Device { device: lent.name.clone(), error })?;
            }
        }
        Ok(())
    }

    /// An error of a device.
    pub(crate) fn error(&self, device: DeviceIdx, error: DeviceError) -> Error {
        Error::Device { device: self.all[device.index()].name.clone(), error }
    }
}
