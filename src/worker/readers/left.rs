//! How much state is to be expected of devices that are about to stop. It begins no read.

use super::Readers;
use crate::numbers::DeviceIdx;

impl Readers {
    /// Bytes that are left of all devices, if all of them can tell.
    pub(crate) fn left(&self) -> Option<u64> {
        let mut left = DeviceIdx::below(self.all.len()).map(|device| {
            let reader = &self.all[device.index()];
            if self.is_in_precopy(device) { reader.remaining.left() } else { reader.estimate }
        });
        left.try_fold(0_u64, |sum, one| Some(sum.saturating_add(one?)))
    }
}
