//! Is this KVM any good? The only way to know is to run a guest.
//!
//! Some hosts offer a /dev/kvm that passes every API check and then emulates each instruction a thousand times slower
//! than TCG does. So: a virtual machine of one vCPU, put straight into long mode (one identity-mapped 2 MiB page), runs
//!
//! ```text
//!   mov ecx, ROUNDS;  loop: dec ecx; jnz loop;  out 0xe9, al
//! ```
//!
//! in a forked child that is killed after a limit. Hardware needs 0.1 ms, the broken kind 400 ms.
//! Numbers and structures: linux/include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h.

use std::ffi::c_ulong;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// Rounds of the loop: 400,000 instructions.
const ROUNDS: u32 = 200_000;

/// How long they may take. 100 ms is 4 million instructions a second: a hundredth of what TCG reaches.
const LIMIT: Duration = Duration::from_millis(100);

/// How long the killed child may take to go. It is left to its fate after that.
const KILL_LIMIT: Duration = Duration::from_millis(80);

const KVM_GET_API_VERSION: c_ulong = 0xae00;
const KVM_CREATE_VM: c_ulong = 0xae01;
const KVM_GET_VCPU_MMAP_SIZE: c_ulong = 0xae04;
const KVM_CREATE_VCPU: c_ulong = 0xae41;
const KVM_SET_TSS_ADDR: c_ulong = 0xae47;
const KVM_SET_USER_MEMORY_REGION: c_ulong = 0x4020_ae46;
const KVM_RUN: c_ulong = 0xae80;
const KVM_SET_REGS: c_ulong = 0x4090_ae82;
const KVM_GET_SREGS: c_ulong = 0x8138_ae83;
const KVM_SET_SREGS: c_ulong = 0x4138_ae84;

const KVM_API_VERSION: libc::c_int = 12;
const KVM_EXIT_IO: u32 = 2;
/// Offset of `exit_reason` in `struct kvm_run`.
const EXIT_REASON: usize = 8;

const MEMORY_BYTES: usize = 2 * 1024 * 1024;
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const PD: usize = 0x3000;
const CODE: usize = 0x8000;
const PRESENT_WRITABLE: u64 = 3;
const LARGE_PAGE: u64 = 0x80;

#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    padding: u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Table {
    base: u64,
    limit: u16,
    padding: [u16; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SystemRegisters {
    /// cs, ds, es, fs, gs, ss, tr, ldt.
    segments: [Segment; 8],
    tables: [Table; 2],
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u64,
    efer: u64,
    apic_base: u64,
    interrupts: [u64; 4],
}

/// rax…r15, rip, rflags.
#[repr(C)]
struct Registers {
    general: [u64; 16],
    rip: u64,
    rflags: u64,
}

#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_address: u64,
    bytes: u64,
    host_address: u64,
}

/// Why a KVM is not used; `Ok` if it runs code at speed.
pub(crate) fn probe(device: &File) -> Result<(), String> {
    let kvm = device.as_raw_fd();
    // SAFETY: fork has no preconditions. The child calls only the functions below `child`, which make system calls on
    // integers and on memory they map themselves: no allocation, no lock, nothing that another thread could hold.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        child(kvm);
    }
    let Some(pid) = Pid::from_raw(forked).filter(|_| forked > 0) else {
        return Err("the probe cannot be started".to_owned());
    };
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| format!("the probe cannot be watched: {error}"))?;
    let in_time = ended(&handle, LIMIT);
    if !in_time {
        // It may have ended just now.
        let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        if !ended(&handle, KILL_LIMIT) {
            return Err("KVM hangs".to_owned());
        }
    }
    let status = rustix::process::waitpid(Some(pid), WaitOptions::empty())
        .map_err(|error| format!("the probe is lost: {error}"))?;
    if !in_time {
        return Err("KVM is far too slow: it emulates instructions".to_owned());
    }
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(step) => Err(format!("KVM fails at step {step} of the probe")),
        None => Err("the probe was killed".to_owned()),
    }
}

fn ended(handle: &impl std::os::fd::AsFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
    poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit)).is_ok_and(|count| count > 0)
}

/// Runs the guest and ends this process: 0, or the number of the step that failed.
fn child(kvm: RawFd) -> ! {
    let code = run_guest(kvm).err().unwrap_or(0);
    // SAFETY: _exit is async-signal-safe and does not return; no destructor of the parent's state runs.
    unsafe { libc::_exit(code) }
}

fn run_guest(kvm: RawFd) -> Result<(), i32> {
    if call(kvm, KVM_GET_API_VERSION, 0, 1)? != KVM_API_VERSION {
        return Err(1);
    }
    let vm = call(kvm, KVM_CREATE_VM, 0, 2)?;
    // Only old Intel processors need it, and only there it can matter that it fails; the run will tell.
    let _ = call(vm, KVM_SET_TSS_ADDR, 0xfffb_d000, 3);
    let memory = map(-1, MEMORY_BYTES, 4)?;
    // SAFETY: `memory` is MEMORY_BYTES of fresh, page-aligned, writable memory; all offsets are below that and
    // multiples of eight, and the code is shorter than a page.
    unsafe {
        memory.add(PML4).cast::<u64>().write(PDPT as u64 | PRESENT_WRITABLE);
        memory.add(PDPT).cast::<u64>().write(PD as u64 | PRESENT_WRITABLE);
        memory.add(PD).cast::<u64>().write(LARGE_PAGE | PRESENT_WRITABLE);
        let [a, b, c, d] = ROUNDS.to_le_bytes();
        let code = [0xb9, a, b, c, d, 0xff, 0xc9, 0x75, 0xfc, 0xe6, 0xe9, 0xf4];
        ptr::copy_nonoverlapping(code.as_ptr(), memory.add(CODE), code.len());
    }
    let region = MemoryRegion {
        slot: 0,
        flags: 0,
        guest_address: 0,
        bytes: MEMORY_BYTES as u64,
        host_address: memory as u64,
    };
    call(vm, KVM_SET_USER_MEMORY_REGION, ptr::from_ref(&region) as c_ulong, 5)?;
    let vcpu = call(vm, KVM_CREATE_VCPU, 0, 6)?;
    let run_bytes = usize::try_from(call(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, 7)?).map_err(|_| 7)?;
    let run = map(vcpu, run_bytes, 8)?;
    set_registers(vcpu)?;
    call(vcpu, KVM_RUN, 0, 11)?;
    // SAFETY: `run` maps struct kvm_run, which is far longer than this field.
    let reason = unsafe { run.add(EXIT_REASON).cast::<u32>().read_volatile() };
    if reason == KVM_EXIT_IO { Ok(()) } else { Err(12) }
}

fn set_registers(vcpu: RawFd) -> Result<(), i32> {
    // SAFETY: the structure is made of integers only; all zero is a valid value.
    let mut system: SystemRegisters = unsafe { std::mem::zeroed() };
    call(vcpu, KVM_GET_SREGS, ptr::from_mut(&mut system) as c_ulong, 9)?;
    let flat = |selector, kind, db, l| Segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        kind,
        present: 1,
        dpl: 0,
        db,
        s: 1,
        l,
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    };
    system.segments[0] = flat(0x8, 11, 0, 1);
    system.segments[1..6].fill(flat(0x10, 3, 1, 0));
    system.cr0 = 0x8005_0033; // PG, AM, WP, NE, ET, MP, PE
    system.cr3 = PML4 as u64;
    system.cr4 = 0x20; // PAE
    system.efer = 0x500; // LME, LMA
    call(vcpu, KVM_SET_SREGS, ptr::from_ref(&system) as c_ulong, 9)?;
    let registers = Registers { general: [0; 16], rip: CODE as u64, rflags: 2 };
    call(vcpu, KVM_SET_REGS, ptr::from_ref(&registers) as c_ulong, 10)?;
    Ok(())
}

fn call(fd: RawFd, request: c_ulong, argument: c_ulong, step: i32) -> Result<libc::c_int, i32> {
    // SAFETY: every caller passes a KVM descriptor and an argument that is an integer or the address of the structure
    // that belongs to the request and outlives the call.
    let result = unsafe { libc::ioctl(fd, request, argument) };
    if result < 0 { Err(step) } else { Ok(result) }
}

fn map(fd: RawFd, bytes: usize, step: i32) -> Result<*mut u8, i32> {
    let flags = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    // SAFETY: a fresh mapping at an address the kernel chooses overlaps nothing.
    let address =
        unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if address == libc::MAP_FAILED { Err(step) } else { Ok(address.cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_size_in_the_ioctl_number() {
        let size = |request: c_ulong| ((request >> 16) & 0x3fff) as usize;
        assert_eq!(size_of::<SystemRegisters>(), size(KVM_GET_SREGS));
        assert_eq!(size_of::<Registers>(), size(KVM_SET_REGS));
        assert_eq!(size_of::<MemoryRegion>(), size(KVM_SET_USER_MEMORY_REGION));
    }

    #[test]
    fn a_device_that_is_no_kvm_is_refused() {
        let device = File::open("/dev/null").unwrap();
        assert_eq!(probe(&device), Err("KVM fails at step 1 of the probe".to_owned()));
    }
}
