//! Clocks, sleeping and timers.

/// Expands `callback! { time [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! time_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { time [$($($extra)*)?]
             35 nanosleep (req: In(Timespec), rem: Out(Timespec)) -> Int, full, blocks, kernel;
             36 getitimer (which: Enum(ITIMER), curr_value: Out(Itimerval)) -> Int, full, kernel;
             37 alarm (seconds: Uint) -> Int, full, kernel;
             38 setitimer (which: Enum(ITIMER), new_value: In(Itimerval), old_value: Out(Itimerval)) -> Int, full, kernel;
             96 gettimeofday (tv: Out(Timeval), tz: Out(Timezone)) -> Int, full, guest;
            159 adjtimex (buf: InOut(Timex)) -> Int, partial "read only", kernel;
            164 settimeofday (tv: In(Timeval), tz: In(Timezone)) -> Int, partial "the time zone is not kept", kernel;
            201 time (tloc: Out(Time)) -> Time, full, guest;
            222 timer_create (clockid: Clock, sevp: In(Sigevent), timerid: Out(Int)) -> Int, full, kernel;
            223 timer_settime (timerid: Int, flags: Flags(TIMER), new_value: In(Itimerspec), old_value: Out(Itimerspec)) -> Int, full, kernel;
            224 timer_gettime (timerid: Int, curr_value: Out(Itimerspec)) -> Int, full, kernel;
            225 timer_getoverrun (timerid: Int) -> Int, full, kernel;
            226 timer_delete (timerid: Int) -> Int, full, kernel;
            227 clock_settime (clockid: Clock, tp: In(Timespec)) -> Int, full, kernel;
            228 clock_gettime (clockid: Clock, tp: Out(Timespec)) -> Int, full, guest, checked;
            229 clock_getres (clockid: Clock, res: Out(Timespec)) -> Int, full, kernel;
            230 clock_nanosleep (clockid: Clock, flags: Flags(TIMER), request: In(Timespec), remain: Out(Timespec)) -> Int, partial "no CPU-time clocks", blocks, kernel;
            305 clock_adjtime (clockid: Clock, buf: InOut(Timex)) -> Int, partial "read only", kernel;
        }
    };
}
