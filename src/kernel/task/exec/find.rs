//! From a path to the program to run: permission, `#!` lines.

use std::sync::Arc;

use super::Subject;
use super::args::Strings;
use super::elf::{Bad, is_elf, is_regular, read_at};
use crate::kernel::fs::access::{Access, may_at};
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{File, FileType, InUse, OpenFlags, Path, Use};
use crate::kernel::stop::Errno;
use crate::kernel::task::Task;

/// What is looked at to tell formats apart (BINPRM_BUF_SIZE), in bytes.
const HEAD: usize = 256;

/// Most `#!` lines followed one after the other.
const SCRIPTS_MAX: usize = 5;

/// Longest name of a thread, in bytes.
const COMM_MAX: usize = 15;

/// An executable file, open.
pub(super) struct Program {
    pub(super) file: Arc<File>,
    pub(super) path: Path,
    /// Nobody may write it meanwhile.
    pub(super) in_use: Arc<InUse>,
    pub(super) head: Vec<u8>,
    /// The name it was called by (AT_EXECFN).
    pub(super) execfn: Vec<u8>,
    /// A script interpreter could not open it by that name.
    inaccessible: bool,
}

/// Looks programs up on behalf of somebody.
pub(super) struct Finder<'a> {
    walk: WalkCx<'a>,
}

/// The name of a thread that runs the program of this path.
pub(super) fn comm_of(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    name[..name.len().min(COMM_MAX)].to_vec()
}

impl<'a> Finder<'a> {
    /// Whether it looks for the program of the first process.
    pub(super) fn is_first(&self) -> bool {
        self.walk.task.is_none()
    }

    pub(super) fn of(task: &'a Task, _: &Subject) -> Finder<'a> {
        Finder {
            walk: WalkCx::of(task),
        }
    }

    pub(super) fn with(walk: WalkCx<'a>) -> Finder<'a> {
        Finder { walk }
    }

    /// Walk to a file. A symbolic link that must not be followed is ELOOP.
    pub(super) fn lookup(
        &self,
        start: Option<&Path>,
        path: &[u8],
        empty: bool,
        follow: bool,
    ) -> Result<Path, Errno> {
        let mut flags = WalkFlags::empty();
        flags.set(WalkFlags::EMPTY_PATH, empty);
        flags.set(WalkFlags::FOLLOW, follow);
        let found = self.walk.lookup(start, path, flags)?;
        if found.inode().file_type() == FileType::Symlink {
            return Err(Errno::ELOOP);
        }
        Ok(found)
    }

    /// Open what was found for executing. EACCES.
    pub(super) fn open(&self, path: Path, execfn: Vec<u8>, inaccessible: bool) -> Result<Program, Errno> {
        if path.inode().file_type() != FileType::Regular {
            return Err(Errno::EACCES);
        }
        may_at(&self.walk.creds, &path, Access::EXEC)?;
        let inode = path.inode().clone();
        let in_use = Arc::new(self.walk.vfs.busy.begin(&inode, Use::Execute)?);
        inode.keep_from_writing()?;
        let ops = inode.clone().open(OpenFlags::empty())?;
        let file = File::at_path(ops, path.clone(), inode, OpenFlags::empty());
        if !is_regular(&file) {
            return Err(Errno::EACCES);
        }
        let head = read_at(&file, 0, HEAD)?;
        Ok(Program {
            file,
            path,
            in_use,
            head,
            execfn,
            inaccessible,
        })
    }

    /// A program by its path: an interpreter.
    pub(super) fn open_path(&self, path: &[u8]) -> Result<Program, Errno> {
        let found = self.lookup(None, path, false, true)?;
        self.open(found, path.to_vec(), false)
    }

    /// Whether the subject could read the program as a file; what it cannot read it shall not dump either.
    pub(super) fn may_read(&self, program: &Program) -> bool {
        may_at(&self.walk.creds, &program.path, Access::READ).is_ok()
    }

    /// Follow `#!` lines until there is an ELF file. The name it was called by stays that of the first.
    pub(super) fn resolve(&self, first: Program, mut strings: Strings) -> Result<(Program, Strings), Bad> {
        let execfn = first.execfn.clone();
        let mut program = first;
        let mut name = execfn.clone();
        for _ in 0..=SCRIPTS_MAX {
            if is_elf(&program.head) {
                program.execfn = execfn;
                return Ok((program, strings));
            }
            let line = ScriptLine::parse(&program.head).ok_or(Errno::ENOEXEC)?;
            if program.inaccessible {
                return Err(Errno::ENOENT.into());
            }
            let mut front = vec![line.interpreter.clone()];
            front.extend(line.argument);
            front.push(name);
            for added in &front {
                strings.take(added.len() as u64 + 9)?;
            }
            let end = strings.argv.len().min(1);
            strings.argv.splice(..end, front);
            program = self.open_path(&line.interpreter)?;
            name = line.interpreter;
        }
        Err(Errno::ELOOP.into())
    }
}

/// A `#!` line.
#[derive(Debug, PartialEq, Eq)]
struct ScriptLine {
    interpreter: Vec<u8>,
    /// All that follows, as one argument.
    argument: Option<Vec<u8>>,
}

impl ScriptLine {
    /// None for what is no script, or one whose interpreter's name may be cut off.
    fn parse(head: &[u8]) -> Option<ScriptLine> {
        let text = head.strip_prefix(b"#!")?;
        let is_blank = |b: &u8| *b == b' ' || *b == b'\t';
        let newline = text.iter().position(|&b| b == b'\n');
        let line = match newline {
            Some(end) => &text[..end],
            None => text,
        };
        // A zero ends the line too: what Linux reads is a C string.
        let line = &line[..line.iter().position(|&b| b == 0).unwrap_or(line.len())];
        let start = line.iter().position(|b| !is_blank(b))?;
        let end = line.iter().rposition(|b| !is_blank(b))? + 1;
        let words = &line[start..end];
        let split = words.iter().position(is_blank);
        if newline.is_none() && split.is_none() && head.len() >= HEAD {
            return None;
        }
        let (interpreter, rest) = words.split_at(split.unwrap_or(words.len()));
        let argument = rest
            .iter()
            .position(|b| !is_blank(b))
            .map(|start| rest[start..].to_vec());
        Some(ScriptLine {
            interpreter: interpreter.to_vec(),
            argument,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        ScriptLine::parse(head).map(|l| (l.interpreter, l.argument))
    }

    #[test]
    fn script_lines() {
        assert_eq!(parsed(b"#!/bin/sh\nx"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(
            parsed(b"#! \t/usr/bin/env  python3 -u \t\n"),
            Some((b"/usr/bin/env".to_vec(), Some(b"python3 -u".to_vec())))
        );
        assert_eq!(parsed(b"#!/bin/sh"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(parsed(b"#! \n/bin/sh"), None);
        assert_eq!(parsed(b"#!"), None);
        assert_eq!(parsed(b"echo"), None);
    }

    #[test]
    fn a_cut_off_interpreter_is_refused_but_a_cut_off_argument_is_not() {
        let mut head = b"#!/".to_vec();
        head.resize(HEAD, b'a');
        assert_eq!(parsed(&head), None);
        let mut head = b"#!/bin/sh ".to_vec();
        head.resize(HEAD, b'a');
        assert_eq!(parsed(&head).map(|l| l.0), Some(b"/bin/sh".to_vec()));
    }

    #[test]
    fn names_of_threads() {
        assert_eq!(comm_of(b"/usr/bin/sh"), b"sh");
        assert_eq!(comm_of(b"a-very-long-program-name"), b"a-very-long-pro");
        assert_eq!(comm_of(b"/"), b"");
    }
}
