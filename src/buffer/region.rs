//! Mapped memory, cut into slots. The unsafe half of `buffer`.
//!
//! The invariant that everything here rests on: *a region is cut once, into slots that do not overlap, and a [`Slot`]
//! cannot be copied*. So there is at most one slot for each byte, and `&mut Slot` proves exclusive access to it. A slot
//! keeps its region mapped, so its bytes live as long as it does.
//!
//! The kernel is an owner like any other: an operation that fills a slot takes the slot and gives it back when it ends;
//! one that only reads it (a send, which may be two at once) takes a [`Lease`] of an [`InFlight`] slot.

#![expect(
    unsafe_code,
    reason = "maps memory and hands out slices of it; each block argues from the invariant above"
)]

use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::error::{KernelError, KernelOperation};
use crate::limits::{HEADER_ROOM, PAGE_SIZE, SLOT_MEMORY, SPARE_MEMORY, WORKER_MEMORY};

const HUGE_PAGE: usize = 2 << 20;

/// What kind of pages a region lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HugePages {
    /// Reserved huge pages (`vm.nr_hugepages`).
    Explicit,
    /// Ordinary memory that the kernel was asked to back with huge pages.
    Transparent,
    /// Ordinary pages.
    None,
}

/// Mapped memory. Unmapped when its last slot is dropped.
#[derive(Debug)]
struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is an address range; every access to its bytes goes through a `Slot` or `Lease`, whose own rules
// (one owner, or readers only) hold across threads.
unsafe impl Send for Region {}
// SAFETY: as above: `&Region` gives no access to bytes.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base..base + len` is the mapping that `map` made, and no slot is left that could reach into it: each
        // holds an `Arc` of this region.
        let unmapped = unsafe { munmap(self.base.cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

fn map(len: usize) -> Result<(Region, HugePages), KernelError> {
    let len = len.next_multiple_of(HUGE_PAGE);
    let size = NonZeroUsize::new(len).expect("a region has at least one slot");
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS;
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that exists.
    if let Ok(base) = unsafe { mmap_anonymous(None, size, rights, flags | MapFlags::MAP_HUGETLB) } {
        return Ok((Region { base: base.cast(), len }, HugePages::Explicit));
    }
    // SAFETY: as above.
    let base = unsafe { mmap_anonymous(None, size, rights, flags) }
        .map_err(|errno| KernelError::new(KernelOperation::MapPool, errno))?
        .cast();
    let region = Region { base, len };
    // SAFETY: advice on the mapping that was just made; it changes no content.
    let advised = unsafe { madvise(region.base.cast(), len, MmapAdvise::MADV_HUGEPAGE) };
    Ok((region, if advised.is_ok() { HugePages::Transparent } else { HugePages::None }))
}

/// Identifies a region to a ring that has registered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegionId(NonZeroUsize);

/// Room for one packet: its header directly before its payload, the payload on a page boundary.
///
/// ```text
/// 0               HEADER_ROOM - n      HEADER_ROOM                  HEADER_ROOM + capacity
/// | unused        | header of n bytes  | payload                    |
/// ```
#[derive(Debug)]
pub(crate) struct Slot {
    region: Arc<Region>,
    /// Where the slot begins in its region. `cut` upholds that `offset + HEADER_ROOM + capacity` is within the region.
    offset: usize,
    capacity: u32,
    index: u32,
}

/// Fails where the process has too little memory left for what a worker allocates beside its pools, and for what it holds
/// for its end: an allocation that
/// fails would end the process, not the transfer.
pub(crate) fn check_memory() -> Result<(), KernelError> {
    map(WORKER_MEMORY + SPARE_MEMORY).map(drop)
}

/// Address space that is held for later: what is allocated when everything is decided must not fail because threads have
/// taken what was there. No page of it exists.
#[derive(Debug)]
pub(crate) struct Spare(#[expect(dead_code, reason = "it is held, not used")] Region);

impl Spare {
    /// None where that would leave a worker less than it needs; then it gets no pool either, and touches no device.
    pub(crate) fn hold() -> Option<Spare> {
        check_memory().ok()?;
        let len = NonZeroUsize::new(SPARE_MEMORY)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS | MapFlags::MAP_NORESERVE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that exists.
        let base = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_NONE, flags) }.ok()?;
        Some(Spare(Region { base: base.cast(), len: len.get() }))
    }
}

/// Maps memory for `count` slots with `capacity` bytes of payload each, if enough is left beside it.
pub(super) fn cut(count: u32, capacity: u32) -> Result<(Vec<Slot>, HugePages), KernelError> {
    let stride = stride(capacity);
    let (region, huge) = map(stride * count as usize)?;
    drop(map(WORKER_MEMORY + SPARE_MEMORY + SLOT_MEMORY * count as usize)?);
    let region = Arc::new(region);
    let slot =
        |index: u32| Slot { region: Arc::clone(&region), offset: stride * index as usize, capacity, index };
    Ok(((0..count).map(slot).collect(), huge))
}

/// Bytes from one slot to the next.
pub(crate) fn stride(capacity: u32) -> usize {
    HEADER_ROOM + (capacity as usize).next_multiple_of(PAGE_SIZE)
}

impl Slot {
    /// Its number in its pool.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Existing slots and leases of its region, including this one: a leaked one counts for ever.
    #[cfg(test)]
    pub(crate) fn sharers(&self) -> usize {
        Arc::strong_count(&self.region)
    }

    /// Bytes of payload that it can hold.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn region(&self) -> RegionId {
        RegionId(self.region.base.addr())
    }

    /// The whole region's address and length in bytes, for registration.
    pub(crate) fn region_span(&self) -> (*mut u8, usize) {
        (self.region.base.as_ptr(), self.region.len)
    }

    /// Where the slot begins in its region, in bytes.
    pub(crate) fn region_offset(&self) -> usize {
        self.offset
    }

    /// The address of a range of the slot. For the kernel, and only while the slot is held for it.
    pub(crate) fn address(&self, range: &Range<usize>) -> *mut u8 {
        assert!(range.start <= range.end && range.end <= HEADER_ROOM + self.capacity as usize);
        // SAFETY: `offset + range.start` is within the mapping (see the field).
        unsafe { self.region.base.as_ptr().add(self.offset + range.start) }
    }

    /// Some of its bytes.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        let address = self.address(&range);
        // SAFETY: the range is within the mapping, which lives as long as `self`, and nothing can write to it: that
        // takes `&mut Slot`, and there is one slot for these bytes. Anonymous memory is always initialised.
        unsafe { std::slice::from_raw_parts(address, range.len()) }
    }

    /// Some of its bytes, to write.
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let address = self.address(&range);
        // SAFETY: as in `bytes`, and `&mut self` proves that this is the only way to them.
        unsafe { std::slice::from_raw_parts_mut(address, range.len()) }
    }

    /// The payload's first `len` bytes.
    pub(crate) fn payload(&self, len: usize) -> &[u8] {
        self.bytes(HEADER_ROOM..HEADER_ROOM + len)
    }

    /// The whole payload area, to write.
    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        let end = HEADER_ROOM + self.capacity as usize;
        self.bytes_mut(HEADER_ROOM..end)
    }

    /// The `N` bytes directly before the payload, to write.
    pub(crate) fn header_mut<const N: usize>(&mut self) -> &mut [u8; N] {
        self.bytes_mut(HEADER_ROOM - N..HEADER_ROOM).try_into().expect("the range has N bytes")
    }

    /// Hands the slot to operations that only read it.
    pub(crate) fn into_flight(self) -> InFlight {
        InFlight { slot: self, leased: 0 }
    }

    /// Populates the slot's pages now, so that no page fault is left for the data path.
    ///
    /// Kernels before 5.14 do not know how, which only means that the first use of each page is slower.
    pub(super) fn populate(&self) -> Result<(), KernelError> {
        let address = self.address(&(0..0)).cast();
        // SAFETY: advice on this slot's own pages, within the mapping; it changes no content.
        let advised = unsafe { libc::madvise(address, stride(self.capacity), libc::MADV_POPULATE_WRITE) };
        match nix::errno::Errno::result(advised) {
            Ok(_) | Err(nix::errno::Errno::EINVAL) => Ok(()),
            Err(errno) => Err(KernelError::new(KernelOperation::PopulatePool, errno)),
        }
    }
}

/// A slot that operations are reading. Nothing can write to it until every lease has come back.
#[derive(Debug)]
pub(crate) struct InFlight {
    slot: Slot,
    leased: u32,
}

/// The right to read one slot, for one operation.
#[derive(Debug)]
pub(crate) struct Lease {
    region: Arc<Region>,
    offset: usize,
    capacity: u32,
    index: u32,
}

impl InFlight {
    /// The right to read, for another operation.
    pub(crate) fn lease(&mut self) -> Lease {
        self.leased += 1;
        let slot = &self.slot;
        Lease {
            region: Arc::clone(&slot.region),
            offset: slot.offset,
            capacity: slot.capacity,
            index: slot.index,
        }
    }

    /// Takes the lease of an operation that has ended.
    pub(crate) fn give_back(&mut self, lease: Lease) {
        assert!(self.holds(&lease) && self.leased > 0, "a lease comes back to the slot that it was taken of");
        self.leased -= 1;
    }

    /// Whether the lease was taken of this slot.
    pub(crate) fn holds(&self, lease: &Lease) -> bool {
        lease.index == self.slot.index && Arc::ptr_eq(&lease.region, &self.slot.region)
    }

    /// The slot again, when no operation reads it any more.
    pub(crate) fn land(self) -> Result<Slot, InFlight> {
        if self.leased == 0 { Ok(self.slot) } else { Err(self) }
    }
}

impl Lease {
    pub(crate) fn region(&self) -> RegionId {
        RegionId(self.region.base.addr())
    }

    pub(crate) fn region_offset(&self) -> usize {
        self.offset
    }

    /// The address of a range of the slot. For the kernel, and only while the lease is held for it.
    pub(crate) fn address(&self, range: &Range<usize>) -> *const u8 {
        assert!(range.start <= range.end && range.end <= HEADER_ROOM + self.capacity as usize);
        // SAFETY: `offset + range.start` is within the mapping (see `Slot::offset`, from which it was copied).
        unsafe { self.region.base.as_ptr().add(self.offset + range.start) }
    }

    /// Some of its bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        let address = self.address(&range);
        // SAFETY: as in `Slot::bytes`: the slot is inside an `InFlight`, which gives no `&mut Slot` while leased.
        unsafe { std::slice::from_raw_parts(address, range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_payloads_are_page_aligned() {
        let (mut slots, _) = cut(3, 5000).unwrap();
        for slot in &mut slots {
            let fill = u8::try_from(slot.index()).unwrap() + 1;
            slot.payload_mut().fill(fill);
            *slot.header_mut::<64>() = [fill | 0x80; 64];
        }
        for slot in &slots {
            let fill = u8::try_from(slot.index()).unwrap() + 1;
            assert!(slot.payload(5000).iter().all(|&byte| byte == fill));
            assert!(slot.bytes(HEADER_ROOM - 64..HEADER_ROOM).iter().all(|&byte| byte == fill | 0x80));
            assert_eq!(slot.payload(1).as_ptr() as usize % PAGE_SIZE, 0);
        }
    }

    #[test]
    fn a_slot_in_flight_lands_only_after_its_last_lease() {
        let (mut slots, _) = cut(1, 4096).unwrap();
        let mut flight = slots.remove(0).into_flight();
        let (first, second) = (flight.lease(), flight.lease());
        flight.give_back(first);
        let mut flight = flight.land().expect_err("one lease is out");
        flight.give_back(second);
        assert!(flight.land().is_ok());
    }

    #[test]
    #[should_panic(expected = "a lease comes back to the slot that it was taken of")]
    fn a_lease_of_another_slot_is_refused() {
        let (mut slots, _) = cut(2, 4096).unwrap();
        let mut one = slots.remove(0).into_flight();
        let mut other = slots.remove(0).into_flight();
        let _mine = one.lease();
        one.give_back(other.lease());
    }

    #[test]
    #[should_panic(expected = "range.end")]
    fn a_range_beyond_the_slot_is_refused() {
        let (slots, _) = cut(1, 4096).unwrap();
        slots[0].bytes(0..HEADER_ROOM + 4097);
    }

    #[test]
    fn memory_outlives_the_slot_list() {
        let (mut slots, _) = cut(2, 4096).unwrap();
        let mut last = slots.pop().unwrap();
        drop(slots);
        last.payload_mut()[0] = 7;
        assert_eq!(last.payload(1), [7]);
    }
}
