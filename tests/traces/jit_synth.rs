//! A made-up compiler's requests, the same on every run: 60 models, each a fixed sequence of 40 to 399 kernels, run in
//! loops of up to 12 iterations, popular models far more often. A fifth of the kernels come from a pool that all
//! models share, and every twentieth request is for a kernel that is needed once.

use crate::replay::Request;

const REQUESTS: usize = 400_000;
const MODELS: u64 = 60;
const SHARED_KERNELS: u64 = 400;

/// Without costs.
pub fn requests() -> Vec<Request> {
    let mut random = Random(7);
    let models: Vec<Vec<u64>> = (0..MODELS).map(|model| kernels_of(model, &mut random)).collect();
    let mut keys = Vec::new();
    let mut needed_once = 1_000_000;
    while keys.len() < REQUESTS {
        let at = unit(mix(random.below(u64::MAX)));
        let popular = ((MODELS + 1) as f64).powf(at) - 1.0;
        let model = &models[(popular as usize).min(models.len() - 1)];
        for _ in 0..1 + random.below(12) {
            for &kernel in model {
                keys.push(kernel);
                if random.below(20) == 0 {
                    needed_once += 1;
                    keys.push(needed_once);
                }
            }
        }
    }
    keys.into_iter().map(|key| Request { key, bytes: bytes_of(key), cost_ns: 0 }).collect()
}

fn kernels_of(model: u64, random: &mut Random) -> Vec<u64> {
    let kernels = 40 + random.below(360);
    let kernel = |own| match random.below(5) {
        0 => random.below(SHARED_KERNELS),
        _ => 1000 + model * 1000 + own,
    };
    (0..kernels).map(kernel).collect()
}

/// Log-normal around 16 KiB.
fn bytes_of(key: u64) -> u64 {
    let bytes = (16384f64.ln() + normal(key ^ 0x99)).exp();
    (bytes as u64).clamp(512, 4 << 20)
}

/// What a kernel costs to compile, as three models have it, in nanoseconds.
pub const COSTS: [(&str, fn(&Request) -> f64); 3] = [
    ("the same for all", |_| 1.0),
    ("whatever the size", |request| (200f64.ln() + 1.2 * taste(request)).exp()),
    ("more for larger ones", |request| {
        200.0 * (request.bytes as f64 / 16384.0).powf(0.7) * (0.6 * taste(request)).exp()
    }),
];

pub fn with_costs(requests: &[Request], cost_ms: fn(&Request) -> f64) -> Vec<Request> {
    let costing = |request: &Request| Request { cost_ns: (cost_ms(request) * 1e6) as u64, ..*request };
    requests.iter().map(costing).collect()
}

fn taste(request: &Request) -> f64 {
    normal(mix(request.key) ^ 0xC057)
}

/// A draw of the standard normal distribution that belongs to `seed` (Box and Muller).
fn normal(seed: u64) -> f64 {
    let (radius, angle) = (unit(mix(seed ^ 0x1111)), unit(mix(seed ^ 0x2222)));
    (-2.0 * radius.ln()).sqrt() * (2.0 * std::f64::consts::PI * angle).cos()
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % bound
    }
}

/// In (0, 1).
fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
