//! The part `file` of a form as it comes (RFC 7578): nothing of it is kept but what may be the beginning of its end.

use bytes::Bytes;

/// The longest head of a part.
const HEAD: usize = 8 << 10;

/// A form that comes in pieces.
#[derive(Debug)]
pub(super) struct Multipart {
    /// `\r\n--boundary`
    delimiter: Vec<u8>,
    kept: Vec<u8>,
    /// How much of what comes next is not the part's yet.
    passed: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a delimiter; what comes until then is nobody's.
    Outside,
    /// After one.
    Head,
    /// In the part that is wanted.
    Inside,
    /// Behind it.
    Over,
}

impl Multipart {
    /// The form of a content type; `None` if it is none.
    ///
    /// # Errors
    /// A sentence if it has no boundary.
    pub(super) fn of(content_type: &str) -> Result<Option<Self>, &'static str> {
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/form-data")) {
            return Ok(None);
        }
        let boundary =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.eq_ignore_ascii_case("boundary"));
        let boundary = boundary.map(|(_, value)| value.trim_matches('"')).filter(|text| (1..=70).contains(&text.len()));
        let boundary = boundary.ok_or("the form has no boundary")?;
        // The first one has no line before it.
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Ok(Some(Self { delimiter, kept: b"\r\n".to_vec(), passed: 0, state: State::Outside }))
    }

    /// True once the part has ended.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Over
    }

    /// What of the part is in the next piece.
    ///
    /// # Errors
    /// A sentence if this is no form.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<Bytes>, &'static str> {
        self.kept.extend_from_slice(piece);
        let mut found = Vec::new();
        loop {
            match self.state {
                State::Over => {
                    self.kept.clear();
                    return Ok(found);
                }
                State::Head => {
                    let Some(end) = position(&self.kept, b"\r\n\r\n") else {
                        let last = self.kept.starts_with(b"--");
                        return if last || self.kept.len() > HEAD {
                            Err("the form has no part `file`")
                        } else {
                            Ok(found)
                        };
                    };
                    let head = String::from_utf8_lossy(&self.kept[..end]).to_lowercase();
                    let is_file = head.contains("name=\"file\"") || head.contains("name=file");
                    self.state = if is_file { State::Inside } else { State::Outside };
                    // The empty line's end stays: a part may be empty, and its delimiter begins with it.
                    self.kept.drain(..end + 2);
                    self.passed = 2;
                }
                State::Inside | State::Outside => {
                    let is_wanted = self.state == State::Inside;
                    let (length, ends) = match position(&self.kept, &self.delimiter) {
                        Some(place) => (place, true),
                        // As much as cannot be the beginning of the end.
                        None => (self.kept.len().saturating_sub(self.delimiter.len() - 1), false),
                    };
                    let taken: Vec<u8> = self.kept.drain(..length).skip(self.passed).collect();
                    self.passed = self.passed.saturating_sub(length);
                    if is_wanted && !taken.is_empty() {
                        found.push(taken.into());
                    }
                    if !ends {
                        return Ok(found);
                    }
                    self.kept.drain(..self.delimiter.len());
                    self.state = if is_wanted { State::Over } else { State::Head };
                }
            }
        }
    }
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(file: &[u8]) -> Vec<u8> {
        let head = b"--B\r\nContent-Disposition: form-data; name=\"filename\"\r\n\r\nx.txt\r\n--B\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"filename\"\r\nContent-Type: a/b\r\n\r\n";
        [head, file, b"\r\n--B--\r\n"].concat()
    }

    fn read(form: &[u8], step: usize) -> Result<(Vec<u8>, bool), &'static str> {
        let mut multipart = Multipart::of("multipart/form-data; boundary=B").expect("a form").expect("one");
        let mut found = Vec::new();
        for piece in form.chunks(step) {
            found.extend(multipart.push(piece)?.concat());
        }
        Ok((found, multipart.is_whole()))
    }

    #[test]
    fn what_is_no_form_is_refused() {
        assert!(Multipart::of("application/octet-stream").expect("good").is_none());
        assert!(Multipart::of("multipart/form-data").is_err());
        assert!(read(b"--B\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--B--\r\n", 1000).is_err());
        assert_eq!(
            read(b"--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nhalf", 3).map(|read| read.1),
            Ok(false)
        );
    }

    proptest! {
        #[test]
        fn a_file_comes_out_as_it_went_in(file in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'B'), any::<u8>()], 0..200), step in 1usize..50) {
            prop_assume!(position(&[b"\r\n", &*file].concat(), b"\r\n--B").is_none());
            prop_assert_eq!(read(&form(&file), step), Ok((file, true)));
        }
    }
}
