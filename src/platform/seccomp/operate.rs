//! Memory operations as lists of commands: as many as fit into one, a file handed in once for all that is mapped of it.

use std::os::fd::AsFd;
use std::sync::Arc;

use guest_runtime::abi::{COMMANDS, Command, TAKEN_FD, op};
use nix::errno::Errno;

use super::launch::call;
use super::notify::Expectation;
use super::process::lock;
use super::thread::{SeccompThread, decode};
use crate::platform::native::memory;
use crate::platform::{HostFile, MapFlags, MemOp, PAGE_SIZE};

/// A list of commands.
#[derive(Default)]
struct List {
    commands: Vec<Command>,
    /// For each operation its command.
    places: Vec<usize>,
    expectation: Option<Arc<Expectation>>,
    /// The command that takes a file.
    take: Option<usize>,
    /// It closes the descriptor.
    closes: bool,
}

impl SeccompThread {
    /// Carry out operations up to the first that fails; the last one's result.
    pub(super) fn operate(&self, ops: &[MemOp<'_>]) -> Result<u64, Errno> {
        let process = Arc::clone(&self.host().process);
        let _alone = ops.iter().any(maps_a_file).then(|| lock(&process.mapping));
        let mut taken = None;
        let mut rest = ops;
        let mut outcome = Ok(0);
        while !rest.is_empty() && outcome.is_ok() {
            outcome = self.list(rest, &mut taken).and_then(|list| {
                let (some, others) = rest.split_at(list.places.len());
                rest = others;
                self.carry_out(some, &list, &mut taken)
            });
        }
        if taken.is_some() {
            // A stub that does not close harms itself only.
            let _ = self.host().command(&[close()]);
        }
        outcome
    }

    /// As many operations as may be one list: one at least.
    fn list<'a>(&self, ops: &[MemOp<'a>], taken: &mut Option<&'a Arc<HostFile>>) -> Result<List, Errno> {
        let mut list = List::default();
        for op in ops {
            // Behind it there must be room for the taking and the closing of a file.
            if list.commands.len() + 3 > COMMANDS {
                break;
            }
            match self.add(op, &mut list, taken) {
                Ok(true) => {}
                Ok(false) => break,
                Err(errno) if list.places.is_empty() => return Err(errno),
                // When those before it have been carried out.
                Err(_) => break,
            }
        }
        if list.places.len() == ops.len() && taken.is_some() {
            if let Some(last) = list.commands.last_mut() {
                last.optional = 1;
            }
            list.closes = true;
            list.commands.push(close());
        }
        Ok(list)
    }

    /// Add an operation to a list. False when that must be carried out first.
    fn add<'a>(
        &self,
        op: &MemOp<'a>,
        list: &mut List,
        taken: &mut Option<&'a Arc<HostFile>>,
    ) -> Result<bool, Errno> {
        let (number, args) = memory::host_call(op, maps_a_file(op).then_some(u64::from(TAKEN_FD)))?;
        if let MemOp::Map {
            file: Some((file, _)),
            ..
        } = *op
            && taken.is_none_or(|other| !Arc::ptr_eq(other, file))
        {
            if taken.is_some() && !list.places.is_empty() {
                return Ok(false);
            }
            let fd = file.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
            let core = &self.host().core;
            core.identify(file)?;
            let expectation = core.notifier().expect_at(fd, TAKEN_FD)?;
            list.take = Some(list.commands.len());
            list.commands.push(Command {
                op: op::TAKE,
                args: [expectation.token(), 0, 0, 0, 0, 0, 0],
                ..Command::default()
            });
            list.expectation = Some(expectation);
            *taken = Some(file);
        }
        list.places.push(list.commands.len());
        list.commands.push(match *op {
            MemOp::SetBit { addr, bit } => Command {
                op: op::SET_BIT,
                args: [addr, u64::from(bit), 0, 0, 0, 0, 0],
                ..Command::default()
            },
            _ => call(number, args),
        });
        Ok(true)
    }

    /// Carry out a list and say so to the patcher; the last operation's result.
    fn carry_out(
        &self,
        ops: &[MemOp<'_>],
        list: &List,
        taken: &mut Option<&Arc<HostFile>>,
    ) -> Result<u64, Errno> {
        // No text is patched before the patcher knows what has changed there since it was mapped.
        let _passing = self.host().space.gate.pass();
        let results = self
            .host()
            .command_expecting(&list.commands, list.expectation.as_ref())?;
        let result = |index: usize| decode(results.get(index).copied().unwrap_or(-1));
        if let Some(take) = list.take {
            result(take)?;
        }
        let mut last = 0;
        for (i, (op, place)) in ops.iter().zip(&list.places).enumerate() {
            if list.closes && i + 1 == ops.len() {
                *taken = None;
            }
            last = result(*place)?;
            self.done(op, last);
        }
        Ok(last)
    }

    /// Tell the patcher of an operation and its result.
    fn done(&self, op: &MemOp<'_>, result: u64) {
        let host = self.host();
        let patcher = host.core.patcher();
        match *op {
            MemOp::Map {
                len,
                prot,
                flags,
                file,
                ..
            } => {
                let range = result..result.saturating_add(len.next_multiple_of(PAGE_SIZE));
                let private = file.filter(|_| flags.contains(MapFlags::PRIVATE));
                patcher.mapped(host, range, prot, private.map(|(file, offset)| (&**file, offset)));
            }
            MemOp::Unmap { addr, len } => patcher.unmapped(host, addr..addr.saturating_add(len)),
            MemOp::Remap {
                old,
                old_len,
                new_len,
                ..
            } => {
                patcher.unmapped(host, old..old.saturating_add(old_len));
                patcher.unmapped(host, result..result.saturating_add(new_len));
            }
            MemOp::Protect { addr, len, prot } => {
                patcher.protected(host, &(addr..addr.saturating_add(len)), prot);
            }
            _ => {}
        }
    }
}

fn maps_a_file(op: &MemOp<'_>) -> bool {
    matches!(op, MemOp::Map { file: Some(_), .. })
}

fn close() -> Command {
    call(libc::SYS_close, [u64::from(TAKEN_FD), 0, 0, 0, 0, 0])
}
