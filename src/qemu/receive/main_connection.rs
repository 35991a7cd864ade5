//! The main connection of a live receiver: its events go to the session, a device's state into slots, the tail to its
//! end.

use super::{Receiving, Tail};
use crate::buffer::Slot;
use crate::error::{Errno, Error, PeerError, Place, QemuError};
use crate::qemu::channel::MainStep;
use crate::ring::Ring;
use crate::wire::Malformed;
use crate::wire::qemu::{Command, Event};

impl<R: Ring> Receiving<R> {
    /// Takes what came on the main connection, as far as there are slots for it, and listens on.
    pub(super) fn listen(&mut self) -> Result<(), Error> {
        self.place_configs()?;
        loop {
            let now = self.worker.ring.now();
            match self.main.next() {
                Err(what) => return Err(self.malformed(what)),
                Ok(MainStep::Event(event, begin)) => {
                    let is_tail = event == Event::Tail;
                    if event == Event::Command(Command::SwitchoverStart) {
                        // packets that came before it wait for it
                        self.writers.mark_all_ready();
                    }
                    if event == Event::Command(Command::OpenReturnPath) {
                        self.answers.open();
                    }
                    if let Some(reply) = self.session.on_main(&event, begin, now)? {
                        self.answers.queue(reply)?;
                    }
                    if let Some(at) = self.session.switched_over() {
                        self.worker.report.switchover(at);
                    }
                    if self.main.follower().knows_page_size() {
                        self.begin_channels();
                    }
                    if is_tail && self.session.devices.unclear().next().is_some() {
                        self.tail = Some(Tail::new()?);
                    }
                }
                Ok(MainStep::Wants) => {
                    if !self.session.devices.admit_main() {
                        return Ok(());
                    }
                    self.main.accept(self.worker.take_promised());
                }
                Ok(MainStep::State { slot, len }) => {
                    let place = slot.index();
                    let device = self.session.devices.fill_main(slot, len, now)?;
                    self.note_piece(place, device, len, false, now);
                    self.writers.mark_ready(device);
                }
                Ok(MainStep::Tail(bytes)) => {
                    if let Some(tail) = &mut self.tail {
                        tail.keep(bytes)?;
                    }
                }
                Ok(MainStep::Taken) => break,
            }
        }
        if self.main.has_ended() {
            self.end_main()?;
        }
        self.main.resume(&mut self.worker.ring);
        Ok(())
    }

    /// All has come. Devices that nothing came of on channels may have their config state in the tail.
    fn end_main(&mut self) -> Result<(), Error> {
        self.session.main_is_over(self.worker.ring.now());
        let (Some(tail), Some(description)) = (self.tail.take(), self.main.follower().description()) else {
            return Ok(());
        };
        let mut sections = tail.follow(description);
        for unclear in self.session.devices.unclear() {
            let config = match &mut sections {
                Ok(sections) => sections.config_of(unclear.id),
                // its packets may still be on their way, and then nothing is needed of these sections
                Err(_) if !unclear.needs_config => None,
                Err(error) => return Err(error.clone()),
            };
            match config {
                Some(config) => self.configs.push((unclear.device, config)),
                None if unclear.needs_config => return Err(unclear.without_config()),
                None => {}
            }
        }
        self.place_configs()
    }

    fn place_configs(&mut self) -> Result<(), Error> {
        while !self.configs.is_empty() && self.session.devices.admit_main() {
            let (device, config) = self.configs.remove(0);
            let mut slot = self.worker.take_promised();
            slot.payload_mut()[..config.len()].copy_from_slice(&config);
            let now = self.worker.ring.now();
            self.note_piece(slot.index(), device, config.len(), true, now);
            self.session.devices.fill_config(device, slot, config.len(), now);
            self.writers.mark_ready(device);
        }
        Ok(())
    }

    pub(super) fn on_main(&mut self, slot: Slot, result: Result<usize, Errno>) -> Result<(), Error> {
        let place = Place::Main;
        match self.main.on_received(slot, result) {
            Ok(Some(_)) => {
                self.session.moved(self.worker.ring.now());
                self.listen()
            }
            // a source that has sent everything may close
            Ok(None) if self.main.has_ended() => Ok(()),
            Ok(None) => Err(PeerError::Closed { place, phase: self.session.phase() }.into()),
            Err(_) if self.is_confirmed => Ok(()),
            Err(errno) => Err(self.lost(place, errno)),
        }
    }

    fn malformed(&self, what: Malformed) -> Error {
        let (place, offset) = (Place::Main, self.main.follower().offset());
        PeerError::from(QemuError::Malformed { place, offset, what }).into()
    }
}
