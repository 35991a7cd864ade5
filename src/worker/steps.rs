//! Steps of a device: state changes, config state, syncing. Those that may block run beside the loop, those of several
//! devices in parallel, and heartbeats go on meanwhile; those that the device calls instant are carried out by the loop
//! itself, because handing one to a thread costs more than all of it.
//!
//! Nothing here knows what a step does. The invariant: a device is either here or lent to exactly one step, and comes
//! back even when the step panics. Every step ends in a completion, whoever carried it out, so the rest of the worker
//! does not know the difference.

use crate::numbers::DeviceIdx;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Worker;
use super::caller::{DeviceMoment, DeviceStep};
use super::guard::{Guarded, unless_panicked};
use super::operation::Operation;
use super::report_builder::timeline::Span;
use crate::buffer::Slot;
use crate::error::{DeviceError, Error, KernelError};
use crate::limits::{ARCS_MAX, JOB_THREADS_MAX};
use crate::ring::Ring;
use crate::session::index_set::IndexSet;
use crate::sink::Sink;
use crate::source::{Flow, PreCopyInfo, Source};
use crate::time::Nanos;
use crate::vfio::ArcTime;
use crate::worker::finished::EndState;

/// What a step gives.
#[derive(Debug)]
pub(crate) enum StepOutput {
    Nothing,
    Flow(Flow),
    /// What pre-copy could still read, if the device can tell.
    PreCopyInfo(Option<PreCopyInfo>),
    /// Where the device's last step has brought it.
    End(EndState),
    /// The slot that went with it, and bytes of payload in it.
    Slot(Slot, usize),
}

pub(crate) type StepResult = Result<StepOutput, DeviceError>;

/// One step of every device, and its name.
pub(crate) type NamedStep<D> = (DeviceStep, fn(&mut D) -> StepResult);

/// What comes back from a step: the device, what the step gave, and the changes of state in it.
type HandBack<D> = Arc<Mutex<Option<(Guarded<Box<D>>, StepResult, Vec<ArcTime>)>>>;

/// A device that is taken through steps.
pub(crate) trait HasSteps {
    /// All its steps.
    const STEPS: &[DeviceStep];

    fn is_instant(&self, step: DeviceStep) -> bool;
    fn take_arcs(&mut self) -> Vec<ArcTime>;
}

impl HasSteps for dyn Source {
    const STEPS: &[DeviceStep] = &[
        DeviceStep::Start,
        DeviceStep::PreCopyInfo,
        DeviceStep::Quiesce,
        DeviceStep::Stop,
        DeviceStep::Config,
        DeviceStep::Release,
        DeviceStep::Rollback,
        DeviceStep::Park,
    ];

    fn is_instant(&self, step: DeviceStep) -> bool {
        Source::is_instant(self, step)
    }

    fn take_arcs(&mut self) -> Vec<ArcTime> {
        Source::take_arcs(self)
    }
}

impl HasSteps for dyn Sink {
    const STEPS: &[DeviceStep] =
        &[DeviceStep::Prepare, DeviceStep::Load, DeviceStep::PreRun, DeviceStep::Run, DeviceStep::Rollback];

    fn is_instant(&self, step: DeviceStep) -> bool {
        Sink::is_instant(self, step)
    }

    fn take_arcs(&mut self) -> Vec<ArcTime> {
        Sink::take_arcs(self)
    }
}

/// The steps that a device calls instant. One that panics when it is asked has none.
fn instant_steps<D: ?Sized + HasSteps>(device: &D) -> Vec<DeviceStep> {
    let is_instant = |step: &DeviceStep| unless_panicked(|| Ok(device.is_instant(*step))).unwrap_or(false);
    D::STEPS.iter().copied().filter(is_instant).collect()
}

/// A step that has begun.
struct UnderWay {
    step: DeviceStep,
    begin: Nanos,
    /// When an instant one was over.
    end: Option<Nanos>,
}

/// A device that is either here or lent to a step; never to two.
struct Lent<D: ?Sized> {
    name: Box<str>,
    instance: u32,
    device: Option<Guarded<Box<D>>>,
    back: HandBack<D>,
    /// The steps that need no thread.
    instant: Vec<DeviceStep>,
    /// What the last step gave.
    result: Option<StepResult>,
    /// It has been in a step.
    touched: bool,
    /// The step that it is in.
    under_way: Option<UnderWay>,
}

/// The devices of one side, by their number in the session.
pub(crate) struct Devices<D: ?Sized> {
    all: Vec<Lent<D>>,
    /// Devices that are lent to a step.
    away: IndexSet<DeviceIdx>,
}

impl<D: ?Sized + HasSteps + Send + 'static> Devices<D> {
    /// Names, instances, and the devices themselves.
    pub(crate) fn new(devices: impl Iterator<Item = (Box<str>, u32, Guarded<Box<D>>)>) -> Devices<D> {
        let all = devices.map(|(name, instance, device)| Lent {
            name,
            instance,
            instant: instant_steps(&**device),
            device: Some(device),
            back: HandBack::default(),
            result: None,
            touched: false,
            under_way: None,
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

    /// Makes the threads of all steps: one for each device that has a step which may block, so that all of those can be
    /// under way at once, and one for a job beside them.
    pub(crate) fn reserve_threads(&self, ring: &mut impl Ring) -> Result<(), KernelError> {
        let may_block = |lent: &&Lent<D>| lent.instant.len() < D::STEPS.len();
        let count = self.all.iter().filter(may_block).count() + 1;
        assert!(count <= JOB_THREADS_MAX, "a session has no more devices");
        ring.reserve_threads(count)
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

    /// Begins a step of a device that is here.
    pub(crate) fn begin<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        device: DeviceIdx,
        name: DeviceStep,
        step: impl FnOnce(&mut D) -> StepResult + Send + 'static,
    ) {
        let lent = &mut self.all[device.index()];
        worker.caller.tell_device((&lent.name, lent.instance), DeviceMoment::Begins(name));
        let mut under_way = UnderWay { step: name, begin: worker.ring.now(), end: None };
        let mut here = lent.device.take().expect("one step at a time");
        let back = Arc::clone(&lent.back);
        lent.result = None;
        lent.touched = true;
        self.away.insert(device);
        let job = move || {
            let result = unless_panicked(|| step(&mut **here));
            let arcs = unless_panicked(|| Ok(here.take_arcs())).unwrap_or_default();
            *back.lock().unwrap_or_else(PoisonError::into_inner) = Some((here, result, arcs));
        };
        let tag = Operation::DeviceStep { device }.tag();
        if lent.instant.contains(&name) {
            job();
            under_way.end = Some(worker.ring.now());
            worker.ring.complete(tag);
        } else {
            worker.ring.spawn(tag, Box::new(job));
        }
        lent.under_way = Some(under_way);
    }

    /// Begins one step of every device that is here. Which those are.
    pub(crate) fn begin_all<R: Ring>(
        &mut self,
        worker: &mut Worker<R>,
        name: DeviceStep,
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
        let mut arcs = Vec::new();
        match lent.back.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((here, result, changes)) => {
                lent.device = Some(here);
                lent.result = Some(result);
                self.away.remove(device);
                arcs = changes;
            }
            None => lent.result = Some(Err(DeviceError::Panicked)),
        }
        self.note(worker, device, &arcs);
    }

    /// Notes a step that has ended, and the changes of state in it, and tells the caller.
    fn note<R: Ring>(&mut self, worker: &mut Worker<R>, device: DeviceIdx, arcs: &[ArcTime]) {
        let lent = &mut self.all[device.index()];
        let Some(UnderWay { step, begin, end }) = lent.under_way.take() else { return };
        let span = Span { begin, end: end.unwrap_or_else(|| worker.ring.now()) };
        let name = (&*lent.name, lent.instance);
        for arc in arcs.iter().take(ARCS_MAX) {
            // a device's own clock may be another one
            let begin_ns = arc.begin_ns.clamp(span.begin, span.end);
            let arc = ArcTime { begin_ns, end_ns: arc.end_ns.clamp(begin_ns, span.end), ..*arc };
            worker.report.timeline.arc(device, arc);
            let took = Duration::from_nanos(arc.end_ns - begin_ns);
            worker.caller.tell_device(name, DeviceMoment::Arc { from: arc.from, to: arc.to, took });
        }
        worker.report.timeline.step(device, step, span);
        worker.caller.tell_device(name, DeviceMoment::Ends(step));
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
