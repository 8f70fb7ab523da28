//! The `appm` binary: everything is in the library.

use std::{ffi::OsStr, process::ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next().as_deref().and_then(OsStr::to_str) {
        // For developers only: writes the files that are generated from the code.
        Some("generate") => appm::server::openapi::main(words),
        _ => appm::cli::main(),
    }
}
