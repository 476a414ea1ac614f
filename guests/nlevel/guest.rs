// SPDX-License-Identifier: MIT
//! The guest of guest.c and tree.c in Rust: no_std, one file, no crate. It registers two, three or four levels, counts its
//! events, and makes its channels again after a migration. Its exports are those of the C guest.
//!
//!     gfn + 0 …          pending bitmap, nr_pages frames
//!     gfn + nr_pages …   mask bitmap, nr_pages frames
//!     then               level 2 … n-1, each from a frame of its own on
//!
//! Guest virtual is guest physical: an address in this module's memory is one in the domain's RAM. Words that the hypervisor
//! changes too are atomics. The orders are those of NL-scan-1 in docs/spec/nlevel.md.

#![no_std]

use core::sync::atomic::{AtomicU64, AtomicU8, Ordering::SeqCst};

const PAGE_SIZE: u32 = 4096;
const PAGE_BITS: u32 = 32768;
const BITS: u32 = 64;
const SHIFT: u32 = 6;
const MAX_LEVELS: usize = 4;
const MAX_LEAF_PAGES: usize = 2;
const MAX_PORTS: usize = MAX_LEAF_PAGES * PAGE_BITS as usize;
const DOMID_SELF: u16 = 0x7ff0;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;

const SCHED_OP: u32 = 29;
const SHUTDOWN: u32 = 2;
const SUSPEND: u32 = 2;
const EVENT_CHANNEL_OP: u32 = 32;
const CLOSE: u32 = 3;
const SEND: u32 = 4;
const ALLOC_UNBOUND: u32 = 6;
const BIND_IPI: u32 = 7;
const UNMASK: u32 = 9;
const SET_NLEVEL_SELECTORS: u32 = 65;
const REGISTER_NLEVEL: u32 = 66;
const QUERY_NLEVEL2: u32 = 67;

#[link(wasm_import_module = "env")]
extern "C" {
    fn hypercall(op: u32, a1: u32, a2: u32) -> i32;
}

/// An operation on a struct in the guest's memory: 0, or -errno.
fn operation<T>(cmd: u32, arg: &mut T) -> i32 {
    unsafe { hypercall(EVENT_CHANNEL_OP, cmd, arg as *mut T as u32) }
}

#[repr(C)]
struct AllocUnbound {
    dom: u16,
    remote_dom: u16,
    port: u32,
}
#[repr(C)]
struct BindIpi {
    vcpu: u32,
    port: u32,
}
#[repr(C)]
struct Port {
    port: u32,
}
#[repr(C)]
#[derive(Default)]
struct QueryNlevel2 {
    dom: u16,
    ignored: u16,
    max_levels: u32,
    max_pages: u32,
    abi: u32,
    nr_channels: u32,
    pad: u32,
}
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct SelectorArea {
    gfns: u64,
    nr_pages: u32,
    offset: u32,
}
#[repr(C)]
struct SetNlevelSelectors {
    vcpu: u32,
    levels: u32,
    nr_pages: u32,
    pad: u32,
    areas: u64,
}
#[repr(C)]
struct RegisterNlevel {
    levels: u32,
    nr_pages: u32,
    pending_gfns: u64,
    mask_gfns: u64,
    nr_channels: u32,
    pad: u32,
}

fn max_evtchns(levels: u32, nr_pages: u32) -> u32 {
    let full = 1u64 << (SHIFT * levels);
    let paged = nr_pages as u64 * PAGE_BITS as u64;
    if levels == 2 || full < paged { full as u32 } else { paged as u32 }
}

/// Bits of level k: those at or beyond are never followed.
fn level_bits(levels: u32, k: u32, max: u32) -> u32 {
    let shift = SHIFT * (levels - k);
    ((max as u64 + (1u64 << shift) - 1) >> shift) as u32
}

/// A word of the guest's memory that the hypervisor changes too.
fn word(base: u32, index: u32) -> &'static AtomicU64 {
    unsafe { &*((base + index * 8) as *const AtomicU64) }
}

fn fill(at: u32, value: u8, count: u32) {
    for i in 0..count {
        unsafe { core::ptr::write_volatile((at + i) as *mut u8, value) }
    }
}

/// Where the words are. Addresses, for the frames are not Rust's.
#[derive(Clone, Copy)]
struct Tree {
    levels: u32,
    /// Geometry, and what may be used of it.
    max_evtchns: u32,
    nr_channels: u32,
    info: u32,
    /// `[k - 1]` is level k; `[0]` is evtchn_pending_sel.
    selector: [u32; MAX_LEVELS],
    pending: u32,
    mask: u32,
}

impl Tree {
    const NONE: Tree =
        Tree { levels: 0, max_evtchns: 0, nr_channels: 0, info: 0, selector: [0; MAX_LEVELS], pending: 0, mask: 0 };

    /// Two levels, which every domain has: bitmaps behind 32 vcpu_info of 64 bytes. All are masked.
    fn two_levels(shared_info: u32) -> Tree {
        let pending = shared_info + 32 * 64;
        let mask = pending + BITS * 8;
        fill(mask, 0xff, BITS * 8);
        let max = max_evtchns(2, 0);
        let selector = [shared_info + 8, 0, 0, 0];
        Tree { levels: 2, max_evtchns: max, nr_channels: max, info: shared_info, selector, pending, mask }
    }

    /// The same domain on `levels`: names its selectors, then commits. An error leaves everything as it was.
    fn register(&self, levels: u32, nr_pages: u32, gfn: u32) -> Result<Tree, i32> {
        if !(3..=MAX_LEVELS as u32).contains(&levels) || !(1..=MAX_LEAF_PAGES as u32).contains(&nr_pages) {
            return Err(-EINVAL);
        }
        let mut next = *self;
        next.levels = levels;
        next.max_evtchns = max_evtchns(levels, nr_pages);
        next.pending = gfn * PAGE_SIZE;
        next.mask = (gfn + nr_pages) * PAGE_SIZE;
        fill(next.pending, 0, nr_pages * PAGE_SIZE);
        fill(next.mask, 0xff, nr_pages * PAGE_SIZE);

        let mut areas = [SelectorArea::default(); MAX_LEVELS - 2];
        let mut selector_gfns = [[0u64; 16]; MAX_LEVELS - 2];
        let mut free = gfn + 2 * nr_pages;
        for k in 2..levels {
            let words = (level_bits(levels, k, next.max_evtchns) + BITS - 1) / BITS;
            let pages = (words * 8 + PAGE_SIZE - 1) / PAGE_SIZE;
            next.selector[k as usize - 1] = free * PAGE_SIZE;
            for page in 0..pages {
                selector_gfns[k as usize - 2][page as usize] = free as u64;
                fill(free * PAGE_SIZE, 0, PAGE_SIZE);
                free += 1;
            }
            let gfns = selector_gfns[k as usize - 2].as_ptr() as u64;
            areas[k as usize - 2] = SelectorArea { gfns, nr_pages: pages, offset: 0 };
        }
        let mut pending_gfns = [0u64; MAX_LEAF_PAGES];
        let mut mask_gfns = [0u64; MAX_LEAF_PAGES];
        for page in 0..nr_pages {
            pending_gfns[page as usize] = (gfn + page) as u64;
            mask_gfns[page as usize] = (gfn + nr_pages + page) as u64;
        }

        let mut name = SetNlevelSelectors { vcpu: 0, levels, nr_pages, pad: 0, areas: areas.as_ptr() as u64 };
        let rc = operation(SET_NLEVEL_SELECTORS, &mut name);
        if rc < 0 {
            return Err(rc);
        }
        let mut commit = RegisterNlevel {
            levels,
            nr_pages,
            pending_gfns: pending_gfns.as_ptr() as u64,
            mask_gfns: mask_gfns.as_ptr() as u64,
            nr_channels: 0,
            pad: 0,
        };
        let rc = operation(REGISTER_NLEVEL, &mut commit);
        if rc < 0 {
            name.levels = 0;
            operation(SET_NLEVEL_SELECTORS, &mut name);
            return Err(rc);
        }
        next.nr_channels = commit.nr_channels;
        Ok(next)
    }

    /// Serves a word of the leaf: each pending bit is clear before its handler runs.
    fn scan_leaf(&self, index: u32, handler: fn(u32)) {
        let mut due = word(self.pending, index).load(SeqCst) & !word(self.mask, index).load(SeqCst);
        while due != 0 {
            let bit = due.trailing_zeros();
            word(self.pending, index).fetch_and(!(1 << bit), SeqCst);
            handler((index << SHIFT) + bit);
            due &= due - 1;
        }
    }

    /// Takes a word of level k, and follows every bit of it to the end.
    fn scan_level(&self, k: u32, index: u32, handler: fn(u32)) {
        let bits = level_bits(self.levels, k, self.max_evtchns);
        let mut taken = word(self.selector[k as usize - 1], index).swap(0, SeqCst);
        while taken != 0 {
            let below = (index << SHIFT) + taken.trailing_zeros();
            taken &= taken - 1;
            if below >= bits {
                continue;
            }
            if k + 1 == self.levels {
                self.scan_leaf(below, handler);
            } else {
                self.scan_level(k + 1, below, handler);
            }
        }
    }

    /// evtchn_upcall_pending and evtchn_upcall_mask.
    fn byte(&self, offset: u32) -> &'static AtomicU8 {
        unsafe { &*((self.info + offset) as *const AtomicU8) }
    }

    fn scan(&self, handler: fn(u32)) {
        while self.byte(0).swap(0, SeqCst) != 0 {
            self.scan_level(1, 0, handler);
        }
    }

    fn mask(&self, port: u32) {
        word(self.mask, port >> SHIFT).fetch_or(1 << (port % BITS), SeqCst);
    }
}

/// What a channel is, so that it can be made again on another host.
#[derive(Clone, Copy, PartialEq)]
enum Channel {
    None,
    Offered(u16),
    Ipi,
}

/// One vCPU runs this, and the loader enters it from one place: nothing here is shared but the words above.
struct Guest {
    tree: Tree,
    channels: [Channel; MAX_PORTS],
    counts: [u32; MAX_PORTS],
    strays: u32,
    lost: u32,
    scanning: bool,
}

static mut GUEST: Guest = Guest {
    tree: Tree::NONE,
    channels: [Channel::None; MAX_PORTS],
    counts: [0; MAX_PORTS],
    strays: 0,
    lost: 0,
    scanning: false,
};

fn guest() -> &'static mut Guest {
    unsafe { &mut *core::ptr::addr_of_mut!(GUEST) }
}

fn handle(port: u32) {
    let guest = guest();
    if guest.channels[port as usize] == Channel::None {
        guest.strays += 1;
    }
    guest.counts[port as usize] += 1;
}

#[no_mangle]
pub extern "C" fn upcall() {
    if guest().scanning {
        return;
    }
    guest().scanning = true;
    guest().tree.scan(handle);
    guest().scanning = false;
}

/// Masks all, registers, lets upcalls in. Returns how many channels there are, or -errno: then it is on two levels.
#[no_mangle]
pub extern "C" fn boot(shared_info_gfn: u32, levels: u32, nr_pages: u32, gfn: u32) -> i32 {
    // Between two forms there is nothing to scan (NL-reg-5).
    guest().scanning = true;
    guest().tree = Tree::two_levels(shared_info_gfn * PAGE_SIZE);
    let mut rc = 0;
    if levels > 2 {
        match guest().tree.register(levels, nr_pages, gfn) {
            Ok(tree) => guest().tree = tree,
            Err(errno) => rc = errno,
        }
    }
    guest().tree.byte(1).store(0, SeqCst);
    guest().scanning = false;
    upcall();
    if rc < 0 { rc } else { guest().tree.nr_channels as i32 }
}

#[no_mangle]
pub extern "C" fn query() -> i32 {
    let mut op = QueryNlevel2 { dom: DOMID_SELF, ..Default::default() };
    let rc = operation(QUERY_NLEVEL2, &mut op);
    if rc < 0 { rc } else { op.nr_channels as i32 }
}

#[no_mangle]
pub extern "C" fn unmask(port: u32) -> i32 {
    operation(UNMASK, &mut Port { port })
}

fn make(channel: Channel) -> i32 {
    let (rc, port) = match channel {
        Channel::Offered(remote_dom) => {
            let mut op = AllocUnbound { dom: DOMID_SELF, remote_dom, port: 0 };
            (operation(ALLOC_UNBOUND, &mut op), op.port)
        }
        _ => {
            let mut op = BindIpi { vcpu: 0, port: 0 };
            (operation(BIND_IPI, &mut op), op.port)
        }
    };
    if rc < 0 {
        return rc;
    }
    if port >= guest().tree.max_evtchns || port as usize >= MAX_PORTS {
        return -ENOSPC;
    }
    guest().channels[port as usize] = channel;
    let rc = unmask(port);
    if rc < 0 { rc } else { port as i32 }
}

#[no_mangle]
pub extern "C" fn offer(remote: u32) -> i32 {
    make(Channel::Offered(remote as u16))
}

#[no_mangle]
pub extern "C" fn bind_ipi() -> i32 {
    make(Channel::Ipi)
}

#[no_mangle]
pub extern "C" fn send(port: u32) -> i32 {
    operation(SEND, &mut Port { port })
}

#[no_mangle]
pub extern "C" fn mask(port: u32) {
    guest().tree.mask(port)
}

#[no_mangle]
pub extern "C" fn close(port: u32) -> i32 {
    guest().tree.mask(port);
    let rc = operation(CLOSE, &mut Port { port });
    if rc == 0 {
        guest().channels[port as usize] = Channel::None;
    }
    rc
}

/// Ready to move: the domain stops here, and goes on in `resume`.
#[no_mangle]
pub extern "C" fn suspend() -> i32 {
    let mut reason = SUSPEND;
    unsafe { hypercall(SCHED_OP, SHUTDOWN, &mut reason as *mut u32 as u32) }
}

/// On another host, after a cooperative migration: registers again and makes the channels again, in order (NL-mig-2).
#[no_mangle]
pub extern "C" fn resume(shared_info_gfn: u32, levels: u32, nr_pages: u32, gfn: u32) -> i32 {
    let rc = boot(shared_info_gfn, levels, nr_pages, gfn);
    guest().lost = 0;
    for port in 1..MAX_PORTS {
        let was = guest().channels[port];
        guest().channels[port] = Channel::None;
        if was != Channel::None && make(was) < 0 {
            guest().lost += 1;
        }
    }
    rc
}

#[no_mangle]
pub extern "C" fn levels() -> i32 {
    guest().tree.levels as i32
}

#[no_mangle]
pub extern "C" fn pending(port: u32) -> i32 {
    (word(guest().tree.pending, port >> SHIFT).load(SeqCst) >> (port % BITS) & 1) as i32
}

#[no_mangle]
pub extern "C" fn handled(port: u32) -> u32 {
    guest().counts.get(port as usize).copied().unwrap_or(0)
}

#[no_mangle]
pub extern "C" fn stray() -> u32 {
    guest().strays
}

#[no_mangle]
pub extern "C" fn lost() -> u32 {
    guest().lost
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
