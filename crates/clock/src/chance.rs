//! Random numbers from an injected seed.

use ahash::RandomState;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

/// A cryptographic generator. In production the seed comes from the operating system, so that
/// tags, branches and nonces cannot be guessed; in the simulator from the seed of the run, so
/// that a run can be replayed.
#[derive(Clone, Debug)]
pub struct Chance(ChaCha12Rng);

impl Chance {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// A generator for tests and the simulator: the whole state from one number.
    pub fn from_number(seed: u64) -> Self {
        Self(ChaCha12Rng::seed_from_u64(seed))
    }

    /// An independent generator for a part of the node.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        Self::from_seed(seed)
    }

    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`; 0 when the bound is 0. The bias is below 2^-32.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.u32()) * u64::from(bound)) >> 32) as u32
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A key for maps whose keys strangers choose.
    pub fn hash_key(&mut self) -> HashKey {
        HashKey([self.u64(), self.u64(), self.u64(), self.u64()])
    }
}

/// The secret of a keyed hasher. It is an input of the node, so that a run can be replayed and
/// nobody outside can choose colliding keys.
#[derive(Clone, Copy, Debug)]
pub struct HashKey([u64; 4]);

impl HashKey {
    pub fn state(self) -> RandomState {
        let [a, b, c, d] = self.0;
        RandomState::with_seeds(a, b, c, d)
    }
}
