//! A slice that several tasks write at once, each at places of its own.

use std::marker::PhantomData;

/// A mutable slice handed out in parts that the caller keeps apart.
pub(super) struct Disjoint<'a> {
    start: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

#[expect(
    unsafe_code,
    reason = "parts are handed out under the caller's promise to keep them apart"
)]
// SAFETY: all access goes through `part`, whose caller vouches that parts do not overlap.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(super) fn new(slice: &'a mut [f32]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            lifetime: PhantomData,
        }
    }

    /// Elements `at .. at + count`.
    ///
    /// # Safety
    /// No two parts that live at the same time may overlap.
    #[expect(unsafe_code, reason = "hands out a part under the caller's promise")]
    #[expect(clippy::mut_from_ref, reason = "the caller keeps the parts apart")]
    pub(super) unsafe fn part(&self, at: usize, count: usize) -> &mut [f32] {
        assert!(at + count <= self.len, "a part lies inside its slice");
        // SAFETY: inside the slice, which is borrowed mutably for the lifetime of `self`; disjoint
        // from other parts by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), count) }
    }
}
