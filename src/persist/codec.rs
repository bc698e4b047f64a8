//! Small structures to bytes and back. The only file that names bincode; knows no frames and no files.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// No structure that is written here is larger, and none that claims to be is believed.
pub(crate) const BYTES_AT_MOST: usize = 16 << 20;

/// The bytes of a structure.
///
/// Only structures of numbers, strings and sequences are given, and those cannot fail.
pub(crate) fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("plain structures encode")
}

/// The structure that fills `bytes` exactly; `None` if they are anything else.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    split_from_bytes(bytes).and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// The structure that begins `bytes`, and what follows it; `None` if they do not begin with one.
pub(crate) fn split_from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let config = bincode::config::standard().with_limit::<BYTES_AT_MOST>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    Some((value, bytes.get(used..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_comes_back_and_only_from_exactly_its_bytes() {
        let value = (7u64, "name".to_owned(), vec![1u8, 2, 3]);
        let bytes = to_bytes(&value);
        assert_eq!(from_bytes::<(u64, String, Vec<u8>)>(&bytes), Some(value));
        for length in 0..bytes.len() {
            assert_eq!(from_bytes::<(u64, String, Vec<u8>)>(&bytes[..length]), None, "cut at {length}");
        }
        assert_eq!(from_bytes::<(u64, String, Vec<u8>)>(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_asked_for() {
        let mut bytes = to_bytes(&u64::MAX);
        bytes.extend([0; 16]);
        assert_eq!(from_bytes::<Vec<u64>>(&bytes), None);
        assert_eq!(from_bytes::<String>(&bytes), None);
    }
}
