//! What every controller runs on: work queue, cache, and the generic pass.
