//! Reading an ELF file: what it wants mapped where. Every field is the file's and may be nonsense.

use std::sync::Arc;

use zerocopy::FromBytes;

use crate::kernel::abi::elf::{FileHeader, ProgramHeader};
use crate::kernel::fs::{File, FileType};
use crate::kernel::stop::Errno;
use crate::kernel::user_memory::{KernelSink, PATH_MAX};
use crate::platform::{PAGE_SIZE, Prot, USER_END};

/// Most bytes of program headers that Linux reads.
const HEADERS_MAX: usize = 65536;

/// Highest alignment of a segment that is honoured, in bytes.
const ALIGN_MAX: u64 = 1 << 30;

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Not an executable this kernel runs: the call fails with this.
    Refused(Errno),
    /// Its insides are nonsense. Linux finds out when the old program is gone already, and kills.
    Deadly,
    /// A part of it has been copied to where it can be mapped: the call has to be made again.
    Unready,
}

impl From<Errno> for Bad {
    fn from(errno: Errno) -> Bad {
        Bad::Refused(errno)
    }
}

/// A part of a file to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) vaddr: u64,
    pub(super) offset: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) prot: Prot,
}

impl Segment {
    /// First page and one past the last, before any bias.
    fn pages(&self) -> Option<(u64, u64)> {
        let end = self.vaddr.checked_add(self.memory_size)?;
        let end = end.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1);
        Some((self.vaddr & !(PAGE_SIZE - 1), end))
    }
}

/// An ELF file that has passed all checks that can be made without mapping it.
#[derive(Debug)]
pub(super) struct Image {
    /// ET_DYN: may be put anywhere.
    pub(super) relocatable: bool,
    pub(super) entry: u64,
    pub(super) segments: Vec<Segment>,
    /// Path of the program interpreter.
    pub(super) interpreter: Option<Vec<u8>>,
    /// Whether the stack is to be executable.
    pub(super) executable_stack: bool,
    /// Address of the program headers in memory before any bias; 0 when no segment holds them.
    pub(super) headers_addr: u64,
    pub(super) header_count: u16,
    /// Lowest page and one past the highest of all segments, before any bias.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Alignment that a bias must keep.
    pub(super) align: u64,
}

/// Read up to `len` bytes at `offset`; fewer at the end of the file.
pub(super) fn read_at(file: &Arc<File>, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut sink = KernelSink::new(len);
    let mut pos = offset;
    while sink.bytes.len() < len {
        let got = match file.ops.read(file, &mut pos, &mut sink) {
            Ok(got) => got,
            Err(crate::kernel::stop::Stop::Errno(errno, _)) => return Err(errno),
            // Only regular files come here, and they do not block.
            Err(_) => return Err(Errno::EIO),
        };
        if got == 0 {
            break;
        }
    }
    Ok(sink.bytes)
}

/// Whether these first bytes are of any ELF file.
pub(super) fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

impl Image {
    /// Read the headers of `file`, which begins with `head`.
    pub(super) fn read(file: &Arc<File>, head: &[u8]) -> Result<Image, Bad> {
        let (header, _) = FileHeader::read_from_prefix(head).map_err(|_| Errno::ENOEXEC)?;
        let relocatable = match header.kind {
            libc::ET_EXEC => false,
            libc::ET_DYN => true,
            _ => return Err(Errno::ENOEXEC.into()),
        };
        if !is_elf(head)
            || header.ident[libc::EI_CLASS] != libc::ELFCLASS64
            || header.machine != libc::EM_X86_64
        {
            return Err(Errno::ENOEXEC.into());
        }
        let headers = program_headers(file, &header)?;
        let mut image = Image {
            relocatable,
            entry: header.entry,
            segments: Vec::new(),
            interpreter: None,
            executable_stack: false,
            headers_addr: 0,
            header_count: header.program_header_count,
            start: u64::MAX,
            end: 0,
            align: PAGE_SIZE,
        };
        for program in &headers {
            match program.kind {
                libc::PT_LOAD => image.add_segment(program, &header)?,
                libc::PT_INTERP if image.interpreter.is_none() => {
                    image.interpreter = Some(interpreter(file, program)?);
                }
                libc::PT_GNU_STACK => image.executable_stack = program.flags & libc::PF_X != 0,
                _ => {}
            }
        }
        if image.segments.is_empty() {
            return Err(Bad::Deadly);
        }
        Ok(image)
    }

    fn add_segment(&mut self, program: &ProgramHeader, header: &FileHeader) -> Result<(), Bad> {
        let mut prot = Prot::empty();
        for (flag, bit) in [
            (libc::PF_R, Prot::READ),
            (libc::PF_W, Prot::WRITE),
            (libc::PF_X, Prot::EXEC),
        ] {
            if program.flags & flag != 0 {
                prot |= bit;
            }
        }
        let segment = Segment {
            vaddr: program.vaddr,
            offset: program.offset,
            file_size: program.file_size,
            memory_size: program.memory_size,
            prot,
        };
        let in_page = program.vaddr % PAGE_SIZE;
        if program.file_size > program.memory_size
            || program.memory_size > USER_END
            || program.file_size > 0 && program.offset % PAGE_SIZE != in_page
            || program
                .offset
                .checked_add(program.file_size)
                .is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(Bad::Deadly);
        }
        let (start, end) = segment
            .pages()
            .filter(|&(_, end)| end <= USER_END)
            .ok_or(Bad::Deadly)?;
        self.start = self.start.min(start);
        self.end = self.end.max(end);
        if program.align.is_power_of_two() {
            self.align = self.align.max(program.align.min(ALIGN_MAX));
        }
        // Where the program headers are in memory (AT_PHDR): in the segment that holds their place in the file.
        if let Some(inside) = header.program_headers.checked_sub(program.offset)
            && inside < program.file_size
        {
            self.headers_addr = program.vaddr.saturating_add(inside);
        }
        if segment.memory_size > 0 {
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Bytes from the first segment's first page to the last one's end.
    pub(super) fn span(&self) -> u64 {
        self.end - self.start
    }
}

fn program_headers(file: &Arc<File>, header: &FileHeader) -> Result<Vec<ProgramHeader>, Errno> {
    let count = usize::from(header.program_header_count);
    let bytes = count * size_of::<ProgramHeader>();
    if usize::from(header.program_header_size) != size_of::<ProgramHeader>()
        || count == 0
        || bytes > HEADERS_MAX
    {
        return Err(Errno::ENOEXEC);
    }
    let table = read_at(file, header.program_headers, bytes)?;
    let headers: Vec<_> = table
        .chunks_exact(size_of::<ProgramHeader>())
        .filter_map(|chunk| ProgramHeader::read_from_bytes(chunk).ok())
        .collect();
    if headers.len() == count {
        Ok(headers)
    } else {
        Err(Errno::ENOEXEC)
    }
}

fn interpreter(file: &Arc<File>, program: &ProgramHeader) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(program.file_size).unwrap_or(usize::MAX);
    if !(2..=PATH_MAX).contains(&len) {
        return Err(Errno::ENOEXEC);
    }
    let mut path = read_at(file, program.offset, len)?;
    if path.len() != len {
        return Err(Errno::EIO);
    }
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    // Like a C string: it ends at the first zero.
    let end = path.iter().position(|&b| b == 0).unwrap_or(path.len());
    path.truncate(end);
    Ok(path)
}

/// A regular file as exec(2) needs it.
pub(super) fn is_regular(file: &File) -> bool {
    file.inode.file_type() == FileType::Regular
}
