//! The name of a compilation: 256 bits over everything that changes its result. Knows no compiler; the embedder says
//! what goes in.

use std::fmt;
use std::sync::{Arc, LazyLock};

/// Told apart from every other use of BLAKE3, and from later ways of joining the parts.
const CONTEXT: &str = "hapax 2025-11 fingerprint of named parts v1";
/// More than this is hashed at once and not copied first.
const PENDING_BYTES_AT_MOST: usize = 16 << 10;

/// Nothing but the context.
static EMPTY: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key(CONTEXT));

/// The 256-bit name of a compilation.
///
/// Two compilations with the same fingerprint must have the same result, so name everything that changes it: the
/// embedder's build, the code generator and its version, the target, its flags and ISA features, the input's bytes,
/// what it imports. Leave out what does not: paths, times, verifier flags.
///
/// ```
/// use hapax::Fingerprint;
///
/// let fingerprint = |flags: &str| {
///     Fingerprint::of("my-compiler build 7")
///         .part("target", "x86_64-unknown-linux-gnu")
///         .part("flags", flags)
///         .part("ir", b"fn f() -> 42")
///         .finish()
/// };
/// assert_eq!(fingerprint("-O2"), fingerprint("-O2"));
/// assert_ne!(fingerprint("-O2"), fingerprint("-O3"));
/// assert_eq!(fingerprint("-O2").to_string().len(), 64);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Starts a fingerprint. `schema` names who computes it and which parts follow; change it when those change.
    pub fn of(schema: impl AsRef<[u8]>) -> FingerprintBuilder {
        FingerprintBuilder { hashed: None, pending: Vec::new() }.part("schema", schema)
    }

    /// A fingerprint that was computed elsewhere. It should be a cryptographic hash: nothing else compares the inputs.
    pub const fn from_bytes(bytes: [u8; 32]) -> Fingerprint {
        Fingerprint(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads what [`Display`](fmt::Display) writes: 64 lower-case hexadecimal digits. `None` if it is anything else.
    pub fn from_hex(digits: &str) -> Option<Fingerprint> {
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Fingerprint(bytes))
    }
}

/// As 64 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// As the first 16 hexadecimal digits.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Collects the parts of a [`Fingerprint`], in order. Each goes in with its name and both lengths, so no two lists of
/// parts run together into the same bytes.
#[derive(Clone)]
#[must_use = "finish() gives the fingerprint"]
pub struct FingerprintBuilder {
    /// Clones share it: a hasher is 2 KB. `None` before anything is hashed.
    hashed: Option<Arc<blake3::Hasher>>,
    /// What comes after that. A compilation's parts are short, and cost least in one piece.
    pending: Vec<u8>,
}

impl FingerprintBuilder {
    /// Adds a part. The same name may come more than once, as for a list of flags; the order counts.
    pub fn part(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.pending.reserve(16 + name.len() + value.len().min(PENDING_BYTES_AT_MOST));
        self.add(name.as_bytes());
        self.add(value);
        self
    }

    /// Hashes what was added so far: clones of the result begin after it. For what many fingerprints have in common; the
    /// fingerprints are the same without this.
    ///
    /// ```
    /// use hapax::Fingerprint;
    ///
    /// let class = Fingerprint::of("my-compiler build 7").part("layout", [7; 4_000]).hashed();
    /// let method = |code: &str| class.clone().part("code", code).finish(); // hashes the code alone
    /// assert_ne!(method("ret 1"), method("ret 2"));
    /// ```
    pub fn hashed(mut self) -> Self {
        self.hash_pending();
        self
    }

    /// The fingerprint of everything added.
    pub fn finish(self) -> Fingerprint {
        let mut hasher = self.hashed.as_deref().unwrap_or(&EMPTY).clone();
        hasher.update(&self.pending);
        Fingerprint(*hasher.finalize().as_bytes())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        if self.pending.len() + bytes.len() <= PENDING_BYTES_AT_MOST {
            self.pending.extend_from_slice(bytes);
        } else {
            self.hash_pending().update(bytes);
        }
    }

    fn hash_pending(&mut self) -> &mut blake3::Hasher {
        let hasher = Arc::make_mut(self.hashed.get_or_insert_with(|| Arc::new(EMPTY.clone())));
        hasher.update(&self.pending);
        self.pending.clear();
        hasher
    }
}

impl fmt::Debug for FingerprintBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintBuilder").finish_non_exhaustive()
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_parts_run_together() {
        let lists: [&[(&str, &str)]; 7] = [
            &[],
            &[("a", "bc")],
            &[("ab", "c")],
            &[("a", "b"), ("c", "")],
            &[("a", "b"), ("", "c")],
            &[("a", ""), ("bc", "")],
            &[("c", ""), ("a", "b")],
        ];
        let fingerprints = lists.map(|list| {
            list.iter().fold(Fingerprint::of("test"), |builder, (name, value)| builder.part(name, value)).finish()
        });
        for (at, fingerprint) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[..at].contains(fingerprint), "{:?}", lists[at]);
        }
    }

    /// The value is Python's blake3 package's, over the parts as the documentation joins them.
    #[test]
    fn a_fingerprint_stays_the_same_over_releases() {
        let fingerprint = Fingerprint::of("golden").part("ir", b"\x00\x01").finish();
        assert_eq!(fingerprint.to_string(), "7eee75070f6b518ff1989bc5fc6c5caa7c1da1e4f50b14334d610ea6fbe86784");
    }

    /// Of as many bytes as one chunk has, and two and four and more, which BLAKE3 hashes side by side where the processor can. So they are
    /// the same with assembly and without it, under the feature `pure`. The values are those of the same package.
    #[test]
    fn fingerprints_of_every_length_are_the_same_on_every_build() {
        let known = [
            (0, "35e0c8e70eb282f57ea69ddca3e03b31dc205bb31d6053995a8587cea01c1996"),
            (1_000, "fbdc7e1ddf33ccb5902e9ddb3c2738dd33d39b25de7ce7b8743f2f27e1b50b35"),
            (1_025, "f4af82bd8926030e18bd08ef2a510cff655e2b44c363d02ce02802ce3561f1cd"),
            (2_049, "3165a2b5889562a3dd8ba5cc6abdd77468db991bd2b4ec8aea6acd500b49a91b"),
            (4_097, "1eb17d2cc8df4cbf1cf249e3a7d5be95bad7f6987bf1ed0371527aa15ebdb3f5"),
            (8_193, "ad2d48887fb83f8112be49ccc0138a8a19cc2b7cfecb6ed79471dab04e08c197"),
            (20_000, "ec57cbfab92c96af108044ee65a6f6cfc5e3616f9c00fbdcb7f4c5addf341804"),
            (100_000, "de8b39e3f10e57900faad3ff33af2ce0f519cdd8ea5fb0c1365ada8d8ded22d0"),
        ];
        for (length, expected) in known {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            assert_eq!(Fingerprint::of("lengths").part("ir", bytes).finish().to_string(), expected, "{length} bytes");
        }
    }

    #[test]
    fn when_a_part_is_hashed_changes_nothing() {
        let long = vec![7; 3 * PENDING_BYTES_AT_MOST];
        let lengths = [0, 1, 63, 64, 1_024, PENDING_BYTES_AT_MOST - 40, PENDING_BYTES_AT_MOST, long.len()];
        for (first, second) in lengths.iter().flat_map(|first| lengths.map(|second| (*first, second))) {
            let (first, second) = (&long[..first], &long[..second]);
            let mut whole = EMPTY.clone();
            for bytes in [b"schema", &b"test"[..], b"a", first, b"b", second] {
                whole.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
            }
            let whole = Fingerprint(*whole.finalize().as_bytes());
            let begun = Fingerprint::of("test").part("a", first);
            let shared = begun.clone().hashed();
            assert_eq!(begun.part("b", second).finish(), whole);
            assert_eq!(shared.clone().part("b", second).finish(), whole);
            assert_eq!(shared.part("b", second).hashed().finish(), whole);
        }
    }

    #[test]
    fn only_64_lower_case_digits_are_read() {
        let fingerprint = Fingerprint::of("hex").finish();
        let digits = fingerprint.to_string();
        assert_eq!(Fingerprint::from_hex(&digits), Some(fingerprint));
        for other in
            [&digits[1..], &digits.to_uppercase(), &digits.replacen(&digits[..1], "g", 1), "", &format!("{digits}0")]
        {
            assert_eq!(Fingerprint::from_hex(other), None, "{other}");
        }
    }
}
