//! How much the server says in its log, and who changes that while it runs.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tracing::level_filters::LevelFilter;

/// Sets how much is logged, by a level or by directives (`debug`, `info,appm_edges=trace`).
type Set = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// How much the server says in its log.
#[derive(Clone)]
pub struct Verbosity {
    set: Arc<Set>,
    /// As it was said last.
    said: Arc<Mutex<String>>,
}

impl Verbosity {
    /// At first `said`; changed by `set`, which says what it does not understand.
    pub fn new(said: &str, set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { set: Arc::new(set), said: Arc::new(Mutex::new(said.to_owned())) }
    }

    /// From now on so much.
    ///
    /// # Errors
    /// What of it is not understood.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let mut said = self.said.lock().expect("nobody panics while holding it");
        (self.set)(level)?;
        level.clone_into(&mut said);
        Ok(())
    }

    /// As it was said: `info`, or directives.
    pub fn said(&self) -> String {
        self.said.lock().expect("nobody panics while holding it").clone()
    }

    /// The level alone: of directives, the most that is logged of anything.
    pub fn level(&self) -> String {
        let said = self.said().to_lowercase();
        let plain = ["trace", "debug", "info", "warn", "error", "off"].contains(&said.as_str());
        if plain { said } else { LevelFilter::current().to_string().to_lowercase() }
    }
}

impl Default for Verbosity {
    /// Where nobody listens: nothing can be changed.
    fn default() -> Self {
        Self::new("off", |_| Err("this server's log is not its own".to_owned()))
    }
}

impl fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verbosity").field(&self.said()).finish()
    }
}
