//! What names one object: kind, namespace and name.

use std::{fmt, sync::Arc};

use super::{Kind, KindInfo};

/// The key of an object in the store, in caches and in work queues. Ordered by kind, namespace, name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind in its stored form.
    pub kind: &'static KindInfo,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of an object of `kind`; `namespace` is empty for cluster-scoped kinds.
    pub fn new(kind: &'static KindInfo, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object of kind `K`.
    pub fn of<K: Kind>(namespace: &str, name: &str) -> Self {
        Self::new(K::INFO, namespace, name)
    }
}

impl fmt::Display for Key {
    /// `apps.appm.dev default/web`, or `nodes host-a`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind.qualified(), self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind.qualified(), self.name),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
