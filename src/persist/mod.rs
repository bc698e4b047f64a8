//! What outlives the process: framed, checked records, and the places where they live. Knows no device, no heap and
//! no compiler, and nothing of what its bytes mean.

pub(crate) mod codec;
pub(crate) mod envelope;
pub(crate) mod fingerprint;
pub(crate) mod store;
