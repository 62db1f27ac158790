//! Pieces of the pool as the memory of tensors.

use std::mem::MaybeUninit;

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

use crate::kernels::pool::{give_back, is_piece};

/// Gives `values` to a tensor, and back to the pool when the tensor is dropped.
pub(super) fn bytes(values: Vec<f32>) -> Bytes {
    if !is_piece(&values) {
        return Bytes::from_elems(values);
    }
    let len = size_of_val(values.as_slice());
    #[expect(unsafe_code, reason = "hands memory that is used again to a tensor")]
    // SAFETY: the controller holds exactly `len` initialised bytes.
    unsafe {
        Bytes::from_controller(Box::new(Piece(values)), len)
    }
}

/// A piece of memory while a tensor has it.
struct Piece(Vec<f32>);

impl Drop for Piece {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

#[expect(
    unsafe_code,
    reason = "the interface speaks of bytes that may be uninitialised"
)]
impl AllocationController for Piece {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let (start, len) = (self.0.as_mut_ptr(), size_of_val(self.0.as_slice()));
        // SAFETY: initialised floats seen as bytes; the caller writes initialised data only.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.cast(), len) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let (start, len) = (self.0.as_ptr(), size_of_val(self.0.as_slice()));
        // SAFETY: initialised floats seen as bytes.
        Ok(unsafe { std::slice::from_raw_parts(start.cast(), len) })
    }
}
