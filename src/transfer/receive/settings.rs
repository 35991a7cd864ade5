//! The offer is judged, and everything that loading needs is made, before any device is touched. It must not know what is
//! loaded. The invariant: an offer that is refused has cost no more than its own message.

use super::Receiving;
use crate::buffer::Pool;
use crate::channel::{Native, Rx};
use crate::error::{Error, Refusal, Side};
use crate::numbers::ChannelIdx;
use crate::ring::Ring;
use crate::session::agreement::{Agreed, Terms, agree};
use crate::session::credit::Credit;
use crate::wire::Offer;
use crate::worker::memory::make_pool;
use crate::worker::operation::Operation;
use crate::worker::{slot_size, total_estimate};

impl<R: Ring> Receiving<R> {
    /// Accepts the offer, and makes a pool as large as the sender's.
    pub(super) fn agree(&mut self, offer: &Offer) -> Result<(), Error> {
        let names = self.writers.devices.names().map(|(name, instance)| (name.into(), instance));
        let devices: Vec<(Box<str>, u32)> = names.collect();
        let own = self.devices_by.is_none().then_some(&*devices);
        let terms = Terms { devices: own, pool_max: self.pool_max };
        let Agreed { sinks, packet_size } = agree(offer, &terms).map_err(|reason| self.refuse(reason))?;
        let slots = Pool::slots_in(offer.pool_size, slot_size(packet_size));
        let packets = |bytes: u64| bytes.div_ceil(packet_size.get().into());
        let estimates =
            || offer.devices.iter().map(|device| (device.estimate > 0).then_some(device.estimate));
        let Some(credit) = Credit::new(slots, estimates().map(|bytes| bytes.map(packets))) else {
            let text =
                format!("a pool of {} bytes holds {slots} packets, fewer than devices", offer.pool_size);
            return Err(self.refuse(Refusal::Settings { text: text.into() }));
        };
        if let Some(busy) = &self.busy {
            busy.agreed();
        }
        self.worker.report.packet_size(packet_size, offer.checksum);
        self.open_offered(offer)?;
        self.writers.devices.sort(&sinks);
        self.estimates = estimates().collect();
        self.estimate = total_estimate(self.estimates.iter().copied());
        self.checksum = offer.checksum;
        self.session.accept(offer, packet_size, credit);
        let warm_up = self.session.grant_warm_up(offer, self.connections.len());
        self.provide((slots, slot_size(packet_size)))?;
        self.headers.reserve(self.connections.len());
        for (channel, connection) in self.connections.drain(..).enumerate() {
            let buffer = self.control_buffers.take().expect("there is a control buffer for each channel");
            let channel = ChannelIdx::from_index(channel);
            let framing = Native::new(offer.checksum, warm_up);
            let mut rx = Rx::new(connection, Operation::Packet { channel }.tag(), buffer, framing);
            rx.begin(&mut self.worker.ring);
            self.channels.push(rx);
        }
        self.begin_figures();
        Ok(())
    }

    /// Makes everything that loading needs, before any device is touched.
    fn provide(&mut self, pool: (u32, u32)) -> Result<(), Error> {
        let reserved = self.writers.devices.reserve_threads(&mut self.worker.ring);
        reserved.map_err(|error| self.not_ready(error.into()))?;
        make_pool(self, |receiving| &mut receiving.worker, pool, |receiving, _| receiving.turn())
            .map_err(|error| self.not_ready_if_own(error))
    }

    pub(super) fn refuse(&mut self, reason: Refusal) -> Error {
        self.session.refuse(&reason);
        self.refused = true;
        Error::Refused { by: Side::Receiver, reason }
    }

    /// Tells the sender that it cannot be; the caller gets the reason itself.
    pub(super) fn not_ready(&mut self, error: Error) -> Error {
        self.session.refuse(&Refusal::NotReady { text: error.to_string().into() });
        self.refused = true;
        error
    }

    /// The same, if it is a fault of this side.
    pub(super) fn not_ready_if_own(&mut self, error: Error) -> Error {
        match error {
            error @ (Error::Device { .. } | Error::Kernel(_)) => self.not_ready(error),
            other => other,
        }
    }
}
