//! What is sent with a task, and what comes back: bytes in the pieces in which they came, never put together.

use std::{any::Any, sync::Arc};

use bytes::{Bytes, BytesMut};

/// A piece that is shorter is put together with its neighbours: a client may send a byte at a time, and a piece has its price.
const SMALL: usize = 8 * 1024;

/// Bytes of any length. To clone it copies none of them.
#[derive(Clone, Default)]
pub struct Payload {
    pieces: Vec<Bytes>,
    small: BytesMut,
    len: usize,
    /// What the bytes take of somebody's room, for as long as they are held.
    room: Vec<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        let mut payload = Self::default();
        payload.push(bytes);
        payload
    }
}

impl Payload {
    /// Adds a piece to the end.
    pub fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        if piece.len() < SMALL && !(self.pieces.is_empty() && self.small.is_empty()) {
            self.small.extend_from_slice(&piece);
            if self.small.len() < SMALL {
                return;
            }
        }
        let small = self.small.split().freeze();
        let rest = if piece.len() < SMALL && !small.is_empty() { Bytes::new() } else { piece };
        self.pieces.extend([small, rest].into_iter().filter(|piece| !piece.is_empty()));
    }

    /// The same, which takes this room until it is dropped.
    #[must_use]
    pub fn holding(self, room: impl Any + Send + Sync) -> Self {
        Self { room: vec![Arc::new(room)], ..self }
    }

    /// Adds another one to the end, with its room.
    pub fn append(&mut self, mut other: Payload) {
        self.room.append(&mut other.room);
        other.into_pieces().for_each(|piece| self.push(piece));
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order. They hold the room.
    pub fn into_pieces(self) -> Pieces {
        let Self { mut pieces, small, len, room } = self;
        pieces.extend(Some(small.freeze()).filter(|piece| !piece.is_empty()));
        Pieces { pieces: pieces.into_iter(), left: len, _room: room }
    }

    /// All of it in one piece. Copies, unless it came in one.
    pub fn to_bytes(&self) -> Bytes {
        match (self.pieces.as_slice(), self.small.is_empty()) {
            ([one], true) => one.clone(),
            (pieces, _) => {
                let mut whole = BytesMut::with_capacity(self.len);
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.extend_from_slice(&self.small);
                whole.freeze()
            }
        }
    }
}

/// The pieces of a payload, one after another.
pub struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    left: usize,
    _room: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Pieces {
    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.left
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next()?;
        self.left -= piece.len();
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_pieces_the_bytes_are_the_same() {
        for sizes in [vec![], vec![1], vec![SMALL], vec![3, 1, 4, 1], vec![1, SMALL, 2, 5000, 5000, 1], vec![SMALL, 1]]
        {
            let mut payload = Payload::default();
            let mut whole = Vec::new();
            for (at, size) in sizes.iter().enumerate() {
                let piece = vec![u8::try_from(at).expect("few"); *size];
                whole.extend_from_slice(&piece);
                payload.push(piece.into());
            }
            assert_eq!((payload.len(), payload.is_empty()), (whole.len(), whole.is_empty()));
            assert_eq!(payload.to_bytes(), whole, "{sizes:?}");
            assert_eq!(payload.into_pieces().collect::<Vec<_>>().concat(), whole, "{sizes:?}");
        }
    }

    #[test]
    fn many_small_pieces_become_few() {
        let mut payload = Payload::default();
        (0..100_000).for_each(|_| payload.push(Bytes::from_static(b"ab")));
        assert!(payload.into_pieces().count() < 30);
    }

    #[test]
    fn room_is_held_as_long_as_there_are_pieces() {
        let room = Arc::new(());
        let payload = Payload::from(Bytes::from_static(b"a")).holding(room.clone());
        let mut pieces = payload.clone().into_pieces();
        drop(payload);
        assert!(pieces.next().is_some());
        assert_eq!(Arc::strong_count(&room), 2);
        drop(pieces);
        assert_eq!(Arc::strong_count(&room), 1);
    }
}
