//! What sockets of all families hold data in: the queue of a receiver, and the buffer of a sender that it charges.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kernel::stop::Errno;
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitQueue};

/// What a packet costs beside its bytes.
const PACKET_COST: usize = 256;

/// Largest piece of a stream, in bytes.
const PIECE: usize = 32 << 10;

/// The next piece of a stream, and whether readable memory ends behind it. EFAULT for none.
pub(super) fn take_piece(from: &mut dyn Source) -> Result<(Vec<u8>, bool), Errno> {
    let mut data = vec![0; from.remaining().min(PIECE)];
    let taken = from.take(&mut data)?;
    let memory_ended = taken < data.len();
    data.truncate(taken);
    Ok((data, memory_ended))
}

/// How much of a sender's data may lie in its receivers' queues.
pub(super) struct SendBuffer {
    charged: AtomicUsize,
    /// SO_SNDBUF
    size: AtomicUsize,
    /// What more may lie there, in bytes.
    extra: usize,
    /// There is room, as poll(2) says, while no more than this share of it is taken: a numerator and a denominator.
    roomy: (usize, usize),
    queue: WaitQueue,
    /// What it has its room from, together with others.
    pool: Option<Arc<Pool>>,
}

/// What the buffers of many sockets are taken from.
#[derive(Default)]
pub(super) struct Pool(AtomicUsize);

/// Most bytes in a pool before its sockets have only [`SHARE`] each.
const POOL_MAX: usize = 256 << 20;
const SHARE: usize = 16 << 10;

impl Pool {
    fn is_strained(&self) -> bool {
        self.0.load(Ordering::Relaxed) > POOL_MAX
    }

    /// Take room for a packet that no sender is charged for; none when there is none.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let bytes = bytes + PACKET_COST;
        if self.is_strained() {
            return None;
        }
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Some(Charge {
            sender: None,
            pool: Some(self.clone()),
            bytes,
        })
    }
}

impl SendBuffer {
    /// An empty one whose owner is told of room by `queue`.
    pub(super) fn new(
        size: usize,
        extra: usize,
        roomy: (usize, usize),
        queue: &WaitQueue,
        pool: Option<Arc<Pool>>,
    ) -> Arc<SendBuffer> {
        Arc::new(SendBuffer {
            charged: AtomicUsize::new(0),
            size: AtomicUsize::new(size),
            extra,
            roomy,
            queue: queue.clone(),
            pool,
        })
    }

    /// SO_SNDBUF in bytes.
    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    pub(super) fn set_size(&self, bytes: usize) {
        self.size.store(bytes, Ordering::Relaxed);
        self.queue.notify(Events::WRITE);
    }

    /// Bytes that nobody has read yet, with what keeping them costs.
    pub(super) fn charged(&self) -> usize {
        self.charged.load(Ordering::SeqCst)
    }

    /// Bytes beyond what is the receiver's to keep.
    pub(super) fn unsent(&self) -> usize {
        self.charged().saturating_sub(self.extra)
    }

    fn capacity(&self) -> usize {
        let strained = self.pool.as_ref().is_some_and(|pool| pool.is_strained());
        if strained {
            return SHARE;
        }
        self.size().saturating_add(self.extra)
    }

    pub(super) fn is_full(&self) -> bool {
        self.charged() >= self.capacity()
    }

    /// Whether a writer would be told that there is room.
    pub(super) fn has_room(&self) -> bool {
        let (part, whole) = self.roomy;
        self.charged().saturating_mul(whole) <= self.capacity().saturating_mul(part)
    }

    /// Take room for a packet of so many bytes.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let bytes = bytes + PACKET_COST;
        self.charged.fetch_add(bytes, Ordering::SeqCst);
        if let Some(pool) = &self.pool {
            pool.0.fetch_add(bytes, Ordering::Relaxed);
        }
        Charge {
            sender: Some(self.clone()),
            pool: self.pool.clone(),
            bytes,
        }
    }
}

/// A packet's share of its sender's buffer, and of the pool.
pub(super) struct Charge {
    sender: Option<Arc<SendBuffer>>,
    pool: Option<Arc<Pool>>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        if let Some(sender) = &self.sender {
            sender.charged.fetch_sub(self.bytes, Ordering::SeqCst);
            if sender.has_room() {
                sender.queue.notify(Events::WRITE);
            }
        }
    }
}

/// A message or a piece of a stream, with a note of what goes along.
pub(super) struct Packet<N> {
    data: Vec<u8>,
    /// Bytes of `data` a stream's reader has had.
    consumed: usize,
    pub(super) note: N,
    /// Held for its drop: gives the sender its room back.
    _charge: Option<Charge>,
}

impl<N> Packet<N> {
    pub(super) fn new(data: Vec<u8>, note: N, charge: Option<Charge>) -> Packet<N> {
        Packet {
            data,
            consumed: 0,
            note,
            _charge: charge,
        }
    }

    fn rest(&self) -> usize {
        self.data.len() - self.consumed
    }
}

/// What was received and nobody has read.
pub(super) struct Inbox<N> {
    packets: VecDeque<Packet<N>>,
    /// Unread bytes of all.
    bytes: usize,
}

impl<N> Default for Inbox<N> {
    fn default() -> Self {
        Inbox {
            packets: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<N> Inbox<N> {
    pub(super) fn push(&mut self, packet: Packet<N>) {
        self.bytes += packet.rest();
        self.packets.push_back(packet);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Packets.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Unread bytes of all packets.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all packets cost.
    pub(super) fn cost(&self) -> usize {
        self.bytes + self.packets.len() * PACKET_COST
    }

    /// Bytes of the first message.
    pub(super) fn first_length(&self) -> usize {
        self.packets.front().map_or(0, Packet::rest)
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = &N> {
        self.packets.iter().map(|packet| &packet.note)
    }

    /// Copy from a stream. `joins` says whether a packet may follow what was copied before, `took` whether to stop behind a packet
    /// of which something was copied. With `peek` all stays; else what is finished goes to `done`, to be dropped with no lock held.
    /// EFAULT when nothing could be copied.
    pub(super) fn copy_stream(
        &mut self,
        to: &mut dyn Sink,
        peek: bool,
        done: &mut Vec<Packet<N>>,
        mut joins: impl FnMut(&N) -> bool,
        mut took: impl FnMut(&mut N) -> bool,
    ) -> Result<usize, Errno> {
        let mut length = 0;
        let mut index = 0;
        while to.remaining() > 0 {
            let Some(packet) = self.packets.get_mut(index).filter(|packet| joins(&packet.note)) else {
                break;
            };
            let rest = &packet.data[packet.consumed..];
            let want = rest.len().min(to.remaining());
            let copied = match to.put(&rest[..want]) {
                Ok(copied) => copied,
                Err(_) if length > 0 => break,
                Err(errno) => return Err(errno),
            };
            length += copied;
            let finished = copied == rest.len();
            let stop = took(&mut packet.note);
            if peek {
                index += 1;
            } else {
                packet.consumed += copied;
                self.bytes -= copied;
                if finished {
                    done.extend(self.packets.pop_front());
                }
            }
            if stop || !finished {
                break;
            }
        }
        Ok(length)
    }

    /// Copy the first message, as far as there is room, and take it out unless this is a `peek`: what was copied and its whole length,
    /// what `took` made of its note, and the message, to be dropped with no lock held. None without a message.
    pub(super) fn take_message<R>(
        &mut self,
        to: &mut dyn Sink,
        peek: bool,
        took: impl FnOnce(&mut N) -> R,
    ) -> Option<Message<N, R>> {
        let packet = self.packets.front_mut()?;
        let full_length = packet.data.len();
        let want = full_length.min(to.remaining());
        let copied = if want > 0 {
            to.put(&packet.data[..want])
        } else {
            Ok(0)
        };
        let note = took(&mut packet.note);
        let done = if peek { None } else { self.packets.pop_front() };
        if done.is_some() {
            self.bytes -= full_length;
        }
        Some(Message {
            copied,
            full_length,
            note,
            done,
        })
    }
}

/// See [`Inbox::take_message`].
pub(super) struct Message<N, R> {
    pub(super) copied: Result<usize, Errno>,
    pub(super) full_length: usize,
    pub(super) note: R,
    pub(super) done: Option<Packet<N>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_takes_no_more_until_something_is_read() {
        let pool = Arc::<Pool>::default();
        let first = pool.charge(POOL_MAX);
        assert!(first.is_some() && pool.charge(0).is_none());
        let stream = SendBuffer::new(1 << 20, 0, (1, 1), &WaitQueue::new(), Some(pool.clone()));
        let small = stream.charge(SHARE);
        assert!(stream.is_full());
        drop(first);
        assert!(!stream.is_full() && pool.charge(0).is_some());
        drop(small);
        assert_eq!(pool.0.load(Ordering::Relaxed), 0);
    }
}
