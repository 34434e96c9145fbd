/// Numbers drawn from a seed: a linear congruential generator of 64 bits (Knuth's MMIX), its upper half used.
pub struct Drawn {
    state: u64,
}

impl Drawn {
    /// A generator of its own; the same seed draws the same numbers.
    pub fn new(seed: u64) -> Self {
        let mut drawn = Self { state: seed };
        (0..4).for_each(|_| drawn.step());
        drawn
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }

    /// Uniform between 0 and 1, never either.
    pub fn uniform(&mut self) -> f64 {
        self.step();
        ((self.state >> 32) as f64 + 0.5) / 4_294_967_296.0
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        radius * angle.cos()
    }
}
