//! The `appm` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    appm::cli::main()
}
