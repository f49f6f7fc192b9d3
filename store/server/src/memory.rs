//! How the operating system gives this process memory.
//!
//! Owns: the size of its pages. Must not know: what it is for. A newcomer's trap: this has to be
//! asked for before much memory is in use.

/// Asks for pages of the usual size only. In one of 2 MiB a few bytes in use keep the rest: with
/// them an idle member takes half as much memory again, and its slowest answers are slower.
///
/// What the process starts later inherits this.
pub fn use_small_pages() {
    // A kernel without large pages has nothing to turn off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
