//! Nothing: the SDK's own tests are what is run.
