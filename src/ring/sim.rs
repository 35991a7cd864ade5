//! The seeded, faulty twin.
