//! Files that become shorter while they are mapped.
//!
//! The kernel sends SIGBUS to a thread that reads a page behind the end of the file (mmap(2)). The handler replaces the
//! rest of the map by zeros, so that the read goes on; [`MappedFile::check_unchanged`](super::MappedFile) then reports
//! the change.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// The maximum number of maps that the handler knows. Further maps are not protected.
const MAX_MAPS: usize = 4096;

/// The start and the end of each map; both are zero in a free slot.
static MAPS: [[AtomicUsize; 2]; MAX_MAPS] = [const { [const { AtomicUsize::new(0) }; 2] }; MAX_MAPS];

/// A map that the handler knows until this value is dropped.
pub(super) struct ProtectedMap(Option<usize>);

impl ProtectedMap {
    /// Adds the map with these bytes.
    pub(super) fn new(map: &[u8]) -> Self {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(install);
        let range = map.as_ptr_range();
        let is_taken = |[start, _]: &[AtomicUsize; 2]| {
            start.compare_exchange(0, range.start.addr(), Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let slot = MAPS.iter().position(is_taken);
        if let Some(slot) = slot {
            MAPS[slot][1].store(range.end.addr(), Ordering::SeqCst);
        }
        Self(slot)
    }
}

impl Drop for ProtectedMap {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            MAPS[slot][1].store(0, Ordering::SeqCst);
            MAPS[slot][0].store(0, Ordering::SeqCst);
        }
    }
}

#[expect(unsafe_code, reason = "sigaction(2) has no safe form")]
fn install() {
    // SAFETY: all zeros are a valid `sigaction`; the handler has the type that SA_SIGINFO needs, and only uses system
    // calls and atomic values, as signal-safety(7) demands.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
    }
}

#[expect(unsafe_code, reason = "a signal handler that changes maps")]
extern "C" fn on_bus_error(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t`, and SIGBUS has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    let page = address.map_addr(|address| address & !(rustix::param::page_size() - 1));
    let end = MAPS.iter().find_map(|[start, end]| {
        let (start, end) = (start.load(Ordering::SeqCst), end.load(Ordering::SeqCst));
        (start..end).contains(&address.addr()).then_some(end)
    });
    if let (libc::BUS_ADRERR, Some(end)) = (code, end) {
        // SAFETY: the pages belong to a map of a file, which stays until its value is dropped, and which is only read.
        let zeros =
            unsafe { mmap_anonymous(page, end - page.addr(), ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED) };
        if zeros.is_ok() {
            return;
        }
    }
    // SAFETY: the next attempt to read ends the process, as without this handler.
    unsafe {
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}
