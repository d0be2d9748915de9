//! How threads and processes end: exit(2), exit_group(2).

use std::sync::Arc;

use super::Task;

/// End one thread; its process ends with its last one. The host thread is destroyed by the caller's answer.
pub(super) fn leave(task: &Arc<Task>) {
    let last = {
        let mut state = task.group.state.lock();
        state.threads.retain(|t| !Arc::ptr_eq(t, task));
        state.threads.is_empty()
    };
    if last {
        task.kernel.platform.stop();
    }
}
