//! What wakes a connection. Whatever rings while the connection goes on makes it go on once more, there and then, and wakes nobody.
//!
//! A connection rings for itself all the time: hyper gives a body to the request that waits for it, an answer is ready to be written. A runtime that is
//! told so puts the connection at the end of its line and wakes another thread to have it done sooner; for a request of a few microseconds
//! that costs more than the request (measured: three of four wake-ups of a task's call).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// How often something goes on at once. Then it is the next one's turn.
const AT_ONCE: usize = 8;

/// It waits: who rings wakes its task.
const WAITS: u8 = 0;
/// It goes on.
const GOES_ON: u8 = 1;
/// It goes on, and somebody rang.
const RUNG: u8 = 2;

struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let heard = self.state.compare_exchange(GOES_ON, RUNG, Ordering::AcqRel, Ordering::Acquire);
        if heard == Err(WAITS) {
            self.task.wake();
        }
    }
}

/// Goes on with something as often as it rings, within bounds.
pub(super) struct Rings {
    bell: Arc<Bell>,
    waker: Waker,
}

impl Rings {
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(WAITS), task: AtomicWaker::new() });
        Self { waker: bell.clone().into(), bell }
    }

    /// Polls it, and again while it rings meanwhile.
    pub(super) fn poll<F: Future + Unpin>(&self, inner: &mut F, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.bell.task.register(cx.waker());
        for _ in 0..AT_ONCE {
            self.bell.state.store(GOES_ON, Ordering::Release);
            if let Poll::Ready(output) = Pin::new(&mut *inner).poll(&mut Context::from_waker(&self.waker)) {
                return Poll::Ready(output);
            }
            if self.bell.state.compare_exchange(GOES_ON, WAITS, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        self.bell.state.store(WAITS, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Rings `times` times while it goes on, and keeps who wakes it.
    fn busy(times: usize, seen: Arc<AtomicUsize>, waker: Arc<AtomicWaker>) -> impl Future<Output = ()> + Unpin {
        poll_fn(move |cx| {
            waker.register(cx.waker());
            if seen.fetch_add(1, Ordering::Relaxed) < times {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
    }

    #[test]
    fn what_rings_while_it_goes_on_goes_on_at_once_and_wakes_nobody() {
        for (times, polls, wakes) in [(0, 1, 0), (1, 2, 0), (AT_ONCE - 1, AT_ONCE, 0), (100, AT_ONCE, 1)] {
            let (seen, kept, task) = (Arc::default(), Arc::new(AtomicWaker::new()), Arc::new(Counted::default()));
            let (rings, mut inner) = (Rings::new(), busy(times, Arc::clone(&seen), kept.clone()));
            let waker = task.clone().into();
            assert!(rings.poll(&mut inner, &mut Context::from_waker(&waker)).is_pending());
            assert_eq!((seen.load(Ordering::Relaxed), task.0.load(Ordering::Relaxed)), (polls, wakes), "{times}");
            // From then on whoever rings wakes the task.
            kept.wake();
            assert_eq!(task.0.load(Ordering::Relaxed), wakes + 1, "{times}");
        }
    }
}
