//! A file as it is sent to somebody: piece by piece, so that neither its length nor a slow reader takes memory.

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};

/// How much is read at once.
const PIECE: usize = 128 << 10;

/// So many bytes of a file from its place on. Of one that became shorter meanwhile the last piece is an error, so that whoever was told
/// its length notices.
pub fn file_pieces(file: File, length: u64) -> BoxStream<'static, io::Result<Bytes>> {
    let pieces = stream::unfold(Some((file, length)), |left| async move {
        let (file, left) = left.filter(|(_, left)| *left > 0)?;
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
            let read = (&file).read(&mut piece)?;
            piece.truncate(read);
            Ok((piece, file))
        });
        match read.await.unwrap_or_else(|broke_off| Err(io::Error::other(broke_off))) {
            Ok((piece, file)) if !piece.is_empty() => {
                let left = left - piece.len() as u64;
                Some((Ok(piece.into()), Some((file, left))))
            }
            Ok(_) => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
            Err(error) => Some((Err(error), None)),
        }
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8], length: u64) -> Vec<Result<usize, io::ErrorKind>> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, text).expect("written");
        let pieces = file_pieces(File::open(path).expect("opened"), length);
        pieces.map(|piece| piece.map(|piece| piece.len()).map_err(|error| error.kind())).collect().await
    }

    #[tokio::test]
    async fn a_file_comes_in_pieces_as_long_as_was_said() {
        let long = vec![7; 2 * PIECE + 1];
        assert_eq!(read(&long, long.len() as u64).await, [Ok(PIECE), Ok(PIECE), Ok(1)]);
        assert_eq!(read(b"abc", 0).await, []);
        // What was written behind it meanwhile is not of it; what was cut off is noticed.
        assert_eq!(read(b"abcdef", 3).await, [Ok(3)]);
        assert_eq!(read(b"abc", 6).await, [Ok(3), Err(io::ErrorKind::UnexpectedEof)]);
    }
}
