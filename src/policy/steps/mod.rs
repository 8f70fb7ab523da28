//! How a step's command talks back: lines in files (`echo "digest=abc" >> "$GITHUB_OUTPUT"`) and lines in its output
//! (`::error file=a.rs,line=3::no`). Pure, and bounded: whatever a command writes is read in one pass, and what is too much is said by name.
//!
//! The forms are those of GitHub's runner, so that scripts which were written for it work; `docs/design/024-expressions.md`
//! says where we refuse what it lets pass.

mod commands;
mod files;
mod masks;
mod said;

pub use commands::{Annotation, Command, Commands, Level};
pub use files::{ChannelFault, LARGEST, MOST_NAMES, env, outputs, path, summary};
pub use masks::{Heard, Masks};
pub use said::{Listener, Said, cover};
