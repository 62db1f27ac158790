//! Brings sums of gradients to host memory one at a time, while the optimizer there works on the one before.
//!
//! Sums that were made on a device stay there until the norm of all of them is known, which takes a few numbers
//! to the host. Then each is needed once, in pieces: at most [`AT_ONCE`] of them are in host memory, the one that is
//! used, the next ones, and the one before, which goes back with new weights.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, spawn};

use burn::tensor::{Tensor, TensorData};

use crate::numbers::{Numbers, slice};

/// Elements of a piece where sums come from a card: 64 MiB, so that little waits for the first one and the last one.
/// A multiple of the blocks of moments in 8 bits.
pub(crate) const PIECE: usize = 1 << 24;

/// Pieces that are in host memory at once.
pub(crate) const AT_ONCE: usize = 4;

/// The pieces of so many elements, in order.
pub(crate) fn pieces(elements: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    let firsts = (0..elements).step_by(piece);
    firsts.map(move |first| first..first.saturating_add(piece).min(elements))
}

/// The sums of a device, on their way to host memory in the order in which they are asked for.
pub(crate) struct Fetched {
    from: Receiver<(usize, Range<usize>, TensorData)>,
    /// None once it was waited for.
    thread: Option<JoinHandle<()>>,
}

impl Fetched {
    /// Starts with those of `gradients` that lie on a device, at the places of `order`, each in [`pieces`] of `piece`
    /// elements.
    pub(crate) fn start(gradients: &[Numbers], order: &[usize], piece: usize) -> Self {
        let on_device = |place: &usize| match &gradients[*place] {
            Numbers::Device(Some(sum)) => Some((*place, Tensor::clone(sum))),
            _ => None,
        };
        let all: Vec<(usize, Tensor<1>)> = order.iter().filter_map(on_device).collect();
        // One waits in it, and one is in the hands of the thread.
        let (to, from): (SyncSender<_>, _) = sync_channel(1);
        let thread = spawn(move || {
            for (place, sum) in all {
                let [elements] = sum.dims();
                for range in pieces(elements, piece) {
                    let part = match range.len() == elements {
                        true => sum.clone(),
                        false => sum.clone().slice([range.clone()]),
                    };
                    let part = part.into_data();
                    // On cards the copy is made when it is first looked at.
                    slice(&part);
                    // Who hears nothing any more has failed.
                    if to.send((place, range, part)).is_err() {
                        return;
                    }
                }
            }
        });
        Self {
            from,
            thread: Some(thread),
        }
    }

    /// The next piece, which is this one of the parameter at `place`.
    ///
    /// # Panics
    /// As the thread did, if it did: the device has failed. If another one is next: a bug of the caller.
    pub(crate) fn next(&mut self, place: usize, range: &Range<usize>) -> TensorData {
        match self.from.recv() {
            Ok((next, of, part)) => {
                let told = "sums are asked for in the order that was told";
                assert_eq!((next, &of), (place, range), "{told}");
                part
            }
            Err(_) => self.fail(),
        }
    }

    fn fail(&mut self) -> ! {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => panic!("more sums are asked for than there are"),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::device::DeviceSpec;

    use super::*;
    use crate::numbers::on_host;
    use crate::settings::Placement;

    fn sums() -> Vec<Numbers> {
        let device = DeviceSpec::Cpu.open().expect("a processor");
        let of = |values: Vec<f32>| Numbers::of(values, Placement::Device, &device);
        vec![
            of(vec![1.0, 2.0, 4.0]),
            Numbers::none(Placement::Device),
            Numbers::Host(on_host(vec![7.0])),
            of(vec![3.0]),
        ]
    }

    #[test]
    fn sums_come_in_the_order_that_was_asked_for() {
        let mut fetched = Fetched::start(&sums(), &[3, 2, 1, 0], 2);
        assert_eq!(slice(&fetched.next(3, &(0..1))), [3.0]);
        assert_eq!(slice(&fetched.next(0, &(0..2))), [1.0, 2.0]);
        assert_eq!(slice(&fetched.next(0, &(2..3))), [4.0]);
    }

    #[test]
    fn what_is_not_asked_for_is_waited_for_by_nobody() {
        drop(Fetched::start(&sums(), &[0, 3], usize::MAX));
    }

    #[test]
    #[should_panic(expected = "more sums are asked for")]
    fn no_more_come_than_there_are() {
        let mut fetched = Fetched::start(&sums(), &[0], usize::MAX);
        fetched.next(0, &(0..3));
        fetched.next(3, &(0..1));
    }
}
