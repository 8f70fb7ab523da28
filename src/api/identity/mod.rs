//! Who may do what: users, roles, tokens, and what proves who somebody is.

mod credential;
mod role;
mod token;
mod user;

pub use credential::*;
pub use role::{BUILT_IN_ROLES, PolicyRule, Role, RoleSpec, RoleSubject, SubjectKind};
pub use token::{Token, TokenSpec, TokenStatus};
pub use user::*;
