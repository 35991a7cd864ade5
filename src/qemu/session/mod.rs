//! A migration from a QEMU source: the events of its main connection, the answers to the source, and what is still
//! missing.
//!
//! There are no heartbeats and no credit. A source in its live phase sends on its main connection several times a
//! second, so one that moves nothing for [`STANDSTILL_MAX`] is given up. Memory is bounded by the rule for who may have
//! a slot: see [`devices`]. A device's state is ordered: first what came on the main connection, then packets by idx.
//! What a device sent before it stopped always travels on the main connection, and all of it has been parsed when
//! `SWITCHOVER_START` comes.

pub(crate) mod devices;

use self::devices::Devices;
use crate::error::{Error, PeerError, Place, QemuError, UnexpectedState};
use crate::limits::{QEMU_LEFTOVERS_MAX, STANDSTILL_MAX};
use crate::numbers::DeviceIdx;
use crate::phase::Phase;
use crate::qemu::follow::{DeviceId, Violation};
use crate::session::handover::{Outcome, ReceiverHandover};
use crate::session::queue::{NextPacket, PacketQueue};
use crate::time::Nanos;
use crate::time::deadlines::{Deadline, Deadlines};
use crate::time::nanos;
use crate::wire::qemu::{Command, Event, Idstr, Reply};

/// The destination's side of one migration.
#[derive(Debug)]
pub(crate) struct QemuSession<H> {
    pub(crate) devices: Devices<H>,
    handover: ReceiverHandover,
    switched_over: Option<Nanos>,
    /// The main connection has reached its tail, whose sections have no length.
    in_tail: bool,
    main_is_over: bool,
    /// When any data moved last, and when a device's state did.
    moved: Nanos,
    state_moved: Nanos,
    /// The first multifd connection that ended, and when.
    ended: Option<(Place, Nanos)>,
    phase: Phase,
}

impl<H> QemuSession<H> {
    /// For these devices, with this many slots for them.
    pub(crate) fn new(names: Vec<(Idstr, u32)>, slots: usize, now: Nanos) -> QemuSession<H> {
        QemuSession {
            handover: ReceiverHandover::new(names.len()),
            devices: Devices::new(names, slots),
            switched_over: None,
            in_tail: false,
            main_is_over: false,
            moved: now,
            state_moved: now,
            ended: None,
            phase: Phase::Connecting,
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: Nanos) {
        self.phase = phase;
        self.moved = now;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// When the source's devices stopped.
    pub(crate) fn switched_over(&self) -> Option<Nanos> {
        self.switched_over
    }

    /// Bytes came on some connection.
    pub(crate) fn moved(&mut self, now: Nanos) {
        self.moved = now;
    }

    /// Takes an event of the main connection at this offset. Returns what to answer the source if it listens.
    pub(crate) fn on_main(
        &mut self,
        event: &Event<'_>,
        begin: u64,
        now: Nanos,
    ) -> Result<Option<Reply>, Error> {
        let goes_on = matches!(
            event,
            Event::Command(Command::SwitchoverStart) | Event::Part(_) | Event::End(_) | Event::Tail
        );
        if goes_on {
            self.check_all_began()?;
        }
        match event {
            Event::Command(Command::SwitchoverStart) => {
                self.switched_over.get_or_insert(now);
            }
            Event::Tail => {
                self.in_tail = true;
                self.check_switchover()?;
            }
            _ => {}
        }
        self.devices.on_main(event, begin)
    }

    /// Checks that every device has begun: all setups come before any device goes on.
    fn check_all_began(&self) -> Result<(), Error> {
        match self.devices.never_began() {
            None => Ok(()),
            Some(id) => Err(mismatch(id)),
        }
    }

    /// Checks that packets of devices do not come without SWITCHOVER_START.
    fn check_switchover(&self) -> Result<(), Error> {
        let early =
            if self.in_tail && self.switched_over.is_none() { self.devices.on_channels() } else { None };
        early.map_or(Ok(()), |id| Err(unexpected(id, UnexpectedState::ChannelsWithoutSwitchover)))
    }

    /// The main connection has brought everything it has to bring.
    pub(crate) fn main_is_over(&mut self, now: Nanos) {
        if !self.main_is_over {
            self.main_is_over = true;
            self.state_moved = now;
        }
    }

    /// A device's packet came on a channel.
    pub(crate) fn on_packet(&mut self, now: Nanos) -> Result<(), Error> {
        self.state_moved = now;
        self.check_switchover()
    }

    /// A multifd connection ended between two packets.
    pub(crate) fn on_end(&mut self, place: Place, now: Nanos) {
        self.ended.get_or_insert((place, now));
    }

    /// Fails with the packet that everything waits for. Called when the channels can no longer bring it: all of them
    /// have ended, or the others wait.
    pub(crate) fn find_missing(&self, all_ended: bool) -> Result<(), Error> {
        let Some((id, idx)) = self.devices.missing(self.main_is_over) else { return Ok(()) };
        let (device, idx) = (id.to_string().into(), idx.0);
        Err(PeerError::from(match all_ended {
            true => QemuError::Missing { device, idx },
            false => QemuError::Disorder { device, idx },
        })
        .into())
    }

    /// Checks that the source is still there. Once the devices are ours, it no longer matters.
    pub(crate) fn check(&self, now: Nanos) -> Result<(), Error> {
        if self.is_committed() {
            return Ok(());
        }
        let deadlines = self.deadlines();
        if deadlines.has_expired(Deadline::Standstill, now) {
            return Err(PeerError::Standstill { phase: self.phase }.into());
        }
        match self.ended {
            Some((place, _)) if deadlines.has_expired(Deadline::Leftovers, now) => {
                Err(PeerError::Closed { place, phase: self.phase }.into())
            }
            _ => Ok(()),
        }
    }

    /// When it is given up, unless something comes before. Whether leftovers are waited for changes with every packet,
    /// so this is found when it is asked for.
    fn deadlines(&self) -> Deadlines {
        let mut deadlines = Deadlines::NONE;
        deadlines.set(Deadline::Standstill, self.moved + nanos(STANDSTILL_MAX));
        let waits = !self.main_is_over || self.devices.lacks_packets();
        if let Some((_, at)) = self.ended.filter(|_| waits) {
            let since = if self.main_is_over { at.max(self.state_moved) } else { at };
            deadlines.set(Deadline::Leftovers, since + nanos(QEMU_LEFTOVERS_MAX));
        }
        deadlines
    }

    /// The latest time at which `check` must be called again.
    pub(crate) fn next_deadline(&self) -> Nanos {
        self.deadlines().next()
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.handover.is_loaded()
    }

    /// Takes over the devices, if all of them are ready to run and the source has sent everything. False if not.
    pub(crate) fn commit(&mut self) -> bool {
        self.main_is_over && self.handover.commit()
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.handover.is_committed()
    }

    /// Every device runs.
    pub(crate) fn committed(&mut self) {
        self.handover.committed();
    }

    /// The outcome if it ended now.
    pub(crate) fn outcome(&self) -> Outcome {
        self.handover.outcome()
    }
}

impl<H> PacketQueue<H> for QemuSession<H> {
    fn pop(&mut self, device: DeviceIdx) -> Option<NextPacket<H>> {
        self.devices.pop(device)
    }

    fn written(&mut self, device: DeviceIdx, now: Nanos) {
        self.devices.written(device);
        self.moved = now;
        self.state_moved = now;
    }

    fn loaded(&mut self, device: DeviceIdx) {
        self.handover.loaded(device);
    }
}

/// The error for a device that is on one side only.
fn mismatch(id: DeviceId) -> Error {
    Violation::Unknown { device: id.to_string().into() }.on(Place::Main)
}

fn unexpected(id: DeviceId, what: UnexpectedState) -> Error {
    PeerError::from(QemuError::Unexpected { device: id.to_string().into(), what }).into()
}

#[cfg(test)]
mod tests;
