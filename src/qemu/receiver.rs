//! The live receiver as an embedder sees it: our own receiver, with a QEMU at the other end.

use std::os::fd::OwnedFd;

use super::Listener;
use super::gather::Gathered;
use super::receive;
use super::receive::{DIALECT, Parts, Receiving};
use crate::cancel::Cancel;
use crate::error::{Error, Misuse};
use crate::limits::{CHANNELS_DEFAULT, CHANNELS_MAX, POOL_SIZE_DEFAULT, POOL_SIZE_MAX};
use crate::net::Connection;
use crate::report::Role;
use crate::ring;
use crate::ring::HostRing;
use crate::sink::Sink;
use crate::time::{Nanos, now};
use crate::transfer::Finished;
use crate::wire::qemu::Idstr;
use crate::worker::caller::{Caller, Event};
use crate::worker::check_devices;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::settings::Settings;
use crate::worker::writers::Device;

/// How the source comes.
enum Peer {
    Listener(Listener),
    Sockets { main: OwnedFd, multifd: Vec<OwnedFd> },
}

/// Takes VFIO devices' state from a QEMU that migrates, and nothing else of its virtual machine.
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
    options: Options,
    settings: Settings,
}

struct Options {
    channels: usize,
    pool_size: u64,
}

/// Builds a [`Receiver`]. What is not set has the value that its method names.
pub struct ReceiverBuilder {
    devices: Vec<Device>,
    peer: Option<Peer>,
    options: Options,
    settings: Settings,
}

impl Receiver {
    /// Begins to describe a receiver.
    pub fn builder() -> ReceiverBuilder {
        let options = Options { channels: CHANNELS_DEFAULT, pool_size: POOL_SIZE_DEFAULT };
        ReceiverBuilder { devices: Vec::new(), peer: None, options, settings: Settings::default() }
    }

    /// Waits for one migration and takes it on this thread, to whatever end. Afterwards the devices run what was loaded
    /// (complete), or are reset (aborted).
    pub fn run(self) -> Finished {
        let mut account = ReportBuilder::new(now(), self.devices.len());
        account.dialect(DIALECT);
        match self.begin(account.started_at) {
            Ok(receiving) => receiving.run(),
            Err(error) => Finished::not_begun(account, Role::Receiver, error),
        }
    }

    /// The worker, whose connections are there.
    fn begin(mut self, begun: Nanos) -> Result<Receiving<HostRing>, Error> {
        let Options { channels, pool_size } = self.options;
        let mut owner = self.settings.connecting_owner(begun);
        let gathered = meet(self.peer, channels, self.settings.congestion(), &mut owner)?;
        let ring = ring::open(&owner.cancel)?;
        let congestion = gathered.congestion();
        let Gathered { main, multifd, .. } = gathered;
        let parts = Parts { main, multifd, devices: self.devices, pool_size, caller: owner };
        let mut receiving = Receiving::new(ring, parts)?;
        receiving.account().congestion(congestion, false);
        Ok(receiving)
    }
}

fn meet(
    peer: Peer,
    channels: usize,
    congestion: Option<&str>,
    owner: &mut Caller,
) -> Result<Gathered, Error> {
    match peer {
        Peer::Listener(listener) => {
            if let Some(name) = congestion {
                listener.check_congestion(name)?;
            }
            listener.gather_for(owner, channels, congestion)
        }
        Peer::Sockets { main, multifd } => {
            let gathered = Gathered {
                main: main.into(),
                multifd: multifd.into_iter().map(Connection::from).collect(),
                uuid: None,
            };
            gathered.begin_for(owner, congestion)?;
            Ok(gathered)
        }
    }
}

impl ReceiverBuilder {
    /// Adds a device by the name that QEMU gives it: the path of its place in the guest and `/vfio`, as in
    /// `0000:00:01.0/vfio`.
    pub fn device(self, idstr: impl AsRef<str>, sink: impl Sink + 'static) -> ReceiverBuilder {
        self.boxed_device(idstr, Box::new(sink))
    }

    /// Adds a device whose kind is known only at run time.
    pub fn boxed_device(mut self, idstr: impl AsRef<str>, sink: Box<dyn Sink>) -> ReceiverBuilder {
        self.devices.push(Device { name: idstr.as_ref().into(), instance: 0, sink });
        self
    }

    /// Gives the device that was added last another instance number than 0. QEMU gives none to devices with a place of
    /// their own.
    pub fn instance(mut self, instance: u32) -> ReceiverBuilder {
        self.devices.iter_mut().next_back().into_iter().for_each(|device| device.instance = instance);
        self
    }

    /// Takes the next migration that comes to a listener.
    pub fn listener(mut self, listener: &Listener) -> ReceiverBuilder {
        self.peer = Some(Peer::Listener(listener.clone()));
        self
    }

    /// Uses stream sockets that are connected already: the main connection from its first byte on, and the multifd
    /// connections in the order of their numbers, each behind the init that told it.
    pub fn sockets(mut self, main: OwnedFd, multifd: Vec<OwnedFd>) -> ReceiverBuilder {
        self.options.channels = multifd.len();
        self.peer = Some(Peer::Sockets { main, multifd });
        self
    }

    /// Multifd connections to wait for: what `multifd-channels` says at the source, and 0 when its multifd capability is
    /// off. 2 unless set, as in QEMU.
    pub fn channels(mut self, channels: usize) -> ReceiverBuilder {
        self.options.channels = channels;
        self
    }

    /// Bytes of the pool of buffers. 64 MiB unless set; a device needs about a megabyte, and so does the main connection.
    pub fn pool_size(mut self, bytes: u64) -> ReceiverBuilder {
        self.options.pool_size = bytes;
        self
    }

    /// The TCP congestion control. The host's own unless set.
    pub fn congestion(mut self, name: impl AsRef<str>) -> ReceiverBuilder {
        self.settings.set_congestion(name.as_ref());
        self
    }

    /// Hears of what happens, on the thread that runs the migration: be quick.
    pub fn on_event(mut self, on_event: impl FnMut(&Event) + Send + 'static) -> ReceiverBuilder {
        self.settings.set_on_event(on_event);
        self
    }

    /// Cancels the migration when `cancel` is used, unless the devices run already or are about to.
    pub fn cancel(mut self, cancel: &Cancel) -> ReceiverBuilder {
        self.settings.set_cancel(cancel);
        self
    }

    /// Checks what was described.
    pub fn build(self) -> Result<Receiver, Misuse> {
        check_devices(self.devices.iter().map(|device| (&*device.name, device.instance)))?;
        if self.devices.iter().any(|device| Idstr::try_from(&*device.name).is_err()) {
            return Err(Misuse::BadName);
        }
        let Options { channels, pool_size, .. } = self.options;
        if channels > CHANNELS_MAX {
            return Err(Misuse::BadChannels { given: channels });
        }
        let needed = receive::pool_for(self.devices.len());
        if !(needed..=POOL_SIZE_MAX).contains(&pool_size) {
            return Err(Misuse::BadPool { given: pool_size, needed });
        }
        let peer = self.peer.ok_or(Misuse::NoPeer)?;
        Ok(Receiver { devices: self.devices, peer, options: self.options, settings: self.settings })
    }
}
