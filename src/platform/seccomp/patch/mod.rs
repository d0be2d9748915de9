//! Rewriting instructions that trap into jumps to the runtime: the pure part, over bytes and addresses.
//!
//! A `syscall` or `cpuid` instruction (the *site*) that trapped is replaced by a five-byte `jmp` to a *trampoline* nearby, which goes
//! to the entry of the runtime for it. Two bytes are too few for that jump, so neighbours of the site are overwritten too, and
//! copies of them run in the trampoline. Nothing here touches a guest, knows a thread or calls the host: the platform
//! reads the bytes, holds the threads, writes the bytes.
//!
//! # Use
//! 1. [`Window::wanted`] says which bytes of the text around the site to read, [`Plans::restore_originals`] undoes in
//!    them what was patched before, and [`analyse`] makes a [`Recipe`] of them. It answers [`Refusal::NeedsTargets`] where
//!    it has to know all branches of the text: then [`Targets::scan`] reads the whole text, once per file, and `analyse`
//!    is called again. What it finds, or that it finds nothing, is worth keeping in [`Known`].
//! 2. [`Recipe::place`] makes a [`Plan`] of it, for a trampoline in an [`Arena`], whose place [`find_room`] chose.
//! 3. With no thread of the space running guest code, the platform enters the plan into the space's [`Plans`], compares
//!    the text once more ([`Plan::check`]) and writes the trampoline and the jump. Threads go on at [`Plans::resume`] of
//!    where they were.
//! 4. From then on [`Plans::guest_rip`] says where a thread that stopped in a trampoline is for the guest.
//!
//! Only private, file-backed text that is not writable is to be patched.
//!
//! A plan needs no thread to be running: there is no breakpoint phase, no handshake, no intermediate state in the text.
//! A thread that is held meanwhile finds the bytes of before or those of after, never some of each. That its CPU has not
//! kept old ones decoded is the platform's to see to: coming back from a signal or an exception serialises.
//!
//! # What makes it sound
//! * *Followers* of the site are decoded from its end, where the guest goes on: there is nothing to guess.
//! * *Predecessors* are believed when the decodes from 15 consecutive addresses further up all come to them and to the
//!   site, those apart that come upon what is no instruction. No instruction is longer than 15 bytes, so the real
//!   instruction stream passes one of those addresses, unless there is data in between; and data does not bring
//!   all decodes to one end. A number that the predecessors would load into rax must be the one that the site was reached with.
//! * *Branches* into the overwritten bytes, behind the first, forbid a recipe. Where all overwritten bytes belong to one
//!   instruction (a `mov eax, imm32` in front of the site, in nearly all of glibc) there is no place to branch to, and the
//!   site itself stays in place. Otherwise direct branches are searched in the whole text, 32-bit ones at every byte,
//!   8-bit ones in every plausible way to decode the bytes around; and there must be no computed jump in the function,
//!   whose table might name a place within. Landing pads of exceptions and return addresses follow a call, which is never
//!   among the predecessors and only ever the last follower.
//! * Where an instruction takes the address of one of the overwritten bytes, there is no recipe either.
//!
//! What a guest can still do is to jump where nothing in its text says it would; that is its own loss.

#![forbid(unsafe_code)]

mod code;
mod known;
mod plan;
mod plans;
mod relocate;
mod room;
mod site;
mod targets;
#[cfg(test)]
mod tests;

pub use code::Window;
pub use known::{FileKey, Known, Verdict};
pub use plan::{Entries, Plan, RECORD_GO_ON, RECORD_RCX, RECORD_SLOW};
pub use plans::Plans;
pub use room::{Arena, find_room};
pub use site::{Kind, Recipe, analyse};
pub use targets::Targets;

/// Bytes of `jmp rel32`.
pub const JUMP_LEN: u64 = 5;

/// Bytes of a site: of `syscall` and of `cpuid`.
pub const SITE_LEN: u64 = 2;

/// Why a site is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes at the site are something else, or not all there.
    #[error("no instruction there that traps")]
    NoSite,
    /// The window is smaller than [`Window::wanted`].
    #[error("too little of the text was given")]
    ShortWindow,
    /// All branches of the text must be known to decide: call again with [`Targets`].
    #[error("needs the branch targets of the text")]
    NeedsTargets,
    /// There are too few neighbours that could be run elsewhere.
    #[error("its neighbours cannot be moved")]
    Immovable,
    /// A branch leads, or an address points, into the bytes that would be overwritten.
    #[error("a branch leads into the bytes to overwrite")]
    BranchInside,
    /// The function has a computed jump, which may lead into the bytes that would be overwritten.
    #[error("a computed jump may lead into the bytes to overwrite")]
    ComputedJump,
    /// The text is not what the recipe was made of.
    #[error("the text has changed")]
    Changed,
    /// It would overwrite what another plan has overwritten.
    #[error("overlaps a patched site")]
    Overlap,
    /// Something is not within 2 GiB of the trampoline, or at no possible address.
    #[error("too far from its trampoline")]
    TooFar,
}
