//! What is found patchable, and how.

use super::*;

/// Checks that the recipe moves so many bytes from in front of the site and from behind it.
fn moves(code: &[u8], number: u64, before: usize, after: usize) {
    let recipe = Text::new(code).analyse(number).expect("a recipe");
    assert_eq!(
        (recipe.moved_before().len(), recipe.moved_after().len()),
        (before, after)
    );
}

fn refused(code: &[u8], number: u64) -> Refusal {
    Text::new(code).analyse(number).expect_err("no recipe")
}

#[test]
fn a_five_byte_load_in_front_is_enough() {
    moves(b"\xb8\x27\0\0\0\x0f\x05\xc3", 39, 5, 0);
    // mov rax, imm32
    moves(b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05\xc3", 15, 7, 0);
}

#[test]
fn it_needs_no_knowledge_of_the_whole_text() {
    let text = Text::new(b"\xb8\x27\0\0\0\x0f\x05\xc3");
    assert!(analyse(&text.window(), text.site(0), 39, None).is_ok());
    // mov eax, edx; syscall; mov ebx, eax; nop
    let text = Text::new(b"\xc3\x89\xd0\x0f\x05\x89\xc3\x90\xc3");
    let without = analyse(&text.window(), text.site(0), 39, None);
    assert_eq!(without, Err(Refusal::NeedsTargets));
    assert!(text.analyse(39).is_ok());
}

#[test]
fn a_cleared_register_takes_a_follower() {
    // je over; xor eax, eax; syscall; cmp rax, -4096; ja over
    let code = b"\x74\x0c\x31\xc0\x0f\x05\x48\x3d\0\xf0\xff\xff\x77\x00\xc3";
    moves(code, 0, 0, 6);
}

#[test]
fn padding_in_front_is_not_moved() {
    // ret; nop dword [rax+rax]; a function of glibc, called past the padding: xor eax, eax; syscall; cmp rax, -4096
    let code = b"\xc3\x0f\x1f\x84\0\0\0\0\0\x31\xc0\x0f\x05\x48\x3d\0\xf0\xff\xff\xc3";
    moves(code, 0, 0, 6);
}

#[test]
fn a_load_that_gave_another_number_is_not_moved() {
    // The site was reached in another way; the ret behind it leaves no room.
    assert_eq!(refused(b"\xb8\x27\0\0\0\x0f\x05\xc3\xe8", 40), Refusal::Immovable);
    moves(b"\xb8\x27\0\0\0\x0f\x05\x48\x89\xc3\xc3", 40, 0, 3);
}

#[test]
fn a_number_in_a_register_moves_what_loads_it() {
    // mov eax, r9d; syscall; ret
    moves(b"\xc3\x44\x89\xc8\x0f\x05\xc3\xe8", 202, 3, 0);
    // xor sil, 0x80 behind the load: both
    moves(b"\xb8\xca\0\0\0\x40\x80\xf6\x80\x0f\x05\xc3", 202, 9, 0);
}

#[test]
fn musl_s_cancellation_point_keeps_its_labels() {
    // mov [rsp+8], r11; syscall; ret
    moves(b"\x4c\x89\x5c\x24\x08\x0f\x05\xc3\xeb\x10", 0, 5, 0);
}

#[test]
fn a_return_as_follower_takes_padding_but_no_code() {
    // jmp over; syscall; ret; padding
    moves(b"\xeb\x00\x0f\x05\xc3\x66\x90\x0f\x1f\0", 1, 0, 1);
    moves(b"\xeb\x00\x0f\x05\xc3\xcc\xcc\xcc", 1, 0, 1);
    assert_eq!(
        refused(b"\xeb\x00\x0f\x05\xc3\x55\x53\x50", 1),
        Refusal::Immovable
    );
}

#[test]
fn padding_that_is_branched_to_is_code() {
    let code = b"\xeb\x03\x0f\x05\xc3\x90\x90\x90\x90";
    assert_eq!(refused(code, 1), Refusal::BranchInside);
}

#[test]
fn calls_and_branches_can_follow() {
    // push rdi would do, but there is a jump in front: jmp +0; syscall; call
    moves(b"\xeb\x00\x0f\x05\xe8\0\x10\0\0", 1, 0, 5);
    // syscall; test eax, eax; jne back
    moves(b"\xeb\x00\x0f\x05\x85\xc0\x75\xf6", 1, 0, 4);
}

#[test]
fn an_indirect_call_cannot_follow() {
    // call [rip + 0x100]
    assert_eq!(
        refused(b"\xeb\x00\x0f\x05\xff\x15\0\x01\0\0", 1),
        Refusal::Immovable
    );
}

#[test]
fn a_second_syscall_is_not_moved() {
    assert_eq!(
        refused(b"\xeb\x00\x0f\x05\x0f\x05\x0f\x05", 1),
        Refusal::Immovable
    );
    // Nor from in front; 06 is no instruction.
    let text = Text::new(b"\xeb\x00\x0f\x05\x0f\x05\x06");
    let targets = Targets::scan(&text.bytes);
    let second = analyse(&text.window(), text.site(1), 1, targets.as_ref());
    assert_eq!(second, Err(Refusal::Immovable));
}

#[test]
fn nothing_is_written_behind_the_end_of_the_mapping() {
    let text = Text::ending(b"\xeb\x00\x0f\x05\xc3\x90");
    assert_eq!(text.analyse(1), Err(Refusal::Immovable));
    let text = Text::ending(b"\xeb\x00\x0f\x05\xc3\x90\x90");
    assert!(text.analyse(1).is_ok());
    let text = Text::ending(b"\xb8\x27\0\0\0\x0f\x05");
    assert!(text.analyse(39).is_ok());
    let text = Text::ending(b"\xb8\x27\0\0\0\x0f");
    let site = code(5);
    assert_eq!(analyse(&text.window(), site, 39, None), Err(Refusal::NoSite));
}

#[test]
fn nothing_is_moved_from_before_the_mapping() {
    let bytes = b"\xb8\x27\0\0\0\x0f\x05\xc3\x55\x55";
    let window = Window::new(TEXT..TEXT + 10, TEXT, bytes).expect("within");
    assert_eq!(analyse(&window, TEXT + 5, 39, None), Err(Refusal::Immovable));
}

#[test]
fn a_short_window_is_refused() {
    let text = Text::new(b"\xb8\x27\0\0\0\x0f\x05\xc3");
    let range = TEXT..TEXT + 0x1000;
    let window = Window::new(range, TEXT, &text.bytes).expect("within");
    assert_eq!(
        analyse(&window, text.site(0), 39, None),
        Err(Refusal::ShortWindow)
    );
    assert!(Window::new(TEXT..TEXT + 4, TEXT, &text.bytes).is_none());
}

#[test]
fn a_short_branch_to_the_site_forbids_to_overwrite_it() {
    // mov eax, r9d; syscall; ret ... jmp to the syscall
    let code = b"\xc3\x44\x89\xc8\x0f\x05\xc3\xeb\xfb\xe8";
    assert_eq!(refused(code, 1), Refusal::BranchInside);
    // The jump of a five-byte load leaves the syscall where it is.
    moves(b"\xb8\x27\0\0\0\x0f\x05\xc3\xeb\xfb", 39, 5, 0);
}

#[test]
fn a_far_branch_to_the_site_forbids_to_overwrite_it() {
    let mut text = Text::new(b"\xc3\x44\x89\xc8\x0f\x05\xc3\xe8");
    assert!(text.analyse(1).is_ok());
    text.bytes.resize(0x4000, 0x90);
    let from = TEXT + 0x3000;
    let distance = text.site(0).wrapping_sub(from + 6) as u32;
    text.bytes[0x3000..0x3006].copy_from_slice(&[&[0x0f, 0x84][..], &distance.to_le_bytes()].concat());
    assert_eq!(text.analyse(1), Err(Refusal::BranchInside));
    // lea rax, [site]
    let distance = text.site(0).wrapping_sub(from + 7) as u32;
    text.bytes[0x3000..0x3007].copy_from_slice(&[&[0x48, 0x8d, 0x05][..], &distance.to_le_bytes()].concat());
    assert_eq!(text.analyse(1), Err(Refusal::BranchInside));
}

#[test]
fn a_computed_jump_in_the_function_forbids_inner_places() {
    // jmp rax; mov eax, r9d; syscall; ret
    let code = b"\xff\xe0\x44\x89\xc8\x0f\x05\xc3\xe8";
    assert_eq!(refused(code, 1), Refusal::ComputedJump);
    moves(b"\xff\xe0\xb8\x27\0\0\0\x0f\x05\xc3", 39, 5, 0);
}

#[test]
fn a_computed_jump_in_another_function_does_not_matter() {
    let mut text = Text::new(b"\xff\xe0\xc3");
    let function = text.bytes.len().next_multiple_of(16);
    text.bytes.resize(function, 0xcc);
    text.bytes.extend_from_slice(b"\x44\x89\xc8\x0f\x05\xc3\xe8");
    text.bytes.resize(function + 64, 0xcc);
    assert_eq!(text.analyse(1), Err(Refusal::ComputedJump));
    let at = text.bytes.len() - 5;
    let distance = (function as u32).wrapping_sub(at as u32 + 5);
    text.bytes[at] = 0xe8;
    text.bytes[at + 1..].copy_from_slice(&distance.to_le_bytes());
    assert!(text.analyse(1).is_ok());
}

#[test]
fn what_decodes_in_two_ways_is_not_moved() {
    // The "load" may as well be the end of a load of 64 bits, and the fill is of bytes that keep both ways open.
    let mut bytes = vec![0x48; 64];
    bytes.extend_from_slice(b"\xb8\x27\0\0\0\x0f\x05\xc3\x55\x53\xcc");
    let window = Window::new(TEXT..TEXT + bytes.len() as u64, TEXT, &bytes).expect("within");
    let site = TEXT + 64 + 5;
    assert!(analyse(&window, site, 39, Targets::scan(&bytes).as_ref()).is_err());
}
