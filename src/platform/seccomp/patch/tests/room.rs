//! Where trampolines go.

use super::*;
use crate::platform::{Mapping, Prot, USER_END};

const LEN: u64 = 0x1_0000;

fn mapping(start: u64, end: u64, prot: Prot, of_file: bool) -> Mapping {
    Mapping {
        start,
        end,
        prot,
        shared: false,
        offset: 0,
        file: of_file.then_some((1, 2)),
    }
}

fn text(start: u64, end: u64) -> Mapping {
    mapping(start, end, Prot::READ | Prot::EXEC, true)
}

fn memory(start: u64, end: u64) -> Mapping {
    mapping(start, end, Prot::READ | Prot::WRITE, false)
}

fn find(mappings: &[Mapping], text: &Mapping) -> Result<u64, Refusal> {
    find_room(mappings, &(text.start..text.end), LEN)
}

#[test]
fn below_a_static_program() {
    let program = text(0x40_0000, 0x50_0000);
    let heap = memory(0x50_0000, 0x60_0000);
    let stack = memory(USER_END - 0x20_0000, USER_END - 0x1000);
    let at = find(&[program.clone(), heap, stack], &program).expect("room");
    assert!(at >= 0x1_0000 && at + LEN < 0x40_0000, "{at:#x}");
    assert!(0x40_0000 - at < 0x4_0000, "near: {at:#x}");
}

#[test]
fn never_below_what_a_guest_may_map() {
    let program = text(0x2_0000, 0x3_0000);
    let at = find(std::slice::from_ref(&program), &program).expect("room");
    // At the far end, for the break is right above the program.
    assert!(at > 0x6000_0000 && at + LEN - program.start < 1 << 31, "{at:#x}");
}

#[test]
fn near_a_library_and_not_in_the_way_of_a_stack() {
    let program = text(0x5555_5555_4000, 0x5555_5556_0000);
    let thread_stack = memory(0x7ffe_8000_0000, 0x7ffe_8080_0000);
    let library = text(0x7ffe_8080_0000, 0x7ffe_8090_0000);
    let loader = text(0x7ffe_8090_4000, 0x7ffe_80a0_0000);
    let all = [
        program.clone(),
        thread_stack.clone(),
        library.clone(),
        loader.clone(),
    ];
    for served in [&library, &loader] {
        let at = find(&all, served).expect("room");
        assert!(at + LEN + (256 << 20) <= thread_stack.start, "{at:#x}");
        assert!(served.end - at < 1 << 31);
    }
    let at = find(&all, &program).expect("room");
    assert!(at < program.start && program.start - at < 0x4_0000);
}

#[test]
fn one_arena_leaves_room_for_the_next() {
    let program = text(0x5555_5555_4000, 0x5555_5556_0000);
    let first = find(std::slice::from_ref(&program), &program).expect("room");
    let trampolines = mapping(first, first + LEN, Prot::READ | Prot::EXEC, false);
    let second = find(&[trampolines, program.clone()], &program).expect("room");
    assert!(second + LEN < first);
}

#[test]
fn no_room_is_said() {
    let around = mapping(0x1_0000, USER_END, Prot::READ, true);
    assert_eq!(
        find_room(&[around], &(0x40_0000..0x50_0000), LEN),
        Err(Refusal::TooFar)
    );
    let all = 0..u64::MAX;
    assert_eq!(find_room(&[], &all, LEN), Err(Refusal::TooFar));
}

#[test]
fn an_arena_fills_up() {
    let mut arena = Arena::new(0x1_0000..0x1_0040);
    assert!(arena.serves(&(0x40_0000..0x50_0000)));
    assert!(!arena.serves(&(0x40_0000..0x9000_0000)));
    assert!(arena.take(33));
    assert_eq!(arena.next(), 0x1_0030);
    assert!(!arena.take(17));
    assert!(arena.take(16));
    assert!(!arena.take(1));
    assert_eq!(arena.range().end, arena.next());
}
