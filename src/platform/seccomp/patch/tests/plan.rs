//! The bytes of plans, decoded again, and the ways between original and copy.

use std::sync::Arc;

use iced_x86::{Code, Instruction, Mnemonic, Register};

use super::*;

/// The instructions of a plan's trampoline.
fn decoded(plan: &Plan) -> Vec<Instruction> {
    let start = plan.trampoline_range().start;
    let mut at = start;
    let mut found = Vec::new();
    while at < plan.code_end() {
        let rest = &plan.trampoline()[(at - start) as usize..];
        let instruction = instruction(rest, at);
        at = instruction.next_ip();
        found.push(instruction);
    }
    found
}

/// Checks what all trampolines have in common, and gives the instructions in front of and behind it.
fn parts(plan: &Plan) -> (Vec<Instruction>, Vec<Instruction>) {
    let all = decoded(plan);
    let (scratch, entry, kind) = match plan.kind() {
        Kind::Syscall => (Register::R11, ENTRIES.syscall, Code::Syscall),
        Kind::Cpuid => (Register::RBX, ENTRIES.cpuid, Code::Cpuid),
    };
    let lea = all.iter().position(|found| {
        found.code() == Code::Lea_r64_m
            && found.op0_register() == scratch
            && found.memory_displacement64() == plan.code_end()
    });
    let lea = lea.expect("lea of the record");
    let jump = &all[lea + 1];
    assert_eq!(jump.code(), Code::Jmp_rm64);
    let at = (jump.memory_displacement64() - plan.trampoline_range().start) as usize;
    assert_eq!(plan.trampoline()[at..at + 8], entry.to_le_bytes());
    assert_eq!(all[lea + 2].code(), kind);
    assert_eq!(record(plan, RECORD_SLOW), all[lea + 2].ip());
    assert_eq!(all[lea + 3].near_branch_target(), record(plan, RECORD_GO_ON));
    assert_eq!(record(plan, RECORD_RCX), plan.site() + 2);
    assert!(plan.code_end().is_multiple_of(8));
    let jump = instruction(plan.jump(), plan.overwritten().start);
    assert_eq!(jump.near_branch_target(), plan.trampoline_range().start);
    (all[..lea].to_vec(), all[lea + 4..].to_vec())
}

#[test]
fn a_load_in_front() {
    let plan = Text::new(b"\xb8\x27\0\0\0\x0f\x05\xc3").plan(39);
    let (before, _) = parts(&plan);
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].immediate32(), 39);
    assert_eq!(record(&plan, RECORD_GO_ON), code(7));
    assert_eq!(plan.overwritten(), code(0)..code(5));
    assert_eq!(plan.original(), b"\xb8\x27\0\0\0");
    // Nothing in the overwritten bytes is a place to go on at but the first.
    assert!((1..5).all(|offset| plan.resume(code(offset)).is_none()));
}

#[test]
fn cpuid_has_an_entry_and_a_free_register_of_its_own() {
    // mov eax, 7; xor ecx, ecx; cpuid; mov [rip + 0x1000], eax
    let plan = Text::new(b"\xb8\x07\0\0\0\x31\xc9\x0f\xa2\x89\x05\0\x10\0\0\xc3").plan(7);
    let (before, after) = parts(&plan);
    assert_eq!(before.len(), 2);
    assert!(after.iter().all(|found| found.mnemonic() == Mnemonic::Int3));
    assert_eq!(record(&plan, RECORD_GO_ON), code(9));
    // Its neighbour is a site as well, which stays one.
    let text = Text::new(b"\xeb\x00\x0f\xa2\x89\xc3\x0f\xa2\xc3");
    assert_eq!(text.analyse(0).err(), Some(Refusal::Immovable));
    let plan = Text::new(b"\xeb\x00\x0f\xa2\x89\xc6\x89\xd7\x0f\xa2\xc3").plan(0);
    let (before, after) = parts(&plan);
    assert_eq!(before.len(), 0);
    assert_eq!(after[2].near_branch_target(), code(8));
}

#[test]
fn followers_go_on_behind_themselves() {
    // cmp rax, -4096
    let plan = Text::new(b"\xeb\x00\x0f\x05\x48\x3d\0\xf0\xff\xff\xc3").plan(1);
    let (before, after) = parts(&plan);
    assert!(before.is_empty());
    assert_eq!(after[0].code(), Code::Cmp_RAX_imm32);
    assert_eq!(record(&plan, RECORD_GO_ON), after[0].ip());
    assert_eq!(after[1].near_branch_target(), code(10));
    assert_eq!(plan.resume(code(4)), Some(after[0].ip()));
    assert_eq!(plan.guest_rip(after[0].ip()), Some(code(4)));
    assert_eq!(plan.guest_rip(after[1].ip()), Some(code(10)));
}

#[test]
fn what_is_relative_to_rip_keeps_its_target() {
    // lea rsi, [rip + 0x1000] in front, then mov eax, edx
    let plan = Text::new(b"\xc3\x48\x8d\x35\0\x10\0\0\x89\xd0\x0f\x05\xc3\xe8").plan(1);
    let (before, _) = parts(&plan);
    assert_eq!(before[0].memory_displacement64(), code(8) + 0x1000);
    assert_eq!(before[0].op0_register(), Register::RSI);
    assert_eq!(before[1].mnemonic(), Mnemonic::Mov);
    // cmp dword [rip + 0x1000], 7: the distance is not the last of its bytes.
    let plan = Text::new(b"\xeb\x00\x0f\x05\x83\x3d\0\x10\0\0\x07\xc3").plan(1);
    let (_, after) = parts(&plan);
    assert_eq!(after[0].memory_displacement64(), code(11) + 0x1000);
    assert_eq!(after[0].immediate8to32(), 7);
}

#[test]
fn branches_keep_their_targets() {
    // syscall; test eax, eax; jne -10
    let plan = Text::new(b"\xeb\x00\x0f\x05\x85\xc0\x75\xf6").plan(1);
    let (_, after) = parts(&plan);
    assert_eq!(after[1].code(), Code::Jne_rel32_64);
    assert_eq!(after[1].near_branch_target(), code(8) - 10);
    assert_eq!(after[2].near_branch_target(), code(8));
    // syscall; mov ebx, eax; jmp +0x20, and nothing comes behind.
    let plan = Text::new(b"\xeb\x00\x0f\x05\x89\xc3\xeb\x10").plan(1);
    let (_, after) = parts(&plan);
    assert_eq!(after[1].near_branch_target(), code(8) + 0x10);
    assert!(after[2..].iter().all(|found| found.mnemonic() == Mnemonic::Int3));
}

#[test]
fn a_call_pushes_the_original_return_address() {
    let plan = Text::new(b"\xeb\x00\x0f\x05\xe8\0\x10\0\0").plan(1);
    let (_, after) = parts(&plan);
    assert_eq!(after[0].code(), Code::Push_rm64);
    let at = (after[0].memory_displacement64() - plan.trampoline_range().start) as usize;
    assert_eq!(plan.trampoline()[at..at + 8], code(9).to_le_bytes());
    assert_eq!(after[1].near_branch_target(), code(9) + 0x1000);
    // Once it has pushed, the guest is at the function called.
    assert_eq!(plan.guest_rip(after[0].ip()), Some(code(4)));
    assert_eq!(plan.guest_rip(after[1].ip()), Some(code(9) + 0x1000));
}

#[test]
fn every_instruction_of_a_trampoline_is_somewhere_for_the_guest() {
    let plan = Text::new(b"\xc3\x44\x89\xc8\x0f\x05\x48\x3d\0\xf0\xff\xff\xc3").plan(1);
    let site = plan.site();
    let places: Vec<_> = decoded(&plan)
        .iter()
        .map(|found| plan.guest_rip(found.ip()))
        .collect();
    let expected = [site - 3, site, site, site, site + 2].map(Some);
    assert_eq!(places[..5], expected);
    assert!(
        places[5..].iter().all(Option::is_none),
        "only filling behind: {places:?}"
    );
    assert_eq!(plan.guest_rip(plan.trampoline_range().start + 1), None);
    assert_eq!(plan.guest_rip(plan.code_end()), None);
    // The site is overwritten: to go on there is to go on at the way into the runtime.
    let into = plan.resume(site).expect("a place");
    assert_eq!(plan.guest_rip(into), Some(site));
    assert_eq!(plan.resume(site + 1), None);
}

#[test]
fn too_far_or_crooked_a_trampoline_is_refused() {
    let text = Text::new(b"\xb8\x27\0\0\0\x0f\x05\xc3");
    let recipe = text.analyse(39).expect("a recipe");
    let place = |site, at| recipe.place(site, at, ENTRIES).err();
    assert_eq!(
        place(text.site(0), TEXT + (1 << 31) + 0x1000),
        Some(Refusal::TooFar)
    );
    assert_eq!(place(text.site(0), AT + 4), Some(Refusal::TooFar));
    assert_eq!(place(2, AT), Some(Refusal::TooFar));
    assert_eq!(place(u64::MAX - 1, AT), Some(Refusal::TooFar));
    assert_eq!(place(text.site(0), u64::MAX - 7), Some(Refusal::TooFar));
}

#[test]
fn overlapping_sites_are_not_both_patched() {
    // syscall; mov rbx, rax; syscall: what is behind the first is in front of the second.
    let text = Text::new(b"\xeb\x00\x0f\x05\x48\x89\xc3\x0f\x05\xe8");
    let targets = Targets::scan(&text.bytes).expect("small");
    let [first, second] = [0, 1].map(|index| {
        let site = text.site(index);
        let recipe = analyse(&text.window(), site, 1, Some(&targets)).expect("a recipe");
        recipe
            .place(site, AT + 256 * index as u64, ENTRIES)
            .expect("a plan")
    });
    let mut plans = Plans::default();
    plans.insert(first).expect("the first");
    assert_eq!(plans.insert(second).err(), Some(Refusal::Overlap));
    assert_eq!(plans.remove(TEXT..TEXT + 0x1000).len(), 1);
    assert!(plans.overlapping(0..u64::MAX).next().is_none());
}

#[test]
fn plans_of_a_space() {
    let text = Text::new(b"\xb8\x27\0\0\0\x0f\x05\xc3\xeb\x00\x0f\x05\x48\x3d\0\xf0\xff\xff\xc3");
    let targets = Targets::scan(&text.bytes).expect("small");
    let mut plans = Plans::default();
    let mut patched = text.bytes.clone();
    for (index, number) in [39, 1].into_iter().enumerate() {
        let site = text.site(index);
        let recipe = analyse(&text.window(), site, number, Some(&targets)).expect("a recipe");
        let plan = recipe
            .place(site, AT + 256 * index as u64, ENTRIES)
            .expect("a plan");
        let at = (plan.covered().start - TEXT) as usize;
        assert_eq!(plan.check(&text.bytes[at..at + plan.covered().count()]), Ok(()));
        assert_eq!(plan.check(b"\x90"), Err(Refusal::Changed));
        patched[at..at + 5].copy_from_slice(plan.jump());
        plans.insert(plan).expect("no overlap");
    }
    assert_ne!(patched, text.bytes);
    let mut shown = patched.clone();
    plans.restore_originals(TEXT, &mut shown);
    assert_eq!(shown, text.bytes);
    let mut part = patched[FILL as usize + 2..FILL as usize + 12].to_vec();
    plans.restore_originals(code(2), &mut part);
    assert_eq!(part, text.bytes[FILL as usize + 2..FILL as usize + 12]);

    let second = Arc::clone(plans.of_site(text.site(1)).expect("known"));
    let into = plans.resume(text.site(1) + 2).expect("moved");
    assert!(second.trampoline_range().contains(&into));
    assert_eq!(plans.guest_rip(into), text.site(1) + 2);
    assert_eq!(plans.resume(text.site(1) + 1), None);
    assert_eq!(plans.resume(code(7)), Some(code(7)));
    assert_eq!(plans.guest_rip(code(7)), code(7));
    assert!(plans.of_site(code(7)).is_none());
}
