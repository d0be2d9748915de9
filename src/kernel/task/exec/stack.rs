//! The first stack of a program: strings, auxiliary vector, pointers, as the x86-64 ABI lays them out.

use super::args::Strings;

/// What the kernel tells a program beside its arguments: getauxval(3).
pub(super) struct Auxv<'a> {
    /// Entries whose value is known beforehand, in order.
    pub(super) entries: &'a [(u64, u64)],
    /// AT_RANDOM's bytes.
    pub(super) random: [u8; 16],
    /// AT_EXECFN.
    pub(super) execfn: &'a [u8],
}

/// A stack's contents.
#[derive(Debug)]
pub(super) struct Layout {
    /// What is to be written from `rsp` to the top.
    pub(super) bytes: Vec<u8>,
    pub(super) rsp: u64,
    /// Argument strings: first byte and one past the last.
    pub(super) args: (u64, u64),
    /// Environment strings.
    pub(super) env: (u64, u64),
    /// The auxiliary vector's bytes.
    pub(super) auxv: Vec<u8>,
}

/// AT_PLATFORM's string.
const PLATFORM: &[u8] = b"x86_64\0";

/// Lay out a stack whose first byte beyond is `top`. `slide` bytes of the room below the strings stay empty.
pub(super) fn lay_out(top: u64, strings: &Strings, auxv: &Auxv<'_>, slide: u64) -> Layout {
    // From the top: eight zero bytes, the program's name, environment, arguments, each string with a zero.
    let mut text = Vec::new();
    let mut offsets = Vec::with_capacity(strings.argv.len() + strings.envp.len());
    for string in strings.argv.iter().chain(&strings.envp) {
        offsets.push(text.len() as u64);
        text.extend_from_slice(string);
        text.push(0);
    }
    let args_len: u64 = strings.argv.iter().map(|s| s.len() as u64 + 1).sum();
    let env_end = text.len() as u64;
    text.extend_from_slice(auxv.execfn);
    text.push(0);
    text.extend_from_slice(&[0; 8]);

    let text_at = top - text.len() as u64;
    let platform_at = ((text_at - slide) & !15) - PLATFORM.len() as u64;
    let random_at = platform_at - 16;

    let mut words: Vec<u64> = vec![strings.argv.len() as u64];
    let (argv, envp) = offsets.split_at(strings.argv.len());
    words.extend(argv.iter().map(|offset| text_at + offset));
    words.push(0);
    words.extend(envp.iter().map(|offset| text_at + offset));
    words.push(0);
    let auxv_from = words.len();
    for &(key, value) in auxv.entries {
        words.extend([key, value]);
    }
    words.extend([libc::AT_RANDOM, random_at]);
    words.extend([libc::AT_EXECFN, text_at + env_end]);
    words.extend([libc::AT_PLATFORM, platform_at]);
    words.extend([libc::AT_NULL, 0]);

    let rsp = (random_at - words.len() as u64 * 8) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let auxv_bytes = bytes[auxv_from * 8..].to_vec();
    let at = |addr: u64| usize::try_from(addr - rsp).unwrap_or(usize::MAX);
    bytes.resize(at(random_at), 0);
    bytes.extend_from_slice(&auxv.random);
    bytes.extend_from_slice(PLATFORM);
    bytes.resize(at(text_at), 0);
    bytes.extend_from_slice(&text);
    Layout {
        bytes,
        rsp,
        args: (text_at, text_at + args_len),
        env: (text_at + args_len, text_at + env_end),
        auxv: auxv_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_reads_back_as_it_was_laid_out() {
        let strings = Strings::new(
            vec![b"prog".to_vec(), b"".to_vec(), b"x y".to_vec()],
            vec![b"A=1".to_vec()],
            8 << 20,
        );
        for slide in [0, 16, 4096, 8000] {
            let auxv = Auxv {
                entries: &[(libc::AT_PAGESZ, 4096)],
                random: [7; 16],
                execfn: b"/bin/prog",
            };
            let top = 0x7fff_0000_0000;
            let stack = lay_out(top, &strings, &auxv, slide);
            assert_eq!(stack.rsp % 16, 0);
            assert_eq!(stack.rsp + stack.bytes.len() as u64, top);
            let word = |i: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&stack.bytes[i * 8..i * 8 + 8]);
                u64::from_ne_bytes(bytes)
            };
            let string = |addr: u64| {
                let from = (addr - stack.rsp) as usize;
                let len = stack.bytes[from..].iter().position(|&b| b == 0).unwrap_or(0);
                stack.bytes[from..from + len].to_vec()
            };
            assert_eq!(word(0), 3);
            assert_eq!(
                [string(word(1)), string(word(2)), string(word(3))],
                [&b"prog"[..], b"", b"x y"]
            );
            assert_eq!(word(4), 0);
            assert_eq!(string(word(5)), b"A=1");
            assert_eq!(word(6), 0);
            assert_eq!((word(7), word(8)), (libc::AT_PAGESZ, 4096));
            assert_eq!(word(9), libc::AT_RANDOM);
            let random = (word(10) - stack.rsp) as usize;
            assert_eq!(stack.bytes[random..random + 16], [7; 16]);
            assert_eq!(word(11), libc::AT_EXECFN);
            assert_eq!(string(word(12)), b"/bin/prog");
            assert_eq!(string(word(14)), b"x86_64");
            assert_eq!((word(15), word(16)), (libc::AT_NULL, 0));
            assert_eq!(stack.auxv.len(), 10 * 8);
            assert_eq!(stack.args.0, word(1));
            assert_eq!(stack.args.1, stack.env.0);
            assert_eq!(stack.env.0, word(5));
            assert_eq!(stack.env.1, word(12));
        }
    }
}
