//! The receiver as an embedder sees it: the mirror image of the sender.

use std::error;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::receive::offered::DevicesBy;
use super::receive::{Parts, Receiving};
use crate::cancel::Cancel;
use crate::error::{DeviceError, Error, Misuse};
use crate::limits::{POOL_SIZE_MAX, POOL_SIZE_TRUSTED};
#[cfg(feature = "listener")]
use crate::net::Listener;
use crate::net::{Connections, sockets};
use crate::report::{Role, RunInfo};
use crate::ring;
use crate::ring::HostRing;
use crate::sink::Sink;
use crate::time::now;
use crate::wire::DeviceOffer;
use crate::worker::caller::{Caller, Event};
use crate::worker::finished::Finished;
use crate::worker::guard::Guarded;
use crate::worker::hook;
use crate::worker::hook::Code;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::settings::Settings;
use crate::worker::writers::Device;
use crate::worker::{check_devices, join_sinks};

/// How the peer comes.
enum Peer {
    #[cfg(feature = "listener")]
    Listener(Listener),
    Sockets {
        control: OwnedFd,
        data: Vec<OwnedFd>,
    },
}

/// Takes devices' state from a [`Sender`](crate::Sender).
///
/// ```no_run
/// use ringlift::{Listener, Outcome, Receiver, sink::Verify};
///
/// let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
/// println!("listening on {}", listener.local_addr());
/// let finished = Receiver::builder().device("net0", Verify::new()).listener(&listener).build().unwrap().run();
/// assert_eq!(finished.outcome, Outcome::Complete);
/// ```
pub struct Receiver {
    devices: Vec<Device>,
    devices_by: Option<DevicesBy>,
    peer: Peer,
    pool_max: u64,
    before_run: Option<Code>,
    settings: Settings,
}

/// Builds a [`Receiver`]. What is not set has the value that its method names.
pub struct ReceiverBuilder {
    devices: Vec<Device>,
    devices_by: Option<DevicesBy>,
    peer: Option<Peer>,
    pool_max: u64,
    before_run: Option<Code>,
    settings: Settings,
}

impl Receiver {
    /// Begins to describe a receiver.
    pub fn builder() -> ReceiverBuilder {
        ReceiverBuilder {
            devices: Vec::new(),
            devices_by: None,
            peer: None,
            pool_max: POOL_SIZE_TRUSTED,
            before_run: None,
            settings: Settings::default(),
        }
    }

    /// Waits for one transfer and runs it on this thread, to whatever end. Afterwards the devices run what was loaded
    /// (complete), or are reset (aborted).
    pub fn run(mut self) -> Finished {
        let mut report = ReportBuilder::new(now(), self.devices.len());
        report.run(self.settings.run());
        report.untouched(self.devices.iter().map(|device| (&*device.name, device.instance)));
        let panics = self.settings.panics();
        match self.begin() {
            Ok(receiving) => receiving.run(),
            Err(error) => report.not_begun(Role::Receiver, error, &panics),
        }
    }

    /// The worker, whose connections are there.
    fn begin(mut self) -> Result<Receiving<HostRing>, Error> {
        let mut caller = self.settings.waiting_caller();
        let connections = meet(self.peer, self.settings.congestion(), &mut caller)?;
        caller.deadline = self.settings.deadline_from(now());
        let (peer, session) = (connections.peer(), Some(connections.session));
        caller.tell(&Event::Connected { peer, channels: connections.channels(), session });
        let ring = ring::open(&caller.cancel)?;
        let congestion = connections.congestion();
        let parts = Parts {
            control: connections.control,
            data: connections.data,
            opening: connections.opening,
            busy: connections.busy,
            devices: self.devices,
            devices_by: self.devices_by,
            pool_max: self.pool_max,
            before_run: self.before_run,
            same_clock: connections.same_clock,
            caller,
        };
        let mut receiving = Receiving::new(ring, parts)?;
        receiving.note_connection(session);
        receiving.report_builder().congestion(congestion, false);
        Ok(receiving)
    }
}

fn meet(peer: Peer, congestion: Option<&str>, caller: &mut Caller) -> Result<Connections, Error> {
    let (cancel, panics) = (caller.cancel.clone(), caller.panics.clone());
    let wants_end = || cancel.is_cancelled() || panics.check().is_err();
    let connections = match peer {
        #[cfg(feature = "listener")]
        Peer::Listener(listener) => {
            if let Some(name) = congestion {
                listener.check_congestion(name)?;
            }
            listener.next(&wants_end, &mut |peer, error| caller.tell(&Event::Rejected { peer, error }))
        }
        Peer::Sockets { control, data } => sockets::welcome(control, data, &wants_end),
    };
    connections.map_err(|error| caller.reason(error))?.use_congestion(congestion)
}

impl ReceiverBuilder {
    /// Adds a device. The sender must have one of the same name.
    pub fn device(self, name: impl AsRef<str>, sink: impl Sink + 'static) -> ReceiverBuilder {
        self.boxed_device(name, Box::new(sink))
    }

    /// Adds a device whose kind is known only at run time.
    pub fn boxed_device(mut self, name: impl AsRef<str>, sink: Box<dyn Sink>) -> ReceiverBuilder {
        self.devices.push(Device::new(name.as_ref(), 0, sink));
        self
    }

    /// Gives the device that was added last another instance number than 0: devices may share a name.
    pub fn instance(mut self, instance: u32) -> ReceiverBuilder {
        self.devices.iter_mut().next_back().into_iter().for_each(|device| device.instance = instance);
        self
    }

    /// Opens a sink for each device of the sender, whichever it has: for a process that learns from the sender what is to
    /// be loaded. Given in place of devices, it is called once for each device of an offer, in the sender's order, when
    /// everything else about the offer is agreed and before anything is made for it. Names have 1 to 255 bytes of printable
    /// text and differ in name or instance; there are at most [`DEVICES_MAX`](crate::limits::DEVICES_MAX).
    ///
    /// `Ok(None)` means that there is no such device here: the sender is refused as it is where devices were given by name
    /// ([`Refusal::DeviceMismatch`](crate::error::Refusal::DeviceMismatch)). An error is that of the device, and the sender
    /// is refused with it ([`Refusal::NotReady`](crate::error::Refusal::NotReady)). Either way no device was touched at
    /// either side, and sinks that were opened before are dropped without a call.
    ///
    /// ```no_run
    /// use ringlift::Receiver;
    /// use ringlift::sink::{Sink, VfioSink};
    ///
    /// # fn card_of(name: &str) -> Option<std::path::PathBuf> { None }
    /// let receiver = Receiver::builder().devices_by(|offered| match card_of(&offered.name) {
    ///     Some(path) => Ok(Some(Box::new(VfioSink::open(&path)?) as Box<dyn Sink>)),
    ///     None => Ok(None),
    /// });
    /// ```
    ///
    /// Whoever reaches the listener chooses the names: never make a path of one, and open nothing that the sender should not
    /// have. It runs on a thread of its own; heartbeats go on meanwhile, and the sender waits
    /// [`STANDSTILL_MAX`](crate::limits::STANDSTILL_MAX) for all of them. A transfer that ends during it waits for it to
    /// return, as for [`before_run`](ReceiverBuilder::before_run), and a panic in it aborts the transfer
    /// ([`Finished::panic`]).
    pub fn devices_by(
        mut self,
        open: impl FnMut(&DeviceOffer) -> Result<Option<Box<dyn Sink>>, DeviceError> + Send + 'static,
    ) -> ReceiverBuilder {
        self.devices_by = Some(Guarded::new(Box::new(open)));
        self
    }

    /// Takes the next session that comes to a listener. For the one after it, a new receiver is built on the same
    /// listener.
    #[cfg(feature = "listener")]
    pub fn listener(mut self, listener: &Listener) -> ReceiverBuilder {
        self.peer = Some(Peer::Listener(listener.clone()));
        self
    }

    /// Uses stream sockets that are connected already: one for control, and the data connections in any order. The sender's
    /// `run` must begin within 5 s of this one's.
    pub fn sockets(mut self, control: OwnedFd, data: Vec<OwnedFd>) -> ReceiverBuilder {
        self.peer = Some(Peer::Sockets { control, data });
        self
    }

    /// Bytes of the largest pool that is made because the sender asks for it. 1 GiB unless set.
    pub fn pool_max(mut self, bytes: u64) -> ReceiverBuilder {
        self.pool_max = bytes;
        self
    }

    /// Called when every device has all of its state, has accepted it and is ready to run, and before the sender is told:
    /// the last *loaded* is held back until this has agreed, so when the sender's
    /// [`before_commit`](crate::SenderBuilder::before_commit) is called, this side's machine has agreed. Restore the
    /// rest of the virtual machine here. An error aborts the transfer ([`Error::HookRefused`]): the sender learns the
    /// reason and has its devices back, and the devices here are reset. After it the devices run on Commit alone.
    ///
    /// ```no_run
    /// # use ringlift::ReceiverBuilder;
    /// # struct Machine;
    /// # impl Machine { fn restore(&self) -> std::io::Result<()> { Ok(()) } }
    /// # fn build(receiver: ReceiverBuilder, machine: std::sync::Arc<Machine>) {
    /// let receiver = receiver.before_run(move || machine.restore());
    /// # }
    /// ```
    ///
    /// It runs on a thread of its own for as long as it needs, and heartbeats go on meanwhile; the sender waits for
    /// its [`downtime_max`](crate::SenderBuilder::downtime_max), and an hour at most
    /// ([`HOOK_MAX`](crate::limits::HOOK_MAX)). A transfer that ends during it tells its peer, but waits for it to return
    /// before it touches a device, and before `run` returns: watch the transfer's [`Cancel`], or one of its own. A panic
    /// in it aborts as an error does ([`Finished::panic`]).
    pub fn before_run<E>(mut self, hook: impl FnOnce() -> Result<(), E> + Send + 'static) -> ReceiverBuilder
    where
        E: Into<Box<dyn error::Error + Send + Sync>>,
    {
        self.before_run = Some(hook::code(hook));
        self
    }

    /// The TCP congestion control. The host's own unless set.
    pub fn congestion(mut self, name: impl AsRef<str>) -> ReceiverBuilder {
        self.settings.set_congestion(name.as_ref());
        self
    }

    /// How long everything up to Commit may take, from when the sender's connections are there. What takes longer is reset.
    /// No bound unless set.
    pub fn deadline(mut self, deadline: Duration) -> ReceiverBuilder {
        self.settings.set_deadline(deadline);
        self
    }

    /// Hears of what happens, on the thread that runs the transfer: be quick.
    pub fn on_event(mut self, on_event: impl FnMut(&Event) + Send + 'static) -> ReceiverBuilder {
        self.settings.set_on_event(on_event);
        self
    }

    /// Tells [`on_event`](Self::on_event) what moved in each interval of this length: [`Event::Interval`]. Shorter ones than
    /// the report's ([`INTERVAL`](crate::limits::INTERVAL)) last as long as these. No intervals unless set.
    pub fn interval(mut self, interval: Duration) -> ReceiverBuilder {
        self.settings.set_interval(interval);
        self
    }

    /// Which run of an experiment this is: the report says so. Nothing else depends on it.
    pub fn run(mut self, run: RunInfo) -> ReceiverBuilder {
        self.settings.set_run(run);
        self
    }

    /// Keeps what became of each packet and when, for so many packets, as [`Finished::trace`]: of more than that the last ones,
    /// and of more than [`TRACE_PACKETS_MAX`](crate::limits::TRACE_PACKETS_MAX) no more than those. Nothing is kept unless set.
    pub fn trace(mut self, packets: usize) -> ReceiverBuilder {
        self.settings.set_trace(packets);
        self
    }

    /// Cancels the transfer when `cancel` is used.
    pub fn cancel(mut self, cancel: &Cancel) -> ReceiverBuilder {
        self.settings.set_cancel(cancel);
        self
    }

    /// Checks what was described.
    pub fn build(mut self) -> Result<Receiver, Misuse> {
        match &self.devices_by {
            Some(_) if self.devices.is_empty() => {}
            Some(_) => return Err(Misuse::DevicesTwice),
            None => check_devices(self.devices.iter().map(|device| (&*device.name, device.instance)))?,
        }
        if self.pool_max > POOL_SIZE_MAX {
            return Err(Misuse::BadPool { given: self.pool_max, needed: 0 });
        }
        join_sinks(&mut self.devices)?;
        let peer = self.peer.ok_or(Misuse::NoPeer)?;
        let ReceiverBuilder { devices, devices_by, pool_max, before_run, settings, .. } = self;
        Ok(Receiver { devices, devices_by, peer, pool_max, before_run, settings })
    }
}
