//! The live receiver's public interface: like the native receiver's, with a QEMU at the other end.

use std::error;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Listener;
use super::gather::Gathered;
use super::receive;
use super::receive::{DIALECT, Parts, Receiving};
use crate::cancel::Cancel;
use crate::error::{Error, Misuse};
use crate::limits::{CHANNELS_DEFAULT, CHANNELS_MAX, POOL_SIZE_DEFAULT, POOL_SIZE_MAX};
use crate::net::Connection;
use crate::report::{Role, RunInfo};
use crate::ring;
use crate::ring::HostRing;
use crate::sink::Sink;
use crate::time::now;
use crate::wire::qemu::Idstr;
use crate::worker::caller::{Caller, Event};
use crate::worker::finished::Finished;
use crate::worker::hook;
use crate::worker::hook::Code;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::settings::Settings;
use crate::worker::writers::Device;
use crate::worker::{check_devices, join_sinks};

/// Where the connections come from.
enum Peer {
    Listener(Listener),
    Sockets { main: OwnedFd, multifd: Vec<OwnedFd> },
}

/// Receives the state of VFIO devices from a migrating QEMU, and nothing else of its virtual machine.
///
/// ```no_run
/// use ringlift::{Outcome, qemu, sink::VfioSink};
///
/// let listener = qemu::Listener::bind("127.0.0.1:4444".parse().unwrap()).unwrap();
/// let sink = VfioSink::open("0000:41:00.1").unwrap();
/// let receiver = qemu::Receiver::builder().device("0000:00:01.0/vfio", sink).listener(&listener).channels(4);
/// let finished = receiver.build().unwrap().run();
/// assert_eq!(finished.outcome, Outcome::Complete);
/// ```
pub struct Receiver {
    devices: Vec<Device>,
    peer: Peer,
    pool_size: u64,
    options: Options,
    settings: Settings,
}

struct Options {
    channels: usize,
    pool_size: Option<u64>,
    before_run: Option<Code>,
}

/// Builds a [`Receiver`]. Each method documents the default of its setting.
pub struct ReceiverBuilder {
    devices: Vec<Device>,
    peer: Option<Peer>,
    options: Options,
    settings: Settings,
}

impl Receiver {
    /// Starts building a receiver.
    pub fn builder() -> ReceiverBuilder {
        let options = Options { channels: CHANNELS_DEFAULT, pool_size: None, before_run: None };
        ReceiverBuilder { devices: Vec::new(), peer: None, options, settings: Settings::default() }
    }

    /// Waits for one migration and receives it on this thread, until it completes or fails. Afterwards the devices run
    /// what was loaded (complete), or are reset (aborted).
    pub fn run(mut self) -> Finished {
        let mut builder = ReportBuilder::new(now(), self.devices.len());
        builder.run(self.settings.run());
        builder.dialect(DIALECT);
        builder.untouched(self.devices.iter().map(|device| (&*device.name, device.instance)));
        let panics = self.settings.panics();
        match self.begin() {
            Ok(receiving) => receiving.run(),
            Err(error) => builder.not_begun(Role::Receiver, error, &panics),
        }
    }

    /// Gathers the connections and creates the worker.
    fn begin(mut self) -> Result<Receiving<HostRing>, Error> {
        let Options { channels, before_run, .. } = self.options;
        let mut caller = self.settings.waiting_caller();
        let gathered = meet(self.peer, channels, self.settings.congestion(), &mut caller)?;
        caller.deadline = self.settings.deadline_from(now());
        let ring = ring::open(&caller.cancel)?;
        let congestion = gathered.congestion();
        let Gathered { main, multifd, .. } = gathered;
        let parts =
            Parts { main, multifd, devices: self.devices, pool_size: self.pool_size, before_run, caller };
        let mut receiving = Receiving::new(ring, parts)?;
        receiving.note_connection();
        receiving.report_builder().congestion(congestion, false);
        Ok(receiving)
    }
}

fn meet(
    peer: Peer,
    channels: usize,
    congestion: Option<&str>,
    caller: &mut Caller,
) -> Result<Gathered, Error> {
    match peer {
        Peer::Listener(listener) => {
            if let Some(name) = congestion {
                listener.check_congestion(name)?;
            }
            listener.gather_for(caller, channels, congestion)
        }
        Peer::Sockets { main, multifd } => {
            let gathered = Gathered {
                main: main.into(),
                multifd: multifd.into_iter().map(Connection::from).collect(),
                uuid: None,
            };
            gathered.begin_for(caller, congestion)?;
            Ok(gathered)
        }
    }
}

impl ReceiverBuilder {
    /// Adds a device under QEMU's name for it: its bus address in the guest followed by `/vfio`, as in
    /// `0000:00:01.0/vfio`.
    pub fn device(self, idstr: impl AsRef<str>, sink: impl Sink + 'static) -> ReceiverBuilder {
        self.boxed_device(idstr, Box::new(sink))
    }

    /// Adds a device whose kind is known only at run time.
    pub fn boxed_device(mut self, idstr: impl AsRef<str>, sink: Box<dyn Sink>) -> ReceiverBuilder {
        self.devices.push(Device::new(idstr.as_ref(), 0, sink));
        self
    }

    /// How long everything up to SHUT may take, from when all connections are there. What takes longer is reset. No bound
    /// unless set.
    pub fn deadline(mut self, deadline: Duration) -> ReceiverBuilder {
        self.settings.set_deadline(deadline);
        self
    }

    /// Sets the instance number of the device that was added last; 0 unless set. QEMU leaves it 0 for devices with a
    /// bus address of their own.
    pub fn instance(mut self, instance: u32) -> ReceiverBuilder {
        self.devices.iter_mut().next_back().into_iter().for_each(|device| device.instance = instance);
        self
    }

    /// Receives the next migration that arrives at a listener.
    pub fn listener(mut self, listener: &Listener) -> ReceiverBuilder {
        self.peer = Some(Peer::Listener(listener.clone()));
        self
    }

    /// Uses stream sockets that are already connected: the main connection from its first byte on, and the multifd
    /// connections in the order of their numbers, each with its init already read.
    pub fn sockets(mut self, main: OwnedFd, multifd: Vec<OwnedFd>) -> ReceiverBuilder {
        self.options.channels = multifd.len();
        self.peer = Some(Peer::Sockets { main, multifd });
        self
    }

    /// Multifd connections to wait for: the source's parameter `multifd-channels`, or 0 when its multifd capability is
    /// off. 2 unless set, as in QEMU.
    pub fn channels(mut self, channels: usize) -> ReceiverBuilder {
        self.options.channels = channels;
        self
    }

    /// Called when every device has all of its state, has accepted it and is ready to run, before the source is told that
    /// it may let go (SHUT): restore the rest of the virtual machine here. An error aborts the migration
    /// ([`Error::HookRefused`]): the devices are reset, and the source resumes its guest. It runs on a thread of its own
    /// for as long as it needs. A migration that ends during it waits for it to return before it touches a device, and
    /// before `run` returns. A panic in it aborts as an error does ([`Finished::panic`]).
    pub fn before_run<E>(mut self, hook: impl FnOnce() -> Result<(), E> + Send + 'static) -> ReceiverBuilder
    where
        E: Into<Box<dyn error::Error + Send + Sync>>,
    {
        self.options.before_run = Some(hook::code(hook));
        self
    }

    /// The size of the buffer pool in bytes. 64 MiB unless set, or more where devices need it: about a megabyte each, and the
    /// main connection another.
    pub fn pool_size(mut self, bytes: u64) -> ReceiverBuilder {
        self.options.pool_size = Some(bytes);
        self
    }

    /// The TCP congestion control. The host's default unless set.
    pub fn congestion(mut self, name: impl AsRef<str>) -> ReceiverBuilder {
        self.settings.set_congestion(name.as_ref());
        self
    }

    /// Is called with every event, on the thread that runs the migration, so it must return quickly.
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

    /// Cancels the migration when `cancel` is used, unless the devices already run or are about to.
    pub fn cancel(mut self, cancel: &Cancel) -> ReceiverBuilder {
        self.settings.set_cancel(cancel);
        self
    }

    /// Checks the settings.
    pub fn build(mut self) -> Result<Receiver, Misuse> {
        check_devices(self.devices.iter().map(|device| (&*device.name, device.instance)))?;
        if self.devices.iter().any(|device| Idstr::try_from(&*device.name).is_err()) {
            return Err(Misuse::BadName);
        }
        let Options { channels, pool_size, .. } = self.options;
        if channels > CHANNELS_MAX {
            return Err(Misuse::BadChannels { given: channels });
        }
        let needed = receive::pool_for(self.devices.len());
        let pool_size = pool_size.unwrap_or_else(|| POOL_SIZE_DEFAULT.max(needed));
        if !(needed..=POOL_SIZE_MAX).contains(&pool_size) {
            return Err(Misuse::BadPool { given: pool_size, needed });
        }
        join_sinks(&mut self.devices)?;
        let peer = self.peer.ok_or(Misuse::NoPeer)?;
        let ReceiverBuilder { devices, options, settings, .. } = self;
        Ok(Receiver { devices, peer, pool_size, options, settings })
    }
}
