//! What handlers block on, waited for by host threads of a test.

use std::sync::Arc;

use super::{Events, Wakeup};
use crate::kernel::stop::{Errno, Stop, SysResult};

/// Wakes a host thread.
struct Unpark(std::thread::Thread);

impl Wakeup for Unpark {
    fn wake(&self, _: Events) {
        self.0.unpark();
    }
}

/// Run a handler as a task does until it does not block: its value or errno. The queues are all it is woken by.
pub(in crate::kernel) fn until_done<R>(mut handler: impl FnMut() -> SysResult<R>) -> Result<R, Errno> {
    let waker: Arc<dyn Wakeup> = Arc::new(Unpark(std::thread::current()));
    loop {
        match handler() {
            Ok(value) => return Ok(value),
            Err(Stop::Errno(errno, _)) => return Err(errno),
            Err(Stop::Block(wait)) => {
                if let Some(_registered) = wait.register(&waker) {
                    std::thread::park();
                }
            }
            Err(Stop::Own(_) | Stop::Leave) => panic!("the handler left"),
        }
    }
}
