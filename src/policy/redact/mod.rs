//! Finding secret values in a stream of bytes, however they are written and wherever the stream is cut, and putting `***`
//! in their place. Pure.
//!
//! Every byte that belongs to any occurrence is covered, where occurrences overlap too. Nothing is held back but what may be
//! the beginning of one. What is held is found again from the bytes themselves, so whoever keeps those needs to keep two
//! numbers only (see [`Redactor::redact`]), and a successor goes on as if nothing had been.
//!
//! The search is Wu and Manber's: a table says for each few bytes how far the next occurrence is away at least, so that of
//! text without any only every (shortest form - 3)th byte is looked at. What may be one is looked up among the sorted forms.

mod forms;

pub use forms::{LONGEST, SHORTEST};

use std::collections::BTreeSet;

/// What stands in the place of a secret.
pub const MASK: &[u8] = b"***";
/// So much of the beginning of a secret is not shown even if the rest does not come.
const TELLING: usize = 8;
/// What is looked at of each form before it is compared.
const WIDEST: usize = 64;
const NONE: u32 = u32::MAX;

/// How a piece of a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The rest may come at any moment: what may be the beginning of a secret is held back.
    Open,
    /// Nothing came for a while: everything is given out, and what follows is judged together with it.
    Pause,
    /// Nothing more comes.
    Over,
}

/// How far a stream is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// So many bytes are never needed again.
    pub consumed: usize,
    /// So many after those have been given out, but what follows is to be judged together with them.
    pub given: usize,
}

/// What looks for a set of values.
#[derive(Debug)]
pub struct Redactor {
    /// What is looked for, sorted.
    forms: Vec<Box<[u8]>>,
    /// The longest other form that is the beginning of this one.
    parents: Vec<u32>,
    /// Of the forms' first so many bytes the table is made.
    window: usize,
    gram: usize,
    shifts: Vec<u8>,
    bits: u32,
}

impl Redactor {
    /// Looks for these values. `None`: there is nothing to look for.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Redactor> {
        let mut forms = BTreeSet::new();
        values.into_iter().for_each(|value| forms::add(value, &mut forms));
        let forms: Vec<Box<[u8]>> = forms.into_iter().map(Vec::into_boxed_slice).collect();
        let window = forms.iter().map(|form| form.len()).min()?.min(WIDEST);
        let gram = if window < 8 { 3 } else { 4 };
        let mut parents: Vec<u32> = Vec::with_capacity(forms.len());
        for (at, form) in forms.iter().enumerate() {
            let mut parent = at.checked_sub(1).map_or(NONE, index);
            while parent != NONE && !form.starts_with(&forms[parent as usize]) {
                parent = parents[parent as usize];
            }
            parents.push(parent);
        }
        let grams = forms.len() * (window - gram + 1);
        let bits = (8 * grams).next_power_of_two().ilog2().clamp(12, 20);
        let most = u8::try_from(window - gram + 1).expect("a window is small");
        let mut shifts = vec![most; 1 << bits];
        for form in &forms {
            for at in 0..=window - gram {
                let slot = &mut shifts[slot(&form[at..at + gram], bits)];
                *slot = (*slot).min(u8::try_from(window - gram - at).expect("a window is small"));
            }
        }
        Some(Redactor { forms, parents, window, gram, shifts, bits })
    }

    /// Appends what may be shown of `data`, of which the first `given` bytes were given out before. To be called again with
    /// what is not consumed and what comes after it.
    pub fn redact(&self, data: &[u8], given: usize, end: End, out: &mut Vec<u8>) -> Done {
        // What was given out as a mask goes on as the same one.
        let covered = if given > 0 && self.is_telling(&data[..given]) { given } else { 0 };
        let mut text = Text { data, shown: given, covered, out };
        let mut held = data.len();
        let mut at = 0;
        while let Some(start) = self.candidate(data, at) {
            let rest = &data[start..];
            if held == data.len() && self.begins(rest) {
                held = start;
                if end == End::Open {
                    break;
                }
            }
            if let Some(length) = self.occurrence(rest) {
                text.cover(start, start + length);
            }
            at = start + 1;
        }
        if held == data.len() {
            let first = data.len().saturating_sub(self.window - 1);
            held = (first..data.len()).find(|start| self.begins(&data[*start..])).unwrap_or(held);
        }
        text.show(held);
        if end != End::Open {
            if text.shown < data.len() && self.is_telling(&data[held..]) {
                text.cover(held, data.len());
            }
            text.show(data.len());
        }
        let consumed = if end == End::Over { data.len() } else { held };
        Done { consumed, given: text.shown.saturating_sub(consumed) }
    }

    /// All of a text that is complete.
    pub fn redacted(&self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len());
        self.redact(data, 0, End::Over, &mut out);
        out
    }

    /// Where in a text the values stand, from where to where. They may overlap.
    pub fn places<'a>(&'a self, data: &'a [u8]) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                let start = self.candidate(data, at)?;
                at = start + 1;
                if let Some(length) = self.occurrence(&data[start..]) {
                    return Some(start..start + length);
                }
            }
        })
    }

    /// The next place from `from` on where a form may begin, if the data has room for a window there.
    fn candidate(&self, data: &[u8], from: usize) -> Option<usize> {
        match self.gram {
            3 => self.candidate_by::<3>(data, from),
            _ => self.candidate_by::<4>(data, from),
        }
    }

    fn candidate_by<const GRAM: usize>(&self, data: &[u8], from: usize) -> Option<usize> {
        let mut at = from + self.window - GRAM;
        let (shifts, bits) = (self.shifts.as_slice(), self.bits);
        while let Some(gram) = data.get(at..at + GRAM) {
            match shifts[slot(gram, bits)] {
                0 => return Some(at + GRAM - self.window),
                shift => at += usize::from(shift),
            }
        }
        None
    }

    /// The length of the longest form that stands at the beginning of a text.
    fn occurrence(&self, text: &[u8]) -> Option<usize> {
        let text = &text[..text.len().min(LONGEST)];
        // All that a text begins with are the form before it, or that one's beginnings.
        let after = self.forms.partition_point(|form| **form <= *text);
        let mut at = after.checked_sub(1).map_or(NONE, index);
        while at != NONE {
            let form = &self.forms[at as usize];
            if text.starts_with(form) {
                return Some(form.len());
            }
            at = self.parents[at as usize];
        }
        None
    }

    /// True if a text is the beginning of a longer form.
    fn begins(&self, text: &[u8]) -> bool {
        self.longer(text).is_some()
    }

    fn longer(&self, text: &[u8]) -> Option<&[u8]> {
        if text.len() >= LONGEST {
            return None;
        }
        let after = self.forms.partition_point(|form| **form <= *text);
        self.forms.get(after).map(|form| &**form).filter(|form| form.starts_with(text))
    }

    /// True if the beginning of a secret says too much of it.
    fn is_telling(&self, text: &[u8]) -> bool {
        self.longer(text).is_some_and(|form| text.len() >= TELLING || text.len() * 2 >= form.len())
    }
}

/// What is being written.
struct Text<'a> {
    data: &'a [u8],
    /// Up to here it is given out.
    shown: usize,
    /// The end of the last thing that was covered.
    covered: usize,
    out: &'a mut Vec<u8>,
}

impl Text<'_> {
    fn show(&mut self, until: usize) {
        if until > self.shown {
            self.out.extend_from_slice(&self.data[self.shown..until]);
            self.shown = until;
        }
    }

    fn cover(&mut self, start: usize, end: usize) {
        self.show(start);
        if end > self.shown {
            // One mask for what touches or overlaps.
            if self.covered != self.shown || self.covered == 0 {
                self.out.extend_from_slice(MASK);
            }
            self.shown = end;
            self.covered = end;
        }
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("there are not so many forms")
}

/// Where the table speaks of these three or four bytes.
#[inline]
fn slot(gram: &[u8], bits: u32) -> usize {
    let number = match gram {
        [a, b, c] => u32::from_le_bytes([*a, *b, *c, 0]),
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    };
    (number.wrapping_mul(0x9E37_79B1) >> (32 - bits)) as usize
}

#[cfg(test)]
mod tests;
