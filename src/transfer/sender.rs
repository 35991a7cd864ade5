//! The sender as an embedder sees it.

mod options;

use std::error;
#[cfg(feature = "listener")]
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use self::options::Options;
use super::send::{Device, Parts, Sending};
use crate::buffer::Pool;
use crate::cancel::{Cancel, PreCopyHold};
use crate::channel::ZeroCopy;
use crate::error::{Error, Misuse};
use crate::limits::{
    CHANNELS_MAX, PACKET_SIZE_DEFAULT, PACKETS_PER_DEVICE, POOL_SIZE_DEFAULT, POOL_SIZE_MAX,
    POOL_SIZE_TRUSTED,
};
#[cfg(feature = "listener")]
use crate::net::listener;
use crate::net::{Connections, sockets};
use crate::numbers::PacketSize;
use crate::report::{Role, RunInfo};
use crate::ring::{self, HostRing};
use crate::source::Source;
use crate::time::{Nanos, now};
use crate::wire::Checksum;
use crate::worker::caller::{Caller, Event};
use crate::worker::finished::Finished;
use crate::worker::hook;
use crate::worker::report_builder::ReportBuilder;
use crate::worker::settings::Settings;
use crate::worker::{check_devices, slot_size};

/// How the peer is reached.
pub(super) enum Peer {
    #[cfg(feature = "listener")]
    Address(SocketAddr),
    Sockets {
        control: OwnedFd,
        data: Vec<OwnedFd>,
    },
}

/// Moves devices' state to a [`Receiver`](crate::Receiver).
///
/// ```no_run
/// use ringlift::{Outcome, Sender, source::Synthetic};
///
/// let finished = Sender::builder()
///     .device("net0", Synthetic::new(64 << 20))
///     .connect("192.0.2.1:4321".parse().unwrap())
///     .channels(4)
///     .build()
///     .unwrap()
///     .run();
/// assert_eq!(finished.outcome, Outcome::Complete);
/// println!("{} bytes/s", finished.report.throughput_bytes_per_s);
/// ```
pub struct Sender {
    devices: Vec<Device>,
    peer: Peer,
    packet_size: PacketSize,
    pool_size: u64,
    options: Options,
    settings: Settings,
}

/// Builds a [`Sender`]. What is not set has the value that its method names.
pub struct SenderBuilder {
    devices: Vec<Device>,
    peer: Option<Peer>,
    packet_size: u32,
    options: Options,
    settings: Settings,
}

impl Sender {
    /// Begins to describe a sender.
    pub fn builder() -> SenderBuilder {
        SenderBuilder {
            devices: Vec::new(),
            peer: None,
            packet_size: PACKET_SIZE_DEFAULT,
            options: Options::default(),
            settings: Settings::default(),
        }
    }

    /// Runs the transfer on this thread, to whatever end. Afterwards the devices are released (complete), back where
    /// they were (aborted), or stopped with their state intact (in doubt).
    pub fn run(mut self) -> Finished {
        let mut report = ReportBuilder::new(now(), self.devices.len());
        report.run(self.settings.run());
        report.packet_size(self.packet_size, self.options.checksum);
        report.untouched(self.devices.iter().map(|device| (&*device.name, device.instance)));
        let panics = self.settings.panics();
        match self.begin(report.started_at) {
            Ok(sending) => sending.run(),
            Err(error) => report.not_begun(Role::Sender, error, &panics),
        }
    }

    /// The worker, whose connections are there.
    fn begin(mut self, begun: Nanos) -> Result<Sending<HostRing>, Error> {
        let options = self.options;
        let mut caller = self.settings.connecting_caller(begun);
        let connections = meet(self.peer, options.channels, self.settings.congestion(), &caller)?;
        let peer = connections.peer();
        let session = Some(connections.session);
        caller.tell(&Event::Connected { peer, channels: connections.channels(), session });
        let ring = ring::open(&caller.cancel)?;
        if let Some(hold) = &options.hooks.hold_pre_copy {
            ring::wake_on(&ring, hold.signal());
        }
        let congestion = connections.congestion();
        let parts = Parts {
            control: connections.control,
            data: connections.data,
            devices: self.devices,
            packet_size: self.packet_size,
            pool_size: self.pool_size,
            checksum: options.checksum,
            zero_copy: options.zero_copy,
            downtime_max: options.downtime_max,
            downtime_limit: options.downtime_limit,
            warms_up: options.warms_up || options.is_dry_run,
            is_dry_run: options.is_dry_run,
            hooks: options.hooks,
            caller,
        };
        let mut sending = Sending::new(ring, parts)?;
        sending.note_connection(session);
        sending.report_builder().packet_size(self.packet_size, options.checksum);
        let loopback = peer.is_some_and(|peer| peer.ip().is_loopback());
        sending.report_builder().congestion(congestion, loopback);
        Ok(sending)
    }
}

#[cfg_attr(
    not(feature = "listener"),
    expect(unused_variables, reason = "sockets that are given count themselves")
)]
fn meet(peer: Peer, channels: u16, congestion: Option<&str>, caller: &Caller) -> Result<Connections, Error> {
    let wants_end = || caller.check(now()).is_err();
    let connections = match peer {
        #[cfg(feature = "listener")]
        Peer::Address(addr) => listener::connect(addr, channels, congestion, &wants_end),
        Peer::Sockets { control, data } => {
            let greeted = sockets::greet(control, data, &wants_end);
            greeted.and_then(|connections| connections.use_congestion(congestion))
        }
    };
    connections.map_err(|error| caller.reason(error))
}

impl SenderBuilder {
    /// Adds a device. The receiver must have one of the same name.
    pub fn device(self, name: impl AsRef<str>, source: impl Source + 'static) -> SenderBuilder {
        self.boxed_device(name, Box::new(source))
    }

    /// Adds a device whose kind is known only at run time.
    pub fn boxed_device(mut self, name: impl AsRef<str>, source: Box<dyn Source>) -> SenderBuilder {
        self.devices.push(Device::new(name.as_ref(), 0, source));
        self
    }

    /// Gives the device that was added last another instance number than 0: devices may share a name.
    pub fn instance(mut self, instance: u32) -> SenderBuilder {
        self.devices.iter_mut().next_back().into_iter().for_each(|device| device.instance = instance);
        self
    }

    /// Connects to a receiver that listens.
    #[cfg(feature = "listener")]
    pub fn connect(mut self, address: SocketAddr) -> SenderBuilder {
        self.peer = Some(Peer::Address(address));
        self
    }

    /// Uses stream sockets that are connected already: one for control, and the data connections. The receiver's `run`
    /// must begin within 5 s of this one's.
    pub fn sockets(mut self, control: OwnedFd, data: Vec<OwnedFd>) -> SenderBuilder {
        self.options.channels = u16::try_from(data.len()).unwrap_or(u16::MAX);
        self.peer = Some(Peer::Sockets { control, data });
        self
    }

    /// Data connections, 1 to 255. 2 unless set; sockets that are given count themselves.
    pub fn channels(mut self, channels: u16) -> SenderBuilder {
        self.options.channels = channels;
        self
    }

    /// Most payload bytes of a packet, 4 KiB to 16 MiB. 1 MiB unless set.
    pub fn packet_size(mut self, bytes: u32) -> SenderBuilder {
        self.packet_size = bytes;
        self
    }

    /// Bytes of the pool, on each side. Unless set 64 MiB, and two packets more for each device but the first, up to the 1 GiB
    /// that a receiver allows unless it is told otherwise. A path needs a third more than its rate times its round trip.
    pub fn pool_size(mut self, bytes: u64) -> SenderBuilder {
        self.options.pool_size = Some(bytes);
        self
    }

    /// Whether sends are zero-copy. `Auto` unless set.
    pub fn zero_copy(mut self, zero_copy: ZeroCopy) -> SenderBuilder {
        self.options.zero_copy = zero_copy;
        self
    }

    /// How payloads are checked. CRC32C unless set.
    pub fn checksum(mut self, checksum: Checksum) -> SenderBuilder {
        self.options.checksum = checksum;
        self
    }

    /// The TCP congestion control. The host's own unless set.
    pub fn congestion(mut self, name: impl AsRef<str>) -> SenderBuilder {
        self.settings.set_congestion(name.as_ref());
        self
    }

    /// How long everything up to Commit may take, from the call of `run`. What takes longer is rolled back.
    pub fn deadline(mut self, deadline: Duration) -> SenderBuilder {
        self.settings.set_deadline(deadline);
        self
    }

    /// How long the devices may stand still before everything is loaded. What takes longer is rolled back, and the devices go
    /// back to where they were. 60 s unless set.
    pub fn downtime_max(mut self, max: Duration) -> SenderBuilder {
        self.options.downtime_max = max;
        self
    }

    /// How much may be left when pre-copy ends, as the time in which the link moves it at the rate that was measured, and one
    /// packet in any case: pre-copy goes on until no device has initial bytes left and all of them together have no more
    /// dirty ones. 300 ms unless set. Devices that never get there are stopped after 30 s, or after four times the bytes that they
    /// ever expected to have, and the report warns. It bounds nothing: [`downtime_max`](Self::downtime_max) does.
    pub fn downtime_limit(mut self, limit: Duration) -> SenderBuilder {
        self.options.downtime_limit = limit;
        self
    }

    /// First sends bytes that the receiver drops, for half a second at most: TCP's slow start is over then, and its rate known.
    pub fn warm_up(mut self, warms_up: bool) -> SenderBuilder {
        self.options.warms_up = warms_up;
        self
    }

    /// Moves nothing: agrees with the receiver, measures the path as [`warm_up`](Self::warm_up) does, and ends with
    /// [`Error::DryRun`] and a prediction in the report. Devices only estimate their size, and no hook is called. The
    /// receiver gets its devices ready, and resets them.
    pub fn dry_run(mut self) -> SenderBuilder {
        self.options.is_dry_run = true;
        self
    }

    /// Stays in pre-copy until `hold` is released, and switches over immediately then. Without one pre-copy ends when
    /// little is left ([`downtime_limit`](Self::downtime_limit)), or will not become so. While it is held devices are asked for new state
    /// again and again, whatever was read so far and however long it takes; with devices that have no pre-copy it only
    /// waits. Cancel and deadline end it. A receiver waits an hour for the next packet or the switchover
    /// ([`HOOK_MAX`](crate::limits::HOOK_MAX)).
    pub fn hold_pre_copy(mut self, hold: &PreCopyHold) -> SenderBuilder {
        self.options.hooks.hold_pre_copy = Some(hold.clone());
        self
    }

    /// Called when pre-copy is over, directly before the devices stop: pause the virtual machine's processors here. An
    /// error aborts the transfer ([`Error::HookRefused`]), and the devices come back; resuming the processors then is the
    /// caller's, after `run` has returned.
    ///
    /// ```no_run
    /// # use ringlift::SenderBuilder;
    /// # struct Machine;
    /// # impl Machine { fn pause(&self) -> std::io::Result<()> { Ok(()) } }
    /// # fn build(sender: SenderBuilder, machine: std::sync::Arc<Machine>) {
    /// let sender = sender.before_switchover(move || machine.pause());
    /// # }
    /// ```
    ///
    /// As every hook, it runs on a thread of its own for as long as it needs, and heartbeats go on meanwhile. A transfer
    /// that ends during a hook (cancel, deadline, a lost peer) tells its peer, but waits for the hook to return before
    /// it touches a device, and before `run` returns: a hook that may take long should watch the transfer's [`Cancel`],
    /// or one of its own. A panic in it aborts as an error does ([`Finished::panic`]).
    pub fn before_switchover<E>(
        mut self,
        hook: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> SenderBuilder
    where
        E: Into<Box<dyn error::Error + Send + Sync>>,
    {
        self.options.hooks.before_switchover = Some(hook::code(hook));
        self
    }

    /// Called when every device is loaded at the destination and nothing runs, directly before Commit, which gives the
    /// devices up for good. The receiver's [`before_run`](crate::ReceiverBuilder::before_run) has agreed by then: the
    /// destination has accepted all that it has to accept. An error aborts the transfer ([`Error::HookRefused`]): the
    /// devices come back here, and the destination resets its own. The receiver waits an hour for Commit
    /// ([`HOOK_MAX`](crate::limits::HOOK_MAX)); [`downtime_max`](Self::downtime_max) does not count this hook's time.
    /// Otherwise it is like [`before_switchover`](Self::before_switchover).
    ///
    /// ```no_run
    /// # use ringlift::SenderBuilder;
    /// # struct Machine;
    /// # impl Machine { fn is_restored_over_there(&self) -> bool { true } }
    /// # fn build(sender: SenderBuilder, machine: Machine) {
    /// let sender = sender.before_commit(move || {
    ///     if machine.is_restored_over_there() { Ok(()) } else { Err("the destination has no memory for it") }
    /// });
    /// # }
    /// ```
    pub fn before_commit<E>(mut self, hook: impl FnOnce() -> Result<(), E> + Send + 'static) -> SenderBuilder
    where
        E: Into<Box<dyn error::Error + Send + Sync>>,
    {
        self.options.hooks.before_commit = Some(hook::code(hook));
        self
    }

    /// Hears of what happens, on the thread that runs the transfer: be quick.
    pub fn on_event(mut self, on_event: impl FnMut(&Event) + Send + 'static) -> SenderBuilder {
        self.settings.set_on_event(on_event);
        self
    }

    /// Tells [`on_event`](Self::on_event) what moved in each interval of this length: [`Event::Interval`]. Shorter ones than
    /// the report's ([`INTERVAL`](crate::limits::INTERVAL)) last as long as these. No intervals unless set.
    pub fn interval(mut self, interval: Duration) -> SenderBuilder {
        self.settings.set_interval(interval);
        self
    }

    /// Which run of an experiment this is: the report says so. Nothing else depends on it.
    pub fn run(mut self, run: RunInfo) -> SenderBuilder {
        self.settings.set_run(run);
        self
    }

    /// Keeps what became of each packet and when, for so many packets, as [`Finished::trace`]: of more than that the last ones,
    /// and of more than [`TRACE_PACKETS_MAX`](crate::limits::TRACE_PACKETS_MAX) no more than those. Nothing is kept unless set.
    pub fn trace(mut self, packets: usize) -> SenderBuilder {
        self.settings.set_trace(packets);
        self
    }

    /// Cancels the transfer when `cancel` is used.
    pub fn cancel(mut self, cancel: &Cancel) -> SenderBuilder {
        self.settings.set_cancel(cancel);
        self
    }

    /// Checks what was described.
    pub fn build(self) -> Result<Sender, Misuse> {
        let Options { channels, pool_size, .. } = self.options;
        check_devices(self.devices.iter().map(|device| (&*device.name, device.instance)))?;
        if !(1..=CHANNELS_MAX).contains(&usize::from(channels)) {
            return Err(Misuse::BadChannels { given: channels.into() });
        }
        let bad_size = Misuse::BadPacketSize { given: self.packet_size.into() };
        let packet_size = PacketSize::new(self.packet_size).ok_or(bad_size)?;
        let needed = Pool::bytes_for(self.devices.len() as u64, slot_size(packet_size));
        let pool_size =
            pool_size.unwrap_or_else(|| default_pool(self.devices.len(), packet_size).max(needed));
        if !(needed..=POOL_SIZE_MAX).contains(&pool_size) {
            return Err(Misuse::BadPool { given: pool_size, needed });
        }
        Ok(Sender {
            devices: self.devices,
            peer: self.peer.ok_or(Misuse::NoPeer)?,
            packet_size,
            pool_size,
            options: self.options,
            settings: self.settings,
        })
    }
}

/// Bytes of the pool unless the caller sets them.
fn default_pool(devices: usize, packet_size: PacketSize) -> u64 {
    let packets = PACKETS_PER_DEVICE * (devices as u64).saturating_sub(1);
    (POOL_SIZE_DEFAULT + Pool::bytes_for(packets, slot_size(packet_size))).min(POOL_SIZE_TRUSTED)
}

#[cfg(test)]
#[cfg(feature = "listener")]
mod tests;
