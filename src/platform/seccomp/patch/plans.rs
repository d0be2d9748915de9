//! The patched sites of one address space.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Plan, Refusal};

/// Longest text that one plan covers, and more: three instructions, a site, three instructions.
const MAX_COVERED: u64 = 128;

/// Longest trampoline, and more, in bytes.
const MAX_TRAMPOLINE: u64 = 512;

/// All plans in force in an address space. A copy goes with a copied address space.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    /// By the start of what they cover; these ranges do not overlap.
    by_text: BTreeMap<u64, Arc<Plan>>,
    /// The same plans, by the address of the trampoline.
    by_trampoline: BTreeMap<u64, Arc<Plan>>,
}

impl Plans {
    /// Whether `plan` could be entered: it overlaps nothing that is there.
    pub fn fits(&self, plan: &Plan) -> Result<(), Refusal> {
        let trampoline = plan.trampoline_range();
        let over = self.overlapping(plan.covered()).next().is_some()
            || near(&self.by_trampoline, trampoline.clone(), MAX_TRAMPOLINE)
                .any(|other| overlap(&other.trampoline_range(), &trampoline));
        if over { Err(Refusal::Overlap) } else { Ok(()) }
    }

    /// Enter a plan whose bytes are being written.
    pub fn insert(&mut self, plan: Plan) -> Result<Arc<Plan>, Refusal> {
        self.fits(&plan)?;
        let plan = Arc::new(plan);
        self.by_text.insert(plan.covered().start, Arc::clone(&plan));
        self.by_trampoline
            .insert(plan.trampoline_range().start, Arc::clone(&plan));
        Ok(plan)
    }

    /// Forget the plans of text that is unmapped, mapped anew or written back, and give them: their trampolines may be
    /// used again once no thread can be in them.
    pub fn remove(&mut self, text: Range<u64>) -> Vec<Arc<Plan>> {
        let gone: Vec<_> = self.overlapping(text).cloned().collect();
        gone.iter().for_each(|plan| self.remove_plan(plan));
        gone
    }

    /// Forget one plan, as [`Plans::remove`].
    pub fn remove_plan(&mut self, plan: &Plan) {
        self.by_text.remove(&plan.covered().start);
        self.by_trampoline.remove(&plan.trampoline_range().start);
    }

    /// The plans that cover any of a range of text.
    pub fn overlapping(&self, text: Range<u64>) -> impl Iterator<Item = &Arc<Plan>> {
        near(&self.by_text, text.clone(), MAX_COVERED).filter(move |plan| overlap(&plan.covered(), &text))
    }

    /// The plan for the instruction at `site`.
    pub fn of_site(&self, site: u64) -> Option<&Arc<Plan>> {
        self.overlapping(site..site.saturating_add(1))
            .find(|plan| plan.site() == site)
    }

    /// Where a thread that stopped at `rip` is for the guest: `rip` itself outside trampolines.
    pub fn guest_rip(&self, rip: u64) -> u64 {
        let (_, plan) = match self.by_trampoline.range(..=rip).next_back() {
            Some(found) => found,
            None => return rip,
        };
        plan.guest_rip(rip).unwrap_or(rip)
    }

    /// Where a thread must go on so that for the guest it goes on at `rip`. None when that is within an instruction
    /// that was overwritten: the plan must be undone first.
    pub fn resume(&self, rip: u64) -> Option<u64> {
        let inside = |plan: &&Arc<Plan>| {
            let overwritten = plan.overwritten();
            overwritten.start < rip && rip < overwritten.end
        };
        match self.overlapping(rip..rip.saturating_add(1)).find(inside) {
            Some(plan) => plan.resume(rip),
            None => Some(rip),
        }
    }

    /// Put the original bytes back into what was read from `address`.
    pub fn restore_originals(&self, address: u64, bytes: &mut [u8]) {
        let range = address..address.saturating_add(bytes.len() as u64);
        for plan in self.overlapping(range) {
            for (at, original) in plan.overwritten().zip(plan.original()) {
                let place = at.checked_sub(address).and_then(|at| bytes.get_mut(at as usize));
                if let Some(place) = place {
                    *place = *original;
                }
            }
        }
    }
}

/// Plans of which something may be in `range`, when none is longer than `longest`.
fn near(
    plans: &BTreeMap<u64, Arc<Plan>>,
    range: Range<u64>,
    longest: u64,
) -> impl Iterator<Item = &Arc<Plan>> {
    let start = range.start.saturating_sub(longest);
    plans.range(start..range.end.max(start)).map(|(_, plan)| plan)
}

fn overlap(left: &Range<u64>, right: &Range<u64>) -> bool {
    left.start < right.end && right.start < left.end
}
