//! epoll(7).
//!
//! Every watched file is an [`Item`] that registers with the file's wait queues. When one is notified the item joins the
//! instance's ready list; epoll_wait(2) walks that list, asks each file what is really ready, and keeps level-triggered
//! items on it. An item holds its file weakly: closing the last descriptor ends it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::ALWAYS;
use crate::kernel::fs::{File, FileOps};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::wait::{Events, Registration, WaitQueue, Wakeup};

mod calls;
mod nesting;

pub(super) use calls::*;

/// Report an item once, until EPOLL_CTL_MOD.
const ONESHOT: u32 = 1 << 30;
/// Report an item once per notification.
const EDGE: u32 = 1 << 31;
/// Of several instances that watch a file, wake one.
const EXCLUSIVE: u32 = 1 << 28;
/// EPOLLWAKEUP, which means nothing here.
const WAKEUP: u32 = 1 << 29;

/// Interest lists shorter than this are never searched for items whose files are closed.
const PRUNE_AT_LEAST: usize = 64;

/// An epoll instance.
struct Epoll {
    items: Lock<Items>,
    /// Keys of items that may be ready, in the order in which they are to be looked at.
    ready: Lock<VecDeque<Key>>,
    /// Notified when something joins the ready list.
    queue: WaitQueue,
    /// Instances that watch this one.
    parents: Lock<nesting::Parents>,
    me: Weak<Epoll>,
}

/// A descriptor number and the open file it stood for.
type Key = (i32, usize);

/// The interest list.
struct Items {
    by_key: BTreeMap<Key, Arc<Item>>,
    /// At this many, those whose files are closed are looked for.
    prune_at: usize,
}

/// A watched file.
struct Item {
    fd: i32,
    file: Weak<File>,
    epoll: Weak<Epoll>,
    interest: Lock<Interest>,
    /// On the ready list.
    queued: AtomicBool,
    registrations: Lock<Vec<Registration>>,
}

/// What EPOLL_CTL_ADD and EPOLL_CTL_MOD say.
#[derive(Clone, Copy, Debug)]
struct Interest {
    events: Events,
    /// Of ONESHOT, EDGE and EXCLUSIVE.
    flags: u32,
    data: u64,
    /// Reported once already (ONESHOT).
    disabled: bool,
}

impl Interest {
    fn new(events: u32, data: u64) -> Interest {
        Interest {
            events: Events::from_bits_truncate(events) | ALWAYS,
            flags: events & (ONESHOT | EDGE | EXCLUSIVE),
            data,
            disabled: false,
        }
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

impl Wakeup for Item {
    fn wake(&self, _: Events) {
        if let Some(epoll) = self.epoll.upgrade() {
            epoll.make_ready(self);
        }
    }
}

impl Item {
    fn key(&self) -> Key {
        (self.fd, self.file.as_ptr() as usize)
    }

    /// Begin (or begin anew) to watch the file's queues.
    fn register(self: &Arc<Self>, file: &File) {
        let interest = *self.interest.lock();
        let waiter: Arc<dyn Wakeup> = self.clone();
        let registrations: Vec<_> = file
            .ops
            .queues(file, interest.events)
            .into_iter()
            .map(|(queue, events)| {
                if interest.has(EXCLUSIVE) {
                    queue.register_exclusive(events, &waiter)
                } else {
                    queue.register(events, &waiter)
                }
            })
            .collect();
        let old = std::mem::replace(&mut *self.registrations.lock(), registrations);
        drop(old);
    }

    /// What is ready and of interest. An item that is not ready has its file watched when this returns.
    fn ready(&self, file: &File, interest: &Interest) -> Events {
        if interest.has(EDGE) {
            file.ops.queues(file, interest.events);
        }
        let events = file.poll() & interest.events;
        if !events.is_empty() || interest.has(EDGE) {
            return events;
        }
        file.ops.queues(file, interest.events);
        file.poll() & interest.events
    }
}

impl Epoll {
    fn new() -> Arc<Epoll> {
        let items = Items {
            by_key: BTreeMap::new(),
            prune_at: PRUNE_AT_LEAST,
        };
        Arc::new_cyclic(|me| Epoll {
            items: Lock::new(Rank::Epoll, items),
            ready: Lock::new(Rank::Ready, VecDeque::new()),
            queue: WaitQueue::new(),
            parents: Lock::new(Rank::Leaf, nesting::Parents::default()),
            me: me.clone(),
        })
    }

    /// Put an item on the ready list and tell who waits. Takes only the ready list's lock.
    fn make_ready(&self, item: &Item) {
        self.enqueue(item);
        self.queue.notify(Events::READ);
    }

    fn enqueue(&self, item: &Item) {
        let mut ready = self.ready.lock();
        if !item.queued.swap(true, Ordering::SeqCst) {
            ready.push_back(item.key());
        }
    }

    /// Emit up to `max` ready items. An error of `emit` counts only for the first.
    fn collect(
        &self,
        max: usize,
        emit: &mut dyn FnMut(usize, Events, u64) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut items = self.items.lock();
        let candidates = self.ready.lock().len();
        let mut done = 0;
        for _ in 0..candidates {
            if done == max {
                break;
            }
            let Some(key) = self.ready.lock().pop_front() else {
                break;
            };
            let Some(item) = items.by_key.get(&key).cloned() else {
                continue;
            };
            item.queued.store(false, Ordering::SeqCst);
            let Some(file) = item.file.upgrade() else {
                items.by_key.remove(&key);
                continue;
            };
            let interest = *item.interest.lock();
            let events = item.ready(&file, &interest);
            if interest.disabled || events.is_empty() {
                continue;
            }
            if let Err(errno) = emit(done, events, interest.data) {
                let mut ready = self.ready.lock();
                if !item.queued.swap(true, Ordering::SeqCst) {
                    ready.push_front(key);
                }
                return if done == 0 { Err(errno) } else { Ok(done) };
            }
            done += 1;
            if interest.has(ONESHOT) {
                item.interest.lock().disabled = true;
            } else if !interest.has(EDGE) {
                self.enqueue(&item);
            }
        }
        Ok(done)
    }

    /// EPOLL_CTL_ADD: EEXIST; EINVAL when too many would be notified. Another instance may be added by one at a time.
    fn add(&self, fd: i32, file: &Arc<File>, interest: Interest) -> Result<(), Errno> {
        let item = Arc::new(Item {
            fd,
            file: Arc::downgrade(file),
            epoll: self.me.clone(),
            interest: Lock::new(Rank::Leaf, interest),
            queued: AtomicBool::new(false),
            registrations: Lock::new(Rank::Leaf, Vec::new()),
        });
        let mut items = self.items.lock_nested();
        if items.by_key.contains_key(&item.key()) {
            return Err(Errno::EEXIST);
        }
        if items.by_key.len() >= items.prune_at {
            items.by_key.retain(|_, i| i.file.strong_count() > 0);
            items.prune_at = PRUNE_AT_LEAST.max(2 * items.by_key.len());
        }
        items.by_key.insert(item.key(), item.clone());
        // Whoever adds above or below at the same time sees this, or this sees that.
        let checked = match file.ops_as::<Epoll>() {
            Some(child) => {
                child.parents.lock().add(self);
                child.check_ways_below()
            }
            None => self.check_ways(&mut HashMap::new()),
        };
        if let Err(errno) = checked {
            items.by_key.remove(&item.key());
            self.forget(file);
            return Err(errno);
        }
        self.watch(&item, file);
        Ok(())
    }

    /// EPOLL_CTL_MOD: ENOENT; EINVAL for an exclusive item.
    fn modify(&self, fd: i32, file: &Arc<File>, interest: Interest) -> Result<(), Errno> {
        // Held throughout: epoll_wait(2), which may disable a one-shot item, sees the old interest or the new one.
        let items = self.items.lock();
        let key = (fd, Arc::as_ptr(file) as usize);
        let item = items.by_key.get(&key).ok_or(Errno::ENOENT)?;
        {
            let mut old = item.interest.lock();
            if old.has(EXCLUSIVE) {
                return Err(Errno::EINVAL);
            }
            *old = interest;
        }
        self.watch(item, file);
        Ok(())
    }

    /// EPOLL_CTL_DEL: ENOENT.
    fn remove(&self, fd: i32, file: &Arc<File>) -> Result<(), Errno> {
        let key = (fd, Arc::as_ptr(file) as usize);
        let removed = self.items.lock().by_key.remove(&key);
        let item = removed.ok_or(Errno::ENOENT)?;
        self.forget(file);
        {
            let mut ready = self.ready.lock();
            // Whoever is about to put it there finds it there.
            item.queued.store(true, Ordering::SeqCst);
            ready.retain(|k| *k != key);
        }
        drop(item);
        Ok(())
    }

    /// A file, which may be another instance, is watched by one descriptor less.
    fn forget(&self, file: &File) {
        if let Some(child) = file.ops_as::<Epoll>() {
            child.parents.lock().remove(self);
        }
    }

    /// Have an item's file tell of it from now on, and look whether it is ready already. The interest list is locked.
    fn watch(&self, item: &Arc<Item>, file: &File) {
        item.register(file);
        let interest = *item.interest.lock();
        if file.poll().intersects(interest.events) {
            self.make_ready(item);
        }
    }
}

impl FileOps for Epoll {
    fn poll(&self, _: &File) -> Events {
        let items = self.items.lock_nested();
        let keys = self.ready.lock().clone();
        let is_ready = |item: &Arc<Item>| {
            let interest = *item.interest.lock();
            let file = item.file.upgrade();
            !interest.disabled && file.is_some_and(|f| !item.ready(&f, &interest).is_empty())
        };
        if keys.iter().filter_map(|key| items.by_key.get(key)).any(is_ready) {
            Events::READ
        } else {
            Events::empty()
        }
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.queue.clone(), interest)]
    }

    fn fdinfo(&self, _: &File) -> String {
        let items = self.items.lock_nested();
        let mut text = String::new();
        for item in items.by_key.values().filter(|i| i.file.strong_count() > 0) {
            let interest = *item.interest.lock();
            let events = interest.events.bits() | interest.flags;
            text.push_str(&format!(
                "tfd: {:8} events: {events:8x} data: {:16x}\n",
                item.fd, interest.data
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fs::{AnonFs, AnonKind, OpenFlags};
    use crate::kernel::task::Creds;
    use crate::kernel::time::Clock;
    use crate::kernel::wait::WaitFor;
    use crate::kernel::wait::testing::until_done;

    #[test]
    fn interest_keeps_flags_apart_from_events() {
        let interest = Interest::new(EDGE | ONESHOT | WAKEUP | Events::IN.bits(), 7);
        assert_eq!(interest.events, Events::IN | ALWAYS);
        assert!(interest.has(EDGE) && interest.has(ONESHOT) && !interest.has(EXCLUSIVE));
    }

    /// Something to be counted down.
    struct Source {
        count: Lock<usize>,
        queue: WaitQueue,
    }

    impl FileOps for Arc<Source> {
        fn poll(&self, _: &File) -> Events {
            match *self.count.lock() {
                0 => Events::empty(),
                _ => Events::IN,
            }
        }

        fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
            vec![(self.queue.clone(), interest)]
        }
    }

    /// Threads that make files ready, and one that watches them in a way that tells of each change once.
    fn nothing_is_missed(flags: u32) {
        const ROUNDS: usize = 2000;
        let (fs, clock, creds) = (AnonFs::new(), Clock::new(), Creds::of_user(0, 0, &[]));
        let epoll = Epoll::new();
        let interest = Interest::new(Events::IN.bits() | flags, 0);
        let watched: Vec<(Arc<Source>, Arc<File>)> = (0..2)
            .map(|_| {
                let source = Arc::new(Source {
                    count: Lock::new(Rank::Object, 0),
                    queue: WaitQueue::new(),
                });
                let ops = Arc::new(source.clone());
                let file = fs.file(&clock, &creds, AnonKind::Other("[test]"), ops, OpenFlags::empty());
                (source, file)
            })
            .collect();
        for (fd, (_, file)) in (0i32..).zip(&watched) {
            let interest = Interest {
                data: u64::from(fd.cast_unsigned()),
                ..interest
            };
            assert_eq!(epoll.add(fd, file, interest), Ok(()));
        }
        let mut left = watched.len() * ROUNDS;
        std::thread::scope(|scope| {
            for (source, _) in &watched {
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        *source.count.lock() += 1;
                        source.queue.notify(Events::IN);
                    }
                });
            }
            while left > 0 {
                let ready = until_done(|| {
                    let generation = epoll.queue.generation();
                    let mut ready = Vec::new();
                    epoll.collect(8, &mut |_, _, data| {
                        ready.push(data);
                        Ok(())
                    })?;
                    if ready.is_empty() {
                        let wait = WaitFor::default().and_since(&epoll.queue, Events::READ, generation);
                        return Err(wait.into());
                    }
                    Ok(ready)
                });
                for data in ready.expect("nothing fails") {
                    let (source, file) = &watched[data as usize];
                    left -= std::mem::take(&mut *source.count.lock());
                    if flags & ONESHOT != 0 {
                        let fd = i32::try_from(data).expect("small");
                        assert_eq!(epoll.modify(fd, file, Interest { data, ..interest }), Ok(()));
                    }
                }
            }
        });
    }

    #[test]
    fn no_edge_is_missed_between_threads() {
        nothing_is_missed(EDGE);
    }

    #[test]
    fn no_rearmed_file_is_missed_between_threads() {
        nothing_is_missed(ONESHOT);
    }
}
