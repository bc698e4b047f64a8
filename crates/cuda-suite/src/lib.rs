//! Tests of hapax's CUDA backend, on the stand-in driver or on a card: hapax's own suites, from its own files, with the
//! device of `tests/device`, and those that are about CUDA alone. A package of its own, so that a build of hapax without
//! features stays free of CUDA.
