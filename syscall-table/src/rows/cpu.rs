//! Processor state: descriptor tables and I/O ports.

/// Expands `callback! { cpu [extra tokens] rows... }` once; see the crate's documentation for the row syntax.
#[macro_export]
macro_rules! cpu_rows {
    ($($callback:ident)::+ $(, $($extra:tt)*)?) => {
        $($callback)::+! { cpu [$($($extra)*)?]
            154 modify_ldt (func: Int, ptr: By(func), bytecount: Size) -> Int, refused(ENOSYS) "no local descriptor tables: only 16-bit and 32-bit code needs them", kernel;
            172 iopl (level: Int) -> Int, full, kernel;
            173 ioperm (from: Hex, num: Size, turn_on: Int) -> Int, full, kernel;
            205 set_thread_area (u_info: Addr) -> Int, refused(ENOSYS) "x86-64 has it for 32-bit programs only", kernel;
            211 get_thread_area (u_info: Addr) -> Int, refused(ENOSYS) "x86-64 has it for 32-bit programs only", kernel;
        }
    };
}
