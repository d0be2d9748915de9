//! Putting a program and its interpreter into a fresh address space.

use std::sync::Arc;

use super::Subject;
use super::args::Strings;
use super::creds::{NewCreds, new_creds};
use super::elf::{Bad, Image, Segment};
use super::find::{Finder, Program};
use super::stack::{Auxv, Layout, lay_out};
use crate::kernel::Kernel;
use crate::kernel::fs::{InUse, MapRequest, Path};
use crate::kernel::mm::Mm;
use crate::kernel::stop::{Errno, Stop};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::Vdso;
use crate::platform::{HostFile, MapFlags, MemOp, PAGE_SIZE, Prot, Thread, USER_END, USER_START};

/// Where position-independent programs go before randomisation: two thirds of the way up.
const DYN_BASE: u64 = 0x5555_5555_4000;

/// Pages over which a position-independent program is randomised.
const DYN_SPREAD: u64 = 1 << 28;

/// Pages over which the top of the stack is randomised.
const STACK_SPREAD: u64 = 1 << 21;

/// Pages over which the heap's start is randomised.
const BRK_SPREAD: u64 = 0x2000;

/// Largest stack that is mapped, in bytes: what an unlimited one gets.
const STACK_MAX: u64 = 1 << 30;

/// Smallest stack that is mapped, in bytes.
const STACK_MIN: u64 = 128 << 10;

/// ADDR_NO_RANDOMIZE of personality(2).
const ADDR_NO_RANDOMIZE: u32 = 0x4_0000;

/// READ_IMPLIES_EXEC of personality(2).
const READ_IMPLIES_EXEC: u32 = 0x40_0000;

/// A program in an address space of its own, ready to run.
pub(super) struct Loaded {
    pub(super) thread: Box<dyn Thread>,
    pub(super) mm: Arc<Mm>,
    pub(super) creds: NewCreds,
}

/// An ELF file with what the host is to map of it.
struct Part {
    image: Image,
    host: Arc<HostFile>,
    path: Path,
    in_use: Arc<InUse>,
}

impl Part {
    fn open(finder: &Finder<'_>, program: &Program, not_elf: Errno) -> Result<Part, Bad> {
        let image = Image::read(&program.file, &program.head).map_err(|bad| match bad {
            Bad::Refused(Errno::ENOEXEC) => Bad::Refused(not_elf),
            bad => bad,
        })?;
        let request = MapRequest {
            offset: 0,
            len: PAGE_SIZE,
            shared: false,
            write: false,
        };
        let map = || program.file.ops.map(&program.file, &request);
        let mut mapped = map();
        // Before the first process there is nobody else to let go first.
        while finder.is_first() && matches!(mapped, Err(Stop::Block(_))) {
            mapped = map();
        }
        let host = match mapped {
            Ok(host) => host,
            Err(Stop::Errno(Errno::ENODEV, _)) => return Err(Errno::ENOEXEC.into()),
            Err(Stop::Errno(errno, _)) => return Err(errno.into()),
            Err(Stop::Block(_)) => return Err(Bad::Unready),
            Err(_) => return Err(Errno::EIO.into()),
        };
        Ok(Part {
            image,
            host,
            path: program.path.clone(),
            in_use: program.in_use.clone(),
        })
    }
}

/// The parts of a program where they are in its address space.
struct Mapped {
    main: Part,
    interpreter: Option<Part>,
    /// What was added to the program's addresses.
    bias: u64,
    /// Where the interpreter begins; 0 without one.
    base: u64,
    /// Where the program is entered, or its interpreter.
    entry: u64,
    vdso_at: Option<u64>,
}

/// Load `program` with its interpreter and first stack.
pub(super) fn load(
    kernel: &Arc<Kernel>,
    finder: &Finder<'_>,
    subject: &Subject,
    program: Program,
    strings: &Strings,
) -> Result<Loaded, Bad> {
    let main = Part::open(finder, &program, Errno::ENOEXEC)?;
    let interpreter = match &main.image.interpreter {
        Some(path) => Some(Part::open(finder, &finder.open_path(path)?, Errno::ELIBBAD)?),
        None => None,
    };
    let mut creds = new_creds(subject, &program);
    creds.dumpable &= finder.may_read(&program);
    let randomise = subject.personality & ADDR_NO_RANDOMIZE == 0 && kernel.turns.is_none();

    let mut thread = kernel.platform.spawn().map_err(|_| Errno::EAGAIN)?;
    if kernel.clock.is_virtual() {
        thread.trap_tsc(true)?;
    }
    let mapped = map_parts(kernel, &mut *thread, main, interpreter, randomise)?;
    let top = USER_END - spread(kernel, randomise, STACK_SPREAD);
    let stack_limit = if creds.secure {
        subject.stack_limit.min(8 << 20)
    } else {
        subject.stack_limit
    };
    let executable = mapped.main.image.executable_stack || subject.personality & READ_IMPLIES_EXEC != 0;
    thread.memory(&[stack(top, stack_limit, executable)])?;
    let mut entries = Vec::new();
    entries.extend(mapped.vdso_at.map(|at| (libc::AT_SYSINFO_EHDR, at + Vdso::DATA)));
    entries.extend(auxv_entries(
        kernel,
        &mapped.main.image,
        &creds,
        mapped.bias,
        mapped.base,
    ));
    let auxv = Auxv {
        entries: &entries,
        random: kernel.random.bytes(),
        execfn: &program.execfn,
    };
    let slide = if randomise {
        kernel.random.below(512) * 16
    } else {
        0
    };
    let layout = lay_out(top, strings, &auxv, slide);
    if thread.space().write(layout.rsp, &layout.bytes) != layout.bytes.len() {
        return Err(Errno::E2BIG.into());
    }
    set_registers(&mut *thread, mapped.entry, layout.rsp);
    let heap_slide = spread(kernel, randomise, BRK_SPREAD);
    let mm = describe(&*thread, &mapped, layout, (top, heap_slide), creds.dumpable);
    Ok(Loaded { thread, mm, creds })
}

/// A random number of bytes, of as many pages at most.
fn spread(kernel: &Kernel, randomise: bool, pages: u64) -> u64 {
    if randomise {
        kernel.random.below(pages) * PAGE_SIZE
    } else {
        0
    }
}

/// Map the vDSO, the program and its interpreter.
fn map_parts(
    kernel: &Kernel,
    thread: &mut dyn Thread,
    main: Part,
    interpreter: Option<Part>,
    randomise: bool,
) -> Result<Mapped, Bad> {
    let vdso = kernel.clock.vdso();
    let vdso_at = vdso.map(|vdso| map_vdso(thread, vdso)).transpose()?;
    let (bias, room) = main_bias(kernel, thread, &main.image, interpreter.is_some(), randomise)?;
    map_image(thread, &main, bias, room)?;
    let mut base = 0;
    let mut entry = main.image.entry.wrapping_add(bias);
    if let Some(part) = &interpreter {
        let (bias, room) = if part.image.relocatable {
            free_bias(thread, &part.image)?
        } else {
            (0, None)
        };
        map_image(thread, part, bias, room)?;
        base = part.image.start.wrapping_add(bias);
        entry = part.image.entry.wrapping_add(bias);
    }
    if entry >= USER_END {
        return Err(Bad::Deadly);
    }
    Ok(Mapped {
        main,
        interpreter,
        bias,
        base,
        entry,
        vdso_at,
    })
}

/// What is remembered of the new address space, whose stack ends at `top`.
fn describe(
    thread: &dyn Thread,
    mapped: &Mapped,
    layout: Layout,
    (top, heap_slide): (u64, u64),
    dumpable: bool,
) -> Arc<Mm> {
    let Mapped {
        main, interpreter, ..
    } = mapped;
    let mm = Mm::new(thread.space().clone());
    let mut state = mm.state.lock();
    // A static position-independent program was put among the mappings; its heap goes where the others have theirs.
    let heap = if main.image.relocatable && interpreter.is_none() {
        DYN_BASE
    } else {
        main.image.end.wrapping_add(mapped.bias)
    };
    state.brk_start = heap + heap_slide;
    state.brk = state.brk_start;
    state.exe = Some(main.path.clone());
    state.exe_in_use = Some(main.in_use.clone());
    state.args = layout.args;
    state.env = layout.env;
    state.stack_top = top;
    state.auxv = layout.auxv;
    state.dumpable = i32::from(dumpable);
    for part in std::iter::once(main).chain(interpreter) {
        state.files.add(&part.host, part.path.clone(), 0);
    }
    drop(state);
    mm
}

/// What to add to the program's addresses, and what is to be unmapped first.
fn main_bias(
    kernel: &Kernel,
    thread: &mut dyn Thread,
    image: &Image,
    interpreted: bool,
    randomise: bool,
) -> Result<(u64, Option<MemOp<'static>>), Bad> {
    if !image.relocatable {
        return if image.start < USER_START {
            Err(Bad::Deadly)
        } else {
            Ok((0, None))
        };
    }
    if !interpreted {
        return free_bias(thread, image);
    }
    let slide = if randomise {
        kernel.random.below(DYN_SPREAD) * PAGE_SIZE
    } else {
        0
    };
    let base = (DYN_BASE + slide) & !(image.align - 1);
    if base.checked_add(image.span()).is_none_or(|end| end > USER_END) {
        return Err(Bad::Refused(Errno::ENOMEM));
    }
    Ok((base.wrapping_sub(image.start), None))
}

/// What to add to an image's addresses to have it where the host finds room, and what holds that room until it is mapped.
fn free_bias(thread: &mut dyn Thread, image: &Image) -> Result<(u64, Option<MemOp<'static>>), Bad> {
    let len = image
        .span()
        .checked_add(image.align - PAGE_SIZE)
        .filter(|&len| len <= USER_END)
        .ok_or(Bad::Refused(Errno::ENOMEM))?;
    let addr = thread.memory(&[MemOp::Map {
        addr: 0,
        len,
        prot: Prot::empty(),
        flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE,
        file: None,
    }])?;
    let base = addr.next_multiple_of(image.align);
    Ok((base.wrapping_sub(image.start), Some(MemOp::Unmap { addr, len })))
}

/// Map all segments of an image, in place of `room`, and clear what follows their data.
fn map_image(thread: &mut dyn Thread, part: &Part, bias: u64, room: Option<MemOp<'_>>) -> Result<(), Bad> {
    let mut ops: Vec<_> = room.into_iter().collect();
    let mut cleared = Vec::new();
    for segment in &part.image.segments {
        map_segment(segment, bias, &part.host, &mut ops, &mut cleared);
    }
    thread.memory(&ops).map_err(|errno| match errno {
        Errno::EINVAL | Errno::EEXIST | Errno::EOVERFLOW => Bad::Deadly,
        errno => Bad::Refused(errno),
    })?;
    for (start, len) in cleared {
        if thread.space().write(start, &vec![0; len]) != len {
            return Err(Bad::Deadly);
        }
    }
    Ok(())
}

fn map_segment<'a>(
    segment: &Segment,
    bias: u64,
    host: &'a Arc<HostFile>,
    ops: &mut Vec<MemOp<'a>>,
    cleared: &mut Vec<(u64, usize)>,
) {
    let page_up = |addr: u64| addr.next_multiple_of(PAGE_SIZE);
    let start = segment.vaddr.wrapping_add(bias);
    let in_page = start % PAGE_SIZE;
    let zero_start = start + segment.file_size;
    let zero_end = start + segment.memory_size;
    let mut anonymous_from = start - in_page;
    if segment.file_size > 0 {
        ops.push(MemOp::Map {
            addr: start - in_page,
            len: page_up(segment.file_size + in_page),
            prot: segment.prot,
            flags: MapFlags::PRIVATE | MapFlags::FIXED,
            file: Some((host, segment.offset - in_page)),
        });
        anonymous_from = page_up(zero_start);
        if zero_end > zero_start && segment.prot.contains(Prot::WRITE) && anonymous_from > zero_start {
            cleared.push((
                zero_start,
                usize::try_from(anonymous_from - zero_start).unwrap_or(0),
            ));
        }
    }
    if zero_end > anonymous_from {
        ops.push(MemOp::Map {
            addr: anonymous_from,
            len: page_up(zero_end) - anonymous_from,
            prot: Prot::READ | Prot::WRITE | segment.prot & Prot::EXEC,
            flags: MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::ANONYMOUS,
            file: None,
        });
    }
}

/// The whole stack that the limit allows is mapped at once: untouched pages cost nothing, and it ends exactly there.
fn stack(top: u64, limit: u64, executable: bool) -> MemOp<'static> {
    let len = limit.clamp(STACK_MIN, STACK_MAX).next_multiple_of(PAGE_SIZE);
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, executable);
    MemOp::Map {
        addr: top - len,
        len,
        prot,
        flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
        file: None,
    }
}

/// Map the vDSO with its page, where the host finds room, and say where.
///
/// As on Linux it is the topmost mapping below the stack, and all others come below it. That one is in use for as long as the
/// program runs saves the host making page tables for a small mapping there and throwing them away, again and again.
fn map_vdso(thread: &mut dyn Thread, vdso: &Vdso) -> Result<u64, Errno> {
    let whole = MemOp::Map {
        addr: 0,
        len: vdso.size(),
        prot: Prot::READ,
        flags: MapFlags::PRIVATE,
        file: Some((vdso.file(), 0)),
    };
    let addr = thread.memory(&[whole])?;
    let code = MemOp::Map {
        addr: addr + Vdso::DATA,
        len: vdso.size() - Vdso::DATA,
        prot: Prot::READ | Prot::EXEC,
        flags: MapFlags::PRIVATE | MapFlags::FIXED,
        file: Some((vdso.file(), Vdso::DATA)),
    };
    thread.memory(&[code])?;
    Ok(addr)
}

/// Extend the caller's main stack down to a limit that was raised. As far as something is in the way, it stays as it is.
pub(in crate::kernel::task) fn grow_stack(cx: &mut SyscallCx<'_>, limit: u64) {
    let mm = cx.task.mm();
    let top = mm.state.lock().stack_top;
    let Ok(mappings) = mm.space.mappings() else { return };
    let bottom = top
        .saturating_sub(limit.min(STACK_MAX))
        .next_multiple_of(PAGE_SIZE);
    let Some(stack) = mappings.iter().find(|m| m.end == top) else {
        return;
    };
    if bottom >= USER_START && bottom < stack.start {
        let _ = cx.thread.memory(&[MemOp::Map {
            addr: bottom,
            len: stack.start - bottom,
            prot: stack.prot,
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
            file: None,
        }]);
    }
}

fn auxv_entries(kernel: &Kernel, image: &Image, creds: &NewCreds, bias: u64, base: u64) -> Vec<(u64, u64)> {
    let facts = &kernel.processor;
    let headers = match image.headers_addr {
        0 => 0,
        addr => addr.wrapping_add(bias),
    };
    let who = &creds.creds;
    vec![
        (libc::AT_MINSIGSTKSZ, facts.min_signal_stack),
        (libc::AT_HWCAP, facts.hwcap()),
        (libc::AT_PAGESZ, PAGE_SIZE),
        (libc::AT_CLKTCK, 100),
        (libc::AT_PHDR, headers),
        (libc::AT_PHENT, 56),
        (libc::AT_PHNUM, u64::from(image.header_count)),
        (libc::AT_BASE, base),
        (libc::AT_FLAGS, 0),
        (libc::AT_ENTRY, image.entry.wrapping_add(bias)),
        (libc::AT_UID, u64::from(who.uid)),
        (libc::AT_EUID, u64::from(who.euid)),
        (libc::AT_GID, u64::from(who.gid)),
        (libc::AT_EGID, u64::from(who.egid)),
        (libc::AT_SECURE, u64::from(creds.secure)),
        (libc::AT_HWCAP2, facts.hwcap2()),
    ]
}

fn set_registers(thread: &mut dyn Thread, entry: u64, rsp: u64) {
    let regs = thread.regs_mut();
    *regs = crate::platform::Regs {
        rip: entry,
        rsp,
        eflags: 0x202,
        cs: regs.cs,
        ss: regs.ss,
        ds: regs.ds,
        es: regs.es,
        fs: regs.fs,
        gs: regs.gs,
        orig_rax: u64::MAX,
        ..crate::platform::Regs::default()
    };
}
