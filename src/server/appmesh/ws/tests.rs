//! What is a message and what is not, however it comes; and who is asked whether they are there, and when.

use std::future::pending;

use futures::{FutureExt, poll};
use jiff::SignedDuration;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::{super::line::PIECE, *};
use crate::{
    clock::Virtual,
    server::{bounds::Bounds, fuzzing},
};

/// One side of a connection, on a clock that stands still.
struct Door {
    clock: Virtual,
    turnstile: Turnstile,
    send: mpsc::Sender<Out>,
    outs: mpsc::Receiver<Out>,
}

impl Door {
    /// So much memory there is.
    fn with_room(in_bodies: usize) -> Self {
        let clock = Virtual::new("2026-01-01T00:00:00Z".parse().expect("a time"), 1);
        let turnstile = Turnstile::new(Bounds { in_bodies, ..Bounds::default() }, Arc::new(clock.clone()));
        let (send, outs) = mpsc::channel(16);
        Self { clock, turnstile, send, outs }
    }

    fn new() -> Self {
        Self::with_room(1 << 20)
    }

    async fn next(&self, stream: &mut DuplexStream, is_idle: bool) -> Result<Option<Bytes>, End> {
        message_within(stream, &self.turnstile, &mut Taken::default(), || is_idle, &self.send).await
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }
}

/// What was sent to the client, frame by frame.
fn told(outs: &mut mpsc::Receiver<Out>) -> Vec<Bytes> {
    std::iter::from_fn(|| outs.try_recv().ok()).map(|out| out.head).collect()
}

/// A frame as a client writes it.
fn written(is_last: bool, kind: u8, content: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let ours = frame(kind, content, 0);
    let mut out = ours[..ours.len() - content.len()].to_vec();
    out[0] = u8::from(is_last) << 7 | kind;
    out[1] |= 0x80;
    out.extend(mask);
    out.extend(content.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    out
}

fn ping() -> Bytes {
    frame(PING, &[], 0)
}

#[test]
fn the_key_is_answered_as_the_rfc_has_it() {
    assert_eq!(accepted("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn a_frame_says_how_long_it_is() {
    for (length, head) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 255, 255]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        assert_eq!(&message(&[], length)[..], head, "{length}");
    }
    let long = "x".repeat(500);
    assert_eq!(close(1008, &long).len(), 127);
    assert_eq!(&close(1000, "")[..], &[0x88, 2, 0x03, 0xe8]);
}

#[tokio::test]
async fn heads_are_read_or_refused() {
    let read = async |bytes: &[u8]| {
        let (first, mut rest) = ([bytes[0], bytes[1]], &bytes[2..]);
        Head::read(&mut rest, first).await
    };
    let head = |is_last, kind, length| Ok(Head { is_last, kind, length, mask: [1, 2, 3, 4] });
    for (bytes, expected) in [
        (&[0x82, 0x85, 1, 2, 3, 4][..], head(true, BINARY, 5)),
        (&[0x00, 0xfe, 1, 0, 1, 2, 3, 4], head(false, 0, 256)),
        (&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], head(true, BINARY, 1 << 32)),
        (&[0x89, 0x80, 1, 2, 3, 4], head(true, PING, 0)),
        // Not masked; an extension's bit; a Ping in parts, and a long one; the half of a head.
        (&[0x82, 0x05, 1, 2, 3, 4], Err(MALFORMED)),
        (&[0xc2, 0x85, 1, 2, 3, 4], Err(MALFORMED)),
        (&[0x09, 0x80, 1, 2, 3, 4], Err(MALFORMED)),
        (&[0x89, 0xfe, 1, 0, 1, 2, 3, 4], Err(MALFORMED)),
        (&[0x82, 0xfe, 1], Err(BROKE_OFF)),
    ] {
        assert_eq!(read(bytes).await, expected, "{bytes:x?}");
    }
}

#[tokio::test]
async fn who_is_silent_is_asked_every_twenty_seconds_and_is_gone_when_three_were_not_answered() {
    let (_client, mut stream) = duplex(64);
    let Door { clock, turnstile, send, mut outs } = Door::new();
    let mut taken = Taken::default();
    let mut next = Box::pin(message_within(&mut stream, &turnstile, &mut taken, || false, &send));
    let mut asked = Vec::new();
    for second in 1..80 {
        assert!(poll!(&mut next).is_pending(), "{second}");
        clock.advance(SignedDuration::from_secs(1));
        assert!(poll!(&mut next).is_pending(), "{second}");
        asked.extend(told(&mut outs).into_iter().map(|frame| (second, frame)));
    }
    assert_eq!(asked, [20, 40, 60].map(|second| (second, ping())));
    clock.advance(SignedDuration::from_secs(1));
    assert_eq!(next.await, Err(End::silent("the client answers no ping")));
}

#[tokio::test]
async fn who_answers_stays_as_long_as_anything_is_waited_for_and_half_an_hour_else() {
    for (is_idle, pings) in [(false, 24 * 60 * 3), (true, 30 * 3 - 1)] {
        let (mut client, mut stream) = duplex(1024);
        let Door { clock, turnstile, send, mut outs } = Door::new();
        let mut taken = Taken::default();
        let mut next = Box::pin(message_within(&mut stream, &turnstile, &mut taken, || is_idle, &send));
        for ping_number in 0..pings {
            assert!(poll!(&mut next).is_pending(), "{is_idle}: {ping_number}");
            clock.advance(SignedDuration::from_secs(20));
            assert!(poll!(&mut next).is_pending(), "{is_idle}: {ping_number}");
            assert_eq!(told(&mut outs), [ping()], "{is_idle}: {ping_number}");
            client.write_all(&written(true, PONG, &[], [7; 4])).await.expect("room");
            // Whoever polls for long without a pause is told by tokio that nothing is there.
            tokio::task::yield_now().await;
        }
        if is_idle {
            assert!(poll!(&mut next).is_pending());
            clock.advance(SignedDuration::from_secs(20));
            assert_eq!(next.await, Err(End::told(1001, "nothing came for long")));
        } else {
            client.write_all(&written(true, BINARY, b"at last", [1, 2, 3, 4])).await.expect("room");
            assert_eq!(next.await, Ok(Some(Bytes::from_static(b"at last"))));
        }
    }
}

#[tokio::test]
async fn a_message_that_has_begun_comes_in_a_minute_whatever_comes_between() {
    let begun = written(false, BINARY, b"be", [1; 4]);
    let half_a_head = [begun.clone(), vec![0x80]].concat();
    for (what, bytes) in [("a part", &begun[..]), ("and half a head", &half_a_head), ("half a part", &begun[..7])] {
        let (mut client, mut stream) = duplex(1024);
        let door = Door::new();
        client.write_all(bytes).await.expect("room");
        let mut next = Box::pin(door.next(&mut stream, false));
        for second in 0..60 {
            assert!(poll!(&mut next).is_pending(), "{what}: {second}");
            if second % 10 == 0 && what == "a part" {
                client.write_all(&written(true, PONG, &[], [7; 4])).await.expect("room");
            }
            door.pass(1);
        }
        assert_eq!(next.await, Err(LATE), "{what}");
    }
}

#[tokio::test]
async fn whoever_only_says_that_much_comes_is_given_room_for_what_came() {
    let door = Door::with_room(PIECE + 1000);
    let (mut client, mut stream) = duplex(4096);
    let mut head = written(true, BINARY, &[], [0; 4]);
    head.splice(1..2, std::iter::once(0xff).chain((LONGEST as u64).to_be_bytes()));
    client.write_all(&head).await.expect("room");
    client.write_all(&[0; 1000]).await.expect("room");
    {
        let mut next = Box::pin(door.next(&mut stream, false));
        assert!(poll!(&mut next).is_pending(), "a thousand bytes, and the next piece");
        client.write_all(&[0; 1]).await.expect("room");
        assert_eq!(next.await, Err(End::told(1013, "there is no room for more, try again later")));
    }
    // It is given back.
    let (mut client, mut stream) = duplex(4096);
    client.write_all(&written(true, BINARY, &[1; 900], [0; 4])).await.expect("room");
    assert_eq!(door.next(&mut stream, false).await.map(|whole| whole.map(|whole| whole.len())), Ok(Some(900)));
}

#[test]
fn a_client_that_has_gone_is_no_fault() {
    let door = Door::new();
    let (client, mut stream) = duplex(8);
    drop(client);
    assert_eq!(door.next(&mut stream, false).now_or_never(), Some(Ok(None)));
    let clock: SharedClock = Arc::new(door.clock.clone());
    assert_eq!(within(&clock, Duration::ZERO, pending::<()>()).now_or_never(), Some(None));
}

/// Messages in frames, with words of the connection between these.
#[derive(Clone, Debug)]
struct Said {
    messages: Vec<Vec<u8>>,
    pings: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

fn said() -> impl Strategy<Value = Said> {
    let content = prop_oneof![4 => prop::collection::vec(any::<u8>(), 0..200), 1 => Just(vec![9; 70_000])];
    let control = prop::option::of((prop_oneof![Just(PING), Just(PONG)], prop::collection::vec(any::<u8>(), 0..126)));
    let part = (content, any::<[u8; 4]>(), control);
    let messages = prop::collection::vec(prop::collection::vec(part, 1..4), 0..5);
    messages.prop_map(|parted| {
        let mut said = Said { messages: Vec::new(), pings: Vec::new(), bytes: Vec::new() };
        for parts in parted {
            let last = parts.len() - 1;
            let mut whole = Vec::new();
            for (i, (content, mask, control)) in parts.into_iter().enumerate() {
                if let Some((kind, content)) = control {
                    said.bytes.extend(written(true, kind, &content, mask));
                    said.pings.extend((kind == PING).then_some(content));
                }
                said.bytes.extend(written(i == last, if i == 0 { BINARY } else { 0 }, &content, mask));
                whole.extend(content);
            }
            said.messages.push(whole);
        }
        said
    })
}

proptest! {
    #[test]
    fn a_mask_comes_off_byte_by_byte(bytes in prop::collection::vec(any::<u8>(), 0..40), mask: [u8; 4]) {
        let expected: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        let mut found = bytes.clone();
        unmask(&mut found, mask);
        prop_assert_eq!(found, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_said_is_heard_in_whatever_frames_and_pieces_it_comes(said in said(), at_a_time in 1..300_usize) {
        let heard = fuzzing::web_socket(&said.bytes, at_a_time);
        prop_assert_eq!(heard.messages, said.messages);
        let pongs: Vec<Bytes> = said.pings.iter().map(|ping| frame(PONG, ping, 0)).collect();
        prop_assert_eq!(heard.told, pongs);
        prop_assert_eq!(heard.end, None);
    }

    /// And no more memory is taken than what came and one piece.
    #[test]
    fn nonsense_is_read_or_refused_the_same_in_whatever_pieces_it_comes(
        nonsense in prop::collection::vec(any::<u8>(), 0..600),
        said in said(),
        at in any::<prop::sample::Index>(),
        at_a_time in 1..300_usize,
    ) {
        let place = at.index(said.bytes.len() + 1);
        let bytes = [&said.bytes[..place], &nonsense].concat();
        let whole = fuzzing::web_socket(&bytes, bytes.len().max(1));
        prop_assert!(whole.end != Some(1013), "it took more than came");
        prop_assert_eq!(fuzzing::web_socket(&bytes, at_a_time), whole);
    }
}
