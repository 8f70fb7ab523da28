//! Everything that a data directory holds, read once: `appm doctor --deep`.

use std::{
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::DataDir;
pub use crate::store::{Examination, OpenError};
use crate::{
    api::{ArtifactStatus, Key, StoredObject, WorkflowRun},
    audit::{self, Verdict},
    drivers::open_artifact,
    store,
};

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of the database.
    pub database: Examination,
    /// Of the audit log.
    pub audit: Result<Verdict, String>,
    /// How many artifacts were read.
    pub artifacts: u64,
    /// Those that are not what was kept, or are not there.
    pub spoilt: Vec<String>,
}

/// Reads all of it; beside a server, too. `key_file`: where the sealing key is, if it is not in the data directory.
///
/// # Errors
/// When the database cannot be opened.
pub async fn examine(dir: &Path, key_file: Option<&Path>) -> Result<Found, OpenError> {
    let mut kept: Vec<(Key, ArtifactStatus)> = Vec::new();
    let mut note = |object: &StoredObject| {
        if let Some(run) = object.typed::<WorkflowRun>() {
            kept.extend(run.status.artifacts.values().map(|artifact| (object.key.clone(), artifact.clone())));
        }
    };
    let database = store::examine(dir, key_file, &mut note).await?;
    let log = DataDir::new(dir).audit();
    let audit = audit::verify(&log, database.anchor.as_ref()).map_err(|error| error.to_string());
    let spoilt = kept.iter().filter_map(|(run, artifact)| {
        let why = match digest(dir, &artifact.file) {
            Ok(digest) if digest == artifact.digest => return None,
            Ok(_) => "it is not what was kept".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(format!("{run}: artifact {}: {why}", artifact.file))
    });
    let (artifacts, spoilt) = (kept.len() as u64, spoilt.collect());
    Ok(Found { database, audit, artifacts, spoilt })
}

fn digest(dir: &Path, file: &str) -> io::Result<String> {
    let (mut file, _) = open_artifact(dir, file)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hash.finalize()))),
            read => hash.update(&piece[..read]),
        }
    }
}
