//! Who is at the other end of the Unix socket: the kernel says it, no secret is needed.

use super::Identity;

/// The identity of a peer with user id `uid`, where `owner` is the user who runs the server. Until roles exist, only
/// the owner and root get in.
pub fn identify(uid: u32, owner: u32) -> Option<Identity> {
    (uid == owner || uid == 0).then(Identity::admin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_root_get_in_and_nobody_else() {
        assert!(identify(1000, 1000).is_some());
        assert!(identify(0, 1000).is_some());
        assert!(identify(1001, 1000).is_none());
        assert!(identify(1000, 0).is_none());
    }
}
