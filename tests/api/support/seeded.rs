//! Random choices that a printed seed repeats.

/// A generator (`SplitMix64`): small, and the same on every machine and in every release.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The number that an environment variable holds.
    #[expect(clippy::disallowed_methods, reason = "how a run of the tests is repeated or made longer")]
    pub fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok().map(|number| number.parse().expect("a number"))
    }

    /// The seed named by an environment variable, else a new one; printed, so that a failure can be repeated.
    pub fn from_env(name: &str) -> u64 {
        let seed = Self::number(name).unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
        println!("{name}={seed} repeats this run");
        seed
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).expect("small")).expect("small")
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Some of these, at least one.
    pub fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        let chosen: Vec<T> = of.iter().filter(|_| self.below(3) == 0).cloned().collect();
        if chosen.is_empty() { vec![self.pick(of).clone()] } else { chosen }
    }
}
