//! The system as a whole: names, randomness, what needs no subsystem of its own.

use super::stop::Errno;

/// Fill with random bytes, the one source of all randomness a guest sees.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), Errno> {
    getrandom::fill(bytes).map_err(|_| Errno::EIO)
}
