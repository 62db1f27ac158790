//! Brings sums of gradients to host memory one at a time, while the optimizer there works on the one before.
//!
//! Sums that were made on a device stay there until the norm of all of them is known, which takes a few numbers
//! to the host. Then each is needed once: two are in host memory at a time, the one that is used and the next.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, spawn};

use burn::tensor::{Tensor, TensorData};

use crate::numbers::{Numbers, slice};

/// The sums of a device, on their way to host memory in the order in which they are asked for.
pub(crate) struct Fetched {
    from: Receiver<(usize, TensorData)>,
    /// None once it was waited for.
    thread: Option<JoinHandle<()>>,
}

impl Fetched {
    /// Starts with those of `gradients` that lie on a device, at the places of `order`.
    pub(crate) fn start(gradients: &[Numbers], order: &[usize]) -> Self {
        let on_device = |place: &usize| match &gradients[*place] {
            Numbers::Device(Some(sum)) => Some((*place, Tensor::clone(sum))),
            _ => None,
        };
        let all: Vec<(usize, Tensor<1>)> = order.iter().filter_map(on_device).collect();
        // Nothing waits in it: the next one is in the hands of the thread.
        let (to, from): (SyncSender<(usize, TensorData)>, _) = sync_channel(0);
        let thread = spawn(move || {
            for (place, sum) in all {
                let sum = sum.into_data();
                // On cards the copy is made when it is first looked at.
                slice(&sum);
                // Who hears nothing any more has failed.
                if to.send((place, sum)).is_err() {
                    return;
                }
            }
        });
        Self {
            from,
            thread: Some(thread),
        }
    }

    /// The next one, of the parameter at `place`.
    ///
    /// # Panics
    /// As the thread did, if it did: the device has failed. If another one is next: a bug of the caller.
    pub(crate) fn next(&mut self, place: usize) -> TensorData {
        match self.from.recv() {
            Ok((next, sum)) => {
                assert_eq!(next, place, "sums are asked for in the order that was told");
                sum
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
            of(vec![1.0, 2.0]),
            Numbers::none(Placement::Device),
            Numbers::Host(on_host(vec![7.0])),
            of(vec![3.0]),
        ]
    }

    #[test]
    fn sums_come_in_the_order_that_was_asked_for() {
        let mut fetched = Fetched::start(&sums(), &[3, 2, 1, 0]);
        assert_eq!(slice(&fetched.next(3)), [3.0]);
        assert_eq!(slice(&fetched.next(0)), [1.0, 2.0]);
    }

    #[test]
    fn what_is_not_asked_for_is_waited_for_by_nobody() {
        drop(Fetched::start(&sums(), &[0, 3]));
    }

    #[test]
    #[should_panic(expected = "more sums are asked for")]
    fn no_more_come_than_there_are() {
        let mut fetched = Fetched::start(&sums(), &[0]);
        fetched.next(0);
        fetched.next(3);
    }
}
