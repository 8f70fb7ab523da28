//! What was read of each file of a source, whether or not it is a manifest: no file is read twice that did not change, and the mistakes
//! of a broken one are remembered like the objects of a good one.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{Home, Origin, SAID_BY, Texts, can_be_declared};
use crate::{
    api::Key,
    policy::manifest::{self, Aim, Fault, Place},
};

/// What was read of each file. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The one namespace of everything, and the one where nothing is said.
    home: (Option<Arc<str>>, Arc<str>),
    pub(super) all: Arc<BTreeMap<Arc<str>, Arc<Read>>>,
}

/// What was read of one file.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) text: Arc<str>,
    /// The object of each document.
    pub(super) objects: Box<[Written]>,
    pub(super) faults: Box<[Fault]>,
}

/// An object, where it is written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) key: Key,
    /// Which document of the file it is.
    pub(super) document: usize,
    /// Changes with what is declared.
    pub(super) digest: u64,
    /// Where it begins.
    pub(super) start: Place,
    /// Where its name is.
    pub(super) name: Place,
}

impl Files {
    /// Reads all that is not in `earlier` as it is.
    pub fn read(earlier: Option<&Files>, texts: &Texts, home: Home<'_>) -> Files {
        let earlier = earlier.filter(|earlier| earlier.is_at(home));
        let mut known = earlier.into_iter().flat_map(|earlier| &*earlier.all).peekable();
        let read = |(path, text): (&Arc<str>, &Arc<str>)| {
            while known.next_if(|(before, _)| *before < path).is_some() {}
            let known = known.next_if(|(same, _)| *same == path).map(|(_, known)| known);
            let known = known.filter(|known| Arc::ptr_eq(&known.text, text) || known.text == *text);
            (path.clone(), known.cloned().unwrap_or_else(|| Arc::new(Read::of(text, home))))
        };
        let place = (home.only.map(Arc::from), home.default.into());
        Files { home: place, all: Arc::new(texts.iter().map(read).collect()) }
    }

    /// True if it was read for this place.
    pub fn is_at(&self, home: Home<'_>) -> bool {
        (self.home.0.as_deref(), &*self.home.1) == (home.only, home.default)
    }

    /// What both have read otherwise, or only one of them: as it is here, and as it is there.
    pub(super) fn differing<'a>(&'a self, other: &'a Files) -> Vec<(&'a Arc<str>, Option<&'a Read>, Option<&'a Read>)> {
        let mut found = Vec::new();
        let (mut ours, mut theirs) = (self.all.iter().peekable(), other.all.iter().peekable());
        loop {
            let first = match (ours.peek(), theirs.peek()) {
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((path, _)), None) | (None, Some((path, _))) => *path,
                (None, None) => return found,
            };
            let of = |found: Option<(&'a Arc<str>, &'a Arc<Read>)>| found.map(|(_, read)| read);
            let (a, b) = (of(ours.next_if(|(path, _)| *path == first)), of(theirs.next_if(|(path, _)| *path == first)));
            if !a.zip(b).is_some_and(|(a, b)| Arc::ptr_eq(a, b)) {
                found.push((first, a.map(|read| &**read), b.map(|read| &**read)));
            }
        }
    }

    pub(super) fn home(&self) -> Home<'_> {
        Home { only: self.home.0.as_deref(), default: &self.home.1, said_by: SAID_BY }
    }
}

impl Written {
    /// Where it is declared, in a file of this name.
    pub(super) fn origin(&self, file: &Arc<str>) -> Origin {
        Origin { file: file.clone(), document: self.document, digest: self.digest }
    }
}

impl Read {
    fn of(text: &Arc<str>, home: Home<'_>) -> Read {
        let read = manifest::read(text);
        let mut faults = read.faults;
        let mut objects = Vec::new();
        for (index, document) in read.documents.iter().enumerate() {
            let home = Home { said_by: SAID_BY, ..home };
            let Some(identity) = document.identity(home, &mut faults) else { continue };
            let kind = identity.served.kind;
            if identity.served.view.is_some() || !can_be_declared(kind) {
                let message = format!("no source declares a {}: appm makes it by itself", identity.served.name());
                faults.push(document.fault("kind", message));
            }
            if identity.name.is_empty() {
                let message = "a source names its objects, so that they are found again";
                faults.push(document.fault("metadata.generateName", message));
            }
            let mut hasher = DefaultHasher::new();
            identity.value.to_string().hash(&mut hasher);
            objects.push(Written {
                key: Key::new(kind, &identity.namespace, &identity.name),
                document: index,
                digest: hasher.finish(),
                start: document.start(),
                name: document.place("metadata.name", Aim::Value),
            });
        }
        Read { text: text.clone(), objects: objects.into(), faults: faults.into() }
    }
}
