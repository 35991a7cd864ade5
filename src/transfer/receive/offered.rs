//! Sinks for whatever devices the sender has, opened by the caller's code when the offer is there. It must not know what
//! they are. The invariant: that code runs beside the loop, and before anything is made for the offer.

use std::convert::Infallible;
use std::sync::mpsc;

use super::Receiving;
use crate::error::{DeviceError, Error, Hook, Refusal};
use crate::ring::Ring;
use crate::sink::Sink;
use crate::wire::{DeviceOffer, Offer};
use crate::worker::guard::Guarded;
use crate::worker::hook::{code, run_hook};
use crate::worker::join_sinks;
use crate::worker::writers::Device;

/// Opens the sink of one device of the sender; none if there is no such device here.
pub(in crate::transfer) type DevicesBy =
    Guarded<Box<dyn FnMut(&DeviceOffer) -> Result<Option<Box<dyn Sink>>, DeviceError> + Send>>;

/// What became of an offer's devices.
enum Opened {
    All(Vec<Device>),
    /// There is no device of this name here.
    Unknown(Box<str>),
    Failed(Error),
}

impl<R: Ring> Receiving<R> {
    /// Opens a sink for each offered device, if the caller does that.
    pub(super) fn open_offered(&mut self, offer: &Offer) -> Result<(), Error> {
        let Some(mut devices_by) = self.devices_by.take() else { return Ok(()) };
        self.worker.ring.reserve_threads(1).map_err(|error| self.not_ready(error.into()))?;
        let (tell, told) = mpsc::channel();
        let offered = offer.devices.clone();
        let open = code(move || {
            // the receiving end is gone only when the worker is broken
            let _ = tell.send(open_all(&mut devices_by, &offered));
            Ok::<(), Infallible>(())
        });
        run_hook(self, |receiving| &mut receiving.worker, Hook::DevicesBy, Some(open), Receiving::turn)?;
        let mut devices = match told.recv().expect("code that returned has told") {
            Opened::All(devices) => devices,
            Opened::Unknown(name) => return Err(self.refuse(Refusal::DeviceMismatch { name })),
            Opened::Failed(error) => return Err(self.not_ready(error)),
        };
        join_sinks(&mut devices).map_err(|misuse| self.not_ready(misuse.into()))?;
        self.worker.report.simulated(devices.iter().all(Device::is_simulated));
        self.worker.report.provide(devices.len());
        self.writers.provide(devices);
        Ok(())
    }
}

/// One after the other: what opens them may be mutable.
fn open_all(devices_by: &mut DevicesBy, offered: &[DeviceOffer]) -> Opened {
    let mut devices = Vec::with_capacity(offered.len());
    for device in offered {
        match devices_by(device) {
            Ok(Some(sink)) => devices.push(Device::new(device.name.clone(), device.instance, sink)),
            Ok(None) => return Opened::Unknown(device.name.clone()),
            Err(error) => return Opened::Failed(Error::Device { device: device.name.clone(), error }),
        }
    }
    Opened::All(devices)
}
