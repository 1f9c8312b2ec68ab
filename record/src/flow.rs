//! Channels between the threads of the pipeline, bounded by the bytes that are on their way.
//!
//! Whoever may wait pushes, whoever must not offers. A consumer that stands still (a disk that doesn't answer) thus holds up the
//! threads that may wait, one behind the other, until the rings are full; it never holds up the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often a producer looks whether there is room.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The end that things are put into.
#[derive(Debug)]
pub struct Inlet<T> {
    sender: Sender<(usize, T)>,
    on_the_way: Arc<AtomicUsize>,
    budget: usize,
}

impl<T> Clone for Inlet<T> {
    fn clone(&self) -> Self {
        Inlet { sender: self.sender.clone(), on_the_way: self.on_the_way.clone(), budget: self.budget }
    }
}

/// The end that they come out of.
#[derive(Debug)]
pub struct Outlet<T> {
    receiver: Receiver<(usize, T)>,
    on_the_way: Arc<AtomicUsize>,
    budget: usize,
}

/// The consumer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A channel in which about `budget` bytes may wait.
pub fn flow<T>(budget: usize) -> (Inlet<T>, Outlet<T>) {
    let (sender, receiver) = channel();
    let on_the_way = Arc::new(AtomicUsize::new(0));
    (Inlet { sender, on_the_way: on_the_way.clone(), budget }, Outlet { receiver, on_the_way, budget })
}

impl<T> Inlet<T> {
    /// Waits until there is room, then puts it in. What is larger than the whole budget goes alone.
    pub fn push(&self, bytes: usize, item: T) -> Result<(), Gone> {
        while self.on_the_way.load(Ordering::Acquire).saturating_add(bytes) > self.budget && self.on_the_way.load(Ordering::Acquire) > 0 {
            std::thread::sleep(LOOK_EVERY);
        }
        self.put(bytes, item)
    }

    /// Puts it in without waiting. For what is little and must not be held up: it may take as much again as the budget; beyond that it
    /// is refused, which is false.
    pub fn offer(&self, bytes: usize, item: T) -> bool {
        self.on_the_way.load(Ordering::Acquire).saturating_add(bytes) <= 2 * self.budget && self.put(bytes, item).is_ok()
    }

    fn put(&self, bytes: usize, item: T) -> Result<(), Gone> {
        self.on_the_way.fetch_add(bytes, Ordering::AcqRel);
        self.sender.send((bytes, item)).map_err(|_| Gone)
    }
}

/// Who waits for room is let go.
impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.on_the_way.store(0, Ordering::Release);
    }
}

impl<T> Outlet<T> {
    fn took(&self, (bytes, item): (usize, T)) -> T {
        self.on_the_way.fetch_sub(bytes, Ordering::AcqRel);
        item
    }

    /// Whether so much waits that there is soon no room: from a quarter of the budget on.
    pub fn is_behind(&self) -> bool {
        self.on_the_way.load(Ordering::Acquire) > self.budget / 4
    }

    /// The next, if one comes in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).map(|item| self.took(item))
    }

    /// The next.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv().map(|item| self.took(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_full_channel_holds_up_who_pushes_and_refuses_who_offers() {
        let (inlet, outlet) = flow(100);
        assert_eq!(inlet.push(60, 1), Ok(()));
        assert!(inlet.offer(100, 2) && !inlet.offer(41, 3));
        let waiting = inlet.clone();
        let pushed = std::thread::spawn(move || waiting.push(70, 4));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!pushed.is_finished());
        assert_eq!((outlet.recv(), outlet.recv()), (Ok(1), Ok(2)));
        assert_eq!(outlet.recv(), Ok(4));
        assert_eq!(pushed.join().ok(), Some(Ok(())));
        // Larger than the budget, but alone.
        let began = Instant::now();
        assert_eq!(inlet.push(1000, 5), Ok(()));
        assert!(began.elapsed() < Duration::from_secs(1));
        drop(outlet);
        assert!(!inlet.offer(0, 6));
    }

    #[test]
    fn a_consumer_that_is_gone_lets_producers_go() {
        let (inlet, outlet) = flow(10);
        assert_eq!(inlet.push(10, 1), Ok(()));
        let waiting = std::thread::spawn(move || inlet.push(10, 2));
        std::thread::sleep(Duration::from_millis(20));
        drop(outlet);
        assert_eq!(waiting.join().ok(), Some(Err(Gone)));
    }
}
