//! A task's life between traps: dispatch, park, wake, signals, return to guest code.
