//! A region whose memory the kernel has pinned: which of its buffers holds a slot. Registers nothing itself. The
//! invariant: buffers are cut so that no slot straddles two of them.

use nix::libc;

use crate::buffer::{self, RegionId, Slot};

/// Largest registered buffer in bytes.
const BUFFER_MAX: usize = 1 << 30;

/// A region that is registered as buffers of at most 1 GiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Registered {
    region: RegionId,
    piece: usize,
}

impl Registered {
    /// The region of a slot, and the buffers that it is to be registered as.
    pub(super) fn region_of(slot: &Slot) -> (Registered, Vec<libc::iovec>) {
        let (base, len) = slot.region_span();
        let stride = buffer::stride(slot.capacity());
        let piece = BUFFER_MAX / stride * stride;
        let buffers = (0..len)
            .step_by(piece)
            .map(|at| libc::iovec { iov_base: base.wrapping_add(at).cast(), iov_len: piece.min(len - at) })
            .collect();
        (Registered { region: slot.region(), piece }, buffers)
    }

    /// The buffer that contains what lies at `offset` of a region, if this is that region.
    pub(super) fn buffer(self, region: RegionId, offset: usize) -> Option<u16> {
        u16::try_from(offset / self.piece).ok().filter(|_| self.region == region)
    }
}
