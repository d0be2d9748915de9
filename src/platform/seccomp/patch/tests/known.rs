//! What is remembered of files.

use std::sync::Arc;

use super::*;

fn key(inode: u64) -> FileKey {
    FileKey {
        device: 1,
        inode,
        modified: (2, 3),
        offset: 0x1000,
    }
}

#[test]
fn what_was_learnt_is_found_where_the_file_is_mapped_next() {
    let text = Text::new(b"\xb8\x27\0\0\0\x0f\x05\xc3");
    let recipe = text.analyse(39).expect("a recipe");
    let offset = text.site(0) - TEXT;
    let mut known = Known::default();
    known.learn(key(1), offset, Verdict::Patch(recipe.clone()));
    known.learn(key(1), 4, Verdict::Leave);
    assert_eq!(known.verdict(&key(1), 4), Some(&Verdict::Leave));
    assert_eq!(known.verdict(&key(2), 4), None);

    // Mapped elsewhere, in another process.
    let elsewhere = 0x7000_0000_0000;
    assert_eq!(known.sites(&key(1), elsewhere), [(elsewhere + offset, recipe)]);
    assert_eq!(known.sites(&key(2), elsewhere), []);
}

#[test]
fn a_mapping_is_met_before_from_the_second_time_on() {
    let mut known = Known::default();
    assert!(!known.met_before(&key(1)));
    known.meet(key(1));
    assert!(!known.met_before(&key(1)));
    known.meet(key(1));
    assert!(known.met_before(&key(1)) && !known.met_before(&key(2)));
}

#[test]
fn the_file_used_longest_ago_is_forgotten_first() {
    let mut known = Known::default();
    for inode in 0..600 {
        known.learn(key(inode), 0, Verdict::Leave);
        assert!(known.verdict(&key(0), 0).is_some(), "in use");
    }
    assert!(known.verdict(&key(1), 0).is_none());
    assert!(known.verdict(&key(599), 0).is_some());
}

#[test]
fn a_hostile_file_cannot_make_it_grow() {
    let mut known = Known::default();
    for inode in 0..16 {
        for offset in 0..10_000 {
            known.learn(key(inode), offset, Verdict::Leave);
        }
    }
    let left: usize = (0..16)
        .map(|inode| {
            (0..10_000)
                .filter(|offset| known.verdict(&key(inode), *offset).is_some())
                .count()
        })
        .sum();
    assert!((4096..=32 << 10).contains(&left), "{left}");
}

#[test]
fn branches_are_kept_with_the_file() {
    let targets = Arc::new(Targets::scan(b"\x90").expect("small"));
    let mut known = Known::default();
    known.learn_targets(key(1), Arc::clone(&targets), 400 << 20);
    assert!(known.targets(&key(1)).is_some());
    known.learn_targets(key(2), targets, 400 << 20);
    assert!(known.targets(&key(1)).is_none());
    assert!(known.targets(&key(2)).is_some());
}
