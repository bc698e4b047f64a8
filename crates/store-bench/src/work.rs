//! The artifacts: lengths as of compiled functions and kernels, log-normal around a median of 12 KB, 64 bytes to 2 MiB.

pub struct Artifact {
    pub key: [u8; 32],
    pub payload: Vec<u8>,
}

impl Artifact {
    pub fn cut_to(&self, bytes: usize) -> Artifact {
        Artifact { key: self.key, payload: self.payload[..bytes.min(self.payload.len())].to_vec() }
    }
}

pub fn artifacts(count: usize, seed: u64) -> Vec<Artifact> {
    let mut random = Random::new(seed);
    let artifact = |_| {
        let bytes = (random.normal() + (12_400f64).ln()).exp() as usize;
        let payload = random.bytes(bytes.clamp(64, 2 << 20));
        Artifact { key: random.key(), payload }
    };
    (0..count).map(artifact).collect()
}

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn key(&mut self) -> [u8; 32] {
        self.bytes(32).try_into().expect("32 bytes")
    }

    /// Every second word is zero, as code compresses to about half.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 16);
        while bytes.len() < count {
            bytes.extend(self.next().to_le_bytes());
            if count > 32 {
                bytes.extend([0; 8]);
            }
        }
        bytes.truncate(count);
        bytes
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        let unit = |word: u64| ((word >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        let (radius, angle) = (unit(self.next()), unit(self.next()));
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}
