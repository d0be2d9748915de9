//! The named values of arguments: bit sets, enumerations, and mixtures of both.
//!
//! Values are written out, as the x86-64 interface never changes them.

use core::fmt;

/// An enumeration that takes some bits of a value, such as the access mode in the flags of open(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The bits that the enumeration takes.
    pub mask: u64,
    /// Value within `mask`, and its name.
    pub values: &'static [(u64, &'static str)],
}

/// How an integer argument is written in names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagSet {
    /// What stands in a comment behind a number without a name, such as `O_???`.
    pub unknown: &'static str,
    /// The parts of the value that are enumerations.
    pub fields: &'static [Field],
    /// Independent bits; names of several bits come before the names of their parts.
    pub bits: &'static [(u64, &'static str)],
    /// Bits to be written in octal, such as the permissions in the flags of shmget(2).
    pub octal: u64,
    /// Bits that are a signal number, such as the exit signal in the flags of clone(2).
    pub signal: u64,
    /// The name of zero, where it has one and no enumeration names it.
    pub zero: Option<&'static str>,
}

impl FlagSet {
    /// The set without any name in it, to be filled by the macro below.
    const EMPTY: Self = Self {
        unknown: "",
        fields: &[],
        bits: &[],
        octal: 0,
        signal: 0,
        zero: None,
    };

    /// The name of exactly this value.
    pub fn name_of(&self, value: u64) -> Option<&'static str> {
        self.names()
            .find(|(known, _)| *known == value)
            .map(|(_, name)| *name)
    }

    /// The value that has this name.
    pub fn value_of(&self, name: &str) -> Option<u64> {
        self.names()
            .find(|(_, known)| *known == name)
            .map(|(value, _)| *value)
    }

    fn names(&self) -> impl Iterator<Item = &'static (u64, &'static str)> {
        self.fields.iter().flat_map(|field| field.values).chain(self.bits)
    }

    /// Whether a name of the set needs more than 32 bits; the kernel sees only 32 bits of the others.
    pub fn is_wide(&self) -> bool {
        self.bits.iter().any(|(value, _)| *value > u64::from(u32::MAX))
    }

    /// Writes `value` in names joined by `|`, as strace does.
    ///
    /// A value without any name is written as a number followed by a comment: `0x40 /* O_??? */`.
    pub fn display(&self, value: u64) -> DisplayFlags<'_> {
        let value = if self.is_wide() {
            value
        } else {
            value & u64::from(u32::MAX)
        };
        DisplayFlags { set: self, value }
    }
}

/// A value to be written in the names of its set; made by [`FlagSet::display`].
#[derive(Debug, Clone, Copy)]
pub struct DisplayFlags<'a> {
    set: &'a FlagSet,
    value: u64,
}

impl fmt::Display for DisplayFlags<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (set, value) = (self.set, self.value);
        if let (0, Some(zero)) = (value, set.zero) {
            return out.write_str(zero);
        }
        let mut rest = value;
        let mut separator = "";
        for field in set.fields {
            let part = value & field.mask;
            if let Some((_, name)) = field.values.iter().find(|(known, _)| *known == part) {
                write!(out, "{separator}{name}")?;
                separator = "|";
                rest &= !field.mask;
            }
        }
        for (bits, name) in set.bits {
            if rest & bits == *bits {
                write!(out, "{separator}{name}")?;
                separator = "|";
                rest &= !bits;
            }
        }
        let (octal, signal) = (rest & set.octal, rest & set.signal);
        rest &= !(set.octal | set.signal);
        if signal != 0 {
            match crate::signal::name(signal) {
                Some(name) => write!(out, "{separator}{name}")?,
                None => write!(out, "{separator}{signal}")?,
            }
            separator = "|";
        }
        if rest != 0 && separator.is_empty() && octal == 0 {
            return write!(out, "{rest:#x} /* {} */", set.unknown);
        }
        if rest != 0 {
            write!(out, "{separator}{rest:#x}")?;
            separator = "|";
        }
        if octal != 0 {
            write!(out, "{separator}{}", Octal(octal))?;
        } else if separator.is_empty() {
            out.write_str("0")?;
        }
        Ok(())
    }
}

/// A number in C's octal notation: `0644`, not `0o644`.
#[derive(Debug, Clone, Copy)]
pub struct Octal(pub u64);

impl fmt::Display for Octal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            out.write_str("0")
        } else {
            write!(out, "0{:o}", self.0)
        }
    }
}

/// Defines one public [`FlagSet`] per line: name, comment for unknown values, then its parts.
macro_rules! flag_sets {
    ($($set:ident $unknown:literal
        $(mask $mask:literal { $($in_mask:ident = $in_mask_value:literal),* $(,)? })*
        $(values { $($value_name:ident = $value:literal),* $(,)? })?
        $(bits { $($bit:ident = $bit_value:literal),* $(,)? })?
        $(octal $octal:literal)? $(signal $signal:literal)? $(zero $zero:literal)?;)*) => {$(
        #[doc = concat!("Names of the form `", $unknown, "`.")]
        pub static $set: $crate::flags::FlagSet = $crate::flags::FlagSet {
            unknown: $unknown,
            fields: &[
                $($crate::flags::Field { mask: $mask, values: &[$(($in_mask_value, stringify!($in_mask))),*] },)*
                $($crate::flags::Field { mask: u64::MAX, values: &[$(($value, stringify!($value_name))),*] },)?
            ],
            $(bits: &[$(($bit_value, stringify!($bit))),*],)?
            $(octal: $octal,)? $(signal: $signal,)? $(zero: Some($zero),)?
            ..$crate::flags::FlagSet::EMPTY
        };
    )*};
}

mod fs;
mod ioctl;
mod ipc;
mod mm;
mod net;
mod poll;
mod sys;
mod task;
mod terminal;
mod time;

pub use self::{fs::*, ioctl::*, ipc::*, mm::*, net::*, poll::*, sys::*, task::*, terminal::*, time::*};

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn access_mode_comes_before_the_bits() {
        assert_eq!(OPEN.display(0).to_string(), "O_RDONLY");
        assert_eq!(
            OPEN.display(0o2_000_101).to_string(),
            "O_WRONLY|O_CREAT|O_CLOEXEC"
        );
        assert_eq!(
            OPEN.display(0x90800).to_string(),
            "O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY"
        );
    }

    #[test]
    fn zero_without_a_name_is_a_number() {
        assert_eq!(PIPE.display(0).to_string(), "0");
        assert_eq!(PROT.display(0).to_string(), "PROT_NONE");
        assert_eq!(ACCESS.display(0).to_string(), "F_OK");
    }

    #[test]
    fn numbers_without_a_name_stay_numbers() {
        assert_eq!(SEEK.display(9).to_string(), "0x9 /* SEEK_??? */");
        assert_eq!(PROT.display(0x101).to_string(), "PROT_READ|0x100");
        assert_eq!(
            MAP.display(0x7f).to_string(),
            "MAP_32BIT|MAP_FIXED|MAP_ANONYMOUS|0xf"
        );
    }

    #[test]
    fn clone_flags_end_in_the_exit_signal() {
        let flags = CLONE.display(0x0120_0011).to_string();
        assert_eq!(flags, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD");
        assert_eq!(CLONE.display(17).to_string(), "SIGCHLD");
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(SHM_GET.display(0o1600).to_string(), "IPC_CREAT|0600");
        assert_eq!(SHM_GET.display(0o600).to_string(), "0600");
    }

    #[test]
    fn only_wide_sets_see_the_upper_half() {
        assert_eq!(PROT.display(0xffff_ffff_0000_0001).to_string(), "PROT_READ");
        assert_eq!(CLONE.display(0x1_0000_0000).to_string(), "CLONE_CLEAR_SIGHAND");
    }
}
