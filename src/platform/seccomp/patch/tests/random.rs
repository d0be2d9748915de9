//! Text that nobody wrote: nothing in it may do harm here, and what is patched is the same as before.

use proptest::prelude::*;

use super::binaries::same;
use super::*;

/// Pieces that random texts are made of: what is found around sites, and what is not.
const PIECES: [&[u8]; 28] = [
    b"\x0f\x05",
    b"\x0f\x05",
    b"\x0f\x05",
    b"\xb8\x27\0\0\0",
    b"\x48\xc7\xc0\x27\0\0\0",
    b"\x48\xb8\x27\0\0\0\x0f\x05\0\0",
    b"\x31\xc0",
    b"\x89\xd0",
    b"\x44\x89\xc8",
    b"\x48\x89\x45\xf8",
    b"\x48\x3d\x01\xf0\xff\xff",
    b"\x85\xc0",
    b"\x48\x8d\x35\x10\0\0\0",
    b"\x83\x3d\xf0\xff\xff\xff\x07",
    b"\x75\xf9",
    b"\x74\x03",
    b"\x0f\x87\xf0\xff\xff\xff",
    b"\xe8\x10\0\0\0",
    b"\xe9\xe0\xff\xff\xff",
    b"\xeb\x02",
    b"\xe3\xfb",
    b"\xff\xe0",
    b"\xff\x25\x10\0\0\0",
    b"\xff\x15\x10\0\0\0",
    b"\x55",
    b"\xc3",
    b"\x66\x0f\x1f\x44\0\0",
    b"\xf3\x0f\x1e\xfa",
];

/// Where one of a text's sites is.
fn sites(bytes: &[u8]) -> Vec<u64> {
    let pairs = bytes.windows(2).enumerate();
    let sites = pairs.filter(|(_, pair)| *pair == SYSCALL);
    sites.map(|(at, _)| TEXT + at as u64).collect()
}

/// Plans for all sites of a text, and checks of each.
fn check(bytes: &[u8]) {
    let text = TEXT..TEXT + bytes.len() as u64;
    let targets = Targets::scan(bytes).expect("small");
    for site in sites(bytes) {
        let wanted = Window::wanted(&text, site);
        let part = &bytes[(wanted.start - TEXT) as usize..(wanted.end - TEXT) as usize];
        let window = Window::new(text.clone(), wanted.start, part).expect("within");
        let alone = analyse(&window, site, 39, None);
        let recipe = match analyse(&window, site, 39, Some(&targets)) {
            Ok(recipe) => recipe,
            Err(why) => {
                assert_ne!(why, Refusal::NeedsTargets);
                assert!(alone.is_err(), "less is known, but more is allowed");
                continue;
            }
        };
        let covered = recipe.covered(site);
        assert!(text.start <= covered.start && covered.end <= text.end && covered.contains(&site));
        let plan = match recipe.place(site, AT, ENTRIES) {
            Ok(plan) => plan,
            Err(why) => {
                assert_eq!(why, Refusal::TooFar);
                continue;
            }
        };
        same(&recipe, &plan);
        for rip in covered.clone() {
            if let Some(moved) = plan.resume(rip) {
                assert_eq!(plan.guest_rip(moved), Some(rip));
            }
        }
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..400) {
        let mut bytes = bytes;
        if at + 2 <= bytes.len() {
            bytes[at..at + 2].copy_from_slice(&SYSCALL);
        }
        check(&bytes);
    }

    #[test]
    fn instructions_of_any_kind_stay_the_same(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..120),
    ) {
        check(&pieces.concat());
    }
}
