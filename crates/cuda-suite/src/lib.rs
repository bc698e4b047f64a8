//! Tests of hapax's CUDA backend, on the stand-in driver: see `tests/`. A package of its own, so that a build of hapax
//! without features stays free of CUDA.
