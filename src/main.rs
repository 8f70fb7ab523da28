//! The `appm` binary: everything is in the library.

use std::{ffi::OsStr, process::ExitCode};

/// Objects are many small pieces of JSON: with the C library's allocator two fifths of a burst's time went into it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The keeper and its helpers fork and must have one thread: they are told apart before anything else happens.
fn main() -> ExitCode {
    // Secrets pass through every part of appm: none of them leaves a core dump, or lets its memory be read by another
    // process of its user. What is executed from here begins with its own setting again.
    let _ = nix::sys::prctl::set_dumpable(false);
    let mut words = std::env::args_os().skip(1);
    match words.next().as_deref().and_then(OsStr::to_str) {
        Some("keeper") => appm::keeper::main(words),
        Some("logger") => appm::logger::main(words),
        Some("feeder") => appm::drivers::container::feeder::main(words),
        Some("relay") => appm::keeper::pty::main(words),
        // For developers only: writes the files that are generated from the code.
        Some("generate") => appm::server::openapi::main(words),
        _ => appm::cli::main(),
    }
}
