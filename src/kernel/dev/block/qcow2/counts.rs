//! Reference counts: 16 bits for each cluster of the file, in blocks of a cluster that a table lists.

use super::{PLACE, Qcow2, State};
use crate::kernel::dev::block::raw::read_exact;
use crate::kernel::stop::Errno;

/// Most unused clusters that are remembered to be used again.
const FREE_MAX: usize = 1 << 16;

/// How many clusters behind the end are looked at that are said to be in use.
const USED_MAX: usize = 1024;

/// How many blocks of counts one change can make: a block for a cluster, one for that block.
const BLOCKS_MAX: u32 = 4;

/// Largest place in the file, in bytes.
const FILE_MAX: u64 = 1 << 55;

impl Qcow2 {
    fn per_block(&self) -> u64 {
        self.cluster() / 2
    }

    /// A cluster that was not used, with a count of 1: where it is. ENOSPC.
    pub(super) fn allocate(&self, state: &mut State) -> Result<u64, Errno> {
        if let Some(number) = state.free.pop() {
            self.set(state, number, 1, BLOCKS_MAX)?;
            return Ok(number << self.header.cluster_bits);
        }
        for _ in 0..USED_MAX {
            let number = state.end;
            if number >= state.limit.min(FILE_MAX >> self.header.cluster_bits) {
                return Err(Errno::ENOSPC);
            }
            state.end += 1;
            if self.get(state, number)? == 0 {
                self.set(state, number, 1, BLOCKS_MAX)?;
                return Ok(number << self.header.cluster_bits);
            }
        }
        Err(Errno::EIO)
    }

    /// One user less of the cluster at a place. What cannot be counted stays in use, which does no harm.
    pub(super) fn release(&self, state: &mut State, at: u64) {
        let number = at >> self.header.cluster_bits;
        let count = self.get(state, number).unwrap_or(0);
        if count > 0
            && self.set(state, number, count - 1, BLOCKS_MAX).is_ok()
            && count == 1
            && state.free.len() < FREE_MAX
        {
            state.free.push(number);
        }
    }

    /// Where the block is that has a cluster's count; none if there is none yet.
    fn block(&self, state: &State, number: u64) -> Result<Option<u64>, Errno> {
        let index = usize::try_from(number / self.per_block()).map_err(|_| Errno::ENOSPC)?;
        match state.counts.get(index).ok_or(Errno::ENOSPC)? & PLACE {
            0 => Ok(None),
            block => self.check(state, block).map(Some),
        }
    }

    fn get(&self, state: &State, number: u64) -> Result<u16, Errno> {
        let Some(block) = self.block(state, number)? else {
            return Ok(0);
        };
        let mut count = [0; 2];
        read_exact(&self.file, &mut count, block + number % self.per_block() * 2)?;
        Ok(u16::from_be_bytes(count))
    }

    fn set(&self, state: &mut State, number: u64, count: u16, blocks: u32) -> Result<(), Errno> {
        let block = match self.block(state, number)? {
            Some(block) => block,
            None => self.make_block(state, number, blocks)?,
        };
        let at = block + number % self.per_block() * 2;
        self.put(state, &count.to_be_bytes(), at)
    }

    /// Make the block that has a cluster's count, behind all else. It may have its own count in it, or that is in another one.
    fn make_block(&self, state: &mut State, number: u64, blocks: u32) -> Result<u64, Errno> {
        let left = blocks.checked_sub(1).ok_or(Errno::EIO)?;
        let own = state.end;
        if own >= state.limit {
            return Err(Errno::ENOSPC);
        }
        state.end += 1;
        let place = own << self.header.cluster_bits;
        let mut bytes = vec![0; self.cluster() as usize];
        let counts_itself = own / self.per_block() == number / self.per_block();
        if counts_itself {
            let at = (own % self.per_block() * 2) as usize;
            bytes[at..at + 2].copy_from_slice(&1u16.to_be_bytes());
        } else {
            self.set(state, own, 1, left)?;
        }
        self.put(state, &bytes, place)?;
        let index = number / self.per_block();
        self.put(state, &place.to_be_bytes(), self.header.counts_at + index * 8)?;
        if let Some(entry) = state.counts.get_mut(index as usize) {
            *entry = place;
        }
        Ok(place)
    }
}
