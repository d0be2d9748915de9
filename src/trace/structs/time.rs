//! Times, intervals and timers.

use syscall_table::flags;

use crate::trace::memory::Fields;
use crate::trace::text::Braces;

/// `struct timespec`, 16 bytes.
pub(in crate::trace) fn timespec(time: Fields<'_>) -> String {
    Braces::new()
        .field("tv_sec", time.i64(0))
        .field("tv_nsec", time.i64(8))
        .end()
}

/// `struct timeval`, 16 bytes.
pub(in crate::trace) fn timeval(time: Fields<'_>) -> String {
    Braces::new()
        .field("tv_sec", time.i64(0))
        .field("tv_usec", time.i64(8))
        .end()
}

/// The two times of utimensat(2), which may be names.
pub(super) fn file_times(times: Fields<'_>) -> String {
    let one = |at: usize| match times.i64(at + 8) {
        0x3fff_ffff => "UTIME_NOW".to_owned(),
        0x3fff_fffe => "UTIME_OMIT".to_owned(),
        _ => timespec(Fields(times.slice(at, 16))),
    };
    format!("[{}, {}]", one(0), one(16))
}

/// The two times of utimes(2).
pub(super) fn timeval_pair(times: Fields<'_>) -> String {
    format!(
        "[{}, {}]",
        timeval(Fields(times.slice(0, 16))),
        timeval(Fields(times.slice(16, 16)))
    )
}

/// `struct itimerspec`, 32 bytes.
pub(super) fn itimerspec(timer: Fields<'_>) -> String {
    Braces::new()
        .field("it_interval", timespec(Fields(timer.slice(0, 16))))
        .field("it_value", timespec(Fields(timer.slice(16, 16))))
        .end()
}

/// `struct itimerval`, 32 bytes.
pub(super) fn itimerval(timer: Fields<'_>) -> String {
    Braces::new()
        .field("it_interval", timeval(Fields(timer.slice(0, 16))))
        .field("it_value", timeval(Fields(timer.slice(16, 16))))
        .end()
}

/// `struct timezone`, 8 bytes.
pub(super) fn timezone(zone: Fields<'_>) -> String {
    Braces::new()
        .field("tz_minuteswest", zone.i32(0))
        .field("tz_dsttime", zone.i32(4))
        .end()
}

/// `struct tms`, 32 bytes.
pub(super) fn tms(times: Fields<'_>) -> String {
    Braces::new()
        .field("tms_utime", times.i64(0))
        .field("tms_stime", times.i64(8))
        .field("tms_cutime", times.i64(16))
        .field("tms_cstime", times.i64(24))
        .end()
}

/// `struct utimbuf`, 16 bytes.
pub(super) fn utimbuf(times: Fields<'_>) -> String {
    Braces::new()
        .field("actime", times.i64(0))
        .field("modtime", times.i64(8))
        .end()
}

/// The beginning of `struct timex`, 208 bytes.
pub(super) fn timex(time: Fields<'_>) -> String {
    Braces::new()
        .field("modes", flags::ADJTIMEX.display(time.u32(0).into()))
        .field("offset", time.i64(8))
        .field("freq", time.i64(16))
        .field("maxerror", time.i64(24))
        .field("esterror", time.i64(32))
        .field("status", format_args!("{:#x}", time.u32(40)))
        .abbreviated()
}
