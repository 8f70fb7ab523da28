//! What Sources need of this machine.

use crate::{controllers::source::Copies, drivers::sources::PASSED_ON};

/// Where repositories are copied to, and what git is told of the server's environment.
#[allow(clippy::disallowed_methods, reason = "git finds ssh and proxies by them")]
pub(super) fn copies(data_dir: &super::DataDir) -> Copies {
    let env = PASSED_ON.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)));
    Copies { dir: data_dir.sources(), env: env.collect() }
}
