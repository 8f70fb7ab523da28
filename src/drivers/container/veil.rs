//! Secret values are taken out of what a container writes, before it is on disk.
//!
//! The engine gives output in pieces, each with its time, and what is on disk has a record for each piece ([`Seen`] counts
//! them); so each piece stays one, if shorter. What may be the beginning of a value goes on into the next piece that is there
//! already; in the last one it is given out as at a pause. Pieces that were seen before are read again for what they begin.
//!
//! [`Seen`]: crate::logger::record::Seen

use std::collections::HashMap;

use crate::{
    drivers::Start,
    logger::record::Piece,
    policy::redact::{End, Redactor},
};

/// The label that names the variables whose values are secret.
pub(super) const LABEL: &str = "appm.dev/secret-variables";

/// The variables of a start that hold a secret value.
pub(super) fn variables(start: &Start) -> Option<String> {
    let values: Vec<Vec<u8>> = start.secrets.iter().filter_map(|value| value.bytes()).collect();
    let is_secret = |value: &str| values.iter().any(|secret| secret == value.as_bytes());
    let names: Vec<&str> =
        start.env.iter().filter(|(_, value)| is_secret(value)).map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// What stands between a container and the disk.
#[derive(Debug, Default)]
pub(super) struct Veil {
    redactor: Option<Redactor>,
    kept: [Vec<u8>; 2],
    given: [usize; 2],
}

impl Veil {
    /// By what the engine says of a container.
    pub(super) fn of(labels: &HashMap<String, String>, env: &[String]) -> Veil {
        let names: Vec<&str> = labels.get(LABEL).map(|names| names.split(',').collect()).unwrap_or_default();
        let pairs = env.iter().filter_map(|pair| pair.split_once('='));
        let values = pairs.filter(|(name, _)| names.contains(name)).map(|(_, value)| value.as_bytes());
        Veil { redactor: Redactor::new(values), ..Veil::default() }
    }

    /// Takes the values out of pieces that come after those of before. Each comes with whether it is new: of the others nothing
    /// is to be written.
    pub(super) fn draw(&mut self, pieces: Vec<(Piece, bool)>) -> Vec<Piece> {
        let Some(redactor) = &self.redactor else {
            return pieces.into_iter().filter_map(|(piece, is_new)| is_new.then_some(piece)).collect();
        };
        let mut left = [0; 2];
        pieces.iter().for_each(|(piece, _)| left[piece.stream as usize] += 1);
        let mut drawn = Vec::with_capacity(pieces.len());
        for (piece, is_new) in pieces {
            let slot = piece.stream as usize;
            left[slot] -= 1;
            let end = if left[slot] == 0 { End::Pause } else { End::Open };
            let (kept, mut shown) = (&mut self.kept[slot], Vec::with_capacity(piece.bytes.len()));
            kept.extend_from_slice(&piece.bytes);
            let done = redactor.redact(kept, self.given[slot], end, &mut shown);
            kept.drain(..done.consumed);
            self.given[slot] = done.given;
            if is_new {
                drawn.push(Piece { bytes: shown.into(), ..piece });
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::logger::Stream;

    fn piece(text: &str) -> (Piece, bool) {
        (Piece { nanos: 1, stream: Stream::Out, bytes: Bytes::copy_from_slice(text.as_bytes()) }, true)
    }

    fn texts(pieces: &[Piece]) -> Vec<&str> {
        pieces.iter().map(|piece| std::str::from_utf8(&piece.bytes).unwrap()).collect()
    }

    #[test]
    fn a_value_is_found_across_pieces_and_each_piece_stays_one() {
        let labels = HashMap::from([(LABEL.to_owned(), "A,B".to_owned())]);
        let env = ["A=correct-horse", "C=harmless-text", "B=battery-staple"].map(str::to_owned);
        let mut veil = Veil::of(&labels, &env);
        let pieces = ["harmless-text cor", "rect-horse\n", "batt"].map(piece);
        assert_eq!(texts(&veil.draw(pieces.to_vec())), ["harmless-text ", "***\n", "batt"]);
        assert_eq!(texts(&veil.draw(vec![piece("ery-staple battery-s")])), ["*** ***"]);
        // After a restart, what was written already is read once more.
        let mut veil = Veil::of(&labels, &env);
        assert_eq!(texts(&veil.draw(vec![(piece("batt").0, false), piece("ery-staple\n")])), ["***\n"]);
        assert_eq!(texts(&Veil::of(&HashMap::new(), &env).draw(vec![piece("correct-horse")])), ["correct-horse"]);
    }
}
