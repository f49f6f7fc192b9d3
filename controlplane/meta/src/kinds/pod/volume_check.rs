//! What is wrong with a volume.
//!
//! Owns: the checks on volumes. Must not know: containers. A newcomer's trap: none yet.
