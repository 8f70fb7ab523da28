//! The generated files are those that the code would generate now.

use std::path::Path;

#[test]
fn schemas_and_openapi_are_fresh() {
    let stale = appm::server::openapi::stale(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(stale.is_empty(), "run `cargo run -- generate` and commit what it writes: {stale:?}");
}
