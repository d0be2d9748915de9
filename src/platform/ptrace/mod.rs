//! The reference platform: one tracer thread, PTRACE_SEIZE and SYSEMU.
