//! The row macros as another crate sees them: a callback named by its path, with tokens of its own.

mod callbacks {
    /// Expands to the name of the call with the number in `$nr`, or goes on with `$otherwise`.
    macro_rules! name_of {
        ($subsystem:ident [$nr:ident, $otherwise:expr] $($row_nr:literal $name:ident
            ($($arg:ident: $kind:ident $(($($of:tt)*))?),*) -> $ret:ident $(($ret_set:ident))?,
            $level:ident $(($errno:ident))? $($note:literal)?, $($tail:ident),+;)*
        ) => {
            match $nr {
                $($row_nr => Some((stringify!($subsystem), stringify!($name))),)*
                _ => $otherwise,
            }
        };
    }
    pub(crate) use name_of;
}

fn name_in_time_or_ipc(nr: u32) -> Option<(&'static str, &'static str)> {
    syscall_table::time_rows!(
        crate::callbacks::name_of,
        nr,
        syscall_table::ipc_rows!(crate::callbacks::name_of, nr, None)
    )
}

#[test]
fn callbacks_are_found_by_path_and_get_their_tokens() {
    assert_eq!(name_in_time_or_ipc(35), Some(("time", "nanosleep")));
    assert_eq!(name_in_time_or_ipc(202), Some(("ipc", "futex")));
    assert_eq!(name_in_time_or_ipc(0), None);
    for row in syscall_table::rows() {
        let expected = matches!(row.subsystem.name(), "time" | "ipc");
        assert_eq!(name_in_time_or_ipc(row.nr).is_some(), expected, "{}", row.name);
    }
}
