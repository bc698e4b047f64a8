//! The work that every contender does: which keys, in which order. Drawn before any clock starts.

/// Keys of a compiler: 128 bits, already well mixed.
pub fn key(number: u64) -> u128 {
    u128::from(mix(number)) << 64 | u128::from(mix(!number))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `count` of the given keys, each as likely as the other.
pub fn uniform(keys: &[u128], count: usize, seed: u64) -> Vec<u128> {
    (0..count as u64).map(|i| keys[(mix(seed << 32 | i) % keys.len() as u64) as usize]).collect()
}

/// Numbers `0..universe` by Zipf's law with exponent 0.99, the popular ones scattered.
pub struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    pub fn new(universe: usize) -> Self {
        let mut sum = 0.0;
        let weight = |rank: usize| (rank as f64).powf(-0.99);
        let cumulated = (1..=universe).map(|rank| {
            sum += weight(rank);
            sum
        });
        Zipf { cumulated: cumulated.collect() }
    }

    pub fn keys(&self, count: usize, seed: u64) -> Vec<u128> {
        let sum = *self.cumulated.last().expect("a universe has something in it");
        let draw = |i| {
            let at = unit(mix(seed << 32 | i)) * sum;
            key(mix(self.cumulated.partition_point(|&up_to| up_to < at) as u64))
        };
        (0..count as u64).map(draw).collect()
    }
}

/// Sizes of compiled code: log-normal, median 16 KiB, sigma 1, from 256 bytes to 1 MiB.
pub fn code_bytes(number: u64) -> u64 {
    let (a, b) = (unit(mix(number ^ 0x5555)), unit(mix(number ^ 0x7777)));
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    ((16384f64.ln() + normal).exp() as u64).clamp(256, 1 << 20)
}

/// In (0, 1).
fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}
