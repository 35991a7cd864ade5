//! Whole transfers over the seeded, faulty ring.
